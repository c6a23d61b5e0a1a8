"""Trained models from folders and files: what wrote them is found out, the model built, the weights put in."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import unknown
from ..layers.layer import blank_weights
from ..training import SavedFileError, interop, load_model
from ..training.keras_files import is_keras_file, read_keras_config, read_keras_layers
from . import hub, registry
from .conversion import CheckpointError, count_known, fill, fold_biases, named_weights, their_names
from .registry import Converter, ModelInfo, Weights


def load(source: str | os.PathLike, options: dict[str, Any]) -> Any:
    """See :func:`tenzoo.zoo.load`."""
    if str(source).startswith("hf://"):
        return _from_folder(hub.fetch(str(source)), str(source), options)
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, str(path), options)
    if not path.exists():
        raise CheckpointError(f"There is neither a file nor a folder {path}; a model of the hub is hf://owner/name.")
    if is_keras_file(str(path)):
        return _from_keras_file(path, options)
    if options:
        raise TypeError(f"A model that was saved whole takes no options; received {', '.join(options)} for {path}.")
    return load_model(path)


def create_pretrained(entry: ModelInfo, weights: Weights, options: dict[str, Any]) -> Any:
    """A model of the zoo with weights from its table."""
    folder = hub.fetch(weights.source)
    config = _read_json(folder / hub.CONFIG)
    converter = _converter_for(config, str(folder))
    settings = {"classes": weights.classes, **options, "features_only": False}
    with blank_weights():
        model = entry.create(**settings)
    _put_in(model, read_weights(folder), converter, weights.source, settings["classes"] != weights.classes, options)
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
    with blank_weights():
        model = entry.create(**{**options, "features_only": False})
    if path.is_dir():
        tensors = read_weights(path)
    else:
        with contextlib.suppress(SavedFileError):
            model.load_weights(path)
            if options.get("features_only"):
                model.remove_head()
            return model
        tensors = _read_tensors(path)
    converters = [converter for converter in registry.family_converters(entry) if converter.format != "keras"]
    if not converters:
        raise CheckpointError(f"{path} does not fit {entry.name}, and no other names of its weights are known.")
    converter = max(converters, key=lambda candidate: count_known(model, tensors, candidate))
    _put_in(model, tensors, converter, str(path), _has_other_head(model, tensors, converter), options)
    return model


def _from_keras_file(path: Path, options: dict[str, Any]) -> Any:
    """A model of keras.applications that Keras saved whole."""
    config = read_keras_config(path)
    if not config:
        raise CheckpointError(
            f"{path} holds weights alone; name their model: tz.zoo.create(name, weights={str(path)!r})."
        )
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
    (bias,) = their_names("classifier.bias", converter.for_model(None))
    if bias not in tensors:
        raise CheckpointError(f"{path} has no {bias}; a model without its head is not supported.")
    trained = tensors[bias].size
    settings = {"classes": trained, **options, "features_only": False}
    with _naming(str(path)), blank_weights():
        model = converter.build(config, **settings)
        model.build_default()
    _put_in(model, tensors, converter, str(path), settings["classes"] != trained, options)
    model.card.source = str(path)
    return model


def _put_in(
    model: Any, tensors: Mapping, converter: Converter, source: str, new_head: bool, options: dict[str, Any]
) -> None:
    """Fill a whole model. A classifier that the tensors do not fit starts with random weights."""
    fill(model, tensors, converter, source, new_head)
    if new_head:
        model.replace_head(model.classes)
    if options.get("features_only"):
        model.remove_head()


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
        if file.suffix in (".bin", ".pt", ".pth"):
            return interop.read_torch(file)
        return interop.read_safetensors(file)
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename} is missing; was the download interrupted?") from error


# Folders with a config.json


def _from_folder(folder: Path, source: str, options: dict[str, Any]) -> Any:
    config = _read_json(folder / hub.CONFIG)
    converter = _converter_for(config, source)
    trained = _number_of_classes(config)
    settings = {"image_size": _image_size(config, folder), "classes": trained, **options, "features_only": False}
    with _naming(source), blank_weights():
        model = converter.build(config, **settings)
        model.build_default()
    _put_in(model, read_weights(folder), converter, source, settings["classes"] != trained, options)
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
            [*config.get("architectures", [])[:1], config.get("model_type")],
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
def _naming(source: str) -> Iterator[None]:
    """Let what is wrong with a config name the model."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(f"{source}: its config.json lacks {error}.") from error
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: no model can be made from its config.json: {error}") from error


def _has_other_head(model: Any, tensors: Mapping[str, np.ndarray], converter: Converter) -> bool:
    """Whether the tensors are of a classifier for another number of classes."""
    for path, _, variable in named_weights(model):
        if path == "classifier.bias":
            (name,) = their_names(path, converter)
            return name in tensors and tensors[name].shape != variable.shape
    return False


# What the files beside the weights say


def _image_size(config: dict[str, Any], folder: Path) -> int:
    size = _size_of(config, _optional_json(folder / hub.PROCESSOR))
    if size[0] != size[1]:
        raise CheckpointError(f"{folder}: images of {size[0]} × {size[1]} are not square, which is not supported.")
    return size[0]


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
        facts["preprocess"] = Preprocess.from_timm(config["pretrained_cfg"])
    elif processor:
        facts["preprocess"] = Preprocess.from_transformers(processor)
    labels = config.get("id2label") or dict(enumerate(config.get("label_names") or ()))
    if len(labels) == model.classes:
        facts["labels"] = [str(labels[key]) for key in sorted(labels, key=int)]
    return facts


def _describe(model: Any, facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        setattr(model.card, name, value)
