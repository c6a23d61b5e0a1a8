"""The geometry of convolutions: which pixels a pixel sees, and how images are cut into tasks."""

from __future__ import annotations

import dataclasses

from .loops import Builder, Type, Value, f32
from .tiles import ceil_div, digits

WINDOW_BYTES = 340 << 10  # of an image window, of which a task uses some channels at a time


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A 2-d convolution of NHWC data with an HWIO filter.

    x (images, *size, channels), w (*kernel, channels / groups, filters) -> y (images, *out, filters). `pad`
    is the number of zeros before the first row and column; how many follow the last is decided by `out`.
    """

    images: int
    size: tuple[int, int]
    channels: int
    kernel: tuple[int, int]
    filters: int
    out: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    groups: int = 1
    type: Type = f32

    @property
    def plain(self) -> bool:
        """Whether this is a matrix product over pixels."""
        ones = self.kernel == (1, 1) and self.stride == (1, 1) and self.pad == (0, 0) and self.groups == 1
        return ones and self.size == self.out

    @property
    def depthwise(self) -> bool:
        return self.groups == self.channels == self.filters and self.groups > 1

    def taps(self) -> list[tuple[int, int, int]]:
        """(row, column, number) of each filter element, from the first input pixel of an output pixel."""
        high, wide = self.kernel
        (dy, dx), (top, left) = self.dilation, self.pad
        return [(i * dy - top, j * dx - left, i * wide + j) for i in range(high) for j in range(wide)]


@dataclasses.dataclass(frozen=True)
class Variant:
    """Output pixels, first + k * step, that share their taps (row, column, filter element)."""

    taps: list[tuple[int, int, int]]
    first: tuple[int, int]
    grid: tuple[int, int]


def forward_variants(conv: Convolution) -> list[Variant]:
    return [Variant(sorted(conv.taps()), (0, 0), conv.out)]


def backward_variants(conv: Convolution) -> list[Variant]:
    """The input gradient's pixels by residue modulo the stride, with the taps of "dy" that they see."""
    (sy, sx), found = conv.stride, []
    for py in range(min(sy, conv.size[0])):
        for px in range(min(sx, conv.size[1])):
            taps = [
                ((py - i) // sy, (px - j) // sx, t) for i, j, t in conv.taps() if not ((py - i) % sy or (px - j) % sx)
            ]
            grid = (-(-(conv.size[0] - py) // sy), -(-(conv.size[1] - px) // sx))
            found.append(Variant(sorted(taps), (py, px), grid))
    return found


@dataclasses.dataclass(frozen=True)
class Window:
    """The part of some images that a block of output pixels reads.

    It is copied to scratch memory with its margin of zeros, unless no tap of any pixel leaves the image: then
    it is read where it lies (`direct`).
    """

    size: tuple[int, int]  # of an image
    channels: int
    stride: tuple[int, int]
    low: tuple[int, int]  # the least tap, (0, 0) where direct
    rows: int
    columns: int
    direct: bool
    pitch: int  # elements from one pixel to the next

    @property
    def elements(self) -> int:
        """From one image of the window to the next."""
        return self.rows * self.columns * self.pitch

    def offset(self, y: int, x: int) -> int:
        """Where pixel (y, x), counted from the window's corner, begins."""
        return (y * self.columns + x) * self.pitch

    def tap(self, tap: tuple[int, int, int]) -> int:
        """Where the pixel under a tap begins, from the pixel of the window that it belongs to."""
        return self.offset(tap[0] - self.low[0], tap[1] - self.low[1])

    def place(
        self, b: Builder, type_: Type, scratch: Value, x: Value, first: Value, images: Value, row: Value
    ) -> Value:
        """Return the address of the window of images first..first + images, from output row `row` on."""
        height, width = self.size
        line, item = self.columns * self.pitch, self.pitch * type_.size
        if self.direct:
            return b.offset(type_, x, (first * height + row * self.stride[0]) * line)
        left, start = max(0, -self.low[1]), max(0, self.low[1])
        inner = max(0, min(width - start, self.columns - left))
        right = self.columns - left - inner
        with b.loop(0, images, vectorize=False) as image, b.loop(0, self.rows, vectorize=False) as r:
            y = row * self.stride[0] + self.low[0] + r
            to = b.offset(type_, scratch, image * self.elements + r * line)
            with b.if_((y >= 0) & (y < height)) as real:
                if left:
                    b.fill_zero(to, left * item)
                source = b.offset(type_, x, (((first + image) * height + y) * width + start) * self.channels)
                middle = b.offset(type_, to, left * self.pitch)
                if self.pitch == self.channels:
                    b.copy(middle, source, inner * item)
                else:
                    with b.loop(0, inner, vectorize=False) as p:
                        pixel = b.offset(type_, source, p * self.channels)
                        b.copy(b.offset(type_, middle, p * self.pitch), pixel, self.channels * type_.size)
                if right:
                    b.fill_zero(b.offset(type_, middle, inner * self.pitch), right * item)
            with real.otherwise():
                b.fill_zero(to, line * type_.size)
        return scratch


def make_window(
    variants: list[Variant],
    size: tuple[int, int],
    channels: int,
    stride: tuple[int, int],
    rows: int,
    spread: bool = False,
) -> Window:
    """The window of `rows` output rows; `spread` keeps its pixels from falling on the same cache sets."""
    taps = [tap for variant in variants for tap in variant.taps] or [(0, 0, 0)]
    low = [min(tap[d] for tap in taps) for d in (0, 1)]
    high = [max(tap[d] for tap in taps) for d in (0, 1)]
    grid = [max(variant.grid[d] for variant in variants) for d in (0, 1)]
    reach = [(grid[d] - 1) * stride[d] + high[d] for d in (0, 1)]
    pitch = channels + 16 if spread and channels % 64 == 0 else channels
    if min(low) >= 0 and reach[0] < size[0] and reach[1] < size[1] and pitch == channels:
        return Window(size, channels, stride, (0, 0), size[0], size[1], True, channels)
    columns, high_rows = reach[1] - low[1] + 1, (rows - 1) * stride[0] + high[0] - low[0] + 1
    return Window(size, channels, stride, (low[0], low[1]), high_rows, columns, False, pitch)


@dataclasses.dataclass(frozen=True)
class PixelBlocks:
    """How the output pixels are dealt out: blocks of some rows of one image, or of several whole images."""

    images: int  # of the batch
    height: int
    rows: int
    together: int  # images in a block

    @property
    def down(self) -> int:
        return -(-self.height // self.rows)

    @property
    def count(self) -> int:
        return -(-self.images // self.together) * self.down

    def start(self, b: Builder, block: Value) -> tuple[Value, Value, Value]:
        """Return the first image of a block, how many images it has, and its first row."""
        group, part = digits(block, (self.count // self.down, self.down))
        first = group * self.together
        return first, b.minimum(first + self.together, self.images) - first, part * self.rows


def pixel_blocks(images: int, variants: list[Variant], window_of, item: int, most: int, least: int) -> PixelBlocks:
    """Choose blocks of at most `most` pixels whose windows fit the cache; `least` of them if that can be."""
    height, width = (max(variant.grid[d] for variant in variants) for d in (0, 1))
    rows = max(1, min(height, most // width))
    while rows > 1 and window_of(rows).elements * item > WINDOW_BYTES:
        rows -= 1
    rows = ceil_div(height, ceil_div(height, rows))
    together = 1
    if rows == height:
        room = min(most // (height * width), WINDOW_BYTES // (window_of(rows).elements * item))
        together = ceil_div(images, ceil_div(images, max(1, room)))
    while rows * together > 1 and ceil_div(images, together) * ceil_div(height, rows) < least:
        if together > 1:
            together = ceil_div(together, 2)
        elif rows * width >= 96:
            rows = ceil_div(rows, 2)
        else:
            break
    return PixelBlocks(images, height, rows, together)
