"""Data for the training loop: arrays, datasets, loaders and generators, made into one stream of batches."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..core import Tensor, config, pytree, tensor, wrap
from ..core.dtypes import FLOAT64, as_dtype
from ..datasets import Dataset
from .utils import pack_x_y_sample_weight, unpack_x_y_sample_weight

DEFAULT_BATCH_SIZE = 32


def batch_length(tree: Any) -> int:
    """Number of samples: the first extent of the first leaf."""
    leaf = tree if type(tree) is Tensor else pytree.flatten(tree)[0]
    return leaf.shape[0]


class Feed:
    """The batches of a ``fit``, ``evaluate`` or ``predict``: epoch after epoch, with a place to resume from.

    A batch is (x, y, sample_weight), trees of tensors or None. With ``steps`` an epoch has that many batches
    and runs on through the data, starting over where they end.

    Attributes:
        rest: samples in a last batch that is smaller than the others; 0 where there is none, or it is not known.
        samples: how many samples the current epoch has given so far.
        exhausted: true once the data ended before an epoch had its batches, and cannot be started anew.
    """

    def __init__(
        self,
        dataset: Dataset,
        steps: int | None = None,
        class_weight: dict | None = None,
        one_way: bool = False,
    ):
        self.rest = 0
        self.samples = 0
        self.exhausted = False
        self._check_targets: Callable[[Any, int], None] | None = None
        self._dataset = dataset
        self._one_way = one_way
        self._steps = steps
        self._class_weight = class_weight
        self._pass: Any = None  # iterator over the data, open across epochs where `steps` says so
        self._waiting: list = []  # a batch that was looked at before its turn
        self._structure: tuple[str, ...] | None = None

    @property
    def steps(self) -> int | None:
        """Batches in an epoch, where that is known before."""
        if self._steps is not None:
            return self._steps
        size = self._dataset.cardinality
        return size if isinstance(size, int) else None

    def example(self) -> tuple[Any, Any, Any]:
        """Return the next batch without using it up."""
        if not self._waiting:
            batch = self._next()
            if batch is None:
                raise ValueError("The data are empty: expected at least one batch, received none.")
            self._waiting.append(batch)
        return self._convert(self._waiting[0])

    def epoch(self, first: int = 0) -> Iterator[tuple[Any, Any, Any]]:
        """Yield the batches of an epoch, numbers ``first`` and on."""
        self.samples = 0
        given = first
        fresh = self._pass is None
        while self._steps is None or given < self._steps:
            batch = self._waiting.pop() if self._waiting else self._next()
            if batch is None:
                if self._steps is None and given:
                    return
                if fresh:
                    self._run_out(given)
                    return
                fresh = True  # the pass ended in mid-epoch: start over, but only once without a batch
                continue
            fresh = False
            converted = self._convert(batch)
            if self._check_targets is not None:
                self._check_targets(converted[1], given)
            given += 1
            self.samples += batch_length(converted[0])
            yield converted

    def steps_of(self, first: int = 0) -> Iterator[Any]:
        """Yield the batches of an epoch as steps take them: x, (x, y) or (x, y, sample_weight)."""
        return (pack_x_y_sample_weight(*batch) for batch in self.epoch(first))

    def watch_targets(self, check: Callable[[Any, str], None], name: str) -> None:
        """Let ``check(targets, where)`` raise an error for targets that the model cannot take."""
        self._check_targets = lambda targets, number: check(targets, f"{name} in batch {number}")

    def restart(self) -> None:
        """Let the next epoch begin at the beginning of the data, where they can be started anew."""
        if not self._one_way:
            self._pass = None
            self._waiting.clear()

    def _next(self) -> Any:
        if self._pass is None:
            self._pass = iter(self._dataset)
        batch = next(self._pass, None)
        if batch is None:
            self._pass = None
        return batch

    def _run_out(self, given: int) -> None:
        self.exhausted = True
        expected = "at least one" if self._steps is None else str(self._steps)
        warnings.warn(
            f"The data ran out: expected {expected} batches in this epoch, received {given}. A "
            "generator can be run through once: give one that goes on for steps_per_epoch × epochs batches, "
            "or make a Dataset with from_generator() or repeat().",
            stacklevel=4,
        )

    def _convert(self, batch: Any) -> tuple[Any, Any, Any]:
        x, y, sample_weight = map(_tensors, unpack_x_y_sample_weight(batch))
        self._check(x, y, sample_weight)
        if self._class_weight:
            sample_weight = tensor(class_weights(y, sample_weight, self._class_weight))
        return x, y, sample_weight

    def _check(self, *parts: Any) -> None:
        """Raise ValueError unless the batch is like the first one and its arrays have one length."""
        structure = tuple([_structure(part) for part in parts])
        if self._structure is None:
            self._structure = structure
        elif structure != self._structure:
            raise ValueError(
                "The batches differ in structure: (x, y, sample_weight) was first "
                f"({', '.join(self._structure)}), then ({', '.join(structure)})."
            )
        leaves = [part for part in parts if part is not None]
        if structure.count("*") != len(leaves):
            leaves = pytree.flatten(leaves)
        if not leaves:
            raise ValueError("A batch holds no array: expected x, (x, y) or (x, y, sample_weight).")
        lengths = {leaf.shape[:1] for leaf in leaves}
        if len(lengths) > 1 or () in lengths:
            raise ValueError(
                "All arrays of a batch need the same number of samples along their first axis; received "
                f"shapes {', '.join(str(leaf.shape) for leaf in leaves)}."
            )

    def state_dict(self) -> dict:
        """Return the place in the data, ready for JSON."""
        state = dict(self._pass.state_dict() if self._pass is not None else self._dataset.state_dict())
        state["position"] -= len(self._waiting)
        return state

    def load_state_dict(self, state: dict) -> None:
        """Go on from the place that ``state`` describes."""
        if self._one_way:  # cannot be started anew, only moved forward
            for _ in range(state["position"] - self.state_dict()["position"]):
                self._waiting.pop() if self._waiting else self._next()
            return
        self.restart()
        self._dataset.load_state_dict({"epoch": state["epoch"], "position": state["position"]})


class ArrayFeed(Feed):
    """Batches cut from arrays, in an order that ``seed`` and the epoch decide; without a seed, in theirs."""

    def __init__(self, arrays: tuple, batch_size: int | None, seed: int | None, **options: Any):
        self.arrays = arrays
        self._batch_size = _checked_batch_size(batch_size)
        self._seed = seed
        super().__init__(self._batches(), **options)
        self.rest = batch_length(arrays) % self._batch_size

    def _batches(self) -> Dataset:
        samples = Dataset.from_arrays(self.arrays)
        if self._seed is not None:
            samples = samples.shuffle(seed=self._seed)
        return samples.batch(self._batch_size)

    def watch_targets(self, check: Callable[[Any, str], None], name: str) -> None:
        check(self.arrays[1], name)  # once, for all of them

    def state_dict(self) -> dict:
        return {**super().state_dict(), "seed": self._seed}

    def load_state_dict(self, state: dict) -> None:
        self._seed = state.get("seed")
        self._dataset = self._batches()
        super().load_state_dict(state)


def make_feed(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    class_weight: dict | None = None,
) -> Feed:
    """Return the feed for what ``fit``, ``evaluate`` or ``predict`` was given; ``seed`` shuffles arrays."""
    if steps is not None and steps < 1:
        raise ValueError(f"The number of steps must be at least 1; received {steps}.")
    options = {"steps": steps, "class_weight": class_weight}
    if is_arrays(x):
        return ArrayFeed(checked_arrays(x, y, sample_weight), batch_size, seed, **options)
    if x is None:
        raise ValueError("x is missing: expected arrays, a Dataset, or an iterable of batches.")
    if y is not None or sample_weight is not None:
        raise ValueError(
            f"x is a {type(x).__name__}, whose batches bring their own targets and weights; leave out y and "
            "sample_weight and yield (x, y) or (x, y, sample_weight)."
        )
    if batch_size is not None:
        warnings.warn(f"batch_size is for arrays; a {type(x).__name__} yields batches of its own.", stacklevel=3)
    if isinstance(x, Dataset):
        return Feed(x, **options)
    if not isinstance(x, Iterable):
        raise TypeError(
            "x must be arrays (or a tuple, list or dict of them), a Dataset, or an iterable of batches; "
            f"received {type(x).__name__}."
        )
    length = len(x) if hasattr(x, "__len__") else None
    return Feed(Dataset.from_generator(lambda: x, length), one_way=isinstance(x, Iterator), **options)


def is_arrays(x: Any) -> bool:
    """True for an array, a tensor, numbers in lists, or a container of them."""
    if isinstance(x, (list, tuple, dict)):
        leaves = pytree.flatten(x)
        return bool(leaves) and all(is_arrays(leaf) for leaf in leaves)
    return not isinstance(x, (Dataset, str, bytes)) and (hasattr(x, "__array__") or np.isscalar(x))


def checked_arrays(x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Return the arguments as trees of numpy arrays with one common number of samples, at least one."""
    trees = tuple(_arrays(part) for part in (x, y, sample_weight))
    lengths = {}
    for name, tree in zip(("x", "y", "sample_weight"), trees, strict=True):
        for leaf in pytree.flatten(tree):
            if leaf.ndim == 0:
                raise ValueError(f"{name} needs a first axis that counts the samples; received a single number.")
            lengths.setdefault(len(leaf), f"{name} of shape {leaf.shape}")
    if len(lengths) > 1:
        raise ValueError(
            f"All arrays need the same number of samples along their first axis; received "
            f"{' and '.join(lengths.values())}."
        )
    if 0 in lengths:
        raise ValueError(f"The data are empty: {lengths[0]} has no samples.")
    return trees


def _arrays(tree: Any) -> Any:
    """Turn leaves into numpy arrays; a list of plain numbers (or of lists of them) is one array."""
    if isinstance(tree, list) and tree and all(np.isscalar(leaf) for leaf in pytree.flatten(tree)):
        return np.asarray(tree, dtype=config.floatx() if _has_float(tree) else None)
    if isinstance(tree, dict):
        return {key: _arrays(child) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)([_arrays(child) for child in tree])
    return None if tree is None else np.asarray(tree)


def _has_float(numbers: list) -> bool:
    return any(isinstance(leaf, float) for leaf in pytree.flatten(numbers))


def _structure(tree: Any) -> str:
    return "*" if type(tree) is Tensor else "None" if tree is None else pytree.structure(tree)


def _tensors(tree: Any) -> Any:
    if tree is None or type(tree) is np.ndarray:  # the usual cases, quickly
        return None if tree is None else _tensor(tree)
    return pytree.map(_tensor, tree)


def _tensor(leaf: Any) -> Tensor:
    """Turn an array of a batch into a tensor, without a copy where it can be; float64 becomes ``floatx``."""
    if type(leaf) is Tensor:
        return leaf
    if hasattr(leaf, "detach"):  # a torch tensor, which may want a gradient
        leaf = leaf.detach()
    array = np.asarray(leaf, order="C")
    if array.dtype.kind not in "biuf":
        return tensor(array)  # says what is wrong
    dtype = as_dtype(None if array.dtype == FLOAT64 else array.dtype)
    return wrap(array if array.dtype is dtype else array.astype(dtype))


def _checked_batch_size(batch_size: int | None) -> int:
    if batch_size is None:
        return DEFAULT_BATCH_SIZE
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1; received {batch_size!r}.")
    return int(batch_size)


def split_for_validation(x: Any, y: Any, sample_weight: Any, fraction: float) -> tuple[tuple, tuple]:
    """Split arrays into those for training and the last ``fraction`` for validation, before any shuffling."""
    if not 0 < fraction < 1:
        raise ValueError(f"validation_split must lie between 0 and 1; received {fraction}.")
    if not is_arrays(x):
        raise ValueError(f"validation_split needs arrays, but x is a {type(x).__name__}; pass validation_data instead.")
    arrays = checked_arrays(x, y, sample_weight)
    length = batch_length(arrays)
    first = int(length * (1 - fraction))
    if not 0 < first < length:
        raise ValueError(
            f"validation_split={fraction} of {length} samples leaves none for "
            f"{'training' if first == 0 else 'validation'}."
        )
    head, tail = (pytree.map(lambda a, part=part: a[part], arrays) for part in (slice(first), slice(first, None)))
    return head, tail


def class_weights(y: Any, sample_weight: Any, weights: dict) -> np.ndarray:
    """Return the weight of each sample's class, 1 by default: (B,), (B, 1) or one-hot (B, C) -> (B,)."""
    if sample_weight is not None:
        raise ValueError("class_weight and sample_weight cannot both be given; multiply them into sample_weight.")
    if not isinstance(y, Tensor):
        raise ValueError(f"class_weight needs one array of targets; y is {pytree.structure(y)}.")
    labels = y.numpy()
    if labels.ndim > 1:
        labels = labels.argmax(-1) if labels.shape[-1] != 1 else labels[..., 0]
    labels = np.round(labels).astype(np.int64)
    result = np.ones(labels.shape, config.floatx())
    for label, weight in weights.items():
        result[labels == label] = weight
    return result


def first_sample(tree: Any) -> Any:
    """Return the first sample of a batch as a batch of one."""
    return pytree.map(lambda leaf: leaf[:1], tree)


def chunks(batches: Iterator, size: int) -> Iterator[list]:
    """Group batches by ``size``; the last group may be smaller."""
    while group := list(itertools.islice(batches, size)):
        yield group
