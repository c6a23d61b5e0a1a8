"""Convolutions of NHWC data and their gradients, by the same micro-kernel as matrix products.

- A convolution has one row of A per output pixel. In NHWC data the elements under one row of the filter are
  contiguous, so a pixel needs an address and a list of runs, not a copy of its window. Padding is handled by
  copying the part of the image that a task reads, with a margin of zeros, to the thread's scratch memory,
  where it stays in the second-level cache.
- The input gradient is the same walk over the output gradient with the filter turned round; with strides,
  each residue of the position modulo the stride has its own taps.
- The filter gradient has one row of A per filter tap and channel, and walks over pixels.
"""

from __future__ import annotations

import dataclasses
import math

from . import depthwise, winograd
from .contraction import matmul
from .loops import Builder, Module, Value, i32, index
from .native import Kernel
from .tiles import (
    BLOCK_BYTES,
    LEAST_SPLITS,
    PANEL_DEPTH,
    PANEL_GROUP,
    Contraction,
    Epilogue,
    Place,
    Runs,
    Scratch,
    Step,
    Sweep,
    Tile,
    ceil_div,
    choose_tile,
    digits,
    extra_names,
    in_splits,
    least_tasks,
    pack,
    packing,
    part_size,
    store_result,
)
from .windows import (
    Convolution,
    PixelBlocks,
    Variant,
    Window,
    backward_variants,
    forward_variants,
    make_window,
    pixel_blocks,
)


def _cut(spans: list[tuple[int, int, int]], depth: int, weight_step: int) -> list[tuple[list, list]]:
    """Cut (offset in A, offset in B, length) spans into blocks of `depth`: their runs in A, and pieces to
    pack of B.

    Runs are (offset, length), pieces (offset, length); neighbours that continue each other are joined.
    """
    blocks: list[tuple[list, list]] = []
    room = 0
    for a, w, length in spans:
        while length:
            if not room:
                blocks.append(([], []))
                room = depth
            runs, pieces = blocks[-1]
            part = min(length, room)
            if runs and sum(runs[-1]) == a:
                runs[-1] = (runs[-1][0], runs[-1][1] + part)
            else:
                runs.append((a, part))
            if pieces and pieces[-1][0] + pieces[-1][1] * weight_step == w:
                pieces[-1] = (pieces[-1][0], pieces[-1][1] + part)
            else:
                pieces.append((w, part))
            a, w, length, room = a + part, w + part * weight_step, length - part, room - part
    return blocks or [([], [])]


@dataclasses.dataclass(frozen=True)
class _Image:
    """How a gathered convolution walks over an image: `step` is between neighbouring pixels of a variant."""

    size: tuple[int, int]
    channels: int
    step: tuple[int, int]


class _Tables:
    """What a gathered convolution looks up at run time: all that differs between variants or blocks."""

    def __init__(self, conv: Convolution, variants: list[Variant], source: _Image, target: _Image):
        self.inputs: list[int] = []  # per output pixel of a block: where its window begins
        self.outputs: list[int] = []  # per output pixel: its place in the result, from the block's first
        self.blocks: list[int] = []  # per block of the summed index: first run, last, first piece, last
        self.runs: list[tuple[int, int]] = []
        self.pieces: list[tuple[int, int]] = []
        self.shapes: list[int] = []  # per variant: grid, first pixel, blocks lo and hi, first pixel in inputs
        self._conv, self._variants, self._source, self._target = conv, variants, source, target

    def fill(self, window: Window, pixels: PixelBlocks, depth: int, weight_step: int) -> None:
        conv, source, target = self._conv, self._source, self._target
        tap_size = conv.channels // conv.groups * conv.filters
        for variant in self._variants:
            start, first_block = len(self.inputs), len(self.blocks) // 4
            for image in range(pixels.together):
                for y in range(pixels.rows if pixels.together == 1 else variant.grid[0]):
                    for x in range(variant.grid[1]):
                        at = window.offset(y * source.step[0], x * source.step[1])
                        self.inputs.append(image * window.elements + at)
                        row = image * target.size[0] + y * target.step[0]
                        self.outputs.append(row * target.size[1] + x * target.step[1])
            spans = [(window.tap(t), t[2] * tap_size, source.channels // conv.groups) for t in variant.taps]
            for runs, pieces in _cut(spans, depth, weight_step):
                self.blocks += [len(self.runs), len(self.runs) + len(runs)]
                self.blocks += [len(self.pieces), len(self.pieces) + len(pieces)]
                self.runs += runs
                self.pieces += pieces
            self.shapes += [*variant.grid, *variant.first, first_block, len(self.blocks) // 4, start]


def _number(b: Builder, table: Value, i) -> Value:
    return b.cast(b.load(i32, table, i), index)


def _gather(
    conv: Convolution,
    variants: list[Variant],
    source: _Image,
    target: _Image,
    weight_strides: tuple[int, int],
    operand: str,
    epilogue: Epilogue | None,
    extras: int,
    packed: bool = False,
) -> Contraction:
    """Each output pixel sums, over its taps, a pixel of the input times a matrix of the filter."""
    if winograd.fits(conv, source.channels, target.channels, packed):
        ends = (source.size, source.channels), (target.size, target.channels)
        return winograd.gather(conv, variants[0], *ends, weight_strides, operand, epilogue, extras, packed)
    type_, groups = conv.type, conv.groups
    c, n = source.channels // groups, target.channels // groups
    summed = max(len(variant.taps) for variant in variants) * c
    depth = 8 * ceil_div(ceil_div(summed, ceil_div(summed, PANEL_DEPTH)), 8)
    whole = summed <= depth

    def window_of(rows: int) -> Window:
        return make_window(variants, source.size, source.channels, source.step, rows)

    least = ceil_div(least_tasks(), groups * max(1, n // 64))  # with 64 columns a task, at the least
    pixels = pixel_blocks(conv.images, variants, window_of, type_.size, 512, least)
    window = window_of(pixels.rows)
    most = pixels.rows * pixels.together * max(variant.grid[1] for variant in variants)
    tile = choose_tile(type_, most, n)
    room, all_panels = tile.rows * ceil_div(most, tile.rows), ceil_div(n, tile.width)
    panels = all_panels if whole else max(1, min(all_panels, BLOCK_BYTES // (room * tile.width * type_.size)))
    while pixels.count * groups * ceil_div(all_panels, panels) < least_tasks() and panels > 1:
        panels = ceil_div(panels, 2)
    tasks = (pixels.count, groups, ceil_div(all_panels, panels))
    tables = _Tables(conv, variants, source, target)
    tables.fill(window, pixels, depth, weight_strides[0])
    lengths = {length for _, length in tables.runs}
    # One matrix, its rows in the order in which the taps are gone through.
    packed = packed and groups == 1 and len(tables.pieces) == len(tables.blocks) // 4 and len(variants) == 1
    packed = packed and [t[2] for t in variants[0].taps] == list(range(len(variants[0].taps)))
    ahead = packing(tile, summed, n, weight_strides) if packed else None

    module = Module()
    at = [module.table(i32, values or [0]) for values in (tables.inputs, tables.outputs, tables.blocks, tables.shapes)]
    at += [module.table(i32, [cell for row in rows for cell in row] or [0]) for rows in (tables.runs, tables.pieces)]
    with module.kernel("kernel", 3 + extras) as (b, (x, w, out, *more), lo, hi, base):
        inputs, outputs, blocks, shapes, runs, pieces = map(b.symbol, at)
        scratch = Scratch(b, base, type_)
        window_at = scratch.take(0 if window.direct else window.elements * pixels.together)
        panels_at = scratch.take(0 if packed else PANEL_GROUP * depth * tile.width)
        sums = Sweep.elements(tile, panels, room, whole)
        sums_at = scratch.take(sums)

        def one_variant(v: Value, corner: Value, weights: Value, where: tuple, group: Value, share: tuple) -> None:
            first_image, images, row0 = where
            grid_y, grid_x, y0, x0, block_lo, block_hi, start = (_number(b, shapes, v * 7 + i) for i in range(7))
            rows = b.minimum(grid_y - row0, pixels.rows) if pixels.together == 1 else grid_y
            count = b.maximum(rows * grid_x * images, 0)
            top = first_image * target.size[0] + row0 * target.step[0] + y0
            home = top * target.size[1] + x0

            def store(value: Value, row: Value, column: Value) -> None:
                row, column = home + _number(b, outputs, start + row), group * n + column
                place = Place(b.const(index, 0), row, column)
                store_result(b, value, place, (out, lambda b, matrix, row: row * target.channels), epilogue, more)

            def row_address(row: Value) -> Value:
                return b.offset(type_, corner, _number(b, inputs, start + row))

            def block(k: Value) -> None:
                run_lo, run_hi, piece_lo, piece_hi = (_number(b, blocks, k * 4 + i) for i in range(4))

                def prepare(panel: Value, tile_: Tile, width: int) -> tuple[Tile, Value]:
                    if packed:
                        home = panel * (tile.width * summed) + k * (depth * tile_.width)
                        return tile_, b.offset(type_, weights, home)
                    column = panel * (tile.width * weight_strides[1])

                    def write(to: tuple[Value, int, Value]) -> None:
                        with b.loop(piece_lo, piece_hi, carry=[to[0]], vectorize=False) as (piece, at):
                            origin = b.offset(type_, weights, _number(b, pieces, piece * 2) + column)
                            length = _number(b, pieces, piece * 2 + 1)
                            pack(b, tile_, width, (at[0], *to[1:]), origin, length, weight_strides)
                            at[0] = b.offset(type_, at[0], length * tile_.width)

                    return tile_, sweep.packed(panel, tile_, panels_at, depth * tile.width, write)

                walk = Runs(runs, run_lo, run_hi, length=next(iter(lengths)) if len(lengths) == 1 else 0)
                few = len(tables.blocks) == 4 and summed <= 64
                sweep.block(prepare, row_address, tables.runs if few else walk)

            sweep = Sweep(b, tile, n, count, share, room, whole, store)
            sweep.blocks(sums_at, sums, block_lo, block_hi, 1, block)

        with b.loop(lo, hi, vectorize=False) as task:
            number, group, panel_block = digits(task, tasks)
            where = pixels.start(b, number)
            share = panel_block * panels, b.minimum(panel_block * panels + panels, all_panels)
            corner = b.offset(type_, window.place(b, type_, window_at, x, *where), group * c)
            weights = b.offset(type_, w, group * (conv.filters // groups))
            with b.loop(0, len(variants), vectorize=False) as v:
                one_variant(v, corner, weights, where, group, share)
    kernel = Kernel(module.text(), math.prod(tasks), 1, scratch.size, "blocks")
    return Contraction((Step(kernel, (operand, "w", "out", *extra_names(extras))),), packing=ahead)


def _as_product(
    conv: Convolution, how: str, epilogue: Epilogue | None, extras: int, packed: bool = False
) -> Contraction:
    """A 1 x 1 convolution, or a gradient of it, as a matrix product over pixels."""
    pixels, c, f = conv.images * conv.out[0] * conv.out[1], conv.channels, conv.filters
    shape, strides, names = {
        "forward": ((pixels, f, c), ((c, 1), (f, 1), (f, 1)), {"a": "x", "b": "w"}),
        "input": ((pixels, c, f), ((f, 1), (1, f), (c, 1)), {"a": "dy", "b": "w"}),
        "filter": ((c, f, pixels), ((1, c), (f, 1), (f, 1)), {"a": "x", "b": "dy"}),
    }[how]
    made = matmul(*shape, *strides, (), conv.type, epilogue, extras, packed)
    steps = (Step(step.kernel, tuple(names.get(name, name) for name in step.buffers)) for step in made.steps)
    return Contraction(tuple(steps), made.work, made.packing)


def convolution(
    conv: Convolution, epilogue: Epilogue | None = None, extras: int = 0, packed: bool = False
) -> Contraction:
    """y = x * w. Buffers: "x", "w", "out". ``packed`` asks for a form that reads "w" packed, where there is one."""
    if conv.depthwise:
        return depthwise.convolution(conv, forward_variants(conv), True, epilogue, extras)
    if conv.plain:
        return _as_product(conv, "forward", epilogue, extras, packed)
    source = _Image(conv.size, conv.channels, conv.stride)
    target = _Image(conv.out, conv.filters, (1, 1))
    return _gather(conv, forward_variants(conv), source, target, (conv.filters, 1), "x", epilogue, extras, packed)


def input_gradient(conv: Convolution, epilogue: Epilogue | None = None, extras: int = 0) -> Contraction:
    """The gradient with respect to x; also the transposed convolution of "dy". Buffers: "dy", "w", "out"."""
    if conv.depthwise:
        return depthwise.convolution(conv, backward_variants(conv), False, epilogue, extras)
    if conv.plain:
        return _as_product(conv, "input", epilogue, extras)
    source = _Image(conv.out, conv.filters, (1, 1))
    target = _Image(conv.size, conv.channels, conv.stride)
    return _gather(conv, backward_variants(conv), source, target, (1, conv.filters), "dy", epilogue, extras)


def filter_gradient(conv: Convolution, epilogue: Epilogue | None = None, extras: int = 0) -> Contraction:
    """The gradient with respect to w. Buffers: "x", "dy", "out".

    An epilogue sees row tap * channels / groups + channel, column filter.
    """
    if conv.depthwise:
        return depthwise.filter_gradient(conv, epilogue, extras)
    if conv.plain:
        return _as_product(conv, "filter", epilogue, extras)
    if winograd.fits(conv, conv.channels, conv.filters):
        return winograd.filter_gradient(conv, epilogue, extras)
    type_, groups, f = conv.type, conv.groups, conv.filters
    c, n = conv.channels // groups, f // groups
    variants = forward_variants(conv)

    def window_of(rows: int) -> Window:
        return make_window(variants, conv.size, conv.channels, conv.stride, rows, spread=True)

    m = len(variants[0].taps) * c
    tile = choose_tile(type_, m, n)
    all_panels = ceil_div(n, tile.width)
    panels = min(all_panels, ceil_div(256, tile.width))
    fitting = BLOCK_BYTES // (panels * tile.width * type_.size * tile.rows)
    m_tiles = ceil_div(m, tile.rows)
    room = tile.rows * ceil_div(m_tiles, ceil_div(m_tiles, max(1, fitting)))
    shares = groups * ceil_div(m, room) * ceil_div(all_panels, panels)
    least = ceil_div(LEAST_SPLITS, shares)
    pixels = pixel_blocks(conv.images, variants, window_of, type_.size, PANEL_DEPTH, least)
    window = window_of(pixels.rows)
    most = pixels.rows * pixels.together * conv.out[1]
    blocks_each = ceil_div(pixels.count, min(pixels.count, least))
    splits = ceil_div(pixels.count, blocks_each)
    tasks = (splits, groups, ceil_div(m, room), ceil_div(all_panels, panels))
    inline = extras if splits == 1 else 0

    module = Module()
    taps = [window.tap(tap) + channel for tap in conv.taps() for channel in range(c)]
    lines = [
        (image * window.elements + window.offset(y * conv.stride[0], 0), conv.out[1])
        for image in range(pixels.together)
        for y in range(pixels.rows)
    ]
    at = [module.table(i32, taps), module.table(i32, [cell for line in lines for cell in line])]
    with module.kernel("kernel", 3 + inline) as (b, (x, dy, out, *more), lo, hi, base):
        tap_at, lines_at = map(b.symbol, at)
        scratch = Scratch(b, base, type_)
        window_at = scratch.take(0 if window.direct else window.elements * pixels.together)
        panels_at = scratch.take(PANEL_GROUP * most * tile.width)
        sums = Sweep.elements(tile, panels, room, False)
        sums_at = scratch.take(sums)

        def block(number: Value, sweep: Sweep, group: Value, row0: Value) -> None:
            first_image, images, y0 = pixels.start(b, number)
            rows = b.minimum(y0 + pixels.rows, conv.out[0]) - y0
            corner = window.place(b, type_, window_at, x, first_image, images, y0)
            corner = b.offset(type_, corner, group * c)
            first_pixel = (first_image * conv.out[0] + y0) * conv.out[1]

            def prepare(panel: Value, tile_: Tile, width: int) -> tuple[Tile, Value]:
                origin = b.offset(type_, dy, first_pixel * f + group * n + panel * tile.width)
                count = images * rows * conv.out[1]
                return tile_, sweep.packed(
                    panel,
                    tile_,
                    panels_at,
                    most * tile.width,
                    lambda to: pack(b, tile_, width, to, origin, count, (f, 1)),
                )

            def row_address(row: Value) -> Value:
                return b.offset(type_, corner, _number(b, tap_at, row0 + row))

            stride = conv.stride[1] * window.pitch
            sweep.block(prepare, row_address, Runs(lines_at, b.const(index, 0), images * rows, stride, conv.out[1]))

        with b.loop(lo, hi, vectorize=False) as task:
            split, group, row_block, panel_block = digits(task, tasks)
            row0, panel0 = row_block * room, panel_block * panels
            count = part_size(b, row0, room, m)

            def store(value: Value, row: Value, column: Value) -> None:
                row, column = row0 + row, group * n + column
                place = Place(b.const(index, 0), row if splits == 1 else split * m + row, column)
                own = epilogue if splits == 1 else None
                store_result(b, value, place, (out, lambda b, matrix, row: row * f), own, more)

            sweep = Sweep(b, tile, n, count, (panel0, b.minimum(panel0 + panels, all_panels)), room, False, store)
            first = split * blocks_each
            last = b.minimum(first + blocks_each, pixels.count)
            sweep.blocks(sums_at, sums, first, last, 1, lambda number: block(number, sweep, group, row0))
    kernel = Kernel(module.text(), math.prod(tasks), 1, scratch.size, "blocks")
    step = Step(kernel, ("x", "dy", "out" if splits == 1 else "work", *extra_names(inline)))
    return in_splits(step, splits, (m, f), type_, epilogue, extras)
