"""What an op is: one declaration that says everything about it, and the one way to apply it.

An op has a ``rule`` (the shapes and dtypes of its outputs), a ``reference`` (what it computes, in numpy), a
``gradient`` (in tensor operations, so it can be differentiated again), an ``emit`` (how the compiler writes it, if it
can be fused), perhaps a count of its ``work``, and ``cases`` (inputs on which one generic test checks all of these
against each other).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .dtypes import FLOAT32, HALVES
from .errors import ShapeError
from .tensor import Tensor


class Spec(NamedTuple):
    """Shape and dtype of a value that is not there yet."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Case(NamedTuple):
    """Inputs for the generic op test: shapes (filled at random) or arrays, attributes, and what holds there."""

    inputs: tuple
    attributes: dict = {}
    low: float = -2.0
    high: float = 2.0
    differentiable: bool = True


@dataclass(slots=True, eq=False, repr=False)
class Op:
    """A primitive. ``registry`` holds every declared one by name."""

    registry: ClassVar[dict[str, Op]] = {}

    name: str
    rule: Callable | None
    reference: Callable | None
    gradient: Callable | None = None
    emit: Callable | None = None
    cases: Sequence[Case] | Callable[[], Sequence[Case]] = ()  # a function where they take time to make
    work: Callable | None = None

    def __call__(self, *inputs: Tensor, **attributes: Any) -> Any:
        return apply(self, inputs, attributes)

    def compute(self, *arrays: np.ndarray, **attributes: Any) -> Any:
        """What the reference makes of arrays; of half precision in float32, and rounded once."""
        if self.name in OF_ANY_DTYPE or not any(array.dtype in HALVES for array in arrays):
            return self.reference(*arrays, **attributes)
        specs = self.rule(*arrays, **attributes)
        arrays = [array.astype(FLOAT32) if array.dtype in HALVES else array for array in arrays]
        with np.errstate(all="ignore"):
            result = self.reference(*arrays, **attributes)
            if type(result) is tuple:
                return tuple(np.asarray(a).astype(spec.dtype) for a, spec in zip(result, specs, strict=True))
            return np.asarray(result).astype(specs.dtype)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def declare(name: str, **parts: Any) -> Op:
    """Declare a primitive; see :class:`Op` for its parts."""
    if name in Op.registry:
        raise ValueError(f"An op named {name!r} is declared twice.")
    op = Op.registry[name] = Op(name, **parts)
    return op


class Node:
    """One application of an op: its inputs, attributes, and the specs (when concrete, the arrays) of its outputs."""

    __slots__ = ("arrays", "attributes", "inputs", "many", "op", "scope", "serial", "specs")

    def __init__(self, op: Op, inputs: tuple, attributes: dict, specs: tuple, arrays: tuple | None, many: bool):
        self.op = op
        self.inputs = inputs
        self.attributes = attributes
        self.specs = specs
        self.arrays = arrays
        self.many = many  # whether the op answers with a tuple
        self.scope = scope_name()
        self.serial = next_serial()

    def output(self, index: int) -> Tensor:
        """Return output ``index`` as a tensor (a new object that names the same value)."""
        shape, dtype = self.specs[index]
        return Tensor(None if self.arrays is None else self.arrays[index], shape, dtype, self, index)

    def outputs(self) -> tuple[Tensor, ...]:
        """Return all outputs as tensors."""
        return tuple(map(self.output, range(len(self.specs))))

    def again(self, inputs: tuple, attributes: dict | None = None, specs: tuple | None = None) -> Node:
        """The same op on other inputs, symbolic, for the same layer; with other attributes or specs where given."""
        attributes = self.attributes if attributes is None else attributes
        node = Node(self.op, inputs, attributes, self.specs if specs is None else specs, None, self.many)
        node.scope = self.scope
        return node

    def __repr__(self) -> str:
        return f"<node {self.op.name} -> {', '.join(f'{s.dtype.name}{list(s.shape)}' for s in self.specs)}>"


# Ops that do not calculate with the numbers: they hand values or bits on, perhaps to a graph of their own.
OF_ANY_DTYPE = frozenset(
    ("identity", "stop_gradient", "barrier", "custom_gradient", "scan", "while_loop", "view", "nextafter")
)
WORTH_COMPILING = 1e7  # multiplications: from there on even eager code gets a kernel for an op that counts its work
next_serial = itertools.count().__next__  # nodes are numbered in the order in which they are made


class _State(threading.local):
    def __init__(self) -> None:
        self.recorders: list = []  # gradient recorders that are open; nodes are remembered while there is one
        self.scopes: list[str] = []  # names of the layers being called
        self.variable_scopes: list = []  # StateScopes that stand in for the variables
        self.autocast: np.dtype | None = None  # what float variables are cast to where they are read


state = _State()


def scope_name() -> str:
    """Path of the layer whose ``call`` is running, for messages and profiles; empty outside layers."""
    return state.scopes[-1] if state.scopes else ""


def apply(op: Op, inputs: tuple[Tensor, ...], attributes: dict) -> Any:
    """Compute ``op`` on concrete inputs, or add a node to the graph when an input is symbolic."""
    arrays = []
    compute = op.reference
    for value in inputs:
        if value._array is None:
            return _record(op, inputs, attributes)
        if value.dtype is not FLOAT32 and value.dtype in HALVES:
            compute = op.compute
        arrays.append(value._array)
    try:
        if op.work is not None and op.work(*arrays, **attributes) >= WORTH_COMPILING:
            from .eager import compute as compiled

            result = compiled(op, arrays, attributes)
        else:
            with np.errstate(all="ignore"):  # NaN and infinity are values here, as in compiled code
                result = compute(*arrays, **attributes)
    except (ValueError, IndexError, TypeError) as error:
        op.rule(*inputs, **attributes)  # most often says it better
        shapes = ", ".join(f"{value.dtype.name}{list(value.shape)}" for value in inputs)
        kind = IndexError if isinstance(error, IndexError) else ValueError
        raise kind(f"{op.name}({shapes}): {error}") from None
    many = type(result) is tuple
    if not many:
        if type(result) is not np.ndarray:
            result = np.asarray(result)
        if not (state.recorders and _tracked(inputs)):
            return Tensor(result, result.shape, result.dtype)
        result = (result,)
    results = tuple(np.asarray(array) for array in result)
    if state.recorders and _tracked(inputs):
        specs = tuple(map(spec_of, results))
        outputs = Node(op, inputs, attributes, specs, results, many).outputs()
    else:
        outputs = tuple(Tensor(array, array.shape, array.dtype) for array in results)
    return outputs if many else outputs[0]


def _tracked(inputs: tuple[Tensor, ...]) -> bool:
    return any(value.watched or value.node is not None for value in inputs)


def _record(op: Op, inputs: tuple[Tensor, ...], attributes: dict) -> Any:
    specs = op.rule(*inputs, **attributes)
    many = type(specs) is tuple
    node = Node(op, inputs, attributes, specs if many else (specs,), None, many)
    return node.outputs() if many else node.output(0)


def placeholder(shape: tuple[int, ...], dtype: np.dtype, name: str = "input") -> Tensor:
    """Return a symbolic tensor without a maker: an input of the graph being traced."""
    return Node(_PLACEHOLDER, (), {"name": name}, (Spec(tuple(shape), dtype),), None, False).output(0)


_PLACEHOLDER = Op("input", rule=None, reference=None)


def spec_of(value: Any) -> Spec:
    """Shape and dtype of a tensor or array."""
    return Spec(value.shape, value.dtype)


def broadcast_shapes(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Common shape of operands under numpy's broadcasting, or a ShapeError that names them all."""
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        listing = " and ".join(str(shape) for shape in shapes)
        raise ShapeError(
            f"{name}: shapes {listing} do not broadcast. Expected extents that are equal or 1, aligned from the last "
            "axis; reshape or transpose one operand."
        ) from None
