"""ImageNet, the thousand classes of 2012, and Tiny ImageNet, two hundred of them at 64 × 64."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..archives import unpacked
from ..errors import DataError
from ..fetch import File, find
from ..registry import dataset
from .image_files import ImageFilesSpec

TERMS = "the ImageNet terms of access: non-commercial research and education"
# The list as in timm (timm/data/_info/imagenet_synsets.txt): WordNet's numbers, sorted.
IMAGENET_CLASSES = tuple(Path(__file__).with_name("data").joinpath("imagenet_synsets.txt").read_text().split())
KAGGLE = Path("ILSVRC", "Data", "CLS-LOC")

Files = tuple[list[str], np.ndarray]


def _class_folders(root: Path, names: Sequence[str]) -> Files:
    """Return the files in ``root/<name>/``, at any depth, and labels (n,), which are places in ``names``."""
    present = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if not present or not present <= set(names):
        strange = ", ".join(sorted(present - set(names))[:5]) or "none"
        raise DataError(f"{root} must hold a folder for each class, named as in WordNet; received {strange}.")
    files: list[str] = []
    counts = []
    for name in names:
        before = len(files)
        for folder, _, found in os.walk(root / name):
            files += sorted(os.path.join(folder, file) for file in found if file.lower().endswith((".jpeg", ".jpg")))
        if name in present and len(files) == before:
            raise DataError(f"{root / name} holds no images (.JPEG).")
        counts.append(len(files) - before)
    return files, np.repeat(np.arange(len(names), dtype=np.int32), counts)


def _listed(root: Path, table: Path, rows: Sequence[tuple[str, str]], names: Sequence[str]) -> Files:
    """Return the files that ``rows`` of (name of the file, class) list, and labels (n,)."""
    places = {name: place for place, name in enumerate(names)}
    if strange := [name for _, name in rows if name not in places]:
        raise DataError(f"{table} names the class {strange[0]!r}, which is not known.")
    return [str(root / file) for file, _ in rows], np.array([places[name] for _, name in rows], np.int32)


@dataset(
    "imagenet",
    kind=ImageFilesSpec,
    description="1.3 million photographs of 1,000 kinds of things: ILSVRC 2012",
    license=TERMS,
    citation="Russakovsky et al. (2015). ImageNet Large Scale Visual Recognition Challenge. International Journal of "
    "Computer Vision 115(3).",
    homepage="https://image-net.org/challenges/LSVRC/2012/",
    files=(),
    by_hand="Ask for it at https://image-net.org/download.php, and give as data_dir the folder that holds "
    "train/<class>/ and val/<class>/, or what Kaggle distributes (ILSVRC/ and LOC_val_solution.csv).",
    shapes=((None, None, 3), ()),
    dtypes=("uint8", "int32"),
    value_range=(0, 255),
    classes=IMAGENET_CLASSES,
    splits={"train": 1281167, "test": 50000},
)
def read_imagenet(folder: Path, split: str) -> Files:
    """Return paths and labels (n,); "test" are the images for validation, as the labels of the others are secret.

    The classes are WordNet's numbers, sorted, so a label is the place among the outputs of the usual models.
    """
    inner = "train" if split == "train" else "val"
    if not (folder / KAGGLE).is_dir():
        return _class_folders(find(folder, inner), IMAGENET_CLASSES)
    if split == "train":
        return _class_folders(find(folder / KAGGLE, inner), IMAGENET_CLASSES)
    table = find(folder, "LOC_val_solution.csv")
    with open(table, newline="") as lines:
        rows = list(csv.reader(lines))[1:]  # "ILSVRC2012_val_00000001,n01751748 111 108 441 193"
    if any(len(row) != 2 or not row[1].split() for row in rows):
        raise DataError(f"{table} must hold lines of ImageId and PredictionString.")
    return _listed(
        find(folder / KAGGLE, "val"),
        table,
        [(f"{image}.JPEG", text.split()[0]) for image, text in rows],
        IMAGENET_CLASSES,
    )


# The address and the checksum as in https://github.com/lvyilin/pytorch-fgvc-dataset (tiny_imagenet.py).
@dataset(
    "tiny_imagenet",
    kind=ImageFilesSpec,
    description="110,000 photographs of 200 kinds of things, 64 × 64",
    license=f"none stated; the photographs come from ImageNet, see {TERMS}",
    citation="Le and Yang (2015). Tiny ImageNet Visual Recognition Challenge. Report of CS 231N, Stanford.",
    homepage="http://cs231n.stanford.edu/",
    files=(
        File(
            "tiny-imagenet-200.zip",
            ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
            "md5:90528d7ca1a48142e341f4ef8d21d0de",
        ),
    ),
    shapes=((None, None, 3), ()),
    dtypes=("uint8", "int32"),
    value_range=(0, 255),
    classes=tuple(f"class {number}" for number in range(200)),  # their names stand in the published files
    splits={"train": 100000, "test": 10000},
)
def read_tiny_imagenet(folder: Path, split: str) -> tuple[list[str], np.ndarray, list[str]]:
    """Return paths, labels (n,) and names of the classes, WordNet's numbers, sorted.

    "test" are the published images for validation, as the labels of the others are secret.
    """
    if not (folder / "wnids.txt").exists():
        folder = unpacked(folder, "tiny-imagenet-200", "tiny-imagenet-200.zip")
    names = sorted(find(folder, "wnids.txt").read_text().split())
    if split == "train":
        return *_class_folders(find(folder, "train"), names), names
    table = find(folder / "val", "val_annotations.txt")
    rows = [line.split("\t") for line in table.read_text().splitlines()]  # file, class, and a box
    if any(len(row) < 2 for row in rows):
        raise DataError(f"{table} must hold lines of a file and a class, with tabs between.")
    return *_listed(folder / "val" / "images", table, [(row[0], row[1]) for row in rows], names), names
