"""Images of one's own: a folder for each class."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..pipeline import Dataset
from .decode import decode_image

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}

logger = logging.getLogger("tenzoo.datasets")


def image_folder(
    path: str | os.PathLike,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    on_error: str = "raise",
    num_parallel: int = 2,
) -> Dataset:
    """Return (image (height, width, channels), label) for the images in ``path/<class>/``, at any depth.

    The classes are the subfolders in order of their names, kept in ``dataset.class_names``. Images are
    decoded when they are needed, on ``num_parallel`` threads, as ``decode_image`` describes; without a
    ``size`` each keeps its own. Shuffling moves paths, not pictures.

    With ``on_error="skip"`` a file that cannot be read is left out, with a warning in the log that counts
    them; the number of elements is then unknown beforehand. Otherwise it raises.

    Raises:
        DataError: for a folder without classes, a class without images, or, in iterating, an unreadable
        image.

    Example: ``image_folder("photos", size=224).shuffle(seed=1).batch(32).prefetch()``
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', received {on_error!r}.")
    files_of = _classes(Path(path).expanduser())
    names = list(files_of)
    paths = np.array([str(file) for files in files_of.values() for file in files])
    labels = np.repeat(np.arange(len(names), dtype=np.int32), [len(files) for files in files_of.values()])
    skipped: set[str] = set()

    def decode(file: str, label: np.int32) -> tuple[np.ndarray, np.int32] | None:
        try:
            return decode_image(file, size, channels), label
        except DataError as error:
            if on_error == "raise":
                raise
            if file not in skipped:
                skipped.add(file)
                logger.warning("Skipped (%d so far): %s", len(skipped), error)
            return None

    dataset = Dataset.from_arrays((paths, labels)).map(decode, num_parallel)
    if on_error == "skip":
        dataset = dataset.filter(lambda image, label=None: image is not None)
    dataset.class_names = tuple(names)
    return dataset


def _classes(root: Path) -> dict[str, list[Path]]:
    """Return the image files of each class folder."""
    if not root.is_dir():
        raise DataError(f"image_folder() needs a folder with a subfolder for each class; there is no folder {root}.")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise DataError(f"image_folder() needs a subfolder for each class; {root} has no subfolder.")
    files_of = {
        folder.name: sorted(file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS)
        for folder in folders
    }
    if empty := [name for name, files in files_of.items() if not files]:
        raise DataError(
            f"Every class folder in {root} needs images ({', '.join(sorted(EXTENSIONS))}); "
            f"there are none in {', '.join(empty)}."
        )
    return files_of
