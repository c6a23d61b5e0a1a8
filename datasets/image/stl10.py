"""STL-10, in the binary form of https://cs.stanford.edu/~acoates/stl10/."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..archives import unpacked
from ..errors import DataError
from ..fetch import File, find
from ..registry import dataset

PIXELS = 3 * 96 * 96
UNLABELLED = -1


# Address and checksum as in torchvision (torchvision/datasets/stl10.py); the rest as on the homepage.
@dataset(
    "stl10",
    description="13,000 colour photographs of 10 kinds of things with labels, and 100,000 without",
    license="none known; the photographs come from ImageNet, whose terms allow non-commercial research and education",
    citation="Coates, Lee and Ng (2011). An Analysis of Single-Layer Networks in Unsupervised Feature Learning. "
    "AISTATS.",
    homepage="https://cs.stanford.edu/~acoates/stl10/",
    files=(
        File(
            "stl10_binary.tar.gz",
            ("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",),
            "md5:91f7769df0f17e558f3565bffb0c7dfb",
        ),
    ),
    shapes=((96, 96, 3), ()),
    dtypes=("uint8", "int8"),
    value_range=(0, 255),
    classes=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    splits={"train": 5000, "test": 8000, "unlabeled": 100000},
)
def read_stl10(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 96, 96, 3) and labels (n,), which are -1 in the split "unlabeled"."""
    if not (folder / f"{split}_X.bin").exists():
        folder = unpacked(folder, "stl10_binary", "stl10_binary.tar.gz")
    path = find(folder, f"{split}_X.bin")
    size = path.stat().st_size
    if size == 0 or size % PIXELS:
        raise DataError(f"{path} must consist of images of {PIXELS} bytes; it has {size} bytes. It is damaged.")
    # The pixels stand channel by channel, column by column.
    pixels = np.memmap(path, np.uint8, "r").reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
    if split == "unlabeled":
        labels = np.full(len(pixels), UNLABELLED, np.int8)
    else:
        labels = _labels(find(folder, f"{split}_y.bin"), len(pixels))
    return np.array(pixels, order="C"), labels


def _labels(path: Path, count: int) -> np.ndarray:
    labels = np.fromfile(path, np.uint8)  # 1 to 10
    if len(labels) != count or (count and not 1 <= labels.min() <= labels.max() <= 10):
        raise DataError(f"{path} must hold {count} labels from 1 to 10; received {len(labels)}, or others.")
    return (labels - 1).astype(np.int8)
