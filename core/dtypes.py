"""Dtypes and their promotion: strong dtypes of tensors and arrays, weak ones of Python numbers."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from . import config
from .errors import unknown

NAMES = (  # all that tensors hold
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bfloat16", "float16", "float32", "float64"),
)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)  # numpy has none of its own
_KNOWN = {name: BFLOAT16 if name == "bfloat16" else np.dtype(name) for name in NAMES}
_LOOKUP: dict[Any, np.dtype] = {
    **_KNOWN,
    **{dtype: dtype for dtype in _KNOWN.values()},
    **{dtype.type: dtype for dtype in _KNOWN.values()},
    "float": np.dtype("float32"),
    "int": np.dtype("int32"),
    bool: np.dtype("bool"),
}
BOOL, INT32, FLOAT32, FLOAT64 = (np.dtype(name) for name in ("bool", "int32", "float32", "float64"))
HALVES = frozenset((BFLOAT16, np.dtype("float16")))  # of two bytes: kept in memory, computed with as float32


def as_dtype(dtype: Any) -> np.dtype:
    """Return the numpy dtype for a name, a numpy dtype or type, ``float``/``int``/``bool``, or None (floatx)."""
    try:
        return _LOOKUP[dtype]
    except (KeyError, TypeError):
        pass
    if dtype is None or dtype is float:
        return _KNOWN[config.floatx()]
    if dtype is int:
        return INT32
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    if name in _KNOWN:  # a non-native byte order, or another library's dtype of the same name
        return _KNOWN[name]
    raise unknown("dtype", name, NAMES)


def is_floating(dtype: np.dtype) -> bool:
    """True for bfloat16, float16, float32, float64."""
    return dtype.kind == "f" or dtype == BFLOAT16


def kind_of(dtype: np.dtype) -> str:
    """numpy's letter for the kind of a dtype, "f" for bfloat16 too, which numpy calls void."""
    return "f" if dtype == BFLOAT16 else dtype.kind


def limits(dtype: np.dtype) -> Any:
    """Smallest and largest number of a dtype and, of floats, the precision: ``np.finfo`` or ``np.iinfo``."""
    return np.iinfo(dtype) if dtype.kind in "iu" else ml_dtypes.finfo(dtype)


def weak(value: Any) -> bool:
    """True for numbers that take the dtype of what they meet: Python and numpy scalars."""
    return isinstance(value, (bool, int, float, np.generic))


def result_type(*operands: Any) -> np.dtype:
    """Dtype of combining ``operands`` (dtypes, or things with a dtype, or Python numbers, which are weak).

    bool < integers < floats; among floats the wider one wins, and an integer never widens a float:

    >>> result_type(np.dtype("int64"), np.dtype("float32")).name, result_type(np.dtype("int8"), 1.5).name
    ('float32', 'float32')
    """
    strong = None
    weakest = 0  # 1: bool, 2: int, 3: float
    for operand in operands:
        if weak(operand):
            kind = np.asarray(operand).dtype.kind
            weakest = max(weakest, {"b": 1, "i": 2, "u": 2}.get(kind, 3))
            continue
        dtype = operand if isinstance(operand, np.dtype) else as_dtype(getattr(operand, "dtype", operand))
        strong = dtype if strong is None or strong == dtype else _promote(strong, dtype)
    if strong is None:
        return (BOOL, INT32, as_dtype(None))[weakest - 1]
    if weakest == 3 and not is_floating(strong):
        return as_dtype(None)
    if weakest == 2 and strong.kind == "b":
        return INT32
    return strong


def _promote(a: np.dtype, b: np.dtype) -> np.dtype:
    if is_floating(a) != is_floating(b):
        return a if is_floating(a) else b
    if a in HALVES and b in HALVES:
        return FLOAT32  # neither holds the numbers of the other
    promoted = np.promote_types(a, b)
    # numpy answers float64 for int64 with uint64; integers stay integers here.
    return promoted if kind_of(promoted) in (kind_of(a), kind_of(b)) else np.dtype("int64")
