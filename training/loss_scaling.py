"""Loss scaling: gradients of float16 models kept out of underflow."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from ..core import Variable, ops
from ..layers.serialization import Serializable
from .optimizer import Optimizer


class LossScaleOptimizer(Optimizer):
    """Multiplies the loss by a scale that it adapts, and hands the gradients, divided by it, to an optimizer.

    A step with a gradient that is not finite is skipped and halves the scale; ``dynamic_growth_steps`` steps
    without one double it. Micikevicius et al., "Mixed Precision Training" (2018).

    Args:
        inner_optimizer: the optimizer that updates; options such as clipping and weight decay belong to it.
        initial_scale: scale of the first steps; better too high than too low, since it falls fast.
        dynamic_growth_steps: steps without overflow before the scale is doubled.

    >>> weight = Variable([1.0])
    >>> optimizer = LossScaleOptimizer(tz.optimizers.SGD(1.0), initial_scale=8.0)
    >>> optimizer.apply([[4.0]], [weight]); weight.numpy().tolist()
    [0.5]
    >>> optimizer.apply([[float("inf")]], [weight]); weight.numpy().tolist(), float(optimizer.dynamic_scale)
    ([0.5], 4.0)
    """

    def __init__(
        self,
        inner_optimizer: Any,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
    ):
        if not isinstance(inner_optimizer, Optimizer):
            raise TypeError(f"inner_optimizer has to be an optimizer; received {inner_optimizer!r}.")
        self.inner_optimizer = inner_optimizer
        super().__init__(0.0, name=name)
        self.initial_scale = initial_scale
        self.dynamic_growth_steps = dynamic_growth_steps
        self.step_counter = self.add_variable((), 0, "int32", "step_counter")
        self.dynamic_scale = self.add_variable((), initial_scale, "float32", "dynamic_scale")
        inner_optimizer.loss_scale_factor = None

    @property
    def iterations(self) -> Any:
        """Number of updates done by the inner optimizer."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """Learning rate of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if self._learning_rate is None:  # while the base class is set up
            Optimizer.learning_rate.fset(self, value)
        else:
            self.inner_optimizer.learning_rate = value

    @property
    def variables(self) -> list[Variable]:
        """The scale and its counter, then the state of the inner optimizer."""
        return [*self._variables, *self.inner_optimizer.variables]

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the state for ``variables``."""
        self.inner_optimizer.build(variables)
        self._trainable_variables = list(variables)
        self.built = True

    def scale_loss(self, loss: Any) -> Any:
        """Multiply a loss by the scale, before its gradients are taken."""
        return loss * ops.cast(self.dynamic_scale, loss.dtype)

    def apply(self, grads: Sequence, trainable_variables: Sequence[Variable] | None = None) -> None:
        """Divide by the scale and update, unless a gradient is not finite."""
        if not self.built:
            self.build(list(trainable_variables or ()))
        gradients = [None if gradient is None else ops.convert_to_tensor(gradient) for gradient in grads]
        finite = [ops.all(ops.isfinite(gradient)) for gradient in gradients if gradient is not None]

        def update() -> None:
            scale = self.dynamic_scale.value
            unscaled = [None if g is None else g / ops.cast(scale, g.dtype) for g in gradients]
            self.inner_optimizer.apply(unscaled, trainable_variables)
            due = ops.equal(self.step_counter, self.dynamic_growth_steps - 1)
            self.dynamic_scale.assign(ops.where(due, scale * 2.0, scale))
            self.step_counter.assign(ops.where(due, 0, self.step_counter + 1))

        def skip() -> None:
            self.dynamic_scale.assign(self.dynamic_scale / 2.0)
            self.step_counter.assign(0)

        ops.cond(functools.reduce(ops.logical_and, finite), update, skip)

    def finalize_variable_values(self, var_list: Iterable[Variable] | None = None) -> None:
        """Put the moving averages of the inner optimizer in place."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return Serializable.get_config(self)
