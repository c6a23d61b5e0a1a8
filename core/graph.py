"""Graph: a function recorded as ops and edges, and how it is recorded."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import pytree
from .dtypes import as_dtype
from .errors import TraceError
from .op import Node, placeholder, state
from .tensor import Tensor, tensor, wrap
from .variable import StateScope, Variable


@dataclass(eq=False, repr=False)
class Graph:
    """A recorded function: what goes in, what comes out, which variables it reads and writes.

    Attributes:
        inputs: symbolic tensors, one per tensor leaf of the arguments.
        reads: variables read, with the symbolic tensor that stands for each.
        result: the result's structure, with tensors (symbolic or constant) as leaves.
        writes: variables assigned, with their last value.
    """

    inputs: list[Tensor]
    reads: dict[Variable, Tensor]
    result: Any
    writes: dict[Variable, Tensor]

    @property
    def outputs(self) -> list[Tensor]:
        """All values that leave the graph: the leaves of the result, then the values to assign."""
        return [*pytree.flatten(self.result), *self.writes.values()]

    def nodes(self) -> list[Node]:
        """The nodes that the outputs depend on, in an order in which they can be computed (without inputs)."""
        found: set[Node] = set()
        stack = [value.node for value in self.outputs]
        while stack:
            node = stack.pop()
            if node is None or node in found or node.op.reference is None:
                continue
            found.add(node)
            stack.extend([value.node for value in node.inputs])
        return sorted(found, key=operator.attrgetter("serial"))

    def captured(self) -> list[Tensor]:
        """Symbolic values used here that are neither computed here nor inputs: those of a trace around this one."""
        own = {symbol.key for symbol in (*self.inputs, *self.reads.values())}
        used = [value for node in self.nodes() for value in node.inputs] + self.outputs
        free = [v for v in used if v.node is not None and v.node.op.reference is None and v.key not in own]
        return list({value.key: value for value in free}.values())

    def __call__(self, *arguments: Any) -> Any:
        """Compute the graph op by op with the numpy references, and assign the variables."""
        given = [tensor(leaf) for leaf in pytree.flatten(arguments) if _is_array(leaf)]
        if [(v.shape, v.dtype) for v in given] != [(v.shape, v.dtype) for v in self.inputs]:
            expected = ", ".join(f"{v.dtype.name}{list(v.shape)}" for v in self.inputs)
            received = ", ".join(f"{v.dtype.name}{list(v.shape)}" for v in given)
            raise TraceError(f"The graph was traced for ({expected}); received ({received}).")
        self.require_closed()
        return self.run([value._array for value in given])

    def require_closed(self) -> None:
        """Raise TraceError if something is used that was left behind by another trace, as a side effect."""
        if foreign := self.captured():
            value = foreign[0]
            reader = next((f"'{n.op.name}' in " for n in self.nodes() for v in n.inputs if v.key == value.key), "")
            raise TraceError(
                f"{reader}the graph uses {value}, a symbolic value of another trace. Pass it in as an argument; values "
                "of a trace that has ended cannot be used."
            )

    def run(self, arrays: list[np.ndarray]) -> Any:
        """Like calling it, on the arrays for ``inputs`` in order."""
        values = {symbol.key: array for symbol, array in zip(self.inputs, arrays, strict=True)}
        values.update({symbol.key: variable.value._array for variable, symbol in self.reads.items()})

        def look_up(value: Tensor) -> np.ndarray:
            return value._array if value._array is not None else values[value.key]

        for node in self.nodes():
            try:
                with np.errstate(all="ignore"):
                    results = node.op.compute(*map(look_up, node.inputs), **node.attributes)
            except MemoryError as error:
                raise MemoryError(f"{node.op.name}{node.scope and f' of {node.scope}'}: {error}") from None
            for i, array in enumerate(results if node.many else (results,)):
                values[(node, i)] = np.asarray(array)
        result = pytree.map(lambda leaf: wrap(look_up(leaf)), self.result)
        for variable, value in [(v, wrap(look_up(t))) for v, t in self.writes.items()]:
            variable.assign(value)
        return result


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (Tensor, Variable, np.ndarray))


def replaced(outputs: list[Tensor], mapping: dict[Any, Tensor]) -> list[Tensor]:
    """``outputs`` computed anew with other tensors for the keys in ``mapping``, where what they became is added."""

    def look_up(value: Tensor) -> Tensor:
        return value if value._array is not None else mapping.get(value.key, value)

    stack = [(v.node, False) for v in outputs if v._array is None and v.key not in mapping]
    seen: set[Node] = set()
    while stack:
        node, done = stack.pop()
        if done:
            inputs = tuple(map(look_up, node.inputs))
            if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
                continue
            copy = node.again(inputs)
            mapping.update({(node, i): copy.output(i) for i in range(len(node.specs)) if (node, i) not in mapping})
        elif node not in seen and node.op.reference is not None:
            seen.add(node)
            stack.append((node, True))
            stack.extend((v.node, False) for v in node.inputs if v._array is None and v.key not in mapping)
    return [look_up(value) for value in outputs]


def frontier(outputs: Iterable[Tensor], first: int) -> dict[Any, Tensor]:
    """The values that ``outputs`` follow from and that are older than node number ``first``, by key.

    Inputs of traces and watched tensors are among them, constants are not.
    """
    found: dict[Any, Tensor] = {}
    seen: set[Node] = set()
    stack = list(outputs)
    while stack:
        value = stack.pop()
        node = value.node
        if node is None or node.serial < first or node.op.reference is None:
            if node is not None or value.watched:
                found[value.key] = value
        elif node not in seen:
            seen.add(node)
            stack.extend(node.inputs)
    return found


def tracing() -> bool:
    """Whether a function is being traced right now."""
    return any(isinstance(scope, _TraceScope) for scope in state.variable_scopes)


class _TraceScope(StateScope):
    """Variables read while tracing become inputs of the graph."""

    def first_read(self, variable: Variable) -> Tensor:
        return placeholder(variable.shape, variable._value.dtype, variable.path)


def trace(function: Callable, *arguments: Any, **options: Any) -> Graph:
    """Record ``function`` on symbolic stand-ins for the tensors and arrays among ``arguments``.

    Other leaves (numbers, strings) and ``options`` are passed as they are: they are constants of the graph. The
    arguments' values are not looked at and no variable is changed.

    >>> graph = trace(lambda x: x * x + 1, tensor([1.0, 2.0]))
    >>> [node.op.name for node in graph.nodes()]
    ['multiply', 'add']
    >>> graph(tensor([3.0, 4.0])).tolist()
    [10.0, 17.0]
    """
    inputs: list[Tensor] = []

    def stand_in(leaf: Any) -> Any:
        if not _is_array(leaf):
            return leaf
        symbol = placeholder(leaf.shape, as_dtype(leaf.dtype))
        inputs.append(symbol)
        return symbol

    symbols = pytree.map(stand_in, arguments)
    with _TraceScope() as scope:
        result = function(*symbols, **options)
        result = pytree.map(tensor, result)
    return Graph(inputs, scope.reads, result, scope.writes)
