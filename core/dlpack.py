"""DLPack of bfloat16, which numpy does not export: a capsule of its bits, in which the dtype is set right."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

_BFLOAT = 4  # kDLBfloat in dlpack.h, where the layout of the two structs stands as well
_DTYPE_AT = {b"dltensor": 20, b"dltensor_versioned": 52}  # bytes before the dtype: in a DLTensor 20, after 32 or none


def bfloat16_capsule(array: np.ndarray, **options: Any) -> Any:
    """What ``array.__dlpack__(**options)`` would return if numpy knew bfloat16. The memory is shared."""
    capsule = array.view(np.uint16).__dlpack__(**options)
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype = ctypes.c_char_p
    python.PyCapsule_GetName.argtypes = [ctypes.py_object]
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    name = python.PyCapsule_GetName(capsule)
    place = python.PyCapsule_GetPointer(capsule, name) + _DTYPE_AT[name]
    ctypes.c_uint8.from_address(place).value = _BFLOAT
    return capsule
