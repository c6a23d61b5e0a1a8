"""Plans on disk: found again, never mistaken for another's, and harmless when damaged; kernels written once."""

import json
import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler import contractions, emit_llvm, native, stored
from tenzoo.core.compiler.execution import Executable
from tenzoo.core.compiler.plan import Plan
from tenzoo.core.op import Op, spec_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 5)).astype("float32")
TABLE = RNG.normal(size=(6, 5)).astype("float32")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TENZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stored, "LOADED", math.inf)  # files may have been touched while the tests ran
    stored._source.cache_clear()
    yield tmp_path / "cache"
    stored._source.cache_clear()


def compiled(function, *arguments):
    return stored.compiled(core.trace(function, *map(core.tensor, arguments or (X,))))


def found(function, *arguments):
    """What an earlier call has left on disk; planning anew is an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "_planned", lambda graph: pytest.fail("planned, although it is on disk"))
        return compiled(function, *arguments)


def recurrent(x):
    return ops.scan(lambda h, row: (ops.tanh(h * 0.5 + row), h * row), ops.zeros((5,)), x)


FUNCTIONS = {
    "element-wise": lambda x: ops.tanh(x) * 2 + 1,
    "product": lambda x: ops.relu(ops.matmul(x, ops.transpose(x)) + 1),
    "constant array": lambda x: x * core.tensor(TABLE) + ops.sum(core.tensor(TABLE), axis=0),
    "constant result": lambda x: (x + 1, core.tensor(TABLE), core.tensor(7)),
    "argument as result": lambda x: (x, ops.reshape(x, (5, 6))),
    "scan": recurrent,
    "scan of many rows": lambda x: ops.scan(
        lambda h, row: (ops.tanh(h * 0.5 + row), h), ops.zeros((8, 5)), ops.broadcast_to(x[:, None], (6, 8, 5))
    ),
    "several outputs": lambda x: ops.split(ops.exp(x), 2, axis=0),
    "gather": lambda x: ops.take(x, core.tensor([1, 0, 3]), axis=0),
    "no elements": lambda x: x[:0] * 2,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_stored_plan_computes_the_same_bits(name):
    first = compiled(FUNCTIONS[name])
    again = found(FUNCTIONS[name])
    assert not isinstance(again, Plan)
    for _ in range(2):
        for a, b in zip(first.run([X]), again.run([X]), strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


def test_variables_keep_their_meaning():
    def build():
        total, weight = core.Variable(np.zeros((6, 5), "float32")), core.Variable(X)
        fresh, scale = core.Variable(np.zeros((5,), "float32")), core.Variable(2.0)

        def step(x):
            old = total.value
            total.assign_add(x * weight.value)
            weight.assign(ops.matmul(ops.matmul(x, ops.transpose(x)), weight.value) * scale.value)
            fresh.assign(ops.sum(x, axis=0))
            return ops.sum(total.value), old

        return step, (total, weight, fresh, scale)

    runs = []
    for compile_ in (compiled, found):
        step, variables = build()
        run, results = compile_(step), []
        for number in range(3):
            results += run.run([X + number])
            variables[3].assign(number + 0.5)
        runs.append([*results, *(v.numpy() for v in variables)])
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_jit_and_profile_work_on_what_was_stored(capsys):
    def layer(x):
        return ops.tanh(ops.matmul(x, ops.transpose(x)))

    expected = core.jit(layer)(core.tensor(X)).numpy()
    again = core.jit(layer)
    np.testing.assert_array_equal(again(core.tensor(X)).numpy(), expected)
    assert "contract" in core.profile(again, core.tensor(X), runs=2).table()
    np.testing.assert_array_equal(again(core.tensor(X)).numpy(), expected)


SCRIPT = """
import sys
import numpy as np
from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler import stored
if sys.argv[1:]:
    stored._planned = None
weights = [core.Variable(np.full((4, 4), k + 1, "float32") / 9) for k in range(3)]

def step(x):
    with core.GradientTape() as tape:
        h = x
        for weight in weights:
            h = ops.tanh(ops.matmul(h, weight.value))
        loss = ops.mean(ops.square(h))
    for weight, gradient in zip(weights, tape.gradient(loss, weights)):
        weight.assign_sub(gradient)
    return loss

run = core.jit(step)
print([float(run(core.tensor(np.ones((3, 4), "float32")))).hex() for _ in range(3)])
"""


def test_another_process_finds_the_plan(cache):
    printed = []
    for seed, arguments in (("1", []), ("2", ["stored"])):  # what depends on the order of a set would differ
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        printed.append(done.stdout)
    assert printed[0] == printed[1] != ""


def key(function, *arguments):
    return stored._Description(core.trace(function, *map(core.tensor, arguments or (X,)))).key()


BASE, OTHER = core.Variable(X), core.Variable(X)


def assigns(first, second):
    def function(x):
        first.assign(x + 1)
        second.assign(x + 2)
        return BASE.value * OTHER.value

    return function


DIFFERENT = {
    "op": (lambda x: ops.exp(x), lambda x: ops.tanh(x)),
    "operands": (lambda x: ops.exp(x) - x, lambda x: x - ops.exp(x)),
    "attribute": (lambda x: x[1:], lambda x: x[:-1]),
    "axis": (lambda x: ops.cumsum(x, axis=0), lambda x: ops.cumsum(x, axis=1)),
    "constant": (lambda x: x * core.tensor(TABLE), lambda x: x * core.tensor(np.nextafter(TABLE, 9))),
    "sign of zero": (lambda x: x / 0.0, lambda x: x / -0.0),
    "dtype of a constant": (lambda x: ops.cast(x * 2, "float64"), lambda x: ops.cast(x, "float64") * 2),
    "broadcast constant": (
        lambda x: x + core.tensor(np.broadcast_to(TABLE[:1], (6, 5))),
        lambda x: x + core.tensor(np.broadcast_to(TABLE[:1, :1], (6, 5))),
    ),
    "order of results": (lambda x: (x + 1, x + 2), lambda x: (x + 2, x + 1)),
    "variable": (assigns(BASE, OTHER), assigns(OTHER, BASE)),
    "body": (recurrent, lambda x: ops.scan(lambda h, r: (ops.tanh(h * 0.6 + r), h * r), ops.zeros((5,)), x)),
    "pad value": (lambda x: ops.pad(x, 1, constant_values=0.0), lambda x: ops.pad(x, 1, constant_values=-0.0)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_graphs_have_different_keys(name):
    first, second = DIFFERENT[name]
    assert key(first) == key(first)
    assert key(first) != key(second)


def test_the_key_holds_what_surrounds_the_graph(monkeypatch):
    def function(x):
        return x + 1

    keys = [key(function), key(function, X[:5]), key(function, X.astype("float64"))]
    for name, value in (("TENZOO_NUM_THREADS", "3"), ("TENZOO_PASSES", "none")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            keys.append(key(function))
    for module, name in ((emit_llvm, "identity"), (stored, "_source")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda: "another")
            keys.append(key(function))
    assert len(set(keys)) == len(keys)


def test_nothing_is_stored_once_the_source_has_changed(cache, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(stored, "LOADED", 0.0)  # all files are younger than that
        np.testing.assert_array_equal(compiled(lambda x: x + 1).run([X])[0], X + 1)
    assert not list(cache.glob("*.plan"))
    compiled(lambda x: x + 1)
    assert list(cache.glob("*.plan"))


def test_what_cannot_be_described_is_planned_each_time(cache):
    shifted = Op("shifted", spec_of, lambda x: x + 3, emit=lambda b, x: x + 3.0)  # another program's may differ
    np.testing.assert_array_equal(compiled(lambda x: shifted(x)).run([X])[0], X + 3)
    compiled(lambda x: ops.sort(x, axis=0))  # numpy computes it
    assert not list(cache.glob("*.plan"))


def damaged(record):
    """Records that are whole, and wrong."""
    yield [], None, 3, {}
    for name in record:
        yield {k: v for k, v in record.items() if k != name}
    for change in (
        {"buffers": []},
        {"kernels": [["0" * 64, 1, 1, 0]]},
        {"kernels": [["../../etc/passwd", 1, 1, 0]]},
        {"kernels": [[record["kernels"][0][0], -1, 1, 0]]},
        {"arena": 1},
        {"arena": "large"},
        {"results": [[99, [6, 5]]]},
        {"copies": [[0, 99]]},
        {"segments": [[1, [[0, [[0, -8, 0]]]]]]},
        {"segments": [[10**9, [[0, [[0, 0, 8]]]]]]},
        {"segments": [[1, [[0, [[-1, 0, 0]]]]]]},
        {"segments": 5},
    ):
        yield record | change
    for entry in (
        ["temporary", -64],
        ["temporary", 1 << 60],
        ["made", "AAAA"],
        ["constant", 4],
        ["input", 7],
        ["x", 0],
    ):
        yield record | {"buffers": [[*entry, *buffer[2:]] for buffer in record["buffers"]]}
    yield record | {"buffers": [[*buffer[:2], [-1], "float32"] for buffer in record["buffers"]]}
    yield record | {"buffers": [[*buffer[:3], "object"] for buffer in record["buffers"]]}


def test_a_damaged_plan_is_as_good_as_none(cache):
    def function(x):
        return ops.sum(ops.exp(ops.matmul(x, ops.transpose(x)))) + core.tensor(TABLE)

    expected = compiled(function).run([X])[0]
    (file,) = cache.glob("*.plan")
    whole = file.read_bytes()
    record = json.loads(native.read_cached(file.name))
    contents = [b"", whole[:50], whole[:-3] + b"xxx", b"no plan at all"]
    for content in contents:
        file.write_bytes(content)
        np.testing.assert_array_equal(compiled(function).run([X])[0], expected)
        assert file.read_bytes() == whole
    for wrong in damaged(record):
        native.write_cached(file.name, json.dumps(wrong).encode())
        np.testing.assert_array_equal(compiled(function).run([X])[0], expected)


def test_a_plan_whose_kernels_are_gone_is_made_anew(cache):
    def function(x):
        return ops.exp(x) - 0.125

    expected = compiled(function).run([X])[0]
    for file in cache.glob("*.o"):
        file.unlink()
    native._loaded.clear()  # as in another process
    np.testing.assert_array_equal(compiled(function).run([X])[0], expected)
    assert list(cache.glob("*.o"))


def test_clearing_the_cache_removes_plans(cache):
    compiled(FUNCTIONS["product"])
    assert list(cache.glob("*.plan"))
    native.trim_cache(0)
    assert not list(cache.iterdir())


def test_several_threads_may_store_the_same_plan(cache):
    results = []

    def work():
        results.append(compiled(FUNCTIONS["product"]).run([X])[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all((result == results[0]).all() for result in results)
    assert len(list(cache.glob("*.plan"))) == 1
    assert isinstance(found(FUNCTIONS["product"]), Executable)


def layers(*shifts):
    weights = [core.Variable(RNG.normal(size=(5, 5)).astype("float32")) for _ in shifts]

    def function(x):
        for weight, shift in zip(weights, shifts, strict=True):
            x = ops.tanh(ops.matmul(x, weight.value) + shift)
        return x

    return function


def test_layers_that_are_alike_share_their_kernels(monkeypatch):
    function, written = layers(0.5, 0.5, 0.5, 0.5), []
    write = contractions.write
    monkeypatch.setattr(contractions, "write", lambda *given: written.append(given) or write(*given))
    plan = Plan(core.trace(function, core.tensor(X)))
    assert len(written) < 4 == sum(step.group.kind == "contract" for step in plan.steps)
    np.testing.assert_allclose(plan.run([X])[0], function(core.tensor(X)).numpy(), rtol=1e-5, atol=1e-6)


def test_the_same_graph_has_the_same_kernels():
    def function(x):  # all four are kept for a row: their order must not depend on where they lie in memory
        values = [ops.exp(x * k) for k in (0.1, 0.2, 0.3, 0.4)]
        return sum(value / ops.sum(value, axis=-1, keepdims=True) for value in values)

    def keys():
        return tuple(step.kernel.key for step in Plan(core.trace(function, core.tensor(X))).steps)

    assert len({keys() for _ in range(12)}) == 1


@pytest.mark.parametrize("shifts", [(0.5, 0.25, 0.5, -0.5), (0.0, -0.0, 1.0, 2.0)])
def test_layers_that_differ_in_a_constant_do_not(shifts):
    function = layers(*shifts)
    (result,) = Plan(core.trace(function, core.tensor(X))).run([X])
    np.testing.assert_allclose(result, function(core.tensor(X)).numpy(), rtol=1e-5, atol=1e-6)


def test_alike_but_for_what_they_read():
    def function(x):
        a, b = ops.exp(x), ops.exp(-x)
        a, b = ops.cumsum(a, axis=0), ops.cumsum(b, axis=0)  # in memory
        return ops.cumsum(a - b, axis=0), ops.cumsum(b - a, axis=0), ops.cumsum(a - a, axis=0)

    expected = [value.numpy() for value in function(core.tensor(X))]
    for value, other in zip(expected, Plan(core.trace(function, core.tensor(X))).run([X]), strict=True):
        np.testing.assert_allclose(other, value, rtol=1e-5, atol=1e-5)
