"""MNIST and Fashion-MNIST, in the IDX format of http://yann.lecun.com/exdb/mnist/."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import DataError
from ..fetch import File, find
from ..registry import dataset

UNSIGNED_BYTE = 0x08  # the IDX code of the only type that these files use
LARGEST = 2**30  # bytes; the largest of these files holds 47 million


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Return the unsigned bytes of an IDX file, gzipped or not, which must have the given number of axes.

    The format: two zero bytes, the type, the number of axes, each length as a big-endian 32-bit number, the
    values.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            return _parse_idx(file, axes)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} is no IDX file of unsigned bytes with {axes} axes, or damaged: {error}") from error


def _parse_idx(file: IO[bytes], axes: int) -> np.ndarray:
    magic = file.read(4)
    if magic != bytes((0, 0, UNSIGNED_BYTE, axes)):
        raise ValueError(f"it begins with the bytes {magic.hex(' ') or 'of an empty file'}")
    header = file.read(4 * axes)
    if len(header) < 4 * axes:
        raise ValueError("it ends within its header")
    shape = tuple(int(length) for length in np.frombuffer(header, ">u4"))
    size = math.prod(shape)
    if size > LARGEST:
        raise ValueError(f"its header announces {shape} values")
    content = file.read(size + 1)  # one more: a longer file is as wrong as a shorter one
    if len(content) != size:
        raise ValueError(
            f"its header announces {shape} values, it holds {'more' if len(content) > size else len(content)}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def _read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 28, 28) and labels (n,) from the four published files, gzipped or not."""
    prefix = "train" if split == "train" else "t10k"
    image_path, label_path = (
        find(folder, f"{prefix}-{name}.gz", f"{prefix}-{name}") for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        raise DataError(
            f"{image_path} and {label_path.name} must hold images of 28 × 28 pixels and as many labels; "
            f"received {images.shape} and {labels.shape}."
        )
    if labels.size and labels.max() > 9:
        raise DataError(f"{label_path} must hold labels from 0 to 9, received {labels.max()}.")
    return images, labels


COMMON = {
    "shapes": ((28, 28), ()),
    "dtypes": ("uint8", "uint8"),
    "value_range": (0, 255),
    "splits": {"train": 60000, "test": 10000},
}

# Addresses and checksums as in torchvision (torchvision/datasets/mnist.py).
dataset(
    "mnist",
    description="70,000 handwritten digits",
    license="CC BY-SA 3.0, as Keras documents it; copyright Yann LeCun and Corinna Cortes",
    citation="LeCun, Bottou, Bengio and Haffner (1998). Gradient-based learning applied to document "
    "recognition. Proceedings of the IEEE 86(11).",
    homepage="http://yann.lecun.com/exdb/mnist/",
    files=tuple(
        File(
            name,
            (
                f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}",
                f"http://yann.lecun.com/exdb/mnist/{name}",
            ),
            f"md5:{md5}",
        )
        for name, md5 in (
            ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        )
    ),
    classes=tuple("0123456789"),
    **COMMON,
)(_read)

# Address, checksums and names of the classes as in the README of https://github.com/zalandoresearch/fashion-mnist;
# the second address is its folder data/fashion.
dataset(
    "fashion_mnist",
    description="70,000 pictures of clothing, in the format of MNIST",
    license="MIT, Copyright 2017 Zalando SE",
    citation="Xiao, Rasul and Vollgraf (2017). Fashion-MNIST: a Novel Image Dataset for Benchmarking "
    "Machine Learning Algorithms. arXiv:1708.07747.",
    homepage="https://github.com/zalandoresearch/fashion-mnist",
    files=tuple(
        File(
            name,
            (
                f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}",
                f"https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{name}",
            ),
            f"md5:{md5}",
        )
        for name, md5 in (
            ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    ),
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    **COMMON,
)(_read)
