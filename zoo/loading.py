"""Trained models from folders and files: what wrote them is found out, the model built, the weights put in."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import unknown
from ..layers.layer import blank_weights
from ..training import interop, load_model
from ..training.keras_files import is_keras_file, read_keras_config, read_keras_layers
from ..training.saving import from_safetensors
from . import hub, registry
from .conversion import (
    CheckpointError,
    count_known,
    fill,
    fold_biases,
    missing_head,
    named_weights,
    their_names,
    usual_names,
)
from .registry import Converter, ModelInfo, Weights

_TORCH_FILES = (".bin", ".pt", ".pth")

logger = logging.getLogger("tenzoo.zoo")


def load(source: str | os.PathLike, options: dict[str, Any]) -> Any:
    """See :func:`tenzoo.zoo.load`."""
    if str(source).startswith("hf://"):
        return _from_folder(hub.fetch(str(source)), str(source), options)
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, str(path), options)
    if not path.exists():
        raise CheckpointError(f"There is neither a file nor a folder {source}; {_instead(str(source))}.")
    if is_keras_file(str(path)):
        return _from_keras_file(path, options)
    if path.suffix in (".safetensors", *_TORCH_FILES):
        raise CheckpointError(_weights_alone(path))
    surplus = sorted(options.keys() - {"classes", "features_only"})
    if surplus:
        raise TypeError(
            f"A model that was saved whole takes the options classes and features_only; received {', '.join(surplus)} "
            f"for {path}."
        )
    model = load_model(path)
    if options and not hasattr(model, "replace_head"):
        raise TypeError(f"{path} holds a {type(model).__name__}, no classifier of the zoo; it takes no options.")
    return _adapted(model, options)


def _instead(source: str) -> str:
    """What was meant by the name of a model that is not on this disk."""
    if source in registry.names():
        return f"the model of the zoo is made by tz.zoo.create({source!r}, weights=...)"
    address = re.fullmatch(r"(?:https?://huggingface\.co/)?([\w.-]+/[\w.-]+)/?", source)
    return f"a model of the hub is {f'hf://{address[1]}' if address else 'hf://owner/name'}"


def _weights_alone(path: Path) -> str:
    return f"{path} holds weights alone; name their model: tz.zoo.create(name, weights={str(path)!r})."


def create_pretrained(entry: ModelInfo, weights: Weights, options: dict[str, Any]) -> Any:
    """A model of the zoo with weights from its table."""
    folder = hub.fetch(weights.source)
    config = _read_json(folder / hub.CONFIG)
    converter = _converter_for(config, str(folder))
    model = _trained(entry.create, read_weights(folder), converter, weights.source, options, weights.classes)
    facts = _facts(model, folder, config, weights.source)
    _describe(model, {**facts, "license": weights.license})
    return model


def create_from_file(entry: ModelInfo, path: Path, options: dict[str, Any]) -> Any:
    """A model of the zoo with weights from a file or folder, under our names or those of another library."""
    if path.is_file() and is_keras_file(str(path)):
        converters = [converter for converter in registry.family_converters(entry) if converter.format == "keras"]
        if not converters:
            raise CheckpointError(f"{path} is of Keras, whose names for the weights of {entry.name} are not known.")
        return _from_keras(converters[0], {"name": entry.name}, path, options)
    settings = {**options, "features_only": False}
    with blank_weights():
        model = entry.create(**settings)
        classes = None if path.is_dir() else _own_classes(model, path)
        if classes is not None:
            model = entry.create(**settings | {"classes": classes})
    if classes is not None:
        model.load_weights(path)
        return _adapted(model, options)
    tensors = read_weights(path) if path.is_dir() else _read_tensors(path)
    converters = [converter for converter in registry.family_converters(entry) if converter.format != "keras"]
    if not converters:
        raise CheckpointError(f"{path} does not fit {entry.name}, and no other names of its weights are known.")
    converter = max(converters, key=lambda candidate: count_known(model, tensors, candidate))
    if (path / hub.CONFIG).is_file():  # names alone do not tell in which framework it was trained
        described = _converter_for(_read_json(path / hub.CONFIG), str(path))
        converter = described if described in converters else converter
    return _trained(functools.partial(entry.create, **converter.defaults), tensors, converter, str(path), options)


def _from_keras_file(path: Path, options: dict[str, Any]) -> Any:
    """A model of keras.applications that Keras saved whole."""
    config = read_keras_config(path)
    if not config:
        raise CheckpointError(_weights_alone(path))
    name = re.sub(r"_\d+$", "", str(config.get("name")))  # mobilenet_1.00_224
    converter = registry.find_converter("keras", name)
    if converter is None:
        known = registry.known_formats("keras")
        raise CheckpointError(f"{path}: {unknown('model of keras.applications', name, known)}")
    with _naming(str(path)):
        first = config["layers"][0]["config"]
        _, height, _, channels = first.get("batch_shape") or first["batch_input_shape"]
    settings = {"channels": channels} | ({"image_size": height} if height else {})
    return _from_keras(converter, {"name": name}, path, settings | options)


def _from_keras(converter: Converter, config: dict[str, Any], path: Path, options: dict[str, Any]) -> Any:
    """A model of the zoo in the form that Keras gives it, with weights from a file."""
    tensors = fold_biases(read_keras_layers(path))

    def make(**settings: Any) -> Any:
        with _naming(str(path)):
            model = converter.build(config, **settings)
            model.build_default()
        return model

    model = _trained(make, tensors, converter, str(path), options)
    model.card.source = str(path)
    return model


def _own_classes(model: Any, path: Path) -> int | None:
    """For how many classes the weights in a file of ours are; None for a file of another library."""
    if path.suffix == ".tenzoo":
        return getattr(load_model(path), "classes", model.classes)
    if path.suffix in (*_TORCH_FILES, ".json"):
        return None
    _refuse_other_kinds(path)
    arrays, order = from_safetensors(str(path), path.read_bytes())
    if not order:
        return None
    place = [weight is model.classifier.bias for weight in model.weights].index(True)
    bias = arrays[order[place]] if place < len(order) else None
    return model.classes if bias is None or bias.ndim != 1 else bias.size


def _trained(
    make: Callable[..., Any],
    tensors: Mapping[str, np.ndarray],
    converter: Converter,
    source: str,
    options: dict[str, Any],
    classes: int | None = None,
) -> Any:
    """A model filled with ``tensors``, whose head then becomes what the options ask for.

    Args:
        make: makes the model from options.
        classes: for how many the tensors are trained; None if the tensors have to tell.
    """
    settings = {**options, "features_only": False} | ({"classes": classes} if classes else {})
    with blank_weights():
        model = make(**settings)
        tensors = usual_names(model, tensors, converter)
        if not classes and (trained := _classes_of(model, tensors, converter)) not in (None, model.classes):
            model = make(**settings | {"classes": trained})
    missing = missing_head(model, tensors, converter)
    if missing and not options.get("features_only"):
        if "classes" not in options:
            raise CheckpointError(
                f"{source} has no weights for the head of {type(model).__name__} ({', '.join(missing)}): give the "
                "number of classes for one that starts anew, as in classes=10, or features_only=True."
            )
        logger.warning("%s has no weights for %s, which therefore start at random.", source, ", ".join(missing))
        model = make(**options)
    fill(model, tensors, converter, source, missing)
    return _adapted(model, options)


def _classes_of(model: Any, tensors: Mapping[str, np.ndarray], converter: Converter) -> int | None:
    """For how many classes the tensors are; None if they have no classifier."""
    converter = converter.for_model(model)
    paths = {id(variable): path for path, _, variable in named_weights(model)}
    (name,) = their_names(paths[id(model.classifier.bias)], converter)
    return tensors[name].size if name in tensors else None


def _adapted(model: Any, options: dict[str, Any]) -> Any:
    """A filled model with a new head if ``classes`` is another number than it has, or without one."""
    if options.get("features_only"):
        model.remove_head()
    elif "classes" in options and options["classes"] != model.classes:
        model.replace_head(options["classes"])
    return model


def read_weights(folder: Path) -> Mapping[str, np.ndarray]:
    """Return the tensors of a folder by name.

    Raises:
        SavedFileError: there is no file with weights, a shard is missing, or a file is damaged.
    """
    for name in hub.WEIGHT_FILES:
        if (folder / name).is_file():
            return _read_tensors(folder / name)
    raise CheckpointError(f"{folder} has no weights: expected one of {', '.join(hub.WEIGHT_FILES)}.")


def _read_tensors(file: Path) -> dict[str, np.ndarray]:
    try:
        _refuse_other_kinds(file)
        if file.suffix in _TORCH_FILES:
            return interop.read_torch(file)
        return interop.read_safetensors(file)
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename} is missing; was the download interrupted?") from error


def _refuse_other_kinds(file: Path) -> None:
    """Name what often lies where weights should be."""
    with open(file, "rb") as content:
        start = content.read(64)
    kind = None
    if start.startswith(b"version https://git-lfs"):
        kind = "a pointer of git-lfs in place of the file; get it with `git lfs pull`"
    elif start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        kind = "a web page; download the file itself"
    elif file.suffix in _TORCH_FILES and start[:1] == b"\x80":
        kind = "a plain pickle, which is not read; load it in torch ≥ 1.6 and torch.save() its state_dict() again"
    if kind is not None:
        raise CheckpointError(f"{file} is {kind}.")


# Folders with a config.json


def _from_folder(folder: Path, source: str, options: dict[str, Any]) -> Any:
    config = _read_json(folder / hub.CONFIG)
    converter = _converter_for(config, source)
    with _naming(source):
        size = {"image_size": _image_size(config, folder)}
        classes = _number_of_classes(config)

    def make(**settings: Any) -> Any:
        with _naming(source):
            model = converter.build(config, **(size | settings))
            model.build_default()
        return model

    model = _trained(make, read_weights(folder), converter, source, options, classes)
    _describe(model, _facts(model, folder, config, source))
    return model


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} has no {path.name}, so it is not known which model it holds.") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is damaged: expected an object, it holds {type(content).__name__}.")
    return content


def _converter_for(config: dict[str, Any], source: str) -> Converter:
    """The converter for timm's architecture, or for transformers' class, or failing that its model_type."""
    if "architecture" in config:
        format, kind, keys = "timm", "architecture", [config["architecture"]]
    else:
        format, kind, keys = (
            "transformers",
            "model_type",
            [*(config.get("architectures") or [])[:1], config.get("model_type")],
        )
    for key in keys:
        found = registry.find_converter(format, str(key))
        if found is not None:
            return found
    raise CheckpointError(f"{source}: {unknown(f'{kind} of {format}', keys[-1], registry.known_formats(format))}")


def _number_of_classes(config: dict[str, Any]) -> int:
    if "num_classes" in config:
        return int(config["num_classes"])
    return len(config.get("id2label") or ()) or int(config.get("num_labels", 2))  # transformers' default


@contextlib.contextmanager
def _naming(source: str, file: str = hub.CONFIG) -> Iterator[None]:
    """Let what is wrong with a config name the model."""
    try:
        yield
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"{source}: its {file} lacks {error}.") from error
    except (TypeError, ValueError, IndexError, AttributeError, MemoryError) as error:
        raise CheckpointError(f"{source}: no model can be made from its {file}: {error}") from error


# What the files beside the weights say


def _image_size(config: dict[str, Any], folder: Path) -> int:
    height, width = _size_of(config, _optional_json(folder / hub.PROCESSOR))
    if height != width:
        raise CheckpointError(f"{folder}: images of {height} × {width} are not square, which is not supported.")
    return int(height)


def _optional_json(path: Path) -> dict[str, Any]:
    return _read_json(path) if path.is_file() else {}


def _size_of(config: dict[str, Any], processor: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the images that go into the model."""
    pretrained = config.get("pretrained_cfg") or {}
    if "input_size" in pretrained:
        return tuple(pretrained["input_size"][1:])
    size = config.get("image_size") or processor.get("crop_size") or processor.get("size") or 224
    if isinstance(size, dict):
        size = size.get("shortest_edge") or (size["height"], size["width"])
    return (size, size) if isinstance(size, int) else tuple(size)


def _facts(model: Any, folder: Path, config: dict[str, Any], source: str) -> dict[str, Any]:
    from .vision.preprocess import Preprocess

    processor = _optional_json(folder / hub.PROCESSOR)
    facts: dict[str, Any] = {"source": source, "license": (config.get("pretrained_cfg") or {}).get("license")}
    if "pretrained_cfg" in config:
        with _naming(source):
            facts["preprocess"] = Preprocess.from_timm(config["pretrained_cfg"])
    elif processor:
        with _naming(source, hub.PROCESSOR):
            facts["preprocess"] = Preprocess.from_transformers(processor)
    labels = config.get("id2label") or dict(enumerate(config.get("label_names") or ()))
    if len(labels) == model.classes:
        facts["labels"] = [str(labels[key]) for key in sorted(labels, key=int)]
    return facts


def _describe(model: Any, facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        setattr(model.card, name, value)
