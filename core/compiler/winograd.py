"""Convolutions with filters of 3 x 3 and stride 1 by 16 products for four pixels, where the plain way takes 36.

Winograd's F(2 x 2, 3 x 3) (Lavin, Gray 2016): squares of 4 x 4 input pixels that overlap by two, the filters and,
for the gradient, squares of 2 x 2 pixels are brought into a form in which a convolution is a product of matrices for
each of 16 positions. The transforms are sums and differences, of vectors of channels, while a block of squares is in
the second-level cache. Rounding errors are those of the plain way up to a small factor; where an infinity would be
the result, it is NaN, as differences of infinities come in between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ..config import passes
from . import emit_llvm
from .loops import Builder, Module, Type, Value, index
from .native import Kernel
from .tiles import (
    LEAST_SPLITS,
    Contraction,
    Epilogue,
    Place,
    Scratch,
    Step,
    Tile,
    ceil_div,
    choose_tile,
    digits,
    each_tile,
    extra_names,
    in_splits,
    least_tasks,
    store_result,
    transpose,
)
from .windows import Convolution, PixelBlocks, Variant, Window, forward_variants, make_window

POSITIONS = 16
SQUARES_BYTES = 288 << 10  # of what a block of squares takes in all positions,
LEAST_BLOCK = 48  # but so many at least: each block goes over all filters
SUMS_BYTES = 256 << 10  # of a filter's gradient in all positions
LEAST_SQUARES = 64  # for less, the transform of the filters is not paid for
MOST_CHANNELS = 512
MOST_BYTES = 8 << 20  # of a row of squares, which is a block at the least

Vectors = Sequence[Value]


def fits(conv: Convolution, channels: int, filters: int, packed: bool = False) -> bool:
    """Whether a convolution from so many channels to so many is done this way; ``packed``: of known filters."""
    lanes = emit_llvm.vector_bytes() // conv.type.size
    plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    down, across = ceil_div(conv.out[0], 2), ceil_div(conv.out[1], 2)
    return (
        "winograd" in passes()
        and plain
        and conv.kernel == (3, 3)
        and channels % lanes == 0
        and filters % (2 * lanes) == 0
        and channels <= MOST_CHANNELS
        and min(conv.size) >= 3
        and conv.images * down * across >= LEAST_SQUARES // (2 if packed else 1)
        and across * POSITIONS * channels * conv.type.size <= MOST_BYTES
    )


# -- the transforms, of four or fewer values along one axis ----------------------------------------------------------


def _of_input(d: Vectors) -> Vectors:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _of_filter(g: Vectors) -> Vectors:
    middle, ends = g[1] * 0.5, (g[0] + g[2]) * 0.5
    return [g[0], ends + middle, ends - middle, g[2]]


def _to_output(m: Vectors) -> Vectors:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _of_gradient(y: Vectors) -> Vectors:
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _to_filter(s: Vectors) -> Vectors:
    middle, difference = (s[1] + s[2]) * 0.5, (s[1] - s[2]) * 0.5
    return [s[0] + middle, difference, middle + s[3]]


def _both_ways(transform: Callable[[Vectors], Vectors], square: Sequence[Vectors]) -> list[Value]:
    """Transform the columns of a square, then its rows; the result row by row."""
    columns = [transform(column) for column in zip(*square, strict=True)]
    return [value for row in zip(*columns, strict=True) for value in transform(row)]


# -- blocks of squares -----------------------------------------------------------------------------------------------


def _blocks(images: int, grid: tuple[int, int], most: int, least: int) -> PixelBlocks:
    """Blocks of rows of squares of one image, or of several images: at most ``most`` squares, ``least`` blocks."""
    down, across = grid
    rows = max(1, min(down, most // across))
    rows, together = ceil_div(down, ceil_div(down, rows)), 1
    if rows == down:
        together = ceil_div(images, ceil_div(images, max(1, most // (down * across))))
    while rows * together > 1 and ceil_div(images, together) * ceil_div(down, rows) < least:
        rows, together = (rows, ceil_div(together, 2)) if together > 1 else (ceil_div(rows, 2), 1)
    return PixelBlocks(images, down, rows, together)


@dataclasses.dataclass
class _Side:
    """Images of which squares are read: where they lie, or a copy with a margin of zeros."""

    window: Window
    start: int  # of a square's first pixel, from the pixel of the window that the square belongs to

    @classmethod
    def of(cls, taps: list, size: tuple[int, int], channels: int, grid: tuple[int, int], rows: int) -> _Side:
        variant = Variant(taps, (0, 0), (2 * grid[0], 2 * grid[1]))
        window = make_window([variant], size, channels, (1, 1), 2 * rows)
        return cls(window, window.tap(min(taps)))  # the least row, and in it the least column

    def elements(self, blocks: PixelBlocks) -> int:
        """The memory of a copy."""
        return 0 if self.window.direct else self.window.elements * blocks.together

    def transform(self, b: Builder, type_: Type, how, extent: int, source: Value, squares, channels, target) -> None:
        """Bring squares of ``extent`` x ``extent`` pixels from ``source`` into the 16 positions of ``target``.

        ``squares`` calls its argument with (number, image, row, column) of each; ``channels`` is the first channel
        that is wanted, and how many; ``target`` is (address, elements from position to position).
        """
        window, (first, count) = self.window, channels
        vector = type_.vector(emit_llvm.vector_bytes() // type_.size)

        def square(number: Value, image: Value, row: Value, column: Value) -> None:
            corner = image * window.elements + window.offset(row * 2, column * 2) + self.start
            corner = b.offset(type_, source, corner + first)
            home = b.offset(type_, target[0], number * count)
            with b.loop(0, count, vector.lanes, vectorize=False) as channel:
                pixels = [
                    [b.load(vector, corner, channel + window.offset(y, x)) for x in range(extent)]
                    for y in range(extent)
                ]
                for position, value in enumerate(_both_ways(how, pixels)):
                    b.store(value, home, channel + position * target[1])

        squares(square)


def _squares(b: Builder, blocks: PixelBlocks, across: int, images: Value, row0: Value) -> tuple[Callable, Value]:
    """How to go through the squares of a block, and how many there are."""
    one = blocks.together == 1
    rows = b.minimum(row0 + blocks.rows, blocks.height) - row0 if one else b.const(index, blocks.height)

    def each(body: Callable[..., None]) -> None:
        with (
            b.loop(0, images, vectorize=False) as image,
            b.loop(0, rows, vectorize=False) as row,
            b.loop(0, across, vectorize=False) as column,
        ):
            body((image * blocks.rows + row) * across + column, image, row, column)

    return each, images * rows * across


# -- convolution and input gradient ----------------------------------------------------------------------------------


def _filter_kernel(
    taps: Sequence[Sequence[int]], channels: int, filters: int, strides: tuple[int, int], tile: Tile
) -> Kernel:
    """Write the filters' transform: for each position and panel of filters a matrix (channels, tile.width).

    ``taps`` numbers the elements of a filter, row by row; ``strides`` are those of channels and filters.
    """
    type_, lanes, size, module = tile.type, tile.lanes, channels * filters, Module()
    # Vectors run along the filters. Where channels lie side by side instead, squares of them are turned round.
    along = strides[1] == 1
    with (
        module.kernel("kernel", 2) as (b, (w, out), lo, hi, scratch),
        b.loop(lo, hi, vectorize=False) as block,
        b.loop(0, filters, lanes, vectorize=False) as number,
    ):
        first = block * lanes
        if not along:
            forward = taps[0][1] - taps[0][0]  # taps are gone through in order, or backwards
            with b.loop(0, 9, vectorize=False) as tap:
                at = (tap * forward + taps[0][0]) * size + first * strides[0] + number * strides[1]
                rows = [b.load(tile.vector, w, at + lane * strides[1]) for lane in range(lanes)]
                for lane, row in enumerate(transpose(b, rows)):
                    b.store(row, scratch, (tap * lanes + lane) * lanes)
        with b.loop(0, lanes, vectorize=False) as lane:
            channel = first + lane

            def element(tap: int, at: int, channel=channel, lane=lane) -> Value:
                if along:
                    return b.load(tile.vector, w, channel * strides[0] + number + tap * size)
                return b.load(tile.vector, scratch, (lane + at * lanes) * lanes)

            elements = [[element(tap, 3 * i + j) for j, tap in enumerate(row)] for i, row in enumerate(taps)]
            home = number // tile.width * (channels * tile.width) + channel * tile.width + number % tile.width
            for position, value in enumerate(_both_ways(_of_filter, elements)):
                b.store(value, out, home + position * size)
    room = 0 if along else 9 * lanes * lanes * type_.size
    return Kernel(module.text(), channels // lanes, 1, room, "blocks")


def gather(
    conv: Convolution,
    variant: Variant,
    source: tuple[tuple[int, int], int],
    target: tuple[tuple[int, int], int],
    strides: tuple[int, int],
    operand: str,
    epilogue: Epilogue | None,
    extras: int,
    packed: bool,
) -> Contraction:
    """Each pixel of ``target`` sums over its taps a pixel of ``source`` times a matrix; both are (size, channels).

    ``strides`` are those of the source's and the target's channels in "w".
    """
    type_, (size, c), (out_size, n) = conv.type, source, target
    grid = ceil_div(out_size[0], 2), ceil_div(out_size[1], 2)
    lanes = emit_llvm.vector_bytes() // type_.size
    tile = choose_tile(type_, 48, n)
    if n % tile.width:
        tile = dataclasses.replace(tile, rows=6, vectors=2)
    panels = n // tile.width
    some = max(k for k in range(1, 5) if panels % k == 0)  # panels at a time
    width = some * tile.width
    most = max(LEAST_BLOCK, SQUARES_BYTES // (POSITIONS * type_.size * (c + width)))
    blocks = _blocks(conv.images, grid, most, ceil_div(least_tasks(), panels // some))
    shares = panels // some if blocks.count < least_tasks() else 1
    squares = blocks.rows * blocks.together * grid[1]
    room = ceil_div(squares, tile.rows) * tile.rows
    side = _Side.of(variant.taps, size, c, grid, blocks.rows)
    taps = sorted(variant.taps)
    order = [[tap[2] for tap in taps[3 * row : 3 * row + 3]] for row in range(3)]
    transform, work = _filter_kernel(order, c, n, strides, tile), POSITIONS * c * n * type_.size

    module = Module()
    with module.kernel("kernel", 3 + extras) as (b, (x, w, out, *more), lo, hi, base):
        scratch = Scratch(b, base, type_)
        window_at = scratch.take(side.elements(blocks))
        # Positions lie a little more than a power of two apart, not to fall on the same cache sets.
        steps = room * c + 2 * lanes, room * width + 2 * lanes
        inputs, products = (scratch.take(POSITIONS * step) for step in steps)
        spare = scratch.take(tile.rows * tile.width)
        with b.loop(lo, hi, vectorize=False) as task:
            number, share = digits(task, (blocks.count, shares))
            first, images, row0 = blocks.start(b, number)
            each, count = _squares(b, blocks, grid[1], images, row0)
            corner = side.window.place(b, type_, window_at, x, first, images, row0 * 2)
            side.transform(b, type_, _of_input, 4, corner, each, (0, c), (inputs, steps[0]))
            with b.loop(0, POSITIONS, vectorize=False) as position:  # the last tile is a whole one, too
                b.fill_zero(b.offset(type_, inputs, position * steps[0] + count * c), (room - count) * (c * type_.size))
            own = panels // some // shares
            with b.loop(share * own, share * own + own, vectorize=False) as part:
                panel = b.offset(type_, w, part * (width * c))
                _multiply(b, tile, (room, c, n, some), (inputs, steps[0]), panel, (products, steps[1]), spare)

                def write(
                    number: Value, image: Value, row: Value, column: Value, first=first, row0=row0, part=part
                ) -> None:
                    source = b.offset(type_, products, number * width)
                    pixel = (first + image) * out_size[0], (row0 + row) * 2, column * 2
                    with b.loop(0, width, tile.lanes, vectorize=False) as v:
                        square = _square(b, tile.vector, source, v, steps[1])
                        _store_pixels(b, _both_ways(_to_output, square), pixel, out_size, part * width + v, store)

                def store(value: Value, row: Value, column: Value) -> None:
                    place = Place(b.const(index, 0), row, column)
                    store_result(b, value, place, (out, lambda b, matrix, row: row * n), epilogue, more)

                each(write)
    names = operand, "w" if packed else "work", "out", *extra_names(extras)
    step = Step(Kernel(module.text(), blocks.count * shares, 1, scratch.size, "blocks"), names)
    if packed:
        return Contraction((step,), packing=(transform, work))
    return Contraction((Step(transform, ("w", "work")), step), work)


def _multiply(
    b: Builder, tile: Tile, sizes: tuple[int, int, int, int], left: tuple, panels: Value, out: tuple, spare: Value
) -> None:
    """The 16 products: (squares, channels) x (channels, some panels of all filters) -> (squares, their columns).

    ``left`` and ``out`` are (address, elements from position to position).
    """
    (squares, c, n, some), type_ = sizes, tile.type
    with b.loop(0, POSITIONS, vectorize=False) as position, b.loop(0, some, vectorize=False) as p:
        source = b.offset(type_, left[0], position * left[1])
        panel = b.offset(type_, panels, position * (n * c) + p * (c * tile.width))
        home = b.offset(type_, out[0], position * out[1] + p * tile.width)

        def finish(value: Value, row: Value, v: int) -> None:
            b.store(value, home, row * (some * tile.width) + v * tile.lanes)

        rows = b.const(index, squares)
        each_tile(b, tile, rows, lambda row: b.offset(type_, source, row * c), panel, (c, 1), spare, finish)


def _square(b: Builder, vector: Type, source: Value, at: Value, step: int) -> list[list[Value]]:
    """The vectors of all positions, which are ``step`` elements apart."""
    return [[b.load(vector, source, at + (4 * i + j) * step) for j in range(4)] for i in range(4)]


def _store_pixels(b: Builder, values: Vectors, pixel: tuple, size: tuple[int, int], column: Value, store) -> None:
    """Store the 2 x 2 pixels of a square, those of them that there are; ``pixel`` is (rows above, row, column)."""
    above, top, left = pixel
    for dy in range(2):
        for dx in range(2):
            y, x = top + dy, left + dx
            odd = [at < extent for at, extent, d in ((y, size[0], dy), (x, size[1], dx)) if d and extent % 2]
            if not odd:
                store(values[2 * dy + dx], (above + y) * size[1] + x, column)
                continue
            with b.if_(odd[0] & odd[1] if len(odd) == 2 else odd[0]):
                store(values[2 * dy + dx], (above + y) * size[1] + x, column)


# -- filter gradient -------------------------------------------------------------------------------------------------


def filter_gradient(conv: Convolution, epilogue: Epilogue | None, extras: int) -> Contraction:
    """The gradient with respect to w: in each position a product of inputs and gradients, summed over all squares."""
    type_, c, f = conv.type, conv.channels, conv.filters
    grid = ceil_div(conv.out[0], 2), ceil_div(conv.out[1], 2)
    lanes = emit_llvm.vector_bytes() // type_.size
    tile = choose_tile(type_, c, 2 * lanes)
    panels, room = f // tile.width, ceil_div(c, tile.rows) * tile.rows
    fitting = [k for k in range(1, panels + 1) if panels % k == 0 and _sums(tile, room, k) <= SUMS_BYTES]
    some = max(fitting, default=1)
    width = some * tile.width
    most = max(2 * LEAST_BLOCK // 3, SQUARES_BYTES // (POSITIONS * type_.size * (c + width)))
    shares = panels // some
    blocks = _blocks(conv.images, grid, most, ceil_div(LEAST_SPLITS, shares))
    each_split = ceil_div(blocks.count, min(blocks.count, ceil_div(LEAST_SPLITS, shares)))
    splits = ceil_div(blocks.count, each_split)
    squares = blocks.rows * blocks.together * grid[1]
    taps = forward_variants(conv)[0].taps
    sides = (
        _Side.of(taps, conv.size, c, grid, blocks.rows),
        _Side.of([(0, 0, 0)], conv.out, f, grid, blocks.rows),
    )
    m, inline = 9 * c, extras if splits == 1 else 0

    module = Module()
    with module.kernel("kernel", 3 + inline) as (b, (x, dy, out, *more), lo, hi, base):
        scratch = Scratch(b, base, type_)
        copies = [scratch.take(side.elements(blocks)) for side in sides]
        steps = squares * c + 2 * lanes, squares * width + 2 * lanes
        inputs, changes = (scratch.take(POSITIONS * step) for step in steps)
        sums_at = scratch.take(_sums(tile, room, some) // type_.size)
        with b.loop(lo, hi, vectorize=False) as task:
            split, share = digits(task, (splits, shares))
            b.fill_zero(sums_at, _sums(tile, room, some))
            last = b.minimum((split + 1) * each_split, blocks.count)
            with b.loop(split * each_split, last, vectorize=False) as number:
                first, images, row0 = blocks.start(b, number)
                each, count = _squares(b, blocks, grid[1], images, row0)
                x_at, dy_at = (
                    side.window.place(b, type_, copy, source, first, images, row0 * 2)
                    for side, copy, source in zip(sides, copies, (x, dy), strict=True)
                )
                sides[0].transform(b, type_, _of_input, 4, x_at, each, (0, c), (inputs, steps[0]))
                own = share * width, width
                sides[1].transform(b, type_, _of_gradient, 2, dy_at, each, own, (changes, steps[1]))
                part = tile.unpacked(width, tile.width)
                with b.loop(0, POSITIONS, vectorize=False) as position, b.loop(0, some, vectorize=False) as p:
                    left = b.offset(type_, inputs, position * steps[0])
                    panel = b.offset(type_, changes, position * steps[1] + p * tile.width)
                    home = b.offset(type_, sums_at, (position * some + p) * (room * tile.width))
                    address = lambda row, left=left: b.offset(type_, left, row)
                    each_tile(b, part, b.const(index, c), address, panel, (count, c), home)

            def store(value: Value, row: Value, column: Value, split=split) -> None:
                place = Place(b.const(index, 0), row if splits == 1 else split * m + row, column)
                own = epilogue if splits == 1 else None
                store_result(b, value, place, (out, lambda b, matrix, row: row * f), own, more)

            with (
                b.loop(0, some, vectorize=False) as p,
                b.loop(0, c, vectorize=False) as channel,
                b.loop(0, tile.width, lanes, vectorize=False) as v,
            ):
                source = b.offset(type_, sums_at, (p * room + channel) * tile.width + v)
                pitch = some * room * tile.width
                square = _square(b, tile.vector, source, b.const(index, 0), pitch)
                column = share * width + p * tile.width + v
                for tap, value in enumerate(_both_ways(_to_filter, square)):
                    store(value, channel + tap * c, column)
    names = "x", "dy", "out" if splits == 1 else "work", *extra_names(inline)
    step = Step(Kernel(module.text(), splits * shares, 1, scratch.size, "blocks"), names)
    return in_splits(step, splits, (m, f), type_, epilogue, extras)


def _sums(tile: Tile, room: int, panels: int) -> int:
    """Bytes of the sums of so many panels, in all positions."""
    return POSITIONS * room * panels * tile.width * tile.type.size
