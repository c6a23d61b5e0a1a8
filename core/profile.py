"""profile: where the time of a compiled function goes, kernel by kernel."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .files import write_atomically
from .graph import Graph
from .jit import CompiledFunction, jit
from .op import Node
from .primitives.contraction import split_axes


class Row(NamedTuple):
    """One kernel: what it computes and for which layer, and its share of a run."""

    name: str
    scope: str
    milliseconds: float
    gigaflops: float  # a convolution counts as sums over its filter, whatever way it is done
    gigabytes: float


class Profile:
    """What :func:`profile` found. ``rows`` are the kernels in the order in which they run."""

    def __init__(self, rows: list[Row], milliseconds: float):
        self.rows = rows
        self.milliseconds = milliseconds

    def table(self, most: int = 30) -> str:
        """The kernels that take longest: milliseconds, share, GFLOP/s, GB/s, ops and layer."""
        lines = [f"{'ms':>9} {'share':>6} {'GFLOP/s':>8} {'GB/s':>6}  kernel"]
        for row in sorted(self.rows, key=lambda row: -row.milliseconds)[:most]:
            seconds = row.milliseconds / 1e3 or math.inf
            lines.append(
                f"{row.milliseconds:9.3f} {row.milliseconds / self.milliseconds:6.1%} {row.gigaflops / seconds:8.1f} "
                f"{row.gigabytes / seconds:6.1f}  {row.name}{'  in ' + row.scope if row.scope else ''}"
            )
        lines.append(f"{self.milliseconds:9.3f} {'':6} {'':8} {'':6}  in all, {len(self.rows)} kernels")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def save(self, path: str | os.PathLike) -> None:
        """Write a trace for chrome://tracing or Perfetto."""
        events, start = [], 0.0
        for row in self.rows:
            arguments = {"layer": row.scope, "GFLOP": row.gigaflops, "GB": row.gigabytes}
            event = {"name": row.name, "ph": "X", "pid": 0, "tid": 0, "args": arguments}
            events.append({**event, "ts": start, "dur": row.milliseconds * 1e3})
            start += row.milliseconds * 1e3
        write_atomically(path, lambda file: file.write(json.dumps({"traceEvents": events}).encode()))


def profile(function: Callable, *arguments: Any, runs: int = 10, path: str | os.PathLike | None = None) -> Profile:
    """Run a function compiled, print its kernels by time, and return them.

    Times are the shortest of ``runs``, read from the processor's clock between kernels. Variables are assigned as in
    any call. FLOPs count the products of contractions and convolutions; bytes count every buffer of a kernel once.

    Args:
        function: a function, a model, or what :func:`jit` returned; for a training step ``model.train_step``.
        arguments: what to call it with.
        path: where to write a Chrome trace.
    """
    compiled = function if isinstance(function, CompiledFunction) else jit(function)
    compiled(*arguments)
    plan = compiled.plan(*arguments)
    if plan is None:
        raise ValueError("The function could not be compiled; the log 'tenzoo.compile' tells why.")
    ticks, seconds = [], []
    for _ in range(runs):
        start = time.perf_counter()
        compiled(*arguments)
        seconds.append(time.perf_counter() - start)
        ticks.append([program.ticks.copy() for program, _ in plan.programs])
    rate = _ticks_per_millisecond(ticks, seconds)
    rows = []
    for i, (program, steps) in enumerate(plan.programs):
        shortest = np.min([np.diff(run[i]) for run in ticks], axis=0) / rate * program.iterations / program.beside
        # Of a group's kernels, one that packs or adds up among them, the longest does the work that is counted.
        longest = {id(steps[k].group): k for k in np.argsort(shortest)}
        for k, (step, milliseconds) in enumerate(zip(steps, shortest, strict=True)):
            works = longest[id(step.group)] == k
            rows.append(_row(step, float(milliseconds), program.iterations, works))
    found = Profile(rows, 1e3 * min(seconds))
    print(found)
    if path is not None:
        found.save(path)
    return found


def _ticks_per_millisecond(ticks: list, seconds: list[float]) -> float:
    """The clock's rate, from the distance between the first and the last run."""
    if len(ticks) < 2 or not ticks[0]:
        return 1e6
    return float(ticks[-1][0][0] - ticks[0][0][0]) / (1e3 * sum(seconds[1:]))


def _row(step: Any, milliseconds: float, iterations: int, works: bool) -> Row:
    nodes = step.group.nodes
    names = [node.op.name for node in nodes]
    text = " ".join(names[:5]) + (f" … ({len(names)} ops)" if len(names) > 5 else "")
    shape = "×".join(map(str, nodes[-1].specs[0].shape))
    flops = sum(map(_flops, nodes)) * iterations if works else 0
    size = sum(buffer.size for buffer in step.buffers) * (1 if iterations > 1 else iterations)
    return Row(f"{text} [{shape}]", nodes[-1].scope, milliseconds, flops / 1e9, size / 1e9)


def _flops(node: Node) -> int:
    """Multiplications and additions of a contraction; other work is not counted."""
    name, made = node.op.name, math.prod(node.specs[0].shape)
    if name == "contract":
        a = node.attributes["spec"].split(",")[0]
        extents = dict(zip(a, node.inputs[0].shape, strict=True))
        return 2 * made * math.prod(extents[c] for c in split_axes(node.attributes["spec"])[3])
    if name.startswith("attention"):
        return _attention_flops(node)
    if name in ("conv", "conv_input_gradient"):
        kernel = node.inputs[1].shape
        output = made if name == "conv" else math.prod(node.inputs[0].shape)
        return 2 * output * math.prod(kernel[:-1])
    if name == "conv_filter_gradient":
        return 2 * math.prod(node.inputs[1].shape) * math.prod(node.specs[0].shape[:-1])
    return 0


def _attention_flops(node: Node) -> int:
    """Of the pairs of queries and keys that can see each other before a mask."""
    (batch, queries, heads, depth), keys, width = node.inputs[0].shape, *node.inputs[2].shape[1::2]
    pairs = queries * keys
    if node.attributes["causal"]:
        seen = min(queries, keys)
        pairs = seen * (seen + 1) // 2 + (queries - seen) * keys
    products = (3, 2) if node.op.name == "attention_gradient" else (1, 1)
    return 2 * batch * heads * pairs * (products[0] * depth + products[1] * width)


def count_flops(graph: Graph) -> dict[str, int]:
    """Multiplications and additions of the products of matrices and convolutions in a graph, by layer path."""
    counts: dict[str, int] = {}
    for node in graph.nodes():
        counts[node.scope] = counts.get(node.scope, 0) + _flops(node)
        if node.op.name == "scan":
            inner = sum(count_flops(node.attributes["body"].graph).values())
            counts[node.scope] += inner * node.attributes["length"]
    return counts


def count_activations(graph: Graph) -> int:
    """Bytes that flow between the layers of a graph, its results among them; each value counts once."""
    inputs = {value.key for value in (*graph.inputs, *graph.reads.values())}
    flowing = [v for node in graph.nodes() for v in node.inputs if v.node is not None and v.node.scope != node.scope]
    flowing += [value for value in graph.outputs if value.node is not None]
    values = {value.key: value for value in flowing if value.key not in inputs}
    return sum(value.size * value.dtype.itemsize for value in values.values())
