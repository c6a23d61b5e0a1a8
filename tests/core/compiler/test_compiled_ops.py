"""Compiled code against the numpy references: every declared op, and what fusion makes of several."""

import importlib.util
import pathlib

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import ops, random
from tenzoo.core.compiler.plan import Plan

_path = pathlib.Path(__file__).parents[1] / "test_op_declarations.py"
_spec = importlib.util.spec_from_file_location("op_declarations", _path)
declarations = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(declarations)

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def assert_close(received, expected, dtype):
    """Equal within the tolerance of the dtype, relative to the largest element."""
    assert received.shape == expected.shape
    assert received.dtype == expected.dtype
    if expected.size and expected.dtype.kind == "f":
        np.testing.assert_array_equal(np.isnan(received), np.isnan(expected))
        finite = np.isfinite(expected)
        scale = max(1.0, np.abs(expected[finite]).max(initial=0.0))
        np.testing.assert_allclose(received, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)
    else:
        np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("op", "case"), declarations.CASES)
def test_compiled_op_equals_reference(op, case, dtype):
    arrays = declarations.make_inputs(op, case, dtype)
    tensors = [core.tensor(array) for array in arrays]
    expected = declarations.as_tuple(op(*tensors, **case.attributes))
    plan = Plan(core.trace(lambda *inputs: op(*inputs, **case.attributes), *tensors))
    for received, reference in zip(plan.run([t.numpy() for t in tensors]), expected, strict=True):
        assert_close(received, reference.numpy(), dtype)


def batch_norm(x, scale, shift):
    mean, variance = ops.moments(x, (0, 1, 2))
    return ops.batch_normalization(x, mean, variance, -1, shift, scale)


def loss_gradient(function):
    """The gradient of a weighted sum of a function's square, by all its arguments."""

    def loss(*values):
        result = function(*values)
        weights = np.sin(np.arange(result.size)).reshape(result.shape).astype(result.dtype)
        return (result * result * weights).sum()

    return lambda *inputs: core.grad(loss, tuple(range(len(inputs))))(*inputs)


LABELS = np.random.default_rng(1).integers(0, 100, 64)
TABLE = np.array([[1, 2], [3, 1], [-1, 0]])
FUSED = {
    "softmax": (ops.softmax, (64, 100)),
    "softmax gradient": (loss_gradient(ops.softmax), (64, 100)),
    "layer norm": (lambda x, g, b: ops.layer_normalization(x, g, b), (64, 100), (100,), (100,)),
    "layer norm gradient": (loss_gradient(ops.layer_normalization), (64, 100), (100,), (100,)),
    "batch norm": (batch_norm, (8, 6, 6, 16), (16,), (16,)),
    "batch norm gradient": (loss_gradient(batch_norm), (32, 16, 16, 12), (12,), (12,)),
    "cross-entropy": (
        lambda x: core.value_and_grad(
            lambda x: ops.mean(ops.sparse_categorical_crossentropy(LABELS, x, from_logits=True))
        )(x),
        (64, 100),
    ),
    "softmax that is a result besides its loss": (
        lambda x: (
            *core.value_and_grad(lambda x: ops.mean(ops.sparse_categorical_crossentropy(LABELS, ops.softmax(x))))(x),
            ops.argmax(ops.softmax(x), -1),
            ops.softmax(x),
        ),
        (64, 100),
    ),
    "silu read under another shape": (lambda x: (y := ops.silu(x), ops.reshape(y, (-1,)) * 2, y.sum(1)), (6, 5)),
    "maximum of a value that is computed": (
        loss_gradient(lambda x, g, b: ops.max(ops.layer_normalization(x, g, b), 0) * ops.max(x * 3 + 1, 1)[:12]),
        (12, 12),
        (12,),
        (12,),
    ),
    "limits": (loss_gradient(lambda x, w: ops.relu6(ops.clip(x @ w * 3 + 1, -2, 5))), (33, 20), (20, 17)),
    "split, reshaped, as the input of a reference": (
        lambda x: ops.sort(ops.reshape(ops.split(x, 2, 1)[1], (3, 8)) + 1),
        (6, 8),
    ),
    "gelu": (loss_gradient(ops.gelu), (64, 100)),
    "max pool": (loss_gradient(lambda x: ops.max_pool(x, 3, 2, "same")), (4, 9, 8, 5)),
    "average pool": (loss_gradient(lambda x: ops.average_pool(x, 3, 2, "same")), (4, 9, 8, 5)),
    "embedding": (loss_gradient(lambda t: ops.take(t, TABLE, 0)), (7, 5)),
    "transpose in a chain": (
        lambda x: ops.reshape(ops.exp(ops.transpose(ops.reshape(x, (8, 8, 10, 10)), (0, 2, 1, 3))), (80, 80)),
        (64, 100),
    ),
    "concatenate": (lambda x, y: ops.concatenate([ops.exp(x), y[:, :3]], 1).sum(0), (9, 7), (9, 5)),
    "slices": (lambda x: ops.tanh(x[1:, :-1:3]) * 2 + x[:-1, 1::3], (9, 10)),
    "flips": (lambda x: x[::-1, ::2] + ops.flip(x, 1)[:, :5], (4, 10)),
    "outer product": (lambda x: x[:, None, :] * x[:, :, None], (5, 6)),
    "row statistics used across": (lambda x: x - ops.sum(x, 0)[None, :] * ops.sum(x, 1)[None, :], (6, 6)),
    "statistics": (lambda x: (ops.var(x, 0), ops.std(x), ops.max(x, 1), ops.min(x)), (33, 65)),
    "long sums": (lambda x: (ops.sum(x), ops.max(x, 0), ops.mean(x * x, (0, 2))), (64, 40, 64)),
    "logsumexp": (lambda x: ops.logsumexp(x, 1), (10, 33)),
    "cumulative": (lambda x: ops.flip(ops.cumsum(x, 1), 1) + 1, (5, 9)),
    "argmax": (lambda x: ops.mean(ops.cast(ops.equal(ops.argmax(x, -1), LABELS), x.dtype)), (64, 100)),
    "matmul with epilogue": (
        lambda x, w, b: ops.relu(x @ w + b) * 2,
        (33, 20),
        (20, 17),
        (17,),
    ),
    "matmul gradients": (loss_gradient(lambda x, w: ops.gelu(x @ w)), (33, 20), (20, 17)),
    "products of one row, again and again": (
        lambda x, y, z: [
            ops.einsum("ki,kj->ij", ops.broadcast_to(x, (20, 5)), y),
            ops.einsum("ki,kj->ij", y, ops.broadcast_to(x, (20, 5))),
            ops.einsum("ki,kj->ij", ops.broadcast_to(x, (3, 5)), ops.broadcast_to(z, (3, 4))),
        ],
        (1, 5),
        (20, 6),
        (1, 4),
    ),
    "gradient of a scaled sum": (
        lambda x, w, f: core.grad(lambda w: ops.sum(f) * ops.sum(x @ w))(w),
        (33, 20),
        (20, 17),
        (1,),
    ),
    "batched matmul": (loss_gradient(lambda x, y: ops.matmul(x, y)), (3, 4, 5, 6), (3, 1, 6, 7)),
    "attention": (
        loss_gradient(lambda q, k, v: ops.dot_product_attention(q, k, v, is_causal=True)),
        (2, 6, 3, 4),
        (2, 6, 3, 4),
        (2, 6, 3, 4),
    ),
    "position added in an epilogue": (lambda x, w, p: x @ w + p, (2, 6, 5), (5, 8), (6, 8)),
    "heads split after a product": (
        lambda x, w: ops.transpose(ops.reshape(x @ w, (2, 6, 2, 4)), (0, 2, 1, 3)) + 1,
        (2, 6, 5),
        (5, 8),
    ),
    "convolution": (
        loss_gradient(lambda x, w, b: ops.relu(ops.conv(x, w, 2, "same") + b)),
        (3, 9, 8, 4),
        (3, 3, 4, 6),
        (6,),
    ),
    "convolution of a line": (loss_gradient(lambda x, w: ops.conv(x, w, 1, "causal")), (3, 9, 4), (3, 4, 6)),
    "depthwise convolution": (
        loss_gradient(lambda x, w: ops.depthwise_conv(x, w, 1, "same")),
        (2, 7, 8, 5),
        (3, 3, 5, 2),
    ),
    "transposed convolution": (
        lambda x, w: ops.conv_transpose(x, w, 2, "same"),
        (2, 4, 5, 3),
        (3, 3, 6, 3),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUSED)
def test_fused_equals_eager(name, dtype):
    function, *shapes = FUSED[name]
    generator = np.random.default_rng(0)
    tensors = [core.tensor(generator.normal(size=shape).astype(dtype)) for shape in shapes]
    expected = core.pytree.flatten(function(*tensors))
    graph = core.trace(function, *tensors)
    for fuse in (True, False):
        received = Plan(graph, fuse=fuse).run([t.numpy() for t in tensors])
        for a, b in zip(received, expected, strict=True):
            assert_close(a, b.numpy(), dtype)


@pytest.mark.parametrize(
    ("name", "kernels"),
    [("softmax", 1), ("softmax gradient", 1), ("layer norm", 1), ("gelu", 1), ("matmul with epilogue", 1)],
)
def test_fusion_leaves_few_kernels(name, kernels):
    function, *shapes = FUSED[name]
    graph = core.trace(function, *(core.tensor(np.zeros(shape, "float32")) for shape in shapes))
    assert len(Plan(graph).steps) == kernels


def test_no_kernel_is_missing_for_what_networks_use():
    """None of the fused cases falls back to numpy."""
    for name, (function, *shapes) in FUSED.items():
        if "reference" in name:
            continue
        graph = core.trace(function, *(core.tensor(np.ones(shape, "float32")) for shape in shapes))
        missing = [s.group.nodes[0].op.name for s in Plan(graph).steps if s.kernel is None]
        assert missing == [], name


def test_random_draws_are_bit_identical():
    def draw(x):
        return random.dropout(x, 0.3, seed=3), random.bits((5, 7), seed=1), random.uniform((3,), seed=2)

    x = core.tensor(np.ones((64, 33), "float32"))
    for eager, compiled in zip(draw(x), Plan(core.trace(draw, x)).run([x.numpy()]), strict=True):
        np.testing.assert_array_equal(eager.numpy(), compiled)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_survive(value):
    def everything(x):
        return (
            ops.relu(x),
            ops.max(x),
            ops.min(x, 1),
            ops.sum(x * 0, 0),
            ops.softmax(x),
            ops.isnan(x),
            ops.sigmoid(x),
            ops.tanh(x),
            ops.exp(x),
            ops.maximum(x, 1.0),
            ops.where(ops.isnan(x), 7.0, x),
        )

    data = np.ones((4, 19), "float32")
    data[2, 3] = value
    x = core.tensor(data)
    for eager, compiled in zip(everything(x), Plan(core.trace(everything, x)).run([data]), strict=True):
        np.testing.assert_allclose(compiled, eager.numpy(), rtol=1e-6)


def test_inputs_of_any_layout():
    x = np.arange(60, dtype="float32").reshape(3, 4, 5)
    graph = core.trace(lambda x: ops.exp(x / 60), core.tensor(x.T))
    np.testing.assert_allclose(Plan(graph).run([x.T])[0], np.exp(x.T / 60), rtol=1e-6)


SPECIAL = np.tile(np.array([0, -0.0, 1, -3, 4, 49, np.inf, -np.inf, np.nan, 1e-40, 3e38], "float32"), 11)
OTHER = np.tile(np.array([1, 0, -2.5, np.inf, -np.inf, np.nan, 1e30], "float32"), 18)[: SPECIAL.size]


@pytest.mark.parametrize(
    "function",
    {
        "rsqrt": lambda x, y: ops.rsqrt(x),
        "over a root": lambda x, y: (1 / ops.sqrt(x), y / ops.sqrt(x), x / ops.sqrt(x)),
        "what cancels": lambda x, y: ((x + y) - y, x + ops.stop_gradient(y - x), y / x + 1 / x),
        "a signed zero": lambda x, y: (1 / (x + 0), 1 / (x - 0), 1 / (0 + x)),
        "floor_divide": lambda x, y: (x // y, x // 0.1, x // 49, y // x),
        "mod": lambda x, y: (x % y, x % -3),
    }.items(),
    ids=lambda item: item[0],
)
def test_infinity_nan_and_zero_take_the_way_of_numpy(function):
    function = function[1]
    eager = core.pytree.flatten(function(core.tensor(SPECIAL), core.tensor(OTHER)))
    compiled = core.pytree.flatten(core.jit(function)(SPECIAL, OTHER))
    for a, b in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint32"])
def test_integers_with_large_exponents_and_shifts(dtype):
    x = np.array([0, 1, 2, 3, 5, 7, 100], dtype)
    for exponent in (0, 1, 31, 63, 64, 65, 100):
        y = np.full(7, exponent, dtype)
        np.testing.assert_array_equal(core.jit(ops.power)(x, y).numpy(), np.power(x, y))
    signed = np.array([5, -5, 0, 127, -128, 1, -1] if dtype[0] == "i" else x).astype(dtype)
    for shift in (0, 1, 7, 8, 31, 32, 63, 64, 100, *([-1] if dtype[0] == "i" else [])):
        y = np.full(7, shift, dtype)
        np.testing.assert_array_equal(core.jit(ops.left_shift)(signed, y).numpy(), np.left_shift(signed, y))
        np.testing.assert_array_equal(core.jit(ops.right_shift)(signed, y).numpy(), np.right_shift(signed, y))


def test_integers_to_negative_powers_are_zero_but_for_one():
    received = core.jit(ops.power)(np.array([1, -1, -1, 2, -3, 0]), np.array([-3, -3, -2, -1, -2, -1]))
    assert received.tolist() == [1, -1, 1, 0, 0, 0]


def test_the_sum_of_negative_zeros_so_far_is_one():
    x = np.full((3, 4), -0.0)
    assert np.signbit(core.jit(lambda x: ops.cumsum(x, 1))(x).numpy()).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (3, 7, 0, 5), (0, 4, 3, 0), (0,)])
def test_reductions_of_nothing(shape):
    x = np.zeros(shape, "float32")
    for axes in [None, *range(len(shape)), tuple(range(len(shape) - 1))]:

        def function(x, axes=axes):
            return ops.sum(x, axes), ops.prod(x, axes, keepdims=True), ops.mean(x, axes), x - ops.mean(x, axes, True)

        for a, b in zip(function(core.tensor(x)), core.jit(function)(x), strict=True):
            np.testing.assert_array_equal(b.numpy(), a.numpy())


def test_gradient_of_what_repeats_nothing():
    x = np.ones((2, 3, 4), "float32")
    function = core.grad(lambda x: ops.sum(ops.repeat(x, 0, axis=0)) + ops.sum(x * x))
    np.testing.assert_array_equal(core.jit(function)(x).numpy(), 2 * x)
    value, tangent = core.jit(lambda x: core.jvp(lambda x: ops.sum(ops.repeat(x, 0, 0)), (x,), (x,)))(x)
    assert (float(value), float(tangent)) == (0, 0)


def test_what_is_read_or_written_out_of_range():
    table, rows = np.arange(12, dtype="float32").reshape(3, 4), np.array([0, 3, -3, -4])
    taken = core.jit(lambda t, i: ops.take(t, i, axis=0))(table, rows).numpy()
    np.testing.assert_array_equal(taken, [table[0], [np.nan] * 4, table[0], [np.nan] * 4])
    taken = core.jit(lambda t, i: ops.take_along_axis(t, i, 1))(table, np.array([[0], [4], [-1]])).numpy()
    np.testing.assert_array_equal(taken, [[0], [np.nan], [11]])
    summed = core.jit(lambda t, i: ops.segment_sum(t, i, 3))(table, np.array([0, 1, 5])).numpy()
    np.testing.assert_array_equal(summed, [table[0], table[1], [np.nan] * 4])
    changed = core.jit(lambda t, i: ops.scatter_update(t, i, ops.ones((1, 4))))(table, np.array([[7]])).numpy()
    np.testing.assert_array_equal(changed, [table[0], table[1], [np.nan] * 4])


@pytest.mark.parametrize(
    "function",
    [
        lambda t: ops.take(t, [3], axis=0),
        lambda t: t[[0, -4]],
        lambda t: ops.scatter_update(t, [[5]], ops.ones((1, 4))),
        lambda t: ops.take(t[:0], ops.cast(t[:, 0], "int32"), axis=0),
    ],
)
def test_what_is_known_to_be_out_of_range_is_an_error(function):
    with pytest.raises(IndexError, match=r"out of range|no elements"):
        core.jit(function)(np.ones((3, 4), "float32"))
