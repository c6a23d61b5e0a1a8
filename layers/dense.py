"""Dense layers: products with a matrix, or along several axes."""

from __future__ import annotations

import math
import re
import string
from typing import Any

from ..core import ShapeError, Tensor, ops
from . import activations, initializers
from .checks import InputSpec
from .lora import LowRankAdaptation


class Dense(LowRankAdaptation):
    """activation(x @ kernel + bias): (..., C) -> (..., units)

    Args:
        units: extent of the outputs' last axis.
        activation: name or function.
        use_bias: whether there is a bias.
        lora_rank: learn a correction of the kernel of this rank in its place; see :meth:`enable_lora`.
        lora_alpha: the correction counts lora_alpha / lora_rank; lora_rank by default.

    >>> Dense(3, activation="relu")(np.ones((2, 5))).shape
    (2, 3)
    """

    supports_masking = True
    input_spec = InputSpec(min_ndim=2)

    def __init__(
        self,
        units: int,
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
        if not isinstance(units, int) or units <= 0:
            raise ValueError(f"Dense: units is a positive integer; received {units!r}.")
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")
        self.bias = self.add_weight((self.units,), name="bias") if self.use_bias else None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        self._build_lora()

    def call(self, inputs: Tensor) -> Tensor:
        x = ops.matmul(inputs, self._adapted_weight())
        if self.use_bias:
            x = x + self.bias
        return self.activation(x)


class EinsumDense(LowRankAdaptation):
    """activation(einsum(equation, x, kernel) + bias), for products along several axes.

    Args:
        equation: such as "abc,cde->abde"; the first operand is the input, "..." stands for further axes.
        output_shape: extents of the output without the batch axis (and without those of "..."); None where
            they are the input's.
        bias_axes: the letters of the output's axes that have a bias; None for no bias.
        lora_rank: learn a correction of the kernel of this rank in its place; see :meth:`enable_lora`.
        lora_alpha: the correction counts lora_alpha / lora_rank; lora_rank by default.

    >>> EinsumDense("abc,cde->abde", output_shape=(None, 2, 4), bias_axes="de")(np.ones((2, 3, 5))).shape
    (2, 3, 2, 4)
    """

    supports_masking = True

    def __init__(
        self,
        equation: str,
        output_shape: Any,
        activation: Any = None,
        bias_axes: str | None = None,
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
        self.equation = equation.replace(" ", "")
        if not re.fullmatch(r"(\.\.\.)?\w+(\.\.\.)?,\w+->(\.\.\.)?\w+(\.\.\.)?", self.equation):
            raise ValueError(
                f"EinsumDense: an equation looks like 'abc,cd->abd' or '...c,cd->...d'; received {equation!r}."
            )
        self.activation = activations.get(activation)
        self.bias_axes = bias_axes
        self.output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)

    def build(self, input_shape: Any) -> None:
        inputs, kernel, outputs = re.split(",|->", self.equation)
        spare = "".join(c for c in string.ascii_letters if c not in self.equation)
        elided = spare[: len(input_shape) - len(inputs.replace("...", ""))]
        last = outputs.startswith("...")
        inputs, outputs = inputs.replace("...", elided), outputs.replace("...", elided)
        if len(inputs) != len(input_shape):
            raise ShapeError(f"'{self.equation}' takes {len(inputs)} axes; received shape {input_shape}.")
        named = outputs[-len(self.output_shape) :] if last else outputs[1:]
        given = {c: n for c, n in zip(named, self.output_shape) if n is not None}
        extents = {**dict(zip(inputs, input_shape)), **given}
        unknown = [c for c in kernel + outputs if c not in extents]
        clash = [c for c, n in zip(inputs, input_shape) if None not in (n, extents[c]) and n != extents[c]]
        if unknown or clash:
            raise ShapeError(
                f"'{self.equation}' with output_shape={self.output_shape} does not say, or contradicts, the "
                f"extents of {sorted({*unknown, *clash})} for an input of shape {tuple(input_shape)}."
            )
        self.kernel = self.add_weight([extents[c] for c in kernel], self._start(kernel, outputs), name="kernel")
        self.bias = None
        if self.bias_axes is not None:
            first = min(outputs.index(c) for c in self.bias_axes)
            shape = [extents[c] if c in self.bias_axes else 1 for c in outputs[first:]]
            self.bias = self.add_weight(shape, name="bias")
        self._build_lora()

    def _start(self, kernel: str, outputs: str) -> Any:
        """The kernel's initializer; one that scales sees the matrix (summed axes, other axes)."""
        rows, columns = ([i for i, c in enumerate(kernel) if (c in outputs) == kept] for kept in (False, True))
        order = rows + columns

        def initialize(shape: tuple, dtype: Any = None) -> Tensor:
            sizes = (math.prod(shape[i] for i in part) for part in (rows, columns))
            matrix = self.kernel_initializer(tuple(sizes), dtype=dtype)
            value = ops.reshape(matrix, [shape[i] for i in order])
            return ops.transpose(value, [order.index(i) for i in range(len(order))])

        scales = isinstance(self.kernel_initializer, initializers.VarianceScaling)
        return initialize if scales else self.kernel_initializer

    def call(self, inputs: Tensor) -> Tensor:
        x = ops.einsum(self.equation, inputs, self._adapted_weight())
        return self.activation(x if self.bias is None else x + self.bias)
