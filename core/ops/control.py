"""Loops and branches over tensors, and functions mapped over an axis."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes, gradients, pytree
from ..errors import TraceError
from ..graph import frontier, replaced, trace, tracing
from ..op import Op, broadcast_shapes, next_serial, spec_of, state
from ..primitives import elementwise
from ..tensor import Tensor, filled, tensor
from ..variable import StateScope
from . import math
from .common import convert, slice_axis
from .shape import broadcast_to, concatenate, flip, reshape, stack


def stop_gradient(variable: Any) -> Any:
    """``variable`` (a tensor or a tree of them) as a constant for differentiation."""
    return pytree.map(lambda leaf: elementwise.stop_gradient(convert(leaf)), variable)


def custom_gradient(f: Callable) -> Callable:
    """Decorate a function that returns (result, gradient function); see :func:`tenzoo.custom_gradient`."""
    return gradients.custom_gradient(f)


def jvp(fun: Callable, primals: Sequence, tangents: Sequence, has_aux: bool = False) -> tuple:
    """``fun(*primals)`` and its derivative along ``tangents``; with ``has_aux`` also what ``fun`` returns besides."""
    if not has_aux:
        return gradients.jvp(fun, primals, tangents)
    kept = []

    def main(*arguments: Any) -> Any:
        result, aux = fun(*arguments)
        kept.append(aux)
        return result

    return (*gradients.jvp(main, primals, tangents), kept[0])


def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """``true_fn()`` if ``pred`` holds, else ``false_fn()``; both return the same structure.

    With a symbolic ``pred`` both branches are computed and the values, and those assigned to variables, are chosen.
    """
    pred = math.cast(pred, "bool")
    if pred._array is not None:
        return true_fn() if bool(pred) else false_fn()
    first, yes = _branch(true_fn, pred)
    second, no = _branch(false_fn, math.logical_not(pred))
    for variable in {**yes, **no}:
        first_value, second_value = (writes.get(variable, variable.value) for writes in (yes, no))
        variable.assign(elementwise.where(pred, first_value, second_value))
    return pytree.map(lambda a, b: math.where(pred, a, b), first, second)


def _branch(function: Callable, chosen: Tensor) -> tuple[Any, dict]:
    """The result of a branch of :func:`cond` and what it assigns, with gradients that are 0 unless it is ``chosen``:
    it is computed all the same, and zero times an infinite derivative is NaN.
    """
    start = next_serial()
    with StateScope() as scope:
        result = function()
    if not state.recorders:
        return result, scope.writes
    made = [leaf for leaf in pytree.flatten(result) if isinstance(leaf, Tensor)]
    used = frontier(made, start)
    for recorder in state.recorders:  # values assigned in the branch: gradients are asked for by them, too
        used |= {v.key: v for values in recorder.reads.values() for v in values if v.node and v.node.serial >= start}

    def guarded(value: Tensor) -> Tensor:
        zero = elementwise.scalar(0, value)
        return gradients.with_gradient(value, value, lambda g, y: elementwise.where(chosen, g, zero))

    mapping = {v.key: guarded(v) for v in used.values() if v._array is None and dtypes.is_floating(v.dtype)}
    made = iter(replaced(made, mapping))
    return pytree.map(lambda leaf: next(made) if isinstance(leaf, Tensor) else leaf, result), scope.writes


def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """``branches[index](*operands)``, the index limited to the branches there are."""
    index = math.clip(index, 0, len(branches) - 1)
    if index._array is not None:
        return branches[int(index)](*operands)

    def choose(first: int) -> Any:
        if first == len(branches) - 1:
            return branches[first](*operands)
        return cond(math.equal(index, first), lambda: branches[first](*operands), lambda: choose(first + 1))

    return choose(0)


def while_loop(cond: Callable, body: Callable, loop_vars: Any, maximum_iterations: int | None = None) -> Any:
    """Repeat ``loop_vars = body(*loop_vars)`` while ``cond(*loop_vars)`` holds."""
    single = not isinstance(loop_vars, (tuple, list))
    values = pytree.map(tensor, (loop_vars,) if single else tuple(loop_vars))
    step = 0
    while maximum_iterations is None or step < maximum_iterations:
        go_on = math.cast(cond(*values), "bool")
        if go_on._array is None:
            return _symbolic_while(cond, body, values, maximum_iterations, single)
        if not bool(go_on):
            break
        result = body(*values)
        values = pytree.map(tensor, (result,) if single else tuple(result))
        step += 1
    return values[0] if single else values


def _symbolic_while(cond: Callable, body: Callable, values: tuple, limit: int | None, single: bool) -> Any:
    graph_of_test = trace(cond, *values)
    graph_of_body = trace(lambda *now: (body(*now),) if single else tuple(body(*now)), *values)
    for graph in (graph_of_test, graph_of_body):
        if graph.reads or graph.writes or graph.captured():
            raise TraceError(
                "while_loop: while a function is traced, the loop's functions may use only their loop variables. Pass "
                "the other tensors and variables in as loop variables."
            )
    leaves = pytree.flatten(values)

    def reference(*arrays: Any) -> tuple:
        now = pytree.unflatten(values, [tensor(array) for array in arrays])
        steps = 0
        while (limit is None or steps < limit) and bool(graph_of_test(*now)):
            now = graph_of_body(*now)
            steps += 1
        return tuple(value.numpy() for value in pytree.flatten(now))

    def gradient(*_: Any) -> None:
        raise TraceError(
            "while_loop: a loop of unknown length has no gradient while a function is traced. Use scan or fori_loop, "
            "or run it eagerly."
        )

    loop = Op("while_loop", lambda *given: tuple(spec_of(value) for value in given), reference, gradient)
    result = pytree.unflatten(values, loop(*leaves))
    return result[0] if single else result


def fori_loop(lower: int, upper: int, body_fun: Callable, init_val: Any) -> Any:
    """Apply ``value = body_fun(i, value)`` for i from lower to upper - 1."""
    value = init_val
    for i in range(int(lower), int(upper)):
        value = body_fun(i, value)
    return value


def scan(
    f: Callable, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False, unroll: Any = 1
) -> tuple[Any, Any]:
    """Carry a value along the first axis of ``xs``: ``carry, y = f(carry, x)`` for each slice.

    Returns the last carry and the stacked ys (in the order of ``xs``, also when ``reverse``).

    >>> total, sums = scan(lambda c, x: (c + x, c + x), 0.0, tensor([1.0, 2.0, 3.0]))
    >>> float(total), sums.tolist()
    (6.0, [1.0, 3.0, 6.0])
    """
    slices = pytree.map(convert, xs)
    leaves = pytree.flatten(slices)
    count = leaves[0].shape[0] if leaves else length
    if count is None or any(leaf.shape[0] != count for leaf in leaves):
        extents = [leaf.shape[:1] for leaf in leaves]
        raise ValueError(f"scan: xs with first axes {extents} and length={length} disagree.")
    if tracing() and count and len(state.recorders) < 2:  # for higher derivatives the loop is unrolled
        from ..scan import scan as symbolic_scan

        return symbolic_scan(f, init, slices, count, reverse)
    carry, ys = init, []
    for i in reversed(range(count)) if reverse else range(count):
        carry, y = f(carry, pytree.map(lambda leaf, i=i: leaf[i], slices))
        ys.append(y)
    if reverse:
        ys.reverse()
    if not ys:  # what a slice would have given
        nothing = trace(f, init, pytree.map(lambda leaf: filled(0, leaf.shape[1:], leaf.dtype), slices)).result[1]
        return carry, pytree.map(lambda y: filled(0, (0, *y.shape), y.dtype), nothing)
    stacked = [stack(column) for column in zip(*(pytree.flatten(y) for y in ys), strict=True)]
    return carry, pytree.unflatten(ys[0], stacked)


def map(f: Callable, xs: Any) -> Any:
    """Apply ``f`` to each slice of ``xs`` along the first axis, and stack the results."""
    return scan(lambda carry, x: (carry, f(x)), (), xs)[1]


def vectorized_map(function: Callable, elements: Any) -> Any:
    """Apply ``function`` to each slice along the first axis, and stack the results."""
    return map(function, elements)


def vectorize(pyfunc: Callable, *, excluded: Any = None, signature: str | None = None) -> Callable:
    """A function that applies ``pyfunc`` to all elements of its arguments, which are broadcast.

    Args:
        pyfunc: takes scalars; or arrays, as the signature says.
        excluded: numbers of the arguments that are handed over as they are.
        signature: such as "(m,n),(n)->(m)": the last axes of each argument that ``pyfunc`` takes at once.

    >>> vectorize(lambda a, b: a * 10 + b)([1, 2, 3], 4).tolist()
    [14, 24, 34]
    >>> vectorize(lambda a, b: (a * b).sum(), signature="(n),(n)->()")([[1, 2], [3, 4]], [1, 10]).tolist()
    [21, 43]
    """
    kept = set(excluded or ())
    taken = None
    if signature is not None:
        group = r"\((?:\w+(?:,\w+)*)?\)"
        text = signature.replace(" ", "")
        if not re.fullmatch(rf"{group}(?:,{group})*->{group}(?:,{group})*", text):
            raise ValueError(f"vectorize: a signature looks like '(m,n),(n)->(m)'; received {signature!r}.")
        taken = [len(re.findall(r"\w+", axes)) for axes in re.findall(group, text.partition("->")[0])]

    def vectorized(*arguments: Any) -> Any:
        values = {i: convert(argument) for i, argument in enumerate(arguments) if i not in kept}
        ranks = [0] * len(values) if taken is None else taken
        if len(ranks) != len(values):
            raise ValueError(f"vectorize: the signature {signature!r} does not fit {len(values)} arguments.")
        splits = {i: value.ndim - rank for (i, value), rank in zip(values.items(), ranks, strict=True)}
        outer = broadcast_shapes("vectorize", *(values[i].shape[: splits[i]] for i in values))
        rows = []
        for i, value in values.items():
            inner = value.shape[splits[i] :]
            rows.append(reshape(broadcast_to(value, (*outer, *inner)), (-1, *inner)))

        def apply(row: tuple) -> Any:
            given = dict(zip(values, row, strict=True))
            return pyfunc(*(given.get(i, argument) for i, argument in enumerate(arguments)))

        results = map(apply, tuple(rows))
        return pytree.map(lambda result: reshape(result, (*outer, *result.shape[1:])), results)

    return vectorized


def associative_scan(f: Callable, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """All prefixes of an associative ``f``, in a logarithmic number of steps; f takes and returns whole trees."""
    values = pytree.map(convert, elems)
    if reverse:
        values = pytree.map(lambda leaf: flip(leaf, axis), values)
    count = pytree.flatten(values)[0].shape[axis]

    offset = 1
    while offset < count:
        behind = pytree.map(lambda leaf, o=offset: slice_axis(leaf, axis, 0, count - o), values)
        ahead = pytree.map(lambda leaf, o=offset: slice_axis(leaf, axis, o, count), values)
        combined = f(behind, ahead)
        first = pytree.map(lambda leaf, o=offset: slice_axis(leaf, axis, 0, o), values)
        values = pytree.map(lambda old, new: concatenate([old, new], axis), first, combined)
        offset *= 2
    return pytree.map(lambda leaf: flip(leaf, axis), values) if reverse else values
