"""Helpers for scripts: labels, sequences, seeds, batches."""

from __future__ import annotations

import random as python_random
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Tensor, ops, pytree, random
from ..layers.naming import clear_session
from ..layers.picture import plot_model
from ..layers.serialization import (
    custom_object_scope,
    deserialize,
    get_registered_name,
    get_registered_object,
    register_serializable,
    serialize,
)

# The names that Keras gives them.
CustomObjectScope = custom_object_scope
deserialize_keras_object = deserialize
register_keras_serializable = register_serializable
serialize_keras_object = serialize

__all__ = [
    "CustomObjectScope",
    "clear_session",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_registered_name",
    "get_registered_object",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "plot_model",
    "register_keras_serializable",
    "register_serializable",
    "serialize_keras_object",
    "set_random_seed",
    "split_dataset",
    "to_categorical",
    "unpack_x_y_sample_weight",
]


def set_random_seed(seed: int) -> None:
    """Seed Python's ``random``, numpy's global generator, and that of this library.

    >>> set_random_seed(7); first = random.uniform((2,)).tolist()
    >>> set_random_seed(7); first == random.uniform((2,)).tolist()
    True
    """
    python_random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  people's own code draws from it
    random.seed(seed)


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """Make integer labels (...) one-hot, (..., num_classes); labels (B, 1) count as (B,).

    >>> to_categorical([0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if isinstance(x, Tensor):
        x = ops.squeeze(x, -1) if x.ndim > 1 and x.shape[-1] == 1 else x
        return ops.one_hot(x, num_classes or int(ops.max(x)) + 1)
    labels = np.asarray(x, np.int64)
    labels = labels[..., 0] if labels.ndim > 1 and labels.shape[-1] == 1 else labels
    classes = num_classes or int(labels.max(initial=-1)) + 1
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"Labels have to lie in [0, {classes - 1}] for {classes} classes; received {labels.min()} to "
            f"{labels.max()}."
        )
    return np.eye(classes)[labels]


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """Divide by the norm along ``axis``; zeros stay zeros. An array gives an array, a tensor a tensor.

    >>> normalize(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    if isinstance(x, Tensor):
        return ops.normalize(x, axis, order)
    norm = np.linalg.norm(x, order, axis, keepdims=True)
    return x / np.where(norm == 0, 1, norm)


def pad_sequences(
    sequences: Sequence,
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Put sequences of unlike lengths into one array (N, maxlen, ...), cut or filled with ``value``.

    Args:
        sequences: N sequences, of numbers or of arrays of one shape.
        maxlen: length of the result; that of the longest by default.
        padding: fill at the start ("pre") or the end ("post").
        truncating: cut away the start ("pre") or the end ("post").

    >>> pad_sequences([[1], [2, 3, 4]], maxlen=2).tolist()
    [[0, 1], [3, 4]]
    """
    for name, place in (("padding", padding), ("truncating", truncating)):
        if place not in ("pre", "post"):
            raise ValueError(f'{name} is "pre" or "post"; received {place!r}.')
    try:
        longest = max((len(sequence) for sequence in sequences), default=0)
    except TypeError:
        raise ValueError("pad_sequences expects a list of sequences; received something without length.") from None
    maxlen = longest if maxlen is None else maxlen
    inner = next((np.shape(sequence)[1:] for sequence in sequences if len(sequence)), ())
    result = np.full((len(sequences), maxlen, *inner), value, dtype)
    for position, sequence in enumerate(sequences):
        kept = sequence[max(len(sequence) - maxlen, 0) :] if truncating == "pre" else sequence[:maxlen]
        kept = np.asarray(kept, dtype)
        if not len(kept):
            continue
        if kept.shape[1:] != inner:
            raise ValueError(
                f"The elements of sequence {position} have shape {kept.shape[1:]}; those before it {inner}."
            )
        place = slice(maxlen - len(kept), maxlen) if padding == "pre" else slice(len(kept))
        result[position, place] = kept
    return result


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Take a batch x, (x,), (x, y) or (x, y, sample_weight) apart; None stands for what is missing.

    >>> unpack_x_y_sample_weight((1, 2))
    (1, 2, None)
    """
    if not isinstance(data, (tuple, list)):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            "A batch is x, (x,), (x, y) or (x, y, sample_weight); received a "
            f"{type(data).__name__} of {len(data)}. Several inputs have to be grouped: ((x1, x2), y)."
        )
    x, y, sample_weight = (*data, None, None, None)[:3]
    return x, y, sample_weight


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Put a batch together, as :func:`unpack_x_y_sample_weight` takes it apart."""
    if y is None and sample_weight is None:
        return (x,) if isinstance(x, (tuple, list)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def split_dataset(
    dataset: Any,
    left_size: float | int | None = None,
    right_size: float | int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
) -> tuple[Any, Any]:
    """Split arrays (a tree of them, with one first axis) in two; sizes are counts, or fractions if floats.

    >>> left, right = split_dataset(np.arange(10), left_size=0.8)
    >>> left.shape, right.tolist()
    ((8,), [8, 9])
    """
    arrays = pytree.map(np.asarray, dataset)
    count = len(pytree.flatten(arrays)[0])
    left, right = (_size(size, count) for size in (left_size, right_size))
    if left is None and right is None:
        raise ValueError("split_dataset needs left_size or right_size.")
    left = count - right if left is None else left
    right = count - left if right is None else right
    if left <= 0 or right <= 0 or left + right > count:
        raise ValueError(f"Parts of {left} and {right} do not fit {count} samples.")
    order = np.random.default_rng(seed).permutation(count) if shuffle else np.arange(count)
    parts = order[:left], order[left : left + right]
    return tuple(pytree.map(lambda array, part=part: array[part], arrays) for part in parts)


def _size(size: float | int | None, count: int) -> int | None:
    return round(size * count) if isinstance(size, float) else size
