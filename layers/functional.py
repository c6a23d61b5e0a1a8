"""The functional API: symbolic tensors that remember the calls that made them, for a model to repeat."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import core
from ..core import Tensor, pytree
from ..core.dtypes import as_dtype
from ..core.tensor import install_operators

# Extents that stand in for unknown ones. Where the results differ between the two, the result's extent is
# unknown. Both divide by 32, so that what is halved five times can be put together again.
_STAND_INS = (96, 64)
_next_serial = itertools.count().__next__


class KerasTensor:
    """A value of a model in the making: shape (None where not known yet), dtype, and the call that makes it.

    Operators, indexing and ``tz.ops`` functions on it are recorded, as calls of layers are.
    """

    __slots__ = ("__weakref__", "dtype", "index", "name", "node", "shape")

    def __init__(
        self, shape: Any, dtype: Any = None, name: str | None = None, node: Node | None = None, index: int = 0
    ):
        self.shape = tuple(shape)
        self.dtype = as_dtype(dtype)
        self.name = name
        self.node = node
        self.index = index

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __apply_function__(self, function: Callable, arguments: tuple, options: dict[str, Any]) -> Any:
        return connect(function, arguments, options)

    def __tensor__(self) -> Tensor:
        raise TypeError(
            f"{self!r} belongs to a model in the making and has no values. Use tz.ops and layers on it, or "
            "put what needs values into the call() of a layer of your own."
        )

    astype, reshape, transpose, T = Tensor.astype, Tensor.reshape, Tensor.transpose, Tensor.T
    sum, mean, max, min = Tensor.sum, Tensor.mean, Tensor.max, Tensor.min
    __neg__, __abs__, __invert__ = Tensor.__neg__, Tensor.__abs__, Tensor.__invert__
    __array__ = __bool__ = __float__ = __int__ = __index__ = __iter__ = __len__ = __tensor__

    def __getitem__(self, index: Any) -> KerasTensor:
        return core.ops.get_item(self, index)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        name = f", name={self.name}" if self.name else ""
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype.name}{name}>"


install_operators(KerasTensor)


class Node:
    """One recorded call: ``target(*arguments, **options)`` made ``outputs`` (a tree of KerasTensors)."""

    __slots__ = ("arguments", "options", "outputs", "serial", "target")

    def __init__(self, target: Callable, arguments: tuple, options: dict[str, Any]):
        self.target = target
        self.arguments = arguments
        self.options = options
        self.outputs: Any = None
        self.serial = _next_serial()

    @property
    def inputs(self) -> list[KerasTensor]:
        """The KerasTensors among the arguments."""
        return symbolic_leaves((self.arguments, self.options))


def symbolic_leaves(tree: Any) -> list[KerasTensor]:
    """The KerasTensors in a tree."""
    return [leaf for leaf in pytree.flatten(tree) if type(leaf) is KerasTensor]


def connect(target: Callable, arguments: tuple, options: dict[str, Any]) -> Any:
    """Record a call and return its result as KerasTensors; results without tensors (shapes) stay plain."""
    result = infer(target, arguments, options)
    leaves = symbolic_leaves(result)
    if leaves:
        node = Node(target, arguments, options)
        node.outputs = result
        for index, leaf in enumerate(leaves):
            leaf.node, leaf.index = node, index
    return result


def infer(function: Callable, arguments: tuple, options: dict[str, Any]) -> Any:
    """The result of a call as a tree of KerasTensors, by tracing the function; nothing is computed."""
    unknown = any(None in leaf.shape for leaf in symbolic_leaves((arguments, options)))
    first, *second = (_traced(function, arguments, options, n) for n in _STAND_INS[: 1 + unknown])
    return pytree.map(_agreed, first, *second)


def _traced(function: Callable, arguments: tuple, options: dict[str, Any], extent: int) -> Any:
    results = []

    def run(*symbols: Tensor) -> None:
        given = iter(symbols)
        a, o = pytree.map(lambda leaf: next(given) if type(leaf) is KerasTensor else leaf, (arguments, dict(options)))
        results.append(function(*a, **o))

    shapes = [
        (tuple(extent if n is None else n for n in leaf.shape), leaf.dtype)
        for leaf in symbolic_leaves((arguments, options))
    ]
    try:
        core.trace(run, *[np.broadcast_to(np.zeros((), dtype), shape) for shape, dtype in shapes])
    except Exception as error:
        if len(error.args) == 1 and any(extent in shape for shape, _ in shapes):
            error.args = (f"{error.args[0]}\n  ({extent} stands for extents that are not known yet)",)
        raise
    return results[0]


def _agreed(first: Any, second: Any = None) -> Any:
    """What two traces say of one leaf: a KerasTensor for a tensor, None for a number on which they differ."""
    if not isinstance(first, Tensor):
        return first if second is None or first == second else None
    shape = first.shape if second is None else second.shape
    return KerasTensor((a if a == b else None for a, b in zip(first.shape, shape, strict=True)), first.dtype)
