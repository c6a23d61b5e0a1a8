"""Data for ``fit`` under the names that Keras has for them: batches by number, windows of time series."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..datasets import Dataset

__all__ = ["PyDataset", "Sequence", "timeseries_dataset_from_array"]


class PyDataset:
    """Base class of data that make their batches by number: write ``__len__`` and ``__getitem__``.

    ``fit`` takes the batches in their order, and calls ``on_epoch_begin`` and ``on_epoch_end``, where the data may be
    shuffled. They are made in turn, on one thread: :meth:`tenzoo.datasets.Dataset.map` has parallel workers.

    >>> class Squares(PyDataset):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, index):
    ...         return np.full((2, 1), index), np.full((2, 1), index**2)
    >>> [int(y[0, 0]) for x, y in Squares()]
    [0, 1, 4]
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__, the number of batches; write one.")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__(index), which returns a batch; write one.")

    def on_epoch_begin(self) -> None:
        """Before the first batch of an epoch."""

    def on_epoch_end(self) -> None:
        """After the last batch of an epoch."""

    def __iter__(self) -> Iterator[Any]:
        self.on_epoch_begin()
        for index in range(len(self)):
            yield self[index]
        self.on_epoch_end()


Sequence = PyDataset  # the name that older programs know


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
) -> Dataset:
    """Windows of a series (T, ...): batches (B, sequence_length, ...), or pairs of them and targets (B, ...).

    Args:
        data: the series.
        targets: one for each place where a window may begin, (T, ...); None for windows alone.
        sequence_length: places in a window.
        sequence_stride: from the beginning of one window to that of the next.
        sampling_rate: from one place in a window to the next.
        batch_size: None for single windows.
        shuffle: draw the windows in a new random order in each epoch.
        seed: of the order.
        start_index: where the first window may begin.
        end_index: beyond the last place of the last window.

    >>> x, y = next(iter(timeseries_dataset_from_array(np.arange(10), np.arange(10) + 4, 4, sampling_rate=2)))
    >>> np.asarray(x).tolist(), np.asarray(y).tolist()
    ([[0, 2, 4, 6], [1, 3, 5, 7], [2, 4, 6, 8], [3, 5, 7, 9]], [4, 5, 6, 7])
    """
    data = np.asarray(data)
    start, end = start_index or 0, len(data) if end_index is None else end_index
    if not 0 <= start < end <= len(data):
        raise ValueError(f"Expected 0 <= start_index < end_index <= {len(data)}; received {start_index}, {end_index}.")
    if min(sequence_length, sequence_stride, sampling_rate) < 1:
        raise ValueError(
            "sequence_length, sequence_stride and sampling_rate are positive; received "
            f"{sequence_length}, {sequence_stride}, {sampling_rate}."
        )
    count = end - start - (sequence_length - 1) * sampling_rate
    if targets is not None:
        targets = np.asarray(targets)
        count = min(count, len(targets[start:]))
    if count < 1:
        raise ValueError(
            f"{end - start} places hold no window of {sequence_length} places, each {sampling_rate} after the other."
        )
    dataset = Dataset.from_arrays(np.arange(start, start + count, sequence_stride))
    if shuffle:
        dataset = dataset.shuffle(seed=0 if seed is None else seed)
    if batch_size is not None:
        dataset = dataset.batch(batch_size)
    offsets = np.arange(sequence_length) * sampling_rate

    def windows(places: Any) -> Any:
        places = np.asarray(places)
        x = data[places[..., None] + offsets]
        return x if targets is None else (x, targets[places])

    return dataset.map(windows)
