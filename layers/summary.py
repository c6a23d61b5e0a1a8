"""The table that ``model.summary()`` prints."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core import Graph, TraceError, Variable, pytree, trace
from ..core.profile import count_activations, count_flops
from .functional import Node
from .layer import Layer


class _Row(NamedTuple):
    name: str
    kind: str
    shape: Any
    layer: Layer | None
    sources: str
    path: str  # of the layer while the model is called


def print_summary(
    model: Any,
    line_length: int | None = None,
    print_fn: Callable | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
) -> None:
    """Print a model's layers, output shapes and numbers of parameters, line by line with ``print_fn``.

    Where the shapes of the inputs are known, also the FLOPs for one example: those of products and convolutions.
    """
    rows = _rows(model, expand_nested, model.name)
    graph = _inference(model)
    flops = {} if graph is None else count_flops(graph)
    headers = ["Layer (type)", "Output Shape", "Param #", *["FLOPs"] * (graph is not None)]
    pairs = itertools.pairwise(model.nodes)
    branched = any(len(n.inputs) != 1 or n.inputs[0] is not before.outputs for before, n in pairs)
    headers += ["Connected to"] * branched + ["Trainable"] * show_trainable
    seen: set[int] = set()
    counts = None if graph is None else flops
    table = [_cells(row, seen, counts, branched, show_trainable) for row in rows]
    emit = print_fn or print
    emit(f'Model: "{model.name}"')
    for line in _draw([headers, *table], line_length):
        emit(line)
    trained, weights = model.trainable_weights, model.weights
    fixed = [weight for weight in weights if weight not in set(trained)]
    for title, group in (("Total", weights), ("Trainable", trained), ("Non-trainable", fixed)):
        emit(f" {title} params: {_size(group)}")
    if graph is not None:
        emit(f" For one example: {_short(sum(flops.values()))}FLOPs, activations of {_bytes(count_activations(graph))}")


def _inference(model: Any) -> Graph | None:
    """The graph of the model on one example; None where shapes are not known, or it cannot be called so."""
    given = getattr(model, "_input_specs", None) if model.inputs is None else model._input_tree
    specs = [_spec(leaf) for leaf in pytree.flatten(given)]
    if not specs or any(None in shape[1:] for shape, _ in specs):
        return None
    examples = [np.broadcast_to(np.zeros((), dtype), (1, *shape[1:])) for shape, dtype in specs]
    tree = pytree.unflatten(given, examples)
    try:
        return trace(lambda inputs: model(inputs, training=False), tree)
    except (TraceError, ValueError):  # ShapeError among them, where one example is not enough
        return None


def _spec(leaf: Any) -> tuple[tuple, Any]:
    """Shape and dtype of a symbolic input, or of a text such as "float32:32,10"."""
    if not isinstance(leaf, str):
        return leaf.shape, leaf.dtype
    dtype, _, shape = leaf.partition(":")
    return tuple(int(extent) for extent in shape.split(",") if extent), dtype


def _cells(row: _Row, seen: set[int], flops: dict[str, int] | None, branched: bool, show_trainable: bool) -> list[str]:
    """The texts of a row; what a shared layer has and does is counted where it comes first."""
    count = work = 0
    if row.layer is not None and id(row.layer) not in seen:
        seen.add(id(row.layer))
        count = sum(weight.size for weight in row.layer.weights)
        inside = [path for path in flops or () if path == row.path or path.startswith(f"{row.path}/")]
        work = sum(flops[path] for path in inside)
    unbuilt = row.layer is not None and not row.layer.built
    cells = [
        f"{row.name} ({row.kind})",
        "?" if row.shape is None else str(row.shape),
        "? (not built)" if unbuilt else f"{count:,}",
    ]
    if flops is not None:
        cells.append(f"{work:,}")
    if branched:
        cells.append(row.sources or "-")
    if show_trainable:
        cells.append("-" if row.layer is None or not row.layer.weights else "NY"[row.layer.trainable])
    return cells


def _rows(model: Any, expand_nested: bool, path: str, indent: str = "") -> list[_Row]:
    rows = []
    for row in [_node_row(node) for node in model.nodes] or [_layer_row(layer) for layer in model.layers]:
        row = row._replace(name=indent + row.name, path=f"{path}/{row.name}")
        rows.append(row)
        if expand_nested and hasattr(row.layer, "nodes"):
            rows.extend(_rows(row.layer, True, row.path, f"{indent}  └ "))
    return rows


def _node_row(node: Node) -> _Row:
    sources = ", ".join(dict.fromkeys(_name(leaf.node.target) for leaf in node.inputs))
    layer = node.target if isinstance(node.target, Layer) else None
    kind = type(layer).__name__ if layer else "op"
    shape = pytree.map(lambda leaf: leaf.shape, node.outputs)
    return _Row(_name(node.target), kind, shape, layer, sources, "")


def _layer_row(layer: Layer) -> _Row:
    shape = pytree.map(lambda leaf: leaf.shape, layer.output) if len(layer._nodes) == 1 else layer._made
    return _Row(layer.name, type(layer).__name__, shape, layer, "", "")


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
    size = sum(weight.size * weight.dtype.itemsize for weight in weights)
    return f"{sum(weight.size for weight in weights):,} ({_bytes(size)})"


def _bytes(size: float) -> str:
    units = ["B", "KB", "MB", "GB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.2f} {units[0]}"


def _short(count: float) -> str:
    """A number with three digits and the prefix for thousands, millions, ..."""
    prefixes = ["", "k", "M", "G", "T"]
    while count >= 1000 and len(prefixes) > 1:
        count /= 1000
        prefixes.pop(0)
    return f"{count:.3g} {prefixes[0]}"
