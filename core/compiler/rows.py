"""Kernels of fused groups: maps, and alternating maps and reductions over the same rows.

Three ways to go through the loop nest:

- a map has no reductions: every element is one item, the innermost variable the vectorised loop;
- row by row, when the innermost variable is reduced: each row is passed over once per stage, while it is in cache;
- column by column, when it is not: sums for a block of columns stay in a scratch array while the rows go by.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .expressions import Apply, Expression, Load, Program, Writer, walk
from .indices import Affine, NotAffine, SplitNeeded, Var
from .loops import Module, Value, in_register, index
from .native import Kernel
from .partition import HEAVY, REDUCTIONS, Group

CHUNK = 16384  # elements of work that are worth handing to another thread
BLOCK = 1024  # columns whose sums are kept at a time

_START = {
    "reduce_sum": lambda t: 0,
    "reduce_prod": lambda t: 1,
    "reduce_max": lambda t: -math.inf if t.kind == "f" else -(1 << (t.bits - 1)) if t.kind == "i" else 0,
    "reduce_min": lambda t: math.inf if t.kind == "f" else (1 << (t.bits - (t.kind == "i"))) - 1,
}


def lower(group: Group, stored: Callable, outputs: dict) -> tuple[Kernel, list]:
    """Write the kernel of a group; returns it with its buffers in order. ``outputs`` maps nodes to their buffers."""
    factors = list(group.factors)
    reduced = list(group.reduced or [False] * len(factors))
    variables = [Var(n) for n in factors]
    while True:
        kept = [v for v, r in zip(variables, reduced, strict=True) if not r]
        try:
            program = Program(group, variables, kept, stored, outputs)
            break
        except SplitNeeded as split:
            i = variables.index(split.var)
            variables[i : i + 1] = [Var(split.var.extent // split.inner), Var(split.inner)]
            reduced[i : i + 1] = [reduced[i]] * 2
    return _Kernel(program, variables, reduced).write()


class _Axis:
    """Neighbouring loop variables that every access treats as one."""

    def __init__(self, variables: list[Var]):
        self.variables = variables
        self.extent = math.prod(v.extent for v in variables)
        self.last = variables[-1]


class _Kernel:
    """Writes one kernel."""

    def __init__(self, program: Program, variables: list[Var], reduced: list[bool]):
        self.program = program
        loads = [e for e in walk(program.all_roots()) if isinstance(e, Load)]
        self.stores = [s for stage in program.stores.values() for s in stage]
        self.buffers = list(
            dict.fromkeys([e.buffer for e in loads] + [s[0] for s in (*self.stores, *program.row_stores)])
        )
        accesses = [e.offset for e in loads] + [s[1] for s in (*self.stores, *program.row_stores)]
        pairs = [(v, r) for v, r in zip(variables, reduced, strict=True) if v.extent != 1]
        self.by_rows = bool(pairs) and pairs[-1][1]
        self.kept = _coalesce([v for v, r in pairs if not r], accesses)
        self.reduced = _coalesce([v for v, r in pairs if r], accesses)
        self.values: dict[Var, Value] = {}
        self.rows: dict[Any, Value] = {}

    def write(self) -> tuple[Kernel, list]:
        """Return the kernel and its buffers."""
        module = Module()
        with module.kernel("kernel", len(self.buffers)) as (b, pointers, lo, hi, scratch):
            self.b = b
            self.pointers = dict(zip(self.buffers, pointers, strict=True))
            self.scratch = scratch
            if not any(self.program.reductions.values()):
                extent, work, memory = self._map(lo, hi)
            elif self.by_rows or not self.kept:
                extent, work, memory = self._by_rows(lo, hi)
            else:
                extent, work, memory = self._by_columns(lo, hi)
        grain = max(1, CHUNK // max(1, work * self._weight()))
        return Kernel(module.text(), extent, min(grain, max(extent, 1)), memory), self.buffers

    def _weight(self) -> int:
        """How much longer than a few additions an element takes."""
        found = [e.node.op.name in HEAVY for e in walk(self.program.all_roots()) if isinstance(e, Apply)]
        return 1 + (len(found) + 10 * sum(found)) // 12

    # -- positions ---------------------------------------------------------------------------------------------------

    def _bind(self, axis: _Axis, value: Value) -> None:
        self.values[axis.last] = value

    def _unpack(self, item: Value, axes: Sequence[_Axis]) -> None:
        """Bind axes to the digits of an item's number; the last runs fastest."""
        for axis in reversed(axes[1:]):
            self._bind(axis, item % axis.extent)
            item = item // axis.extent
        if axes:
            self._bind(axes[0], item)

    def _position(self, affine: Affine) -> Value:
        total = self.b.const(index, affine.const)
        for var, coefficient in affine.terms:
            if var in self.values:  # the last of its axis; the others are part of it
                total = total + self.values[var] * coefficient
        return total

    def _writer(self) -> Writer:
        return Writer(self.b, self._position, self.pointers, self.rows)

    def _store(self, writer: Writer, stores: Sequence[tuple]) -> None:
        # All values first: a buffer that is updated in place is read before it is written.
        values = [writer.value(expression) for _, _, expression in stores]
        for (buffer, offset, _), value in zip(stores, values, strict=True):
            writer.store(value, buffer, self._position(offset))

    # -- the three ways ----------------------------------------------------------------------------------------------

    def _map(self, lo: Value, hi: Value) -> tuple[int, int, int]:
        b, axes = self.b, self.kept
        if len(axes) <= 1:
            with b.loop(lo, hi, parallel=True) as i:
                if axes:
                    self._bind(axes[0], i)
                self._store(self._writer(), self.stores)
            return (axes[0].extent if axes else 1), 1, 0
        *outer, inner = axes
        with b.loop(lo, hi, vectorize=False) as item:
            self._unpack(item, outer)
            with b.loop(0, inner.extent, parallel=True) as i:
                self._bind(inner, i)
                self._store(self._writer(), self.stores)
        return math.prod(a.extent for a in outer), inner.extent, 0

    def _by_rows(self, lo: Value, hi: Value) -> tuple[int, int, int]:
        b, program = self.b, self.program
        length = math.prod(a.extent for a in self.reduced)
        saved, memory = self._slots(program.repeated(), length)
        filled: set[int] = set()
        with b.loop(lo, hi, vectorize=False) as item:
            self._unpack(item, self.kept)
            for stage in range(program.last + 1):
                self._row_stage(stage, saved, filled)
            self._store(self._writer(), program.row_stores)
        return math.prod(a.extent for a in self.kept), length * (program.last + 1), memory

    def _slots(self, repeated: list[Apply], length: int) -> tuple[dict[int, Value], int]:
        """Scratch memory for a row of each value that several stages need."""
        slots, used = {}, 0
        for expression in repeated:
            type_ = in_register(expression.node.specs[0].dtype)
            slots[id(expression)] = self.b.offset(type_, self.scratch, used // type_.size)
            used += -(-length * type_.size // 64) * 64
        return slots, used

    def _row_stage(self, stage: int, saved: dict[int, Value], filled: set[int]) -> None:
        b = self.b
        reductions = self.program.reductions.get(stage, [])
        carry = [self._start(node) for node, _ in reductions]
        stores = self.program.stores.get(stage, [])
        used = {id(e) for e in walk(self.program.roots(stage))}
        here = [key for key in saved if key in used]  # in their order, so that the same kernel has the same text
        ready, fresh = ([key for key in here if (key in filled) is known] for known in (True, False))
        if not reductions and not stores:
            return
        with self._nest(self.reduced, carry, parallel=not reductions) as state:
            writer = self._writer()
            place = self._row_position()
            for key in ready:
                expression = self._expression(stage, key)
                type_ = in_register(expression.node.specs[0].dtype)
                writer.memo[key] = b.load(type_, saved[key], place)
            self._store(writer, stores)
            for k, (node, operand) in enumerate(reductions):
                state[k] = self._combine(node, state[k], writer.value(operand))
            for key in fresh:
                b.store(writer.value(self._expression(stage, key)), saved[key], place)
        filled.update(fresh)
        for (node, _), total in zip(reductions, carry, strict=True):
            self.rows[node] = total

    def _expression(self, stage: int, key: int) -> Expression:
        return next(e for e in walk(self.program.roots(stage)) if id(e) == key)

    def _row_position(self) -> Value:
        position = self.b.const(index, 0)
        for axis in self.reduced:
            position = position * axis.extent + self.values[axis.last]
        return position

    def _by_columns(self, lo: Value, hi: Value) -> tuple[int, int, int]:
        b, program = self.b, self.program
        if program.last > 0:
            raise NotAffine
        *outer, inner = self.kept
        block = min(BLOCK, max(32, -(-inner.extent // 8 // 32) * 32))
        blocks = -(-inner.extent // block)
        reductions = program.reductions[0]
        sums, memory = [], 0
        for node, _ in reductions:
            type_ = in_register(node.specs[0].dtype)
            sums.append((type_, b.offset(type_, self.scratch, memory // type_.size)))
            memory += -(-block * type_.size // 64) * 64
        with b.loop(lo, hi, vectorize=False) as item:
            first = b.const(index, 0) if blocks == 1 else item % blocks * block
            self._unpack(item if blocks == 1 else item // blocks, outer)
            count = b.const(index, inner.extent) if blocks == 1 else b.minimum(first + block, inner.extent) - first

            def columns(body: Callable[[Value], None]) -> None:
                with b.loop(0, count, parallel=True) as c:
                    self._bind(inner, c + first)
                    body(c)

            def clear(c: Value) -> None:
                for (node, _), (type_, place) in zip(reductions, sums, strict=True):
                    b.store(b.const(type_, _START[node.op.name](type_)), place, c)

            def accumulate(c: Value) -> None:
                writer = self._writer()
                self._store(writer, self.stores)
                values = [writer.value(operand) for _, operand in reductions]
                for (node, _), (type_, place), value in zip(reductions, sums, values, strict=True):
                    b.store(self._combine(node, b.load(type_, place, c), value), place, c)

            def finish(c: Value) -> None:
                for (node, _), (type_, place) in zip(reductions, sums, strict=True):
                    self.rows[node] = b.load(type_, place, c)
                self._store(self._writer(), program.row_stores)

            columns(clear)
            with self._nest(self.reduced, [], parallel=False):
                columns(accumulate)
            columns(finish)
        items = math.prod(a.extent for a in outer) * blocks
        return items, block * math.prod(a.extent for a in self.reduced), memory

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _start(self, node: Any) -> Value:
        type_ = in_register(node.specs[0].dtype)
        return self.b.const(type_, _START[node.op.name](type_))

    def _combine(self, node: Any, total: Value, value: Value) -> Value:
        how = REDUCTIONS[node.op.name]
        if how in ("maximum", "minimum"):
            # The intrinsic, unlike compare and select, is known to the vectoriser as a reduction that keeps NaN.
            if total.type.kind == "f":
                return self.b._intrinsic(how, total, value)
            return getattr(self.b, how)(total, value)
        return self.b.binary(how, total, value)

    @contextlib.contextmanager
    def _nest(self, axes: list[_Axis], carry: list[Value], parallel: bool) -> Iterator[list[Value]]:
        """Loops over ``axes``, the last innermost, that carry values round; they end up in ``carry``."""
        if not axes:
            state = list(carry)
            yield state
            carry[:] = state
            return
        axis, *rest = axes
        innermost = not rest
        with self.b.loop(0, axis.extent, carry=carry, parallel=parallel and innermost, vectorize=innermost) as (
            i,
            state,
        ):
            self._bind(axis, i)
            with self._nest(rest, state, parallel) as inner:
                yield inner
        carry[:] = state


def _coalesce(variables: list[Var], accesses: list[Affine]) -> list[_Axis]:
    """Join neighbouring variables that every access steps through as one."""
    axes: list[list[Var]] = []
    for var in variables:
        if axes:
            before = axes[-1][-1]
            if all(a.coefficient(before) == a.coefficient(var) * var.extent for a in accesses):
                axes[-1].append(var)
                continue
        axes.append([var])
    return [_Axis(list(group)) for group in axes]
