"""scan as one node of a graph: a loop whose body is a graph of its own, with its gradient as another such loop.

The carried values are kept for every step, in stacks with one more slot than there are steps: what iteration t leaves
behind is the slice of a stack, and so are the values that its gradient needs. Gradients with respect to what all
iterations share are not summed step by step where they are products or sums: their operands are stacked, and one
product over all steps is computed after the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import pytree
from .dtypes import is_floating
from .errors import ShapeError, TraceError
from .gradients import backpropagate
from .graph import Graph, replaced
from .op import Node, Op, Spec, next_serial, placeholder, spec_of, state
from .primitives import elementwise, movement, reduction
from .primitives.contraction import contract, parse
from .tensor import Tensor, tensor, wrap
from .variable import StateScope, Variable


class Body:
    """What one iteration computes: (constants, carry, slices) -> (carry, results).

    ``graph.inputs`` are all three in order; ``graph.result`` is a pair of lists. ``backward`` tells how to
    differentiate it, if that was foreseen.
    """

    def __init__(self, graph: Graph, constants: int, carried: int):
        self.graph = graph
        self.constants = constants
        self.carried = carried
        self.backward: _Backward | None = None

    def part(self, values: Sequence, which: str) -> list:
        """The "constants", "carry" or "slices" among values for the inputs."""
        edges = {
            "constants": (0, self.constants),
            "carry": (self.constants, self.constants + self.carried),
            "slices": (self.constants + self.carried, None),
        }
        return list(values[slice(*edges[which])])


def _rule(*inputs: Any, body: Body, length: int, reverse: bool) -> tuple:
    carry, results = body.graph.result
    stacks = [Spec((length + 1, *value.shape), value.dtype) for value in carry]
    return (*stacks, *(Spec((length, *value.shape), value.dtype) for value in results))


def _reference(*inputs: np.ndarray, body: Body, length: int, reverse: bool) -> tuple:
    constants, carry, slices = (body.part(inputs, which) for which in ("constants", "carry", "slices"))
    outputs = [np.empty(*spec) for spec in _rule(body=body, length=length, reverse=reverse)]
    stacks, results = outputs[: body.carried], outputs[body.carried :]
    for stack, value in zip(stacks, carry, strict=True):
        stack[length if reverse else 0] = value
    for t in range(length - 1, -1, -1) if reverse else range(length):
        before, after = (t + 1, t) if reverse else (t, t + 1)
        now = [*constants, *(stack[before] for stack in stacks), *(x[t] for x in slices)]
        made_carry, made = body.graph.run(now)
        for stack, value in zip(stacks, made_carry, strict=True):
            stack[after] = value._array
        for result, value in zip(results, made, strict=True):
            result[t] = value._array
    return tuple(outputs)


def _gradient(g: tuple, y: tuple, *inputs: Tensor, body: Body, length: int, reverse: bool) -> list:
    if body.backward is None or any(part is not None for part in g[len(g) - len(body.backward.residuals) :]):
        raise TraceError(
            "A scan that is traced can be differentiated once, by the tape or gradient function around it. For higher "
            "orders call ops.scan under as many of them, or eagerly."
        )
    return body.backward.apply(g, y, inputs, length, reverse)


def scan(f: Callable, init: Any, xs: Any, length: int, reverse: bool) -> tuple[Any, Any]:
    """The symbolic form of :func:`ops.scan`."""
    init, xs = pytree.map(tensor, init), pytree.map(tensor, xs)
    carried: list[Variable] = []  # variables that iterations assign
    while True:
        body, captured, structures, writes, renewed = _record(f, init, xs, carried)
        if all(variable in carried for variable in writes):
            break
        carried = [*carried, *(v for v in writes if v not in carried)]
    if state.recorders:
        body.backward = _Backward(body, renewed)
        body.graph.result[1].extend(body.backward.residuals)
    start = [*pytree.flatten(init), *(variable.value for variable in carried)]
    outputs = _scan(*captured, *start, *pytree.flatten(xs), body=body, length=length, reverse=reverse)
    stacks, results = outputs[: body.carried], outputs[body.carried :]
    final = [stack[0 if reverse else length] for stack in stacks]
    count = len(pytree.flatten(init))
    for variable, value in zip(carried, final[count:], strict=True):
        variable.assign(value)
    ys = results[: len(pytree.flatten(structures[1]))]
    return pytree.unflatten(structures[0], final[:count]), pytree.unflatten(structures[1], ys)


def _record(f: Callable, init: Any, xs: Any, carried: list[Variable]) -> tuple:
    """Trace one iteration.

    Returns its body, the values that it captured, the results' structures, its writes, and what the values that
    were traced have become in the body.
    """
    first = next_serial()
    carry = pytree.map(lambda v: placeholder(v.shape, v.dtype, "carry"), init)
    slices = pytree.map(lambda v: placeholder(v.shape[1:], v.dtype, "slice"), xs)
    states = {v: placeholder(v.shape, v._value.dtype, v.path) for v in carried}
    with StateScope(states) as scope:
        new, ys = f(carry, slices)
        new, ys = pytree.map(tensor, new), pytree.map(tensor, ys)
    expected, received = pytree.flatten(init), pytree.flatten(new)
    if list(map(spec_of, expected)) != list(map(spec_of, received)):
        raise ShapeError(
            f"scan: the carry has to keep its shapes and dtypes; it starts as {[spec_of(v) for v in expected]} and an "
            f"iteration returned {[spec_of(v) for v in received]}."
        )
    own = [*pytree.flatten(carry), *states.values(), *pytree.flatten(slices)]
    outputs = [*received, *(scope.read(v) for v in carried)]
    results = pytree.flatten(ys)
    captured = _free([*outputs, *results, *scope.writes.values()], {v.key for v in own}, first)
    constants = [placeholder(v.shape, v.dtype, "constant") for v in captured]
    mapping = {v.key: symbol for v, symbol in zip(captured, constants, strict=True)}
    made = replaced([*outputs, *results], mapping)
    outputs, results = made[: len(outputs)], made[len(outputs) :]
    graph = Graph([*constants, *own], {}, (outputs, results), {})
    return Body(graph, len(constants), len(outputs)), captured, (new, ys), scope.writes, mapping


def _free(outputs: Sequence[Tensor], own: set, first: int) -> list[Tensor]:
    """The symbolic values from outside (nodes numbered below ``first``, or strange inputs) that ``outputs`` use."""
    found: dict[Any, Tensor] = {}
    seen: set[Node] = set()
    stack = [value for value in outputs if value._array is None]
    while stack:
        value = stack.pop()
        if value.key in own:
            continue
        if value.node.serial < first or value.node.op.reference is None:
            found[value.key] = value
        elif value.node not in seen:
            seen.add(value.node)
            stack.extend(v for v in value.node.inputs if v._array is None)
    return list(found.values())


class _Backward:
    """The gradient of one iteration, and what the loop has to keep for it.

    ``residuals`` are the values of the forward iteration, besides its inputs, that the gradient reads.
    """

    def __init__(self, body: Body, renewed: dict[Any, Tensor]):
        self.body = body
        graph = body.graph
        first = next_serial()
        self.outputs = [v for part in graph.result for v in part]
        self.seeds = [placeholder(v.shape, v.dtype, "cotangent") for v in self.outputs]
        recorders, state.recorders = state.recorders, []
        try:
            parts = backpropagate(self.outputs, self.seeds, graph.inputs)
        finally:
            state.recorders = recorders
        # Gradients that came with a function may read what it computed while it was traced.
        parts = [p if p is None else replaced([p], renewed)[0] for p in parts]
        self.parts = [p if is_floating(v.dtype) else None for p, v in zip(parts, graph.inputs, strict=True)]
        varying = _depend_on({v.key for v in (*body.part(graph.inputs, "carry"), *body.part(graph.inputs, "slices"))})
        known = {v.key for v in (*graph.inputs, *self.seeds)}
        made = [p for p in self.parts if p is not None]
        self.residuals = [v for v in _frontier(made, first) if v.key not in known and varying(v)]

    def apply(self, g: tuple, y: tuple, inputs: tuple, length: int, reverse: bool) -> list:
        """Gradients by the inputs of the scan."""
        body, inner = self.body, self.body.graph.inputs
        outer = dict(zip((v.key for v in inner), inputs, strict=True))
        stacks, results = y[: body.carried], y[body.carried :]
        # Every value that has one slice per step, with the symbol that stands for the slice.
        by_step: list[tuple[Tensor, Tensor]] = list(
            zip(body.part(inner, "slices"), body.part(inputs, "slices"), strict=True)
        )
        before = slice(1, None) if reverse else slice(0, -1)
        by_step += [(v, s[before]) for v, s in zip(body.part(inner, "carry"), stacks, strict=True)]
        count = len(results) - len(self.residuals)
        by_step += list(zip(self.residuals, results[count:], strict=True))
        chain = self._chained(g, stacks, results[:count], by_step, length, reverse)
        sums = {i: self._terms(i) for i in range(body.constants) if self.parts[i] is not None}
        return self._loop(g, outer, by_step, chain, sums, inputs, length, reverse)

    def _chained(
        self, g: tuple, stacks: Sequence, results: Sequence, by_step: list, length: int, reverse: bool
    ) -> dict:
        """Cotangents that come from outside, slice by slice; returns the symbols of those of the carry."""
        body = self.body
        chain = {}
        after = slice(0, -1) if reverse else slice(1, None)
        for i, seed in enumerate(self.seeds[: body.carried + len(results)]):
            if not is_floating(seed.dtype):
                continue
            outside = g[i]
            if i < body.carried:
                if outside is not None:
                    symbol = placeholder(seed.shape, seed.dtype, "cotangent")
                    by_step.append((symbol, outside[after]))
                    chain[i] = symbol
                else:
                    chain[i] = None
            else:
                if outside is None:
                    outside = wrap(np.broadcast_to(np.zeros((), seed.dtype), (length, *seed.shape)))
                by_step.append((seed, outside))
        return chain

    def _terms(self, i: int) -> list[Tensor]:
        """The summands of the gradient by constant ``i``."""
        terms, stack = [], [self.parts[i]]
        while stack:
            value = stack.pop()
            if value.node is not None and value.node.op is elementwise.add:
                if all(v.shape == value.shape for v in value.node.inputs):
                    stack.extend(value.node.inputs)
                    continue
            terms.append(value)
        return terms

    def _loop(
        self,
        g: tuple,
        outer: dict,
        by_step: list,
        chain: dict,
        sums: dict[int, list[Tensor]],
        inputs: tuple,
        length: int,
        reverse: bool,
    ) -> list:
        body, inner = self.body, self.body.graph.inputs
        carried = [i for i in range(body.carried) if i in chain]
        symbols = {i: placeholder(self.seeds[i].shape, self.seeds[i].dtype, "carry") for i in carried}
        mapping = {}
        for i in carried:
            total = symbols[i] if chain[i] is None else symbols[i] + chain[i]
            mapping[self.seeds[i].key] = total
        for i, seed in enumerate(self.seeds[: body.carried]):
            if i not in chain:
                mapping[seed.key] = wrap(np.zeros(seed.shape, seed.dtype))
        stand = {v.key: _symbol(v) for v, _ in by_step}
        mapping.update(stand)
        emitted: list[Tensor] = []  # values of the backward iteration to be stacked
        later: list[tuple[int, Callable]] = []  # products over all steps, after the loop
        running: dict[int, Tensor] = {}
        constant_keys = {v.key for v in body.part(inner, "constants")}
        varying = _depend_on(set(stand) | {s.key for s in self.seeds} | {v.key for v in inner} - constant_keys)
        for i, terms in sums.items():
            for term in terms:
                made = _hoisted(term, emitted, varying)
                if made is not None:
                    later.append((i, made))
                else:
                    running[i] = term if i not in running else running[i] + term
        previous = [self.parts[body.constants + i] for i in carried]
        previous = [
            p if p is not None else wrap(np.zeros(symbols[i].shape, symbols[i].dtype))
            for i, p in zip(carried, previous, strict=True)
        ]
        slices = [i for i in range(body.constants + body.carried, len(inner)) if self.parts[i] is not None]
        accumulators = {i: placeholder(v.shape, v.dtype, "carry") for i, v in running.items()}
        made = replaced([*previous, *running.values(), *(self.parts[i] for i in slices), *emitted], mapping)
        new_carry = made[: len(previous)]
        sums_now = made[len(previous) : len(previous) + len(running)]
        new_carry += [accumulators[i] + value for i, value in zip(running, sums_now, strict=True)]
        outputs = made[len(previous) + len(running) :]
        own = [*symbols.values(), *accumulators.values(), *stand.values()]
        used = _free([*new_carry, *outputs], {v.key for v in own}, 0)
        constants = [v for v in body.part(inner, "constants") if v.key in {u.key for u in used}]
        loop = Body(Graph([*constants, *own], {}, (new_carry, outputs), {}), len(constants), len(new_carry))
        start = [wrap(np.zeros(s.shape, s.dtype)) for s in (*symbols.values(), *accumulators.values())]
        made = _scan(
            *(outer[v.key] for v in constants),
            *start,
            *(stack for _, stack in by_step),
            body=loop,
            length=length,
            reverse=not reverse,
        )
        last = length if reverse else 0  # the backward loop goes the other way
        final = [stack[last] for stack in made[: loop.carried]]
        stacked = made[loop.carried :]
        gradients: list[Any] = [None] * len(inputs)
        for i, value in zip(carried, final, strict=False):
            outside = None if g[i] is None else g[i][length if reverse else 0]
            gradients[body.constants + i] = value if outside is None else value + outside
        for i, value in zip(running, final[len(carried) :], strict=True):
            gradients[i] = value
        for i, value in zip(slices, stacked, strict=False):
            gradients[i] = value
        for i, product in later:
            total = product(stacked[len(slices) :])
            gradients[i] = total if gradients[i] is None else gradients[i] + total
        return gradients


def _symbol(value: Tensor) -> Tensor:
    """A symbolic input for the slices of ``value``: itself, if that is what it is."""
    is_input = value.node.op.reference is None
    return value if is_input else placeholder(value.shape, value.dtype, "slice")


def _hoisted(term: Tensor, emitted: list[Tensor], varying: Callable) -> Callable | None:
    """Turn a summand into operands to stack (added to ``emitted``) and a product over all steps, if it is one."""
    node = term.node
    if node is None or node.op not in (contract, reduction.reduce_sum):
        return None
    if not all(v._array is None and varying(v) for v in node.inputs):
        return None
    start = len(emitted)
    emitted.extend(node.inputs)
    if node.op is contract:
        a, b, result = parse(node.attributes["spec"])
        step = next(c for c in "tTsSuUvVwW" if c not in a + b)
        spec = f"{step}{a},{step}{b}->{result}"
        return lambda stacked: contract(stacked[start], stacked[start + 1], spec=spec)
    axes = (0, *(axis + 1 for axis in node.attributes["axes"]))

    def total(stacked: Sequence[Tensor]) -> Tensor:
        value = reduction.reduce_sum(stacked[start], axes=axes, keepdims=False)
        return value if value.shape == term.shape else movement.reshape(value, shape=term.shape)

    return total


def _depend_on(keys: set) -> Callable[[Tensor], bool]:
    """A function that tells whether a value depends on one of ``keys``."""
    known: dict[Any, bool] = {}

    def depends(value: Tensor) -> bool:
        stack = [value]
        while stack:
            now = stack[-1]
            if now._array is not None or now.key in known:
                stack.pop()
                continue
            if now.key in keys:
                known[now.key] = True
                continue
            waiting = [v for v in now.node.inputs if v._array is None and v.key not in known]
            if waiting:
                stack.extend(waiting)
            else:
                known[now.key] = any(known[v.key] for v in now.node.inputs if v._array is None)
        return value._array is None and known[value.key]

    return depends


def _frontier(outputs: Sequence[Tensor], first: int) -> list[Tensor]:
    """The values made before node ``first`` that later nodes, on the way to ``outputs``, read."""
    found: dict[Any, Tensor] = {}
    seen: set[Node] = set()
    stack = list(outputs)
    while stack:
        value = stack.pop()
        if value._array is not None:
            continue
        if value.node.serial < first:
            found[value.key] = value
        elif value.node not in seen:
            seen.add(value.node)
            stack.extend(value.node.inputs)
    return list(found.values())


# Not in the registry: what it computes is in its attributes, so it has no cases of its own.
_scan = Op("scan", rule=_rule, reference=_reference, gradient=_gradient)
