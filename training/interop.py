"""Weights from files of other libraries: which kind a file is, and how its names and layouts become ours."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import numpy as np

from ..core import Variable
from ..core.dtypes import BFLOAT16, is_floating
from .keras_files import is_keras_file, keras_weights, read_keras_h5
from .saving import SavedFileError, from_safetensors, naming
from .torch_files import read_torch

__all__ = ["read_keras_h5", "read_safetensors", "read_torch"]

_MAX_INDEX = 64 << 20
# The last part of a weight's name in torch, for the one here.
_TORCH_NAMES = {
    "kernel": "weight",
    "gamma": "weight",
    "embeddings": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def read_safetensors(path: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file, or of all files that an index (.json) lists, by name.

    bfloat16 becomes float32.

    Raises:
        SavedFileError: a file is damaged or hostile, or the index names files outside of its folder.
    """
    path = os.fspath(path)
    if path.endswith(".json"):
        return _read_shards(path)
    with open(path, "rb") as file:
        return _in_single(from_safetensors(path, file.read())[0])


def _read_shards(path: str) -> dict[str, np.ndarray]:
    """The arrays of the files that ``{"weight_map": {name: file}}`` lists, in the same folder."""
    if os.path.getsize(path) > _MAX_INDEX:
        raise SavedFileError(f"{path} is damaged or hostile: an index of {os.path.getsize(path)} bytes.")
    with naming(path), open(path, encoding="utf-8") as file:
        places = json.load(file)["weight_map"]
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise ValueError("weight_map is no object of names of weights and names of files")
        files = sorted(set(places.values()))
    arrays: dict[str, np.ndarray] = {}
    for name in files:
        if not re.fullmatch(r"[\w.-]+\.(safetensors|bin|pt|pth)", str(name)):
            raise SavedFileError(f"{path} is refused: it lists {name!r:.80}, expected files beside it.")
        shard = os.path.join(os.path.dirname(path), name)
        read = read_safetensors if name.endswith(".safetensors") else read_torch
        arrays.update((key, array) for key, array in read(shard).items() if places.get(key) == name)
    missing = sorted(places.keys() - arrays.keys())
    if missing:
        raise SavedFileError(f"{path} lists weights that its files do not hold: {', '.join(missing[:5])}.")
    return arrays


def read_foreign(model: Any, targets: dict[str, Variable], path: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read a file of another library; arrays for ``targets`` get their names, dtypes and layouts.

    Returns the arrays by name and the order in which they were written, as far as it is known.
    """
    if is_keras_file(path):
        found, surplus = keras_weights(model, path)
        arrays = {name: found[weight] for name, weight in targets.items() if weight in found}
        arrays.update(surplus)
        return _cast(targets, arrays), []
    if path.endswith(".json"):
        arrays, order = _read_shards(path), []
    elif _is_zip(path):
        arrays, order = read_torch(path), []
    else:
        with open(path, "rb") as file:
            data = file.read()
        if data[:1] == b"\x80" and data[2:4] != b"\0\0":
            raise SavedFileError(
                f"{path} is a plain pickle, which is not read. If torch wrote it, load it there and "
                "torch.save() its state_dict() again."
            )
        arrays, order = from_safetensors(path, data)
        arrays = _in_single(arrays)
    return _cast(targets, _from_torch(targets, arrays)), order


def _is_zip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def _from_torch(targets: dict[str, Variable], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays under torch's names ("block.conv.weight") for weights that are missing under their own."""
    if set(targets) <= set(arrays):
        return arrays
    remaining = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    result = {}
    for name, target in targets.items():
        layer, _, last = name.rpartition("/")
        theirs = f"{layer}/{_TORCH_NAMES.get(last, last)}".replace("/", ".").lstrip(".")
        if name in remaining:
            result[name] = remaining.pop(name)
        elif theirs in remaining:
            result[name] = _channels_last(remaining.pop(theirs), target) if last == "kernel" else remaining.pop(theirs)
    return {**result, **remaining}


def _channels_last(kernel: np.ndarray, target: Variable) -> np.ndarray:
    """Kernels of torch, (outputs, inputs, ...), with both axes at the end: (..., inputs, outputs)."""
    if kernel.ndim < 2:
        return kernel
    if kernel.shape[1] == 1 and target.shape[-2] * target.shape[-1] == kernel.shape[0] != target.shape[-1]:
        kernel = kernel.reshape(target.shape[-2], target.shape[-1], *kernel.shape[2:]).swapaxes(0, 1)  # depthwise
    return np.ascontiguousarray(np.moveaxis(kernel, (1, 0), (-2, -1)))


def _in_single(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """bfloat16 as float32, which holds each of its numbers and which everybody can compute with."""
    return {name: a.astype(np.float32) if a.dtype == BFLOAT16 else a for name, a in arrays.items()}


def _cast(targets: dict[str, Variable], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Floats in the precision of the model; other dtypes have to agree."""
    return {
        name: array.astype(targets[name].dtype)
        if name in targets and is_floating(array.dtype) and is_floating(targets[name].dtype)
        else array
        for name, array in arrays.items()
    }
