"""A process that times one workload in one framework, as :mod:`benchmarks.measure` tells it to.

It answers JSON lines with JSON lines: ``{"run": k, "seconds": s}`` with the seconds of k steps, or with those
of as many as fit into s; ``{"losses": k}`` with the losses of k steps; ``{"save": path}`` and
``{"load": path}`` write and read the weights; ``{"memory": true}`` tells the peak, and the versions at work. It
ends with its input.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import traceback
from typing import Any, TextIO

import numpy as np

from . import frameworks
from .workloads import BATCHES, WORKLOADS, workload

LEAST = 3  # steps in a round
MOST = 2000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=frameworks.FRAMEWORKS)
    parser.add_argument("workload", choices=WORKLOADS, nargs="?")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--build-only", action="store_true", help="wait for commands before the first step")
    arguments = parser.parse_args()
    answers = _take_stdout()
    try:
        if arguments.workload is None:
            _answer(answers, versions=frameworks.versions(arguments.framework))
        else:
            _limit_processors(arguments.threads)
            Worker(arguments, answers).serve()
    except Exception as error:
        traceback.print_exc()
        _answer(answers, error=f"{type(error).__name__}: {error}")


def _take_stdout() -> TextIO:
    """Keep stdout for the answers; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _limit_processors(threads: int) -> None:
    """Libraries without a setting for it take as many threads as there are processors."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _answer(answers: TextIO, **content: Any) -> None:
    print(json.dumps(content), file=answers, flush=True)


def peak_memory() -> int:
    """The largest amount of memory that this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Worker:
    """The framework at work, and the loop that listens."""

    def __init__(self, arguments: argparse.Namespace, answers: TextIO):
        self.answers = answers
        self.name = arguments.framework
        kind = frameworks.framework(arguments.framework)
        self.framework = kind(workload(arguments.workload, arguments.tiny), arguments.threads)
        self.done = 0
        if not arguments.build_only:
            self.framework.step(0)
            self.done = 1
        _answer(answers, ready=True, parameters=self.framework.parameters())

    def serve(self) -> None:
        """Answer until the input ends."""
        for line in sys.stdin:
            command = json.loads(line)
            (name,) = (name for name in command if name != "seconds")
            _answer(self.answers, **getattr(self, f"do_{name}")(command[name], command))

    def do_run(self, steps: int | None, command: dict) -> dict:
        warm = self._times(2)  # the caches are those of another process
        if steps is None:
            steps = round(command["seconds"] / max(statistics.median(warm), 1e-9))
            steps = min(max(steps, LEAST), MOST)
        return {"times": self._times(steps)}

    def _times(self, steps: int) -> list[float]:
        times = self.framework.times(self.done, steps)
        self.done += steps
        return times

    def do_losses(self, steps: int, command: dict) -> dict:
        return {"losses": [float(self.framework.step(index % BATCHES)) for index in range(steps)]}

    def do_save(self, path: str, command: dict) -> dict:
        np.savez(path, *self.framework.get_weights())
        return {"saved": path}

    def do_load(self, path: str, command: dict) -> dict:
        with np.load(path) as arrays:
            self.framework.set_weights([arrays[name] for name in arrays.files])
        return {"loaded": path}

    def do_memory(self, wanted: bool, command: dict) -> dict:
        return {"memory": peak_memory(), "versions": frameworks.versions(self.name)}
