"""Preprocessing inside a model, so that it is saved and served with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import ShapeError, Tensor, config, ops
from .layer import Layer


class Rescaling(Layer):
    """inputs·scale + offset, as floats: ``Rescaling(1 / 255)`` brings images into [0, 1]."""

    supports_masking = True

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset

    def call(self, inputs: Tensor) -> Tensor:
        scale, offset = (ops.cast(value, self.compute_dtype) for value in (self.scale, self.offset))
        return ops.cast(inputs, self.compute_dtype) * scale + offset


class Normalization(Layer):
    """(inputs - mean) / standard deviation, for each position along ``axis``; 0 stays 0 where nothing varies.

    The statistics come from :meth:`adapt` or from the arguments.

    Args:
        axis: the axis or axes with statistics of their own; None for one mean and variance over everything.
        mean: given instead of adapting, broadcast along ``axis``; with ``variance``.
        variance: see ``mean``.
        invert: whether to undo the normalisation instead.

    >>> layer = Normalization()
    >>> layer.adapt(np.array([[0.0, 1.0], [2.0, 5.0]]))
    >>> layer(np.array([[2.0, 1.0]])).tolist()
    [[1.0, -1.0]]
    """

    supports_masking = True

    def __init__(self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if (mean is None) != (variance is None):
            raise ValueError("Normalization: give both mean and variance, or none of them and call adapt().")
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        self.invert = invert
        self._given = None if mean is None else (mean, variance)

    def build(self, input_shape: Any) -> None:
        kept = sorted(axis % len(input_shape) for axis in self.axis)
        if any(input_shape[axis] is None for axis in kept):
            raise ShapeError(f"Normalization: the extents of axes {kept} have to be known; received {input_shape}.")
        self._along = [n if axis in kept else 1 for axis, n in enumerate(input_shape)]
        if self._given is None:
            shape = tuple(input_shape[axis] for axis in kept)
            self.mean = self.add_weight(shape, "zeros", trainable=False, name="mean")
            self.variance = self.add_weight(shape, "ones", trainable=False, name="variance")
            self.count = self.add_weight((), "zeros", "int32", trainable=False, name="count")

    def adapt(self, data: Any) -> None:
        """Take mean and variance from ``data``: an array, or an iterable of batches, read once.

        Of batches that are tuples the first part counts. What was adapted to before is forgotten.
        """
        batches = [data] if hasattr(data, "shape") else data
        count, mean, spread = 0, 0.0, 0.0
        for batch in batches:
            batch = np.asarray(batch[0] if isinstance(batch, (tuple, list)) else batch, np.float64)
            if not self.built:
                self.build(batch.shape)
            axes = tuple(i for i in range(batch.ndim) if i not in {axis % batch.ndim for axis in self.axis})
            size = int(np.prod([batch.shape[i] for i in axes]))
            # Chan, Golub, LeVeque: "Updating formulae ... for computing sample variances" (1979)
            difference = batch.mean(axes) - mean
            spread = spread + batch.var(axes) * size + difference**2 * (count * size / (count + size))
            mean = mean + difference * (size / (count + size))
            count += size
        if count == 0:
            raise ValueError("Normalization.adapt: the data are empty.")
        self.mean.assign(mean)
        self.variance.assign(spread / count)
        self.count.assign(min(count, 2**31 - 1))

    def call(self, inputs: Tensor) -> Tensor:
        mean, variance = (self.mean, self.variance) if self._given is None else self._given
        mean, variance = (ops.cast(value, self.compute_dtype) for value in (mean, variance))
        if self._given is None:
            mean, variance = ops.reshape(mean, self._along), ops.reshape(variance, self._along)
        deviation = ops.maximum(ops.sqrt(variance), config.epsilon())
        inputs = ops.cast(inputs, self.compute_dtype)
        return inputs * deviation + mean if self.invert else (inputs - mean) / deviation
