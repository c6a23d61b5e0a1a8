"""Metrics: figures that tell how well a model does, updated batch by batch and read at any time.

Functions answer one value per sample; classes keep their running, weighted mean, or the sums from which the
figure follows. Samples of weight 0 do not count at all, so padded batches give exact figures.
"""

from __future__ import annotations

from typing import Any

from ..core import Tensor, config, ops, tensor
from ..core.errors import ShapeError, unknown
from ..layers import serialization
from ..layers.serialization import deserialize, register_serializable, serialize
from . import losses
from .calibration import CalibrationError
from .confusion_metrics import (
    AUC,
    BinaryIoU,
    ConfusionMatrix,
    F1Score,
    FalseNegatives,
    FalsePositives,
    FBetaScore,
    IoU,
    MeanIoU,
    OneHotIoU,
    OneHotMeanIoU,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from .detection_metrics import DetectionMeanAveragePrecision
from .forecast_metrics import (
    ContinuousRankedProbabilityScore,
    MeanAbsoluteScaledError,
    SymmetricMeanAbsolutePercentageError,
    continuous_ranked_probability_score,
    symmetric_mean_absolute_percentage_error,
)
from .loss import align_weights, apply_mask, as_pair
from .losses import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    hinge,
    huber,
    integer_labels,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
    target_kind,
)
from .metric import FunctionMetric, Mean, MeanMetricWrapper, Metric, Sum
from .ranking_metrics import NDCG, HitRate, MeanAveragePrecision, RankingMetric
from .text_metrics import BLEU, CharacterErrorRate, ChrF, TextMetric, WordErrorRate

# Accuracy


def accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where prediction and target are equal, else 0; the shape of both."""
    y_true, y_pred = as_pair(y_true, y_pred, "accuracy")
    return ops.cast(ops.equal(y_true, y_pred), config.floatx())


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """1 where ``y_pred > threshold`` says what the target (0 or 1) says; the shape of both."""
    y_true, y_pred = as_pair(y_true, y_pred, "binary_accuracy")
    return ops.cast(ops.equal(y_true, ops.cast(y_pred > threshold, y_true.dtype)), config.floatx())


def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the highest score is that of the class of a one-hot label: (B, ..., C) -> (B, ...).

    >>> categorical_accuracy([[0, 1], [1, 0]], [[0.2, 0.8], [0.4, 0.6]]).tolist()
    [1.0, 0.0]
    """
    y_true, y_pred = as_pair(y_true, y_pred, "categorical_accuracy")
    return ops.cast(ops.equal(ops.argmax(y_true, -1), ops.argmax(y_pred, -1)), config.floatx())


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the highest score is that of the label: labels (B, ...), scores (B, ..., C) -> (B, ...)."""
    y_pred = tensor(y_pred)
    labels = integer_labels(y_true, y_pred, "sparse_categorical_accuracy")
    return ops.cast(ops.equal(labels, ops.argmax(y_pred, -1)), config.floatx())


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """1 where the class of a one-hot label has one of the k highest scores: (B, ..., C) -> (B, ...)."""
    y_true, y_pred = as_pair(y_true, y_pred, "top_k_categorical_accuracy")
    return sparse_top_k_categorical_accuracy(ops.argmax(y_true, -1), y_pred, k)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> Tensor:
    """1 where the label has one of the k highest scores: labels (B, ...), scores (B, ..., C) -> (B, ...).

    With ``from_sorted_ids`` ``y_pred`` holds class numbers instead, the best first.
    """
    y_pred = tensor(y_pred)
    labels = integer_labels(y_true, y_pred, "sparse_top_k_categorical_accuracy")
    if from_sorted_ids:
        found = ops.any(ops.equal(ops.expand_dims(labels, -1), y_pred[..., :k]), axis=-1)
    else:
        flat = ops.in_top_k(ops.reshape(labels, (-1,)), ops.reshape(y_pred, (-1, y_pred.shape[-1])), k)
        found = ops.reshape(flat, labels.shape)
    return ops.cast(found, config.floatx())


class Accuracy(FunctionMetric, function=accuracy):
    """Share of predictions that equal the target."""


class BinaryAccuracy(FunctionMetric, function=binary_accuracy):
    """Share of right decisions between 0 and 1; see :func:`binary_accuracy`."""


class CategoricalAccuracy(FunctionMetric, function=categorical_accuracy):
    """Share of right classes, for one-hot labels."""


class SparseCategoricalAccuracy(FunctionMetric, function=sparse_categorical_accuracy):
    """Share of right classes, for integer labels.

    >>> float(SparseCategoricalAccuracy()([1, 0], [[0.2, 0.8], [0.4, 0.6]]))
    0.5
    """


class TopKCategoricalAccuracy(FunctionMetric, function=top_k_categorical_accuracy, options_first=True):
    """Share of samples whose class is among the k best, for one-hot labels."""


class SparseTopKCategoricalAccuracy(FunctionMetric, function=sparse_top_k_categorical_accuracy, options_first=True):
    """Share of samples whose class is among the k best, for integer labels."""


# The losses as metrics


class MeanSquaredError(FunctionMetric, function=mean_squared_error):
    """Mean of (y_true - y_pred)²."""


class MeanAbsoluteError(FunctionMetric, function=mean_absolute_error):
    """Mean of |y_true - y_pred|."""


class MeanAbsolutePercentageError(FunctionMetric, function=mean_absolute_percentage_error):
    """Mean of 100·|y_true - y_pred| / |y_true|."""


class MeanSquaredLogarithmicError(FunctionMetric, function=mean_squared_logarithmic_error):
    """Mean of (log(1 + y_true) - log(1 + y_pred))²."""


class LogCoshError(FunctionMetric, function=log_cosh, name="logcosh"):
    """Mean of log(cosh(y_pred - y_true))."""


class Hinge(FunctionMetric, function=hinge):
    """Mean of :func:`hinge`."""


class SquaredHinge(FunctionMetric, function=squared_hinge):
    """Mean of :func:`squared_hinge`."""


class CategoricalHinge(FunctionMetric, function=categorical_hinge):
    """Mean of :func:`categorical_hinge`."""


class KLDivergence(FunctionMetric, function=kl_divergence):
    """Mean of :func:`kl_divergence`."""


class Poisson(FunctionMetric, function=poisson):
    """Mean of :func:`poisson`."""


class BinaryCrossentropy(FunctionMetric, function=binary_crossentropy):
    """Mean of :func:`binary_crossentropy`."""


class CategoricalCrossentropy(FunctionMetric, function=categorical_crossentropy):
    """Mean of :func:`categorical_crossentropy`."""


class SparseCategoricalCrossentropy(FunctionMetric, function=sparse_categorical_crossentropy):
    """Mean of :func:`sparse_categorical_crossentropy`; samples of ``ignore_class`` do not count."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        if self.ignore_class is not None:
            labels = integer_labels(y_true, tensor(y_pred), self.name)
            counted = ops.not_equal(labels, self.ignore_class)
            sample_weight = apply_mask(sample_weight, counted, config.floatx(), "sum")
        super().update_state(y_true, y_pred, sample_weight)


class Perplexity(SparseCategoricalCrossentropy, function=sparse_categorical_crossentropy, name="perplexity"):
    """exp of the mean cross-entropy: the number of classes among which the model still hesitates."""

    def result(self) -> Tensor:
        return ops.exp(super().result())


# Regression


class RootMeanSquaredError(Mean):
    """Square root of the mean of (y_true - y_pred)².

    >>> float(RootMeanSquaredError()([0.0, 0.0], [3.0, 3.0]))
    3.0
    """

    _direction = "down"

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch."""
        y_true, y_pred = as_pair(y_true, y_pred, self.name)
        super().update_state(ops.square(y_true - y_pred), sample_weight)

    def result(self) -> Tensor:
        return ops.sqrt(super().result())


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Cosine of the angle between targets and predictions along ``axis``, in [-1, 1]."""
    return -losses.cosine_similarity(y_true, y_pred, axis)


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Correlation of targets and predictions along ``axis``, in [-1, 1]."""
    y_true, y_pred = as_pair(y_true, y_pred, "pearson_correlation")
    scores = [(y - ops.mean(y, axis, keepdims=True)) / ops.std(y, axis, keepdims=True) for y in (y_true, y_pred)]
    return ops.mean(scores[0] * scores[1], axis=axis)


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Correlation that also falls with a difference in mean or scale, along ``axis``.

    Lin, "A Concordance Correlation Coefficient to Evaluate Reproducibility" (1989).
    """
    y_true, y_pred = as_pair(y_true, y_pred, "concordance_correlation")
    mean_true, mean_pred = (ops.mean(y, axis, keepdims=True) for y in (y_true, y_pred))
    spread = ops.var(y_true, axis, keepdims=True) + ops.var(y_pred, axis, keepdims=True)
    spread = spread + ops.square(mean_true - mean_pred) + config.epsilon()
    return ops.mean(2.0 * (y_true - mean_true) * (y_pred - mean_pred) / spread, axis=axis)


class CosineSimilarity(FunctionMetric, function=cosine_similarity):
    """Mean of :func:`cosine_similarity`."""


class PearsonCorrelation(FunctionMetric, function=pearson_correlation):
    """Mean of :func:`pearson_correlation`."""


class ConcordanceCorrelation(FunctionMetric, function=concordance_correlation):
    """Mean of :func:`concordance_correlation`."""


class R2Score(Metric):
    """Share of the targets' variance that predictions (B, C) explain: 1 - sum(e²) / sum((y - mean(y))²).

    Args:
        class_aggregation: "uniform_average" over the C columns, "variance_weighted_average", or None.
        num_regressors: number of predictors, for the adjusted score; 0 for the plain one.
    """

    _direction = "up"

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str = "r2_score",
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        known = ("uniform_average", "variance_weighted_average", None)
        if class_aggregation not in known:
            raise unknown("class_aggregation", class_aggregation, map(str, known))
        if num_regressors < 0:
            raise ValueError(f"num_regressors must not be negative; received {num_regressors}.")
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self.add_sum("num_samples")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add targets and predictions (B, C), with weights (B,) or (B, C)."""
        y_true, y_pred = as_pair(y_true, y_pred, self.name)
        if y_true.ndim != 2:
            raise ShapeError(f"{self.name}: expected values of shape (B, C); received {y_true.shape}.")
        if not hasattr(self, "count"):
            names = ("squared_sum", "sum", "residual", "count")
            self.squared_sum, self.sum, self.residual, self.count = (
                self.add_sum(name, y_true.shape[-1:]) for name in names
            )
        weights = ops.ones_like(y_true)
        if sample_weight is not None:
            _, weights = align_weights(y_true, ops.cast(sample_weight, y_true.dtype))
            weights = ops.broadcast_to(weights, y_true.shape)
        self.sum.assign_add(ops.sum(y_true * weights, axis=0))
        self.squared_sum.assign_add(ops.sum(y_true * y_true * weights, axis=0))
        self.residual.assign_add(ops.sum(ops.square(y_true - y_pred) * weights, axis=0))
        self.count.assign_add(ops.sum(weights, axis=0))
        self.num_samples.assign_add(ops.sum(ops.cast(ops.not_equal(weights, 0), "float64")))

    def result(self) -> Tensor:
        total = self.squared_sum - self.sum * self.sum / self.count
        scores = 1.0 - self.residual / total
        scores = ops.where(ops.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = ops.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = ops.sum(total * scores) / ops.sum(total)
        if self.num_regressors:
            freedom = self.num_samples - self.num_regressors - 1.0
            adjusted = 1.0 - (1.0 - scores) * (self.num_samples - 1.0) / ops.where(freedom > 0, freedom, 1.0)
            scores = ops.where(freedom > 0, adjusted, scores)
        return ops.cast(scores, self.dtype)


# Lookup by name

_CLASSES = [
    AUC,
    BLEU,
    Accuracy,
    BinaryAccuracy,
    BinaryCrossentropy,
    BinaryIoU,
    CalibrationError,
    CategoricalAccuracy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CharacterErrorRate,
    ChrF,
    ConcordanceCorrelation,
    ConfusionMatrix,
    ContinuousRankedProbabilityScore,
    CosineSimilarity,
    DetectionMeanAveragePrecision,
    F1Score,
    FBetaScore,
    FalseNegatives,
    FalsePositives,
    Hinge,
    HitRate,
    IoU,
    KLDivergence,
    LogCoshError,
    Mean,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanAbsoluteScaledError,
    MeanAveragePrecision,
    MeanIoU,
    MeanMetricWrapper,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    NDCG,
    OneHotIoU,
    OneHotMeanIoU,
    PearsonCorrelation,
    Perplexity,
    Poisson,
    Precision,
    PrecisionAtRecall,
    R2Score,
    RankingMetric,
    Recall,
    RecallAtPrecision,
    RootMeanSquaredError,
    SensitivityAtSpecificity,
    SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy,
    SparseTopKCategoricalAccuracy,
    SpecificityAtSensitivity,
    SquaredHinge,
    Sum,
    SymmetricMeanAbsolutePercentageError,
    TextMetric,
    TopKCategoricalAccuracy,
    TrueNegatives,
    TruePositives,
    WordErrorRate,
]
_FUNCTIONS = [
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    concordance_correlation,
    continuous_ranked_probability_score,
    pearson_correlation,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    symmetric_mean_absolute_percentage_error,
    top_k_categorical_accuracy,
]
for _function in [*_FUNCTIONS, cosine_similarity]:
    register_serializable("metrics")(_function)
_ALIASES = {
    "bleu": BLEU,
    "cer": CharacterErrorRate,
    "chrf": ChrF,
    "crps": ContinuousRankedProbabilityScore,
    "mase": MeanAbsoluteScaledError,
    "ndcg": NDCG,
    "smape": SymmetricMeanAbsolutePercentageError,
    "wer": WordErrorRate,
    "bce": BinaryCrossentropy,
    "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "mse": MeanSquaredError,
    "msle": MeanSquaredLogarithmicError,
    "rmse": RootMeanSquaredError,
}
_KNOWN = {
    **serialization.aliases(_CLASSES),
    **_ALIASES,
    **{alias.upper(): cls for alias, cls in _ALIASES.items()},
}


def get(identifier: Any) -> Any:
    """Return the metric for a name ("mae", "AUC"), a configuration, a function or an object.

    >>> get("top_k_categorical_accuracy").k
    5
    """
    return serialization.resolve(identifier, "metric", _KNOWN)


def resolve(identifier: Any, y_true_shape: tuple, y_pred_shape: tuple) -> Metric:
    """Return the metric *object* for an identifier, under the name that it was asked for by.

    "accuracy" ("acc") and "crossentropy" ("ce") are chosen by the shapes of targets and outputs.

    >>> resolve("accuracy", (32,), (32, 10))
    <SparseCategoricalAccuracy name=accuracy>
    """
    if identifier in ("accuracy", "acc", "crossentropy", "ce"):
        kind = target_kind(y_true_shape, y_pred_shape)
        what = "accuracy" if identifier.startswith("acc") else "crossentropy"
        return _KNOWN[f"{kind}_{what}"](name=identifier)
    metric = get(identifier)
    if not isinstance(metric, Metric):
        metric = MeanMetricWrapper(metric)
    if isinstance(identifier, str):
        metric.name = identifier
    return metric


__all__ = [
    "Metric",
    *(cls.__name__ for cls in _CLASSES),
    *(function.__name__ for function in _FUNCTIONS),
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "deserialize",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "serialize",
    "sparse_categorical_crossentropy",
    "squared_hinge",
]
