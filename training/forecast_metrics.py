"""Metrics of forecasts: errors relative to the size of the series, and of whole distributions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Tensor, ops
from ..core.errors import ShapeError
from ..layers.serialization import register_serializable
from .loss import align_weights, as_float, as_pair
from .metric import FunctionMetric, Metric


@register_serializable("metrics")
def symmetric_mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """200 · mean(|y_true - y_pred| / (|y_true| + |y_pred|)) over the last axis; 0 where both are 0.

    >>> symmetric_mean_absolute_percentage_error([[1.0, 0.0]], [[3.0, 0.0]]).tolist()
    [50.0]
    """
    y_true, y_pred = as_pair(y_true, y_pred, "symmetric_mean_absolute_percentage_error")
    size = ops.absolute(y_true) + ops.absolute(y_pred)
    return 200.0 * ops.mean(ops.divide_no_nan(ops.absolute(y_true - y_pred), size), axis=-1)


@register_serializable("metrics")
def continuous_ranked_probability_score(y_true: Any, y_pred: Any) -> Tensor:
    """mean|x - y| - mean|x - x'| / 2 over samples x of a forecast: y (B, ...), x (B, ..., M) -> (B, ...).

    The integral of the squared difference between the distribution functions of forecast and truth; for one
    sample, the absolute error. Gneiting and Raftery, "Strictly Proper Scoring Rules" (2007).

    >>> continuous_ranked_probability_score([1.0], [[0.0, 2.0]]).tolist()
    [0.5]
    """
    y_true, y_pred = as_float(y_true), as_float(y_pred)
    if y_true.shape != y_pred.shape[:-1]:
        raise ShapeError(
            "continuous_ranked_probability_score: expected targets (B, ...) and samples (B, ..., M); received "
            f"{y_true.shape} and {y_pred.shape}."
        )
    count = y_pred.shape[-1]
    errors = ops.mean(ops.absolute(y_pred - ops.expand_dims(ops.cast(y_true, y_pred.dtype), -1)), axis=-1)
    # The sum of |x - x'| over all pairs: in order, each x is added once for those before and subtracted for
    # those after it.
    places = (2 * np.arange(count) + 1 - count).astype(y_pred.dtype)
    return errors - ops.sum(ops.sort(y_pred, axis=-1) * places, axis=-1) / count**2


class SymmetricMeanAbsolutePercentageError(
    FunctionMetric, function=symmetric_mean_absolute_percentage_error, name="smape"
):
    """Mean of :func:`symmetric_mean_absolute_percentage_error`, in [0, 200]."""

    _direction = "down"


class ContinuousRankedProbabilityScore(FunctionMetric, function=continuous_ranked_probability_score, name="crps"):
    """Mean of :func:`continuous_ranked_probability_score`."""

    _direction = "down"


class MeanAbsoluteScaledError(Metric):
    """Mean absolute error, divided by that of repeating the value of one season before.

    Hyndman and Koehler, "Another look at measures of forecast accuracy" (2006).

    Args:
        seasonality: steps in a season; 1 repeats the value before.
        scale: the error of repeating on the training data, mean(|y[t] - y[t - seasonality]|). By default the
            targets (B, T, ...) are themselves taken for it.

    >>> float(MeanAbsoluteScaledError()([[1.0, 3.0, 5.0]], [[1.0, 2.0, 5.0]]))
    0.1666666716337204
    """

    _direction = "down"

    def __init__(self, seasonality: int = 1, scale: float | None = None, name: str = "mase", dtype: Any = None):
        super().__init__(dtype, name)
        if seasonality < 1:
            raise ValueError(f"seasonality has to be positive; received {seasonality}.")
        self.seasonality = seasonality
        self.scale = scale
        self.error, self.count, self.naive_error, self.naive_count = (
            self.add_sum(part) for part in ("error", "count", "naive_error", "naive_count")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add series (B, T, ...), with weights (B,) or one per value."""
        y_true, y_pred = as_pair(y_true, y_pred, self.name)
        weights = ops.ones_like(y_true)
        if sample_weight is not None:
            _, weights = align_weights(y_true, ops.cast(sample_weight, y_true.dtype))
            weights = ops.broadcast_to(weights, y_true.shape)
        self.error.assign_add(ops.sum(ops.absolute(y_true - y_pred) * weights))
        self.count.assign_add(ops.sum(weights))
        if self.scale is None:
            lag = self.seasonality
            if y_true.ndim < 2 or y_true.shape[1] <= lag:
                raise ShapeError(
                    f"{self.name}: expected series (B, T, ...) of more than {lag} steps, or scale=; received "
                    f"{y_true.shape}."
                )
            both = weights[:, lag:] * ops.cast(weights[:, :-lag] > 0, weights.dtype)
            self.naive_error.assign_add(ops.sum(ops.absolute(y_true[:, lag:] - y_true[:, :-lag]) * both))
            self.naive_count.assign_add(ops.sum(both))

    def result(self) -> Tensor:
        scale = self.scale
        if scale is None:
            scale = ops.divide_no_nan(self.naive_error, self.naive_count)
        error = ops.divide_no_nan(self.error, self.count)
        return ops.cast(ops.divide_no_nan(error, scale), self.dtype)
