"""Functional, sequential and subclassed models."""

import json

import numpy as np
import pytest

from tenzoo import core, layers
from tenzoo.core import ShapeError, ops
from tenzoo.layers import Dense, Input, Model, Sequential

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def again(model, **objects):
    """The model made anew from its config, with the same weights."""
    config = json.loads(json.dumps(model.get_config()))
    copy = type(model).from_config(config, custom_objects=objects)
    assert json.loads(json.dumps(copy.get_config())) == config
    copy.set_weights(model.get_weights())
    return copy


def two_towers():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    shared = Dense(3, activation="tanh", name="shared")
    mixed = shared(a) * 2 - ops.relu(shared(b))
    joined = layers.concatenate([mixed, mixed[:, :1]])
    return Model({"a": a, "b": b}, {"score": Dense(1, name="score")(joined), "mixed": mixed}, name="towers")


def test_functional_with_shared_layers_ops_and_dicts():
    model = two_towers()
    out = model({"b": X + 1, "a": X})
    shared = model.get_layer("shared")
    mixed = ops.tanh(X @ shared.kernel.value) * 2 - ops.relu(ops.tanh((X + 1) @ shared.kernel.value))
    np.testing.assert_allclose(out["mixed"], mixed, rtol=1e-5, atol=1e-6)
    assert out["score"].shape == (3, 1) and model.output_shape["mixed"] == (None, 3)
    assert model.input_shape == {"a": (None, 4), "b": (None, 4)}
    assert len(model.weights) == 4
    copy = again(model)
    np.testing.assert_array_equal(copy({"a": X, "b": X + 1})["score"], out["score"])
    traced = core.trace(model, {"a": X, "b": X + 1})
    np.testing.assert_allclose(traced({"a": X, "b": X + 1})["score"], out["score"], rtol=1e-6)


def test_inputs_by_name_list_and_rank():
    a, b = Input((4,), name="a"), Input((1,), name="b")
    model = Model([a, b], layers.Add()([a, b]))
    expected = X + np.arange(3.0)[:, None]
    for given in ([X, np.arange(3.0)[:, None]], (X, np.arange(3)), {"b": np.arange(3), "a": X}):
        np.testing.assert_allclose(model(given), expected, rtol=1e-6)


def test_nested_models_and_features():
    inner_in = Input((4,))
    inner = Model(inner_in, Dense(3, name="inside")(inner_in), name="inner")
    outer_in = Input((4,))
    outer = Model(outer_in, Dense(2)(inner(outer_in)) + 1, name="outer")
    assert [layer.name for layer in outer.layers] == ["input_layer_1", "inner", "dense"]
    np.testing.assert_array_equal(again(outer)(X), outer(X))
    inner.trainable = False
    assert len(outer.trainable_weights) == 2
    features = Model(inner.input, inner.get_layer("inside").output)
    np.testing.assert_array_equal(features(X), inner(X))
    tail = Model(outer.get_layer("dense").input, outer.output)
    np.testing.assert_array_equal(tail(inner(X)), outer(X))
    np.testing.assert_array_equal(again(tail)(inner(X)), outer(X))


def test_calls_keep_their_arguments():
    x = Input((4,))
    model = Model(x, layers.Dropout(0.5, seed=1)(x, training=True))
    assert (model(X).numpy() == 0).any()
    assert (again(model)(X).numpy() == 0).any()


def test_several_outputs_and_unused_ones():
    x = Input((4,))
    left, right = ops.split(x, 2, axis=1)
    model = Model(x, [right, x])
    right, same = again(model)(X)
    np.testing.assert_array_equal(right, X[:, 2:])
    np.testing.assert_array_equal(same, X)
    np.testing.assert_array_equal(Model(x, left)(X), X[:, :2])


def test_keras_tensors_know_shapes_not_values():
    x = Input((None, 4), batch_size=None)
    assert ops.shape(x) == (None, None, 4)
    y = x.reshape((-1, 2, 4)).mean(axis=1)[..., None]
    assert y.shape == (None, 4, 1) and (-y).dtype == "float32" and y.T.shape == (1, 4, None)
    assert (x > 0).dtype == "bool" and (1 + x).shape == (None, None, 4)
    assert layers.Conv1D(2, 3)(x).shape == (None, None, 2)
    assert layers.Flatten()(Input((2, 3))).shape == (None, 6)
    assert Input(batch_shape=(5, 2)).shape == (5, 2)
    for use in (bool, float, len, list, np.asarray, lambda t: core.tensor(t)):
        with pytest.raises(TypeError, match=r"KerasTensor shape=.*no values"):
            use(y)


def test_symbolic_calls_draw_and_change_nothing():
    x = Input((4,))
    norm = layers.BatchNormalization()
    dropout = layers.Dropout(0.5)
    state = dropout.seed_generator.state.numpy().tolist()
    layers.Activation("relu", activity_regularizer="l2")(dropout(norm(x, training=True), training=True))
    assert norm.moving_mean.numpy().tolist() == [0] * 4
    assert dropout.seed_generator.state.numpy().tolist() == state


def test_sequential():
    stack = Sequential([Input((4,)), Dense(3, activation="relu"), Dense(2)], name="stack")
    assert stack.built and stack.output_shape == (None, 2) and len(stack.layers) == 2
    assert stack.weights[0].path == "stack/dense/kernel"
    np.testing.assert_array_equal(again(stack)(X), stack(X))
    middle = Model(stack.inputs, stack.layers[0].output)
    assert middle(X).shape == (3, 3)
    stack.pop()
    assert stack.output_shape == (None, 3) and stack(X).shape == (3, 3)
    stack.add(Dense(5))
    assert stack(X).shape == (3, 5)


def test_sequential_builds_later_and_keeps_to_no_shape():
    stack = Sequential([Dense(3), layers.Activation("relu")])
    assert not stack.built and stack.weights == []
    assert stack(X).shape == (3, 3) and stack.built
    assert stack(np.ones((2, 7, 4))).shape == (2, 7, 3)
    assert again(stack).layers[0].built is False if not stack.built else True
    other = Sequential([Dense(3, input_shape=(4,))])
    assert other.built and other.input_shape == (None, 4)
    third = Sequential([layers.Embedding(10, 4), layers.GlobalAveragePooling1D()])
    third.build((None, 6))
    assert third.output_shape == (None, 4)
    assert third(np.ones((2, 9), "int32")).shape == (2, 4)


def test_sequential_from_its_config_before_it_is_built():
    stack = Sequential([Dense(3), Dense(1)])
    copy = Sequential.from_config(json.loads(json.dumps(stack.get_config())))
    assert [layer.units for layer in copy.layers] == [3, 1] and not copy.built


class Residual(Model):
    def __init__(self, width, depth=2):
        super().__init__()
        self.blocks = [Dense(width) for _ in range(depth)]

    def call(self, x, training=False):
        for block in self.blocks:
            x = x + block(x)
        return x


def test_subclassed():
    model = Residual(4)
    model.build((None, 4))
    assert [weight.path for weight in model.weights][::2] == [
        "residual/dense/kernel",
        "residual/dense_1/kernel",
    ]
    assert len(model.layers) == 2
    other = Residual(4)
    other(X)
    assert len(other.weights) == 4
    assert model.get_config()["width"] == 4
    rebuilt = Residual.from_config(model.get_config())
    rebuilt(X)
    rebuilt.set_weights(model.get_weights())
    np.testing.assert_array_equal(rebuilt(X), model(X))
    x = Input((4,))
    wrapped = Model(x, model(x))
    np.testing.assert_array_equal(wrapped(X), model(X))
    with core.GradientTape() as tape:
        loss = model(X).sum()
    assert None not in tape.gradient(loss, model.trainable_weights)


def test_a_functional_model_with_a_constructor_of_its_own():
    class Tower(Model):
        def __init__(self, width=3, **kwargs):
            x = Input((4,))
            super().__init__(inputs=x, outputs=Dense(width)(x), **kwargs)

    tower = Tower(5, name="tower")
    assert tower.get_config()["width"] == 5 and Tower.from_config(tower.get_config()).output_shape == (
        None,
        5,
    )


def test_subclasses_stay_what_they_are():
    class Mixin:
        def fit(self):
            return "fitted"

    class Trained(Mixin, Model):
        pass

    class TrainedStack(Trained, Sequential):
        pass

    x = Input((4,))
    model = Trained(x, Dense(2)(x), name="m")
    assert model.fit() == "fitted" and type(again(model)) is Trained
    stack = TrainedStack([Input((4,)), Dense(2)], name="s")
    assert stack(X).shape == (3, 2) and type(again(stack)) is TrainedStack and stack.fit() == "fitted"
    np.testing.assert_array_equal(again(stack)(X), stack(X))


def test_clone_model():
    model = two_towers()
    copy = layers.clone_model(model)
    assert copy.get_layer("shared") is not model.get_layer("shared")
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]

    def wider(layer):
        return Dense(1, use_bias=False, name=layer.name) if layer.name == "score" else layer

    assert len(layers.clone_model(model, wider).weights) == 3
    with pytest.raises(ValueError, match="neither functional nor Sequential"):
        layers.clone_model(Residual(2), lambda layer: layer)


def test_losses_of_inner_layers():
    x = Input((4,))
    model = Model(x, Dense(2, activity_regularizer="l2", kernel_regularizer="l1")(Dense(3)(x)))
    assert len(model.losses) == 1
    model(X)
    model(X)
    assert len(model.losses) == 2


def lines(model, **options):
    printed = []
    model.summary(print_fn=printed.append, **options)
    return "\n".join(printed)


def test_summary():
    stack = Sequential([Input((4,)), Dense(3), layers.BatchNormalization()], name="stack")
    text = lines(stack)
    assert 'Model: "stack"' in text
    assert "│ dense (Dense)                            │ (None, 3)    │ 15      │" in text
    assert "Total params: 27 (108.00 B)" in text and "Non-trainable params: 6 (24.00 B)" in text
    assert "Connected to" not in text
    text = lines(two_towers(), show_trainable=True)
    assert "Connected to" in text and "Trainable" in text and "subtract (op)" in text
    assert text.count("│ 15 ") == 1  # a shared layer counts once
    own = Residual(2)
    assert "not built" in lines(own)
    own(X[:, :2])
    assert "(None, 2)" in lines(own) and "?" not in lines(own)
    assert max(map(len, lines(stack, line_length=60).splitlines())) == 60
    outer = Input((4,))
    assert "└ last (Dense)" in lines(Model(outer, Sequential([Dense(2, name="last")])(outer)), expand_nested=True)


def test_summary_counts_flops_and_activations():
    net = Sequential([Input((8, 8, 3)), layers.SeparableConv2D(4, 3), layers.Flatten(), Dense(2)])
    text = lines(net)
    depthwise, pointwise, dense = 2 * 6 * 6 * 3 * 9, 2 * 6 * 6 * 3 * 4, 2 * 144 * 2
    assert f"{depthwise + pointwise:,} " in text and f"{dense:,} " in text
    assert "For one example: 3.38 kFLOPs, activations of 1.13 KB" in text  # 144 twice, and 2, of 4 bytes
    rnn = Sequential([Input((5, 3)), layers.LSTM(4), Dense(2)])
    assert f" {2 * 5 * 16 * (3 + 4):,} " in lines(rnn)  # five steps, four gates of four units
    assert "FLOPs" not in lines(Sequential([Input((None, 3)), layers.LSTM(4)]))  # depend on the length
    fixed = Sequential([Input((5, 3), batch_size=2), layers.LSTM(4, stateful=True)])
    assert "Total params" in lines(fixed) and "FLOPs" not in lines(fixed)
    shared = Dense(4)
    x = Input((4,))
    assert "128 FLOPs" in lines(Model(x, shared(shared(shared(shared(x))))))


def test_plot_model(tmp_path, monkeypatch):
    inner = Sequential([Input((3,)), Dense(4, "relu", name="hidden")], name="inner")
    a, b = Input((3,), name="a"), Input((3,), name="b")
    model = Model([a, b], Dense(1, trainable=False)(inner(a) + inner(b)))
    boxes = layers.plot_model(model, tmp_path / "m.svg").picture.boxes
    assert [box.title for box in boxes] == ["InputLayer", "InputLayer", "Sequential", "Sequential", "add", "Dense"]
    assert (tmp_path / "m.svg").read_text().startswith("<svg")
    options = {"show_shapes": True, "show_layer_names": True, "show_layer_activations": True, "show_trainable": True}
    picture = layers.plot_model(model, None, expand_nested=True, show_dtype=True, **options).picture
    hidden = [number for number, box in enumerate(picture.boxes) if box.title == "hidden (Dense)"]
    assert [picture.boxes[n].detail for n in hidden] == ["(None, 4) float32, relu, trainable"] * 2
    assert {box.cluster for box in picture.boxes} >= {"inner"} and "frozen" in picture.boxes[-1].detail
    add = next(number for number, box in enumerate(picture.boxes) if box.title == "add")
    assert {(n, add) for n in hidden} <= picture.edges.keys()
    with pytest.raises(ValueError, match="not made from Input"):
        layers.plot_model(Residual(2), None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="Graphviz"):
        layers.plot_model(model, tmp_path / "m.png")


# Errors


def test_errors_of_models():
    model = two_towers()
    with pytest.raises(ValueError, match=r"inputs named \['a', 'b'\].*missing"):
        model({"a": X})
    with pytest.raises(ValueError, match="Expected 2 inputs"):
        model([X])
    with pytest.raises(ShapeError, match=r"Input 'b' expects shape \(None, 4\); received \(3, 5\)(?s:.*)'towers'"):
        model({"a": X, "b": np.ones((3, 5))})
    with pytest.raises(ValueError, match=r"Unknown layer 'shred'\. Did you mean 'shared'"):
        model.get_layer("shred")
    x, y = Input((4,), name="x"), Input((4,), name="y")
    with pytest.raises(ValueError, match=r"input 'y'.*not among"):
        Model(x, Dense(1)(x + y))
    with pytest.raises(ValueError, match=r"several layers named \['d'\]"):
        Model(x, Dense(1, name="d")(Dense(1, name="d")(x)))
    with pytest.raises(ValueError, match="made from Input"):
        Model(x, np.ones(3))
    with pytest.raises(NotImplementedError, match=r"has no call\(\)"):
        Model()(X)
    with pytest.raises(TypeError, match="expected a layer"):
        Sequential([3])
    with pytest.raises(ShapeError, match=r"(?s)conv2d.*\(None, 4\)|4 axes; received shape \(None, 4\)"):
        layers.Conv2D(1, 3)(x)


def test_error_inside_a_deep_model_names_the_path():
    inner = Sequential([Dense(3, name="first"), layers.Reshape((7,), name="wrong")], name="inner")
    outer = Sequential([inner], name="outer")
    with pytest.raises(ShapeError, match="in layer 'outer/inner/wrong'"):
        outer(X)
