"""Loop IR text to native code: the one file that knows llvmlite.

Two pipelines: "loops" is LLVM's second level with its loop vectoriser, for scalar loops over arrays; "blocks" leaves
code that holds its vectors already, such as the contraction kernels, as it was written. What the second level leaves
out of the third, unrolling and the vectoriser of straight code more than double the time that a kernel takes to
compile, and gain nothing measurable on loops over memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import threading
from collections.abc import Iterator

import llvmlite
import llvmlite.binding as llvm
from llvmlite.binding import ffi

PIPELINES = ("loops", "blocks")

_names = itertools.count()
_link_lock = threading.RLock()
_door = threading.RLock()  # closed while the process forks
_left = threading.Condition()
_compiling: set[int] = set()  # threads


@contextlib.contextmanager
def _compiles() -> Iterator[None]:
    """Around LLVM's work in a thread: a fork waits for its end."""
    with _door:
        _compiling.add(threading.get_ident())
    try:
        yield
    finally:
        with _left:
            _compiling.discard(threading.get_ident())
            _left.notify_all()


def _before_fork() -> None:
    """Let other threads leave LLVM: in the child they would not be there to give back its locks, and ours."""
    _door.acquire()
    with _left:
        _left.wait_for(lambda: _compiling <= {threading.get_ident()})
    _link_lock.acquire()
    ffi.lib._lock.__enter__()


def _after_fork() -> None:
    ffi.lib._lock.__exit__()
    _link_lock.release()
    _door.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class CompileError(RuntimeError):
    """LLVM refused the code of a kernel: that with this ``key``, if it is known."""

    key = ""


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # On nests of loops this pass costs more than all the rest of code generation, and gains nothing
    # measurable.
    llvm.set_option("tenzoo", "-disable-lsr")


@functools.cache
def host() -> tuple[str, str, str]:
    """Return (target triple, processor name, feature string) of this machine."""
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@functools.cache
def identity() -> str:
    """What, besides the text of a kernel, decides its object code: compiler version and processor."""
    return "|".join((llvmlite.__version__, ".".join(map(str, llvm.llvm_version_info)), *host()))


@functools.cache
def vector_bytes() -> int:
    """Bytes in a vector register of this machine."""
    features = set(host()[2].split(","))
    if "+avx512f" in features:
        return 64
    return 32 if "+avx" in features else 16


@functools.cache
def vector_registers() -> int:
    """Number of vector registers of this machine."""
    return 16 if host()[0].startswith("x86_64") and vector_bytes() < 64 else 32


def _new_target_machine(jit: bool = False):
    _initialize()
    triple, cpu, features = host()
    return llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=2, jit=jit)


class _Tools(threading.local):
    """What a thread compiles with: LLVM lets threads compile side by side as long as each has its own."""

    def __init__(self):
        self.machine = _new_target_machine()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.loop_interleaving = True
        options.slp_vectorization = options.loop_unrolling = False
        self.builder = llvm.create_pass_builder(self.machine, options)


_tools = functools.cache(_Tools)


def _unlocked(name: str):
    """A function of llvmlite without the lock that makes its callers take turns."""
    function = getattr(ffi.lib, name)
    return getattr(function, "_cfn", function)


def _optimized(text: str, pipeline: str):
    module = llvm.parse_assembly(text, llvm.create_context())
    module.verify()  # LLVM ends the process over a malformed module that it is asked to compile
    builder = _tools().builder
    if pipeline == "loops":
        passes = builder.getModulePassManager()
    else:
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()
    _unlocked("LLVMPY_RunNewModulePassManager")(passes, module, builder)
    return module


def compile_text(text: str, pipeline: str = "loops") -> bytes:
    """Compile a module's text to object code. Threads may call this side by side.

    Raises CompileError, with LLVM's message, where the text is not valid.
    """
    try:
        with _compiles(), ffi.OutputString() as message:
            module = _optimized(text, pipeline)
            buffer = _unlocked("LLVMPY_TargetMachineEmitToMemory")(_tools().machine, module, 1, message)
            if not buffer:
                raise RuntimeError(str(message))
    except RuntimeError as error:
        raise CompileError(f"LLVM could not compile a kernel: {error}") from error
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def assembly(text: str, pipeline: str = "loops") -> str:
    """Return the machine code of a module as readable assembly."""
    return _tools().machine.emit_assembly(_optimized(text, pipeline))


@functools.cache
def _linker():
    return llvm.create_lljit_compiler(_new_target_machine(jit=True))


class Library:
    """Object code loaded into this process: `address[name]` of each export. Dropping it unloads the code."""

    def __init__(self, code: bytes, exports: tuple[str, ...]):
        build = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        for name in exports:
            build.export_symbol(name)
        with _link_lock:
            try:
                self._tracker = build.link(_linker(), f"library{next(_names)}")
            except RuntimeError as error:
                raise CompileError(f"kernel code does not load: {error}") from error
        self.address = {name: self._tracker[name] for name in exports}
