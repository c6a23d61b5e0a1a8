"""jit: functions traced once per kind of argument and run as compiled code."""

from __future__ import annotations

import functools
import gc
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from . import pytree
from .dtypes import kind_of
from .graph import Graph, trace
from .op import state
from .tensor import Tensor, tensor, wrap
from .variable import Variable

log = logging.getLogger("tenzoo.compile")
if os.environ.get("TENZOO_LOG") == "compile":  # tell what is compiled, why, and how long it took
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
PADDING = 4  # times as many rows as needed may be computed, rather than compiling for fewer
RECOMPILATIONS = 8  # of one function, after which it is told that something is wrong
SWITCH_INTERVAL = 5e-4  # seconds that Python runs, while compiling, before threads that LLVM keeps busy get a turn


def _undisturbed(function: Callable) -> Callable:
    """Put the garbage collector off: it would go over a graph that grows, again and again, and free nothing. And let
    threads take turns more often: those that compile need Python for moments between long stretches without.
    """

    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        enabled, interval = gc.isenabled(), sys.getswitchinterval()
        gc.disable()
        sys.setswitchinterval(min(interval, SWITCH_INTERVAL))
        try:
            return function(*arguments)
        finally:
            sys.setswitchinterval(interval)
            if enabled:
                gc.enable()

    return wrapper


class CompiledFunction:
    """What :func:`jit` returns: call it like the function."""

    def __init__(self, function: Callable, name: str | None = None, ragged: bool = False):
        if not callable(function):
            raise TypeError(f"jit compiles functions; received {function!r}, which cannot be called.")
        functools.update_wrapper(self, function)
        self._function = function
        self._attribute = getattr(function, "__name__", "")  # of a class, if it is a method
        self._owner: Any = None  # the instance that it is bound to,
        self._unbound: CompiledFunction | None = None  # and what it was before
        self._named: dict[Any, CompiledFunction] = {}  # for calls with arguments by name
        self._name = name or getattr(function, "__qualname__", type(function).__name__)
        self._cache: dict[Any, Any] = {}
        self._compilations = 0
        self._batches: dict[Any, _Batches] | None = {} if ragged else None
        self.rest = 0  # rows of a smaller batch that is known to come

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if named:
            return self._by_name(len(arguments), tuple(named))(*arguments, *named.values())
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
        """The plan for such arguments, compiling if need be; None where numpy stands in for it."""
        leaves: list = []
        key = _describe(arguments, leaves)
        if key not in self._cache:
            self._cache[key] = self._compile(key, arguments)
        return self._cache[key].planned()

    def _by_name(self, count: int, names: tuple[str, ...]) -> CompiledFunction:
        """The function of ``count`` arguments and of those that are called so, all by position."""
        if (count, names) not in self._named:

            def function(*arguments: Any) -> Any:
                return self._function(*arguments[:count], **dict(zip(names, arguments[count:], strict=True)))

            self._named[count, names] = CompiledFunction(function, self._name, self._batches is not None)
        return self._named[count, names]

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind as a method; every instance has a cache of its own."""
        if instance is None:
            return self
        key = f"{self._attribute} of {self._name}"  # not its name alone: that would hide the method of a base class
        bound = vars(instance).get(key)
        if bound is None or bound._owner is not instance or bound._unbound is not self:  # or of what this is a copy of
            method = self._function.__get__(instance, owner)
            bound = vars(instance)[key] = CompiledFunction(method, self._name, self._batches is not None)
            bound._owner, bound._unbound, bound._attribute = instance, self, self._attribute
        return bound

    def __reduce__(self) -> Any:
        """What is compiled stays where it is: a copy, or another process, compiles anew."""
        if self._owner is not None:
            return getattr, (self._owner, self._attribute)
        found = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is self:  # a function of a module is looked up there
            return self.__qualname__
        return CompiledFunction, (self._function, self._name, self._batches is not None)

    @_undisturbed
    def _compile(self, key: Any, arguments: tuple) -> Callable:
        start = time.perf_counter()
        graph = trace(self._function, *arguments)
        graph.require_closed()
        traced = time.perf_counter()
        run = None if self._batches is None else self._padded(graph, arguments)
        if run is None:
            self._explain(key)
            run = _Runner(graph, self._name)
        if log.isEnabledFor(logging.INFO):
            log.info(
                "%s: traced %d nodes in %.0f ms, compiled in %.0f ms",
                self._name,
                len(graph.nodes()),
                1e3 * (traced - start),
                1e3 * (time.perf_counter() - traced),
            )
        return run

    def _padded(self, graph: Graph, arguments: tuple) -> Callable | None:
        """The program of a larger batch, for these rows; or one for these rows that is ready for fewer."""
        size = next((len(leaf) for leaf in pytree.flatten(arguments) if np.ndim(leaf)), 0)
        like = _describe(_first_rows(arguments, 1), [])
        batches = self._batches.get(like)
        if batches is not None and size < batches.size:
            return batches.program(graph, size) if batches.size <= PADDING * size else None
        batches = self._batches[like] = _Batches(size, graph, self._name)
        if not 0 < self.rest < size:
            return None
        fewer = _first_rows(arguments, self.rest)
        try:
            with warnings.catch_warnings(action="ignore"):  # as they were given a moment ago
                part = trace(self._function, *fewer)
        except Exception:  # is for the caller when that batch comes
            return None
        run = batches.program(part, self.rest)
        if run is None:
            return None
        self._cache[_describe(fewer, [])] = run
        return batches.program(None, size)

    def _explain(self, key: Any) -> None:
        self._compilations += 1
        if self._compilations == 1:
            return
        log.info("%s: compiled again, for other arguments: %s", self._name, key)
        if self._compilations == RECOMPILATIONS + 1:
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
        from .compiler.stored import compiled

        self.graph = graph
        try:
            self.plan = compiled(graph)
        except (CompileError, MemoryError) as error:
            told = _largest(graph) if isinstance(error, MemoryError) else ""
            log.warning("%s could not be compiled; numpy computes it instead. %s%s", name, error, told)
            self.plan = None

    def __call__(self, arrays: list[np.ndarray]) -> Any:
        if self.plan is None:
            return self.graph.run(arrays)
        results = self.plan.run(arrays)
        return pytree.unflatten(self.graph.result, [wrap(array) for array in results])

    def planned(self) -> Any:
        """The plan, which is made now if the code came from disk: that does not tell what it computes."""
        from .compiler.plan import Plan

        if self.plan is not None and not isinstance(self.plan, Plan):
            self.plan = Plan(self.graph)
        return self.plan


def _largest(graph: Graph) -> str:
    """Name the largest value of a graph that does not fit into memory."""
    node = max(graph.nodes(), key=lambda node: math.prod(node.specs[0].shape))
    return f"; the largest value is {node}{node.scope and f' of {node.scope}'}."


class _Batches:
    """The program of a batch of ``size`` rows which serves smaller ones too, where that can be."""

    def __init__(self, size: int, graph: Graph, name: str):
        self.size = size
        self._name = name
        self._graph = graph
        self._runner: _Runner | None = None
        self._numbers: list = []  # of the full batch
        self._possible = True

    def program(self, part: Graph | None, rows: int) -> Callable | None:
        """The program for a batch of so many rows, which was traced as ``part``; for the full one, None."""
        from .compiler.ragged import Mixed, Ragged

        if part is None:
            return _Padded(self._runner, self.size, rows, self._numbers, self._rows)
        if not self._possible:
            return None
        try:
            found = Ragged(self._graph, part)
        except Mixed as reason:
            log.info("%s: smaller batches have programs of their own, because of %s", self._name, reason)
            self._possible = False
            return None
        numbers = [full for full, _ in found.numbers]
        if self._runner is None or numbers != self._numbers:
            self._runner, self._numbers, self._rows = _Runner(found.graph, self._name), numbers, found.rows
        return _Padded(self._runner, self.size, rows, [number for _, number in found.numbers], self._rows)


class _Padded:
    """A program for larger batches, run with copies of the first row in place of those that are missing."""

    def __init__(self, runner: _Runner, size: int, rows: int, numbers: list, results: list):
        self.planned = runner.planned
        self._run, self._missing = runner, size - rows
        self._more = [np.asarray(rows, np.int32), *numbers]
        self._cuts = [r and (*[slice(None)] * r.axis, slice(rows * r.times)) for r in results]

    def __call__(self, arrays: list[np.ndarray]) -> Any:
        if self._missing:
            arrays = [np.concatenate([a, np.repeat(a[:1], self._missing, 0)]) if a.ndim else a for a in arrays]
        result = self._run([*arrays, *self._more])
        if not self._missing or not any(self._cuts):
            return result
        leaves = zip(pytree.flatten(result), self._cuts, strict=True)
        return pytree.unflatten(result, [leaf if cut is None else leaf[cut] for leaf, cut in leaves])


def _first_rows(tree: Any, count: int) -> Any:
    """The first rows of all arrays."""
    return pytree.map(lambda leaf: leaf[:count] if np.ndim(leaf) else leaf, tree)


def jit(function: Callable | None = None, *, name: str | None = None, ragged: bool = False) -> Any:
    """Compile ``function``: trace it once per structure, shapes and dtypes of its arguments, then run native code.

    Tensors, arrays and variables among the arguments (in tuples, lists, dicts) are inputs; other values are constants,
    and a new value of one compiles again. Variables that the function reads or assigns keep their meaning. Python side
    effects happen while tracing only.

    With ``ragged`` the first axis of all arguments counts samples, and a call with fewer of them than one before is
    computed by the same program, padded, wherever that gives the numbers of the smaller call.

    >>> square = jit(lambda x: x * x + 1)
    >>> square(tensor([1.0, 2.0])).tolist()
    [2.0, 5.0]
    """
    if function is None:
        return functools.partial(jit, name=name, ragged=ragged)
    return CompiledFunction(function, name, ragged)


def _describe(tree: Any, leaves: list) -> Any:
    """A hashable description of ``tree``; its tensors and arrays are appended to ``leaves`` as tensors."""
    kind = type(tree)
    if kind is Tensor:
        leaves.append(tree)
        return tree.shape, tree.dtype.char
    if kind is np.ndarray:
        # Looked at, not copied. tensor() says what is wrong with a dtype that tensors do not have, and turns round the
        # bytes of one that is not native here.
        plain = kind_of(tree.dtype) in "fiub" and tree.dtype.isnative
        leaves.append(wrap(tree) if plain else tensor(tree))
        return tree.shape, tree.dtype.char
    if kind is Variable:
        return _describe(tree.value, leaves)
    if kind is tuple or kind is list or isinstance(tree, tuple):
        return kind, tuple([_describe(child, leaves) for child in tree])
    if kind is dict:
        return tuple([(name, _describe(child, leaves)) for name, child in tree.items()])
    if isinstance(tree, np.ndarray):  # mapped from a file, say
        return _describe(np.asarray(tree), leaves)
    try:
        hash(tree)
    except TypeError:
        raise TypeError(
            f"A {kind.__name__} cannot be an argument of a compiled function: it is neither a tensor nor an array, "
            "and as a constant it would have to be hashable."
        ) from None
    return kind, tree
