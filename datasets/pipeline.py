"""The pipeline: elements from arrays, generators or files, shuffled, mapped, batched, and resumed."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ._batching import Batch, BucketByLength, PaddedBatch
from ._caching import Cache, FileCache
from ._sources import Arrays, Generated, Node
from ._transforms import Concatenate, Enumerate, Filter, Map, Prefetch, Repeat, Shuffle, Slice, Zip
from .errors import DataError


class Dataset:
    """A sequence of elements, which are trees (tuples, dicts) of numpy arrays, described before it is run.

    Every method returns a new dataset. Each ``iter(dataset)`` is one epoch: shuffles and seeded maps draw
    anew, always the same for the same seed and epoch number. ``state_dict()`` of the iterator says where it
    stands; it holds two whole numbers. To resume, elements before the position are skipped without being
    made where the source is arrays or files; a generator, a filter, a buffered shuffle or buckets have to
    be run again up to the position.

    A function given to ``map``, ``filter`` or ``bucket_by_length`` receives a tuple element as several
    arguments.

    >>> images, labels = np.zeros((100, 8, 8)), np.arange(100)
    >>> dataset = Dataset.from_arrays((images, labels)).shuffle(seed=1).batch(32)
    >>> [y.shape for x, y in dataset]
    [(32,), (32,), (32,), (4,)]
    """

    def __init__(self, node: Node):
        self._node = node
        self._next = (0, 0)  # epoch and position of the next iteration
        #: Names of the labels, where the dataset was loaded with them; transformations do not carry them on.
        self.class_names: tuple[str, ...] = ()

    # Sources

    @classmethod
    def from_arrays(cls, arrays: Any) -> Dataset:
        """Return the samples along the first axis of a tree of arrays: (n, *shape) -> n elements (*shape).

        Shuffling them takes no buffer, and batches are cut out whole. The arrays are not copied.
        """
        return cls(Arrays(arrays))

    from_tensor_slices = from_arrays

    @classmethod
    def from_generator(cls, generator: Callable[[], Iterable] | Iterable, length: int | None = None) -> Dataset:
        """Return the elements that ``generator()`` yields, called again for each epoch.

        ``length`` is how many there are, where it is known. A list or another repeatable iterable serves too.
        """
        return cls(Generated(generator, length))

    @classmethod
    def from_files(
        cls, files: str | Sequence, read: Callable[[str], Any] | None = None, num_parallel: int = 1
    ) -> Dataset:
        """Return ``read(path)``, or the path, for each file of a list or a pattern like ``"data/*.npy"``."""
        if isinstance(files, (str, os.PathLike)):
            paths = sorted(glob.glob(os.fspath(files), recursive=True))
            if not paths:
                raise DataError(f"No file matches the pattern {os.fspath(files)!r}, seen from {os.getcwd()}.")
        else:
            paths = [os.fspath(path) for path in files]
        dataset = cls.from_arrays(np.array(paths, dtype=str))
        return dataset.map(read, num_parallel) if read else dataset

    @classmethod
    def zip(cls, *datasets: Dataset) -> Dataset:
        """Return tuples of corresponding elements, as many as the shortest dataset has."""
        return cls(Zip(tuple(dataset._node for dataset in datasets)))

    # Transformations

    def map(
        self, function: Callable, num_parallel: int = 1, seed: int | None = None, processes: bool = False
    ) -> Dataset:
        """Return ``function(element)`` for each element, on ``num_parallel`` threads, in the original order.

        With a ``seed`` the function also receives ``rng=``, a numpy Generator that depends on the seed, the
        epoch and the number of the element alone, so that random augmentation is the same on any number of
        threads.

        With ``processes`` they are processes: for functions in pure Python, which threads would run one at a
        time, and for libraries that may crash. Decoding and resizing with Pillow runs side by side on
        threads too, which cost nothing to start and do not copy the results. On Linux the processes are
        forked, so any function will do; elsewhere it has to be importable.

        Raises:
            DataError: where the function fails, or a process dies; names the element, and its file where
            the element holds a path.
        """
        if seed is not None:
            _check("seed", seed, 0)
        return Dataset(Map(self._node, function, _check("num_parallel", num_parallel, 1), seed, processes))

    def filter(self, predicate: Callable) -> Dataset:
        """Return the elements for which ``predicate(element)`` is true."""
        return Dataset(Filter(self._node, predicate))

    def shuffle(self, buffer_size: int | None = None, seed: int = 0, reshuffle_each_iteration: bool = True) -> Dataset:
        """Return the elements in random order.

        Arrays and files, also when mapped, are shuffled as a whole whatever the ``buffer_size``. Any other
        stream goes through a buffer of that many elements; without a size, all of them.
        """
        seed = _check("seed", seed, 0)
        if buffer_size is not None:
            _check("buffer_size", buffer_size, 1)
        node = self._node.shuffled(seed, reshuffle_each_iteration)
        return Dataset(node or Shuffle(self._node, buffer_size, seed, reshuffle_each_iteration))

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Return batches: n elements (*shape) -> (n, *shape) in each leaf; the last may be smaller."""
        return Dataset(Batch(self._node, _check("batch_size", batch_size, 1), drop_remainder))

    def padded_batch(
        self, batch_size: int, padding: Any = 0, pad_to_multiple: int = 1, drop_remainder: bool = False
    ) -> Dataset:
        """Return batches of elements whose shapes differ, filled up at the end of each axis to the longest.

        ``padding`` is one value, or a tree of values like an element; None in it leaves that leaf as it is.
        The first axis, after the batch, is further padded to a whole ``pad_to_multiple``.
        """
        batch_size, multiple = (
            _check("batch_size", batch_size, 1),
            _check("pad_to_multiple", pad_to_multiple, 1),
        )
        return Dataset(PaddedBatch(self._node, batch_size, drop_remainder, padding, multiple))

    def bucket_by_length(
        self,
        length: Callable[..., int],
        boundaries: Sequence[int],
        batch_sizes: int | Sequence[int],
        padding: Any = 0,
        drop_remainder: bool = False,
    ) -> Dataset:
        """Return padded batches of elements of similar length: few shapes, little padding.

        Bucket i holds the elements with ``length(element) <= boundaries[i]``, padded to ``boundaries[i]``;
        one more bucket holds the longer ones, padded to the longest of the batch. ``batch_sizes`` is one
        number, or one for each bucket. ``padding`` as in ``padded_batch``.
        """
        bounds = [_check("boundaries", bound, 1) for bound in boundaries]
        if bounds != sorted(set(bounds)):
            raise ValueError(f"boundaries must increase, received {list(boundaries)}.")
        sizes = [batch_sizes] * (len(bounds) + 1) if isinstance(batch_sizes, int) else list(batch_sizes)
        if len(sizes) != len(bounds) + 1:
            raise ValueError(
                f"{len(bounds)} boundaries make {len(bounds) + 1} buckets, received {sizes} as batch_sizes."
            )
        sizes = [_check("batch_sizes", size, 1) for size in sizes]
        return Dataset(BucketByLength(self._node, length, bounds, sizes, padding, drop_remainder))

    def repeat(self, count: int | None = None) -> Dataset:
        """Return ``count`` passes as one epoch, each shuffled anew, or passes without end."""
        return Dataset(Repeat(self._node, None if count is None else _check("count", count, 0)))

    def take(self, count: int) -> Dataset:
        """Return the first ``count`` elements."""
        return self._slice(0, _check("count", count, 0))

    def skip(self, count: int) -> Dataset:
        """Return the elements after the first ``count``."""
        return self._slice(_check("count", count, 0), None)

    def _slice(self, begin: int, end: int | None) -> Dataset:
        return Dataset(self._node.sliced(begin, end) or Slice(self._node, begin, end))

    def concatenate(self, other: Dataset) -> Dataset:
        """Return the elements of this dataset, then those of ``other``."""
        return Dataset(Concatenate((self._node, other._node)))

    def enumerate(self, start: int = 0) -> Dataset:
        """Return pairs (number, element), counted from ``start`` in each epoch."""
        return Dataset(Enumerate(self._node, start))

    def cache(self, path: str | os.PathLike | None = None) -> Dataset:
        """Return the same elements, kept in memory or in the file ``path`` from the first complete pass on.

        What stands before the cache happens once: put shuffles and random maps after it. A file is used for
        as long as it exists, so delete it when the steps before it change.
        """
        return Dataset(Cache(self._node) if path is None else FileCache(self._node, path))

    def prefetch(self, buffer_size: int = 2) -> Dataset:
        """Return the same elements, made up to ``buffer_size`` ahead of their use on a background thread."""
        return Dataset(Prefetch(self._node, _check("buffer_size", buffer_size, 1)))

    # Iteration

    @property
    def cardinality(self) -> int | float | None:
        """The number of elements in an epoch: an int, ``math.inf``, or None where it is not known."""
        return self._node.cardinality

    def __len__(self) -> int:
        if not isinstance(self.cardinality, int):
            what = "unknown" if self.cardinality is None else "infinite"
            raise TypeError(f"The length of this dataset is {what}; see Dataset.cardinality.")
        return self.cardinality

    def __bool__(self) -> bool:
        return True  # `dataset or default` must not ask for the length

    def __iter__(self) -> DatasetIterator:
        epoch, position = self._next
        iterator = self.iterate(epoch, position)
        self._next = (epoch + 1, 0)
        return iterator

    def iterate(self, epoch: int, position: int = 0) -> DatasetIterator:
        """Return an iterator over a given epoch from a given element on; it does not count as an epoch."""
        return DatasetIterator(self._node, {"epoch": epoch, "position": position})

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and the position in it, with which the next ``iter(dataset)`` begins."""
        return dict(zip(("epoch", "position"), self._next))

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next ``iter(dataset)`` begin where ``state`` says: that of a dataset or of an iterator."""
        self._next = _read_state(state, self.cardinality)

    def __repr__(self) -> str:
        size = "an unknown number of" if self.cardinality is None else self.cardinality
        return f"<Dataset of {size} elements>"


class DatasetIterator:
    """The elements of one epoch, with the place reached. Closing or dropping it ends its threads.

    >>> iterator = iter(Dataset.from_arrays(np.arange(10)).batch(4))
    >>> next(iterator)
    array([0, 1, 2, 3])
    >>> iterator.state_dict()
    {'epoch': 0, 'position': 1}
    """

    def __init__(self, node: Node, state: dict[str, int]):
        self._node = node
        self._elements: Iterator | None = None
        self.load_state_dict(state)

    def __iter__(self) -> DatasetIterator:
        return self

    def __next__(self) -> Any:
        if self._elements is None:
            self._elements = self._node.elements(self._epoch, self._position)
        try:
            element = next(self._elements)
        except StopIteration:
            raise
        except BaseException:  # an error or Ctrl-C is not the end of the data: a further call tries again
            self.close()
            raise
        self._position += 1
        return element

    def state_dict(self) -> dict[str, int]:
        """Return where the iterator stands, ready for JSON: the epoch, and how many elements it has given."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where ``state`` says."""
        self.close()
        self._epoch, self._position = _read_state(state, self._node.cardinality)

    def close(self) -> None:
        """End the threads behind the iterator; it can be iterated on, from where it stands."""
        if self._elements is not None:
            self._elements.close()
            self._elements = None


def _read_state(state: dict[str, int], cardinality: int | float | None) -> tuple[int, int]:
    try:
        epoch, position = (_check(name, state[name], 0) for name in ("epoch", "position"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"The state of a dataset is {{'epoch': int, 'position': int}}, received {state!r}.") from error
    if cardinality is not None and position > cardinality:
        raise ValueError(
            f"The state stands at element {position} of a dataset that has {cardinality}: "
            "it was saved with other data or another batch size."
        )
    return epoch, position


def _check(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, received {value!r}.")
    return int(value)
