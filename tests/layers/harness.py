"""One call checks everything that has to hold for every layer."""

import json

import numpy as np

from tenzoo import core
from tenzoo.core import pytree
from tenzoo.layers import Input, Layer, Model, serialization

# Counts, and scores of all words: of the dtype of weights, as in Keras.
EXACT = {"CategoryEncoding"}


def run_layer_test(
    layer_class: type[Layer],
    init_kwargs: dict,
    input_shape=None,
    input_data=None,
    call_kwargs: dict | None = None,
    expected_output_shape=None,
    expected_output=None,
    expected_weights: int | None = None,
    differentiable: bool = True,
    seed: int = 0,
) -> Layer:
    """Check build, call, trace, functional call, config, shapes, dtypes, mixed precision and gradients of a layer.

    Args:
        init_kwargs: arguments of the constructor.
        input_shape: shape, or a list of shapes, of random inputs; with the batch axis.
        input_data: inputs given instead.
        call_kwargs: further arguments of the call.
        expected_output_shape: shape of the output, batch included.
        expected_output: the output itself.
        expected_weights: how many weights the layer has.
        differentiable: whether its gradient is compared with finite differences.
    """
    data = _random(input_shape, np.random.default_rng(seed)) if input_data is None else input_data
    call_kwargs = call_kwargs or {}
    layer = layer_class(**init_kwargs)
    output = layer(pytree.map(np.float32, data) if _floats(data) else data, **call_kwargs)
    assert layer.built
    shape = pytree.map(lambda leaf: leaf.shape, output)
    if expected_output_shape is not None:
        assert shape == expected_output_shape
    if expected_output is not None:
        _assert_close(output, expected_output)
    if expected_weights is not None:
        assert len(layer.weights) == expected_weights
    paths = [variable.path for variable in layer.variables]
    assert len(set(paths)) == len(paths)
    assert all(weight.path.startswith(f"{layer.name}/") for weight in layer.weights)
    assert set(layer.trainable_weights) <= set(layer.weights) <= set(layer.variables)

    _check_trace(layer, data, call_kwargs)
    _check_functional(layer, data, call_kwargs)
    _check_config(layer, data, call_kwargs)
    _check_dtype(layer, data, call_kwargs)
    _check_mixed_precision(layer, data, call_kwargs)
    if differentiable:
        _check_gradient(layer, data, call_kwargs)
    return layer


def _random(shape, generator):
    if isinstance(shape, list):
        return [_random(part, generator) for part in shape]
    return generator.normal(size=shape)


def _floats(data) -> bool:
    return all(np.asarray(leaf).dtype.kind == "f" for leaf in pytree.flatten(data))


def _assert_close(actual, expected, tolerance=1e-5):
    for a, b in zip(pytree.flatten(actual), pytree.flatten(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def _check_trace(layer, data, call_kwargs):
    """Eager and traced calls give the same outputs and leave the same state behind."""
    for training in (False, True):

        def call(x, training=training):
            return layer(x, **{**call_kwargs, "training": training})

        before = [np.array(variable) for variable in layer.variables]
        eager = call(data)
        eager_state = [np.array(variable) for variable in layer.variables]
        for variable, value in zip(layer.variables, before, strict=True):
            variable.assign(value)
        traced = core.trace(call, data)(data)
        _assert_close(traced, eager, 1e-6)
        _assert_close([np.array(variable) for variable in layer.variables], eager_state, 1e-6)


def _check_functional(layer, data, call_kwargs):
    """In a functional model the layer gives the same, and its shapes are known with any batch."""

    def declare(leaf):
        leaf = np.asarray(leaf)
        return Input(leaf.shape[1:], dtype="float32" if leaf.dtype.kind == "f" else leaf.dtype)

    eager = layer(data, **call_kwargs)
    tensors = {name: value for name, value in call_kwargs.items() if not isinstance(value, bool)}
    inputs, options = pytree.map(declare, (data, tensors))
    outputs = layer(inputs, **{**call_kwargs, **options})
    shapes = pytree.map(lambda leaf: (None, *leaf.shape[1:]), eager)
    assert pytree.map(lambda leaf: leaf.shape, outputs) == shapes
    assert pytree.map(lambda leaf: leaf.dtype, outputs) == pytree.map(lambda leaf: leaf.dtype, eager)
    _assert_close(Model((inputs, options), outputs)((data, tensors)), eager)
    if not call_kwargs.keys() - {"training"}:
        input_shape = pytree.map(lambda leaf: (None, *np.shape(leaf)[1:]), data)
        assert layer.compute_output_shape(input_shape) == shapes


def _check_config(layer, data, call_kwargs):
    """The config is JSON and makes an equal layer."""
    written = json.loads(json.dumps(serialization.serialize(layer)))
    again = serialization.deserialize(written)
    assert type(again) is type(layer) and again.name == layer.name
    assert json.loads(json.dumps(serialization.serialize(again))) == written
    again(data, **call_kwargs)
    again.set_weights(layer.get_weights())
    _assert_close(again(data, **call_kwargs), layer(data, **call_kwargs))


def _with_dtype(layer, dtype):
    """A layer of the same config, but that it and the layers inside compute in ``dtype``."""

    def changed(config):
        if isinstance(config, list):
            return [changed(item) for item in config]
        if not isinstance(config, dict):
            return config
        return {key: dtype if key == "dtype" else changed(item) for key, item in config.items()}

    return serialization.deserialize(changed(serialization.serialize(layer)))


def _check_dtype(layer, data, call_kwargs):
    """Weights and float outputs have the dtype that was asked for, whatever the inputs'."""
    for dtype in ("float64", "float16"):
        other = _with_dtype(layer, dtype)
        output = other(data, **call_kwargs)
        assert {weight.dtype.name for weight in other.trainable_weights} <= {dtype}
        assert {leaf.dtype.name for leaf in pytree.flatten(output) if leaf.dtype.kind == "f"} <= {dtype}


def _check_mixed_precision(layer, data, call_kwargs):
    """Half precision in and out, weights and their gradients in float32; eager and compiled as float32 but rounded."""
    exact = [np.asarray(leaf) for leaf in pytree.flatten(layer(data, **call_kwargs))]
    for policy, spacing in (("mixed_bfloat16", 2.0**-7), ("mixed_float16", 2.0**-10)):
        mixed = _with_dtype(layer, policy)
        outputs = pytree.flatten(mixed(data, **call_kwargs))
        assert mixed.dtype_policy.name == policy
        assert {weight.dtype.name for weight in mixed.weights} <= {w.dtype.name for w in layer.weights}
        exact_output = type(layer).__name__ in EXACT or call_kwargs.get("reverse")
        made = mixed.dtype if exact_output else mixed.compute_dtype
        expected = [made if leaf.dtype == "float32" else leaf.dtype.name for leaf in exact]
        assert [leaf.dtype.name for leaf in outputs] == expected
        mixed.set_weights(layer.get_weights())
        with core.GradientTape() as tape:
            outputs = pytree.flatten(mixed(data, **call_kwargs))
            total = sum(core.ops.sum(core.ops.cast(leaf, "float32")) for leaf in outputs)
        gradients = tape.gradient(total, mixed.trainable_weights)
        assert all(g is None or g.dtype == w.dtype for g, w in zip(gradients, mixed.trainable_weights, strict=True))
        _assert_rounded(outputs, exact, spacing)
        if policy == "mixed_bfloat16":
            compiled = core.jit(lambda x, mixed=mixed: pytree.flatten(mixed(x, **call_kwargs)))(data)
            _assert_rounded(compiled, exact, spacing)


def _assert_rounded(outputs, exact, spacing):
    """Equal but for the rounding of a few steps; one number in ten may have been rounded over an edge."""
    for output, reference in zip(outputs, exact, strict=True):
        error = np.abs(np.asarray(output).astype("float64") - reference.astype("float64"))
        scale = max(1, np.abs(reference).max(initial=0))
        assert np.mean(error > 8 * spacing * scale) <= 0.1, error.max() / scale


def _check_gradient(layer, data, call_kwargs, step=1e-5):
    """Along a random direction of inputs and weights, the gradient is the slope of finite differences."""
    exact = _with_dtype(layer, "float64")
    exact(data, **call_kwargs)
    exact.set_weights(layer.get_weights())
    generator = np.random.default_rng(1)
    weights = exact.trainable_weights
    leaves = [np.asarray(leaf) for leaf in pytree.flatten(data)]
    points = [leaf.astype("float64") if leaf.dtype.kind == "f" else leaf for leaf in leaves]
    points += [np.array(weight) for weight in weights]
    directions = [generator.normal(size=p.shape) * (p.dtype.kind == "f") for p in points]
    cotangents = pytree.map(lambda leaf: generator.normal(size=leaf.shape), exact(data, **call_kwargs))

    def loss(*values):
        for weight, value in zip(weights, values[len(leaves) :], strict=True):
            weight.assign(value)
        outputs = exact(pytree.unflatten(data, values[: len(leaves)]), **call_kwargs)
        return sum((o * c).sum() for o, c in zip(pytree.flatten(outputs), pytree.flatten(cotangents)))

    def slope():
        ends = [
            float(loss(*(p + s * d if p.dtype.kind == "f" else p for p, d in zip(points, directions))))
            for s in (step, -step)
        ]
        return (ends[0] - ends[1]) / (2 * step)

    numeric = slope()
    inputs = [core.tensor(point) for point in points[: len(leaves)]]
    with core.GradientTape() as tape:
        tape.watch([value for value in inputs if value.dtype.kind == "f"])
        total = loss(*inputs, *points[len(leaves) :])
    gradients = tape.gradient(total, [*inputs, *weights])
    found = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    assert all(g is not None for g in gradients[len(leaves) :]), "a trainable weight has no gradient"
    np.testing.assert_allclose(found, numeric, rtol=1e-5, atol=1e-7)
