"""Processes that work on elements, in order; where one dies, the error names the element it had."""

from __future__ import annotations

import collections
import contextlib
import mmap
import multiprocessing
import os
import pickle
import queue
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from .errors import DataError

AHEAD = 2  # elements that a worker has before it, beside the one in work
SLOTS = AHEAD + 2  # results of a worker that may be under way at once
SLOT = 1 << 22  # bytes for the arrays of a result in shared memory; larger ones go another way
PATIENCE = 1.0  # seconds between two looks whether the parent still lives; to wait for a process to end


def map_in_processes(
    apply: Callable[[int, Any], Any], elements: Iterable[tuple[int, Any]], count: int, describe: Callable
) -> Iterator:
    """Yield ``apply(number, element)`` for pairs of both, in order, worked out by ``count`` processes.

    ``describe(number, element)`` says in an error what was worked on. Processes are forked where that is the custom
    (Linux); elsewhere ``apply`` has to be picklable.

    Raises:
        DataError: where a worker dies; what ``apply`` raises otherwise.
    """
    team: list[_Worker] = []
    pending: collections.deque[_Worker] = collections.deque()
    try:
        for turn, task in enumerate(elements):
            if len(team) < count:
                team.append(_Worker(apply, describe))
            worker = team[turn % count]
            worker.ask(task)
            pending.append(worker)
            if len(pending) > (1 + AHEAD) * count:
                yield pending.popleft().answer()
        while pending:
            yield pending.popleft().answer()
    finally:
        for worker in team:
            worker.stop()


class _Worker:
    """A process and the tasks that it has not answered yet."""

    def __init__(self, apply: Callable, describe: Callable):
        forks = sys.platform != "darwin" and "fork" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if forks else "spawn")
        self._describe, self._tasks = describe, collections.deque()
        self._socket, other_end = socket.socketpair()
        # A forked process has it too. What nobody writes to costs no memory.
        self._shared = _Slots(mmap.mmap(-1, SLOTS * SLOT)) if forks else None
        self._process = context.Process(
            target=_work, args=(other_end, self._shared, apply, os.getpid()), name="tenzoo-map", daemon=True
        )
        try:
            self._process.start()
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            raise DataError(
                f"On this system a function for processes=True has to stand in a module, as others import it: {error}"
            ) from error
        other_end.close()

    def ask(self, task: tuple[int, Any]) -> None:
        self._tasks.append(task)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is dead: answer() will say so
            _send(self._socket, task)

    def answer(self) -> Any:
        """Return the result of the oldest task, or raise what went wrong with it."""
        try:
            while not wait([self._socket], PATIENCE):
                # Another process, forked at the same moment, may hold the other end open: no EOF would come.
                if not self._process.is_alive() and not wait([self._socket], 0):
                    raise EOFError
            done, value = _receive(self._socket, self._shared)
        except (EOFError, ConnectionResetError):
            raise DataError(self._last_words()) from None
        self._tasks.popleft()
        if not done:
            raise value
        return value

    def _last_words(self) -> str:
        self._process.join(PATIENCE)
        code = self._process.exitcode
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            how += " (out of memory?)" if -code == getattr(signal, "SIGKILL", None) else ""
        else:
            how = f"ended with status {code}"
        return f"A worker process {how} while it had {self._describe(*self._tasks[0])}."

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._socket.close()


class _Slots:
    """Shared memory in equal parts, taken in turn: the n-th result is written to, and read from, the same one."""

    def __init__(self, memory: mmap.mmap):
        self._whole, self._taken = memoryview(memory), 0

    def next(self) -> memoryview:
        begin = self._taken % SLOTS * SLOT
        self._taken += 1
        return self._whole[begin : begin + SLOT]


def _work(connection: socket.socket, shared: _Slots | None, apply: Callable, parent: int) -> None:
    """Answer tasks until the parent ends this process, or is gone itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tasks: queue.SimpleQueue = queue.SimpleQueue()
    # Tasks are read while a result is being sent: else both sides could wait for the other to read.
    threading.Thread(target=_listen, args=(connection, tasks, parent), daemon=True).start()
    while True:
        number, element = tasks.get()
        try:
            answer = True, apply(number, element)
        except Exception as error:
            answer = False, error
        try:
            _send(connection, answer, shared)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            problem = DataError(f"The result for element {number} cannot leave its process: {error}")
            _send(connection, (False, problem), shared)


def _listen(connection: socket.socket, tasks: queue.SimpleQueue, parent: int) -> None:
    try:
        while True:
            while not wait([connection], PATIENCE):
                if os.getppid() != parent:
                    return
            tasks.put(_receive(connection))
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)  # without the clean-up of a copy of the parent, whose locks nobody may ever open


def _send(connection: socket.socket, value: Any, shared: _Slots | None = None) -> None:
    """Send a value, its arrays through shared memory where they fit: multiprocessing would copy them several times."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    arrays = [buffer.raw() for buffer in buffers]
    sizes = [array.nbytes for array in arrays]
    slot = shared.next() if shared else memoryview(b"")
    fits = sum(sizes) <= len(slot)
    if fits:
        for array in arrays:
            slot[: array.nbytes], slot = array, slot[array.nbytes :]
    connection.sendall(struct.pack(f"<?2Q{len(sizes)}Q", fits, len(body), len(sizes), *sizes))
    for part in (body, *(() if fits else arrays)):
        connection.sendall(part)


def _receive(connection: socket.socket, shared: _Slots | None = None) -> Any:
    fits, length, count = struct.unpack("<?2Q", _read(connection, 17))
    sizes = struct.unpack(f"<{count}Q", _read(connection, 8 * count))
    body = _read(connection, length)
    slot = shared.next() if shared else memoryview(b"")
    arrays = []
    for size in sizes:
        if fits:
            arrays.append(np.array(slot[:size]))
            slot = slot[size:]
        else:
            arrays.append(_read(connection, size))
    return pickle.loads(body, buffers=arrays)


def _read(connection: socket.socket, size: int) -> np.ndarray:
    content = np.empty(size, np.uint8)  # unlike a bytearray, not cleared first
    rest = memoryview(content)
    while rest:
        received = connection.recv_into(rest)
        if not received:
            raise EOFError
        rest = rest[received:]
    return content
