"""What the harness does not see of recurrent layers: states kept, own cells, masks, how they compile."""

import numpy as np
import pytest

from tenzoo import core, layers
from tenzoo.core import ShapeError, ops

X = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")


def test_stateful_goes_on_where_the_last_batch_ended():
    kept, whole = layers.LSTM(4, stateful=True), layers.LSTM(4, return_sequences=True)
    kept(X[:, :3])
    whole(X)
    whole.set_weights(kept.get_weights())
    kept.reset_state()
    expected = whole(X).numpy()
    step = core.jit(kept)
    np.testing.assert_allclose(step(X[:, :3]), expected[:, 2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(step(X[:, 3:]), expected[:, 5], rtol=1e-5, atol=1e-6)
    kept.reset_state()
    np.testing.assert_allclose(kept(X[:, :3]), expected[:, 2], rtol=1e-5, atol=1e-6)
    assert len(kept.weights) == 3
    with pytest.raises(ShapeError, match="batches of 2; received one of 1"):
        kept(X[:1])
    with pytest.raises(ValueError, match="batch_size"):
        layers.GRU(2, stateful=True)(layers.Input((5, 3)))
    assert layers.GRU(2, stateful=True)(layers.Input((5, 3), batch_size=4)).shape == (4, 2)


class Minimal(layers.Layer):
    """A cell with no more than it has to have."""

    state_size = 3

    def __init__(self):
        super().__init__()
        self.mix = layers.Dense(3, activation="tanh")

    def call(self, inputs, states):
        output = self.mix(ops.concatenate([inputs, states[0]], -1))
        return output, [output + 1]


def test_own_cell():
    layer = layers.RNN(Minimal(), return_state=True)
    output, state = layer(X)
    np.testing.assert_allclose(output + 1, state, rtol=1e-6)
    assert output.shape == (2, 3) and len(layer.weights) == 2
    traced = core.trace(layer, X)(X)
    np.testing.assert_allclose(traced[0], output, rtol=1e-5)
    with pytest.raises(ValueError, match="state_size"):
        layers.RNN(layers.Dense(3))


def test_masks_pass_through_a_stack():
    tokens = np.array([[3, 1, 0, 0], [2, 0, 0, 0]])
    embedding, first = layers.Embedding(5, 3, mask_zero=True), layers.GRU(4, return_sequences=True)
    last = layers.Bidirectional(layers.LSTM(2))
    outputs = last(first(embedding(tokens)))
    short = last(first(embedding(tokens[:1, :2])))
    np.testing.assert_allclose(outputs[:1], short, rtol=1e-5, atol=1e-6)
    assert layers.get_mask(first(embedding(tokens))).tolist() == (tokens != 0).tolist()
    assert layers.get_mask(outputs) is None


def test_zero_output_for_mask():
    mask = np.array([[True, True, False], [True, False, False]])
    layer = layers.SimpleRNN(2, return_sequences=True, zero_output_for_mask=True)
    outputs = layer(X[:, :3], mask=mask).numpy()
    assert (outputs[~mask] == 0).all() and (outputs[mask] != 0).all()
    layer.return_sequences = False
    np.testing.assert_array_equal(layer(X[:, :3], mask=mask), outputs[:, -1])


def test_dropout_is_one_pattern_for_all_steps():
    layer = layers.RNN(layers.GRUCell(4, dropout=0.5, recurrent_dropout=0.5, seed=3))
    layer(X)
    seed = layer.cell.seed_generator.state
    start = seed.numpy()
    first = layer(X, training=True)
    assert not np.array_equal(layer(X, training=True), first)
    seed.assign(start)
    np.testing.assert_allclose(core.jit(lambda x: layer(x, training=True))(X), first, rtol=1e-5, atol=1e-6)
    seed.assign(start)
    noise = core.random.dropout(np.ones((2, 3), "float32"), 0.5, seed=layer.cell.seed_generator)
    seed.assign(start)
    layer.cell.recurrent_dropout = 0.0
    np.testing.assert_allclose(layer(X, training=True), layer(X * noise[:, None]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.SimpleRNN(4),
        lambda: layers.LSTM(4, return_sequences=True),
        lambda: layers.GRU(4, go_backwards=True),
        lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(4, recurrent_dropout=0.1)]),
    ],
)
def test_a_step_is_native_and_projects_all_inputs_at_once(make):
    layer = make()
    layer(X)

    def loss(x, mask):
        with core.GradientTape() as tape:
            total = (layer(x, mask=mask, training=True) ** 2).sum()
        return total, tape.gradient(total, layer.trainable_weights)

    step, mask = core.jit(loss), np.ones((2, 6), bool)
    assert all(part.kernel is not None or part.loops for part in step.plan(X, mask).steps)
    scans = [node for node in step.graph(X, mask).nodes() if node.op.name == "scan"]
    forward, backward = scans[: len(scans) // 2], scans[len(scans) // 2 :]
    for node in forward:  # one product in the loop: that with the recurrent kernel
        products = [n for n in node.attributes["body"].graph.nodes() if n.op.name == "contract"]
        assert len(products) == 1
    for node in backward:  # no gradient of a weight is summed step by step
        carry, _ = node.attributes["body"].graph.result
        assert all(value.shape == (2, 4) for value in carry)


def test_arguments_of_cell_and_layer():
    layer = layers.LSTM(4, "relu", return_sequences=True, name="memory", dtype="float64")
    assert layer.cell.activation is layers.activations.get("relu") and layer.cell.dtype == "float64"
    layer(X)
    assert layer.weights[0].path == f"memory/{layer.cell.name}/kernel"
    np.testing.assert_array_equal(layer.cell.bias.numpy()[:8], [0] * 4 + [1] * 4)
    with pytest.raises(TypeError, match=r"return_sequence.*return_sequences"):
        layers.LSTM(4, return_sequence=True)
    with pytest.raises(ValueError, match="units"):
        layers.GRU(0)
    with pytest.raises(ShapeError, match="sequences"):
        layers.GRU(2)(X[0])
    with pytest.raises(ValueError, match="expected 2 states; received 1"):
        layers.LSTM(3)(X, initial_state=[np.zeros((2, 3))])


def test_bidirectional_needs_layers_that_fit():
    with pytest.raises(ValueError, match="merge_mode"):
        layers.Bidirectional(layers.LSTM(2), merge_mode="max")
    with pytest.raises(ValueError, match="backwards"):
        layers.Bidirectional(layers.LSTM(2), backward_layer=layers.LSTM(2))
    with pytest.raises(ValueError, match="return_sequences"):
        layers.Bidirectional(layers.LSTM(2), backward_layer=layers.LSTM(2, return_sequences=True, go_backwards=True))
    named = layers.Bidirectional(layers.LSTM(2, name="lstm"), backward_layer=layers.GRU(3, go_backwards=True))
    assert named(X).shape == (2, 5) and named.forward_layer.name == "forward_lstm"
    state = [np.ones((2, 2))] * 4
    both = layers.Bidirectional(layers.LSTM(2))
    assert not np.allclose(both(X, initial_state=state), both(X))
