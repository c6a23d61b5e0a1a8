"""Data: the pipeline ``Dataset``, and known datasets by name.

>>> from tenzoo import datasets
>>> train = datasets.load("digits", "train").shuffle(seed=1).batch(32)
>>> (x_train, y_train), (x_test, y_test) = datasets.digits.load_data()  # as in Keras
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from .errors import DataError, FetchError
from .image.decode import decode_image
from .image.image_folder import image_folder
from .pipeline import Dataset, DatasetIterator
from .registry import DatasetSpec, dataset, info, load
from .registry import names as list

__all__ = [
    "Dataset",
    "DatasetIterator",
    "load",
    "list",
    "info",
    "image_folder",
    "decode_image",
    "augment",
    "dataset",
    "DatasetSpec",
    "DataError",
    "FetchError",
]


def __getattr__(name: str) -> DatasetSpec | ModuleType:
    """Load ``augment`` at its first use, and let ``datasets.mnist`` be the dataset of that name."""
    if name == "augment":
        return import_module(".image.augment", __name__)
    if not name.startswith("_"):
        try:
            return info(name)
        except ValueError as error:
            raise AttributeError(str(error)) from None
    raise AttributeError(name)
