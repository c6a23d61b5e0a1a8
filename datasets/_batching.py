"""The steps of a pipeline that join elements into batches."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import pytree
from ._sources import Node, stack_with
from ._transforms import call
from .errors import DataError


def pad_stack(elements: list, padding: Any, multiple: int = 1, at_least: int = 0) -> Any:
    """Stack elements whose leaves differ in shape, filled up at the end with ``padding``.

    Every axis grows to the longest of the batch; the first one further, to ``at_least`` and to a whole
    ``multiple``. Where ``padding`` holds None, the leaf is stacked as it is.
    """
    values = _spread(padding, elements[0])

    def pad(number: int, arrays: list[np.ndarray]) -> np.ndarray:
        if values[number] is None:
            return np.stack(arrays)
        if len({array.ndim for array in arrays}) > 1:
            raise DataError(
                f"padded_batch() needs elements of one rank; leaf {number} came with shapes "
                f"{', '.join(str(array.shape) for array in arrays[:4])}."
            )
        shape = np.max([array.shape for array in arrays], axis=0).astype(int)
        if shape.size:
            shape[0] = -(-max(shape[0], at_least) // multiple) * multiple
        batch = np.full((len(arrays), *shape), values[number], dtype=np.result_type(*arrays))
        for index, array in enumerate(arrays):
            batch[index, *map(slice, array.shape)] = array
        return batch

    return stack_with(elements, pad)


def _spread(padding: Any, element: Any) -> list:
    """Return the padding value for each leaf of ``element``; one value may stand for a whole branch."""
    if isinstance(element, dict):
        branches = [(padding[key] if isinstance(padding, dict) else padding, element[key]) for key in element]
    elif isinstance(element, (tuple, list)):
        paddings = padding if isinstance(padding, (tuple, list)) else [padding] * len(element)
        if len(paddings) != len(element):
            raise ValueError(
                "padding must be one value, or have the structure of an element, "
                f"{pytree.structure(element)}; received {padding!r}."
            )
        branches = list(zip(paddings, element))
    else:
        return [] if element is None else [padding]
    return [value for branch in branches for value in _spread(*branch)]


class Batch(Node):
    """Groups of ``size`` elements, stacked."""

    def __init__(self, parent: Node, size: int, drop_remainder: bool):
        self._parent, self._size, self._drop_remainder = parent, size, drop_remainder
        if isinstance(parent.cardinality, int):
            self.cardinality = parent.cardinality // size if drop_remainder else -(-parent.cardinality // size)
        else:
            self.cardinality = parent.cardinality

    def _stacks(self, epoch, start):
        yield from self._parent.stacks(epoch, start, self._size)

    def elements(self, epoch, start):
        for batch in self._stacks(epoch, start * self._size):
            leaves = pytree.flatten(batch)
            if self._drop_remainder and leaves and len(leaves[0]) < self._size:
                return
            yield batch


class PaddedBatch(Batch):
    """Groups of ``size`` elements, padded to one shape and stacked."""

    def __init__(self, parent: Node, size: int, drop_remainder: bool, padding: Any, multiple: int):
        super().__init__(parent, size, drop_remainder)
        self._padding, self._multiple = padding, multiple

    def _stacks(self, epoch, start):
        elements = self._parent.elements(epoch, start)
        while group := list(itertools.islice(elements, self._size)):
            yield pad_stack(group, self._padding, self._multiple)


class BucketByLength(Node):
    """Batches of elements of similar length; bucket i holds the lengths up to ``boundaries[i]``."""

    def __init__(
        self,
        parent: Node,
        length: Callable,
        boundaries: Sequence[int],
        batch_sizes: Sequence[int],
        padding: Any,
        drop_remainder: bool,
    ):
        self._parent, self._length, self._boundaries, self._batch_sizes = (
            parent,
            length,
            boundaries,
            batch_sizes,
        )
        self._padding, self._drop_remainder = padding, drop_remainder

    def elements(self, epoch, start):
        groups = itertools.islice(self._groups(epoch), start, None)
        for bucket, group in groups:
            at_least = self._boundaries[bucket] if bucket < len(self._boundaries) else 0
            yield pad_stack(group, self._padding, at_least=at_least)

    def _groups(self, epoch):
        buckets: list[list] = [[] for _ in self._batch_sizes]
        for number, element in enumerate(self._parent.elements(epoch, 0)):
            bucket = bisect_left(self._boundaries, call("bucket_by_length", self._length, number, element))
            buckets[bucket].append(element)
            if len(buckets[bucket]) == self._batch_sizes[bucket]:
                yield bucket, buckets[bucket]
                buckets[bucket] = []
        if not self._drop_remainder:
            yield from ((bucket, group) for bucket, group in enumerate(buckets) if group)
