"""Tracing: what a graph holds, that it computes what eager code does, and the messages."""

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import GradientTape, TraceError, Variable, ops, tensor


class Model:
    """A whole training step by hand: two layers, dropout, Adam, a metric, a moving statistic."""

    def __init__(self):
        generator = np.random.default_rng(0)
        self.weights = [
            Variable(generator.normal(size=shape).astype("float32"), name=name)
            for name, shape in {"w1": (5, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}.items()
        ]
        self.moments = [
            [Variable(np.zeros(w.shape, "float32"), trainable=False) for w in self.weights] for _ in range(2)
        ]
        self.count = Variable(0, trainable=False)
        self.moving_mean = Variable(np.zeros(8, "float32"), trainable=False)
        self.correct = Variable(0.0, trainable=False)
        self.dropout = core.random.SeedGenerator(5)

    @property
    def variables(self):
        moments = self.moments[0] + self.moments[1]
        return [*self.weights, *moments, self.count, self.moving_mean, self.correct, self.dropout.state]

    def forward(self, x):
        w1, b1, w2, b2 = self.weights
        hidden = ops.gelu(x @ w1 + b1)
        mean = ops.mean(hidden, 0)
        self.moving_mean.assign(self.moving_mean * 0.9 + mean * 0.1)
        hidden = core.random.dropout(hidden - mean, 0.3, seed=self.dropout)
        return hidden @ w2 + b2

    def step(self, x, y):
        with GradientTape() as tape:
            logits = self.forward(x)
            loss = ops.mean(ops.sparse_categorical_crossentropy(y, logits, from_logits=True))
        gradients = tape.gradient(loss, self.weights)
        self.count.assign_add(1)
        t = ops.cast(self.count, "float32")
        for w, g, m, v in zip(self.weights, gradients, *self.moments, strict=True):
            m.assign(m * 0.9 + g * 0.1)
            v.assign(v * 0.999 + g * g * 0.001)
            rate = 0.01 * ops.sqrt(1 - ops.power(0.999, t)) / (1 - ops.power(0.9, t))
            w.assign_sub(rate * m / (ops.sqrt(v) + 1e-7))
        self.correct.assign_add(ops.sum(ops.cast(ops.argmax(logits, -1) == y, "float32")))
        return {"loss": loss, "noise": core.random.normal((2,))}


def batches(count):
    generator = np.random.default_rng(1)
    for _ in range(count):
        yield (
            tensor(generator.normal(size=(6, 5)).astype("float32")),
            tensor(generator.integers(0, 3, 6), "int32"),
        )


def test_a_traced_training_step_equals_the_eager_one_bit_for_bit():
    core.random.seed(7)
    eager = Model()
    expected = [eager.step(x, y) for x, y in batches(5)]

    core.random.seed(7)
    model = Model()
    before = [v.numpy() for v in model.variables]
    graph = core.trace(model.step, *next(iter(batches(1))))
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)  # tracing changes nothing
    received = [graph(x, y) for x, y in batches(5)]

    for a, b in zip(expected, received, strict=True):
        np.testing.assert_array_equal(a["loss"], b["loss"])
        np.testing.assert_array_equal(a["noise"], b["noise"])
    for a, b in zip(eager.variables, model.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert float(expected[-1]["loss"]) != float(expected[0]["loss"])


def test_reads_and_writes_of_a_training_step():
    model = Model()
    graph = core.trace(model.step, *next(iter(batches(1))))
    known = {*model.variables, core.random.global_generator.state}
    assert set(graph.reads) == set(graph.writes) == known
    assert [value.shape for value in graph.inputs] == [(6, 5), (6,)]
    assert graph.result["loss"].shape == ()
    assert len(graph.outputs) == 2 + len(known)
    serials = [node.serial for node in graph.nodes()]
    assert serials == sorted(serials)
    assert not graph.captured()


def test_only_what_was_read_is_read():
    a, b = Variable(1.0), Variable(2.0)

    def function(x):
        b.assign(x)
        return a + b

    graph = core.trace(function, tensor(5.0))
    assert list(graph.reads) == [a] and list(graph.writes) == [b]
    assert float(graph(tensor(7.0))) == 8 and float(b) == 7 and float(a) == 1


def test_swapping_variables():
    a, b = Variable(1.0), Variable(2.0)

    def swap():
        old = a.value
        a.assign(b)
        b.assign(old)

    core.trace(swap)()
    assert (float(a), float(b)) == (2, 1)


def test_structure_of_arguments_and_results():
    def function(batch, training, factor=1):
        assert training == "yes"
        return {"sum": batch["x"] + batch["y"][0] * factor, "none": None, "constant": 3.0}

    batch = {"x": tensor([1.0]), "y": [np.array([2.0], "float32")]}
    graph = core.trace(function, batch, "yes", factor=10)
    result = graph({"x": tensor([3.0]), "y": [tensor([4.0])]}, "yes")
    assert result["sum"].tolist() == [43] and result["none"] is None and float(result["constant"]) == 3


def test_numbers_are_static():
    graph = core.trace(lambda x, n: x * n, tensor(1.0), 3)
    assert len(graph.inputs) == 1 and float(graph(tensor(2.0), 3)) == 6


def test_dead_code_is_left_out():
    graph = core.trace(lambda x: (ops.exp(x), x + 1)[1], tensor(1.0))
    assert [node.op.name for node in graph.nodes()] == ["add"]


def test_inputs_and_constants_as_results():
    graph = core.trace(lambda x: (x, tensor([1.0])), tensor(2.0))
    assert [np.asarray(value).tolist() for value in graph(tensor(5.0))] == [5, [1]]


def test_wrong_shapes_and_dtypes():
    graph = core.trace(lambda x: x * 2, ops.zeros((2, 3)))
    with pytest.raises(TraceError, match=r"traced for \(float32\[2, 3\]\); received \(float32\[3\]\)"):
        graph(ops.zeros(3))
    with pytest.raises(TraceError, match="received"):
        graph(ops.zeros((2, 3), "int32"))
    with pytest.raises(TraceError):
        graph()


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (lambda x: bool(x > 0), r"bool\(\).*made by 'greater'"),
        (lambda x: 1 if x > 0 else 0, r"bool\(\)"),
        (lambda x: float(x), r"float\(\)"),
        (lambda x: int(x), r"int\(\)"),
        (lambda x: x.numpy(), r"numpy\(\)"),
        (lambda x: np.asarray(x), r"np.asarray\(\)"),
        (lambda x: np.sum(x), r"np.asarray\(\)"),
        (lambda x: x.item(), r"item\(\)"),
        (lambda x: list(range(ops.cast(x, "int32"))), "use as an index"),
        (lambda x: ops.nonzero(x), r"np.asarray\(\)"),
    ],
)
def test_values_are_not_there_while_tracing(use, what):
    with pytest.raises(TraceError, match=what) as caught:
        core.trace(use, tensor(1.0))
    line = use.__code__.co_firstlineno
    assert f"{__file__}:{line}" in str(caught.value)
    assert "ops.where" in str(caught.value)


def test_symbolic_values_do_not_leak():
    v, kept = Variable(1.0, name="leaky"), []
    core.trace(lambda x: kept.append(x * 2), tensor(1.0))
    with pytest.raises(TraceError, match="symbolic value was assigned to variable 'leaky'"):
        v.assign(kept[0])
    with pytest.raises(TraceError, match="cannot take a symbolic initial value"):
        core.trace(lambda x: Variable(x), tensor(1.0))
    with pytest.raises(TraceError, match="symbolic"):
        float(kept[0] + 1)
    graph = core.trace(lambda x: x + kept[0], tensor(1.0))
    with pytest.raises(TraceError, match="another trace"):
        graph(tensor(1.0))


def test_tracing_that_fails_leaves_no_scope_open():
    v = Variable(1.0)
    with pytest.raises(ZeroDivisionError):
        core.trace(lambda x: v.assign(1 / 0 * x), tensor(1.0))
    assert float(v.value) == 1.0
    assert float(v.assign_add(1.0)) == 2.0


def test_nested_traces():
    v = Variable(2.0)
    inner_graphs = []

    def outer(x):
        inner_graphs.append(core.trace(lambda y: y * v + x, x))
        return x * v

    graph = core.trace(outer, tensor(3.0))
    assert float(graph(tensor(3.0))) == 6
    assert len(inner_graphs[0].captured()) == 1
    assert list(inner_graphs[0].reads) == [v]


def test_cond_while_traced():
    v, w = Variable(1.0), Variable(10.0)

    def function(x):
        def yes():
            v.assign(x)
            return x * 2

        def no():
            w.assign(v + x)
            return x

        return ops.cond(x > 0, yes, no)

    graph = core.trace(function, tensor(1.0))
    assert (float(graph(tensor(3.0))), float(v), float(w)) == (6, 3, 10)
    assert (float(graph(tensor(-1.0))), float(v), float(w)) == (-1, 3, 2)
    assert float(ops.cond(tensor(True), lambda: 1.0, lambda: 2.0)) == 1


def test_the_branch_of_cond_not_taken_has_no_gradient():
    def branches(x):
        return ops.cond(x > 0, lambda: ops.log(x), lambda: x * 2.0)

    def looped(x):
        return ops.sum(ops.scan(lambda c, v: (c, branches(v * c)), x[0], x)[1])

    for function, x in [(branches, np.float64(0)), (branches, np.float64(4)), (looped, np.array([1.0, 0.0, -1.0]))]:
        gradient = core.grad(function)
        np.testing.assert_array_equal(core.jit(gradient)(tensor(x)).numpy(), gradient(tensor(x)).numpy())
    second = core.grad(core.grad(lambda x: branches(x) * x))
    np.testing.assert_array_equal(float(core.jit(second)(tensor(-1.0))), 4)


def test_gradient_by_a_variable_assigned_in_a_branch_of_cond():
    v = Variable(3.0)

    def double():
        v.assign(v * 2.0)
        return v * v

    def function(x):
        v.assign(x * 3.0)
        with core.GradientTape() as tape:
            y = v * 5.0 + ops.cond(x > 0, double, lambda: ops.sqrt(v - 3.0))
        return tape.gradient(y, v)

    assert float(function(tensor(1.0))) == float(core.jit(function)(tensor(1.0))) == 5 + 12


def test_switch_while_traced():
    v = Variable(0.0)
    branches = [lambda x, i=i: v.assign(x + i) * 10 for i in range(3)]
    graph = core.trace(lambda index, x: ops.switch(index, branches, x), tensor(0), tensor(1.0))
    for index, chosen in ((-1, 0), (0, 0), (1, 1), (2, 2), (9, 2)):
        assert float(graph(tensor(index), tensor(5.0))) == (5 + chosen) * 10
        assert float(v) == 5 + chosen
        assert float(ops.switch(tensor(index), branches, tensor(5.0))) == (5 + chosen) * 10


def test_while_loop_while_traced():
    def collatz(n):
        return ops.while_loop(
            lambda n, steps: n != 1,
            lambda n, steps: (ops.where(n % 2 == 0, n // 2, 3 * n + 1), steps + 1),
            (n, tensor(0)),
        )[1]

    graph = core.trace(collatz, tensor(1))
    assert [int(graph(tensor(n))) for n in (1, 6, 27)] == [int(collatz(tensor(n))) for n in (1, 6, 27)] == [0, 8, 111]
    limited = core.trace(
        lambda x: ops.while_loop(lambda x: x < 100, lambda x: x * 2, x, maximum_iterations=3), tensor(1)
    )
    assert int(limited(tensor(1))) == 8
    with pytest.raises(TraceError, match="only their loop variables"):
        core.trace(lambda x: ops.while_loop(lambda n: n < x, lambda n: n + 1, tensor(0)), tensor(1))
    with pytest.raises(TraceError, match="no gradient"):
        core.trace(core.grad(lambda x: ops.while_loop(lambda x: x < 100, lambda x: x * 2, x)), tensor(1.0))


def test_traced_scan_of_functions_with_gradients_of_their_own():
    """What such a gradient has kept of the forward pass may depend on a value from outside of the loop."""
    weight, xs = tensor([[0.5, -1.0], [2.0, 0.3]]), tensor([[1.0, 2.0], [-0.5, 0.1], [0.3, 0.7]])

    def loss(weight, xs):
        total, outputs = ops.scan(lambda c, x: (ops.silu(c @ weight + x), ops.gelu(c @ weight)), xs[0], xs)
        return ops.sum(total) + ops.sum(outputs**2)

    gradient = core.grad(loss, (0, 1))
    for compiled, eager in zip(core.jit(gradient)(weight, xs), gradient(weight, xs), strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-5)


def test_scan_and_maps_while_traced():
    xs = tensor([1.0, 2.0, 3.0])

    def function(xs):
        total, sums = ops.scan(lambda c, x: (c + x, c * x), tensor(0.0), xs)
        return total, sums, ops.map(ops.square, xs), ops.associative_scan(ops.add, xs)

    eager, traced = function(xs), core.trace(function, xs)(xs)
    for a, b in zip(eager, traced, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert eager[1].tolist() == [0, 2, 9] and eager[3].tolist() == [1, 3, 6]
