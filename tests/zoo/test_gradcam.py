"""Grad-CAM: against its formula, on the families of the zoo, and brought back onto the picture."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo.zoo.vision.gradcam import grad_cam, heat_on_picture, overlay
from tenzoo.zoo.vision.preprocess import Preprocess

RNG = np.random.default_rng(0)


def pooled(filters=3, classes=2):
    """A convolution, the mean over the places, and a last layer."""
    pixels = tz.Input((6, 6, 1))
    x = tz.layers.Conv2D(filters, 3, padding="same", name="map")(pixels)
    x = tz.layers.GlobalAveragePooling2D()(x)
    return tz.Model(pixels, tz.layers.Dense(classes)(x))


@pytest.mark.parametrize("trainable", [True, False])
def test_formula(trainable):
    # Behind a mean over the places, the weights of the channels are those of the last layer.
    model = pooled()
    model.trainable = trainable
    images = RNG.normal(size=(4, 6, 6, 1)).astype("float32")
    for classes in ([0, 1, 1, 0], None):
        chosen = np.argmax(model(images), axis=1) if classes is None else classes
        kernel = np.asarray(model.layers[-1].kernel)[:, chosen].T  # (B, C)
        expected = np.maximum((np.asarray(model.get_layer("map")(images)) * kernel[:, None, None]).sum(-1), 0)
        expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-12)
        np.testing.assert_allclose(grad_cam(model, images, classes), expected, rtol=1e-4, atol=1e-5)


def test_it_finds_what_makes_the_class():
    model = pooled(filters=1)
    kernel = np.zeros((3, 3, 1, 1), "float32")
    kernel[1, 1] = 1
    model.set_weights([kernel, np.zeros(1, "float32"), np.array([[-1.0, 1.0]], "float32"), np.zeros(2, "float32")])
    images = np.zeros((2, 6, 6, 1), "float32")
    images[0, 1, 4], images[1, 5, 0] = 3, -3  # bright speaks for class 1, dark for class 0
    heat = grad_cam(model, images)
    assert [np.unravel_index(one.argmax(), (6, 6)) for one in heat] == [(1, 4), (5, 0)]
    assert heat[0].sum() == heat[1].sum() == 1
    assert not grad_cam(model, images, [0, 1]).any(), "nothing speaks for the other class"


def test_families():
    seen = set()
    for name in tz.zoo.list("vision"):
        info = tz.zoo.info(name)
        if info.test_variant is None or info.family in seen:
            continue
        seen.add(info.family)
        tz.utils.set_random_seed(0)
        model = tz.zoo.create(name, classes=3, **info.test_variant)
        images = RNG.normal(size=(3, model.image_size, model.image_size, model.channels)).astype("float32")
        before = {id(layer): set(vars(layer)) for layer in model._walk()}
        heat = grad_cam(model, images)
        assert heat.shape == images.shape[:3] and heat.dtype == np.float32, name
        assert heat.min() >= 0 and heat.max() <= 1 and any(one.max() == 1 and one.std() > 0 for one in heat), name
        assert all(set(vars(layer)) == before[id(layer)] for layer in model._walk()), f"{name}: nothing is left behind"
    assert len(seen) > 10


def test_a_layer_of_ones_own_choice():
    model = tz.zoo.create("resnet20", classes=3, depths=(1, 1), widths=(4, 8), image_size=16)
    images = RNG.normal(size=(1, 16, 16, 3)).astype("float32")
    assert not np.allclose(grad_cam(model, images, layer=model.stem), grad_cam(model, images))
    other = tz.layers.Conv2D(2, 3, name="other")
    with pytest.raises(ValueError, match="No layer of"):
        grad_cam(model, images, layer=other)
    with pytest.raises(ValueError, match=r"not \(1, 3\)"):
        grad_cam(model, images, layer=model.classifier)


def test_models_without_logits_or_maps():
    images = np.zeros((1, 32, 32, 3), "float32")
    with pytest.raises(ValueError, match=r"logits \(B, classes\)"):
        grad_cam(tz.zoo.create("resnet20", features_only=True, depths=(1, 1), widths=(4, 8)), images)
    model = tz.Sequential([tz.layers.Flatten(), tz.layers.Dense(2)])
    with pytest.raises(ValueError, match="makes a feature map"):
        grad_cam(model, images)


def test_overlay():
    picture = np.full((2, 2, 1), 100, np.uint8)
    heat = np.array([[0.0, 0.5], [1.0, 0.0]])
    coloured = overlay(picture, heat)
    assert coloured.shape == (2, 2, 3) and coloured.dtype == np.uint8
    np.testing.assert_array_equal(coloured[0, 0], 100)  # cold places show the picture
    assert coloured[1, 0, 0] > coloured[1, 0, 2], "hot is red"


@pytest.mark.parametrize(
    ("preprocess", "expected"),
    [
        (Preprocess((8, 8)), (0, 60, 0, 100)),  # stretched: the net saw everything
        (Preprocess((8, 8), resize=8), (0, 60, 20, 80)),  # the square in the middle
        (Preprocess((8, 8), resize=16), (15, 45, 35, 65)),
        (Preprocess((8, 8), resize=(16, 10)), (15, 45, 10, 90)),
    ],
)
def test_heat_lies_where_the_net_looked(preprocess, expected):
    whole = heat_on_picture(np.ones((4, 4)), preprocess, height=60, width=100)
    assert whole.shape == (60, 100)
    rows, columns = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == expected
