"""Reductions, cumulative functions, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ShapeError
from ..primitives import elementwise, reduction
from ..primitives.indexing import argsort as _argsort
from ..tensor import Tensor
from . import math
from .common import axes_of, axis_of, cast_to, convert, scalar, to_float
from .shape import expand_dims, ravel, reshape

Axis = int | Sequence[int] | None


def _reduce(op: Any, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    axes = axes_of(axis, x.ndim, op.name)
    return op(x, axes=axes, keepdims=keepdims) if axes else x


def _countable(x: Any) -> Tensor:
    x = convert(x)
    return cast_to(x, dtypes.INT32) if x.dtype == dtypes.BOOL else x


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over axes (all by default); bools count as integers."""
    return _reduce(reduction.reduce_sum, _countable(x), axis, keepdims)


def prod(x: Any, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Product over axes (all by default)."""
    x = _countable(x)
    return _reduce(reduction.reduce_prod, math.cast(x, dtype) if dtype else x, axis, keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """Maximum over axes (all by default), of the elements and ``initial``."""
    result = _reduce(reduction.reduce_max, convert(x), axis, keepdims)
    return result if initial is None else math.maximum(result, initial)


def min(x: Any, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """Minimum over axes (all by default), of the elements and ``initial``."""
    result = _reduce(reduction.reduce_min, convert(x), axis, keepdims)
    return result if initial is None else math.minimum(result, initial)


amax, amin = max, min


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether an element along the axes is true."""
    x = math.cast(x, "int8")
    return math.not_equal(_reduce(reduction.reduce_sum, math.cast(math.not_equal(x, 0), "int32"), axis, keepdims), 0)


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether every element along the axes is true."""
    return math.logical_not(any(math.logical_not(x), axis, keepdims))


def count_nonzero(x: Any, axis: Axis = None) -> Tensor:
    """Number of elements that are not 0."""
    return sum(math.not_equal(x, 0), axis)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean over axes (all by default), as a float."""
    x = to_float(x)
    count = int(np.prod([x.shape[a] for a in axes_of(axis, x.ndim, "mean")], dtype=np.int64))
    total = sum(x, axis, keepdims)
    return elementwise.divide(total, scalar(count, x))


def average(x: Any, axis: Axis = None, weights: Any = None) -> Tensor:
    """Mean weighted by ``weights``: of the shape of x, or of its extent along the one axis."""
    x = to_float(x)
    if weights is None:
        return mean(x, axis)
    weights = cast_to(convert(weights), x.dtype)
    if weights.shape != x.shape:
        if weights.ndim != 1 or not isinstance(axis, int):
            raise ShapeError(f"average: weights of shape {weights.shape} do not fit {x.shape} along axis {axis}.")
        along = [1] * x.ndim
        along[axis_of(axis, x.ndim, "average")] = weights.size
        weights = reshape(weights, along)
    return sum(x * weights, axis) / sum(weights + elementwise.multiply(x, scalar(0, x)), axis)


def var(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Variance over axes (divided by the count)."""
    x = to_float(x)
    return mean(math.square(x - mean(x, axis, True)), axis, keepdims)


def std(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Standard deviation over axes (divided by the count)."""
    return math.sqrt(var(x, axis, keepdims))


def moments(x: Any, axes: Axis, keepdims: bool = False, synchronized: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and variance over axes."""
    if synchronized:
        raise ValueError("moments: synchronized=True needs a distribution strategy; there is none here.")
    return mean(x, axes, keepdims), var(x, axes, keepdims)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow."""
    x = to_float(x)
    high = elementwise.stop_gradient(max(x, axis, True))
    high = math.where(math.isfinite(high), high, scalar(0, x))
    total = math.log(sum(math.exp(x - high), axis, True)) + high
    return total if keepdims else reshape(total, sum_shape(x, axis))


def sum_shape(x: Tensor, axis: Axis) -> tuple[int, ...]:
    """Shape that is left after reducing ``axis``."""
    return reduction.reduced_shape(x.shape, axes_of(axis, x.ndim, "reduce"), False)


def _position(op: Any, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    x = convert(x)
    if axis is None:
        found = op(ravel(x), axis=0)
        return reshape(found, (1,) * x.ndim) if keepdims else found
    axis = axis_of(axis, x.ndim, op.name)
    found = op(x, axis=axis)
    return expand_dims(found, axis) if keepdims else found


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the (first) maximum along an axis, or in the flattened value; int32."""
    return _position(reduction.argmax, x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the (first) minimum along an axis, or in the flattened value; int32."""
    return _position(reduction.argmin, x, axis, keepdims)


def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running sum along an axis (of the flattened value by default)."""
    x, axis = _along(x, axis, "cumsum")
    return reduction.cumsum(math.cast(x, dtype) if dtype else x, axis=axis, reverse=False)


def cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running product along an axis (of the flattened value by default)."""
    x, axis = _along(x, axis, "cumprod")
    return reduction.cumprod(math.cast(x, dtype) if dtype else x, axis=axis, reverse=False)


def _along(x: Any, axis: int | None, name: str) -> tuple[Tensor, int]:
    x = _countable(x)
    return (ravel(x), 0) if axis is None else (x, axis_of(axis, x.ndim, name))


def diff(a: Any, n: int = 1, axis: int = -1) -> Tensor:
    """Differences of neighbours along an axis, n times."""
    x = convert(a)
    axis = axis_of(axis, x.ndim, "diff")
    for _ in range(n):
        ahead = x[(slice(None),) * axis + (slice(1, None),)]
        behind = x[(slice(None),) * axis + (slice(None, -1),)]
        x = math.not_equal(ahead, behind) if x.dtype == dtypes.BOOL else ahead - behind
    return x


def quantile(x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """Quantiles q (in [0, 1]) over axes; between neighbours: "linear", "lower", "higher", "nearest", "midpoint"."""
    from .indexing import take
    from .shape import moveaxis

    x = to_float(x)
    axes = axes_of(axis, x.ndim, "quantile")
    kept = [i for i in range(x.ndim) if i not in axes]
    values = sort(reshape(moveaxis(x, axes, tuple(range(len(kept), x.ndim))), [*(x.shape[i] for i in kept), -1]))
    q = np.asarray(q, np.float64)
    place = q * (values.shape[-1] - 1)
    low, high = np.floor(place).astype(np.int32), np.ceil(place).astype(np.int32)
    shares = {
        "linear": place - low,
        "lower": np.zeros_like(place),
        "higher": np.ones_like(place),
        "nearest": np.round(place) - low,
        "midpoint": np.full_like(place, 0.5) * (high > low),
    }
    if method not in shares:
        raise ValueError(f"quantile: method is one of {', '.join(shares)}; received {method!r}.")
    share = convert(np.asarray(shares[method], x.dtype))
    below, above = take(values, low, -1), take(values, high, -1)
    result = below + (above - below) * share
    if keepdims:
        result = reshape(result, [*(1 if i in axes else n for i, n in enumerate(x.shape)), *q.shape])
    for _ in q.shape:
        result = moveaxis(result, -1, 0)
    return result


def median(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Median over axes (all by default)."""
    return quantile(x, 0.5, axis, "linear", keepdims)


def argsort(x: Any, axis: int | None = -1) -> Tensor:
    """Positions that sort x along an axis (stable); int32."""
    x = convert(x)
    if axis is None:
        x, axis = ravel(x), 0
    return _argsort(x, axis=axis_of(axis, x.ndim, "argsort"), descending=False)


def sort(x: Any, axis: int | None = -1) -> Tensor:
    """x in ascending order along an axis."""
    from .indexing import take_along_axis

    x = convert(x)
    if axis is None:
        x, axis = ravel(x), 0
    return take_along_axis(x, argsort(x, axis), axis)


def top_k(x: Any, k: int, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest elements along the last axis, and their positions (int32), in descending order."""
    from .indexing import take_along_axis

    x = convert(x)
    if not x.ndim or not 0 <= k <= x.shape[-1]:
        raise ShapeError(f"top_k: k={k} does not fit the last axis of shape {x.shape}.")
    positions = _argsort(x, axis=x.ndim - 1, descending=True)[..., :k]
    return take_along_axis(x, positions, -1), positions


def in_top_k(targets: Any, predictions: Any, k: int) -> Tensor:
    """Whether the score of each target class is among the k highest of its row.

    ``targets``: (N,) integers, ``predictions``: (N, classes); ties count in favour. Returns (N,) bool.
    """
    from .indexing import take_along_axis

    predictions, targets = convert(predictions), math.cast(targets, "int32")
    own = take_along_axis(predictions, expand_dims(targets, -1), -1)
    higher = sum(math.greater(predictions, own), -1)
    return math.logical_and(math.less(higher, k), math.isfinite(own[..., 0]))


def linalg_norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Vector norm over axes: 2 by default, or 1, inf, -inf, any power p, "fro"."""
    x = to_float(x)
    if ord in (None, 2, "fro"):
        return math.sqrt(sum(x * x, axis, keepdims))
    magnitude = math.absolute(x)
    if ord == np.inf:
        return max(magnitude, axis, keepdims)
    if ord == -np.inf:
        return min(magnitude, axis, keepdims)
    if ord == 1:
        return sum(magnitude, axis, keepdims)
    if ord == 0:
        return sum(math.cast(math.not_equal(x, 0), x.dtype), axis, keepdims)
    return math.power(sum(math.power(magnitude, ord), axis, keepdims), 1.0 / ord)


norm = linalg_norm


def normalize(x: Any, axis: int = -1, order: int = 2, epsilon: float | None = None) -> Tensor:
    """x divided by its norm along an axis."""
    x = to_float(x)
    epsilon = 1e-7 if epsilon is None else epsilon
    if order == 2:
        return x * math.rsqrt(math.maximum(sum(x * x, axis, True), epsilon**2))
    return x / math.maximum(linalg_norm(x, order, axis, True), epsilon)
