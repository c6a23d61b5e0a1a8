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
    if name == "reshape":
        inner = view_of(node.inputs[0])
        strides = reshaped_strides(node.inputs[0].shape, inner.strides, value.shape)
        if strides is not None:
            return View(inner.base, inner.offset, strides)
    elif name == "transpose":
        inner = view_of(node.inputs[0])
        return View(inner.base, inner.offset, tuple(inner.strides[a] for a in attributes["axes"]))
    elif name == "broadcast_to":
        inner = view_of(node.inputs[0])
        shape = node.inputs[0].shape
        extra = len(value.shape) - len(shape)
        strides = tuple(
            0 if n == 1 and value.shape[extra + i] != 1 else s
            for i, (n, s) in enumerate(zip(shape, inner.strides, strict=True))
        )
        return View(inner.base, inner.offset, (0,) * extra + strides)
    elif name == "slice":
        inner = view_of(node.inputs[0])
        offset = sum(start * s for start, s in zip(attributes["starts"], inner.strides, strict=True))
        strides = tuple(step * s for step, s in zip(attributes["steps"], inner.strides, strict=True))
        return View(inner.base, inner.offset + offset, strides)
    elif name == "split":
        inner = view_of(node.inputs[0])
        start = (0, *attributes["edges"])[value.index]
        return View(inner.base, inner.offset + start * inner.strides[attributes["axis"]], inner.strides)
    return View(value, 0, strides_of(value.shape))


def reshaped_strides(shape: Sequence[int], strides: Sequence[int], target: Sequence[int]) -> tuple[int, ...] | None:
    """Strides of a view after a reshape, or None where it would need a copy."""
    source = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    result: list[int] = []
    position = 0
    wanted = list(target)
    i = 0
    while i < len(wanted):
        if wanted[i] == 1:
            result.append(0)
            i += 1
            continue
        if position >= len(source):
            return None
        start, extent = i, wanted[i]
        block = [source[position]]
        size = source[position][0]
        position += 1
        while size != extent:
            if size < extent:
                if position >= len(source):
                    return None
                block.append(source[position])
                size *= source[position][0]
                position += 1
            else:
                i += 1
                if i >= len(wanted):
                    return None
                extent *= wanted[i]
        merged = merge(block)
        if merged is None:
            return None
        step = merged
        inner = []
        for n in reversed(wanted[start : i + 1]):
            inner.append(step if n != 1 else 0)
            step *= n
        result.extend(reversed(inner))
        i += 1
    return tuple(result)


def merge(axes: Sequence[tuple[int, int]]) -> int | None:
    """The stride of neighbouring axes (extent, stride) walked through as one, or None where that has no stride."""
    axes = [(n, s) for n, s in axes if n != 1]
    for (_, outer), (extent, stride) in itertools.pairwise(axes):
        if outer != stride * extent:
            return None
    return axes[-1][1] if axes else 0
