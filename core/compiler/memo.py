"""Kernels are written once for groups that are alike: the layers of a deep net differ in their buffers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..op import Node
from ..tensor import Tensor
from .execution import Buffer
from .partition import ALIASES, SETTLED, VIEWS, Group

_LOOKED_THROUGH = {*ALIASES, *VIEWS, SETTLED}


class Memo:
    """The kernels of the groups of one plan."""

    def __init__(self):
        self._known: dict[tuple, list[tuple]] = {}

    def launches(
        self,
        group: Group,
        outputs: dict[Any, Buffer],
        stored: Callable[[Tensor], Buffer | None],
        scratch: Callable[[int], Buffer],
        write: Callable[[Callable[[int], Buffer]], Sequence[tuple] | None],
    ) -> Sequence[tuple] | None:
        """(kernel, buffers, offsets) for each launch, as ``write(scratch)`` gives it, or gave it for a group like this.

        ``outputs`` maps (node, index) of what is put into memory to its buffer; see Expressions for ``stored``.
        """
        likeness = _Likeness(group, stored)
        key = likeness.key(outputs)
        buffers = list(likeness.places)
        found = self._known.get(key)
        if found is not None:
            made = [scratch(size) for size in found[0]]
            return [(kernel, [(buffers + made)[i] for i in row], offsets) for kernel, row, offsets in found[1:]]
        made = []

        def noted(size: int) -> Buffer:
            made.append(scratch(size))
            return made[-1]

        launches = write(noted)
        numbers = {buffer: i for i, buffer in enumerate([*buffers, *made])}
        if launches and all(buffer in numbers for _, row, _ in launches for buffer in row):
            rows = [(kernel, [numbers[buffer] for buffer in row], offsets) for kernel, row, offsets in launches]
            self._known[key] = [[buffer.size for buffer in made], *rows]
        return launches


class _Likeness:
    """All of a group that its kernels follow from, down to the values that it reads from memory.

    ``places`` are the buffers that it meets, in that order.
    """

    def __init__(self, group: Group, stored: Callable[[Tensor], Buffer | None]):
        self._group, self._stored = group, stored
        self._own = set(group.nodes)
        self._numbers: dict[Node, int] = {}
        self._words: list[tuple] = [(group.kind, *group.factors), tuple(group.reduced or ())]
        self.places: dict[Buffer, int] = {}

    def key(self, outputs: dict[Any, Buffer]) -> tuple:
        """Equal for groups that the same kernels compute."""
        members = [self._node(node) for node in self._group.nodes]
        made = [(self._numbers[node], i, self._place(buffer)) for (node, i), buffer in outputs.items()]
        return (*self._words, *members, *made)

    def _place(self, buffer: Buffer | None) -> tuple | None:
        return None if buffer is None else (self.places.setdefault(buffer, len(self.places)), buffer.fixed)

    def _value(self, value: Tensor) -> tuple:
        array = value._array
        if array is None:
            place = None if value.node in self._own else self._place(self._stored(value))
            return self._node(value.node), value.index, place
        if array.size and all(stride == 0 or n == 1 for stride, n in zip(array.strides, array.shape, strict=True)):
            return array.dtype, array.shape, array[(slice(0, 1),) * array.ndim].tobytes()  # written into the kernel
        return array.dtype, array.shape, array.strides, self._place(self._stored(value))

    def _node(self, node: Node) -> int:
        if node not in self._numbers:
            own = node in self._own
            if own or node in self._group.inlined or node.op.name in _LOOKED_THROUGH:
                alias = node.op.name in ALIASES  # one op may be another object at each use
                what = node.op.name if alias else (node.op, _attributes(node))
                word = own, what, node.specs, tuple(map(self._value, node.inputs))
            else:
                word = (node.specs,)
            self._numbers[node] = len(self._words)
            self._words.append(word)
        return self._numbers[node]


def _attributes(node: Node) -> Any:
    """Attributes as text, in which 1, 1.0 and True differ; those of a node with an array are like no other's."""
    text = repr(sorted(node.attributes.items()))
    return node.serial if "array(" in text else text
