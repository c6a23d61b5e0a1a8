"""Tables of which a step reads few rows, such as embeddings: their gradient is not made as a whole table.

Where new values of variables follow, element by element, from ``scatter_add(updates, rows)``, those of the touched rows
are computed by themselves, with the updates of one row summed first, and written over the others. The others see a
gradient of zero: where that leaves a variable alone (plain SGD, Adagrad), they are not visited; where it does not
(Adam's moments decay), they are passed over once, with no gradient to be read. The numbers are those of the step run
op by op; only factors that are not finite do not reach the rows without a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import INT32
from ..graph import Graph
from ..op import Node, Op, Spec
from ..primitives import movement
from ..primitives.control import barrier
from ..primitives.indexing import gather, scatter_add, scatter_set
from ..tensor import Tensor, wrap
from .partition import ALIASES, is_elementwise, look_through
from .rewriting import rewrite, with_outputs

LEAST = 1 << 14  # elements of a table that are worth it ...
SHARE = 4  # ... if it has so many times the rows that are touched ...
SHARE_OF_ALL = 16  # ... or so many, where all of them change


def _first_position(rows: np.ndarray, extent: int) -> tuple[np.ndarray, np.ndarray]:
    _, first, inverse = np.unique(rows % extent, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int32), np.zeros(extent, np.int32)


# Of each position in a vector of row numbers, the first one that holds the same row. (The other output is memory to
# work in.)
first_position = Op(
    "first_position",
    rule=lambda rows, extent: (Spec(rows.shape, INT32), Spec((extent,), INT32)),
    reference=_first_position,
)


def sparse(graph: Graph) -> Graph:
    """Update tables by the rows that a step touches."""
    nodes = graph.nodes()
    if sum(node.op is scatter_add for node in nodes) > 1:
        graph = with_outputs(graph, rewrite(nodes, graph.outputs, [_joined], merge=False))
        nodes = graph.nodes()
    for node in [n for n in nodes if n.op is scatter_add and _worthwhile(n)]:
        cone = _cone(node, graph)
        if cone is not None:
            graph = Graph(graph.inputs, graph.reads, graph.result, graph.writes | _Table(node, cone, graph).writes())
    return graph


def _joined(node: Node, inputs: tuple) -> Tensor | None:
    """One scatter in place of a sum of two: of a table that is read twice."""
    sources = [value.node for value in inputs if value._array is None and value.node.op is scatter_add]
    if node.op.name != "add" or len(sources) != 2 or any(len(s.inputs) > 2 or s.specs != node.specs for s in sources):
        return None
    updates, rows = zip(*(source.inputs for source in sources), strict=True)
    if rows[0].dtype != rows[1].dtype:
        return None
    shape = node.specs[0].shape
    updates = [movement.reshape(u, shape=(r.size, *shape[1:])) for u, r in zip(updates, rows, strict=True)]
    rows = [movement.reshape(r, shape=(r.size,)) for r in rows]
    return scatter_add(movement.concatenate(*updates, axis=0), movement.concatenate(*rows, axis=0), shape=shape)


def _worthwhile(node: Node) -> bool:
    shape, (_, rows, *more) = node.attributes["shape"], node.inputs
    return not more and math.prod(shape) >= LEAST and 0 < SHARE * rows.size <= shape[0]


def _cone(root: Node, graph: Graph) -> dict[Node, None] | None:
    """What depends on a node: element-wise, of its shape, and of no use but to be assigned. None if otherwise."""
    found = {root: None}
    for node in graph.nodes():
        if any(value.node in found for value in node.inputs if value._array is None):
            fits = is_elementwise(node.op) or node.op.name in ALIASES
            if not fits or [spec.shape for spec in node.specs] != [root.specs[0].shape]:
                return None
            found[node] = None
    results = graph.outputs[: -len(graph.writes)] if graph.writes else graph.outputs
    return None if any(value.node in found for value in results if value._array is None) else found


class _Table:
    """A gradient by rows, and the new values that follow from it."""

    def __init__(self, root: Node, cone: dict[Node, None], graph: Graph):
        self.root, self.cone, self.graph = root, cone, graph
        self.shape = root.specs[0].shape
        updates, rows = root.inputs
        self.rows = movement.reshape(rows, shape=(rows.size,))
        updates = movement.reshape(updates, shape=(rows.size, *self.shape[1:]))
        first, _ = first_position(self.rows, extent=self.shape[0])
        self.sums = scatter_add(updates, first, shape=updates.shape)
        self.touched = {root: gather(self.sums, first)}
        self.untouched = {root: wrap(np.zeros((), updates.dtype))}

    def writes(self) -> dict:
        """New values of the variables concerned."""
        reads = self.graph.reads
        changed = {v: x for v, x in self.graph.writes.items() if x._array is None and x.node in self.cone}
        rows = [self._touched(value) for value in changed.values()]
        same = [v in reads and self._stays(value, reads[v]) for v, value in changed.items()]
        if not all(same) and SHARE_OF_ALL * self.rows.size > self.shape[0]:
            return {}
        # What is not touched is computed, and then written, after all that is computed from the old values.
        old = [reads[variable] for variable in changed if variable in reads]
        late = barrier(*old, *rows, count=len(old)) if old else ()
        self.old = dict(zip([symbol.key for symbol in old], late, strict=True))
        rest = [
            reads[v] if stays else self._rest(value) for stays, (v, value) in zip(same, changed.items(), strict=True)
        ]
        rest = barrier(*rest, count=len(rest))
        return {v: scatter_set(x, made, self.rows) for v, x, made in zip(changed, rest, rows, strict=True)}

    def _rest(self, value: Tensor) -> Tensor:
        made = self._untouched(value)
        return made if made.shape == self.shape else movement.broadcast_to(made, shape=self.shape)

    def _touched(self, value: Tensor) -> Tensor:
        """The touched rows of a value."""
        value = look_through(value)
        if self._same_for_all(value):
            return value
        if value._array is None and is_elementwise(value.node.op):
            return self._computed(value.node, self.touched, self._touched)
        if value._array is None and value.node is self.root:
            return self.touched[self.root]
        (late,) = barrier(value, self.sums, count=1)  # gathered by the kernel that gathers the sums
        return gather(late, self.rows)

    def _untouched(self, value: Tensor) -> Tensor:
        """A value where the gradient is zero."""
        value = look_through(value)
        if value._array is not None or self._same_for_all(value):
            return value
        if value.node is self.root or is_elementwise(value.node.op):
            return self._computed(value.node, self.untouched, self._untouched)
        return self.old.get(value.key, value)

    def _same_for_all(self, value: Tensor) -> bool:
        return value.ndim < len(self.shape) or value.shape[0] == 1

    @staticmethod
    def _computed(node: Node, known: dict[Node, Tensor], part: Callable) -> Tensor:
        if node not in known:
            made = known[node] = node.op(*map(part, node.inputs), **node.attributes)
            if made.node is not None:
                made.node.scope = node.scope
        return known[node]

    def _stays(self, value: Tensor, old: Tensor) -> bool:
        """Whether ``value`` is ``old`` where the gradient is zero, by the algebra of finite numbers."""
        zero = "zero"
        found: dict[Node, Any] = {self.root: zero}

        def known(v: Tensor) -> Any:
            v = look_through(v)
            return None if v._array is not None else found.get(v.node, v.key)

        for node in self.cone:
            name, (left, *rest) = node.op.name, [known(v) for v in node.inputs]
            if (name in ("negative", "cast", "divide") and left is zero) or (
                name == "multiply" and zero in (left, *rest)
            ):
                found[node] = zero
            elif name in ("add", "subtract") and rest[0] is zero:
                found[node] = left
            elif name == "add" and left is zero:
                found[node] = rest[0]
        return known(value) == old.key
