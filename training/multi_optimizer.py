"""Several optimizers side by side: each updates some of the variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

from ..core import Variable
from ..layers.serialization import Serializable
from .loss_scaling import LossScaleOptimizer
from .optimizer import Optimizer


def _checked(optimizer: Any) -> Optimizer:
    if not isinstance(optimizer, Optimizer) or isinstance(optimizer, (LossScaleOptimizer, MultiOptimizer)):
        raise ValueError(
            f"Expected an optimizer that updates by itself; received {optimizer!r}. A LossScaleOptimizer goes around "
            "the MultiOptimizer, not into it."
        )
    return optimizer


class OptimizerMap(Serializable, MutableMapping, namespace="optimizers"):
    """Which optimizer updates which variables: by path, or by a regular expression that fits the whole path.

    Args:
        default_optimizer: for the variables that no key fits.
        optimizer_map: optimizers by path or expression.

    >>> table = OptimizerMap(tz.optimizers.SGD(), {"encoder/.*": tz.optimizers.Adam()})
    >>> table["encoder/dense/kernel"].name, table["head/kernel"].name
    ('adam', 'sgd')
    """

    def __init__(self, default_optimizer: Any, optimizer_map: dict[str, Any] | None = None):
        self.default_optimizer = _checked(default_optimizer)
        self._optimizers: dict[str, Optimizer] = {}
        self._arguments["optimizer_map"] = self._optimizers  # what the config holds
        for key, optimizer in (optimizer_map or {}).items():
            self[key] = optimizer

    def __getitem__(self, key: str) -> Optimizer:
        if key in self._optimizers:
            return self._optimizers[key]
        fitting = [pattern for pattern in self._optimizers if re.fullmatch(pattern, key)]
        if len(fitting) > 1:
            raise ValueError(f"Several keys fit the variable '{key}': {fitting}. Make them narrower.")
        return self._optimizers[fitting[0]] if fitting else self.default_optimizer

    def __setitem__(self, key: str, optimizer: Any) -> None:
        if not isinstance(key, str) or key in self._optimizers:
            raise ValueError(f"Keys are paths or expressions, each once; received {key!r}.")
        self._optimizers[key] = _checked(optimizer)

    def __delitem__(self, key: str) -> None:
        del self._optimizers[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._optimizers)

    def __len__(self) -> int:
        return len(self._optimizers)

    def __call__(self, variable: Variable) -> Optimizer:
        """The optimizer of a variable."""
        return self[variable.path]


class MultiOptimizer(Optimizer):
    """Hands each variable to the optimizer that a map, or a function of the variable, names.

    Learning rates, clipping and weight decay are those of the optimizers, which :attr:`optimizers` lists.

    Args:
        optimizer_map: an :class:`OptimizerMap`, or a function from a variable to an optimizer.
        loss_scale_factor: the loss is multiplied, and the gradients are divided by it.

    >>> slow, fast = Variable([1.0], name="slow"), Variable([1.0], name="fast")
    >>> table = OptimizerMap(tz.optimizers.SGD(0.1), {"fast": tz.optimizers.SGD(1.0)})
    >>> MultiOptimizer(table).apply([[1.0], [1.0]], [slow, fast])
    >>> round(float(slow[0]), 2), round(float(fast[0]), 2)
    (0.9, 0.0)
    """

    def __init__(
        self,
        optimizer_map: Callable[[Variable], Optimizer],
        loss_scale_factor: float | None = None,
        name: str | None = None,
    ):
        if not callable(optimizer_map):
            raise TypeError(f"Expected an OptimizerMap, or a function of a variable; received {optimizer_map!r}.")
        super().__init__(0.0, loss_scale_factor=loss_scale_factor, name=name)
        self._optimizer_of = optimizer_map
        self._shares: dict[int, tuple[Optimizer, list[Variable]]] = {}

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers that have variables; known after ``build``."""
        return [optimizer for optimizer, _ in self._shares.values()]

    @property
    def learning_rate(self) -> Any:
        """There is none: an AttributeError that says so."""
        raise AttributeError("A MultiOptimizer has no learning rate; those in its .optimizers have one each.")

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if self._learning_rate is not None:
            raise AttributeError("A MultiOptimizer has no learning rate; set that of one of its .optimizers.")
        self._learning_rate = value

    @property
    def variables(self) -> list[Variable]:
        """The count of updates, then the state of each optimizer."""
        return [*self._variables, *(variable for optimizer in self.optimizers for variable in optimizer.variables)]

    def build(self, variables: Sequence[Variable]) -> None:
        """Share ``variables`` out, and make the state for them."""
        self._trainable_variables = list(variables)
        self._shares = {}
        for variable in variables:
            optimizer = _checked(self._optimizer_of(variable))
            self._shares.setdefault(id(optimizer), (optimizer, []))[1].append(variable)
        for number, (optimizer, share) in enumerate(self._shares.values()):
            optimizer.loss_scale_factor = self.loss_scale_factor
            optimizer.build(share)
            for state in optimizer.variables:  # two of one class would have the same paths
                state.path = f"{self.name}/{number}/{state.path}"
        self.built = True

    def apply(self, grads: Sequence, trainable_variables: Sequence[Variable] | None = None) -> None:
        """Update each variable by its own optimizer."""
        if not self.built and trainable_variables is None:
            raise ValueError("apply(grads) has to know the variables: pass them, or call build(variables) first.")
        if not self.built:
            self.build(trainable_variables)
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if len(grads) != len(variables):
            raise ValueError(f"Expected one gradient per variable; received {len(grads)} for {len(variables)}.")
        gradients = {id(variable): gradient for variable, gradient in zip(variables, grads, strict=True)}
        for optimizer, share in self._shares.values():
            present = [variable for variable in share if id(variable) in gradients]
            optimizer.apply([gradients.pop(id(variable)) for variable in present], present)
        if gradients:
            strange = [variable.path for variable in variables if id(variable) in gradients]
            raise ValueError(f"The optimizer {self.name!r} was not built with {strange}. Compile the model again.")
        self._iterations.assign_add(1)

    def finalize_variable_values(self, var_list: Iterable[Variable] | None = None) -> None:
        """Put the moving averages that the optimizers keep in place."""
        for optimizer in self.optimizers:
            optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return Serializable.get_config(self)
