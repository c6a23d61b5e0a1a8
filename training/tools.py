"""Small tools around training: a search for the learning rate, cross-validation, ensembles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import pytree
from ..layers.serialization import register_serializable
from .callback import Callback
from .data import make_feed
from .model import Model
from .run import all_variables

__all__ = ["Ensemble", "LearningRates", "cross_validate", "find_learning_rate"]


class LearningRates(NamedTuple):
    """What :func:`find_learning_rate` found."""

    rates: list[float]
    losses: list[float]
    suggestion: float


class _Sweep(Callback):
    """Multiplies the learning rate after each batch, until the loss leaves all bounds."""

    def __init__(self, rates: Sequence[float]):
        self.rates = rates
        self.losses: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.reset_metrics()  # the loss of this batch alone
        self.model.optimizer.learning_rate = self.rates[len(self.losses)]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(logs["loss"])
        if not math.isfinite(logs["loss"]) or logs["loss"] > 4 * max(min(self.losses), 1e-6):
            self.model.stop_training = True


def find_learning_rate(
    model: Any,
    x: Any,
    y: Any = None,
    minimum: float = 1e-6,
    maximum: float = 1.0,
    steps: int = 100,
    batch_size: int | None = None,
) -> LearningRates:
    """Train with a learning rate that grows from batch to batch, and suggest where the loss falls fastest.

    The model has to be compiled; it is afterwards as it was before. Smith, "Cyclical Learning Rates for
    Training Neural Networks" (2017).

    Args:
        x, y: training data, as for ``fit``.
        minimum, maximum: first and last learning rate.
        steps: batches.

    Returns:
        The learning rates tried, the loss of the batch at each, and a suggestion.
    """
    if steps < 10 or not 0 < minimum < maximum:
        raise ValueError(f"Expected 0 < minimum < maximum and 10 steps; received {minimum}, {maximum}, {steps}.")
    model._prepare(make_feed(x, y, batch_size=batch_size))
    kept = [(variable, variable.numpy()) for variable in all_variables(model)]
    sweep = _Sweep(np.geomspace(minimum, maximum, steps).tolist())
    try:
        model.fit(x, y, batch_size=batch_size, steps_per_epoch=steps, epochs=1, verbose=0, callbacks=[sweep])
    finally:
        for variable, value in kept:
            variable.assign(value)
    losses = [loss for loss in sweep.losses if math.isfinite(loss)]
    rates = sweep.rates[: len(losses)]
    if len(losses) < 5:
        raise ValueError(
            f"The loss explodes at once: {sweep.losses}. Lower minimum={minimum}, or look for NaN in the data."
        )
    window = max(len(losses) // 10, 1)
    smooth = np.convolve(losses, np.ones(window) / window, "valid")
    steepest = int(np.argmin(np.gradient(smooth))) if len(smooth) > 1 else 0
    return LearningRates(rates, losses, rates[steepest + window // 2])


def cross_validate(
    make_model: Callable[[], Any], x: Any, y: Any, folds: int = 5, seed: int = 0, **options: Any
) -> list[dict[str, float]]:
    """Train ``folds`` models, each without another part of the data, and evaluate them on that part.

    Args:
        make_model: makes a new, compiled model.
        x, y: arrays (n, ...), or trees of them.
        seed: of the random parts.
        options: further arguments of ``fit``.

    Returns:
        For each fold the loss and metrics by name.
    """
    count = len(pytree.flatten(x)[0])
    if not 2 <= folds <= count:
        raise ValueError(f"folds has to lie between 2 and the {count} samples; received {folds}.")
    x, y = pytree.map(np.asarray, x), pytree.map(np.asarray, y)
    order = np.random.default_rng(seed).permutation(count)
    results = []
    for part in np.array_split(order, folds):
        model = make_model()
        model.fit(*_rows((x, y), np.setdiff1d(order, part)), **{"verbose": 0, **options})
        results.append(model.evaluate(*_rows((x, y), part), verbose=0, return_dict=True))
    return results


def _rows(trees: Any, rows: np.ndarray) -> Any:
    return pytree.map(lambda array: array[rows], trees)


@register_serializable("models")
class Ensemble(Model):
    """The mean of the outputs of several models on the same inputs.

    >>> model = Ensemble([tz.Sequential([tz.layers.Dense(1)]) for _ in range(3)])
    >>> model(tz.ops.ones((2, 4))).shape
    (2, 1)
    """

    def __init__(self, models: Sequence[Any], **options: Any):
        super().__init__(**options)
        if not models:
            raise ValueError("An Ensemble needs at least one model.")
        self.models = list(models)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Outputs of the models' structure."""
        outputs = [model(inputs, training=training) for model in self.models]
        return pytree.map(lambda *parts: sum(parts[1:], parts[0]) / len(parts), *outputs)
