"""What a kernel computes for one element: expressions over loads, with all movement turned into index arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import is_floating
from ..op import Node
from ..tensor import Tensor
from .indices import ZERO, Affine, Unfusable, Var, delinearize, indices_of, linear, strides_of
from .loops import Builder, Value, in_register, index, of_dtype
from .partition import ALIASES, HEAVY, REDUCTIONS, SETTLED, Group, is_elementwise, look_through
from .scalars import Scalars


class InPlace(Exception):  # noqa: N818  not an error: the values then go through memory of their own
    """A buffer cannot be updated in place: other elements of it are read than the one that is written."""


class Const(NamedTuple):
    """The same number everywhere."""

    array: np.ndarray

    def __hash__(self) -> int:
        return id(self)


class Load(NamedTuple):
    """An element of a buffer, at an affine position plus, for each of ``dynamic``, computed index · stride."""

    buffer: Any
    dtype: np.dtype
    offset: Affine
    dynamic: tuple = ()  # of (expression, stride, extent)


class Apply(NamedTuple):
    """An element-wise op on expressions."""

    node: Node
    arguments: tuple


class Row(NamedTuple):
    """The value at hand: of a reduction that is complete, or of the contraction in whose epilogue we are."""

    node: Node


Expression = Const | Load | Apply | Row


class Expressions:
    """Builds the expressions of one group.

    ``own`` are the nodes computed in the kernel, ``inlined`` those that every reader computes for itself.
    ``stored(tensor)`` tells the buffer of a value that is in memory, row-major, or None. ``results`` maps those nodes
    whose value is at hand when it is asked for (reductions, a contraction) to the indices at which it is.
    """

    def __init__(
        self,
        own: Sequence[Node],
        inlined: Container[Node],
        stored: Callable[[Tensor], Any],
        results: dict[Node, tuple],
    ):
        self._own = set(own)
        self._inlined = inlined
        self._stored = stored
        self._results = results
        self._memo: dict[Any, Expression] = {}

    def value(self, tensor: Tensor, at: tuple[Affine, ...]) -> Expression:
        """Expression of element ``at`` of ``tensor``."""
        if tensor._array is not None:
            return self._constant(tensor, at)
        key = (tensor.key, at)
        if key not in self._memo:
            self._memo[key] = self._build(tensor, at)
        return self._memo[key]

    def _constant(self, tensor: Tensor, at: tuple[Affine, ...]) -> Expression:
        key = (id(tensor), at)
        if key not in self._memo:
            array = tensor._array
            same = all(stride == 0 or n == 1 for stride, n in zip(array.strides, array.shape, strict=True))
            if array.size and same:
                self._memo[key] = Const(array[(slice(0, 1),) * array.ndim])
            else:
                self._memo[key] = Load(self._stored(tensor), array.dtype, linear(at, tensor.shape))
        return self._memo[key]

    def _build(self, tensor: Tensor, at: tuple[Affine, ...]) -> Expression:
        node = tensor.node
        if node in self._results:
            if at != self._results[node]:
                raise Unfusable
            return Row(node)
        name = node.op.name
        if name in ALIASES:  # first of all: what it stands for may be computed right here
            return self.value(node.inputs[tensor.index], at)
        if name == SETTLED:
            return Load(self._stored(tensor), tensor.dtype, linear(at, tensor.shape))
        buffer = self._elsewhere(tensor)
        if buffer is not None:
            return Load(buffer, tensor.dtype, linear(at, tensor.shape))
        if name in _MOVES:
            return self._moved(node, tensor.index, at)
        if name == "gather":
            return self._gathered(node, at)
        if not is_elementwise(node.op) or (node not in self._own and node not in self._inlined):
            raise Unfusable
        return Apply(node, tuple(self.value(v, _broadcast(v.shape, at)) for v in node.inputs))

    def _elsewhere(self, value: Tensor) -> Any:
        """The buffer of a value that is in memory before this kernel runs; None for what is computed here."""
        base = look_through(value, ("reshape",))
        return None if base._array is None and base.node in self._own else self._stored(value)

    def _moved(self, node: Node, output: int, at: tuple[Affine, ...]) -> Expression:
        source = node.inputs[0]
        if node.op.name == "reshape":
            position = linear(at, node.specs[0].shape)
            buffer = self._elsewhere(source)
            if buffer is not None:
                return Load(buffer, source.dtype, position)
            return self.value(source, _reshaped(at, node.specs[0].shape, source.shape))
        if node.op.name == "split":
            axis, edges = node.attributes["axis"], (0, *node.attributes["edges"])
            return self.value(source, tuple(a + edges[output] if i == axis else a for i, a in enumerate(at)))
        return self.value(source, _MOVES[node.op.name](at, node))

    def _gathered(self, node: Node, at: tuple[Affine, ...]) -> Expression:
        source, *indices = node.inputs
        buffer = self._elsewhere(source)
        if buffer is None:
            raise Unfusable
        rank = indices[0].ndim
        strides = strides_of(source.shape)
        dynamic = tuple(
            (self.value(i, at[:rank]), stride, extent)
            for i, stride, extent in zip(indices, strides, source.shape, strict=False)
        )
        rest = source.shape[len(indices) :]
        return Load(buffer, source.dtype, linear(at[rank:], rest), dynamic)


def _broadcast(shape: tuple[int, ...], at: tuple[Affine, ...]) -> tuple[Affine, ...]:
    own = at[len(at) - len(shape) :]
    return tuple(ZERO if n == 1 else a for n, a in zip(shape, own, strict=True))


def _reshaped(at: tuple[Affine, ...], shape: tuple[int, ...], source: tuple[int, ...]) -> tuple[Affine, ...]:
    """Indices into ``source`` of element ``at`` of its reshape; axes that stay the same are left alone."""
    if [n for n in shape if n != 1] == [n for n in source if n != 1]:
        kept = iter(a for a, n in zip(at, shape, strict=True) if n != 1)
        return tuple(next(kept) if n != 1 else ZERO for n in source)
    return delinearize(linear(at, shape), source)


def _transposed(at: tuple[Affine, ...], node: Node) -> tuple[Affine, ...]:
    axes = node.attributes["axes"]
    return tuple(at[axes.index(i)] for i in range(len(axes)))


def _sliced(at: tuple[Affine, ...], node: Node) -> tuple[Affine, ...]:
    starts, steps = node.attributes["starts"], node.attributes["steps"]
    return tuple(a * step + start for a, start, step in zip(at, starts, steps, strict=True))


def _flipped(at: tuple[Affine, ...], node: Node) -> tuple[Affine, ...]:
    axes, shape = node.attributes["axes"], node.specs[0].shape
    return tuple(a * -1 + (shape[i] - 1) if i in axes else a for i, a in enumerate(at))


_MOVES: dict[str, Any] = {
    "reshape": None,
    "split": None,
    "transpose": _transposed,
    "broadcast_to": lambda at, node: _broadcast(node.inputs[0].shape, at),
    "slice": _sliced,
    "flip": _flipped,
}


class Program:
    """The expressions of a fused group, stage by stage.

    Stage s can be computed once the reductions of stage s - 1 are complete. ``reductions[s]`` are (node, operand),
    ``stores[s]`` (buffer, position, expression) for values of the whole loop nest; ``row_stores`` those of one per row.
    """

    def __init__(self, group: Group, full: list[Var], kept: list[Var], stored: Callable, outputs: dict):
        nodes = group.nodes
        whole = math.prod(v.extent for v in full)
        results = {n: indices_of(n.specs[0].shape, kept) for n in nodes if n.op.name in REDUCTIONS}
        build = Expressions(nodes, group.inlined, stored, results)
        self._stage: dict[Node, int] = {}
        self._stages: dict[int, int] = {}
        self.reductions: dict[int, list] = {}
        self.stores: dict[int, list] = {}
        self.row_stores: list = []
        for node in nodes:
            shape = node.specs[0].shape
            if node in results:
                operand = build.value(node.inputs[0], indices_of(node.inputs[0].shape, full))
                stage = self.stage_of(operand)
                self._stage[node] = stage
                self.reductions.setdefault(stage, []).append((node, operand))
                at, rows = results[node], True
            else:
                rows = math.prod(shape) != whole
                at = indices_of(shape, kept if rows else full)
            if node in outputs:
                value = build.value(node.output(0), at)
                place = (outputs[node], linear(at, shape), value)
                if rows:
                    self.row_stores.append(place)
                else:
                    self.stores.setdefault(self.stage_of(value), []).append(place)
        self.last = max([*self.reductions, *self.stores, 0])
        self._check_in_place()

    def _check_in_place(self) -> None:
        """A buffer that is read and written: only the element at hand, and before it is overwritten."""
        written = {id(buffer): (offset, stage) for stage, s in self.stores.items() for buffer, offset, _ in s}
        written |= {id(buffer): (offset, self.last) for buffer, offset, _ in self.row_stores}
        for load in walk(self.all_roots()):
            if isinstance(load, Load) and id(load.buffer) in written:
                offset, stage = written[id(load.buffer)]
                if load.dynamic or stage < self.last or load.offset != offset:
                    raise InPlace

    def stage_of(self, expression: Expression) -> int:
        """The first stage in which the expression can be computed."""
        if isinstance(expression, Row):
            return self._stage[expression.node] + 1
        found = self._stages.get(id(expression))
        if found is None:
            found = max((self.stage_of(e) for e in children(expression)), default=0)
            self._stages[id(expression)] = found
        return found

    def roots(self, stage: int) -> list[Expression]:
        """What has to be computed for every element in a stage."""
        return [e for _, e in self.reductions.get(stage, ())] + [e for _, _, e in self.stores.get(stage, ())]

    def all_roots(self) -> list[Expression]:
        """Every expression that is computed."""
        return [e for s in range(self.last + 1) for e in self.roots(s)] + [e for _, _, e in self.row_stores]

    def repeated(self) -> list[Apply]:
        """Costly expressions that several stages need: worth keeping for a row."""
        seen: dict[int, tuple[Expression, set[int]]] = {}
        for stage in range(self.last + 1):
            for expression in walk(self.roots(stage)):
                seen.setdefault(id(expression), (expression, set()))[1].add(stage)
        return [
            e for e, stages in seen.values() if len(stages) > 1 and isinstance(e, Apply) and e.node.op.name in HEAVY
        ]


def children(expression: Expression) -> tuple:
    """The expressions that one is computed from."""
    if isinstance(expression, Apply):
        return expression.arguments
    return tuple(e for e, _, _ in expression.dynamic) if isinstance(expression, Load) else ()


def walk(roots: Sequence[Expression]) -> list[Expression]:
    """All expressions below ``roots``, each once."""
    found: dict[int, Expression] = {}
    stack = list(roots)
    while stack:
        expression = stack.pop()
        if id(expression) not in found:
            found[id(expression)] = expression
            stack.extend(children(expression))
    return list(found.values())


class Writer:
    """Writes expressions as loop IR at one point of the loop nest.

    ``position(affine)`` gives the value of an affine index there, ``pointers`` the buffers' addresses.
    """

    def __init__(self, b: Builder, position: Callable[[Affine], Value], pointers: dict, rows: dict[Node, Value]):
        self.b = b
        self.scalars = Scalars(b)
        self._position = position
        self._pointers = pointers
        self._rows = rows
        self.memo: dict[int, Value] = {}
        self.lanes = 0
        self.vector_var: Var | None = None

    def value(self, expression: Expression) -> Value:
        """The value of an expression."""
        found = self.memo.get(id(expression))
        if found is None:
            found = self.memo[id(expression)] = self._write(expression)
        return found

    def _write(self, expression: Expression) -> Value:
        if isinstance(expression, Const):
            return self.b.const(in_register(expression.array.dtype), expression.array.reshape(-1)[0].item())
        if isinstance(expression, Row):
            return self._rows[expression.node]
        if isinstance(expression, Apply):
            values = [self.value(e) for e in expression.arguments]
            lanes = max(v.type.lanes for v in values)
            if lanes:
                values = [self.b.splat(v, lanes) for v in values]
            return self.scalars.apply(expression.node.op, values, expression.node.attributes)
        return self._load(expression)

    def _load(self, load: Load) -> Value:
        type_ = of_dtype(load.dtype)
        offset, inside = self._position(load.offset), None
        for expression, stride, extent in load.dynamic:
            value = self.value(expression)
            offset = offset + computed_index(self.b, value, extent) * stride
            if is_floating(load.dtype) and not _is_constant(expression):
                here = in_axis(self.b, value, extent)
                inside = here if inside is None else inside & here
        if self.lanes and load.offset.coefficient(self.vector_var) == 1:
            type_ = type_.vector(self.lanes)
        loaded = self.b.cast(self.b.load(type_, self._pointers[load.buffer], offset), in_register(load.dtype))
        return loaded if inside is None else self.b.select(inside, loaded, self.b.const(loaded.type, np.nan))

    def store(self, value: Value, buffer: Any, position: Value) -> None:
        """Write a value, in the dtype of its buffer, from an element of it on."""
        value = self.b.splat(value, self.lanes)
        self.b.store(self.b.cast(value, of_dtype(buffer.dtype)), self._pointers[buffer], position)


def _is_constant(expression: Expression) -> bool:
    """Whether a computed index was known when the function was traced, and looked at then."""
    return isinstance(expression, Const) or (isinstance(expression, Load) and expression.buffer.kind == "constant")


def in_axis(b: Builder, value: Value, extent: int) -> Value:
    """Whether there is such an element. A kernel cannot raise an error: what is read elsewhere is NaN."""
    value = Value(b, index, b.cast(value, of_dtype(np.int64)).text)
    return (value >= -extent) & (value < extent)


def computed_index(b: Builder, value: Value, extent: int) -> Value:
    """A computed index, counted from the end where negative, and kept inside the axis whatever it is."""
    value = Value(b, index, b.cast(value, of_dtype(np.int64)).text)
    value = b.select(value < 0, value + extent, value)
    return b.minimum(b.maximum(value, b.const(index, 0)), b.const(index, extent - 1))
