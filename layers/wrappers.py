"""Layers around another layer."""

from __future__ import annotations

from typing import Any

from ..core import ShapeError, Tensor, ops, pytree
from .initializers import TruncatedNormal
from .layer import Layer


class Wrapper(Layer):
    """Base of layers that hold another one as ``layer``, and build it with themselves."""

    def __init__(self, layer: Layer, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(layer, Layer):
            raise TypeError(f"{type(self).__name__}: expected a layer; received {layer!r}.")
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)


class TimeDistributed(Wrapper):
    """A layer applied to each time step by itself: (B, T, …) -> (B, T, …)

    All steps are handed to the layer as one batch of B·T examples.

    >>> from tenzoo.layers import Dense
    >>> TimeDistributed(Dense(4))(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    supports_masking = True

    def build(self, input_shape: Any) -> None:
        if len(input_shape) < 3:
            raise ShapeError(f"Expected sequences (B, T, …) of examples; received shape {input_shape}.")
        super().build((None, *input_shape[2:]))

    def call(self, inputs: Tensor, mask: Any = None, training: bool = False) -> Any:
        batch, steps = inputs.shape[:2]

        def merged(value: Tensor) -> Tensor:
            return ops.reshape(value, (batch * steps, *value.shape[2:]))

        options = {} if mask is None or mask.ndim < 3 else {"mask": merged(mask)}
        outputs = self.layer(merged(inputs), training=training, **options)
        return pytree.map(lambda leaf: ops.reshape(leaf, (batch, steps, *leaf.shape[1:])), outputs)


class SpectralNormalization(Wrapper):
    """A layer whose kernel is divided by its largest singular value, at every call in training.

    Miyato et al. (2018). The value is estimated by power iteration from a vector that is kept.

    Args:
        layer: one with a ``kernel`` (or ``embeddings``).
        power_iterations: how often the estimate is improved in each call.

    >>> from tenzoo.layers import Dense
    >>> SpectralNormalization(Dense(4))(np.ones((2, 3)), training=True).shape
    (2, 4)
    """

    def __init__(self, layer: Layer, power_iterations: int = 1, **kwargs: Any):
        super().__init__(layer, **kwargs)
        if power_iterations <= 0:
            raise ValueError(f"SpectralNormalization: power_iterations is positive; received {power_iterations}.")
        self.power_iterations = power_iterations

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        found = [getattr(self.layer, name) for name in ("kernel", "embeddings") if hasattr(self.layer, name)]
        if not found:
            raise ValueError(f"{type(self.layer).__name__} has neither a kernel nor embeddings to normalise.")
        vars(self)["_kernel"] = found[0]  # the inner layer's weight, not one of this layer
        shape = (1, self._kernel.shape[-1])
        self.vector_u = self.add_weight(shape, TruncatedNormal(stddev=0.02), trainable=False, name="vector_u")

    def call(self, inputs: Tensor, training: bool = False) -> Any:
        if training:
            kernel = self._kernel.value
            columns = ops.reshape(kernel, (-1, kernel.shape[-1]))
            u = self.vector_u.value
            for _ in range(self.power_iterations):
                v = _unit(ops.matmul(u, ops.transpose(columns)))
                u = _unit(ops.matmul(v, columns))
            u, v = ops.stop_gradient(u), ops.stop_gradient(v)
            largest = ops.matmul(ops.matmul(v, columns), ops.transpose(u))
            zero = ops.all(kernel == 0)  # nothing to divide by
            self.vector_u.assign(ops.where(zero, self.vector_u, u))
            self._kernel.assign(ops.where(zero, kernel, kernel / ops.reshape(ops.where(zero, 1.0, largest), ())))
        return self.layer(inputs)


def _unit(x: Tensor) -> Tensor:
    """A vector of length 1."""
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x)), 1e-12))
