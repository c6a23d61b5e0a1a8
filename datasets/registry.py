"""The datasets by name: what is known of each, and how to load it."""

from __future__ import annotations

import fnmatch
import functools
import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core import errors
from .errors import DataError
from .fetch import File, fetch
from .pipeline import Dataset
from .synthetic import class_patterns

_specs: dict[str, DatasetSpec] = {}


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a dataset; ``load`` and ``load_data`` get its content.

    An element is (image, label): ``shapes``, ``dtypes`` and ``value_range`` (of the pixels) describe it.
    """

    name: str
    description: str
    license: str
    citation: str
    homepage: str
    files: tuple[File, ...]  # none: the data come with the library
    shapes: tuple[tuple[int | None, ...], ...]  # None: it differs from image to image
    dtypes: tuple[str, ...]
    value_range: tuple[int, int]
    classes: tuple[str, ...]
    splits: dict[str, int]  # name -> number of samples
    read: Callable[..., tuple[np.ndarray, ...]]  # (folder, split, **options) -> arrays
    column_labels: bool = False  # load_data gives labels as (n, 1), as Keras does
    folder: str = ""  # of the cache, where several datasets share their files; by default the name
    by_hand: str = ""  # where to get the files, if nobody may download them without being asked

    def arrays(self, split: str, data_dir: str | os.PathLike | None = None, **options: Any) -> tuple[np.ndarray, ...]:
        """Return the arrays of a split: images (n, *shape) and labels (n,); arguments as for ``load``."""
        if split not in self.splits:
            raise errors.unknown(f"split of {self.name}", split, self.splits)
        if data_dir == "synthetic":
            return class_patterns(self, split, **options)
        return self.read(self._folder(split, data_dir), split, **options)

    def _folder(self, split: str, data_dir: str | os.PathLike | None) -> Path:
        """Return the folder with the published files of a split."""
        if self.by_hand and data_dir is None:
            raise DataError(f"{self.name} cannot be downloaded by the library. {self.by_hand}")
        if self.files or self.by_hand:
            needed = tuple(file for file in self.files if file.split in (None, split))
            return fetch(self.folder or self.name, needed, data_dir)
        if data_dir is not None:
            raise ValueError(
                f"{self.name} comes with the library: data_dir must be None or 'synthetic', received {data_dir!r}."
            )
        return Path(__file__).parent

    def load(self, split: str = "train", data_dir: str | os.PathLike | None = None, **options: Any) -> Dataset:
        """Return a split as a Dataset of (image, label), with its ``class_names``.

        ``data_dir`` is the folder that holds the published files, in place of a download; or
        ``"synthetic"`` for made-up samples of the same shapes, dtypes and classes (``size=``, ``seed=``),
        which can be learnt.
        """
        dataset = Dataset.from_arrays(self.arrays(split, data_dir, **options))
        dataset.class_names = self.classes
        return dataset

    def load_data(
        self, data_dir: str | os.PathLike | None = None, **options: Any
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Return ``(x_train, y_train), (x_test, y_test)`` as Keras does; arguments as for ``load``."""

        def load_split(split: str) -> tuple[np.ndarray, np.ndarray]:
            images, labels = self.arrays(split, data_dir, **options)
            return images, labels[:, None] if self.column_labels else labels

        return load_split("train"), load_split("test")


def dataset(name: str, kind: type[DatasetSpec] = DatasetSpec, **about: Any) -> Callable[[Callable], Callable]:
    """Register a function that reads a dataset; ``about`` are the fields of its DatasetSpec, or another ``kind``.

    ``read(folder, split, **options)`` returns the arrays of one split from the published files in
    ``folder``. The module is found by standing in a subfolder of this package.
    """

    def register(read: Callable) -> Callable:
        _specs[name] = kind(name=name, read=read, **about)
        return read

    return register


@functools.cache
def _discover() -> None:
    package = importlib.import_module(__package__)
    for kind in pkgutil.iter_modules(package.__path__):
        if kind.ispkg:
            folder = importlib.import_module(f"{__package__}.{kind.name}")
            for module in pkgutil.iter_modules(folder.__path__):
                importlib.import_module(f"{folder.__name__}.{module.name}")


def names(pattern: str = "*") -> list[str]:
    """Return the names of the datasets that match a pattern such as ``"cifar*"``."""
    _discover()
    return sorted(fnmatch.filter(_specs, pattern))


def info(name: str) -> DatasetSpec:
    """Return what is known of a dataset: license, source, shapes, classes, sizes."""
    _discover()
    if name not in _specs:
        raise errors.unknown("dataset", name, _specs)
    return _specs[name]


def load(name: str, split: str = "train", data_dir: str | os.PathLike | None = None, **options: Any) -> Dataset:
    """Return a split of a dataset; see ``DatasetSpec.load``.

    >>> len(load("digits", "test"))
    359
    """
    return info(name).load(split, data_dir, **options)
