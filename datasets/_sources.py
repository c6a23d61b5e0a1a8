"""What a step of a pipeline is, and the steps that elements come from: arrays and generators."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..core import pytree
from .errors import DataError


def permutation(length: int, *key: int) -> np.ndarray:
    """Return the indices 0 … length - 1 in an order that depends on the whole numbers ``key`` alone.

    The raw bits of a bit generator, unlike ``Generator.permutation``, are promised to stay the same in
    later versions of numpy, so a training run resumes in the same order after an upgrade.
    """
    return np.argsort(np.random.PCG64(key).random_raw(length), kind="stable")


def stack(elements: list) -> Any:
    """Stack elements of one structure leaf by leaf: n × (*shape) -> (n, *shape)."""
    return stack_with(elements, _stack_leaf)


def stack_with(elements: list, stack_leaf: Callable[[int, list[np.ndarray]], np.ndarray]) -> Any:
    """Join elements of one structure with ``stack_leaf(number of the leaf, the arrays of that leaf)``."""
    structure = pytree.structure(elements[0])
    for element in elements:
        if pytree.structure(element) != structure:
            raise DataError(
                "A batch needs elements of one structure: "
                f"expected {structure}, as in its first element, received {pytree.structure(element)}."
            )
    columns = zip(*[pytree.flatten(element) for element in elements])
    leaves = [stack_leaf(number, [as_array(leaf) for leaf in column]) for number, column in enumerate(columns)]
    return pytree.unflatten(elements[0], leaves)


def as_array(leaf: Any) -> np.ndarray:
    """Return a leaf as an array; a Python float takes the precision of the library, as in `core.tensor`."""
    return np.asarray(leaf, dtype=np.float32 if type(leaf) is float else None)


def _stack_leaf(number: int, arrays: list[np.ndarray]) -> np.ndarray:
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise DataError(
            "batch() needs elements of one shape; "
            f"leaf {number} came as {' and '.join(map(str, sorted(shapes)))}. "
            "Use padded_batch() for sequences of different lengths, or bring them to one shape with map()."
        )
    return np.stack(arrays)


class Node:
    """One step of a pipeline: it can run any epoch from any element on.

    ``cardinality`` is the number of elements in an epoch: an int, ``math.inf``, or None where it is not
    known.
    """

    cardinality: int | float | None = None

    def elements(self, epoch: int, start: int) -> Iterator:
        """Yield the elements of the epoch from number ``start`` on; a generator, so that it can be closed."""
        raise NotImplementedError

    def stacks(self, epoch: int, start: int, size: int) -> Iterator:
        """Yield the same elements stacked in groups of ``size``, the last one smaller."""
        elements = self.elements(epoch, start)
        while group := list(itertools.islice(elements, size)):
            yield stack(group)

    def shuffled(self, seed: int, reshuffle: bool) -> Node | None:
        """Return the node with its elements in random order, if that takes no buffer; else None."""
        return None

    def sliced(self, begin: int, end: int | None) -> Node | None:
        """Return the node with the elements ``[begin:end]``, if the others need not be made; else None."""
        return None


class Arrays(Node):
    """A tree of arrays with a common first axis, visited in an order made of shuffles and slices."""

    def __init__(self, tree: Any):
        self._leaves = [_first_axis_checked(leaf) for leaf in pytree.flatten(tree)]
        lengths = {len(leaf) for leaf in self._leaves}
        if len(lengths) != 1:
            raise ValueError(
                "from_arrays() needs arrays with the same number of samples; received "
                f"{', '.join(str(leaf.shape) for leaf in self._leaves) or 'no array at all'}."
            )
        self._tree = tree
        self._steps: tuple[Callable[[np.ndarray, int], np.ndarray], ...] = ()
        self.cardinality = self._length = lengths.pop()

    def _then(self, step: Callable[[np.ndarray, int], np.ndarray], cardinality: int) -> Arrays:
        node = Arrays.__new__(Arrays)
        node.__dict__.update(self.__dict__, _steps=(*self._steps, step), cardinality=cardinality)
        return node

    def shuffled(self, seed, reshuffle):
        def step(order, epoch):
            return order[permutation(len(order), seed, epoch if reshuffle else 0)]

        return self._then(step, self.cardinality)

    def sliced(self, begin, end):
        return self._then(lambda order, epoch: order[begin:end], len(range(self.cardinality)[begin:end]))

    def _order(self, epoch: int) -> np.ndarray:
        order = np.arange(self._length)
        for step in self._steps:
            order = step(order, epoch)
        return order

    def elements(self, epoch, start):
        for index in self._order(epoch)[start:]:
            yield pytree.unflatten(self._tree, [leaf[index] for leaf in self._leaves])

    def stacks(self, epoch, start, size):
        order = self._order(epoch)
        for begin in range(start, len(order), size):
            indices = order[begin : begin + size]
            yield pytree.unflatten(self._tree, [leaf[indices] for leaf in self._leaves])


def _first_axis_checked(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    if array.ndim == 0:
        raise ValueError(
            f"from_arrays() needs arrays with a first axis that counts the samples; received {leaf!r}. "
            "A Python list is a container of leaves here: wrap it in np.array()."
        )
    return array


class Generated(Node):
    """The elements of a fresh iterator for each epoch."""

    def __init__(self, source: Callable[[], Iterable] | Iterable, length: int | None):
        if isinstance(source, Iterator):
            raise TypeError(
                f"from_generator() needs something that can be iterated once per epoch, received the one-way "
                f"{type(source).__name__}. Pass the function that makes it, without calling it."
            )
        self._make = source if callable(source) else lambda: source
        self.cardinality = length

    def elements(self, epoch, start):
        yield from itertools.islice(self._make(), start, None)
