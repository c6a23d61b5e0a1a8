"""Reverse-mode differentiation of any order.

While a recorder is open, tensors remember the node that made them. A gradient walks those nodes backwards and asks each
op for its gradient, which is written in tensor operations; so the walk itself can be recorded, or traced.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import pytree
from .dtypes import is_floating
from .errors import DtypeError, ShapeError
from .graph import frontier
from .op import Node, Op, next_serial, spec_of, state
from .primitives import elementwise
from .primitives.control import barrier
from .primitives.movement import concatenate, slice_
from .tensor import Tensor, filled, tensor, wrap
from .variable import StateScope, Variable


class _Recorder:
    """While open, tensors that depend on a watched one remember how they were made."""

    def __init__(self) -> None:
        self.reads: dict[Variable, list[Tensor]] = {}

    def note_read(self, variable: Variable, value: Tensor) -> None:
        seen = self.reads.setdefault(variable, [])
        if all(value.key != other.key for other in seen):
            seen.append(value)

    def __enter__(self) -> _Recorder:
        state.recorders.append(self)
        return self

    def __exit__(self, *exception: Any) -> None:
        state.recorders.remove(self)


def backpropagate(
    outputs: Sequence[Tensor], output_gradients: Sequence[Tensor | None], sources: Sequence[Tensor], since: int = 0
) -> list[Tensor | None]:
    """Return, for each source, the sum over outputs of gradient · d output / d source; None where unconnected.

    Only nodes with numbers from ``since`` on are followed.
    """
    wanted = {source.key for source in sources}
    roots = [value.node for value in outputs if value.node is not None]
    order, needed = _relevant_nodes(roots, wanted, since)
    sums = _Sums()
    for value, gradient in zip(outputs, output_gradients, strict=True):
        if gradient is not None and is_floating(value.dtype):
            sums.add(value.key, gradient)
    for node in reversed(order):
        incoming = tuple(sums.take((node, i), keep=(node, i) in wanted) for i in range(len(node.specs)))
        if node.op.gradient is None or all(part is None for part in incoming):
            continue
        state.scopes.append(node.scope)  # a gradient belongs to the layer of what it differentiates
        try:
            for value, part in zip(node.inputs, _parts(node, incoming, sums), strict=True):
                if part is None or not is_floating(value.dtype):
                    continue
                if value.key in wanted or (value.node is not None and value.node in needed):
                    sums.add(value.key, part() if callable(part) else part)
        finally:
            state.scopes.pop()
    return [sums.take(source.key, keep=True) for source in sources]


def _parts(node: Node, incoming: tuple, sums: _Sums) -> Sequence:
    """The gradients by a node's inputs, tensors or thunks; slices are put aside, to be joined."""
    if node.op is slice_:
        sums.add_slice(node, incoming[0])
        return (None,)
    made = node.outputs()
    if not node.many:
        incoming, made = incoming[0], made[0]
    return node.op.gradient(incoming, made, *node.inputs, **node.attributes)


class _Sums:
    """The gradients found so far, by key of the value. What came through slices of one value is joined at the end:
    a loop over the slices of a tensor then costs one concatenation, not a padded sum for every step.
    """

    def __init__(self) -> None:
        self._whole: dict[Any, Tensor] = {}
        self._slices: dict[Any, list[tuple[Node, Tensor]]] = {}

    def add(self, key: Any, part: Tensor) -> None:
        self._whole[key] = part if key not in self._whole else elementwise.add(self._whole[key], part)

    def add_slice(self, node: Node, part: Tensor) -> None:
        self._slices.setdefault(node.inputs[0].key, []).append((node, part))

    def take(self, key: Any, keep: bool) -> Tensor | None:
        """The sum for a value whose uses have all been seen."""
        slices = self._slices.pop(key, [])
        if len(slices) > 1 and (joined := _joined(slices)) is not None:
            self.add(key, joined)
            slices = []
        for node, part in slices:
            self.add(key, node.op.gradient(part, node.output(0), *node.inputs, **node.attributes)[0])
        return self._whole.get(key) if keep else self._whole.pop(key, None)


def _joined(slices: list[tuple[Node, Tensor]]) -> Tensor | None:
    """The sum of slices' gradients as one concatenation, where they lie side by side along one axis."""
    source = slices[0][0].inputs[0]
    cut, pieces = set(), []
    for node, part in slices:
        spans = list(zip(node.attributes["starts"], node.attributes["stops"], strict=True))
        cut.update(i for i, (span, n) in enumerate(zip(spans, source.shape, strict=True)) if span != (0, n))
        if len(cut) != 1 or any(step != 1 for step in node.attributes["steps"]):
            return None
        pieces.append((spans[min(cut)], part))
    axis = cut.pop()
    pieces.sort(key=lambda piece: piece[0])
    parts, end = [], 0
    for (start, stop), part in [*pieces, ((source.shape[axis], source.shape[axis]), None)]:
        if start < end:
            return None  # they overlap
        if start > end:
            gap = (*source.shape[:axis], start - end, *source.shape[axis + 1 :])
            parts.append(filled(0, gap, source.dtype))
        parts.extend([] if part is None else [part])
        end = stop
    return concatenate(*parts, axis=axis)


def _relevant_nodes(roots: list[Node], wanted: set, since: int) -> tuple[list[Node], set[Node]]:
    """Nodes that lie between the wanted values and the roots, in order of computation."""
    order: list[Node] = []
    needed: set[Node] = set()
    visited: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in roots]
    while stack:
        node, done = stack.pop()
        if done:
            if any(v.key in wanted or v.node in needed for v in node.inputs if v.node or v.key in wanted):
                needed.add(node)
                order.append(node)
        elif node not in visited and node.serial >= since:
            visited.add(node)
            stack.append((node, True))
            stack.extend((value.node, False) for value in node.inputs if value.node is not None)
    return order, needed


def _watched_copy(value: Any) -> Tensor:
    """A tensor of the same value whose uses can be told from other uses of ``value``."""
    copy = elementwise.identity(tensor(value))
    copy.watched = True
    return copy


def _differentiable_copy(value: Any) -> Tensor:
    copy = _watched_copy(value)
    if not is_floating(copy.dtype):
        raise DtypeError(
            f"A gradient is asked for by a value of dtype {copy.dtype.name} and shape {copy.shape}; it exists for "
            "floats only. Cast the argument (3.0, not 3), or choose others with argnums."
        )
    return copy


def vjp(function: Callable, *primals: Any) -> tuple[Any, Callable]:
    """Evaluate ``function`` and return its result with its vector-Jacobian product.

    The second result takes cotangents of the structure of the result and returns a tuple with one cotangent
    per primal (of the primal's structure; zeros where the result does not depend on it).

    >>> y, pullback = vjp(lambda x: x * x, 3.0)
    >>> float(pullback(1.0)[0])
    6.0
    """
    with _Recorder():
        copies = pytree.map(_watched_copy, primals)
        result = function(*copies)
    result = pytree.map(tensor, result)
    outputs, sources = pytree.flatten(result), pytree.flatten(copies)

    def pullback(cotangents: Any) -> tuple:
        given = pytree.flatten(cotangents)
        if len(given) != len(outputs):
            raise ValueError(f"vjp: expected {len(outputs)} cotangents, one per output; received {len(given)}.")
        parts = backpropagate(outputs, list(map(_fitting, given, outputs)), sources)
        return pytree.unflatten(copies, _or_zeros(parts, sources))

    return result, pullback


def _fitting(cotangent: Any, output: Tensor) -> Tensor:
    cotangent = tensor(cotangent, output.dtype)
    if cotangent.shape != output.shape:
        raise ShapeError(f"A cotangent of shape {cotangent.shape} was given for an output of shape {output.shape}.")
    return cotangent


def _zeros(like: Tensor) -> Tensor:
    return filled(0, like.shape, like.dtype)


def _or_zeros(parts: Sequence[Tensor | None], likes: Sequence[Tensor]) -> list[Tensor]:
    return [_zeros(like) if part is None else part for part, like in zip(parts, likes, strict=True)]


def value_and_grad(function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """Return a function that computes ``function``, a float scalar, and its gradient by the chosen arguments.

    With ``has_aux`` the function returns (loss, other results), and so does the first part of the answer.

    >>> value, gradient = value_and_grad(lambda w: (w * w).sum())(tensor([1.0, 2.0]))
    >>> float(value), gradient.tolist()
    (5.0, [2.0, 4.0])
    """
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(function)
    def differentiated(*arguments: Any, **options: Any) -> tuple:
        with _Recorder():
            copies = {i: pytree.map(_differentiable_copy, arguments[i]) for i in positions}
            result = function(*(copies.get(i, a) for i, a in enumerate(arguments)), **options)
        loss = tensor(result[0] if has_aux else result)
        _check_scalar(loss)
        sources = pytree.flatten([copies[i] for i in positions])
        parts = backpropagate([loss], [wrap(np.ones((), loss.dtype))], sources)
        gradients = tuple(pytree.unflatten([copies[i] for i in positions], _or_zeros(parts, sources)))
        return result, gradients[0] if isinstance(argnums, int) else gradients

    return differentiated


def _check_scalar(loss: Tensor) -> None:
    if loss.shape != ():
        raise ShapeError(
            f"Only a scalar can be differentiated; the function returned shape {loss.shape}. Reduce it with mean() or "
            "sum(), or use vjp with a cotangent of that shape."
        )
    if not is_floating(loss.dtype):
        raise DtypeError(f"Only a float result can be differentiated; the function returned dtype {loss.dtype.name}.")


def grad(function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """Return a function that computes the gradient of ``function``, a float scalar, by the chosen arguments.

    >>> float(grad(grad(lambda x: x**3))(2.0))
    12.0
    """
    evaluate = value_and_grad(function, argnums, has_aux)

    @functools.wraps(function)
    def gradient(*arguments: Any, **options: Any) -> Any:
        result, gradients = evaluate(*arguments, **options)
        return (gradients, result[1]) if has_aux else gradients

    return gradient


def jvp(function: Callable, primals: Sequence, tangents: Sequence) -> tuple[Any, Any]:
    """Return ``function(*primals)`` and its derivative along ``tangents`` (Jacobian-vector product).

    Computed as the transpose of the vector-Jacobian product, which is linear in its cotangent.

    >>> _, tangent = jvp(lambda x: x * x, (3.0,), (2.0,))
    >>> float(tangent)
    12.0
    """
    if len(primals) != len(tangents):
        raise ValueError(f"jvp: expected one tangent per primal; received {len(primals)} and {len(tangents)}.")
    with _Recorder():
        copies = pytree.map(_watched_copy, tuple(primals))
        result = pytree.map(tensor, function(*copies))
        outputs = pytree.flatten(result)
        dummies = [_watched_copy(_zeros(output)) for output in outputs]
        parts = backpropagate(outputs, dummies, pytree.flatten(copies))
    pairs = zip(pytree.flatten(tuple(tangents)), pytree.flatten(copies), strict=True)
    directions = [_fitting(tangent, source) for tangent, source in pairs]
    linked = [(p, d) for p, d in zip(parts, directions, strict=True) if p is not None]
    pushed = backpropagate([p for p, _ in linked], [d for _, d in linked], dummies)
    return result, pytree.unflatten(result, _or_zeros(pushed, outputs))


def _override(result: Any, inputs: list[Tensor], gradient: Callable) -> Any:
    """Let the tensors of ``result`` have ``gradient`` as theirs: (cotangents, outputs) -> a list over ``inputs``."""
    outputs = [value.detached() for value in pytree.flatten(result)]
    count = len(outputs)
    op = Op(
        "custom_gradient",
        rule=lambda *values: tuple(map(spec_of, values[:count])),
        reference=lambda *arrays: tuple(arrays[:count]),
        gradient=lambda g, y, *values: [None] * count + list(gradient(g, y)),
    )
    return pytree.unflatten(result, op(*outputs, *inputs))


def with_gradient(result: Tensor, value: Tensor, gradient: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``result``, made of ``value``, with ``gradient(g, result)`` as its gradient by ``value``.

    For functions whose gradient has a shorter form than the one that follows from their parts.
    """
    return _override(result, [value], lambda g, y: [gradient(g[0], y[0])]) if state.recorders else result


def custom_gradient(function: Callable) -> Callable:
    """Decorate a function that returns ``(result, gradient_function)`` to use that gradient.

    ``gradient_function`` takes one cotangent per output and returns one gradient per tensor argument.

    >>> @custom_gradient
    ... def reverse_gradient(x):
    ...     return x, lambda upstream: -upstream
    >>> float(grad(lambda x: 10 * reverse_gradient(x))(3.0))
    -10.0
    """

    @functools.wraps(function)
    def wrapped(*arguments: Any) -> Any:
        arguments = pytree.map(tensor, arguments)
        result, gradient_function = function(*arguments)
        result = pytree.map(tensor, result)
        if not state.recorders:
            return result
        inputs, outputs = pytree.flatten(arguments), pytree.flatten(result)

        def gradient(incoming: tuple, _: tuple) -> list:
            parts = gradient_function(*_or_zeros(incoming, outputs))
            parts = list(parts) if isinstance(parts, (tuple, list)) else [parts]
            if len(parts) != len(inputs):
                raise ValueError(
                    f"The gradient function of {function.__name__} returned {len(parts)} gradients for {len(inputs)} "
                    "arguments."
                )
            return parts

        return _override(result, inputs, gradient)

    return wrapped


def checkpoint(function: Callable) -> Callable:
    """Return ``function`` with less memory for its gradient: its inner values are computed anew when needed.

    Chen, Xu, Zhang, Guestrin: "Training deep nets with sublinear memory cost" (2016). Variables that the
    function reads are differentiated too, and random draws repeat themselves.

    >>> float(grad(checkpoint(lambda x: x * x * x))(2.0))
    12.0
    """

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if not state.recorders:
            return function(*arguments, **options)
        inputs = [tensor(leaf) for leaf in pytree.flatten(arguments)]
        autocast = state.autocast
        with _Recorder(), StateScope() as scope:
            copies = [_watched_copy(value) for value in inputs]
            start = next_serial()
            result = function(*pytree.unflatten(arguments, copies), **options)
        result = pytree.map(tensor, result)
        for variable, value in scope.writes.items():
            variable.assign(value.detached())
        captured = frontier(pytree.flatten(result), start)
        read = [variable for variable, value in scope.reads.items() if value.key in captured]
        known = {value.key for value in (*copies, *(scope.reads[variable] for variable in read))}
        closed_over = [value for key, value in captured.items() if key not in known]
        held = [*inputs, *(scope.reads[variable] for variable in read)]

        def gradient(incoming: tuple, _: tuple) -> list:
            seeds = [g for g in incoming if g is not None]
            guarded = list(barrier(*held, *seeds, count=len(held)))
            again = guarded[len(inputs) :]
            with _Recorder(), _Repetition({**scope.reads, **dict(zip(read, again, strict=True))}):
                for value in again:
                    value.watched = True
                copies = [_watched_copy(value) for value in guarded[: len(inputs)]]
                since = next_serial()
                outer, state.autocast = state.autocast, autocast
                try:
                    repeated = function(*pytree.unflatten(arguments, copies), **options)
                finally:
                    state.autocast = outer
            targets = [tensor(value) for value in pytree.flatten(repeated)]
            return backpropagate(targets, incoming, [*copies, *again, *closed_over], since)

        return _override(result, [*held, *closed_over], gradient)

    return wrapped


class _Repetition(StateScope):
    """The variables as a checkpointed function met them; its reads are not new ones."""

    notes_reads = False


def _total(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return functools.reduce(elementwise.add, found) if found else None


class GradientTape:
    """Record operations, then ask for gradients, as in TensorFlow.

    Trainable variables are watched when they are read; other tensors after :meth:`watch`.

    >>> x = Variable(3.0)
    >>> with GradientTape() as tape:
    ...     y = x * x
    >>> float(tape.gradient(y, x))
    6.0

    Args:
        persistent: keep the record after the first :meth:`gradient`, so that more can be asked for.
    """

    def __init__(self, persistent: bool = False):
        self._persistent = persistent
        self._recorder: _Recorder | None = None
        self._used = False

    def __enter__(self) -> GradientTape:
        self._recorder = _Recorder().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._recorder.__exit__()

    def watch(self, value: Any) -> None:
        """Follow the tensors of ``value`` (a tree of tensors or variables)."""
        for leaf in pytree.flatten(value):
            (leaf.value if isinstance(leaf, Variable) else leaf).watched = True

    def gradient(self, target: Any, sources: Any, output_gradients: Any = None) -> Any:
        """Gradient of the sum of ``target`` by each of ``sources`` (its structure; None where unconnected)."""
        if self._recorder is None:
            raise RuntimeError("The tape recorded nothing: compute the target inside `with GradientTape() as tape`.")
        if self._used and not self._persistent:
            raise RuntimeError(
                "A GradientTape answers once; make it GradientTape(persistent=True) for several gradients."
            )
        self._used = True
        targets = [tensor(value) for value in pytree.flatten(target)]
        for value in targets:
            if not is_floating(value.dtype):
                raise DtypeError(f"The target of a gradient has to be float; received {value.dtype.name}.")
        if output_gradients is None:
            seeds = [filled(1, value.shape, value.dtype) for value in targets]
        else:
            given = zip(pytree.flatten(output_gradients), targets, strict=True)
            seeds = [_fitting(seed, value) for seed, value in given]
        groups = [self._values(leaf) for leaf in pytree.flatten(sources)]
        parts = iter(backpropagate(targets, seeds, [value for group in groups for value in group]))
        return pytree.unflatten(sources, [_total([next(parts) for _ in group]) for group in groups])

    def _values(self, source: Any) -> list[Tensor]:
        if not isinstance(source, Variable):
            made = source.node is not None and source.node.op.reference is not None  # not an input of a trace
            return [source] if made or source.watched else []
        return [value for value in self._recorder.reads.get(source, []) if value.watched]

    def jacobian(self, target: Tensor, source: Any) -> Tensor:
        """Jacobian of ``target`` by one source: shape target.shape + source.shape."""
        from . import ops

        rows = []
        values = self._values(source)
        for position in range(target.size):
            seed = np.zeros(target.size, target.dtype)
            seed[position] = 1
            total = _total(backpropagate([target], [wrap(seed.reshape(target.shape))], values))
            rows.append(_zeros(source) if total is None else total)
        return ops.reshape(ops.stack(rows), (*target.shape, *source.shape))
