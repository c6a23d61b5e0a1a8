"""Layers that disturb their inputs in training, against overfitting."""

from __future__ import annotations

import math
from typing import Any

from .. import core
from ..core import Tensor, ops
from .checks import InputSpec
from .convolution import check_channels_last
from .layer import Layer
from .regularizers import L1L2


class Dropout(Layer):
    """In training, zero each element with probability ``rate`` and scale the others by 1 / (1 - rate).

    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov (2014).

    Args:
        rate: in [0, 1].
        noise_shape: shape of the random pattern: 1 along axes where it repeats, None where as the input.
        seed: makes the pattern reproducible; drawn from the global stream by default.
    """

    supports_masking = True

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate <= 1:
            raise ValueError(f"Dropout: rate is in [0, 1]; received {rate}.")
        self.rate = rate
        self.noise_shape = noise_shape
        self.seed = seed
        if rate > 0:
            self.seed_generator = core.random.SeedGenerator(seed)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1:
            return ops.zeros_like(inputs)
        return core.random.dropout(inputs, self.rate, self.noise_shape, self.seed_generator)


class _SpatialDropout(Dropout):
    rank: int

    def __init__(self, rate: float, data_format: str | None = None, seed: int | None = None, **kwargs: Any):
        super().__init__(rate, (None, *(1,) * self.rank, None), seed, **kwargs)
        check_channels_last(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)


class SpatialDropout1D(_SpatialDropout):
    """Dropout of whole channels of sequences, (B, T, C); Tompson et al. (2015)."""

    rank = 1

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(rate, seed=seed, **kwargs)


class SpatialDropout2D(_SpatialDropout):
    """Dropout of whole channels of images, (N, H, W, C); Tompson et al. (2015)."""

    rank = 2


class SpatialDropout3D(_SpatialDropout):
    """Dropout of whole channels of volumes, (N, D, H, W, C); Tompson et al. (2015)."""

    rank = 3


class StochasticDepth(Layer):
    """In training, zero whole examples with probability ``rate`` and scale the others by 1 / (1 - rate).

    For the residual branches of deep nets; also known as DropPath. Huang et al. (2016).
    """

    supports_masking = True

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"StochasticDepth: rate is in [0, 1); received {rate}.")
        self.rate = rate
        if rate > 0:
            self.seed_generator = core.random.SeedGenerator(seed)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if not training or self.rate == 0:
            return inputs
        pattern = (None, *(1,) * (inputs.ndim - 1))
        return core.random.dropout(inputs, self.rate, pattern, self.seed_generator)


DropPath = StochasticDepth


class _Noise(Layer):
    """Normal noise, in training only."""

    supports_masking = True

    def __init__(self, seed: int | None, amount: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.amount = amount
        if amount > 0:
            self.seed_generator = core.random.SeedGenerator(seed)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if not training or self.amount == 0:
            return inputs
        noise = core.random.normal(inputs.shape, dtype=self.compute_dtype, seed=self.seed_generator)
        return self.disturb(inputs, noise * self.amount)

    def disturb(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Bring noise of mean 0 into the inputs."""
        raise NotImplementedError


class GaussianNoise(_Noise):
    """In training, add normal noise of standard deviation ``stddev``."""

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any):
        super().__init__(seed, stddev, **kwargs)
        if not 0 <= stddev <= 1:
            raise ValueError(f"GaussianNoise: stddev is in [0, 1]; received {stddev}.")

    def disturb(self, inputs: Tensor, noise: Tensor) -> Tensor:
        return inputs + noise


class GaussianDropout(_Noise):
    """In training, multiply by normal noise of mean 1 and variance rate / (1 - rate); Srivastava et al. (2014)."""

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        if not 0 <= rate < 1:
            raise ValueError(f"GaussianDropout: rate is in [0, 1); received {rate}.")
        super().__init__(seed, math.sqrt(rate / (1 - rate)), **kwargs)

    def disturb(self, inputs: Tensor, noise: Tensor) -> Tensor:
        return inputs * (1 + noise)


class AlphaDropout(Dropout):
    """Dropout that keeps mean and variance of what a SELU made; Klambauer et al. (2017).

    The arguments are those of :class:`Dropout`.
    """

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if not training or self.rate == 0:
            return inputs
        low = -1.6732632423543772 * 1.0507009873554805  # the least value of a SELU
        scale = ((1 - self.rate) * (1 + self.rate * low**2)) ** -0.5
        shape = inputs.shape
        if self.noise_shape is not None:
            shape = [n or m for n, m in zip(self.noise_shape, shape, strict=True)]
        kept = core.random.uniform(shape, seed=self.seed_generator) >= self.rate
        return scale * ops.where(kept, inputs, low) - scale * low * self.rate


class ActivityRegularization(Layer):
    """The input itself, with a penalty on it: l1·sum(|x|) + l2·sum(x²), divided by the batch size."""

    supports_masking = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(activity_regularizer=L1L2(l1, l2), **kwargs)

    def call(self, inputs: Tensor) -> Tensor:
        return inputs
