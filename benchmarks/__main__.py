"""The command line: see ``python -m benchmarks --help`` and docs/performance.md."""

from __future__ import annotations

import argparse
import sys

from . import check, import_time, input_pipeline, kernels, measure, report, workloads
from .frameworks import FRAMEWORKS

DEFAULT_FRAMEWORKS = "tenzoo,torch,torch-compile,keras-jax,keras-tf,keras-torch,jax"
DESCRIPTION = """
Time the same work in several frameworks, which take turns. There are three more commands: `python -m benchmarks
import` times the import, `python -m benchmarks kernels WORKLOAD` shows where the time of tenzoo's step goes, and
`python -m benchmarks input` compares the decoding and augmenting of JPEGs with PyTorch's DataLoader.
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; ends with a message where it makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=DESCRIPTION)
    add = parser.add_argument
    add("workloads", nargs="*", metavar="WORKLOAD", help=f"any of {', '.join(workloads.WORKLOADS)}")
    add(
        "--frameworks",
        default=DEFAULT_FRAMEWORKS,
        help=f"any of {','.join(FRAMEWORKS)} (default: %(default)s)",
    )
    add("--steps", type=int, help="steps of a framework in a round (default: what fits into --seconds)")
    add("--seconds", type=float, default=0.7, help="length of a turn (default: %(default)s)")
    add("--rounds", type=int, default=5, help="turns of every framework (default: %(default)s)")
    add("--threads", type=int, default=2, help="threads of every framework (default: %(default)s)")
    add("--timeout", type=float, default=900, help="seconds to wait for an answer (default: %(default)s)")
    add("--ceiling", type=float, default=190, help="GFLOP/s that the floor assumes (default: %(default)s)")
    add("--json", metavar="FILE", help="write everything that was measured")
    add("--python", action="append", default=[], metavar="NAME=PATH", help="interpreter of a framework")
    add("--check", action="store_true", help="compare losses and parameter counts instead of times")
    add("--tiny", action="store_true", help="small sizes, to try the benchmarks themselves")
    add("--list", action="store_true", help="show the workloads and stop")
    options = parser.parse_args(arguments)
    options.frameworks = options.frameworks.split(",")
    for names, known in ((options.workloads, workloads.WORKLOADS), (options.frameworks, FRAMEWORKS)):
        for name in names:
            if name not in known:
                parser.error(f"unknown: {name!r}; there are {', '.join(known)}")
    pythons = [text.partition("=") for text in options.python]
    for name, _, path in pythons:
        if name not in FRAMEWORKS or not path:
            parser.error(f"--python expects FRAMEWORK=PATH, one of {', '.join(FRAMEWORKS)}; received {name!r}")
    options.python = {name: path for name, _, path in pythons}
    options.workloads = options.workloads or workloads.DEFAULT
    return options


def show_list(options: argparse.Namespace) -> None:
    """Print the workloads with their sizes and floors."""
    for name in options.workloads:
        kind = workloads.workload(name, options.tiny)
        floor = 1e3 * measure.floor_seconds(name, options.tiny, options.ceiling)
        print(f"{name:<20} {kind.__doc__.splitlines()[0]}")
        print(f"{'':<20} batch {kind.batch}, {kind.flops() / 1e9:.4g} GFLOP, {floor:.4g} ms at the ceiling")


def installed(frameworks: list[str], settings: measure.Settings) -> dict[str, dict[str, str]]:
    """Versions of those frameworks that can be imported; says of the others why not."""
    found = {}
    for framework in frameworks:
        try:
            found[framework] = measure.versions(framework, settings)
        except measure.WorkerError as error:
            print(f"{framework} is left out: {error}", file=sys.stderr)
    return found


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["import"]:
        return import_time.main()
    if arguments[:1] == ["kernels"]:
        return kernels.main(arguments[1:])
    if arguments[:1] == ["input"]:
        return input_pipeline.main(arguments[1:])
    options = parse(arguments)
    if options.list:
        show_list(options)
        return 0
    settings = measure.Settings(
        steps=options.steps,
        seconds=options.seconds,
        rounds=options.rounds,
        threads=options.threads,
        timeout=options.timeout,
        tiny=options.tiny,
        pythons=options.python,
    )
    versions = installed(options.frameworks, settings)
    if not versions:
        return 1
    if options.check:
        agreeing = [check.check(name, list(versions), settings) for name in options.workloads]
        return int(not all(agreeing))
    measured: dict[str, list[measure.Result]] = {}
    lines: list[list[str]] = []
    for name in options.workloads:
        measured[name] = measure.measure(name, list(versions), settings)
        floor = measure.floor_seconds(name, options.tiny, options.ceiling)
        new = report.rows(name, measured[name], floor)
        lines += new
        print("\n".join("  ".join(cell for cell in line if cell) for line in new), file=sys.stderr, flush=True)
        if options.json:  # after every workload, so that a run that is broken off is not lost
            report.write_json(options.json, measured, versions, settings, options.ceiling)
    print(report.table(lines))
    print(report.summary(measured))
    return int(any(result.error for results in measured.values() for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
