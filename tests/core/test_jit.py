"""jit: the cache, variables in compiled code, and what happens when something does not fit."""

import copy
import itertools
import logging
import os
import pickle
import threading

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import ops, random
from tenzoo.core.compiler import plan as plan_module
from tenzoo.core.compiler.emit_llvm import CompileError


def test_same_numbers_as_eager():
    function = lambda x, y: {"sum": (ops.tanh(x) @ y, x.sum())}
    x, y = np.ones((3, 4), "float32") / 3, np.ones((4, 2), "float32")
    eager, compiled = function(core.tensor(x), core.tensor(y)), core.jit(function)(x, y)
    assert core.pytree.structure(eager) == core.pytree.structure(compiled)
    for a, b in zip(core.pytree.flatten(eager), core.pytree.flatten(compiled), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)


def test_traced_once_per_kind_of_argument(caplog):
    traces = []

    @core.jit
    def function(x, power):
        traces.append(x.shape)
        return x**power

    caplog.set_level(logging.INFO, "tenzoo.compile")
    for _ in range(3):
        function(core.tensor([1.0, 2.0]), 2)
    assert len(traces) == 1
    function(core.tensor([1.0, 2.0]), 3)
    function(core.tensor([1.0]), 3)
    function(core.tensor([1]), 3)
    assert len(traces) == 4
    assert "compiled again" in caplog.text


def test_many_recompilations_are_told(caplog):
    function = core.jit(lambda x: x + 1)
    for n in range(1, 12):
        function(core.tensor(np.zeros(n, "float32")))
    assert "Pad the batches" in caplog.text


def test_variables_are_read_and_written():
    total = core.Variable(np.zeros(3, "float32"))
    add = core.jit(lambda x: total.assign_add(x))
    for _ in range(3):
        add(core.tensor([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(total.numpy(), [3, 6, 9])
    total.assign([10.0, 10.0, 10.0])
    np.testing.assert_array_equal(add(core.tensor([1.0, 2.0, 3.0])).numpy(), [11, 12, 13])


def test_values_handed_out_do_not_change():
    state = core.Variable(np.zeros(3, "float32"))
    step = core.jit(lambda: state.assign_add(1.0))
    step()
    before = state.value
    array = state.numpy()
    result = step()
    step()
    assert before.tolist() == array.tolist() == [1, 1, 1]
    assert result.tolist() == [2, 2, 2]
    assert state.numpy().tolist() == [3, 3, 3]


def test_swap_of_variables():
    a, b = core.Variable([1.0, 2.0]), core.Variable([3.0, 4.0])

    @core.jit
    def swap():
        x, y = a.value, b.value
        a.assign(y)
        b.assign(x)

    swap()
    assert a.numpy().tolist() == [3, 4]
    assert b.numpy().tolist() == [1, 2]


def test_update_that_reads_other_elements():
    """Not in place: every element needs its neighbour's old value."""
    state = core.Variable(np.arange(1000, dtype="float32"))
    core.jit(lambda: state.assign(ops.roll(state, 1) * 2))()
    np.testing.assert_array_equal(state.numpy(), np.roll(np.arange(1000), 1) * 2)
    matrix = core.Variable(np.arange(16, dtype="float32").reshape(4, 4))
    core.jit(lambda: matrix.assign(ops.transpose(matrix) + 1))()
    np.testing.assert_array_equal(matrix.numpy(), np.arange(16).reshape(4, 4).T + 1)


def test_variable_read_after_it_was_assigned():
    state = core.Variable([1.0, 2.0])

    def function():
        old = state.value
        new = state.assign(old * 3)
        return old + new, (new * new).sum()

    total, square = core.jit(function)()
    assert total.tolist() == [4, 8]
    assert float(square) == 45
    assert state.numpy().tolist() == [3, 6]


def test_variable_assigned_a_constant_or_an_input():
    state = core.Variable([1.0, 2.0])
    core.jit(lambda: state.assign(np.zeros(2, "float32")))()
    assert state.numpy().tolist() == [0, 0]
    core.jit(lambda x: state.assign(x))(core.tensor([5.0, 6.0]))
    assert state.numpy().tolist() == [5, 6]


def test_random_state_advances_as_in_eager_code():
    draw = core.jit(lambda: random.uniform((5,)))
    random.seed(3)
    eager = [random.uniform((5,)).numpy() for _ in range(3)]
    random.seed(3)
    compiled = [draw().numpy() for _ in range(3)]
    np.testing.assert_array_equal(eager, compiled)


def test_whole_training_step():
    generator = np.random.default_rng(0)
    sizes = [20, 33, 7]
    weights = [core.Variable(generator.normal(size=s).astype("float32") / 5) for s in itertools.pairwise(sizes)]
    biases = [core.Variable(np.zeros(n, "float32")) for n in sizes[1:]]
    variables = weights + biases
    slots = [[core.Variable(np.zeros(v.shape, "float32"), trainable=False) for v in variables] for _ in range(2)]
    count = core.Variable(0.0, trainable=False)

    def step(x, y):
        with core.GradientTape() as tape:
            hidden = random.dropout(ops.relu(x @ weights[0] + biases[0]), 0.2)
            loss = ops.mean(ops.sparse_categorical_crossentropy(y, hidden @ weights[1] + biases[1], from_logits=True))
        t = count.assign_add(1.0)
        rate = 1e-2 * ops.sqrt(1 - ops.power(0.999, t)) / (1 - ops.power(0.9, t))
        for variable, gradient, m, v in zip(variables, tape.gradient(loss, variables), *slots, strict=True):
            m.assign(0.9 * m + 0.1 * gradient)
            v.assign(0.999 * v + 0.001 * gradient * gradient)
            variable.assign(variable - rate * m / (ops.sqrt(v) + 1e-7))
        return loss

    every = [*variables, *slots[0], *slots[1], count]
    start = [v.numpy().copy() for v in every]
    x, y = (
        core.tensor(generator.normal(size=(16, 20)).astype("float32")),
        core.tensor(generator.integers(0, 7, 16)),
    )
    outcomes = []
    for run in (step, core.jit(step)):
        for variable, value in zip(every, start, strict=True):
            variable.assign(value)
        random.seed(1)
        losses = [float(run(x, y)) for _ in range(20)]
        outcomes.append((losses, [v.numpy().copy() for v in every]))
    np.testing.assert_allclose(outcomes[0][0], outcomes[1][0], rtol=1e-5)
    assert outcomes[0][0][-1] < outcomes[0][0][0] / 2
    for a, b in zip(outcomes[0][1], outcomes[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_optimizer_updates_are_done_in_place():
    weight = core.Variable(np.ones((64, 64), "float32"))
    moment = core.Variable(np.zeros((64, 64), "float32"), trainable=False)

    @core.jit
    def step(x):
        gradient = core.grad(lambda w: ((x @ w) ** 2).sum())(weight.value)
        new = moment.assign(moment * 0.9 + gradient)
        weight.assign(weight - 0.01 * new)

    x = core.tensor(np.ones((8, 64), "float32"))
    step(x)
    assert step.plan(x).copies == []


def test_result_of_a_call_is_not_overwritten_by_the_next():
    function = core.jit(lambda x: x * 2)
    first = function(core.tensor([1.0]))
    function(core.tensor([5.0]))
    assert first.tolist() == [2.0]


def test_inside_a_trace_or_a_tape_it_is_the_function():
    square = core.jit(lambda x: x * x)
    assert float(core.grad(lambda x: square(x))(3.0)) == 6.0
    assert float(core.jit(lambda x: square(x) + 1)(core.tensor(3.0))) == 10.0


def test_method():
    class Counter:
        def __init__(self):
            self.value = core.Variable(0.0)

        @core.jit
        def add(self, amount):
            return self.value.assign_add(amount)

    a, b = Counter(), Counter()
    a.add(core.tensor(1.0))
    a.add(core.tensor(1.0))
    b.add(core.tensor(5.0))
    assert float(a.value) == 2.0
    assert float(b.value) == 5.0


def test_symbolic_value_as_a_condition_is_an_error():
    with pytest.raises(core.TraceError, match="greater"):
        core.jit(lambda x: x if x.sum() > 0 else -x)(core.tensor([1.0]))


def test_argument_that_is_neither_tensor_nor_constant():
    with pytest.raises(TypeError, match="hashable"):
        core.jit(lambda x: x)({1, 2})


def test_failed_compilation_falls_back_with_a_warning(monkeypatch, caplog):
    def fail(*_):
        raise CompileError("no such instruction")

    monkeypatch.setattr(plan_module.native, "load", fail)
    function = core.jit(lambda x: x + 1)
    assert function(core.tensor([1.0])).tolist() == [2.0]
    assert "numpy computes it instead" in caplog.text


def test_threads_may_call_the_same_function():
    function = core.jit(lambda x: ops.tanh(x) * 2)
    wrong = []

    def work(seed):
        x = np.random.default_rng(seed).normal(size=(50, 50)).astype("float32")
        for _ in range(50):
            if not np.allclose(function(core.tensor(x)).numpy(), np.tanh(x) * 2, atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_heavy_eager_ops_are_compiled_and_light_ones_are_not():
    from tenzoo.core import eager

    generator = np.random.default_rng(0)
    w = core.tensor(generator.normal(size=(3, 3, 16, 32)).astype("float32"))
    small, large = (core.tensor(generator.normal(size=(n, 16, 16, 16)).astype("float32")) for n in (1, 32))
    before = len(eager._plans)
    light = ops.conv(small, w, 1, "same")
    assert len(eager._plans) == before
    heavy = ops.conv(large, w, 1, "same")
    assert len(eager._plans) == before + 1
    np.testing.assert_allclose(ops.conv(large[:1], w, 1, "same").numpy(), heavy.numpy()[:1], rtol=1e-4, atol=1e-4)
    assert light.shape == (1, 16, 16, 32)


def test_an_op_that_the_compiler_does_not_know_is_left_to_numpy():
    from tenzoo.core.op import Op
    from tenzoo.core.primitives.elementwise import elementwise

    try:
        op = elementwise("cube_root_of_tests", np.cbrt, kinds="f")
        result = core.jit(lambda x: ops.exp(op(x * 2) + 1))(core.tensor([4.0, 13.5]))
        np.testing.assert_allclose(result.numpy(), np.exp([3.0, 4.0]), rtol=1e-6)
    finally:
        Op.registry.pop("cube_root_of_tests", None)


def test_arrays_of_any_kind(tmp_path):
    double = core.jit(lambda x: x * 2)
    for dtype in (">f4", ">f8", ">i4"):
        swapped = np.arange(5).astype(dtype)
        np.testing.assert_array_equal(double(swapped.astype(swapped.dtype.newbyteorder("="))).numpy(), swapped * 2)
        np.testing.assert_array_equal(double(swapped).numpy(), swapped * 2)
        np.testing.assert_array_equal(core.trace(lambda x: x * 2, swapped)(swapped).numpy(), swapped * 2)
    mapped = np.memmap(tmp_path / "numbers", np.float32, "w+", shape=(3,))
    mapped[:] = 3
    assert double(mapped).tolist() == [6, 6, 6]


def test_arguments_by_name():
    @core.jit
    def function(x, *, factor=2, shift=0.0):
        return x * factor + shift

    x = core.tensor([1.0, 2.0])
    assert function(x, factor=3).tolist() == [3, 6]
    assert function(x, factor=4).tolist() == [4, 8]
    assert function(x=x, shift=core.tensor(1.0)).tolist() == [3, 5]
    with pytest.raises(TypeError, match="unexpected keyword argument 'factr'"):
        function(x, factr=3)


def test_only_functions_are_compiled():
    with pytest.raises(TypeError, match="received 3, which cannot be called"):
        core.jit(3)


class Scale:
    def __init__(self, factor):
        self.factor = factor
        self.calls = core.Variable(0.0)

    @core.jit
    def double(self, x):
        return self(x) * 2

    @core.jit
    def __call__(self, x):
        self.calls.assign_add(1.0)
        return x * self.factor

    triple = core.jit(lambda self, x: x * self.factor * 3)


class Shifted(Scale):
    @core.jit
    def double(self, x):
        return super().double(x) + 1


@core.jit
def increment(x):
    return x + 1


def test_methods_of_other_names_and_of_base_classes():
    shifted = Shifted(10.0)
    assert shifted.triple is shifted.triple
    for _ in range(2):
        assert float(shifted.triple(core.tensor(1.0))) == 30
        assert float(shifted.double(core.tensor(1.0))) == 21
        assert float(Scale.double.__get__(shifted, Shifted)(core.tensor(1.0))) == 20


def test_copies_compile_for_themselves():
    scale = Scale(2.0)
    scale.double(core.tensor(1.0))
    shallow = copy.copy(scale)
    shallow.factor = 5.0
    assert float(shallow.double(core.tensor(1.0))) == 10
    for made in (copy.deepcopy(scale), pickle.loads(pickle.dumps(scale))):
        made.factor = 7.0
        assert float(made.double(core.tensor(1.0))) == 14
        assert float(made.calls) == 3
        assert float(scale.calls) == 2
    assert float(scale.double(core.tensor(1.0))) == 4
    increment(core.tensor(1.0))
    assert pickle.loads(pickle.dumps(increment)) is increment
    assert float(pickle.loads(pickle.dumps(scale.double))(core.tensor(1.0))) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_child_may_call_what_a_thread_was_calling():
    function = core.jit(lambda x: ops.tanh(x @ x))
    x = core.tensor(np.ones((200, 200), "float32") / 100)
    expected = function(x).numpy()
    stop = threading.Event()

    def work():
        while not stop.is_set():
            function(x)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(8):
            child = os.fork()
            if child == 0:
                threading.Timer(20, os._exit, [2]).start()  # rather than to hang
                os._exit(not np.array_equal(function(x).numpy(), expected))
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
