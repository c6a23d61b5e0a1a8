"""The table that ``model.summary()`` prints."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core import Variable, pytree
from .functional import Node
from .layer import Layer


class _Row(NamedTuple):
    name: str
    kind: str
    shape: Any
    layer: Layer | None
    sources: str


def print_summary(
    model: Any,
    line_length: int | None = None,
    print_fn: Callable | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
) -> None:
    """Print a model's layers, output shapes and numbers of parameters, line by line with ``print_fn``."""
    rows = _rows(model, expand_nested)
    headers = ["Layer (type)", "Output Shape", "Param #"]
    pairs = itertools.pairwise(model.nodes)
    branched = any(len(n.inputs) != 1 or n.inputs[0] is not before.outputs for before, n in pairs)
    headers += ["Connected to"] * branched + ["Trainable"] * show_trainable
    seen: set[int] = set()
    table = [_cells(row, seen, branched, show_trainable) for row in rows]
    emit = print_fn or print
    emit(f'Model: "{model.name}"')
    for line in _draw([headers, *table], line_length):
        emit(line)
    trained, weights = model.trainable_weights, model.weights
    fixed = [weight for weight in weights if weight not in set(trained)]
    for title, group in (("Total", weights), ("Trainable", trained), ("Non-trainable", fixed)):
        emit(f" {title} params: {_size(group)}")


def _cells(row: _Row, seen: set[int], branched: bool, show_trainable: bool) -> list[str]:
    """The texts of a row; the parameters of a shared layer are counted where it comes first."""
    count = 0
    if row.layer is not None and id(row.layer) not in seen:
        seen.add(id(row.layer))
        count = sum(weight.size for weight in row.layer.weights)
    unbuilt = row.layer is not None and not row.layer.built
    cells = [
        f"{row.name} ({row.kind})",
        "?" if row.shape is None else str(row.shape),
        "? (not built)" if unbuilt else f"{count:,}",
    ]
    if branched:
        cells.append(row.sources or "-")
    if show_trainable:
        cells.append("-" if row.layer is None or not row.layer.weights else "NY"[row.layer.trainable])
    return cells


def _rows(model: Any, expand_nested: bool, indent: str = "") -> list[_Row]:
    rows = []
    for row in [_node_row(node) for node in model.nodes] or [_layer_row(layer) for layer in model.layers]:
        rows.append(row._replace(name=indent + row.name))
        if expand_nested and hasattr(row.layer, "nodes"):
            rows.extend(_rows(row.layer, True, f"{indent}  └ "))
    return rows


def _node_row(node: Node) -> _Row:
    sources = ", ".join(dict.fromkeys(_name(leaf.node.target) for leaf in node.inputs))
    layer = node.target if isinstance(node.target, Layer) else None
    kind = type(layer).__name__ if layer else "op"
    shape = pytree.map(lambda leaf: leaf.shape, node.outputs)
    return _Row(_name(node.target), kind, shape, layer, sources)


def _layer_row(layer: Layer) -> _Row:
    shape = pytree.map(lambda leaf: leaf.shape, layer.output) if len(layer._nodes) == 1 else layer._made
    return _Row(layer.name, type(layer).__name__, shape, layer, "")


def _name(target: Any) -> str:
    return target.name if isinstance(target, Layer) else target.__name__


def _draw(table: list[list[str]], line_length: int | None) -> list[str]:
    """A table with lines around and under its first row, at most ``line_length`` wide."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if line_length:
        spare = line_length - sum(widths) - 3 * len(widths) - 1
        widths[0] = max(widths[0] + spare, 12)
    header, *rows = [
        [text if len(text) <= width else text[: width - 1] + "…" for text, width in zip(row, widths, strict=True)]
        for row in table
    ]

    def rule(left: str, line: str, middle: str, right: str) -> str:
        return left + middle.join(line * (width + 2) for width in widths) + right

    def line(cells: list[str], bar: str) -> str:
        padded = (f" {text:<{width}} " for text, width in zip(cells, widths, strict=True))
        return bar + bar.join(padded) + bar

    body = [line(row, "│") for row in rows]
    return [
        rule("┏", "━", "┳", "┓"),
        line(header, "┃"),
        rule("┡", "━", "╇", "┩"),
        *body,
        rule("└", "─", "┴", "┘"),
    ]


def _size(weights: list[Variable]) -> str:
    size = float(sum(weight.size * weight.dtype.itemsize for weight in weights))
    units = ["B", "KB", "MB", "GB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{sum(weight.size for weight in weights):,} ({size:.2f} {units[0]})"
