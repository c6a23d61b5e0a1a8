"""Functions that make tensors, and that change their shape or order."""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ShapeError
from ..primitives import elementwise, indexing, movement
from ..tensor import Tensor, tensor, wrap
from .common import along_axis, axes_of, axis_of, cast_to, convert, pair, promote, slice_axis


def _shape(shape: Any) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)


def convert_to_tensor(x: Any, dtype: Any = None) -> Tensor:
    """Make a tensor from numbers, lists, arrays, variables or tensors; see :func:`tenzoo.tensor`."""
    return tensor(x, dtype)


array = convert_to_tensor


def dtype(x: Any) -> str:
    """Name of the dtype of x."""
    return convert(x).dtype.name


def convert_to_numpy(x: Any) -> np.ndarray:
    """Return the value as a numpy array that may be written to."""
    return np.array(convert(x))


def is_tensor(x: Any) -> bool:
    """True for a Tensor."""
    return isinstance(x, Tensor)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """A tensor of ``shape`` that holds ``fill_value`` everywhere."""
    value = tensor(fill_value, dtype)
    return movement.broadcast_to(value, shape=_shape(shape))


def zeros(shape: Any, dtype: Any = None) -> Tensor:
    """Zeros of ``shape``; floatx by default."""
    return full(shape, 0, dtypes.as_dtype(dtype))


def ones(shape: Any, dtype: Any = None) -> Tensor:
    """Ones of ``shape``; floatx by default."""
    return full(shape, 1, dtypes.as_dtype(dtype))


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros of the shape (and dtype) of x."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones of the shape (and dtype) of x."""
    return full_like(x, 1, dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """``fill_value`` in the shape (and dtype) of x."""
    x = convert(x)
    return full(x.shape, fill_value, dtype or x.dtype)


empty = zeros
empty_like = zeros_like


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Tensor:
    """Numbers from start (0 when only one is given) up to, not including, stop, ``step`` (1) apart."""
    start, stop = (0, start) if stop is None else (start, stop)
    step = 1 if step is None else step
    dtype = dtypes.as_dtype(dtype) if dtype else dtypes.result_type(start, stop, step)
    return wrap(np.arange(start, stop, step).astype(dtype))


def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    """``num`` evenly spaced numbers from start to stop (numbers or arrays), along a new axis."""
    values, step = np.linspace(np.asarray(start), np.asarray(stop), num, endpoint, True, axis=axis)
    result = wrap(np.asarray(values, dtypes.as_dtype(dtype)))
    return (result, tensor(step, result.dtype)) if retstep else result


def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: float = 10, dtype: Any = None, axis: int = 0
) -> Tensor:
    """``num`` numbers evenly spaced on a logarithmic scale, from base**start to base**stop."""
    values = np.logspace(np.asarray(start), np.asarray(stop), num, endpoint, base, axis=axis)
    return wrap(np.asarray(values, dtypes.as_dtype(dtype)))


def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Tensor:
    """``num`` numbers from start to stop with equal quotients."""
    values = np.geomspace(np.asarray(start), np.asarray(stop), num, endpoint, axis=axis)
    return wrap(np.asarray(values, dtypes.as_dtype(dtype)))


def _window(function: Callable, description: str) -> Callable:
    def window(x: int) -> Tensor:
        return wrap(function(int(x)).astype(dtypes.as_dtype(None)))

    window.__name__ = window.__qualname__ = function.__name__
    window.__doc__ = description
    return window


bartlett = _window(np.bartlett, "Triangular window of x points.")
blackman = _window(np.blackman, "Blackman window of x points.")
hamming = _window(np.hamming, "Hamming window of x points.")
hanning = _window(np.hanning, "Hann window of x points.")


def kaiser(x: int, beta: float) -> Tensor:
    """Kaiser window of x points."""
    return wrap(np.kaiser(int(x), float(beta)).astype(dtypes.as_dtype(None)))


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:
    """Ones on the k-th diagonal of an (N, M) matrix of zeros."""
    return wrap(np.eye(N, M, k, dtypes.as_dtype(dtype)))


def identity(n: int, dtype: Any = None) -> Tensor:
    """The (n, n) identity matrix."""
    return eye(n, dtype=dtype)


def meshgrid(*x: Any, indexing: str = "xy") -> list[Tensor]:
    """Coordinate matrices from coordinate vectors."""
    x = [convert(value) for value in x]
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing is 'xy' or 'ij'; received {indexing!r}.")
    shape = [value.size for value in x]
    order = [1, 0, *range(2, len(x))] if indexing == "xy" and len(x) > 1 else list(range(len(x)))
    return [transpose(broadcast_to(along_axis(v, i, len(x)), shape), order) for i, v in enumerate(x)]


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:
    """Ones at and below the k-th diagonal."""
    return wrap(np.tri(N, M, k, dtypes.as_dtype(dtype)))


def tril(x: Any, k: int = 0) -> Tensor:
    """x with zeros above the k-th diagonal of its last two axes."""
    x = convert(x)
    return elementwise.where(tri(*x.shape[-2:], k, "bool"), x, wrap(np.zeros((), x.dtype)))


def triu(x: Any, k: int = 0) -> Tensor:
    """x with zeros below the k-th diagonal of its last two axes."""
    x = convert(x)
    return elementwise.where(tri(*x.shape[-2:], k - 1, "bool"), wrap(np.zeros((), x.dtype)), x)


def copy(x: Any) -> Tensor:
    """x itself: tensors do not change."""
    return convert(x)


def shape(x: Any) -> tuple[int, ...]:
    """Extents of x."""
    return convert(x).shape


def ndim(x: Any) -> int:
    """Number of axes of x."""
    return convert(x).ndim


def size(x: Any) -> int:
    """Number of elements of x."""
    return convert(x).size


def reshape(x: Any, newshape: Any) -> Tensor:
    """The elements of x in the same order in another shape; one extent may be -1."""
    x = convert(x)
    wanted = _shape(newshape)
    if -1 in wanted:
        known = math.prod(n for n in wanted if n != -1)
        if wanted.count(-1) > 1 or known == 0 or x.size % known:
            raise ShapeError(f"reshape: shape {x.shape} with {x.size} elements does not fit {wanted}.")
        wanted = tuple(x.size // known if n == -1 else n for n in wanted)
    return x if wanted == x.shape else movement.reshape(x, shape=wanted)


def ravel(x: Any) -> Tensor:
    """x as a vector."""
    return reshape(x, (-1,)) if convert(x).size else reshape(x, (0,))


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """Permute the axes; reverse them by default."""
    x = convert(x)
    order = tuple(reversed(range(x.ndim))) if axes is None else tuple(axis_of(a, x.ndim, "transpose") for a in axes)
    return x if order == tuple(range(x.ndim)) else movement.transpose(x, axes=order)


def moveaxis(x: Any, source: Any, destination: Any) -> Tensor:
    """Move axes to other places; the others keep their order."""
    x = convert(x)
    source = [axis_of(a, x.ndim, "moveaxis") for a in _shape(source)]
    destination = [axis_of(a, x.ndim, "moveaxis") for a in _shape(destination)]
    order = [axis for axis in range(x.ndim) if axis not in source]
    for place, axis in sorted(zip(destination, source, strict=True)):
        order.insert(place, axis)
    return transpose(x, order)


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes."""
    x = convert(x)
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, order)


def expand_dims(x: Any, axis: int | Sequence[int]) -> Tensor:
    """Insert axes of extent 1."""
    x = convert(x)
    count = 1 if isinstance(axis, int) else len(axis)
    places = axes_of(axis, x.ndim + count, "expand_dims")
    rest = iter(x.shape)
    return reshape(x, [1 if i in places else next(rest) for i in range(x.ndim + count)])


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """Remove axes of extent 1 (all of them by default)."""
    x = convert(x)
    if axis is None:
        return reshape(x, [n for n in x.shape if n != 1])
    axes = axes_of(axis, x.ndim, "squeeze")
    if any(x.shape[a] != 1 for a in axes):
        raise ShapeError(f"squeeze: axis {axis} of shape {x.shape} has not extent 1.")
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in axes])


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """Repeat x along axes of extent 1, and new leading ones, to ``shape``."""
    x = convert(x)
    shape = _shape(shape)
    return x if x.shape == shape else movement.broadcast_to(x, shape=shape)


def concatenate(xs: Sequence, axis: int | None = 0) -> Tensor:
    """Join tensors along an axis that they have."""
    xs = promote(*xs)
    if axis is None:
        xs, axis = [ravel(x) for x in xs], 0
    if len(xs) == 1:
        return xs[0]
    if xs[0].ndim == 0:
        raise ShapeError("concatenate: scalars have no axis to join along; use stack.")
    return movement.concatenate(*xs, axis=axis_of(axis, xs[0].ndim, "concatenate"))


def stack(x: Sequence, axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    x = promote(*x)
    if any(value.shape != x[0].shape for value in x):
        raise ShapeError(f"stack: the shapes differ: {', '.join(str(value.shape) for value in x)}.")
    return concatenate([expand_dims(value, axis) for value in x], axis)


def hstack(xs: Sequence) -> Tensor:
    """Join along the second axis (the first for vectors)."""
    xs = [reshape(x, (-1,)) if convert(x).ndim == 0 else convert(x) for x in xs]
    return concatenate(xs, 0 if xs[0].ndim == 1 else 1)


def vstack(xs: Sequence) -> Tensor:
    """Join along the first axis; vectors become rows."""
    return concatenate([reshape(x, (1, -1)) if convert(x).ndim < 2 else x for x in xs], 0)


def dstack(xs: Sequence) -> Tensor:
    """Join along the third axis, after giving x that many: (n,) -> (1, n, 1), (n, m) -> (n, m, 1)."""
    xs = [convert(x) for x in xs]
    return concatenate(
        [reshape(x, (1, -1, 1)) if x.ndim < 2 else x if x.ndim > 2 else expand_dims(x, 2) for x in xs], 2
    )


def append(x1: Any, x2: Any, axis: int | None = None) -> Tensor:
    """x1 followed by x2 along an axis, both flattened by default."""
    return concatenate([x1, x2], axis)


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut into equal parts, or at the given positions."""
    x = convert(x)
    axis = axis_of(axis, x.ndim, "split")
    extent = x.shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        parts = int(indices_or_sections)
        if parts < 1 or extent % parts:
            raise ShapeError(f"split: axis {axis} of shape {x.shape} does not divide into {parts} equal parts.")
        cuts = [extent // parts * i for i in range(1, parts)]
    else:
        cuts = [int(i) for i in indices_or_sections]
    edges = [0, *cuts, extent]
    if edges == sorted(edges) and cuts:
        return list(movement.split(x, axis=axis, edges=tuple(cuts)))
    return [slice_axis(x, axis, a, b) for a, b in itertools.pairwise(edges)]


def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Like :func:`split`; parts that cannot be equal differ by one, the longer ones first."""
    x = convert(x)
    if isinstance(indices_or_sections, (int, np.integer)):
        short, longer = divmod(x.shape[axis], int(indices_or_sections))
        indices_or_sections = [short * i + builtins.min(i, longer) for i in range(1, int(indices_or_sections))]
    return split(x, indices_or_sections, axis)


def vsplit(x: Any, indices_or_sections: Any) -> list[Tensor]:
    """Cut along the first axis."""
    return split(x, indices_or_sections, 0)


def hsplit(x: Any, indices_or_sections: Any) -> list[Tensor]:
    """Cut along the second axis (the first of a vector)."""
    return split(x, indices_or_sections, 0 if convert(x).ndim == 1 else 1)


def dsplit(x: Any, indices_or_sections: Any) -> list[Tensor]:
    """Cut along the third axis."""
    return split(x, indices_or_sections, 2)


def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[Tensor]:
    """Cut into slices along an axis, and drop it."""
    x = convert(x)
    axis = axis_of(axis, x.ndim, "unstack")
    if num is not None and num != x.shape[axis]:
        raise ShapeError(f"unstack: axis {axis} of shape {x.shape} has not {num} slices.")
    return [squeeze(part, axis) for part in split(x, x.shape[axis], axis)] if x.shape[axis] else []


def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """Reverse the order of elements along axes (all by default)."""
    x = convert(x)
    return movement.flip(x, axes=axes_of(axis, x.ndim, "flip"))


def flipud(x: Any) -> Tensor:
    """Reverse the order along the first axis."""
    return flip(x, 0)


def fliplr(x: Any) -> Tensor:
    """Reverse the order along the second axis."""
    return flip(x, 1)


def roll(x: Any, shift: Any, axis: Any = None) -> Tensor:
    """Shift elements along axes; what leaves at one end enters at the other."""
    x = convert(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    axes = _shape(axis)
    for amount, a in zip(pair(shift, len(axes), "roll"), axes, strict=True):
        a = axis_of(a, x.ndim, "roll")
        if x.shape[a]:
            cut = -amount % x.shape[a]
            x = concatenate([slice_axis(x, a, cut, x.shape[a]), slice_axis(x, a, 0, cut)], a)
    return x


def rot90(array: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Rotate by k·90 degrees in the plane of two axes, from the first towards the second."""
    x = convert(array)
    a, b = (axis_of(axis, x.ndim, "rot90") for axis in axes)
    k %= 4
    if k == 2:
        return flip(x, (a, b))
    if k == 1:
        return swapaxes(flip(x, b), a, b)
    return flip(swapaxes(x, a, b), b) if k == 3 else x


def tile(x: Any, repeats: Any) -> Tensor:
    """Repeat the whole of x along each axis."""
    x = convert(x)
    repeats = _shape(repeats)
    rank = builtins.max(x.ndim, len(repeats))
    repeats = (1,) * (rank - len(repeats)) + repeats
    extents = (1,) * (rank - x.ndim) + x.shape
    pairs = list(zip(repeats, extents, strict=True))
    spread = reshape(x, [n for _, extent in pairs for n in (1, extent)])
    return reshape(broadcast_to(spread, [n for both in pairs for n in both]), [r * n for r, n in pairs])


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Repeat each element along an axis, all equally or each by its own count."""
    x = convert(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of(axis, x.ndim, "repeat")
    if np.ndim(repeats) and np.size(repeats) > 1:
        from .indexing import take

        return take(x, np.repeat(np.arange(x.shape[axis], dtype=np.int32), np.asarray(repeats)), axis)
    count = int(np.asarray(repeats).reshape(()))
    wide = broadcast_to(expand_dims(x, axis + 1), (*x.shape[: axis + 1], count, *x.shape[axis + 1 :]))
    return reshape(wide, (*x.shape[:axis], x.shape[axis] * count, *x.shape[axis + 1 :]))


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float | None = None) -> Tensor:
    """Add elements at the ends of the axes: "constant", "reflect", "symmetric" or "edge"."""
    x = convert(x)
    try:
        widths = np.broadcast_to(np.asarray(pad_width, np.int64), (x.ndim, 2))
        fits = (widths >= 0).all()
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise ShapeError(
            f"pad: expected one (before, after) pair per axis of shape {x.shape}, not negative; received {pad_width}."
        )
    low, high = (tuple(column.tolist()) for column in widths.T)
    if mode == "constant":
        value = 0 if constant_values is None else float(constant_values)
        return movement.pad(x, low=low, high=high, interior=(0,) * x.ndim, value=value)
    if mode not in ("reflect", "symmetric", "edge", "wrap"):
        raise ValueError(f"pad: mode is 'constant', 'reflect', 'symmetric', 'edge' or 'wrap'; received {mode!r}.")
    from .indexing import take

    for axis, (before, after) in enumerate(zip(low, high, strict=True)):
        if before or after:
            positions = np.pad(np.arange(x.shape[axis], dtype=np.int32), (before, after), mode)
            x = take(x, positions, axis)
    return x


def slice(inputs: Any, start_indices: Any, shape: Any) -> Tensor:
    """The block of ``shape`` that starts at ``start_indices`` (which may be tensors)."""
    x = convert(inputs)
    extents = _shape(shape)
    starts = list(start_indices) if not isinstance(start_indices, Tensor) else start_indices
    if all(isinstance(start, (int, np.integer)) for start in starts):
        return movement.slice_(
            x,
            starts=tuple(int(s) for s in starts),
            stops=tuple(int(s) + n for s, n in zip(starts, extents, strict=True)),
            steps=(1,) * x.ndim,
        )
    from .indexing import take

    for axis, extent in enumerate(extents):
        x = take(x, _range_from(starts[axis], extent), axis)
    return x


def _range_from(start: Any, extent: int) -> Tensor:
    return elementwise.add(cast_to(convert(start), dtypes.INT32), wrap(np.arange(extent, dtype=np.int32)))


def slice_update(inputs: Any, start_indices: Any, updates: Any) -> Tensor:
    """``inputs`` with the block that starts at ``start_indices`` replaced by ``updates``."""
    x = convert(inputs)
    updates = cast_to(convert(updates), x.dtype)
    if updates.shape == x.shape:
        return updates
    positions = []
    for axis, extent in enumerate(updates.shape):
        index = along_axis(_range_from(start_indices[axis], extent), axis, x.ndim)
        positions.append(broadcast_to(index, updates.shape))
    return indexing.scatter_set(x, updates, *positions)


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonal of two axes, as the last axis."""
    x = moveaxis(x, (axis1, axis2), (0, 1))
    rows, columns = x.shape[:2]
    count = builtins.max(0, builtins.min(rows + builtins.min(offset, 0), columns - builtins.max(offset, 0)))
    along = np.arange(count, dtype=np.int32)
    picked = indexing.gather(x, wrap(along - builtins.min(offset, 0)), wrap(along + builtins.max(offset, 0)))
    return moveaxis(picked, 0, -1)


def diag(x: Any, k: int = 0) -> Tensor:
    """The k-th diagonal of a matrix, or the matrix with the vector x as its k-th diagonal."""
    x = convert(x)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ShapeError(f"diag: expected a vector or a matrix; received shape {x.shape}.")
    along = np.arange(x.size, dtype=np.int32)
    n = x.size + builtins.abs(k)
    return indexing.scatter_add(x, wrap(along - builtins.min(k, 0)), wrap(along + builtins.max(k, 0)), shape=(n, n))


def diagflat(x: Any, k: int = 0) -> Tensor:
    """A matrix with the elements of x as its k-th diagonal."""
    return diag(ravel(x), k)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Tensor:
    """Powers of the vector x as columns, (n,) -> (n, N), falling to 0 unless ``increasing``."""
    x = convert(x)
    count = x.size if N is None else N
    columns = [elementwise.add(x * 0, wrap(np.ones((), x.dtype)))]
    while len(columns) < count:
        columns.append(columns[-1] * x)
    columns = columns[:count]
    return stack(columns if increasing else columns[::-1], -1) if count else zeros((x.size, 0), x.dtype)


def rearrange(tensor: Any, pattern: str, **axes_lengths: int) -> Tensor:
    """Reorder, split and merge named axes, as einops does; parentheses group axes.

    >>> rearrange(np.ones((2, 6, 3)), "b (h p) c -> b h (p c)", p=2).shape
    (2, 3, 6)
    """
    x = convert(tensor)
    left, arrow, right = pattern.partition("->")
    groups, wanted = _axis_groups(left), _axis_groups(right)
    names = [name for group in groups for name in group]
    if not arrow or sorted(names) != sorted(name for group in wanted for name in group):
        raise ValueError(f"rearrange: the sides of {pattern!r} do not name the same axes.")
    if len(groups) != x.ndim:
        raise ShapeError(f"rearrange: {pattern!r} names {len(groups)} axes; received shape {x.shape}.")
    extents = dict(axes_lengths)
    for group, extent in zip(groups, x.shape, strict=True):
        unknown = [name for name in group if name not in extents]
        known = math.prod(extents[name] for name in group if name in extents)
        if len(unknown) > 1 or (not unknown and known != extent) or (unknown and (not known or extent % known)):
            raise ShapeError(f"rearrange: {pattern!r} with {axes_lengths} does not fit shape {x.shape}.")
        extents.update(dict.fromkeys(unknown, extent // known))
    x = transpose(reshape(x, [extents[name] for name in names]), [names.index(n) for group in wanted for n in group])
    return reshape(x, [math.prod(extents[name] for name in group) for group in wanted])


def _axis_groups(side: str) -> list[list[str]]:
    """ "b (h p)" -> [["b"], ["h", "p"]]"""
    groups: list[list[str]] = []
    inside = False
    for token in side.replace("(", " ( ").replace(")", " ) ").split():
        if token in "()":
            inside = token == "("
            if inside:
                groups.append([])
        elif inside:
            groups[-1].append(token)
        else:
            groups.append([] if token == "1" else [token])
    return groups
