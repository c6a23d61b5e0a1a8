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
from .graph import Graph, frontier, replaced
from .op import OF_ANY_DTYPE, Node, Op, Spec, next_serial, placeholder, spec_of, state
from .primitives import elementwise, movement, reduction
from .primitives.contraction import contract, parse
from .tensor import Tensor, filled, tensor, wrap
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
    carry = pytree.map(lambda v: _like(v, "carry"), init)
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
    constants = [_like(v, "constant") for v in captured]
    mapping = {v.key: symbol for v, symbol in zip(captured, constants, strict=True)}
    made = replaced([*outputs, *results], mapping)
    outputs, results = made[: len(outputs)], made[len(outputs) :]
    graph = Graph([*constants, *own], {}, (outputs, results), {})
    return Body(graph, len(constants), len(outputs)), captured, (new, ys), scope.writes, mapping


def _free(outputs: Sequence[Tensor], own: set, first: int) -> list[Tensor]:
    """The symbolic values from outside (nodes numbered below ``first``, or strange inputs) that ``outputs`` use."""
    return [v for key, v in frontier(outputs, first).items() if v._array is None and key not in own]


class _Backward:
    """The gradient of one iteration, and what the loop has to keep for it.

    ``residuals`` are the values of the forward iteration, besides its inputs, that the gradient reads.
    """

    def __init__(self, body: Body, renewed: dict[Any, Tensor]):
        self.body = body
        self.renewed = renewed
        graph = body.graph
        first = next_serial()
        self.outputs = [v for part in graph.result for v in part]
        self.seeds = [_like(v, "cotangent") for v in self.outputs]
        self.differentiable = {i for i, v in enumerate(self.outputs) if is_floating(v.dtype)}
        self.parts = self._parts(self.differentiable)
        varying = _depend_on({v.key for v in (*body.part(graph.inputs, "carry"), *body.part(graph.inputs, "slices"))})
        known = {v.key for v in (*graph.inputs, *self.seeds)}
        made = [p for p in self.parts if p is not None]
        self.residuals = [v for v in _free(made, known, first) if varying(v)]

    def _parts(self, live: set[int]) -> list[Tensor | None]:
        """The gradients by the body's inputs, of the cotangents of the outputs that are ``live``."""
        graph = self.body.graph
        seeds = [seed if i in live else None for i, seed in enumerate(self.seeds)]
        recorders, state.recorders = state.recorders, []
        try:
            parts = backpropagate(self.outputs, seeds, graph.inputs)
        finally:
            state.recorders = recorders
        # Gradients that came with a function may read what it computed while it was traced.
        parts = [p if p is None else replaced([p], self.renewed)[0] for p in parts]
        return [p if is_floating(v.dtype) else None for p, v in zip(parts, graph.inputs, strict=True)]

    def _live(self, given: set[int]) -> tuple[set[int], list[Tensor | None]]:
        """The outputs of the body that somebody uses, now or in later iterations, and the gradients through them.

        Zeros in place of the others' cotangents would not do: times an infinite derivative they are NaN.
        """
        live = set(given)
        while live < self.differentiable:
            parts = self._parts(live)
            carry = self.body.part(parts, "carry")
            more = {i for i, part in enumerate(carry) if part is not None and i in self.differentiable} - live
            if not more:
                return live, parts
            live |= more
        return live, self.parts

    def apply(self, g: tuple, y: tuple, inputs: tuple, length: int, reverse: bool) -> list:
        """Gradients by the inputs of the scan."""
        body, inner = self.body, self.body.graph.inputs
        given = {i for i in self.differentiable if g[i] is not None}
        live, parts = self._live(given)
        if live != given and not all(map(_bounded, body.graph.nodes())):
            return self._last_apart(given, g, y, inputs, length, reverse)
        stacks, results = y[: body.carried], y[body.carried :]
        count = len(results) - len(self.residuals)
        before, after = (slice(1, None), slice(0, -1)) if reverse else (slice(0, -1), slice(1, None))
        # Every value that has one slice per step, with the symbol that stands for the slice.
        by_step = list(zip(body.part(inner, "slices"), body.part(inputs, "slices"), strict=True))
        by_step += [(v, s[before]) for v, s in zip(body.part(inner, "carry"), stacks, strict=True)]
        by_step += zip(self.residuals, results[count:], strict=True)
        # Cotangents of the carry go from step to step, joined by those that come from outside, slice by slice.
        chain = {i: _like(self.seeds[i], "carry") for i in range(body.carried) if i in live}
        mapping = {self.seeds[i].key: symbol for i, symbol in chain.items()}
        for i in sorted(live):
            if i >= body.carried:
                by_step.append((self.seeds[i], g[i]))
            elif g[i] is not None:
                outside = _like(chain[i], "cotangent")
                by_step.append((outside, g[i][after]))
                mapping[self.seeds[i].key] = chain[i] + outside
        return self._loop(g, inputs, parts, by_step, chain, mapping, length, reverse)

    def _last_apart(self, given: set, g: Sequence, y: Sequence, inputs: Sequence, length: int, reverse: bool) -> list:
        """Gradients where the last iteration is not like those before it: nobody uses some of the carry after it.

        They are its own, and those of the loop that ends before it.
        """
        body, rest = self.body, slice(1, None) if reverse else slice(0, -1)
        at, before, after = (0, 1, 0) if reverse else (length - 1, length - 1, length)
        constants, start, slices = (body.part(inputs, which) for which in ("constants", "carry", "slices"))
        now = [*constants, *(stack[before] for stack in y[: body.carried]), *(x[at] for x in slices)]
        kept = (values[at] for values in y[len(y) - len(self.residuals) :])
        mapping = {v.key: value for v, value in zip([*body.graph.inputs, *self.residuals], [*now, *kept], strict=True)}
        mapping |= {self.seeds[i].key: g[i][after if i < body.carried else at] for i in given}
        parts = [part if part is None else replaced([part], mapping)[0] for part in self._parts(given)]
        earlier = [_part(values, rest) for values in g]
        for i, part in enumerate(body.part(parts, "carry")):
            if part is not None:  # what comes back to the carry before it
                zeros = filled(0, (length - 1, *part.shape), part.dtype)
                earlier[i] = _sum(earlier[i], _joined(part, zeros, reverse))
        if length == 1:
            init = [_part(values, 0) for values in earlier[: body.carried]]
            return [*body.part(parts, "constants"), *init, *(_part(p, None) for p in body.part(parts, "slices"))]
        shorter = [*constants, *start, *(x[rest] for x in slices)]
        gradients = self.apply(earlier, [values[rest] for values in y], shorter, length - 1, reverse)
        for i, (part, symbol) in enumerate(zip(parts, body.graph.inputs, strict=True)):
            if i < body.constants:
                gradients[i] = _sum(gradients[i], part)
            elif i >= body.constants + body.carried and (part is not None or gradients[i] is not None):
                row = _zeros(symbol) if part is None else part
                rows = filled(0, (length - 1, *row.shape), row.dtype) if gradients[i] is None else gradients[i]
                gradients[i] = _joined(row, rows, reverse)
        return gradients

    def _loop(
        self,
        g: tuple,
        inputs: tuple,
        parts: list,
        by_step: list,
        chain: dict,
        mapping: dict,
        length: int,
        reverse: bool,
    ) -> list:
        body, inner = self.body, self.body.graph.inputs
        stand = {v.key: v if _is_input(v) else _like(v, "slice") for v, _ in by_step}
        mapping |= stand
        emitted: list[Tensor] = []  # values of the backward iteration to be stacked
        later: list[tuple[int, Callable]] = []  # products over all steps, after the loop
        running: dict[int, Tensor] = {}
        constant_keys = {v.key for v in body.part(inner, "constants")}
        varying = _depend_on(set(stand) | {s.key for s in self.seeds} | {v.key for v in inner} - constant_keys)
        for i in range(body.constants):
            for term in _terms(parts[i]):
                made = _hoisted(term, emitted, varying)
                if made is not None:
                    later.append((i, made))
                else:
                    running[i] = term if i not in running else running[i] + term
        previous = [parts[body.constants + i] for i in chain]
        previous = [_zeros(v) if p is None else p for v, p in zip(chain.values(), previous, strict=True)]
        slices = [i for i in range(body.constants + body.carried, len(inner)) if parts[i] is not None]
        accumulators = {i: _like(v, "carry") for i, v in running.items()}
        made = replaced([*previous, *running.values(), *(parts[i] for i in slices), *emitted], mapping)
        new_carry = made[: len(previous)]
        sums_now = made[len(previous) : len(previous) + len(running)]
        new_carry += [accumulators[i] + value for i, value in zip(running, sums_now, strict=True)]
        outputs = made[len(previous) + len(running) :]
        carry = [*chain.values(), *accumulators.values()]
        own = [*carry, *stand.values()]
        used = _free([*new_carry, *outputs], {v.key for v in own}, 0)
        constants = [v for v in body.part(inner, "constants") if v.key in {u.key for u in used}]
        loop = Body(Graph([*constants, *own], {}, (new_carry, outputs), {}), len(constants), len(new_carry))
        outer = {v.key: value for v, value in zip(inner, inputs, strict=True)}
        start = [*(outer[v.key] for v in constants), *map(_zeros, carry), *(stack for _, stack in by_step)]
        made = _scan(*start, body=loop, length=length, reverse=not reverse)
        last = length if reverse else 0  # the backward loop goes the other way
        final = [stack[last] for stack in made[: loop.carried]]
        stacked = made[loop.carried :]
        gradients: list[Any] = [None] * len(inputs)
        for i, value in zip(chain, final, strict=False):
            gradients[body.constants + i] = value if g[i] is None else value + g[i][last]
        for i, value in [*zip(running, final[len(chain) :], strict=True), *zip(slices, stacked, strict=False)]:
            gradients[i] = value
        for i, product in later:
            total = product(stacked[len(slices) :])
            gradients[i] = total if gradients[i] is None else gradients[i] + total
        return gradients


# The ops of a body whose derivatives are finite where their operands are.
_BOUNDED = (OF_ANY_DTYPE - {"scan"}) | {
    "add", "subtract", "negative", "multiply", "maximum", "minimum", "absolute", "where", "relu", "tanh", "sigmoid",
    "erf", "sin", "cos", "cast", "contract", "reduce_sum", "reduce_max", "reduce_min", "reshape", "transpose", "slice",
    "broadcast_to", "pad", "flip", "concatenate", "split", "gather", "scatter_add",
}  # fmt: skip


def _bounded(node: Node) -> bool:
    if node.op.name == "divide" and (divisor := node.inputs[1]._array) is not None:
        return bool(divisor.all())
    return node.op.name in _BOUNDED or not any(is_floating(spec.dtype) for spec in node.specs)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _part(value: Tensor | None, key: Any) -> Tensor | None:
    return None if value is None else value[key]


def _joined(row: Tensor, rows: Tensor, first: bool) -> Tensor:
    """A row put before others, or behind them."""
    return movement.concatenate(*((row[None], rows) if first else (rows, row[None])), axis=0)


def _terms(gradient: Tensor | None) -> list[Tensor]:
    """The summands of a gradient."""
    terms, stack = [], [] if gradient is None else [gradient]
    while stack:
        value = stack.pop()
        if value.node is not None and value.node.op is elementwise.add:
            if all(v.shape == value.shape for v in value.node.inputs):
                stack.extend(value.node.inputs)
                continue
        terms.append(value)
    return terms


def _is_input(value: Tensor) -> bool:
    return value.node.op.reference is None


def _like(value: Tensor, name: str) -> Tensor:
    """A symbolic input of the shape and dtype of ``value``."""
    return placeholder(value.shape, value.dtype, name)


def _zeros(like: Tensor) -> Tensor:
    return wrap(np.zeros(like.shape, like.dtype))


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


# Not in the registry: what it computes is in its attributes, so it has no cases of its own.
_scan = Op("scan", rule=_rule, reference=_reference, gradient=_gradient)
