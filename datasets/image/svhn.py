"""SVHN: digits of house numbers, in the cropped form of http://ufldl.stanford.edu/housenumbers/."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..fetch import File, find
from ..matlab import read_mat
from ..registry import dataset

# Addresses and checksums as in torchvision (torchvision/datasets/svhn.py), numbers of samples as on the homepage.
CHECKSUMS = {
    "train": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test": "eb5a983be6a315427106f1b164d9cef3",
    "extra": "a93ce644f1a588dc4d68dda5feec44a7",
}


@dataset(
    "svhn",
    description="600,000 digits of house numbers, small colour photographs",
    license="for non-commercial use only, as the homepage notes",
    citation="Netzer, Wang, Coates, Bissacco, Wu and Ng (2011). Reading Digits in Natural Images with Unsupervised "
    "Feature Learning. NIPS Workshop on Deep Learning and Unsupervised Feature Learning.",
    homepage="http://ufldl.stanford.edu/housenumbers/",
    files=tuple(
        File(f"{split}_32x32.mat", (f"http://ufldl.stanford.edu/housenumbers/{split}_32x32.mat",), f"md5:{md5}", split)
        for split, md5 in CHECKSUMS.items()
    ),
    shapes=((32, 32, 3), ()),
    dtypes=("uint8", "uint8"),
    value_range=(0, 255),
    classes=tuple("0123456789"),
    splits={"train": 73257, "test": 26032, "extra": 531131},
)
def read_svhn(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) and labels (n,); "extra" are easier samples, to train with too.

    The file has 10 as the label of the digit 0.
    """
    path = find(folder, f"{split}_32x32.mat")
    pixels, labels = read_mat(path, "X", "y")
    if pixels.shape[:3] != (32, 32, 3) or pixels.dtype != np.uint8 or pixels.shape[3:] != (labels.size,):
        raise DataError(
            f"{path} must hold X of bytes, (32, 32, 3, n), and n labels y; "
            f"received {pixels.dtype} {pixels.shape} and {labels.shape}."
        )
    if labels.size and not 1 <= labels.min() <= labels.max() <= 10:
        raise DataError(f"{path} must hold labels from 1 to 10, received {labels.min()} to {labels.max()}.")
    return np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), (labels.ravel() % 10).astype(np.uint8)
