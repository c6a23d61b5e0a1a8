"""How a pass rebuilds a graph: node by node, with rules that answer what to use instead."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import pytree
from ..graph import Graph
from ..op import Node
from ..tensor import Tensor

Rule = Callable[[Node, tuple], Any]


def rewrite(nodes: Sequence[Node], outputs: Sequence[Tensor], rules: Sequence[Rule], merge: bool) -> list[Tensor]:
    """Build the graph anew, node by node. A rule answers the value(s) to use instead, or None."""
    values: dict[Any, Tensor] = {}
    known: dict[Any, tuple[Tensor, ...]] = {}

    def current(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [v if v._array is not None else values.get((v.node, v.index), v) for v in tensors]

    for node in nodes:
        inputs = tuple(current(node.inputs))
        key = _work(node, inputs) if merge else None
        made = known.get(key) if key is not None else None
        if made is None:
            made = _rewritten(node, inputs, rules)
            if key is not None:
                known[key] = made
        for i, value in enumerate(made):
            values[node, i] = value
    return current(outputs)


def _rewritten(node: Node, inputs: tuple, rules: Sequence[Rule]) -> tuple[Tensor, ...]:
    for rule in rules:
        made = rule(node, inputs)
        if made is not None:
            made = made if isinstance(made, tuple) else (made,)
            for value in made:
                if value.node is not None and not value.node.scope:
                    value.node.scope = node.scope
            return made
    if not all(map(operator.is_, inputs, node.inputs)):
        node = node.again(inputs)
    return node.outputs()


def _work(node: Node, inputs: tuple) -> Any:
    """What a node computes: equal for equal results. None for what has a meaning of its own."""
    if node.op.name in ("custom_gradient", "while_loop", "scan"):
        return None
    attributes = tuple([(name, _frozen(node.attributes[name])) for name in sorted(node.attributes)])
    return node.op, tuple(map(_value_key, inputs)), attributes


def _value_key(value: Tensor) -> Any:
    if value._array is not None and value.size == 1:
        return value.dtype, value.shape, value._array.tobytes()
    return value.key


def _frozen(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, value.tobytes()
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    return tuple((name, _frozen(part)) for name, part in value.items()) if isinstance(value, dict) else value


def with_outputs(graph: Graph, outputs: Sequence[Tensor]) -> Graph:
    """The graph with other values for its results and its variables."""
    count = len(outputs) - len(graph.writes)
    writes = dict(zip(graph.writes, outputs[count:], strict=True))
    return Graph(graph.inputs, graph.reads, pytree.unflatten(graph.result, list(outputs[:count])), writes)


def reachable(outputs: Sequence[Tensor]) -> list[Node]:
    """The nodes that outputs depend on, each after its inputs."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(v.node, False) for v in reversed(outputs) if v.node is not None]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen and node.op.reference is not None:
            seen.add(node)
            stack.append((node, True))
            stack.extend((v.node, False) for v in reversed(node.inputs) if v.node is not None)
    return order
