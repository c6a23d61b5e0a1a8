"""Arrays out of MATLAB's files, version 5 (.mat): numbers only, checked, and nothing is executed.

The format is described in "MAT-File Format", MathWorks.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import DataError

HEADER = 128  # bytes: text, version and byte order
COMPRESSED, MATRIX = 15, 14
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # as stored
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}  # as meant
COMPLEX = 0x0800
LARGEST = 2**31  # bytes of a variable; the largest of a known dataset has 1.6 billion


def read_mat(path: Path, *names: str) -> list[np.ndarray]:
    """Return the named variables, arrays of real numbers, from a .mat file of version 5 (MATLAB 5 to 7).

    Raises:
        DataError: for a file of another format, a damaged one, and one without these variables.
    """
    try:
        content = memoryview(Path(path).read_bytes())
        order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]))
        if order is None or struct.unpack(order + "H", content[124:126])[0] != 0x0100:
            raise ValueError("it does not begin as one")
        found = dict(_variables(content[HEADER:], order))
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"it holds no array {', '.join(missing)}, but {', '.join(found) or 'none'}")
        return [found[name] for name in names]
    except (OSError, ValueError, struct.error, zlib.error) as error:
        raise DataError(
            f"{path} is no MATLAB file of version 5 with {', '.join(names)}, or damaged: {error}"
        ) from error


def _variables(content: memoryview, order: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and value of each numeric array; others are passed over."""
    while content:
        kind, data, content = _element(content, order)
        if kind == COMPRESSED:
            data = _inflated(data, order)
            kind, data, _ = _element(data, order)
        if kind == MATRIX and (variable := _matrix(data, order)):
            yield variable


def _inflated(data: memoryview, order: str) -> memoryview:
    """Return one compressed element; never more than its tag announces."""
    stream = zlib.decompressobj()
    tag = stream.decompress(data, 8)
    size = struct.unpack(order + "II", tag)[1]
    if size > LARGEST:
        raise ValueError(f"a variable announces {size} bytes")
    return memoryview(tag + stream.decompress(stream.unconsumed_tail, size))


def _element(content: memoryview, order: str) -> tuple[int, memoryview, memoryview]:
    """Return type and data of the first element, and what follows it."""
    kind, size = struct.unpack(order + "II", content[:8])
    begin = 8
    if kind >> 16:  # a small one: size and type share four bytes, the data have the others
        kind, size, begin = kind & 0xFFFF, kind >> 16, 4
    end = begin + size
    if end > (8 if begin == 4 else len(content)):
        raise ValueError("an element is longer than what is left for it")
    padding = 0 if kind == COMPRESSED else -end % 8
    return kind, content[begin:end], content[end + padding :]


def _matrix(data: memoryview, order: str) -> tuple[str, np.ndarray] | None:
    """Return name and value of an array, None for one of text, structures, cells or complex numbers."""
    _, flags, data = _element(data, order)
    (flags_word,) = struct.unpack(order + "I", flags[:4])
    _, shape, data = _element(data, order)
    _, name, data = _element(data, order)
    dtype = CLASSES.get(flags_word & 0xFF)
    if dtype is None or flags_word & COMPLEX:
        return None
    dimensions = tuple(int(extent) for extent in np.frombuffer(shape, order + "i4"))
    kind, values, _ = _element(data, order)
    if kind not in NUMBERS or min(dimensions, default=0) < 0:
        raise ValueError(f"numbers of type {kind} in an array of shape {dimensions}")
    array = np.frombuffer(values, order + NUMBERS[kind])
    if array.size != math.prod(dimensions):
        raise ValueError(f"{array.size} values for an array of shape {dimensions}")
    return bytes(name).decode("latin1"), array.astype(dtype, copy=False).reshape(dimensions, order="F")
