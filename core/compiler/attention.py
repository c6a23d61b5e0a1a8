"""Attention and its gradient, a block of queries at a time: scores exist for one block only, in a thread's scratch.

An item is some queries of one head (the gradient: all queries that share a head of keys, so that nobody else adds to
the gradients of those). Keys and values are packed once for it; every product is the micro-kernel of `tiles`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from ..op import Node
from ..primitives.attention import LANES, groups_of, least_word
from . import emit_llvm
from .loops import Builder, Module, Type, Value, i1, i32, i64, index, of_dtype, ptr, u32, void
from .native import Kernel
from .philox import philox
from .tiles import BLOCK_BYTES, Scratch, Tile, ceil_div, choose_tile, digits, each_panel, each_tile, least_tasks, pack

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


_Place = tuple[Value, Value, Value]  # batch, first query of a block, head


class _Kernel:
    """What the kernels share: extents, the scratch memory, and the blocks of scores."""

    def __init__(self, node: Node, given: int):
        q, k, v = node.inputs[:3]
        self.batch, self.queries, self.heads, self.depth = q.shape
        self.keys, self.groups, self.width = k.shape[1], k.shape[2], v.shape[3]
        self.shared = self.heads // self.groups
        self.causal, self.scale, self.cap, self.rate = (node.attributes[n] for n in ("causal", "scale", "cap", "rate"))
        self.type: Type = of_dtype(q.dtype)
        self.given, self.rest = given, node.inputs[given:]
        self.module = Module()
        self.functions: set[str] = set()
        queries = CAUSAL_QUERIES if self.causal else QUERIES
        tile = choose_tile(self.type, queries, self.keys)
        self.block = min(ceil_div(queries, tile.rows) * tile.rows, self.queries)
        self.across = choose_tile(self.type, self.block, self.keys)  # of scores
        # A row of scores: whole panels, and room for a tile of rows of the transposed block.
        self.pitch = ceil_div(self.keys, self.across.width) * self.across.width + emit_llvm.vector_registers()

    def begin(self, b: Builder, scratch: Scratch, pointers: list[Value]) -> None:
        self.b, self.scratch = b, scratch
        lanes = self.across.lanes
        self.lane = _counting(b, lanes)
        self.spare = scratch.take(64 * lanes)  # room for a tile
        # Inputs that may be there, by kind of dtype, and what a block needs of those that are matrices.
        self.inputs = {x.dtype.kind: (x, p) for x, p in zip(self.rest, pointers[self.given :], strict=False)}
        self.rows = {
            kind: scratch.take(ceil_div(self.block * self.pitch * x.dtype.itemsize, self.type.size))
            for kind, (x, _) in self.inputs.items()
            if kind in "fb"
        }
        self.shaped = bool(self.cap or self.rows)  # scores are more than the product
        if self.rate:
            self.kept = scratch.take(ceil_div(groups_of(self.keys) * 4 * LANES + lanes, self.type.size))
        # The scores' factor, and the one of the weights that are kept.
        self.factors = [self.number(x) for x in (self.scale / (self.cap or 1), 1 / (1 - self.rate), self.scale)]

    def share(self, rows: int, others: int) -> int:
        """How many of some rows an item takes, in whole blocks, so that with ``others`` there are items enough."""
        return ceil_div(ceil_div(rows, ceil_div(least_tasks(), others)), self.block) * self.block

    def number(self, value: float) -> Value:
        """The address of a constant in scratch memory."""
        at = self.scratch.take(1)
        self.b.store(self.b.const(self.type, value), at)
        return at

    def rows_at(self, pointer: Value, here: _Place, columns: int) -> _Matrix:
        """Rows of a head from a query on, of a value (B, T, heads, columns)."""
        batch, query, head = here
        place = ((batch * self.queries + query) * self.heads + head) * columns
        return _Matrix(self.b.offset(self.type, pointer, place), self.heads * columns, columns)

    def statistics_at(self, pointer: Value, here: _Place) -> Value:
        """What is known of the scores of a query and of those that follow it."""
        batch, query, head = here
        return self.b.offset(self.type, pointer, ((batch * self.heads + head) * self.queries + query) * 2)

    def keys_at(self, pointer: Value, batch: Value, group: Value, columns: int) -> _Matrix:
        """The rows of a head of a value (B, S, groups, columns)."""
        place = (batch * (self.keys * self.groups) + group) * columns
        return _Matrix(self.b.offset(self.type, pointer, place), self.groups * columns, columns)

    # -- packed operands ---------------------------------------------------------------------------------------------

    def room(self, tile: Tile, depth: int, columns: int) -> int:
        """Elements of a packed matrix."""
        return ceil_div(columns, tile.width) * tile.width * depth

    def pack(self, scratch_at: Value, tile: Tile, rows: _Matrix, turned: bool) -> None:
        """Pack the keys' rows, or their transpose, into panels."""
        depth, columns, strides = self.keys, rows.columns, (rows.step, 1)
        if turned:
            depth, columns, strides = columns, depth, strides[::-1]
        b, source, (full, tail) = self.b, rows.at, divmod(columns, tile.width)
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

    def scores(self, rows: _Matrix, count: Value, packed: Value, target: Value, seen: Value, factor: Value) -> None:
        """target[row, key] = rows · keys · factor, for whole panels that hold the first ``seen`` keys."""
        width = self.across.width
        last = (seen + (width - 1)) // width if self.causal else None
        length, into = self.b.const(index, rows.columns), _Matrix(target, self.pitch, self.keys)
        packed = _Packed(packed, self.across, rows.columns)
        self.product(rows, count, length, packed, into, (factor, 0), last, whole=True)

    def product(
        self,
        rows: _Matrix,
        count: Value,
        length: Value,
        packed: _Packed,
        into: _Matrix,
        factors: tuple[Value, int],
        last: Value | None = None,
        whole: bool = False,
    ) -> None:
        """into = (``length`` columns of ``count`` rows) x (a packed matrix) · factors, up to panel ``last``.

        ``factors``: where they lie, and how far from row to row. ``whole``: a row has room for all lanes of the last
        panel, and there is no need to cut them off.
        """
        b, type_ = self.b, self.type
        width = packed.tile.width

        def panel(p: Value, tile: Tile, columns: int) -> None:
            columns = tile.width if whole else columns
            source = b.offset(type_, packed.at, p * (packed.depth * width))
            target = b.offset(type_, into.at, p * width)
            numbers = (b.const(index, n) for n in (rows.step, into.step, factors[1]))
            arguments = [rows.at, source, target, self.spare, factors[0], count, length, *numbers]
            b.call(self.product_of(tile, columns), void, arguments)

        self.panels(packed.tile, into.columns, panel, last)

    def product_of(self, tile: Tile, columns: int) -> str:
        """The function for a panel of a product: a few are called from everywhere, as each takes long to compile."""

        def write(b: Builder, rows, panel, target, spare, factors, count, length, step, pitch, next_factor) -> None:
            def finish(value: Value, row: Value, v: int) -> None:
                value = value * b.load(self.type, factors, row * next_factor)
                self.store_part(b, value, columns, v, target, row * pitch)

            each_tile(b, tile, count, lambda r: b.offset(self.type, rows, r * step), panel, (length, 1), spare, finish)

        types = [*[ptr] * 5, *[index] * 5]
        return self.function(f"product.{tile.rows}.{tile.vectors}.{columns}", types, write)

    def function(self, name: str, parameters: list[Type], write: Callable) -> str:
        """The name of a function of this module, which is written when it is first asked for."""
        if name not in self.functions:
            self.functions.add(name)
            with self.module.function(name, parameters, attributes="internal") as (b, *arguments):
                write(b, *arguments)
        return name

    def bring(self, here: _Place, count: Value) -> None:
        """Bring the rows of bias and mask for a block together, so that whole vectors of them can be read."""
        b, (batch, first, head) = self.b, here
        for kind, target in self.rows.items():
            (x, source), type_ = self.inputs[kind], of_dtype(self.inputs[kind][0].dtype)
            with b.loop(0, count, vectorize=False) as row:
                at, step = b.const(index, 0), self.keys
                for extent, number in ((x.shape[2], first + row), (x.shape[1], head), (x.shape[0], batch)):
                    at = at + number * step if extent > 1 else at
                    step *= extent
                home = b.offset(type_, target, row * self.pitch)
                b.copy(home, b.offset(type_, source, at), self.keys * type_.size)

    def begin_row(self, line: Value, here: _Place, row: Value) -> Value:
        """How many keys a row of a block sees; their scores are cut off there, and weights that are kept drawn."""
        b, (batch, first, head) = self.b, here
        limit = self.limit(first + row)
        if self.rate:
            number = ((batch * self.heads + head) * self.queries + first + row) * (groups_of(self.keys) * LANES)
            name = self.function("draw", [ptr, ptr, index, index], self.write_draw)
            b.call(name, void, [self.inputs["u"][1], self.kept, number, (limit + (4 * LANES - 1)) // (4 * LANES)])
        if not self.shaped:
            self.cut(line, limit, -math.inf)
        return limit

    def write_draw(self, b: Builder, state: Value, target: Value, number: Value, groups: Value) -> None:
        words, lane = [b.load(u32, state, i) for i in range(4)], b.cast(_counting(b, LANES), u32)
        with b.loop(0, groups, vectorize=False) as group:
            first = b.cast(Value(b, i64, (number + group * LANES).text), u32)
            for i, word in enumerate(philox(b, b.splat(first, LANES) + lane, words)):
                b.store(word >= least_word(self.rate), target, (group * 4 + i) * LANES)

    def only_kept(self, value: Value, key: Value) -> Value:
        """0 for the keys of a vector whose weights are dropped."""
        mask = i1.vector(self.across.lanes)
        return self.b.select(self.b.load(mask, self.kept, key), value, 0) if self.rate else value

    def cut(self, line: Value, limit: Value, beyond: float) -> None:
        """Fill the last vector of a row, beyond ``limit``."""
        b, lanes = self.b, self.across.lanes
        start = (limit - 1) // lanes * lanes
        inside = self.lane < b.splat(b.cast(limit - start, i32), lanes)
        b.store(b.select(inside, b.load(self.type.vector(lanes), line, start), beyond), line, start)

    def seen(self, row: Value, key: Value) -> Value:
        """The mask for a vector of keys."""
        return self.b.load(i1.vector(self.across.lanes), self.rows["b"], row * self.pitch + key)

    def score(self, line: Value, row: Value, key: Value, limit: Value) -> tuple[Value, Value | None]:
        """The scores that a vector of products becomes, and their derivative where there is a cap."""
        b, lanes = self.b, self.across.lanes
        vector = self.type.vector(lanes)
        value, slope = b.load(vector, line, key), None
        if self.cap:
            bent = b.tanh(value)
            value, slope = bent * self.cap, 1 - bent * bent
        if "f" in self.rows:
            value = value + b.load(vector, self.rows["f"], row * self.pitch + key)
        if "b" in self.rows:
            value = b.select(self.seen(row, key), value, b.const(vector, self.least()))
        if self.shaped:
            value = b.select(self.lane < b.splat(b.cast(limit - key, i32), lanes), value, -math.inf)
        return value, slope

    def softmax(self, scores: Value, here: _Place, count: Value, end: Value, statistics: Value, shares: Value) -> None:
        """Turn rows of products into weights, but for a factor that goes to ``shares``; what a query does not see, up
        to key ``end``, gets 0.
        """
        b, type_, lanes = self.b, self.type, self.across.lanes
        vector = type_.vector(lanes)
        with b.loop(0, count, vectorize=False) as row:
            line = b.offset(type_, scores, row * self.pitch)
            limit = self.begin_row(line, here, row)
            with b.loop(0, limit, lanes, carry=[b.const(vector, -math.inf)], vectorize=False) as (key, state):
                value, _ = self.score(line, row, key, limit)
                if self.shaped:
                    b.store(value, line, key)
                state[0] = b.select(value > state[0], value, state[0])
            top = b.reduce("max", state[0])
            over = b.splat(top, lanes)
            with b.loop(0, limit, lanes, carry=[b.const(vector, 0)], vectorize=False) as (key, state):
                weight = b.exp(b.load(vector, line, key) - over)
                b.store(self.only_kept(weight, key), line, key)
                state[0] = state[0] + weight
            total = b.reduce("add", state[0])
            b.store(1 / (1 - self.rate) / total, shares, row)
            blind = top.eq(self.least())
            b.store(b.select(blind, 0, top), statistics, row * 2)
            b.store(b.select(blind, -total, total), statistics, row * 2 + 1)
            self.clear(line, (limit + (lanes - 1)) // lanes * lanes, end)

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

    def differentiate(
        self, weights: Value, changes: Value, here: _Place, count: Value, end: Value, statistics: Value, bent: bool
    ) -> None:
        """Turn rows of products, and of the weights' gradients, into weights and the gradients by the scores, before
        the cap if ``bent``; 0 for what a query does not see.
        """
        b, type_, lanes = self.b, self.type, self.across.lanes
        vector = type_.vector(lanes)
        with b.loop(0, count, vectorize=False) as row:
            line, change = (b.offset(type_, x, row * self.pitch) for x in (weights, changes))
            limit = self.begin_row(line, here, row)
            self.cut(change, limit, 0)
            top, total = (b.load(type_, statistics, row * 2 + i) for i in range(2))
            top = b.splat(b.select(total < 0, self.least(), top), lanes)
            share = b.splat(1 / b.abs(total), lanes)
            with b.loop(0, limit, lanes, carry=[b.const(vector, 0)], vectorize=False) as (key, state):
                value, slope = self.score(line, row, key, limit)
                weight = b.exp(value - top) * share
                state[0] = state[0] + self.only_kept(weight, key) * b.load(vector, change, key)
                b.store(weight, line, key)
                if self.cap:
                    b.store(slope, self.slopes, key)
            mean = b.splat(b.reduce("add", state[0]), lanes)
            with b.loop(0, limit, lanes, vectorize=False) as key:
                weight = b.load(vector, line, key)
                value = weight * (self.only_kept(b.load(vector, change, key), key) - mean)
                if "b" in self.rows:
                    value = b.select(self.seen(row, key), value, 0)
                b.store(value * b.load(vector, self.slopes, key) if self.cap and bent else value, change, key)
                if self.rate:
                    b.store(self.only_kept(weight, key), line, key)
            for x in (line, change):
                self.clear(x, (limit + (lanes - 1)) // lanes * lanes, end)

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

    def kernel(self, extent: int) -> Kernel:
        return Kernel(self.module.text(), extent, 1, self.scratch.size, "blocks")


def _counting(b: Builder, lanes: int) -> Value:
    """The vector 0, 1, 2, …"""
    lane = b.const(i32.vector(lanes), 0)
    for i in range(lanes):
        lane = b.insert(lane, b.const(i32, i), i)
    return lane


def attention(node: Node) -> Kernel | None:
    """The kernel of the op `attention`. Items: some queries of one head."""
    k = _Kernel(node, 3)
    if 0 in node.specs[0].shape:
        return None
    length = max(k.share(k.queries, k.batch * k.heads), 2 * k.block)
    chunks = ceil_div(k.queries, length)
    onto = choose_tile(k.type, k.block, k.width)
    with k.module.kernel("kernel", len(node.inputs) + 2) as (b, pointers, lo, hi, base):
        (q, keys, values), (out, statistics) = pointers[:3], pointers[-2:]
        scratch = Scratch(b, base, k.type)
        packed_keys = scratch.take(k.room(k.across, k.depth, k.keys))
        packed_values = scratch.take(k.room(onto, k.keys, k.width))
        scores, shares = scratch.take(k.block * k.pitch), scratch.take(k.block)
        k.begin(b, scratch, pointers)
        with b.loop(lo, hi, vectorize=False) as item:
            batch, head, chunk = digits(item, (k.batch, k.heads, chunks))
            group = head // k.shared
            k.pack(packed_keys, k.across, k.keys_at(keys, batch, group, k.depth), turned=True)
            k.pack(packed_values, onto, k.keys_at(values, batch, group, k.width), turned=False)

            def block(first: Value, count: Value, batch=batch, head=head) -> None:
                here, seen = (batch, first, head), k.limit(first + count - 1)
                k.bring(here, count)
                k.scores(k.rows_at(q, here, k.depth), count, packed_keys, scores, seen, k.factors[0])
                k.softmax(scores, here, count, seen, k.statistics_at(statistics, here), shares)
                rows, into = _Matrix(scores, k.pitch, k.keys), k.rows_at(out, here, k.width)
                k.product(rows, count, seen, _Packed(packed_values, onto, k.keys), into, (shares, 1))

            start = chunk * length
            k.blocks(start, b.minimum(start + length, k.queries), block)
    return k.kernel(k.batch * k.heads * chunks)


class _Gradient(_Kernel):
    """What the gradients share: weights are computed anew."""

    def __init__(self, node: Node):
        super().__init__(node, 5)

    def begin(self, b: Builder, scratch: Scratch, pointers: list[Value]) -> None:
        super().begin(b, scratch, pointers)
        self.q, self.k, self.v, self.g, self.statistics = pointers[:5]
        self.packed_keys = scratch.take(self.room(self.across, self.depth, self.keys))
        self.packed_values = scratch.take(self.room(self.across, self.width, self.keys))
        self.weights, self.changes = (scratch.take(self.block * self.pitch) for _ in range(2))
        self.slopes = scratch.take(self.pitch if self.cap else 0)

    def pack_both(self, batch: Value, group: Value) -> None:
        self.pack(self.packed_keys, self.across, self.keys_at(self.k, batch, group, self.depth), turned=True)
        self.pack(self.packed_values, self.across, self.keys_at(self.v, batch, group, self.width), turned=True)

    def work_out(self, here: _Place, count: Value, seen: Value, end: Value, bent: bool) -> tuple[_Matrix, _Matrix]:
        """Weights and changes of a block of queries; returns the rows of these and of the result's gradient."""
        queries, above = self.rows_at(self.q, here, self.depth), self.rows_at(self.g, here, self.width)
        self.bring(here, count)
        self.scores(queries, count, self.packed_keys, self.weights, seen, self.factors[0])
        self.scores(above, count, self.packed_values, self.changes, seen, self.factors[1])
        statistics = self.statistics_at(self.statistics, here)
        self.differentiate(self.weights, self.changes, here, count, end, statistics, bent)
        return queries, above


def attention_gradient(node: Node) -> Kernel | None:
    """The kernel of `attention_gradient`. Items: the queries of one head of keys."""
    k = _Gradient(node)
    if any(0 in spec.shape for spec in node.specs):
        return None
    onto = choose_tile(k.type, k.block, k.depth)
    tiles = choose_tile(k.type, k.keys, k.depth), choose_tile(k.type, k.keys, k.width)
    heights = [ceil_div(k.keys, tile.rows) * tile.rows for tile in tiles]
    with k.module.kernel("kernel", len(node.inputs) + 3) as (b, pointers, lo, hi, base):
        made = pointers[-3:]
        scratch = Scratch(b, base, k.type)
        key_rows = scratch.take(k.room(onto, k.keys, k.depth))
        areas = [k.room(*sizes) for sizes in zip(tiles, heights, (k.depth, k.width), strict=True)]
        sums = [scratch.take(area) for area in areas]
        k.begin(b, scratch, pointers)
        with b.loop(lo, hi, vectorize=False) as item:
            batch, group = digits(item, (k.batch, k.groups))
            k.pack_both(batch, group)
            k.pack(key_rows, onto, k.keys_at(k.k, batch, group, k.depth), turned=False)
            for total, area in zip(sums, areas, strict=True):
                b.fill_zero(total, area * k.type.size)

            def block(first: Value, count: Value, head: Value, batch=batch) -> None:
                here, seen = (batch, first, head), k.limit(first + count - 1)
                queries, above = k.work_out(here, count, seen, seen + max(tile.rows for tile in tiles), bent=True)
                rows, to = _Matrix(k.changes, k.pitch, k.keys), k.rows_at(made[0], here, k.depth)
                k.product(rows, count, seen, _Packed(key_rows, onto, k.keys), to, (k.factors[2], 0))
                k.add_transposed(k.changes, count, seen, queries, tiles[0], sums[0], heights[0])
                k.add_transposed(k.weights, count, seen, above, tiles[1], sums[1], heights[1])

            with b.loop(0, k.shared, vectorize=False) as own:
                head = group * k.shared + own
                k.blocks(b.const(index, 0), b.const(index, k.queries), lambda *a, head=head: block(*a, head))
            for i, (columns, factor) in enumerate(((k.depth, k.scale), (k.width, 1 / (1 - k.rate)))):
                k.write_sums(sums[i], tiles[i], heights[i], k.keys_at(made[1 + i], batch, group, columns), factor)
    return k.kernel(k.batch * k.groups)


def attention_bias_gradient(node: Node) -> Kernel | None:
    """The kernel of `attention_bias_gradient`. Items: some rows of the bias, with all batches and heads that they
    belong to; of one that is the same for all queries the only row.
    """
    k = _Gradient(node)
    batches, heads, rows, _ = node.specs[0].shape
    if 0 in (*node.specs[0].shape, *node.inputs[0].shape):
        return None
    size = k.pitch * k.type.size
    length = min(k.share(rows, batches * heads), max(1, BLOCK_BYTES // size // k.block) * k.block)
    with k.module.kernel("kernel", len(node.inputs) + 1) as (b, pointers, lo, hi, base):
        scratch = Scratch(b, base, k.type)
        sums = scratch.take(length * k.pitch)
        k.begin(b, scratch, pointers)
        vector = k.type.vector(k.across.lanes)
        with b.loop(lo, hi, vectorize=False) as item:
            batch, head, chunk = digits(item, (batches, heads, ceil_div(rows, length)))
            start, end = chunk * length, b.minimum((chunk + 1) * length, rows)
            b.fill_zero(sums, length * size)

            def block(first: Value, count: Value, batch: Value, head: Value, start=start) -> None:
                seen = k.limit(first + count - 1)
                k.work_out((batch, first, head), count, seen, b.const(index, k.keys), bent=False)
                with b.loop(0, count, vectorize=False) as row:
                    line = b.offset(k.type, k.changes, row * k.pitch)
                    total = b.offset(k.type, sums, (first + row - start) * k.pitch) if rows > 1 else sums
                    with b.loop(0, k.limit(first + row), vector.lanes, vectorize=False) as key:
                        b.store(b.load(vector, total, key) + b.load(vector, line, key), total, key)

            with (
                b.loop(0, k.batch if batches == 1 else 1, vectorize=False) as more,
                b.loop(0, k.heads if heads == 1 else 1, vectorize=False) as others,
            ):
                own = batch + more, head + others
                k.pack_both(own[0], own[1] // k.shared)
                last = end if rows > 1 else b.const(index, k.queries)
                k.blocks(start, last, lambda *a, own=own: block(*a, *own))
            with b.loop(0, end - start, vectorize=False) as row:
                target = ((batch * heads + head) * rows + start + row) * k.keys
                source = b.offset(k.type, sums, row * k.pitch)
                b.copy(b.offset(k.type, pointers[-1], target), source, k.keys * k.type.size)
    return k.kernel(batches * heads * ceil_div(rows, length))
