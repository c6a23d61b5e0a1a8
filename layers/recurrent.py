"""Recurrent layers: a cell carried along the time steps of sequences (B, T, …)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..core import ShapeError, Tensor, Variable, ops, pytree
from .layer import Layer
from .recurrent_cells import (
    GRUCell,
    LSTMCell,
    RecurrentCell,
    SimpleRNNCell,
    StackedRNNCells,
    initial_state,
)


class RNN(Layer):
    """A cell along the time steps: (B, T, C) -> (B, units)

    The cell is a layer with ``call(inputs, states) -> (output, states)`` and ``state_size``, an integer or a
    list of them; ``output_size`` and ``get_initial_state(batch_size)`` are optional. A list of cells is
    stacked. Of the cells of this package, the inputs' products for all time steps are computed at once.

    Where the mask (B, T) is False, states stay and the output is that of the step before.

    Args:
        return_sequences: whether to return the outputs of all steps, (B, T, units), not only the last.
        return_state: whether to return the last states as well: (output, *states).
        go_backwards: whether to go from the last step to the first; outputs come in that order.
        stateful: whether a batch begins with the states with which the one before it ended. The batch size
            has to be known; :meth:`reset_state` starts anew.
        unroll: accepted for Keras and changes nothing: the loop is native code either way.
        zero_output_for_mask: whether the output is 0 where the mask is False.

    >>> RNN([LSTMCell(8), GRUCell(4)], return_sequences=True)(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    supports_masking = True

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.cell = StackedRNNCells(cell) if isinstance(cell, (list, tuple)) else cell
        if not isinstance(self.cell, Layer) or not hasattr(self.cell, "state_size"):
            raise ValueError(f"RNN: a cell is a layer with a state_size; received {cell!r}.")
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful, self.unroll = go_backwards, stateful, unroll
        self.zero_output_for_mask = zero_output_for_mask
        vars(self)["states"] = None  # what a stateful layer keeps; not weights

    @property
    def state_size(self) -> list:
        """The sizes of the states."""
        size = self.cell.state_size
        return [size] if isinstance(size, int) else list(size)

    def build(self, input_shape: Any) -> None:
        if len(input_shape) < 3:
            raise ShapeError(f"Expected sequences (B, T, …); received shape {tuple(input_shape)}.")
        if not self.cell.built:
            self.cell.build((input_shape[0], *input_shape[2:]))
        if self.stateful:
            self._keep_states(input_shape)

    def _keep_states(self, input_shape: Any) -> None:
        if input_shape[0] is None:
            raise ValueError("A stateful layer has to know the batch size: give it as Input(shape, batch_size=...).")
        start = self.get_initial_state(input_shape[0])
        vars(self)["states"] = pytree.map(lambda state: Variable(state, trainable=False, name="state"), start)

    def get_initial_state(self, batch_size: int) -> list:
        """The states before the first step."""
        return initial_state(self.cell, batch_size)

    def reset_state(self) -> None:
        """Let the next batch of a stateful layer begin with zeros."""
        for state in pytree.flatten(self.states or []):
            state.assign(ops.zeros_like(state))

    reset_states = reset_state

    def call(self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        states = self._first_states(sequences.shape[0], initial_state)
        stacked = isinstance(self.cell, StackedRNNCells)
        mask = None if mask is None else ops.swapaxes(mask, 0, 1)  # (T, B)
        values, final = ops.swapaxes(sequences, 0, 1), []  # (T, B, …)
        # A cell of a stack needs nothing from those above it, so each runs along all steps before the next.
        cells, states = (self.cell.cells, states) if stacked else ([self.cell], [states])
        for number, (cell, state) in enumerate(zip(cells, states, strict=True)):
            everything = self.return_sequences or number < len(cells) - 1
            values, last, state = self._carry(cell, values, state, mask, training, everything)
            final.append(state)
        final = final if stacked else final[0]
        if self.stateful:
            for kept, new in zip(pytree.flatten(self.states), pytree.flatten(final), strict=True):
                kept.assign(new)
        output = last
        if self.return_sequences:
            output = ops.swapaxes(ops.flip(values, 0) if self.go_backwards else values, 0, 1)
        return (output, *final) if self.return_state else output

    def _first_states(self, batch_size: int, given: Any) -> list:
        if given is None:
            if not self.stateful:
                return self.get_initial_state(batch_size)
            given = pytree.map(lambda state: state.value, self.states)
            expected = pytree.flatten(given)[0].shape[0]
            if expected != batch_size:
                raise ShapeError(
                    f"This stateful layer was built for batches of {expected}; received one of {batch_size}."
                )
        states = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(states) != len(self.state_size):
            raise ValueError(f"initial_state: expected {len(self.state_size)} states; received {len(states)}.")
        return pytree.map(lambda state: ops.cast(state, self.compute_dtype), states)

    def _carry(
        self, cell: Layer, values: Tensor, states: Any, mask: Any, training: bool, everything: bool
    ) -> tuple[Tensor | None, Tensor, Any]:
        """Run a cell along (T, B, …): the outputs of all steps if wanted, the last output, the last states."""
        step, values = _stepper(cell, values, training)
        # The last output of our cells is their first state, unless it is masked by zeros.
        is_state = isinstance(cell, RecurrentCell) and (mask is None or not self.zero_output_for_mask)
        everything = everything or not is_state

        def body(states: Any, now: Any) -> tuple[Any, Any]:
            output, new = step(now[0], states)
            if mask is not None:
                first = pytree.flatten(states)[0]
                output = _where(now[1], output, 0 if self.zero_output_for_mask else first)
                new = pytree.map(lambda a, b: _where(now[1], a, b), new, states)
            return new, output if everything else ()

        slices = (values,) if mask is None else (values, mask)
        states, outputs = ops.scan(body, states, slices, reverse=self.go_backwards)
        if is_state:
            return outputs, pytree.flatten(states)[0], states
        return outputs, outputs[0 if self.go_backwards else -1], states

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        mask = previous_mask if self.return_sequences else None
        return [mask, *[None] * len(self.state_size)] if self.return_state else mask


def _stepper(cell: Layer, values: Tensor, training: bool) -> tuple[Callable, Tensor]:
    """A step (x, states) -> (output, states), and the values that it takes, for all steps."""
    if not isinstance(cell, RecurrentCell):
        return lambda x, states: cell(x, states, training=training), values
    values, shared = cell.prepare(values, training)

    def step(x: Tensor, states: Any) -> tuple[Tensor, Any]:
        new = cell.advance(x, pytree.flatten(states), shared)
        return new[0], pytree.unflatten(states, new)

    return step, values


def _where(valid: Tensor, value: Tensor, otherwise: Any) -> Tensor:
    """``value`` in the examples that are valid: (B,), (B, …)."""
    return ops.where(ops.reshape(valid, valid.shape + (1,) * (value.ndim - 1)), value, otherwise)


def layer_of(cell_class: type[RecurrentCell]) -> Callable[[type[RNN]], type[RNN]]:
    """Give a subclass of RNN a constructor that takes the arguments of its cell, and then those of RNN."""
    cell_parameters = dict(inspect.signature(cell_class.__init__).parameters)
    del cell_parameters["kwargs"]
    further = dict(inspect.signature(RNN.__init__).parameters)
    del further["self"], further["cell"]
    signature = inspect.Signature([*cell_parameters.values(), *further.values()])

    def decorate(cls: type[RNN]) -> type[RNN]:
        @functools.wraps(RNN.__init__)
        def constructor(self: RNN, *arguments: Any, **options: Any) -> None:
            given = signature.bind(self, *arguments, **options).arguments
            common = given.pop("kwargs", {})
            own = {name: given[name] for name in list(cell_parameters)[1:] if name in given}
            rest = {name: given[name] for name in further if name in given}
            cell = cell_class(**own, **{name: common[name] for name in ("dtype", "trainable") if name in common})
            RNN.__init__(self, cell, **rest, **common)

        constructor.__signature__ = signature
        cls.__init__ = constructor
        return cls

    return decorate


@layer_of(SimpleRNNCell)
class SimpleRNN(RNN):
    """Fully connected recurrence, of :class:`SimpleRNNCell`: (B, T, C) -> (B, units)

    The arguments are those of the cell, then those of :class:`RNN`.

    >>> SimpleRNN(4)(np.ones((2, 5, 3))).shape
    (2, 4)
    """


@layer_of(LSTMCell)
class LSTM(RNN):
    """Long short-term memory, of :class:`LSTMCell`: (B, T, C) -> (B, units)

    The arguments are those of the cell, then those of :class:`RNN`.

    >>> output, h, c = LSTM(4, return_sequences=True, return_state=True)(np.ones((2, 5, 3)))
    >>> output.shape, h.shape, c.shape
    ((2, 5, 4), (2, 4), (2, 4))
    """


@layer_of(GRUCell)
class GRU(RNN):
    """Gated recurrent units, of :class:`GRUCell`: (B, T, C) -> (B, units)

    The arguments are those of the cell, then those of :class:`RNN`.

    >>> GRU(4, return_sequences=True, dropout=0.1)(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    """


_MERGE = {
    "concat": lambda forward, backward: ops.concatenate([forward, backward], -1),
    "sum": ops.add,
    "mul": ops.multiply,
    "ave": lambda forward, backward: (forward + backward) / 2,
}


class Bidirectional(Layer):
    """A recurrent layer in both directions of time: (B, T, C) -> (B, T, 2·units) or (B, 2·units)

    Both layers are made anew from the config of the given one.

    Args:
        layer: a recurrent layer, with ``return_sequences``, ``return_state``, ``go_backwards``.
        merge_mode: how the outputs of the directions are joined: "concat", "sum", "mul", "ave", or None for
            a pair of them. States, where returned, follow: those of the forward layer, then the backward ones.
        weights: values to start with, those of the forward layer and then those of the backward layer.
        backward_layer: another layer for the backward direction, with ``go_backwards=True``.

    >>> Bidirectional(GRU(4, return_sequences=True))(np.ones((2, 5, 3))).shape
    (2, 5, 8)
    """

    supports_masking = True

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if merge_mode is not None and merge_mode not in _MERGE:
            raise ValueError(f"Bidirectional: merge_mode is one of {list(_MERGE)} or None; received {merge_mode!r}.")
        self.merge_mode = merge_mode
        self.forward_layer = _renewed(layer, "forward", layer.go_backwards)
        self.backward_layer = backward_layer or _renewed(layer, "backward", not layer.go_backwards)
        for attribute in ("stateful", "return_sequences", "return_state"):
            values = [getattr(part, attribute) for part in (self.forward_layer, self.backward_layer)]
            if values[0] != values[1]:
                raise ValueError(f"Bidirectional: both layers need the same {attribute}; received {values}.")
            setattr(self, attribute, values[0])
        if self.forward_layer.go_backwards == self.backward_layer.go_backwards:
            raise ValueError("Bidirectional: one of the layers goes backwards (go_backwards=True).")
        for part in (self.forward_layer, self.backward_layer):
            part.zero_output_for_mask = self.return_sequences
        self._given = weights

    def build(self, input_shape: Any) -> None:
        for part in (self.forward_layer, self.backward_layer):
            part.build(input_shape)
        if self._given is not None:
            self.set_weights(self._given)

    def reset_state(self) -> None:
        """Let the next batch of stateful layers begin with zeros."""
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def call(self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        half = len(initial_state or []) // 2
        first, second = (initial_state[:half], initial_state[half:]) if half else (None, None)
        forward = self.forward_layer(sequences, initial_state=first, mask=mask, training=training)
        backward = self.backward_layer(sequences, initial_state=second, mask=mask, training=training)
        states: tuple = ()
        if self.return_state:
            (forward, *first), (backward, *second) = forward, backward
            states = (*first, *second)
        if self.return_sequences:
            backward = ops.flip(backward, 1)
        merged = (forward, backward) if self.merge_mode is None else _MERGE[self.merge_mode](forward, backward)
        if not states:
            return merged
        return (*merged, *states) if self.merge_mode is None else (merged, *states)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        mask = previous_mask if self.return_sequences else None
        states = [None] * (2 * len(self.forward_layer.state_size)) if self.return_state else []
        if self.merge_mode is None:
            return [mask, mask, *states]
        return [mask, *states] if states else mask


def _renewed(layer: Layer, prefix: str, go_backwards: bool) -> Layer:
    name = f"{prefix}_{layer.name.removeprefix(prefix + '_')}"
    return type(layer).from_config({**layer.get_config(), "name": name, "go_backwards": go_backwards})
