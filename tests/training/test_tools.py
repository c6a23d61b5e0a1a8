"""Learning-rate finder, cross-validation, ensembles, dynamic loss scaling."""

import numpy as np
import pytest

import tenzoo as tz

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5], [3.0]], "float32")).astype("float32")


def make():
    model = tz.Sequential([tz.layers.Dense(8, activation="relu"), tz.layers.Dense(1)])
    model.compile(tz.optimizers.SGD(0.01), "mse", metrics=["mae"])
    return model


def test_find_learning_rate():
    tz.random.seed(0)
    model = make()
    model.build((None, 4))
    before, rate = model.get_weights(), float(model.optimizer.learning_rate)
    found = tz.utils.find_learning_rate(model, X, Y, 1e-5, 100.0, steps=60, batch_size=16)
    assert len(found.rates) == len(found.losses) < 60  # it stopped where the loss explodes
    assert 1e-3 < found.suggestion < 1
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert float(model.optimizer.learning_rate) == rate and int(model.optimizer.iterations) == 0
    with pytest.raises(ValueError, match="explodes at once"):
        tz.utils.find_learning_rate(model, X * 1e10, Y, 1.0, 10.0, steps=20)
    with pytest.raises(ValueError, match="minimum < maximum"):
        tz.utils.find_learning_rate(model, X, Y, 1.0, 0.1)


def test_cross_validate():
    tz.random.seed(0)
    results = tz.utils.cross_validate(make, {"x": X}["x"], Y, folds=4, epochs=2, batch_size=16)
    assert len(results) == 4 and all(set(result) == {"loss", "mae"} for result in results)
    with pytest.raises(ValueError, match="folds"):
        tz.utils.cross_validate(make, X, Y, folds=1)


def test_ensemble(tmp_path):
    models = [make() for _ in range(3)]
    ensemble = tz.utils.Ensemble(models)
    expected = np.mean([model.predict(X, verbose=0) for model in models], axis=0)
    np.testing.assert_allclose(ensemble.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)
    ensemble.save(tmp_path / "e.tenzoo")
    loaded = tz.load_model(tmp_path / "e.tenzoo")
    np.testing.assert_allclose(loaded.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_loss_scaling_trains_like_its_inner_optimizer(tmp_path):
    weights, losses = [], []
    for wrap in (lambda o: o, lambda o: tz.optimizers.LossScaleOptimizer(o, dynamic_growth_steps=3)):
        tz.random.seed(0)
        model = make()
        model.compile(wrap(tz.optimizers.Adam(0.01)), "mse")
        losses.append(model.fit(X, Y, epochs=2, verbose=0, shuffle=False, batch_size=16).history["loss"])
        weights.append(model.get_weights())
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    optimizer = model.optimizer
    assert int(optimizer.iterations) == 8 and float(optimizer.dynamic_scale) == 2.0**17
    optimizer.learning_rate = 0.5
    assert float(optimizer.inner_optimizer.learning_rate) == 0.5 == float(optimizer.learning_rate)
    model.save(tmp_path / "m.tenzoo")
    loaded = tz.load_model(tmp_path / "m.tenzoo").optimizer
    assert float(loaded.dynamic_scale) == 2.0**17 and int(loaded.iterations) == 8


def test_loss_scaling_skips_steps_that_overflow():
    variable = tz.Variable([1.0])
    optimizer = tz.optimizers.LossScaleOptimizer(tz.optimizers.SGD(0.1, momentum=0.9), initial_scale=4.0)
    optimizer.build([variable])
    step = tz.trace(lambda g: optimizer.apply([g], [variable]), tz.tensor([1.0]))
    for gradient in (4.0, float("nan"), float("inf"), 1.0):
        step(tz.tensor([gradient]))
    # 1, then two steps skipped, then 1 again, with momentum
    assert variable.numpy()[0] == pytest.approx(1 - 0.1 - (0.09 + 0.1))
    assert float(optimizer.dynamic_scale) == 1.0 and int(optimizer.iterations) == 2
    assert float(optimizer.scale_loss(tz.tensor(3.0))) == 3.0
    with pytest.raises(TypeError, match="inner_optimizer"):
        tz.optimizers.LossScaleOptimizer("adam")
