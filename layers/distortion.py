"""Random damage to images (N, H, W, C): parts erased, blur, slanted views, elastic deformation."""

from __future__ import annotations

import math
from typing import Any

from .. import core
from ..core import Tensor, ops
from .augmentation import Augmentation, share


class _Sometimes(Augmentation):
    """Changes each image with a probability that is drawn from ``factor`` (a pair; f stands for 0 … f)."""

    def __init__(self, factor: Any, seed: int | None, data_format: str | None, **kwargs: Any):
        super().__init__(seed, data_format, **kwargs)
        self.factor = share(type(self).__name__, factor)

    def transform(self, images: Tensor) -> Tensor:
        chosen = self._uniform(images, 0, 1) < self._uniform(images, *self.factor)
        return ops.where(chosen, self.damage(images), images)

    def damage(self, images: Tensor) -> Tensor:
        """All images, changed."""
        raise NotImplementedError


class RandomErasing(_Sometimes):
    """A rectangle of each image filled; Zhong et al. (2020).

    Args:
        factor: probability, from which it is drawn for each image; f stands for 0 … f.
        scale: squares of the rectangle's height and width as shares of the image's are drawn from it.
        fill_value: a number, or one for each channel; None for normal noise times the largest value.
        value_range: least and largest value of pixels.
        seed: of the draws.

    >>> erased = RandomErasing((1.0, 1.0), (1.0, 1.0), fill_value=7.0)(np.zeros((1, 4, 4, 1)))
    >>> np.unique(erased).tolist()
    [7.0]
    """

    def __init__(
        self,
        factor: Any = 1.0,
        scale: Any = (0.02, 0.33),
        fill_value: Any = None,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(factor, seed, data_format, **kwargs)
        self.scale = share("RandomErasing", scale)
        self.fill_value, self.value_range = fill_value, tuple(value_range)

    def damage(self, images: Tensor) -> Tensor:
        inside = True
        for axis in (2, 1):
            extent = images.shape[axis]
            length = ops.sqrt(self._uniform(images, *self.scale)) * extent
            start = self._uniform(images, 0, 1) * (extent - length)
            grid = ops.reshape(ops.arange(extent, dtype=images.dtype), [-1 if i == axis else 1 for i in range(4)])
            inside = ops.logical_and(inside, ops.logical_and(grid >= start, grid < start + length))
        if self.fill_value is None:
            fill = core.random.normal(images.shape, dtype=images.dtype, seed=self.seed_generator) * self.value_range[1]
        else:
            fill = ops.cast(self.fill_value, images.dtype)
        return ops.where(inside, ops.clip(fill, *self.value_range), images)


class RandomGaussianBlur(_Sometimes):
    """Images blurred with Gaussian weights.

    Args:
        factor: probability, from which it is drawn for each image; f stands for 0 … f.
        kernel_size: odd number of pixels that are mixed, or (across, down).
        sigma: widths of the bell across and down, drawn once for the batch; s stands for 0 … s.
        value_range: least and largest value of pixels.
        seed: of the draws.

    >>> RandomGaussianBlur(kernel_size=5, sigma=2.0)(np.ones((1, 8, 8, 3))).shape
    (1, 8, 8, 3)
    """

    def __init__(
        self,
        factor: Any = 1.0,
        kernel_size: Any = 3,
        sigma: Any = 1.0,
        value_range: Any = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(factor, seed, data_format, **kwargs)
        size = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
        if len(size) != 2 or not all(isinstance(n, int) and n % 2 == 1 for n in size):
            raise ValueError(f"RandomGaussianBlur: kernel_size is an odd number or two; received {kernel_size!r}.")
        self.kernel_size = tuple(size)
        self.sigma = share("RandomGaussianBlur", sigma, math.inf)
        self.value_range = tuple(value_range)

    def damage(self, images: Tensor) -> Tensor:
        sigma = core.random.uniform((2,), *self.sigma, images.dtype, self.seed_generator) + 1e-6
        return ops.clip(ops.image.gaussian_blur(images, self.kernel_size, sigma), *self.value_range)


class RandomPerspective(_Sometimes):
    """Images seen from aside: their corners moved, each coordinate by a share of itself.

    Args:
        factor: probability, from which it is drawn for each image; f stands for 0 … f.
        scale: in [0, 1]; the shares lie between -scale / 2 and scale / 2.
        interpolation: "nearest" or "bilinear".
        fill_value: of what is seen outside of the image.
        seed: of the draws.

    >>> RandomPerspective(scale=0.5)(np.ones((1, 8, 8, 3))).shape
    (1, 8, 8, 3)
    """

    moves = True

    def __init__(
        self,
        factor: Any = 1.0,
        scale: float = 1.0,
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(factor, seed, data_format, **kwargs)
        if not 0 <= scale <= 1:
            raise ValueError(f"RandomPerspective: scale lies in [0, 1]; received {scale}.")
        self.scale, self.interpolation, self.fill_value = scale, interpolation, fill_value

    def damage(self, images: Tensor) -> Tensor:
        count, height, width, _ = images.shape
        corners = [[x, y] for y in (0.0, height - 1.0) for x in (0.0, width - 1.0)]
        corners = ops.broadcast_to(ops.cast(corners, "float32"), (count, 4, 2))
        shares = core.random.uniform(corners.shape, -self.scale / 2, self.scale / 2, "float32", self.seed_generator)
        seen = ops.image.perspective_transform(
            ops.cast(images, "float32"), corners, corners * (1 + shares), self.interpolation, self.fill_value
        )
        return ops.cast(seen, images.dtype)


class RandomElasticTransform(_Sometimes):
    """Images moved along a smooth random field; Simard, Steinkraus, Platt (2003).

    Args:
        factor: probability, from which it is drawn for each image; f stands for 0 … f.
        scale: how strong, drawn once for the batch; s stands for 0 … s. The field's size is a tenth of it times
            the larger side, its smoothness a twentieth times the smaller side.
        interpolation: "nearest" or "bilinear".
        fill_mode: what is seen outside of the image: "constant", "nearest", "wrap", "mirror" or "reflect".
        fill_value: for "constant".
        value_range: least and largest value of pixels.
        seed: of the draws.

    >>> RandomElasticTransform(scale=(0.5, 1.0))(np.ones((1, 8, 8, 3))).shape
    (1, 8, 8, 3)
    """

    moves = True

    def __init__(
        self,
        factor: Any = 1.0,
        scale: Any = 1.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(factor, seed, data_format, **kwargs)
        self.scale = share("RandomElasticTransform", scale)
        self.interpolation, self.fill_mode, self.fill_value = interpolation, fill_mode, fill_value
        self.value_range = tuple(value_range)

    def damage(self, images: Tensor) -> Tensor:
        sides = images.shape[1:3]
        strength = core.random.uniform((), *self.scale, images.dtype, self.seed_generator)
        moved = ops.image.elastic_transform(
            images,
            strength * (0.1 * max(sides)),
            ops.maximum(strength * (0.05 * min(sides)), 1e-3),
            self.interpolation,
            self.fill_mode,
            self.fill_value,
            self.seed_generator,
        )
        return ops.clip(moved, *self.value_range)
