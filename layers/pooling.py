"""Pooling over windows and over everything, channels last."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, ops
from ..core.ops.common import pair
from .checks import InputSpec
from .convolution import check_channels_last
from .layer import Layer


class _Pooling(Layer):
    """Maximum or mean over windows: (N, *spatial, C) -> (N, *output, C)"""

    rank: int
    pool = staticmethod(ops.max_pool)

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_channels_last(data_format)
        self.pool_size = pair(pool_size, self.rank, "pool_size")
        self.strides = self.pool_size if strides is None else pair(strides, self.rank, "strides")
        self.padding = padding.lower()
        self.input_spec = InputSpec(ndim=self.rank + 2)
        if self.padding not in ("valid", "same"):
            raise ValueError(f'{type(self).__name__}: padding is "valid" or "same"; received {padding!r}.')

    def call(self, inputs: Tensor) -> Tensor:
        return self.pool(inputs, self.pool_size, self.strides, self.padding)


class MaxPooling1D(_Pooling):
    """Maximum over windows of time, (N, T, C) -> (N, T', C)."""

    rank = 1


class MaxPooling2D(_Pooling):
    """Maximum over windows of images, (N, H, W, C) -> (N, H', W', C)."""

    rank = 2


class MaxPooling3D(_Pooling):
    """Maximum over windows of volumes, (N, D, H, W, C) -> (N, D', H', W', C)."""

    rank = 3


class AveragePooling1D(_Pooling):
    """Mean over windows of time, (N, T, C) -> (N, T', C)."""

    rank = 1
    pool = staticmethod(ops.average_pool)


class AveragePooling2D(_Pooling):
    """Mean over windows of images, (N, H, W, C) -> (N, H', W', C); padding does not count."""

    rank = 2
    pool = staticmethod(ops.average_pool)


class AveragePooling3D(_Pooling):
    """Mean over windows of volumes, (N, D, H, W, C) -> (N, D', H', W', C)."""

    rank = 3
    pool = staticmethod(ops.average_pool)


class _GlobalPooling(Layer):
    """Maximum or mean over all spatial axes: (N, *spatial, C) -> (N, C), or (N, 1, …, C) with keepdims."""

    rank: int

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        check_channels_last(data_format)
        self.keepdims = keepdims
        self.input_spec = InputSpec(ndim=self.rank + 2)

    @property
    def _axes(self) -> list[int]:
        return list(range(1, self.rank + 1))


class _GlobalMaxPooling(_GlobalPooling):
    def call(self, inputs: Tensor) -> Tensor:
        return ops.max(inputs, self._axes, self.keepdims)


class _GlobalAveragePooling(_GlobalPooling):
    def call(self, inputs: Tensor) -> Tensor:
        return ops.mean(inputs, self._axes, self.keepdims)


class GlobalMaxPooling1D(_GlobalMaxPooling):
    """Maximum over time, (N, T, C) -> (N, C)."""

    rank = 1


class GlobalMaxPooling2D(_GlobalMaxPooling):
    """Maximum over images, (N, H, W, C) -> (N, C)."""

    rank = 2


class GlobalMaxPooling3D(_GlobalMaxPooling):
    """Maximum over volumes, (N, D, H, W, C) -> (N, C)."""

    rank = 3


class GlobalAveragePooling1D(_GlobalAveragePooling):
    """Mean over the time steps that the mask (N, T) lets count, (N, T, C) -> (N, C)."""

    rank = 1
    supports_masking = True

    def call(self, inputs: Tensor, mask: Any = None) -> Tensor:
        if mask is None:
            return super().call(inputs)
        counts = ops.cast(ops.expand_dims(mask, 2), inputs.dtype)
        return ops.sum(inputs * counts, 1, self.keepdims) / ops.sum(counts, 1, self.keepdims)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None


class GlobalAveragePooling2D(_GlobalAveragePooling):
    """Mean over images, (N, H, W, C) -> (N, C)."""

    rank = 2


class GlobalAveragePooling3D(_GlobalAveragePooling):
    """Mean over volumes, (N, D, H, W, C) -> (N, C)."""

    rank = 3


class _AdaptivePooling(Layer):
    """Maximum or mean over windows chosen so that the output has given extents."""

    rank: int
    pool = staticmethod(ops.adaptive_average_pool)

    def __init__(self, output_size: Any, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        check_channels_last(data_format)
        self.output_size = pair(output_size, self.rank, "output_size")
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs: Tensor) -> Tensor:
        return self.pool(inputs, self.output_size)


class AdaptiveAveragePooling1D(_AdaptivePooling):
    """Mean over windows of time, (N, T, C) -> (N, output_size, C)."""

    rank = 1


class AdaptiveAveragePooling2D(_AdaptivePooling):
    """Mean over windows of images, (N, H, W, C) -> (N, *output_size, C)."""

    rank = 2


class AdaptiveAveragePooling3D(_AdaptivePooling):
    """Mean over windows of volumes, (N, D, H, W, C) -> (N, *output_size, C)."""

    rank = 3


class AdaptiveMaxPooling1D(_AdaptivePooling):
    """Maximum over windows of time, (N, T, C) -> (N, output_size, C)."""

    rank = 1
    pool = staticmethod(ops.adaptive_max_pool)


class AdaptiveMaxPooling2D(_AdaptivePooling):
    """Maximum over windows of images, (N, H, W, C) -> (N, *output_size, C)."""

    rank = 2
    pool = staticmethod(ops.adaptive_max_pool)


class AdaptiveMaxPooling3D(_AdaptivePooling):
    """Maximum over windows of volumes, (N, D, H, W, C) -> (N, *output_size, C)."""

    rank = 3
    pool = staticmethod(ops.adaptive_max_pool)


# The short names that Keras has for the same.
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
