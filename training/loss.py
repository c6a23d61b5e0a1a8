"""The base of the losses: how labels, predictions, weights and masks fit, and how values become one number."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import core
from ..core import Tensor, ops, pytree
from ..core.dtypes import is_floating
from ..core.errors import ShapeError, unknown
from ..layers.masks import get_mask
from ..layers.serialization import Serializable, snake_case

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


# Shapes and weights


def squeeze_or_expand_to_same_rank(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
    """Give two values one rank where one of them has just a last axis of extent 1 more: (B,) and (B, 1)."""
    if x1.ndim == x2.ndim + 1 and x1.shape[-1] == 1:
        return (x1, ops.expand_dims(x2, -1)) if x2.ndim == 1 else (ops.squeeze(x1, -1), x2)
    if x2.ndim == x1.ndim + 1 and x2.shape[-1] == 1:
        return (ops.expand_dims(x1, -1), x2) if x1.ndim == 1 else (x1, ops.squeeze(x2, -1))
    return x1, x2


def as_float(value: Any) -> Tensor:
    value = core.tensor(value)
    return value if is_floating(value.dtype) else ops.cast(value, core.config.floatx())


def as_pair(y_true: Any, y_pred: Any, loss: str) -> tuple[Tensor, Tensor]:
    """Targets and predictions as floats of one shape, or a ShapeError with the likely fix."""
    y_pred, y_true = as_float(y_pred), core.tensor(y_true)
    integers = not is_floating(y_true.dtype)
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
    values = as_float(values)
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

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None):
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


def constructor_with_options(wrapper: type, function: Callable, options_first: bool, **defaults: Any) -> Callable:
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


class FunctionLoss(LossFunctionWrapper):
    """Subclasses name their function; they take its options, then reduction, name and dtype."""

    def __init_subclass__(cls, function: Callable | None = None, name: str | None = None, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if function is not None:
            defaults = {"reduction": "sum_over_batch_size", "name": name or function.__name__, "dtype": None}
            cls.__init__ = constructor_with_options(LossFunctionWrapper, function, True, **defaults)
