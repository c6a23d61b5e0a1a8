"""Several training steps in one compiled call: a loop over batches, carrying what the steps assign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core import StateScope, Tensor, Variable, ops, pytree

# Bytes of variables that a step may assign to be worth a loop, which keeps them for each of its iterations. Steps
# that assign more compute so much that the cost of calling them is nothing beside it.
MOST_STATE = 1 << 21


class TooMuchStateError(Exception):
    """The steps are better called one by one."""


def looped(step: Callable) -> Callable:
    """A function of a list of batches that runs ``step`` on each, and returns the logs of the last."""

    def run(batches: list) -> Any:
        variables = _assigned(step, batches[0])
        if sum(variable.size * variable.dtype.itemsize for variable in variables) > MOST_STATE:
            raise TooMuchStateError

        def body(values: list[Tensor], batch: Any) -> tuple[list[Tensor], Any]:
            with StateScope():
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
                logs = step(batch)
                return [variable.value for variable in variables], pytree.map(ops.convert_to_tensor, logs)

        values, logs = ops.scan(body, [variable.value for variable in variables], _stacked(batches))
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return pytree.map(lambda stack: stack[-1], logs)

    return run


def _stacked(batches: list) -> Any:
    return pytree.map(lambda *parts: ops.stack(parts), *batches)


def _assigned(step: Callable, batch: Any) -> list[Variable]:
    """The variables that a step assigns."""
    with StateScope() as scope:
        step(batch)
    return list(scope.writes)


def run_group(step: Any, batches: list, size: int) -> Any:
    """The logs of the last of some batches; ``size`` alike ones are run by one call, if the step can do that."""
    if 1 < size == len(batches) and hasattr(step, "in_loop") and _alike(batches):
        logs = step.in_loop(batches)
        if logs is not None:
            return logs
    for batch in batches:
        logs = step(batch)
    return logs


def _alike(batches: list) -> bool:
    """Whether all batches have arrays of the same shapes and dtypes."""
    first, *others = ([(leaf.shape, leaf.dtype) for leaf in pytree.flatten(batch)] for batch in batches)
    return all(other == first for other in others)
