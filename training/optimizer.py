"""The base class of the optimizers: what they share around the rule by which gradients change variables.

A subclass names its slots (state beside each variable: momenta, averages) in ``slots`` and its rule in
``update_step``. All of it runs inside the compiled training step, so it keeps to tensor operations.
"""

from __future__ import annotations

import functools
import itertools
import math
import numbers
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core import Tensor, Variable, config, ops
from ..layers.serialization import Serializable, serialize, snake_case
from .schedules import LearningRateSchedule

ALIGN = 64  # bytes: slots begin where cache lines do


def _zeros(specs: Sequence[tuple]) -> list[np.ndarray]:
    """Arrays of zeros, of shapes and dtypes, cut from one piece: the system clears memory in large pages fastest."""
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in specs]
    edges = [0, *itertools.accumulate(-(-size // ALIGN) * ALIGN for size in sizes)]
    piece = np.zeros(edges[-1], np.uint8)
    return [
        piece[edge : edge + size].view(dtype).reshape(shape) for (shape, dtype), edge, size in zip(specs, edges, sizes)
    ]


class Optimizer(Serializable, namespace="optimizers"):
    """Base class of the optimizers.

    Args:
        learning_rate: a number, a :class:`~tenzoo.optimizers.schedules.LearningRateSchedule`, or a function
            without arguments.
        weight_decay: if given, every step first shrinks the variables by ``weight_decay * learning_rate``.
        clipnorm: the longest norm that the gradient of a variable may have.
        clipvalue: the largest magnitude that an element of a gradient may have.
        global_clipnorm: the longest norm that all gradients together may have.
        use_ema: keep moving averages of the variables; :meth:`finalize_variable_values` puts them in place.
        ema_momentum: share of the old average in the new one.
        ema_overwrite_frequency: put the averages in place every so many steps as well.
        loss_scale_factor: :meth:`scale_loss` multiplies by it and :meth:`apply` divides the gradients by it.
        gradient_accumulation_steps: update once in so many steps, with the mean of their gradients.
        learning_rate_multipliers: factors of the learning rate by regular expression on the variable's path;
            the first that is found in it counts: ``{"embedding": 0.1, "block_0": 0.5}``.
        name: first part of the paths of the optimizer's variables.

    Only one of the three ways of clipping may be chosen.

    >>> class SignDescent(Optimizer):
    ...     def update_step(self, gradient, variable, learning_rate):
    ...         variable.assign_sub(learning_rate * ops.sign(gradient))
    >>> weight = Variable([1.0, 2.0])
    >>> SignDescent(learning_rate=0.5).apply([[3.0, -4.0]], [weight])
    >>> weight.numpy().tolist()
    [0.5, 2.5]
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        learning_rate_multipliers: dict[str, float] | None = None,
        name: str | None = None,
    ):
        self.name = name or snake_case(type(self).__name__)
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.learning_rate_multipliers = dict(learning_rate_multipliers or {})
        self._check_arguments()
        self.built = False
        self._variables: list[Variable] = []
        self._trainable_variables: list[Variable] = []
        self._slots: dict[Variable, dict[str, Variable]] = {}
        self._undecayed: set[Variable] = set()
        self._undecayed_names: list[str] = []
        self._iterations = self.add_variable((), dtype="int32", name="iteration")
        self._learning_rate: Any = None
        self.learning_rate = learning_rate

    def _check_arguments(self) -> None:
        clippings = {name: getattr(self, name) for name in ("clipnorm", "clipvalue", "global_clipnorm")}
        chosen = {name: value for name, value in clippings.items() if value is not None}
        if len(chosen) > 1:
            raise ValueError(f"Expected one way of clipping gradients at most; received {chosen}.")
        if not 0 <= self.ema_momentum <= 1:
            raise ValueError(f"ema_momentum has to lie in [0, 1]; received {self.ema_momentum}.")
        for name, least in (("ema_overwrite_frequency", 1), ("gradient_accumulation_steps", 2)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise ValueError(f"{name} has to be an integer >= {least} or None; received {value!r}.")

    # State

    @property
    def iterations(self) -> Any:
        """Number of updates done, an integer scalar."""
        if self.gradient_accumulation_steps:
            return ops.floor_divide(self._iterations, self.gradient_accumulation_steps)
        return self._iterations

    @property
    def learning_rate(self) -> Any:
        """Learning rate of the next update: a variable, which can be assigned to, or the schedule's value."""
        if isinstance(self._learning_rate, LearningRateSchedule):
            return self._learning_rate(self._iterations)
        return self._learning_rate if isinstance(self._learning_rate, Variable) else self._learning_rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(self._learning_rate, Variable) and not callable(value):
            self._learning_rate.assign(value)
        elif callable(value):
            self._variables = [known for known in self._variables if known is not self._learning_rate]
            self._learning_rate = value
        elif self._learning_rate is not None:
            raise TypeError(
                f"The learning rate of {self.name!r} follows a schedule, so it cannot be set to {value!r}. "
                "Make the optimizer with a number, or assign another schedule."
            )
        elif isinstance(value, numbers.Real) or getattr(value, "shape", None) == ():
            self._learning_rate = self.add_variable((), float(value), config.floatx(), "learning_rate")
        else:
            raise ValueError(f"learning_rate has to be a number, a schedule or a function; received {value!r}.")

    @property
    def variables(self) -> list[Variable]:
        """What a checkpoint of the optimizer holds, in a fixed order; each has a ``path`` of its own."""
        return list(self._variables)

    def add_variable(
        self, shape: Sequence[int], initializer: Any = 0.0, dtype: Any = None, name: str | None = None
    ) -> Variable:
        """Add state; ``initializer`` is a number, an array of ``shape``, "zeros" or "ones"."""
        value = {"zeros": 0.0, "ones": 1.0}.get(initializer, 0.0) if isinstance(initializer, str) else initializer
        dtype = dtype or config.floatx()
        return self._add(np.array(np.broadcast_to(np.asarray(value, dtype), shape), order="C"), name or "variable")

    def _add(self, memory: np.ndarray, name: str) -> Variable:
        """Add state that lives in ``memory``."""
        variable = Variable(memory, trainable=False, name=name, copy=False)
        path, taken = f"{self.name}/{variable.name}", {known.path for known in self._variables}
        copies = (path if i == 0 else f"{path}_{i}" for i in range(len(taken) + 1))
        variable.path = next(candidate for candidate in copies if candidate not in taken)
        self._variables.append(variable)
        return variable

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str = "slot", initializer: Any = 0.0
    ) -> Variable:
        """Add state of the shape and dtype of a variable."""
        path = f"{name}/{reference_variable.path}"
        return self.add_variable(reference_variable.shape, initializer, reference_variable.dtype, path)

    def add_optimizer_variables(self, variables: Sequence[Variable], name: Any, initializer: Any = 0.0) -> Any:
        """Add state beside each variable: a list for a name, or a tuple of lists for a list of names."""
        if isinstance(name, str):
            return self._add_beside([(variable, name, variable.shape, initializer) for variable in variables])
        several = initializer if isinstance(initializer, (list, tuple)) else [initializer] * len(name)
        return tuple(self.add_optimizer_variables(variables, n, i) for n, i in zip(name, several))

    def _add_beside(self, wanted: Sequence[tuple[Variable, str, Sequence[int], Any]]) -> list[Variable]:
        """Add state for each (variable, name, shape, initial value)."""
        empty = [isinstance(initial, (int, float)) and initial == 0 for *_, initial in wanted]
        zeros = iter(_zeros([(shape, v.dtype) for (v, _, shape, _), zero in zip(wanted, empty) if zero]))
        return [
            self._add(next(zeros), f"{name}/{v.path}")
            if zero
            else self.add_variable(shape, initial, v.dtype, f"{name}/{v.path}")
            for (v, name, shape, initial), zero in zip(wanted, empty)
        ]

    def slots(self, variable: Variable) -> dict[str, Any]:
        """State that the rule keeps for ``variable``: initial values by name; numbers take its shape."""
        return {}

    def state(self, variable: Variable) -> tuple[Variable, ...]:
        """The slots of ``variable``, in the order of :meth:`slots`."""
        return tuple(self._slots[variable].values())

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the state for ``variables``. Called by the first :meth:`apply`, if not before."""
        self._trainable_variables = list(variables)
        self._slots = {variable: {} for variable in variables}
        wanted = [
            (v, name, np.shape(initial) or v.shape, initial)
            for v in variables
            for name, initial in self.slots(v).items()
        ]
        for (variable, name, *_), slot in zip(wanted, self._add_beside(wanted)):
            self._slots[variable][name] = slot
        if self.use_ema:
            self._averages = self.add_optimizer_variables(variables, "average")
        if self.gradient_accumulation_steps:
            sums = self.add_optimizer_variables(variables, "gradient_accumulator")
            self._accumulated = dict(zip(variables, sums))
        self._check_multipliers()
        self.built = True

    def _check_multipliers(self) -> None:
        paths = [variable.path for variable in self._trainable_variables]
        idle = [
            pattern for pattern in self.learning_rate_multipliers if not any(re.search(pattern, path) for path in paths)
        ]
        if idle:
            warnings.warn(
                f"learning_rate_multipliers: {', '.join(map(repr, idle))} is found in the path of no variable, so it "
                f"does nothing. Paths look like {paths[0]!r}. In a model that was loaded, layers may have new names.",
                stacklevel=3,
            )

    def _get_variable_index(self, variable: Variable) -> int:
        return next(i for i, known in enumerate(self._trainable_variables) if known is variable)

    # The update

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        """Change ``variable`` and its slots. All have one dtype; ``learning_rate`` is a scalar of it."""
        raise NotImplementedError(f"{type(self).__name__} has to define update_step.")

    def assign(self, variable: Variable, value: Any) -> None:
        """Give ``variable`` a new value."""
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """Add to ``variable``."""
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """Subtract from ``variable``."""
        variable.assign_sub(value)

    def apply_gradients(self, grads_and_vars: Iterable) -> Variable:
        """Update with pairs of gradient and variable; returns the count of updates."""
        gradients, variables = zip(*grads_and_vars)
        self.apply(gradients, variables)
        return self._iterations

    def apply(self, grads: Sequence, trainable_variables: Sequence[Variable] | None = None) -> None:
        """Update ``trainable_variables`` (those the optimizer was built with, by default) by their gradients.

        Raises ValueError if no variable has a gradient or if a variable is unknown. Variables whose gradient
        is None stay as they are, with a warning.
        """
        if not grads:
            return
        if trainable_variables is None and not self.built:
            raise ValueError("apply(grads) has to know the variables: pass them, or call build(variables) first.")
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if len(grads) != len(variables):
            raise ValueError(f"Expected one gradient per variable; received {len(grads)} for {len(variables)}.")
        if not self.built:
            self.build(variables)
        pairs = self._connected(grads, variables)
        if self.gradient_accumulation_steps:
            self._accumulate(pairs)
        else:
            self._update(pairs)
        if self.use_ema:
            self._average()
        for _, variable in pairs:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable.value))
        self._iterations.assign_add(1)

    def _connected(self, grads: Sequence, variables: Sequence[Variable]) -> list[tuple[Tensor, Variable]]:
        """Pairs with a gradient, in the dtype of the variable, without the loss scale."""
        pairs, missing = [], []
        for gradient, variable in zip(grads, variables):
            if variable not in self._slots:
                raise ValueError(
                    f"Variable {variable.path!r} is not among those the optimizer {self.name!r} was built "
                    "with. After a change of the trainable variables compile the model again."
                )
            if gradient is None:
                missing.append(variable.path)
                continue
            gradient = ops.cast(gradient, variable.dtype)
            scale = self.loss_scale_factor
            pairs.append((gradient / scale if scale else gradient, variable))
        if not pairs:
            raise ValueError(
                f"No variable has a gradient: {', '.join(missing)}. The loss does not depend on any of them; "
                "was the prediction made inside the gradient tape, and from the layers of this model?"
            )
        if missing:
            warnings.warn(
                f"No gradient for the variables {', '.join(missing)}: the loss does not depend on them.",
                stacklevel=3,
            )
        return pairs

    def _update(self, pairs: list[tuple[Tensor, Variable]]) -> None:
        gradients = self._clipped([gradient for gradient, _ in pairs])
        variables = [variable for _, variable in pairs]
        rates = [self._rate(variable) for variable in variables]
        for variable, rate in zip(variables, rates):
            decay = self.weight_decay_of(variable)
            if decay is not None:
                variable.assign(variable - variable * decay * rate)
        self.begin_step()
        for gradient, variable, rate in zip(gradients, variables, rates):
            self.update_step(gradient, variable, rate)

    def begin_step(self) -> None:
        """Update state that is not beside a variable, once before the variables' turn."""

    def power_of(self, base: float, variable: Variable) -> Tensor:
        """``base`` to the number of this update (1 for the first), in the dtype of ``variable``."""
        return ops.power(base, ops.cast(self.iterations + 1, variable.dtype))

    def _rate(self, variable: Variable) -> Tensor:
        rate = ops.cast(self.learning_rate, variable.dtype)
        for pattern, factor in self.learning_rate_multipliers.items():
            if re.search(pattern, variable.path):
                return rate * factor
        return rate

    def _accumulate(self, pairs: list[tuple[Tensor, Variable]]) -> None:
        steps = self.gradient_accumulation_steps
        sums = [(gradient + self._accumulated[variable], variable) for gradient, variable in pairs]

        def update() -> None:
            self._update([(total / steps, variable) for total, variable in sums])
            for accumulated in self._accumulated.values():
                accumulated.assign(ops.zeros(accumulated.shape, accumulated.dtype))

        def wait() -> None:
            for total, variable in sums:
                self._accumulated[variable].assign(total)

        ops.cond(ops.equal((self._iterations + 1) % steps, 0), update, wait)

    def _clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        if self.clipvalue:
            return [ops.clip(gradient, -self.clipvalue, self.clipvalue) for gradient in gradients]
        if self.clipnorm:
            return [_shortened([gradient], self.clipnorm)[0] for gradient in gradients]
        return _shortened(gradients, self.global_clipnorm) if self.global_clipnorm else gradients

    def scale_loss(self, loss: Any) -> Any:
        """Multiply a loss by ``loss_scale_factor``, before its gradients are taken."""
        return loss * self.loss_scale_factor if self.loss_scale_factor else loss

    # Weight decay

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Spare variables from weight decay: these, and those in whose path one of ``var_names`` is found.

        >>> optimizer = Optimizer(0.1, weight_decay=0.004)
        >>> optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        """
        if self.built:
            raise ValueError("exclude_from_weight_decay has to be called before the optimizer is built.")
        self._undecayed = set(var_list or ())
        self._undecayed_names = list(var_names or ())

    def weight_decay_of(self, variable: Variable) -> float | None:
        """Factor of the weight decay for ``variable``; None for none."""
        return None if self._spared(variable) else self.weight_decay

    def _spared(self, variable: Variable) -> bool:
        named = any(re.search(name, variable.path) for name in self._undecayed_names)
        return named or variable in self._undecayed

    # Moving averages of the variables

    def _average(self) -> None:
        for variable, average in zip(self._trainable_variables, self._averages):
            momentum = self.ema_momentum * ops.cast(ops.not_equal(self.iterations, 0), variable.dtype)
            average.assign(momentum * average + (1 - momentum) * variable)
        if self.ema_overwrite_frequency:
            due = ops.equal((self.iterations + 1) % self.ema_overwrite_frequency, 0)
            for variable, average in zip(self._trainable_variables, self._averages):
                variable.assign(ops.where(due, average, variable))

    def finalize_variable_values(self, var_list: Iterable[Variable] | None = None) -> None:
        """Put the moving averages in place of the variables, as ``fit`` does at its end; for ``use_ema``."""
        if self.use_ema and self.built:
            wanted = self._trainable_variables if var_list is None else list(var_list)
            for variable, average in zip(self._trainable_variables, self._averages):
                if any(variable is one for one in wanted):
                    variable.assign(average)

    # Saving

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the learning rate as it is now."""
        now = self._learning_rate
        now = float(str(now.numpy())) if isinstance(now, Variable) else serialize(now)
        return {**super().get_config(), "learning_rate": now}

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Write the state into ``store``: arrays by path."""
        store.update({variable.path: variable.numpy() for variable in self._variables})

    def load_own_variables(self, store: Any) -> None:
        """Read what :meth:`save_own_variables` wrote, into an optimizer built for the same variables."""
        missing = [variable.path for variable in self._variables if variable.path not in store]
        if missing or len(store) != len(self._variables):
            surplus = sorted(set(store) - {variable.path for variable in self._variables})
            raise ValueError(
                f"The saved state does not fit the optimizer {self.name!r}: missing {missing}, unknown "
                f"{surplus}. Build it for the same variables and with the same arguments first."
            )
        for variable in self._variables:
            variable.assign(store[variable.path])


def _shortened(gradients: list[Tensor], longest: float) -> list[Tensor]:
    """Scale gradients so that their joint norm is ``longest`` at most; a NaN or infinity spreads to all."""
    norm = ops.sqrt(functools.reduce(ops.add, [ops.sum(ops.square(gradient)) for gradient in gradients]))
    factor = longest / ops.maximum(norm, longest) + (norm - norm)  # NaN where the norm is infinite
    return [gradient * ops.cast(factor, gradient.dtype) for gradient in gradients]
