"""Layers that change the shape and compute nothing. Channels last, the batch axis untouched."""

from __future__ import annotations

import math
from typing import Any

from ..core import ShapeError, Tensor, ops
from ..core.ops.common import pair
from .checks import InputSpec
from .convolution import check_channels_last
from .layer import Layer


class Flatten(Layer):
    """All axes but the batch as one: (B, …) -> (B, n)

    >>> Flatten()(np.ones((2, 3, 4))).shape
    (2, 12)
    """

    input_spec = InputSpec(min_ndim=1)

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        check_channels_last(data_format)

    def call(self, inputs: Tensor) -> Tensor:
        return ops.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))


class Reshape(Layer):
    """The elements of each example in another shape, without the batch axis; one extent may be -1."""

    def __init__(self, target_shape: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape)

    def call(self, inputs: Tensor) -> Tensor:
        size, shape = math.prod(inputs.shape[1:]), self.target_shape
        known = math.prod(n for n in shape if n != -1)
        if shape.count(-1) > 1 or (size % known if -1 in shape and known else size != known):
            raise ShapeError(
                f"Reshape: an example of shape {inputs.shape[1:]} has {size} elements, which do not fill {shape}."
            )
        return ops.reshape(inputs, (inputs.shape[0], *(size // known if n == -1 else n for n in shape)))


class Permute(Layer):
    """The axes in another order, counted from 1 without the batch axis: ``Permute((2, 1))`` swaps two."""

    def __init__(self, dims: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"Permute: dims is a permutation of 1 … {len(self.dims)}; received {dims}.")
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: Tensor) -> Tensor:
        return ops.transpose(inputs, (0, *self.dims))


class RepeatVector(Layer):
    """Each vector n times: (B, C) -> (B, n, C)"""

    input_spec = InputSpec(ndim=2)

    def __init__(self, n: int, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(n, int) or n < 0:
            raise ValueError(f"RepeatVector: n is a whole number; received {n!r}.")
        self.n = n

    def call(self, inputs: Tensor) -> Tensor:
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)


def _sides(value: Any, rank: int, name: str) -> tuple[tuple[int, int], ...]:
    """(before, after) per spatial axis, given as one number, one per axis, or pairs."""
    if isinstance(value, int):
        value = (value,) * rank
    elif rank == 1 and len(value) == 2:
        value = (value,)
    if len(value) != rank:
        raise ValueError(f"{name}: expected an integer, or {rank} integers or pairs; received {value}.")
    sides = tuple(pair(side, 2, name) for side in value)
    if any(n < 0 for side in sides for n in side):
        raise ValueError(f"{name}: expected numbers that are not negative; received {value}.")
    return sides


class _ZeroPadding(Layer):
    rank: int

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        check_channels_last(data_format)
        self.padding = _sides(padding, self.rank, "padding")
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs: Tensor) -> Tensor:
        return ops.pad(inputs, ((0, 0), *self.padding, (0, 0)))


class ZeroPadding1D(_ZeroPadding):
    """Zeros before and after the time steps, (N, T, C) -> (N, T', C)."""

    rank = 1


class ZeroPadding2D(_ZeroPadding):
    """Zeros around images, (N, H, W, C) -> (N, H', W', C)."""

    rank = 2


class ZeroPadding3D(_ZeroPadding):
    """Zeros around volumes, (N, D, H, W, C) -> (N, D', H', W', C)."""

    rank = 3


class _Cropping(Layer):
    rank: int

    def __init__(self, cropping: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        check_channels_last(data_format)
        self.cropping = _sides(cropping, self.rank, "cropping")
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs: Tensor) -> Tensor:
        spatial = inputs.shape[1:-1]
        if any(a + b >= n for (a, b), n in zip(self.cropping, spatial, strict=True)):
            raise ShapeError(f"The cropping {self.cropping} leaves nothing of an input of shape {inputs.shape}.")
        inside = (slice(a, n - b) for (a, b), n in zip(self.cropping, spatial, strict=True))
        return inputs[(slice(None), *inside)]


class Cropping1D(_Cropping):
    """Without the first and last time steps, (N, T, C) -> (N, T', C)."""

    rank = 1


class Cropping2D(_Cropping):
    """Without the margins of images, (N, H, W, C) -> (N, H', W', C); by default all of them stays."""

    rank = 2

    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any):
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(_Cropping):
    """Without the margins of volumes, (N, D, H, W, C) -> (N, D', H', W', C)."""

    rank = 3


class _UpSampling(Layer):
    rank: int

    def __init__(self, size: Any = 2, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        check_channels_last(data_format)
        self.size = pair(size, self.rank, "size")
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs: Tensor) -> Tensor:
        for axis, factor in enumerate(self.size, 1):
            inputs = ops.repeat(inputs, factor, axis=axis)
        return inputs


class UpSampling1D(_UpSampling):
    """Each time step ``size`` times, (N, T, C) -> (N, T·size, C)."""

    rank = 1


class UpSampling2D(_UpSampling):
    """Images enlarged by whole factors, (N, H, W, C) -> (N, H·size, W·size, C).

    ``interpolation``: "nearest" repeats pixels; "bilinear", "bicubic", … as in ``tz.ops.image.resize``.
    """

    rank = 2

    def __init__(self, size: Any = 2, data_format: str | None = None, interpolation: str = "nearest", **kwargs: Any):
        super().__init__(size, data_format, **kwargs)
        self.interpolation = interpolation

    def call(self, inputs: Tensor) -> Tensor:
        if self.interpolation == "nearest":
            return super().call(inputs)
        height, width = (n * factor for n, factor in zip(inputs.shape[1:3], self.size, strict=True))
        return ops.image.resize(inputs, (height, width), self.interpolation)


class UpSampling3D(_UpSampling):
    """Each voxel ``size`` times along all axes, (N, D, H, W, C) -> (N, D·size, H·size, W·size, C)."""

    rank = 3


class PixelShuffle(Layer):
    """Channels spread out over blocks of pixels: (N, H, W, b·b·C) -> (N, H·b, W·b, C); Shi et al. (2016)."""

    input_spec = InputSpec(ndim=4)

    def __init__(self, block_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.block_size = block_size

    def call(self, inputs: Tensor) -> Tensor:
        return ops.depth_to_space(inputs, self.block_size)


class PixelUnshuffle(Layer):
    """Blocks of pixels gathered as channels: (N, H·b, W·b, C) -> (N, H, W, b·b·C)"""

    input_spec = InputSpec(ndim=4)

    def __init__(self, block_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.block_size = block_size

    def call(self, inputs: Tensor) -> Tensor:
        return ops.space_to_depth(inputs, self.block_size)
