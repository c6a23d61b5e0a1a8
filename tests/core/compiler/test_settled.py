"""What follows from variables that a graph does not assign is computed when they change, not in every call."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core, layers


def networks():
    """Convolutions with batch normalisation, at sizes with packed filters and without."""
    conv = [
        layers.Conv2D(40, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(20, 3, strides=2),
        layers.BatchNormalization(scale=False),
        layers.Conv2D(30, 1),
        layers.DepthwiseConv2D(3),
        layers.BatchNormalization(center=False),
        layers.Conv2DTranspose(8, 3),
        layers.Flatten(),
        layers.Dense(5),
    ]
    return tz.Sequential([tz.Input(shape=(12, 12, 3)), *conv])


@pytest.fixture
def model():
    made = networks()
    generator = np.random.default_rng(0)
    made.set_weights([np.abs(generator.normal(size=w.shape)).astype(w.dtype) * 0.3 for w in made.get_weights()])
    made.compile("sgd", "mse")
    return made


def check(model, x):
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x, training=False), rtol=2e-5, atol=1e-5)


def test_predictions_follow_every_change_of_the_weights(model):
    x = np.random.default_rng(1).normal(size=(4, 12, 12, 3)).astype("float32")
    check(model, x)
    check(model, x)
    model.layers[1].moving_variance.assign(model.layers[1].moving_variance * 2.0)
    check(model, x)
    model.fit(x, np.zeros((4, 5), np.float32), epochs=2, verbose=0)  # written in place by another program
    check(model, x)
    model.set_weights([0.5 * w for w in model.get_weights()])
    check(model, x)


def test_packing_and_folding_happen_ahead(model):
    x = core.tensor(np.zeros((1, 12, 12, 3), np.float32))
    call = core.jit(lambda x: model(x, training=False))
    call(x)
    names = [node.op.name for step in call.plan(x).steps for node in step.group.nodes]
    assert "multiply" not in names and "rsqrt" not in names
    assert names.count("conv") == 4


@pytest.mark.parametrize("rows", [1, 16, 300, 2000])
def test_products_with_a_settled_matrix(rows):
    w = core.Variable(np.random.default_rng(0).normal(size=(70, 33)).astype("float32"))
    x = np.random.default_rng(1).normal(size=(rows, 70)).astype("float32")
    product = core.jit(lambda x: (x @ w, x @ (w * 2.0)))
    for _ in range(2):
        for received, factor in zip(product(x), (1, 2), strict=True):
            np.testing.assert_allclose(received, factor * (x @ w.numpy()), rtol=2e-5, atol=1e-4)
        w.assign(w * 3.0)


def test_a_value_that_another_program_writes_is_looked_at_again():
    v = core.Variable(np.ones((64, 64), np.float32))
    double, read = core.jit(lambda: v.assign(v * 2.0)), core.jit(lambda x: x @ (v + 1.0))
    x = np.eye(64, dtype=np.float32)[:40]
    for power in range(4):
        np.testing.assert_allclose(read(x), np.full((40, 64), 0) + x @ np.full((64, 64), 2.0**power + 1))
        double()
