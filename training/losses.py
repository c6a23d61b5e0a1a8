"""Losses: how far predictions are from targets, per sample and reduced to one number.

Functions take ``(y_true, y_pred)`` and answer one value per sample: they average or sum over the last axis,
``(B, ..., C) -> (B, ...)``. Classes hold the options of a function and reduce its values, weighted and
masked, to a scalar. All can be traced and differentiated. Formulas and defaults are those of Keras 3.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import core
from ..core import Tensor, ops
from ..core.errors import ShapeError
from ..layers import serialization
from ..layers.masks import get_mask
from ..layers.serialization import deserialize, register_serializable, serialize
from .loss import FunctionLoss, Loss, LossFunctionWrapper, as_float, as_pair, reduce_weighted_values
from .similarity_losses import (
    Circle,
    Contrastive,
    InfoNCE,
    Triplet,
    circle,
    contrastive,
    info_nce,
    triplet,
)

# Regression


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean((y_true - y_pred)²) over the last axis, (B, ..., C) -> (B, ...).

    >>> mean_squared_error([[0.0, 1.0]], [[1.0, 3.0]]).tolist()
    [2.5]
    """
    y_true, y_pred = as_pair(y_true, y_pred, "mean_squared_error")
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean(|y_true - y_pred|) over the last axis, (B, ..., C) -> (B, ...)."""
    y_true, y_pred = as_pair(y_true, y_pred, "mean_absolute_error")
    return ops.mean(ops.absolute(y_true - y_pred), axis=-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """100 · mean(|y_true - y_pred| / |y_true|) over the last axis, (B, ..., C) -> (B, ...)."""
    y_true, y_pred = as_pair(y_true, y_pred, "mean_absolute_percentage_error")
    scale = ops.maximum(ops.absolute(y_true), core.config.epsilon())
    return 100.0 * ops.mean(ops.absolute((y_true - y_pred) / scale), axis=-1)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean((log(1 + y_true) - log(1 + y_pred))²) over the last axis, (B, ..., C) -> (B, ...)."""
    y_true, y_pred = as_pair(y_true, y_pred, "mean_squared_logarithmic_error")
    logs = [ops.log(ops.maximum(y, core.config.epsilon()) + 1.0) for y in (y_pred, y_true)]
    return ops.mean(ops.square(logs[0] - logs[1]), axis=-1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """Mean over the last axis of e²/2 where |e| <= delta, else delta·|e| - delta²/2; (B, ..., C) -> (B, ...).

    Huber, "Robust Estimation of a Location Parameter" (1964).
    """
    y_true, y_pred = as_pair(y_true, y_pred, "huber")
    error = ops.absolute(y_pred - y_true)
    near, far = 0.5 * ops.square(error), delta * error - 0.5 * delta**2
    return ops.mean(ops.where(error <= delta, near, far), axis=-1)


def log_cosh(y_true: Any, y_pred: Any) -> Tensor:
    """mean(log(cosh(y_pred - y_true))) over the last axis, without overflow; (B, ..., C) -> (B, ...)."""
    y_true, y_pred = as_pair(y_true, y_pred, "log_cosh")
    error = y_pred - y_true
    return ops.mean(error + ops.softplus(-2.0 * error) - float(np.log(2.0)), axis=-1)


def poisson(y_true: Any, y_pred: Any) -> Tensor:
    """mean(y_pred - y_true · log(y_pred)) over the last axis, (B, ..., C) -> (B, ...)."""
    y_true, y_pred = as_pair(y_true, y_pred, "poisson")
    return ops.mean(y_pred - y_true * ops.log(y_pred + core.config.epsilon()), axis=-1)


def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """sum(y_true · log(y_true / y_pred)) over the last axis, (B, ..., C) -> (B, ...)."""
    y_true, y_pred = as_pair(y_true, y_pred, "kl_divergence")
    y_true, y_pred = (ops.clip(y, core.config.epsilon(), 1.0) for y in (y_true, y_pred))
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Minus the cosine of the angle between targets and predictions along ``axis``, in [-1, 1]."""
    y_true, y_pred = as_pair(y_true, y_pred, "cosine_similarity")
    return -ops.sum(ops.normalize(y_true, axis) * ops.normalize(y_pred, axis), axis=axis)


def quantile(y_true: Any, y_pred: Any, quantiles: float | Sequence[float] = 0.5) -> Tensor:
    """Pinball loss, mean(max(q·e, (q - 1)·e)) over the last axis, e = y_true - y_pred; -> (B, ...).

    Its minimum is where a share q of the targets lies below the prediction. Koenker and Bassett, "Regression
    Quantiles" (1978).

    Args:
        quantiles: one q in (0, 1) for values of one shape; or several, which ``y_pred`` (B, ..., Q) has along
            its last axis, for targets (B, ...) or (B, ..., 1).

    >>> quantile([[2.0]], [[1.0]], 0.9).numpy().round(4), quantile([2.0], [[1.0, 3.0]], [0.5, 0.9]).tolist()
    (array([0.9], dtype=float32), [0.30000001192092896])
    """
    several = isinstance(quantiles, Sequence)
    if not all(0 < q < 1 for q in (quantiles if several else [quantiles])):
        raise ValueError(f"quantiles have to lie between 0 and 1; received {quantiles}.")
    if several:
        y_true, y_pred = as_float(y_true), as_float(y_pred)
        if y_pred.shape[-1] != len(quantiles):
            raise ShapeError(
                f"quantile: expected outputs (B, ..., {len(quantiles)}) for the quantiles {list(quantiles)}; "
                f"received {y_pred.shape}."
            )
        y_true = ops.expand_dims(y_true, -1) if y_true.ndim < y_pred.ndim else y_true
        error = ops.cast(y_true, y_pred.dtype) - y_pred
        quantiles = ops.cast(np.asarray(quantiles), y_pred.dtype)
    else:
        y_true, y_pred = as_pair(y_true, y_pred, "quantile")
        error = y_true - y_pred
    return ops.mean(ops.maximum(quantiles * error, (quantiles - 1.0) * error), axis=-1)


# Classification


def _smooth(y_true: Tensor, label_smoothing: float, towards: float) -> Tensor:
    """Szegedy et al., "Rethinking the Inception Architecture" (2016)."""
    return y_true * (1.0 - label_smoothing) + label_smoothing * towards if label_smoothing else y_true


def one_hot_pair(y_true: Any, y_pred: Any, loss: str, label_smoothing: float) -> tuple[Tensor, Tensor]:
    y_true, y_pred = as_pair(y_true, y_pred, loss)
    if y_pred.shape[-1:] == (1,):
        warnings.warn(
            f"{loss} over a single class is always 0: the output has shape {y_pred.shape}. Use "
            "binary_crossentropy for two classes with one output.",
            SyntaxWarning,
            stacklevel=3,
        )
    return _smooth(y_true, label_smoothing, 1.0 / y_true.shape[-1]), y_pred


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """mean(-y_true·log(y_pred) - (1 - y_true)·log(1 - y_pred)) over ``axis``, (B, ..., C) -> (B, ...).

    Args:
        y_true: 0 or 1, or probabilities.
        y_pred: probabilities, or with ``from_logits`` any real numbers (more exact: no clipping).
        label_smoothing: moves the targets this far towards 0.5.
    """
    y_true, y_pred = as_pair(y_true, y_pred, "binary_crossentropy")
    y_true = _smooth(y_true, label_smoothing, 0.5)
    return ops.mean(ops.binary_crossentropy(y_true, y_pred, from_logits), axis=axis)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Binary cross-entropy times (1 - p)^gamma, p the probability of the truth; (B, ..., C) -> (B, ...).

    Lin et al., "Focal Loss for Dense Object Detection" (2017). ``apply_class_balancing`` weights class 1 by
    alpha and class 0 by 1 - alpha.
    """
    y_true, y_pred = as_pair(y_true, y_pred, "binary_focal_crossentropy")
    y_true = _smooth(y_true, label_smoothing, 0.5)
    entropy = ops.binary_crossentropy(y_true, y_pred, from_logits)
    probability = ops.sigmoid(y_pred) if from_logits else y_pred
    right = y_true * probability + (1.0 - y_true) * (1.0 - probability)
    focal = ops.power(1.0 - right, gamma) * entropy
    if apply_class_balancing:
        focal = focal * (y_true * alpha + (1.0 - y_true) * (1.0 - alpha))
    return ops.mean(focal, axis=axis)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """-sum(y_true · log(y_pred)) over ``axis``, (B, ..., C) -> (B, ...).

    Args:
        y_true: one-hot labels or probabilities.
        y_pred: probabilities (normalised here), or with ``from_logits`` any real numbers.
        label_smoothing: moves the targets this far towards 1 / C.
    """
    y_true, y_pred = one_hot_pair(y_true, y_pred, "categorical_crossentropy", label_smoothing)
    return ops.categorical_crossentropy(y_true, y_pred, from_logits, axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """-sum(alpha · (1 - y_pred)^gamma · y_true · log(y_pred)) over ``axis``, (B, ..., C) -> (B, ...).

    Lin et al., "Focal Loss for Dense Object Detection" (2017).
    """
    y_true, y_pred = one_hot_pair(y_true, y_pred, "categorical_focal_crossentropy", label_smoothing)
    y_pred = ops.softmax(y_pred, axis) if from_logits else y_pred / ops.sum(y_pred, axis, keepdims=True)
    y_pred = ops.clip(y_pred, core.config.epsilon(), 1.0 - core.config.epsilon())
    return -ops.sum(alpha * ops.power(1.0 - y_pred, gamma) * y_true * ops.log(y_pred), axis=axis)


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log(y_pred) at the class that ``y_true`` names: labels (B, ...) and output (B, ..., C) -> (B, ...).

    Args:
        y_true: integer labels in [0, C). Others are an error; inside a compiled step they make the loss NaN.
        y_pred: probabilities (normalised here), or with ``from_logits`` any real numbers.
        ignore_class: a label (-1 or 255, say) whose loss is 0; :class:`SparseCategoricalCrossentropy` leaves
            it out of the mean as well.
        label_smoothing: this share of the target goes to all classes alike, as in :func:`categorical_crossentropy`.
            Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2016).

    >>> sparse_categorical_crossentropy([1], [[0.5, 0.5]]).numpy().round(4)
    array([0.6931], dtype=float32)
    """
    y_pred = as_float(y_pred)
    labels = integer_labels(y_true, y_pred)
    classes = y_pred.shape[axis]
    counted = None
    if ignore_class is not None:
        counted = ops.not_equal(labels, ignore_class)
        labels = ops.where(counted, labels, 0)
        y_pred = ops.where(ops.expand_dims(counted, axis), y_pred, 0.0)
    if not core.is_symbolic(labels):
        check_labels(labels, classes)
    losses = ops.sparse_categorical_crossentropy(labels, y_pred, from_logits, axis)
    if label_smoothing:
        even = ops.ones_like(y_pred) / classes
        to_all = ops.categorical_crossentropy(even, y_pred, from_logits, axis)
        losses = (1.0 - label_smoothing) * losses + label_smoothing * to_all
    if core.is_symbolic(labels):
        losses = ops.where(ops.logical_and(labels >= 0, labels < classes), losses, float("nan"))
    return losses if counted is None else ops.where(counted, losses, 0.0)


def integer_labels(y_true: Any, y_pred: Tensor, where: str = "sparse_categorical_crossentropy") -> Tensor:
    """Integer labels without the last axis that (B, 1) has."""
    labels = core.tensor(y_true)
    if labels.ndim == y_pred.ndim and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, -1)
    if labels.ndim != y_pred.ndim - 1:
        instead = where.replace("sparse_", "")
        fix = f" Use {instead} for one-hot labels." if labels.shape == y_pred.shape else ""
        raise ShapeError(
            f"{where}: labels have shape {labels.shape}, output {y_pred.shape}; "
            f"expected one integer per row of the output, shape {y_pred.shape[:-1]}.{fix}"
        )
    return ops.cast(labels, "int32") if labels.dtype.kind not in "iu" else labels


def check_labels(labels: Any, classes: int, ignore_class: int | None = None) -> None:
    """Raise a ValueError that names the first label outside of [0, classes)."""
    labels = np.asarray(labels)
    if not labels.size or (labels.min() >= 0 and labels.max() < classes):
        return
    wrong = (labels < 0) | (labels >= classes)
    if ignore_class is not None:
        wrong &= labels != ignore_class
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"Label {labels[place]} at position {place} is out of range: the output has {classes} classes, "
            f"so labels go from 0 to {classes - 1}. Number the classes from 0, give the last layer more "
            "units, or pass ignore_class to the loss."
        )


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float = 0.5) -> Tensor:
    """(1 - p^q) / q, p the probability of the label: labels (B, ...), output (B, ..., C) -> (B, ...).

    Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels"
    (2018).
    """
    if not 0 < q < 1:
        raise ValueError(f"q has to lie between 0 and 1; received {q}.")
    y_pred = as_float(y_pred)
    truth = ops.one_hot(integer_labels(y_true, y_pred), y_pred.shape[-1], dtype=y_pred.dtype)
    return (1.0 - ops.power(ops.sum(truth * y_pred, axis=-1), q)) / q


def _signs(y_true: Tensor) -> Tensor:
    """Labels -1 and 1, made from 0 and 1 where all of them are these."""
    binary = ops.all(ops.logical_or(ops.equal(y_true, 0), ops.equal(y_true, 1)))
    return ops.where(binary, 2.0 * y_true - 1.0, y_true)


def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """mean(max(1 - y_true·y_pred, 0)) over the last axis; labels are -1 and 1, or 0 and 1."""
    y_true, y_pred = as_pair(y_true, y_pred, "hinge")
    return ops.mean(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0), axis=-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """mean(max(1 - y_true·y_pred, 0)²) over the last axis; labels are -1 and 1, or 0 and 1."""
    y_true, y_pred = as_pair(y_true, y_pred, "squared_hinge")
    return ops.mean(ops.square(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0)), axis=-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """max(1 + highest wrong score - right score, 0); one-hot labels (B, ..., C) -> (B, ...)."""
    y_true, y_pred = as_pair(y_true, y_pred, "categorical_hinge")
    right = ops.sum(y_true * y_pred, axis=-1)
    wrong = ops.max((1.0 - y_true) * y_pred, axis=-1)
    return ops.maximum(wrong - right + 1.0, 0.0)


# Sequences


def ctc(y_true: Any, y_pred: Any) -> Tensor:
    """Minus the log-probability of the labels over all their alignments: (B, S), (B, T, C) -> (B,).

    Graves et al., "Connectionist Temporal Classification" (2006).

    Args:
        y_true: integer labels in [1, C), filled up with 0, which is the blank.
        y_pred: logits of T frames.
    """
    return _ctc(y_true, y_pred, None)


def _ctc(y_true: Any, y_pred: Any, mask: Tensor | None) -> Tensor:
    """CTC where ``mask`` (B, T) tells which frames, the first ones, count."""
    labels, y_pred = core.tensor(y_true), as_float(y_pred)
    if labels.ndim != 2 or y_pred.ndim != 3:
        raise ShapeError(
            f"ctc: expected labels (B, S) and logits (B, T, C); received {labels.shape} and {y_pred.shape}."
        )
    lengths = ops.sum(ops.cast(ops.not_equal(labels, 0), "int32"), axis=-1)
    frames = ops.full(lengths.shape, y_pred.shape[1], "int32")
    if mask is not None:
        frames = ops.sum(ops.cast(mask, "int32"), axis=-1)
    return ops.ctc_loss(labels, y_pred, lengths, frames)


# Segmentation


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Tensor:
    """1 - 2·|A∩B| / (|A| + |B|) over ``axis`` (all axes by default: a scalar).

    Milletari, Navab and Ahmadi, "V-Net" (2016).
    """
    y_true, y_pred = as_pair(y_true, y_pred, "dice")
    both = ops.sum(y_true * y_pred, axis=axis)
    return 1.0 - 2.0 * both / (ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis) + core.config.epsilon())


def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None) -> Tensor:
    """1 - |A∩B| / (|A∩B| + alpha·|A\\B| + beta·|B\\A|) over ``axis`` (default: all), A being the truth.

    Salehi, Erdogmus and Gholipour, "Tversky loss function for image segmentation" (2017).
    """
    y_true, y_pred = as_pair(y_true, y_pred, "tversky")
    both = ops.sum(y_true * y_pred, axis=axis)
    missed = ops.sum(y_true * (1.0 - y_pred), axis=axis)
    invented = ops.sum(y_pred * (1.0 - y_true), axis=axis)
    return 1.0 - both / (both + alpha * missed + beta * invented + core.config.epsilon())


# The same as classes


class MeanSquaredError(FunctionLoss, function=mean_squared_error):
    """Loss object of :func:`mean_squared_error`.

    >>> float(MeanSquaredError()([[0.0], [1.0]], [[1.0], [1.0]]))
    0.5
    """


class MeanAbsoluteError(FunctionLoss, function=mean_absolute_error):
    """Loss object of :func:`mean_absolute_error`."""


class MeanAbsolutePercentageError(FunctionLoss, function=mean_absolute_percentage_error):
    """Loss object of :func:`mean_absolute_percentage_error`."""


class MeanSquaredLogarithmicError(FunctionLoss, function=mean_squared_logarithmic_error):
    """Loss object of :func:`mean_squared_logarithmic_error`."""


class Huber(FunctionLoss, function=huber, name="huber_loss"):
    """Loss object of :func:`huber`."""


class LogCosh(FunctionLoss, function=log_cosh):
    """Loss object of :func:`log_cosh`."""


class Poisson(FunctionLoss, function=poisson):
    """Loss object of :func:`poisson`."""


class KLDivergence(FunctionLoss, function=kl_divergence):
    """Loss object of :func:`kl_divergence`."""


class CosineSimilarity(FunctionLoss, function=cosine_similarity):
    """Loss object of :func:`cosine_similarity`."""


class BinaryCrossentropy(FunctionLoss, function=binary_crossentropy):
    """Loss object of :func:`binary_crossentropy`.

    >>> round(float(BinaryCrossentropy(from_logits=True)([[1.0], [0.0]], [[0.0], [0.0]])), 4)
    0.6931
    """


class BinaryFocalCrossentropy(FunctionLoss, function=binary_focal_crossentropy):
    """Loss object of :func:`binary_focal_crossentropy`."""


class CategoricalCrossentropy(FunctionLoss, function=categorical_crossentropy):
    """Loss object of :func:`categorical_crossentropy`."""


class CategoricalFocalCrossentropy(FunctionLoss, function=categorical_focal_crossentropy):
    """Loss object of :func:`categorical_focal_crossentropy`."""


class SparseCategoricalCrossentropy(FunctionLoss, function=sparse_categorical_crossentropy):
    """Loss object of :func:`sparse_categorical_crossentropy`; ``ignore_class`` does not count in the mean.

    >>> loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    >>> round(float(loss([0, -1], [[0.0, 0.0], [9.0, 0.0]])), 4)
    0.6931
    """

    def counted(self, y_true: Tensor, y_pred: Tensor) -> Tensor | None:
        return None if self.ignore_class is None else ops.not_equal(integer_labels(y_true, y_pred), self.ignore_class)

    def check(self, y_true: Any, y_pred: Any) -> None:
        check_labels(y_true, y_pred.shape[self.axis], self.ignore_class)


class CategoricalGeneralizedCrossEntropy(FunctionLoss, function=categorical_generalized_cross_entropy):
    """Loss object of :func:`categorical_generalized_cross_entropy`."""


class Hinge(FunctionLoss, function=hinge):
    """Loss object of :func:`hinge`."""


class SquaredHinge(FunctionLoss, function=squared_hinge):
    """Loss object of :func:`squared_hinge`."""


class CategoricalHinge(FunctionLoss, function=categorical_hinge):
    """Loss object of :func:`categorical_hinge`."""


class Dice(FunctionLoss, function=dice):
    """Loss object of :func:`dice`."""


class Tversky(FunctionLoss, function=tversky):
    """Loss object of :func:`tversky`."""


class Quantile(FunctionLoss, function=quantile):
    """Loss object of :func:`quantile`."""


class CTC(FunctionLoss, function=ctc):
    """Loss object of :func:`ctc`; a mask (B, T) tells which frames of the logits count."""

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Tensor:
        mask = get_mask(y_pred) if mask is None else core.tensor(mask)
        losses = _ctc(y_true, self._computed(as_float(y_pred)), mask)
        return reduce_weighted_values(losses, sample_weight, None, self.reduction)

    def check(self, y_true: Any, y_pred: Any) -> None:
        check_labels(y_true, y_pred.shape[-1])


# Lookup by name

_FUNCTIONS = (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    categorical_hinge,
    circle,
    contrastive,
    cosine_similarity,
    ctc,
    dice,
    hinge,
    huber,
    info_nce,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    quantile,
    sparse_categorical_crossentropy,
    squared_hinge,
    triplet,
    tversky,
)
_CLASSES = (
    CTC,
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    CategoricalHinge,
    Circle,
    Contrastive,
    CosineSimilarity,
    Dice,
    Hinge,
    Huber,
    InfoNCE,
    KLDivergence,
    LogCosh,
    LossFunctionWrapper,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    Quantile,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    Triplet,
    Tversky,
)
_ALIASES = {
    "bce": binary_crossentropy,
    "kld": kl_divergence,
    "mae": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "mse": mean_squared_error,
    "msle": mean_squared_logarithmic_error,
}
_KNOWN = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{function.__name__: register_serializable("losses")(function) for function in _FUNCTIONS},
    **_ALIASES,
    **{alias.upper(): function for alias, function in _ALIASES.items()},
}


def get(identifier: Any) -> Any:
    """Return the loss for a name ("mse", "Huber"), a configuration, a function or an object.

    A name in snake case gives the function, one in camel case an object, as in Keras.

    >>> get("mse") is mean_squared_error, get("Huber").delta
    (True, 1.0)
    """
    return serialization.resolve(identifier, "loss", _KNOWN)


def resolve(identifier: Any, y_true_shape: tuple, y_pred_shape: tuple) -> Loss | None:
    """Return the loss *object* for an identifier; "crossentropy" (or "ce") is chosen by the shapes.

    >>> resolve("crossentropy", (32,), (32, 10)).name
    'sparse_categorical_crossentropy'
    """
    name = identifier if isinstance(identifier, str) else None
    if name in ("crossentropy", "ce"):
        identifier = name = f"{target_kind(y_true_shape, y_pred_shape)}_crossentropy"
    loss = get(identifier)
    if loss is sparse_categorical_crossentropy:
        return SparseCategoricalCrossentropy(name=name or loss.__name__)  # which also checks the labels
    return loss if loss is None or isinstance(loss, Loss) else LossFunctionWrapper(loss, name=name)


def target_kind(y_true_shape: tuple, y_pred_shape: tuple) -> str:
    """Say "binary" for one output, "sparse_categorical" for labels without class axis, else "categorical"."""
    if not y_pred_shape or y_pred_shape[-1] == 1 or (len(y_pred_shape) == 1 and len(y_true_shape) == 1):
        return "binary"
    sparse = len(y_true_shape) < len(y_pred_shape) or y_true_shape[-1] == 1
    return "sparse_categorical" if sparse else "categorical"


__all__ = [
    "Loss",
    *(member.__name__ for member in (*_CLASSES, *_FUNCTIONS)),
    "deserialize",
    "get",
    "serialize",
]
