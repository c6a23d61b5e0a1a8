"""How a pass rebuilds a graph: node by node, with rules that answer what to use instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..op import Node
from ..tensor import Tensor

Rule = Callable[[Node, tuple], Any]


def rewrite(nodes: Sequence[Node], outputs: Sequence[Tensor], rules: Sequence[Rule], merge: bool) -> list[Tensor]:
    """Build the graph anew, node by node. A rule answers the value(s) to use instead, or None."""
    values: dict[Any, Tensor] = {}
    known: dict[Any, tuple[Tensor, ...]] = {}

    def current(value: Tensor) -> Tensor:
        return value if value._array is not None else values.get(value.key, value)

    for node in nodes:
        inputs = tuple(map(current, node.inputs))
        key = _work(node, inputs) if merge else None
        made = known.get(key) if key is not None else None
        if made is None:
            made = _rewritten(node, inputs, rules)
            if key is not None:
                known[key] = made
        values.update({(node, i): value for i, value in enumerate(made)})
    return [current(value) for value in outputs]


def _rewritten(node: Node, inputs: tuple, rules: Sequence[Rule]) -> tuple[Tensor, ...]:
    for rule in rules:
        made = rule(node, inputs)
        if made is not None:
            made = made if isinstance(made, tuple) else (made,)
            for value in made:
                if value.node is not None and not value.node.scope:
                    value.node.scope = node.scope
            return made
    if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
        copy = Node(node.op, inputs, node.attributes, node.specs, None, node.many)
        copy.scope = node.scope
        node = copy
    return tuple(node.output(i) for i in range(len(node.specs)))


def _work(node: Node, inputs: tuple) -> Any:
    """What a node computes: equal for equal results. None for what has a meaning of its own."""
    if node.op.name in ("custom_gradient", "while_loop", "scan"):
        return None
    attributes = tuple(sorted((name, _frozen(value)) for name, value in node.attributes.items()))
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
