"""Contractions of the graph as calls of the micro-kernel, and what follows them done while tiles are in registers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import HALVES
from ..op import Node, Op
from ..primitives import movement
from ..primitives.contraction import contract, parse, split_axes
from ..tensor import Tensor
from . import contraction as micro
from . import convolution, kernels
from .expressions import Expressions, InPlace, Load, Writer, walk
from .indices import ZERO, Affine, SplitNeeded, Unfusable, Var, delinearize, linear, strides_of
from .loops import Builder, Value, in_register, index, of_dtype
from .partition import Group
from .tiles import Contraction, Place
from .views import View, merge, view_of

MOST_ROWS = 1024  # that a packed copy of the other operand is kept for: for more, to pack it each time costs little
FLOATS = ("float32", "float64", "float16", "bfloat16")


class Product:
    """A contraction as a batch of matrix products: extents, and strides of the three operands."""

    def __init__(self, node: Node, left: View, right: View):
        a, b, result = parse(node.attributes["spec"])
        batch, rows, columns, summed = split_axes(node.attributes["spec"])
        extents = dict(zip(a, node.inputs[0].shape, strict=True)) | dict(zip(b, node.inputs[1].shape, strict=True))
        at = dict(zip(result, strides_of(node.specs[0].shape), strict=True))
        of_a = dict(zip(a, left.strides, strict=True))
        of_b = dict(zip(b, right.strides, strict=True))
        self.swapped = False
        if (columns and at[columns[-1]] != 1) or (not columns and rows):
            # The last axis of the result has to run along the columns: transpose the product.
            self.swapped = True
            rows, columns, of_a, of_b, left, right = columns, rows, of_b, of_a, right, left

        def sizes(letters: str, strides: dict) -> list[tuple[int, int]]:
            return [(extents[c], strides[c]) for c in letters]

        self.left, self.right = left, right

        def apart(letters: str, strides: dict, last: str = "") -> tuple[str, str]:
            """Part letters that no single loop can run through: into as few matrices as can be, and that loop."""

            def runs(some: str) -> bool:
                return len(some) < 2 or None not in (merge(sizes(some, strides)), merge(sizes(some, at)))

            away = ""
            while not runs(letters):
                movable = letters.removesuffix(last)
                fitting = [c for c in movable if runs(letters.replace(c, ""))]
                chosen = min(fitting or movable, key=extents.__getitem__)
                away, letters = away + chosen, letters.replace(chosen, "")
            return away, letters

        more, rows = apart(rows, of_a)
        batch += more
        more, columns = apart(columns, of_b, columns[-1:])
        batch += more
        self.m, self.n, self.k = (math.prod(extents[c] for c in s) for s in (rows, columns, summed))
        self.batch = tuple(extents[c] for c in batch)
        steps = [merge(sizes(summed, of_a)), merge(sizes(summed, of_b))]
        last = merge(sizes(columns, at)) if columns else 1
        walks = self.k == 1 or 0 not in steps  # a kernel goes on as far as its address does
        self.fits = None not in steps and walks and (last == 1 or self.n == 1)
        if self.fits:
            row_a, row_c = merge(sizes(rows, of_a)), merge(sizes(rows, at))
            column_b = merge(sizes(columns, of_b))
            self.a = (*(of_a.get(c, 0) for c in batch), row_a, steps[0])
            self.b = (*(of_b.get(c, 0) for c in batch), steps[1], column_b if self.n > 1 else 1)
            self.c = (*(at[c] for c in batch), row_c, 1)
        # The result's axes, by name, as the loops go through them: for epilogues.
        self.loops = tuple([(c, extents[c]) for c in letters] for letters in (batch, rows, columns))
        self.result = result


def canonical(node: Node, inputs: tuple, contiguous: Op) -> Any:
    """Rewrite a contraction whose operands cannot be read where they are: copy one, or both, in the loops' order."""
    operands = [_operand(value, contiguous) for value in inputs]
    a, b, result = parse(node.attributes["spec"])
    batch, rows, columns, summed = split_axes(node.attributes["spec"])
    trial = _trial(node, operands, (a, b, result))
    if trial is not None:
        return trial.output(0)
    for which in sorted((0, 1), key=lambda k: inputs[k].size):  # a copy of the smaller one may be enough
        own, free = (a, b)[which], (rows, columns)[which]
        other = view_of(operands[1 - which])
        steps = dict(zip((b, a)[which], other.strides, strict=True))
        along = "".join(sorted(summed, key=lambda c: -steps[c]))
        inner = own[-1] in free  # what is contiguous now should stay so
        order = batch + (along + free if inner else free + along)
        copies = list(operands)
        copies[which] = contiguous(movement.transpose(inputs[which], axes=tuple(own.index(c) for c in order)))
        trial = _trial(node, copies, (order, b, result) if which == 0 else (a, order, result))
        if trial is not None:
            return trial.output(0)
    orders = (batch + rows + summed, batch + summed + columns, batch + rows + columns)
    left = contiguous(movement.transpose(inputs[0], axes=tuple(a.index(c) for c in orders[0])))
    right = contiguous(movement.transpose(inputs[1], axes=tuple(b.index(c) for c in orders[1])))
    made = contract(left, right, spec=f"{orders[0]},{orders[1]}->{orders[2]}")
    return movement.transpose(made, axes=tuple(orders[2].index(c) for c in result))


def _trial(node: Node, operands: list[Tensor], letters: tuple[str, str, str]) -> Node | None:
    """The contraction of ``operands`` whose axes have these letters, if a kernel can read them where they are."""
    spec = f"{letters[0]},{letters[1]}->{letters[2]}"
    trial = Node(contract, tuple(operands), {"spec": spec}, node.specs, None, False)
    trial.scope = node.scope
    return trial if Product(trial, *map(view_of, operands)).fits else None


def _operand(value: Tensor, contiguous: Op) -> Tensor:
    """A view of memory as it is; a view of something that is not computed into memory, copied."""
    base = view_of(value).base
    in_memory = base._array is not None or base.node.op.name not in ("reshape", "flip")
    return value if in_memory else contiguous(value)


def write(group: Group, stored: Callable, outputs: dict[Node, Any], scratch: Callable) -> list[tuple] | None:
    """Kernels, with their buffers, of a contraction and its epilogue; None where there is none for its form."""
    node = group.nodes[0]
    if node.specs[0].dtype.name not in FLOATS or 0 in (node.specs[0].shape + node.inputs[0].shape):
        return None
    if node.op.name == "contract":
        return _product(group, stored, outputs, scratch)
    return _convolution(group, stored, outputs, scratch)


def _product(group: Group, stored: Callable, outputs: dict[Node, Any], scratch: Callable) -> list[tuple] | None:
    node = group.nodes[0]
    views = [view_of(value) for value in node.inputs]
    product = Product(node, *views)
    operands = [stored(product.left.base), stored(product.right.base)]
    if not product.fits or None in operands:
        return None
    epilogue = Epilogue(group, stored, outputs, product.loops, product.result, operands)
    made_type = in_register(node.specs[0].dtype)
    offsets = {"a": product.left.offset * made_type.size, "b": product.right.offset * made_type.size}
    before: list[tuple] = []
    if node.specs[0].dtype in HALVES:
        shapes = [value.shape for value in node.inputs][:: -1 if product.swapped else 1]
        views = zip(shapes, (product.left, product.right), strict=True)
        operands = [_widened(b, *view, scratch, before) for b, view in zip(operands, views, strict=True)]
        offsets = {"a": 0, "b": 0}
    rows = product.m * math.prod(product.batch)
    made = micro.matmul(
        product.m,
        product.n,
        product.k,
        product.a,
        product.b,
        product.c,
        product.batch,
        made_type,
        epilogue.write if epilogue.needed else None,
        len(epilogue.extras),
        operands[1].fixed and rows <= MOST_ROWS,
    )
    if made.packing:
        operands[1] = operands[1].packed_by(*made.packing, offsets.pop("b"))
    return before + launches(made, {"a": operands[0], "b": operands[1]}, offsets, epilogue, scratch)


def _widened(buffer: Any, shape: Sequence[int], view: View, scratch: Callable, before: list[tuple]) -> Any:
    """A float32 copy of the memory that a view of half precision spans; ``before`` gets the kernel that makes it.

    The micro-kernel reads each element many times. The copy lives no longer than the contraction.
    """
    count = 1 + sum((n - 1) * stride for n, stride in zip(shape, view.strides, strict=True))
    kernel, start = kernels.widen(view.base.dtype, count), view.offset * view.base.dtype.itemsize
    if buffer.fixed:  # the same in every iteration of the loop around: once is enough
        return buffer.packed_by(kernel, 4 * count, start)
    made = scratch(4 * count)
    before.append((kernel, [buffer, made], [start, 0]))
    return made


_FORMS = {
    "conv": (convolution.convolution, ("x", "w")),
    "conv_input_gradient": (convolution.input_gradient, ("dy", "w")),
    "conv_filter_gradient": (convolution.filter_gradient, ("x", "dy")),
}


def _geometry(node: Node) -> convolution.Convolution | None:
    """The convolution that a node belongs to; one spatial axis counts as two with extent 1."""
    attributes, name = node.attributes, node.op.name
    first, second, made = node.inputs[0].shape, node.inputs[1].shape, node.specs[0].shape
    x, w, y = {
        "conv": (first, second, made),
        "conv_input_gradient": (made, second, first),
        "conv_filter_gradient": (first, made, second),
    }[name]
    rank = len(x) - 2
    if rank not in (1, 2):
        return None

    def pair(values: Sequence[int], filler: int) -> tuple[int, int]:
        return (filler, values[0]) if rank == 1 else (values[0], values[1])

    return convolution.Convolution(
        images=x[0],
        size=pair(x[1:-1], 1),
        channels=x[-1],
        kernel=pair(w[:-2], 1),
        filters=w[-1],
        out=pair(y[1:-1], 1),
        stride=pair(attributes["strides"], 1),
        dilation=pair(attributes["dilation"], 1),
        pad=pair([low for low, _ in attributes["padding"]], 0),
        groups=attributes["groups"],
        type=in_register(node.specs[0].dtype),
    )


def _convolution(group: Group, stored: Callable, outputs: dict[Node, Any], scratch: Callable) -> list[tuple] | None:
    node = group.nodes[0]
    geometry = _geometry(node)
    operands = [stored(value) for value in node.inputs]
    if geometry is None or None in operands:
        return None
    *rows, column = node.specs[0].shape
    named = [[], [(str(i), n) for i, n in enumerate(rows)], [(str(len(rows)), column)]]
    names = [name for axes in named for name, _ in axes]
    epilogue = Epilogue(group, stored, outputs, tuple(named), names, operands)
    form, buffers = _FORMS[node.op.name]
    options = {}
    if node.op.name == "conv":
        few = geometry.images * math.prod(geometry.out) <= MOST_ROWS
        options["packed"] = few and operands[1].fixed and node.specs[0].dtype not in HALVES
    made = form(geometry, epilogue.write if epilogue.needed else None, len(epilogue.extras), **options)
    if made.packing:
        operands[1] = operands[1].packed_by(*made.packing, 0)
    before: list[tuple] = []
    if node.specs[0].dtype in HALVES:
        views = [(value.shape, View(value, 0, strides_of(value.shape))) for value in node.inputs]
        operands = [_widened(b, *view, scratch, before) for b, view in zip(operands, views, strict=True)]
    return before + launches(made, dict(zip(buffers, operands, strict=True)), {}, epilogue, scratch)


def launches(
    made: Contraction,
    operands: dict[str, Any],
    offsets: dict[str, int],
    epilogue: Epilogue,
    scratch: Callable,
) -> list[tuple]:
    """The kernels of a contraction, each with the buffers for its names and where in them to begin (in bytes)."""
    named = {**operands, "out": epilogue.main}
    named.update({f"extra{i}": buffer for i, buffer in enumerate(epilogue.extras)})
    if made.work:
        named["work"] = scratch(made.work)
    return [
        (step.kernel, [named[n] for n in step.buffers], [offsets.get(n, 0) for n in step.buffers])
        for step in made.steps
    ]


Axes = Sequence[tuple[str, int]]  # names and extents


class Epilogue:
    """Element-wise work on the result of a contraction, vector by vector.

    ``loops`` are the axes of the batch, of the rows and of the columns; ``result`` names the result's axes in order.
    """

    def __init__(
        self,
        group: Group,
        stored: Callable,
        outputs: dict[Node, Any],
        loops: tuple[Axes, Axes, Axes],
        result: Sequence[str],
        operands: Sequence[Any],
    ):
        final = [node for node in group.nodes if node in outputs]
        self.main = outputs[final[-1]]
        self.needed = len(group.nodes) > 1 or self.main.dtype in HALVES  # results are made in float32
        self.extras: list[Any] = []
        if not self.needed:
            return
        self._root = group.nodes[0]
        self._variables = [[Var(math.prod(n for _, n in axes))] for axes in loops]
        while True:
            try:
                at = self._indices(loops, result)
                build = Expressions(group.nodes, group.inlined, stored, {self._root: at})
                values = [(outputs[node], build.value(node.output(0), at)) for node in final]
                break
            except SplitNeeded as split:
                own = next(v for v in self._variables if split.var in v)
                i = own.index(split.var)
                own[i : i + 1] = [Var(split.var.extent // split.inner), Var(split.inner)]
        *self._others, (_, self._value) = values
        self._offset = linear(at, self._root.specs[0].shape)
        loads = [e for e in walk([v for _, v in values]) if isinstance(e, Load)]
        self.extras = list(dict.fromkeys([*(e.buffer for e in loads), *(buffer for buffer, _ in self._others)]))
        self._check_columns([self._offset, *(e.offset for e in loads)])
        if any(e.dynamic for e in loads):
            raise Unfusable
        written = {id(buffer) for buffer, _ in values}
        if any(id(buffer) in written for buffer in operands):
            raise InPlace
        if any(id(e.buffer) in written and e.offset != self._offset for e in loads):
            raise InPlace
        # A buffer is one argument of the kernel: where the main result is also read, the epilogue stores it itself.
        if self.main in self.extras:
            self._others.append((self.main, self._value))
            self._value = None

    def _indices(self, loops: tuple[Axes, Axes, Axes], result: Sequence[str]) -> tuple[Affine, ...]:
        """Index of each axis of the result."""
        found = {}
        for axes, variables in zip(loops, self._variables, strict=True):
            position, step = ZERO, 1
            for var in reversed(variables):
                position = position + Affine([(var, step)])
                step *= var.extent
            shape = [n for _, n in axes]
            found.update(zip((name for name, _ in axes), delinearize(position, shape), strict=True))
        return tuple(found[name] if n != 1 else ZERO for name, n in zip(result, self._root.specs[0].shape, strict=True))

    def _check_columns(self, accesses: Sequence[Affine]) -> None:
        """Whole vectors are loaded: along the columns every access has to run by steps of 1, or stay in place."""
        columns = self._variables[2]
        self._column = columns[-1]
        for access in accesses:
            for outer, inner in itertools.pairwise(columns):
                if access.coefficient(outer) != access.coefficient(inner) * inner.extent:
                    raise Unfusable
            if access.coefficient(self._column) not in (0, 1):
                raise Unfusable

    def write(self, b: Builder, value: Value, place: Place, extras: list[Value]) -> Value | None:
        """Called by the micro-kernel for each vector of the result; returns what is still to be stored."""
        where = self._positions(place)

        def position(affine: Affine) -> Value:
            total = b.const(index, affine.const)
            for var, coefficient in affine.terms:
                if var in where:
                    total = total + where[var] * coefficient
            return total

        pointers = dict(zip(self.extras, extras, strict=True))
        writer = Writer(b, position, pointers, {self._root: value})
        writer.lanes, writer.vector_var = value.type.lanes, self._column
        made = [b.splat(writer.value(expression), writer.lanes) for _, expression in self._others]
        main = None if self._value is None else b.splat(writer.value(self._value), writer.lanes)
        for (buffer, _), vector in zip(self._others, made, strict=True):
            writer.store(vector, buffer, position(self._offset))
        return None if main is None else b.cast(main, of_dtype(self.main.dtype))

    def _positions(self, place: Place) -> dict[Var, Value]:
        """Values of the loop variables at a place; the last of the columns stands for all of them."""
        where: dict[Var, Value] = {self._column: place.column}
        for number, variables in zip((place.batch, place.row), self._variables, strict=False):
            for var in reversed(variables[1:]):
                where[var] = number % var.extent
                number = number // var.extent
            where[variables[0]] = number
        return where
