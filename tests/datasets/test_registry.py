"""Every registered dataset: what is said of it, its synthetic twin; and the digits themselves."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest

from tenzoo import datasets
from tenzoo.datasets import Dataset

NAMES = datasets.list()


def test_the_list():
    assert {"digits", "mnist", "fashion_mnist", "kmnist", "emnist_balanced", "svhn", "cifar10"} <= set(NAMES)
    assert {"cifar100", "stl10", "tiny_imagenet", "imagenet", "oxford_pets", "oxford_flowers102"} <= set(NAMES)
    assert datasets.list("cifar*") == ["cifar10", "cifar100", "cifar100_coarse"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_a_dataset(name):
    spec = datasets.info(name)
    assert spec.name == name and getattr(datasets, name) is spec
    assert spec.description and spec.license and spec.citation and spec.homepage.startswith("http")
    assert {"train", "test"} <= set(spec.splits)
    assert len(set(spec.classes)) == len(spec.classes) > 1
    for file in spec.files:
        assert file.urls and all(url.endswith(file.name) for url in file.urls)
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.checksum)


@pytest.mark.parametrize("name", NAMES)
def test_the_synthetic_twin_has_the_form_of_the_dataset(name):
    spec = datasets.info(name)
    dataset = datasets.load(name, "test", data_dir="synthetic", size=300)
    image, label = next(iter(dataset))
    assert dataset.class_names == spec.classes and len(dataset) == 300
    assert len(image.shape) == len(spec.shapes[0]) and label.shape == spec.shapes[1] == ()
    assert all(expected in (None, extent) for expected, extent in zip(spec.shapes[0], image.shape))
    assert (str(image.dtype), str(label.dtype)) == spec.dtypes
    images, labels = next(iter(dataset.batch(300)))
    low, high = spec.value_range
    assert images.min() >= low and images.max() <= high and images.std() > 0.1 * (high - low)
    counts = np.bincount(labels, minlength=len(spec.classes))
    assert len(counts) == len(spec.classes) and counts.max() - counts.min() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_the_synthetic_twin_can_be_learnt_from_other_samples(name):
    spec = datasets.info(name)
    classes = len(spec.classes)
    small = {"image_size": 16} if None in spec.shapes[0] else {}
    (x, y), (x_test, y_test) = spec.load_data("synthetic", size=(20 if classes < 100 else 5) * classes, **small)
    y, y_test = y.ravel(), y_test.ravel()
    x, x_test = x.reshape(len(x), -1).astype(float), x_test.reshape(len(x_test), -1).astype(float)
    centres = np.stack([x[y == label].mean(axis=0) for label in range(classes)])
    nearest = ((centres**2).sum(axis=1) - 2 * x_test @ centres.T).argmin(axis=1)
    assert np.mean(nearest == y_test) > 0.8
    assert not (x == x_test).all(axis=1).any()


def test_the_synthetic_twin_goes_by_its_seed():
    first, again, other = (datasets.mnist.arrays("train", "synthetic", size=20, seed=seed)[0] for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_unknown_names():
    with pytest.raises(ValueError, match=r"Unknown dataset 'mnits'. Did you mean 'mnist'"):
        datasets.load("mnits")
    with pytest.raises(ValueError, match=r"Unknown split of digits 'trian'. Did you mean 'train'"):
        datasets.load("digits", "trian")
    with pytest.raises(AttributeError, match="Unknown dataset 'digit'"):
        _ = datasets.digit
    assert not hasattr(datasets, "__wrapped__")


def test_importing_is_cheap():
    script = (
        "import sys, tenzoo.datasets as d; d.list(); "
        "print(*{'pooch', 'requests', 'urllib3', 'PIL', 'tqdm', 'matplotlib'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.strip() == ""


# Digits


def test_digits_are_the_published_ones():
    images, labels = datasets.digits.arrays("all")
    assert images.shape == (1797, 8, 8) and images.dtype == np.uint8 and images.max() == 16
    # The class counts of the UCI test set, and the content as scikit-learn 1.9 loads it.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert images.sum() == 561718
    digest = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
    assert hashlib.sha256(images.tobytes()).hexdigest() == digest
    assert labels[:10].tolist() == list(range(10))


def test_the_license_of_the_digits_comes_with_them():
    from importlib.resources import files

    text = (files("tenzoo.datasets") / "image" / "data" / "digits.LICENSE.txt").read_text()
    assert "CC BY 4.0" in text and "Alpaydin" in text and "scikit-learn" in text


def test_a_fifth_of_the_digits_is_held_out():
    (x, _), (x_test, y_test) = datasets.digits.load_data()
    spec = datasets.digits
    assert (len(x), len(x_test)) == (spec.splits["train"], spec.splits["test"]) == (1438, 359)
    everything = datasets.digits.arrays("all")[1]
    assert (np.bincount(y_test) == np.round(np.bincount(everything) / 5)).all()
    together = np.concatenate([x, x_test]).reshape(1797, 64)
    whole = datasets.digits.arrays("all")[0].reshape(1797, 64)
    assert (np.unique(together, axis=0) == np.unique(whole, axis=0)).all()
    held_out = [np.flatnonzero((whole == image.ravel()).all(axis=1)).item() for image in x_test[:4]]
    assert held_out == [2, 7, 20, 28]  # never changes: published scores refer to it


def test_another_seed_holds_out_other_digits():
    first, again, other = (datasets.digits.arrays("test", seed=seed)[0] for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_digits_load_as_a_dataset():
    dataset = datasets.load("digits", "train")
    assert isinstance(dataset, Dataset) and len(dataset) == 1438 and dataset.class_names == tuple("0123456789")
    with pytest.raises(ValueError, match="comes with the library"):
        datasets.load("digits", data_dir="somewhere")
