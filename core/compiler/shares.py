"""A share of a scan's rows: rows of a recurrent net are independent, so threads may take some each.

None of them waits for another between the iterations then.
"""

from __future__ import annotations

from typing import Any

from ..graph import Graph
from ..op import Node, placeholder
from ..primitives.contraction import parse
from ..scan import Body
from ..tensor import Tensor
from .partition import ALIASES, REDUCTIONS, is_elementwise


class _Mixed(Exception):  # noqa: N818  not an error: the scan is not shared out
    """An op that reads several rows at once, or that is not known here."""


def share(body: Body, shares: int, least: int) -> tuple[Body, list[bool]] | None:
    """The body for one of ``shares`` equal parts of the rows, and which of its inputs have rows.

    Rows are what the carry's first axis counts. None where they depend on each other, or a share had fewer than
    ``least``.
    """
    counts = {value.shape[:1] for value in body.part(body.graph.inputs, "carry")}
    if len(counts) != 1 or counts == {()}:
        return None
    ((rows,),) = counts
    if rows % shares != 0 or rows < least * shares:
        return None
    try:
        return _Sharing(body, rows, shares).body()
    except _Mixed:
        return None


class _Sharing:
    def __init__(self, body: Body, rows: int, shares: int):
        self._body, self._rows, self._part = body, rows, rows // shares
        self._made: dict[Any, tuple[Tensor, bool]] = {}  # what stands for a value, and whether it has rows
        # Constants, and what follows from them alone, until a reader tells whether it takes them for rows.
        self._open: dict[Any, Any] = {symbol.key: symbol for symbol in body.part(body.graph.inputs, "constants")}

    def body(self) -> tuple[Body, list[bool]]:
        graph = self._body.graph
        for symbol in (*self._body.part(graph.inputs, "carry"), *self._body.part(graph.inputs, "slices")):
            self._decide(symbol, self._may_have_rows(symbol, len(symbol.shape)))
        for node in graph.nodes():
            rows = any(self._made.get(value.key, (value, False))[1] for value in node.inputs)
            if not rows and any(value.key in self._open for value in node.inputs):
                self._open.update({(node, i): node for i in range(len(node.specs))})
            else:
                self._compute(node, rows)
        result = tuple([self._take(value, True) for value in part] for part in graph.result)
        found = [self._made.get(symbol.key, (symbol, False)) for symbol in graph.inputs]
        made = Graph([value for value, _ in found], {}, result, {})
        return Body(made, self._body.constants, self._body.carried), [rows for _, rows in found]

    def _may_have_rows(self, value: Any, rank: int) -> bool:
        return 0 < len(value.shape) == rank and value.shape[0] == self._rows

    def _decide(self, symbol: Tensor, rows: bool) -> None:
        if rows and not self._may_have_rows(symbol, len(symbol.shape)):
            raise _Mixed
        shape = (self._part, *symbol.shape[1:]) if rows else symbol.shape
        self._made[symbol.key] = placeholder(shape, symbol.dtype), rows

    def _take(self, value: Tensor, rows: bool) -> Tensor:
        """What stands for a value, as one with rows or one without."""
        source = self._open.pop(value.key, None)
        if isinstance(source, Node):
            self._compute(source, rows)
        elif source is not None:
            self._decide(source, rows)
        made, having = self._made.get(value.key, (value, False))
        if having is not rows:
            raise _Mixed
        return made

    def _compute(self, node: Node, rows: bool) -> None:
        """Put the op on a share of the rows, or, without ``rows``, as it was."""
        rank = len(node.specs[0].shape)
        attributes, flags = node.attributes, [rows] * len(node.inputs)
        if is_elementwise(node.op):
            flags = [rows and self._may_have_rows(value, rank) for value in node.inputs]
        elif rows and node.op.name not in ALIASES:
            flags, attributes = self._rule(node)
        inputs = tuple(self._take(value, flag) for value, flag in zip(node.inputs, flags, strict=True))
        if node.op.name in ALIASES:
            outputs = inputs[: len(node.specs)]
        else:
            specs = node.op.rule(*inputs, **attributes)
            outputs = node.again(inputs, attributes, specs if node.many else (specs,)).outputs()
        for i, value in enumerate(outputs):
            self._open.pop((node, i), None)
            self._made[(node, i)] = value, rows

    def _rule(self, node: Node) -> tuple[list[bool], dict]:
        """Which inputs have rows, and the attributes for a share of them."""
        name, attributes, every = node.op.name, node.attributes, [True] * len(node.inputs)
        shape = node.inputs[0].shape
        if name == "contract":
            *operands, result = parse(attributes["spec"])
            letter = result[:1]
            flags = [letter == operand[:1] for operand in operands]
            if letter and not any(letter in operand[flag:] for operand, flag in zip(operands, flags, strict=True)):
                return flags, attributes
        elif name in ("split", "concatenate"):
            if attributes["axis"] % len(shape) != 0:
                return every, attributes
        elif name in ("reshape", "broadcast_to"):
            made = attributes["shape"]
            if made[:1] == (self._rows,) and (name == "reshape" or len(made) == len(shape)):
                return every, {"shape": (self._part, *made[1:])}
        elif name == "transpose":
            if attributes["axes"][0] == 0:
                return every, attributes
        elif name == "slice":
            starts, stops, steps = (attributes[part] for part in ("starts", "stops", "steps"))
            if (starts[0], stops[0], steps[0]) == (0, self._rows, 1):
                return every, {**attributes, "stops": (self._part, *stops[1:])}
        elif name in REDUCTIONS and 0 not in attributes["axes"]:
            return every, attributes
        raise _Mixed
