"""Images of one's own: a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..pipeline import Dataset
from .image_files import image_files

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def image_folder(
    path: str | os.PathLike,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    on_error: str = "raise",
    num_parallel: int | None = None,
    transform: Callable | Sequence[Callable] | None = None,
    seed: int = 0,
    processes: bool = False,
) -> Dataset:
    """Return (image (height, width, channels), label) for the images in ``path/<class>/``, at any depth.

    The classes are the subfolders in order of their names, kept in ``dataset.class_names``. Images are
    decoded when they are needed, on ``num_parallel`` threads (by default one for each processor), as
    ``decode_image`` describes; without a ``size`` each keeps its own. Shuffling moves paths, not pictures.

    ``transform`` is a step of ``datasets.augment``, or a list of them, applied after ``size``; what they draw
    depends on ``seed``, the epoch and the place in it, not on the number of threads. With ``processes`` the
    threads are processes; see ``Dataset.map``.

    With ``on_error="skip"`` a file that cannot be read is left out, with a warning in the log that counts
    them; the number of elements is then unknown beforehand. Otherwise it raises.

    Raises:
        DataError: for a folder without classes, a class without images, or, in iterating, an unreadable
        image.

    Example: ``image_folder("photos", transform=[augment.RandomResizedCrop(224), augment.RandomFlip()])
    .shuffle(seed=1).batch(32).prefetch()``
    """
    files_of = class_files(Path(path).expanduser())
    paths = [file for files in files_of.values() for file in files]
    labels = np.repeat(np.arange(len(files_of), dtype=np.int32), [len(files) for files in files_of.values()])
    dataset = image_files(paths, labels, size, channels, transform, seed, on_error, num_parallel, processes)
    dataset.class_names = tuple(files_of)
    return dataset


def class_files(root: Path) -> dict[str, list[Path]]:
    """Return the image files of each class folder; errors as of ``image_folder``."""
    if not root.is_dir():
        raise DataError(f"image_folder() needs a folder with a subfolder for each class; there is no folder {root}.")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise DataError(f"image_folder() needs a subfolder for each class; {root} has no subfolder.")
    files_of = {
        folder.name: sorted(
            file
            for file in folder.rglob("*")
            # macOS leaves a "._photo.jpg", which is none, beside each file that it copies.
            if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")
        )
        for folder in folders
    }
    if empty := [name for name, files in files_of.items() if not files]:
        raise DataError(
            f"Every class folder in {root} needs images ({', '.join(sorted(EXTENSIONS))}); "
            f"there are none in {', '.join(empty)}."
        )
    return files_of
