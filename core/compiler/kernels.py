"""Kernels of ops that are neither maps, reductions nor contractions: windows, scatter, random bits, copies."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..op import Node
from . import attention
from .expressions import computed_index, in_axis
from .indices import strides_of
from .loops import Builder, Module, Value, f32, i1, index, of_dtype, u32
from .native import Kernel
from .philox import philox
from .rows import CHUNK


def write(node: Node, stored: Callable, outputs: list) -> list[tuple] | None:
    """The kernel of a node with its buffers, or None where its dtype or form has none."""
    buffers = [stored(value) for value in node.inputs]
    if None in buffers:
        return None
    if node.op.name == "scatter_set":
        return _scatter_set(node, buffers, *outputs)
    kernel = WRITERS[node.op.name](node)
    return None if kernel is None else [(kernel, [*buffers, *outputs], [0] * (len(buffers) + len(outputs)))]


@contextmanager
def _kernel(node: Node) -> Iterator[tuple]:
    module = Module()
    with module.kernel("kernel", len(node.inputs) + len(node.specs)) as (b, pointers, lo, hi, _):
        yield b, pointers[: len(node.inputs)], pointers[len(node.inputs) :], lo, hi, module


def _made(module: Module, extent: int, work: int) -> Kernel:
    return Kernel(module.text(), extent, max(1, min(max(extent, 1), CHUNK // max(1, work))))


# ruff: noqa: SIM117  a loop inside a kernel reads as it nests

# -- copies ----------------------------------------------------------------------------------------------------------


def _copy_rows(
    b: Builder, node: Node, source: Value, target: Value, shape: tuple, place: Callable, lo: Value, hi: Value
) -> None:
    """Copy rows lo..hi of a row-major value to where ``place(indices of the row)`` puts them."""
    type_ = of_dtype(node.specs[0].dtype)
    *outer, inner = shape
    with b.loop(lo, hi, vectorize=False) as row:
        digits, rest = [], row
        for extent in reversed(outer[1:]):
            digits.append(rest % extent)
            rest = rest // extent
        start, step = place([rest, *reversed(digits)] if outer else [])
        with b.loop(0, inner, parallel=True) as i:
            b.store(b.load(type_, source, row * inner + i), target, start + i * step)


def _concatenate(node: Node) -> Kernel | None:
    """Items are the rows of the result; each belongs to one of the inputs, or is made of one row of each."""
    axis = node.attributes["axis"]
    shape = node.specs[0].shape
    type_ = of_dtype(node.specs[0].dtype)
    blocks = [math.prod(v.shape[axis:]) for v in node.inputs]
    total = sum(blocks)
    with _kernel(node) as (b, sources, (out,), lo, hi, module), b.loop(lo, hi, vectorize=False) as row:
        start = 0
        for source, block in zip(sources, blocks, strict=True):
            b.copy(
                b.offset(type_, out, row * total + start),
                b.offset(type_, source, row * block),
                block * type_.size,
            )
            start += block
    return _made(module, math.prod(shape[:axis]), total)


def _pad(node: Node) -> Kernel | None:
    low, interior = node.attributes["low"], node.attributes["interior"]
    source, shape = node.inputs[0].shape, node.specs[0].shape
    if not shape:
        return None
    type_ = of_dtype(node.specs[0].dtype)
    value = node.attributes["value"]
    strides = strides_of(shape)
    slab = math.prod(shape[1:])
    with _kernel(node) as (b, (x,), (out,), lo, hi, module):
        with b.loop(lo, hi, vectorize=False) as first:  # one slab of the result
            with b.loop(0, slab, parallel=True) as i:
                b.store(b.const(type_, value), out, first * slab + i)
            step = interior[0] + 1
            inside = (first >= low[0]) & (first < low[0] + (source[0] - 1) * step + 1)
            if source[0] and slab:
                shifted = b.maximum(first - low[0], b.const(index, 0))
                with b.if_(inside & (shifted % step).eq(0)):
                    _pad_slab(b, node, (x, out), first, shifted // step, strides)
    return _made(module, shape[0], slab)


def _pad_slab(b: Builder, node: Node, pointers: tuple, first: Value, number: Value, strides: tuple) -> None:
    low, interior, source = node.attributes["low"], node.attributes["interior"], node.inputs[0].shape
    rows = math.prod(source[1:-1])

    def place(digits: list[Value]) -> tuple[Value, int]:
        start = first * strides[0]
        for digit, stride, before, gap in zip(digits[1:], strides[1:], low[1:], interior[1:], strict=False):
            start = start + (digit * (gap + 1) + before) * stride
        if len(source) > 1:
            start = start + low[-1]
        return start, interior[-1] + 1 if len(source) > 1 else 1

    if len(source) == 1:
        type_ = of_dtype(node.specs[0].dtype)
        b.store(b.load(type_, pointers[0], number), pointers[1], first)
        return
    _copy_rows(b, node, pointers[0], pointers[1], source, place, number * rows, (number + 1) * rows)


def copy_into(size: int, offset: int) -> Kernel:
    """Copy ``size`` bytes of the first buffer to ``offset`` in the second."""
    module = Module()
    with module.kernel("kernel", 2) as (b, (source, target), _, _, _):
        b.copy(b.offset(of_dtype(np.int8), target, offset), source, size)
    return Kernel(module.text(), 1, 1)


def widen(dtype: np.dtype, size: int) -> Kernel:
    """Convert ``size`` elements of half precision to float32."""
    module = Module()
    with module.kernel("kernel", 2) as (b, (source, target), lo, hi, _), b.loop(lo, hi, parallel=True) as i:
        b.store(b.cast(b.load(of_dtype(dtype), source, i), f32), target, i)
    return Kernel(module.text(), size, min(CHUNK, size))


# -- random bits -----------------------------------------------------------------------------------------------------


def _random_bits(node: Node) -> Kernel | None:
    """Philox4x32-10; see primitives/random_bits.py for the sequence. Items are blocks of four words."""
    size = math.prod(node.attributes["shape"])
    blocks = -(-size // 4)
    with _kernel(node) as (b, (state, *fewer), (out,), lo, hi, module):
        words = [b.load(u32, state, i) for i in range(node.inputs[0].size)]
        step = b.const(index, blocks)
        if fewer:  # a draw of fewer words than there is room for, the rest being 1/2; see ragged.py
            wanted = Value(b, index, b.cast(b.load(of_dtype(np.int32), fewer[0]), of_dtype(np.int64)).text)
            step = (wanted + 3) // 4
            with b.loop(b.maximum(lo * 4, wanted), b.minimum(hi * 4, size), parallel=True) as i:
                b.store(b.const(u32, 1 << 31), out, i)
        with b.loop(lo, b.minimum(hi, step), parallel=True) as block:
            made = philox(b, b.cast(Value(b, of_dtype(np.int64), block.text), u32), words)
            for lane, word in enumerate(made):
                if (lane + 1) * blocks <= size:
                    b.store(word, out, block + step * lane)
                else:
                    with b.if_(block + step * lane < size):
                        b.store(word, out, block + step * lane)
    return _made(module, blocks, 16)


# -- scatter ---------------------------------------------------------------------------------------------------------


def _scatter_add(node: Node) -> Kernel | None:
    """Threads share the elements of a row among them, so that each sum has one writer and one order."""
    updates, *indices = node.inputs
    shape = node.attributes["shape"]
    type_ = of_dtype(updates.dtype)
    row = math.prod(shape[len(indices) :])
    rows = math.prod(shape[: len(indices)])
    count = indices[0].size
    part = max(16, -(-row // 4 // 16) * 16)
    parts = -(-row // part)
    with _kernel(node) as (b, (source, *positions), (out,), lo, hi, module):
        with b.loop(lo, hi, vectorize=False) as item:
            first = item * part
            width = b.minimum(first + part, row) - first
            with b.loop(0, rows, vectorize=False) as r, b.loop(0, width, parallel=True) as i:
                b.store(b.const(type_, 0), out, r * row + first + i)
            with b.loop(0, count, vectorize=False) as k:
                place, there = _computed_row(b, positions, indices, shape, k)
                start = first + place
                with b.loop(0, width, parallel=True) as i:
                    update = _or_nan(b, there, b.load(type_, source, k * row + first + i))
                    b.store(b.load(type_, out, start + i) + update, out, start + i)
    return Kernel(module.text(), parts, 1)


def _scatter_set(node: Node, buffers: list, out: Any) -> list[tuple]:
    """Rows written one after the other, over a copy of the first input unless that is where the result belongs."""
    x, _, *indices = node.inputs
    type_ = of_dtype(x.dtype)
    row = math.prod(x.shape[len(indices) :])
    part = max(16, -(-row // 4 // 16) * 16)
    module = Module()
    with module.kernel("kernel", len(node.inputs)) as (b, (source, *positions, target), lo, hi, _):
        with b.loop(lo, hi, vectorize=False) as item, b.loop(0, indices[0].size, vectorize=False) as k:
            first = item * part
            place, there = _computed_row(b, positions, indices, x.shape, k)
            start = first + place
            with b.loop(0, b.minimum(first + part, row) - first, parallel=True) as i:
                b.store(_or_nan(b, there, b.load(type_, source, k * row + first + i)), target, start + i)
    kernel = Kernel(module.text(), -(-row // part), 1)
    found = [(kernel, [*buffers[1:], out], [0] * len(buffers))]
    if buffers[0] is not out:
        found.insert(0, (copy_into(out.size, 0), [buffers[0], out], [0, 0]))
    return found


def _computed_row(b: Any, positions: list, indices: list, shape: tuple, k: Value) -> tuple[Value, Value]:
    """Where the row that the k-th indices address begins, and whether there is such a row."""
    start, there = b.const(index, 0), b.const(i1, True)
    for pointer, value, extent, stride in zip(positions, indices, shape, strides_of(shape), strict=False):
        position = b.load(of_dtype(value.dtype), pointer, k)
        start = start + computed_index(b, position, extent) * stride
        there = there & in_axis(b, position, extent)
    return start, there


def _or_nan(b: Any, there: Value, value: Value) -> Value:
    return b.select(there, value, b.const(value.type, math.nan)) if value.type.kind == "f" else value


def _first_position(node: Node) -> Kernel:
    """One walk over the rows; the table holds, for each row met so far, where. It needs no initial values: an entry
    counts if the row of the position that it names is this one.
    """
    (rows,), extent = node.inputs, node.attributes["extent"]
    type_, int32 = of_dtype(rows.dtype), of_dtype(np.int32)
    with _kernel(node) as (b, (source,), (out, table), _, _, module):
        with b.loop(0, rows.size, vectorize=False) as k:
            row = computed_index(b, b.load(type_, source, k), extent)
            here = b.cast(Value(b, of_dtype(np.int64), k.text), int32)
            at = b.load(int32, table, row)
            with b.if_((at < 0) | (at >= here)) as new:
                b.store(here, out, k)
                b.store(here, table, row)
            with new.otherwise():
                place = Value(b, index, b.cast(at, of_dtype(np.int64)).text)
                same = computed_index(b, b.load(type_, source, place), extent).eq(row)
                first = b.select(same, at, here)
                b.store(first, out, k)
                b.store(first, table, row)
    return Kernel(module.text(), 1, 1)


# -- windows ---------------------------------------------------------------------------------------------------------


class _Windows:
    """Loops over the output positions of a pool; for each, the input positions of its window."""

    def __init__(self, node: Node, small: tuple[int, ...], large: tuple[int, ...]):
        self.window, self.strides = node.attributes["window"], node.attributes["strides"]
        self.padding = node.attributes["padding"]
        self.small, self.large, self.channels = small, large, large[-1]
        self.positions = math.prod(small[1:-1])

    def cells(self, b: Builder, image: Value, place: Value) -> list[tuple[int, Value, Value | None]]:
        """Of the window at one position: (number, row of the large value, whether it is inside of that)."""
        digits, rest = [], place
        for extent in reversed(self.small[2:-1]):
            digits.append(rest % extent)
            rest = rest // extent
        digits = [rest, *reversed(digits)]
        cells = []
        for number, offsets in enumerate(itertools.product(*map(range, self.window))):
            row, inside = image, None
            axes = zip(digits, offsets, self.strides, self.padding, self.large[1:-1], self.small[1:-1], strict=True)
            for digit, offset, stride, (before, _), extent, outputs in axes:
                at = digit * stride + (offset - before)
                if offset < before:
                    inside = _both(inside, at >= 0)
                if (outputs - 1) * stride + offset - before >= extent:
                    inside = _both(inside, at < extent)
                row = row * extent + at
            cells.append((number, row, inside))
        return cells

    def gather(self, b: Builder, lo: Value, hi: Value, source: Value, outside: Value, write: Callable) -> None:
        """Call write(c, element c of the small value's row, [values of its cells]) for rows lo..hi and all channels.

        Cells beyond the edge have the value ``outside``.
        """
        type_ = outside.type
        with b.loop(lo, hi, vectorize=False) as row:
            cells = self.cells(b, row // self.positions, row % self.positions)
            starts = [
                (cell if inside is None else b.select(inside, cell, 0)) * self.channels for _, cell, inside in cells
            ]
            with b.loop(0, self.channels, parallel=True) as c:
                values = [b.load(type_, source, start + c) for start in starts]
                for i, (_, _, inside) in enumerate(cells):
                    values[i] = values[i] if inside is None else b.select(inside, values[i], outside)
                write(c, row * self.channels + c, values)


def _both(a: Value | None, b: Value) -> Value:
    return b if a is None else a & b


def _max_pool(node: Node) -> Kernel | None:
    """The largest of the window's cells, and its number."""
    x = node.inputs[0]
    type_, where_type = of_dtype(x.dtype), of_dtype(np.int32)
    w = _Windows(node, node.specs[0].shape, x.shape)
    low = -math.inf if type_.kind == "f" else int(np.iinfo(x.dtype).min)
    with _kernel(node) as (b, (source,), (out, where), lo, hi, module):

        def write(c: Value, place: Value, values: list[Value]) -> None:
            best, at = values[0], b.const(where_type, 0)
            for number, value in enumerate(values[1:], 1):
                larger = value > best
                if type_.kind == "f":
                    larger = larger | (value.ne(value) & best.eq(best))
                best, at = b.select(larger, value, best), b.select(larger, b.const(where_type, number), at)
            b.store(best, out, place)
            b.store(at, where, place)

        w.gather(b, lo, hi, source, b.const(type_, low), write)
    return _made(module, x.shape[0] * w.positions, w.channels * math.prod(w.window))


def _spread(node: Node, chosen: bool) -> Kernel | None:
    """Add each output element to the input cells of its window: to all, or to the chosen one."""
    g = node.inputs[0]
    type_ = of_dtype(g.dtype)
    shape = node.attributes["shape"]
    w = _Windows(node, g.shape, shape)
    volume = math.prod(shape[1:])
    with _kernel(node) as (b, pointers, (out,), lo, hi, module):

        def position(row: Value, cells: list) -> None:
            for number, cell, inside in cells:
                if inside is None:
                    update(row, cell, number)
                else:
                    with b.if_(inside):
                        update(row, cell, number)

        def update(row: Value, cell: Value, number: int) -> None:
            with b.loop(0, w.channels, parallel=True) as c:
                value = b.load(type_, pointers[0], row * w.channels + c)
                if chosen:
                    at = b.load(of_dtype(np.int32), pointers[1], row * w.channels + c)
                    value = b.select(at.eq(number), value, b.const(type_, 0))
                b.store(b.load(type_, out, cell * w.channels + c) + value, out, cell * w.channels + c)

        with b.loop(lo, hi, vectorize=False) as image:
            b.fill_zero(b.offset(type_, out, image * volume), volume * type_.size)
            with b.loop(0, w.positions, vectorize=False) as place:
                position(image * w.positions + place, w.cells(b, image, place))
    return _made(module, shape[0], volume)


def _gathered_windows(node: Node, chosen: bool) -> Kernel | None:
    """Sum over each window of all its cells, or of the chosen one."""
    x = node.inputs[0]
    type_ = of_dtype(x.dtype)
    w = _Windows(node, node.specs[0].shape, x.shape)
    with _kernel(node) as (b, pointers, (out,), lo, hi, module):
        zero = b.const(type_, 0)

        def write(c: Value, place: Value, values: list[Value]) -> None:
            if chosen:
                at = b.load(of_dtype(np.int32), pointers[1], place)
                values = [b.select(at.eq(number), value, zero) for number, value in enumerate(values)]
            b.store(functools.reduce(operator.add, values), out, place)

        w.gather(b, lo, hi, pointers[0], zero, write)
    return _made(module, x.shape[0] * w.positions, w.channels * math.prod(w.window))


# -- along an axis ---------------------------------------------------------------------------------------------------


def _position_of(node: Node, how: str) -> Kernel | None:
    """argmax and argmin: the first extremum; the first NaN if there is one."""
    x, axis = node.inputs[0], node.attributes["axis"]
    type_, int32 = of_dtype(x.dtype), of_dtype(np.int32)
    count, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    outer = math.prod(x.shape[:axis])
    with _kernel(node) as (b, (source,), (out,), lo, hi, module), b.loop(lo, hi, vectorize=False) as item:
        start = item // inner * (count * inner) + item % inner
        carry = [b.load(type_, source, start), b.const(int32, 0)]
        with b.loop(1, count, carry=carry, vectorize=False) as (k, state):
            value = b.load(type_, source, start + k * inner)
            better = b.compare(how, value, state[0])
            if type_.kind == "f":
                better = better | (value.ne(value) & state[0].eq(state[0]))
            state[0] = b.select(better, value, state[0])
            state[1] = b.select(better, b.cast(Value(b, of_dtype(np.int64), k.text), int32), state[1])
        b.store(state[1], out, item)
    return _made(module, outer * inner, count * 4)


def _cumulative(node: Node, how: str) -> Kernel | None:
    x, axis = node.inputs[0], node.attributes["axis"]
    type_ = of_dtype(x.dtype)
    count, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    last = (count - 1) * inner
    with _kernel(node) as (b, (source,), (out,), lo, hi, module), b.loop(lo, hi, vectorize=False) as item:
        start = item // inner * (count * inner) + item % inner
        nothing = -0.0 if type_.kind == "f" else 0  # -0 + 0 were 0
        carry = [b.const(type_, {"add": nothing, "mul": 1}[how])]
        with b.loop(0, count, carry=carry, vectorize=False) as (k, state):
            at = start + (last - k * inner if node.attributes["reverse"] else k * inner)
            state[0] = b.binary(how, state[0], b.load(type_, source, at))
            b.store(state[0], out, at)
    return _made(module, math.prod(x.shape[:axis]) * inner, count * 2)


WRITERS: dict[str, Callable[[Node], Kernel | None]] = {
    "attention": attention.attention,
    "attention_gradient": attention.attention_gradient,
    "attention_bias_gradient": attention.attention_bias_gradient,
    "concatenate": _concatenate,
    "pad": _pad,
    "random_bits": _random_bits,
    "scatter_add": _scatter_add,
    "scatter_set": _scatter_set,
    "first_position": _first_position,
    "max_pool": _max_pool,
    "unpool": lambda node: _spread(node, chosen=True),
    "window_spread": lambda node: _spread(node, chosen=False),
    "pool_gather": lambda node: _gathered_windows(node, chosen=True),
    "window_sum": lambda node: _gathered_windows(node, chosen=False),
    "argmax": lambda node: _position_of(node, "gt"),
    "argmin": lambda node: _position_of(node, "lt"),
    "cumsum": lambda node: _cumulative(node, "add"),
    "cumprod": lambda node: _cumulative(node, "mul"),
}
