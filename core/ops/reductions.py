"""Reductions, cumulative functions, statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ShapeError
from ..primitives import elementwise, reduction
from ..primitives.indexing import argsort as _argsort
from ..tensor import Tensor
from . import math
from .common import along_axis, axes_of, axis_of, cast_to, convert, scalar, slice_axis, to_float
from .indexing import take_along_axis
from .shape import broadcast_to, expand_dims, moveaxis, ravel, reshape

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
    x = math.cast(math.cast(x, "bool"), "int32")
    return math.not_equal(_reduce(reduction.reduce_sum, x, axis, keepdims), 0)


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether every element along the axes is true."""
    return math.logical_not(any(math.logical_not(x), axis, keepdims))


def count_nonzero(x: Any, axis: Axis = None) -> Tensor:
    """Number of elements that are not 0."""
    return sum(math.not_equal(x, 0), axis)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean over axes (all by default), as a float."""
    x = to_float(x)
    if x.dtype in dtypes.HALVES:  # neither the sum nor the count may fit
        return cast_to(mean(cast_to(x, dtypes.FLOAT32), axis, keepdims), x.dtype)
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
        weights = along_axis(weights, axis_of(axis, x.ndim, "average"), x.ndim)
    return sum(x * weights, axis) / sum(broadcast_to(weights, x.shape), axis)


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
    if keepdims:
        return total
    return reshape(total, reduction.reduced_shape(x.shape, axes_of(axis, x.ndim, "logsumexp"), False))


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
        ahead, behind = slice_axis(x, axis, 1, None), slice_axis(x, axis, None, -1)
        x = math.not_equal(ahead, behind) if x.dtype == dtypes.BOOL else ahead - behind
    return x


def quantile(x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """Quantiles q (in [0, 1]) over axes; between neighbours: "linear", "lower", "higher", "nearest", "midpoint"."""
    return _quantile(to_float(x), q, axis, method, keepdims, skip_nan=False)


def nanquantile(x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """Like :func:`quantile`, without the elements that are NaN."""
    return _quantile(to_float(x), q, axis, method, keepdims, skip_nan=True)


def _quantile(x: Tensor, q: Any, axis: Axis, method: str, keepdims: bool, skip_nan: bool) -> Tensor:
    if method not in ("linear", "lower", "higher", "nearest", "midpoint"):
        raise ValueError(
            f"quantile: method is 'linear', 'lower', 'higher', 'nearest' or 'midpoint'; received {method!r}."
        )
    axes = axes_of(axis, x.ndim, "quantile")
    kept = [i for i in range(x.ndim) if i not in axes]
    values = sort(reshape(moveaxis(x, axes, tuple(range(len(kept), x.ndim))), [*(x.shape[i] for i in kept), -1]))
    number = math.isnan(values)  # NaNs are sorted to the end
    count = sum(math.logical_not(number), -1, True) if skip_nan else convert(values.shape[-1])
    q = math.cast(q, "float64") if isinstance(q, Tensor) else convert(np.asarray(q, np.float64))
    place = reshape(q, (-1,)) * math.cast(count - 1, "float64")  # (…, quantiles)
    place = math.maximum(broadcast_to(place, (*values.shape[:-1], q.size)), 0)
    low, high = math.floor(place), math.ceil(place)
    share = {
        "linear": place - low,
        "lower": place * 0,
        "higher": high - low,
        "nearest": math.round(place) - low,
        "midpoint": (high - low) / 2,
    }[method]
    below, above = (take_along_axis(values, math.cast(edge, "int32"), -1) for edge in (low, high))
    result = below + math.where(share > 0, (above - below) * math.cast(share, x.dtype), 0)
    if not skip_nan:
        result = math.where(number[..., -1:], np.nan, result)
    result = moveaxis(result, -1, 0)
    lead = [1 if i in axes else n for i, n in enumerate(x.shape)] if keepdims else [x.shape[i] for i in kept]
    return reshape(result, [*q.shape, *lead])


def percentile(x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """Percentiles q (in [0, 100]) over axes."""
    return quantile(x, _hundredths(q), axis, method, keepdims)


def nanpercentile(x: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """Like :func:`percentile`, without the elements that are NaN."""
    return nanquantile(x, _hundredths(q), axis, method, keepdims)


def _hundredths(q: Any) -> Any:
    return q / 100 if isinstance(q, Tensor) else np.asarray(q, np.float64) / 100


def median(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Median over axes (all by default)."""
    return quantile(x, 0.5, axis, "linear", keepdims)


def nanmedian(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Median over axes, without the elements that are NaN."""
    return nanquantile(x, 0.5, axis, "linear", keepdims)


def _filled(x: Any, value: float) -> Tensor:
    """x with ``value`` in the place of NaN."""
    x = convert(x)
    return math.where(math.isnan(x), scalar(value, x), x) if dtypes.is_floating(x.dtype) else x


def _without_nan(function: Callable, neutral: float, empty: float, x: Any, axis: Axis, keepdims: bool) -> Tensor:
    """``function`` of the elements that are not NaN, ``empty`` where all are."""
    x = convert(x)
    result = function(_filled(x, neutral), axis, keepdims)
    if not dtypes.is_floating(x.dtype):
        return result
    return math.where(all(math.isnan(x), axis, keepdims), empty, result)


def nansum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over axes of the elements that are not NaN."""
    return sum(_filled(x, 0), axis, keepdims)


def nanprod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Product over axes of the elements that are not NaN."""
    return prod(_filled(x, 1), axis, keepdims)


def nanmax(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Maximum over axes of the elements that are not NaN; NaN where all are."""
    return _without_nan(max, -np.inf, np.nan, x, axis, keepdims)


def nanmin(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Minimum over axes of the elements that are not NaN; NaN where all are."""
    return _without_nan(min, np.inf, np.nan, x, axis, keepdims)


def nanmean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean over axes of the elements that are not NaN."""
    x = to_float(x)
    return nansum(x, axis, keepdims) / sum(math.cast(math.logical_not(math.isnan(x)), x.dtype), axis, keepdims)


def nanvar(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Variance over axes of the elements that are not NaN."""
    x = to_float(x)
    return nanmean(math.square(x - nanmean(x, axis, True)), axis, keepdims)


def nanstd(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Standard deviation over axes of the elements that are not NaN."""
    return math.sqrt(nanvar(x, axis, keepdims))


def nanargmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the maximum of the elements that are not NaN; -1 where all are."""
    return _without_nan(argmax, -np.inf, -1, x, axis, keepdims)


def nanargmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the minimum of the elements that are not NaN; -1 where all are."""
    return _without_nan(argmin, np.inf, -1, x, axis, keepdims)


def nancumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running sum along an axis in which NaN counts as 0."""
    return cumsum(_filled(x, 0), axis, dtype)


def nancumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running product along an axis in which NaN counts as 1."""
    return cumprod(_filled(x, 1), axis, dtype)


def ptp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Maximum minus minimum over axes."""
    return max(x, axis, keepdims) - min(x, axis, keepdims)


def allclose(x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether all elements are close; see isclose."""
    return all(math.isclose(x1, x2, rtol, atol, equal_nan))


def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """Integral along an axis by the trapezoid rule, at positions ``x`` or with steps ``dx``."""
    y = moveaxis(to_float(y), axis, -1)
    if x is not None:
        x = convert(x)
        dx = diff(x) if x.ndim == 1 else diff(moveaxis(x, axis, -1))
    return sum(dx * (y[..., 1:] + y[..., :-1]) / 2, -1)


def argpartition(x: Any, kth: int, axis: int = -1) -> Tensor:
    """Positions that put the kth smallest element in its place, smaller ones before it (here: that sort it)."""
    return argsort(x, axis)


def argsort(x: Any, axis: int | None = -1) -> Tensor:
    """Positions that sort x along an axis (stable); int32."""
    x = convert(x)
    if axis is None:
        x, axis = ravel(x), 0
    return _argsort(x, axis=axis_of(axis, x.ndim, "argsort"), descending=False)


def sort(x: Any, axis: int | None = -1) -> Tensor:
    """x in ascending order along an axis."""
    x = convert(x)
    if axis is None:
        x, axis = ravel(x), 0
    return take_along_axis(x, argsort(x, axis), axis)


def top_k(x: Any, k: int, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest elements along the last axis, and their positions (int32), in descending order."""
    x = convert(x)
    if not x.ndim or not 0 <= k <= x.shape[-1]:
        raise ShapeError(f"top_k: k={k} does not fit the last axis of shape {x.shape}.")
    positions = _argsort(x, axis=x.ndim - 1, descending=True)[..., :k]
    return take_along_axis(x, positions, -1), positions


def in_top_k(targets: Any, predictions: Any, k: int) -> Tensor:
    """Whether the score of each target class is among the k highest of its row.

    ``targets``: (N,) integers, ``predictions``: (N, classes); ties count in favour. Returns (N,) bool.
    """
    predictions, targets = convert(predictions), math.cast(targets, "int32")
    own = take_along_axis(predictions, expand_dims(targets, -1), -1)
    higher = sum(math.greater(predictions, own), -1)
    return math.logical_and(math.less(higher, k), math.isfinite(own[..., 0]))
