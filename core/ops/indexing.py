"""Reading and writing at computed positions."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import DtypeError, ShapeError
from ..op import Op
from ..primitives import indexing, movement, reduction
from ..tensor import Tensor, tensor, wrap
from . import math
from .common import along_axis, axis_of, cast_to, convert, to_float
from .shape import arange, broadcast_to, expand_dims, moveaxis, reshape, transpose


def _integers(indices: Any, name: str) -> Tensor:
    indices = convert(indices)
    if dtypes.is_floating(indices.dtype) and indices.size:
        raise DtypeError(f"{name}: indices have to be integers; received {indices.dtype.name}.")
    return cast_to(indices, dtypes.INT32) if dtypes.kind_of(indices.dtype) in "bf" else indices


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Slices of x at ``indices`` along an axis; negative ones count from the end.

    Shape: x.shape with ``axis`` replaced by indices.shape. Raises IndexError for positions out of range.
    """
    x, indices = convert(x), _integers(indices, "take")
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = axis_of(axis, x.ndim, "take")
    if axis == 0:
        return indexing.gather(x, indices)
    picked = indexing.gather(moveaxis(x, axis, 0), indices)
    places = tuple(range(indices.ndim))
    return moveaxis(picked, places, tuple(axis + i for i in places))


def take_along_axis(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Elements of x at ``indices`` along an axis, matched position by position along the others."""
    x, indices = convert(x), _integers(indices, "take_along_axis")
    if axis is None:
        x, indices, axis = reshape(x, (-1,)), reshape(indices, (-1,)), 0
    axis = axis_of(axis, x.ndim, "take_along_axis")
    if indices.ndim != x.ndim:
        raise ShapeError(f"take_along_axis: indices {indices.shape} and value {x.shape} differ in rank.")
    lead = [builtins.max(n, m) for n, m in zip(x.shape, indices.shape, strict=True)]
    lead[axis] = indices.shape[axis]
    indices = broadcast_to(indices, lead)
    lead[axis] = x.shape[axis]
    return indexing.gather(broadcast_to(x, lead), *_grid(indices, axis))


def _grid(indices: Tensor, axis: int) -> list[Tensor]:
    """Positions along every axis: ``indices`` along one, each position itself along the others."""
    own = [along_axis(arange(n, dtype=indices.dtype), i, indices.ndim) for i, n in enumerate(indices.shape)]
    return [indices if i == axis else broadcast_to(position, indices.shape) for i, position in enumerate(own)]


def scatter(indices: Any, values: Any, shape: Any) -> Tensor:
    """Zeros of ``shape`` with ``values`` added at ``indices`` (…, K), which address the first K axes."""
    values = convert(values)
    return indexing.scatter_add(values, *_columns(indices), shape=tuple(int(n) for n in shape))


def scatter_update(inputs: Any, indices: Any, updates: Any, reduction: str | None = None) -> Tensor:
    """``inputs`` with rows at ``indices`` (…, K) replaced by ``updates``, or combined: "add", "max", "min", "mul"."""
    x = convert(inputs)
    updates = cast_to(convert(updates), x.dtype)
    columns = _columns(indices)
    if reduction is None:
        return indexing.scatter_set(x, updates, *columns)
    if reduction == "add":
        return x + indexing.scatter_add(updates, *columns, shape=x.shape)
    combine = {"max": math.maximum, "min": math.minimum, "mul": math.multiply}
    if reduction not in combine:
        raise ValueError(f"scatter_update: reduction is None, 'add', 'max', 'min' or 'mul'; received {reduction!r}.")
    updates = reshape(updates, (columns[0].size, *x.shape[len(columns) :]))
    columns = [reshape(column, (-1,)) for column in columns]
    for i in range(columns[0].size):  # one at a time: positions may repeat
        row = [column[i : i + 1] for column in columns]
        current = indexing.gather(x, *row)
        x = indexing.scatter_set(x, combine[reduction](current, updates[i : i + 1]), *row)
    return x


def _columns(indices: Any) -> list[Tensor]:
    indices = _integers(indices, "scatter")
    return [indices[..., i] for i in range(indices.shape[-1])]


def segment_sum(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """Sum of the rows of ``data`` that share a segment number; (num_segments, …)."""
    data, ids, count = _segments("segment_sum", data, segment_ids, num_segments)
    return indexing.scatter_add(data, ids, shape=(count, *data.shape[1:]))


def segment_max(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """Maximum over the rows of ``data`` that share a segment number; -inf for empty segments."""
    return _reduced_by_segment("segment_max", reduction.reduce_max, -np.inf, data, segment_ids, num_segments)


def segment_min(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """Minimum over the rows of ``data`` that share a segment number; inf for empty segments."""
    return _reduced_by_segment("segment_min", reduction.reduce_min, np.inf, data, segment_ids, num_segments)


def segment_prod(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """Product of the rows of ``data`` that share a segment number; 1 for empty segments."""
    return _reduced_by_segment("segment_prod", reduction.reduce_prod, 1, data, segment_ids, num_segments)


def _segments(name: str, data: Any, segment_ids: Any, count: int | None) -> tuple[Tensor, Tensor, int]:
    data, ids = convert(data), _integers(segment_ids, name)
    if ids.ndim != 1 or data.shape[:1] != ids.shape:
        raise ShapeError(f"{name}: expected one segment number per row; received {data.shape} and {ids.shape}.")
    data = cast_to(data, dtypes.INT32) if data.dtype == dtypes.BOOL else data
    return data, ids, int(np.max(np.asarray(ids), initial=-1)) + 1 if count is None else count


def _reduced_by_segment(name: str, op: Op, neutral: float, data: Any, segment_ids: Any, count: int | None) -> Tensor:
    data, ids, count = _segments(name, data, segment_ids, count)
    if not dtypes.is_floating(data.dtype) and np.isinf(neutral):
        limits = np.iinfo(data.dtype)
        neutral = limits.min if neutral < 0 else limits.max
    member = math.equal(expand_dims(ids, 0), expand_dims(arange(count, dtype=ids.dtype), 1))
    member = reshape(member, (*member.shape, *[1] * (data.ndim - 1)))
    rows = math.where(member, expand_dims(data, 0), wrap(np.asarray(neutral, data.dtype)))  # (count, rows, …)
    return op(rows, axes=(1,), keepdims=False)


def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False) -> Tensor:
    """Vectors with a 1 at position x; all zeros where x is outside [0, num_classes)."""
    if sparse:
        raise ValueError("one_hot: sparse tensors do not exist here; use the integers themselves.")
    x = _integers(x, "one_hot")
    axis = axis_of(axis, x.ndim + 1, "one_hot")
    classes = along_axis(arange(num_classes, dtype=x.dtype), axis, x.ndim + 1)
    return math.cast(math.equal(expand_dims(x, axis), classes), dtypes.as_dtype(dtype))


def multi_hot(
    inputs: Any, num_classes: int | None = None, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Tensor:
    """Vectors of length ``num_classes`` with a 1 at each of the positions listed along the last axis."""
    if num_classes is None:
        raise ValueError("multi_hot: expected num_classes, the length of the vectors; received None.")
    x = convert(inputs)
    hot = one_hot(x, num_classes, axis, dtype, sparse)
    return reduction.reduce_max(hot, axes=(x.ndim - 1,), keepdims=False) if x.ndim else hot


def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> Tensor:
    """Where ``values`` would be inserted into a sorted vector to keep it sorted; int32."""
    sequence, values = convert(sorted_sequence), convert(values)
    if sequence.ndim != 1:
        raise ShapeError(f"searchsorted: expected a sorted vector; received shape {sequence.shape}.")
    return indexing.searchsorted(sequence, values, side=side)


def digitize(x: Any, bins: Any) -> Tensor:
    """Number of the bin of each element; bins are the increasing edges."""
    return searchsorted(bins, x, "right")


def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Tensor:
    """How often each integer occurs, or the sum of its weights; x may be (n,) or (batch, n)."""
    if sparse:
        raise ValueError("bincount: sparse tensors do not exist here.")
    x = _integers(x, "bincount")
    highest = int(np.max(np.asarray(x), initial=-1)) + 1 if x._array is not None else minlength
    weights = math.cast(math.equal(x, x), "int32") if weights is None else convert(weights)
    hot = one_hot(x, builtins.max(minlength, highest), dtype=weights.dtype)
    return reduction.reduce_sum(hot * expand_dims(weights, -1), axes=(x.ndim - 1,), keepdims=False)


def nonzero(x: Any) -> tuple[Tensor, ...]:
    """Positions of the elements that are not 0, one int32 tensor per axis. The shape depends on the values."""
    return tuple(wrap(i.astype(np.int32)) for i in np.nonzero(np.asarray(convert(x))))


def unique(
    x: Any,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Distinct elements in ascending order; on request the first position of each, the way back, the counts.

    The shape depends on the values, unless ``size`` cuts or fills it up (with ``fill_value``, or the least element).
    """
    values, index, inverse, counts = np.unique(np.asarray(convert(x)), True, True, True, axis)
    along = axis or 0
    if size is not None:
        missing = builtins.max(size - values.shape[along], 0)
        kept = np.arange(builtins.min(size, values.shape[along]))
        filler = np.take(values, [0] * missing, along)
        if fill_value is not None:
            filler = np.full_like(filler, fill_value)
        values = np.concatenate([np.take(values, kept, along), filler], along)
        index = np.concatenate([index[kept], np.full(missing, index[0] if len(index) else 0)])
        counts = np.concatenate([counts[kept], np.zeros(missing, counts.dtype)])
    asked = zip((index, inverse, counts), (return_index, return_inverse, return_counts), strict=True)
    extra = [wrap(part.astype(np.int32)) for part, wanted in asked if wanted]
    return (wrap(values), *extra) if extra else wrap(values)


def isin(x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Where the elements of x1 occur in x2 (where not, with ``invert``)."""
    x1 = convert(x1)
    hits = math.cast(math.equal(expand_dims(x1, -1), reshape(x2, (-1,))), "int32")
    found = math.greater(reduction.reduce_sum(hits, axes=(x1.ndim,), keepdims=False), 0)
    return math.logical_not(found) if invert else found


def unravel_index(indices: Any, shape: Any) -> tuple[Tensor, ...]:
    """Positions along each axis of ``shape`` for positions in the flattened value."""
    rest, places = _integers(indices, "unravel_index"), []
    for extent in reversed(tuple(int(n) for n in shape)):
        places.append(rest % extent)
        rest = rest // extent
    return tuple(reversed(places))


def histogram(x: Any, bins: int = 10, range: tuple[float, float] | None = None) -> tuple[Tensor, Tensor]:
    """Counts in equal bins, and the bins' edges."""
    x = to_float(x)
    counts, edges = np.histogram(np.asarray(x), bins, range)
    return wrap(counts.astype(np.int32)), wrap(edges.astype(x.dtype))


def get_item(x: Any, key: Any) -> Tensor:
    """x[key] with numpy's rules: integers, slices, None, ``...``, integer tensors, and concrete bool masks."""
    x = convert(x)
    keys = _expanded(x, key if isinstance(key, tuple) else (key,))
    new = [i for i, item in enumerate(keys) if item is None]
    if new:
        x = expand_dims(x, new)
        keys = [builtins.slice(None) if item is None else item for item in keys]
    arrays = {axis: item for axis, item in enumerate(keys) if isinstance(item, Tensor)}
    if not arrays:
        return _basic(x, keys)
    # As in numpy, integers join the index arrays.
    integers = {axis: item for axis, item in enumerate(keys) if isinstance(item, (int, np.integer))}
    arrays |= {axis: wrap(np.asarray(item, np.int32)) for axis, item in integers.items()}
    whole = [builtins.slice(None) if axis in arrays else item for axis, item in enumerate(keys)]
    return _advanced(_basic(x, whole), arrays)


def _expanded(x: Tensor, keys: tuple) -> list:
    """Resolve ``...`` and bool masks, check the number of indices, and fill up with full slices."""
    resolved: list = []
    masks: list[tuple[int, tuple]] = []
    for item in keys:
        if hasattr(item, "__tensor__"):
            item = item.__tensor__()
        if isinstance(item, (list, np.ndarray, bool)):
            item = tensor(item)
        if isinstance(item, Tensor):
            if item.dtype == dtypes.BOOL:
                if item._array is None:
                    raise DtypeError(
                        "A symbolic bool mask cannot index: the shape of the result would depend on its values. Use "
                        "ops.where."
                    )
                if item.ndim == 0:
                    raise DtypeError("A tensor cannot be indexed with a single bool; use ops.where.")
                masks.append((len(resolved), item.shape))
                resolved.extend(nonzero(item))
                continue
            item = _integers(item, "index")
            if item.ndim == 0 and item._array is not None:
                item = int(item._array)
        elif not isinstance(item, (int, np.integer, builtins.slice)) and item is not None and item is not Ellipsis:
            raise DtypeError(f"A tensor cannot be indexed with {type(item).__name__} ({item!r}).")
        resolved.append(item)
    used = _axes_used(resolved)
    if used > x.ndim:
        raise IndexError(f"Too many indices: {used} for a tensor of shape {x.shape}.")
    if builtins.sum(item is Ellipsis for item in resolved) > 1:
        raise IndexError("An index can have only one ellipsis ('...').")
    fill = [builtins.slice(None)] * (x.ndim - used)
    place = next((i for i, item in enumerate(resolved) if item is Ellipsis), None)
    for start, shape in masks:
        axis = _axes_used(resolved[:start]) + (len(fill) if place is not None and place < start else 0)
        if x.shape[axis : axis + len(shape)] != shape:
            raise IndexError(f"A mask of shape {shape} does not fit axis {axis} of a tensor of shape {x.shape}.")
    return resolved + fill if place is None else resolved[:place] + fill + resolved[place + 1 :]


def _axes_used(keys: list) -> int:
    return builtins.sum(key is not None and key is not Ellipsis for key in keys)


def _basic(x: Tensor, keys: list) -> Tensor:
    starts, stops, steps, flips, shape = [], [], [], [], []
    for axis, (item, extent) in enumerate(zip(keys, x.shape, strict=True)):
        dropped = not isinstance(item, builtins.slice)
        if dropped:
            index = int(item)
            if not -extent <= index < extent:
                raise IndexError(f"Index {index} is out of range for axis {axis} of a tensor of shape {x.shape}.")
            item = builtins.slice(index % extent, index % extent + 1)
        start, stop, step = item.indices(extent)
        count = len(range(start, stop, step))
        if step < 0:  # the same elements from the other end, then reversed
            flips.append(axis)
            start, step = start + (count - 1) * step, -step
        if count == 0:
            start, step = 0, 1
        starts.append(start)
        stops.append(start + (count - 1) * step + 1 if count else start)
        steps.append(step)
        if not dropped:
            shape.append(count)
    if any(a != 0 or b != n or s != 1 for a, b, s, n in zip(starts, stops, steps, x.shape, strict=True)):
        x = movement.slice_(x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))
    if flips:
        x = movement.flip(x, axes=tuple(flips))
    return reshape(x, shape)


def _advanced(x: Tensor, advanced: dict[int, Tensor]) -> Tensor:
    axes = sorted(advanced)
    shape = np.broadcast_shapes(*(advanced[a].shape for a in axes))
    dtype = dtypes.result_type(*(advanced[a].dtype for a in axes))
    indices = [cast_to(broadcast_to(advanced[a], shape), dtype) for a in axes]
    rest = [a for a in range(x.ndim) if a not in axes]
    picked = indexing.gather(transpose(x, axes + rest), *indices)
    if axes != list(range(axes[0], axes[-1] + 1)):
        return picked  # separated by slices: the indexed axes come first
    places = tuple(range(len(shape)))
    return moveaxis(picked, places, tuple(axes[0] + i for i in places))
