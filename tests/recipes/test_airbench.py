"""The parts of vision/airbench, each against what it is meant to do; and the files of CIFAR-10, end to end."""

import json

import numpy as np
import pytest
from PIL import Image

import tenzoo as tz
from tenzoo.recipes.run_folder import RunFolder
from tenzoo.recipes.vision import airbench
from tenzoo.recipes.vision._classification import Split

RNG = np.random.default_rng(0)


def net(width=4):
    model = airbench.AirNet(width, classes=10, image_size=32)
    model.build_default()
    return model


def test_size():
    assert net(64).count_params() == pytest.approx(1.97e6, rel=0.01)  # as the paper says


def test_the_first_layer_whitens_and_is_not_trained():
    model = net()
    base = RNG.normal(size=(200, 8, 8, 3)).cumsum(axis=1).cumsum(axis=2)  # neighbours are alike
    model.whiten_patches(base)
    made = np.asarray(model.whiten(base)).reshape(-1, 24)
    covariance = made.T @ made / len(made)
    np.testing.assert_allclose(covariance[:12, :12], np.eye(12), atol=0.02)
    np.testing.assert_allclose(made[:, 12:], -made[:, :12], atol=1e-4)
    assert [w.name for w in model.whiten.trainable_weights] == ["bias"]


def test_filters_begin_as_the_identity():
    kernel = np.asarray(airbench.PartialIdentity()((3, 3, 4, 6), "float32"))
    images = RNG.normal(size=(1, 5, 5, 4)).astype("float32")
    made = np.asarray(tz.ops.conv(images, kernel, padding="same"))
    np.testing.assert_allclose(made[..., :4], images, rtol=1e-5, atol=1e-6)
    assert np.abs(kernel[..., 4:]).max() <= 1 / 6 and np.ptp(kernel[..., 4:]) > 0
    assert airbench.PartialIdentity()((3, 3, 6, 4)).shape == (3, 3, 6, 4)


def test_every_image_is_mirrored_in_every_other_epoch():
    images = RNG.integers(0, 256, (12, 8, 8, 3)).astype("uint8")
    images[:, :, :4], images[:, :, 4:] = 0, 255  # dark on the left
    labels = np.arange(12)
    config = airbench.Config(batch_size=4, seed=5)
    given = list(airbench.batches(Split(images, labels), config))
    assert len(given) == 6 and all(x.shape == (4, 8, 8, 3) for x, _ in given)
    mirrored = [
        {int(label): bool(image[:, 0].mean() > image[:, -1].mean()) for x, y in part for image, label in zip(x, y)}
        for part in (given[:3], given[3:])
    ]
    assert set(mirrored[0]) == set(range(12)), "each image once in an epoch"
    assert all(mirrored[0][label] != mirrored[1][label] for label in range(12))
    assert 0 < sum(mirrored[0].values()) < 12


def test_six_views():
    pixels = RNG.normal(size=(2, 6, 6, 3))
    views = airbench.views(pixels)
    assert len(views) == 6 and sum(share for share, _ in views) == 1
    np.testing.assert_array_equal(views[0][1], pixels)
    np.testing.assert_array_equal(views[1][1], pixels[:, :, ::-1])
    np.testing.assert_array_equal(views[2][1][:, 1:, 1:], pixels[:, :-1, :-1])
    assert all(view.shape == pixels.shape for _, view in views)


def test_rates():
    triangle = airbench.Triangle(2.0, 100)
    np.testing.assert_allclose([float(triangle(step)) for step in (0, 23, 100)], [0.4, 2.0, 0.14], rtol=1e-5)


def test_biases_move_faster_and_decay_alike():
    model = net()
    optimizer = airbench.make_optimizer(airbench.Config(), 100)
    optimizer.build(model.trainable_weights)
    for variable in model.trainable_weights:
        variable.assign(np.ones(variable.shape, "float32"))
    optimizer.apply([np.zeros(v.shape, "float32") for v in model.trainable_weights], model.trainable_weights)
    for variable in model.trainable_weights:  # without a gradient the decay alone is left; the first rate is a fifth
        np.testing.assert_allclose(variable, 1 - 0.2 * 0.0153, rtol=1e-5)
    optimizer.apply([np.ones(v.shape, "float32") for v in model.trainable_weights], model.trainable_weights)
    steps = {v.name: 1 - float(np.ravel(v)[0]) for v in model.trainable_weights}
    assert steps["beta"] / steps["kernel"] == pytest.approx(64, rel=0.05)


def test_learns():
    """A few steps on the synthetic twin, with all parts together."""
    images, labels = tz.datasets.info("cifar10").arrays("train", "synthetic", size=128)
    config = airbench.Config(batch_size=64, seed=0, width=8)
    tz.utils.set_random_seed(0)
    model = net(8)
    model.whiten_patches(tz.datasets.augment.normalize(images, airbench.MEAN, airbench.STD))
    loss = tz.losses.SparseCategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    model.compile(airbench.make_optimizer(config, 16), loss, metrics=["accuracy"])
    history = model.fit(airbench.batches(Split(images, labels), config), epochs=8, steps_per_epoch=2, verbose=0).history
    assert history["accuracy"][-1] > 0.6 > history["accuracy"][0]


@pytest.mark.parametrize("recipe", ["airbench", "cifar10-resnet20"])
def test_on_the_published_files(tenzoo, tmp_path, monkeypatch, recipe):
    """From batches in the binary form, a byte for the label before 3072 for the pixels, to a prediction."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    images, labels = tz.datasets.info("cifar10").arrays("train", "synthetic", size=72)
    records = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(72, -1)], 1).astype(np.uint8)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    for name, part in zip(names, np.split(records, 6)):
        part.tofile(folder / name)
    biases, callbacks = [], RunFolder.callbacks

    def with_spy(run):
        spy = tz.callbacks.LambdaCallback()
        if recipe == "airbench":
            spy.on_epoch_end = lambda epoch, logs: biases.append(np.array(spy.model.whiten.bias))
        return [spy, *callbacks(run)]

    monkeypatch.setattr(RunFolder, "callbacks", with_spy)
    options = ["--batch-size", 16, "--data", tmp_path, "--json", "--out", tmp_path / "run"]
    options += ["--width", 4, "--epochs", 5] if recipe == "airbench" else ["--depth", 8, "--epochs", 1]
    status, output, errors = tenzoo("run", f"vision/{recipe}", *options)
    assert status == 0, errors
    assert json.loads(output)["test"]["loss"] > 0
    if recipe == "airbench":  # the biases of the first layer are trained for three epochs
        moved = [not np.array_equal(before, after) for before, after in zip([0 * biases[0], *biases], biases)]
        assert moved == [True, True, True, False, False]

    Image.fromarray(images[0]).save(tmp_path / "photo.png")
    status, output, errors = tenzoo("predict", tmp_path / "run", tmp_path / "photo.png", "--json")
    assert status == 0, errors
    labels = {entry["label"] for entry in json.loads(output)[0]["predictions"]}
    assert labels < set(tz.datasets.info("cifar10").classes)
