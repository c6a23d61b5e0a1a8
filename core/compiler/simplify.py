"""Graph to graph: fewer nodes, and nodes in the form in which kernels exist for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import Graph
from ..op import Node, Op, Spec
from ..primitives import movement
from ..tensor import Tensor
from . import contractions
from .partition import ALIASES, REDUCTIONS, SETTLED, VIEWS, is_elementwise, look_through
from .views import view_of

# The same value, in memory of its own and row-major.
contiguous = Op(
    "contiguous",
    rule=lambda x: Spec(x.shape, x.dtype),
    reference=np.ascontiguousarray,
    emit=lambda b, x: x,
)

settled = Op(SETTLED, rule=lambda x: Spec(x.shape, x.dtype), reference=lambda x: x)

Rule = Callable[[Node, tuple], Any]


def simplify(
    graph: Graph, enabled: Sequence[str] = ("merge", "algebra", "split"), apart: bool = False
) -> tuple[list[Node], list[Tensor]]:
    """Rewrite a graph for the compiler; returns its nodes in order and its outputs.

    ``enabled`` names the optional passes: "merge" (common subexpressions), "algebra", "split" (long reductions in two
    steps, so that threads can share them). With ``apart`` no output shares its memory with another or with an input.
    """
    rules: list[Rule] = []
    if "algebra" in enabled:
        rules.append(_algebra)
    if "split" in enabled:
        rules.append(_split_reduction)
    rules.append(_addressable)
    outputs = rewrite(graph.nodes(), graph.outputs, rules, "merge" in enabled)
    outputs = _settled(outputs)
    outputs = [_materialized(value) for value in outputs]
    if apart:
        outputs = _apart(outputs)
    return reachable(outputs), outputs


def _settled(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Put values into memory of which an extremum is taken, and that are then compared with it: the gradient of a
    maximum looks for the elements that equal it.
    """
    nodes = reachable(outputs)
    compared, reduced = ({look_through(v, VIEWS).key for n in nodes if n.op.name in names for v in n.inputs}
                         for names in (("equal",), ("reduce_max", "reduce_min")))  # fmt: skip
    chosen = compared & reduced

    def rule(node: Node, inputs: tuple) -> Any:
        if (node, 0) not in chosen or not is_elementwise(node.op) or node.specs[0].dtype.kind != "f":
            return None
        made = Node(node.op, inputs, node.attributes, node.specs, None, node.many)
        made.scope = node.scope
        return settled(made.output(0))

    return rewrite(nodes, outputs, [rule], merge=False) if chosen else list(outputs)


def _apart(outputs: Sequence[Tensor]) -> list[Tensor]:
    seen = set()
    result = []
    for value in outputs:
        base = view_of(value).base
        if base._array is not None or base.node.op.reference is None or base.key in seen:
            value = Node(contiguous, (value,), {}, (Spec(value.shape, value.dtype),), None, False).output(0)
        seen.add(view_of(value).base.key)
        result.append(value)
    return result


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
    return repr(value) if isinstance(value, (list, dict, np.ndarray)) else value


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


# -- algebra ---------------------------------------------------------------------------------------------------------


def _scalar_of(value: Tensor) -> float | None:
    """The number that a constant tensor holds everywhere, if it does."""
    array = value._array
    if array is None or array.size == 0:
        return None
    if array.size == 1 or all(s == 0 or n == 1 for s, n in zip(array.strides, array.shape, strict=True)):
        return array.reshape(-1)[0].item() if array.size == 1 else array[(0,) * array.ndim].item()
    return None


def _algebra(node: Node, inputs: tuple) -> Any:
    """Identities that hold for every float, NaN and infinity included."""
    name, shape = node.op.name, node.specs[0].shape
    if name in ("multiply", "divide", "add", "subtract"):
        neutral = 1 if name in ("multiply", "divide") else 0
        for i in (1, 0) if name in ("multiply", "add") else (1,):
            # x + 0 is x but for the sign of a zero, which no result here depends on
            if _scalar_of(inputs[i]) == neutral and inputs[1 - i].shape == shape:
                return inputs[1 - i]
    if name in REDUCTIONS and all(inputs[0].shape[axis] == 1 for axis in node.attributes["axes"]):
        return inputs[0] if inputs[0].shape == shape else movement.reshape(inputs[0], shape=shape)
    if name == "negative" and _made_by(inputs[0], "negative"):
        return inputs[0].node.inputs[0]
    if name == "cast" and inputs[0].dtype == node.attributes["dtype"]:
        return inputs[0]
    if name in ("reshape", "broadcast_to") and inputs[0].shape == shape:
        return inputs[0]
    if name == "reshape" and _made_by(inputs[0], "reshape"):
        source = inputs[0].node.inputs[0]
        return source if source.shape == shape else movement.reshape(source, shape=shape)
    if name == "transpose":
        axes = node.attributes["axes"]
        if list(axes) == list(range(len(axes))):
            return inputs[0]
        if _made_by(inputs[0], "transpose"):
            inner = inputs[0].node
            axes = tuple(inner.attributes["axes"][a] for a in axes)
            return movement.transpose(inner.inputs[0], axes=axes)
    if name in ("identity", "stop_gradient"):
        return inputs[0]
    if name == "pad" and not any(
        map(any, (node.attributes["low"], node.attributes["high"], node.attributes["interior"]))
    ):
        return inputs[0]
    return None


def _made_by(value: Tensor, name: str) -> bool:
    return value.node is not None and value._array is None and value.node.op.name == name


# -- forms that kernels exist for ----------------------------------------------------------------------------------


def _split_reduction(node: Node, inputs: tuple) -> Any:
    """Reduce a long axis in two steps where too few results are left to keep the threads busy."""
    if node.op.name not in REDUCTIONS:
        return None
    shape, axes = inputs[0].shape, node.attributes["axes"]
    kept = [n for i, n in enumerate(shape) if i not in axes]
    trailing = sorted(axes) == list(range(len(shape) - len(axes), len(shape)))
    items = math.prod(kept) if trailing else math.prod(kept[:-1]) * max(1, kept[-1] // 128 if kept else 1)
    if items >= 16 or math.prod(shape) < 1 << 16:
        return None
    for axis in sorted(axes, key=lambda a: -shape[a]):
        parts = next((p for p in (16, 32, 8, 12, 10, 20, 14, 4, 6, 5, 7, 3, 2) if shape[axis] % p == 0), None)
        if parts is not None and shape[axis] > parts:
            break
    else:
        return None
    finer = (*shape[:axis], parts, shape[axis] // parts, *shape[axis + 1 :])
    moved = tuple(a + (a >= axis) for a in axes)
    partial = node.op(movement.reshape(inputs[0], shape=finer), axes=moved, keepdims=True)
    total = node.op(partial, axes=(axis,), keepdims=True)
    return movement.reshape(total, shape=node.specs[0].shape)


def _addressable(node: Node, inputs: tuple) -> Any:
    """Give every op whose kernel reads memory inputs that are in memory, in an order that the kernel takes."""
    name = node.op.name
    if name == "contract":
        return contractions.canonical(node, inputs, contiguous)
    if name in VIEWS or name in ALIASES or is_elementwise(node.op) or name in REDUCTIONS:
        return None
    if name == "gather":
        changed = (_materialized(inputs[0]), *inputs[1:])
    else:
        changed = tuple(map(_materialized, inputs))
    if all(a is b for a, b in zip(changed, inputs, strict=True)):
        return None
    made = Node(node.op, changed, node.attributes, node.specs, None, node.many)
    made.scope = node.scope
    return tuple(made.output(i) for i in range(len(made.specs)))


def _materialized(value: Tensor) -> Tensor:
    """``value`` itself where it lies row-major in memory, perhaps under another shape; else a copy that does."""
    inner = look_through(value, ("reshape", SETTLED))
    return contiguous(value) if inner._array is None and inner.node.op.name in VIEWS else value
