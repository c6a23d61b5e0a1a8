"""Losses: how far predictions are from targets, per sample and reduced to one number.

Functions take ``(y_true, y_pred)`` and answer one value per sample: they average or sum over the last axis,
``(B, ..., C) -> (B, ...)``. Classes hold the options of a function and reduce its values, weighted and
masked, to a scalar. All can be traced and differentiated. Formulas and defaults are those of Keras 3.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import core
from ..core import Tensor, ops, pytree
from ..core.errors import ShapeError, unknown
from ..layers import serialization
from ..layers.masks import get_mask
from ..layers.serialization import Serializable, deserialize, register_serializable, serialize, snake_case

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


# Shapes and weights


def squeeze_or_expand_to_same_rank(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
    """Give two values one rank where one of them has just a last axis of extent 1 more: (B,) and (B, 1)."""
    if x1.ndim == x2.ndim + 1 and x1.shape[-1] == 1:
        return (x1, ops.expand_dims(x2, -1)) if x2.ndim == 1 else (ops.squeeze(x1, -1), x2)
    if x2.ndim == x1.ndim + 1 and x2.shape[-1] == 1:
        return (ops.expand_dims(x1, -1), x2) if x1.ndim == 1 else (x1, ops.squeeze(x2, -1))
    return x1, x2


def _float(value: Any) -> Tensor:
    value = core.tensor(value)
    return value if value.dtype.kind == "f" else ops.cast(value, core.config.floatx())


def as_pair(y_true: Any, y_pred: Any, loss: str) -> tuple[Tensor, Tensor]:
    """Targets and predictions as floats of one shape, or a ShapeError with the likely fix."""
    y_pred, y_true = _float(y_pred), core.tensor(y_true)
    integers = y_true.dtype.kind != "f"
    y_true, y_pred = squeeze_or_expand_to_same_rank(ops.cast(y_true, y_pred.dtype), y_pred)
    if y_true.shape != y_pred.shape and y_true.ndim and y_pred.ndim:
        raise ShapeError(_mismatch(loss, y_true.shape, y_pred.shape, integers))
    return y_true, y_pred


def _mismatch(loss: str, labels: tuple, output: tuple, integers: bool) -> str:
    message = f"{loss}: labels have shape {labels}, output {output}; expected the same shape."
    if len(labels) == len(output) and labels[-1:] == (1,):
        labels = labels[:-1]
    if labels == output[:-1] and (integers or "crossentropy" in loss):
        sparse = f"sparse_categorical_{'accuracy' if 'accuracy' in loss else 'crossentropy'}"
        return f"{message} Use {sparse} for integer labels, or make them one-hot."
    if labels == output[:-1]:
        return f"{message} For one number per sample the last layer needs 1 unit; it has {output[-1]}."
    if labels[-1:] != output[-1:] and labels[:-1] == output[:-1]:
        return f"{message} The last layer needs {labels[-1]} units; it has {output[-1]}."
    return message


def apply_mask(sample_weight: Any, mask: Any, dtype: Any, reduction: str | None) -> Tensor | None:
    """Combine weights with a mask (True: counts).

    For the reductions that divide by the number of values the weights are scaled up, so that the mean is over
    the values that count alone.
    """
    if mask is None:
        return None if sample_weight is None else ops.cast(sample_weight, dtype)
    mask = ops.cast(mask, dtype)
    if reduction in ("mean", "sum_over_batch_size"):
        mask = mask * ops.divide_no_nan(float(mask.size), ops.sum(mask))
    if sample_weight is None:
        return mask
    mask, sample_weight = align_weights(mask, ops.cast(sample_weight, dtype))
    return mask * sample_weight


def align_weights(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Make weights (B,) fit values (B, T, ...): one weight counts for all values of its sample."""
    if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
        weights = ops.squeeze(weights, -1)
    shorter, longer = (values, weights) if values.ndim < weights.ndim else (weights, values)
    spread = ops.reshape(shorter, shorter.shape + (1,) * (longer.ndim - shorter.ndim))
    values, weights = (spread, longer) if shorter is values else (longer, spread)
    try:
        np.broadcast_shapes(values.shape, weights.shape)
    except ValueError:
        raise ShapeError(
            f"sample_weight has shape {weights.shape}, which does not fit losses of shape {values.shape}; "
            "expected one weight per sample, or one per value."
        ) from None
    return values, weights


def reduce_weighted_values(
    values: Any, sample_weight: Any = None, mask: Any = None, reduction: str | None = "sum_over_batch_size"
) -> Tensor:
    """Reduce losses (B, ...) to a scalar (to themselves for the reduction None); see :class:`Loss`."""
    values = _float(values)
    weights = apply_mask(sample_weight, mask, values.dtype, reduction)
    if weights is not None:
        values, weights = align_weights(values, weights)
        values = values * weights
    if reduction in (None, "none") or not values.ndim:
        return values
    total = ops.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and weights is not None:
        return ops.divide_no_nan(total, ops.sum(ops.broadcast_to(weights, values.shape)))
    return total / max(values.size, 1)


# Classes


class Loss(Serializable, namespace="losses"):
    """Base class: a subclass computes in ``call(y_true, y_pred)`` one loss per sample.

    Args:
        name: what logs call it.
        reduction: "sum_over_batch_size" or "mean" (sum divided by the number of values), "sum",
            "mean_with_sample_weight" (sum divided by the sum of the weights), or None (no reduction).
        dtype: dtype to compute in; float32 by default, or that of ``y_pred`` if it is wider.

    >>> class Quartic(Loss):
    ...     def call(self, y_true, y_pred):
    ...         return ops.mean((y_true - y_pred) ** 4, axis=-1)
    >>> float(Quartic()([[0.0], [0.0]], [[1.0], [2.0]]))
    8.5
    """

    def __init__(
        self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None
    ):
        if reduction not in REDUCTIONS:
            raise unknown("reduction", reduction, [str(known) for known in REDUCTIONS])
        self.name = name or snake_case(type(self).__name__)
        self.reduction = reduction
        self.dtype = dtype

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Tensor:
        """Loss of a batch.

        Args:
            y_true: targets (B, ...); integer labels stay integers.
            y_pred: predictions (B, ...).
            sample_weight: factors of the losses, (B,) or the shape of the unreduced losses.
            mask: True where a value counts, shaped like ``sample_weight``; by default the one that the layers
                left with ``y_pred``. A mean is over these values alone.
        """
        mask = get_mask(y_pred) if mask is None else mask
        y_true = _tensors(y_true)
        y_pred = pytree.map(self._computed, _tensors(y_pred))
        values = self.call(y_true, y_pred)
        counted = self.counted(y_true, y_pred)
        if counted is not None:
            mask = counted if mask is None else apply_mask(counted, mask, "float32", "sum")
        return reduce_weighted_values(values, sample_weight, mask, self.reduction)

    def _computed(self, y_pred: Tensor) -> Tensor:
        if self.dtype is not None:
            return ops.cast(y_pred, self.dtype)
        return y_pred if y_pred.dtype == np.float64 else ops.cast(y_pred, core.config.floatx())

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Losses (B, ...) of the samples."""
        raise NotImplementedError(f"{type(self).__name__} has to define call(y_true, y_pred).")

    def counted(self, y_true: Tensor, y_pred: Tensor) -> Tensor | None:
        """Mask (B, ...) of the values that count, for losses that leave some out by themselves."""
        return None

    def check(self, y_true: Any, y_pred: Any) -> None:
        """Raise if the values of concrete targets do not fit; of ``y_pred`` only the shape is looked at.

        A compiled step cannot look at values: the training loop asks here, on the batch, before the step.
        """


def _tensors(tree: Any) -> Any:
    """A tree of tensors; nested lists of numbers are one tensor."""
    numbers = not isinstance(tree, dict) and all(np.isscalar(leaf) for leaf in pytree.flatten(tree))
    return core.tensor(tree) if numbers else pytree.map(core.tensor, tree)


class LossFunctionWrapper(Loss):
    """A loss class around ``fn(y_true, y_pred, **kwargs)``."""

    def __init__(
        self,
        fn: Callable,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name or getattr(fn, "__name__", None), reduction, dtype)
        self.fn = fn
        self._options = kwargs
        for option, value in kwargs.items():
            setattr(self, option, value)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self.fn(y_true, y_pred, **self._options)


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
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Tensor:
    """-log(y_pred) at the class that ``y_true`` names: labels (B, ...) and output (B, ..., C) -> (B, ...).

    Args:
        y_true: integer labels in [0, C). Others are an error; inside a compiled step they make the loss NaN.
        y_pred: probabilities (normalised here), or with ``from_logits`` any real numbers.
        ignore_class: a label (-1 or 255, say) whose loss is 0; :class:`SparseCategoricalCrossentropy` leaves
            it out of the mean as well.

    >>> sparse_categorical_crossentropy([1], [[0.5, 0.5]]).numpy().round(4)
    array([0.6931], dtype=float32)
    """
    y_pred = _float(y_pred)
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
    y_pred = _float(y_pred)
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


# Segmentation


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Tensor:
    """1 - 2·|A∩B| / (|A| + |B|) over ``axis`` (all axes by default: a scalar).

    Milletari, Navab and Ahmadi, "V-Net" (2016).
    """
    y_true, y_pred = as_pair(y_true, y_pred, "dice")
    both = ops.sum(y_true * y_pred, axis=axis)
    return 1.0 - 2.0 * both / (
        ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis) + core.config.epsilon()
    )


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


def constructor_with_options(
    wrapper: type, function: Callable, options_first: bool, **defaults: Any
) -> Callable:
    """Make the ``__init__`` of a class that wraps ``function`` and takes that function's options as its own.

    ``defaults`` are the further arguments of the wrapper. So each option and its default stands in one place,
    and help(), error messages and saved configurations still know them all.
    """
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    own = [inspect.Parameter(name, keyword, default=default) for name, default in defaults.items()]
    options = list(inspect.signature(function).parameters.values())[2:]
    parameters = [*options, *own] if options_first else [*own, *options]
    signature = inspect.Signature([inspect.Parameter("self", keyword), *parameters])

    def constructor(self: Any, *arguments: Any, **keywords: Any) -> None:
        try:
            bound = signature.bind(self, *arguments, **keywords)
        except TypeError as error:
            expected = ", ".join(map(str, parameters))
            raise TypeError(f"{type(self).__name__}: {error}. It takes ({expected}).") from None
        bound.apply_defaults()
        wrapper.__init__(self, function, **dict(list(bound.arguments.items())[1:]))

    constructor.__signature__ = signature
    return constructor


class _FunctionLoss(LossFunctionWrapper):
    """Subclasses name their function; they take its options, then reduction, name and dtype."""

    def __init_subclass__(
        cls, function: Callable | None = None, name: str | None = None, **rest: Any
    ) -> None:
        super().__init_subclass__(**rest)
        if function is not None:
            defaults = {"reduction": "sum_over_batch_size", "name": name or function.__name__, "dtype": None}
            cls.__init__ = constructor_with_options(LossFunctionWrapper, function, True, **defaults)


class MeanSquaredError(_FunctionLoss, function=mean_squared_error):
    """Loss object of :func:`mean_squared_error`.

    >>> float(MeanSquaredError()([[0.0], [1.0]], [[1.0], [1.0]]))
    0.5
    """


class MeanAbsoluteError(_FunctionLoss, function=mean_absolute_error):
    """Loss object of :func:`mean_absolute_error`."""


class MeanAbsolutePercentageError(_FunctionLoss, function=mean_absolute_percentage_error):
    """Loss object of :func:`mean_absolute_percentage_error`."""


class MeanSquaredLogarithmicError(_FunctionLoss, function=mean_squared_logarithmic_error):
    """Loss object of :func:`mean_squared_logarithmic_error`."""


class Huber(_FunctionLoss, function=huber, name="huber_loss"):
    """Loss object of :func:`huber`."""


class LogCosh(_FunctionLoss, function=log_cosh):
    """Loss object of :func:`log_cosh`."""


class Poisson(_FunctionLoss, function=poisson):
    """Loss object of :func:`poisson`."""


class KLDivergence(_FunctionLoss, function=kl_divergence):
    """Loss object of :func:`kl_divergence`."""


class CosineSimilarity(_FunctionLoss, function=cosine_similarity):
    """Loss object of :func:`cosine_similarity`."""


class BinaryCrossentropy(_FunctionLoss, function=binary_crossentropy):
    """Loss object of :func:`binary_crossentropy`.

    >>> round(float(BinaryCrossentropy(from_logits=True)([[1.0], [0.0]], [[0.0], [0.0]])), 4)
    0.6931
    """


class BinaryFocalCrossentropy(_FunctionLoss, function=binary_focal_crossentropy):
    """Loss object of :func:`binary_focal_crossentropy`."""


class CategoricalCrossentropy(_FunctionLoss, function=categorical_crossentropy):
    """Loss object of :func:`categorical_crossentropy`."""


class CategoricalFocalCrossentropy(_FunctionLoss, function=categorical_focal_crossentropy):
    """Loss object of :func:`categorical_focal_crossentropy`."""


class SparseCategoricalCrossentropy(_FunctionLoss, function=sparse_categorical_crossentropy):
    """Loss object of :func:`sparse_categorical_crossentropy`; ``ignore_class`` does not count in the mean.

    >>> loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    >>> round(float(loss([0, -1], [[0.0, 0.0], [9.0, 0.0]])), 4)
    0.6931
    """

    def counted(self, y_true: Tensor, y_pred: Tensor) -> Tensor | None:
        return (
            None
            if self.ignore_class is None
            else ops.not_equal(integer_labels(y_true, y_pred), self.ignore_class)
        )

    def check(self, y_true: Any, y_pred: Any) -> None:
        check_labels(y_true, y_pred.shape[self.axis], self.ignore_class)


class CategoricalGeneralizedCrossEntropy(_FunctionLoss, function=categorical_generalized_cross_entropy):
    """Loss object of :func:`categorical_generalized_cross_entropy`."""


class Hinge(_FunctionLoss, function=hinge):
    """Loss object of :func:`hinge`."""


class SquaredHinge(_FunctionLoss, function=squared_hinge):
    """Loss object of :func:`squared_hinge`."""


class CategoricalHinge(_FunctionLoss, function=categorical_hinge):
    """Loss object of :func:`categorical_hinge`."""


class Dice(_FunctionLoss, function=dice):
    """Loss object of :func:`dice`."""


class Tversky(_FunctionLoss, function=tversky):
    """Loss object of :func:`tversky`."""


# Lookup by name

_FUNCTIONS = (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    categorical_hinge,
    cosine_similarity,
    dice,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
    tversky,
)
_CLASSES = (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    CategoricalHinge,
    CosineSimilarity,
    Dice,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    LossFunctionWrapper,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
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
