"""The steps of a pipeline that change, drop, reorder or join elements."""

from __future__ import annotations

import collections
import functools
import itertools
import math
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np

from ..core import pytree
from ._sources import Node
from .errors import DataError

FOREVER = 2**32  # passes of an endless repeat: each pass of each epoch still has a number of its own


def call(step: str, function: Callable, number: int, element: Any, **options: Any) -> Any:
    """Call a function on an element, a tuple as several arguments; errors name step, function and element."""
    try:
        return function(*element, **options) if type(element) is tuple else function(element, **options)
    except Exception as error:
        where = f"{step}({_name(function)}) failed on {describe(number, element)}"
        raise DataError(f"{where}: {type(error).__name__}: {error}") from error


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)


def describe(number: int, element: Any) -> str:
    """Say which element it is: its number, and the texts in it, such as the path of a file."""
    texts = [repr(str(leaf)) for leaf in pytree.flatten(element) if isinstance(leaf, str)]
    return f"element {number}" + (f" ({', '.join(texts)})" if texts else "")


def call_seeded(function: Callable, seed: int | None, epoch: int, number: int, element: Any) -> Any:
    """Call a mapped function, with a seed on ``rng=`` too: a generator for this element of this epoch."""
    if seed is None:
        return call("map", function, number, element)
    return call("map", function, number, element, rng=np.random.default_rng((seed, epoch, number)))


class Map(Node):
    """A function of each element, on one or several threads or processes, in order."""

    def __init__(self, parent: Node, function: Callable, num_parallel: int, seed: int | None, processes: bool = False):
        self._parent, self._function, self._num_parallel, self._seed = parent, function, num_parallel, seed
        self._processes = processes
        self.cardinality = parent.cardinality

    def _over(self, parent: Node | None) -> Node | None:
        return parent and Map(parent, self._function, self._num_parallel, self._seed, self._processes)

    def shuffled(self, seed, reshuffle):
        return self._over(self._parent.shuffled(seed, reshuffle))

    def sliced(self, begin, end):
        # Random numbers go by an element's number, which dropping the first elements would change.
        return self._over(self._parent.sliced(begin, end)) if begin == 0 or self._seed is None else None

    def elements(self, epoch, start):
        elements = enumerate(self._parent.elements(epoch, start), start)
        apply = functools.partial(call_seeded, self._function, self._seed, epoch)
        if self._processes:
            from ._workers import map_in_processes  # multiprocessing takes its time to import

            what = functools.partial(_describe_mapped, self._function)
            yield from map_in_processes(apply, elements, self._num_parallel, what)
            return
        if self._num_parallel == 1:
            for number, element in elements:
                yield apply(number, element)
            return
        pool = ThreadPoolExecutor(self._num_parallel, thread_name_prefix="tenzoo-map")
        pending: collections.deque = collections.deque()
        try:
            for number, element in elements:
                pending.append(pool.submit(apply, number, element))
                if len(pending) > 2 * self._num_parallel:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _describe_mapped(function: Callable, number: int, element: Any) -> str:
    return f"{describe(number, element)} of map({_name(function)})"


class Filter(Node):
    """The elements for which a predicate holds."""

    def __init__(self, parent: Node, predicate: Callable):
        self._parent, self._predicate = parent, predicate

    def shuffled(self, seed, reshuffle):
        parent = self._parent.shuffled(seed, reshuffle)
        return parent and Filter(parent, self._predicate)

    def elements(self, epoch, start):
        kept = (
            element
            for number, element in enumerate(self._parent.elements(epoch, 0))
            if call("filter", self._predicate, number, element)
        )
        yield from itertools.islice(kept, start, None)


class Shuffle(Node):
    """A stream in random order: each element takes the place of a random one in a buffer."""

    def __init__(self, parent: Node, buffer_size: int | None, seed: int, reshuffle: bool):
        self._parent, self._buffer_size, self._seed, self._reshuffle = parent, buffer_size, seed, reshuffle
        self.cardinality = parent.cardinality

    def elements(self, epoch, start):
        yield from itertools.islice(self._mixed(epoch), start, None)

    def _mixed(self, epoch):
        bits = np.random.PCG64((self._seed, epoch if self._reshuffle else 0))
        elements = self._parent.elements(epoch, 0)
        buffer = list(itertools.islice(elements, self._buffer_size))
        for element in elements:
            place = bits.random_raw() % len(buffer)
            chosen, buffer[place] = buffer[place], element
            yield chosen
        while buffer:
            place = bits.random_raw() % len(buffer)
            buffer[place], buffer[-1] = buffer[-1], buffer[place]
            yield buffer.pop()


class Slice(Node):
    """The elements ``[begin:end]`` of a stream."""

    def __init__(self, parent: Node, begin: int, end: int | None):
        self._parent, self._begin, self._end = parent, begin, end
        if parent.cardinality is not None:
            last = parent.cardinality if end is None else min(end, parent.cardinality)
            self.cardinality = max(0, last - begin)

    def elements(self, epoch, start):
        count = None if self._end is None else max(0, self._end - self._begin - start)
        if count != 0:
            yield from itertools.islice(self._parent.elements(epoch, self._begin + start), count)


class Repeat(Node):
    """Several passes over a dataset, each with an epoch number of its own."""

    def __init__(self, parent: Node, count: int | None):
        self._parent, self._count = parent, count
        if count == 0 or parent.cardinality == 0:
            self.cardinality = 0
        elif count is None:
            self.cardinality = math.inf
        elif parent.cardinality is not None:
            self.cardinality = count * parent.cardinality

    def elements(self, epoch, start):
        size = self._parent.cardinality
        if size:  # whole passes can be skipped
            first, offset = divmod(start, size)
            yield from self._passes(epoch, int(first), int(offset))
        else:
            yield from itertools.islice(self._passes(epoch, 0, 0), start, None)

    def _passes(self, epoch, first, offset):
        count = FOREVER if self._count is None else self._count
        for number in range(first, count):
            element = exhausted = object()
            for element in self._parent.elements(epoch * count + number, offset):
                yield element
            if element is exhausted:  # an endless repeat of nothing would never come back
                return
            offset = 0


class Zip(Node):
    """Tuples of corresponding elements, as many as the shortest dataset has."""

    def __init__(self, parents: tuple[Node, ...]):
        self._parents = parents
        sizes = [parent.cardinality for parent in parents]
        self.cardinality = None if None in sizes else min(sizes)

    def elements(self, epoch, start):
        yield from zip(*[parent.elements(epoch, start) for parent in self._parents])


class Concatenate(Node):
    """The elements of one dataset after those of another."""

    def __init__(self, parents: tuple[Node, ...]):
        self._parents = parents
        sizes = [parent.cardinality for parent in parents]
        self.cardinality = None if None in sizes else sum(sizes)

    def elements(self, epoch, start):
        for parent in self._parents:
            size = parent.cardinality
            if size is None:
                for element in parent.elements(epoch, 0):
                    if start:
                        start -= 1
                    else:
                        yield element
            elif start >= size:
                start -= size
            else:
                yield from parent.elements(epoch, start)
                start = 0


class Enumerate(Node):
    """Pairs of a running number and an element."""

    def __init__(self, parent: Node, first: int):
        self._parent, self._first = parent, first
        self.cardinality = parent.cardinality

    def elements(self, epoch, start):
        yield from enumerate(self._parent.elements(epoch, start), self._first + start)


class Prefetch(Node):
    """The elements of a dataset, made ahead of their use on a background thread."""

    def __init__(self, parent: Node, buffer_size: int):
        self._parent, self._buffer_size = parent, buffer_size
        self.cardinality = parent.cardinality

    def shuffled(self, seed, reshuffle):
        parent = self._parent.shuffled(seed, reshuffle)
        return parent and Prefetch(parent, self._buffer_size)

    def elements(self, epoch, start):
        results: queue.SimpleQueue = queue.SimpleQueue()
        free = threading.Semaphore(self._buffer_size)
        stopped = threading.Event()
        arguments = (self._parent.elements(epoch, start), results, free, stopped)
        # A daemon: a source that hangs must not keep the process from ending.
        thread = threading.Thread(target=_produce, args=arguments, name="tenzoo-prefetch", daemon=True)
        thread.start()
        try:
            while True:
                kind, value = results.get()
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                free.release()
                yield value
        finally:
            stopped.set()
            free.release()
            thread.join(timeout=1.0)


def _produce(elements, results, free, stopped) -> None:
    try:
        with closing(elements):
            for element in elements:
                free.acquire()
                if stopped.is_set():
                    return
                results.put(("element", element))
        results.put(("end", None))
    except BaseException as error:  # whatever it is, the consumer has to hear of it
        results.put(("error", error))
