"""The published formats of the MNIST family and CIFAR, written here in small, whole and damaged."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import pickle
import shutil
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from tenzoo import datasets
from tenzoo.datasets import DataError, FetchError
from tenzoo.datasets.image import cifar, mnist

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 28, 28), dtype=np.uint8)
DIGITS = np.array([3, 1, 4, 1, 5, 9, 2], np.uint8)


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder, images=GREY, labels=DIGITS, prefix="train", compress=gzip.compress, suffix=".gz"):
    (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(compress(idx(images)))
    (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(compress(idx(labels)))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
@pytest.mark.parametrize("form", [{}, {"compress": bytes, "suffix": ""}])
def test_mnist(tmp_path, name, form):
    write_mnist(tmp_path, **form)
    write_mnist(tmp_path, GREY[:2], DIGITS[:2], prefix="t10k", **form)
    (x, y), (x_test, y_test) = datasets.info(name).load_data(tmp_path)
    assert (x == GREY).all() and (y == DIGITS).all() and (x_test == GREY[:2]).all() and (y_test == [3, 1]).all()
    x[0] = 0  # the arrays are the user's own
    (image, label), *_ = datasets.load(name, "test", data_dir=str(tmp_path))
    assert (image == GREY[0]).all() and label == 3


def write_emnist(folder, name, first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        lying = GREY.transpose(0, 2, 1)  # as they are published
        (folder / f"emnist-{name}-{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(lying)))
        (folder / f"emnist-{name}-{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(DIGITS + first)))


@pytest.mark.parametrize("name", ["balanced", "byclass", "bymerge", "digits", "letters", "mnist"])
def test_emnist(tmp_path, name):
    write_emnist(tmp_path, name, first=1 if name == "letters" else 0)
    (x, y), (x_test, _) = datasets.info(f"emnist_{name}").load_data(tmp_path)
    assert (x == GREY).all() and (y == DIGITS).all() and (x_test == GREY).all()
    write_emnist(tmp_path, name, first=100)
    with pytest.raises(DataError, match=f"emnist-{name}-train-labels.*received 101 to 109"):
        datasets.load(f"emnist_{name}", data_dir=tmp_path)


def test_emnist_in_its_archive(tmp_path):
    write_emnist(tmp_path / "gzip", "letters", first=1)
    with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as archive:
        for path in sorted((tmp_path / "gzip").iterdir()):
            archive.write(path, f"gzip/{path.name}")
    shutil.rmtree(tmp_path / "gzip")
    images, labels = datasets.emnist_letters.arrays("train", tmp_path)
    assert (images == GREY).all() and "".join(datasets.emnist_letters.classes[i] for i in labels) == "DBEBFJC"


def test_classes_of_emnist():
    assert "".join(datasets.emnist_balanced.classes) == (
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"  # Cohen et al. (2017)
    )


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "of an empty file"),
        (b"<html>", "3c 68 74 6d"),
        (idx(GREY)[:9], "within its header"),
        (idx(GREY)[:-1], "it holds 5487"),
        (idx(GREY) + b"x", "it holds more"),
        (idx(DIGITS), "00 00 08 01"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2**31), "announces"),
        (struct.pack(">BBBB3I", 0, 0, 0x0D, 3, 1, 1, 1) + bytes(4), "00 00 0d 03"),
    ],
)
def test_idx_files_that_are_none(tmp_path, content, reason):
    for name, stored in (("x", content), ("x.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(stored)
        with pytest.raises(DataError, match=reason) as caught:
            mnist.read_idx(tmp_path / name, 3)
        assert str(tmp_path / name) in str(caught.value)


def test_a_truncated_gzip_file(tmp_path):
    for stored in (gzip.compress(idx(GREY))[:-100], b"not gzipped"):
        (tmp_path / "x.gz").write_bytes(stored)
        with pytest.raises(DataError, match="damaged"):
            mnist.read_idx(tmp_path / "x.gz", 3)


def test_mnist_files_that_do_not_fit(tmp_path):
    write_mnist(tmp_path, labels=DIGITS[:-1])
    with pytest.raises(DataError, match="as many labels"):
        datasets.load("mnist", data_dir=tmp_path)
    write_mnist(tmp_path, images=GREY[:, :27])
    with pytest.raises(DataError, match="28 × 28"):
        datasets.load("mnist", data_dir=tmp_path)
    write_mnist(tmp_path, labels=DIGITS + 1)
    with pytest.raises(DataError, match="labels from 0 to 9, received 2 to 10"):
        datasets.load("mnist", data_dir=tmp_path)
    with pytest.raises(DataError, match="Expected t10k-images"):
        datasets.load("mnist", "test", data_dir=tmp_path)


def test_mnist_is_downloaded_and_read(serve, cache):
    write_mnist(cache.parent)
    write_mnist(cache.parent, GREY[:2], DIGITS[:2], prefix="t10k")
    files = []
    for file in datasets.mnist.files:
        content = (cache.parent / file.name).read_bytes()
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        files.append(dataclasses.replace(file, urls=(serve(content).address,), checksum=checksum))
    (x, y), (x_test, _) = dataclasses.replace(datasets.mnist, files=tuple(files)).load_data()
    assert (x == GREY).all() and (y == DIGITS).all() and len(x_test) == 2
    assert (cache / "mnist" / "train-images-idx3-ubyte.gz").exists()


def test_mnist_is_checked_against_the_published_sums(serve, cache, monkeypatch):
    """The published checksum guards the real file, so what this server sends is refused."""
    server = serve(gzip.compress(idx(GREY)))
    files = tuple(dataclasses.replace(file, urls=(server.address,)) for file in datasets.mnist.files)
    spec = dataclasses.replace(datasets.mnist, files=files)
    with pytest.raises(FetchError, match=r"train-images-idx3-ubyte\.gz"):
        spec.load()


COLOUR = RNG.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def records(labels):
    planes = COLOUR[: len(labels)].transpose(0, 3, 1, 2).reshape(len(labels), -1)
    return np.concatenate([np.array(labels, np.uint8), planes], axis=1).tobytes()


def write_cifar10(folder):
    folder.mkdir(exist_ok=True)
    for number in range(1, 6):
        (folder / f"data_batch_{number}.bin").write_bytes(records([[number], [0]]))
    (folder / "test_batch.bin").write_bytes(records([[9], [8], [7]]))


@pytest.mark.parametrize("sub", ["", "cifar-10-batches-bin"])
def test_cifar10(tmp_path, sub):
    write_cifar10(tmp_path / sub)
    (x, y), (x_test, y_test) = datasets.cifar10.load_data(tmp_path)
    assert x.shape == (10, 32, 32, 3) and (x_test == COLOUR[:3]).all() and (x[4:6] == COLOUR[:2]).all()
    assert y[:, 0].tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0] and y_test.tolist() == [[9], [8], [7]]
    assert [int(label) for _, label in datasets.load("cifar10", "test", tmp_path)] == [9, 8, 7]


def test_cifar10_in_its_archive(tmp_path):
    write_cifar10(tmp_path / "made")
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made", "cifar-10-batches-bin")
    for _ in range(2):
        assert (datasets.cifar10.arrays("test", tmp_path)[0] == COLOUR[:3]).all()


def test_cifar100_has_two_labels(tmp_path):
    (tmp_path / "train.bin").write_bytes(records([[19, 99], [0, 1]]))
    (tmp_path / "test.bin").write_bytes(records([[5, 50]]))
    assert datasets.cifar100.arrays("train", tmp_path)[1].tolist() == [99, 1]
    assert datasets.cifar100_coarse.arrays("train", tmp_path)[1].tolist() == [19, 0]
    assert len(datasets.cifar100.classes) == 100 and len(datasets.cifar100_coarse.classes) == 20


@pytest.mark.parametrize(
    "content, reason",
    [(b"", "0 bytes"), (records([[1]])[:-1], "records of 3073"), (records([[10]]), r"received \[10\]")],
)
def test_cifar_files_that_are_none(tmp_path, content, reason):
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        datasets.cifar10.arrays("test", tmp_path)
    assert "test_batch.bin" in str(caught.value)


def test_an_empty_cifar_folder(tmp_path):
    with pytest.raises(DataError, match=r"cifar-10-batches-bin or .*python.tar.gz in .* holds nothing"):
        datasets.cifar10.load(data_dir=tmp_path)


# The Python form, as Python 2 pickled it: text is bytes, and numpy's array is rebuilt by name.


def py2_text(text):
    return b"T" + struct.pack("<i", len(text)) + text


def py2_array(array, dtype=b"u1"):
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + py2_text(b"b") + b"tR"
        b"(K\x01(" + b"".join(b"J" + struct.pack("<i", length) for length in array.shape) + b"t"
        b"cnumpy\ndtype\n(" + py2_text(dtype) + b"K\x00K\x01tR(K\x03" + py2_text(b"|") + b"NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89" + py2_text(array.tobytes()) + b"tb"
    )


def py2_batch(pixels=None, dtype=b"u1", **labels):
    count = len(next(iter(labels.values())))
    pixels = COLOUR[:count].transpose(0, 3, 1, 2).reshape(count, -1) if pixels is None else pixels
    items = py2_text(b"data") + py2_array(pixels, dtype)
    for name, values in labels.items():
        items += py2_text(name.encode()) + b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"
    return b"\x80\x02}(" + items + py2_text(b"batch_label") + py2_text(b"testing batch 1 of 1") + b"u."


def test_the_pickles_made_here_are_what_python_reads():
    batch = pickle.loads(py2_batch(labels=[1, 2]), encoding="bytes")
    assert batch[b"labels"] == [1, 2] and batch[b"data"].shape == (2, 3072)


@pytest.mark.parametrize("sub", ["", "cifar-10-batches-py"])
def test_cifar10_in_the_python_form(tmp_path, sub):
    (tmp_path / sub).mkdir(exist_ok=True)
    (tmp_path / sub / "test_batch").write_bytes(py2_batch(labels=[7, 0, 9]))
    images, labels = datasets.cifar10.arrays("test", tmp_path)
    assert (images == COLOUR[:3]).all() and labels.tolist() == [7, 0, 9]


def test_cifar100_in_the_python_form(tmp_path):
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
        for name in ("train", "test"):
            content = py2_batch(fine_labels=[98, 2], coarse_labels=[14, 3])
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert datasets.cifar100.arrays("train", tmp_path)[1].tolist() == [98, 2]
    assert datasets.cifar100_coarse.arrays("test", tmp_path)[1].tolist() == [14, 3]


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"cos\nmkdir\n(S'evil'\ntR.", "asks for os.mkdir"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "asks for __builtin__.eval"),
        (py2_batch(labels=[1, 2])[:-20], "damaged"),
        (b"", "damaged"),
        (pickle.dumps([1]), "TypeError"),
        (py2_batch(fine_labels=[1]), "KeyError: 'labels'"),
        (py2_batch(labels=[1, 2], pixels=np.zeros((3, 3072), np.uint8)), "labels"),
        (py2_batch(labels=[1], pixels=np.zeros((1, 5), np.uint8)), "pixels"),
        (py2_batch(labels=[1], dtype=b"O8"), "not stored as unsigned bytes"),
        (py2_batch(labels=[10]), r"received \[10\]"),
    ],
)
def test_hostile_and_damaged_pickles(tmp_path, monkeypatch, content, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        cifar.read_cifar10(tmp_path, "test")
    assert "test_batch" in str(caught.value) and not (tmp_path / "evil").exists()
