"""ops.scan, traced: one node with a loop inside, compiled natively, with its gradient as another loop."""

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import ops, random

T, B, D, H = 6, 3, 5, 4


def arrays(*shapes, dtype="float64"):
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype(dtype) / 2 for shape in shapes]


def lstm_loss(reverse):
    w, u, b = (core.Variable(a) for a in arrays((D, 4 * H), (H, 4 * H), (4 * H,)))
    (weights,) = arrays((T, B, H))

    def step(state, x):
        h, c = state
        i, f, g, o = ops.split(x @ w + h @ u + b, 4, -1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return (h, c), {"h": h, "twice": 2 * c}

    def loss(xs, h0, c0):
        with core.GradientTape() as tape:
            tape.watch([xs, h0, c0])
            (h, c), ys = ops.scan(step, (h0, c0), xs, reverse=reverse)
            total = (ys["h"] * weights).sum() + (ys["twice"] * ys["h"]).sum() + (h * c).sum()
        return total, tape.gradient(total, [w, u, b, xs, h0, c0])

    return loss


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_equal_those_of_the_eager_loop(reverse):
    loss = lstm_loss(reverse)
    inputs = [core.tensor(a) for a in arrays((T, B, D), (B, H), (B, H))]
    eager = core.pytree.flatten(loss(*inputs))
    graph = core.trace(loss, *inputs)
    assert [node.op.name for node in graph.nodes()].count("scan") == 2
    for run in (graph, core.jit(loss)):
        for a, b in zip(eager, core.pytree.flatten(run(*inputs)), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


def test_it_is_compiled_to_native_loops():
    loss = core.jit(lstm_loss(False))
    inputs = [core.tensor(a) for a in arrays((T, B, D), (B, H), (B, H))]
    loss(*inputs)
    steps = loss.plan(*inputs).steps
    assert sum(bool(step.loops) for step in steps) == 2
    assert all(step.kernel is not None or step.loops for step in steps)


def test_weight_gradients_are_one_product_after_the_loop():
    """Not a sum that every iteration adds to."""
    inputs = [core.tensor(a) for a in arrays((T, B, D), (B, H), (B, H))]
    nodes = core.trace(lstm_loss(False), *inputs).nodes()
    backward = [node for node in nodes if node.op.name == "scan"][1]
    carry, _ = backward.attributes["body"].graph.result
    assert [value.shape for value in carry] == [(B, H), (B, H)]


def test_variables_assigned_in_the_loop():
    count = core.Variable(0.0, trainable=False)

    def run(xs):
        def step(carry, x):
            count.assign_add(1.0)
            return carry + x * count, random.uniform((2,))

        return ops.scan(step, core.tensor(np.float64(0.0)), xs)

    xs = core.tensor(np.arange(4.0))
    random.seed(5)
    expected, draws = run(xs)
    random.seed(5)
    count.assign(0.0)
    received, compiled_draws = core.jit(run)(xs)
    assert float(count) == 4.0
    assert float(expected) == float(received)
    np.testing.assert_array_equal(draws.numpy(), compiled_draws.numpy())
    assert len({tuple(row) for row in draws.tolist()}) == 4


def test_results_that_are_carry_slice_or_constant():
    def run(xs):
        return ops.scan(lambda c, x: ((c[1], c[0]), (c[0], x, core.tensor(3.0), c[0])), (xs[0], xs[1]), xs)

    (xs,) = arrays((5, 2))
    for a, b in zip(core.pytree.flatten(run(core.tensor(xs))), core.pytree.flatten(core.jit(run)(xs)), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_second_derivative_while_traced():
    def run(x):
        return core.grad(
            lambda x: core.grad(lambda x: ops.scan(lambda c, v: (ops.sin(c * v), c), x, x * np.ones(3))[0])(x) ** 2
        )(x)

    x = core.tensor(0.7, "float64")
    np.testing.assert_allclose(float(core.jit(run)(x)), float(run(x)), rtol=1e-10)


def test_carry_that_changes_its_shape_is_an_error():
    with pytest.raises(core.ShapeError, match="carry has to keep"):
        core.jit(lambda xs: ops.scan(lambda c, x: (ops.stack([c, c]), x), xs[0], xs))(core.tensor([1.0, 2.0]))


def test_no_iterations():
    carry, ys = core.jit(lambda xs: (ops.scan(lambda c, x: (c + x, x), 1.0, xs)[0], xs))(np.zeros((0,), "float32"))
    assert float(carry) == 1.0
    assert ys.shape == (0,)
    for run in (lambda f: f, core.jit):
        ys = run(lambda xs: ops.map(lambda x: (x @ np.ones((3, 2)), ops.argmax(x)), xs))(core.tensor(np.zeros((0, 3))))
        assert [(y.shape, y.dtype.name) for y in ys] == [((0, 2), "float64"), ((0,), "int32")]


@pytest.mark.parametrize("unused", ["result", "carry"])
def test_an_unused_result_with_an_infinite_derivative_contributes_nothing(unused):
    def loss(xs, start):
        def step(carry, x):
            used, other = carry
            return (used * (x + 2.0), ops.sqrt(other) * x if unused == "carry" else other), ops.log(x)

        (used, _), _ = ops.scan(step, (start, start * 0.0), xs)
        return used

    xs, start = np.array([0.0, 1.0, 2.0]), np.array(3.0)
    expected = core.grad(loss, (0, 1))(core.tensor(xs), core.tensor(start))
    received = core.jit(core.grad(loss, (0, 1)))(core.tensor(xs), core.tensor(start))
    np.testing.assert_allclose(expected[0].numpy(), [36.0, 24.0, 18.0])
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_carry_that_nobody_uses_at_the_end_contributes_nothing(reverse, length):
    def loss(xs, start, scale):
        def step(carry, x):
            a, b, c = carry
            return (a / x, ops.sqrt(b * scale) + a, c * 0.5 + b * x), (a * scale, c * x)

        _, (ys, zs) = ops.scan(step, start, xs, reverse=reverse)
        return ops.sum(ys * ys) + ops.sum(zs)

    xs, start = np.array([0.0, 0.5, 3.0, 1.5]), [np.array(v) for v in (1.5, 2.0, 0.25)]
    xs = xs[:length] if reverse else xs[:length][::-1].copy()  # the last iteration divides by 0
    gradient = core.grad(loss, (0, 1, 2))
    inputs = core.tensor(xs), tuple(map(core.tensor, start)), core.tensor(np.array(0.7))
    expected = core.pytree.flatten(gradient(*inputs))
    assert all(np.isfinite(part.numpy()).all() for part in expected)
    for a, b in zip(expected, core.pytree.flatten(core.jit(gradient)(*inputs)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
