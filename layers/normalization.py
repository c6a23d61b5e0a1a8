"""Normalisation of activations."""

from __future__ import annotations

import math
from typing import Any

from ..core import ShapeError, Tensor, Variable, config, ops
from ..core.dtypes import FLOAT32, result_type
from .checks import InputSpec
from .layer import Layer


def _in_single(inputs: Tensor) -> Tensor:
    """Half precision as float32: squares and sums of it would overflow, or not be exact enough."""
    return ops.cast(inputs, result_type(inputs.dtype, FLOAT32))


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
        synchronized: accepted for Keras: there is one device, so the statistics are those of the whole batch.
        renorm: correct the statistics of a batch by averages over batches, for small batches; Ioffe, "Batch
            Renormalization" (2017).
        renorm_clipping: limits of the correction y·r + d: a dict of "rmin", "rmax" and "dmax".
        renorm_momentum: share of the old value in those averages.
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
        synchronized: bool = False,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale = center, scale
        self.renorm, self.renorm_momentum = renorm, renorm_momentum
        self.renorm_clipping = _clipping(renorm_clipping or {})

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[self.axis],)
        exact: dict[str, Any] = {"autocast": False}  # in their own precision, whatever that of the inputs
        self.gamma = self.add_weight(shape, name="gamma", **exact) if self.scale else None
        self.beta = self.add_weight(shape, name="beta", **exact) if self.center else None
        exact["trainable"] = False
        self.moving_mean = self.add_weight(shape, name="moving_mean", **exact)
        self.moving_variance = self.add_weight(shape, name="moving_variance", **exact)
        if self.renorm:
            root = ops.sqrt(self.moving_variance)
            self.moving_stddev = self.add_weight(shape, root, name="moving_stddev", **exact)
            self.renorm_mean = self.add_weight(shape, self.moving_mean_initializer, name="renorm_mean", **exact)
            self.renorm_stddev = self.add_weight(shape, root, name="renorm_stddev", **exact)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: shape[0]})

    def call(self, inputs: Tensor, training: bool = False, mask: Any = None) -> Tensor:
        return ops.cast(self._call(_in_single(inputs), training, mask), self.compute_dtype)

    def _call(self, inputs: Tensor, training: bool, mask: Any) -> Tensor:
        if not (training and self.trainable):
            return self._normalized(inputs, self.moving_mean, self.moving_variance)
        axes = [axis for axis in range(inputs.ndim) if axis != self.axis % inputs.ndim]
        if self.renorm:
            moments = ops.moments(inputs, axes) if mask is None else self._masked_moments(inputs, axes, mask)
            return self._renormalized(inputs, *moments)
        if mask is None:
            y, mean, variance = ops.standardize(inputs, axes, self.gamma, self.beta, self.epsilon)
        else:
            mean, variance = self._masked_moments(inputs, axes, mask)
            y = self._normalized(inputs, mean, variance)
        self._average(self.moving_mean, mean, self.momentum)
        self._average(self.moving_variance, variance, self.momentum)
        return y

    @staticmethod
    def _average(average: Variable, new: Tensor, momentum: float) -> None:
        new = ops.stop_gradient(ops.reshape(new, average.shape))
        average.assign(average * momentum + new * (1 - momentum))

    def _normalized(self, inputs: Tensor, mean: Any, variance: Any) -> Tensor:
        return ops.batch_normalization(inputs, mean, variance, self.axis, self.beta, self.gamma, self.epsilon)

    def _renormalized(self, inputs: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """y·r + d, which is what the averages would give; r and d count as constants."""
        deviation = ops.sqrt(variance + self.epsilon)
        usual = ops.maximum(self.renorm_stddev, self.epsilon**0.5)
        limits = self.renorm_clipping
        r = ops.clip(deviation / usual, limits["rmin"], limits["rmax"])
        d = ops.clip((mean - self.renorm_mean) / usual, -limits["dmax"], limits["dmax"])
        r, d = ops.stop_gradient(r), ops.stop_gradient(d)
        gamma, beta = self.gamma if self.scale else 1.0, self.beta if self.center else 0.0
        offset = d * gamma + beta
        y = ops.batch_normalization(inputs, mean, variance, self.axis, offset, r * gamma, self.epsilon)
        self._average(self.renorm_mean, mean, self.renorm_momentum)
        self._average(self.renorm_stddev, deviation, self.renorm_momentum)
        self._average(self.moving_mean, mean, self.momentum)
        self._average(self.moving_stddev, deviation, self.momentum)
        self.moving_variance.assign(ops.relu(ops.square(self.moving_stddev) - self.epsilon))
        return y

    @staticmethod
    def _masked_moments(inputs: Tensor, axes: list[int], mask: Tensor) -> tuple[Tensor, Tensor]:
        if mask.ndim != inputs.ndim - 1:
            raise ShapeError(f"A mask has one axis less than its data; received {mask.shape} for {inputs.shape}.")
        counts = ops.cast(ops.broadcast_to(ops.expand_dims(mask, -1), inputs.shape), inputs.dtype)
        total = ops.sum(counts, axes, keepdims=True) + config.epsilon()
        mean = ops.sum(inputs * counts, axes, keepdims=True) / total
        variance = ops.sum(ops.square(inputs - mean) * counts, axes, keepdims=True) / total
        return ops.squeeze(mean, axes), ops.squeeze(variance, axes)


def _clipping(given: dict[str, float]) -> dict[str, float]:
    """Limits of a correction, all of them; ValueError for others."""
    limits = {"rmin": 0.0, "rmax": math.inf, "dmax": math.inf} | given
    if len(limits) > 3 or limits["rmin"] > limits["rmax"] or limits["dmax"] < 0:
        raise ValueError(
            f"BatchNormalization: renorm_clipping holds rmin <= rmax, and dmax >= 0; received {given}. Other keys "
            "are unknown."
        )
    return limits


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
        self.autocast = False
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
        outputs = ops.layer_normalization(_in_single(inputs), gamma, beta, self.axis, self.epsilon)
        return ops.cast(outputs, self.compute_dtype)


class GroupNormalization(Layer):
    """Normalise groups of channels of each example to mean 0 and variance 1, then scale and shift each channel.

    Wu, He (2018). With ``groups=-1``, one channel a group, it is instance normalisation.

    Args:
        groups: number of groups, which divides the channels.
        axis: the channels.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.
    """

    supports_masking = True

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
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
        self.autocast = False
        self.groups, self.axis, self.epsilon = groups, axis, epsilon
        self.center, self.scale = center, scale

    def build(self, input_shape: Any) -> None:
        channels = input_shape[self.axis]
        self._groups = channels if self.groups == -1 else self.groups
        if channels % self._groups:
            raise ShapeError(f"The input has {channels} channels, which {self._groups} groups do not divide.")
        self.gamma = self.add_weight((channels,), name="gamma") if self.scale else None
        self.beta = self.add_weight((channels,), name="beta") if self.center else None
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Tensor) -> Tensor:
        axis, shape = self.axis % inputs.ndim, inputs.shape
        groups = (*shape[:axis], self._groups, shape[axis] // self._groups, *shape[axis + 1 :])
        axes = [i for i in range(1, len(groups)) if i != axis]
        x = ops.layer_normalization(ops.reshape(_in_single(inputs), groups), axis=axes, epsilon=self.epsilon)
        x = ops.reshape(x, shape)
        along = [n if i == axis else 1 for i, n in enumerate(shape)]
        x = x * ops.reshape(self.gamma, along) if self.scale else x
        x = x + ops.reshape(self.beta, along) if self.center else x
        return ops.cast(x, self.compute_dtype)


class RMSNormalization(Layer):
    """Divide each example by the root of its mean square over ``axis``, then scale; Zhang, Sennrich (2019).

    Args:
        axis: one axis or several.
        epsilon: added to the mean square.
    """

    supports_masking = True

    def __init__(self, axis: Any = -1, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis if isinstance(axis, int) else tuple(axis)
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        axes = (self.axis,) if isinstance(self.axis, int) else self.axis
        axes = sorted(axis % len(input_shape) for axis in axes)
        self._along = [n if i in axes else 1 for i, n in enumerate(input_shape)]
        self.scale = self.add_weight([input_shape[axis] for axis in axes], "ones", name="scale")

    def call(self, inputs: Tensor) -> Tensor:
        scale = ops.reshape(self.scale, self._along)
        outputs = ops.rms_normalization(_in_single(inputs), scale, self.axis, self.epsilon)
        return ops.cast(outputs, self.compute_dtype)


class UnitNormalization(Layer):
    """Scale each example to length 1 over ``axis``."""

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis if isinstance(axis, int) else tuple(axis)

    def call(self, inputs: Tensor) -> Tensor:
        squares = ops.sum(ops.square(inputs), self.axis, keepdims=True)
        return inputs * ops.rsqrt(ops.maximum(squares, 1e-12))
