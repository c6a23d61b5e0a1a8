"""The runtime of compiled code: a disk cache of object code, and a thread pool that runs kernels from native
code.

>>> kernels = load([Kernel(text, extent=rows, grain=64)])                         # doctest: +SKIP
>>> program = Program([Launch(kernels[0], [x.ctypes.data, y.ctypes.data])])       # doctest: +SKIP
>>> pool().run(program)                                                           # doctest: +SKIP

One `run` is one native call: it goes through the launches in order, splits each over the threads in chunks of
`grain` items, and returns when the last is done. Which thread takes which chunk varies; the chunks do not, so
results are the same for any number of threads.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import ctypes
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
import platform
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..config import threads as thread_count
from . import emit_llvm
from .loops import Builder, Module, Value, i8, i32, i64, index, ptr, void

CACHE_FORMAT = b"tenzoo object code 4\n"  # the number changes with the passes that emit_llvm runs
CACHE_LIMIT = 512 << 20  # bytes
CACHED = (".o", ".plan")  # object code, and what programs are made of it
SPINS = 4000  # pauses before a waiting thread goes to sleep: some 50 microseconds


@dataclasses.dataclass(frozen=True)
class Kernel:
    """The text of a module whose function `kernel(ptr arguments, i64 lo, i64 hi, ptr scratch)` does items
    lo..hi.

    Items 0..extent are dealt out `grain` at a time; every thread has `scratch` bytes of its own, aligned to
    64. Without a text it is known by its key in the cache alone, `stored`.
    """

    text: str | None
    extent: int
    grain: int
    scratch: int = 0
    pipeline: str = "loops"
    stored: str = ""

    @functools.cached_property
    def key(self) -> str:
        """What its object code is called: equal for equal code."""
        return self.stored or _key(self.text, self.pipeline)


# -- object code ---------------------------------------------------------------------------------------------


def cache_folder() -> pathlib.Path:
    """Where object code is kept: TENZOO_CACHE, or ~/.cache/tenzoo/kernels."""
    chosen = os.environ.get("TENZOO_CACHE")
    return pathlib.Path(chosen) if chosen else pathlib.Path.home() / ".cache" / "tenzoo" / "kernels"


def read_cached(name: str) -> bytes | None:
    """What lies under a name in the cache, or None where there is nothing that is whole."""
    path = cache_folder() / name
    try:
        content = path.read_bytes()
        head = len(CACHE_FORMAT) + 32
        digest, code = content[len(CACHE_FORMAT) : head], content[head:]
        if content.startswith(CACHE_FORMAT) and hashlib.sha256(code).digest() == digest:
            os.utime(path)  # the clean-up removes what was used longest ago
            return code
    except OSError:
        pass
    return None


def write_cached(name: str, content: bytes) -> None:
    """Put something into the cache, whole or not at all; a cache that cannot be written is no error."""
    path = cache_folder() / name
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(CACHE_FORMAT + hashlib.sha256(content).digest() + content)
            os.replace(part, path)
        except OSError:
            os.unlink(part)
    _trim_once()


def trim_cache(limit: int = CACHE_LIMIT) -> None:
    """Delete the files used longest ago until the cache takes at most `limit` bytes; 0 clears it."""
    with contextlib.suppress(OSError):
        found = []
        for entry in os.scandir(cache_folder()):
            if entry.name.endswith((*CACHED, ".part")):
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    found.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= limit:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


_loaded: weakref.WeakValueDictionary[str, emit_llvm.Library] = weakref.WeakValueDictionary()
# What was loaded last stays: LLVM does not give back all memory of code that is unloaded, and the next model is often
# like the one before.
_recent: collections.deque[emit_llvm.Library] = collections.deque(maxlen=512)


class NotCached(LookupError):  # noqa: N818  not an error: the kernel has to be written again
    """The object code of a kernel without a text is no longer in the cache."""


def _library(key: str, text: str | None, pipeline: str, exports: tuple[str, ...] = ("kernel",)) -> emit_llvm.Library:
    """Load one module, from the cache if it is there."""
    library = _loaded.get(key)
    if library is not None:
        return library
    code = read_cached(f"{key}.o")
    if code is not None:
        with contextlib.suppress(emit_llvm.CompileError):
            library = emit_llvm.Library(code, exports)
    if library is None:
        if text is None:
            raise NotCached(key)
        code = emit_llvm.compile_text(text, pipeline)
        write_cached(f"{key}.o", code)
        library = emit_llvm.Library(code, exports)
    _loaded[key] = library
    _recent.append(library)
    return library


def _key(text: str, pipeline: str) -> str:
    return hashlib.sha256("\0".join((emit_llvm.identity(), pipeline, text)).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A kernel in this process; the code stays as long as this does."""

    kernel: Kernel
    library: emit_llvm.Library

    @property
    def address(self) -> int:
        return self.library.address["kernel"]


@functools.cache
def _trim_once() -> None:
    """Keep the cache in bounds: once in a process is enough, as no process compiles that much."""
    trim_cache()


class Loader:
    """Loads kernels side by side on all threads, while others are still being written."""

    def __init__(self):
        self._workers = ThreadPoolExecutor(thread_count())
        self._jobs: dict[str, Future] = {}
        if _pool is None:
            self._workers.submit(_runtime)  # which will be wanted too

    def begin(self, kernel: Kernel) -> None:
        """Load a kernel, or compile it, in the background."""
        if kernel.key not in self._jobs:
            self._jobs[kernel.key] = self._workers.submit(_library, kernel.key, kernel.text, kernel.pipeline)

    def finish(self) -> dict[str, emit_llvm.Library]:
        """Wait for all; raises what went wrong with one once the others are in the cache."""
        self._workers.shutdown()
        for key, job in self._jobs.items():
            if isinstance(job.exception(), emit_llvm.CompileError):
                job.exception().key = key
        return {key: job.result() for key, job in self._jobs.items()}


def load(kernels: Sequence[Kernel], loader: Loader | None = None) -> list[Loaded]:
    """Load kernels, those that are not cached compiled first; `loader` may have begun with it.

    Raises emit_llvm.CompileError if one fails, NotCached for one without a text.
    """
    if loader is None and all(kernel.text is None for kernel in kernels):  # too little work to share it out
        return [Loaded(kernel, _library(kernel.key, None, kernel.pipeline)) for kernel in kernels]
    loader = loader or Loader()
    for kernel in kernels:
        loader.begin(kernel)
    libraries = loader.finish()
    return [Loaded(kernel, libraries[kernel.key]) for kernel in kernels]


# -- programs and the pool -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Launch:
    """One kernel and the addresses of its buffers."""

    kernel: Loaded
    buffers: Sequence[int]


class Program:
    """A sequence of launches; `addresses[k]` holds the buffers of launch k, and may change between runs.

    It runs `iterations` times; after each, the buffers of launch k move on by `strides[k]` bytes.
    """

    def __init__(self, launches: Sequence[Launch], iterations: int = 1, strides: Sequence[Sequence[int]] | None = None):
        self.iterations = iterations
        self._kernels = [launch.kernel for launch in launches]
        edges = np.cumsum([0, *(len(launch.buffers) for launch in launches)])
        self._table = np.array([a for launch in launches for a in launch.buffers], np.int64)
        self.addresses = [self._table[i:j] for i, j in itertools.pairwise(edges)]
        self._strides = np.array([s for row in strides or () for s in row], np.int64)
        self.scratch = max((launch.kernel.kernel.scratch for launch in launches), default=0)
        records = [
            (loaded.address, table.ctypes.data, loaded.kernel.extent, loaded.kernel.grain)
            for loaded, table in zip(self._kernels, self.addresses, strict=True)
        ]
        self.records = np.array(records, np.int64).reshape(-1, 4)
        self.ticks = np.zeros(len(launches) + 1, np.int64)  # the processor's clock before each launch, and at the end
        self.beside = 1  # programs that run at the same time, this one among them
        entry = self.records.ctypes.data, len(launches), self.ticks.ctypes.data
        steps = self._table.ctypes.data, self._strides.ctypes.data, len(self._strides), iterations
        self.entry = (*entry, *steps)


class Team:
    """Programs that run side by side, each on one thread: none waits for another before its end."""

    def __init__(self, programs: Sequence[Program]):
        self._programs = programs
        for program in programs:
            program.beside = len(programs)
        self._entries = np.array([program.entry for program in programs], np.int64)
        self._record = np.array([_runtime().address["alone"], self._entries.ctypes.data, len(programs), 1], np.int64)
        self._ticks = np.zeros(2, np.int64)
        self.scratch = max(program.scratch for program in programs)
        self.entry = (self._record.ctypes.data, 1, self._ticks.ctypes.data, 0, 0, 0, 1)


# The words of the pool's state; groups that different threads write lie 64 bytes apart.
TICKET, DONE, SIGNAL, SLEEPERS, STOP, FUNCTION, ARGUMENTS, EXTENT, GRAIN, SCRATCH, SCRATCH_STEP, WORKERS = (
    0, 8, 16, 24, 25, 32, 33, 34, 35, 36, 37, 38,
)  # fmt: skip
_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine()) if sys.platform == "linux" else None
_PAUSE = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "AMD64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.hint(i32 1)",
    "arm64": "call void @llvm.aarch64.hint(i32 1)",
}


def _pause(b) -> None:
    if platform.machine() in _PAUSE:
        b.effect(_PAUSE[platform.machine()])


def _sleep(b, state, seen) -> None:
    """Sleep until the signal word is no longer `seen`, or a while."""
    if _FUTEX:
        zero, wait = b.const(i64, 0), b.const(i64, 128)  # FUTEX_WAIT | FUTEX_PRIVATE_FLAG
        word = b.offset(i64, state, SIGNAL)
        b.call(
            "syscall",
            i64,
            [b.const(i64, _FUTEX), word, wait, b.cast(seen, i64), zero, zero, zero],
            variadic=True,
        )
    elif sys.platform == "win32":
        b.call("Sleep", i32, [b.const(i32, 1)])
    else:
        b.call("usleep", i32, [b.const(i32, 50)])


def _write_wake(module: Module) -> None:
    """Tell workers, asleep or on their way to it, that something has changed."""
    with module.function("wake", [ptr]) as (b, state):
        signal = b.offset(i64, state, SIGNAL)
        b.atomic_update("add", signal, b.const(i32, 1))
        if _FUTEX:
            with b.if_(b.atomic_load(i64, b.offset(i64, state, SLEEPERS), "seq_cst") > 0):
                wake, every = b.const(i64, 129), b.const(i64, 1 << 30)  # FUTEX_WAKE | FUTEX_PRIVATE_FLAG
                b.call("syscall", i64, [b.const(i64, _FUTEX), signal, wake, every], variadic=True)


def _write_take_chunks(module: Module) -> None:
    """Work on the current job until its chunks are all taken.

    The ticket holds the number of the job (high half) and the chunks not yet taken (low half). Taking a chunk
    is one compare-and-swap: whoever succeeds knows that the job is unfinished, so that its description is not
    being changed.
    """
    with (
        module.function("take_chunks", [ptr, index], attributes="internal") as (b, state, thread),
        b.forever() as work,
    ):
        ticket = b.atomic_load(i64, b.offset(i64, state, TICKET), "seq_cst")
        left = b.cast(ticket & 0xFFFFFFFF, index)
        work.break_if(left.eq(0))
        with b.if_(b.compare_exchange(b.offset(i64, state, TICKET), ticket, ticket - 1)):
            function, arguments = b.load(ptr, state, FUNCTION), b.load(ptr, state, ARGUMENTS)
            extent, grain = b.load(index, state, EXTENT), b.load(index, state, GRAIN)
            chunk = (extent + grain - 1) // grain - left
            lo = chunk * grain
            scratch = b.offset(i8, b.load(ptr, state, SCRATCH), thread * b.load(index, state, SCRATCH_STEP))
            b.call(function, void, [arguments, lo, b.minimum(lo + grain, extent), scratch])
            b.atomic_update("add", b.offset(i64, state, DONE), b.const(i64, 1))


def _write_worker(module: Module) -> None:
    """The life of a worker: take chunks while there are any, spin, then sleep, until told to stop."""
    with module.function("worker", [ptr, index]) as (b, state, thread):
        spins = b.variable(b.const(i64, 0))
        with b.forever() as life:
            seen = b.atomic_load(i32, b.offset(i64, state, SIGNAL), "seq_cst")
            life.break_if(b.atomic_load(i64, b.offset(i64, state, STOP)).ne(0))
            ticket = b.atomic_load(i64, b.offset(i64, state, TICKET), "seq_cst")
            with b.if_((ticket & 0xFFFFFFFF).ne(0)) as some:
                b.call("take_chunks", void, [state, thread])
                spins.set(0)
            with some.otherwise():
                _pause(b)
                spins.set(spins.get() + 1)
                with b.if_(spins.get() > SPINS):
                    sleepers = b.offset(i64, state, SLEEPERS)
                    b.atomic_update("add", sleepers, b.const(i64, 1))
                    again = b.atomic_load(i32, b.offset(i64, state, SIGNAL), "seq_cst")
                    with b.if_(again.eq(seen)):
                        _sleep(b, state, seen)
                    b.atomic_update("sub", sleepers, b.const(i64, 1))
                    spins.set(0)


def _write_parallel(module: Module) -> None:
    """parallel(state, function, arguments, extent, grain): run one kernel on all threads.

    It must not be called from inside a kernel.
    """
    parameters = [ptr, ptr, ptr, index, index]
    with module.function("parallel", parameters) as (b, state, function, arguments, extent, grain):
        chunks = (extent + grain - 1) // grain
        with b.if_((chunks < 2) | b.load(i64, state, WORKERS).eq(0)) as alone:
            scratch = b.load(ptr, state, SCRATCH)
            with b.loop(0, extent, grain, vectorize=False) as lo:
                b.call(function, void, [arguments, lo, b.minimum(lo + grain, extent), scratch])
        with alone.otherwise():
            b.store(function, state, FUNCTION)
            b.store(arguments, state, ARGUMENTS)
            b.store(extent, state, EXTENT)
            b.store(grain, state, GRAIN)
            b.atomic_store(b.const(i64, 0), b.offset(i64, state, DONE))
            ticket = b.atomic_load(i64, b.offset(i64, state, TICKET))
            fresh = ((b.shift_right_logical(ticket, 32) + 1) << 32) | b.cast(chunks, i64)
            b.atomic_store(fresh, b.offset(i64, state, TICKET), "seq_cst")
            b.call("wake", void, [state])
            b.call("take_chunks", void, [state, b.const(index, 0)])
            spins = b.variable(b.const(i64, 0))
            with b.forever() as wait:
                done = b.cast(b.atomic_load(i64, b.offset(i64, state, DONE)), index)
                wait.break_if(done.eq(chunks))
                _pause(b)
                spins.set(spins.get() + 1)
                if sys.platform != "win32":
                    with b.if_(spins.get() > SPINS):  # the thread that has the last chunk may want this processor
                        b.call("sched_yield", i32, [])


def _note_time(b: Builder, ticks: Value, k: Value) -> None:
    """Put the processor's clock into item `k` of `ticks`."""
    b.store(b.emit(i64, "call i64 @llvm.readcyclecounter()", pure=False), ticks, k)


def _write_run(module: Module) -> None:
    """run(state, records, count, ticks): the launches of a program in order."""
    with module.function("run", [ptr, ptr, index, ptr]) as (b, state, records, count, ticks):
        with b.loop(0, count, vectorize=False) as k:
            record = b.offset(i64, records, k * 4)
            _note_time(b, ticks, k)
            function, arguments = b.load(ptr, record, 0), b.load(ptr, record, 1)
            b.call(
                "parallel",
                void,
                [state, function, arguments, b.load(index, record, 2), b.load(index, record, 3)],
            )
        _note_time(b, ticks, count)


def _write_repeat(module: Module) -> None:
    """repeat(state, records, count, ticks, table, strides, length, iterations): a program, again and again.

    The addresses in the table move on by the strides after each iteration.
    """
    parameters = [ptr, ptr, index, ptr, ptr, ptr, index, index]
    with (
        module.function("repeat", parameters) as (
            b,
            state,
            records,
            count,
            ticks,
            table,
            strides,
            length,
            times,
        ),
        _iterations(b, table, strides, length, times),
    ):
        b.call("run", void, [state, records, count, ticks])


@contextlib.contextmanager
def _iterations(b: Builder, table: Value, strides: Value, length: Value, times: Value) -> Iterator[None]:
    """The body runs `times` times; the addresses in the table move on after each, and back at the end."""
    with b.loop(0, times, vectorize=False):
        yield
        with b.loop(0, length, vectorize=False) as k:
            b.store(b.load(index, table, k) + b.load(index, strides, k), table, k)
    with b.loop(0, length, vectorize=False) as k:
        b.store(b.load(index, table, k) - b.load(index, strides, k) * times, table, k)


def _write_alone(module: Module) -> None:
    """alone(programs, lo, hi, scratch): a kernel whose items are programs, which one thread runs from end to end."""
    with (
        module.function("alone", [ptr, index, index, ptr]) as (b, programs, lo, hi, scratch),
        b.loop(lo, hi, vectorize=False) as item,
    ):
        entry, kinds = b.offset(i64, programs, item * 7), (ptr, index, ptr, ptr, ptr, index, index)
        records, count, ticks, table, strides, length, times = (b.load(kind, entry, i) for i, kind in enumerate(kinds))
        with _iterations(b, table, strides, length, times):
            with b.loop(0, count, vectorize=False) as k:
                _note_time(b, ticks, k)
                record = b.offset(i64, records, k * 4)
                function, arguments, extent = (b.load(kind, record, i) for i, kind in enumerate((ptr, ptr, index)))
                b.call(function, void, [arguments, b.const(index, 0), extent, scratch])
            _note_time(b, ticks, count)


@functools.cache
def _runtime() -> emit_llvm.Library:
    module = Module()
    module.declare("syscall", i64, [i64], variadic=True)
    module.declare("sched_yield", i32, [])
    module.declare("Sleep" if sys.platform == "win32" else "usleep", i32, [i32])
    _write_wake(module)
    _write_take_chunks(module)
    _write_worker(module)
    _write_parallel(module)
    _write_run(module)
    _write_repeat(module)
    _write_alone(module)
    text = module.text()
    return _library(_key(text, "blocks"), text, "blocks", ("worker", "wake", "repeat", "alone"))


class Pool:
    """Threads parked in native code. `run` releases the interpreter lock; one program runs at a time."""

    def __init__(self, threads: int):
        self.threads = threads
        self._lock = threading.Lock()
        self._memory = np.zeros(64 + 8, np.int64)
        start = -self._memory.ctypes.data % 64 // 8
        self._state = self._memory[start : start + 64]
        self._state[WORKERS] = threads - 1
        address = _runtime().address
        self.state_address = self._state.ctypes.data
        word, pointer = ctypes.c_int64, ctypes.c_void_p
        kinds = [pointer, pointer, word, pointer, pointer, pointer, word, word]
        self._run = ctypes.CFUNCTYPE(None, *kinds)(address["repeat"])
        self._wake = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address["wake"])
        worker = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address["worker"])
        self._workers = [
            threading.Thread(target=worker, args=(self.state_address, k), daemon=True, name=f"compute {k} of tenzoo")
            for k in range(1, threads)
        ]
        self._scratch = np.empty(0, np.uint8)
        for thread in self._workers:
            thread.start()

    def _reserve(self, size: int) -> None:
        """Let every thread have `size` bytes of scratch memory."""
        step = -(-size // 4096) * 4096 + 64  # not a multiple of 4096: threads should not share cache sets
        if step > self._state[SCRATCH_STEP]:
            self._scratch = np.empty(step * self.threads + 64, np.uint8)
            self._state[SCRATCH] = -(-self._scratch.ctypes.data // 64) * 64
            self._state[SCRATCH_STEP] = step

    def run(self, program: Program | Team) -> None:
        """Run a program to its end."""
        with self._lock:
            if program.scratch:
                self._reserve(program.scratch)
            self._run(self.state_address, *program.entry)

    def close(self) -> None:
        """Stop the threads; called at the interpreter's exit."""
        with self._lock:
            self._state[STOP] = 1
            self._wake(self.state_address)
        for thread in self._workers:
            thread.join(timeout=1.0)


_pool: Pool | None = None
_pool_lock = threading.Lock()


def pool() -> Pool:
    """The process's pool, started on first use."""
    global _pool
    if _pool is None:
        with _pool_lock:
            if _pool is None:
                _pool = Pool(thread_count())
    return _pool


def _forget_pool() -> None:
    """After a fork the child has no threads: it starts its own pool when it needs one."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


@atexit.register
def _close_pool() -> None:
    if _pool is not None:
        _pool.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
