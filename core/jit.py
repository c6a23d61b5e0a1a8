"""jit: functions traced once per kind of argument and run as compiled code."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from . import pytree
from .graph import Graph, trace
from .op import state
from .tensor import Tensor, tensor, wrap
from .variable import Variable

log = logging.getLogger("tenzoo.compile")
if os.environ.get("TENZOO_LOG") == "compile":  # tell what is compiled, why, and how long it took
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
RECOMPILATIONS = 8  # of one function, after which it is told that something is wrong


class CompiledFunction:
    """What :func:`jit` returns: call it like the function."""

    def __init__(self, function: Callable, name: str | None = None):
        functools.update_wrapper(self, function)
        self._function = function
        self._name = name or getattr(function, "__qualname__", type(function).__name__)
        self._cache: dict[Any, Any] = {}

    def __call__(self, *arguments: Any) -> Any:
        leaves: list = []
        key = _describe(arguments, leaves)
        if state.variable_scopes or state.recorders or any(leaf._array is None for leaf in leaves):
            # Traced by somebody else, or to be differentiated: part of a larger computation.
            return self._function(*arguments)
        compiled = self._cache.get(key)
        if compiled is None:
            compiled = self._cache[key] = self._compile(key, arguments)
        return compiled([leaf._array for leaf in leaves])

    def graph(self, *arguments: Any) -> Graph:
        """The graph that calling with such arguments computes."""
        return trace(self._function, *arguments)

    def plan(self, *arguments: Any) -> Any:
        """The compiled form for such arguments, compiling if need be; None where numpy stands in for it."""
        leaves: list = []
        key = _describe(arguments, leaves)
        if key not in self._cache:
            self._cache[key] = self._compile(key, arguments)
        return self._cache[key].plan

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind as a method; every instance has a cache of its own."""
        if instance is None:
            return self
        bound = CompiledFunction(self._function.__get__(instance, owner), self._name)
        instance.__dict__[self._function.__name__] = bound
        return bound

    def _compile(self, key: Any, arguments: tuple) -> Callable:
        self._explain(key)
        start = time.perf_counter()
        graph = trace(self._function, *arguments)
        traced = time.perf_counter()
        run = _Runner(graph, self._name)
        log.info(
            "%s: traced %d nodes in %.0f ms, compiled in %.0f ms",
            self._name,
            len(graph.nodes()),
            1e3 * (traced - start),
            1e3 * (time.perf_counter() - traced),
        )
        return run

    def _explain(self, key: Any) -> None:
        if not self._cache:
            return
        log.info("%s: compiled again, for other arguments: %s", self._name, key)
        if len(self._cache) == RECOMPILATIONS:
            log.warning(
                "%s was compiled %d times, each time for other shapes, dtypes or constants; the last: %s. Pad the "
                "batches to a few sizes, and pass numbers that change as tensors.",
                self._name,
                RECOMPILATIONS,
                key,
            )


class _Runner:
    """One compiled graph: arrays in, the result's structure out."""

    def __init__(self, graph: Graph, name: str):
        from .compiler.emit_llvm import CompileError
        from .compiler.plan import Plan

        self.graph = graph
        try:
            self.plan = Plan(graph)
        except (CompileError, MemoryError) as error:
            log.warning("%s could not be compiled; numpy computes it instead. %s", name, error)
            self.plan = None

    def __call__(self, arrays: list[np.ndarray]) -> Any:
        if self.plan is None:
            return self.graph.run(arrays)
        results = self.plan.run(arrays)
        return pytree.unflatten(self.graph.result, [wrap(array) for array in results])


def jit(function: Callable | None = None, *, name: str | None = None) -> Any:
    """Compile ``function``: trace it once per structure, shapes and dtypes of its arguments, then run native code.

    Tensors, arrays and variables among the arguments (in tuples, lists, dicts) are inputs; other values are constants,
    and a new value of one compiles again. Variables that the function reads or assigns keep their meaning. Python side
    effects happen while tracing only.

    >>> square = jit(lambda x: x * x + 1)
    >>> square(tensor([1.0, 2.0])).tolist()
    [2.0, 5.0]
    """
    if function is None:
        return functools.partial(jit, name=name)
    return CompiledFunction(function, name)


def _describe(tree: Any, leaves: list) -> Any:
    """A hashable description of ``tree``; its tensors and arrays are appended to ``leaves`` as tensors."""
    kind = type(tree)
    if kind is Tensor:
        leaves.append(tree)
        return tree.shape, tree.dtype.char
    if kind is np.ndarray:
        # Looked at, not copied; tensor() says what is wrong with a dtype that tensors do not have.
        leaves.append(wrap(tree) if tree.dtype.kind in "fiub" else tensor(tree))
        return tree.shape, tree.dtype.char
    if kind is Variable:
        return _describe(tree.value, leaves)
    if kind is tuple or kind is list or isinstance(tree, tuple):
        return kind, tuple([_describe(child, leaves) for child in tree])
    if kind is dict:
        return tuple([(name, _describe(child, leaves)) for name, child in tree.items()])
    try:
        hash(tree)
    except TypeError:
        raise TypeError(
            f"A {kind.__name__} cannot be an argument of a compiled function: it is neither a tensor nor an array, "
            "and as a constant it would have to be hashable."
        ) from None
    return kind, tree
