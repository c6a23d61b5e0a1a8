"""Other processors, interrupts, too little memory, code that cannot be compiled: an answer or a clear word."""

import gc
import logging
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler import emit_llvm

# Other processors

STEP = """
import platform, sys
triple, cpu, features = sys.argv[1:]
platform.machine = lambda: triple.split("-")[0]
import numpy as np
import llvmlite.binding as llvm
from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler import emit_llvm, native
from tenzoo.core.compiler.plan import Plan

emit_llvm.host = lambda: (triple, cpu, features)


def loss(x, w, k, rows):
    h = ops.max_pool(ops.gelu(ops.layer_normalization(ops.conv(x, w, 1, "same"))), 2)
    h = core.random.dropout(ops.reshape(h, (x.shape[0], -1)) @ k, 0.5, seed=3)
    return ops.sum(ops.logsumexp(h, -1)) + ops.sum(ops.sin(ops.take(k, rows, axis=0))) + ops.sum(ops.cumsum(h, 1))


def step(*inputs):
    return core.pytree.flatten(core.value_and_grad(loss, (0, 1, 2))(*inputs))


rng = np.random.default_rng(0)
inputs = [rng.normal(size=s).astype("float32") for s in ((2, 8, 8, 3), (3, 3, 3, 16), (256, 20))]
inputs.append(rng.integers(0, 256, 7))
graph = core.trace(step, *inputs)
"""

RUN = """
for a, b in zip(step(*map(core.tensor, inputs)), Plan(graph).run(inputs), strict=True):
    np.testing.assert_allclose(b, a.numpy(), rtol=2e-4, atol=2e-4)
print(emit_llvm.vector_bytes())
"""

COMPILE = """
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
machines = []


class Library:  # code for another processor cannot be loaded
    def __init__(self, code, exports):
        machines.append((code[:4], code[18]))
        self.address = dict.fromkeys(exports, 0)


emit_llvm.Library = Library
native._runtime()
Plan(graph)
assert set(machines) == {(b"\\x7fELF", 183 if triple.startswith("aarch64") else 62)}, machines
assert len(machines) > 10
print(emit_llvm.vector_bytes())
"""


def on_processor(script, tmp_path, *target):
    environment = {**os.environ, "TENZOO_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", STEP + script, *target], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not emit_llvm.host()[0].startswith("x86_64"), reason="another processor")
def test_a_machine_with_sse2_alone_computes_the_same(tmp_path):
    assert on_processor(RUN, tmp_path, emit_llvm.host()[0], "x86-64", "") == 16


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "size"),
    [
        ("x86_64-unknown-linux-gnu", "skylake-avx512", "+avx512f,+avx512vl,+avx512bw,+avx512dq,+avx2,+avx,+fma", 64),
        ("aarch64-unknown-linux-gnu", "generic", "+neon", 16),
    ],
)
def test_kernels_compile_for_other_processors(triple, cpu, features, size, tmp_path):
    assert on_processor(COMPILE, tmp_path, triple, cpu, features) == size


# Interrupts

ENDLESS = """
import signal

import numpy as np
from tenzoo import core

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored

total = core.Variable(np.zeros((700, 700), "float32"))


@core.jit
def step(x):
    def body(carry, _):
        carry = carry @ x * 0.001 + x
        return carry, core.ops.sum(carry)
    total.assign(core.ops.scan(body, total.value, None, 20)[0])


x = core.tensor(np.ones((700, 700), "float32"))
step(x)
print("running", flush=True)
try:
    while True:
        step(x)
except KeyboardInterrupt:
    step(x)  # nothing is broken by it
    print("interrupted", bool(np.isfinite(total.numpy()).all()), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_ends_native_code_between_two_steps():
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "running\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "interrupted True\n"
        assert process.returncode == 0
    finally:
        process.kill()


# One model after the other


def test_models_like_those_before_leave_nothing_behind(monkeypatch):
    x, y = np.ones((8, 5), "float32"), np.ones((8, 2), "float32")

    def train():
        model = tz.Sequential([tz.layers.Dense(7, activation="relu"), tz.layers.Dropout(0.2), tz.layers.Dense(2)])
        model.compile("adam", "mse", metrics=["mae"])
        model.fit(x, y, batch_size=5, verbose=0)
        gc.collect()
        return len(gc.get_objects())

    objects = [train() for _ in range(3)]
    monkeypatch.setattr(emit_llvm, "Library", None)  # nothing is loaded that has been before
    objects += [train() for _ in range(5)]
    assert objects[-1] - objects[2] < 20


# What cannot be had


def test_too_little_memory_names_the_value(caplog):
    x = np.broadcast_to(np.float32(1), (10_000_000, 1))
    with pytest.raises(MemoryError, match="contract"):
        core.jit(lambda x: ops.sum(ops.matmul(x, ops.transpose(x)) @ x))(x)
    assert "the largest value is <node contract -> float32[10000000, 10000000]>" in caplog.text


def test_failed_compilation_names_ops_and_layer(monkeypatch, caplog, tmp_path):
    compile_text = emit_llvm.compile_text

    def refusing(text, *options):
        return compile_text(text.replace("fadd", "no such instruction"), *options)

    monkeypatch.setenv("TENZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(emit_llvm, "compile_text", refusing)
    model = tz.Sequential([tz.layers.Dense(37, activation="tanh", name="wide")])
    x = np.ones((3, 5), "float32")
    result = model.predict(x, verbose=0)
    np.testing.assert_allclose(result, model(x).numpy(), rtol=1e-6)
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert all(word in record.getMessage() for word in ("numpy computes it instead", "tanh", "wide", "LLVM"))


def test_an_op_without_a_kernel_is_told(caplog):
    with caplog.at_level(logging.INFO, "tenzoo.compile"):
        x = np.random.default_rng(0).normal(size=(4, 4))
        np.testing.assert_allclose(core.jit(lambda x: ops.sort(x) + 1)(x).numpy(), np.sort(x) + 1)
    assert "no kernel for argsort: numpy computes it" in caplog.text


# Side effects, and values that are asked for too early


def test_side_effects_happen_while_tracing_alone():
    seen = []

    def function(x):
        seen.append(x.shape)
        return x * 2

    run = core.jit(function)
    for _ in range(3):
        run(np.ones(2))
    run(np.ones(3))
    assert seen == [(2,), (3,)]


def test_a_value_left_behind_by_a_trace_is_refused():
    seen = []
    core.jit(lambda x: seen.append(x * 2) or x)(np.ones(2))
    with pytest.raises(core.TraceError, match=r"'multiply' in the graph uses .*another trace"):
        core.jit(lambda x: x + seen[0])(np.ones(2))
    with pytest.raises(core.TraceError, match=r"'multiply' while a function was traced, at .*test_robustness.py"):
        np.asarray(seen[0])


class Branching(tz.Model):
    def call(self, x):
        if ops.max(x) > 3:  # the line that is to be named
            x = x * 2
        return x


@pytest.mark.parametrize(
    ("use", "word"),
    [
        (lambda x: x if x.sum() > 0 else -x, r"bool\(\)"),
        (lambda x: x * float(x.sum()), r"float\(\)"),
        (lambda x: x * int(x.sum()), r"int\(\)"),
        (lambda x: [1.0, 2.0][ops.argmax(x)], "index"),
        (lambda x: np.sort(x), "asarray"),
    ],
)
def test_asking_for_a_symbolic_value_names_op_and_line(use, word):
    line = use.__code__.co_firstlineno
    with pytest.raises(core.TraceError, match=rf"{word}.*made by '\w+' .*test_robustness.py:{line}\b"):
        core.jit(use)(np.ones(3))


def test_a_model_that_looks_at_values_runs_op_by_op_after_one_warning():
    model = Branching()
    line = Branching.call.__code__.co_firstlineno + 1
    with pytest.warns(UserWarning, match=rf"made by 'greater'.*test_robustness.py:{line}\b"):
        result = model.predict(np.full((4, 1), 5.0, "float32"), verbose=0)
    assert (result == 10).all()
    with warnings.catch_warnings(action="error"):
        model.predict(np.ones((4, 1), "float32"), verbose=0)
