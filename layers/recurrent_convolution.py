"""LSTMs whose products are convolutions, for sequences of images."""

from __future__ import annotations

import math
from typing import Any

from ..core import ShapeError, Tensor, ops
from ..core.ops.common import pair
from . import activations
from .checks import InputSpec
from .convolution import check_channels_last
from .recurrent import RNN, layer_of
from .recurrent_cells import LSTMCell, RecurrentCell


class _ConvLSTMCell(LSTMCell):
    """One step of a convolutional LSTM: (B, *spatial, C), [h, c both (B, *output, filters)] -> h, [h, c]"""

    rank: int  # number of spatial axes

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super(RecurrentCell, self).__init__(**kwargs)
        check_channels_last(data_format)
        self._configure(filters, use_bias, (dropout, recurrent_dropout), seed)
        self.filters = filters
        self.kernel_size = pair(kernel_size, self.rank, "kernel_size")
        self.strides = pair(strides, self.rank, "strides")
        self.dilation_rate = pair(dilation_rate, self.rank, "dilation_rate")
        self.padding = padding.lower()
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias

    def build(self, input_shape: Any) -> None:
        if None in input_shape[1:]:
            raise ShapeError(f"The extents of the images have to be known; received {tuple(input_shape)}.")
        extents = zip(input_shape[1:-1], self.kernel_size, self.strides, self.dilation_rate, strict=True)
        self._spatial = tuple(
            -(-n // s) if self.padding == "same" else (n - (k - 1) * d - 1) // s + 1 for n, k, s, d in extents
        )
        columns = 4 * self.filters
        self.kernel = self.add_weight((*self.kernel_size, input_shape[-1], columns), name="kernel")
        self.recurrent_kernel = self._add_recurrent_kernel((*self.kernel_size, self.filters, columns))
        self.bias = self._add_bias(columns) if self.use_bias else None

    def get_initial_state(self, batch_size: int) -> list[Tensor]:
        shape = (batch_size, *self._spatial, self.filters)
        return [ops.zeros(shape, self.compute_dtype)] * 2

    def prepare(self, inputs: Tensor, training: bool = False) -> tuple[Tensor, Any]:
        noise, lead, example = None, inputs.shape[: -self.rank - 1], inputs.shape[-self.rank - 1 :]
        if training and self.dropout:
            inputs = inputs * self._noise((lead[-1], *example), self.dropout)
        if training and self.recurrent_dropout:
            noise = self._noise((lead[-1], *self._spatial, self.filters), self.recurrent_dropout)
        images = ops.reshape(inputs, (math.prod(lead), *example))
        x = ops.conv(images, self.kernel, self.strides, self.padding, dilation_rate=self.dilation_rate)
        x = ops.reshape(x, (*lead, *x.shape[1:]))
        return (x + self.bias if self.use_bias else x), noise

    def advance(self, x: Tensor, states: list[Tensor], shared: Any) -> list[Tensor]:
        h, c = states
        h = h if shared is None else h * shared
        return self._gate(x + ops.conv(h, self.recurrent_kernel, 1, "same"), c)


class _ConvLSTMCell1D(_ConvLSTMCell):
    rank = 1


class _ConvLSTMCell2D(_ConvLSTMCell):
    rank = 2


class _ConvLSTMCell3D(_ConvLSTMCell):
    rank = 3


@layer_of(_ConvLSTMCell1D)
class ConvLSTM1D(RNN):
    """Convolutional LSTM over sequences of rows: (B, T, W, C) -> (B, W', filters)"""

    input_spec = InputSpec(ndim=4)


@layer_of(_ConvLSTMCell2D)
class ConvLSTM2D(RNN):
    """Convolutional LSTM over sequences of images: (B, T, H, W, C) -> (B, H', W', filters)

    The geometry (``strides``, ``padding``, ``dilation_rate``) is that of the inputs' convolution; that of the
    state keeps its extents. The other arguments are those of LSTM. Shi et al. (2015).

    >>> ConvLSTM2D(4, 3, padding="same", return_sequences=True)(np.ones((2, 5, 8, 8, 1))).shape
    (2, 5, 8, 8, 4)
    """

    input_spec = InputSpec(ndim=5)


@layer_of(_ConvLSTMCell3D)
class ConvLSTM3D(RNN):
    """Convolutional LSTM over sequences of volumes: (B, T, D, H, W, C) -> (B, D', H', W', filters)"""

    input_spec = InputSpec(ndim=6)
