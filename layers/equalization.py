"""Contrast by histograms: pixel values spread so that all of them are as frequent."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, ops
from .augmentation import Augmentation

_LEVELS = 256  # values of a byte


def _histograms(codes: Tensor, bins: int) -> Tensor:
    """How often each of the integers below ``bins`` occurs in each row: (rows, n) -> (rows, bins), float32."""
    rows, count = codes.shape
    places = codes + ops.expand_dims(ops.arange(rows, dtype="int32") * bins, -1)
    ones = ops.ones((rows * count,), "float32")
    return ops.reshape(ops.segment_sum(ones, ops.reshape(places, (-1,)), rows * bins), (rows, bins))


class _Histogram(Augmentation):
    """What the layers of this file share: pixels as numbers from 0 to 255, in float32."""

    def __init__(self, value_range: Any = (0, 255), data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format=data_format, **kwargs)
        self.value_range = tuple(value_range)
        if len(self.value_range) != 2 or self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"{type(self).__name__}: value_range is (least, largest); received {value_range!r}.")

    def transform(self, images: Tensor) -> Tensor:
        low, high = self.value_range
        pixels = (ops.cast(images, "float32") - low) * (255 / (high - low))
        return ops.cast(self.spread(pixels) * ((high - low) / 255) + low, images.dtype)

    def spread(self, pixels: Tensor) -> Tensor:
        """Pixels (N, H, W, C) in [0, 255], changed."""
        raise NotImplementedError


class Equalization(_Histogram):
    """Each channel of each image mapped so that its values are spread evenly; nothing in inference.

    >>> image = np.array([10.0, 10.0, 20.0, 30.0]).reshape(2, 2, 1)
    >>> Equalization()(image).numpy().ravel().tolist()
    [0.0, 0.0, 128.0, 255.0]

    Args:
        value_range: least and largest value of pixels.
        bins: of the histogram.
    """

    def __init__(self, value_range: Any = (0, 255), bins: int = 256, data_format: str | None = None, **kwargs: Any):
        super().__init__(value_range, data_format, **kwargs)
        if bins < 2:
            raise ValueError(f"Equalization: expected at least 2 bins; received {bins}.")
        self.bins = bins

    def spread(self, pixels: Tensor) -> Tensor:
        count, height, width, channels = pixels.shape
        planes = ops.reshape(ops.transpose(pixels, (0, 3, 1, 2)), (count * channels, height * width))
        codes = ops.cast(ops.clip(planes * ((self.bins - 1) / 255), 0, self.bins - 1), "int32")
        histograms = _histograms(codes, self.bins)
        below = ops.cumsum(histograms, -1)
        least = ops.min(ops.where(histograms > 0, below, float(height * width)), -1, keepdims=True)
        several = least < height * width
        table = ops.round((below - least) * 255 / ops.where(several, height * width - least, 1.0))
        spread = ops.take_along_axis(ops.clip(table, 0, 255), codes, -1)
        planes = ops.where(several, spread, planes)
        return ops.transpose(ops.reshape(planes, (count, channels, height, width)), (0, 2, 3, 1))


class ContrastLimitedAdaptiveHistogramEqualization(_Histogram):
    """Each channel spread evenly within tiles, with limited slope, and blended between them; in inference too.

    Zuiderveld, "Contrast limited adaptive histogram equalization" (1994).

    Args:
        value_range: least and largest value of pixels.
        clip_limit: how many times the mean a bin of a histogram may hold, which limits the contrast; the rest
            goes to all bins. 0 for no limit.
        tile_grid_size: number of tiles, (down, across).

    >>> ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(2, 2))(np.ones((8, 9, 3))).shape
    (8, 9, 3)
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        clip_limit: float = 4.0,
        tile_grid_size: tuple[int, int] = (8, 8),
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, data_format, **kwargs)
        self.clip_limit, self.tile_grid_size = clip_limit, tuple(tile_grid_size)

    def leave(self, images: Tensor) -> Tensor:
        return self.transform(images)

    def spread(self, pixels: Tensor) -> Tensor:
        count, height, width, channels = pixels.shape
        down, across = self.tile_grid_size
        tall, wide = -(-height // down), -(-width // across)
        margins = [(0, 0), (0, tall * down - height), (0, wide * across - width), (0, 0)]
        codes = ops.cast(ops.clip(ops.pad(pixels, margins, "symmetric"), 0, 255), "int32")
        tiles = ops.reshape(codes, (count, down, tall, across, wide, channels))
        tiles = ops.reshape(ops.transpose(tiles, (0, 1, 3, 5, 2, 4)), (-1, tall * wide))
        tables = ops.reshape(self._tables(tiles), (count, down, across, channels * _LEVELS))
        # (N, H', W', C): where in a tile's tables the level of each pixel stands
        places = codes + ops.arange(channels, dtype="int32") * _LEVELS
        numbers = ops.reshape(ops.arange(count, dtype="int32"), (-1, 1, 1, 1))
        result = 0.0
        for row, row_share in _neighbours(tall, down):
            for column, column_share in _neighbours(wide, across):
                tile = (numbers * down + row[:, None, None]) * across + column[:, None]
                mapped = ops.take(ops.reshape(tables, (-1,)), tile * (channels * _LEVELS) + places)
                result = result + mapped * (row_share[:, None, None] * column_share[:, None])
        return result[:, :height, :width]

    def _tables(self, tiles: Tensor) -> Tensor:
        """For each tile what each level becomes: (tiles, pixels) -> (tiles, 256)."""
        size = tiles.shape[-1]
        histograms = _histograms(tiles, _LEVELS)
        if self.clip_limit > 0:
            clipped = ops.minimum(histograms, self.clip_limit * size / _LEVELS)
            histograms = clipped + ops.mean(histograms - clipped, -1, keepdims=True)
        below = ops.cumsum(histograms, -1)
        least = below[:, :1]
        rest = size - least
        return ops.clip((below - least) * 255 / ops.where(rest == 0, 1.0, rest), 0, 255)


def _neighbours(length: int, tiles: int) -> list[tuple[Tensor, Tensor]]:
    """For the positions along an axis: the tile before with its share, the tile after with its share."""
    place = (ops.arange(length * tiles, dtype="float32") - length / 2) / length
    before = ops.floor(place)
    share = place - before

    def within(tile: Tensor) -> Tensor:
        return ops.cast(ops.clip(tile, 0, tiles - 1), "int32")

    return [(within(before), 1 - share), (within(before + 1), share)]
