"""Handwritten digits, 8 × 8: small enough to come with the library."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._sources import permutation
from ..registry import dataset


@dataset(
    "digits",
    description="1,797 handwritten digits of 13 writers, counts of set pixels in blocks of 4 × 4",
    license="CC BY 4.0; see image/data/digits.LICENSE.txt",
    citation="Alpaydin, E. and Kaynak, C. (1998). Optical Recognition of Handwritten Digits. "
    "UCI Machine Learning Repository. https://doi.org/10.24432/C50P49",
    homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    files=(),
    shapes=((8, 8), ()),
    dtypes=("uint8", "uint8"),
    value_range=(0, 16),
    classes=tuple("0123456789"),
    splits={"train": 1438, "test": 359, "all": 1797},
)
def read_digits(folder: Path, split: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 8, 8), 0 to 16, and labels (n,).

    ``"test"`` is a fifth of each class, drawn by ``seed``; ``"train"`` is the rest; ``"all"`` is
    everything. Each keeps the published order.
    """
    with np.load(folder / "image" / "data" / "digits.npz", allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    if split == "all":
        return images, labels
    held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        places = np.flatnonzero(labels == digit)
        held_out[places[permutation(len(places), seed, digit)[: round(len(places) / 5)]]] = True
    chosen = held_out if split == "test" else ~held_out
    return images[chosen], labels[chosen]
