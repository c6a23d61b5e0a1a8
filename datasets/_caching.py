"""Elements kept from the first pass, in memory or in a file."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..core import pytree
from ._sources import Node, as_array
from .errors import DataError

MAGIC = b"TENZOO-CACHE-1\n"


class Cache(Node):
    """The elements of epoch 0, kept in memory from the first complete pass on."""

    def __init__(self, parent: Node):
        self._parent = parent
        self._kept: list | None = None
        self.cardinality = parent.cardinality

    def elements(self, epoch, start):
        # Always epoch 0 of the parent: a process that resumes with an empty cache must see the same elements.
        if self._kept is None and start:
            yield from self._parent.elements(0, start)
        elif self._kept is None:
            kept = []
            for element in self._parent.elements(0, 0):
                kept.append(element)
                yield element
            self._kept, self.cardinality = kept, len(kept)
        else:
            for number in range(start, len(self._kept)):
                yield self._kept[number]


class FileCache(Node):
    """The elements of epoch 0, kept in a file that the first complete pass writes.

    The file holds the leaves in numpy's own format, one after the other, then a JSON index. Nothing in it
    is executed.
    """

    def __init__(self, parent: Node, path: str | os.PathLike):
        self._parent, self._path = parent, Path(path)
        self.cardinality = parent.cardinality

    def elements(self, epoch, start):
        if self._path.exists():
            yield from self._read(start)
        elif start:
            yield from self._parent.elements(0, start)
        else:
            yield from self._write()

    def _write(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name, suffix=".part")
        try:
            with open(descriptor, "wb") as file:
                file.write(MAGIC)
                index = []
                for element in self._parent.elements(0, 0):
                    index.append((file.tell(), _describe(element)))
                    for leaf in pytree.flatten(element):
                        np.save(file, as_array(leaf), allow_pickle=False)
                    yield element
                footer = json.dumps(index).encode()
                file.write(footer + struct.pack("<Q", len(footer)) + MAGIC)
            os.replace(temporary, self._path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _read(self, start):
        with open(self._path, "rb") as file:
            try:
                index = _read_index(file)
                for offset, description in index[start:]:
                    file.seek(offset)
                    like = _rebuild(description)
                    leaves = [np.load(file, allow_pickle=False)[()] for _ in pytree.flatten(like)]
                    yield pytree.unflatten(like, leaves)
            except (ValueError, KeyError, TypeError, EOFError, OSError, struct.error) as error:
                raise DataError(f"{self._path} is no cache file, or damaged ({error}). Delete it.") from error


def _read_index(file) -> list:
    tail = len(MAGIC) + 8
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - tail))
    length, magic = struct.unpack(f"<Q{len(MAGIC)}s", file.read(tail))
    if magic != MAGIC or length > size - tail:
        raise ValueError("it does not end as one")
    file.seek(size - tail - length)
    return json.loads(file.read(length))


def _describe(element: Any) -> Any:
    """Describe a tree in JSON: a leaf is "*", a tuple {"tuple": […]}, a dict {"dict": {…}}."""
    if isinstance(element, tuple):
        return {"tuple": [_describe(child) for child in element]}
    if isinstance(element, list):
        return [_describe(child) for child in element]
    if isinstance(element, dict):
        return {"dict": {key: _describe(child) for key, child in element.items()}}
    return None if element is None else "*"


def _rebuild(description: Any) -> Any:
    if isinstance(description, list):
        return [_rebuild(child) for child in description]
    if isinstance(description, dict) and "tuple" in description:
        return tuple(_rebuild(child) for child in description["tuple"])
    if isinstance(description, dict):
        return {key: _rebuild(child) for key, child in description["dict"].items()}
    return description
