"""Layers that disturb their inputs in training, against overfitting."""

from __future__ import annotations

from typing import Any

from .. import core
from ..core import Tensor
from .layer import Layer


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
            return core.ops.zeros_like(inputs)
        return core.random.dropout(inputs, self.rate, self.noise_shape, self.seed_generator)
