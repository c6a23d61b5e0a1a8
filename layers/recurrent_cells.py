"""Cells: one time step of the recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import core
from ..core import Tensor, ops, pytree
from . import activations
from .layer import Layer


class RecurrentCell(Layer):
    """What the cells share: weights, dropout, and a step in two parts.

    :meth:`prepare` does what does not depend on the states, for one step or for all of them at once;
    :meth:`advance` does the rest, and stands in the loop.
    """

    gates: int  # blocks of units columns in the kernels
    state_count = 1

    def _configure(self, units: int, use_bias: bool, rates: tuple[float, float], seed: int | None) -> None:
        if not isinstance(units, int) or units <= 0:
            raise ValueError(f"{type(self).__name__}: units is a positive integer; received {units!r}.")
        if not all(0 <= rate < 1 for rate in rates):
            raise ValueError(f"{type(self).__name__}: dropout rates are in [0, 1); received {rates}.")
        self.units, self.use_bias, self.seed = units, use_bias, seed
        self.dropout, self.recurrent_dropout = rates
        if any(rates):
            self.seed_generator = core.random.SeedGenerator(seed)

    @property
    def state_size(self) -> Any:
        """Length of the state, or a list of lengths."""
        return self.units if self.state_count == 1 else [self.units] * self.state_count

    @property
    def output_size(self) -> int:
        """Length of the output."""
        return self.units

    def get_initial_state(self, batch_size: int) -> list[Tensor]:
        """Zeros for every state, (B, units)."""
        return [ops.zeros((batch_size, self.units), self.compute_dtype) for _ in range(self.state_count)]

    def build(self, input_shape: Any) -> None:
        columns = self.gates * self.units
        self.kernel = self.add_weight((input_shape[-1], columns), name="kernel")
        self.recurrent_kernel = self._add_recurrent_kernel((self.units, columns))
        self.bias = self._add_bias(columns) if self.use_bias else None

    def _add_recurrent_kernel(self, shape: tuple) -> core.Variable:
        return self.add_weight(
            shape,
            self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
            name="recurrent_kernel",
        )

    def _add_bias(self, columns: int) -> core.Variable:
        return self.add_weight((columns,), name="bias")

    def prepare(self, inputs: Tensor, training: bool = False) -> tuple[Tensor, Any]:
        """The inputs' part of the gates, (…, B, C) -> (…, B, gates·units), and what all steps share.

        The latter is the dropout pattern of the state, (B, units) or None, unless a cell needs more.
        """
        noise = None
        if training and self.dropout:
            inputs = inputs * self._noise(inputs.shape[-2:], self.dropout)
        if training and self.recurrent_dropout:
            noise = self._noise((inputs.shape[-2], self.units), self.recurrent_dropout)
        return self._project(inputs), noise

    def _noise(self, shape: tuple, rate: float) -> Tensor:
        return core.random.dropout(ops.ones(shape, self.compute_dtype), rate, seed=self.seed_generator)

    def _project(self, inputs: Tensor) -> Tensor:
        x = ops.matmul(inputs, self.kernel)
        return x + self.bias if self.use_bias else x

    def advance(self, x: Tensor, states: list[Tensor], shared: Any) -> list[Tensor]:
        """The states after a step, the first of which is the output; x and shared are what prepare made."""
        raise NotImplementedError

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, Any]:
        x, shared = self.prepare(inputs, training)
        new = self.advance(x, pytree.flatten(states), shared)
        return new[0], pytree.unflatten(states, new)


class SimpleRNNCell(RecurrentCell):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias): (B, C), [(B, units)] -> (B, units), [(B, units)]"""

    gates = 1

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
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
        super().__init__(**kwargs)
        self._configure(units, use_bias, (dropout, recurrent_dropout), seed)
        self.activation = activations.get(activation)

    def advance(self, x: Tensor, states: list[Tensor], noise: Tensor | None) -> list[Tensor]:
        (h,) = states
        h = h if noise is None else h * noise
        return [self.activation(x + ops.matmul(h, self.recurrent_kernel))]


def forget_bias(layer: Layer, extent: int) -> Any:
    """The initializer of an LSTM's bias: ones for the forget gate; Jozefowicz, Zaremba, Sutskever (2015)."""

    def initialize(shape: tuple, dtype: Any = None) -> np.ndarray:
        value = np.array(layer.bias_initializer(shape, dtype=dtype))
        value[extent : 2 * extent] = 1
        return value

    return initialize if layer.unit_forget_bias else layer.bias_initializer


class LSTMCell(RecurrentCell):
    """One step of an LSTM: (B, C), [h (B, units), c (B, units)] -> h, [h, c]

    The kernels hold the gates in the order input, forget, candidate, output. Hochreiter, Schmidhuber (1997).
    """

    gates = 4
    state_count = 2

    def __init__(
        self,
        units: int,
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
        super().__init__(**kwargs)
        self._configure(units, use_bias, (dropout, recurrent_dropout), seed)
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias

    def _add_bias(self, columns: int) -> core.Variable:
        return self.add_weight((columns,), forget_bias(self, self.units), name="bias")

    def advance(self, x: Tensor, states: list[Tensor], noise: Tensor | None) -> list[Tensor]:
        h, c = states
        h = h if noise is None else h * noise
        return self._gate(x + ops.matmul(h, self.recurrent_kernel), c)

    def _gate(self, z: Tensor, c: Tensor) -> list[Tensor]:
        i, f, candidate, o = ops.split(z, 4, -1)
        kept = self.recurrent_activation(f) * c
        c = kept + self.recurrent_activation(i) * self.activation(candidate)
        return [self.recurrent_activation(o) * self.activation(c), c]


class GRUCell(RecurrentCell):
    """One step of a GRU: (B, C), [h (B, units)] -> h, [h]

    The kernels hold the gates in the order update, reset, candidate. With ``reset_after`` the reset gate acts
    on the product with the recurrent kernel, and the bias has a second row, for that product; else it acts on
    the state before. Cho et al. (2014).
    """

    gates = 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._configure(units, use_bias, (dropout, recurrent_dropout), seed)
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.reset_after = reset_after

    def _add_bias(self, columns: int) -> core.Variable:
        return self.add_weight((2, columns) if self.reset_after else (columns,), name="bias")

    def _project(self, inputs: Tensor) -> Tensor:
        x = ops.matmul(inputs, self.kernel)
        if not self.use_bias:
            return x
        return x + (self.bias[0] if self.reset_after else self.bias)

    def prepare(self, inputs: Tensor, training: bool = False) -> tuple[Tensor, Any]:
        x, noise = super().prepare(inputs, training)
        # Taken apart here: in the loop, the gradients of the parts would be put together at every step.
        kernel, bias = self.recurrent_kernel.value, None
        if self.reset_after:
            bias = self.bias[1] if self.use_bias else None
        else:
            kernel = (kernel[:, : 2 * self.units], kernel[:, 2 * self.units :])
        return x, (noise, kernel, bias)

    def advance(self, x: Tensor, states: list[Tensor], shared: Any) -> list[Tensor]:
        (h,) = states
        noise, kernel, bias = shared
        seen = h if noise is None else h * noise
        if self.reset_after:
            inner = ops.matmul(seen, kernel)
            z, r, inner = ops.split(inner if bias is None else inner + bias, 3, -1)
        else:
            z, r = ops.split(ops.matmul(seen, kernel[0]), 2, -1)
        x_z, x_r, x_candidate = ops.split(x, 3, -1)
        update, reset = self.recurrent_activation(x_z + z), self.recurrent_activation(x_r + r)
        inner = reset * inner if self.reset_after else ops.matmul(reset * seen, kernel[1])
        return [update * h + (1 - update) * self.activation(x_candidate + inner)]


class StackedRNNCells(Layer):
    """Cells one on top of the other, as one cell: each is fed with the output of the one below.

    Its states are a list with the states of each cell.
    """

    def __init__(self, cells: list[Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.cells = list(cells)

    @property
    def state_size(self) -> list:
        """The state sizes of the cells."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """Length of the last cell's output."""
        return output_size(self.cells[-1])

    def get_initial_state(self, batch_size: int) -> list:
        """The first states of the cells."""
        return [initial_state(cell, batch_size) for cell in self.cells]

    def build(self, input_shape: Any) -> None:
        for cell in self.cells:
            if not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], output_size(cell))

    def call(self, inputs: Tensor, states: list, training: bool = False) -> tuple[Tensor, list]:
        new = []
        for cell, state in zip(self.cells, states, strict=True):
            inputs, state = cell(inputs, state, training=training)
            new.append(state)
        return inputs, new


def output_size(cell: Any) -> int:
    """Length of a cell's output: declared by it, or that of its first state."""
    return getattr(cell, "output_size", None) or pytree.flatten(cell.state_size)[0]


def initial_state(cell: Any, batch_size: int) -> list:
    """A cell's states before the first step: its own idea of them, or zeros."""
    if hasattr(cell, "get_initial_state"):
        state = cell.get_initial_state(batch_size=batch_size)
    else:
        state = pytree.map(lambda n: ops.zeros((batch_size, n), cell.compute_dtype), cell.state_size)
    return list(state) if isinstance(state, (list, tuple)) else [state]
