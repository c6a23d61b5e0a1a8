"""Convolutions over channels-last data."""

from __future__ import annotations

from typing import Any

from ..core import ShapeError, Tensor, ops
from ..core.ops.common import pair
from . import activations
from .checks import InputSpec
from .layer import Layer
from .lora import LowRankAdaptation


def check_channels_last(data_format: str | None) -> None:
    """Raise ValueError for ``channels_first``: data are channels last throughout."""
    if data_format not in (None, "channels_last"):
        raise ValueError(
            f"Data are channels last here, (N, *spatial, C); received data_format={data_format!r}. Move the "
            "axis with Permute."
        )


class _Convolution(Layer):
    """What the convolutions share: geometry, bias and activation."""

    rank: int  # number of spatial axes
    paddings = ("valid", "same")

    def _configure(self, kernel_size: Any, strides: Any, padding: str, data_format: Any, dilation_rate: Any) -> None:
        check_channels_last(data_format)
        self.kernel_size = pair(kernel_size, self.rank, "kernel_size")
        self.strides = pair(strides, self.rank, "strides")
        self.dilation_rate = pair(dilation_rate, self.rank, "dilation_rate")
        self.padding = padding.lower()
        self.input_spec = InputSpec(ndim=self.rank + 2)
        if min(*self.kernel_size, *self.strides, *self.dilation_rate) < 1:
            raise ValueError(
                f"{type(self).__name__}: kernel_size, strides and dilation_rate are positive; received "
                f"{self.kernel_size}, {self.strides}, {self.dilation_rate}."
            )
        if self.padding not in self.paddings:
            raise ValueError(f"{type(self).__name__}: padding is one of {self.paddings}; received {padding!r}.")

    def _finish(self, outputs: Tensor) -> Tensor:
        return self.activation(outputs + self.bias if self.use_bias else outputs)


class _Conv(LowRankAdaptation, _Convolution):
    """activation(conv(x, kernel) + bias): (N, *spatial, C) -> (N, *output, filters)

    With ``lora_rank`` a correction of the kernel of this rank is learnt in its place; see :meth:`enable_lora`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._configure_lora(lora_rank, lora_alpha)
        self._configure(kernel_size, strides, padding, data_format, dilation_rate)
        if filters <= 0 or groups <= 0 or filters % groups:
            raise ValueError(
                f"{type(self).__name__}: filters is a positive multiple of groups; received {filters} and {groups}."
            )
        self.filters = filters
        self.groups = groups
        self.activation = activations.get(activation)
        self.use_bias = use_bias

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        if channels % self.groups:
            raise ShapeError(f"The input has {channels} channels, which {self.groups} groups do not divide.")
        self.kernel = self.add_weight((*self.kernel_size, channels // self.groups, self.filters), name="kernel")
        self.bias = self.add_weight((self.filters,), name="bias") if self.use_bias else None
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={-1: channels})
        self._build_lora()

    def call(self, inputs: Tensor) -> Tensor:
        kernel = self._adapted_weight()
        return self._finish(ops.conv(inputs, kernel, self.strides, self.padding, dilation_rate=self.dilation_rate))


class Conv1D(_Conv):
    """Convolution over time, (N, T, C) -> (N, T', filters); ``padding="causal"`` looks at the past only."""

    rank = 1
    paddings = ("valid", "same", "causal")


class Conv2D(_Conv):
    """Convolution over images, (N, H, W, C) -> (N, H', W', filters).

    >>> Conv2D(8, 3, strides=2, padding="same")(np.ones((1, 32, 32, 3))).shape
    (1, 16, 16, 8)
    """

    rank = 2


class Conv3D(_Conv):
    """Convolution over volumes, (N, D, H, W, C) -> (N, D', H', W', filters)."""

    rank = 3


class _DepthwiseConv(_Convolution):
    """Convolution of each channel by itself: (N, *spatial, C) -> (N, *output, C·depth_multiplier)"""

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._configure(kernel_size, strides, padding, data_format, dilation_rate)
        self.depth_multiplier = depth_multiplier
        self.activation = activations.get(activation)
        self.use_bias = use_bias

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            (*self.kernel_size, channels, self.depth_multiplier),
            self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
            name="kernel",
        )
        self.bias = self.add_weight((channels * self.depth_multiplier,), name="bias") if self.use_bias else None
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={-1: channels})

    def call(self, inputs: Tensor) -> Tensor:
        return self._finish(
            ops.depthwise_conv(inputs, self.kernel, self.strides, self.padding, dilation_rate=self.dilation_rate)
        )


class DepthwiseConv1D(_DepthwiseConv):
    """Convolution over time, channel by channel, (N, T, C) -> (N, T', C·depth_multiplier)."""

    rank = 1


class DepthwiseConv2D(_DepthwiseConv):
    """Convolution over images, channel by channel, (N, H, W, C) -> (N, H', W', C·depth_multiplier)."""

    rank = 2


class _SeparableConv(_Convolution):
    """Depthwise convolution followed by a mixing of channels: (N, *spatial, C) -> (N, *output, filters)"""

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._configure(kernel_size, strides, padding, data_format, dilation_rate)
        self.filters = filters
        self.depth_multiplier = depth_multiplier
        self.activation = activations.get(activation)
        self.use_bias = use_bias

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        self.depthwise_kernel = self.add_weight(
            (*self.kernel_size, channels, self.depth_multiplier),
            self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
            name="depthwise_kernel",
        )
        self.pointwise_kernel = self.add_weight(
            (*(1,) * self.rank, channels * self.depth_multiplier, self.filters),
            self.pointwise_initializer,
            regularizer=self.pointwise_regularizer,
            constraint=self.pointwise_constraint,
            name="pointwise_kernel",
        )
        self.bias = self.add_weight((self.filters,), name="bias") if self.use_bias else None
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={-1: channels})

    def call(self, inputs: Tensor) -> Tensor:
        return self._finish(
            ops.separable_conv(
                inputs,
                self.depthwise_kernel,
                self.pointwise_kernel,
                self.strides,
                self.padding,
                dilation_rate=self.dilation_rate,
            )
        )


class SeparableConv1D(_SeparableConv):
    """Depthwise-separable convolution over time, (N, T, C) -> (N, T', filters)."""

    rank = 1


class SeparableConv2D(_SeparableConv):
    """Depthwise-separable convolution over images, (N, H, W, C) -> (N, H', W', filters)."""

    rank = 2


class _ConvTranspose(_Convolution):
    """The transpose of a convolution, which enlarges: (N, *spatial, C) -> (N, *output, filters)"""

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._configure(kernel_size, strides, padding, data_format, dilation_rate)
        self.filters = filters
        self.output_padding = None if output_padding is None else pair(output_padding, self.rank, "output_padding")
        self.activation = activations.get(activation)
        self.use_bias = use_bias

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        self.kernel = self.add_weight((*self.kernel_size, self.filters, channels), name="kernel")
        self.bias = self.add_weight((self.filters,), name="bias") if self.use_bias else None
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={-1: channels})

    def call(self, inputs: Tensor) -> Tensor:
        return self._finish(
            ops.conv_transpose(
                inputs,
                self.kernel,
                self.strides,
                self.padding,
                self.output_padding,
                dilation_rate=self.dilation_rate,
            )
        )


class Conv1DTranspose(_ConvTranspose):
    """Transposed convolution over time, (N, T, C) -> (N, T', filters)."""

    rank = 1


class Conv2DTranspose(_ConvTranspose):
    """Transposed convolution over images, (N, H, W, C) -> (N, H', W', filters)."""

    rank = 2


class Conv3DTranspose(_ConvTranspose):
    """Transposed convolution over volumes, (N, D, H, W, C) -> (N, D', H', W', filters)."""

    rank = 3


# The long names that Keras has for the same.
Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution1DTranspose, Convolution2DTranspose = Conv1DTranspose, Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
