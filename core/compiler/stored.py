"""Plans on disk: a graph that an earlier process has compiled is not planned again.

A plan is found by a hash of everything that it follows from: the graph as it was traced, op by op, with attributes,
shapes, dtypes and the bits of its constants; the source of the core, the compiler included; the processor, the version
of LLVM and the number of threads. What has no exact description (a function among the attributes, an op declared
elsewhere with an emission of its own) has no hash, and is planned each time. So is what calls numpy.

The file is JSON that names kernels by the hash of their code, which lies beside it. It is looked up and counted, never
executed; one that does not fit is as good as none.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import pytree
from ..config import LOADED, passes, threads
from ..dtypes import as_dtype
from ..graph import Graph
from ..op import Node, Op
from ..tensor import Tensor
from ..variable import Variable
from . import emit_llvm, native
from .execution import Buffer, Executable, Segment

# Ops that stand for their inputs whatever their attributes are, and are made anew wherever they are used.
ALIASES = {"custom_gradient"}
_SOURCE = pathlib.Path(__file__).parents[1]
_OWN = __name__.rpartition(".compiler")[0] + "."


def compiled(graph: Graph) -> Executable:
    """The graph compiled: what an earlier process left on disk, or else a plan made now.

    Raises emit_llvm.CompileError if a kernel cannot be compiled.
    """
    try:
        description = _Description(graph)
    except _Indescribable:
        return _planned(graph)
    name = f"{description.key()}.plan"
    content = native.read_cached(name)
    if content is not None:
        try:
            return _restored(json.loads(content), graph, description.constants)
        except (ValueError, TypeError, KeyError, IndexError, native.NotCached):
            pass
    plan = _planned(graph)
    with contextlib.suppress(_Indescribable):
        _files()  # what planned it may have been loaded just now
        record = _record(plan, graph, description.constants)
        native.write_cached(name, json.dumps(record, separators=(",", ":")).encode())
    return plan


def _planned(graph: Graph) -> Executable:
    from .plan import Plan  # most of the compiler, which a plan found on disk does without

    return Plan(graph)


# -- what a plan follows from ----------------------------------------------------------------------------------------


class _Indescribable(Exception):  # noqa: N818  not an error: the graph is planned each time
    """Something in a graph of which it cannot be told whether it was the same in another process."""


def _files() -> list[pathlib.Path]:
    """The source of the core, if what was loaded is still what lies on disk."""
    found = sorted(_SOURCE.rglob("*.py"))
    if not found or any(max(s.st_mtime, s.st_ctime) >= LOADED for s in map(pathlib.Path.stat, found)):
        raise _Indescribable
    return found


@functools.cache
def _source() -> str:
    """A hash of the code at work."""
    return hashlib.sha256(
        b"".join(f"{path.relative_to(_SOURCE)}\0".encode() + path.read_bytes() for path in _files())
    ).hexdigest()


@functools.cache
def _spec(shape: tuple, dtype: np.dtype) -> str:
    return f"{shape}{dtype.name}"


class _Description:
    """A graph in words: equal for graphs of which one's plan is the other's.

    ``constants`` are the tensors in it that hold values, numbered by their first use.
    """

    def __init__(self, graph: Graph):
        self.constants: dict[int, tuple[int, Tensor]] = {}
        self._words: list[str] = [_source(), emit_llvm.identity(), str(threads()), *passes()]
        self._graph(graph)

    def key(self) -> str:
        """The hash of it all."""
        return hashlib.sha256("\n".join(self._words).encode()).hexdigest()

    def _graph(self, graph: Graph) -> None:
        numbers: dict[Node, int] = {}

        def refer(value: Tensor) -> str:
            if value._array is not None:
                return self._constant(value)
            if value.node not in numbers:
                raise _Indescribable  # of a trace around this one
            return f"{numbers[value.node]}.{value.index}"

        for symbol in (*graph.inputs, *graph.reads.values()):
            numbers[symbol.node] = len(numbers)
            self._words.append(_spec(symbol.shape, symbol.dtype))
        for node in graph.nodes():
            numbers[node] = len(numbers)
            op = node.op
            if op.name not in ALIASES:
                known = Op.registry.get(op.name) is op or op.rule.__module__.startswith(_OWN)
                if not known or not (op.emit is None or op.emit.__module__.startswith(_OWN)):
                    raise _Indescribable
                for name, attribute in node.attributes.items():
                    self._words.append(name)
                    self._attribute(attribute)
            made = [_spec(*spec) for spec in node.specs]
            self._words.append(" ".join([op.name, *map(refer, node.inputs), "->", *made]))
        self._words += [f"{len(graph.inputs)} inputs", *map(refer, pytree.flatten(graph.result)), "writes"]
        variables = _variables(graph)
        self._words += [f"{variables[variable]} {refer(value)}" for variable, value in graph.writes.items()]

    def _constant(self, value: Tensor) -> str:
        if id(value) not in self.constants:
            array = value._array
            self.constants[id(value)] = len(self.constants), value
            same = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)
            bits = hashlib.sha256(np.ascontiguousarray(array[same]).tobytes()).hexdigest()
            self._words.append(f"{_spec(array.shape, array.dtype)}{array.strides}{bits}")
        return f"c{self.constants[id(value)][0]}"

    def _attribute(self, value: Any) -> None:
        """Add an attribute to the description, with its type: 1, 1.0 and True are different things."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            self._words.append(repr(value))
        elif kind in (tuple, list, dict):
            self._words.append(f"{kind.__name__} of {len(value)}")
            for item in itertools.chain.from_iterable(value.items()) if kind is dict else value:
                self._attribute(item)
        elif isinstance(value, np.dtype):
            self._words.append(f"dtype {value.name}")
        elif isinstance(value, (np.generic, np.ndarray)):
            bits = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            self._words.append(f"{kind.__name__} {value.dtype.name} {value.shape} {bits}")
        elif kind.__name__ == "Body" and isinstance(getattr(value, "graph", None), Graph):  # of a scan
            self._words.append(f"body {value.constants} {value.carried}")
            self._graph(value.graph)
        else:
            raise _Indescribable


def _variables(graph: Graph) -> dict[Variable, int]:
    """The variables of a graph, numbered: those that it reads, then those that it only assigns."""
    return {variable: number for number, variable in enumerate(dict.fromkeys((*graph.reads, *graph.writes)))}


# -- plans as data ---------------------------------------------------------------------------------------------------


def _record(plan: Executable, graph: Graph, constants: dict[int, tuple[int, Tensor]]) -> dict:
    """A plan as JSON."""
    if not all(isinstance(segment, Segment) for segment in plan.segments):
        raise _Indescribable  # it calls numpy
    variables = _variables(graph)
    numbers: dict[Buffer, int] = {}
    buffers: list[list] = []
    known = {id(buffer): ["input", i] for i, buffer in enumerate(plan.inputs)}
    known |= {id(buffer): ["variable", variables[variable]] for variable, buffer in plan.variables.items()}

    def number(buffer: Buffer) -> int:
        if buffer not in numbers:
            numbers[buffer] = len(buffers)
            place = known.get(id(buffer))
            if buffer.kind == "constant":
                owner = constants.get(id(buffer.owner))
                bits = base64.b64encode(buffer.array.tobytes()).decode() if owner is None else ""
                place = ["made", bits] if owner is None else ["constant", owner[0]]
            buffers.append([*(place or [buffer.kind, buffer.offset]), buffer.shape, buffer.dtype.name])
        return numbers[buffer]

    kernels: dict[tuple, int] = {}

    def launches(segment: Segment) -> list:
        found = []
        for kernel, row in zip(segment.kernels, segment.places, strict=True):
            named = kernel.key, kernel.extent, kernel.grain, kernel.scratch
            found.append([kernels.setdefault(named, len(kernels)), [[number(b), *rest] for b, *rest in row]])
        return [segment.iterations, found, segment.team]

    return {
        "segments": list(map(launches, plan.segments)),
        "ahead": list(map(launches, plan.ahead)),
        "results": [[number(buffer), shape] for buffer, shape in plan.results],
        "copies": [[number(buffer), variables[variable]] for buffer, variable in plan.copies],
        "written": sorted(variables[variable] for variable in plan.written),
        "arena": plan.arena_bytes,
        "kernels": list(kernels),
        "buffers": buffers,
    }


def _restored(record: dict, graph: Graph, constants: dict[int, tuple[int, Tensor]]) -> Executable:
    """The plan of a graph that a record tells of; raises ValueError and the like where it does not fit."""
    variables = list(_variables(graph))
    inputs = [Buffer("input", symbol.shape, symbol.dtype) for symbol in graph.inputs]
    held = graph.writes | graph.reads
    stores = [Buffer("variable", held[variable].shape, held[variable].dtype) for variable in variables]
    values = [value for _, value in constants.values()]
    buffers = [_buffer(entry, record["arena"], inputs, stores, values) for entry in record["buffers"]]
    kernels = [native.Kernel(None, *_naturals(sizes), stored=key) for key, *sizes in record["kernels"]]

    def segment(iterations: int, launches: list, team: int) -> Segment:
        _naturals([iterations, team, *(kernel for kernel, _ in launches)])
        places = [[_place(buffers, iterations, *place) for place in row] for _, row in launches]
        return Segment([kernels[kernel] for kernel, _ in launches], places, iterations, team=team)

    return Executable(
        inputs,
        dict(zip(variables, stores, strict=True)),
        [(buffers[number], tuple(shape)) for number, shape in record["results"]],
        [(buffers[number], variables[variable]) for number, variable in record["copies"]],
        {variables[variable] for variable in record["written"]},
        [segment(*entry) for entry in record["segments"]],
        [segment(*entry) for entry in record["ahead"]],
        [variable for variable in graph.reads if variable not in graph.writes],
        [buffer for buffer in buffers if buffer.kind == "temporary"],
        record["arena"],
    )


def _buffer(entry: list, arena: int, inputs: list[Buffer], stores: list[Buffer], values: list[Tensor]) -> Buffer:
    kind, place, shape, dtype = entry
    if kind in ("input", "variable"):
        return (inputs if kind == "input" else stores)[place]
    buffer = Buffer("temporary" if kind == "temporary" else "constant", _naturals(shape), as_dtype(dtype))
    if kind == "temporary":
        (buffer.offset,) = _naturals([place])
        if buffer.offset + buffer.size > arena:
            raise ValueError("a buffer outside of the arena")
    elif kind == "kept":
        buffer.keep()
    elif kind == "made":
        buffer.array = np.frombuffer(base64.b64decode(place), buffer.dtype).reshape(buffer.shape)
    else:
        buffer.array = np.array(values[place]._array, order="C")
        if (buffer.array.shape, buffer.array.dtype) != (buffer.shape, buffer.dtype):
            raise ValueError("another constant")
    return buffer


def _place(buffers: list[Buffer], iterations: int, number: int, offset: int, stride: int) -> tuple[Buffer, int, int]:
    _naturals([number, offset, offset + stride * (iterations - 1)])
    if max(offset, offset + stride * (iterations - 1)) > buffers[number].size:
        raise ValueError("a place outside of its buffer")
    return buffers[number], offset, stride


def _naturals(values: Iterable[Any]) -> tuple[int, ...]:
    """Whole numbers from 0 on, or ValueError."""
    values = tuple(values)
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"expected whole numbers from 0 on; received {values}")
    return values
