"""Primitives that move elements and compute nothing; in compiled code they become index arithmetic."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..op import Case, Spec, broadcast_shapes, declare
from ..tensor import Tensor, filled
from .elementwise import sum_to


def _reshape_rule(x: Any, shape: tuple[int, ...]) -> Spec:
    if math.prod(shape) != x.size:
        raise ShapeError(
            f"reshape: shape {x.shape} has {x.size} elements, which do not fill the requested shape {shape}."
        )
    return Spec(shape, x.dtype)


reshape = declare(
    "reshape",
    rule=_reshape_rule,
    reference=lambda x, shape: np.reshape(x, shape),
    gradient=lambda g, y, x, shape: (reshape(g, shape=x.shape),),
    cases=[
        Case(((3, 4),), {"shape": (2, 6)}),
        Case(((2, 3, 4),), {"shape": (24,)}),
        Case(((),), {"shape": (1, 1)}),
        Case(((0, 4),), {"shape": (2, 0)}),
    ],
)


def _transpose_rule(x: Any, axes: tuple[int, ...]) -> Spec:
    if sorted(axes) != list(range(len(x.shape))):
        raise ShapeError(f"transpose: axes {axes} are not a permutation of the {len(x.shape)} axes of shape {x.shape}.")
    return Spec(tuple(x.shape[axis] for axis in axes), x.dtype)


transpose = declare(
    "transpose",
    rule=_transpose_rule,
    reference=lambda x, axes: np.transpose(x, axes),
    gradient=lambda g, y, x, axes: (transpose(g, axes=tuple(int(i) for i in np.argsort(axes))),),
    cases=[
        Case(((3, 4),), {"axes": (1, 0)}),
        Case(((2, 3, 4),), {"axes": (2, 0, 1)}),
        Case(((2, 0, 3, 1),), {"axes": (0, 2, 1, 3)}),
        Case(((),), {"axes": ()}),
    ],
)


def _broadcast_rule(x: Any, shape: tuple[int, ...]) -> Spec:
    if broadcast_shapes("broadcast_to", x.shape, shape) != tuple(shape):
        raise ShapeError(f"broadcast_to: shape {x.shape} does not broadcast to {shape}.")
    return Spec(shape, x.dtype)


broadcast_to = declare(
    "broadcast_to",
    rule=_broadcast_rule,
    reference=lambda x, shape: np.broadcast_to(x, shape),
    gradient=lambda g, y, x, shape: (sum_to(g, x.shape),),
    cases=[
        Case(((4,),), {"shape": (3, 4)}),
        Case(((3, 1),), {"shape": (2, 3, 4)}),
        Case(((),), {"shape": (2, 2)}),
        Case(((1, 3),), {"shape": (0, 3)}),
    ],
)


def _slice_rule(x: Any, starts: tuple, stops: tuple, steps: tuple) -> Spec:
    return Spec(tuple(len(range(a, b, s)) for a, b, s in zip(starts, stops, steps, strict=True)), x.dtype)


def _slice_gradient(g: Tensor, y: Tensor, x: Tensor, starts: tuple, stops: tuple, steps: tuple) -> tuple:
    highs = tuple(
        n - start - ((count - 1) * step + 1 if count else 0)
        for n, start, count, step in zip(x.shape, starts, g.shape, steps, strict=True)
    )
    return (pad(g, low=starts, high=highs, interior=tuple(step - 1 for step in steps), value=0),)


# 0 <= start <= stop <= extent and step >= 1 on every axis: a negative step is a flip first.
slice_ = declare(
    "slice",
    rule=_slice_rule,
    reference=lambda x, starts, stops, steps: x[tuple(map(slice, starts, stops, steps))],
    gradient=_slice_gradient,
    cases=[
        Case(((5, 6),), {"starts": (1, 0), "stops": (4, 6), "steps": (1, 2)}),
        Case(((7,),), {"starts": (2,), "stops": (7,), "steps": (3,)}),
        Case(((4, 3),), {"starts": (2, 1), "stops": (2, 3), "steps": (1, 1)}),
    ],
)


def _padded(shape: tuple, low: tuple, high: tuple, interior: tuple) -> tuple[int, ...]:
    return tuple(n + a + b + max(n - 1, 0) * i for n, a, b, i in zip(shape, low, high, interior, strict=True))


def _pad(x: np.ndarray, low: tuple, high: tuple, interior: tuple, value: float) -> np.ndarray:
    out = np.full(_padded(x.shape, low, high, interior), value, x.dtype)
    out[tuple(slice(a, a + n + max(n - 1, 0) * i, i + 1) for n, a, i in zip(x.shape, low, interior, strict=True))] = x
    return out


def _pad_gradient(g: Tensor, y: Tensor, x: Tensor, low: tuple, high: tuple, interior: tuple, value: float) -> tuple:
    stops = tuple(n - b for n, b in zip(y.shape, high, strict=True))
    return (slice_(g, starts=low, stops=stops, steps=tuple(i + 1 for i in interior)),)


pad = declare(
    "pad",
    rule=lambda x, low, high, interior, value: Spec(_padded(x.shape, low, high, interior), x.dtype),
    reference=_pad,
    gradient=_pad_gradient,
    cases=[
        Case(((3, 4),), {"low": (1, 0), "high": (0, 2), "interior": (0, 0), "value": 0}),
        Case(((3, 2),), {"low": (0, 1), "high": (1, 0), "interior": (2, 1), "value": 1.5}),
        Case(((0, 2),), {"low": (1, 0), "high": (1, 0), "interior": (0, 0), "value": 0}),
    ],
)
flip = declare(
    "flip",
    rule=lambda x, axes: Spec(x.shape, x.dtype),
    reference=lambda x, axes: np.flip(x, axes),
    gradient=lambda g, y, x, axes: (flip(g, axes=axes),),
    cases=[Case(((3, 4),), {"axes": (1,)}), Case(((2, 3, 4),), {"axes": (0, 2)}), Case(((0, 2),), {"axes": (0,)})],
)


def _concatenate_rule(*inputs: Any, axis: int) -> Spec:
    first = inputs[0].shape
    for value in inputs[1:]:
        shape = value.shape
        if len(shape) != len(first) or any(
            a != b for i, (a, b) in enumerate(zip(first, shape, strict=True)) if i != axis
        ):
            shapes = ", ".join(str(v.shape) for v in inputs)
            raise ShapeError(f"concatenate: shapes {shapes} differ on another axis than {axis}.")
    total = sum(value.shape[axis] for value in inputs)
    return Spec((*first[:axis], total, *first[axis + 1 :]), inputs[0].dtype)


def _concatenate_gradient(g: Tensor, y: Tensor, *inputs: Tensor, axis: int) -> tuple:
    return split(g, axis=axis, edges=tuple(itertools.accumulate(value.shape[axis] for value in inputs[:-1])))


concatenate = declare(
    "concatenate",
    rule=_concatenate_rule,
    reference=lambda *inputs, axis: np.concatenate(inputs, axis),
    gradient=_concatenate_gradient,
    cases=[
        Case(((3, 4), (2, 4)), {"axis": 0}),
        Case(((3, 1), (3, 2), (3, 0)), {"axis": 1}),
        Case(((2, 2),), {"axis": 0}),
    ],
)


def _parts(x: Any, axis: int, edges: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(zip((0, *edges), (*edges, x.shape[axis]), strict=True))


def _split(x: np.ndarray, axis: int, edges: tuple[int, ...]) -> tuple:
    lead = (slice(None),) * axis
    return tuple(x[(*lead, slice(a, b))] for a, b in _parts(x, axis, edges))


def _split_rule(x: Any, axis: int, edges: tuple[int, ...]) -> tuple:
    return tuple(Spec((*x.shape[:axis], b - a, *x.shape[axis + 1 :]), x.dtype) for a, b in _parts(x, axis, edges))


def _split_gradient(g: tuple, y: tuple, x: Tensor, axis: int, edges: tuple[int, ...]) -> tuple:
    parts = [filled(0, like.shape, x.dtype) if part is None else part for part, like in zip(g, y, strict=True)]
    return (concatenate(*parts, axis=axis),)


# x cut along one axis at increasing positions: the inverse of concatenate, and the other's gradient.
split = declare(
    "split",
    rule=_split_rule,
    reference=_split,
    gradient=_split_gradient,
    cases=[
        Case(((3, 6),), {"axis": 1, "edges": (2, 3)}),
        Case(((4, 2, 3),), {"axis": 0, "edges": (2,)}),
        Case(((5,),), {"axis": 0, "edges": (0, 5)}),
        Case(((2, 2),), {"axis": 1, "edges": ()}),
    ],
)
