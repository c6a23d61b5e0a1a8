"""Decoding, resizing, cropping, augmenting and normalising against torchvision, transformers and timm, on photographs
that come with matplotlib and scikit-learn; MATLAB files against scipy."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenzoo import datasets
from tenzoo.datasets import augment
from tenzoo.datasets.image import auto_augment
from tenzoo.datasets.matlab import read_mat
from tenzoo.zoo.vision.preprocess import Preprocess

pytestmark = pytest.mark.slow

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photographs():
    """Files: JPEGs, and PNGs with and without opacity."""
    files = []
    for package, folder in (("matplotlib", "mpl-data/sample_data"), ("sklearn", "datasets/images")):
        spec = importlib.util.find_spec(package)
        if spec is not None:
            root = Path(spec.submodule_search_locations[0], folder)
            files += [file for file in sorted(root.iterdir()) if file.suffix in (".jpg", ".png")]
    return files


PHOTOGRAPHS = photographs()
on_photographs = pytest.mark.parametrize("file", PHOTOGRAPHS, ids=lambda file: file.name)


@pytest.fixture(scope="module")
def functional(torchvision):
    return torchvision.transforms.functional


def pixels(image):
    return np.asarray(image).astype(int)


def opened(file):
    with Image.open(file) as image:
        return image.convert("RGB")


def test_there_are_photographs():
    assert {".jpg", ".png"} <= {file.suffix for file in PHOTOGRAPHS}


@on_photographs
def test_decoding(file):
    np.testing.assert_array_equal(datasets.decode_image(file), pixels(opened(file)))


@on_photographs
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [97, 224, 700, (64, 200)])
def test_resizing(functional, file, interpolation, size):
    from torchvision.transforms import InterpolationMode

    expected = functional.resize(
        opened(file), size if isinstance(size, int) else list(size), InterpolationMode(interpolation)
    )
    np.testing.assert_array_equal(pixels(augment.Resize(size, interpolation)(opened(file))), pixels(expected))


@on_photographs
@pytest.mark.parametrize("size", [1, 101, 224, 427, 601, (301, 700)])
def test_centre_crops(functional, file, size):
    expected = functional.center_crop(opened(file), size)
    np.testing.assert_array_equal(pixels(augment.CenterCrop(size)(opened(file))), pixels(expected))


@on_photographs
def test_parts_that_are_resized(functional, file):
    step, image = augment.RandomResizedCrop((160, 192)), opened(file)
    for seed in range(5):
        part = step.part(image.height, image.width, np.random.default_rng(seed))
        expected = functional.resized_crop(image, *part, [160, 192])
        np.testing.assert_array_equal(pixels(step(image, np.random.default_rng(seed))), pixels(expected))


@on_photographs
def test_the_whole_way_to_normalised_pixels(functional, file):
    from torchvision import transforms

    reference = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(*IMAGENET)]
    )
    steps = [augment.Resize(256), augment.CenterCrop(224), augment.Normalize(*IMAGENET)]
    expected = reference(opened(file)).numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(augment.Compose(steps)(opened(file)), expected, atol=1e-5, rtol=1e-5)
    preprocess = Preprocess((224, 224), resize=256, crop="round")
    np.testing.assert_allclose(preprocess(file), expected, atol=1e-5, rtol=1e-5)


@on_photographs
@pytest.mark.parametrize("name", ["ViTImageProcessor", "MobileNetV2ImageProcessor", "ConvNextImageProcessor"])
def test_image_processors(file, name):
    transformers = pytest.importorskip("transformers")
    processor = (getattr(transformers, f"{name}Pil", None) or getattr(transformers, name))()
    preprocess = Preprocess.from_transformers(json.loads(processor.to_json_string()))
    expected = np.asarray(processor(opened(file), return_tensors="np")["pixel_values"])[0].transpose(1, 2, 0)
    np.testing.assert_allclose(preprocess(file), expected, atol=1e-5, rtol=1e-5)


@on_photographs
@pytest.mark.parametrize("name", ["resnet50", "vit_tiny_patch16_224", "efficientnet_b0"])
def test_evaluation_transforms_of_timm(timm, file, name):
    config = timm.create_model(name).pretrained_cfg
    reference = timm.data.create_transform(**timm.data.resolve_data_config(config))
    expected = reference(opened(file)).numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(Preprocess.from_timm(config)(file), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fill", [None, 128])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("name", auto_augment.OPERATIONS)
def test_operations_of_the_policies(functional, name, interpolation, fill):
    from torchvision.transforms import InterpolationMode, autoaugment

    image = opened(PHOTOGRAPHS[0])
    for bounds in (auto_augment.ranges(*image.size).get(name), auto_augment.WIDE_RANGES.get(name)):
        if bounds is None:
            continue
        for level in (0, 3, 9, 20, 30):
            strength = auto_augment.magnitude(bounds, level, 31)
            for value in (strength, -strength) if auto_augment.OPERATIONS[name].signed else (strength,):
                actual = auto_augment.apply_operation(image, name, value, interpolation, fill)
                # torchvision rounds the bits when it makes its table
                their_value = round(value) if name == "Posterize" else value
                expected = autoaugment._apply_op(
                    image, name, their_value, InterpolationMode(interpolation), fill and [fill] * 3
                )
                difference = np.abs(pixels(actual) - pixels(expected))
                # A shear goes through an angle there: the last bit of a place between two pixels may differ.
                assert (difference > 0).mean() < (1e-3 if "Shear" in name and interpolation == "bilinear" else 1e-9)


def test_ranges_of_the_policies(functional):
    from torchvision.transforms import autoaugment

    theirs = [
        (autoaugment.RandAugment()._augmentation_space(31, (375, 500)), auto_augment.ranges(500, 375)),
        (autoaugment.AutoAugment()._augmentation_space(31, (375, 500)), auto_augment.ranges(500, 375)),
        (autoaugment.TrivialAugmentWide()._augmentation_space(31), auto_augment.WIDE_RANGES),
    ]
    for table, ours in theirs:
        for name, (values, signed) in table.items():
            assert auto_augment.OPERATIONS[name].signed == signed
            actual = [auto_augment.magnitude(ours[name], level, 31) for level in range(31)]
            actual = np.round(actual) if name == "Posterize" else actual
            np.testing.assert_allclose(actual, np.broadcast_to(values.numpy(), 31), rtol=1e-5, atol=1e-5)
    assert set(theirs[0][0]) == set(auto_augment.RAND_AUGMENT) and set(theirs[2][0]) == set(auto_augment.WIDE_RANGES)


@pytest.mark.parametrize("policy", auto_augment.POLICIES)
def test_policies(functional, policy):
    from torchvision.transforms import autoaugment

    theirs = autoaugment.AutoAugment(autoaugment.AutoAugmentPolicy(policy)).policies
    assert len(theirs) == len(auto_augment.POLICIES[policy])
    for expected, actual in zip(theirs, auto_augment.POLICIES[policy]):
        assert tuple((name, share, level or 0) for name, share, level in expected) == actual


@pytest.mark.parametrize("share", [-0.5, -0.21, 0.1, 0.5])
def test_hue(functional, share):
    image = opened(PHOTOGRAPHS[0])
    np.testing.assert_array_equal(pixels(augment.hue_moved(image, share)), pixels(functional.adjust_hue(image, share)))


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files_of_scipy(tmp_path, compressed):
    scipy_io = pytest.importorskip("scipy.io")
    rng = np.random.default_rng(0)
    arrays = {
        "X": rng.integers(0, 256, (32, 32, 3, 7), dtype=np.uint8),
        "y": rng.integers(1, 11, (7, 1), dtype=np.uint8),
        "labels": rng.normal(size=(3, 4)),
        "i": rng.integers(-9, 9, (2, 5)).astype(np.int16),
        "text": "not read",
        "cells": np.array([[1, "two"]], object),
        "structure": {"a": 1.0},
        "complex": np.ones((2, 2)) * 1j,
    }
    scipy_io.savemat(tmp_path / "x.mat", arrays, do_compression=compressed)
    for name, actual in zip(("labels", "X", "i", "y"), read_mat(tmp_path / "x.mat", "labels", "X", "i", "y")):
        np.testing.assert_array_equal(actual, arrays[name])
        assert actual.dtype == arrays[name].dtype
