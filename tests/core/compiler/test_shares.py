"""Scans whose rows are shared out between threads, and scans that run side by side."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler import plan as planning

T, B, D = 5, 8, 6


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(planning, "threads", lambda: 2)


def values(*shapes):
    generator = np.random.default_rng(0)
    return [core.tensor(generator.normal(size=shape).astype("float32")) for shape in shapes]


def run_both(function, *inputs):
    """Compare compiled and eager; returns how many loops ran side by side, for each step that is a loop."""
    compiled = core.jit(function)
    got, expected = (core.pytree.flatten(f(*inputs)) for f in (compiled, function))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
    return [len(step.loops) for step in compiled.plan(*inputs).steps if step.loops]


def scan(step, x, start, reverse=False):
    return ops.scan(step, start, x, reverse=reverse)


BODIES = {
    "product": lambda h, x, w, c: ops.tanh(ops.matmul(h, w) + x),
    "mask": lambda h, x, w, c: ops.where(c > 0, ops.tanh(h + x), h),
    "halves": lambda h, x, w, c: ops.concatenate(ops.split(h + x, 2, axis=1)[::-1], axis=1),
    "slice": lambda h, x, w, c: ops.concatenate([x[:, 2:], h[:, :2]], axis=1),
    "mean": lambda h, x, w, c: h - ops.mean(x, axis=1, keepdims=True),
    "maximum": lambda h, x, w, c: h / (1 + ops.max(ops.absolute(x), axis=-1)[:, None]),
    "heads": lambda h, x, w, c: ops.reshape(ops.transpose(ops.reshape(h + x, (B, 2, 3)), (0, 2, 1)), (B, D)),
    "broadcast": lambda h, x, w, c: h + ops.broadcast_to(x[:, :1], (B, D)),
    "dot": lambda h, x, w, c: h * ops.einsum("bd,bd->b", x, h)[:, None],
    "detached": lambda h, x, w, c: h + ops.stop_gradient(x) * 0.5,
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", BODIES)
def test_rows_are_shared_out(name, reverse):
    def function(x, start, w, c):
        def step(h, x):
            h = BODIES[name](h, x, w, c)
            return h, h * 2

        return scan(step, x, start, reverse)

    assert run_both(function, *values((T, B, D), (B, D), (D, D), (B, 1))) == [2]


@pytest.mark.parametrize(
    "step",
    [
        lambda h, x: h + ops.sum(x, axis=0, keepdims=True),
        lambda h, x: ops.flip(h, axis=0) + x,
        lambda h, x: ops.concatenate([h[4:], x[:4]], axis=0),
        lambda h, x: ops.matmul(ops.matmul(x, ops.transpose(x)), h),
        lambda h, x: ops.reshape(ops.reshape(h, (D, B)), (B, D)) + x,
        lambda h, x: h + ops.cumsum(x, axis=0),
    ],
)
def test_rows_that_depend_on_each_other_are_not(step):
    def function(x, start):
        def both(h, x):
            h = step(h, x)
            return h, h

        return scan(both, x, start)

    assert run_both(function, *values((T, B, D), (B, D))) == [1]


def test_a_matrix_that_has_as_many_rows_is_not_divided():
    def function(x, start, w):
        def step(h, x):
            h = ops.tanh(ops.matmul(h, w) + x)
            return h, h

        return scan(step, x, start)

    assert run_both(function, *values((T, B, B), (B, B), (B, B))) == [2]


def test_a_matrix_that_is_used_both_ways_is_not_divided():
    def function(x, start, w):
        def step(h, x):
            h = ops.tanh(ops.matmul(h, w) + x * w)
            return h, h

        return scan(step, x, start)

    assert run_both(function, *values((T, B, B), (B, B), (B, B))) == [1]


@pytest.mark.parametrize("rows", [3, 6, 9])
def test_few_rows_or_an_odd_number_stay_together(rows):
    def function(x, start, w):
        def step(h, x):
            return ops.tanh(ops.matmul(h, w) + x), None

        return scan(step, x, start)[0]

    assert run_both(function, *values((T, rows, D), (rows, D), (D, D))) == [1]


def test_scans_that_depend_on_each_other_do_not_run_side_by_side():
    def step(h, x):
        h = ops.tanh(h + x)
        return h, h

    def chained(x, start):
        return scan(step, scan(step, x, start)[1], start)

    def apart(x, start):
        return scan(step, x, start), scan(step, x * 2, start, reverse=True)

    inputs = values((T, B, D), (B, D))
    assert run_both(chained, *inputs) == [2, 2]
    assert run_both(apart, *inputs) == [2]


@pytest.mark.parametrize("layer", [tz.layers.LSTM, tz.layers.GRU, tz.layers.SimpleRNN])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers_train_as_without(layer, both, monkeypatch):
    def trained():
        tz.utils.set_random_seed(0)
        made = layer(6, return_sequences=True, dropout=0.2, recurrent_dropout=0.2)
        model = tz.Sequential(
            [tz.layers.Masking(), tz.layers.Bidirectional(made) if both else made, tz.layers.Dense(1)]
        )
        model.compile("adam", "mse")
        generator = np.random.default_rng(0)
        x, y = generator.normal(size=(16, 7, 3)).astype("float32"), generator.normal(size=(16, 7, 1))
        x[3:6, 4:] = 0
        model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
        return model.get_weights()

    shared = trained()
    monkeypatch.setenv("TENZOO_PASSES", "volumes,algebra,merge,split,casts,fold,sparse,fuse,in_place")
    for a, b in zip(shared, trained(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
