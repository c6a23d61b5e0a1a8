"""What the functions of ops share: conversion and promotion of arguments, axes, and deferral."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ShapeError
from ..primitives import movement
from ..primitives.elementwise import cast, scalar  # noqa: F401  scalar is one of what they share
from ..tensor import Tensor, tensor, wrap


def convert(value: Any) -> Tensor:
    """Return ``value`` as a tensor; tensors pass unchanged."""
    return value if type(value) is Tensor else tensor(value)


def cast_to(value: Tensor, dtype: np.dtype) -> Tensor:
    """Return ``value`` in ``dtype``, itself where it has it."""
    return value if value.dtype == dtype else cast(value, dtype=dtype)


def promote(*values: Any) -> list[Tensor]:
    """Convert ``values`` to tensors of their common dtype; Python numbers take that of the tensors."""
    first = values[0]
    if type(first) is Tensor and all(type(v) is Tensor and v.dtype == first.dtype for v in values):
        return list(values)
    values = [v if dtypes.weak(v) else convert(v) for v in values]
    common = dtypes.result_type(*values)
    # np.array refuses a Python integer that does not fit, where astype would wrap it around.
    return [wrap(np.array(v, common)) if dtypes.weak(v) else cast_to(v, common) for v in values]


def to_float(value: Any) -> Tensor:
    """Convert to a tensor of a float dtype: floats stay as they are, the rest becomes floatx."""
    value = convert(value)
    return value if dtypes.is_floating(value.dtype) else cast_to(value, dtypes.as_dtype(None))


def promote_float(*values: Any) -> list[Tensor]:
    """Like :func:`promote`, to a float dtype."""
    return [to_float(value) for value in promote(*values)]


def axis_of(axis: int, ndim: int, name: str) -> int:
    """Return ``axis`` counted from the front, or raise a ShapeError."""
    if not -ndim <= axis < ndim:
        raise ShapeError(f"{name}: axis {axis} is out of range for a value with {ndim} axes.")
    return axis % ndim


def axes_of(axis: int | Sequence[int] | None, ndim: int, name: str) -> tuple[int, ...]:
    """Return axes counted from the front and sorted; None means all."""
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    axes = tuple(sorted(axis_of(int(a), ndim, name) for a in axes))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{name}: an axis is named twice in {axis}.")
    return axes


def along_axis(vector: Any, axis: int, ndim: int) -> Tensor:
    """Return a vector as axis ``axis`` of a value with ``ndim`` axes, the others of extent 1."""
    vector = convert(vector)
    shape = [1] * ndim
    shape[axis] = vector.size
    return movement.reshape(vector, shape=tuple(shape))


def slice_axis(x: Tensor, axis: int, start: int | None, stop: int | None) -> Tensor:
    """Return x[start:stop] along one axis, counted from the front."""
    return x[(*[slice(None)] * axis, slice(start, stop))]


def pair(value: Any, rank: int, name: str) -> tuple[int, ...]:
    """Return ``rank`` integers for an argument that may be one integer for all axes."""
    if isinstance(value, (int, np.integer)):
        return (int(value),) * rank
    value = tuple(int(v) for v in value)
    if len(value) != rank:
        raise ValueError(f"{name}: expected an integer or {rank} of them; received {value}.")
    return value


def deferrable(function: Callable) -> Callable:
    """Let arguments with ``__apply_function__`` decide what calling ``function`` on them means.

    So the functional API of the layers room builds models out of ops without core knowing of it.
    """

    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        for value in (*arguments, *options.values()):
            if type(value) is Tensor:
                continue
            deferred = _deferred(value)
            if deferred is not None:
                return deferred.__apply_function__(wrapper, arguments, options)
        return function(*arguments, **options)

    return wrapper


def _deferred(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return next((found for found in map(_deferred, value) if found is not None), None)
    return value if hasattr(value, "__apply_function__") else None
