"""Datasets of image files that are decoded, and changed at random, when they are needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..pipeline import Dataset
from ..registry import DatasetSpec
from .decode import decode_image, open_image

if TYPE_CHECKING:
    from .augment import Compose

BILINEAR = 2  # PIL.Image.Resampling.BILINEAR, which would have to be imported

logger = logging.getLogger("tenzoo.datasets")

Size = int | tuple[int, int] | None
Transform = Callable | Sequence[Callable] | None


class Decode:
    """Read an image file, and change it: (path, label) -> (image (height, width, channels), label).

    With ``skip`` an unreadable file gives (None, what is wrong with it).
    """

    __name__ = "decode"  # in error messages

    def __init__(self, size: Size, channels: int, transform: Compose | None, skip: bool):
        self.size, self.channels, self.transform, self.skip = size, channels, transform, skip

    def __call__(self, path: str, label: Any, rng: np.random.Generator | None = None) -> tuple:
        try:
            if self.transform is None:
                return decode_image(path, self.size, self.channels), label
            image = open_image(path, self.channels)
        except DataError as error:
            if not self.skip:
                raise
            return None, str(error)
        if self.size is not None:
            height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
            image = image.resize((width, height), BILINEAR)
        array = self.transform(image, rng=rng)
        return array[:, :, None] if array.ndim == 2 else array, label


class Readable:
    """Passes images on; logs and counts the files that could not be read, each once."""

    def __init__(self):
        self.skipped: set[str] = set()

    def __call__(self, image: np.ndarray | None, label: Any) -> bool:
        if image is None and label not in self.skipped:
            self.skipped.add(label)
            logger.warning("Skipped (%d so far): %s", len(self.skipped), label)
        return image is not None


def image_files(
    paths: Sequence[str | os.PathLike],
    labels: np.ndarray,
    size: Size = None,
    channels: int = 3,
    transform: Transform = None,
    seed: int = 0,
    on_error: str = "raise",
    num_parallel: int | None = None,
    processes: bool = False,
) -> Dataset:
    """Return (image (height, width, channels), label) for each of the files; arguments as of ``image_folder``."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', received {on_error!r}.")
    if processes:
        from PIL import Image

        Image.preinit()  # else each worker loads the formats for itself, in each epoch
    change = None if transform is None else _composed(transform)
    decode = Decode(size, channels, change, on_error == "skip")
    dataset = Dataset.from_arrays((np.array([os.fspath(path) for path in paths], dtype=str), labels))
    dataset = dataset.map(decode, num_parallel or _processors(), None if change is None else seed, processes)
    return dataset.filter(Readable()) if on_error == "skip" else dataset


def _composed(transform: Callable | Sequence[Callable]) -> Compose:
    from .augment import Compose  # takes longer to import than all else that reads files

    if isinstance(transform, Compose):
        return transform
    return Compose([transform] if callable(transform) else transform)


def _processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ImageFilesSpec(DatasetSpec):
    """What is known of a dataset of image files of any size.

    ``read`` returns their paths and labels, and where the classes have their names in the files, those.
    """

    def arrays(
        self, split: str, data_dir: str | os.PathLike | None = None, image_size: Size = None, **options: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the images of a split, stretched to ``image_size``, and labels; arguments as for ``load``."""
        if data_dir == "synthetic":
            return super().arrays(split, data_dir, **options | ({"image_size": image_size} if image_size else {}))
        if image_size is None:
            raise ValueError(f"The images of {self.name} differ in size: give an image_size, or use load().")
        paths, labels, *_names = super().arrays(split, data_dir, **options)
        return next(iter(image_files(paths, labels, image_size).batch(len(paths))))

    def load(
        self,
        split: str = "train",
        data_dir: str | os.PathLike | None = None,
        image_size: Size = None,
        transform: Transform = None,
        seed: int = 0,
        on_error: str = "raise",
        num_parallel: int | None = None,
        processes: bool = False,
        **options: Any,
    ) -> Dataset:
        """Return a split as a Dataset of (image, label), decoded when needed; see ``image_folder`` for the rest.

        ``data_dir`` as for any dataset; synthetic images (``size=`` is their number, ``seed=`` also chooses them)
        have 64 × 64 pixels unless ``image_size`` says otherwise.
        """
        names: list = []
        if data_dir == "synthetic":
            dataset = Dataset.from_arrays(self.arrays(split, data_dir, image_size, seed=seed, **options))
            if transform is not None:
                dataset = dataset.map(_composed(transform), num_parallel or 1, seed, processes)
        else:
            paths, labels, *names = super().arrays(split, data_dir, **options)
            dataset = image_files(paths, labels, image_size, 3, transform, seed, on_error, num_parallel, processes)
        dataset.class_names = tuple(*names) or self.classes
        return dataset
