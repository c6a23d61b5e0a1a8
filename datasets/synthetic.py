"""Made-up samples in the form of a real dataset, for tests and for trying things without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .registry import DatasetSpec

LARGEST = {"train": 4096, "test": 1024}  # samples, where no size is given
IMAGE_SIZE = (64, 64)  # pixels, where the images of the dataset differ in size and no size is given


def class_patterns(
    spec: DatasetSpec,
    split: str,
    size: int | None = None,
    seed: int = 0,
    image_size: int | tuple[int, int] = IMAGE_SIZE,
) -> tuple[np.ndarray, np.ndarray]:
    """Return images (size, *shape) and labels (size,): a coarse pattern for each class, moved, under noise.

    The patterns depend on the seed, the samples on seed and split. The classes come equally often. ``image_size``
    is the (height, width) of images that differ in size in the dataset.
    """
    size = min(spec.splits[split], LARGEST.get(split, 4096)) if size is None else size
    (height, width, *channels), classes = spec.shapes[0], len(spec.classes)
    if height is None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    rng = np.random.default_rng(seed)
    coarse = rng.random((classes, 4, 4, *channels), dtype=np.float32)
    patterns = coarse.repeat(-(-height // 4), axis=1).repeat(-(-width // 4), axis=2)[:, :height, :width]

    rng = np.random.default_rng((seed, 1 + list(spec.splits).index(split)))
    labels = rng.permutation(np.arange(size) % classes)
    images = np.empty((size, height, width, *channels), spec.dtypes[0])
    low, high = spec.value_range
    for index, label in enumerate(labels):
        moved = np.roll(patterns[label], rng.integers(-1, 2, size=2), axis=(0, 1))
        noisy = moved + rng.normal(0, 0.15, moved.shape)
        images[index] = low + (high - low) * np.clip(noisy, 0, 1)
    return images, labels.astype(spec.dtypes[1])
