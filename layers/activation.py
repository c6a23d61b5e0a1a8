"""Activations as layers."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, ops
from ..core.dtypes import limits
from . import activations
from .layer import Layer


class Activation(Layer):
    """An activation function, by name or itself.

    >>> Activation("relu")(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    supports_masking = True

    def __init__(self, activation: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: Tensor) -> Tensor:
        return self.activation(inputs)


class ReLU(Layer):
    """x above ``threshold``, at most ``max_value``; negative_slope·(x - threshold) below."""

    supports_masking = True

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if min(negative_slope or 0, threshold or 0, 0 if max_value is None else max_value) < 0:
            raise ValueError(
                f"ReLU: expected arguments that are not negative; received max_value={max_value}, "
                f"negative_slope={negative_slope}, threshold={threshold}."
            )
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def call(self, inputs: Tensor) -> Tensor:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(Layer):
    """x where positive, negative_slope·x elsewhere."""

    supports_masking = True

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any):
        super().__init__(**kwargs)
        self.negative_slope = negative_slope

    def call(self, inputs: Tensor) -> Tensor:
        return ops.leaky_relu(inputs, self.negative_slope)


class ELU(Layer):
    """x where positive, alpha·(exp(x) - 1) elsewhere; Clevert, Unterthiner, Hochreiter (2015)."""

    supports_masking = True

    def __init__(self, alpha: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs: Tensor) -> Tensor:
        return ops.elu(inputs, self.alpha)


class PReLU(Layer):
    """x where positive, alpha·x elsewhere, alpha learned for each position (one along ``shared_axes``).

    He, Zhang, Ren, Sun: "Delving deep into rectifiers" (2015).
    """

    supports_masking = True

    def __init__(
        self,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.shared_axes = (shared_axes,) if isinstance(shared_axes, int) else tuple(shared_axes or ())

    def build(self, input_shape: Any) -> None:
        shape = [1 if axis in self.shared_axes else n for axis, n in enumerate(input_shape)]
        self.alpha = self.add_weight(shape[1:], name="alpha")

    def call(self, inputs: Tensor) -> Tensor:
        return ops.relu(inputs) - self.alpha * ops.relu(-inputs)


class Softmax(Layer):
    """exp(x) divided by its sum over ``axis``; positions where ``mask`` is False get 0."""

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Tensor, mask: Any = None) -> Tensor:
        if mask is None:
            return ops.softmax(inputs, self.axis)
        lowest = float(limits(inputs.dtype).min) / 2
        return ops.where(mask, ops.softmax(ops.where(mask, inputs, lowest), self.axis), 0.0)
