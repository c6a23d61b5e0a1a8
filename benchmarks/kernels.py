"""Where the time of tenzoo's step goes: ``python -m benchmarks kernels WORKLOAD``.

Kernels that do the same on the same shapes, in different layers, are added up.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time

from .frameworks import Tenzoo
from .workloads import WORKLOADS, workload


def show(name: str, count: int, tiny: bool) -> None:
    """Print the ``count`` kernels that take longest."""
    from tenzoo.core.profile import profile

    start = time.perf_counter()
    framework = Tenzoo(workload(name, tiny), 0)
    framework.step(0)
    started = time.perf_counter() - start
    with contextlib.redirect_stdout(io.StringIO()):  # its own table has a line for every launch
        found = profile(framework.function, *framework.arguments(0))
    alike: dict[str, list] = {}
    for row in found.rows:
        alike.setdefault(row.name, []).append(row)
    print(f"{name}: {found.milliseconds:.3f} ms a step at best, the first after {started:.1f} s")
    print(f"{'share':>6} {'ms':>9} {'GFLOP/s':>8} {'GB/s':>6}")
    for text, rows in sorted(alike.items(), key=lambda item: -sum(row.milliseconds for row in item[1]))[:count]:
        milliseconds = sum(row.milliseconds for row in rows)
        seconds = max(milliseconds, 1e-9) / 1e3
        flops, size = sum(row.gigaflops for row in rows) / seconds, sum(row.gigabytes for row in rows) / seconds
        share = milliseconds / found.milliseconds
        print(f"{share:6.1%} {milliseconds:9.3f} {flops:8.1f} {size:6.1f}  {len(rows)} × {text}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks kernels", description=__doc__)
    parser.add_argument("workloads", nargs="+", choices=WORKLOADS)
    parser.add_argument("--count", type=int, default=12, help="kernels to show (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the benchmarks themselves")
    options = parser.parse_args(arguments)
    for name in options.workloads:
        show(name, options.count, options.tiny)
    return 0
