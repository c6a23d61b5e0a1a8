"""Workers taking turns: the measurement of one workload in several frameworks."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from . import workloads

FOLDER = pathlib.Path(__file__).parent
# Runs this folder as the package `benchmarks` without its parent on the path, whose other folders would hide
# packages of the same name.
BOOT = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "benchmarks", {str(FOLDER / "__init__.py")!r}, submodule_search_locations=[{str(FOLDER)!r}])
package = sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from benchmarks.worker import main
main()
"""
CACHES = ("TENZOO_CACHE", "TORCHINDUCTOR_CACHE_DIR")  # variables that name folders of compiled code


class WorkerError(RuntimeError):
    """A worker failed, died or took too long; the message says why."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        steps: of a worker in a round; None for as many as fit into ``seconds``, at least three.
        rounds: how often all workers have their turn.
        pause: seconds between two turns, in which the threads of the one before fall asleep.
        timeout: seconds after which a worker that does not answer is given up.
        pythons: interpreters by framework, other than this one.
    """

    steps: int | None = None
    seconds: float = 0.7
    rounds: int = 5
    threads: int = 2
    pause: float = 0.3
    timeout: float = 900.0
    tiny: bool = False
    pythons: dict[str, str] = dataclasses.field(default_factory=dict)

    def python(self, framework: str) -> str:
        """The interpreter of a framework."""
        variable = f"TENZOO_BENCH_PYTHON_{framework.upper().replace('-', '_')}"
        return self.pythons.get(framework) or os.environ.get(variable) or sys.executable


@dataclasses.dataclass
class Result:
    """What one framework did on one workload.

    Attributes:
        rounds: seconds of every step, by round.
        cold, warm: seconds from the start of a process to the end of its first step; warm is with the code
            that an earlier process compiled, None where the framework keeps none.
        memory: peak of the process in bytes.
        parameters: number of trainable parameters.
        idle: share of a processor that the worker used while others were timed; None where it cannot be told.
        versions: those of the packages that the worker used.
        strangers: processors that processes other than the worker kept busy, by round.
        error: why there is no result.
    """

    framework: str
    rounds: list[list[float]] = dataclasses.field(default_factory=list)
    cold: float | None = None
    warm: float | None = None
    memory: int | None = None
    parameters: int | None = None
    idle: float | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    strangers: list[float] = dataclasses.field(default_factory=list)
    error: str | None = None

    @property
    def seconds(self) -> float | None:
        """The median step."""
        times = [seconds for times in self.rounds for seconds in times]
        return statistics.median(times) if times else None

    @property
    def best(self) -> float | None:
        """The shortest step."""
        return min((seconds for times in self.rounds for seconds in times), default=None)

    def speed_against(self, other: Result) -> float | None:
        """How many times as fast as ``other``: the median over the rounds of the ratio of their medians."""
        pairs = zip(self.rounds, other.rounds)
        ratios = [statistics.median(theirs) / statistics.median(own) for own, theirs in pairs]
        return statistics.median(ratios) if ratios else None


class Worker:
    """A worker process; ``seconds`` is the time from its start until it was ready, its first step done."""

    def __init__(self, framework: str, workload: str | None, settings: Settings, cache: str, build_only: bool = False):
        self.framework, self.settings = framework, settings
        command = [settings.python(framework), "-c", BOOT, framework]
        if workload is not None:
            command += [workload, f"--threads={settings.threads}"]
            command += ["--tiny"] * settings.tiny + ["--build-only"] * build_only
        threads = dict.fromkeys(("OMP_NUM_THREADS", "TENZOO_NUM_THREADS"), str(settings.threads))
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by close()
        start = time.perf_counter()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=cache,
                env={**os.environ, **threads, **quiet, **dict.fromkeys(CACHES, cache)},
            )
        except OSError as error:
            self._errors.close()
            raise WorkerError(f"{command[0]} does not start: {error.strerror}") from None
        try:
            self.first = self._read()
        except BaseException:
            self.close()
            raise
        self.seconds = time.perf_counter() - start

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, **command: Any) -> dict:
        """Send a command and wait for the answer."""
        try:
            print(json.dumps(command), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise WorkerError(self._last_words()) from None
        return self._read()

    def _read(self) -> dict:
        timer = threading.Timer(self.settings.timeout, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            overdue = not timer.is_alive()
            timer.cancel()
        if overdue:
            raise WorkerError(f"no answer within {self.settings.timeout:.0f} s")
        if not line:
            raise WorkerError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"ended with status {status}" + (f": {lines[-1]}" if lines else "")

    def processor_seconds(self) -> float | None:
        """Processor time used so far; None where /proc does not tell."""
        try:
            with open(f"/proc/{self._process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def versions(framework: str, settings: Settings) -> dict[str, str]:
    """Versions of a framework's packages; raises WorkerError where it is not installed."""
    with tempfile.TemporaryDirectory() as folder, Worker(framework, None, settings, folder) as worker:
        return worker.first["versions"]


def measure(workload: str, frameworks: list[str], settings: Settings) -> list[Result]:
    """Time one workload in every framework."""
    results = [Result(framework) for framework in frameworks]
    workers: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for result in results:
                try:
                    workers[result.framework] = _start(result, workload, settings, folder)
                except WorkerError as error:
                    result.error = str(error)
            taking_part = [result for result in results if result.framework in workers]
            _take_turns(taking_part, workers, settings)
        finally:
            for worker in workers.values():
                worker.close()
    return results


def _start(result: Result, workload: str, settings: Settings, folder: str) -> Worker:
    """Start a worker; where compiled code is kept, a second time with what the first has left."""
    from .frameworks import FRAMEWORKS

    cache = os.path.join(folder, result.framework)
    os.mkdir(cache)
    worker = Worker(result.framework, workload, settings, cache)
    result.cold = worker.seconds
    if FRAMEWORKS[result.framework].caches:
        worker.close()
        worker = Worker(result.framework, workload, settings, cache)
        result.warm = worker.seconds
    result.parameters = worker.first["parameters"]
    return worker


def _take_turns(results: list[Result], workers: dict[str, Worker], settings: Settings) -> None:
    used_idly = {result.framework: 0.0 for result in results}
    waited = dict(used_idly)
    for _ in range(settings.rounds):
        for result in results:
            if result.error is None:
                time.sleep(settings.pause)
                seconds, used = _turn(result, workers, settings)
                for framework in used.keys() - {result.framework}:
                    used_idly[framework] += used[framework]
                    waited[framework] += seconds
    for result in results:
        if waited[result.framework]:
            result.idle = used_idly[result.framework] / waited[result.framework]


def _turn(result: Result, workers: dict[str, Worker], settings: Settings) -> tuple[float, dict[str, float]]:
    """Let one worker run; returns how long it took, and the processor time of every worker meanwhile."""
    worker = workers[result.framework]
    before = {framework: other.processor_seconds() for framework, other in workers.items()}
    busy, start = _busy_seconds(), time.perf_counter()
    try:
        result.rounds.append(worker.ask(run=settings.steps, seconds=settings.seconds)["times"])
        seconds, busy_after = time.perf_counter() - start, _busy_seconds()
        answer = worker.ask(memory=True)
        result.memory, result.versions = answer["memory"], answer["versions"]
    except WorkerError as error:
        result.error = str(error)
        return 0.0, {}
    after = {framework: other.processor_seconds() for framework, other in workers.items()}
    used = {f: after[f] - before[f] for f in workers if after[f] is not None and before[f] is not None}
    if busy is not None and result.framework in used:
        result.strangers.append(max((busy_after - busy - used[result.framework]) / seconds, 0.0))
    return seconds, used


def _busy_seconds() -> float | None:
    """Time that all processors together have been busy; None where /proc does not tell."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, *interrupts = map(int, file.readline().split()[1:9])
    except OSError:
        return None
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def floor_seconds(workload: str, tiny: bool, gigaflops: float) -> float:
    """The time that the arithmetic of a step takes at so many GFLOP/s."""
    return workloads.workload(workload, tiny).flops() / (gigaflops * 1e9)
