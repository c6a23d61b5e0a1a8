"""Matrix products and convolutions from one register-blocked micro-kernel.

A tile of the result, some rows by a few vectors, stays in registers while the micro-kernel walks over the summed
index: one element of each row of A, spread over a vector, times the vectors of one row of B. B is first packed into
panels that fit the first-level cache; A is read where it lies:

- a matrix product has row r at `a + r * row_stride`;
- a convolution has one row per output pixel. In NHWC data the elements under one row of the filter are contiguous, so
  a pixel needs an address and a list of runs, not a copy of its window. Padding is handled by copying the rows of a
  task, with a margin of zeros, to the thread's scratch memory, where they stay in the second-level cache;
- the input gradient is the same walk over the output gradient with the filter turned round; with strides, each
  residue of the output position has its own taps;
- the filter gradient has one row per filter tap and channel, and walks over pixels.

Results are `Contraction`s: kernels in order, with the buffers that each takes by name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from . import emit_llvm
from .loops import Builder, Module, Type, Value, f32, i32, index
from .native import Kernel

PANEL_DEPTH = 320  # most rows of a packed panel: 320 x 16 floats leave a third of a 32 KB first-level cache
BLOCK_BYTES = 160 << 10  # what a task keeps of A, and of unfinished sums, in the second-level cache
LEAST_TASKS = 8  # enough for threads of uneven speed to finish together


@dataclasses.dataclass(frozen=True)
class Step:
    """One kernel and the names of its buffers: those of the contraction, "work", and "extra0", "extra1", …"""

    kernel: Kernel
    buffers: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Contraction:
    """Kernels to run in order, and the bytes of the buffer "work" that they share."""

    steps: tuple[Step, ...]
    work: int = 0


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an epilogue stands: element (row, column…column + lanes) of matrix `batch` of the result.

    For a convolution a row is a pixel, (image * height + y) * width + x, and a column is a channel.
    """

    batch: Value
    row: Value
    column: Value


Epilogue = Callable[[Builder, Value, Place, list[Value]], Value]  # (b, vector, place, extra buffers) -> vector


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
        return dataclasses.replace(self, vectors=-(-width // self.lanes))

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
        return max(rows * vectors / 2, 4.0, (rows + vectors) / 2) + 0.1  # 2 a cycle, 4 cycles until a sum is ready

    def cost(rows: int, vectors: int) -> float:
        full, tail = divmod(n, lanes * vectors)
        across = full * cycles(rows, vectors) + (cycles(rows, -(-tail // lanes)) if tail else 0)
        return -(-m // rows) * across

    shapes = [(r, v) for v in (2, 3, 1, 4) for r in range(registers, 0, -1) if r * v + v + 1 <= registers]
    rows, vectors = min(shapes, key=lambda shape: cost(*shape))
    return Tile(type_, lanes, rows, vectors)


# -- the micro-kernel ------------------------------------------------------------------------------------------------


def _multiply_add(b: Builder, tile: Tile, sums: list[Value], rows: list[Value], at: Value, panel: Value, k) -> None:
    """sums += (element `at` of each row) x (row `k` of the panel)."""
    columns = [tile.load(b, panel, k, v, tile.columns or tile.width) for v in range(tile.vectors)]
    for r, row in enumerate(rows):
        element = b.splat(b.load(tile.type, row, at), tile.lanes)
        for v, column in enumerate(columns):
            sums[r * tile.vectors + v] = b.fma(element, column, sums[r * tile.vectors + v])


def _run(b: Builder, tile: Tile, state: list[Value], rows: list[Value], length, stride: int) -> None:
    """Walk `length` elements, `stride` apart, of every row; `state` is the sums and the position in the panel."""
    unroll = 4

    def walk(lo, hi, count: int) -> None:
        with b.loop(lo, hi, count * stride, carry=state, vectorize=False) as (k, inner):
            for u in range(count):
                _multiply_add(b, tile, inner, rows, k + u * stride, inner[-1], u * tile.step)
            inner[-1] = b.offset(tile.type, inner[-1], count * tile.step)
        state[:] = inner

    if isinstance(length, int) and length <= 2 * unroll:
        for u in range(length):
            _multiply_add(b, tile, state, rows, b.const(index, u * stride), state[-1], u * tile.step)
        state[-1] = b.offset(tile.type, state[-1], length * tile.step)
        return
    length = length if isinstance(length, Value) else b.const(index, length)
    whole = length - length % unroll if length.const is None else b.const(index, length.const // unroll * unroll)
    walk(0, whole * stride, unroll)
    if length.const is None or length.const % unroll:
        walk(whole * stride, length * stride, 1)


@dataclasses.dataclass
class Runs:
    """The stretches of A that one block of the summed index covers: (offset, length) pairs from a constant table."""

    table: Value
    lo: Value | int
    hi: Value | int
    stride: int = 1


def _accumulate(b: Builder, tile: Tile, sums: list[Value], rows: list[Value], panel: Value, runs) -> list[Value]:
    """Add to the sums; `runs` is a length with its stride, a list of (offset, length), or `Runs`."""
    state = [*sums, panel]
    if isinstance(runs, Runs):
        with b.loop(runs.lo, runs.hi, carry=state, vectorize=False) as (s, inner):
            offset, length = (b.cast(b.load(i32, runs.table, s * 2 + j), index) for j in range(2))
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
    saved = b.lines, b._block
    b.lines = []
    write()
    count = len(b.lines)
    b.lines, b._block = saved
    return count


def _write_rows(b: Builder, tile: Tile, source: Value, first, count, finish) -> None:
    """Hand rows first..count, which lie one after the other at `source`, to `finish(value, row, vector)`."""
    with b.loop(first, count, vectorize=False) as row:
        for v in range(tile.vectors):
            finish(b.load(tile.vector, source, (row - first) * tile.width + v * tile.lanes), row, v)


def _tiles(b: Builder, tile: Tile, count: Value, row_address, panel: Value, runs, sums_at: Value, finish=None) -> None:
    """Go down one panel: every tile of the `count` rows.

    Without `finish` the tiles' sums are taken up from `sums_at` and put back there. With it they start at zero and go
    to `finish(value, row, vector)`; `sums_at` is then room for one tile. Rows past the last are computed from the last
    one and thrown away.
    """
    cells = range(tile.rows * tile.vectors)
    light = finish and _instructions(b, lambda: finish(b.const(tile.vector, 0), count, 0)) <= 16
    with b.loop(0, count, tile.rows, vectorize=False) as first:
        rows = [row_address(b.minimum(first + r, count - 1)) for r in range(tile.rows)]
        if finish:
            home, sums = sums_at, [b.const(tile.vector, 0) for _ in cells]
        else:
            home = b.offset(tile.type, sums_at, first * tile.width)
            sums = [b.load(tile.vector, home, cell * tile.lanes) for cell in cells]
        sums = _accumulate(b, tile, sums, rows, panel, runs)

        def keep(sums=sums, home=home) -> None:
            for cell in cells:
                b.store(sums[cell], home, cell * tile.lanes)

        if not finish:
            keep()
        elif not light:
            keep()
            _write_rows(b, tile, home, first, b.minimum(first + tile.rows, count), finish)
        else:
            with b.if_(first + tile.rows <= count) as whole:
                for cell in cells:
                    finish(sums[cell], first + cell // tile.vectors, cell % tile.vectors)
            with whole.otherwise():
                keep()
                _write_rows(b, tile, home, first, count, finish)


# -- packing ---------------------------------------------------------------------------------------------------------


def _transpose(b: Builder, rows: list[Value]) -> list[Value]:
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


def _pack(b: Builder, tile: Tile, width: int, panel: Value, source: Value, count: Value, strides: tuple[int, int]) -> None:
    """panel[k][j] = source[k * strides[0] + j * strides[1]] for k < count, j < width; further columns are arbitrary."""
    down, across = strides
    scalar, lanes = tile.type, tile.lanes
    if across == 1:
        with b.loop(0, count, vectorize=False) as k:
            for v in range(tile.vectors):
                b.store(tile.load(b, source, k * down, v, width), panel, k * tile.width + v * lanes)
        return
    done = b.const(index, 0)
    if down == 1:
        done = count - count % lanes
        with b.loop(0, done, lanes, vectorize=False) as k:
            for v in range(tile.vectors):
                columns = [min(v * lanes + lane, width - 1) * across for lane in range(lanes)]
                square = [b.load(tile.vector, source, k + column) for column in columns]
                for i, row in enumerate(_transpose(b, square)):
                    b.store(row, panel, (k + i) * tile.width + v * lanes)
    with b.loop(done, count, vectorize=False) as k:
        for j in range(width):
            b.store(b.load(scalar, source, k * down + j * across), panel, k * tile.width + j)


class _Scratch:
    """Hands out pieces of a thread's scratch memory while a kernel is written."""

    def __init__(self, b: Builder, base: Value, type_: Type):
        self._b, self._base, self._type, self.size = b, base, type_, 0

    def take(self, elements: int) -> Value:
        pointer = self._b.offset(self._type, self._base, self.size // self._type.size)
        self.size += -(-elements * self._type.size // 64) * 64
        return pointer


def _panels(b: Builder, tile: Tile, n: int, lo: Value, hi: Value, body) -> None:
    """Call body(panel number, its tile, its width) for panels lo..hi of n columns; the last may be narrower."""
    full, tail = divmod(n, tile.width)
    if full:
        with b.loop(lo, b.minimum(hi, full), vectorize=False) as p:
            body(p, tile, tile.width)
    if tail:
        with b.if_(hi > full):
            body(b.const(index, full), tile.narrowed(tail), tail)


def _finisher(b: Builder, tile: Tile, width: int, column: Value, store):
    """Turn `store(value, row, column)` into what `_tiles` calls, with the lanes past `width` cut off."""

    def finish(value: Value, row: Value, v: int) -> None:
        part = min(tile.lanes, width - v * tile.lanes)
        if part < tile.lanes:
            value = b.shuffle(value, value, range(part))
        store(value, row, column + v * tile.lanes)

    return finish


def _split(total: int, parts: int) -> int:
    """The size of the pieces when `total` is cut into `parts` of nearly equal size."""
    return max(1, -(-total // max(1, parts)))


def _digits(task: Value, sizes: Sequence[int]) -> list[Value]:
    """Take a task number apart: the last size runs fastest."""
    digits = []
    for size in reversed(sizes[1:]):
        digits.append(task % size)
        task = task // size
    return [task, *reversed(digits)]


# -- matrix products -------------------------------------------------------------------------------------------------


def _batch_offset(b: Builder, number: Value, batch: Sequence[int], strides: Sequence[int]) -> Value:
    """Where matrix `number` of an operand begins."""
    offset = b.const(index, 0)
    if batch:
        for digit, stride in zip(_digits(number, batch), strides, strict=True):
            if stride:
                offset = offset + digit * stride
    return offset


def _sum_of_splits(
    splits: int, shape: tuple[int, int, int], address, type_: Type, epilogue: Epilogue | None, extras: int
) -> Step:
    """The kernel that adds up `splits` partial results in "work", each of `shape` (matrices, rows, columns)."""
    matrices, m, n = shape
    lanes = emit_llvm.vector_bytes() // type_.size
    module = Module()
    with module.kernel("kernel", 2 + extras) as (b, (work, out, *more), lo, hi, _):
        with b.loop(lo, hi, vectorize=False) as line:
            matrix, row = _digits(line, (matrices, m))

            def total(column: Value, width: int) -> None:
                value = b.const(type_.vector(width), 0)
                for split in range(splits):
                    value = value + b.load(type_.vector(width), work, (line + split * matrices * m) * n + column)
                if epilogue:
                    value = epilogue(b, value, Place(matrix, row, column), more)
                b.store(value, out, address(b, matrix, row) + column)

            with b.loop(0, n - n % lanes, lanes, vectorize=False) as column:
                total(column, lanes)
            if n % lanes:
                total(b.const(index, n - n % lanes), n % lanes)
    names = ("work", "out", *(f"extra{i}" for i in range(extras)))
    return Step(Kernel(module.text(), matrices * m, max(1, 8192 // n), 0, "blocks"), names)


def matmul(
    m: int,
    n: int,
    k: int,
    a: Sequence[int],
    b_strides: Sequence[int],
    c: Sequence[int],
    batch: Sequence[int] = (),
    type_: Type = f32,
    epilogue: Epilogue | None = None,
    extras: int = 0,
) -> Contraction:
    """C = A B: (*batch, m, k) x (*batch, k, n) -> (*batch, m, n), in any layout.

    `a`, `b_strides` and `c` are the strides in elements of the three operands, batch dimensions first; a transposed
    operand has its last two exchanged, a broadcast one a zero. C's last stride must be 1. Buffers: "a", "b", "out".
    """
    tile = choose_tile(type_, m, n)
    matrices = math.prod(batch)
    splits = 1
    if k >= 4096 and k >= 4 * max(m, n):
        splits = min(LEAST_TASKS // min(matrices, LEAST_TASKS), k // 1024)
    k_part = _split(k, splits)
    k_part = -(-k_part // 8) * 8
    splits = max(1, -(-k // k_part))
    blocks = max(1, -(-k_part // PANEL_DEPTH))
    depth = -(-_split(k_part, blocks) // 8) * 8
    one_block = k_part <= depth
    m_tiles = max(1, min(BLOCK_BYTES // (depth * type_.size * tile.rows), 256 // tile.rows))
    m_block = tile.rows * _split(-(-m // tile.rows), -(-m // (tile.rows * m_tiles)))
    panels = max(1, -(-n // tile.width))
    n_block = panels if one_block else max(1, min(panels, BLOCK_BYTES // (m_block * tile.width * type_.size)))
    while matrices * splits * -(-m // m_block) * -(-panels // n_block) < LEAST_TASKS:
        if n_block > 1 and m_block * n_block * tile.width * k_part > 1 << 19:
            n_block = -(-n_block // 2)
        elif m_block >= 8 * tile.rows and m_block * n_block * tile.width * k_part > 1 << 20:
            m_block = tile.rows * -(-m_block // (2 * tile.rows))
        else:
            break
    m_blocks, n_blocks = -(-m // m_block), -(-panels // n_block)
    tasks = (matrices, splits, m_blocks, n_blocks)
    in_place = b_strides[-1] == 1 and m_block <= 2 * tile.rows  # too few tiles to pay for packing

    def address(b: Builder, matrix: Value, row: Value) -> Value:
        return _batch_offset(b, matrix, batch, c[:-2]) + row * c[-2]

    module = Module()
    with module.kernel("kernel", 3 + (extras if splits == 1 else 0)) as (b, (pa, pb, pc, *more), lo, hi, base):
        scratch = _Scratch(b, base, type_)
        panel_at = scratch.take(depth * tile.width)
        sums_at = scratch.take(m_block * n_block * tile.width if not one_block else tile.rows * tile.width)
        with b.loop(lo, hi, vectorize=False) as task:
            matrix, split, mb, nb = _digits(task, tasks)
            row0, panel0 = mb * m_block, nb * n_block
            count = b.minimum(row0 + m_block, m) - row0
            panel1 = b.minimum(panel0 + n_block, panels)
            a_at = b.offset(type_, pa, _batch_offset(b, matrix, batch, a[:-2]) + row0 * a[-2])
            b_at = b.offset(type_, pb, _batch_offset(b, matrix, batch, b_strides[:-2]))
            k0, k1 = split * k_part, b.minimum(split * k_part + k_part, k)

            def store(value: Value, row: Value, column: Value) -> None:
                if splits > 1:
                    b.store(value, pc, ((split * matrices + matrix) * m + row0 + row) * n + column)
                    return
                if epilogue:
                    value = epilogue(b, value, Place(matrix, row0 + row, column), more)
                b.store(value, pc, address(b, matrix, row0 + row) + column)

            def sums_of(p: Value) -> Value:
                return b.offset(type_, sums_at, (p - panel0) * (m_block * tile.width))

            def block(kb: Value, length: Value, last: bool) -> None:
                def panel(p: Value, part: Tile, width: int) -> None:
                    source = b.offset(type_, b_at, kb * b_strides[-2] + p * (tile.width * b_strides[-1]))
                    finish = _finisher(b, part, width, p * tile.width, store) if last else None
                    home = sums_at if last else sums_of(p)
                    if in_place:
                        part, place = part.unpacked(b_strides[-2], width), source
                    else:
                        place = panel_at
                        _pack(b, part, width, panel_at, source, length, (b_strides[-2], b_strides[-1]))

                    def row_address(row: Value) -> Value:
                        return b.offset(type_, a_at, row * a[-2] + kb * a[-1])

                    _tiles(b, part, count, row_address, place, (length, a[-1]), home, finish)

                _panels(b, tile, n, panel0, panel1, panel)

            if one_block:
                block(k0, k1 - k0, True)
            else:
                b.fill_zero(sums_at, m_block * n_block * tile.width * type_.size)
                with b.loop(k0, k1, depth, vectorize=False) as kb:
                    block(kb, b.minimum(kb + depth, k1) - kb, False)

                def unload(p: Value, part: Tile, width: int) -> None:
                    finish = _finisher(b, part, width, p * tile.width, store)
                    _write_rows(b, part, sums_of(p), b.const(index, 0), count, finish)

                _panels(b, tile, n, panel0, panel1, unload)
    names = ("a", "b", "out" if splits == 1 else "work", *(f"extra{i}" for i in range(extras if splits == 1 else 0)))
    kernel = Kernel(module.text(), math.prod(tasks), 1, scratch.size, "blocks")
    if splits == 1:
        return Contraction((Step(kernel, names),))

    total = _sum_of_splits(splits, (matrices, m, n), address, type_, epilogue, extras)
    return Contraction((Step(kernel, names), total), splits * matrices * m * n * type_.size)
