"""Normalisation of activations."""

from __future__ import annotations

from typing import Any

from ..core import ShapeError, Tensor, config, ops
from .checks import InputSpec
from .layer import Layer


class BatchNormalization(Layer):
    """Normalise each channel to mean 0 and variance 1 over the batch, then scale by gamma and shift by beta.

    In training with the statistics of the batch, of which moving averages are kept; else, and when
    ``trainable=False``, with those averages. Steps where a mask is False do not count. Ioffe, Szegedy (2015).

    Args:
        axis: the channels.
        momentum: share of the old value in the moving averages.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.
    """

    supports_masking = True

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale = center, scale

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[self.axis],)
        self.gamma = self.add_weight(shape, name="gamma") if self.scale else None
        self.beta = self.add_weight(shape, name="beta") if self.center else None
        self.moving_mean = self.add_weight(shape, trainable=False, name="moving_mean")
        self.moving_variance = self.add_weight(shape, trainable=False, name="moving_variance")
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: shape[0]})

    def call(self, inputs: Tensor, training: bool = False, mask: Any = None) -> Tensor:
        mean, variance = self.moving_mean.value, self.moving_variance.value
        if training and self.trainable:
            batch_mean, batch_variance = self._moments(inputs, mask)
            for average, moving, new in (
                (self.moving_mean, mean, batch_mean),
                (self.moving_variance, variance, batch_variance),
            ):
                average.assign(moving * self.momentum + ops.stop_gradient(new) * (1 - self.momentum))
            mean, variance = batch_mean, batch_variance
        return ops.batch_normalization(inputs, mean, variance, self.axis, self.beta, self.gamma, self.epsilon)

    def _moments(self, inputs: Tensor, mask: Any) -> tuple[Tensor, Tensor]:
        axes = [axis for axis in range(inputs.ndim) if axis != self.axis % inputs.ndim]
        if mask is None:
            return ops.moments(inputs, axes)
        if mask.ndim != inputs.ndim - 1:
            raise ShapeError(
                f"A mask has one axis less than its data; received {mask.shape} for {inputs.shape}."
            )
        counts = ops.cast(ops.broadcast_to(ops.expand_dims(mask, -1), inputs.shape), inputs.dtype)
        total = ops.sum(counts, axes, keepdims=True) + config.epsilon()
        mean = ops.sum(inputs * counts, axes, keepdims=True) / total
        variance = ops.sum(ops.square(inputs - mean) * counts, axes, keepdims=True) / total
        return ops.squeeze(mean, axes), ops.squeeze(variance, axes)


class LayerNormalization(Layer):
    """Normalise each example over ``axis`` to mean 0 and variance 1, then scale by gamma and shift by beta.

    Ba, Kiros, Hinton (2016).

    Args:
        axis: one axis or several.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.
    """

    supports_masking = True

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axis = axis if isinstance(axis, int) else tuple(axis)
        self.epsilon, self.center, self.scale = epsilon, center, scale

    def build(self, input_shape: Any) -> None:
        axes = (self.axis,) if isinstance(self.axis, int) else self.axis
        axes = sorted(axis % len(input_shape) for axis in axes)
        # Weights as broad as the data's last axes, so that they broadcast: 1 along what is not normalised.
        self._shape = [input_shape[i] if i in axes else 1 for i in range(axes[0], len(input_shape))]
        shape = tuple(input_shape[axis] for axis in axes)
        self.gamma = self.add_weight(shape, name="gamma") if self.scale else None
        self.beta = self.add_weight(shape, name="beta") if self.center else None
        self.input_spec = InputSpec(axes={axis: input_shape[axis] for axis in axes})

    def call(self, inputs: Tensor) -> Tensor:
        gamma = ops.reshape(self.gamma, self._shape) if self.scale else None
        beta = ops.reshape(self.beta, self._shape) if self.center else None
        return ops.layer_normalization(inputs, gamma, beta, self.axis, self.epsilon)
