"""Fine-tuning: freezing all but some layers, rates that fall layer by layer, and what warns of a mistake."""

import warnings

import numpy as np
import pytest

import tenzoo as tz

IMAGES = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
LABELS = np.arange(8) % 3
LOSS = tz.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture
def model():
    return tz.zoo.create("resnet20", classes=3, depths=(1, 1), widths=(4, 8))


def changed(model, before):
    return {w.path for w, old in zip(model.weights, before, strict=True) if np.any(np.asarray(w) != old)}


def fit(model, optimizer=None):
    model.compile(optimizer or tz.optimizers.SGD(0.1), LOSS)
    before = model.get_weights()
    model.fit(IMAGES, LABELS, verbose=0)
    return before


def test_only_some_layers_are_trained(model):
    tz.utils.train_only(model, [model.classifier])
    frozen = model.features(IMAGES)
    before = fit(model)
    assert changed(model, before) == {w.path for w in model.classifier.weights}
    np.testing.assert_array_equal(model.features(IMAGES)[-1], frozen[-1])  # no moving statistic has moved
    model.trainable = True
    assert len(changed(model, fit(model))) == len(model.weights)


def test_a_layer_deep_inside(model):
    inner = model.stages[1][0].conv2.conv
    tz.utils.train_only(model, [inner, model.classifier])
    assert {w.path for w in model.trainable_weights} == {w.path for w in (*inner.weights, *model.classifier.weights)}


def test_own_weights_beside_the_layer_that_is_trained():
    class Scaled(tz.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.inner = tz.layers.Dense(2)

        def build(self, shape):
            self.scale = self.add_weight((2,), "ones", name="scale")

        def call(self, x):
            return self.inner(x) * self.scale

    model = tz.Sequential([Scaled()])
    model(np.ones((1, 3)))
    tz.utils.train_only(model, [model.layers[0].inner])
    assert [w.name for w in model.trainable_weights] == ["kernel", "bias"]
    model.trainable = True
    assert len(model.trainable_weights) == 3


def test_a_layer_of_another_model(model):
    with pytest.raises(ValueError, match="'elsewhere' is not in"):
        tz.utils.train_only(model, [tz.layers.Dense(1, name="elsewhere")])


def test_rates_fall_towards_the_input(model):
    rates = tz.utils.layerwise_learning_rates(model, 0.5)
    assert list(rates.values()) == [0.125, 0.25, 0.5, 1.0]
    names = [pattern.removeprefix("(^|/)").rstrip("/") for pattern in rates]
    blocks = [model.stem, *model.stages[0], *model.stages[1], model.classifier]
    assert names == [block.name for block in blocks]

    before = model.get_weights()
    model.compile(tz.optimizers.SGD(0.1), LOSS)
    model.fit(IMAGES, LABELS, verbose=0)
    plain = [np.asarray(w) - old for w, old in zip(model.weights, before, strict=True)]
    model.set_weights(before)
    fit(model, tz.optimizers.SGD(0.1, learning_rate_multipliers=rates))
    for block, factor in zip(blocks, rates.values(), strict=True):
        for weight in block.trainable_weights:
            index = next(i for i, w in enumerate(model.weights) if w is weight)
            step = np.asarray(weight) - before[index]
            np.testing.assert_allclose(step, factor * plain[index], rtol=1e-3, atol=1e-6)


def test_functional_and_nested_models_and_frozen_layers(model):
    pixels = tz.layers.Input((32, 32, 3))
    x = tz.layers.Dense(5, name="before")(tz.layers.Rescaling(0.5)(pixels))
    x = tz.layers.Dense(3, name="between")(x)
    whole = tz.Model(pixels, tz.layers.Dense(2, name="after")(model(x)))
    rates = tz.utils.layerwise_learning_rates(whole, 0.9)
    assert len(rates) == 7 and list(rates)[:2] == ["(^|/)before/", "(^|/)between/"] and list(rates)[-1] == "(^|/)after/"
    model.trainable = False
    assert len(tz.utils.layerwise_learning_rates(whole)) == 3


def test_wrong_use():
    with pytest.raises(ValueError, match="no weights yet"):
        tz.utils.layerwise_learning_rates(tz.Sequential([tz.layers.Dense(1)]))
    model = tz.Sequential([tz.layers.Input((2,)), tz.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"\(0, 1\]; received 1.5"):
        tz.utils.layerwise_learning_rates(model, 1.5)


def test_a_pattern_that_fits_no_variable_warns():
    model = tz.Sequential([tz.layers.Input((2,)), tz.layers.Dense(1, name="only")])
    model.compile(tz.optimizers.SGD(0.1, learning_rate_multipliers={"only": 0.5, "olny": 2.0}), "mse")
    with pytest.warns(UserWarning, match="'olny' is found in the path of no variable"):
        model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.compile(tz.optimizers.SGD(0.1, learning_rate_multipliers={"only": 0.5}), "mse")
        model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)


def test_a_callback_can_freeze_a_layer_between_epochs(model):
    moved, kernel = [], np.array(model.classifier.kernel)

    def on_epoch_begin(epoch, logs=None):
        model.classifier.trainable = epoch < 2

    def on_epoch_end(epoch, logs=None):
        nonlocal kernel
        moved.append(np.any(np.asarray(model.classifier.kernel) != kernel))
        kernel = np.array(model.classifier.kernel)

    model.compile(tz.optimizers.SGD(0.1), LOSS)
    before = model.get_weights()
    hooks = tz.callbacks.LambdaCallback(on_epoch_begin=on_epoch_begin, on_epoch_end=on_epoch_end)
    model.fit(IMAGES, LABELS, epochs=4, callbacks=[hooks], verbose=0)
    assert moved == [True, True, False, False]
    assert len(changed(model, before)) > 10
