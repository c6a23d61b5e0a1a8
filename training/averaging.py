"""Callbacks that average weights over steps or epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .callback import Callback


class SwapEMAWeights(Callback):
    """Evaluates and predicts with the moving averages that an optimizer with ``use_ema=True`` keeps.

    Args:
        swap_on_epoch: swap them in at the end of each epoch as well, for callbacks that come later in the
            list, such as :class:`ModelCheckpoint`, until the next epoch begins.
    """

    state_names = ("_weights",)

    def __init__(self, swap_on_epoch: bool = False):
        self.swap_on_epoch = swap_on_epoch
        self._weights: list[np.ndarray] | None = None  # while the averages are in their place

    def _show_averages(self) -> None:
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        if not optimizer.use_ema:
            raise ValueError("SwapEMAWeights needs an optimizer that was made with use_ema=True.")
        if self._weights is None and optimizer.built:
            self._weights = [variable.numpy() for variable in optimizer._trainable_variables]
            optimizer.finalize_variable_values()

    def _show_weights(self) -> None:
        if self._weights is not None:
            optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
            for variable, value in zip(optimizer._trainable_variables, self._weights, strict=True):
                variable.assign(value)
            self._weights = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._show_weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.swap_on_epoch:
            self._show_averages()

    def on_train_end(self, logs: Any = None) -> None:
        self._weights = None  # fit ends with the averages

    def on_test_begin(self, logs: Any = None) -> None:
        self._show_averages()

    def on_test_end(self, logs: Any = None) -> None:
        self._show_weights()

    def on_predict_begin(self, logs: Any = None) -> None:
        self._show_averages()

    def on_predict_end(self, logs: Any = None) -> None:
        self._show_weights()


class StochasticWeightAveraging(Callback):
    """Averages the weights after each epoch from ``start_epoch`` on, and ends with the averages.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (2018). The moving
    statistics of batch normalization are averaged like the weights.

    Args:
        start_epoch: first epoch, from 0, after which the weights count.
        frequency: count them after every so many epochs.
    """

    state_names = ("averages", "count")

    def __init__(self, start_epoch: int, frequency: int = 1):
        if start_epoch < 0 or frequency < 1:
            raise ValueError(f"Expected start_epoch >= 0 and frequency >= 1; received {start_epoch}, {frequency}.")
        self.start_epoch = start_epoch
        self.frequency = frequency
        self.averages: list[np.ndarray] | None = None
        self.count = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.averages, self.count = None, 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch < self.start_epoch or (epoch - self.start_epoch) % self.frequency:
            return
        weights = self.model.get_weights()
        self.count += 1
        if self.averages is None:
            self.averages = weights
        self.averages = [
            (average + (weight - average) / self.count).astype(average.dtype)
            for average, weight in zip(self.averages, weights, strict=True)
        ]

    def on_train_end(self, logs: Any = None) -> None:
        if self.averages is not None:
            self.model.set_weights(self.averages)


class ModelEMA(Callback):
    """Keeps a moving average of all weights, moving statistics included; validates and ends with it.

    The averaging begins quickly: after n steps the share of the old average is (1 + n) / (10 + n) at most.
    An optimizer with ``use_ema=True`` does it for the trained weights inside the compiled step, at less cost.

    Args:
        momentum: share of the old average in the new one.
    """

    state_names = ("averages", "steps")

    def __init__(self, momentum: float = 0.999):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum has to lie in [0, 1); received {momentum}.")
        self.momentum = momentum
        self.averages: list[np.ndarray] | None = None
        self.steps = 0
        self._kept: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self.averages, self.steps = self.model.get_weights(), 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        share = 1 - min(self.momentum, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        self.averages = [
            (average + share * (np.asarray(weight) - average)).astype(average.dtype)
            for average, weight in zip(self.averages, self.model.weights, strict=True)
        ]

    def on_test_begin(self, logs: Any = None) -> None:
        if self.averages is not None:
            self._kept = self.model.get_weights()
            self.model.set_weights(self.averages)

    def on_test_end(self, logs: Any = None) -> None:
        if self._kept is not None:
            self.model.set_weights(self._kept)
            self._kept = None

    def on_train_end(self, logs: Any = None) -> None:
        self.model.set_weights(self.averages)
        self.averages = None


class Lookahead(Callback):
    """Every few batches moves slow weights a part of the way to the trained ones, and goes on from there.

    Zhang, Lucas, Hinton and Ba, "Lookahead Optimizer: k steps forward, 1 step back" (2019). The moving statistics
    of batch normalization are treated like the weights. Training ends with the slow weights.

    Args:
        slow_step_size: the part of the way, from 0 to 1, or a function that gives it for the number of batches done.
        sync_period: batches between two such moves.
        start: batches to wait until the slow weights are taken.
    """

    state_names = ("slow", "steps")

    def __init__(self, slow_step_size: float | Callable[[int], float] = 0.5, sync_period: int = 5, start: int = 0):
        if sync_period < 1 or start < 0 or (not callable(slow_step_size) and not 0 < slow_step_size <= 1):
            raise ValueError(
                "Expected slow_step_size in (0, 1], sync_period >= 1 and start >= 0; received "
                f"{slow_step_size}, {sync_period}, {start}."
            )
        self.slow_step_size, self.sync_period, self.start = slow_step_size, sync_period, start
        self.slow: list[np.ndarray] | None = None
        self.steps = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.slow, self.steps = None, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.steps == self.start and self.slow is None:
            self.slow = self.model.get_weights()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        if self.slow is None or (self.steps - self.start) % self.sync_period:
            return
        share = self.slow_step_size(self.steps) if callable(self.slow_step_size) else self.slow_step_size
        self.slow = [
            (slow + share * (fast - slow)).astype(slow.dtype)
            for slow, fast in zip(self.slow, self.model.get_weights(), strict=True)
        ]
        self.model.set_weights(self.slow)

    def on_train_end(self, logs: Any = None) -> None:
        if self.slow is not None:
            self.model.set_weights(self.slow)
