"""Attention in blocks, against the whole matrix of scores: sizes that fill tiles, panels and blocks, and others."""

import itertools

import numpy as np
import pytest

from tenzoo import core, ops
from tenzoo.core.op import Op

SHAPES = [  # B, T, S, heads, heads of keys, d, e
    (2, 24, 32, 2, 2, 16, 16),
    (1, 61, 61, 2, 1, 8, 20),
    (1, 13, 70, 3, 3, 33, 5),
    (2, 50, 7, 4, 2, 1, 64),
    (1, 1, 40, 2, 2, 24, 24),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference(shape, dtype):
    batch, queries, keys, heads, groups, depth, width = shape
    generator = np.random.default_rng(0)
    q, k, v, g = (
        generator.normal(size=size).astype(dtype)
        for size in [
            (batch, queries, heads, depth),
            (batch, keys, groups, depth),
            (batch, keys, groups, width),
            (batch, queries, heads, width),
        ]
    )
    mask = generator.random((batch, 1, queries, keys)) < 0.5
    for name, causal, masks in itertools.product(("attention", "attention_gradient"), (False, True), ((), (mask,))):
        op = Op.registry[name]
        inputs = (q, k, v, g, *masks) if name == "attention_gradient" else (q, k, v, *masks)
        expected = op.reference(*inputs, causal=causal, scale=0.3)
        received = core.jit(lambda *x, op=op, causal=causal: op(*x, causal=causal, scale=0.3))(*inputs)
        if name == "attention":
            expected, received = (expected,), (received,)
        tolerance = 2e-5 if dtype == "float32" else 1e-12
        for a, b in zip(expected, received, strict=True):
            np.testing.assert_allclose(a, np.asarray(b), rtol=tolerance, atol=tolerance * np.abs(a).max())


def test_the_scores_are_never_in_memory():
    """Of a step over 2,048 positions the arena is smaller than one matrix of scores."""
    x = np.zeros((1, 2048, 2, 16), np.float32)
    step = core.jit(lambda x: core.grad(lambda x: ops.dot_product_attention(x, x, x, is_causal=True).sum())(x))
    step(x)
    assert step.plan(x).arena_bytes < 2048 * 2048 * 4


def test_nan_and_infinity_reach_the_result():
    x = np.random.default_rng(0).normal(size=(1, 20, 1, 8)).astype("float32")
    x[0, 3, 0, 0] = np.nan
    attend = core.jit(lambda q, k, v: ops.dot_product_attention(q, k, v, is_causal=True))
    found = np.isnan(np.asarray(attend(x, x, x))).all(-1)[0, :, 0]
    np.testing.assert_array_equal(found, np.arange(20) >= 3)


def test_half_precision_is_attended_to_in_single():
    x = np.random.default_rng(0).normal(size=(2, 9, 2, 4))
    expected = ops.dot_product_attention(x, x, x)
    received = core.jit(lambda x: ops.dot_product_attention(x, x, x))(x.astype("float16"))
    assert received.dtype == np.float16
    np.testing.assert_allclose(np.asarray(received, "float64"), np.asarray(expected), atol=4e-3)


def test_a_mask_that_does_not_fit_is_refused():
    x = np.zeros((2, 5, 2, 4), np.float32)
    with pytest.raises(ValueError, match="mask"):
        core.primitives.attention.attention(
            *map(core.tensor, (x, x, x, np.ones((2, 3, 5, 5), bool))), causal=False, scale=1.0
        )


def test_a_query_that_may_look_nowhere_looks_at_all_keys_alike():
    x = np.random.default_rng(0).normal(size=(1, 6, 1, 4)).astype("float32")
    mask = np.ones((6, 6), bool)
    mask[:, 0] = False  # and what is causal leaves the first query nothing else
    attend = core.jit(lambda x: ops.dot_product_attention(x, x, x, mask=mask, is_causal=True))
    np.testing.assert_allclose(np.asarray(attend(x))[0, 0, 0], x[0, :, 0].mean(0), rtol=1e-5)
