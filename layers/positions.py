"""Where in a sequence: rotations and waves that stand for positions."""

from __future__ import annotations

from typing import Any

from ..core import ShapeError, Tensor, ops
from .layer import Layer


class RotaryEmbedding(Layer):
    """Rotate pairs of features by angles that grow with the position: (B, T, …, d) -> (B, T, …, d)

    Feature i of the first half is paired with feature i of the second. Between queries and keys that are
    rotated, products depend on the distance of the positions alone. Su et al.: "RoFormer" (2021).

    Args:
        max_wavelength: the slowest pair turns once in so many steps, times 2π.
        scaling_factor: by which positions are divided, to stretch what was learned to longer sequences.
        sequence_axis: the axis of positions.
        feature_axis: the axis of features, of even extent.

    >>> RotaryEmbedding()(np.ones((2, 5, 3, 8))).shape
    (2, 5, 3, 8)
    """

    supports_masking = True

    def __init__(
        self,
        max_wavelength: float = 10000,
        scaling_factor: float = 1.0,
        sequence_axis: int = 1,
        feature_axis: int = -1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.max_wavelength, self.scaling_factor = max_wavelength, scaling_factor
        self.sequence_axis, self.feature_axis = sequence_axis, feature_axis

    def call(self, inputs: Tensor, start_index: Any = 0, positions: Any = None) -> Tensor:
        """``positions``: (T,) or (B, T); by default they count from ``start_index``."""
        x = ops.moveaxis(inputs, (self.sequence_axis, self.feature_axis), (1, -1))
        features = x.shape[-1]
        if features % 2:
            raise ShapeError(f"RotaryEmbedding pairs features; received {features} of them, an odd number.")
        places = _places(x.shape[1], start_index, positions) / self.scaling_factor
        speeds = 1.0 / self.max_wavelength ** (ops.arange(0, features, 2, dtype="float32") / features)
        angles = ops.expand_dims(places, -1) * speeds  # (T, d/2) or (B, T, d/2)
        angles = ops.concatenate([angles, angles], -1)
        lead = angles.shape[:-1] if angles.ndim == 3 else (1, *angles.shape[:-1])
        angles = ops.reshape(angles, (*lead, *(1,) * (x.ndim - 3), features))
        first, second = ops.split(x, 2, -1)
        turned = ops.concatenate([-second, first], -1)
        x = x * ops.cast(ops.cos(angles), x.dtype) + turned * ops.cast(ops.sin(angles), x.dtype)
        return ops.moveaxis(x, (1, -1), (self.sequence_axis, self.feature_axis))


class SinePositionEncoding(Layer):
    """Sines and cosines of the position, to be added to embeddings: (B, T, C) -> (B, T, C)

    Even features hold sines, odd ones cosines, slower from pair to pair. Vaswani et al. (2017).

    Args:
        max_wavelength: the slowest wave takes so many steps, times 2π.

    >>> SinePositionEncoding()(np.zeros((1, 2, 4))).numpy().round(2)[0].tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8399999737739563, 0.5400000214576721, 0.009999999776482582, 1.0]]
    """

    supports_masking = True

    def __init__(self, max_wavelength: float = 10000, **kwargs: Any):
        super().__init__(**kwargs)
        self.max_wavelength = max_wavelength

    def call(self, inputs: Tensor, start_index: Any = 0, positions: Any = None) -> Tensor:
        """``positions``: (T,) or (B, T); by default they count from ``start_index``."""
        steps, features = inputs.shape[-2:]
        number = ops.arange(features)
        pair = ops.cast(number // 2 * 2, "float32") / features
        angles = ops.expand_dims(_places(steps, start_index, positions), -1) / self.max_wavelength**pair
        waves = ops.where(number % 2 == 0, ops.sin(angles), ops.cos(angles))
        return ops.broadcast_to(ops.cast(waves, self.compute_dtype), inputs.shape)


def _places(steps: int, start_index: Any, positions: Any) -> Tensor:
    """The positions of the steps as floats."""
    if positions is not None:
        return ops.cast(positions, "float32")
    return ops.cast(start_index, "float32") + ops.arange(steps, dtype="float32")
