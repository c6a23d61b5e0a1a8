"""Metrics that follow from counts of right and wrong decisions: precision, recall, AUC, F scores, IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import Tensor, config, ops, tensor
from ..core.errors import ShapeError, unknown
from .loss import align_weights, as_pair
from .metric import Metric

_LOWEST = -1e10  # a score that no threshold lies under


class Counts(NamedTuple):
    """Weighted counts of decisions, each (thresholds,) or (thresholds, labels) in float64."""

    true_positives: Tensor
    false_positives: Tensor
    true_negatives: Tensor
    false_negatives: Tensor


def count_decisions(
    y_true: Any,
    y_pred: Any,
    thresholds: Sequence[float],
    sample_weight: Any = None,
    top_k: int | None = None,
    class_id: int | None = None,
    label_weights: Any = None,
    multi_label: bool = False,
) -> Counts:
    """Count the decisions ``y_pred > threshold`` for every threshold, in one pass over the scores.

    Each score goes into the bucket between two thresholds; running sums from the highest bucket down give the
    positives at every threshold.

    Args:
        y_true, y_pred: labels (0 or 1) and scores (B, ...).
        sample_weight: (B,) or the shape of the scores.
        top_k: of each row let only the k highest scores count as positive.
        class_id: look at this entry of the last axis alone.
        label_weights: (C,) weights of the last axis.
        multi_label: count the columns of (B, C) apart.
    """
    y_true, y_pred = as_pair(y_true, y_pred, "confusion counts")
    weights = _broadcast(sample_weight, y_pred)
    if top_k is not None:
        chosen = ops.sum(ops.one_hot(ops.top_k(y_pred, top_k)[1], y_pred.shape[-1]), axis=-2)
        y_pred = ops.where(chosen > 0, y_pred, _LOWEST)
    if class_id is not None:
        y_true, y_pred, weights = (value[..., class_id] for value in (y_true, y_pred, weights))
    if label_weights is not None:
        weights = weights * ops.cast(label_weights, "float64")
    labels = y_pred.shape[-1] if multi_label else 1
    order = np.argsort(thresholds, kind="stable")
    ladder = np.asarray(thresholds, np.float64)[order]
    bucket = ops.searchsorted(tensor(ladder, y_pred.dtype), ops.reshape(y_pred, (-1,)))
    if multi_label:
        column = np.tile(np.arange(labels, dtype=np.int32), y_pred.size // labels)
        bucket = bucket + tensor(column * (len(ladder) + 1))

    def above(mass: Tensor) -> Tensor:
        sums = ops.segment_sum(ops.reshape(mass, (-1,)), bucket, labels * (len(ladder) + 1))
        sums = ops.reshape(sums, (labels, len(ladder) + 1))
        sums = ops.flip(ops.cumsum(ops.flip(sums, 1), axis=1), 1)[:, 1:]
        sums = ops.take(sums, np.argsort(order), axis=1)
        return ops.transpose(sums) if multi_label else sums[0]

    is_true = ops.cast(ops.not_equal(y_true, 0), "float64") * weights
    is_false = weights - is_true
    true_positives, false_positives = above(is_true), above(is_false)
    axis = 0 if multi_label else None
    true_negatives = ops.sum(is_false, axis=axis) - false_positives
    false_negatives = ops.sum(is_true, axis=axis) - true_positives
    return Counts(true_positives, false_positives, true_negatives, false_negatives)


def _broadcast(sample_weight: Any, values: Tensor) -> Tensor:
    """Weights in float64 and in the shape of ``values``; ones for None."""
    if sample_weight is None:
        return ops.ones(values.shape, "float64")
    _, weights = align_weights(values, ops.cast(sample_weight, "float64"))
    return ops.broadcast_to(weights, values.shape)


def _checked(thresholds: Any, default: float) -> list[float]:
    thresholds = default if thresholds is None else thresholds
    listed = [float(t) for t in thresholds] if isinstance(thresholds, (list, tuple)) else [float(thresholds)]
    if thresholds != default and not all(0 <= t <= 1 for t in listed):
        raise ValueError(f"Thresholds have to lie in [0, 1]; received {thresholds}. Apply a sigmoid to logits.")
    return listed


class _DecisionMetric(Metric):
    """Sums up the counts that ``counted`` names, over ``thresholds``."""

    counted: tuple[str, ...] = Counts._fields

    def _count(self, thresholds: Sequence[float], labels: int | None = None) -> None:
        self.thresholds = list(thresholds)
        shape = (len(self.thresholds),) if labels is None else (len(self.thresholds), labels)
        for name in self.counted:
            setattr(self, name, self.add_sum(name, shape))

    def _add(self, y_true: Any, y_pred: Any, sample_weight: Any, **options: Any) -> None:
        counts = count_decisions(y_true, y_pred, self.thresholds, sample_weight, **options)
        for name in self.counted:
            getattr(self, name).assign_add(getattr(counts, name))

    def _answer(self, values: Any) -> Tensor:
        """One number for one threshold."""
        return ops.cast(values[0] if len(self.thresholds) == 1 else values, self.dtype)


class _CountMetric(_DecisionMetric):
    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None):
        super().__init__(dtype, name)
        self._count(_checked(thresholds, 0.5))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add labels (0 or 1) and scores of one shape (B, ...)."""
        self._add(y_true, y_pred, sample_weight)

    def result(self) -> Tensor:
        return self._answer(getattr(self, self.counted[0]))


class TruePositives(_CountMetric):
    """Number of scores above the threshold (0.5 by default) with label 1.

    >>> float(TruePositives()([1, 1, 0], [0.9, 0.1, 0.8]))
    1.0
    """

    counted = ("true_positives",)


class FalsePositives(_CountMetric):
    """Number of scores above the threshold (0.5 by default) with label 0."""

    counted = ("false_positives",)


class TrueNegatives(_CountMetric):
    """Number of scores not above the threshold (0.5 by default) with label 0."""

    counted = ("true_negatives",)


class FalseNegatives(_CountMetric):
    """Number of scores not above the threshold (0.5 by default) with label 1."""

    counted = ("false_negatives",)


class Precision(_DecisionMetric):
    """Share of the positive decisions that are right.

    Args:
        thresholds: a number or list in [0, 1]; scores above are positive. 0.5 by default.
        top_k: let the k highest scores of a row be the positive ones, whatever they are.
        class_id: look at this class alone.

    >>> float(Precision()([1, 1, 0], [0.9, 0.1, 0.8]))
    0.5
    """

    counted = ("true_positives", "false_positives")
    _direction = "up"

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        self.top_k = top_k
        self.class_id = class_id
        self._count(_checked(thresholds, 0.5 if top_k is None else _LOWEST))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add labels (0 or 1) and scores of one shape (B, ...)."""
        self._add(y_true, y_pred, sample_weight, top_k=self.top_k, class_id=self.class_id)

    def result(self) -> Tensor:
        right, other = (getattr(self, name) for name in self.counted)
        return self._answer(ops.divide_no_nan(right, right + other))


class Recall(Precision):
    """Share of the labels 1 that are found; arguments as those of :class:`Precision`."""

    counted = ("true_positives", "false_negatives")


class _BestUnderConstraint(_DecisionMetric):
    """The highest of one ratio at the thresholds where another reaches ``value``."""

    _direction = "up"

    def _prepare(self, value: float, num_thresholds: int, class_id: int | None) -> None:
        if not 0 <= value <= 1 or num_thresholds < 1:
            raise ValueError(
                f"Expected a value in [0, 1] and at least one threshold; received {value}, {num_thresholds}."
            )
        self.value = value
        self.num_thresholds = num_thresholds
        self.class_id = class_id
        self._count(np.linspace(0, 1, num_thresholds) if num_thresholds > 1 else [0.5])

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add labels (0 or 1) and probabilities of one shape (B, ...)."""
        self._add(y_true, y_pred, sample_weight, class_id=self.class_id)

    def _ratio(self, part: Any, rest: Any) -> Tensor:
        return ops.divide_no_nan(part, part + rest)

    @property
    def _recalls(self) -> Tensor:
        return self._ratio(self.true_positives, self.false_negatives)

    @property
    def _precisions(self) -> Tensor:
        return self._ratio(self.true_positives, self.false_positives)

    @property
    def _specificities(self) -> Tensor:
        return self._ratio(self.true_negatives, self.false_positives)

    def _best(self, wanted: Tensor, constrained: Tensor) -> Tensor:
        return ops.cast(ops.max(ops.where(constrained >= self.value, wanted, 0.0)), self.dtype)


class SensitivityAtSpecificity(_BestUnderConstraint):
    """The highest sensitivity (recall) at a specificity of at least ``specificity``."""

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        self._prepare(specificity, num_thresholds, class_id)

    def result(self) -> Tensor:
        return self._best(self._recalls, self._specificities)


class SpecificityAtSensitivity(_BestUnderConstraint):
    """The highest specificity at a sensitivity (recall) of at least ``sensitivity``."""

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        self._prepare(sensitivity, num_thresholds, class_id)

    def result(self) -> Tensor:
        return self._best(self._specificities, self._recalls)


class PrecisionAtRecall(_BestUnderConstraint):
    """The highest precision at a recall of at least ``recall``."""

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        self._prepare(recall, num_thresholds, class_id)

    def result(self) -> Tensor:
        return self._best(self._precisions, self._recalls)


class RecallAtPrecision(_BestUnderConstraint):
    """The highest recall at a precision of at least ``precision``."""

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        self._prepare(precision, num_thresholds, class_id)

    def result(self) -> Tensor:
        return self._best(self._recalls, self._precisions)


class AUC(_DecisionMetric):
    """Area under the ROC or precision-recall curve, by sums over thresholds.

    Davis and Goadrich, "The Relationship Between Precision-Recall and ROC Curves" (2006), for the
    interpolation of the latter.

    Args:
        num_thresholds: points of the curve, evenly spread over [0, 1].
        curve: "ROC", "PR" or "PRGAIN".
        summation_method: "interpolation" (trapezoids), "minoring" or "majoring".
        thresholds: points of the curve, in place of ``num_thresholds``.
        multi_label: compute the area for each column of (B, labels) and average.
        num_labels: number of columns, if it is to be known before the first update.
        label_weights: weights of the columns.
        from_logits: apply a sigmoid to the scores.

    >>> float(AUC()([0, 0, 1, 1], [0.0, 0.5, 0.3, 0.9]))
    0.75
    """

    _direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ):
        super().__init__(dtype, name)
        if str(curve).upper() not in ("ROC", "PR", "PRGAIN"):
            raise unknown("curve", curve, ("ROC", "PR", "PRGAIN"))
        if str(summation_method).lower() not in ("interpolation", "minoring", "majoring"):
            raise unknown("summation_method", summation_method, ("interpolation", "minoring", "majoring"))
        if thresholds is None and num_thresholds < 2:
            raise ValueError(f"num_thresholds has to be at least 2; received {num_thresholds}.")
        if num_labels and not multi_label:
            raise ValueError("num_labels is for multi_label=True alone.")
        self.curve = str(curve).upper()
        self.summation_method = str(summation_method).lower()
        self.multi_label = multi_label
        self.label_weights = None if label_weights is None else np.asarray(label_weights, np.float64)
        self.from_logits = from_logits
        inner = np.linspace(0, 1, num_thresholds)[1:-1] if thresholds is None else np.sort(thresholds)
        self.thresholds = [-config.epsilon(), *inner.tolist(), 1 + config.epsilon()]
        self.num_thresholds = len(self.thresholds)
        if num_labels or not multi_label:
            self._count(self.thresholds, num_labels)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add labels (0 or 1) and probabilities (or logits) of one shape (B, ...)."""
        y_pred = ops.sigmoid(y_pred) if self.from_logits else ops.clip(y_pred, 0.0, 1.0)
        if self.multi_label and y_pred.ndim != 2:
            raise ShapeError(f"{self.name}: multi_label=True takes scores (B, labels); received {y_pred.shape}.")
        if not self._variables:
            self._count(self.thresholds, y_pred.shape[1])
        weights = None if self.multi_label else self.label_weights
        self._add(y_true, y_pred, sample_weight, multi_label=self.multi_label, label_weights=weights)

    def result(self) -> Tensor:
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = self._interpolated()
        else:
            x, y = self._points()
            heights = {
                "interpolation": lambda: (y[:-1] + y[1:]) / 2.0,
                "minoring": lambda: ops.minimum(y[:-1], y[1:]),
                "majoring": lambda: ops.maximum(y[:-1], y[1:]),
            }[self.summation_method]()
            areas = (x[:-1] - x[1:]) * heights
        area = ops.sum(areas, axis=0)
        if self.multi_label:
            weights = 1.0 if self.label_weights is None else self.label_weights / self.label_weights.mean()
            area = ops.mean(area * weights)
        return ops.cast(area, self.dtype)

    def _points(self) -> tuple[Tensor, Tensor]:
        """Coordinates of the curve at the thresholds."""
        tp, fp, tn, fn = (getattr(self, name).value for name in Counts._fields)
        recall = ops.divide_no_nan(tp, tp + fn)
        if self.curve == "ROC":
            return ops.divide_no_nan(fp, fp + tn), recall
        if self.curve == "PR":
            return recall, ops.divide_no_nan(tp, tp + fp)
        odds = ops.divide_no_nan(tp + fn, tn + fp)
        recall_gain = ops.where(tp > 0, 1.0 - odds * ops.divide_no_nan(fn, tp), 0.0)
        precision_gain = ops.where(tp > 0, 1.0 - odds * ops.divide_no_nan(fp, tp), 1.0)
        return ops.maximum(recall_gain, 0.0), precision_gain

    def _interpolated(self) -> Tensor:
        """Areas between thresholds where both counts grow linearly, so that the precision does not."""
        tp, fp, fn = self.true_positives.value, self.false_positives.value, self.false_negatives.value
        positives = tp + fp
        gained = tp[:-1] - tp[1:]
        slope = ops.divide_no_nan(gained, ops.maximum(positives[:-1] - positives[1:], 0.0))
        intercept = tp[1:] - slope * positives[1:]
        both = ops.logical_and(positives[:-1] > 0, positives[1:] > 0)
        growth = ops.where(both, ops.divide_no_nan(positives[:-1], positives[1:]), 1.0)
        return ops.divide_no_nan(slope * (gained + intercept * ops.log(growth)), tp[1:] + fn[1:])


class FBetaScore(Metric):
    """Harmonic mean of precision and recall, recall counting beta times as much; labels and scores (B, C).

    Args:
        average: None (a score per class), "micro" (over all decisions), "macro" (plain mean), "weighted" (by
            the number of samples of a class).
        threshold: scores above are positive; None: the highest score of a row is.

    >>> float(FBetaScore("macro", beta=2.0)([[1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.8]]).numpy().round(4))
    1.0
    """

    _direction = "up"

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        if average not in (None, "micro", "macro", "weighted"):
            raise unknown("average", average, ("None", "micro", "macro", "weighted"))
        if beta <= 0:
            raise ValueError(f"beta has to be positive; received {beta}.")
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(f"threshold has to lie in (0, 1]; received {threshold}.")
        self.average = average
        self.beta = beta
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add one-hot or multi-hot labels and scores (B, C), with weights (B,)."""
        y_true, y_pred = as_pair(y_true, y_pred, self.name)
        if y_pred.ndim != 2:
            raise ShapeError(f"{self.name}: expected labels and scores (B, C); received {y_pred.shape}.")
        micro = self.average == "micro"
        if not self._variables:
            names = ("true_positives", "false_positives", "false_negatives", "support")
            self._sums = [self.add_sum(name, () if micro else y_pred.shape[1:]) for name in names]
        if self.threshold is None:
            best = y_pred >= ops.max(y_pred, axis=-1, keepdims=True)
            chosen = ops.logical_and(best, ops.absolute(y_pred) > 1e-9)
        else:
            chosen = y_pred > self.threshold
        chosen, truth = ops.cast(chosen, "float64"), ops.cast(y_true, "float64")
        weights = _broadcast(sample_weight, y_pred)
        parts = (chosen * truth, chosen * (1.0 - truth), (1.0 - chosen) * truth, truth)
        for variable, part in zip(self._sums, parts):
            variable.assign_add(ops.sum(part * weights, axis=None if micro else 0))

    def result(self) -> Tensor:
        if not self._variables:
            return tensor(0.0, self.dtype)
        right, wrong, missed, support = (variable.value for variable in self._sums)
        epsilon = config.epsilon()
        precision, recall = right / (right + wrong + epsilon), right / (right + missed + epsilon)
        square = self.beta**2
        score = (1 + square) * precision * recall / (square * precision + recall + epsilon)
        if self.average == "weighted":
            score = ops.sum(score * support / (ops.sum(support) + epsilon))
        elif self.average is not None:
            score = ops.mean(score)
        return ops.cast(score, self.dtype)


class F1Score(FBetaScore):
    """Harmonic mean of precision and recall: :class:`FBetaScore` with beta = 1."""

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ):
        super().__init__(average, 1.0, threshold, name, dtype)


class ConfusionMatrix(Metric):
    """Weighted counts of pairs of classes: result[i, j] is how often i was taken for j; (classes, classes).

    Args:
        ignore_class: samples of this label do not count; nor do classes out of range.
        sparse_y_true: labels are class numbers (B, ...); otherwise one-hot along ``axis``.
        sparse_y_pred: predictions are class numbers (B, ...); otherwise scores along ``axis``.

    >>> ConfusionMatrix(2)([0, 1, 1], [0, 0, 1]).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        super().__init__(dtype, name)
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.sparse_y_true = sparse_y_true
        self.sparse_y_pred = sparse_y_pred
        self.axis = axis
        self.total_cm = self.add_sum("total_confusion_matrix", (num_classes, num_classes))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add classes or scores, with weights (B,) or one per class number."""
        y_true = y_true if self.sparse_y_true else ops.argmax(y_true, self.axis)
        y_pred = y_pred if self.sparse_y_pred else ops.argmax(y_pred, self.axis)
        y_true, y_pred = as_pair(y_true, y_pred, self.name)
        weights = _broadcast(sample_weight, y_true)
        counted = ops.ones(y_true.shape, "bool")
        for values in (y_true, y_pred):
            counted = counted & (values >= 0) & (values < self.num_classes)
        if self.ignore_class is not None:
            counted = counted & ops.not_equal(y_true, self.ignore_class)
        pairs = ops.cast(y_true, "int32") * self.num_classes + ops.cast(y_pred, "int32")
        pairs = ops.reshape(ops.where(counted, pairs, 0), (-1,))
        weights = ops.reshape(ops.where(counted, weights, 0.0), (-1,))
        sums = ops.segment_sum(weights, pairs, self.num_classes**2)
        self.total_cm.assign_add(ops.reshape(sums, self.total_cm.shape))

    def result(self) -> Tensor:
        return ops.cast(self.total_cm, self.dtype)


class IoU(ConfusionMatrix):
    """Mean over ``target_class_ids`` of intersection over union, tp / (tp + fp + fn), without absent classes.

    The other arguments are those of :class:`ConfusionMatrix`.
    """

    _direction = "up"

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        super().__init__(num_classes, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)
        if max(target_class_ids) >= num_classes:
            raise ValueError(f"Class {max(target_class_ids)} is out of range: there are {num_classes} classes.")
        self.target_class_ids = list(target_class_ids)

    def result(self) -> Tensor:
        matrix = self.total_cm.value
        right = ops.sum(matrix * ops.eye(self.num_classes, dtype="float64"), axis=0)
        union = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1) - right
        right, union = (ops.take(values, self.target_class_ids, axis=0) for values in (right, union))
        present = ops.sum(ops.cast(union > 0, "float64"))
        return ops.cast(ops.divide_no_nan(ops.sum(ops.divide_no_nan(right, union)), present), self.dtype)


class MeanIoU(IoU):
    """Mean intersection over union of all classes; the arguments are those of :class:`ConfusionMatrix`."""

    def __init__(self, num_classes: int, name: str | None = None, dtype: Any = None, **options: Any):
        super().__init__(num_classes, range(num_classes), name, dtype, **options)


class OneHotIoU(IoU):
    """:class:`IoU` of one-hot labels and scores (B, ..., classes)."""

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


class OneHotMeanIoU(OneHotIoU):
    """:class:`MeanIoU` of one-hot labels and scores (B, ..., classes)."""

    def __init__(self, num_classes: int, name: str | None = None, dtype: Any = None, **options: Any):
        super().__init__(num_classes, range(num_classes), name, dtype, **options)


class BinaryIoU(IoU):
    """:class:`IoU` of labels 0 and 1 and scores, which are 1 from ``threshold`` on."""

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_true, ops.cast(ops.greater_equal(y_pred, self.threshold), "int32"), sample_weight)
