"""What the harness does not see of random image layers: what they do in training, and that it compiles."""

import numpy as np
import pytest

from tenzoo import core, layers
from tenzoo.core import ShapeError

IMAGES = np.random.default_rng(0).uniform(0, 255, (6, 8, 10, 3)).astype("float32")
MAKE = [
    lambda: layers.RandomFlip(seed=1),
    lambda: layers.RandomCrop(5, 6, seed=1),
    lambda: layers.RandomBrightness(0.5, seed=1),
    lambda: layers.RandomContrast(0.5, seed=1),
    lambda: layers.RandomTranslation(0.3, 0.3, seed=1),
    lambda: layers.RandomRotation(0.3, seed=1),
    lambda: layers.RandomZoom(0.3, (0.1, 0.4), seed=1),
    lambda: layers.RandomShear(0.3, 0.3, seed=1),
    lambda: layers.RandomGrayscale(seed=1),
    lambda: layers.RandomInvert((0.5, 0.5), seed=1),
    lambda: layers.RandomColorDegeneration(1.0, seed=1),
    lambda: layers.RandomSaturation(1.0, seed=1),
    lambda: layers.RandomHue(1.0, seed=1),
    lambda: layers.RandomSharpness(1.0, seed=1),
    lambda: layers.RandomPosterization((1, 5), seed=1),
    lambda: layers.Solarization(0.5, 0.5, seed=1),
    lambda: layers.RandomColorJitter((0, 255), 0.2, 0.2, 0.5, 0.2, seed=1),
    lambda: layers.RandAugment(seed=1),
    lambda: layers.AugMix(num_chains=2, chain_depth=1, factor=0.5, seed=1),
    lambda: layers.RandomErasing((1.0, 1.0), seed=1),
    lambda: layers.RandomGaussianBlur((1.0, 1.0), 5, 2.0, seed=1),
    lambda: layers.RandomPerspective((1.0, 1.0), 0.5, seed=1),
    lambda: layers.RandomElasticTransform((1.0, 1.0), (0.5, 1.0), seed=1),
    lambda: layers.MixUp(1.0, seed=1),
    lambda: layers.CutMix(seed=1),
]


@pytest.mark.parametrize("make", MAKE)
def test_changes_in_training_and_by_default_alike_when_compiled(make):
    layer = make()
    first, second = layer(IMAGES), layer(IMAGES, training=True)
    assert not np.allclose(first, second) and first.shape == second.shape
    assert first.numpy().min() >= -1e-3 and first.numpy().max() <= 255.01
    again = make()
    np.testing.assert_allclose(core.jit(again)(IMAGES), first, rtol=1e-4, atol=1e-2)
    assert layer(IMAGES.astype("uint8"), training=False).shape == first.shape
    assert layer(IMAGES[0]).shape == first.shape[1:]
    model = layers.Sequential([layers.Input((8, 10, 3)), make()])
    np.testing.assert_array_equal(model(IMAGES, training=False), layer(IMAGES, training=False))
    with pytest.raises(ShapeError, match="images"):
        layer(IMAGES[0, 0])


def test_what_each_one_does():
    flipped = layers.RandomFlip("horizontal", seed=0)(IMAGES).numpy()
    for before, after in zip(IMAGES, flipped):
        assert np.array_equal(before, after) or np.array_equal(before[:, ::-1], after)
    cropped = layers.RandomCrop(5, 6, seed=0)(IMAGES).numpy()
    places = [(i, j) for i in range(4) for j in range(5) if np.array_equal(IMAGES[:, i : i + 5, j : j + 6], cropped)]
    assert len(places) == 1
    np.testing.assert_allclose(layers.RandomBrightness((0.1, 0.1))(IMAGES), (IMAGES + 25.5).clip(0, 255), rtol=1e-5)
    moved = layers.RandomTranslation((0.25, 0.25), (0.2, 0.2), fill_mode="constant")(IMAGES).numpy()
    np.testing.assert_allclose(moved[:, 2:, 2:], IMAGES[:, :-2, :-2], rtol=1e-3)
    turned = layers.RandomRotation((0.5, 0.5))(IMAGES)
    np.testing.assert_allclose(turned, IMAGES[:, ::-1, ::-1], rtol=1e-2, atol=0.1)
    near = layers.RandomZoom((-0.5, -0.5))(IMAGES[:1])
    assert near.numpy().std() < IMAGES.std()


def test_what_damage_does():
    always = (1.0, 1.0)
    erased = layers.RandomErasing(always, (0.25, 0.25), fill_value=[1.0, 2.0, 3.0], seed=0)(IMAGES).numpy()
    gone = (erased != IMAGES).all(-1)
    rows, columns = gone.any(2), gone.any(1)
    assert (gone == rows[:, :, None] & columns[:, None]).all()  # a rectangle ...
    assert set(rows.sum(1)) <= {4} and set(columns.sum(1)) <= {5}  # ... of half the height and half the width
    np.testing.assert_array_equal(erased[gone], np.broadcast_to([1.0, 2.0, 3.0], (gone.sum(), 3)))
    blurred = layers.RandomGaussianBlur(always, 3, (5.0, 5.0))(IMAGES).numpy()
    assert blurred[:, 2:-2, 2:-2].std() < 0.6 * IMAGES.std()
    np.testing.assert_allclose(layers.RandomPerspective(always, 0.0)(IMAGES), IMAGES, rtol=1e-4, atol=1e-3)
    # Corners are moved to end points: the pixel seen at an end point is the one that was at the start point.
    slanted = layers.RandomPerspective(always, 0.4, "nearest", fill_value=-1.0, seed=3)(IMAGES).numpy()
    np.testing.assert_array_equal(slanted[:, 0, 0], IMAGES[:, 0, 0])  # a share of the coordinate 0 is 0
    assert (slanted == -1).any() and not np.allclose(slanted, IMAGES)
    some = layers.RandomErasing((0.5, 0.5), (1.0, 1.0), fill_value=0.0, seed=0)
    share = np.mean([(some(IMAGES).numpy() == 0).all((1, 2, 3)).mean() for _ in range(60)])
    assert share == pytest.approx(0.5, abs=0.1)


def test_equalization_is_by_image_and_channel():
    whole = layers.Equalization()(IMAGES).numpy()
    np.testing.assert_allclose(core.jit(layers.Equalization())(IMAGES), whole, rtol=1e-5, atol=1e-3)
    for image, equalized in zip(IMAGES, whole):
        np.testing.assert_array_equal(layers.Equalization()(image), equalized)
        for channel, values in zip(np.moveaxis(image, -1, 0), np.moveaxis(equalized, -1, 0)):
            levels, counts = np.unique(np.floor(channel), return_counts=True)
            below = np.cumsum(counts)
            table = np.round((below - below[0]) * 255 / (below[-1] - below[0]))
            np.testing.assert_array_equal(values, table[np.searchsorted(levels, np.floor(channel))])
    flat = np.full((1, 4, 4, 1), 77.5, "float32")
    np.testing.assert_array_equal(layers.Equalization()(flat), flat)


def test_a_fixed_number_of_boxes():
    boxes, labels = np.arange(24.0).reshape(2, 3, 4), np.array([[1, 2, 3], [4, 5, 6]])
    data = {"images": IMAGES[:2], "bounding_boxes": {"boxes": boxes, "labels": labels}}
    fewer = layers.MaxNumBoundingBoxes(2)(data)
    np.testing.assert_array_equal(fewer["bounding_boxes"]["boxes"], boxes[:, :2])
    more = layers.MaxNumBoundingBoxes(4, fill_value=-7)(data)
    assert more["bounding_boxes"]["boxes"].shape == (2, 4, 4)
    assert more["bounding_boxes"]["labels"].tolist() == [[1, 2, 3, -7], [4, 5, 6, -7]]
    np.testing.assert_array_equal(more["images"], IMAGES[:2])


@pytest.mark.parametrize("layer", [layers.MixUp(1.0, seed=2), layers.CutMix(seed=2)])
def test_labels_are_mixed_as_the_images_are(layer):
    images = np.broadcast_to(np.eye(4, dtype="float32")[:, None, None], (4, 40, 40, 4))
    mixed = layer({"images": images, "labels": np.eye(4)})
    np.testing.assert_allclose(np.mean(mixed["images"], (1, 2)), mixed["labels"], atol=0.06)
    np.testing.assert_allclose(np.sum(mixed["labels"], 1), np.ones(4), rtol=1e-5)
    still = layer({"images": images, "labels": np.eye(4)}, training=False)
    np.testing.assert_array_equal(still["labels"], np.eye(4))


def test_noise_layers_keep_the_mean():
    x = np.random.default_rng(0).normal(1.0, 1.0, (200, 20, 5)).astype("float32")
    for layer in (
        layers.SpatialDropout1D(0.4),
        layers.StochasticDepth(0.4),
        layers.GaussianNoise(0.5),
        layers.GaussianDropout(0.4),
        layers.AlphaDropout(0.4),
    ):
        y = layer(x, training=True).numpy()
        assert not np.allclose(y, x)
        if not isinstance(layer, layers.AlphaDropout):
            assert y.mean() == pytest.approx(1.0, abs=0.15)
        np.testing.assert_array_equal(layer(x), x)
    standard = layers.AlphaDropout(0.3)(x - 1, training=True).numpy()
    assert standard.mean() == pytest.approx(0, abs=0.05) and standard.std() == pytest.approx(1, abs=0.05)
    whole = layers.StochasticDepth(0.5)(x, training=True).numpy()
    assert all(np.allclose(b, 0) or np.allclose(b, 2 * a, rtol=1e-5) for a, b in zip(x, whole))
    channels = layers.SpatialDropout1D(0.5)(x, training=True).numpy()
    assert ((channels == 0).all(1) | (channels != 0).all(1)).all()


def test_wrong_arguments():
    for wrong in (
        lambda: layers.RandomFlip("sideways"),
        lambda: layers.RandomRotation(2.0),
        lambda: layers.RandomContrast(-0.1),
        lambda: layers.RandomFlip(data_format="channels_first"),
        lambda: layers.RandomGaussianBlur(kernel_size=4),
        lambda: layers.RandomPerspective(scale=1.5),
        lambda: layers.RandomErasing(factor=2.0),
        lambda: layers.Equalization(value_range=(1, 0)),
        lambda: layers.Equalization(bins=1),
        lambda: layers.StochasticDepth(1.0),
        lambda: layers.GaussianNoise(2.0),
    ):
        with pytest.raises(ValueError):
            wrong()


def test_boxes_are_not_left_behind():
    data = {"images": IMAGES, "segmentation_masks": IMAGES[..., :1]}
    with pytest.raises(ValueError, match=r"RandomFlip moves .* 'segmentation_masks'"):
        layers.RandomFlip()(data)
    assert layers.RandomFlip()(data, training=False).keys() == data.keys()
    assert layers.RandomBrightness(0.1)(data).keys() == data.keys()
