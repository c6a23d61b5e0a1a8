"""What the base class promises: weights, tracking, training flag, masks, losses, configs, errors."""

import json
import warnings

import numpy as np
import pytest

from tenzoo import core, layers
from tenzoo.core import ShapeError
from tenzoo.layers import serialization


class Scale(layers.Layer):
    """Multiplies by a weight, and says whether it was called for training."""

    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.factor = self.add_weight((input_shape[-1],), layers.initializers.Constant(self.start), name="factor")

    def call(self, inputs, training=False):
        self.was_training = training
        return inputs * self.factor


class Block(layers.Layer):
    """Layers in every kind of container."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = Scale(name="first")
        self.listed = [Scale(name="a"), Scale(name="b")]
        self.named = {"c": Scale(name="c")}
        self.late = []
        self.offset = core.Variable(0.0, name="offset")

    def call(self, inputs):
        x = self.first(inputs)
        for layer in [*self.listed, *self.named.values(), *self.late]:
            x = layer(x)
        return x + self.offset


X = np.ones((2, 3), "float32")


def test_nested_layers_and_variables_are_found():
    block = Block(name="block")
    block.late.append(Scale(name="d"))
    block(X)
    paths = [weight.path for weight in block.weights]
    assert paths[0] == "block/offset"
    assert set(paths[1:]) == {f"block/{name}/factor" for name in ("first", "a", "b", "c", "d")}
    assert block.count_params() == 16
    block.late = None
    assert len(block.weights) == 5
    del block.offset
    assert len(block.weights) == 4


def test_trainable_goes_down_and_comes_back():
    block = Block()
    block(X)
    block.trainable = False
    assert block.trainable_weights == [] and len(block.non_trainable_weights) == 5
    assert not block.first.factor.trainable
    block.trainable = True
    assert len(block.trainable_weights) == 5
    block.first.trainable = False
    assert len(block.trainable_weights) == 4


def test_thawing_leaves_moving_statistics_alone():
    norm = layers.BatchNormalization(trainable=False)
    norm(X, training=True)
    assert norm.moving_mean.numpy().tolist() == [0, 0, 0]  # frozen: runs in inference mode
    norm.trainable = True
    assert [w.name for w in norm.trainable_weights] == ["gamma", "beta"]
    norm(X, training=True)
    assert norm.moving_mean.numpy() == pytest.approx([0.01] * 3)


def test_training_flag_argument_outer_call_default():
    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner, self.forced = Scale(), Scale()

        def call(self, x):
            return self.forced(self.inner(x), training=False)

    outer = Outer()
    outer(X)
    assert outer.inner.was_training is False
    outer(X, training=True)
    assert outer.inner.was_training is True and outer.forced.was_training is False
    outer(X)
    assert outer.inner.was_training is False
    scale = Scale()
    scale(X, True)
    assert scale.was_training is True
    scale(inputs=X)
    assert scale.was_training is False


def test_a_layer_may_take_itself_to_be_in_training():
    class Augment(Scale):
        def call(self, inputs, training=True):
            return super().call(inputs, training)

    layer = Augment()
    layer(X)
    assert layer.was_training is True
    layer(X, training=False)
    assert layer.was_training is False
    model = layers.Sequential([layer])
    model(X)
    assert layer.was_training is True
    model(X, training=False)
    assert layer.was_training is False


def test_weights_made_while_tracing_are_real():
    core.random.seed(5)
    eager = layers.Dense(2)(X)
    core.random.seed(5)
    dense = layers.Dense(2)
    traced = core.trace(dense, X)(X)
    np.testing.assert_array_equal(traced, eager)
    layer = layers.Dense(2)
    with core.GradientTape() as tape:
        loss = layer(X).sum()
    assert tape.gradient(loss, layer.kernel).shape == (3, 2)


def test_dtype_and_autocast():
    layer = layers.Dense(2, dtype="float64")
    assert layer(X).dtype == "float64" and layer.dtype == layer.compute_dtype == "float64"
    assert layers.Dense(2)(X.astype("float64")).dtype == "float32"
    assert layers.Identity()(np.array([1, 2])).dtype == "int64"


def test_get_and_set_weights():
    a, b = layers.Dense(2), layers.Dense(2)
    with pytest.raises(ValueError, match="not built"):
        b.set_weights([np.zeros((3, 2))])
    a(X), b(X)
    b.set_weights(a.get_weights())
    np.testing.assert_array_equal(a(X), b(X))
    with pytest.raises(ShapeError, match=r"dense_1/kernel.*\(3, 2\).*\(2, 3\)"):
        b.set_weights([np.zeros((2, 3)), np.zeros(2)])
    with pytest.raises(ValueError, match="has 2 weights; received 1"):
        b.set_weights([np.zeros((3, 2))])
    with pytest.raises(ValueError, match="not built"):
        layers.Dense(2).count_params()


def test_losses():
    dense = layers.Dense(
        2,
        kernel_regularizer="l2",
        activity_regularizer=layers.regularizers.L1(0.1),
        kernel_initializer="ones",
    )
    for _ in range(2):  # the second call starts anew
        dense(X)
        activity, weight = dense.losses
        assert float(activity) == pytest.approx(0.1 * 6) and float(weight) == pytest.approx(0.06)
    dense.trainable = False
    assert len(dense.losses) == 1

    class Penalised(layers.Layer):
        def call(self, x):
            self.add_loss(x.sum())
            return x

    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Penalised()

        def call(self, x):
            return self.inner(self.inner(x))

    outer = Outer()
    outer(X)
    outer(X)
    assert [float(loss) for loss in outer.losses] == [6, 6]
    with core.GradientTape() as tape:
        dense.trainable = True
        total = sum((dense(X), dense.losses)[1])
    assert tape.gradient(total, dense.kernel).shape == (3, 2)


def test_names_are_unique_and_restart():
    assert [layers.Dense(1).name for _ in range(2)] == ["dense", "dense_1"]
    assert layers.MaxPooling2D().name == "max_pooling2d"
    layers.clear_session()
    assert layers.Dense(1).name == "dense"


def test_masks_flow_to_the_layers_that_use_them():
    tokens = np.array([[1, 2, 0], [3, 0, 0]])
    embed = layers.Embedding(5, 4, mask_zero=True)
    pool = layers.GlobalAveragePooling1D()
    dense, dropout = layers.Dense(4), layers.Dropout(0.5)
    x = dropout(dense(embed(tokens)))
    assert layers.get_mask(x).tolist() == [[True, True, False], [True, False, False]]
    pooled = pool(x)
    assert layers.get_mask(pooled) is None
    np.testing.assert_allclose(pooled[1], x[1, 0], rtol=1e-6)
    stack = layers.Sequential([embed, dense, dropout, pool])
    np.testing.assert_allclose(stack(tokens), pooled, rtol=1e-6)
    inputs = layers.Input((None,), dtype="int32")
    model = layers.Model(inputs, pool(dense(embed(inputs))))
    np.testing.assert_allclose(model(tokens), pooled, rtol=1e-6)
    np.testing.assert_allclose(core.trace(model, tokens)(tokens), pooled, rtol=1e-6)
    joined = layers.Concatenate()([x, x])
    assert layers.get_mask(joined).tolist() == layers.get_mask(x).tolist()
    assert layers.get_mask(layers.Add()([x, dense(x * 1.0)])) is None
    both = layers.Add()([x, dense(x)])
    assert layers.get_mask(both).tolist() == layers.get_mask(x).tolist()


def test_masks_go_with_their_tensors():
    from tenzoo.layers import masks

    before = len(masks._masks)
    x = layers.Embedding(5, 4, mask_zero=True)(np.array([[1, 0]]))
    assert len(masks._masks) == before + 1
    del x
    assert len(masks._masks) == before


def test_a_mask_that_is_lost_is_told():
    x = layers.Embedding(5, 4, mask_zero=True)(np.array([[1, 0]]))
    with pytest.warns(UserWarning, match="'flatten'.*does not support masking"):
        layers.Flatten()(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layers.Dense(1)(x)


def test_mask_parameters_of_several_inputs():
    class Attend(layers.Layer):
        def call(self, query, value, query_mask=None, value_mask=None):
            self.masks = query_mask, value_mask
            return query

    tokens = np.array([[1, 0]])
    attend, embed = Attend(), layers.Embedding(5, 4, mask_zero=True)
    attend(X, embed(tokens))
    assert attend.masks[0] is None and attend.masks[1].tolist() == [[True, False]]


def test_build_with_several_shapes():
    class Pair(layers.Layer):
        def build(self, first_shape, second_shape):
            self.shapes = first_shape, second_shape

        def call(self, first, second):
            return first + second

    pair = Pair()
    pair(X, second=X)
    assert pair.shapes == ((2, 3), (2, 3))


# Configs


def test_config_holds_the_constructor_arguments():
    config = layers.Dense(4, "relu", kernel_initializer=layers.initializers.HeNormal(seed=3)).get_config()
    assert config["units"] == 4 and config["activation"] == "relu" and config["name"] == "dense"
    written = {"seed": 3, "input_axes": None, "output_axes": None}
    assert config["kernel_initializer"] == {"class_name": "initializers>HeNormal", "config": written}
    layer = layers.Dense.from_config(json.loads(json.dumps(config)))
    assert layer.kernel_initializer.seed == 3 and layer.activation is layers.activations.relu


def test_config_of_own_layers():
    @serialization.register_serializable("Mine")
    class Wrapper(layers.Layer):
        def __init__(self, inner, sizes, function, table):  # no **kwargs
            super().__init__()
            self.inner, self.sizes, self.function, self.table = inner, sizes, function, table

        def call(self, x):
            return self.function(self.inner(x))

    @serialization.register_serializable("Mine")
    def double(x):
        return x * 2

    layer = Wrapper(Scale(2.0), (1, (2, 3)), double, {1: core.tensor([1.5]), "b": np.float32(2)})
    layer.name = "mine"
    written = json.loads(json.dumps(serialization.serialize(layer)))
    assert written["class_name"] == "Mine>Wrapper"
    again = serialization.deserialize(written, custom_objects={"Scale": Scale})
    assert again.name == "mine" and again.sizes == (1, (2, 3)) and again.function is double
    assert again.table[1].tolist() == [1.5] and again.table["b"] == 2.0
    np.testing.assert_array_equal(again(X), layer(X))


def test_config_in_the_style_of_keras():
    class Old(layers.Layer):
        def __init__(self, units, activation=None, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.activation = layers.activations.get(activation)

        def get_config(self):
            config = super().get_config()
            config.update({"units": self.units, "activation": layers.activations.serialize(self.activation)})
            return config

    written = json.loads(json.dumps(serialization.serialize(Old(3, "gelu"))))
    again = serialization.deserialize(written, {"Old": Old})
    assert again.units == 3 and again.activation is layers.activations.gelu


@pytest.mark.parametrize(
    "value",
    [
        (1, [2, (3,)]),
        {"a": {"b": None}},
        {1: "x", (2, 3): "y"},
        slice(1, None, 2),
        Ellipsis,
        np.dtype("int8"),
        float("inf"),
        True,
    ],
)
def test_values_survive_json(value):
    assert serialization.deserialize(json.loads(json.dumps(serialization.serialize(value)))) == value


def test_arrays_survive_json():
    for value in (np.arange(6, dtype="int8").reshape(2, 3), np.float16([[0.1]]), np.zeros((0, 2))):
        again = serialization.deserialize(json.loads(json.dumps(serialization.serialize(value))))
        np.testing.assert_array_equal(again, value, strict=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"class_name": "layers>Dens", "config": {}},
            "Unknown class 'layers>Dens'. Did you mean 'layers>Dense'",
        ),
        ({"class_name": "os.system", "config": {"command": "true"}}, "Unknown class 'os.system'"),
        ({"class_name": "__function__", "name": "os>system"}, "Unknown function"),
        ({"class_name": "ops>add", "config": {}}, "not a class"),
        ({"class_name": "layers>Dense"}, "malformed"),
        ({"class_name": "__array__", "dtype": "O"}, "malformed"),
        ({"class_name": ["x"], "config": {}}, "malformed|Unknown"),
    ],
)
def test_bad_configs_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        serialization.deserialize(config)


def test_what_cannot_be_written_is_told():
    with pytest.raises(TypeError, match="lambda"):
        serialization.serialize(layers.Activation(lambda x: x))
    with pytest.raises(TypeError, match="object"):
        serialization.serialize(object())


# Errors


def test_errors_say_which_layer_on_what():
    class Outer(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = layers.Dense(2, name="inner")

        def call(self, x):
            return self.inner(x)

    outer = Outer(name="outer")
    outer(X)
    with pytest.raises(ShapeError) as caught:
        outer(np.ones((2, 4)))
    text = str(caught.value)
    assert "in layer 'outer/inner' (Dense), called with float32[2, 4]" in text
    assert "extent 3 along axis -1" in text and text.count("in layer") == 1


@pytest.mark.parametrize(
    ("make", "inputs", "message"),
    [
        (
            lambda: layers.Conv2D(2, 3),
            np.ones((2, 8, 8)),
            r"4 axes; received shape \(2, 8, 8\).*x\[\.\.\., None\]",
        ),
        (lambda: layers.Conv2D(2, 3), layers.Input((2, 8, 1)), "larger than the padded input"),
        (lambda: layers.Conv2D(4, 3, groups=2), np.ones((2, 8, 8, 3)), "3 channels, which 2 groups"),
        (lambda: layers.Embedding(5, 2), np.array([[7]]), "(?s)7.*in layer 'embedding'"),
        (lambda: layers.Reshape((5,)), np.ones((2, 4)), "4 elements"),
        (lambda: layers.Cropping1D(4), np.ones((2, 4, 1)), "leaves nothing"),
        (lambda: layers.Add(), np.ones((2, 4)), "a list of at least 1"),
        (lambda: layers.Concatenate(), [np.ones((2, 4)), np.ones((3, 4))], r"\(2, 4\), \(3, 4\)"),
        (lambda: layers.Layer(), np.ones((2, 4)), r"has no call\(\)"),
    ],
)
def test_bad_inputs(make, inputs, message):
    with pytest.raises((ValueError, IndexError, NotImplementedError), match=message):
        make()(inputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Dense(0), "positive"),
        (
            lambda: layers.Dense(2, activaton="relu"),
            "Unknown argument 'activaton'. Did you mean 'activation'",
        ),
        (lambda: layers.Dense(2, activation="rleu"), "Unknown activation 'rleu'. Did you mean 'relu'"),
        (lambda: layers.Dense(2, kernel_initializer="glorot"), "Unknown initializer"),
        (lambda: layers.Conv2D(2, 3, padding="causal"), "padding is one of"),
        (lambda: layers.Conv2D(2, (3, 3, 3)), "kernel_size"),
        (lambda: layers.Conv2D(2, 3, data_format="channels_first"), "channels last"),
        (lambda: layers.Dropout(1.5), r"\[0, 1\]"),
        (lambda: layers.Permute((0, 1)), "permutation"),
        (lambda: layers.Normalization(mean=0.0), "both"),
        (lambda: layers.Input(3), r"write \(3,\)"),
        (lambda: layers.Dense(2)(layers.Input((None,))), r"extents that weights depend on"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_forgotten_super_init():
    class Forgetful(layers.Layer):
        def __init__(self):
            self.dense = layers.Dense(1)

    with pytest.raises(RuntimeError, match="super"):
        Forgetful()(X)


# Single layers


def test_dropout_draws_anew_and_repeats_by_seed():
    ones = np.ones((100, 100), "float32")
    a, b = layers.Dropout(0.4, seed=1), layers.Dropout(0.4, seed=1)
    first, second = a(ones, training=True), a(ones, training=True)
    assert not np.array_equal(first, second) and np.array_equal(first, b(ones, training=True))
    assert np.mean(first.numpy() == 0) == pytest.approx(0.4, abs=0.02)
    assert first.numpy().max() == pytest.approx(1 / 0.6)
    assert a(ones).numpy().min() == 1
    assert layers.Dropout(1.0)(ones, training=True).numpy().max() == 0
    assert a.weights == [] and len(a.variables) == 1


def test_normalization_forgets_what_it_adapted_to():
    data = np.random.default_rng(0).normal(3, 2, (50, 2))
    layer = layers.Normalization()
    layer.adapt([np.ones((3, 2))])
    layer.adapt([(data[:20], None), (data[20:], None)])
    out = layer(data).numpy()
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(out.std(0), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="empty"):
        layer.adapt([])


def test_embedding_takes_a_table():
    table = np.arange(6.0).reshape(3, 2)
    assert layers.Embedding(3, 2, weights=[table])(np.array([2])).tolist() == [[4.0, 5.0]]


@pytest.mark.parametrize("name", ["zeros", "Ones", "he_normal", "orthogonal", "identity", "random_uniform"])
def test_initializers_by_name(name):
    assert layers.initializers.get(name)((4, 4), "float64").shape == (4, 4)


def test_initializers():
    initializers = layers.initializers
    a = initializers.Orthogonal()((4, 6)).numpy()
    np.testing.assert_allclose(a @ a.T, np.eye(4), atol=1e-6)
    assert not np.array_equal(initializers.HeNormal()((3, 3)), initializers.HeNormal()((3, 3)))
    seeded = initializers.HeNormal(seed=1)
    np.testing.assert_array_equal(seeded((3, 3)), seeded((3, 3)))
    assert initializers.Constant([1.0, 2.0])((3, 2), "float32").tolist() == [[1, 2]] * 3
    assert initializers.get(0.5)((2,)).tolist() == [0.5, 0.5]
    assert seeded.clone().get_config() == {"seed": 1, "input_axes": None, "output_axes": None}
    for bad in (lambda: initializers.Identity()((2,)), lambda: initializers.VarianceScaling(mode="fan")):
        with pytest.raises(ValueError, match="xpected"):
            bad()


def test_constraints_and_regularizers_reach_the_weight():
    layer = layers.Dense(2, kernel_constraint="non_neg", bias_regularizer=layers.regularizers.L1L2(0.1, 0.2))
    layer(X)
    assert isinstance(layer.kernel.constraint, layers.constraints.NonNeg) and layer.kernel.regularizer is None
    assert layer.bias.regularizer.l2 == 0.2 and layer.bias.constraint is None


def test_orthogonal_regularizer_of_columns_is_that_of_the_rows_transposed():
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    rows, columns = (layers.regularizers.OrthogonalRegularizer(0.1, mode) for mode in ("rows", "columns"))
    assert float(columns(x)) == pytest.approx(float(rows(x.T)), rel=1e-5)
    assert float(rows(np.eye(3, 4, dtype="float32"))) == 0


def test_freezing_reaches_shared_and_circular_layers():
    a, b = Scale(), Scale()
    a.friend, b.friend = b, a
    a(X), b(X)
    assert len(a.weights) == len(a.trainable_weights) == 2
    b.trainable = False
    assert a.trainable_weights == [] and not a.factor.trainable


def test_unknown_extents_in_errors():
    with pytest.raises(ShapeError, match=r"96 stands for extents that are not known yet"):
        layers.Concatenate()([layers.Input((2, 3)), layers.Input((4, 3))])


def test_a_subclass_may_pass_on_weight_options_or_leave_them():
    class Ones(layers.Dense):
        def __init__(self, units, **options):
            super().__init__(units, kernel_initializer="ones", **options)

    layer = Ones(2)
    layer(np.zeros((1, 3)))
    np.testing.assert_array_equal(layer.kernel, 1.0)
    np.testing.assert_array_equal(layer.bias, 0.0)


def test_blank_weights_start_as_zeros():
    from tenzoo.layers.layer import blank_weights

    with blank_weights():
        layer = layers.BatchNormalization()
        layer.build((None, 3))
    assert all(not np.any(np.asarray(weight)) for weight in layer.weights)
    later = layers.BatchNormalization()
    later.build((None, 3))
    np.testing.assert_array_equal(later.gamma, 1.0)


def test_misspelt_layer_gets_a_suggestion():
    from tenzoo import layers

    with pytest.raises(AttributeError, match="Did you mean 'Dense'"):
        layers.Dens  # noqa: B018
    assert not hasattr(layers, "NoSuchLayer")
