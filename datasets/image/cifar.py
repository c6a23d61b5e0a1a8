"""CIFAR-10 and CIFAR-100, in the binary and in the Python form of https://www.cs.toronto.edu/~kriz/cifar.html."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..archives import unpack
from ..errors import DataError
from ..fetch import File, find
from ..registry import dataset

PIXELS = 3 * 32 * 32


class Layout(NamedTuple):
    """How one of the two datasets is published."""

    name: str  # as in the names of archives and folders
    binary: dict[str, list[str]]  # split -> files
    python: dict[str, list[str]]
    binary_folder: str
    python_folder: str
    label_names: tuple[str, ...]  # in the Python form, in the order of the label bytes of the binary form
    label_counts: tuple[int, ...]


CIFAR10 = Layout(
    "cifar-10",
    {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
    {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
    "cifar-10-batches-bin",
    "cifar-10-batches-py",
    ("labels",),
    (10,),
)
CIFAR100 = Layout(
    "cifar-100",
    {"train": ["train.bin"], "test": ["test.bin"]},
    {"train": ["train"], "test": ["test"]},
    "cifar-100-binary",
    "cifar-100-python",
    ("coarse_labels", "fine_labels"),
    (20, 100),
)


def read_cifar(folder: Path, split: str, layout: Layout, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) and labels (n,) of the named kind.

    ``folder`` holds the batch files of either form, or the published folder of them, or the published
    archive.
    """
    batches, python = _locate(folder, layout)
    names = (layout.python if python else layout.binary)[split]
    read = _read_python if python else _read_binary
    parts = [read(find(batches, name), layout) for name in names]
    images = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = np.concatenate([columns for _, columns in parts])
    return np.ascontiguousarray(images), labels[:, layout.label_names.index(label)].copy()


def _locate(folder: Path, layout: Layout) -> tuple[Path, bool]:
    """Return the folder of the batch files, and whether they are in the Python form."""
    archives = (f"{layout.name}-binary.tar.gz", f"{layout.name}-python.tar.gz")
    found = find(
        folder,
        layout.binary_folder,
        layout.python_folder,
        layout.binary["test"][0],
        layout.python["test"][0],
        *archives,
    )
    if found.name in archives:
        python = found.name == archives[1]
        inner = layout.python_folder if python else layout.binary_folder
        return find(unpack(found, folder / f"{found.name}.unpacked"), inner), python
    python = found.name in (layout.python_folder, layout.python["test"][0])
    return (found if found.is_dir() else folder), python


def _read_binary(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Read records of the label bytes followed by 1024 red, 1024 green and 1024 blue bytes."""
    columns = len(layout.label_names)
    content = np.fromfile(path, np.uint8)
    if content.size == 0 or content.size % (columns + PIXELS):
        raise DataError(
            f"{path} must consist of records of {columns + PIXELS} bytes; it has {content.size} bytes. "
            "It is damaged or of another dataset."
        )
    records = content.reshape(-1, columns + PIXELS)
    return records[:, columns:], _checked(path, records[:, :columns], layout)


def _read_python(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Read a pickled dict of "data", (n, 3072) bytes, and a list for each kind of label."""
    try:
        with open(path, "rb") as file:
            batch = _BatchUnpickler(file, encoding="latin1").load()
        pixels = batch["data"].array
        labels = np.array([batch[name] for name in layout.label_names], np.int64).T
        if pixels.ndim != 2 or pixels.shape[1] != PIXELS or labels.shape[:1] != pixels.shape[:1]:
            raise ValueError(f"{pixels.shape} pixels and {labels.shape} labels")
    except Exception as error:  # a hostile or damaged pickle can fail in any way
        raise DataError(
            f"{path} is no batch of {layout.name} in the Python form, or damaged: {type(error).__name__}: {error}"
        ) from error
    return pixels, _checked(path, labels, layout)


def _checked(path: Path, labels: np.ndarray, layout: Layout) -> np.ndarray:
    if (labels < 0).any() or (labels >= layout.label_counts).any():
        raise DataError(
            f"{path} must hold labels from 0 up to, but without, {layout.label_counts}; "
            f"received {labels.min(axis=0).tolist()} to {labels.max(axis=0).tolist()}."
        )
    return labels.astype(np.uint8)


class _Array:
    """Stands in for numpy's array while a batch is unpickled: takes bytes and a shape, and runs nothing."""

    def __init__(self, *_: Any):
        self.array = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, column_major, content = state
        if not isinstance(dtype, _Dtype) or dtype.code not in ("u1", "|u1") or column_major:
            raise ValueError("the pixels are not stored as unsigned bytes in row order")
        # Python 2 wrote bytes as text, one character for each byte.
        content = content.encode("latin1") if isinstance(content, str) else content
        self.array = np.frombuffer(content, np.uint8).reshape(shape)


class _Dtype:
    """Stands in for numpy's dtype while a batch is unpickled."""

    def __init__(self, code: str, *_: Any):
        self.code = code

    def __setstate__(self, _state: tuple) -> None:
        """Byte order and alignment, which a byte does not have."""


class _BatchUnpickler(pickle.Unpickler):
    """Reads plain containers, numbers, text and arrays of bytes; refuses every other name."""

    STAND_INS = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in self.STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")
        return self.STAND_INS[module, name]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FINE = _words("""
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
    can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter
    palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
    rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
    sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
""")
COARSE = _words("""
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
    household_furniture insects large_carnivores large_man-made_outdoor_things
    large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals non-insect_invertebrates
    people reptiles small_mammals trees vehicles_1 vehicles_2
""")

# Addresses and checksums as on https://www.cs.toronto.edu/~kriz/cifar.html.
CIFAR10_FILE = File(
    "cifar-10-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    "md5:c32a1d4ab5d03f1284b67883e8d87530",
)
CIFAR100_FILE = File(
    "cifar-100-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
    "md5:03b5dce01913d631647c71ecec9e9cb8",
)
COMMON = {
    "license": "none stated by the authors, who ask for a citation of the report",
    "citation": "Krizhevsky (2009). Learning Multiple Layers of Features from Tiny Images. Technical report.",
    "homepage": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "shapes": ((32, 32, 3), ()),
    "dtypes": ("uint8", "uint8"),
    "value_range": (0, 255),
    "splits": {"train": 50000, "test": 10000},
    "column_labels": True,
}


@dataset(
    "cifar10",
    description="60,000 small colour photographs of 10 kinds of things",
    files=(CIFAR10_FILE,),
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    **COMMON,
)
def read_cifar10(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) and labels (n,)."""
    return read_cifar(folder, split, CIFAR10, "labels")


@dataset(
    "cifar100",
    description="60,000 small colour photographs of 100 kinds of things",
    files=(CIFAR100_FILE,),
    classes=FINE,
    **COMMON,
)
def read_cifar100(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) and fine labels (n,)."""
    return read_cifar(folder, split, CIFAR100, "fine_labels")


@dataset(
    "cifar100_coarse",
    description="CIFAR-100 with its 20 groups of classes as labels",
    files=(CIFAR100_FILE,),
    folder="cifar100",
    classes=COARSE,
    **COMMON,
)
def read_cifar100_coarse(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) and coarse labels (n,)."""
    return read_cifar(folder, split, CIFAR100, "coarse_labels")
