"""Fusion: which nodes are computed together, in one kernel.

Every node that computes gets a level above the levels of what it reads; kernels of one level do not depend on each
other. A node joins the kernel of its highest input where the shapes allow, for then no path can lead out of that
kernel and back into it. What only moves elements belongs to no kernel: it becomes index arithmetic in whoever reads.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence

from ..op import Node, Op
from ..tensor import Tensor
from .indices import refine

# A value that every reader takes from memory: two computations of it might differ in the last bit.
SETTLED = "settled"
REDUCTIONS = {"reduce_sum": "add", "reduce_max": "maximum", "reduce_min": "minimum", "reduce_prod": "mul"}
ALIASES = {"identity", "stop_gradient", "barrier", "custom_gradient"}
VIEWS = {"reshape", "transpose", "broadcast_to", "slice", "split", "flip"}
EPILOGUES = {"contract", "conv", "conv_input_gradient", "conv_filter_gradient"}
MOST_NODES = 60  # of kernels that are merged although they need not be
SMALL = 4096  # elements of a loop nest that costs no more than its launch
INLINE_DEPTH = 6  # of element-wise ops on a variable or input that are computed anew by every reader
# Ops that cost more than to read their result again.
HEAVY = {"exp", "log", "tanh", "erf", "sin", "cos", "tan", "power", "expm1", "log1p", "sigmoid", "mod", "floor_divide"}


def is_elementwise(op: Op) -> bool:
    """Whether the op computes each element of its result from the same elements of its inputs."""
    return op.emit is not None and op.name not in ALIASES


def look_through(value: Tensor, names: Container[str] = ()) -> Tensor:
    """The value that ``value`` is another name of, or, through ops with these names, another form of."""
    while value._array is None and value.node.op.reference is not None:
        if value.node.op.name in ALIASES:
            value = value.node.inputs[value.index]
        elif value.node.op.name in names:
            value = value.node.inputs[0]
        else:
            break
    return value


class Group:
    """Nodes that become one kernel.

    ``factors`` are the extents of the loop nest and ``reduced`` tells which of them are summed over; both are set for
    fused groups only (``kind`` "rows"). Other kinds hold one node of their own kernel, perhaps with an epilogue.
    """

    def __init__(self, kind: str, level: int, node: Node, inlined: dict[Node, int]):
        self.inlined = inlined  # by all groups alike: see Partition
        self.kind = kind
        self.level = level
        self.nodes = [node]
        self.factors: list[int] = []
        self.reduced: list[bool] | None = None

    @property
    def trailing(self) -> bool:
        """Whether the reduced factors are the innermost ones: each row is reduced by itself."""
        return _trailing(self.reduced or [], self.factors)

    def kept(self) -> list[int]:
        """The factors that are not reduced."""
        return [n for n, r in zip(self.factors, self.reduced or (), strict=True) if not r]

    def split(self, parts: list[list[int]]) -> None:
        """Refine the factors."""
        if self.reduced is not None:
            self.reduced = _spread(self.reduced, parts)
        self.factors = [n for cut in parts for n in cut]

    def split_kept(self, parts: list[list[int]]) -> None:
        """Refine the factors that are not reduced."""
        rest = iter(parts)
        self.split([[n] if r else next(rest) for n, r in zip(self.factors, self.reduced or (), strict=True)])


def size_of(shape: Iterable[int]) -> int:
    """Number of elements."""
    return math.prod(shape)


class Partition:
    """The groups of a graph. ``group_of`` maps computing nodes to their group."""

    def __init__(self, nodes: list[Node], kept: Iterable[Node] = (), fuse: bool = True):
        self._kept = set(kept)  # nodes that have to be put into memory
        self.inlined: dict[Node, int] = {}
        self.group_of: dict[Node, Group] = {}
        self.level: dict[Node, int] = {}
        self.fuse = fuse
        for node in nodes:
            self._place(node)

    def merge_siblings(self, reads_of: dict[Group, set]) -> None:
        """Join kernels of one level and one loop nest that read the same values, or that are hardly worth a launch."""
        alike: dict[tuple, list[Group]] = {}
        for group in dict.fromkeys(self.group_of.values()):
            if group.kind == "rows":
                alike.setdefault((group.level, size_of(group.factors), group.reduced is None), []).append(group)
        for (_, size, _), groups in alike.items():
            kept: list[tuple[Group, set]] = []
            for group in groups:
                reads = reads_of.get(group, set())
                for other, read in kept:
                    few = len(other.nodes) + len(group.nodes) <= MOST_NODES
                    if few and (size <= SMALL or reads & read) and self._compatible(other, group):
                        self._merge(other, group)
                        read |= reads
                        break
                else:
                    kept.append((group, reads))

    def groups(self) -> list[Group]:
        """The groups in an order in which they can be computed."""
        found = dict.fromkeys(self.group_of.values())
        return sorted(found, key=lambda g: (g.level, g.nodes[0].serial))

    def _place(self, node: Node) -> None:
        op = node.op
        sources = [v.node for v in node.inputs if v.node is not None and v.node.op.reference is not None]
        level = max((self.level.get(s, 0) for s in sources), default=0)
        if op.name in ALIASES or op.name in VIEWS or op.name == SETTLED:
            self.level[node] = level
            return
        if level == 0 and self.fuse and self._inlined(node):
            self.level[node] = 0
            return
        if is_elementwise(op) or op.name in REDUCTIONS or op.name == "gather":
            # What is gathered from has to be in memory: a gather begins a kernel.
            group = self._join(node, level) if self.fuse and op.name != "gather" else None
            if group is None:
                group = self._new_rows(node, level + 1)
        else:
            group = Group(op.name, level + 1, node, self.inlined)
        self.group_of[node] = group
        self.level[node] = group.level

    def _inlined(self, node: Node) -> bool:
        """Whether it is cheaper to compute a node wherever it is read: little work on one value in memory."""
        if not is_elementwise(node.op) or node.op.name in HEAVY or node in self._kept:
            return False
        shape = node.specs[0].shape
        large = [v for v in node.inputs if v.size > 1]
        if len(large) > 1 or any(v.shape != shape for v in large):
            return False
        depth = 1 + max((self.inlined.get(v.node, 0) for v in node.inputs if v.node is not None), default=0)
        if depth > INLINE_DEPTH:
            return False
        self.inlined[node] = depth
        return True

    def _new_rows(self, node: Node, level: int) -> Group:
        group = Group("rows", level, node, self.inlined)
        shape = node.inputs[0].shape if node.op.name in REDUCTIONS else node.specs[0].shape
        group.factors = list(shape)
        if node.op.name in REDUCTIONS:
            group.reduced = [i in node.attributes["axes"] for i in range(len(shape))]
        return group

    def _join(self, node: Node, level: int) -> Group | None:
        """Add ``node`` to the groups of its highest inputs, merged into one, if that can be."""
        if level == 0:
            return None
        top: list[Group] = []
        for value in node.inputs:
            base, plain = self._base(value)
            if base is None or self.level[base] < level:
                continue
            if not plain:
                return None
            group = self.group_of[base]
            if group not in top:
                top.append(group)
        if not top:
            return None
        if len(top) == 1 and top[0].kind in EPILOGUES:
            return self._join_epilogue(node, top[0])
        if any(group.kind != "rows" for group in top):
            return None
        target = top[0]
        saved = (list(target.factors), None if target.reduced is None else list(target.reduced))
        members = [n for group in top for n in group.nodes]
        if all(self._compatible(target, other) for other in top[1:]) and self._accepts(target, members, node):
            for other in top[1:]:
                self._merge(target, other)
            target.nodes.append(node)
            return target
        target.factors, target.reduced = saved
        return None

    def _join_epilogue(self, node: Node, group: Group) -> Group | None:
        """Element-wise work on a contraction's result, done while the tile is in registers."""
        shape = group.nodes[0].specs[0].shape
        if not is_elementwise(node.op) or node.specs[0].shape != shape or len(group.nodes) > 24:
            return None
        if any(self._base(v)[0] in group.nodes and v.shape != shape for v in node.inputs):
            return None
        if any(v._array is None and v.shape == shape and self._from_outside(v) for v in node.inputs):
            return None  # an optimizer's slots are better streamed than visited tile by tile
        group.nodes.append(node)
        return group

    def _from_outside(self, value: Tensor) -> bool:
        """Whether a value is a variable or an input of the graph, or follows from one by inlined work."""
        return value.node.op.reference is None or self.level[value.node] == 0

    def _base(self, value: Tensor) -> tuple[Node | None, bool]:
        """The computing node behind ``value``, and whether only axes of extent 1 were moved on the way."""
        plain = True
        node = value.node
        index = value.index
        while node is not None and node.op.reference is not None:
            if node.op.name in ALIASES:
                source = node.inputs[index]
            elif node.op.name == SETTLED:
                source, plain = node.inputs[0], False
            elif node.op.name in VIEWS:
                source, plain = node.inputs[0], plain and _keeps_order(node)
            elif node in self.inlined:
                return None, plain
            else:
                return node, plain
            node, index = source.node, source.index
        return None, plain

    def _compatible(self, a: Group, b: Group) -> bool:
        """Whether the loop nests of two groups are the same, after refining that of ``a``."""
        if size_of(a.factors) != size_of(b.factors):
            return False
        parts = refine(a.factors, b.factors)
        if parts is None:
            return False
        flags = None
        if b.reduced is not None:
            flags = _axis_flags(parts, b.factors, [i for i, reduced in enumerate(b.reduced) if reduced])
            if not self._may_reduce(a, a.nodes, parts, flags):
                return False
        a.split(parts)
        if flags is not None:
            a.reduced = flags
        return True

    @staticmethod
    def _may_reduce(group: Group, members: list[Node], parts: list[list[int]], flags: list[bool]) -> bool:
        """Whether a group that is refined to ``parts`` can sum over the factors with ``flags``."""
        if group.reduced is not None:
            return flags == _spread(group.reduced, parts)
        return all(size_of(node.specs[0].shape) == size_of(group.factors) for node in members)

    def _merge(self, target: Group, other: Group) -> None:
        target.nodes = sorted([*target.nodes, *other.nodes], key=lambda n: n.serial)
        for node in other.nodes:
            self.group_of[node] = target

    def _accepts(self, group: Group, members: list[Node], node: Node) -> bool:
        """Whether ``node`` fits the loop nest of a group that is to have ``members``; refines it."""
        whole = size_of(group.factors)
        if node.op.name in REDUCTIONS:
            shape, axes = node.inputs[0].shape, node.attributes["axes"]
            if size_of(shape) != whole or (parts := refine(group.factors, shape)) is None:
                return False
            flags = _axis_flags(parts, shape, axes)
            if not self._may_reduce(group, members, parts, flags):
                return False
            flat = [n for cut in parts for n in cut]
            if not _trailing(flags, flat) and self._reads_reduced(members, node):
                return False  # columns are gone over once: a second reduction cannot follow a first
            group.split(parts)
            group.reduced = flags
            return True
        shape = node.specs[0].shape
        if size_of(shape) == whole:
            if group.reduced is not None and not group.trailing and self._reads_reduced(members, node):
                return False
            parts = refine(group.factors, shape)
            if parts is None:
                return False
            group.split(parts)
            return True
        if group.reduced is None or size_of(shape) != size_of(group.kept()):
            return False
        parts = refine(group.kept(), shape)
        if parts is None:
            return False
        group.split_kept(parts)
        return True

    def _reads_reduced(self, members: list[Node], node: Node) -> bool:
        """Whether ``node`` depends on a reduction among ``members``."""
        members = sorted(members, key=lambda n: n.serial)
        tainted = {n for n in members if n.op.name in REDUCTIONS}
        for member in members:
            if any(self._base(v)[0] in tainted for v in member.inputs):
                tainted.add(member)
        return any(self._base(v)[0] in tainted for v in node.inputs)


def _trailing(reduced: list[bool], factors: list[int]) -> bool:
    flags = [r for r, n in zip(reduced, factors, strict=True) if n != 1]
    return flags == sorted(flags)


def _keeps_order(node: Node) -> bool:
    """Whether a view leaves elements at their row-major positions, repeated ones apart."""
    if node.op.name == "transpose":
        moved = [a for a in node.attributes["axes"] if node.inputs[0].shape[a] != 1]
        return moved == sorted(moved)
    whole = node.op.name == "slice" and node.inputs[0].shape == node.specs[0].shape
    return whole or node.op.name in ("broadcast_to", "reshape")


def _spread(flags: list[bool], parts: list[list[int]]) -> list[bool]:
    return [flag for flag, cut in zip(flags, parts, strict=True) for _ in cut]


def _axis_flags(parts: list[list[int]], shape: Sequence[int], axes: Container[int]) -> list[bool]:
    """For each refined factor, whether it belongs to a reduced axis of ``shape``."""
    flat = [n for cut in parts for n in cut]
    flags: list[bool] = []
    position = 0
    for axis, extent in enumerate(shape):
        size = 1
        while size < extent:
            if flat[position] == 1:
                flags.append(False)
            else:
                size *= flat[position]
                flags.append(axis in axes)
            position += 1
    flags.extend([False] * (len(flat) - position))
    return flags
