"""The optimizers: gradient descent, and rules that adapt to the gradients they see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Tensor, Variable, ops
from ..layers import serialization
from ..layers.serialization import deserialize, serialize, snake_case
from .loss_scaling import LossScaleOptimizer
from .multi_optimizer import MultiOptimizer, OptimizerMap
from .optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent: w -= lr·g, or with momentum v = momentum·v - lr·g, w += v.

    Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013). With
    ``nesterov`` w += momentum·v - lr·g.

    >>> weight = Variable([1.0])
    >>> SGD(learning_rate=0.1).apply([[2.0]], [weight])
    >>> round(float(weight.numpy()[0]), 6)
    0.8
    """

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **options: Any):
        super().__init__(learning_rate, **options)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum has to lie in [0, 1]; received {momentum}.")
        self.momentum = momentum
        self.nesterov = nesterov

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"momentum": 0.0} if self.momentum else {}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        change = -learning_rate * gradient
        if self.momentum:
            (velocity,) = self.state(variable)
            velocity.assign(self.momentum * velocity + change)
            change = self.momentum * velocity + change if self.nesterov else velocity
        variable.assign_add(change)


class RMSprop(Optimizer):
    """Gradients divided by their recent size: v = rho·v + (1 - rho)·g², w -= lr·g / sqrt(v + epsilon).

    Hinton, "Neural Networks for Machine Learning", lecture 6 (2012). ``centered`` subtracts the square of the
    gradient's moving average from v.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered

    def slots(self, variable: Variable) -> dict[str, Any]:
        wanted = {"velocity": True, "momentum": self.momentum > 0, "average_gradient": self.centered}
        return {name: 0.0 for name, needed in wanted.items() if needed}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        slots = self._slots[variable]
        velocity = _average_in(slots["velocity"], ops.square(gradient), self.rho)
        if self.centered:
            velocity = velocity - ops.square(_average_in(slots["average_gradient"], gradient, self.rho))
        change = learning_rate * gradient / ops.sqrt(velocity + self.epsilon)
        if self.momentum > 0:
            change = slots["momentum"].assign(self.momentum * slots["momentum"] + change)
        variable.assign_sub(change)


def _average_in(average: Variable, value: Tensor, rate: float) -> Tensor:
    """Move ``average`` towards ``value``, keeping ``rate`` of it. Returns the new average."""
    return average.assign(rate * average + (1 - rate) * value)


class Adam(Optimizer):
    """Adaptive moments: m and v average g and g², w -= lr·m̂ / (sqrt(v̂) + epsilon) with the bias corrected.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), in the form of its section 2, where
    epsilon stands beside the uncorrected sqrt(v). ``amsgrad`` divides by the largest v so far (Reddi et
    al., "On the Convergence of Adam and Beyond", 2018).

    >>> weight = Variable([1.0])
    >>> Adam(learning_rate=0.1).apply([[0.5]], [weight])
    >>> round(float(weight.numpy()[0]), 4)
    0.9
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"momentum": 0.0, "velocity": 0.0, **({"velocity_hat": 0.0} if self.amsgrad else {})}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        momentum, velocity, *highest = self.state(variable)
        rate = learning_rate * ops.sqrt(1 - self.power_of(self.beta_2, variable))
        rate = rate / (1 - self.power_of(self.beta_1, variable))
        m = momentum.assign_add((gradient - momentum) * (1 - self.beta_1))
        v = velocity.assign_add((ops.square(gradient) - velocity) * (1 - self.beta_2))
        if self.amsgrad:
            v = highest[0].assign(ops.maximum(highest[0], v))
        variable.assign_sub(m * rate / (ops.sqrt(v) + self.epsilon))


class AdamW(Adam):
    """Adam with decoupled weight decay: first w -= lr·weight_decay·w.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ):
        if weight_decay is None:
            raise ValueError("AdamW needs a weight_decay; without one it is Adam.")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options)


class Adagrad(Optimizer):
    """Learning rates that shrink with the gradients seen: a += g², w -= lr·g / sqrt(a + epsilon).

    Duchi, Hazan and Singer, "Adaptive Subgradient Methods" (2011).
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"accumulator": self.initial_accumulator_value}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        (accumulator,) = self.state(variable)
        total = accumulator.assign_add(ops.square(gradient))
        variable.assign_sub(learning_rate * gradient / ops.sqrt(total + self.epsilon))


class Adadelta(Optimizer):
    """Steps as large as the recent ones: d = g·rms(past d) / rms(past g), w -= lr·d.

    Zeiler, "ADADELTA: An Adaptive Learning Rate Method" (2012).
    """

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **options: Any):
        super().__init__(learning_rate, **options)
        self.rho = rho
        self.epsilon = epsilon

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"accumulated_grad": 0.0, "accumulated_delta_var": 0.0}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        squares, changes = self.state(variable)
        mean_square = _average_in(squares, ops.square(gradient), self.rho)
        change = gradient * ops.sqrt(changes + self.epsilon) / ops.sqrt(mean_square + self.epsilon)
        _average_in(changes, ops.square(change), self.rho)
        variable.assign_sub(learning_rate * change)


class Adamax(Optimizer):
    """Adam with the largest gradient in place of v: u = max(beta_2·u, |g|), w -= lr·m̂ / (u + epsilon).

    Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), section 7.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"momentum": 0.0, "norm": 0.0}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        momentum, norm = self.state(variable)
        m = momentum.assign_add((gradient - momentum) * (1 - self.beta_1))
        u = norm.assign(ops.maximum(self.beta_2 * norm, ops.absolute(gradient)))
        correction = 1 - self.power_of(self.beta_1, variable)
        variable.assign_sub(learning_rate * m / (correction * (u + self.epsilon)))


class Nadam(Adamax):
    """Adam with Nesterov momentum.

    Dozat, "Incorporating Nesterov Momentum into Adam" (2016).
    """

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"momentum": 0.0, "velocity": 0.0}

    def build(self, variables: Sequence[Variable]) -> None:
        super().build(variables)
        self._product = self.add_variable((), 1.0, variables[0].dtype, "momentum_product")

    def _momentum_at(self, step: Any) -> Tensor:
        return self.beta_1 * (1.0 - 0.5 * ops.power(0.96, ops.cast(step, self._product.dtype)))

    def begin_step(self) -> None:
        self._product.assign(self._product * self._momentum_at(self.iterations + 1))

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        momentum, velocity = self.state(variable)
        now, after = self._momentum_at(self.iterations + 1), self._momentum_at(self.iterations + 2)
        m = momentum.assign_add((gradient - momentum) * (1 - self.beta_1))
        v = velocity.assign_add((ops.square(gradient) - velocity) * (1 - self.beta_2))
        m_hat = after * m / (1 - self._product * after) + (1 - now) * gradient / (1 - self._product)
        v_hat = v / (1 - self.power_of(self.beta_2, variable))
        variable.assign_sub(m_hat * learning_rate / (ops.sqrt(v_hat) + self.epsilon))


class Lion(Optimizer):
    """Steps of one size: w -= lr·sign(beta_1·m + (1 - beta_1)·g), then m averages g with beta_2.

    Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023).
    """

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **options: Any):
        super().__init__(learning_rate, **options)
        if not 0 < beta_1 <= 1:
            raise ValueError(f"beta_1 has to lie in (0, 1]; received {beta_1}.")
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"momentum": 0.0}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        (momentum,) = self.state(variable)
        direction = ops.sign(momentum * self.beta_1 + gradient * (1 - self.beta_1))
        variable.assign_sub(learning_rate * direction)
        _average_in(momentum, gradient, self.beta_2)


class Ftrl(Optimizer):
    """Follow the regularised leader, for sparse linear models.

    McMahan et al., "Ad Click Prediction: a View from the Trenches" (2013).
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        if learning_rate_power > 0:
            raise ValueError(f"learning_rate_power must not be positive; received {learning_rate_power}.")
        strengths = (
            l1_regularization_strength,
            l2_regularization_strength,
            l2_shrinkage_regularization_strength,
        )
        if min(initial_accumulator_value, *strengths) < 0:
            raise ValueError("The initial accumulator value and the strengths of Ftrl must not be negative.")
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength, self.l2_regularization_strength, self.l2_shrinkage = strengths
        self.beta = beta

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"accumulator": self.initial_accumulator_value, "linear": 0.0}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        accumulator, linear = self.state(variable)
        l1, l2 = self.l1_regularization_strength, self.l2_regularization_strength
        total = accumulator + ops.square(gradient)
        size, old_size = (ops.power(a, -self.learning_rate_power) for a in (total, accumulator))
        shrunk = gradient + 2 * self.l2_shrinkage * variable
        z = linear.assign_add(shrunk - (size - old_size) / learning_rate * variable)
        quadratic = size / learning_rate + 2 * (l2 + self.beta / (2 * learning_rate))
        variable.assign((ops.clip(z, -l1, l1) - z) / quadratic)
        accumulator.assign(total)


class Adafactor(Optimizer):
    """Adam with the second moments of a matrix kept as its row and column means, and relative step sizes.

    Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (2018).
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        self.beta_2_decay = beta_2_decay
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold
        self.relative_step = relative_step

    def slots(self, variable: Variable) -> dict[str, Any]:
        if variable.ndim < 2:
            return {"velocity": 0.0}
        shape = variable.shape
        return {"row": np.zeros(shape[:-1]), "column": np.zeros(shape[:-2] + shape[-1:])}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        step = ops.cast(self.iterations + 1, variable.dtype)
        decay = 1 - ops.power(step, self.beta_2_decay)
        square = ops.square(gradient) + self.epsilon_1
        if variable.ndim < 2:
            (velocity,) = self.state(variable)
            v = _average_in(velocity, square, decay)
        else:
            row, column = self.state(variable)
            r = _average_in(row, ops.mean(square, axis=-1), decay)
            c = _average_in(column, ops.mean(square, axis=-2), decay)
            v = ops.expand_dims(r / ops.mean(r, axis=-1, keepdims=True), -1) * ops.expand_dims(c, -2)
        update = gradient / ops.sqrt(v)
        update = update / ops.maximum(1.0, _root_mean_square(update) / self.clip_threshold)
        rate = ops.minimum(learning_rate, 1 / ops.sqrt(step))
        variable.assign_sub(ops.maximum(self.epsilon_2, _root_mean_square(variable)) * rate * update)


def _root_mean_square(x: Any) -> Tensor:
    return ops.sqrt(ops.mean(ops.square(x)))


class Lamb(Adamax):
    """Adam's step, scaled by layer to the size of the weights: for very large batches.

    You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes" (2020).
    """

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"momentum": 0.0, "velocity": 0.0}

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        momentum, velocity = self.state(variable)
        m = momentum.assign_add((gradient - momentum) * (1 - self.beta_1))
        v = velocity.assign_add((ops.square(gradient) - velocity) * (1 - self.beta_2))
        m_hat = m / (1 - self.power_of(self.beta_1, variable))
        v_hat = v / (1 - self.power_of(self.beta_2, variable))
        update = m_hat / (ops.sqrt(v_hat) + self.epsilon)
        weight_norm, update_norm = (ops.sqrt(ops.sum(ops.square(x))) for x in (variable, update))
        both = ops.logical_and(weight_norm > 0, update_norm > 0)
        ratio = ops.where(both, weight_norm / ops.where(both, update_norm, 1.0), 1.0)
        variable.assign_sub(ratio * learning_rate * update)


class Muon(Optimizer):
    """Momentum made orthogonal for matrices, Adam for everything else.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).

    Args:
        exclude_layers: regular expressions; variables in whose path one is found are left to Adam.
        exclude_embeddings: leave variables with "embedding" in their path to Adam.
        muon_a, muon_b, muon_c: coefficients of the Newton-Schulz iteration, ``ns_steps`` times.
        adam_lr_ratio: factor of the learning rate for Adam's variables.
        rms_rate: scales the update to this share of what Adam's would be; None: no scaling.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1.0,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        **options: Any,
    ):
        super().__init__(learning_rate, weight_decay, **options)
        self.adam_beta_1 = adam_beta_1
        self.adam_beta_2 = adam_beta_2
        self.adam_weight_decay = adam_weight_decay
        self.epsilon = epsilon
        self.exclude_layers = list(exclude_layers or ())
        self.exclude_embeddings = exclude_embeddings
        self.coefficients = (muon_a, muon_b, muon_c)
        self.adam_lr_ratio = adam_lr_ratio
        self.momentum = momentum
        self.ns_steps = ns_steps
        self.nesterov = nesterov
        self.rms_rate = rms_rate

    def _left_to_adam(self, variable: Variable) -> bool:
        embedding = self.exclude_embeddings and "embedding" in variable.path.lower()
        excluded = any(re.search(pattern, variable.path) for pattern in self.exclude_layers)
        return variable.ndim != 2 or embedding or excluded

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"momentum": 0.0, **({"velocity": 0.0} if self._left_to_adam(variable) else {})}

    def weight_decay_of(self, variable: Variable) -> float | None:
        decay = self.adam_weight_decay if self._left_to_adam(variable) else self.weight_decay
        return None if self._spared(variable) else decay

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        if self._left_to_adam(variable):
            self._adam_step(gradient, variable, learning_rate * self.adam_lr_ratio)
            return
        (momentum,) = self.state(variable)
        m = momentum.assign_add(gradient + momentum * (self.momentum - 1))
        update = self._orthogonal(gradient + self.momentum * m if self.nesterov else m)
        scale = 1.0 if self.rms_rate is None else max(variable.shape) ** 0.5 * self.rms_rate
        variable.assign_sub(learning_rate * scale * update)

    def _orthogonal(self, x: Tensor) -> Tensor:
        """The nearest matrix with equal singular values, roughly: a Newton-Schulz iteration."""
        a, b, c = self.coefficients
        tall = x.shape[0] > x.shape[1]
        x = x.T if tall else x
        x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
        for _ in range(self.ns_steps):
            square = x @ x.T
            x = a * x + (b * square + c * (square @ square)) @ x
        return x.T if tall else x

    def _adam_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        momentum, velocity = self.state(variable)
        rate = learning_rate * ops.sqrt(1 - self.power_of(self.adam_beta_2, variable))
        rate = rate / (1 - self.power_of(self.adam_beta_1, variable))
        m = momentum.assign_add((gradient - momentum) * (1 - self.adam_beta_1))
        v = velocity.assign_add((ops.square(gradient) - velocity) * (1 - self.adam_beta_2))
        variable.assign_sub(m * rate / (ops.sqrt(v) + self.epsilon))


class ScheduleFreeAdamW(Optimizer):
    """Adam that needs no schedule: gradients are taken between a fast point and the mean of all its places.

    Defazio et al., "The Road Less Scheduled" (2024). The variables are the points between; those of "momentum"
    are the fast ones.

    Args:
        beta_1: how near to the mean gradients are taken.
        beta_2: share of the old average of squared gradients in the new one.
        warmup_steps: steps over which the learning rate rises.
    """

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.warmup_steps = warmup_steps

    def slots(self, variable: Variable) -> dict[str, Any]:
        return {"momentum": variable._value.numpy(), "velocity": 0.0}  # a value, also while a step is traced

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        fast, velocity = self.state(variable)
        step = ops.cast(self.iterations + 1, variable.dtype)
        if self.warmup_steps:
            learning_rate = learning_rate * ops.minimum(step / self.warmup_steps, 1.0)
        mean = (variable - (1 - self.beta_1) * fast) / self.beta_1
        v = _average_in(velocity, ops.square(gradient), self.beta_2)
        size = ops.sqrt(v / (1 - self.power_of(self.beta_2, variable))) + self.epsilon
        new = fast.assign_sub(learning_rate * gradient / size)
        mean = mean + (new - mean) / step
        variable.assign((1 - self.beta_1) * new + self.beta_1 * mean)


_CLASSES = [
    SGD,
    RMSprop,
    Adam,
    AdamW,
    Adadelta,
    Adagrad,
    Adamax,
    Adafactor,
    Nadam,
    Ftrl,
    Lion,
    Lamb,
    Muon,
    ScheduleFreeAdamW,
    LossScaleOptimizer,
    MultiOptimizer,
]
_KNOWN = {name.lower(): cls for cls in _CLASSES for name in (cls.__name__, snake_case(cls.__name__))}


def get(identifier: Any) -> Optimizer:
    """Return the optimizer for a name ("adam", any case), a configuration or an object.

    >>> get("AdamW").weight_decay
    0.004
    """
    if isinstance(identifier, str):
        identifier = identifier.lower()
    if isinstance(identifier, (str, dict, type)):
        identifier = serialization.resolve(identifier, "optimizer", _KNOWN)
    if not isinstance(identifier, Optimizer):
        raise ValueError(f"Expected an optimizer, its name or a configuration; received {identifier!r}.")
    return identifier


__all__ = ["Optimizer", "OptimizerMap", *(cls.__name__ for cls in _CLASSES), "deserialize", "get", "serialize"]
