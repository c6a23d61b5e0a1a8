"""Weights of other libraries put into our models: names mapped, kernels transposed, nothing left over."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..core import Variable
from ..core.errors import unknown
from ..layers import Conv2D, Dense, DepthwiseConv2D, Layer
from ..training import SavedFileError
from .registry import Converter


class CheckpointError(SavedFileError):
    """Trained weights that cannot be had, are damaged, or do not fit; the message names file and tensors."""


# What PyTorch calls the weights of a layer.
_SUFFIXES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Counters and constants that PyTorch saves and that no computation of ours needs.
_ALWAYS_IGNORED = (r"\.num_batches_tracked$",)


def named_weights(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Layer, Variable]]:
    """The weights by the attributes that lead to them ("stages.0.1.conv1.kernel"), with the layers they are in."""

    def visit(value: Any, path: str) -> Iterator[tuple[str, Layer, Variable]]:
        if isinstance(value, Variable):
            yield path, layer, value
        elif isinstance(value, Layer):
            yield from named_weights(value, f"{path}.")
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                yield from visit(item, f"{path}.{index}")

    for name, value in layer._tracked.items():
        yield from visit(value, f"{prefix}{name}")


def their_names(path: str, converter: Converter) -> list[str]:
    """What the other library calls one of our weights; several names if it is several tensors there."""
    head, dot, last = path.rpartition(".")
    if converter.format == "keras":
        name = f"{head}/{last}"
    else:
        name = f"{head}{dot}{_SUFFIXES.get(last, last)}"
    for pattern, replacement in converter.names:
        name = re.sub(pattern, replacement, name)
    braces = re.search(r"\{(.*)\}", name)
    if braces is None:
        return [name]
    return [name[: braces.start()] + part + name[braces.end() :] for part in braces[1].split(",")]


def count_known(model: Layer, tensors: Mapping[str, np.ndarray], converter: Converter) -> int:
    """How many weights of ``model`` are among ``tensors`` under the names of ``converter``."""
    names = set(usual_names(model, tensors, converter))
    converter = converter.for_model(model)
    return sum(names.issuperset(their_names(path, converter)) for path, _, _ in named_weights(model))


def usual_names(model: Layer, tensors: Mapping[str, np.ndarray], converter: Converter) -> Mapping[str, np.ndarray]:
    """Tensors under the names that ``converter`` knows, where files of one library differ in them.

    Models of transformers without a head, such as ViTModel, leave the first part of their names out.
    """
    for pattern, replacement in converter.renamed:
        tensors = {re.sub(pattern, replacement, name): tensor for name, tensor in tensors.items()}
    if converter.format == "transformers":
        converter = converter.for_model(model)
        paths = (path for path, _, _ in named_weights(model) if path.partition(".")[0] not in model._head_layers)
        body = [name for path in paths for name in their_names(path, converter)]
        prefix = body[0].partition(".")[0] + "."
        if any(name.removeprefix(prefix) in tensors for name in body):
            tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    return tensors


def missing_head(model: Layer, tensors: Mapping[str, np.ndarray], converter: Converter) -> list[str]:
    """The layers that ``tensors`` have nothing for if these are of the model without its head, otherwise none."""
    converter = converter.for_model(model)
    lacking: dict[str, bool] = {}  # by attribute of the model: whether all of its weights
    for path, _, _ in named_weights(model):
        layer = path.partition(".")[0]
        lacks = not any(name in tensors for name in their_names(path, converter))
        lacking[layer] = lacking.get(layer, True) and lacks
    missing = {layer for layer, lacks in lacking.items() if lacks}
    return sorted(missing) if set(model._classifiers) <= missing <= set(model._head_layers) else []


def fill(
    model: Layer, tensors: Mapping[str, np.ndarray], converter: Converter, source: str, fresh: Collection[str] = ()
) -> None:
    """Give every weight of ``model`` its tensor, all or none.

    Args:
        tensors: by their names, in the layout of their library.
        source: what to name in errors.
        fresh: attributes of layers that keep their own weights, whatever the tensors have for them.

    Raises:
        CheckpointError: names tensors that are missing, surplus, or of another shape.
    """
    converter = converter.for_model(model)
    values, used, missing, misshapen = {}, set(), [], []
    for path, layer, variable in named_weights(model):
        theirs = their_names(path, converter)
        used.update(theirs)
        if path.partition(".")[0] in fresh:
            continue
        absent = [name for name in theirs if name not in tensors]
        if absent:
            missing += [(name, f"for {path} {list(variable.shape)}") for name in absent]
            continue
        value = _stacked([tensors[name] for name in theirs])
        if converter.format == "keras":
            value = _from_keras_layout(value, variable)
        else:
            value = to_our_layout(value, layer, variable)
        if value.shape != variable.shape and hasattr(layer, "adapt_positions"):
            value = layer.adapt_positions(value, variable, converter.format)
        if value.shape == variable.shape:
            values[path] = variable, value
        else:
            shapes = " + ".join(str(list(tensors[name].shape)) for name in theirs)
            misshapen.append(f"misshapen: {' + '.join(theirs)} {shapes}, for {path} {list(variable.shape)}")
    ignored = (*_ALWAYS_IGNORED, *converter.ignored)
    surplus = [n for n in sorted(tensors) if n not in used and not any(re.search(pattern, n) for pattern in ignored)]
    if missing or misshapen or surplus:
        wanted = [f"missing: {name}, {place}{_near(name, surplus)}" for name, place in missing]
        extra = [f"surplus: {name} {list(tensors[name].shape)}" for name in surplus]
        kinds = (wanted, misshapen, extra)
        raise CheckpointError(
            f"{source} does not fit {type(model).__name__} '{model.name}'{_listed(kinds, len(values))}"
        )
    for variable, value in values.values():
        variable.assign(np.ascontiguousarray(value, variable.dtype))


def _listed(kinds: Sequence[list[str]], fitting: int) -> str:
    """What is wrong, line by line; where little fits, a few lines of each kind."""
    count = sum(map(len, kinds))
    other = fitting < count
    lines = [line for kind in kinds for line in (kind[:3] if other else kind)][:20]
    text = f": it seems to be of another model, as {fitting} of its weights are there." if other else "."
    more = f"\n  … and {count - len(lines)} more" if count > len(lines) else ""
    return text + "".join(f"\n  {line}" for line in lines) + more


def to_our_layout(value: np.ndarray, layer: Layer, variable: Variable) -> np.ndarray:
    """A tensor as PyTorch keeps it -> as ours is, for a weight of ``layer``."""
    if variable is getattr(layer, "kernel", None):
        if isinstance(layer, DepthwiseConv2D) and value.ndim == 4:  # (C·m, 1, h, w) -> (h, w, C, m)
            return value.transpose(2, 3, 0, 1).reshape(*value.shape[2:], *variable.shape[2:])
        if isinstance(layer, Conv2D):
            if value.ndim == 2:  # a linear layer that is a 1×1 convolution here
                value = value[:, :, None, None]
            return value.transpose(2, 3, 1, 0)
        if isinstance(layer, Dense):
            if value.ndim == 4 and value.shape[2:] == (1, 1):  # and the other way round
                value = value[:, :, 0, 0]
            return value.T
    if [n for n in value.shape if n > 1] == [n for n in variable.shape if n > 1]:  # axes of 1 more or less
        return value.reshape(variable.shape)
    return value


def fold_biases(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors of Keras without the biases of convolutions before a normalisation, which subtracts them less instead."""
    folded = dict(tensors)
    for name in tensors:
        mean = name.removesuffix("_conv/bias") + "_bn/moving_mean"
        if name.endswith("_conv/bias") and mean in tensors:
            folded[mean] = tensors[mean] - folded.pop(name)
    return folded


def _from_keras_layout(value: np.ndarray, variable: Variable) -> np.ndarray:
    """A tensor as Keras keeps it, which is as ours, but that layers may be 1×1 convolutions, or as large as the map."""
    of_map = value.ndim == 2 and value.shape == (np.prod(variable.shape[:-1]), variable.shape[-1])
    if of_map or [n for n in value.shape if n > 1] == [n for n in variable.shape if n > 1]:
        return value.reshape(variable.shape)
    return value


def _stacked(values: list[np.ndarray]) -> np.ndarray:
    return values[0] if len(values) == 1 else np.concatenate(values)


def _near(name: str, known: Any) -> str:
    hint = re.search(r"Did you mean [^?]*\?", str(unknown("tensor", name, known)))
    return f" ({hint.group()})" if hint else ""
