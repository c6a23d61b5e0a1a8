"""Dtype policies: which there are, what layers make of them, and that they are saved."""

import json

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core, layers
from tenzoo.core import ops
from tenzoo.layers import Dense, Input, Layer, Model, serialization
from tenzoo.layers.dtype_policy import get


class Seen(Layer):
    """Notes the dtypes of what it is called with, and of its weights there."""

    def build(self, input_shape):
        self.scale = self.add_weight((), "ones", name="scale")
        self.total = self.add_weight((), "zeros", trainable=False, autocast=False, name="total")
        self.count = self.add_weight((), "zeros", dtype="int32", trainable=False, name="count")

    def call(self, inputs):
        weights = (self.scale, self.total, self.count)
        self.dtypes = [inputs.dtype.name, *(w.dtype.name for w in weights), *(w.value.dtype.name for w in weights)]
        return inputs * self.scale


@pytest.mark.parametrize(
    ("given", "name", "compute", "variables"),
    [
        ("mixed_bfloat16", "mixed_bfloat16", "bfloat16", "float32"),
        ("mixed_float16", "mixed_float16", "float16", "float32"),
        ("bfloat16", "bfloat16", "bfloat16", "bfloat16"),
        (np.float64, "float64", "float64", "float64"),
        (tz.DTypePolicy("float16"), "float16", "float16", "float16"),
        ({"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}, "mixed_float16", "float16", "float32"),
        (None, "float32", "float32", "float32"),
    ],
)
def test_policies(given, name, compute, variables):
    policy = get(given)
    assert (policy.name, policy.compute_dtype, policy.variable_dtype) == (name, compute, variables)
    assert policy == tz.DTypePolicy(name) and hash(policy) == hash(tz.DTypePolicy(name)) and policy != name
    assert tz.DTypePolicy.from_config(policy.get_config()) == policy
    layer = Dense(2, dtype=given)
    assert (layer.dtype, layer.compute_dtype, layer.variable_dtype) == (variables, compute, variables)
    assert layer(np.ones((1, 3))).dtype == compute
    assert {weight.dtype.name for weight in layer.weights} == {variables}


def test_unknown_policies():
    with pytest.raises(ValueError, match=r"Unknown dtype policy 'mixed_float'.*mixed_float16"):
        tz.DTypePolicy("mixed_float")
    with pytest.raises(ValueError, match="Unknown dtype 'half_float'"):
        Dense(2, dtype="half_float")
    with pytest.raises(TypeError, match="string"):
        tz.DTypePolicy(16)


def test_the_policy_in_force():
    assert tz.config.dtype_policy().name == "float32"
    tz.mixed_precision.set_global_policy("mixed_bfloat16")
    assert tz.mixed_precision.global_policy() == tz.DTypePolicy() == tz.DTypePolicy("mixed_bfloat16")
    made = Dense(2)
    tz.config.set_dtype_policy(None)
    assert made.compute_dtype == "bfloat16" and Dense(2).compute_dtype == "float32"
    tz.config.set_dtype_policy("mixed_float16")
    layers.clear_session()
    assert Dense(2).dtype_policy.name == "float32"
    tz.config.set_floatx("bfloat16")
    try:
        assert tz.config.dtype_policy().name == "bfloat16" and ops.zeros(2).dtype == "bfloat16"
    finally:
        tz.config.set_floatx("float32")


def test_inputs_and_weights_are_cast_where_they_are_read():
    layer = Seen(dtype="mixed_bfloat16")
    assert layer(np.ones(3)).dtype == "bfloat16"
    assert layer.dtypes == ["bfloat16", "bfloat16", "float32", "int32", "bfloat16", "float32", "int32"]
    assert [w.dtype.name for w in layer.weights] == ["float32", "float32", "int32"]
    assert layer(np.ones(3, "int32")).dtype == "bfloat16" and layer.dtypes[0] == "int32"
    plain = Seen(dtype="mixed_bfloat16", autocast=False)
    assert plain(np.ones(3, "float32")).dtype == "float32"
    assert set(plain.dtypes) == {"float32", "int32"}


def test_layers_inside_have_their_own_policy():
    class Outer(Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.exact, self.half, self.plain = Seen(dtype="float32"), Seen(dtype="mixed_float16"), Seen(autocast=False)
            self.own = self.add_weight((), "ones", name="own")

        def call(self, inputs):
            results = [layer(inputs).dtype.name for layer in (self.exact, self.half, self.plain)]
            return [self.own.value.dtype.name, *results]

    outer = Outer(dtype="mixed_bfloat16")
    assert outer(np.ones(3, "float32")) == ["bfloat16", "float32", "float16", "float32"]
    assert outer.exact.dtypes[:2] == ["float32", "float32"] and outer.half.dtypes[:2] == ["float16", "float16"]
    assert outer.plain.dtypes[:2] == ["bfloat16", "float32"]
    assert core.op.state.autocast is None


def test_the_cast_ends_with_the_call():
    class Broken(Layer):
        def call(self, inputs):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        Broken(dtype="mixed_bfloat16")(np.ones(3))
    assert core.op.state.autocast is None and tz.Variable(1.0).value.dtype == "float32"


def test_assigned_values_keep_the_dtype_of_the_variable():
    class Counts(Layer):
        def build(self, input_shape):
            self.total = self.add_weight((), "zeros", trainable=False, name="total")

        def call(self, inputs):
            self.total.assign(self.total + ops.sum(inputs))
            return inputs

    for call in (lambda f: f, core.jit):
        layer = Counts(dtype="mixed_bfloat16")
        layer(np.zeros(3, "float32"))
        call(lambda x, layer=layer: layer(x))(core.tensor(np.full(3, 1.5, "float32")))
        assert layer.total.dtype == "float32" and float(layer.total) == 4.5


def test_functional_models_cast_at_their_layers():
    tz.config.set_dtype_policy("mixed_bfloat16")
    x = Input((3,))
    exact = Seen(dtype="float32")
    model = Model(x, [exact(x), Dense(2)(x)])
    assert x.dtype == "float32" and model.compute_dtype == "bfloat16"
    first, second = model(np.full((2, 3), 1.001, "float32"))
    assert (first.dtype, second.dtype) == ("float32", "bfloat16")
    np.testing.assert_array_equal(first, np.full((2, 3), 1.001, "float32"))
    again = Model.from_config(json.loads(json.dumps(model.get_config())), {"Seen": Seen})
    assert [layer.dtype_policy.name for layer in again.layers] == [layer.dtype_policy.name for layer in model.layers]


@pytest.mark.parametrize("inner", ["mixed_bfloat16", "bfloat16"])
def test_policies_are_saved(inner):
    layer = layers.Bidirectional(layers.LSTM(3, dtype=inner), dtype="mixed_float16")
    written = json.loads(json.dumps(serialization.serialize(layer)))
    again = serialization.deserialize(written)
    assert again.dtype_policy.name == "mixed_float16" and again.forward_layer.dtype_policy.name == inner


def test_recomputed_values_are_those_of_the_first_time():
    """Gradient checkpoints run a part of ``call`` again, after the layer has ended."""

    class Saving(Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight((3, 3), name="kernel")

        def call(self, inputs):
            return core.checkpoint(lambda x: ops.tanh(x @ self.kernel))(inputs)

    layer = Saving(dtype="mixed_bfloat16")
    with core.GradientTape() as tape:
        loss = ops.sum(ops.cast(layer(np.ones((2, 3), "float32")), "float32"))
    (gradient,) = tape.gradient(loss, [layer.kernel])
    assert gradient.dtype == "float32" and np.any(gradient.numpy())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("cls", [layers.BatchNormalization, layers.LayerNormalization, layers.RMSNormalization])
def test_statistics_are_computed_in_float32(cls, policy):
    """Numbers whose squares overflow in float16, and whose differences bfloat16 could not sum up."""
    mixed, exact = cls(dtype=policy), cls()
    x = core.tensor(np.linspace(300, 1000, 4096).reshape(64, 64).T, mixed.compute_dtype)
    options = {"training": True} if cls is layers.BatchNormalization else {}
    for call in (lambda layer: layer(x, **options), lambda layer: core.jit(lambda x: layer(x, **options))(x)):
        found, expected = (call(layer).numpy().astype("float32") for layer in (mixed, exact))
        np.testing.assert_allclose(found, expected, atol=0.02)
