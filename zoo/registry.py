"""The models by name: every function marked with ``@model`` in the files of ``zoo/<domain>/``.

Names are found by reading those files, not by importing them, so listing costs milliseconds and loads no family.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import importlib
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core import errors

Names = list[tuple[str, Any]]  # (pattern, replacement) for re.sub

_entries: dict[str, ModelInfo] = {}
_converters: dict[tuple[str, str], Converter] = {}


@dataclass(frozen=True)
class Weights:
    """Where trained weights of a model are, and what is known of them.

    Attributes:
        source: ``hf://owner/name`` or ``hf://owner/name@revision``.
        license: as the source documents it.
        classes: how many the classifier tells apart.
        trained_on: the data, as the source documents it.
    """

    name: str
    source: str
    license: str
    classes: int
    trained_on: str


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model of the zoo.

    Attributes:
        create: the entry point; its arguments are the options of :func:`create`.
        summary: first line of the entry point's docstring.
        test_variant: options that make it tiny, for tests; None where another entry of the family has them.
        weights: trained weights by the name that ``create(weights=...)`` takes.
    """

    name: str
    domain: str
    family: str
    create: Callable[..., Any]
    summary: str
    test_variant: dict[str, Any] | None
    weights: dict[str, Weights] = field(default_factory=dict)


@dataclass(frozen=True)
class Converter:
    """How a checkpoint of another library becomes one of our models; see :func:`converter`."""

    format: str
    module: str
    names: Names | Callable[[Any], Names]
    ignored: tuple[str, ...]
    renamed: Names
    defaults: dict[str, Any]
    build: Callable[..., Any]

    def for_model(self, model: Any) -> Converter:
        """The converter with the names for one model, where they depend on how many blocks it has."""
        return replace(self, names=self.names(model)) if callable(self.names) else self


# Declarations, for the files of the families


def model(test_variant: dict[str, Any] | None = None) -> Callable[[Callable], Callable]:
    """Mark a function as the entry point of the model that it is named after.

    It returns a model that has ``build_default()``, which the zoo calls, so what a caller gets has its weights.
    ``test_variant`` are options that make it tiny: with them it is tested whole; entry points without are only
    checked for the size that is published.
    """

    def register(function: Callable) -> Callable:
        @functools.wraps(function)
        def entry(*arguments: Any, **options: Any) -> Any:
            made = function(*arguments, **options)
            made.build_default()
            return made

        name = function.__name__
        domain, family = function.__module__.split(".")[-2:]
        summary = (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")
        _entries[name] = ModelInfo(name, domain, family, entry, summary, test_variant)
        return entry

    return register


def weights(name: str, source: str, license: str, classes: int, trained_on: str) -> None:
    """Declare trained weights: ``weights("resnet50.imagenet", source="hf://…", …)``; see :class:`Weights`."""
    entry, _, key = name.partition(".")
    _entries[entry].weights[key] = Weights(name, source, license, classes, trained_on)


def converter(
    format: str,
    *keys: str,
    names: Names | Callable[[Any], Names],
    ignored: tuple[str, ...] = (),
    renamed: Names | None = None,
    defaults: dict[str, Any] | None = None,
) -> Callable[[Callable], Callable]:
    """Mark a function that makes the model which a ``config.json`` of another library describes.

    Args:
        format: ``"transformers"``, ``"timm"``, ``"torchvision"`` or ``"keras"``.
        keys: what it understands: values of ``model_type`` or ``architectures`` (transformers) or of ``architecture``
            (timm), names of functions (torchvision), names of models without the size of the images (Keras).
        names: (pattern, replacement) pairs for :func:`re.sub`, applied one after the other to the name of each of
            our weights ("stages.0.1.conv1.weight", for Keras "stages.0.1.conv1/kernel") to give theirs. ``{a,b}`` in a
            replacement means two of their tensors, one under the other in ours. A function of the model may give the
            pairs, where names depend on how many blocks it has.
        ignored: patterns of their tensors that carry nothing that we need.
        renamed: pairs for :func:`re.sub` that are applied to the names in Keras's files first, where these are not
            the same in all of them.
        defaults: options that our entry points need for these weights, such as another padding.
    """

    def register(build: Callable[[dict[str, Any]], Any]) -> Callable:
        made = Converter(format, build.__module__, names, ignored, renamed or [], defaults or {}, build)
        _converters.update({(format, key): made for key in keys})
        return build

    return register


# Finding them


def names(domain: str | None = None, pattern: str = "*") -> list[str]:
    """Return the names of the models, those of a domain, or those that match a pattern such as ``"resnet*"``.

    >>> names("vision", "resnet5*")
    ['resnet50', 'resnet50_v2', 'resnet56']
    """
    index = _index()
    domains = {module.partition(".")[0] for module in index.models.values()}
    if domain is not None and domain not in domains:
        raise errors.unknown("domain of the zoo", domain, domains)
    found = (n for n, module in index.models.items() if domain in (None, module.partition(".")[0]))
    return sorted(fnmatch.filter(found, pattern))


def info(name: str) -> ModelInfo:
    """Return what is known of a model; imports its family.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    # Only files that seem to declare it are read closely: one model should not wait for an index of all.
    found = (f for f in _families() if re.search(rf"^def {re.escape(name)}\(", _text(f), re.MULTILINE))
    module = next((_module(file) for file in found if name in _declared(file).models), None)
    if module is None:
        raise errors.unknown("model", name, _index().models)
    _import(module)
    return _entries[name]


def create(name: str, weights: str | os.PathLike | None = None, **options: Any) -> Any:
    """Make a model by name.

    Args:
        weights: None for random ones; the name of trained weights, as ``info(name).weights`` lists them
            ("imagenet"); or the path of a file or folder with weights of ours, of timm, torchvision, transformers or
            keras.applications, which also say how many ``classes`` there are. If ``classes`` is another number than
            they were trained for, or they have no classifier, that starts at random; if ``image_size`` is another,
            learnt positions are resampled.
        options: those of the entry point, such as ``classes``, ``channels``, ``features_only``, ``drop_path``.

    Raises:
        ValueError: for unknown names.
        CheckpointError: the weights cannot be had or do not fit; the message names file and tensors.

    >>> create("resnet20", classes=4)(np.zeros((2, 32, 32, 3))).shape
    (2, 4)
    """
    entry = info(name)
    if weights is None:
        return entry.create(**options)
    from . import loading

    if weights in entry.weights:
        return loading.create_pretrained(entry, entry.weights[str(weights)], options)
    if not os.path.exists(weights):
        raise errors.unknown(f"weights of {name} (nor is there such a file)", weights, entry.weights)
    return loading.create_from_file(entry, Path(weights), options)


def find_converter(format: str, key: str) -> Converter | None:
    """Return the converter for a ``model_type`` or ``architecture``, importing its family."""
    module = _index().converters.get((format, key))
    if module is None:
        return None
    _import(module)
    return _converters[format, key]


def known_formats(format: str) -> list[str]:
    """Return the values of ``model_type`` or ``architecture`` that some family understands."""
    return sorted(key for known, key in _index().converters if known == format)


def family_converters(entry: ModelInfo) -> list[Converter]:
    """Return the converters that stand in the file of a model."""
    module = f"{__package__}.{entry.domain}.{entry.family}"
    return list({id(c): c for c in _converters.values() if c.module == module}.values())


@dataclass(frozen=True)
class _Index:
    """Which file, as "vision.resnet", declares a model or a converter."""

    models: dict[str, str]
    converters: dict[tuple[str, str], str]


@functools.cache
def _families() -> list[Path]:
    folders = importlib.import_module(__package__).__path__
    return sorted(file for folder in folders for file in Path(folder).glob("*/[!_]*.py"))


@functools.cache
def _text(file: Path) -> str:
    return file.read_text("utf-8")


def _module(file: Path) -> str:
    return f"{file.parent.name}.{file.stem}"


@functools.cache
def _declared(file: Path) -> _Index:
    """What one file declares, without running it."""
    index, module = _Index({}, {}), _module(file)
    for function in ast.parse(_text(file)).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in function.decorator_list:
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            if call.func.id == "model":
                index.models[function.name] = module
            elif call.func.id == "converter":
                format, *keys = (argument.value for argument in call.args)
                index.converters.update({(format, key): module for key in keys})
    return index


@functools.cache
def _index() -> _Index:
    index = _Index({}, {})
    for part in map(_declared, _families()):
        index.models.update(part.models)
        index.converters.update(part.converters)
    return index


def _import(module: str) -> None:
    importlib.import_module(f"{__package__}.{module}")
