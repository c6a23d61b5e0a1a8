"""The cache of object code and the thread pool."""

import itertools
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from tenzoo.core.compiler import emit_llvm, native
from tenzoo.core.compiler.loops import Module, f64


def scaling(factor: float, extent: int, grain: int, scratch: int = 0) -> native.Kernel:
    """y = factor * x, through scratch memory where there is some."""
    module = Module()
    with module.kernel("kernel", 2) as (b, (x, y), lo, hi, own), b.loop(lo, hi) as i:
        value = b.load(f64, x, i) * factor
        if scratch:
            last = scratch // 8 - 1
            b.store(value, own, last)
            value = b.load(f64, own, last)
        b.store(value, y, i)
    return native.Kernel(module.text(), extent, grain, scratch)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TENZOO_CACHE", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def run(kernel, x):
    (loaded,) = native.load([kernel])
    y = np.zeros_like(x)
    native.pool().run(native.Program([native.Launch(loaded, [x.ctypes.data, y.ctypes.data])]))
    return y


@pytest.mark.parametrize(("extent", "grain"), [(0, 1), (1, 1), (7, 100), (1000, 1), (1000, 333), (5000, 64)])
@pytest.mark.parametrize("scratch", [0, 64, 100_000])
def test_every_item_is_done_once(extent, grain, scratch):
    x = np.random.default_rng(0).normal(size=max(extent, 1))
    y = run(scaling(3.0, extent, grain, scratch), x)
    np.testing.assert_array_equal(y[:extent], 3 * x[:extent])


def test_launches_run_in_order_and_addresses_may_change():
    (double,) = native.load([scaling(2.0, 4000, 100)])
    arrays = [np.ones(4000) for _ in range(50)]
    links = itertools.pairwise(arrays)
    program = native.Program([native.Launch(double, [x.ctypes.data, y.ctypes.data]) for x, y in links])
    for _ in range(20):
        native.pool().run(program)
    assert (arrays[-1] == 2.0**49).all()
    assert (np.diff(program.ticks) >= 0).all()
    other = np.zeros(4000)
    program.addresses[-1][1] = other.ctypes.data
    native.pool().run(program)
    assert (other == 2.0**49).all()


def test_several_python_threads_may_run_programs():
    (triple,) = native.load([scaling(3.0, 2000, 10)])
    wrong = []

    def work(seed):
        x = np.full(2000, float(seed))
        y = np.zeros(2000)
        program = native.Program([native.Launch(triple, [x.ctypes.data, y.ctypes.data])])
        for _ in range(50):
            y[:] = 0
            native.pool().run(program)
            if not (y == 3 * seed).all():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_cache_is_used_and_survives_damage(cache, monkeypatch):
    x = np.arange(10.0)
    kernel = scaling(1.25, 10, 10)
    native._loaded.clear()
    np.testing.assert_array_equal(run(kernel, x), 1.25 * x)
    (file,) = cache.glob("*.o")
    whole = file.read_bytes()

    def refuse(*_):
        raise AssertionError("compiled, although it is in the cache")

    native._loaded.clear()
    with monkeypatch.context() as patch:
        patch.setattr(emit_llvm, "compile_text", refuse)
        np.testing.assert_array_equal(run(kernel, x), 1.25 * x)
    for damaged in (b"", whole[:40], whole[:-1], whole[:-5] + b"xxxxx", b"something else entirely"):
        file.write_bytes(damaged)
        native._loaded.clear()
        np.testing.assert_array_equal(run(kernel, x), 1.25 * x)
        assert file.read_bytes() == whole


def test_the_cache_may_be_out_of_reach(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TENZOO_CACHE", str(tmp_path / "file" / "kernels"))
    native._loaded.clear()
    np.testing.assert_array_equal(run(scaling(1.5, 3, 3), np.arange(3.0)), [0, 1.5, 3])


def test_trimming_deletes_what_was_used_longest_ago(cache):
    cache.mkdir()
    for k in range(5):
        path = cache / f"{k}.o"
        path.write_bytes(bytes(100))
        os.utime(path, (1000 + k, 1000 + k))
    native.trim_cache(limit=250)
    assert sorted(path.name for path in cache.iterdir()) == ["3.o", "4.o"]
    native.trim_cache(limit=0)
    assert not list(cache.iterdir())


def test_equal_kernels_are_loaded_once():
    first, second = native.load([scaling(7.0, 10, 5), scaling(7.0, 20, 5)])
    assert first.library is second.library
    assert (first.kernel.extent, second.kernel.extent) == (10, 20)


@pytest.mark.parametrize("value", ["0", "two", "-1", "1.5"])
def test_a_wrong_number_of_threads_is_an_error(value, monkeypatch):
    monkeypatch.setenv("TENZOO_NUM_THREADS", value)
    with pytest.raises(ValueError, match="TENZOO_NUM_THREADS"):
        native.thread_count()


SCRIPT = """
import os, sys, time
import numpy as np
from tenzoo.core.compiler import native
from tenzoo.core.compiler.loops import Module, f64

module = Module()
with module.kernel("kernel", 2) as (b, (x, y), lo, hi, _), b.loop(lo, hi) as i:
    b.store(b.load(f64, x, i) + 1.0, y, i)
(loaded,) = native.load([native.Kernel(module.text(), 1000, 10)])
x, y = np.zeros(1000), np.zeros(1000)
program = native.Program([native.Launch(loaded, [x.ctypes.data, y.ctypes.data])])
native.pool().run(program)
time.sleep(0.01)  # long enough for the workers to fall asleep
native.pool().run(program)
assert (y == 1).all()
{more}
print("done")
"""


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_a_process_ends_cleanly(threads):
    environment = {**os.environ, "TENZOO_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(more="")], env=environment, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"done", b"")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_a_pool_of_its_own():
    more = textwrap.dedent("""
        y[:] = 0
        child = os.fork()
        native.pool().run(program)
        if child == 0:
            sys.exit(0 if (y == 1).all() else 1)
        assert os.waitpid(child, 0)[1] == 0
    """)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT.format(more=more)], capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_may_compile_while_a_thread_of_its_parent_compiles():
    script = textwrap.dedent("""
        import faulthandler, os, threading
        from tenzoo.core.compiler import emit_llvm

        def load():
            code = emit_llvm.compile_text("define void @kernel() {\\n  ret void\\n}")
            emit_llvm.Library(code, ("kernel",))

        def work():
            while not stop.is_set():
                load()

        load()
        stop = threading.Event()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        for _ in range(30):
            child = os.fork()
            if child == 0:
                faulthandler.dump_traceback_later(60, exit=True)  # rather than to hang
                load()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        thread.join()
    """)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
