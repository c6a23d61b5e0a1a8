"""Random changes of images in training, drawn anew for each image; for what they teach not to depend on.

The layers take images (N, H, W, C) or (H, W, C), or a dict of "images" and "labels". They work in training, and when
they are called by themselves without saying; in inference they do nothing.
"""

from __future__ import annotations

import math
from typing import Any

from .. import core
from ..core import ShapeError, Tensor, ops
from .convolution import check_channels_last
from .image_preprocessing import center_crop
from .layer import Layer


class Augmentation(Layer):
    """What random changes share: the stream of draws, and what they are applied to."""

    moves = False  # whether what is in an image changes its place

    def __init__(self, seed: int | None = None, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        check_channels_last(data_format)
        self.seed = seed
        self.seed_generator = core.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = True) -> Any:
        labelled = isinstance(inputs, dict)
        if labelled and training and self.moves:
            for key in inputs.keys() & {"bounding_boxes", "segmentation_masks"}:
                raise ValueError(f"{type(self).__name__} moves what is in the images, but cannot move {key!r} with it.")
        images = ops.cast(inputs["images"] if labelled else inputs, self.compute_dtype)
        if images.ndim not in (3, 4):
            raise ShapeError(f"Expected images (N, H, W, C) or (H, W, C); received shape {images.shape}.")
        single = images.ndim == 3
        batch = ops.expand_dims(images, 0) if single else images
        if training:
            batch, labels = self.change(batch, inputs.get("labels") if labelled else None)
        else:
            batch, labels = self.leave(batch), inputs.get("labels") if labelled else None
        images = ops.squeeze(batch, 0) if single else batch
        if not labelled:
            return images
        return {**inputs, "images": images, **({} if labels is None else {"labels": labels})}

    def change(self, images: Tensor, labels: Any) -> tuple[Tensor, Any]:
        """Images (N, H, W, C) and their labels, changed."""
        return self.transform(images), labels

    def leave(self, images: Tensor) -> Tensor:
        """What becomes of images in inference."""
        return images

    def transform(self, images: Tensor) -> Tensor:
        """Images (N, H, W, C), changed."""
        raise NotImplementedError

    def _uniform(self, images: Tensor, low: float, high: float) -> Tensor:
        """A number for each image, (N, 1, 1, 1)."""
        shape = (images.shape[0], 1, 1, 1)
        return core.random.uniform(shape, low, high, images.dtype, seed=self.seed_generator)


def _range(name: str, factor: Any, least: float, most: float) -> tuple[float, float]:
    """(lower, upper) from a pair, or from a number that stands for -factor … factor."""
    low, high = sorted(factor) if isinstance(factor, (tuple, list)) else (-abs(factor), abs(factor))
    if not least <= low <= high <= most:
        raise ValueError(f"{name}: expected numbers from {least} to {most}; received {factor}.")
    return low, high


def share(name: str, factor: Any, most: float = 1) -> tuple[float, float]:
    """(lower, upper) from a pair, or from a number that stands for 0 … factor."""
    pair = factor if isinstance(factor, (tuple, list)) else (0, factor)
    return _range(name, pair, 0, most)


class RandomFlip(Augmentation):
    """Images mirrored with probability 1/2; mode: "horizontal", "vertical" or "horizontal_and_vertical".

    >>> image = np.arange(3.0).reshape(1, 1, 3, 1)
    >>> sorted({tuple(RandomFlip(seed=i)(image).numpy().ravel().tolist()) for i in range(9)})
    [(0.0, 1.0, 2.0), (2.0, 1.0, 0.0)]
    """

    moves = True

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, data_format, **kwargs)
        if mode not in ("horizontal", "vertical", "horizontal_and_vertical"):
            raise ValueError(
                f'RandomFlip: mode is "horizontal", "vertical" or "horizontal_and_vertical"; received {mode!r}.'
            )
        self.mode = mode

    def transform(self, images: Tensor) -> Tensor:
        for direction, axis in (("horizontal", 2), ("vertical", 1)):
            if direction in self.mode:
                images = ops.where(self._uniform(images, 0, 1) < 0.5, ops.flip(images, axis), images)
        return images


class RandomCrop(Augmentation):
    """A window of height × width, at one random place for the batch; in inference the middle.

    Images that are smaller are enlarged first.
    """

    moves = True

    def __init__(self, height: int, width: int, seed: int | None = None, data_format: str | None = None, **kwargs: Any):
        super().__init__(seed, data_format, **kwargs)
        self.height, self.width = height, width

    def transform(self, images: Tensor) -> Tensor:
        spare = images.shape[1] - self.height, images.shape[2] - self.width
        if min(spare) < 0:
            return self.leave(images)
        top, left = (core.random.randint((), 0, n + 1, seed=self.seed_generator) for n in spare)
        rows = ops.arange(self.height, dtype="int32") + top
        columns = ops.arange(self.width, dtype="int32") + left
        return ops.take(ops.take(images, rows, 1), columns, 2)

    def leave(self, images: Tensor) -> Tensor:
        return center_crop(images, self.height, self.width)


class RandomBrightness(Augmentation):
    """Add a number from ``factor`` (a pair, or f for -f … f) times the value range, and clip.

    Args:
        factor: in [-1, 1].
        value_range: least and largest value of pixels.
        seed: of the draws.
    """

    def __init__(self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, **kwargs: Any):
        super().__init__(seed, **kwargs)
        self.factor = _range("RandomBrightness", factor, -1, 1)
        self.value_range = tuple(value_range)

    def transform(self, images: Tensor) -> Tensor:
        low, high = self.value_range
        return ops.clip(images + self._uniform(images, *self.factor) * (high - low), low, high)


class RandomContrast(Augmentation):
    """Multiply the distance from each channel's mean by a number in [1 - lower, 1 + upper], and clip.

    Args:
        factor: (lower, upper), or one number for both.
        value_range: least and largest value of pixels.
        seed: of the draws.
    """

    def __init__(self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, **kwargs: Any):
        super().__init__(seed, **kwargs)
        self.factor = tuple(factor) if isinstance(factor, (tuple, list)) else (factor, factor)
        self.value_range = tuple(value_range)
        if min(self.factor) < 0 or self.factor[0] > 1:
            raise ValueError(f"RandomContrast: factors are not negative, the lower at most 1; received {factor}.")

    def transform(self, images: Tensor) -> Tensor:
        mean = ops.mean(images, (1, 2), keepdims=True)
        scale = self._uniform(images, 1 - self.factor[0], 1 + self.factor[1])
        return ops.clip((images - mean) * scale + mean, *self.value_range)


class _Warp(Augmentation):
    """Images resampled at places that an affine map of the coordinates gives."""

    moves = True

    def __init__(
        self,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, data_format, **kwargs)
        self.fill_mode, self.interpolation, self.fill_value = fill_mode, interpolation, fill_value

    def _warp(self, images: Tensor, *rows: Any) -> Tensor:
        """The pixel at (x, y) is taken from (a·x + b·y + c, d·x + e·y + f), given as rows, numbers or (N, 1, 1, 1)."""
        count = images.shape[0]
        columns = [ops.broadcast_to(ops.reshape(ops.cast(v, images.dtype), (-1, 1)), (count, 1)) for v in rows]
        nothing = ops.zeros((count, 2), images.dtype)
        return ops.image.affine_transform(
            images,
            ops.concatenate([*columns, nothing], 1),
            self.interpolation,
            self.fill_mode,
            self.fill_value,
        )


class RandomTranslation(_Warp):
    """Images moved by a share of their height (down) and width (to the right).

    Args:
        height_factor: lower and upper share, in [-1, 1], or f for -f … f.
        width_factor: likewise.
        fill_mode: what is seen outside of the image: "constant", "nearest", "wrap" or "reflect".
        interpolation: "nearest" or "bilinear".
        seed: of the draws.
        fill_value: for "constant".
    """

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = _range("RandomTranslation", height_factor, -1, 1)
        self.width_factor = _range("RandomTranslation", width_factor, -1, 1)

    def transform(self, images: Tensor) -> Tensor:
        down = self._uniform(images, *self.height_factor) * images.shape[1]
        right = self._uniform(images, *self.width_factor) * images.shape[2]
        return self._warp(images, 1, 0, -right, 0, 1, -down)


class RandomRotation(_Warp):
    """Images turned about their middle.

    Args:
        factor: lower and upper share of a full turn, in [-1, 1], or f for -f … f.
        fill_mode: what is seen outside of the image: "constant", "nearest", "wrap" or "reflect".
        interpolation: "nearest" or "bilinear".
        seed: of the draws.
        fill_value: for "constant".
    """

    def __init__(
        self,
        factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = _range("RandomRotation", factor, -1, 1)

    def transform(self, images: Tensor) -> Tensor:
        angle = self._uniform(images, *self.factor) * (2 * math.pi)
        cos, sin = ops.cos(angle), ops.sin(angle)
        middle_y, middle_x = (images.shape[1] - 1) / 2, (images.shape[2] - 1) / 2
        start_x = middle_x - cos * middle_x + sin * middle_y
        start_y = middle_y - sin * middle_x - cos * middle_y
        return self._warp(images, cos, -sin, start_x, sin, cos, start_y)


class RandomZoom(_Warp):
    """Images seen from farther (positive factors) or nearer (negative ones).

    Args:
        height_factor: lower and upper share by which more is seen, above -1, or f for -f … f.
        width_factor: likewise; by default the same draw as for the height.
        fill_mode: what is seen outside of the image: "constant", "nearest", "wrap" or "reflect".
        interpolation: "nearest" or "bilinear".
        seed: of the draws.
        fill_value: for "constant".
    """

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = _range("RandomZoom", height_factor, -1, 1)
        self.width_factor = None if width_factor is None else _range("RandomZoom", width_factor, -1, 1)

    def transform(self, images: Tensor) -> Tensor:
        tall = self._uniform(images, *self.height_factor) + 1
        wide = tall if self.width_factor is None else self._uniform(images, *self.width_factor) + 1
        start_x = (1 - wide) * ((images.shape[2] - 1) / 2)
        start_y = (1 - tall) * ((images.shape[1] - 1) / 2)
        return self._warp(images, wide, 0, start_x, 0, tall, start_y)


class RandomShear(_Warp):
    """Images whose rows are moved along by their height (x) and whose columns by their place (y).

    Args:
        x_factor: lower and upper slope, in [0, 1], or f for 0 … f; the sign is drawn.
        y_factor: likewise.
        interpolation: "nearest" or "bilinear".
        fill_mode: what is seen outside of the image: "constant", "nearest", "wrap" or "reflect".
        fill_value: for "constant".
        seed: of the draws.
    """

    def __init__(
        self,
        x_factor: Any = 0.0,
        y_factor: Any = 0.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.x_factor, self.y_factor = share("RandomShear", x_factor), share("RandomShear", y_factor)

    def transform(self, images: Tensor) -> Tensor:
        sign = ops.where(self._uniform(images, 0, 1) > 0.5, -1.0, 1.0)
        along_x, along_y = (self._uniform(images, *factor) * sign for factor in (self.x_factor, self.y_factor))
        return self._warp(images, 1, along_x, 0, along_y, 1, 0)


class MixUp(Augmentation):
    """Each image mixed with another one of the batch, and its label likewise; Zhang et al. (2018).

    Takes images, or a dict of "images" and "labels" (N, classes).

    Args:
        alpha: the shares are drawn from the beta distribution (alpha, alpha).
    """

    moves = True

    def __init__(self, alpha: float = 0.2, data_format: str | None = None, seed: int | None = None, **kwargs: Any):
        super().__init__(seed, data_format, **kwargs)
        self.alpha = alpha

    def change(self, images: Tensor, labels: Any) -> tuple[Tensor, Any]:
        count = images.shape[0]
        order = core.random.permutation(count, seed=self.seed_generator)
        share = core.random.beta((count, 1, 1, 1), self.alpha, self.alpha, images.dtype, self.seed_generator)
        mixed = share * images + (1 - share) * ops.take(images, order, 0)
        return mixed, _mixed_labels(labels, share, order)


class CutMix(Augmentation):
    """A rectangle of each image taken from another one of the batch, the labels mixed by area; Yun et al. (2019).

    Takes images, or a dict of "images" and "labels" (N, classes).

    Args:
        factor: alpha of the beta distribution that the shares are drawn from; a pair to draw alpha itself.
    """

    moves = True

    def __init__(self, factor: Any = 1.0, seed: int | None = None, data_format: str | None = None, **kwargs: Any):
        super().__init__(seed, data_format, **kwargs)
        self.factor = tuple(factor) if isinstance(factor, (tuple, list)) else (factor, factor)

    def change(self, images: Tensor, labels: Any) -> tuple[Tensor, Any]:
        (count, height, width), generator = images.shape[:3], self.seed_generator
        alpha = core.random.uniform((), *self.factor, images.dtype, generator) + 1e-6
        kept = core.random.beta((count, 1, 1, 1), alpha, alpha, images.dtype, generator)
        inside, area = True, 1.0
        for axis, extent in ((1, height), (2, width)):
            length = ops.sqrt(1 - kept) * extent
            start = self._uniform(images, 0, 1) * (extent - length)
            grid = ops.reshape(ops.arange(extent, dtype=images.dtype), [-1 if i == axis else 1 for i in range(4)])
            within = ops.logical_and(grid >= start, grid < start + length)
            inside, area = ops.logical_and(inside, within), area * length / extent
        order = core.random.permutation(count, seed=generator)
        mixed = ops.where(inside, ops.take(images, order, 0), images)
        return mixed, _mixed_labels(labels, 1 - area, order)


def _mixed_labels(labels: Any, share: Tensor, order: Tensor) -> Any:
    """share·labels + (1 - share)·the others'; labels (N, classes) or None."""
    if labels is None:
        return None
    labels = ops.cast(labels, share.dtype)
    share = ops.reshape(share, (-1, *(1,) * (labels.ndim - 1)))
    return share * labels + (1 - share) * ops.take(labels, order, 0)


class Pipeline(Layer):
    """Layers one after the other, as one layer: for changes of images, also outside of a model.

    >>> Pipeline([RandomFlip("horizontal"), RandomCrop(4, 4)])(np.ones((2, 8, 8, 3))).shape
    (2, 4, 4, 3)
    """

    def __init__(self, layers: list[Layer], **kwargs: Any):
        super().__init__(**kwargs)
        self.layers = list(layers)

    def call(self, inputs: Any, training: bool = True) -> Any:
        for layer in self.layers:
            inputs = layer(inputs, training=training)
        return inputs
