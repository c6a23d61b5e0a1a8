"""Tables of which few rows are touched: the same numbers, without a gradient as large as the table."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler.plan import Plan
from tenzoo.core.compiler.sparse import first_position, sparse

ROWS = np.array([[7, 3, -1], [3, 3, 2047]], np.int32)


def table_step(optimizer, rows=2048, width=16):
    """A model of one table, whose gradient repeats rows; returns the step, and what it changes."""
    table = core.Variable(np.random.default_rng(0).normal(size=(rows, width)).astype("float32"))
    optimizer = tz.optimizers.get(optimizer)
    optimizer.build([table])

    def step(indices, factor):
        with core.GradientTape() as tape:
            loss = ops.sum(ops.take(table, indices, axis=0) ** 3 * factor)
        optimizer.apply(tape.gradient(loss, [table]), [table])
        return loss

    return step, [table, *optimizer.variables]


def after_steps(optimizer, run, count=3):
    step, variables = table_step(optimizer())
    step = run(step)
    for k in range(count):
        step(core.tensor(np.roll(ROWS, k) - k % 2), core.tensor(np.float32(0.5 + k)))
    return [v.numpy() for v in variables], step


OPTIMIZERS = {
    "sgd": lambda: tz.optimizers.SGD(0.1),
    "momentum": lambda: tz.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "decay": lambda: tz.optimizers.SGD(0.1, weight_decay=0.01),
    "adagrad": lambda: tz.optimizers.Adagrad(0.1),
    "adam": lambda: tz.optimizers.Adam(0.1),
    "amsgrad": lambda: tz.optimizers.Adam(0.1, amsgrad=True),
    "rmsprop": lambda: tz.optimizers.RMSprop(0.1, momentum=0.9, centered=True),
    "ftrl": lambda: tz.optimizers.Ftrl(0.1),
    "adadelta": lambda: tz.optimizers.Adadelta(0.1),
    "averaged": lambda: tz.optimizers.SGD(0.1, use_ema=True),
    "accumulated": lambda: tz.optimizers.Adagrad(0.1, gradient_accumulation_steps=2),
    "clipped": lambda: tz.optimizers.SGD(0.1, clipvalue=0.1),
    "scaled": lambda: tz.optimizers.Adam(0.1, global_clipnorm=0.1),
    "lamb": lambda: tz.optimizers.Lamb(0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_compiled_equals_eager(name):
    expected, _ = after_steps(OPTIMIZERS[name], lambda step: step)
    received, _ = after_steps(OPTIMIZERS[name], core.jit)
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-5, atol=1e-6)


def test_a_table_that_is_read_three_times():
    def run(compiled):
        table = core.Variable(np.random.default_rng(0).normal(size=(2048, 16)).astype("float32"))
        optimizer = tz.optimizers.Adagrad(0.1)
        optimizer.build([table])

        def step(a, b):
            with core.GradientTape() as tape:
                parts = [ops.take(table, rows, axis=0) for rows in (a, b, b[0])]
                loss = ops.sum(parts[0][0] * parts[1] + ops.sum(parts[2]) ** 2)
            optimizer.apply(tape.gradient(loss, [table]), [table])

        step = compiled(step)
        for shift in range(2):
            step(core.tensor(ROWS - shift), core.tensor(ROWS - 2 * shift))
        return table.numpy(), step

    received, step = run(core.jit)
    np.testing.assert_allclose(received, run(lambda step: step)[0], rtol=1e-5, atol=1e-6)
    assert step.plan(core.tensor(ROWS), core.tensor(ROWS)).arena_bytes < 2048 * 16 * 4


def plan_of(optimizer):
    step, _ = table_step(optimizer)
    return Plan(core.trace(step, core.tensor(ROWS), core.tensor(np.float32(1))))


@pytest.mark.parametrize("name", ["sgd", "adagrad", "averaged", "momentum", "adam", "decay", "rmsprop", "ftrl"])
def test_no_second_table_is_made(name):
    plan = plan_of(OPTIMIZERS[name]())
    assert plan.arena_bytes < 2048 * 16 * 4
    assert not [variable for _, variable in plan.copies if variable.shape]


@pytest.mark.parametrize(("name", "passes"), [("sgd", 0), ("adagrad", 0), ("momentum", 1), ("adam", 1)])
def test_rows_without_a_gradient_are_visited_only_where_they_change(name, passes):
    whole = [step for step in plan_of(OPTIMIZERS[name]()).steps if np.prod(step.group.factors or [0]) == 2048 * 16]
    assert len(whole) == passes


def test_the_pass_alone():
    step, variables = table_step("adagrad")
    arguments = core.tensor(ROWS), core.tensor(np.float32(2))
    graph = core.trace(step, *arguments)
    rewritten = sparse(graph)
    assert any(node.op is first_position for node in rewritten.nodes())
    assert not any(node.op.name == "scatter_add" and node.specs[0].shape == (2048, 16) for node in rewritten.nodes())
    start = [v.numpy() for v in variables]
    graph(*arguments)
    expected = [v.numpy() for v in variables]
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    rewritten(*arguments)
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def with_table(function):
    table = core.Variable(np.ones((2048, 16), np.float32))
    return sparse(core.trace(lambda rows: function(table, rows), core.tensor(ROWS[0])))


@pytest.mark.parametrize(
    "function",
    [
        lambda t, rows: t.assign_sub(ops.scatter(rows[:, None], ops.ones((3, 16)), (2048, 16))).sum(),  # read again
        lambda t, rows: t.assign_sub(ops.cumsum(ops.scatter(rows[:, None], ops.ones((3, 16)), (2048, 16)), 0)) is None,
        lambda t, rows: ops.scatter(rows[:, None], ops.ones((3, 16)), (2048, 16)),
    ],
)
def test_other_uses_of_a_scattered_value_are_left_alone(function):
    assert not any(node.op is first_position for node in with_table(function).nodes())


@pytest.mark.parametrize("rows", [[5], [4, 4, 4], [9, 0, 9, -1, -10, 3], list(range(10))])
def test_first_positions(rows):
    rows = np.array(rows, np.int64)
    run = Plan(core.trace(lambda r: first_position(r, extent=10)[0], core.tensor(rows)))
    assert all(step.call is None for step in run.steps)
    for shift in range(3):  # the memory it works in is that of the call before
        (received,) = run.run([(rows + shift) % 10])
        np.testing.assert_array_equal(received, first_position.reference((rows + shift) % 10, 10)[0])


def test_rows_are_replaced_by_the_last_update():
    x = core.tensor(np.zeros((40, 20), np.float32))
    rows = np.array([3, -1, 3], np.int32)
    updates = core.tensor(np.arange(60, dtype=np.float32).reshape(3, 20))

    def function(x, rows, updates):
        return ops.scatter_update(x, rows[:, None], updates)

    plan = Plan(core.trace(function, x, core.tensor(rows), updates))
    assert all(step.call is None for step in plan.steps)
    np.testing.assert_array_equal(plan.run([x.numpy(), rows, updates.numpy()])[0], function(x, rows, updates).numpy())
