"""Tables and JSON of what was measured."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import platform
import statistics
from typing import Any

from .measure import Result, Settings, floor_seconds

HEADINGS = (
    "workload",
    "framework",
    "ms/step",
    "best ms",
    "× torch",
    "of floor",
    "start s",
    "warm s",
    "MB",
    "note",
)
IDLE_LIMIT = 0.02  # share of a processor above which a waiting worker disturbs the others
STRANGERS_LIMIT = 0.1  # processors that others may keep busy before the figures are not to be trusted


def machine() -> dict[str, Any]:
    """What the figures depend on beside the software."""
    model = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": model,
        "processors": available,
        "memory_bytes": memory,
        "system": platform.platform(),
        "load_average": load,
    }


def rows(workload: str, results: list[Result], floor: float) -> list[list[str]]:
    """The lines of the table for one workload."""
    torch = next((result for result in results if result.framework == "torch"), None)
    return [_row(workload, result, torch, floor) for result in results]


def _row(workload: str, result: Result, torch: Result | None, floor: float) -> list[str]:
    seconds = result.seconds
    if seconds is None:
        return [workload, result.framework, *[""] * 7, result.error or ""]
    speed = result.speed_against(torch) if torch else None
    notes = [result.error] if result.error else []
    if result.idle is not None and result.idle > IDLE_LIMIT:
        notes.append(f"used {result.idle:.0%} of a processor while it waited")
    if result.strangers and statistics.median(result.strangers) > STRANGERS_LIMIT:
        notes.append(f"others kept {statistics.median(result.strangers):.1f} processors busy")
    return [
        workload,
        result.framework,
        _milliseconds(seconds),
        _milliseconds(result.best),
        f"{speed:.2f}" if speed else "",
        f"{floor / seconds:.0%}",
        "" if result.cold is None else f"{result.cold:.2f}",
        "" if result.warm is None else f"{result.warm:.2f}",
        "" if result.memory is None else f"{result.memory / 1e6:.0f}",
        "; ".join(notes),
    ]


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.4g}" if seconds >= 1e-4 else f"{1e3 * seconds:.4f}"


def table(lines: list[list[str]]) -> str:
    """Text in columns, a Markdown table."""
    lines = [list(HEADINGS), *lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    right = range(2, len(HEADINGS) - 1)

    def text(line: list[str]) -> str:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        )
        return f"| {' | '.join(cells)} |"

    rule = [("-" * (width - 1) + ":") if column in right else "-" * width for column, width in enumerate(widths)]
    return "\n".join([text(lines[0]), text(rule), *map(text, lines[1:])])


def summary(measured: dict[str, list[Result]]) -> str:
    """The geometric means over the workloads of the speed against PyTorch, by framework."""
    speeds: dict[str, list[float]] = {}
    for results in measured.values():
        torch = next((result for result in results if result.framework == "torch"), None)
        for result in results:
            speed = result.speed_against(torch) if torch and result is not torch else None
            if speed:
                speeds.setdefault(result.framework, []).append(speed)
    return "\n".join(
        f"{framework}: {math.exp(sum(map(math.log, found)) / len(found)):.2f} times as fast as torch, "
        f"the geometric mean over {len(found)} workload{'s' * (len(found) > 1)}"
        for framework, found in speeds.items()
    )


def write_json(
    path: str,
    measured: dict[str, list[Result]],
    versions: dict[str, dict[str, str]],
    settings: Settings,
    gigaflops: float,
) -> None:
    """Write everything that was measured, with the machine and the versions."""
    content = {
        "machine": machine(),
        "versions": versions,
        "settings": {k: v for k, v in dataclasses.asdict(settings).items() if k != "pythons"},
        "ceiling_gflops": gigaflops,
        "workloads": {
            workload: {
                "floor_seconds": floor_seconds(workload, settings.tiny, gigaflops),
                "results": [
                    {
                        **dataclasses.asdict(result),
                        "median_seconds": result.seconds,
                        "best_seconds": result.best,
                    }
                    for result in results
                ],
            }
            for workload, results in measured.items()
        },
    }
    pathlib.Path(path).write_text(json.dumps(content, indent=1) + "\n")
