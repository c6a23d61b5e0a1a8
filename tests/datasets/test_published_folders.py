"""SVHN, STL-10, the Oxford datasets and both ImageNets in their published layouts, written here in small."""

from __future__ import annotations

import logging
import shutil
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from tenzoo import datasets
from tenzoo.datasets import DataError, augment
from tenzoo.datasets.matlab import read_mat

RNG = np.random.default_rng(0)
CODES = {"uint8": (9, 2), "int32": (12, 5), "uint16": (11, 4), "float64": (6, 9)}  # class and storage type


# MATLAB files


def element(kind, data, order="<"):
    if 0 < len(data) <= 4:  # the short form
        return struct.pack(order + "I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(order + "II", kind, len(data)) + data + bytes(-len(data) % 8)


def mat_variable(name, array, compress=False, order="<", stored=None):
    code, kind = CODES[array.dtype.name]
    if stored:  # MATLAB stores doubles that are small whole numbers as bytes
        kind = CODES[stored][1]
    values = array.astype(stored or array.dtype.newbyteorder(order)).tobytes(order="F")
    body = element(6, struct.pack(order + "II", code, 0), order)
    body += element(5, np.array(array.shape, order + "i4").tobytes(), order)
    body += element(1, name.encode(), order) + element(kind, values, order)
    whole = struct.pack(order + "II", 14, len(body)) + body
    if compress:
        squeezed = zlib.compress(whole)
        return struct.pack(order + "II", 15, len(squeezed)) + squeezed
    return whole


def mat_file(*variables, order="<"):
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(order + "H", 0x0100)
    return head + (b"IM" if order == "<" else b"MI") + b"".join(variables)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", CODES)
def test_arrays_in_matlab_files(tmp_path, compress, order, dtype):
    x, y = RNG.integers(0, 200, (3, 4, 2, 5)).astype(dtype), np.array([[7.0]])
    path = tmp_path / "x.mat"
    path.write_bytes(
        mat_file(mat_variable("X", x, compress, order), mat_variable("why", y, compress, order), order=order)
    )
    read_y, read_x = read_mat(path, "why", "X")
    assert (read_x == x).all() and read_x.dtype == x.dtype and (read_y == y).all() and read_y.shape == (1, 1)


def test_doubles_stored_as_bytes(tmp_path):
    (tmp_path / "x.mat").write_bytes(mat_file(mat_variable("y", np.arange(9.0).reshape(3, 3), stored="uint8")))
    (y,) = read_mat(tmp_path / "x.mat", "y")
    assert y.dtype == np.float64 and (y == np.arange(9.0).reshape(3, 3)).all()


def text_variable(name):
    body = element(6, struct.pack("<II", 4, 0)) + element(5, struct.pack("<II", 1, 2)) + element(1, name)
    body += element(4, "hi".encode("utf-16-le"))
    return struct.pack("<II", 14, len(body)) + body


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "does not begin as one"),
        (b"\x89HDF" + bytes(600), "does not begin as one"),  # version 7.3
        (mat_file(), "holds no array X, but none"),
        (mat_file(text_variable(b"X"), mat_variable("y", np.ones((2, 2)))), "holds no array X, but y"),
        (mat_file(mat_variable("X", np.ones((9, 9))))[:-20], "longer than what is left"),
        (mat_file(mat_variable("X", np.ones((9, 9)), compress=True))[:-20], "longer than what is left"),
        (
            mat_file(struct.pack("<II", 15, 64) + zlib.compress(struct.pack("<II", 14, 2**31 + 8)).ljust(64)),
            "announces",
        ),
        (mat_file(struct.pack("<II", 15, 16) + bytes(16)), "unknown compression"),
        (
            mat_file(mat_variable("X", np.ones((9, 9))).replace(struct.pack("<II", 9, 9), struct.pack("<ii", -9, -9))),
            "-9",
        ),
        (
            mat_file(mat_variable("X", np.ones((9, 9))).replace(struct.pack("<II", 9, 9), struct.pack("<II", 9, 8))),
            "81",
        ),
    ],
)
def test_files_that_are_no_matlab_files(tmp_path, content, reason):
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(DataError, match=f"x.mat is no MATLAB file.*{reason}"):
        read_mat(tmp_path / "x.mat", "X")


def test_truncated_matlab_files_fail_cleanly(tmp_path):
    whole = mat_file(mat_variable("X", np.ones((2, 3))), mat_variable("y", np.arange(40.0)[None], compress=True))
    for length in range(len(whole)):
        (tmp_path / "x.mat").write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_mat(tmp_path / "x.mat", "X", "y")


# SVHN


def write_svhn(folder, split="train", labels=(1, 9, 10, 10)):
    images = RNG.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    y = np.array(labels, np.uint8)[:, None]
    content = mat_file(
        mat_variable("X", images.transpose(1, 2, 3, 0), compress=True), mat_variable("y", y, compress=True)
    )
    (folder / f"{split}_32x32.mat").write_bytes(content)
    return images


def test_svhn(tmp_path):
    for split in ("train", "test", "extra"):
        images = write_svhn(tmp_path, split)
        read, labels = datasets.svhn.arrays(split, tmp_path)
        assert (read == images).all() and labels.tolist() == [1, 9, 0, 0] and labels.dtype == np.uint8


def test_svhn_that_is_none(tmp_path):
    write_svhn(tmp_path, labels=(0, 1))
    with pytest.raises(DataError, match="labels from 1 to 10, received 0 to 1"):
        datasets.svhn.arrays("train", tmp_path)
    (tmp_path / "train_32x32.mat").write_bytes(
        mat_file(mat_variable("X", np.zeros((4, 4), np.uint8)), mat_variable("y", np.ones((1, 1))))
    )
    with pytest.raises(DataError, match=r"received uint8 \(4, 4\)"):
        datasets.svhn.arrays("train", tmp_path)


def test_only_the_files_of_a_split_are_downloaded(monkeypatch):
    asked = []

    def fetch(name, files, data_dir):
        asked.extend(file.name for file in files)
        raise DataError("no network here")

    monkeypatch.setattr("tenzoo.datasets.registry.fetch", fetch)
    with pytest.raises(DataError):
        datasets.svhn.load("test")
    assert asked == ["test_32x32.mat"]


# STL-10


def write_stl10(folder, archive):
    images = RNG.integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    inner = folder / "stl10_binary"
    inner.mkdir()
    for split in ("train", "test", "unlabeled"):
        images.transpose(0, 3, 2, 1).tofile(inner / f"{split}_X.bin")  # channels, columns, rows
        if split != "unlabeled":
            np.array([1, 10, 3], np.uint8).tofile(inner / f"{split}_y.bin")
    if archive:
        with tarfile.open(folder / "stl10_binary.tar.gz", "w:gz") as file:
            file.add(inner, "stl10_binary")
        shutil.rmtree(inner)
    return images


@pytest.mark.parametrize("archive", [False, True])
def test_stl10(tmp_path, archive):
    images = write_stl10(tmp_path, archive)
    for split, expected in (("train", [0, 9, 2]), ("test", [0, 9, 2]), ("unlabeled", [-1, -1, -1])):
        read, labels = datasets.stl10.arrays(split, tmp_path)
        assert (read == images).all() and labels.tolist() == expected
    read[0] = 0  # the user's own


def test_damaged_stl10(tmp_path):
    write_stl10(tmp_path, archive=False)
    inner = tmp_path / "stl10_binary"
    (inner / "train_y.bin").write_bytes(b"\x01\x0b\x01")
    with pytest.raises(DataError, match=r"train_y.bin must hold 3 labels"):
        datasets.stl10.arrays("train", tmp_path)
    (inner / "test_X.bin").write_bytes(bytes(100))
    with pytest.raises(DataError, match=r"test_X.bin.*has 100 bytes"):
        datasets.stl10.arrays("test", inner)


# Files of images


def picture(colour, size=(20, 12)):
    return Image.new("RGB", size, colour)


def packed(folder, *names, into):
    with tarfile.open(folder / into, "w:gz") as archive:
        for name in names:
            archive.add(folder / name, name)
            shutil.rmtree(folder / name)


def write_pets(folder, archive=False):
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    picture((255, 0, 0)).save(folder / "images" / "Abyssinian_100.jpg", quality=95)
    picture((0, 255, 0), (30, 9)).save(folder / "images" / "yorkshire_terrier_7.jpg", "GIF")  # there are such
    (folder / "annotations" / "trainval.txt").write_text("Abyssinian_100 1 1 1\nyorkshire_terrier_7 37 2 25\n")
    (folder / "annotations" / "test.txt").write_text("yorkshire_terrier_7 37 2 25\n")
    if archive:
        packed(folder, "images", into="images.tar.gz")
        packed(folder, "annotations", into="annotations.tar.gz")


@pytest.mark.parametrize("archive", [False, True])
def test_pets(tmp_path, archive):
    write_pets(tmp_path, archive)
    dataset = datasets.load("oxford_pets", "train", tmp_path)
    (first, cat), (second, dog) = dataset
    assert first.shape == (12, 20, 3) and first[..., 0].min() > 240 and (second == (0, 255, 0)).all()
    assert [dataset.class_names[label] for label in (cat, dog)] == ["Abyssinian", "yorkshire_terrier"]
    (x, y), (x_test, y_test) = datasets.oxford_pets.load_data(tmp_path, image_size=8)
    assert x.shape == (2, 8, 8, 3) and y.tolist() == [0, 36] and x_test.shape == (1, 8, 8, 3) and y_test == [36]
    with pytest.raises(ValueError, match="give an image_size"):
        datasets.oxford_pets.load_data(tmp_path)


def test_augmented_pets_and_their_twin(tmp_path):
    write_pets(tmp_path)
    steps = [augment.RandomResizedCrop(8), augment.RandomFlip()]
    for folder in (tmp_path, "synthetic"):
        options = {} if folder == tmp_path else {"size": 3}
        data = datasets.load("oxford_pets", "train", folder, transform=steps, seed=1, **options).batch(2)
        assert {image.shape[1:] for image, _ in data} == {(8, 8, 3)}


def test_pets_with_a_bad_list_or_a_missing_file(tmp_path, caplog):
    write_pets(tmp_path)
    (tmp_path / "images" / "Abyssinian_100.jpg").unlink()
    with pytest.raises(DataError, match=r"Abyssinian_100\.jpg"):
        list(datasets.load("oxford_pets", "train", tmp_path))
    with caplog.at_level(logging.WARNING, "tenzoo.datasets"):
        assert len(list(datasets.load("oxford_pets", "train", tmp_path, on_error="skip"))) == 1
    assert "1 so far" in caplog.text
    for line in ("Abyssinian_100 38 1 1", "../secret 1 1 1", "Abyssinian_100 x 1 1", "Abyssinian_100"):
        (tmp_path / "annotations" / "test.txt").write_text(line + "\n")
        with pytest.raises(DataError, match=r"Line 1 of .*test\.txt"):
            datasets.load("oxford_pets", "test", tmp_path)


def test_flowers(tmp_path):
    (tmp_path / "jpg").mkdir()
    for number in range(1, 5):
        picture((40 * number,) * 3).save(tmp_path / "jpg" / f"image_{number:05d}.jpg")
    labels = np.array([[102, 1, 1, 5]], np.uint8)
    (tmp_path / "imagelabels.mat").write_bytes(mat_file(mat_variable("labels", labels, compress=True)))
    ids = {"trnid": [4, 1], "valid": [2], "tstid": [3]}
    variables = [mat_variable(name, np.array([numbers], np.uint16), compress=True) for name, numbers in ids.items()]
    (tmp_path / "setid.mat").write_bytes(mat_file(*variables))
    packed(tmp_path, "jpg", into="102flowers.tgz")

    (images, labels) = datasets.oxford_flowers102.arrays("train", tmp_path, image_size=4)
    assert images[:, 0, 0, 0].tolist() == [160, 40] and labels.tolist() == [4, 101]
    assert [int(label) for _, label in datasets.load("oxford_flowers102", "validation", tmp_path)] == [0]
    assert len(datasets.oxford_flowers102.classes) == 102
    variables[0] = mat_variable("trnid", np.array([[5]], np.uint16))
    (tmp_path / "setid.mat").write_bytes(mat_file(*variables))
    with pytest.raises(DataError, match="received 5 to 5"):
        datasets.load("oxford_flowers102", "train", tmp_path)


def write_tiny_imagenet(folder):
    root = folder / "tiny-imagenet-200"
    for place, name in enumerate(("n02124075", "n01443537")):
        inner = root / "train" / name / "images"
        inner.mkdir(parents=True)
        picture((0, 0, 200 * place), (64, 64)).save(inner / f"{name}_0.JPEG")
        (inner.parent / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t10\t63\t58\n")
    (root / "val" / "images").mkdir(parents=True)
    picture((9, 9, 9), (64, 64)).convert("L").save(root / "val" / "images" / "val_0.JPEG")  # there are grey ones
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02124075\t0\t32\t44\t62\n")
    (root / "wnids.txt").write_text("n02124075\nn01443537")
    return root


@pytest.mark.parametrize("archive", [False, True])
def test_tiny_imagenet(tmp_path, archive):
    root = write_tiny_imagenet(tmp_path)
    if archive:
        with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as file:
            for path in sorted(root.rglob("*")):
                file.write(path, path.relative_to(tmp_path))
        shutil.rmtree(root)
    train = datasets.load("tiny_imagenet", "train", tmp_path)
    assert train.class_names == ("n01443537", "n02124075")
    assert [(int(image[0, 0, 2] > 100), int(label)) for image, label in train] == [(1, 0), (0, 1)]
    ((image, label),) = datasets.load("tiny_imagenet", "test", tmp_path)
    assert image.shape == (64, 64, 3) and (image == 9).all() and label == 1


def test_tiny_imagenet_with_strange_classes(tmp_path):
    root = write_tiny_imagenet(tmp_path)
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn00000000\t0\t32\t44\t62\n")
    with pytest.raises(DataError, match="'n00000000'"):
        datasets.load("tiny_imagenet", "test", root)
    (root / "train" / "cats").mkdir()
    with pytest.raises(DataError, match="received cats"):
        datasets.load("tiny_imagenet", "train", root)
    shutil.rmtree(root / "train" / "cats")
    (root / "train" / "n01443537" / "images" / "n01443537_0.JPEG").unlink()
    with pytest.raises(DataError, match="n01443537 holds no images"):
        datasets.load("tiny_imagenet", "train", root)


def write_imagenet(folder, kaggle):
    root = folder / "ILSVRC" / "Data" / "CLS-LOC" if kaggle else folder
    for name in ("n01440764", "n15075141"):  # the first and the last of the thousand
        (root / "train" / name).mkdir(parents=True)
        picture((1, 2, 3)).convert("CMYK").save(root / "train" / name / f"{name}_1.JPEG")  # there are such
    validation = root / "val" if kaggle else root / "val" / "n15075141"
    validation.mkdir(parents=True)
    picture((1, 2, 3)).save(validation / "ILSVRC2012_val_00000001.JPEG")
    if kaggle:
        (folder / "LOC_val_solution.csv").write_text(
            "ImageId,PredictionString\nILSVRC2012_val_00000001,n15075141 85 1 499 272 n15075141 1 2 3 4 \n"
        )


@pytest.mark.parametrize("kaggle", [False, True])
def test_imagenet(tmp_path, kaggle):
    write_imagenet(tmp_path, kaggle)
    assert [int(label) for _, label in datasets.load("imagenet", "train", tmp_path)] == [0, 999]
    ((image, label),) = datasets.load("imagenet", "test", tmp_path, image_size=(6, 5))
    assert image.shape == (6, 5, 3) and label == 999


def test_imagenet_has_to_be_asked_for():
    with pytest.raises(DataError, match=r"image-net\.org/download"):
        datasets.load("imagenet")
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        datasets.load("imagenet", "trian", "synthetic")
