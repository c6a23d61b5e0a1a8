"""What the harness does not see of attention: masks, the cache, rotation, scores."""

import numpy as np
import pytest

from tenzoo import core, layers
from tenzoo.core import ShapeError

X = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.MultiHeadAttention(2, 4),
        lambda: layers.GroupedQueryAttention(4, 4, 2, rotary=layers.RotaryEmbedding(), use_gate=True),
    ],
)
def test_a_cache_gives_step_by_step_what_causal_attention_gives_at_once(make):
    layer = make()
    expected = layer(X, X, use_causal_mask=True)
    cache = layer.initial_cache(batch_size=2, length=7)

    @core.jit
    def step(x, cache, index):
        return layer(x, x, use_causal_mask=True, cache=cache, cache_update_index=index)

    outputs, cache = layer(X[:, :2], X[:, :2], use_causal_mask=True, cache=cache, cache_update_index=0)
    np.testing.assert_allclose(outputs, expected[:, :2], rtol=1e-4, atol=1e-6)
    for i in range(2, 5):
        output, cache = step(X[:, i : i + 1], cache, core.tensor(i))
        np.testing.assert_allclose(output, expected[:, i : i + 1], rtol=1e-4, atol=1e-6)


def test_masks_hide_padding_and_the_future():
    layer = layers.MultiHeadAttention(2, 4)
    mask = np.array([[True] * 3 + [False] * 2] * 2)
    short = layer(X[:, :3], X[:, :3])
    np.testing.assert_allclose(layer(X, X, value_mask=mask)[:, :3], short, rtol=1e-4, atol=1e-6)
    _, scores = layer(X, X, use_causal_mask=True, value_mask=mask, return_attention_scores=True)
    assert scores.shape == (2, 2, 5, 5)
    seen = np.tri(5, dtype=bool) & mask[0]
    assert (scores.numpy()[:, :, ~seen] == 0).all() and (scores.numpy()[:, :, seen] > 0).all()
    masked = layers.Masking()(np.where(mask[..., None], X, 0.0))
    outputs = layer(masked, masked)
    np.testing.assert_allclose(outputs[:, :3], short, rtol=1e-4, atol=1e-6)
    assert layers.get_mask(outputs).tolist() == mask.tolist()
    window = layers.MultiHeadAttention(1, 4, sliding_window=2)(X, X, return_attention_scores=True)[1]
    near = np.abs(np.subtract.outer(range(5), range(5))) < 2
    assert ((window.numpy()[0, 0] > 0) == near).all()


def test_dropout_of_scores_in_training_only():
    layer = layers.MultiHeadAttention(2, 4, dropout=0.5, seed=1)
    plain, scores = layer(X, X, return_attention_scores=True)
    np.testing.assert_allclose(layer(X, X), plain, rtol=1e-4, atol=1e-6)
    dropped = layer(X, X, training=True)
    assert not np.allclose(dropped, plain)
    np.testing.assert_allclose(scores.sum(-1), np.ones((2, 2, 5)), rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_a_training_step_with_dropout_never_holds_the_scores(causal):
    """Over 1,024 positions the arena is smaller than the scores of one head, and the numbers are the eager ones."""
    layer = layers.MultiHeadAttention(2, 4, dropout=0.1, seed=1)
    x = np.random.default_rng(2).normal(size=(1, 1024, 8)).astype("float32")
    layer(x, x)
    start = layer.seed_generator.state.value

    def step(x):
        return core.grad(lambda x: (layer(x, x, training=True, use_causal_mask=causal) ** 2).sum())(x)

    compiled = core.jit(step)
    received = compiled(x)
    assert compiled.plan(x).arena_bytes < 1024 * 1024 * 4
    layer.seed_generator.state.assign(start)
    np.testing.assert_allclose(received, step(core.tensor(x)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("call", [{}, {"use_causal_mask": True}, {"mask": [None, np.tri(2, 5, 3, dtype=bool)]}])
def test_attention_is_the_same_without_its_scores(call):
    layer = layers.Attention(use_scale=True)
    layer([X, X])
    layer.scale.assign(0.7)
    expected, scores = layer([X, X], return_attention_scores=True, **call)
    np.testing.assert_allclose(layer([X, X], **call), expected, rtol=1e-4, atol=1e-6)
    assert scores.shape == (2, 5, 5)


def test_attention_axes_attend_along_one_axis():
    images = np.random.default_rng(1).normal(size=(2, 3, 4, 8)).astype("float32")
    layer = layers.MultiHeadAttention(2, 4, attention_axes=2)
    outputs, scores = layer(images, images, return_attention_scores=True)
    assert scores.shape == (2, 3, 2, 4, 4)
    rows = layers.MultiHeadAttention(2, 4)
    rows(images[:, 0], images[:, 0])
    rows.set_weights(layer.get_weights())
    np.testing.assert_allclose(rows(images[:, 1], images[:, 1]), outputs[:, 1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match="attention_mask"):
        layer(images, images, use_causal_mask=True)


def test_a_query_that_may_look_nowhere_has_scores_of_zero():
    layer = layers.MultiHeadAttention(2, 4, use_bias=False)
    seen = np.ones((2, 5, 5), bool)
    seen[0, 3] = False
    outputs, scores = layer(X, X, attention_mask=seen, return_attention_scores=True)
    np.testing.assert_array_equal(scores[0, :, 3], 0)
    np.testing.assert_array_equal(outputs[0, 3], 0)
    np.testing.assert_allclose(np.delete(np.asarray(scores).sum(-1)[0], 3, -1), 1, rtol=1e-5)


def test_products_of_rotated_vectors_depend_on_their_distance():
    rotary = layers.RotaryEmbedding()
    q, k = np.random.default_rng(1).normal(size=(2, 1, 1, 6))

    def product(a, b):
        return float((rotary(q, start_index=a) * rotary(k, positions=np.array([b]))).sum())

    assert product(3, 1) == pytest.approx(product(9, 7), rel=1e-5)
    assert product(3, 1) != pytest.approx(product(3, 2), rel=1e-3)
    np.testing.assert_allclose(rotary(q), q, rtol=1e-6)
    batched = rotary(np.stack([q[0], q[0]]), positions=np.array([[2], [5]]))
    np.testing.assert_allclose(batched[1], rotary(q, start_index=5)[0], rtol=1e-6)
    with pytest.raises(ShapeError, match="odd"):
        rotary(np.ones((1, 2, 3)))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="multiple"):
        layers.GroupedQueryAttention(4, 3, 2)
    with pytest.raises(ValueError, match="one length"):
        layers.MultiHeadAttention(2, 4, value_dim=3).initial_cache(1, 2)
    with pytest.raises(ValueError, match="list"):
        layers.Attention()(X)
    with pytest.raises(ShapeError, match="extents of"):
        layers.EinsumDense("abc,cd->abe", output_shape=(None, 4))(X)
    with pytest.raises(ValueError, match="equation"):
        layers.EinsumDense("ab->a", output_shape=())
