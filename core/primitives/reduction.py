"""Reductions over axes, cumulative sums and products, positions of extrema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import INT32
from ..errors import ShapeError
from ..op import Case, Op, Spec, declare
from ..tensor import Tensor
from .elementwise import cast, equal, scalar, where
from .movement import broadcast_to, pad, reshape, slice_


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """Shape after reducing ``axes`` (not negative) away."""
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _rule(x: Any, axes: tuple[int, ...], keepdims: bool) -> Spec:
    return Spec(reduced_shape(x.shape, axes, keepdims), x.dtype)


def _extremum_rule(x: Any, axes: tuple[int, ...], keepdims: bool) -> Spec:
    if any(x.shape[axis] == 0 for axis in axes):
        raise ShapeError(
            f"Maximum or minimum over an axis without elements: shape {x.shape}, axes {axes}. It has no value."
        )
    return _rule(x, axes, keepdims)


def _expand(value: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Give the reduced ``value`` back the axes of ``x``, with extent 1."""
    return reshape(value, shape=reduced_shape(x.shape, axes, True))


def _reduction(name: str, reference: Callable, gradient: Callable, rule: Callable = _rule) -> Op:
    cases = [
        Case(((3, 4),), {"axes": (0, 1), "keepdims": False}),
        Case(((3, 4),), {"axes": (1,), "keepdims": True}),
        Case(((2, 3, 4),), {"axes": (0, 2), "keepdims": False}),
        Case(((2, 3, 4),), {"axes": (1,), "keepdims": False}),
        Case(((0, 3),), {"axes": (1,), "keepdims": False}),
        Case(((),), {"axes": (), "keepdims": False}),
    ]
    return declare(
        name,
        rule=rule,
        reference=reference,
        gradient=lambda g, y, x, axes, keepdims: (gradient(_expand(g, x, axes), _expand(y, x, axes), x, axes),),
        cases=cases,
    )


def _prod_gradient(g: Tensor, y: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    zeros = equal(x, scalar(0, x))
    others = where(zeros, scalar(1, x), x)
    count = reduce_sum(cast(zeros, dtype=x.dtype), axes=axes, keepdims=True)
    rest = reduce_prod(others, axes=axes, keepdims=True)
    without_zero = equal(count, scalar(0, x))
    only_zero = where(equal(count, scalar(1, x)), rest, scalar(0, x))
    return g * where(without_zero, rest / others, where(zeros, only_zero, scalar(0, x)))


def _share_ties(g: Tensor, y: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    chosen = cast(equal(x, y), dtype=x.dtype)
    return g * chosen / reduce_sum(chosen, axes=axes, keepdims=True)


reduce_sum = _reduction(
    "reduce_sum",
    lambda x, axes, keepdims: np.sum(x, axes, x.dtype, keepdims=keepdims),
    lambda g, y, x, axes: broadcast_to(g, shape=x.shape),
)
reduce_prod = _reduction(
    "reduce_prod", lambda x, axes, keepdims: np.prod(x, axes, x.dtype, keepdims=keepdims), _prod_gradient
)
reduce_max = _reduction(
    "reduce_max", lambda x, axes, keepdims: np.max(x, axes, keepdims=keepdims), _share_ties, _extremum_rule
)
reduce_min = _reduction(
    "reduce_min", lambda x, axes, keepdims: np.min(x, axes, keepdims=keepdims), _share_ties, _extremum_rule
)


def _argument_rule(x: Any, axis: int) -> Spec:
    if x.shape[axis] == 0:
        raise ShapeError(f"argmax or argmin over an axis without elements: shape {x.shape}, axis {axis}.")
    return Spec(reduced_shape(x.shape, (axis,), False), INT32)


def _position(name: str, function: Callable) -> Op:
    return declare(
        name,
        rule=_argument_rule,
        reference=lambda x, axis: np.asarray(function(x, axis), np.int32),
        cases=[
            Case(((3, 4),), {"axis": 0}, differentiable=False),
            Case(((2, 3, 4),), {"axis": 2}, differentiable=False),
            Case((np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 0.0]]),), {"axis": 1}, differentiable=False),
        ],
    )


argmax = _position("argmax", np.argmax)
argmin = _position("argmin", np.argmin)


def _cumulative(name: str, function: Callable, gradient: Callable) -> Op:
    def reference(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
        if reverse:
            return np.flip(function(np.flip(x, axis), axis, x.dtype), axis)
        return function(x, axis, x.dtype)

    cases = [
        Case((shape,), {"axis": axis, "reverse": reverse})
        for shape, axis in [((5,), 0), ((3, 4), 1), ((2, 3, 2), 1), ((0, 3), 0)]
        for reverse in (False, True)
    ]
    rule = lambda x, axis, reverse: Spec(x.shape, x.dtype)
    return declare(name, rule=rule, reference=reference, gradient=gradient, cases=cases)


cumsum = _cumulative("cumsum", np.cumsum, lambda g, y, x, axis, reverse: (cumsum(g, axis=axis, reverse=not reverse),))


def _moved(x: Tensor, axis: int, by: int, value: float) -> Tensor:
    """x[k + by] in place of x[k] along an axis, and ``value`` where there is none."""
    zeros = (0,) * x.ndim
    ends = tuple(m - abs(by) * (i == axis) for i, m in enumerate(x.shape))
    missing = tuple(abs(by) * (i == axis) for i in range(x.ndim))
    low, high = (zeros, missing) if by > 0 else (missing, zeros)
    stops = tuple(map(sum, zip(high, ends, strict=True)))
    part = slice_(x, starts=high, stops=stops, steps=(1,) * x.ndim)
    return pad(part, low=low, high=high, interior=zeros, value=value)


def _cumprod_gradient(g: Tensor, y: Tensor, x: Tensor, axis: int, reverse: bool) -> tuple:
    """The product before k, times s[k] = g[k] + x[k + 1] s[k + 1]. Nothing is divided by x, which may be 0."""
    count, ahead = x.shape[axis], -1 if reverse else 1
    if count < 2:
        return (g,)
    total, factor, step = g, _moved(x, axis, ahead, 0), 1
    while step < count:  # both over twice as many in each round
        total = total + factor * _moved(total, axis, ahead * step, 0)
        factor = factor * _moved(factor, axis, ahead * step, 0)
        step *= 2
    return (cumprod(_moved(x, axis, -ahead, 1), axis=axis, reverse=reverse) * total,)


cumprod = _cumulative("cumprod", np.cumprod, _cumprod_gradient)
