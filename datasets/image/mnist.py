"""MNIST, Fashion-MNIST, KMNIST and EMNIST, in the IDX format of http://yann.lecun.com/exdb/mnist/."""

from __future__ import annotations

import gzip
import math
import string
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from ..archives import unpacked
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
    return read_pair(folder, prefix, range(10))


def read_pair(folder: Path, prefix: str, allowed: range) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 28, 28) and labels (n,) from the files of one split, gzipped or not."""
    image_path, label_path = (
        find(folder, f"{prefix}-{name}.gz", f"{prefix}-{name}") for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        raise DataError(
            f"{image_path} and {label_path.name} must hold images of 28 × 28 pixels and as many labels; "
            f"received {images.shape} and {labels.shape}."
        )
    if labels.size and not allowed[0] <= labels.min() <= labels.max() <= allowed[-1]:
        raise DataError(
            f"{label_path} must hold labels from {allowed[0]} to {allowed[-1]}, "
            f"received {labels.min()} to {labels.max()}."
        )
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

# Addresses and checksums as in torchvision (torchvision/datasets/mnist.py), names of the classes as in TensorFlow
# Datasets (image_classification/mnist.py).
dataset(
    "kmnist",
    description="70,000 handwritten letters of cursive Japanese, in the format of MNIST",
    license="CC BY-SA 4.0",
    citation="Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto and Ha (2018). Deep Learning for Classical Japanese "
    "Literature. arXiv:1812.01718.",
    homepage="http://codh.rois.ac.jp/kmnist/index.html.en",
    files=tuple(
        File(name, (f"http://codh.rois.ac.jp/kmnist/dataset/kmnist/{name}",), f"md5:{md5}")
        for name, md5 in (
            ("train-images-idx3-ubyte.gz", "bdb82020997e1d708af4cf47b453dcf7"),
            ("train-labels-idx1-ubyte.gz", "e144d726b3acfaa3e44228e80efcd344"),
            ("t10k-images-idx3-ubyte.gz", "5c965bf0a639b31b8f53240b1b52f4d7"),
            ("t10k-labels-idx1-ubyte.gz", "7320c461ea6c1c855c0b718fb2a4b134"),
        )
    ),
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    **COMMON,
)(_read)

EVERY = string.digits + string.ascii_uppercase + string.ascii_lowercase
ALIKE_AS_ONE = "".join(character for character in EVERY if character not in "cijklmopsuvwxyz")
# name: what it holds, classes, samples for training and test. The numbers are those of TensorFlow Datasets, but for
# the letters, where the published files have those of https://huggingface.co/datasets/tanganke/emnist_letters.
EMNIST = {
    "balanced": ("letters and digits, equally often", ALIKE_AS_ONE, 112800, 18800),
    "byclass": ("letters and digits", EVERY, 697932, 116323),
    "bymerge": ("letters and digits, small letters that look like capitals as those", ALIKE_AS_ONE, 697932, 116323),
    "digits": ("digits", string.digits, 240000, 40000),
    "letters": ("letters, large and small as one", string.ascii_uppercase, 124800, 20800),
    "mnist": ("digits, as many as in MNIST", string.digits, 60000, 10000),
}


def _read_emnist(name: str) -> Callable[[Path, str], tuple[np.ndarray, np.ndarray]]:
    def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return images (n, 28, 28), turned upright from the published ones, and labels (n,)."""
        first = 1 if name == "letters" else 0
        prefix = f"emnist-{name}-{split}"
        if not list(folder.glob(f"{prefix}-*")):
            folder = unpacked(folder, "gzip", "gzip.zip")
        images, labels = read_pair(folder, prefix, range(first, first + len(EMNIST[name][1])))
        return np.ascontiguousarray(images.transpose(0, 2, 1)), labels - np.uint8(first)

    return read


# Address and checksum as in torchvision (torchvision/datasets/mnist.py).
for _name, (_what, _classes, _train, _test) in EMNIST.items():
    dataset(
        f"emnist_{_name}",
        description=f"handwritten {_what}, of NIST Special Database 19, in the format of MNIST",
        license="none known; see the homepage",
        citation="Cohen, Afshar, Tapson and van Schaik (2017). EMNIST: an extension of MNIST to handwritten letters. "
        "arXiv:1702.05373.",
        homepage="https://www.nist.gov/itl/products-and-services/emnist-dataset",
        files=(
            File(
                "gzip.zip",
                ("https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",),
                "md5:58c8d27c78d21e728a6bc7b3cc06412e",
            ),
        ),
        folder="emnist",
        classes=tuple(_classes),
        **COMMON | {"splits": {"train": _train, "test": _test}},
    )(_read_emnist(_name))
