"""Every model of the zoo that has a tiny variant, whole; and the size of every published one."""

import numpy as np
import pytest

from tenzoo import core, training, zoo
from tenzoo.core import ops
from tenzoo.layers.layer import blank_weights

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


# As their papers, timm or torchvision publish them: trainable parameters for 1000 classes (10 for CIFAR).
PUBLISHED = {
    "alexnet": 61_100_840,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "convnext_small": 50_223_688,
    "convnext_tiny": 28_589_128,
    "convnextv2_atto": 3_708_400,
    "convnextv2_base": 88_717_800,
    "convnextv2_tiny": 28_635_496,
    "deit_b16_distilled": 87_338_192,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v2_140": 6_108_776,
    "mobilenet_v3_large": 5_483_032,
    "mobilenet_v3_small": 2_542_856,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet50_v2": 25_549_352,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "seresnet50": 28_088_024,
    "squeezenet1_1": 1_235_496,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vit_b16": 86_567_656,
    "vit_b32": 88_224_232,
    "vit_l16": 304_326_632,
    "vit_s16": 22_050_664,
    "vit_ti16": 5_717_416,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_is_the_published_one(name):
    with blank_weights():
        model = zoo.create(name)
    assert sum(weight.size for weight in model.trainable_weights) == PUBLISHED[name]


@pytest.mark.parametrize("name", [n for n in zoo.list("vision") if n not in (*PUBLISHED, *TINY)])
def test_other_variants_can_be_made(name):
    with blank_weights():
        model = zoo.create(name)
    assert model.compute_output_shape((1, model.image_size, model.image_size, 3)) == (1, model.classes)


def test_stochastic_depth_drops_branches_in_training_only():
    model = create("resnet18", drop_path=0.9)
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
