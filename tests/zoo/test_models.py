"""Every model of the zoo that has a tiny variant, whole; and the size of every published one."""

import json
from pathlib import Path

import numpy as np
import pytest

from tenzoo import core, training, zoo
from tenzoo.core import ops
from tenzoo.layers.layer import blank_weights
from tenzoo.zoo.vision.swin import WindowAttention

TINY = [name for name in zoo.list("vision") if zoo.info(name).test_variant is not None]
CLASSES = 5


def create(name, **options):
    core.random.seed(7)
    return zoo.create(name, **{**zoo.info(name).test_variant, "classes": CLASSES, **options})


def images_for(model, batch=4):
    generator = np.random.default_rng(0)
    return generator.normal(size=(batch, model.image_size, model.image_size, model.channels)).astype("float32")


@pytest.mark.parametrize("name", TINY)
def test_model(name, tmp_path):
    model = create(name)
    images = images_for(model)
    labels = np.arange(len(images)) % CLASSES
    eager = np.asarray(model(images))
    assert eager.shape == (len(images), CLASSES) and np.isfinite(eager).all()
    assert np.ptp(eager, axis=0).min() > 0, "all images get the same logits"
    paths = [weight.path for weight in model.weights]
    assert len(set(paths)) == len(paths)

    # compiled
    predicted = model.predict(images, verbose=0)
    np.testing.assert_allclose(predicted, eager, rtol=1e-4, atol=1e-4 * np.abs(eager).max())

    # saved and loaded
    model.card.labels = [f"class {number}" for number in range(CLASSES)]
    model.save(tmp_path / "model.tenzoo")
    loaded = training.load_model(tmp_path / "model.tenzoo")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), predicted)
    assert loaded.labels == model.labels and type(loaded) is type(model)

    # every weight is trained
    with core.GradientTape() as tape:
        logits = model(images, training=True)
        loss = ops.mean(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    silent = [
        weight.path
        for weight, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is None or not np.isfinite(np.asarray(gradient)).all() or not np.any(np.asarray(gradient))
    ]
    assert not silent

    # training lowers the loss
    model.compile(training.optimizers.Adam(1e-3), training.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = [model.train_on_batch(images, labels) for _ in range(8)]
    assert np.asarray(losses[-1]).min() < np.asarray(losses[0]).min()


@pytest.mark.parametrize("name", TINY)
def test_features_only(name):
    model = create(name, features_only=True)
    images = images_for(model, batch=2)
    maps = model(images)
    sizes = [feature.shape[1] for feature in maps]
    assert all(feature.ndim == 4 and feature.shape[0] == 2 for feature in maps)
    assert sizes == sorted(sizes, reverse=True)
    whole = create(name)
    assert {weight.size for weight in model.weights} <= {weight.size for weight in whole.weights}
    assert len(model.weights) < len(whole.weights)


@pytest.mark.parametrize("name", TINY)
def test_channels_classes_and_head(name):
    model = create(name, channels=1, classes=3)
    images = images_for(model, batch=2)
    assert images.shape[-1] == 1 and model(images).shape == (2, 3)
    model.replace_head(7)
    assert model(images).shape == (2, 7) and model.classes == 7
    assert type(model).from_config(model.get_config()).classes == 7


# Trainable parameters, and whose network of what name has as many ("timm:resnet50"): tests/parity/test_zoo.py counts.
PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text("utf-8"))


def smallest_of_families():
    """The names of the smallest published model of each family: the others of a family differ in numbers alone."""
    best = {}
    for name, (size, _) in PUBLISHED.items():
        family = zoo.info(name).family
        if family not in best or size < PUBLISHED[best[family]][0]:
            best[family] = name
    return set(best.values())


QUICK = smallest_of_families()


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PUBLISHED])
def test_size_is_the_published_one(name):
    with blank_weights():
        model = zoo.create(name)
    assert sum(weight.size for weight in model.trainable_weights) == PUBLISHED[name][0]


@pytest.mark.parametrize("name", [n for n in zoo.list("vision") if n not in (*PUBLISHED, *TINY)])
def test_other_variants_can_be_made(name):
    with blank_weights():
        model = zoo.create(name)
    assert model.compute_output_shape((1, model.image_size, model.image_size, 3)) == (1, model.classes)


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny", "efficientnetv2_s", "regnety_002", "mixer_b16"])
def test_stochastic_depth_drops_branches_in_training_only(name):
    model = create(name, drop_path=0.9)
    images = images_for(model, batch=16)
    assert not np.allclose(model(images, training=True), model(images, training=True))
    np.testing.assert_array_equal(model(images), model(images))


def test_classify_names_the_most_probable_classes():
    model = create("resnet20")
    model.card.labels = list("abcde")
    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    (best,) = model.classify(picture, top=2)
    probabilities = np.asarray(ops.softmax(model(model.preprocess([picture]))))[0]
    assert [label for label, _ in best] == ["abcde"[i] for i in np.argsort(-probabilities)[:2]]
    assert best[0][1] == pytest.approx(probabilities.max(), rel=1e-4)


@pytest.mark.parametrize("side", [30, 27, 50])
def test_swin_takes_images_of_any_size(side):
    model = create("swin_tiny")
    images = np.random.default_rng(0).normal(size=(2, side, side + 5, 3)).astype("float32")
    first, second = model.features(images)
    assert first.shape[1:3] == (-(-side // 4), -(-(side + 5) // 4))
    assert second.shape[1:3] == (-(-first.shape[1] // 2), -(-first.shape[2] // 2))
    assert np.isfinite(np.asarray(model(images))).all()


def test_swin_windows_do_not_see_across_the_edge():
    """What the shift brings together stays apart: a change of the first row does not reach the last ones."""
    layer = WindowAttention(width=4, heads=2, window=4, shifted=True)
    before = np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype("float32")
    after = before.copy()
    after[:, 0] += 1
    changed = np.abs(np.asarray(layer(after)) - np.asarray(layer(before))).max(axis=(0, 3))  # (8, 8)
    assert (changed[:2] > 1e-4).all() and (changed[2:] < 1e-6).all()


def test_swin_keeps_what_was_learnt_for_a_distance_in_smaller_windows():
    large, small = (WindowAttention(width=4, heads=2, window=4, shifted=False) for _ in range(2))
    large(np.zeros((1, 8, 8, 4), "float32"))
    small(np.zeros((1, 3, 3, 4), "float32"))
    table = np.arange(49 * 2).reshape(49, 2)
    adapted = small.adapt_positions(table, small.relative_positions, "timm")
    corner = np.arange(16).reshape(4, 4)[:3, :3].ravel()  # where the tokens of the small window are in the large one
    np.testing.assert_array_equal(adapted[small.distance], table[large.distance[np.ix_(corner, corner)]])


@pytest.mark.parametrize("name", ["vit_b16", "mixer_b16"])
def test_other_sizes_than_the_weights_are_made_for_are_named(name):
    model = create(name)
    with pytest.raises(core.ShapeError, match="image_size"):
        model(np.zeros((1, model.image_size + 8, model.image_size + 8, 3), "float32"))
