"""Attention and its gradient, a block of queries at a time: scores exist for one block only, in a thread's scratch.

An item is some queries of one head (the gradient: all queries that share a head of keys, so that nobody else adds to
the gradients of those). Keys and values are packed once for it; every product is the micro-kernel of `tiles`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from ..op import Node
from .loops import Builder, Module, Type, Value, i1, i8, i32, index, of_dtype, ptr, void
from .native import Kernel
from .tiles import Scratch, Tile, ceil_div, choose_tile, digits, each_panel, each_tile, least_tasks, pack

QUERIES, CAUSAL_QUERIES = 24, 12  # in a block; all of them are multiplied by as many keys as the last one sees


@dataclasses.dataclass
class _Matrix:
    """Rows of one head in memory: where they begin, elements from row to row, and how many columns they have."""

    at: Value
    step: int
    columns: int


@dataclasses.dataclass
class _Packed:
    """A matrix in panels for a tile, of ``depth`` rows."""

    at: Value
    tile: Tile
    depth: int


class _Kernel:
    """What both kernels share: extents, the scratch memory, and the blocks of scores."""

    def __init__(self, node: Node):
        q, k, v = node.inputs[:3]
        self.batch, self.queries, self.heads, self.depth = q.shape
        self.keys, self.groups, self.width = k.shape[1], k.shape[2], v.shape[3]
        self.shared = self.heads // self.groups
        self.causal, self.scale = node.attributes["causal"], node.attributes["scale"]
        self.type: Type = of_dtype(q.dtype)
        self.rest = node.inputs[3:]
        self.module = Module()
        self.functions: set[str] = set()
        queries = CAUSAL_QUERIES if self.causal else QUERIES
        tile = choose_tile(self.type, queries, self.keys)
        self.block = min(ceil_div(queries, tile.rows) * tile.rows, self.queries)
        self.across = choose_tile(self.type, self.block, self.keys)  # of scores
        # A row of scores: whole panels, and room for a tile of rows of the transposed block.
        self.pitch = ceil_div(self.keys, self.across.width) * self.across.width + 16

    def begin(self, b: Builder, scratch: Scratch, mask: Value | None) -> None:
        self.b, self.mask_at = b, mask
        lanes = self.across.lanes
        self.lane = b.const(i32.vector(lanes), 0)
        for i in range(lanes):
            self.lane = b.insert(self.lane, b.const(i32, i), i)
        self.spare = scratch.take(64 * lanes)  # room for a tile
        if mask is not None:
            self.seen = scratch.take(ceil_div(self.block * self.pitch, self.type.size))

    # -- packed operands ---------------------------------------------------------------------------------------------

    def room(self, tile: Tile, depth: int, columns: int) -> int:
        """Elements of a packed matrix."""
        return ceil_div(columns, tile.width) * tile.width * depth

    def packed(self, scratch_at: Value, tile: Tile, source: Value, depth: int, columns: int, strides: tuple) -> None:
        """Pack the (depth, columns) matrix at ``source`` into panels."""
        b, (full, tail) = self.b, divmod(columns, tile.width)
        pitch, length = depth * tile.width, b.const(index, depth)
        if full:
            pack(b, tile, tile.width, (scratch_at, pitch, b.const(index, full)), source, length, strides)
        if tail:
            home = b.offset(self.type, scratch_at, full * pitch)
            source = b.offset(self.type, source, full * tile.width * strides[1])
            pack(b, tile.narrowed(tail), tail, (home, pitch, b.const(index, 1)), source, length, strides)

    def panels(self, tile: Tile, columns: int, body: Callable, hi: Value | None = None) -> None:
        """Call body(panel, tile, width) for the panels of ``columns`` columns, up to ``hi``."""
        every = self.b.const(index, ceil_div(columns, tile.width))
        each_panel(self.b, tile, columns, 0, every if hi is None else hi, body)

    # -- a block of scores -------------------------------------------------------------------------------------------

    def blocks(self, lo: Value, hi: Value, body: Callable) -> None:
        """Call body(first query, their number) for the blocks of queries lo..hi."""
        b = self.b
        with b.loop(lo, hi, self.block, vectorize=False) as first:
            body(first, b.minimum(first + self.block, hi) - first)

    def limit(self, query: Value) -> Value:
        """How many keys a query, or all those up to it, may see."""
        return self.b.minimum(query + 1, self.keys) if self.causal else self.b.const(index, self.keys)

    def scores(self, rows: _Matrix, count: Value, packed: Value, target: Value, seen: Value, factor: float) -> None:
        """target[row, key] = rows · keys · factor, for whole panels that hold the first ``seen`` keys."""
        width = self.across.width
        last = (seen + (width - 1)) // width if self.causal else None
        length, into = self.b.const(index, rows.columns), _Matrix(target, self.pitch, self.keys)
        self.product(rows, count, length, _Packed(packed, self.across, rows.columns), into, factor, last, whole=True)

    def product(
        self,
        rows: _Matrix,
        count: Value,
        length: Value,
        packed: _Packed,
        into: _Matrix,
        factor: float,
        last: Value | None = None,
        whole: bool = False,
    ) -> None:
        """into = (``length`` columns of ``count`` rows) x (a packed matrix) · factor, up to panel ``last``.

        ``whole``: a row has room for all lanes of the last panel, and there is no need to cut them off.
        """
        b, type_ = self.b, self.type
        width = packed.tile.width

        def panel(p: Value, tile: Tile, columns: int) -> None:
            columns = tile.width if whole else columns
            source = b.offset(type_, packed.at, p * (packed.depth * width))
            target = b.offset(type_, into.at, p * width)
            numbers = (b.const(index, n) for n in (rows.step, into.step))
            arguments = [rows.at, source, target, self.spare, count, length, *numbers, b.const(type_, factor)]
            b.call(self.product_of(tile, columns), void, arguments)

        self.panels(packed.tile, into.columns, panel, last)

    def product_of(self, tile: Tile, columns: int) -> str:
        """The function for a panel of a product: a few are called from everywhere, as each takes long to compile."""

        def write(b: Builder, rows, panel, target, spare, count, length, step, pitch, factor) -> None:
            factor = b.splat(factor, tile.lanes)

            def finish(value: Value, row: Value, v: int) -> None:
                self.store_part(b, value * factor, columns, v, target, row * pitch)

            each_tile(b, tile, count, lambda r: b.offset(self.type, rows, r * step), panel, (length, 1), spare, finish)

        types = [*[ptr] * 4, *[index] * 4, self.type]
        return self.function(f"product.{tile.rows}.{tile.vectors}.{columns}", types, write)

    def function(self, name: str, parameters: list[Type], write: Callable) -> str:
        """The name of a function of this module, which is written when it is first asked for."""
        if name not in self.functions:
            self.functions.add(name)
            with self.module.function(name, parameters, attributes="internal") as (b, *arguments):
                write(b, *arguments)
        return name

    def copy_mask(self, node_mask: Any, batch: Value, head: Value, first: Value, count: Value) -> None:
        """Bring the rows of the mask for a block together, so that whole vectors of it can be read."""
        b, shape = self.b, node_mask.shape
        with b.loop(0, count, vectorize=False) as row:
            at, step = b.const(index, 0), self.keys
            for extent, number in ((shape[2], first + row), (shape[1], head), (shape[0], batch)):
                at = at + number * step if extent > 1 else at
                step *= extent
            b.copy(b.offset(i8, self.seen, row * self.pitch), b.offset(i8, self.mask_at, at), self.keys)

    def visible(self, row: Value, key: Value) -> Value | None:
        """The mask for a vector of keys; None where there is none."""
        if self.mask_at is None:
            return None
        return self.b.load(i1.vector(self.across.lanes), self.seen, row * self.pitch + key)

    def softmax(self, scores: Value, first: Value, count: Value, end: Value) -> None:
        """Turn rows of scores into weights; what a query does not see, up to key ``end``, gets 0."""
        b, type_, lanes = self.b, self.type, self.across.lanes
        vector = type_.vector(lanes)
        with b.loop(0, count, vectorize=False) as row:
            line = b.offset(type_, scores, row * self.pitch)
            limit = self.limit(first + row)
            cut = (limit - 1) // lanes * lanes
            last = b.splat(b.cast(limit - cut, i32), lanes)
            b.store(b.select(self.lane < last, b.load(vector, line, cut), b.const(vector, -math.inf)), line, cut)
            with b.loop(0, limit, lanes, carry=[b.const(vector, -math.inf)], vectorize=False) as (key, state):
                value = b.load(vector, line, key)
                mask = self.visible(row, key)
                if mask is not None:
                    value = b.select(mask, value, b.const(vector, self.least()))
                    value = b.select(self.lane < b.splat(b.cast(limit - key, i32), lanes), value, -math.inf)
                    b.store(value, line, key)
                state[0] = b.select(value > state[0], value, state[0])
            top = b.splat(b.reduce("max", state[0]), lanes)
            with b.loop(0, limit, lanes, carry=[b.const(vector, 0)], vectorize=False) as (key, state):
                weight = b.exp(b.load(vector, line, key) - top)
                b.store(weight, line, key)
                state[0] = state[0] + weight
            share = b.splat(1.0 / b.reduce("add", state[0]), lanes)
            with b.loop(0, limit, lanes, vectorize=False) as key:
                b.store(b.load(vector, line, key) * share, line, key)
            self.clear(line, cut + lanes, end)

    def least(self) -> float:
        """The least finite number."""
        return -3.4028234663852886e38 if self.type.bits == 32 else -1.7976931348623157e308

    def clear(self, line: Value, start: Value, end: Value) -> None:
        """Set elements start..end of a row to zero, if there are any."""
        b = self.b
        with b.if_(start < end):
            b.fill_zero(b.offset(self.type, line, start), (end - start) * self.type.size)

    def store_part(self, b: Builder, value: Value, columns: int, v: int, target: Value, at: Value) -> None:
        """Store vector ``v`` of a panel of which ``columns`` columns count."""
        lanes = self.across.lanes
        part = min(lanes, columns - v * lanes)
        b.store(value if part == lanes else b.shuffle(value, value, range(part)), target, at + v * lanes)

    def score_gradients(self, weights: Value, changes: Value, first: Value, count: Value, end: Value) -> None:
        """Turn rows of the weights' gradients into the scores' gradients; 0 for what a query does not see."""
        b, type_, lanes = self.b, self.type, self.across.lanes
        vector = type_.vector(lanes)
        with b.loop(0, count, vectorize=False) as row:
            weight, change = (b.offset(type_, x, row * self.pitch) for x in (weights, changes))
            limit = self.limit(first + row)
            cut = (limit - 1) // lanes * lanes
            last = b.splat(b.cast(limit - cut, i32), lanes)
            b.store(b.select(self.lane < last, b.load(vector, change, cut), 0), change, cut)
            with b.loop(0, limit, lanes, carry=[b.const(vector, 0)], vectorize=False) as (key, state):
                state[0] = state[0] + b.load(vector, weight, key) * b.load(vector, change, key)
            mean = b.splat(b.reduce("add", state[0]), lanes)
            with b.loop(0, limit, lanes, vectorize=False) as key:
                value = b.load(vector, weight, key) * (b.load(vector, change, key) - mean)
                mask = self.visible(row, key)
                b.store(value if mask is None else b.select(mask, value, 0), change, key)
            self.clear(change, cut + lanes, end)

    def add_transposed(
        self, block: Value, count: Value, seen: Value, rows: _Matrix, tile: Tile, sums: Value, height: int
    ) -> None:
        """sums += (the block of scores, transposed) x rows; what lies beyond ``seen`` in the block's last tile is 0."""
        b, type_ = self.b, self.type

        keys = (seen + (tile.rows - 1)) // tile.rows * tile.rows

        def panel(p: Value, part: Tile, width: int) -> None:
            source, home = b.offset(type_, rows.at, p * tile.width), b.offset(type_, sums, p * (height * tile.width))
            name = self.transposed_product(part.unpacked(rows.step, width))
            b.call(name, void, [block, source, home, keys, count])

        self.panels(tile, rows.columns, panel)

    def transposed_product(self, tile: Tile) -> str:
        """The function that adds a panel of a product to sums; rows of its first operand lie side by side."""

        def write(b: Builder, block, rows, sums, height, length) -> None:
            address = lambda row: b.offset(self.type, block, row)
            each_tile(b, tile, height, address, rows, (length, self.pitch), sums)

        name = f"transposed.{tile.rows}.{tile.vectors}.{tile.columns}.{tile.row_step}"
        return self.function(name, [*[ptr] * 3, *[index] * 2], write)

    def write_sums(self, sums: Value, tile: Tile, height: int, into: _Matrix, factor: float) -> None:
        """Bring sums by panels to where they belong."""
        b, type_ = self.b, self.type

        def panel(p: Value, part: Tile, width: int) -> None:
            home = b.offset(type_, sums, p * (height * tile.width))
            with b.loop(0, self.keys, vectorize=False) as key:
                for v in range(part.vectors):
                    value = b.load(part.vector, home, key * part.width + v * part.lanes)
                    value = value if factor == 1 else value * factor
                    self.store_part(b, value, width, v, into.at, key * into.step + p * tile.width)

        self.panels(tile, into.columns, panel)

    def kernel(self, extent: int, scratch: Scratch) -> Kernel:
        return Kernel(self.module.text(), extent, 1, scratch.size, "blocks")


def attention(node: Node) -> Kernel | None:
    """The kernel of the op `attention`. Items: some queries of one head."""
    k = _Kernel(node)
    if 0 in node.specs[0].shape:
        return None
    chunks = min(ceil_div(least_tasks(), k.batch * k.heads), ceil_div(k.queries, 2 * k.block))
    length = ceil_div(ceil_div(k.queries, chunks), k.block) * k.block
    chunks = ceil_div(k.queries, length)
    onto = choose_tile(k.type, k.block, k.width)
    with k.module.kernel("kernel", len(node.inputs) + 1) as (b, (q, keys, values, *mask, out), lo, hi, base):
        scratch = Scratch(b, base, k.type)
        packed_keys = scratch.take(k.room(k.across, k.depth, k.keys))
        packed_values = scratch.take(k.room(onto, k.keys, k.width))
        scores = scratch.take(k.block * k.pitch)
        k.begin(b, scratch, mask[0] if mask else None)
        with b.loop(lo, hi, vectorize=False) as item:
            batch, head, chunk = digits(item, (k.batch, k.heads, chunks))
            group = head // k.shared
            at = b.offset(k.type, keys, (batch * (k.keys * k.groups) + group) * k.depth)
            k.packed(packed_keys, k.across, at, k.depth, k.keys, (1, k.groups * k.depth))
            at = b.offset(k.type, values, (batch * (k.keys * k.groups) + group) * k.width)
            k.packed(packed_values, onto, at, k.keys, k.width, (k.groups * k.width, 1))

            def block(first: Value, count: Value, batch=batch, head=head) -> None:
                row = batch * k.queries + first
                here = _Matrix(b.offset(k.type, q, (row * k.heads + head) * k.depth), k.heads * k.depth, k.depth)
                into = _Matrix(b.offset(k.type, out, (row * k.heads + head) * k.width), k.heads * k.width, k.width)
                seen = k.limit(first + count - 1)
                if mask:
                    k.copy_mask(k.rest[0], batch, head, first, count)
                k.scores(here, count, packed_keys, scores, seen, k.scale)
                k.softmax(scores, first, count, seen)
                rows = _Matrix(scores, k.pitch, k.keys)
                k.product(rows, count, seen, _Packed(packed_values, onto, k.keys), into, 1)

            start = chunk * length
            k.blocks(start, b.minimum(start + length, k.queries), block)
    return k.kernel(k.batch * k.heads * chunks, scratch)


def attention_gradient(node: Node) -> Kernel | None:
    """The kernel of `attention_gradient`: weights are computed anew. Items: the queries of one head of keys."""
    k = _Kernel(node)
    if any(0 in spec.shape for spec in node.specs):
        return None
    type_, size = k.type, k.keys * k.groups
    onto = choose_tile(type_, k.block, k.depth)
    tiles = choose_tile(type_, k.keys, k.depth), choose_tile(type_, k.keys, k.width)
    heights = [ceil_div(k.keys, tile.rows) * tile.rows for tile in tiles]
    with k.module.kernel("kernel", len(node.inputs) + 3) as (b, pointers, lo, hi, base):
        (q, keys, values, g, *mask), made = pointers[:-3], pointers[-3:]
        scratch = Scratch(b, base, type_)
        packed_keys = scratch.take(k.room(k.across, k.depth, k.keys))
        packed_values = scratch.take(k.room(k.across, k.width, k.keys))
        key_rows = scratch.take(k.room(onto, k.keys, k.depth))
        weights, changes = (scratch.take(k.block * k.pitch) for _ in range(2))
        areas = [
            k.room(tile, height, columns)
            for tile, height, columns in zip(tiles, heights, (k.depth, k.width), strict=True)
        ]
        sums = [scratch.take(area) for area in areas]
        k.begin(b, scratch, mask[0] if mask else None)
        with b.loop(lo, hi, vectorize=False) as item:
            batch, group = digits(item, (k.batch, k.groups))
            at = b.offset(type_, keys, (batch * size + group) * k.depth)
            k.packed(packed_keys, k.across, at, k.depth, k.keys, (1, k.groups * k.depth))
            k.packed(key_rows, onto, at, k.keys, k.depth, (k.groups * k.depth, 1))
            at = b.offset(type_, values, (batch * size + group) * k.width)
            k.packed(packed_values, k.across, at, k.width, k.keys, (1, k.groups * k.width))
            for total, area in zip(sums, areas, strict=True):
                b.fill_zero(total, area * type_.size)

            def block(first: Value, count: Value, head: Value, batch=batch) -> None:
                row = (batch * k.queries + first) * k.heads + head
                here, to = (b.offset(type_, x, row * k.depth) for x in (q, made[0]))
                here, to = (_Matrix(at, k.heads * k.depth, k.depth) for at in (here, to))
                above = _Matrix(b.offset(type_, g, row * k.width), k.heads * k.width, k.width)
                seen = k.limit(first + count - 1)
                end = seen + max(tile.rows for tile in tiles)
                if mask:
                    k.copy_mask(k.rest[1], batch, head, first, count)
                k.scores(here, count, packed_keys, weights, seen, k.scale)
                k.softmax(weights, first, count, end)
                k.scores(above, count, packed_values, changes, seen, 1)
                k.score_gradients(weights, changes, first, count, end)
                rows = _Matrix(changes, k.pitch, k.keys)
                k.product(rows, count, seen, _Packed(key_rows, onto, k.keys), to, k.scale)
                k.add_transposed(changes, count, seen, here, tiles[0], sums[0], heights[0])
                k.add_transposed(weights, count, seen, above, tiles[1], sums[1], heights[1])

            with b.loop(0, k.shared, vectorize=False) as own:
                head = group * k.shared + own
                k.blocks(b.const(index, 0), b.const(index, k.queries), lambda *a, head=head: block(*a, head))
            for i, (columns, factor) in enumerate(((k.depth, k.scale), (k.width, 1))):
                at = b.offset(type_, made[1 + i], (batch * size + group) * columns)
                k.write_sums(sums[i], tiles[i], heights[i], _Matrix(at, k.groups * columns, columns), factor)
    return k.kernel(k.batch * k.groups, scratch)
