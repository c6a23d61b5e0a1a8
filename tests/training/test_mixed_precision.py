"""Training in half precision: as in float32 but for the rounding, with the loss scaled where float16 needs it."""

import numpy as np
import pytest
from safetensors import safe_open

import tenzoo as tz
from tenzoo import layers

POLICIES = ("mixed_bfloat16", "mixed_float16")


def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 128)
    x = rng.normal(size=(128, 6, 6, 2)).astype("float32") * 0.5
    x[np.arange(128), y] += 1
    return x, y


def model(policy, optimizer="adam", dropout=0.1, **options):
    tz.utils.set_random_seed(1)
    made = tz.Sequential(
        [
            layers.Input((6, 6, 2)),
            layers.Conv2D(8, 3, dtype=policy),
            layers.BatchNormalization(dtype=policy),
            layers.ReLU(dtype=policy),
            layers.MaxPooling2D(dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dropout(dropout, dtype=policy),
            layers.Dense(4, dtype=policy, kernel_regularizer="l2"),
        ]
    )
    made.dtype_policy = policy
    loss = tz.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(optimizer, loss, metrics=["accuracy"], **options)
    return made


@pytest.mark.parametrize("policy", POLICIES)
def test_training_learns_as_in_float32(policy):
    x, y = data()
    losses = []
    for name, options in (("float32", {}), (policy, {}), (policy, {"run_eagerly": True})):
        trained = model(name, tz.optimizers.Adam(0.01), **options)
        losses.append(trained.fit(x, y, epochs=3, batch_size=32, shuffle=False, verbose=0).history["loss"])
    exact, compiled, eager = losses
    assert exact[-1] < 0.75 * exact[0]
    np.testing.assert_allclose(compiled, exact, rtol=0.03)
    np.testing.assert_allclose(eager, compiled, rtol=0.02)
    assert {w.dtype.name for w in trained.weights} == {"float32"}
    assert trained.predict(x[:2], verbose=0).dtype == trained.compute_dtype != "float32"


def test_the_loss_is_scaled_under_mixed_float16_alone():
    scaled = tz.mixed_precision.LossScaleOptimizer
    assert isinstance(model("mixed_float16").optimizer, scaled)
    assert not isinstance(model("mixed_bfloat16").optimizer, scaled)
    assert not isinstance(model("float16").optimizer, scaled)
    assert not isinstance(model("mixed_float16", auto_scale_loss=False).optimizer, scaled)
    own = scaled(tz.optimizers.SGD(0.1), initial_scale=8.0)
    assert model("mixed_float16", own).optimizer is own


@pytest.mark.parametrize("eager", [False, True])
def test_steps_that_overflow_are_skipped(eager):
    x, y = data()
    optimizer = tz.mixed_precision.LossScaleOptimizer(tz.optimizers.SGD(0.1), initial_scale=2.0**40)
    trained = model("mixed_float16", optimizer, run_eagerly=eager)
    before = [np.array(w) for w in trained.trainable_weights]
    trained.train_on_batch(x, y)
    assert float(optimizer.dynamic_scale) == 2.0**39 and int(optimizer.iterations) == 0
    for weight, value in zip(trained.trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    for _ in range(40):
        trained.train_on_batch(x, y)
    assert 0 < int(optimizer.iterations) < 41
    assert float(optimizer.dynamic_scale) == 2.0 ** int(optimizer.iterations - 1)  # each of the others halved it
    assert all(np.isfinite(np.asarray(w)).all() for w in trained.weights)


@pytest.mark.parametrize("eager", [False, True])
def test_scaling_saves_gradients_from_underflow(eager):
    """A gradient of 1e-8 is 0 in float16."""

    def moved(auto_scale_loss):
        tiny = tz.Sequential([layers.Input((1,)), layers.Dense(1, kernel_initializer="ones", use_bias=False)])
        tiny.layers[0].dtype_policy = tiny.dtype_policy = "mixed_float16"
        tiny.compile("sgd", lambda y, p: tz.ops.mean(p, -1) * 1e-8, auto_scale_loss=auto_scale_loss, run_eagerly=eager)
        inner = getattr(tiny.optimizer, "inner_optimizer", tiny.optimizer)
        inner.learning_rate = 1e6
        tiny.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0)
        return 1 - float(tiny.weights[0].numpy().item())

    np.testing.assert_allclose(moved(True), 0.01, rtol=1e-2)
    assert moved(False) < 0.009


@pytest.mark.parametrize("policy", POLICIES)
def test_a_saved_model_goes_on_as_if_it_had_not_been_saved(policy, tmp_path):
    x, y = data()
    trained = model(policy, dropout=0.0)
    trained.fit(x, y, batch_size=64, verbose=0)
    trained.save(tmp_path / "model.tenzoo")
    loaded = tz.load_model(tmp_path / "model.tenzoo")
    assert type(loaded.optimizer) is type(trained.optimizer)
    assert [layer.dtype_policy.name for layer in loaded.layers] == [policy] * len(trained.layers)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), trained.predict(x, verbose=0))
    for each in (trained, loaded):
        each.fit(x, y, batch_size=64, shuffle=False, verbose=0)
    for a, b in zip(trained.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_half_precision_weights_are_saved_as_such(tmp_path):
    net = tz.Sequential([layers.Input((3,)), layers.Dense(4, dtype="bfloat16"), layers.Dense(2, dtype="float16")])
    values = [np.array(w) for w in net.weights]
    net.save_weights(tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", "np") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  not a dict
    assert kinds == {"BF16", "F16"}
    for weight in net.weights:
        weight.assign(weight * 0)
    net.load_weights(tmp_path / "net.safetensors")
    for weight, value in zip(net.weights, values, strict=True):
        assert weight.dtype == value.dtype
        np.testing.assert_array_equal(weight, value)
    single = tz.Sequential([layers.Input((3,)), layers.Dense(4), layers.Dense(2, dtype="float16")])
    single.load_weights(tmp_path / "net.safetensors")  # float32 holds every number of bfloat16
    np.testing.assert_array_equal(single.weights[0], values[0].astype("float32"))


def test_metrics_inside_layers_stay_exact():
    class Averaging(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.mean = tz.metrics.Mean()

        def call(self, inputs):
            self.mean.update_state(inputs)
            return inputs

    layer = Averaging(dtype="mixed_bfloat16")
    for _ in range(600):
        layer(np.ones(1, "float32"))
    assert float(layer.mean.result()) == 1 and float(layer.mean.count) == 600


def test_metrics_of_a_model_are_not_rounded():
    net = tz.Sequential([layers.Input((1,)), layers.Dense(1, kernel_initializer="ones", dtype="mixed_bfloat16")])
    net.compile("sgd", "mse", metrics=["mae"])
    x = np.arange(1, 9, dtype="float32")[:, None] / 8
    _, found = net.evaluate(x, x * 1.001, verbose=0)
    assert found == pytest.approx(float(np.abs(x - x * 1.001).mean()), rel=1e-3)
