"""Attention in blocks, against the whole matrix of scores: sizes that fill tiles, panels and blocks, and others."""

import numpy as np
import pytest

from tenzoo import core, ops
from tenzoo.core.compiler import emit_llvm
from tenzoo.core.compiler.plan import Plan
from tenzoo.core.op import Op
from tenzoo.core.primitives.attention import kept

SHAPES = [  # B, T, S, heads, heads of keys, d, e
    (2, 24, 32, 2, 2, 16, 16),
    (1, 61, 61, 2, 1, 8, 20),
    (1, 13, 70, 3, 3, 33, 5),
    (2, 50, 7, 4, 2, 1, 64),
    (1, 1, 40, 2, 2, 24, 24),
]
# Attributes, the axes (of B, heads, T, S) along which bias and mask differ, and whether weights are dropped.
VARIANTS = {
    "plain": ({}, None, None, 0.0),
    "causal": ({"causal": True}, None, None, 0.0),
    "mask": ({}, None, "bts", 0.0),
    "causal with a mask": ({"causal": True}, None, "bts", 0.0),
    "dropped": ({}, None, None, 0.3),
    "capped": ({"cap": 0.7}, None, None, 0.0),
    "bias": ({}, "bhts", None, 0.0),
    "bias for all samples": ({"causal": True}, "hts", None, 0.0),
    "bias for all queries": ({}, "bs", None, 0.0),
    "everything": ({"causal": True, "cap": 0.7}, "ts", "bhts", 0.4),
}


def along(axes, extents):
    return tuple(n if axis in axes else 1 for axis, n in zip("bhts", extents, strict=True))


CASES = [(variant, shape, "float32") for variant in VARIANTS for shape in (SHAPES[1], SHAPES[3])]
CASES += [(variant, shape, "float32") for variant in ("plain", "everything") for shape in SHAPES[::2]]
CASES += [(variant, SHAPES[1], "float64") for variant in ("plain", "everything")]


@pytest.mark.parametrize(("variant", "shape", "dtype"), CASES)
def test_equals_the_reference(variant, shape, dtype):
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
    attributes, bias, mask, rate = VARIANTS[variant]
    attributes = {"causal": False, "scale": 0.3, "cap": 0.0, "rate": rate} | attributes
    extents, rest = (batch, heads, queries, keys), []
    if bias:
        rest.append(generator.normal(size=along(bias, extents)).astype(dtype))
    if mask:
        rest.append(generator.random(along(mask, extents)) < 0.5)
    if rate:
        rest.append(np.array([1, 2, 3, 4], "uint32"))
    _, statistics = Op.registry["attention"].reference(q, k, v, *rest, **attributes)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    for name in ("attention", "attention_gradient", *["attention_bias_gradient"] * bool(bias)):
        op = Op.registry[name]
        inputs = (q, k, v, *rest) if name == "attention" else (q, k, v, g, statistics, *rest)
        expected = op.reference(*inputs, **attributes)
        compiled = core.jit(lambda *x, op=op: op(*x, **attributes))
        received = compiled(*inputs)
        assert all(step.kernel is not None for step in compiled.plan(*inputs).steps)
        if not isinstance(expected, tuple):
            expected, received = (expected,), (received,)
        for a, b in zip(expected, received, strict=True):
            np.testing.assert_allclose(a, np.asarray(b), rtol=tolerance, atol=tolerance * max(1, np.abs(a).max()))


def test_rows_have_room_for_the_tiles_of_a_machine_with_many_registers(monkeypatch):
    monkeypatch.setattr(emit_llvm, "vector_registers", lambda: 32)
    x = np.random.default_rng(0).normal(size=(1, 59, 2, 8)).astype("float32")
    step = core.grad(lambda x: (ops.dot_product_attention(x, x, x) * x).sum())
    (received,) = Plan(core.trace(step, core.tensor(x))).run([x])
    np.testing.assert_allclose(received, step(core.tensor(x)).numpy(), rtol=1e-4, atol=1e-5)


BIAS = np.zeros((2, 1, 2048), np.float32)


@pytest.mark.parametrize(
    "options",
    [
        {"is_causal": True},
        {"dropout": 0.1, "seed": 1, "is_causal": True},
        {"bias": BIAS, "attn_logits_soft_cap": 20.0},
        {"mask": BIAS == 0, "dropout": 0.1, "seed": 1},
    ],
)
def test_the_scores_are_never_in_memory(options):
    """Of a step over 2,048 positions the arena is smaller than one matrix of scores."""
    x = np.zeros((1, 2048, 2, 16), np.float32)
    step = core.jit(lambda x: core.grad(lambda x: ops.dot_product_attention(x, x, x, **options).sum())(x))
    step(x)
    assert step.plan(x).arena_bytes < 2048 * 2048 * 4


def test_the_gradient_of_a_bias_is_no_larger_than_the_bias():
    def loss(x, bias):
        return (ops.dot_product_attention(x, x, x, bias=bias, is_causal=True) * x).sum()

    x = np.random.default_rng(0).normal(size=(8, 256, 2, 8)).astype("float32")
    bias = np.random.default_rng(1).normal(size=(2, 256, 256)).astype("float32")
    step = core.jit(lambda x, bias: core.grad(loss, (0, 1))(x, bias))
    expected = core.grad(loss, (0, 1))(x, bias)
    for a, b in zip(expected, step(x, bias), strict=True):
        np.testing.assert_allclose(np.asarray(b), np.asarray(a), rtol=1e-4, atol=1e-4)
    assert step.plan(x, bias).arena_bytes < 3 * bias.nbytes + 8 * x.nbytes
    names = [n.op.name for n in core.trace(lambda x: core.grad(lambda x: loss(x, bias))(x), x).nodes()]
    assert "attention_bias_gradient" not in names  # of a constant bias there is none


def test_what_is_dropped_is_the_same_eager_compiled_and_in_the_gradient():
    """With equal scores, unit vectors as values and as the result's gradient, results show the weights one by one."""
    size, rate = 70, 0.3
    q = k = np.zeros((2, size, 3, 4), np.float32)
    unit = np.broadcast_to(np.eye(size, dtype=np.float32)[None, :, None], (2, size, 3, size)).copy()
    seed = core.random.SeedGenerator(5)
    draw = seed.state.value.numpy()

    def both(v):
        return core.gradients.vjp(lambda v: ops.dot_product_attention(q, k, v, dropout=rate, seed=seed), v)

    def step(v):
        y, pullback = both(v)
        return y, pullback(unit)[0]

    eager, compiled = step(core.tensor(unit)), core.jit(step)
    seed.state.assign(draw)
    received = compiled(unit)
    mask = kept(draw, (2, 3, size, size), rate)  # (B, heads, T, S)
    for y, change in (eager, received):
        np.testing.assert_array_equal(np.asarray(y).transpose(0, 2, 1, 3) != 0, mask)
        np.testing.assert_array_equal(np.asarray(change).transpose(0, 2, 3, 1) != 0, mask)
        np.testing.assert_allclose(np.asarray(y)[np.asarray(y) != 0], 1 / size / (1 - rate), rtol=1e-5)
    assert (np.asarray(seed.state.value) != draw).any()


def test_the_share_that_is_dropped_is_the_rate():
    draw = np.array([3, 1, 4, 1], np.uint32)
    mask = kept(draw, (4, 4, 100, 200), 0.2).astype(float)
    deviation = np.sqrt(0.2 * 0.8 / mask.size)
    assert abs(mask.mean() - 0.8) < 4 * deviation
    for axis in range(4):  # neighbours do not know of each other
        a, b = np.take(mask, range(mask.shape[axis] - 1), axis), np.take(mask, range(1, mask.shape[axis]), axis)
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)
    np.testing.assert_array_equal(kept(draw, (2, 4, 100, 200), 0.2), mask[:2])  # fewer samples change nothing
    assert (kept(draw + np.uint32([0, 0, 1, 0]), mask.shape, 0.2) != mask).mean() > 0.3


def test_dropped_attention_has_gradients_of_any_order():
    x = np.random.default_rng(0).normal(size=(1, 4, 2, 3))

    def loss(x):
        return (ops.dot_product_attention(x, x, x, dropout=0.4, seed=2, attn_logits_soft_cap=2.0) ** 2).sum()

    slope = core.grad(lambda x: (core.grad(loss)(x) * np.cos(x)).sum())
    step = 1e-5 * np.random.default_rng(1).normal(size=x.shape)
    ahead, behind = (float((core.grad(loss)(x + d) * np.cos(x + d)).sum()) for d in (step, -step))
    np.testing.assert_allclose((slope(core.tensor(x)).numpy() * step).sum(), (ahead - behind) / 2, rtol=1e-6)


def test_nan_and_infinity_reach_the_result():
    x = np.random.default_rng(0).normal(size=(1, 20, 1, 8)).astype("float32")
    x[0, 3, 0, 0] = np.nan
    attend = core.jit(lambda q, k, v: ops.dot_product_attention(q, k, v, is_causal=True))
    found = np.isnan(np.asarray(attend(x, x, x))).all(-1)[0, :, 0]
    np.testing.assert_array_equal(found, np.arange(20) >= 3)


@pytest.mark.parametrize("options", [{}, {"bias": np.arange(9.0), "dropout": 0.5, "seed": 1}])
def test_half_precision_is_attended_to_in_single(options):
    x = np.random.default_rng(0).normal(size=(2, 9, 2, 4))
    expected = ops.dot_product_attention(x, x, x, **options)
    received = core.jit(lambda x: ops.dot_product_attention(x, x, x, **options))(x.astype("float16"))
    assert received.dtype == np.float16
    np.testing.assert_allclose(np.asarray(received, "float64"), np.asarray(expected), atol=8e-3)


@pytest.mark.parametrize(
    ("rest", "rate"),
    [
        ([np.ones((2, 3, 5, 5), bool)], 0.0),
        ([np.ones((2, 2, 5, 4), np.float32)], 0.0),
        ([np.ones((2, 2, 5, 5), np.float64)], 0.0),
        ([np.ones((1, 1, 5, 5), bool), np.ones((2, 2, 5, 5), bool)], 0.0),
        ([], 0.5),
        ([np.ones(4, np.uint32)], 0.0),
        ([np.ones(5, np.uint32)], 0.5),
    ],
)
def test_inputs_that_do_not_fit_are_refused(rest, rate):
    x = np.zeros((2, 5, 2, 4), np.float32)
    with pytest.raises(ValueError, match=r"attention: expected .* mask"):
        core.jit(lambda *x: core.primitives.attention.attention(*x, causal=False, scale=1.0, cap=0.0, rate=rate))(
            x, x, x, *rest
        )


def test_a_rate_of_one_is_refused():
    x = np.zeros((2, 5, 2, 4), np.float32)
    with pytest.raises(ValueError, match=r"dropout is in \[0, 1\)"):
        ops.dot_product_attention(x, x, x, dropout=1.0)


@pytest.mark.parametrize("bias", [None, np.float32(-3e38)])
def test_a_query_that_may_look_nowhere_looks_at_all_keys_alike(bias):
    x = np.random.default_rng(0).normal(size=(1, 6, 1, 4)).astype("float32")
    mask = np.ones((6, 6), bool)
    mask[:, 0] = False  # and what is causal leaves the first query nothing else
    bias = None if bias is None else np.where(np.arange(6) == 3, bias, 0)[:, None].astype("float32") * np.ones(6, "f4")

    def attend(x, v):
        return ops.dot_product_attention(x, x, v, mask=mask, is_causal=True, bias=bias)

    np.testing.assert_allclose(np.asarray(core.jit(attend)(x, x))[0, 0, 0], x[0, :, 0].mean(0), rtol=1e-5)
    gradient = core.jit(core.grad(lambda x, v: attend(x, v)[0, 0].sum(), (0, 1)))
    by_scores, by_values = gradient(x, x)
    np.testing.assert_array_equal(np.asarray(by_scores), 0)
    np.testing.assert_allclose(np.asarray(by_values), 1 / 6, rtol=1e-6)
