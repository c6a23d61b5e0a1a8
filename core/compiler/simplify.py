"""Graph to graph: fewer nodes, and nodes in the form in which kernels exist for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..config import passes
from ..dtypes import FLOAT32, HALVES, is_floating
from ..graph import Graph, replaced
from ..op import OF_ANY_DTYPE, Node, Op, Spec, placeholder, spec_of
from ..ops.common import cast_to
from ..primitives import movement
from ..primitives.elementwise import cast
from ..scan import Body
from ..tensor import Tensor
from . import contractions
from .folding import fold
from .partition import ALIASES, EPILOGUES, REDUCTIONS, SETTLED, VIEWS, is_elementwise, look_through
from .rewriting import Rule, reachable, rewrite, with_outputs
from .sparse import sparse
from .views import view_of
from .volumes import flattened, is_volume

# The same value, in memory of its own and row-major.
contiguous = Op("contiguous", rule=spec_of, reference=np.ascontiguousarray, emit=lambda b, x: x)

settled = Op(SETTLED, rule=spec_of, reference=lambda x: x)

# Besides the element-wise ops: those whose kernels read and write half precision themselves, or only move it.
_OF_ANY_PRECISION = OF_ANY_DTYPE | ALIASES | VIEWS | EPILOGUES | set(REDUCTIONS)
_OF_ANY_PRECISION |= {"gather", "scatter_set", "concatenate", "pad"}


def simplify(graph: Graph, apart: bool = False) -> tuple[list[Node], list[Tensor]]:
    """Run the passes; returns the nodes of the graph that they make, in order, and its outputs.

    With ``apart`` no output shares its memory with another or with an input.
    """
    enabled = passes()
    for name, run in PASSES.items():
        if name in enabled or name in REQUIRED:
            graph = run(graph)
    outputs = [_materialized(value) for value in graph.outputs]
    if apart:
        outputs = _apart(outputs)
    return reachable(outputs), outputs


def _pass(*rules: Rule, merge: bool = False, about: Callable[[Node], bool] | None = None) -> Callable[[Graph], Graph]:
    """The pass that applies rules; where they are ``about`` some nodes, it leaves a graph without such nodes alone."""

    def run(graph: Graph) -> Graph:
        nodes = graph.nodes()
        if about and not any(map(about, nodes)):
            return graph
        return with_outputs(graph, rewrite(nodes, graph.outputs, rules, merge))

    return run


def _settled(graph: Graph) -> Graph:
    """Put values into memory of which an extremum is taken, and that are then compared with it: the gradient of a
    maximum looks for the elements that equal it.
    """
    nodes = graph.nodes()
    compared, reduced = ({look_through(v, VIEWS).key for n in nodes if n.op.name in names for v in n.inputs}
                         for names in (("equal",), ("reduce_max", "reduce_min")))  # fmt: skip
    chosen = compared & reduced

    def rule(node: Node, inputs: tuple) -> Any:
        if (node, 0) not in chosen or not is_elementwise(node.op) or not is_floating(node.specs[0].dtype):
            return None
        return settled(node.again(inputs).output(0))

    return _pass(rule)(graph) if chosen else graph


def _fold(graph: Graph) -> Graph:
    unassigned = [symbol for variable, symbol in graph.reads.items() if variable not in graph.writes]
    return with_outputs(graph, fold(graph.outputs, unassigned))


def _apart(outputs: Sequence[Tensor]) -> list[Tensor]:
    seen = set()
    result = []
    for value in outputs:
        base = view_of(value).base
        if base._array is not None or base.node.op.reference is None or base.key in seen:
            value = Node(contiguous, (value,), {}, (spec_of(value),), None, False).output(0)
        seen.add(view_of(value).base.key)
        result.append(value)
    return result


# -- algebra ---------------------------------------------------------------------------------------------------------


def _scalar_of(value: Tensor) -> float | None:
    """The number that a constant tensor holds everywhere, if it does."""
    array = value._array
    if array is None or array.size == 0:
        return None
    same = all(stride == 0 or extent == 1 for stride, extent in zip(array.strides, array.shape, strict=True))
    return array[(0,) * array.ndim].item() if same else None


def _algebra(node: Node, inputs: tuple) -> Any:
    """Identities that hold for every float, NaN and infinity included."""
    name, shape = node.op.name, node.specs[0].shape
    if name in ("multiply", "divide", "add", "subtract"):
        # x + 0 is not x where x is -0: 1 / (x + 0) is infinity. x - 0 and x + -0 are x.
        neutral = 1 if name in ("multiply", "divide") else -0.0 if name == "add" and is_floating(inputs[0].dtype) else 0
        for i in (1, 0) if name in ("multiply", "add") else (1,):
            found = _scalar_of(inputs[i])
            same = found == neutral and math.copysign(1, found) == math.copysign(1, neutral)
            if same and inputs[1 - i].shape == shape:
                return inputs[1 - i]
    if name in REDUCTIONS and all(inputs[0].shape[axis] == 1 for axis in node.attributes["axes"]):
        return inputs[0] if inputs[0].shape == shape else movement.reshape(inputs[0], shape=shape)
    if name == "negative" and _made_by(inputs[0], "negative"):
        return inputs[0].node.inputs[0]
    if name == "cast" and inputs[0].dtype == node.attributes["dtype"]:
        return inputs[0]
    if name == "cast" and _made_by(inputs[0], "cast") and inputs[0].dtype == FLOAT32:
        source = inputs[0].node.inputs[0]  # widened, and now narrow again
        if source.dtype in HALVES and source.dtype == node.attributes["dtype"]:
            return source
    if name in ("reshape", "broadcast_to") and inputs[0].shape == shape:
        return inputs[0]
    if name == "reshape" and _made_by(inputs[0], "reshape"):
        source = inputs[0].node.inputs[0]
        return source if source.shape == shape else movement.reshape(source, shape=shape)
    if name == "transpose":
        axes, (source,) = node.attributes["axes"], inputs
        if _made_by(source, "transpose"):
            axes = tuple(source.node.attributes["axes"][a] for a in axes)
            source = source.node.inputs[0]
        if list(axes) == list(range(len(axes))):
            return source
        if source is not inputs[0]:
            return movement.transpose(source, axes=axes)
    if name in ("identity", "stop_gradient"):
        return inputs[0]
    if name == "pad" and not any(any(node.attributes[key]) for key in ("low", "high", "interior")):
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


def _cast_ahead(node: Node, inputs: tuple) -> Any:
    """Cast what is the same in every iteration of a loop once: weights, where the computation is in half precision."""
    if node.op.name != "scan":
        return None
    body = node.attributes["body"]
    given = dict(zip([v.key for v in body.part(body.graph.inputs, "constants")], inputs, strict=False))
    found = [n for n in body.graph.nodes() if n.op.name == "cast" and n.inputs[0]._array is None]
    found = [n for n in found if n.inputs[0].key in given]
    if not found:
        return None
    symbols = [placeholder(*n.specs[0], "constant") for n in found]
    carry, results = body.graph.result
    outputs = replaced([*carry, *results], {(n, 0): symbol for n, symbol in zip(found, symbols, strict=True)})
    count = body.constants
    own = body.graph.inputs
    graph = Graph([*own[:count], *symbols, *own[count:]], {}, (outputs[: len(carry)], outputs[len(carry) :]), {})
    made = [cast(given[n.inputs[0].key], dtype=n.attributes["dtype"]) for n in found]
    inputs = (*inputs[:count], *made, *inputs[count:])
    attributes = {**node.attributes, "body": Body(graph, count + len(found), body.carried)}
    return node.again(inputs, attributes).outputs()


def _in_single(node: Node, inputs: tuple) -> Any:
    """Kernels that are not written for half precision, and would have to add up in it: cast before and after."""
    if is_elementwise(node.op) or node.op.name in _OF_ANY_PRECISION:
        return None
    if not any(value.dtype in HALVES for value in inputs):
        return None
    wide = tuple(_materialized(cast_to(v, FLOAT32) if v.dtype in HALVES else v) for v in inputs)
    specs = tuple(Spec(s.shape, FLOAT32) if s.dtype in HALVES else s for s in node.specs)
    outputs = node.again(wide, specs=specs).outputs()
    return tuple(cast_to(value, spec.dtype) for value, spec in zip(outputs, node.specs, strict=True))


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
    return node.again(changed).outputs()


def _materialized(value: Tensor) -> Tensor:
    """``value`` itself where it lies row-major in memory, perhaps under another shape; else a copy that does."""
    inner = look_through(value, ("reshape", SETTLED))
    return contiguous(value) if inner._array is None and inner.node.op.name in VIEWS else value


# Each makes a graph of a graph, in this order; all but the REQUIRED ones can be left out, see config.passes().
PASSES: dict[str, Callable[[Graph], Graph]] = {
    "volumes": _pass(flattened, about=is_volume),  # see there
    "algebra": _pass(_algebra),
    "merge": _pass(merge=True),  # common subexpressions
    "split": _pass(_split_reduction),  # long reductions in two steps, so that threads can share them
    "casts": _pass(_cast_ahead, about=lambda node: node.op.name == "scan"),  # of weights that loops read
    "forms": _pass(_in_single, _addressable),  # that kernels exist for
    "fold": _fold,
    "sparse": sparse,
    "settled": _settled,
}
REQUIRED = ("forms", "settled")
