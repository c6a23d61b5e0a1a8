"""Optimizers side by side."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import layers, optimizers

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def make(optimizer):
    tz.utils.set_random_seed(0)
    model = tz.Sequential([layers.Input((3,)), layers.Dense(4, name="body"), layers.Dense(1, name="head")])
    model.compile(optimizer, "mse", jit_compile=True)
    return model


def table():
    return optimizers.OptimizerMap(optimizers.SGD(0.0), {".*head/.*": optimizers.Adam(0.1)})


def test_each_variable_has_its_own():
    model = make(optimizers.MultiOptimizer(table()))
    body, head = (np.array(layer.kernel) for layer in model.layers[-2:])
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[tz.callbacks.EarlyStopping("loss")])
    np.testing.assert_array_equal(model.layers[-2].kernel, body)
    assert not np.allclose(model.layers[-1].kernel, head)
    assert [optimizer.name for optimizer in model.optimizer.optimizers] == ["sgd", "adam"]
    assert int(model.optimizer.iterations) == 2
    with pytest.raises(AttributeError, match=r"\.optimizers"):
        print(model.optimizer.learning_rate)


def test_same_as_one_optimizer_and_saved(tmp_path):
    by_name = {"kernel": optimizers.Adam(0.01), "bias": optimizers.Adam(0.01)}
    one = make(optimizers.Adam(0.01))
    several = make(optimizers.MultiOptimizer(lambda variable: by_name[variable.name]))
    for model in (one, several):
        model.fit(X, Y, epochs=3, verbose=0, shuffle=False)
    for a, b in zip(one.weights, several.weights, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6)
    paths = [variable.path for variable in several.optimizer.variables]
    assert len(set(paths)) == len(paths) == 1 + 2 * (2 + 2 * 2)

    mapped = make(optimizers.MultiOptimizer(table(), loss_scale_factor=8.0))
    mapped.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    mapped.save(tmp_path / "m.tenzoo")
    again = tz.load_model(tmp_path / "m.tenzoo")
    for model in (mapped, again):
        model.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    for a, b in zip(mapped.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_mistakes():
    with pytest.raises(ValueError, match="updates by itself"):
        optimizers.OptimizerMap(optimizers.LossScaleOptimizer(optimizers.SGD()))
    with pytest.raises(ValueError, match="each once"):
        table()[".*head/.*"] = optimizers.SGD()
    twice = table()
    twice[".*kernel"] = optimizers.SGD()
    with pytest.raises(ValueError, match="Several keys"):
        print(twice["x/head/kernel"])
    with pytest.raises(TypeError, match="function of a variable"):
        optimizers.MultiOptimizer(optimizers.SGD())
    optimizer = optimizers.MultiOptimizer(table())
    optimizer.build([tz.Variable(1.0, name="a")])
    with pytest.raises(ValueError, match="was not built with"):
        optimizer.apply([1.0], [tz.Variable(1.0, name="b")])
