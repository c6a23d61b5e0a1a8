"""Weights from the files that Keras writes, ``.weights.h5``, ``.keras`` and the older ``.h5``; never code.

Keras names a weight by the attributes on the way to it and its number in its layer
("layers/dense_1/vars/0"), where layers in a list are numbered by class. :func:`weight_keys` finds the same
names for a model of ours.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..core import Variable
from ..layers import Layer
from ..layers.serialization import snake_case
from .saving import SavedFileError, naming, open_archive

_MEMBER = "model.weights.h5"
_MAX_DEPTH = 64


def read_keras_h5(path: Any) -> dict[str, np.ndarray]:
    """Return the weights in a Keras file by the names in it: "layers/dense/vars/0" or "dense/kernel".

    Needs h5py. The state of optimizers is left out; a ``.keras`` file's configuration is not looked at.

    Raises:
        SavedFileError: the file is damaged, or points to data outside of itself.
    """
    return _read(os.fspath(path))[0]


# What Keras calls the weights of its layers, in the order in which it numbers them.
_ROLES = {
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "layer_normalization": ("gamma", "beta"),
    "layer_scale": ("gamma",),
    "normalization": ("mean", "variance", "count"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
}


def read_keras_layers(path: Any) -> dict[str, np.ndarray]:
    """Return the weights in a Keras file of a functional model by layer and role: "block1_conv1/kernel".

    Layers without a name of their own are numbered by class from 0 on ("conv2d_0"), whatever number the process that
    made them gave them. The layers may be those of :mod:`keras.applications`.

    Raises:
        SavedFileError: the file is damaged, is of a Keras that did not write names, or has other layers.
    """
    path = os.fspath(path)
    arrays, names = _read(path)
    result = {}
    for key, array in arrays.items():
        place, numbered, number = key.rpartition("/vars/")
        if not numbered:
            layer, _, role = key.rpartition("/")
            lone = role == "depthwise_kernel" and f"{layer}/pointwise_kernel" not in arrays  # as of Keras 2
            result[f"{layer.rpartition('/')[2]}/{'kernel' if lone else role}"] = array
            continue
        kind = re.sub(r"_\d+$", "", place.rpartition("/")[2])
        if place not in names or kind not in _ROLES:
            problem = f"no name for {place}" if place not in names else f"a layer of class {kind}"
            raise SavedFileError(f"{path} has {problem}; expected a model of keras.applications, saved by Keras ≥ 3.7.")
        count = sum(f"{place}/vars/{i}" in arrays for i in range(len(_ROLES[kind])))
        roles = _ROLES[kind][-count:] if kind == "batch_normalization" else _ROLES[kind][:count]
        result[f"{names[place]}/{roles[int(number)]}"] = array
    return _numbered_from_zero(result)


def _numbered_from_zero(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keras goes on counting from model to model: "conv2d_94" may be the first."""
    unnamed: dict[str, set[int]] = {}
    for key in arrays:
        match = re.fullmatch(r"(.+?)(?:_(\d+))?/.*", key)
        if match and match[1] in _ROLES:
            unnamed.setdefault(match[1], set()).add(int(match[2] or 0))
    renamed = {
        f"{kind}_{number}" if number else kind: f"{kind}_{rank}"
        for kind, numbers in unnamed.items()
        for rank, number in enumerate(sorted(numbers))
    }
    split = ((*key.rpartition("/"), array) for key, array in arrays.items())
    return {f"{renamed.get(layer, layer)}/{role}": array for layer, _, role, array in split}


def read_keras_config(path: Any) -> dict[str, Any]:
    """Return what a Keras file says of its model, or {} for one of weights alone.

    Raises:
        SavedFileError: the file is damaged.
    """
    path = os.fspath(path)
    h5py = _h5py(path)
    with open(path, "rb") as file:
        is_archive = file.read(2) == b"PK"
    with naming(path):
        if is_archive:
            with open_archive(path) as archive:
                return json.loads(archive.read("config.json"))["config"]
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            return json.loads(text)["config"] if text is not None else {}


def is_keras_file(path: str) -> bool:
    """Whether a file is one that Keras writes, by how it begins and what is in it."""
    with open(path, "rb") as file:
        start = file.read(4)
    if start != b"PK\3\4":
        return start == b"\x89HDF"
    with naming(path), zipfile.ZipFile(path) as archive:
        return _MEMBER in archive.namelist()


def _h5py(path: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError(f"Reading {path} takes h5py: pip install h5py") from None
    return h5py


def _read(path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The weights, and the names of the layers by their place in the file."""
    h5py = _h5py(path)
    with open(path, "rb") as file:
        is_archive = file.read(2) == b"PK"
    source: Any = path
    if is_archive:
        with open_archive(path) as archive:
            if _MEMBER not in archive.namelist():
                raise SavedFileError(f"{path} is no Keras model: it holds no {_MEMBER}.")
            source = io.BytesIO(archive.read(_MEMBER))
    size = os.path.getsize(path)
    arrays: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}
    with naming(path), h5py.File(source, "r") as file:
        older = "model_weights" in file or "layer_names" in file.attrs
        root = file.get("model_weights", file)
        for key, item in _items(root, h5py):
            if not isinstance(item, h5py.Dataset):
                if key.endswith("/vars") and isinstance(item.attrs.get("name"), str):
                    names[key.removesuffix("/vars")] = item.attrs["name"]
                continue
            if older:  # the group of a layer repeats its name
                key = key.partition("/")[2].removesuffix(":0")
            if item.dtype.kind not in "fiub" or item.external or item.is_virtual or item.nbytes > size:
                raise ValueError(f"{key} has no numbers of its own in it ({item.dtype}{list(item.shape)})")
            if not key.startswith(("optimizer/", "optimizer_weights/")):
                arrays[key] = np.asarray(item)
    return arrays, names


def _items(group: Any, h5py: Any) -> Iterator[tuple[str, Any]]:
    """All groups and datasets below ``group`` with their paths; links to elsewhere and cycles are errors."""
    waiting, seen = [("", group)], set()
    while waiting:
        prefix, group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen or prefix.count("/") > _MAX_DEPTH:
            raise ValueError(f"the group {prefix} contains itself")
        seen.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{prefix}{name} is a link to somewhere else")
            item = group[name]
            yield f"{prefix}{name}", item
            if isinstance(item, h5py.Group):
                waiting.append((f"{prefix}{name}/", item))


def keras_weights(model: Any, path: str) -> tuple[dict[Variable, np.ndarray], dict[str, np.ndarray]]:
    """Find the array of each weight of ``model`` in a Keras file; also returns the arrays for no weight."""
    arrays, names = _read(path)
    arrays = {_plain(key): array for key, array in arrays.items() if "seed_generator/" not in key}
    names = {_plain(key): name for key, name in names.items()}
    if any("vars/" in key for key in arrays):
        keys = dict(weight_keys(model, names))
    else:
        keys = {weight.path.removeprefix(f"{model.name}/"): weight for weight in model.weights}
    found = {weight: arrays.pop(key) for key, weight in keys.items() if key in arrays}
    return found, arrays


def _plain(key: str) -> str:
    """A key without the underscores of private attributes."""
    return "/".join(part.lstrip("_") for part in key.split("/"))


def weight_keys(
    layer: Layer, names: dict[str, str], prefix: str = "", seen: set | None = None
) -> Iterator[tuple[str, Variable]]:
    """The weights of ``layer`` with the keys under which Keras keeps them.

    ``names`` are the names of the layers in the file by key: where the layers of a list have these names
    they are found by them, else by class and order.
    """
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    own = layer._own_weights()
    trained = [weight for weight in own if weight.trainable or weight in layer._frozen]
    for number, weight in enumerate([*trained, *(weight for weight in own if weight not in trained)]):
        yield f"{prefix}vars/{number}", weight
    if getattr(layer, "inputs", None) is not None or hasattr(layer, "_stack"):
        yield from _list_keys(layers_by_depth(layer), names, f"{prefix}layers/", seen)
        return
    for attribute, value in sorted(layer._tracked.items(), key=lambda item: item[0].lstrip("_")):
        place = f"{prefix}{attribute.lstrip('_')}/"
        if isinstance(value, Layer):
            yield from weight_keys(value, names, place, seen)
        elif isinstance(value, (list, tuple, dict)):
            yield from _list_keys(value, names, place, seen)


def _list_keys(values: Any, names: dict[str, str], prefix: str, seen: set) -> Iterator[tuple[str, Variable]]:
    values = list(values.values()) if isinstance(values, dict) else list(values)
    by_name = {name: key for key, name in names.items() if key.startswith(prefix) and "/" not in key[len(prefix) :]}
    layers = [value for value in values if isinstance(value, Layer)]
    named = all(layer.name in by_name for layer in layers if layer.weights)
    used: dict[str, int] = {}
    for value in values:
        stem = snake_case(type(value).__name__) if isinstance(value, Layer) else "container"
        count = used[stem] = used.get(stem, -1) + 1
        place = f"{prefix}{stem}_{count}/" if count else f"{prefix}{stem}/"
        if isinstance(value, Layer):
            place = f"{by_name[value.name]}/" if named and value.name in by_name else place
            yield from weight_keys(value, names, place, seen)
        elif isinstance(value, (list, tuple, dict)):
            yield from _list_keys(value, names, place, seen)


def layers_by_depth(model: Any) -> list[Layer]:
    """The layers of a model in Keras's order: the farther from the outputs the earlier."""
    nodes = getattr(model, "nodes", None)
    if hasattr(model, "_stack") or nodes is None:
        return model.layers
    indices, finished = _visits(leaf.node for leaf in model.outputs)
    depths: dict[int, int] = {}
    of_target: dict[int, int] = {}
    for node in reversed(finished):
        depth = max(depths.get(id(node), 0), of_target.get(id(node.target), 0))
        of_target[id(node.target)] = depth
        for leaf in node.inputs:
            depths[id(leaf.node)] = max(depth + 1, depths.get(id(leaf.node), 0))
    layers = {id(node.target): node.target for node in finished if isinstance(node.target, Layer)}
    return sorted(layers.values(), key=lambda layer: (-of_target[id(layer)], indices[id(layer)]))


def _visits(ends: Iterable) -> tuple[dict[int, int], list]:
    """Walk back from ``ends``: the order in which targets are met, and that in which calls are finished."""
    indices: dict[int, int] = {}
    finished: dict[int, Any] = {}
    stack = [(node, False) for node in reversed(list(ends))]
    while stack:
        node, done = stack.pop()
        if done:
            finished.setdefault(id(node), node)
        elif id(node) not in finished:
            indices.setdefault(id(node.target), len(indices))
            stack.append((node, True))
            stack.extend((leaf.node, False) for leaf in reversed(node.inputs))
    return indices, list(finished.values())
