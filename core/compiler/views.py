"""Values that are other values looked at differently: a base, an offset and a stride per axis."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..tensor import Tensor
from .indices import strides_of


class View(NamedTuple):
    """Element (i, j, …) is at ``offset + i·strides[0] + j·strides[1] …`` of the row-major ``base``."""

    base: Tensor
    offset: int
    strides: tuple[int, ...]


def view_of(value: Tensor) -> View:
    """Look through movement: the deepest value of which ``value`` is a strided view (itself, if no other)."""
    node = value.node
    if value._array is not None or node.op.reference is None:
        return View(value, 0, strides_of(value.shape))
    name, attributes = node.op.name, node.attributes
    if name in ("identity", "stop_gradient", "barrier", "custom_gradient"):
        return view_of(node.inputs[value.index])
    if name not in ("reshape", "transpose", "broadcast_to", "slice", "split"):
        return View(value, 0, strides_of(value.shape))
    shape = node.inputs[0].shape
    base, offset, strides = view_of(node.inputs[0])
    if name == "reshape":
        strides = reshaped_strides(shape, strides, value.shape)
        if strides is None:
            return View(value, 0, strides_of(value.shape))
    elif name == "transpose":
        strides = tuple(strides[a] for a in attributes["axes"])
    elif name == "broadcast_to":
        extra = len(value.shape) - len(shape)
        spread = zip(shape, value.shape[extra:], strides, strict=True)
        strides = (0,) * extra + tuple(0 if n == 1 and m != 1 else s for n, m, s in spread)
    elif name == "slice":
        offset += sum(start * s for start, s in zip(attributes["starts"], strides, strict=True))
        strides = tuple(step * s for step, s in zip(attributes["steps"], strides, strict=True))
    else:
        offset += (0, *attributes["edges"])[value.index] * strides[attributes["axis"]]
    return View(base, offset, strides)


def reshaped_strides(shape: Sequence[int], strides: Sequence[int], target: Sequence[int]) -> tuple[int, ...] | None:
    """Strides of a view after a reshape, or None where it would need a copy."""
    if 0 in shape:
        return strides_of(target)
    axes = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    result: list[int] = []
    left, step = 1, 0  # positions that are left of the axes taken so far, and the stride from one to the next
    for extent in reversed(target):
        while left % extent:
            if not axes:
                return None
            outer, stride = axes.pop()
            if left == 1:
                step = stride
            elif stride != step * left:
                return None
            left *= outer
        result.append(step if extent != 1 else 0)
        step *= extent
        left //= extent
    return tuple(reversed(result))


def merge(axes: Sequence[tuple[int, int]]) -> int | None:
    """The stride of neighbouring axes (extent, stride) walked through as one, or None where that has no stride."""
    axes = [(n, s) for n, s in axes if n != 1]
    for (_, outer), (extent, stride) in itertools.pairwise(axes):
        if outer != stride * extent:
            return None
    return axes[-1][1] if axes else 0
