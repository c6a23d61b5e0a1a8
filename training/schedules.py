"""Learning-rate schedules: functions of the optimizer's step that can be traced, saved and compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import core
from ..core import Tensor, ops
from ..layers.serialization import Serializable, deserialize, serialize

__all__ = [
    "ConstantSchedule",
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "serialize",
]


class LearningRateSchedule(Serializable, namespace="schedules"):
    """Base class: a subclass says in ``__call__(step)`` what the learning rate is.

    ``step`` is the number of updates done: an integer, or a scalar tensor (symbolic in a compiled step), so
    compute with :mod:`tenzoo.ops`.

    >>> class Halve(LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.1 * 0.5 ** ops.floor(ops.cast(step, "float32") / 1000)
    >>> round(float(Halve()(2500)), 6)
    0.025
    """

    def __call__(self, step: Any) -> Tensor:
        """Learning rate at ``step``, a float scalar."""
        raise NotImplementedError(f"{type(self).__name__} has to define __call__(step).")


def _count(step: Any) -> Tensor:
    return ops.cast(step, core.config.floatx())


def _positive(**steps: float) -> None:
    for name, value in steps.items():
        if value <= 0:
            raise ValueError(f"{name} has to be positive; received {value}.")


class ConstantSchedule(LearningRateSchedule):
    """The same learning rate at every step."""

    def __init__(self, learning_rate: float, name: str = "ConstantSchedule"):
        self.learning_rate = learning_rate
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        return core.tensor(float(self.learning_rate))


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[i]`` up to and with step ``boundaries[i]``, the last value after them all.

    >>> schedule = PiecewiseConstantDecay(boundaries=[100, 200], values=[1.0, 0.5, 0.1])
    >>> [round(float(schedule(step)), 6) for step in (100, 101, 300)]
    [1.0, 0.5, 0.1]
    """

    def __init__(self, boundaries: Sequence, values: Sequence, name: str = "PiecewiseConstant"):
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                f"Expected one value more than boundaries; received {len(values)} values for "
                f"{len(boundaries)} boundaries."
            )
        self.boundaries = boundaries
        self.values = values
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        step = _count(step)
        rate = core.tensor(float(self.values[-1]))
        for boundary, value in reversed(list(zip(self.boundaries, self.values))):
            rate = ops.where(step <= boundary, float(value), rate)
        return rate


class ExponentialDecay(LearningRateSchedule):
    """``initial_learning_rate · decay_rate ** (step / decay_steps)``; ``staircase`` floors the exponent."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ):
        _positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        periods = _count(step) / self.decay_steps
        periods = ops.floor(periods) if self.staircase else periods
        return self.initial_learning_rate * ops.power(float(self.decay_rate), periods)


class InverseTimeDecay(ExponentialDecay):
    """``initial_learning_rate / (1 + decay_rate · n)``, n = step / decay_steps, floored if ``staircase``."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ):
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def __call__(self, step: Any) -> Tensor:
        periods = _count(step) / self.decay_steps
        periods = ops.floor(periods) if self.staircase else periods
        return self.initial_learning_rate / (1 + self.decay_rate * periods)


class PolynomialDecay(LearningRateSchedule):
    """From the initial to the end rate along ``(1 - step / decay_steps) ** power``.

    With ``cycle`` the decay starts over, each time over the next multiple of ``decay_steps``.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ):
        _positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        step = _count(step)
        if self.cycle:
            total = self.decay_steps * ops.maximum(ops.ceil(step / self.decay_steps), 1.0)
        else:
            total = float(self.decay_steps)
            step = ops.minimum(step, total)
        span = self.initial_learning_rate - self.end_learning_rate
        return span * ops.power(1 - step / total, float(self.power)) + self.end_learning_rate


def _half_cosine(fraction: Tensor) -> Tensor:
    """1 at 0, down to 0 at 1."""
    return 0.5 * (1 + ops.cos(math.pi * fraction))


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial rate down to ``alpha`` of it, after an optional linear warm-up.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017).

    Args:
        initial_learning_rate: rate at step 0.
        decay_steps: steps of the decay, those of the warm-up not counted.
        alpha: the lowest rate, as a fraction of the one from which it decays.
        warmup_target: rate at the end of the warm-up, from which it then decays. None: no warm-up.
        warmup_steps: steps of the warm-up.

    >>> schedule = CosineDecay(0.0, 1000, warmup_target=0.1, warmup_steps=100)
    >>> [round(float(schedule(step)), 6) for step in (50, 100, 600, 1100)]
    [0.05, 0.1, 0.05, 0.0]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ):
        _positive(decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Tensor:
        step = _count(step)
        if self.warmup_target is None:
            return self._decayed(step, self.initial_learning_rate)
        rise = (self.warmup_target - self.initial_learning_rate) / max(self.warmup_steps, 1)
        return ops.where(
            step < self.warmup_steps,
            self.initial_learning_rate + rise * step,
            self._decayed(step - self.warmup_steps, self.warmup_target),
        )

    def _decayed(self, step: Tensor, rate: float) -> Tensor:
        fraction = ops.minimum(step, self.decay_steps) / self.decay_steps
        return rate * ((1 - self.alpha) * _half_cosine(fraction) + self.alpha)


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays in a row, each ``t_mul`` times as long and ``m_mul`` times as high as the one before.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017).
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ):
        _positive(first_decay_steps=first_decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        self.t_mul = t_mul
        self.m_mul = m_mul
        self.alpha = alpha
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        passed = _count(step) / self.first_decay_steps  # in lengths of the first decay
        if self.t_mul == 1.0:
            restarts = ops.floor(passed)
            fraction = passed - restarts
        else:
            restarts = ops.floor(ops.log(1 - passed * (1 - self.t_mul)) / math.log(self.t_mul))
            length = ops.power(float(self.t_mul), restarts)
            fraction = (passed - (1 - length) / (1 - self.t_mul)) / length
        height = ops.power(float(self.m_mul), restarts) * _half_cosine(fraction)
        return self.initial_learning_rate * ((1 - self.alpha) * height + self.alpha)


class OneCycle(LearningRateSchedule):
    """Up to ``max_learning_rate`` along half a cosine, then down to almost nothing along another.

    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates"
    (2018).

    Args:
        max_learning_rate: the highest rate.
        total_steps: steps of the whole cycle.
        warmup_fraction: part of the steps on the way up.
        div_factor: the first rate is ``max_learning_rate / div_factor``.
        final_div_factor: the last rate is the first one divided by this.

    >>> schedule = OneCycle(0.1, total_steps=100, warmup_fraction=0.3)
    >>> [round(float(schedule(step)), 6) for step in (0, 29, 64, 99)]
    [0.004, 0.1, 0.05, 0.0]
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        warmup_fraction: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        name: str = "OneCycle",
    ):
        _positive(total_steps=total_steps)
        self.max_learning_rate = max_learning_rate
        self.total_steps = total_steps
        self.warmup_fraction = warmup_fraction
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        first = self.max_learning_rate / self.div_factor
        last = first / self.final_div_factor
        peak = self.warmup_fraction * self.total_steps - 1
        step = ops.minimum(_count(step), self.total_steps - 1)
        rising = _half_cosine(1 - step / max(peak, 1e-9))
        falling = _half_cosine((step - peak) / max(self.total_steps - 1 - peak, 1e-9))
        return ops.where(
            step <= peak,
            first + (self.max_learning_rate - first) * rising,
            last + (self.max_learning_rate - last) * falling,
        )
