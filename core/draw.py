"""Pictures of graphs: DOT text, and SVG by a small layered layout of our own (no graphviz needed).

A graph becomes a :class:`Picture` of boxes and edges; a picture too large to read is collapsed by layer; then
it is laid out (Sugiyama, Tagawa, Toda: "Methods for visual understanding of hierarchical system structures",
1981) and written.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import pytree
from .errors import TraceError
from .files import write_atomically
from .graph import Graph, trace
from .op import Node
from .tensor import Tensor
from .variable import StateScope


@dataclass
class Box:
    """One box of a picture. Boxes with the same ``cluster`` belong together: here the layer that they come from."""

    title: str
    detail: str = ""
    kind: str = "op"  # op, group, input, variable, constant, output
    cluster: str = ""
    note: str = ""  # shown when the pointer rests on the box
    count: int = 1  # ops that the box stands for
    order: int = 0  # boxes are computed in this order

    @property
    def width(self) -> float:
        """Width in the picture, in pixels."""
        return max(7.6 * len(self.title), 6.2 * len(self.detail), 30) + 16

    @property
    def height(self) -> float:
        """Height in the picture, in pixels."""
        return 36.0 if self.detail else 24.0


@dataclass
class Picture:
    """Boxes, and edges between them as pairs of their numbers, with the spec of what flows."""

    boxes: list[Box] = field(default_factory=list)
    edges: dict[tuple[int, int], str] = field(default_factory=dict)

    def add(self, box: Box) -> int:
        """Add a box and return its number."""
        self.boxes.append(box)
        return len(self.boxes) - 1

    def readers(self) -> dict[int, list[int]]:
        """The numbers of the boxes to which edges lead from each."""
        found: dict[int, list[int]] = {}
        for begin, end in self.edges:
            found.setdefault(begin, []).append(end)
        return found


class Drawing:
    """A drawn graph: ``dot`` and ``svg`` are the texts; notebooks show the picture."""

    def __init__(self, picture: Picture):
        self.picture = picture
        self.dot = _dot(picture)
        self.svg = _svg(picture)

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike) -> None:
        """Write the picture to a file, ``.svg`` or ``.dot``; an older file is replaced in one step."""
        path = Path(path)
        texts = {".svg": self.svg, ".dot": self.dot, ".gv": self.dot}
        if path.suffix.lower() not in texts:
            raise ValueError(f"draw: expected a file name that ends in .svg or .dot; received '{path}'.")
        write_atomically(path, lambda file: file.write(texts[path.suffix.lower()].encode()))


def draw(
    target: Graph | Callable,
    *inputs: Any,
    path: str | os.PathLike | None = None,
    limit: int = 120,
    kernels: bool = False,
) -> Drawing:
    """Draw a graph, or the graph of a function or model called with ``inputs``; no variable is changed.

    Args:
        target: a :class:`Graph`, or a function or model to trace.
        inputs: arguments to trace it with.
        path: file to write, ``.svg`` or ``.dot``.
        limit: a picture of more boxes is collapsed, layer by layer, until it is smaller.
        kernels: draw what runs: a box for each kernel that ops were fused into, with shapes and bytes.

    >>> drawing = draw(lambda x: x * x + 1, np.ones(3, "float32"))
    >>> [box.title for box in drawing.picture.boxes]
    ['input', 'multiply', 'add', 'result']
    """
    graph = _graph_of(target, inputs)
    picture = _collapsed(picture_of_kernels(graph) if kernels else picture_of(graph), limit)
    drawing = Drawing(picture)
    if path is not None:
        drawing.save(path)
    return drawing


def _graph_of(target: Any, inputs: tuple) -> Graph:
    if isinstance(target, Graph):
        if inputs:
            raise ValueError("draw: a graph is drawn as it is; inputs go with a function or model.")
        return target
    if not callable(target):
        raise TypeError(f"draw: expected a graph, a function or a model; received {type(target).__name__}.")
    try:
        return trace(target, *inputs)
    except TraceError:
        with StateScope():  # a model that is not built yet makes its variables when it is called
            target(*inputs)
        return trace(target, *inputs)


# -- from graph to picture -------------------------------------------------------------------------------------------


def _spec(value: Any) -> str:
    return f"{value.dtype.name}[{', '.join(map(str, value.shape))}]"


_SHOWN = ("spec", "axes", "axis", "window", "strides")


def _attributes(node: Node) -> str:
    text = " ".join(str(node.attributes[name]) for name in _SHOWN if name in node.attributes)
    return text if len(text) <= 24 else text[:23] + "…"


def picture_of(graph: Graph) -> Picture:
    """The picture of a graph: a box for each op, input, variable, constant array and result."""
    picture = Picture()
    made: dict[Any, int] = {}
    for symbol in graph.inputs:
        made[symbol.key] = picture.add(Box("input", _spec(symbol), "input", note=_spec(symbol)))
    for variable, symbol in graph.reads.items():
        made[symbol.key] = picture.add(Box(_short(variable.path), _spec(symbol), "variable", note=variable.path))
    for symbol in graph.captured():
        made[symbol.key] = picture.add(Box("captured", _spec(symbol), "input", note="from a trace around this one"))

    def source(value: Tensor) -> int | None:
        if value.node is None and value.size > 1 and value.key not in made:
            made[value.key] = picture.add(Box("constant", _spec(value), "constant", note=_spec(value)))
        return made.get(value.key)

    for order, node in enumerate(graph.nodes()):
        sources = [(source(value), _spec(value)) for value in node.inputs]
        note = f"{node.op.name} {_attributes(node)}\n{node.scope}".strip()
        box = Box(node.op.name, ", ".join(map(_spec, node.specs[:2])), "op", node.scope, note, order=order)
        number = picture.add(box)
        made.update({(node, i): number for i in range(len(node.specs))})
        picture.edges.update({(begin, number): text for begin, text in sources if begin is not None})
    ends = [("result", value, "output") for value in pytree.flatten(graph.result)]
    ends += [(_short(variable.path) + " =", value, "variable") for variable, value in graph.writes.items()]
    for title, value, kind in ends:
        begin = source(value)
        number = picture.add(Box(title, _spec(value), kind, note=title))
        if begin is not None:
            picture.edges[begin, number] = _spec(value)
    return picture


def picture_of_kernels(graph: Graph) -> Picture:
    """The picture of a graph as it is compiled: kernels, and the buffers between them."""
    from .compiler.plan import Plan

    plan = Plan(graph)
    picture = Picture()
    writers: dict[Any, int] = {}
    for kind, buffers in (("input", plan.inputs), ("variable", plan.variables.values())):
        for buffer in buffers:
            writers[buffer] = picture.add(Box(kind, _memory(buffer), kind, order=-1))
    for order, step in enumerate(plan.steps):
        nodes = step.group.nodes
        names = [node.op.name for node in nodes]
        title = " ".join(names[:3]) + (f" … ({len(names)} ops)" if len(names) > 3 else "")
        kind = "op" if step.kernel is not None or step.loops else "constant"
        number = picture.add(
            Box(title, "", kind, _short(nodes[-1].scope), "\n".join(map(repr, nodes)), len(nodes), order)
        )
        made = []
        for buffer in step.buffers:
            if buffer in writers:
                picture.edges[(writers[buffer], number)] = _memory(buffer)
            elif buffer.kind == "temporary":
                made.append(buffer)
        writers.update(dict.fromkeys(made, number))
        picture.boxes[number].detail = ", ".join(map(_memory, made)) or "in place"
    for buffer, _ in plan.results:
        if buffer in writers:
            result = picture.add(Box("result", _memory(buffer), "output", order=len(plan.steps)))
            picture.edges[(writers[buffer], result)] = _memory(buffer)
    return picture


def _memory(buffer: Any) -> str:
    shape = "×".join(map(str, buffer.shape)) or "scalar"
    size = f"{buffer.size} B" if buffer.size < 10_000 else f"{buffer.size / 1e6:.2f} MB"
    return f"{buffer.dtype.name} {shape}, {size}"


def _short(path: str) -> str:
    """The last two parts of a variable's path."""
    return "/".join(path.split("/")[-2:])


# -- collapsing ------------------------------------------------------------------------------------------------------


def _collapsed(picture: Picture, limit: int) -> Picture:
    depth = max((box.cluster.count("/") + 1 for box in picture.boxes if box.cluster), default=0)
    while len(picture.boxes) > limit and depth > 0:
        picture = _merged(picture, [_by_layer(box, i, depth) for i, box in enumerate(picture.boxes)])
        picture = _without_lone_sources(picture)
        depth -= 1
    if len(picture.boxes) > limit:
        picture = _merged(picture, _chains(picture))
    if len(picture.boxes) > limit:  # what has no layer: runs of equal length in the order of computation
        ops = [i for i, box in enumerate(picture.boxes) if box.kind in ("op", "group")]
        run = -(-len(ops) // max(limit // 2, 1))
        places = {number: place // run for place, number in enumerate(ops)}
        picture = _merged(picture, [("run", places[i]) if i in places else i for i in range(len(picture.boxes))])
        picture = _without_lone_sources(picture)
    return picture


def _by_layer(box: Box, number: int, depth: int) -> Any:
    return "/".join(box.cluster.split("/")[:depth]) if box.cluster and box.kind in ("op", "group") else number


def _chains(picture: Picture) -> list[Any]:
    """Groups of ops without a layer, each of which feeds only the next."""
    readers = picture.readers()
    free = [box.kind == "op" and not box.cluster for box in picture.boxes]
    keys: list[Any] = list(range(len(picture.boxes)))
    for number in reversed(range(len(keys))):
        following = readers.get(number, [])
        if len(following) == 1 and free[number] and free[following[0]]:
            keys[number] = keys[following[0]]
    return keys


def _merged(picture: Picture, keys: list[Any]) -> Picture:
    """One box for all boxes with the same key."""
    members: dict[Any, list[Box]] = {}
    for box, key in zip(picture.boxes, keys, strict=True):
        members.setdefault(key, []).append(box)
    result = Picture()
    numbers = {}
    for key, boxes in members.items():
        count = sum(box.count for box in boxes)
        if len(boxes) == 1:
            numbers[key] = result.add(boxes[0])
            continue
        layer = key if isinstance(key, str) else ""
        title = _short(layer) if layer else boxes[-1].title
        detail = f"{count} ops, {boxes[-1].detail.split('), ')[0]}"
        note = f"{layer}\n{', '.join(dict.fromkeys(box.title for box in boxes))}".strip()
        numbers[key] = result.add(Box(title, detail, "group", layer, note, count, boxes[-1].order))
    for (begin, end), text in picture.edges.items():
        edge = numbers[keys[begin]], numbers[keys[end]]
        if edge[0] != edge[1]:
            result.edges[edge] = text
    return result


def _without_lone_sources(picture: Picture) -> Picture:
    """Leave out the variables and constants that only collapsed layers touch; they belong to these."""
    pairs = [pair for begin, end in picture.edges for pair in ((begin, end), (end, begin))]
    touched = {number for number, other in pairs if picture.boxes[other].kind != "group"}
    kept = [i for i, box in enumerate(picture.boxes) if box.kind not in ("variable", "constant") or i in touched]
    numbers = {old: new for new, old in enumerate(kept)}
    edges = {
        (numbers[begin], numbers[end]): text
        for (begin, end), text in picture.edges.items()
        if begin in numbers and end in numbers
    }
    return Picture([picture.boxes[i] for i in kept], edges)


# -- DOT -------------------------------------------------------------------------------------------------------------

_FILLS = {"input": "#dbeafe", "variable": "#fef3c7", "constant": "#f3f4f6", "output": "#e5e7eb"}
_PALETTE = (
    *("#c7e9d0", "#f9d3c4", "#d7d3f2", "#f6e3a8", "#c4e3f3", "#f3cfe0"),
    *("#dfe6c0", "#cfd8e6", "#f0d9b5", "#c9e8e4", "#e8cdf0", "#d9d9d9"),
)


def _colours(picture: Picture) -> dict[str, str]:
    """A colour for each outermost layer, in the order of computation."""
    layers = dict.fromkeys(_layer(box) for box in picture.boxes if box.cluster)
    return {layer: _PALETTE[i % len(_PALETTE)] for i, layer in enumerate(layers)}


def _layer(box: Box) -> str:
    """The part of a box's layer path that gives the colour: below the model's own name, where there is more."""
    return "/".join(box.cluster.split("/")[:2])


def _fill(box: Box, colours: dict[str, str]) -> str:
    return _FILLS.get(box.kind) or colours.get(_layer(box), "#ffffff")


def _dot(picture: Picture) -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    colours = _colours(picture)
    lines = [
        "digraph {",
        '  node [shape=box style="filled" fontname="Helvetica" fontsize=10 margin="0.1,0.04"];',
        '  edge [arrowsize=0.6 color="#6b7280"];',
    ]
    clusters: dict[str, list[int]] = {}
    for number, box in enumerate(picture.boxes):
        clusters.setdefault(box.cluster, []).append(number)
    for index, (cluster, numbers) in enumerate(clusters.items()):
        if cluster:
            lines.append(f'  subgraph cluster_{index} {{ label={quoted(cluster)} fontsize=9 color="#9ca3af";')
        for number in numbers:
            box = picture.boxes[number]
            label = quoted(f"{box.title}\n{box.detail}".strip())
            style = "filled" if box.kind in ("op", "group") else "filled,rounded"
            lines.append(
                f"  n{number} [label={label} tooltip={quoted(box.note)} style={quoted(style)} "
                f"fillcolor={quoted(_fill(box, colours))}];"
            )
        if cluster:
            lines.append("  }")
    lines += [f"  n{begin} -> n{end} [tooltip={quoted(text)}];" for (begin, end), text in picture.edges.items()]
    return "\n".join([*lines, "}", ""])


# -- layout ----------------------------------------------------------------------------------------------------------

_ROW_GAP, _COLUMN_GAP = 34.0, 14.0


class _Layout:
    """Places for boxes: rows by longest path, order in a row by barycentres, then positions along it.

    Edges that cross several rows are broken into pieces by points, which are laid out like boxes of no width.
    """

    def __init__(self, picture: Picture):
        self.sizes = [(box.width, box.height) for box in picture.boxes]
        self.rows_of = self._ranks(picture)
        self.paths: dict[tuple[int, int], list[int]] = {}  # from the upper box to the lower one
        self.above: list[list[int]] = [[] for _ in picture.boxes]
        self.below: list[list[int]] = [[] for _ in picture.boxes]
        for begin, end in picture.edges:
            self._route(begin, end)
        self.rows: list[list[int]] = [[] for _ in range(max(self.rows_of, default=0) + 1)]
        for item, row in enumerate(self.rows_of):
            self.rows[row].append(item)
        self._order()
        self.x = self._positions()
        self.y, self.height = self._heights()

    @staticmethod
    def _ranks(picture: Picture) -> list[int]:
        """The row of each box. Merged layers may form cycles: edges against the order of computation do not count."""
        boxes = picture.boxes
        late = {"output": 2, "variable": 0, "input": 0, "constant": 0}
        sinks = {end for _, end in picture.edges} - {begin for begin, _ in picture.edges}

        def key(number: int) -> tuple:
            box = boxes[number]
            return (2 if number in sinks and box.kind == "variable" else late.get(box.kind, 1), box.order, number)

        rank = [0] * len(boxes)
        readers = {i: [end for end in ends if key(i) < key(end)] for i, ends in picture.readers().items()}
        for number in sorted(range(len(boxes)), key=key):
            for end in readers.get(number, []):
                rank[end] = max(rank[end], rank[number] + 1)
        for number in range(len(boxes)):  # what is given stands right above where it is used first
            if key(number)[0] == 0 and readers.get(number):
                rank[number] = max(min(rank[end] for end in readers[number]) - 1, 0)
        return rank

    def _route(self, begin: int, end: int) -> None:
        upper, lower = (begin, end) if self.rows_of[begin] <= self.rows_of[end] else (end, begin)
        path = [upper]
        for row in range(self.rows_of[upper] + 1, self.rows_of[lower]):
            path.append(len(self.rows_of))
            self.rows_of.append(row)
            self.sizes.append((4.0, 0.0))
            self.above.append([])
            self.below.append([])
        path.append(lower)
        for a, b in itertools.pairwise(path):
            self.below[a].append(b)
            self.above[b].append(a)
        self.paths[begin, end] = path

    def _order(self) -> None:
        place = {item: float(i) for row in self.rows for i, item in enumerate(row)}
        for sweep in range(8):
            down = sweep % 2 == 0
            neighbours = self.above if down else self.below
            for row in self.rows if down else reversed(self.rows):
                centres = {}
                for item in row:
                    near = neighbours[item] or [item]
                    centres[item] = sum(place[other] for other in near) / len(near)
                row.sort(key=centres.__getitem__)
                place.update({item: float(i) for i, item in enumerate(row)})

    def _positions(self) -> list[float]:
        x = [0.0] * len(self.rows_of)
        for row in self.rows:
            edge = 0.0
            for item in row:
                x[item] = edge + self.sizes[item][0] / 2
                edge += self.sizes[item][0] + _COLUMN_GAP
        for sweep in range(12):
            for row in self.rows if sweep % 2 == 0 else reversed(self.rows):
                wished = [self._wish(item, x, sweep) for item in row]
                for item, position in zip(row, self._spread(row, wished), strict=True):
                    x[item] = position
        left = min((x[i] - self.sizes[i][0] / 2 for i in range(len(x))), default=0)
        return [value - left for value in x]

    def _wish(self, item: int, x: list[float], sweep: int) -> float:
        near = self.above[item] if sweep % 2 == 0 else self.below[item]
        near = near or self.below[item] or self.above[item]
        return _median([x[other] for other in near]) if near else x[item]

    def _spread(self, row: list[int], wished: list[float]) -> list[float]:
        """Positions near the wished ones, in order and without overlap."""
        gaps = [(self.sizes[a][0] + self.sizes[b][0]) / 2 + _COLUMN_GAP for a, b in itertools.pairwise(row)]
        rightmost, leftmost = list(wished), list(wished)
        for i, gap in enumerate(gaps, 1):
            rightmost[i] = max(rightmost[i], rightmost[i - 1] + gap)
        for i in range(len(row) - 2, -1, -1):
            leftmost[i] = min(leftmost[i], leftmost[i + 1] - gaps[i])
        return [(a + b) / 2 for a, b in zip(rightmost, leftmost, strict=True)]

    def _heights(self) -> tuple[list[float], float]:
        y, top = [0.0] * len(self.rows_of), 0.0
        for row in self.rows:
            tallest = max((self.sizes[item][1] for item in row), default=0)
            for item in row:
                y[item] = top + tallest / 2
            top += tallest + _ROW_GAP
        return y, top - _ROW_GAP


def _median(values: list[float]) -> float:
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def _escape(text: str) -> str:
    """Text as it may stand in XML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


# -- SVG -------------------------------------------------------------------------------------------------------------

_MARGIN = 16.0


def _svg(picture: Picture) -> str:
    layout = _Layout(picture)
    colours = _colours(picture)
    legend = [(colour, layer) for layer, colour in colours.items()][:24]
    top = _MARGIN + (20.0 * len(legend) + 10 if legend else 0)
    width = max((layout.x[i] + layout.sizes[i][0] / 2 for i in range(len(layout.x))), default=0) + 2 * _MARGIN
    width = max(width, 40 + 7 * max((len(layer) for _, layer in legend), default=0))
    height = layout.height + top + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="#6b7280"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for i, (colour, layer) in enumerate(legend):
        y = _MARGIN + 20 * i
        parts.append(
            f'<rect x="{_MARGIN}" y="{y:.0f}" width="14" height="14" rx="2" fill="{colour}" stroke="#9ca3af"/>'
        )
        parts.append(f'<text x="{_MARGIN + 20}" y="{y + 11:.0f}" font-size="11" fill="#374151">{_escape(layer)}</text>')
    parts.append(f'<g transform="translate({_MARGIN} {top})">')
    parts += [_svg_edge(layout, begin, end, text) for (begin, end), text in picture.edges.items()]
    parts += [_svg_box(layout, number, box, colours) for number, box in enumerate(picture.boxes)]
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _svg_edge(layout: _Layout, begin: int, end: int, text: str) -> str:
    path = layout.paths[begin, end]
    points = [(layout.x[i], layout.y[i]) for i in path]
    points[0] = (points[0][0], points[0][1] + layout.sizes[path[0]][1] / 2)
    points[-1] = (points[-1][0], points[-1][1] - layout.sizes[path[-1]][1] / 2 - 1)
    x, y = points[0]
    line = f"M{x:.1f} {y:.1f}"
    for next_x, next_y in points[1:]:
        middle = (y + next_y) / 2
        line += f" C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}"
        x, y = next_x, next_y
    side = "end" if path[0] == begin else "start"  # an edge against the order of computation points upwards
    return (
        f'<path d="{line}" fill="none" stroke="#6b7280" stroke-width="1.1" stroke-opacity="0.75" '
        f'marker-{side}="url(#arrow)"><title>{_escape(text)}</title></path>'
    )


def _svg_box(layout: _Layout, number: int, box: Box, colours: dict[str, str]) -> str:
    x, y = layout.x[number], layout.y[number]
    width, height = layout.sizes[number]
    radius = 3 if box.kind in ("op", "group") else 11
    border = {"input": "#2563eb", "variable": "#d97706", "output": "#374151"}.get(box.kind, "#9ca3af")
    heavy = 2 if box.kind in ("group", "input", "output") else 1.2
    lines = (
        f'<g><title>{_escape(box.note)}</title><rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" rx="{radius}" fill="{_fill(box, colours)}" stroke="{border}" '
        f'stroke-width="{heavy}"/>'
    )
    title_y = y - 3 if box.detail else y + 4
    lines += (
        f'<text x="{x:.1f}" y="{title_y:.1f}" font-size="12" font-weight="600" text-anchor="middle" '
        f'fill="#111827">{_escape(box.title)}</text>'
    )
    if box.detail:
        lines += (
            f'<text x="{x:.1f}" y="{y + 11:.1f}" font-size="10" text-anchor="middle" fill="#4b5563">'
            f"{_escape(box.detail)}</text>"
        )
    return lines + "</g>"
