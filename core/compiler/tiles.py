"""The micro-kernel of all contractions, and the loops around it.

A tile of the result, some rows by a few vectors, stays in registers while the micro-kernel walks over the
summed index: one element of each row of A, spread over a vector, times the vectors of one row of B. B is
packed into panels that fit the first-level cache. A is read where it lies: a row is an address and a list of
runs in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ..config import threads as thread_count
from . import emit_llvm
from .loops import Builder, Module, Type, Value, i32, index
from .native import Kernel

PANEL_DEPTH = 320  # most rows of a packed panel: 320 x 16 floats leave a third of a 32 KB first-level cache
PANEL_GROUP = 4  # panels packed at a time
BLOCK_BYTES = 192 << 10  # what a task keeps of A, and of unfinished sums, in the second-level cache
LEAST_SPLITS = 8  # tasks that share out a sum: fixed, as the order of summation depends on it


@dataclasses.dataclass(frozen=True)
class Step:
    """One kernel and the names of its buffers: those of the contraction, "work", and "extra0", "extra1", …"""

    kernel: Kernel
    buffers: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Contraction:
    """Kernels to run in order, and the bytes of the buffer "work" that they share.

    ``packing``: the second operand has to be what this kernel writes, and the bytes of that.
    """

    steps: tuple[Step, ...]
    work: int = 0
    packing: tuple[Kernel, int] | None = None


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an epilogue stands: element (row, column…column + lanes) of matrix `batch` of the result.

    For a convolution a row is a pixel, (image * height + y) * width + x, and a column is a channel.
    """

    batch: Value
    row: Value
    column: Value


Epilogue = Callable[
    [Builder, Value, Place, list[Value]], Value | None
]  # (b, vector, place, extra buffers) -> vector to store; None where it stored everything itself


@dataclasses.dataclass(frozen=True)
class Tile:
    """What the micro-kernel holds in registers: `rows` x `vectors` vectors of `lanes` elements."""

    type: Type
    lanes: int
    rows: int
    vectors: int
    row_step: int = 0  # elements from one row of B to the next; 0 for a packed panel
    columns: int = 0  # columns of an unpacked B that may be read; 0 for all

    @property
    def step(self) -> int:
        return self.row_step or self.width

    @property
    def width(self) -> int:
        return self.lanes * self.vectors

    @property
    def vector(self) -> Type:
        return self.type.vector(self.lanes)

    def narrowed(self, width: int) -> Tile:
        """The tile for a last panel of `width` columns."""
        return dataclasses.replace(self, vectors=ceil_div(width, self.lanes))

    def unpacked(self, row_step: int, columns: int) -> Tile:
        """The tile that reads `columns` columns of B where they lie."""
        return dataclasses.replace(self, row_step=row_step, columns=columns)

    def load(self, b: Builder, source: Value, at, v: int, columns: int) -> Value:
        """Vector `v` of a row of B that begins at element `at`; past `columns` its lanes are arbitrary."""
        part = min(self.lanes, columns - v * self.lanes)
        value = b.load(self.type.vector(part), source, at + v * self.lanes)
        return value if part == self.lanes else b.shuffle(value, value, [min(i, part - 1) for i in range(self.lanes)])


def choose_tile(type_: Type, m: int, n: int) -> Tile:
    """Pick the register block that wastes least on an m x n result, by counting multiply-adds and loads."""
    lanes = emit_llvm.vector_bytes() // type_.size
    registers = emit_llvm.vector_registers()

    def cycles(rows: int, vectors: int) -> float:
        return max(rows * vectors / 2 + 0.1, 4.6, (rows + vectors) * 0.55)  # 2 of each a cycle; sums take over 4

    def cost(rows: int, vectors: int) -> float:
        full, tail = divmod(n, lanes * vectors)
        across = full * cycles(rows, vectors) + (cycles(rows, ceil_div(tail, lanes)) if tail else 0)
        return ceil_div(m, rows) * across * (1.02 if full and tail else 1.0)  # a second panel shape is more code

    shapes = [(r, v) for v in (2, 3, 1, 4) for r in range(registers, 0, -1) if r * v + v + 1 <= registers]
    shapes.append((1, 8))  # the vectors of B need no registers where each is used once
    rows, vectors = min(shapes, key=lambda shape: cost(*shape))
    return Tile(type_, lanes, rows, vectors)


# -- the micro-kernel ----------------------------------------------------------------------------------------


def _multiply_add(b: Builder, tile: Tile, sums: list[Value], rows: list[Value], at: Value, panel: Value, k) -> None:
    """sums += (element `at` of each row) x (row `k` of the panel)."""
    columns = [tile.load(b, panel, k, v, tile.columns or tile.width) for v in range(tile.vectors)]
    for r, row in enumerate(rows):
        element = b.splat(b.load(tile.type, row, at), tile.lanes)
        for v, column in enumerate(columns):
            sums[r * tile.vectors + v] = b.fma(element, column, sums[r * tile.vectors + v])


def _run(b: Builder, tile: Tile, state: list[Value], rows: list[Value], length, stride: int) -> None:
    """Walk `length` elements, `stride` apart, of every row; `state` is the sums and the panel's address."""
    unroll, longest = 4, 16

    def steps(sums: list[Value], start, count: int) -> None:
        for u in range(count):
            _multiply_add(b, tile, sums, rows, start + u * stride, sums[-1], u * tile.step)
        sums[-1] = b.offset(tile.type, sums[-1], count * tile.step)

    def walk(lo, hi, count: int) -> None:
        with b.loop(lo, hi, count * stride, carry=state, vectorize=False) as (k, inner):
            steps(inner, k, count)
        state[:] = inner

    if isinstance(length, Value) and length.const is not None:
        length = length.const
    if isinstance(length, Value):
        whole = length - length % unroll
        walk(0, whole * stride, unroll)
        walk(whole * stride, length * stride, 1)
        return
    whole = length // unroll * unroll if length > longest else 0
    if whole:
        walk(0, whole * stride, unroll)
    if length > whole:
        steps(state, b.const(index, whole * stride), length - whole)


@dataclasses.dataclass
class Runs:
    """The stretches of A that one block of the summed index covers, in a table of (offset, length) pairs."""

    table: Value
    lo: Value
    hi: Value
    stride: int = 1
    length: int = 0  # of every run, where they are all of the same


def _accumulate(b: Builder, tile: Tile, sums: list[Value], rows: list[Value], panel: Value, runs) -> list[Value]:
    """Add to the sums; `runs` is a length with its stride, a list of (offset, length), or `Runs`."""
    rows, state = [b.opaque(row) for row in rows], [*sums, b.opaque(panel)]
    if isinstance(runs, Runs):
        with b.loop(runs.lo, runs.hi, carry=state, vectorize=False) as (s, inner):
            offset = b.cast(b.load(i32, runs.table, s * 2), index)
            length = runs.length or b.cast(b.load(i32, runs.table, s * 2 + 1), index)
            _run(b, tile, inner, [b.offset(tile.type, row, offset) for row in rows], length, runs.stride)
        state = inner
    elif isinstance(runs, list):
        for offset, length in runs:
            _run(b, tile, state, [b.offset(tile.type, row, offset) for row in rows], length, 1)
    else:
        _run(b, tile, state, rows, *runs)
    return state[:-1]


def _instructions(b: Builder, write: Callable[[], None]) -> int:
    """Count the instructions that `write` would emit."""
    saved = b.lines, b._block, b._known
    b.lines, b._known = [], dict(b._known)
    write()
    count = len(b.lines)
    b.lines, b._block, b._known = saved
    return count


def _write_rows(b: Builder, tile: Tile, source: Value, first, count, finish) -> None:
    """Hand rows first..count, which lie one after the other at `source`, to `finish(value, row, vector)`."""
    with b.loop(first, count, vectorize=False) as row:
        for v in range(tile.vectors):
            finish(b.load(tile.vector, source, (row - first) * tile.width + v * tile.lanes), row, v)


def each_tile(
    b: Builder, tile: Tile, count: Value, row_address, panel: Value, runs, sums_at: Value, finish=None
) -> None:
    """Go down one panel: every tile of the `count` rows.

    Without `finish` the tiles' sums are taken up from `sums_at` and put back there. With it they start at
    zero and go to `finish(value, row, vector)`; `sums_at` is then room for one tile. Rows past the last are
    computed from the last one and thrown away.
    """
    cells = range(tile.rows * tile.vectors)
    light = finish and _instructions(b, lambda: finish(b.const(tile.vector, 0), count, 0)) <= 16
    exact = count.const is not None and count.const % tile.rows == 0
    with b.loop(0, count, tile.rows, vectorize=False) as first:
        rows = [row_address(first + r if exact else b.minimum(first + r, count - 1)) for r in range(tile.rows)]
        if finish:
            home, sums = sums_at, [b.const(tile.vector, 0) for _ in cells]
        else:
            home = b.offset(tile.type, sums_at, first * tile.width)
            sums = [b.load(tile.vector, home, cell * tile.lanes) for cell in cells]
        sums = _accumulate(b, tile, sums, rows, panel, runs)

        def keep(sums=sums, home=home) -> None:
            for cell in cells:
                b.store(sums[cell], home, cell * tile.lanes)

        def end() -> None:
            for cell in cells:
                finish(sums[cell], first + cell // tile.vectors, cell % tile.vectors)

        if not finish:
            keep()
        elif not light:
            keep()
            last = first + tile.rows
            _write_rows(b, tile, home, first, last if exact else b.minimum(last, count), finish)
        elif exact:
            end()
        else:
            with b.if_(first + tile.rows <= count) as whole:
                end()
            with whole.otherwise():
                keep()
                _write_rows(b, tile, home, first, count, finish)


# -- packing -------------------------------------------------------------------------------------------------


def transpose(b: Builder, rows: list[Value]) -> list[Value]:
    """Transpose a square of vectors in registers."""
    lanes, rows = len(rows), [*rows]
    half = lanes // 2
    while half:
        upper = [lane if not lane & half else lanes + (lane ^ half) for lane in range(lanes)]
        lower = [lane | half if not lane & half else lanes + lane for lane in range(lanes)]
        for i in range(lanes):
            if not i & half:
                x, y = rows[i], rows[i | half]
                rows[i], rows[i | half] = b.shuffle(x, y, upper), b.shuffle(x, y, lower)
        half //= 2
    return rows


def pack(
    b: Builder,
    tile: Tile,
    width: int,
    target: tuple[Value, int, Value],
    source: Value,
    count,
    strides: Sequence[int],
) -> None:
    """Copy panels of B: panel[k][j] = source[k * strides[0] + j * strides[1]] for k < count, j < width.

    `target` is (address, elements from panel to panel, number of panels); columns past `width` are arbitrary.
    """
    panel, pitch, panels = target
    if strides[1] == 1:
        with (
            b.loop(0, count, vectorize=False) as k,
            b.loop(0, panels, vectorize=False) as p,
        ):
            row = b.offset(tile.type, source, k * strides[0] + p * tile.width)
            b.prefetch(b.offset(tile.type, row, 8 * strides[0]))
            to = b.offset(tile.type, panel, p * pitch + k * tile.width)
            for v in range(tile.vectors):
                b.store(tile.load(b, row, 0, v, width), to, v * tile.lanes)
        return
    with b.loop(0, panels, vectorize=False) as p:
        to = b.offset(tile.type, panel, p * pitch)
        _pack_columns(b, tile, width, to, b.offset(tile.type, source, p * (tile.width * strides[1])), count, strides)


def _pack_columns(
    b: Builder, tile: Tile, width: int, panel: Value, source: Value, count, strides: Sequence[int]
) -> None:
    """Pack one panel from memory where columns of B are contiguous, by squares; or where nothing is."""
    down, across = strides
    lanes, done = tile.lanes, b.const(index, 0)

    def square(k: Value, first: Value, columns: int) -> None:
        lines = [(first + min(lane, columns - 1)) * across for lane in range(lanes)]
        rows = transpose(b, [b.load(tile.vector, source, k + line) for line in lines])
        for i, row in enumerate(rows):
            b.store(row, panel, (k + i) * tile.width + first)

    if down == 1:
        done, whole = count - count % lanes, width - width % lanes
        with b.loop(0, done, lanes, vectorize=False) as k:
            if whole:
                with b.loop(0, whole, lanes, vectorize=False) as first:
                    square(k, first, lanes)
            if whole < width:
                square(k, b.const(index, whole), width - whole)
    with b.loop(done, count, vectorize=False) as k:
        for j in range(width):
            b.store(b.load(tile.type, source, k * down + j * across), panel, k * tile.width + j)


def each_panel(b: Builder, tile: Tile, n: int, lo, hi: Value, body: Callable[[Value, Tile, int], None]) -> None:
    """Call body(panel, tile, width) for panels lo..hi of n columns; the last of all may be narrower."""
    full, tail = divmod(n, tile.width)
    if full:
        with b.loop(lo, b.minimum(hi, full), vectorize=False) as p:
            body(p, tile, tile.width)
    if tail:
        with b.if_(hi > full):
            body(b.const(index, full), tile.narrowed(tail), tail)


def packing(tile: Tile, k: int, n: int, strides: Sequence[int]) -> tuple[Kernel, int]:
    """The kernel that packs a whole (k, n) matrix, panel after panel, and the bytes of the result.

    For a matrix that many tasks, or many calls, share. Buffers: the matrix, the packed one.
    """
    type_, module = tile.type, Module()
    with module.kernel("kernel", 2) as (b, (source, target), lo, hi, _):
        length = b.const(index, k)

        def panel(p: Value, part: Tile, width: int) -> None:
            home = b.offset(type_, target, p * (tile.width * k))
            start = b.offset(type_, source, p * (tile.width * strides[1]))
            pack(b, part, width, (home, k * tile.width, b.const(index, 1)), start, length, strides)

        each_panel(b, tile, n, lo, hi, panel)
    panels = ceil_div(n, tile.width)
    return Kernel(module.text(), panels, 1, 0, "blocks"), panels * tile.width * k * type_.size


class Scratch:
    """Hands out pieces of a thread's scratch memory while a kernel is written."""

    def __init__(self, b: Builder, base: Value, type_: Type):
        self._b, self._base, self._type, self.size = b, base, type_, 0

    def take(self, elements: int) -> Value:
        pointer = self._b.offset(self._type, self._base, self.size // self._type.size)
        self.size += -(-elements * self._type.size // 64) * 64
        return pointer


class Sweep:
    """A task's share of a result: `count` rows by panels lo..hi of n columns, summed up block by block.

    Where the summed index is one block (`whole`) a tile's sums never leave the registers before they are
    stored; otherwise they wait at `sums_at`, `room` rows for each panel, until all blocks are done.
    `store(value, row, column)` gets the finished vectors.
    """

    def __init__(
        self,
        b: Builder,
        tile: Tile,
        n: int,
        count: Value,
        panels: tuple[Value, Value],
        room: int,
        whole: bool,
        store,
    ):
        self.b, self.tile, self.n, self.count, self.panels = b, tile, n, count, panels
        self.room, self.whole, self.store = room, whole, store
        self.sums_at: Value | None = None

    @staticmethod
    def elements(tile: Tile, panels: int, room: int, whole: bool) -> int:
        """The size of the memory at `sums_at`."""
        return tile.rows * tile.width if whole else room * panels * tile.width

    def blocks(self, sums_at: Value, size: int, lo, hi, step: int, body) -> None:
        """Call body(k) for every block of the summed index, then store the result; `size` is of `sums_at`."""
        b, self.sums_at = self.b, sums_at
        if self.whole:
            body(lo)
            return
        b.fill_zero(sums_at, size * self.tile.type.size)
        with b.loop(lo, hi, step, vectorize=False) as k:
            body(k)
        self._each(lambda p, tile, finish: _write_rows(b, tile, self._sums(p), b.const(index, 0), self.count, finish))

    def block(self, prepare, row_address, runs) -> None:
        """Add one block: prepare(panel, tile, width) packs the panel and returns its tile and address."""

        def add(p: Value, tile: Tile, finish) -> None:
            width = self.tile.width if tile is self.tile else self.n % self.tile.width
            packed, panel = prepare(p, tile, width)
            home = self.sums_at if self.whole else self._sums(p)
            each_tile(self.b, packed, self.count, row_address, panel, runs, home, finish if self.whole else None)

        self._each(add)

    def packed(self, p: Value, tile: Tile, panels_at: Value, pitch: int, write) -> Value:
        """Return the address of panel `p`, packed by write((address, pitch, number)) with the ones that
        follow it.

        Several at a time, because a row of B may lie on another page of memory than the next: it is read
        once.
        """
        b, slot = self.b, (p - self.panels[0]) % PANEL_GROUP
        home = b.offset(self.tile.type, panels_at, slot * pitch)
        if tile is self.tile:
            with b.if_(slot.eq(0)):
                end = b.minimum(self.panels[1], self.n // tile.width)
                write((home, pitch, b.minimum(p + PANEL_GROUP, end) - p))
        else:
            write((home, pitch, b.const(index, 1)))
        return home

    def _sums(self, p: Value) -> Value:
        return self.b.offset(self.tile.type, self.sums_at, (p - self.panels[0]) * (self.room * self.tile.width))

    def _each(self, body) -> None:
        """Call body(panel, tile, finish) for the panels; the last of all may be narrower than the others."""

        def panel(p: Value, tile: Tile, width: int) -> None:
            body(p, tile, self._finisher(p, width))

        each_panel(self.b, self.tile, self.n, *self.panels, panel)

    def _finisher(self, p: Value, width: int):
        """What `each_tile` calls with a vector of sums: lanes past the last column are cut off."""

        def finish(value: Value, row: Value, v: int) -> None:
            part = min(self.tile.lanes, width - v * self.tile.lanes)
            if part < self.tile.lanes:
                value = self.b.shuffle(value, value, range(part))
            self.store(value, row, p * self.tile.width + v * self.tile.lanes)

        return finish


def part_size(b: Builder, start: Value, size: int, total: int) -> Value:
    """How many of `total` items a part of `size` has that begins at `start`."""
    return b.const(index, size) if total % size == 0 else b.minimum(start + size, total) - start


def ceil_div(x: int, y: int) -> int:
    """The least whole number of pieces of size y that hold x; at least 1."""
    return max(1, -(-x // y))


def least_tasks() -> int:
    """Enough tasks for threads of uneven speed to finish together."""
    return max(16, 4 * thread_count())


def even_share(total: int, most: int) -> int:
    """The size of pieces of at most `most` that make up `total`; of many, every thread gets as many."""
    parts = ceil_div(total, max(1, most))
    threads = thread_count()
    return ceil_div(total, ceil_div(parts, threads) * threads if parts >= 4 * threads else parts)


def extra_names(count: int) -> tuple[str, ...]:
    """The names of an epilogue's buffers."""
    return tuple(f"extra{i}" for i in range(count))


def digits(task: Value, sizes: Sequence[int]) -> list[Value]:
    """Take a task number apart: the last size runs fastest."""
    digits = []
    for size in reversed(sizes[1:]):
        digits.append(task % size)
        task = task // size
    return [task, *reversed(digits)]


def store_result(
    b: Builder, value: Value, place: Place, to: tuple[Value, Callable], epilogue: Epilogue | None, extras: list[Value]
) -> None:
    """Store a finished vector, after what the epilogue does to it, unless that has stored it.

    `to` is the result's memory, and address(builder, matrix, row): where in it a row begins.
    """
    if epilogue:
        value = epilogue(b, value, place, extras)
    if value is not None:
        b.store(value, to[0], to[1](b, place.batch, place.row) + place.column)


def in_splits(
    step: Step, splits: int, shape: tuple[int, int], type_: Type, epilogue: Epilogue | None, extras: int
) -> Contraction:
    """A contraction whose one step leaves partial results of `shape` in "work", unless there is but one split."""
    if splits == 1:
        return Contraction((step,))
    m, n = shape
    total = sum_of_splits(splits, (1, m, n), lambda b, matrix, row: row * n, type_, epilogue, extras)
    return Contraction((step, total), splits * m * n * type_.size)


def sum_of_splits(
    splits: int, shape: tuple[int, int, int], address, type_: Type, epilogue: Epilogue | None, extras: int
) -> Step:
    """The kernel that adds up `splits` partial results in "work", each of `shape`."""
    matrices, m, n = shape
    lanes = emit_llvm.vector_bytes() // type_.size
    module = Module()
    with (
        module.kernel("kernel", 2 + extras) as (b, (work, out, *more), lo, hi, _),
        b.loop(lo, hi, vectorize=False) as line,
    ):
        matrix, row = digits(line, (matrices, m))

        def total(column: Value, width: int) -> None:
            value = b.const(type_.vector(width), 0)
            for split in range(splits):
                value = value + b.load(type_.vector(width), work, (line + split * matrices * m) * n + column)
            store_result(b, value, Place(matrix, row, column), (out, address), epilogue, more)

        with b.loop(0, n - n % lanes, lanes, vectorize=False) as column:
            total(column, lanes)
        if n % lanes:
            total(b.const(index, n - n % lanes), n % lanes)
    names = ("work", "out", *extra_names(extras))
    return Step(Kernel(module.text(), matrices * m, max(1, 8192 // n), 0, "blocks"), names)
