"""Mixed precision against Keras: the dtypes of layers, weights, outputs and gradients, and their values."""

import contextlib

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("jax")

import test_layers  # noqa: E402
from driver import make, sample  # noqa: E402

import tenzoo as tz  # noqa: E402
from tenzoo.core import pytree  # noqa: E402

pytestmark = pytest.mark.slow

SPACING = {"mixed_bfloat16": 2.0**-7, "mixed_float16": 2.0**-10}
# Numbers of a byte, rounded or cut off by both in other steps, or the angle of a number near 0.
INEXACT = {"RandomPosterization", "Solarization", "AutoContrast", "STFTSpectrogram", "RandomRotation", "RandomZoom"}
FLOAT16 = {"Dense", "Embedding", "Softmax", "Conv2D", "BatchNormalization", "LayerNormalization", "LSTM", "Attention"}
CASES = [
    (*case, name) for case in test_layers.CASES for name in SPACING if name == "mixed_bfloat16" or case[0] in FLOAT16
]  # what is the same for both policies is compared once


@contextlib.contextmanager
def policy(name):
    keras.config.set_dtype_policy(name)
    tz.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")
        tz.config.set_dtype_policy(None)


def dtypes(tree):
    return [np.asarray(leaf).dtype.name for leaf in pytree.flatten(tree)]


def wide(value):
    return np.asarray(value).astype("float64")


@pytest.mark.parametrize(("layer", "arguments", "inputs", "options", "name"), CASES)
def test_layer(layer, arguments, inputs, options, name):
    generator = np.random.default_rng(0)
    data = sample(test_layers._described(inputs), generator)
    with policy(name):
        theirs, ours = (make(module, layer, arguments) for module in (keras, tz))
        try:
            theirs(data, **options)
        except TypeError as error:  # it has no Fourier transform, and no scan with an initial state, of bfloat16
            pytest.skip(f"Keras refuses: {error!s:.60}")
        ours(data, **options)
    assert (ours.dtype, ours.compute_dtype, ours.variable_dtype) == (
        theirs.dtype,
        theirs.compute_dtype,
        theirs.variable_dtype,
    )
    assert [w.dtype.name for w in ours.weights] == [w.dtype for w in theirs.weights]
    values = [generator.uniform(0.5, 1.5, weight.shape).astype("float32") for weight in theirs.weights]
    theirs.set_weights(values)
    ours.set_weights(values)
    expected, found = theirs(data, **options), ours(data, **options)
    assert dtypes(found) == dtypes(expected)
    if layer in INEXACT:
        return
    for a, b in zip(pytree.flatten(found), pytree.flatten(expected), strict=True):
        scale = max(1, np.abs(wide(b)).max(initial=0))
        np.testing.assert_allclose(wide(a), wide(b), atol=4 * SPACING[name] * scale, rtol=0)


def test_policies_are_those_of_keras():
    for name in ("mixed_bfloat16", "mixed_float16", "float16", "bfloat16", "float32", "float64"):
        with policy(name):
            theirs, ours = keras.config.dtype_policy(), tz.config.dtype_policy()
            made = [module.Dense(2) for module in (keras.layers, tz.layers)]
        assert repr(ours) == repr(theirs) and ours.get_config() == theirs.get_config()
        assert (ours.compute_dtype, ours.variable_dtype) == (theirs.compute_dtype, theirs.variable_dtype)
        assert [layer.dtype_policy.name for layer in made] == [name, name]
    written = keras.dtype_policies.serialize(keras.DTypePolicy("mixed_float16"))
    assert tz.dtype_policies.get(written) == tz.DTypePolicy("mixed_float16")
    for module in (keras, tz):
        public = {name for name in dir(module.mixed_precision) if not name.startswith("_")}
        assert public >= {name for name in dir(keras.mixed_precision) if not name.startswith("_")}


def nested(module, base):
    """A model with a layer of another policy, and one that does not cast, inside."""

    class Outer(base):
        def __init__(self):
            super().__init__(name="outer")
            self.first = module.layers.Dense(4, kernel_initializer="ones")
            self.exact = module.layers.Dense(3, kernel_initializer="ones", dtype="float32")
            self.half = module.layers.Dense(3, kernel_initializer="ones", dtype="mixed_float16")
            self.plain = module.layers.Dense(2, kernel_initializer="ones", autocast=False)

        def call(self, inputs):
            x = self.first(inputs)
            return x, self.exact(x), self.half(x), self.plain(x)

    return Outer()


def functional(module):
    x = module.layers.Input((3,))
    exact = module.layers.Dense(2, kernel_initializer="ones", dtype="float32")(x)
    half = module.layers.Dense(2, kernel_initializer="ones")(x)
    return module.Model(x, [exact, half, module.ops.add(exact, half), module.layers.Add()([exact, half])])


def stacked(module):
    return module.Sequential(
        [module.layers.Dense(2, kernel_initializer="ones", dtype="float32"), module.layers.Softmax(dtype="float32")]
    )


@pytest.mark.parametrize(
    "build", [lambda m: nested(m, m.Model), lambda m: nested(m, m.layers.Layer), functional, stacked]
)
def test_inputs_and_weights_are_cast_where_keras_casts_them(build):
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    with policy("mixed_bfloat16"):
        theirs, ours = build(keras), build(tz)
    expected, found = theirs(x), ours(x)
    assert dtypes(found) == dtypes(expected)
    for a, b in zip(pytree.flatten(found), pytree.flatten(expected), strict=True):
        tolerance = 1e-6 if np.asarray(a).dtype == "float32" else 2 * SPACING["mixed_bfloat16"]
        np.testing.assert_allclose(wide(a), wide(b), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", SPACING)
def test_training(name):
    """Three steps of the same small model from the same weights, with the scale of the loss."""
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)  # with other weights half precision may part from float32 by half of what was learnt
    x, y = rng.normal(size=(48, 6, 6, 2)).astype("float32"), rng.integers(0, 3, 48)

    def model(module):
        with policy(name):
            made = module.Sequential(
                [
                    module.layers.Input((6, 6, 2)),
                    module.layers.Conv2D(4, 3, activation="relu"),
                    module.layers.BatchNormalization(),
                    module.layers.Flatten(),
                    module.layers.LayerNormalization(),
                    module.layers.Dense(3),
                    module.layers.Activation("softmax", dtype="float32"),
                ]
            )
        made.compile(module.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        return made

    theirs, ours = model(keras), model(tz)
    assert type(ours.optimizer).__name__ == type(theirs.optimizer).__name__
    ours.set_weights(theirs.get_weights())
    before = theirs.get_weights()
    losses = []
    for trained in (theirs, ours):
        for first in (0, 16, 32):
            trained.reset_metrics()
            losses.append(float(trained.train_on_batch(x[first : first + 16], y[first : first + 16])))
    np.testing.assert_allclose(losses[3:], losses[:3], rtol=SPACING[name])
    for a, b, start in zip(ours.get_weights(), theirs.get_weights(), before, strict=True):
        np.testing.assert_allclose(a, b, atol=0.1 * max(np.abs(b - start).max(), 1e-3))
    if name == "mixed_float16":
        assert float(ours.optimizer.dynamic_scale) == float(np.asarray(theirs.optimizer.dynamic_scale))


def test_dlpack_of_bfloat16():
    torch = pytest.importorskip("torch")
    x = tz.tensor([[1.5, -2.0, 3.25]], "bfloat16")
    shared = torch.from_dlpack(x)
    assert shared.dtype == torch.bfloat16 and shared.tolist() == x.tolist()
    assert shared.data_ptr() == x.numpy().ctypes.data
