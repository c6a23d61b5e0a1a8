"""Depthwise convolutions and their gradients: one filter per channel.

Some neighbouring pixels of a row are worked on together, so that each element of the window and each weight
is loaded once for all of them; channels run innermost, where memory is contiguous.
"""

from __future__ import annotations

import functools

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
    ceil_div,
    extra_names,
    least_tasks,
    store_result,
    sum_of_splits,
)
from .windows import Convolution, Variant, Window, forward_variants, make_window, pixel_blocks

_TOGETHER = 4  # pixels


def _pixel_groups(b: Builder, width: int, body) -> None:
    """Call body(first pixel, how many) until `width` pixels are done."""
    whole, tail = width - width % _TOGETHER, width % _TOGETHER
    if whole:
        with b.loop(0, whole, _TOGETHER, vectorize=False) as px:
            body(px, _TOGETHER)
    if tail:
        body(b.const(index, whole), tail)


def _channel_vectors(b: Builder, type_: Type, channels: int, body) -> None:
    """Call body(first channel, vector type) for all channels, a vector at a time."""
    lanes = emit_llvm.vector_bytes() // type_.size
    whole, tail = channels - channels % lanes, channels % lanes
    if whole:
        with b.loop(0, whole, lanes, vectorize=False) as channel:
            body(channel, type_.vector(lanes))
    if tail:
        body(b.const(index, whole), type_.vector(tail))


def _window_row(b: Builder, vector: Type, at: Value):
    """A loader of the window's elements around address `at` that loads none of a row twice."""
    held: dict[int, Value] = {}

    def load(offset: int, first_of_row: bool) -> Value:
        if first_of_row:
            held.clear()
        if offset not in held:
            held[offset] = b.load(vector, at, offset)
        return held[offset]

    return load


def _starts_row(taps: list[tuple[int, int, int]], t: int) -> bool:
    return t == 0 or taps[t][0] != taps[t - 1][0]


def convolution(
    conv: Convolution, variants: list[Variant], forward: bool, epilogue: Epilogue | None, extras: int
) -> Contraction:
    """A filter per channel, forward or as input gradient."""
    type_, c = conv.type, conv.channels
    size, stride, out_size, step = conv.size, conv.stride, conv.out, (1, 1)
    if not forward:
        size, stride, out_size, step = conv.out, (1, 1), conv.size, conv.stride

    def window_of(rows: int) -> Window:
        return make_window(variants, size, c, stride, rows)

    pixels = pixel_blocks(conv.images, variants, window_of, type_.size, 1024, least_tasks())
    window = window_of(pixels.rows)
    across = stride[1] * window.pitch
    module = Module()
    with module.kernel("kernel", 3 + extras) as (b, (x, w, out, *more), lo, hi, base):
        scratch = Scratch(b, base, type_)
        window_at = scratch.take(0 if window.direct else window.elements * pixels.together)

        def finish(total: Value, row: Value, channel: Value) -> None:
            place = Place(b.const(index, 0), row, channel)
            store_result(b, total, place, (out, lambda b, matrix, row: row * c), epilogue, more)

        def group(variant: Variant, at: Value, row: Value, px: Value, count: int) -> None:
            at, row = b.offset(type_, at, px * across), row + px * step[1]

            def vectors(channel: Value, vector: Type) -> None:
                load = _window_row(b, vector, b.offset(type_, at, channel))
                totals = [b.const(vector, 0)] * count
                for t, tap in enumerate(variant.taps):
                    weight = b.load(vector, w, channel + tap[2] * c)
                    for p in range(count):
                        element = load(window.tap(tap) + p * across, p == 0 and _starts_row(variant.taps, t))
                        totals[p] = b.fma(element, weight, totals[p])
                with b.touching():  # the next pixels: they are too far apart for the processor to foresee them
                    for p in range(count):
                        finish(b.const(vector, 0), row + (_TOGETHER + p) * step[1], channel)
                for p, total in enumerate(totals):
                    finish(total, row + p * step[1], channel)

            _channel_vectors(b, type_, c, vectors)

        with b.loop(lo, hi, vectorize=False) as task:
            first_image, images, row0 = pixels.start(b, task)
            corner = window.place(b, type_, window_at, x, first_image, images, row0)
            for variant in variants:
                rows = b.minimum(variant.grid[0] - row0, pixels.rows)
                with b.loop(0, images, vectorize=False) as image, b.loop(0, rows, vectorize=False) as y:
                    at = b.offset(type_, corner, image * window.elements + y * (stride[0] * window.offset(1, 0)))
                    line = (first_image + image) * out_size[0] + (row0 + y) * step[0] + variant.first[0]
                    start = line * out_size[1] + variant.first[1]
                    _pixel_groups(b, variant.grid[1], functools.partial(group, variant, at, start))
    names = ("x" if forward else "dy", "w", "out", *extra_names(extras))
    return Contraction((Step(Kernel(module.text(), pixels.count, 1, scratch.size, "blocks"), names),))


def filter_gradient(conv: Convolution, epilogue: Epilogue | None, extras: int) -> Contraction:
    """Each share of the pixels adds up its own gradient in "work"; a second kernel adds up the shares."""
    type_, c, taps = conv.type, conv.channels, sorted(conv.taps())

    def window_of(rows: int) -> Window:
        return make_window(forward_variants(conv), conv.size, c, conv.stride, rows)

    pixels = pixel_blocks(conv.images, forward_variants(conv), window_of, type_.size, 1024, LEAST_SPLITS)
    window = window_of(pixels.rows)
    across = conv.stride[1] * window.pitch
    per_split = ceil_div(pixels.count, min(pixels.count, LEAST_SPLITS))
    splits = ceil_div(pixels.count, per_split)
    module = Module()
    with module.kernel("kernel", 3) as (b, (x, dy, work), lo, hi, base):
        scratch = Scratch(b, base, type_)
        window_at = scratch.take(0 if window.direct else window.elements * pixels.together)

        def group(at: Value, dy_at: Value, sums_at: Value, px: Value, count: int) -> None:
            at, dy_at = b.offset(type_, at, px * across), b.offset(type_, dy_at, px * c)

            def vectors(channel: Value, vector: Type) -> None:
                load = _window_row(b, vector, b.offset(type_, at, channel))
                gradients = [b.load(vector, dy_at, channel + p * c) for p in range(count)]
                for p in range(count):
                    b.prefetch(b.offset(type_, dy_at, channel + (_TOGETHER + p) * c))
                    b.prefetch(b.offset(type_, at, channel + (_TOGETHER + p) * across + window.tap(taps[-1])))
                for t, tap in enumerate(taps):
                    total = b.load(vector, sums_at, channel + tap[2] * c)
                    for p, gradient in enumerate(gradients):
                        element = load(window.tap(tap) + p * across, p == 0 and _starts_row(taps, t))
                        total = b.fma(element, gradient, total)
                    b.store(total, sums_at, channel + tap[2] * c)

            _channel_vectors(b, type_, c, vectors)

        with b.loop(lo, hi, vectorize=False) as split:
            sums_at = b.offset(type_, work, split * (len(taps) * c))
            b.fill_zero(sums_at, len(taps) * c * type_.size)
            block0 = split * per_split
            with b.loop(block0, b.minimum(block0 + per_split, pixels.count), vectorize=False) as block:
                first_image, images, row0 = pixels.start(b, block)
                corner = window.place(b, type_, window_at, x, first_image, images, row0)
                rows = b.minimum(conv.out[0] - row0, pixels.rows)
                with b.loop(0, images, vectorize=False) as image, b.loop(0, rows, vectorize=False) as y:
                    at = b.offset(type_, corner, image * window.elements + y * (conv.stride[0] * window.offset(1, 0)))
                    line = (first_image + image) * conv.out[0] + row0 + y
                    dy_at = b.offset(type_, dy, line * (conv.out[1] * c))
                    _pixel_groups(b, conv.out[1], functools.partial(group, at, dy_at, sums_at))
    step = Step(Kernel(module.text(), splits, 1, scratch.size, "blocks"), ("x", "dy", "work"))
    total = sum_of_splits(splits, (1, len(taps), c), lambda b, matrix, row: row * c, type_, epilogue, extras)
    return Contraction((step, total), splits * len(taps) * c * type_.size)
