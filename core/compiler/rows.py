"""Kernels of fused groups: maps, and alternating maps and reductions over the same rows.

Three ways to go through the loop nest:

- a map has no reductions: every element is one item, the innermost variable the vectorised loop;
- row by row, when the innermost variable is reduced: each row is passed over once per stage, while it is in cache;
- column by column, when it is not: sums for a block of columns stay in a scratch array while the rows go by.

Where every access steps through the innermost axis element by element, or stays where it is, the loops over that axis
take whole vectors and then single elements: LLVM compiles this in half of the time in which it makes vectors of loops
itself, which is left to it elsewhere.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import emit_llvm
from .expressions import Apply, Const, Expression, Load, Program, Row, Writer, children, walk
from .indices import Affine, NotAffine, SplitNeeded, Var
from .loops import Module, Value, in_register, index
from .native import Kernel, thread_count
from .partition import HEAVY, REDUCTIONS, Group

CHUNK = 16384  # elements of work that are worth handing to another thread
BLOCK = 1024  # columns whose sums are kept at a time
COPIES = 4  # additions side by side: one sum alone would wait for its last addition, or for memory

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
        self._varying: dict[tuple[int, bool], bool] = {}
        self.inner = (self.reduced if self.by_rows else self.kept or [None])[-1]
        self.lanes = self._lanes() if self.inner else 0

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
        if work == 1 and self.lanes:  # the items are elements
            grain = -(-grain // self.lanes) * self.lanes
        pipeline = "loops" if self.inner and not self.lanes else "blocks"
        return Kernel(module.text(), extent, min(grain, max(extent, 1)), memory, pipeline), self.buffers

    def _weight(self, roots: Sequence[Expression] | None = None) -> int:
        """How much longer than a few additions an element takes; of some of what is computed, if given."""
        expressions = walk(self.program.all_roots() if roots is None else roots)
        found = [e.node.op.name in HEAVY for e in expressions if isinstance(e, Apply)]
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

    def _writer(self, lanes: int = 0, ready: dict[int, Value] | None = None) -> Writer:
        writer = Writer(self.b, self._position, self.pointers, self.rows)
        writer.memo.update(ready or {})
        if lanes:
            writer.lanes, writer.vector_var = lanes, self.inner.last
        return writer

    def _store(self, writer: Writer, stores: Sequence[tuple]) -> None:
        # All values first: a buffer that is updated in place is read before it is written.
        values = [writer.value(expression) for _, _, expression in stores]
        for (buffer, offset, _), value in zip(stores, values, strict=True):
            writer.store(value, buffer, self._position(offset))

    # -- the innermost axis ------------------------------------------------------------------------------------------

    def _lanes(self) -> int:
        """How many of its elements make a vector; 0 if they do not lie side by side everywhere."""
        var, expressions = self.inner.last, walk(self.program.all_roots())
        across = self.stores if self.by_rows else (*self.stores, *self.program.row_stores)
        for load in (e for e in expressions if isinstance(e, Load)):
            computed = any(self._varies(child, not self.by_rows) for child in children(load))
            if computed or load.offset.coefficient(var) not in (0, 1):
                return 0
        dtypes = [e.dtype if isinstance(e, Load) else e.node.specs[0].dtype for e in expressions if self._varies(e)]
        lanes = emit_llvm.vector_bytes() // max((in_register(dtype).size for dtype in dtypes), default=4)
        return lanes if self.inner.extent >= lanes and all(at.coefficient(var) == 1 for _, at, _ in across) else 0

    def _varies(self, expression: Expression, rows: bool = False) -> bool:
        """Whether an expression has another value for each element of it; ``rows``: whether values at hand have."""
        key = id(expression), rows
        if key not in self._varying:
            if isinstance(expression, (Const, Row)):
                return rows and isinstance(expression, Row)
            own = isinstance(expression, Load) and expression.offset.coefficient(self.inner.last) != 0
            self._varying[key] = own or any(self._varies(child, rows) for child in children(expression))
        return self._varying[key]

    def _sweep(
        self,
        lo: Value,
        hi: Value,
        roots: Sequence[Expression],
        body: Callable[[Writer, list[Value]], None],
        totals: list[Value] | None = None,
        parallel: bool = True,
        rows: bool = False,
    ) -> None:
        """Loop from lo to hi: body(writer, totals) for whole vectors, then for single elements.

        ``roots`` is what the body computes; what is the same for all elements is computed ahead of the loop. Of each
        reduction there are a total of single elements and, where there are vectors, totals of those.
        """
        b, axis, extent = self.b, self.inner, self.inner.extent
        totals = [] if totals is None else totals
        if not self.lanes:
            with b.loop(lo, hi, carry=totals, parallel=parallel) as (i, inner):
                self._bind(axis, i)
                body(self._writer(), inner)
            totals[:] = inner
            return
        ready = self._ahead(roots, rows)
        copies = self._copies if totals else 1
        own = len(totals) // (1 + copies)  # as many as there are reductions
        for lanes, number in dict.fromkeys(((self.lanes, copies), (self.lanes, 1), (0, 1))):
            step = max(lanes, 1) * number
            if lo.const is not None and hi.const is not None:
                end = b.const(index, lo.const + (hi.const - lo.const) // step * step)
            elif extent % self.lanes == 0:  # and so is the number of elements in a part of it
                end = hi if lanes else lo
            else:
                end = hi - (hi - lo) % step
            if end is lo or (end.const is not None and end.const == lo.const):
                continue
            first = own if lanes else 0
            part = slice(first, first + number * own)
            with b.loop(lo, end, step, carry=totals[part], vectorize=False) as (i, inner):
                for copy in range(number):
                    self._bind(axis, i + copy * lanes)
                    mine = inner[copy * own : (copy + 1) * own]
                    body(self._writer(lanes, ready), mine)
                    inner[copy * own : (copy + 1) * own] = mine
            totals[part] = inner
            lo = end

    @property
    def _copies(self) -> int:
        """How many totals of vectors a reduction has; if it can be, so many that no vector is left over."""
        vectors, most = self.inner.extent // self.lanes, max(1, COPIES // self._weight())
        return next((n for n in range(most, 1, -1) if vectors % n == 0), most if vectors >= 2 * most else 1)

    def _ahead(self, roots: Sequence[Expression], rows: bool = False) -> dict[int, Value]:
        """Compute what is the same for all elements of the innermost axis."""
        writer, ready, seen = self._writer(), {}, set()
        stack = [(root, False) for root in roots]
        while stack:
            expression, is_index = stack.pop()
            if (id(expression), is_index) in seen:
                continue
            seen.add((id(expression), is_index))
            if self._varies(expression, rows):
                stack.extend((child, isinstance(expression, Load)) for child in children(expression))
            elif not isinstance(expression, Const):
                value = ready[id(expression)] = writer.value(expression)
                if not is_index:
                    self.b.splat(value, self.lanes)  # known from here on
        return ready

    # -- the three ways ----------------------------------------------------------------------------------------------

    def _map(self, lo: Value, hi: Value) -> tuple[int, int, int]:
        b, axes = self.b, self.kept
        roots = [expression for _, _, expression in self.stores]

        def body(writer: Writer, _: list[Value]) -> None:
            self._store(writer, self.stores)

        if not axes:
            self._store(self._writer(), self.stores)
            return 1, 1, 0
        *outer, inner = axes
        if not outer:
            self._sweep(lo, hi, roots, body)
            return inner.extent, 1, 0
        with b.loop(lo, hi, vectorize=False) as item:
            self._unpack(item, outer)
            self._sweep(b.const(index, 0), b.const(index, inner.extent), roots, body)
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
        b, roots = self.b, self.program.roots(stage)
        reductions = self.program.reductions.get(stage, [])
        stores = self.program.stores.get(stage, [])
        used = {id(e) for e in walk(roots)}
        here = [key for key in saved if key in used]  # in their order, so that the same kernel has the same text
        ready, fresh = ([key for key in here if (key in filled) is known] for known in (True, False))
        if not reductions and not stores:
            return

        def body(writer: Writer, totals: list[Value]) -> None:
            place = self._row_position()
            for key in ready:
                type_ = in_register(self._expression(stage, key).node.specs[0].dtype).vector(writer.lanes)
                writer.memo[key] = b.load(type_, saved[key], place)
            self._store(writer, stores)
            for k, (node, operand) in enumerate(reductions):
                totals[k] = self._combine(node, totals[k], b.splat(writer.value(operand), writer.lanes))
            for key in fresh:
                b.store(b.splat(writer.value(self._expression(stage, key)), writer.lanes), saved[key], place)

        totals = [self._start(node) for node, _ in reductions]
        if self.lanes:
            totals += [b.splat(start, self.lanes) for _ in range(self._copies) for start in totals]
        with self._outer(self.reduced[:-1], totals) as state:
            if self.reduced:
                ends = b.const(index, 0), b.const(index, self.inner.extent)
                self._sweep(*ends, roots, body, state, parallel=not reductions)
            else:
                body(self._writer(), state)
        filled.update(fresh)
        for k, (node, _) in enumerate(reductions):
            total, *vectors = totals[k :: len(reductions)]
            for vector in vectors[1:]:
                vectors[0] = self._combine(node, vectors[0], vector)
            self.rows[node] = self._combine(node, total, self._across(node, vectors[0])) if vectors else total

    def _across(self, node: Any, vector: Value) -> Value:
        """Combine the lanes of a vector."""
        b, lanes = self.b, vector.type.lanes
        while lanes > 1:
            lanes //= 2
            halves = (b.shuffle(vector, vector, range(i, i + lanes)) for i in (0, lanes))
            vector = self._combine(node, *halves)
        return b.extract(vector, 0)

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
        vectors = self._vectors()
        block = vectors * self.lanes or min(BLOCK, max(32, -(-inner.extent // 8 // 32) * 32))
        blocks, memory = -(-inner.extent // block), 0
        with b.loop(lo, hi, vectorize=False) as item:
            first = b.const(index, 0) if blocks == 1 else item % blocks * block
            self._unpack(item if blocks == 1 else item // blocks, outer)
            if vectors:
                self._columns_in_registers(first, vectors)
            else:
                end = b.const(index, inner.extent) if blocks == 1 else b.minimum(first + block, inner.extent)
                memory = self._columns_in_memory(first, end, block)
        items = math.prod(a.extent for a in outer) * blocks
        return items, block * math.prod(a.extent for a in self.reduced), memory

    def _vectors(self) -> int:
        """How many vectors of sums are kept in registers, those of a block of columns; 0: they are kept in memory."""
        if not self.lanes or self.inner.extent % self.lanes:
            return 0
        whole, others = self.inner.extent // self.lanes, math.prod(a.extent for a in self.kept[:-1])
        each = len(self.program.reductions[0]) * self._weight(self.program.roots(0))
        most = emit_llvm.vector_registers() * 3 // 4 // each
        fitting = [n for n in range(1, most + 1) if whole % n == 0]
        # Many blocks for many threads, but each of whole cache lines.
        best = max([n for n in fitting if n > 1 and others * whole // n >= 2 * thread_count()] or fitting or [0])
        return best if best >= min(4, whole) else 0

    def _columns_in_registers(self, first: Value, vectors: int) -> None:
        b, program, reductions = self.b, self.program, self.program.reductions[0]
        totals = [b.splat(self._start(node), self.lanes) for _ in range(vectors) for node, _ in reductions]
        with self._outer(self.reduced, totals) as state:
            ready = self._ahead(program.roots(0))
            for vector in range(vectors):
                self._bind(self.inner, first + vector * self.lanes)
                writer = self._writer(self.lanes, ready)
                self._store(writer, self.stores)
                for k, (node, operand) in enumerate(reductions, vector * len(reductions)):
                    state[k] = self._combine(node, state[k], b.splat(writer.value(operand), self.lanes))
        ready = self._ahead([expression for _, _, expression in program.row_stores], rows=True)
        for vector in range(vectors):
            self._bind(self.inner, first + vector * self.lanes)
            self.rows.update((node, totals.pop(0)) for node, _ in reductions)
            self._store(self._writer(self.lanes, ready), program.row_stores)

    def _columns_in_memory(self, first: Value, end: Value, block: int) -> int:
        """Write it with sums of ``block`` columns in scratch memory, of which the size is returned."""
        b, program = self.b, self.program
        reductions = program.reductions[0]
        sums, memory = [], 0
        for node, _ in reductions:
            type_ = in_register(node.specs[0].dtype)
            sums.append((type_, b.offset(type_, self.scratch, memory // type_.size)))
            memory += -(-block * type_.size // 64) * 64

        def column() -> Value:
            return self.values[self.inner.last] - first

        def clear(writer: Writer, _: list[Value]) -> None:
            for (node, _), (type_, place) in zip(reductions, sums, strict=True):
                b.store(b.const(type_.vector(writer.lanes), _START[node.op.name](type_)), place, column())

        def accumulate(writer: Writer, _: list[Value]) -> None:
            self._store(writer, self.stores)
            values = [b.splat(writer.value(operand), writer.lanes) for _, operand in reductions]
            for (node, _), (type_, place), value in zip(reductions, sums, values, strict=True):
                total = b.load(type_.vector(writer.lanes), place, column())
                b.store(self._combine(node, total, value), place, column())

        def finish(writer: Writer, _: list[Value]) -> None:
            for (node, _), (type_, place) in zip(reductions, sums, strict=True):
                self.rows[node] = b.load(type_.vector(writer.lanes), place, column())
            self._store(writer, program.row_stores)

        self._sweep(first, end, [], clear)
        with self._outer(self.reduced, []):
            self._sweep(first, end, program.roots(0), accumulate)
        self._sweep(first, end, [expression for _, _, expression in program.row_stores], finish, rows=True)
        return memory

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
    def _outer(self, axes: list[_Axis], carry: list[Value]) -> Iterator[list[Value]]:
        """Loops over ``axes`` that carry values round; they end up in ``carry``."""
        if not axes:
            yield carry
            return
        axis, *rest = axes
        with self.b.loop(0, axis.extent, carry=carry, vectorize=False) as (i, state):
            self._bind(axis, i)
            with self._outer(rest, state) as inner:
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
