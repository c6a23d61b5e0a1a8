"""Model files: a zip of JSON and safetensors, replaced whole or not at all, read without executing anything.

``model.tenzoo`` holds ``tenzoo.json`` (configs of the model and of ``compile``), ``weights.safetensors`` and
``optimizer.safetensors``. Members are stored uncompressed: nothing can unpack to more than the file's size.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ..core import Tensor, Variable
from ..core.dtypes import BFLOAT16
from ..core.errors import unknown
from ..core.files import write_atomically
from ..layers.layer import blank_weights
from ..layers.serialization import custom_object_scope, deserialize, serialize

FORMAT = 1
_CONFIG, _WEIGHTS, _OPTIMIZER, _STATE = (
    "tenzoo.json",
    "weights.safetensors",
    "optimizer.safetensors",
    "state.safetensors",
)
_MAX_JSON = 256 << 20
_MAX_HEADER = 100 << 20
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


class SavedFileError(ValueError):
    """A model, weight or backup file that is damaged, hostile, or does not fit; the message names it."""


# Models


def save_model(model: Any, path: Any, overwrite: bool = True, include_optimizer: bool = True) -> None:
    """Write ``model`` to ``path``: architecture, weights, and what :func:`load_model` needs to train on.

    The file is written beside its place and then moved there: a crash leaves the old file or the new one.
    """
    path = _target(path, overwrite)
    if not model.weights and not model.built:
        raise ValueError(f"Model '{model.name}' has no weights yet, so there is nothing to save: call it once first.")
    config = {
        "format": FORMAT,
        "model": serialize(model),
        "input": serialize(model._input_specs),
        "compile": _compile_config(model),
    }
    members = {_CONFIG: _to_json(config), _WEIGHTS: _to_safetensors(_named_weights(model))}
    if include_optimizer and model.compiled and model.optimizer.built:
        members[_OPTIMIZER] = _to_safetensors({v.path: v for v in model.optimizer.variables})
    _write_archive(path, members)


def _compile_config(model: Any) -> Any:
    if model._compile_arguments is None:
        return None
    try:
        return serialize(model._compile_arguments)
    except TypeError as error:
        warnings.warn(
            f"What the model was compiled with cannot be saved, so compile it again after loading: {error}",
            stacklevel=4,
        )
        return None


def _compile(model: Any, arguments: dict[str, Any]) -> None:
    if set(arguments) <= set(inspect.signature(model.compile).parameters):
        model.compile(**arguments)
    else:
        warnings.warn(
            f"{type(model).__name__}.compile() has arguments of its own: compile the model after loading.",
            stacklevel=4,
        )


def load_model(path: Any, custom_objects: dict[str, Any] | None = None, compile: bool = True) -> Any:
    """Read a model that :meth:`Model.save` wrote, with its weights and, with ``compile``, its optimizer.

    Args:
        custom_objects: your own classes and functions by name, unless they are registered.

    Raises:
        SavedFileError: the file is damaged, names unknown classes, or its weights do not fit.
    """
    path = os.fspath(path)
    members = _read_archive(path, {_CONFIG, _WEIGHTS}, {_OPTIMIZER})
    config = _from_json(path, members[_CONFIG])
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise SavedFileError(f"{path} is not a model file of format {FORMAT}: it may come from a newer version.")
    arrays, order = from_safetensors(path, members[_WEIGHTS])
    numbers = sum(array.size for array in arrays.values())
    room = blank_weights(10_000 + 100 * len(arrays), 1e6 + 2 * numbers)  # no honest model needs that much
    with naming(path), custom_object_scope(custom_objects), room:
        model = deserialize(config.get("model"))
        if not hasattr(model, "load_weights"):
            raise ValueError(f"it holds no model but {model!r:.80}")
        if not model.built and config.get("input") is not None:
            model.build_as_before(deserialize(config["input"]))
        if compile and config.get("compile") is not None:
            _compile(model, deserialize(config["compile"]))
    _assign(path, _named_weights(model), arrays, order, skip_mismatch=False)
    if model.compiled and _OPTIMIZER in members:
        model.optimizer.build(model.trainable_variables)
        targets = {variable.path: variable for variable in model.optimizer.variables}
        _assign(path, targets, *from_safetensors(path, members[_OPTIMIZER]), skip_mismatch=False)
    return model


# Weights


def save_weights(model: Any, path: Any, overwrite: bool = True) -> None:
    """Write the weights to a safetensors file, by path."""
    if not model.weights and not model.built:
        raise ValueError(f"Model '{model.name}' has no weights yet: call it once before save_weights().")
    data = _to_safetensors(_named_weights(model))
    write_atomically(_target(path, overwrite), lambda file: file.write(data))


def load_weights(model: Any, path: Any, skip_mismatch: bool = False) -> None:
    """Read weights from a safetensors file, a model file, or a file of Keras or torch.

    Every weight of the model must be in the file, in its shape and dtype, and nothing else may be; otherwise
    nothing is changed. With ``skip_mismatch`` what does not fit is left out, with a warning. Numbers that
    made names of layers unique ("dense_3") need not agree if the order of the layers does. In files of other
    libraries floats may be of another precision; see :mod:`interop` for their names.
    """
    path = os.fspath(path)
    if not model.weights and not model.built:
        raise ValueError(f"Model '{model.name}' has no weights yet: call it on some data before load_weights().")
    targets = _named_weights(model)
    if _is_own(path):
        data = _read_archive(path, {_WEIGHTS}, {_CONFIG, _OPTIMIZER})[_WEIGHTS]
        arrays, order = from_safetensors(path, data)
    else:
        from .interop import read_foreign

        arrays, order = read_foreign(model, targets, path)
    _assign(path, targets, arrays, order, skip_mismatch)


def _is_own(path: str) -> bool:
    """Whether a file is a zip with weights as :func:`save_model` writes them."""
    if not zipfile.is_zipfile(path):
        return False
    with naming(path), zipfile.ZipFile(path) as archive:
        return not any(name.endswith(("data.pkl", ".weights.h5")) for name in archive.namelist())


def _named_weights(model: Any) -> dict[str, Variable]:
    """The weights by path below the model; a number makes a repeated path unique."""
    named: dict[str, Variable] = {}
    for weight in model.weights:
        base = name = weight.path.removeprefix(f"{model.name}/")
        count = 1
        while name in named:
            count += 1
            name = f"{base}:{count}"
        named[name] = weight
    return named


def _assign(path: str, targets: dict[str, Variable], arrays: dict, order: list[str], skip_mismatch: bool) -> None:
    """Give each target its array, all or none."""
    if set(targets) != set(arrays) and set(order) == set(arrays):
        plain, found = _without_numbers(list(targets)), _without_numbers(order)
        if set(plain) == set(found):
            arrays = dict(zip(found, (arrays[name] for name in order)))
            targets = dict(zip(plain, targets.values()))
    problems = [f"missing: {name}, {_spec(targets[name])}" for name in targets if name not in arrays]
    problems += [
        f"unknown: {name}, {_spec(arrays[name])}{_near(name, targets)}" for name in arrays if name not in targets
    ]
    fitting = {}
    for name in targets.keys() & arrays.keys():
        target, array = targets[name], arrays[name]
        if array.dtype == BFLOAT16 and target.dtype == np.float32:
            array = array.astype(np.float32)  # which holds each of its numbers
        if (target.shape, target.dtype) == (array.shape, array.dtype):
            fitting[name] = array
        else:
            problems.append(f"{name}: the model has {_spec(target)}, the file {_spec(array)}")
    if problems:
        shown = "".join(f"\n  {problem}" for problem in problems[:20])
        more = f"\n  … and {len(problems) - 20} more" if len(problems) > 20 else ""
        message = f"{path} does not fit the model.{shown}{more}"
        if not skip_mismatch:
            raise SavedFileError(f"{message}\nskip_mismatch=True loads what fits.")
        warnings.warn(f"{message}\nThese were skipped.", stacklevel=4)
    for name, array in fitting.items():
        targets[name].assign(array)


def _spec(value: Any) -> str:
    return f"{value.dtype.name}{list(value.shape)}"


def _near(name: str, known: Any) -> str:
    hint = re.search(r"Did you mean [^?]*\?", str(unknown("weight", name, known)))
    return f" ({hint.group()})" if hint else ""


def _without_numbers(names: list[str]) -> list[str]:
    """Number layers among those of one stem: dense_7/bias, dense_9/bias -> dense#0/bias, dense#1/bias."""
    renamed: dict[str, dict[str, str]] = {}
    results = []
    for name in names:
        *layers, weight = name.split("/")
        parent = ""
        for layer in layers:
            siblings = renamed.setdefault(parent, {})
            if layer not in siblings:
                stem = re.sub(r"_\d+$", "", layer)
                siblings[layer] = f"{stem}#{sum(known.split('#')[0] == stem for known in siblings.values())}"
            parent += siblings[layer] + "/"
        results.append(parent + weight)
    return results


# The state of a fit


def write_state(path: str, state: Any) -> None:
    """Write a tree of numbers, text and arrays."""
    arrays: dict[str, np.ndarray] = {}

    def pack(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, (np.ndarray, Tensor)):
            arrays[str(len(arrays))] = np.asarray(value)
            return {"$array": str(len(arrays) - 1)}
        if isinstance(value, dict):
            return {str(key): pack(item) for key, item in value.items()}
        return [pack(item) for item in value] if isinstance(value, (list, tuple)) else value

    _write_archive(path, {_CONFIG: _to_json(pack(state)), _STATE: _to_safetensors(arrays)})


def read_state(path: str) -> Any:
    """Read what :func:`write_state` wrote; tuples come back as lists."""
    members = _read_archive(path, {_CONFIG, _STATE}, set())
    arrays, _ = from_safetensors(path, members[_STATE])

    def unpack(value: Any) -> Any:
        if isinstance(value, dict):
            return arrays[value["$array"]] if "$array" in value else {key: unpack(item) for key, item in value.items()}
        return [unpack(item) for item in value] if isinstance(value, list) else value

    with naming(path):
        return unpack(_from_json(path, members[_CONFIG]))


# Files


def _target(path: Any, overwrite: bool) -> str:
    path = os.fspath(path)
    if not overwrite and os.path.exists(path):
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it.")
    return path


def _write_archive(path: str, members: dict[str, bytes]) -> None:
    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data)  # a fixed date: same model, same bytes

    write_atomically(path, write)


def _read_archive(path: str, required: set[str], optional: set[str]) -> dict[str, bytes]:
    """Return the members of a zip that has these and no others."""
    with open_archive(path) as archive:
        names = archive.namelist()
        if not required <= set(names) <= required | optional:
            raise SavedFileError(
                f"{path} is not the kind of file expected: it holds {sorted(names)[:10]}, expected "
                f"{sorted(required)}" + (f" and perhaps {sorted(optional)}." if optional else ".")
            )
        return {name: archive.read(name) for name in names}


@contextlib.contextmanager
def open_archive(path: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip whose members are stored as they are, each once, under names that stay inside of it."""
    size = os.path.getsize(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) != len(names):
                raise SavedFileError(f"{path} is damaged or hostile: it holds {sorted(names)}, some of them twice.")
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size or entry.flag_bits & 1:
                    raise SavedFileError(
                        f"{path} is damaged or hostile: {entry.filename} is compressed, encrypted, or larger "
                        "than the file."
                    )
                if entry.filename.startswith("/") or ".." in re.split(r"[/\\]", entry.filename):
                    raise SavedFileError(f"{path} is hostile: its member {entry.filename!r} leads out of it.")
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, KeyError) as error:
        if isinstance(error, SavedFileError):
            raise
        raise SavedFileError(f"{path} is truncated, damaged, or no tenzoo file: {error}") from error


def _to_json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _from_json(path: str, data: bytes) -> Any:
    if len(data) > _MAX_JSON:
        raise SavedFileError(f"{path} is damaged or hostile: its JSON has {len(data)} bytes.")
    with naming(path):
        return json.loads(data)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Let whatever goes wrong with the contents of a file name the file."""
    try:
        yield
    except SavedFileError:
        raise
    except RecursionError:
        raise SavedFileError(f"{path} is damaged or hostile: it is nested too deeply.") from None
    except Exception as error:
        raise SavedFileError(f"{path} cannot be loaded: {error or type(error).__name__}") from error


def _to_safetensors(named: dict[str, Any]) -> bytes:
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in named.items()}
    return save(arrays, metadata={"order": json.dumps(list(named))})


def from_safetensors(path: str, data: bytes) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays by name, and their names in the order in which they were written, if it is known."""
    from safetensors import deserialize as parse

    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, _MAX_HEADER):
        raise SavedFileError(
            f"{path} is truncated, damaged, or no safetensors file: its header would have {length} bytes, of "
            f"{len(data)}."
        )
    with naming(path):
        header = json.loads(data[8 : 8 + length])
        order = json.loads(header.get("__metadata__", {}).get("order", "[]"))
        arrays = {name: _array(name, part) for name, part in parse(data)}
        return arrays, [str(name) for name in order]


def from_bfloat16(data: bytes) -> np.ndarray:
    """The values of little-endian bfloat16 as float32, which holds each of them exactly.

    >>> from_bfloat16(bytes([0x80, 0x3F, 0x00, 0xC0])).tolist()
    [1.0, -2.0]
    """
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def _array(name: str, part: dict[str, Any]) -> np.ndarray:
    if part["dtype"] == "BF16":
        values = np.frombuffer(part["data"], BFLOAT16)
    elif part["dtype"] in _DTYPES:
        values = np.frombuffer(part["data"], _DTYPES[part["dtype"]])
    else:
        raise ValueError(f"{name} has the dtype {part['dtype']}; known are BF16, {', '.join(_DTYPES)}")
    return values.reshape(part["shape"])
