"""Files of ``torch.save``: the tensors in them, and nothing else of what a pickle could do."""

from __future__ import annotations

import io
import itertools
import math
import os
import pickle
import pickletools
import zipfile
from typing import Any

import numpy as np

from .saving import SavedFileError, from_bfloat16, naming, open_archive

# All that torch writes around tensors. None of these runs anything but what _Tensors.find_class allows.
_OPCODES = """
    PROTO STOP MARK GLOBAL REDUCE BUILD BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1
    BINFLOAT BINUNICODE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS
    SETITEM SETITEMS BINPUT LONG_BINPUT BINGET LONG_BINGET
"""
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# Where checkpoints keep the weights, if not at the top.
_WEIGHTS_KEYS = ("state_dict", "model_state_dict", "model", "module", "weights", "params")


def read_torch(path: Any) -> dict[str, np.ndarray]:
    """Return the tensors of a file by ``torch.save`` (.pt, .pth, .bin; of torch 1.6 or later) by name.

    A state dict may lie under "state_dict", "model" or the like; what else a checkpoint holds is left out.
    Arrays are read-only; bfloat16 becomes float32. The pickle inside may name tensors, storages and
    dictionaries alone: nothing that it says is executed.

    Raises:
        SavedFileError: the file is damaged, holds other objects, or is of another kind.
    """
    path = os.fspath(path)
    with open_archive(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(pickles) != 1:
            raise SavedFileError(f"{path} is no file of torch: it holds {names[:5]}, and no data.pkl.")
        prefix = pickles[0].removesuffix("data.pkl")
        order = f"{prefix}byteorder"
        if order in names and archive.read(order) != b"little":
            raise SavedFileError(f"{path} was written on a big-endian machine, which is not supported.")
        program = archive.read(pickles[0])
        _check_program(path, program)
        with naming(path):
            tree = _Tensors(program, archive, prefix).load()
    return _state_dict(path, tree)


def _check_program(path: str, program: bytes) -> None:
    """Refuse a pickle with instructions that no tensor needs, or that would reserve memory at will."""
    allowed = set(_OPCODES.split())
    with naming(path):
        for opcode, argument, _ in pickletools.genops(program):
            stores = opcode.name in ("BINPUT", "LONG_BINPUT")
            if opcode.name not in allowed or (stores and argument > len(program)):
                raise SavedFileError(
                    f"{path} is refused: its pickle has the instruction {opcode.name}, and only tensors are "
                    "read. Save the state_dict() instead."
                )


class _Mapping(dict):
    """Stands for OrderedDict; what torch attaches to it (versions of modules) is left out."""

    def __setstate__(self, state: Any) -> None: ...


class _Tensors(pickle.Unpickler):
    """An unpickler that knows tensors, and refuses every other name."""

    def __init__(self, program: bytes, archive: zipfile.ZipFile, prefix: str):
        super().__init__(io.BytesIO(program))
        self._archive = archive
        self._prefix = prefix
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): _Mapping,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
            ("torch", "Size"): tuple,
        }
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) not in known:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, and only tensors are read from it. Save the state_dict() instead."
            )
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(key, str) or not key.isdigit():
            raise ValueError(f"it refers to {pid!r:.80}, which is no storage")
        if key not in self._storages:
            data = self._archive.read(f"{self._prefix}data/{key}")
            self._storages[key] = from_bfloat16(data) if dtype == "bfloat16" else np.frombuffer(data, dtype)
        storage = self._storages[key]
        if len(storage) != count:
            raise ValueError(f"storage {key} has {len(storage)} values, not {count!r:.40}")
        return storage


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
    """A view into a storage, after a check that it stays inside."""
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, np.ndarray) or not all(type(n) is int and 0 <= n < 1 << 48 for n in numbers):
        raise ValueError(f"a tensor has the impossible shape {shape!r:.80}, strides {strides!r:.80}")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    if last >= len(storage) or math.prod(shape) > len(storage):
        raise ValueError(f"a tensor of shape {shape!r:.80} does not fit its storage of {len(storage)} values")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _state_dict(path: str, tree: Any) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint by name, with dots between the names of nested dictionaries."""
    if isinstance(tree, dict) and not any(isinstance(value, np.ndarray) for value in tree.values()):
        tree = next((tree[key] for key in _WEIGHTS_KEYS if isinstance(tree.get(key), dict)), tree)
    found: dict[str, np.ndarray] = {}
    waiting = [("", tree)] if isinstance(tree, dict) else []
    for _ in itertools.repeat(None, 1 << 20):
        if not waiting:
            break
        prefix, level = waiting.pop()
        for name, value in level.items():
            if isinstance(value, np.ndarray):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, dict):
                waiting.append((f"{prefix}{name}.", value))
    if not found:
        raise SavedFileError(f"{path} holds no dictionary of tensors; expected a state_dict().")
    return found
