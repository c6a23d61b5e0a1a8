"""From a graph to something that runs: kernels in order, buffers in one arena, native programs.

Values live in buffers: those of the caller (inputs, variables), constants, results, and temporary ones, which share an
arena by their lifetimes. A variable's new value is written over the old one where every reader has had its turn.
"""

from __future__ import annotations

import bisect
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import passes, threads
from ..graph import Graph
from ..op import Node
from ..scan import Body
from ..tensor import Tensor
from . import contractions, kernels, native, rows
from .execution import Buffer, Executable, Segment
from .expressions import InPlace
from .indices import NotAffine, Unfusable
from .memo import Memo
from .partition import (
    ALIASES,
    EPILOGUES,
    HEAVY,
    REDUCTIONS,
    SETTLED,
    VIEWS,
    Group,
    Partition,
    is_elementwise,
    look_through,
)
from .shares import share
from .simplify import simplify

log = logging.getLogger("tenzoo.compile")


class Step:
    """One kernel launch; or (``kernel`` is None) a call of a numpy reference, or loops that run side by side."""

    __slots__ = ("buffers", "call", "group", "kernel", "loops", "offsets")

    def __init__(
        self,
        kernel: Any,
        buffers: list[Buffer],
        group: Group,
        offsets: Sequence[int] | None = None,
        call: Any = None,
        loops: Sequence[Loop] = (),
    ):
        self.kernel = kernel
        self.buffers = buffers
        self.group = group
        self.offsets = offsets or [0] * len(buffers)  # bytes from the beginning of each buffer
        self.call = call
        self.loops = loops


class Loop(NamedTuple):
    """The steps of a scan's body. ``places`` maps each of their buffers to (outer buffer, byte offset, byte stride)."""

    steps: list[Step]
    places: dict[Buffer, tuple[Buffer, int, int]]
    iterations: int


LEAST_ROWS = 4  # of a scan that are worth a thread of their own
MOST_FIXED = 1 << 20  # bytes that all iterations read, and each thread would then read for fewer rows at once


class Plan(Executable):
    """A graph planned and compiled. The plan of a loop's body (``inner``) is not run by itself."""

    def __init__(self, graph: Graph, fuse: bool = True, inner: bool = False, fixed: int = 0):
        loader = None if inner else native.Loader()
        self._fuse = fuse = fuse and "fuse" in passes()
        nodes, outputs = simplify(graph, apart=inner)
        self._partition = Partition(nodes, self._in_memory(nodes, outputs), fuse)
        self._groups = self._partition.groups()
        self._scans = [node for node in nodes if node.op.name == "scan"]
        self._behind = self._scans_behind(nodes)
        self._buffers: dict[Any, Buffer] = {}
        self._constants: dict[int, Buffer] = {}
        self.inputs = [self._name(symbol, "input") for symbol in graph.inputs]
        for buffer in self.inputs[:fixed]:
            buffer.fixed = True
        self.variables = {v: self._name(symbol, "variable") for v, symbol in graph.reads.items()}
        self._settled = [v for v in self.variables if v not in graph.writes]  # not assigned by this graph
        for variable in self._settled:
            self.variables[variable].fixed = not inner
        count = len(outputs) - len(graph.writes)
        self._needed = self._needed_values(outputs)
        if fuse:
            self._compute_again(nodes, outputs)
            reads: dict[Group, set] = {}
            for base, group in self._reads():
                reads.setdefault(group, set()).add(base.key)
            self._partition.merge_siblings(reads)
            self._groups = self._partition.groups()
        self._homes = self._in_place(graph, outputs[:count], outputs[count:])
        self.steps: list[Step] = []
        self._memo = Memo()
        self._ahead: list[Step] = []  # what follows from settled variables alone: computed when one of them changes
        sources: dict[Group, list[Tensor]] = {group: [] for group in self._groups}
        for base, group in self._reads():
            sources[group].append(base)
        for group in self._groups:
            start = len(self.steps)
            self._lower(group)
            if not inner:
                for step in _launched(self._put_ahead(start, group, sources[group])):
                    loader.begin(step.kernel)
        self.results = [(self._stored(value), value.shape) for value in outputs[:count]]
        self.copies = [
            (self._stored(value), variable)
            for variable, value in zip(graph.writes, outputs[count:], strict=True)
            if value.key not in self._homes
        ]
        if "share" in passes():
            self._put_side_by_side()
        if inner:  # the loop around it decides where results lie
            for buffer, _ in self.results:
                buffer.kind = "result"
        self._lay_out()
        if not inner:
            written = {v for v, b in self.variables.items() if b in set(self._homes.values())}
            written.update(variable for _, variable in self.copies)
            ends = self.inputs, self.variables, self.results, self.copies, written
            segments, ahead = _segments(self.steps), _segments(self._ahead)
            try:
                super().__init__(*ends, segments, ahead, self._settled, self._temporary, self.arena_bytes, loader)
            except native.emit_llvm.CompileError as error:
                raise native.emit_llvm.CompileError(f"{self._computed_by(error.key)}{error}") from error

    def _computed_by(self, key: str) -> str:
        """Name the ops of a kernel, for an error message."""
        nodes = [n for s in _launched([*self._ahead, *self.steps]) if s.kernel.key == key for n in s.group.nodes]
        ops, scopes = (", ".join(dict.fromkeys(filter(None, words))) for words in
                       ([n.op.name for n in nodes], [n.scope for n in nodes]))  # fmt: skip
        return f"{ops}{scopes and f' (of {scopes})'}: " if ops else ""

    # -- where values are --------------------------------------------------------------------------------------------

    def _name(self, symbol: Tensor, kind: str) -> Buffer:
        buffer = self._buffers[symbol.key] = Buffer(kind, symbol.shape, symbol.dtype)
        return buffer

    def _stored(self, value: Tensor) -> Buffer | None:
        """The buffer that holds ``value`` row-major, through aliases and reshapes; None if it is not in memory."""
        value = look_through(value, ("reshape", SETTLED))
        if value._array is None:
            return self._buffers.get(value.key)
        if id(value) not in self._constants:
            buffer = self._constants[id(value)] = Buffer("constant", value.shape, value.dtype)
            buffer.array = np.array(value._array, order="C")
            buffer.owner = value  # so that the id stays its own
        return self._constants[id(value)]

    def _bases(self, value: Tensor) -> list[Tensor]:
        """The computed values and inputs that ``value`` is a view of."""
        value = look_through(value, (*VIEWS, SETTLED))
        return [value] if value._array is None else []

    def _in_memory(self, nodes: list[Node], outputs: Sequence[Tensor]) -> set[Node]:
        """Nodes whose results kernels read from memory, or that leave the graph."""
        readers = [n for n in nodes if not (is_elementwise(n.op) or n.op.name in REDUCTIONS)]
        readers = [n for n in readers if n.op.name not in ALIASES and n.op.name not in VIEWS]
        values = [*outputs, *(v for n in readers for v in n.inputs)]
        return {base.node for value in values for base in self._bases(value)}

    def _needed_values(self, outputs: Sequence[Tensor]) -> set:
        """Keys of the values that a group has to put into memory: results, and what other groups read."""
        needed = {base.key for value in outputs for base in self._bases(value)}
        for base, group in self._reads():
            if self._partition.group_of.get(base.node) is not group:
                needed.add(base.key)
        return needed

    def _compute_again(self, nodes: list[Node], outputs: Sequence[Tensor]) -> None:
        """Do not put into memory what every reader can compute from what is there, at no more reading."""
        kept = self._in_memory(nodes, outputs)
        for group in self._groups:
            wanted = [
                n
                for n in group.nodes
                if (n, 0) in self._needed and n not in kept and is_elementwise(n.op) and n.specs[0].dtype != bool
            ]
            root = (group.nodes[0], 0)
            if group.kind in EPILOGUES and root not in self._needed and len(wanted) > 1:
                # One array, the product itself, instead of several that all follow from it.
                needed, inlined = set(self._needed), dict(self._partition.inlined)
                self._needed.add(root)
                if len(self._dropped(wanted, group)) == len(wanted):
                    continue
                self._needed = needed
                self._partition.inlined.clear()
                self._partition.inlined.update(inlined)
            self._dropped(wanted, group)

    def _dropped(self, wanted: list[Node], group: Group) -> list[Node]:
        """Take nodes that follow from values in memory off the list of what is needed there; returns those."""
        found = []
        for node in wanted:
            chain = self._derivation(node, group)
            if chain is not None:
                self._needed.discard((node, 0))
                self._partition.inlined.update(dict.fromkeys(chain, 1))
                found.append(node)
        return found

    def _derivation(self, node: Node, group: Group) -> list[Node] | None:
        """The few cheap nodes of a group by which ``node`` follows from values in memory; None if there are none."""
        chain, large, stack = [], set(), [node]
        size = math.prod(node.specs[0].shape)
        while stack:
            now = stack.pop()
            chain.append(now)
            if len(chain) > 4 or now.op.name in HEAVY or not is_elementwise(now.op):
                return None
            for value in now.inputs:
                for base in self._bases(value):
                    small = 2 * base.size <= size
                    if not small and base.size != size:
                        return None
                    in_memory = base.node.op.reference is None or base.key in self._needed
                    if in_memory and base.node is not node:
                        large.update(() if small else (base.key,))
                    elif self._partition.group_of.get(base.node) is group or base.node in self._partition.inlined:
                        stack.append(base.node)
                    else:
                        return None
        return chain if len(large) <= 2 else None

    def _reads(self) -> Iterator[tuple[Tensor, Group]]:
        """Every computed value or input, with the groups that read it: through views and inlined nodes."""
        for node, group in self._partition.group_of.items():
            stack = list(node.inputs)
            while stack:
                for base in self._bases(stack.pop()):
                    if base.node in self._partition.inlined:
                        stack.extend(base.node.inputs)
                    else:
                        yield base, group

    def _in_place(self, graph: Graph, results: Sequence[Tensor], writes: Sequence[Tensor]) -> dict[Any, Buffer]:
        """Values to be written over the variable that they are the new value of: where all its readers come before."""
        if "in_place" not in passes():
            return {}
        order = {group: i for i, group in enumerate(self._groups)}
        last_read: dict[Any, int] = {}
        for base, group in self._reads():
            last_read[base.key] = max(last_read.get(base.key, -1), order[group])
        for value in results:  # a result that is a variable's old value is copied out at the end
            for base in self._bases(value):
                last_read[base.key] = len(order)
        homes: dict[Any, Buffer] = {}
        for variable, value in zip(graph.writes, writes, strict=True):
            group = self._partition.group_of.get(value.node)
            kinds = (*EPILOGUES, "rows", "scatter_set")
            if group is None or group.kind not in kinds or value.key in homes:
                continue
            symbol = graph.reads.get(variable)
            if symbol is None:
                homes[value.key] = self.variables[variable] = Buffer("variable", value.shape, value.dtype)
                continue
            last = last_read.get(symbol.key, -1)
            if group.kind == "scatter_set":  # the value whose rows are replaced may be there before
                base = look_through(value.node.inputs[0])
                first = self._partition.group_of.get(base.node)
                if first and first.kind == "rows" and last <= order[first] and last_read[base.key] == order[group]:
                    homes[base.key] = self.variables[variable]
            if last <= order[group]:
                homes[value.key] = self.variables[variable]
        return homes

    def _put_ahead(self, start: int, group: Group, sources: Sequence[Tensor]) -> list[Step]:
        """Take a group's steps, those from ``start`` on, out of every call if they always give the same.

        Returns them, and those that pack what they read: these come right after what they pack is made.
        """
        steps = self.steps[start:]
        inputs = [self._stored(base) for base in sources]
        homes = any((node, i) in self._homes for node in group.nodes for i in range(len(node.specs)))
        if not homes and all(b is not None and b.fixed for b in inputs) and all(s.kernel is not None for s in steps):
            del self.steps[start:]
            self._ahead.extend(steps)
            for buffer in {b for step in steps for b in step.buffers if b.kind == "temporary"}:
                buffer.fixed = True
        for buffer in {b: None for step in steps for b in step.buffers if b.kind == "packed"}:
            source, kernel, offset = buffer.packing
            made = Step(kernel, [source, buffer], group, [offset, 0])
            earlier = (step.group for step in self._ahead if source in step.buffers and step.group is not group)
            maker = next(earlier, None)
            places = [i + 1 for i, step in enumerate(self._ahead) if step.group is maker]
            self._ahead.insert(places[-1] if places else 0, made)
            steps.append(made)
        return steps

    # -- lowering ----------------------------------------------------------------------------------------------------

    def _output(self, node: Node, index: int, in_place: bool = True) -> Buffer:
        """The buffer for an output of a node, made on first demand."""
        key = (node, index)
        home = self._homes.get(key)
        if home is not None and in_place:
            self._buffers[key] = home
        elif key not in self._buffers:
            made = self._buffers[key] = Buffer("temporary", *node.specs[index])
            if made.size == 0:  # nothing to compute or to place
                made.kind, made.array = "constant", np.empty(made.shape, made.dtype)
        return self._buffers[key]

    def _lower(self, group: Group) -> None:
        try:
            self.steps.extend(self._kernels(group, True))
            return
        except InPlace:
            pass
        except (Unfusable, NotAffine):
            if len(group.nodes) > 1:
                return self._separately(group)
        for node in group.nodes:
            self._give_up_home(node)
        try:
            self.steps.extend(self._kernels(group, False))
        except (Unfusable, NotAffine, InPlace):
            self._separately(group)

    def _give_up_home(self, node: Node) -> None:
        for i in range(len(node.specs)):
            if self._homes.pop((node, i), None) is not None:
                self._buffers.pop((node, i), None)

    def _kernels(self, group: Group, in_place: bool) -> list[Step]:
        wanted = [n for n in group.nodes if any((n, i) in self._needed for i in range(len(n.specs)))]
        outputs = {node: self._output(node, 0, in_place) for node in wanted}
        every = [self._output(node, i) for node in wanted for i in range(len(node.specs)) if (node, i) in self._needed]
        if not any(buffer.size for buffer in every):
            return []
        node = group.nodes[0]
        found = None
        if group.kind == "scan":
            return self._loop(node, group) or [self._reference(node, group)]
        if group.kind in ("rows", *EPILOGUES, *kernels.WRITERS):
            made = {(n, 0): buffer for n, buffer in outputs.items()}
            if group.kind in kernels.WRITERS:
                made = {(node, i): self._output(node, i) for i in range(len(node.specs))}

            def write(scratch: Callable) -> list[tuple] | None:
                if group.kind == "rows":
                    return [(*rows.lower(group, self._stored, outputs), None)]
                if group.kind in EPILOGUES:
                    return contractions.write(group, self._stored, outputs, scratch)
                return kernels.write(node, self._stored, list(made.values()))

            found = self._memo.launches(group, made, self._stored, self._scratch, write)
        if found is not None:
            return [Step(kernel, buffers, group, offsets) for kernel, buffers, offsets in found]
        if len(group.nodes) > 1:
            raise Unfusable
        return [self._reference(node, group)]

    def _loop(self, node: Node, group: Group) -> list[Step] | None:
        """The steps of a scan: the carry goes into the first slot of its stack, then the body runs again and again."""
        body, length, reverse = (node.attributes[name] for name in ("body", "length", "reverse"))
        body, has_rows, shares = self._shared_out(node, body)
        inner = Plan(body.graph, self._fuse, inner=True, fixed=body.constants)
        inputs = [self._stored(value) for value in node.inputs]
        if length == 0 or None in inputs or any(step.kernel is None for step in inner.steps):
            return None
        outputs = [self._output(node, i) for i in range(len(node.specs))]
        stacks = outputs[: body.carried]
        work = self._scratch(inner.arena_bytes * shares)
        first, before, after = (length - 1, length, length - 1) if reverse else (0, 0, 1)
        steps, packed = [], {}
        for start, stack in zip(body.part(inputs, "carry"), stacks, strict=True):
            steps.append(Step(kernels.copy_into(start.size, before * start.size), [start, stack], group))
        for buffer in {b: None for step in inner.steps for b in step.buffers if b.kind == "packed"}:
            source, kernel, offset = buffer.packing
            packed[buffer] = self._scratch(buffer.size)
            origin = source if source.kind == "constant" else inputs[inner.inputs.index(source)]
            steps.append(Step(kernel, [origin, packed[buffer]], group, [offset, 0]))

        def places(number: int) -> dict[Buffer, tuple[Buffer, int, int]]:
            """Where the values of one share's iterations lie."""
            found = {buffer: (work, number * inner.arena_bytes + buffer.offset, 0) for buffer in inner._temporary}
            found.update({buffer: (place, 0, 0) for buffer, place in packed.items()})
            found.update({b: (b, 0, 0) for step in inner.steps for b in step.buffers if b.kind == "constant"})

            def lie(made: Buffer, outer: Buffer, iteration: int, divided: bool = True, moves: bool = True) -> None:
                whole = made.size * (shares if divided else 1)
                stride = (-whole if reverse else whole) if moves else 0
                found[made] = outer, iteration * whole + number * made.size * divided, stride

            for i, (symbol, outer, divided) in enumerate(zip(inner.inputs, inputs, has_rows, strict=True)):
                if i < body.constants:
                    lie(symbol, outer, 0, divided, moves=False)
                elif i < body.constants + body.carried:
                    lie(symbol, stacks[i - body.constants], before)
                else:
                    lie(symbol, outer, first, divided)
            for i, (made, _) in enumerate(inner.results):
                lie(made, outputs[i], after if i < body.carried else first)
            return found

        loops = [Loop(inner.steps, places(number), length) for number in range(shares)]
        return [*steps, Step(None, [*inputs, *outputs, work, *packed.values()], group, loops=loops)]

    def _shared_out(self, node: Node, body: Body) -> tuple[Body, list[bool], int]:
        """The body that one thread runs, which of its inputs have rows, and into how many shares these are divided.

        Scans that do not depend on each other share the threads. Where threads would be left over, or have too little
        work between them, each iteration's kernels are spread over all of them instead.
        """
        alike = [other for other in self._scans if other is node or self._alike(node, other)]
        shares, spare = divmod(threads(), len(alike))
        fixed = sum(value.size * value.dtype.itemsize for value in body.part(node.inputs, "constants"))
        if spare == 0 and shares > 1 and fixed <= MOST_FIXED and "share" in passes():
            found = share(body, shares, LEAST_ROWS)
            if found is not None:
                return (*found, shares)
        return body, [True] * len(node.inputs), 1

    def _scans_behind(self, nodes: list[Node]) -> dict[Node, set[Node]]:
        """The scans that each scan depends on."""
        behind: dict[Node, set[Node]] = {}
        for node in nodes if len(self._scans) > 1 else ():
            found = set().union(*(behind.get(value.node, ()) for value in node.inputs))
            behind[node] = found | {node} if node in self._scans else found
        return behind

    def _alike(self, a: Node, b: Node) -> bool:
        """Whether scans do as much work and do not depend on each other."""
        return a.specs == b.specs and a not in self._behind[b] and b not in self._behind[a]

    def _put_side_by_side(self) -> None:
        """Let loops run at the same time where each leaves threads idle; the first of them waits for the last."""
        k = 0
        while k < len(self.steps):
            first = self.steps[k]
            later = next((i for i in range(k + 1, len(self.steps)) if self.steps[i].loops), None)
            if first.loops and later is not None and self._may_wait(k, later):
                last = self.steps[later]
                buffers, loops = [*first.buffers, *last.buffers], [*first.loops, *last.loops]
                self.steps[later] = Step(None, buffers, last.group, loops=loops)
                del self.steps[k]
            else:
                k += 1

    def _may_wait(self, k: int, later: int) -> bool:
        """Whether the loop at step k may run with one at a later step: nobody in between touches what it does."""
        first, last = self.steps[k], self.steps[later]
        if len(first.loops) + len(last.loops) > threads() or not self._alike(first.group.nodes[0], last.group.nodes[0]):
            return False
        own = {buffer for buffer in first.buffers if buffer.kind not in ("input", "constant") and not buffer.fixed}
        return not any(own.intersection(step.buffers) for step in self.steps[k + 1 : later + 1])

    @staticmethod
    def _scratch(size: int) -> Buffer:
        """Memory that several kernels of one group share."""
        return Buffer("temporary", (size,), np.dtype("uint8"))

    def _separately(self, group: Group) -> None:
        """Give every node of a group a kernel of its own; the values between them go through memory."""
        for node in group.nodes:
            self._give_up_home(node)
            self._needed.update((node, i) for i in range(len(node.specs)))
        for node in group.nodes:
            alone = Partition([node], fuse=False).group_of[node]
            alone.inlined = self._partition.inlined
            try:
                self.steps.extend(self._kernels(alone, False))
            except (Unfusable, NotAffine):
                self.steps.append(self._reference(node, alone))

    def _reference(self, node: Node, group: Group) -> Step:
        """A step that calls the op's numpy reference; its inputs are read through views where they have to be."""
        outputs = [self._output(node, i) for i in range(len(node.specs))]
        sources: list[Buffer] = []
        readers = [self._reader(value, sources) for value in node.inputs]

        def call() -> None:
            with np.errstate(all="ignore"):
                result = node.op.compute(*(read() for read in readers), **node.attributes)
            for buffer, array in zip(outputs, result if node.many else (result,), strict=True):
                buffer.array[...] = array

        log.info("no kernel for %s%s: numpy computes it", node.op.name, node.scope and f" of {node.scope}")
        return Step(None, [*sources, *outputs], group, call=call)

    def _reader(self, value: Tensor, sources: list[Buffer]) -> Callable[[], np.ndarray]:
        buffer = self._stored(value)
        if buffer is not None:
            sources.append(buffer)
            return lambda: buffer.array.reshape(value.shape)
        node = value.node
        inner = [self._reader(v, sources) for v in node.inputs]
        if node.op.name in ALIASES:
            return inner[value.index]
        if node.many:
            return lambda: node.op.reference(*(read() for read in inner), **node.attributes)[value.index]
        return lambda: node.op.reference(*(read() for read in inner), **node.attributes)

    # -- memory ------------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        """Give temporaries offsets in the arena; what is computed ahead and read in calls has memory of its own."""
        read = {b for step in self.steps for b in step.buffers}
        read.update(buffer for buffer, _ in (*self.results, *self.copies))
        for buffer in {b: None for step in self._ahead for b in step.buffers if b.kind in ("temporary", "packed")}:
            if buffer in read or buffer.kind == "packed":
                buffer.keep()
        made, more = _place(self._ahead, ()), _place(self.steps, [b for b, _ in (*self.results, *self.copies)])
        self._temporary = [*made, *more]
        self.arena_bytes = max((b.offset + b.room for b in self._temporary), default=0)


def _place(steps: Sequence[Step], leaving: Sequence[Buffer]) -> list[Buffer]:
    """Give the temporaries of steps offsets: largest first, each at the lowest place free during its lifetime.

    Those that are ``leaving`` are read after the last step.
    """
    for position, step in enumerate(steps):
        for buffer in step.buffers:
            buffer.first = position if buffer.first < 0 else buffer.first
            buffer.last = position
    for buffer in leaving:
        buffer.last = len(steps)
    temporary = {b: None for step in steps for b in step.buffers if b.kind == "temporary"}
    order = sorted(temporary, key=lambda b: (-b.size, b.first))
    placed: list[tuple[int, int, int, int]] = []  # where each begins and ends, in bytes and in time; by the first
    for buffer in order:
        room, first, last = buffer.room, buffer.first, buffer.last
        offset = 0
        for start, end, since, until in placed:
            if since <= last and first <= until:
                if offset + room <= start:
                    break
                offset = max(offset, end)
        buffer.offset = offset
        bisect.insort(placed, (offset, offset + room, first, last))
    return order


def _launched(steps: Sequence[Step]) -> list[Step]:
    """The steps that are kernels, those of loops among them."""
    every = [inner for step in steps for loop in step.loops for inner in loop.steps]
    return [step for step in (*steps, *every) if step.kernel is not None]


def _segments(steps: Sequence[Step]) -> list[Segment | Callable]:
    """Launches gathered between loops and calls of numpy."""
    segments: list[Segment | Callable] = []
    for launched, run in itertools.groupby(steps, lambda step: step.kernel is not None):
        if launched:
            segments.append(_segment(list(run), lambda buffer: (buffer, 0, 0)))
            continue
        for step in run:
            if step.call is not None:
                segments.append(step.call)
            team = len(segments) + 1 if len(step.loops) > 1 else 0
            for loop in step.loops:
                segments.append(_segment(loop.steps, loop.places.__getitem__, loop.iterations, team))
    return segments


def _segment(steps: list[Step], place: Callable, iterations: int = 1, team: int = 0) -> Segment:
    places = []
    for step in steps:
        found = zip(map(place, step.buffers), step.offsets, strict=True)
        places.append([(buffer, start + more, stride) for (buffer, start, stride), more in found])
    return Segment([step.kernel for step in steps], places, iterations, steps, team)
