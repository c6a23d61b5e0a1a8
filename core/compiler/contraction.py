"""Matrix products, batched and in any layout."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from ..config import threads as thread_count
from . import emit_llvm
from .loops import Builder, Module, Type, Value, f32, index
from .native import Kernel
from .tiles import (
    BLOCK_BYTES,
    LEAST_SPLITS,
    PANEL_DEPTH,
    PANEL_GROUP,
    Contraction,
    Epilogue,
    Place,
    Scratch,
    Step,
    Sweep,
    Tile,
    ceil_div,
    choose_tile,
    digits,
    even_share,
    extra_names,
    least_tasks,
    pack,
    packing,
    part_size,
    store_result,
    sum_of_splits,
)

Strides = Sequence[int]
SQUARE = 256  # rows and columns of the result for each task, where A is transposed and the result not large
SPLITS = 4  # of k, where there are fewer such tasks: fixed, as the order of summation depends on it
PREPACKED = 1 << 25  # multiplications from which on a kernel that packs an operand ahead is worth its launch


@dataclasses.dataclass
class _Blocking:
    """How a product is cut: tasks of `rows` x `panels`, each with a share of k, taken `depth` at a time."""

    tile: Tile
    splits: int  # of k
    k_share: int
    depth: int
    rows: int
    panels: int
    tasks: tuple[int, int, int, int]  # matrices, splits, row blocks, panel blocks
    square: bool  # few large tasks, each of which brings its part of the operands in order

    @property
    def whole(self) -> bool:
        """Whether a task's share of k is one block."""
        return self.k_share <= self.depth

    def transposed(self, a: Strides) -> bool:
        """Whether A is better copied tile by tile, as its rows run across memory."""
        return a[-2] == 1 and a[-1] != 1 and self.depth > 160 and self.panels > 1


def _choose_blocking(m: int, n: int, k: int, matrices: int, type_: Type, copied: bool) -> _Blocking:
    """Cut a product; every task copies its part of A where ``copied``, that is where A is transposed."""
    least = least_tasks() // 2 if copied else least_tasks()
    tile = choose_tile(type_, m, n)
    splits = 1
    square = copied and matrices == 1 and k >= 640 and 1 << 14 <= m * n <= 1 << 19
    if square:
        least = 2 * thread_count()
        splits = SPLITS if ceil_div(m, SQUARE) * ceil_div(n, SQUARE) < SPLITS else 1
    elif k >= 4096 and m * n < 1 << 17:  # too few tiles to share out: share out the summed index
        splits = min(ceil_div(LEAST_SPLITS, matrices), k // 1024)
    k_share = 8 * ceil_div(ceil_div(k, splits), 8)
    depth = 8 * ceil_div(ceil_div(k_share, ceil_div(k_share, PANEL_DEPTH)), 8)
    most = min(BLOCK_BYTES // (depth * type_.size * tile.rows), SQUARE // tile.rows)
    rows = tile.rows * even_share(ceil_div(m, tile.rows), ceil_div(SQUARE, tile.rows) if square else most)
    all_panels = panels = ceil_div(n, tile.width)
    if square:
        panels = even_share(all_panels, ceil_div(SQUARE, tile.width))
    elif k_share > depth:
        panels = max(1, min(panels, BLOCK_BYTES // (rows * tile.width * type_.size)))

    def tasks() -> tuple[int, int, int, int]:
        return matrices, ceil_div(k, k_share), ceil_div(m, rows), ceil_div(all_panels, panels)

    while math.prod(tasks()) < least:
        work = rows * panels * tile.width * k_share
        if panels > 1 and work > 1 << 18:
            panels = even_share(all_panels, ceil_div(panels, 2))
        elif rows >= 8 * tile.rows and work > 1 << 20:
            rows = tile.rows * ceil_div(rows, 2 * tile.rows)
        else:
            break
    return _Blocking(tile, ceil_div(k, k_share), k_share, depth, rows, panels, tasks(), square)


def _matrix_offset(b: Builder, number: Value, batch: Sequence[int], strides: Strides) -> Value:
    """Where matrix `number` of an operand begins."""
    offset = b.const(index, 0)
    if batch:
        for digit, stride in zip(digits(number, batch), strides, strict=False):
            offset = offset + digit * stride if stride else offset
    return offset


def matmul(
    m: int,
    n: int,
    k: int,
    a: Strides,
    b: Strides,
    c: Strides,
    batch: Sequence[int] = (),
    type_: Type = f32,
    epilogue: Epilogue | None = None,
    extras: int = 0,
    packed: bool = False,
) -> Contraction:
    """C = A B: (*batch, m, k) x (*batch, k, n) -> (*batch, m, n), in any layout. Buffers: "a", "b", "out".

    `a`, `b` and `c` are the strides in elements of the three operands, batch dimensions first: a transposed
    operand has its last two exchanged, a broadcast one a zero. C's last stride must be 1. The epilogue is
    applied to vectors of the result on their way to memory; it may read, or write, `extras` further buffers.
    `packed` asks for a form that reads "b" packed, if it is one matrix: the result then says how.
    """
    cut = _choose_blocking(m, n, k, math.prod(batch), type_, a[-2] == 1)

    def address(builder: Builder, matrix: Value, row: Value) -> Value:
        return _matrix_offset(builder, matrix, batch, c) + row * c[-2]

    packed = packed and not any(b[:-2]) and (cut.rows > 2 * cut.tile.rows or b[-1] != 1)
    ahead = packing(cut.tile, k, n, b[-2:]) if packed else None
    before, names, work = [], {"a": "a", "b": "b"}, 0
    tiled = False
    if cut.splits == 1 and not cut.square and not any(b[:-2]) and math.prod(batch) * m * n * k >= PREPACKED:
        # What several tasks would each pack for themselves is packed once, ahead of them.
        if not batch and cut.transposed(a) and cut.tasks[3] > 1:
            kernel, work = _tiling(m, k, a[-1], cut.tile)
            before.append(Step(kernel, ("a", "work")))
            tiled, names["a"] = True, "work"
        elif not packed and cut.tasks[0] * cut.tasks[2] > 2:
            kernel, work = packing(cut.tile, k, n, b[-2:])
            before.append(Step(kernel, ("b", "work")))
            packed, names["b"] = True, "work"
    module = Module()
    inline = extras if cut.splits == 1 else 0
    with module.kernel("kernel", 3 + inline) as (builder, buffers, lo, hi, base):
        scratch = Scratch(builder, base, type_)
        task = _Task(builder, cut, (m, n, k), (a, b), batch, type_, buffers, scratch, packed, tiled)

        def store(value: Value, row: Value, column: Value) -> None:
            if cut.splits > 1:
                line = (task.split * math.prod(batch) + task.matrix) * m + row
                builder.store(value, buffers[2], line * n + column)
                return
            place = Place(task.matrix, row, column)
            store_result(builder, value, place, (buffers[2], address), epilogue, buffers[3:])

        with builder.loop(lo, hi, vectorize=False) as number:
            task.write(number, store)
    kernel = Kernel(module.text(), math.prod(cut.tasks), 1, scratch.size, "blocks")
    step = Step(kernel, (*names.values(), "out" if cut.splits == 1 else "work", *extra_names(inline)))
    if cut.splits == 1:
        return Contraction((*before, step), work, ahead)
    shape = (math.prod(batch), m, n)
    total = sum_of_splits(cut.splits, shape, address, type_, epilogue, extras)
    return Contraction((step, total), cut.splits * math.prod(shape) * type_.size, ahead)


def _tiling(m: int, k: int, step: int, tile: Tile) -> tuple[Kernel, int]:
    """The kernel that brings a transposed (m, k) matrix into the order [tile][k][row of the tile], and its bytes."""
    module, rows, type_ = Module(), tile.rows, tile.type
    whole = m // rows
    with (
        module.kernel("kernel", 2) as (b, (source, target), lo, hi, _),
        b.loop(lo, hi, vectorize=False) as at,
    ):
        line, to = b.offset(type_, source, at * step), b.offset(type_, target, at * rows)
        if whole:
            with b.loop(0, whole, vectorize=False) as number:
                b.store(b.load(type_.vector(rows), line, number * rows), to, number * (k * rows))
        for row in range(whole * rows, m):
            b.store(b.load(type_, line, row), to, whole * k * rows + row - whole * rows)
    return Kernel(module.text(), k, 32, 0, "blocks"), ceil_div(m, rows) * rows * k * type_.size


class _Task:
    """The body of the kernel: one block of rows and panels of one matrix, over one share of k."""

    def __init__(
        self, builder, cut: _Blocking, shape, strides, batch, type_: Type, buffers, scratch, packed: bool, tiled: bool
    ):
        self.packed, self.tiled = packed, tiled
        self.builder, self.cut, self.type, self.buffers = builder, cut, type_, buffers
        self.m, self.n, self.k = shape
        self.a, self.b = strides
        self.batch = batch
        # A is copied where it would fall on few cache sets, or use little of each cache line: where it is
        # transposed, tile by tile; where its rows lie a large power of two apart, row by row.
        self.transposed = cut.transposed(self.a) and not tiled
        far = self.a[-1] == 1 and self.a[-2] * type_.size % 2048 == 0
        self.spread = far and cut.panels > 3
        self.pitch = cut.depth + 2 * emit_llvm.vector_bytes() // type_.size + 4
        self.sums = Sweep.elements(cut.tile, cut.panels, cut.rows, cut.whole)
        self.panels_at = scratch.take(0 if packed else PANEL_GROUP * cut.depth * cut.tile.width)
        self.sums_at = scratch.take(self.sums)
        self.rows_at = scratch.take(cut.rows * self.pitch if self.transposed or self.spread else 0)

    def write(self, number: Value, store) -> None:
        b, cut, type_ = self.builder, self.cut, self.type
        *lead, rows, panels = cut.tasks
        if self.n > self.m:  # neighbours share the larger operand: it comes from main memory once
            self.matrix, self.split, panel_block, row_block = digits(number, (*lead, panels, rows))
        else:
            self.matrix, self.split, row_block, panel_block = digits(number, (*lead, rows, panels))
        row0, panel0 = row_block * cut.rows, panel_block * cut.panels
        count = part_size(b, row0, cut.rows, self.m)
        panels = panel0, b.minimum(panel0 + cut.panels, ceil_div(self.n, cut.tile.width))
        first = row0 * (self.k if self.tiled else self.a[-2])  # a task's rows are whole tiles
        a_at = b.offset(type_, self.buffers[0], _matrix_offset(b, self.matrix, self.batch, self.a) + first)
        b_at = b.offset(type_, self.buffers[1], _matrix_offset(b, self.matrix, self.batch, self.b))
        k0 = self.split * cut.k_share
        share = part_size(b, k0, cut.k_share, self.k)

        def place(value: Value, row: Value, column: Value) -> None:
            store(value, row0 + row, column)

        sweep = Sweep(b, cut.tile, self.n, count, panels, cut.rows, cut.whole, place)

        def block(k: Value) -> None:
            if share.const is not None and share.const % cut.depth == 0:
                length = b.const(index, cut.depth)
            else:
                length = share if cut.whole else b.minimum(k + cut.depth, k0 + share) - k
            self._block(sweep, a_at, b_at, k, length, count)

        sweep.blocks(self.sums_at, self.sums, k0, k0 + share, cut.depth, block)

    def _block(self, sweep: Sweep, a_at: Value, b_at: Value, k: Value, length: Value, count: Value) -> None:
        b, type_, strides = self.builder, self.type, (self.b[-2], self.b[-1])
        in_place = strides[1] == 1 and self.cut.rows <= 2 * self.cut.tile.rows  # too few tiles to pay for packing
        if self.tiled:
            step = self.cut.tile.rows
            a_at = b.offset(type_, a_at, k * step)
        else:
            a_at, step = b.offset(type_, a_at, k * self.a[-1]), self.a[-1]
        if self.transposed:
            self._copy_tiles(a_at, length, count)
            step = self.cut.tile.rows
        elif self.spread:
            with b.loop(0, count, vectorize=False) as row:
                source = b.offset(type_, a_at, row * self.a[-2])
                b.copy(b.offset(type_, self.rows_at, row * self.pitch), source, length * type_.size)

        def prepare(panel: Value, tile: Tile, width: int) -> tuple[Tile, Value]:
            if self.packed:
                return tile, b.offset(type_, b_at, panel * (self.cut.tile.width * self.k) + k * tile.width)
            source = b.offset(type_, b_at, k * strides[0] + panel * (self.cut.tile.width * strides[1]))
            if in_place:
                return tile.unpacked(strides[0], width), source
            pitch = self.cut.depth * self.cut.tile.width
            return tile, sweep.packed(
                panel,
                tile,
                self.panels_at,
                pitch,
                lambda to: pack(b, tile, width, to, source, length, strides),
            )

        def row_address(row: Value) -> Value:
            if self.transposed or self.tiled:
                tile, depth = row // step, self.k if self.tiled else self.cut.depth
                home = a_at if self.tiled else self.rows_at
                return b.offset(type_, home, tile * (depth * step) + (row - tile * step))
            if self.spread:
                return b.offset(type_, self.rows_at, row * self.pitch)
            return b.offset(type_, a_at, row * self.a[-2])

        sweep.block(prepare, row_address, (length, step))

    def _copy_tiles(self, a_at: Value, length: Value, count: Value) -> None:
        """Copy a transposed block of A so that a tile's rows lie together: [tile][k][row of the tile]."""
        b, rows, depth = self.builder, self.cut.tile.rows, self.cut.depth
        with b.loop(0, length, vectorize=False) as k:
            source = b.offset(self.type, a_at, k * self.a[-1])
            target = b.offset(self.type, self.rows_at, k * rows)
            whole = count // rows
            with b.loop(0, whole, vectorize=False) as tile:
                b.store(b.load(self.type.vector(rows), source, tile * rows), target, tile * (depth * rows))
            with b.loop(whole * rows, count, vectorize=False) as row:
                at = whole * (depth * rows) + (row - whole * rows)
                b.store(b.load(self.type, source, row), target, at)
