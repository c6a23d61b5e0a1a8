"""Compiled graphs at work: buffers bound to arrays, and native programs run on them.

What is compiled is a list of segments: stretches of kernel launches, each a native program, and calls of numpy between
them. Values live in buffers: those of the caller (inputs, variables), constants, results, and temporary ones, which
share an arena.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..variable import Variable, changes, next_stamp
from . import native

ALIGN = 64


class Buffer:
    """Memory for one value. ``kind``: "input", "variable", "constant", "temporary", "kept", "result" or "packed".

    A ``fixed`` one is the same in all iterations of the loop around, or in all calls until a variable is assigned; then
    ``packing`` may say how a packed copy of it is made before: (the buffer, kernel, byte offset).
    """

    __slots__ = (*("array", "dtype", "first", "fixed", "kind", "last", "offset", "owner", "packing", "shape", "size"),)

    def __init__(self, kind: str, shape: tuple, dtype: np.dtype):
        self.kind = kind
        self.shape = shape
        self.dtype = dtype
        self.size = math.prod(shape) * dtype.itemsize
        self.array: np.ndarray | None = None
        self.owner: Any = None
        self.fixed = False
        self.packing: tuple | None = None
        self.first = self.last = -1
        self.offset = 0

    def packed_by(self, kernel: Any, size: int, offset: int) -> Buffer:
        """A copy of this buffer in another order, which ``kernel`` makes of what lies at ``offset``."""
        made = Buffer("packed", (size,), np.dtype("uint8"))
        made.packing = (self, kernel, offset)
        return made

    def keep(self) -> None:
        """Give it memory of its own, which outlives a call."""
        self.kind = "kept"
        self.place(np.empty(self.size + ALIGN, np.uint8))

    def place(self, memory: np.ndarray) -> None:
        """Let it lie in ``memory``, at its offset from the first aligned byte."""
        start = -memory.ctypes.data % ALIGN + self.offset
        self.array = memory[start : start + self.size].view(self.dtype).reshape(self.shape)

    @property
    def room(self) -> int:
        """Bytes that it takes in the arena."""
        return -(-max(self.size, 1) // ALIGN) * ALIGN


class Segment(NamedTuple):
    """Kernels that are launched in order, ``iterations`` times.

    ``places`` has for every argument of every kernel the buffer, the bytes from its beginning, and by how many bytes
    the address moves on with each iteration. ``steps`` tells of each kernel what it computes, where that is known.
    Neighbours of one ``team`` (not 0) run side by side, on a thread each.
    """

    kernels: list[native.Kernel]
    places: list[list[tuple[Buffer, int, int]]]
    iterations: int = 1
    steps: Sequence[Any] = ()
    team: int = 0


_living: weakref.WeakSet[Executable] = weakref.WeakSet()


def _unlock() -> None:
    """After a fork: a thread of the parent that was at work here is not there in the child."""
    for executable in _living:
        executable._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


class Executable:
    """A graph compiled for this machine: :meth:`run` computes it on arrays and on the storage of its variables.

    ``results`` are (buffer, shape) of what it returns, ``copies`` (buffer, variable) of new values that are not
    computed in place; ``written`` are the variables that change. ``ahead`` is computed when one of the variables
    ``settled`` has been assigned. ``loader`` may have begun to load the kernels.
    """

    def __init__(
        self,
        inputs: list[Buffer],
        variables: dict[Variable, Buffer],
        results: list[tuple[Buffer, tuple]],
        copies: list[tuple[Buffer, Variable]],
        written: set[Variable],
        segments: list[Segment | Callable],
        ahead: list[Segment],
        settled: list[Variable],
        temporaries: Iterable[Buffer],
        arena_bytes: int,
        loader: native.Loader | None = None,
    ):
        self.inputs, self.variables, self.results, self.copies = inputs, variables, results, copies
        self.written, self.settled, self.segments, self.ahead = written, settled, segments, ahead
        self.arena_bytes = arena_bytes
        memory = np.empty(arena_bytes + ALIGN, np.uint8)
        for buffer in temporaries:
            buffer.place(memory)
        self._slots: dict[Buffer, list[tuple[np.ndarray, int, int]]] = {}
        self.programs: list[tuple[native.Program, Sequence[Any]]] = []
        every = [segment for segment in (*ahead, *segments) if isinstance(segment, Segment)]
        loaded = iter(native.load([kernel for segment in every for kernel in segment.kernels], loader))
        self._prologue = self._assembled(ahead, loaded)
        self.programs.clear()  # of the calls alone
        self._parts = self._assembled(segments, loaded)
        self._seen = -1
        self._stamp = 0  # of the settled variables when the prologue was computed
        self._lock = threading.Lock()
        _living.add(self)

    def _assembled(self, segments: Sequence[Segment | Callable], loaded: Iterator) -> list:
        """What is run, in order: programs, teams of them, and calls."""
        parts: list = []
        for team, members in itertools.groupby(segments, lambda segment: getattr(segment, "team", 0)):
            made = [
                self._program(s, [next(loaded) for _ in s.kernels]) if isinstance(s, Segment) else s for s in members
            ]
            parts.extend([native.Team(made)] if team else made)
        return parts

    def _program(self, segment: Segment, kernels: list[native.Loaded]) -> native.Program:
        launches = [
            native.Launch(kernel, [offset + (0 if b.array is None else b.array.ctypes.data) for b, offset, _ in row])
            for kernel, row in zip(kernels, segment.places, strict=True)
        ]
        strides = [[stride for _, _, stride in row] for row in segment.places] if segment.iterations > 1 else None
        program = native.Program(launches, segment.iterations, strides)
        for row, table in zip(segment.places, program.addresses, strict=True):
            for j, (buffer, offset, _) in enumerate(row):
                if buffer.kind in ("input", "variable"):
                    self._slots.setdefault(buffer, []).append((table, j, offset))
        self.programs.append((program, segment.steps))
        return program

    def _bind(self, buffer: Buffer, array: np.ndarray) -> None:
        buffer.array = array
        address = array.ctypes.data
        for table, j, offset in self._slots.get(buffer, ()):
            table[j] = address + offset

    def _bind_variables(self) -> None:
        for variable, buffer in self.variables.items():
            array = variable.storage(variable in self.written)
            if buffer.array is not array:
                self._bind(buffer, array)
        self._seen = changes.count

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Compute the graph; returns the leaves of its result as new arrays."""
        with self._lock:  # the arena and the addresses are this call's alone
            return self._run(arrays)

    def _run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        for buffer, array in zip(self.inputs, arrays, strict=True):
            if not array.flags.c_contiguous:
                array = np.ascontiguousarray(array)
            self._bind(buffer, array)
        if self._seen != changes.count:
            self._bind_variables()
        pool = native.pool()
        if self._prologue:
            latest = max((variable.stamp for variable in self.settled), default=1)
            if latest > self._stamp:
                for program in self._prologue:
                    pool.run(program)
                self._stamp = latest
        for part in self._parts:
            if callable(part):
                part()
            else:
                pool.run(part)
        results = [buffer.array.reshape(shape).copy() for buffer, shape in self.results]
        if self.copies:
            values = [buffer.array.copy() if buffer.kind == "variable" else buffer.array for buffer, _ in self.copies]
            for value, (_, variable) in zip(values, self.copies, strict=True):
                variable.storage(True)[...] = value.reshape(variable.shape)
        if self.written:
            stamp = next_stamp()
            for variable in self.written:
                variable.stamp = stamp
        return results
