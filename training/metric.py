"""The base class of the metrics, and the two kinds of running figures that most of them are: sums and means.

State lies in variables and is updated with tensor operations, so that a metric is part of the compiled step.
Sums and counts are kept in float64: they stay exact over epochs of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core import Tensor, Variable, config, ops, pytree, tensor
from ..core.dtypes import is_floating
from ..layers.masks import get_mask
from ..layers.serialization import Serializable, snake_case
from .loss import apply_mask, constructor_with_options, squeeze_or_expand_to_same_rank


class Metric(Serializable, namespace="metrics"):
    """Base class: a subclass adds variables, changes them in ``update_state`` and sums them up in ``result``.

    Args:
        dtype: dtype of the result; float32 by default.
        name: what logs call it.

    >>> class Largest(Metric):
    ...     def __init__(self, name="largest"):
    ...         super().__init__(name=name)
    ...         self.largest = self.add_variable((), name="largest")
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.largest.assign(ops.maximum(self.largest, ops.max(y_pred)))
    ...     def result(self):
    ...         return self.largest.value
    >>> float(Largest()(None, [1.0, 7.0]))
    7.0
    """

    _direction: str | None = None  # whether "up" or "down" is better, for callbacks that ask

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        self = super().__new__(cls, *arguments, **options)
        self._variables = []
        return self

    def __init__(self, dtype: Any = None, name: str | None = None):
        self.name = name or snake_case(type(self).__name__)
        self._dtype = dtype

    @property
    def dtype(self) -> Any:
        """Name of the dtype of the result."""
        return self._dtype or config.floatx()

    def add_variable(
        self, shape: Sequence[int], initializer: Any = "zeros", dtype: Any = None, name: str | None = None
    ) -> Variable:
        """Add state: zeros, ones or a number at first, zeros after :meth:`reset_state`."""
        value = {"zeros": 0.0, "ones": 1.0, None: 0.0}.get(initializer, initializer)
        value = value(shape) if callable(value) else value
        name = name or "variable"
        initial = np.broadcast_to(np.asarray(value), tuple(shape))
        variable = Variable(initial, dtype or self.dtype, trainable=False, name=name, autocast=False)
        variable.path = f"{self.name}/{name}"
        self._variables.append(variable)
        return variable

    def add_weight(
        self, shape: Sequence[int] = (), initializer: Any = None, dtype: Any = None, name: str | None = None
    ) -> Variable:
        """Add state; the same as :meth:`add_variable`."""
        return self.add_variable(shape, initializer, dtype, name)

    def add_sum(self, name: str, shape: Sequence[int] = ()) -> Variable:
        """Add a float64 variable in which to sum up."""
        return self.add_variable(shape, dtype="float64", name=name)

    @property
    def variables(self) -> list[Variable]:
        """The state, with that of metrics among the attributes."""
        inner = [leaf for leaf in pytree.flatten(list(vars(self).values())) if isinstance(leaf, Metric)]
        return [*self._variables, *(variable for metric in inner for variable in metric.variables)]

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Take a batch in: most metrics expect ``(y_true, y_pred, sample_weight=None)``."""
        raise NotImplementedError(f"{type(self).__name__} has to define update_state.")

    def result(self) -> Any:
        """The figure for all that was taken in since the last reset."""
        raise NotImplementedError(f"{type(self).__name__} has to define result.")

    def reset_state(self) -> None:
        """Forget everything."""
        for variable in self.variables:
            variable.assign(ops.zeros(variable.shape, variable.dtype))

    def merge_state(self, metrics: Iterable[Metric]) -> None:
        """Take in what other metrics of this class took in, each from its own part of the data.

        >>> first, second = Mean(), Mean()
        >>> first.update_state([1.0, 2.0]); second.update_state([6.0])
        >>> first.merge_state([second]); float(first.result())
        3.0
        """
        for metric in metrics:
            if [v.shape for v in metric.variables] != [v.shape for v in self.variables]:
                raise ValueError(
                    f"{metric.name!r} cannot be merged into {self.name!r}: their variables differ. "
                    "Make both with the same arguments, and update each at least once."
                )
            for variable, other in zip(self.variables, metric.variables):
                variable.assign_add(other.value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take a batch in and return the result so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def samplewise(values: Any, sample_weight: Any, reduce: Callable) -> tuple[Tensor, Tensor | None]:
    """Reduce weighted values (B, ...), and the weights, to one per sample: (B,); scalars stay scalars."""
    values = tensor(values)
    values = values if is_floating(values.dtype) else ops.cast(values, config.floatx())
    if sample_weight is not None:
        weights = ops.cast(sample_weight, values.dtype)
        values, weights = squeeze_or_expand_to_same_rank(values, weights)
        values = reduce(values, axis=tuple(range(weights.ndim, values.ndim)))
        weights = ops.broadcast_to(weights, values.shape)
        values = values * weights
        sample_weight = reduce(weights, axis=tuple(range(1, weights.ndim)))
    return reduce(values, axis=tuple(range(1, values.ndim))), sample_weight


class Sum(Metric):
    """Running weighted sum of values.

    >>> total = Sum()
    >>> total.update_state([1.0, 2.0]); float(total(3.0))
    6.0
    """

    def __init__(self, name: str = "sum", dtype: Any = None):
        super().__init__(dtype, name)
        self.total = self.add_sum("total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add ``values`` (B, ...), times ``sample_weight`` of this shape or (B,)."""
        self.total.assign_add(ops.sum(samplewise(values, sample_weight, ops.sum)[0]))

    def result(self) -> Tensor:
        return ops.cast(self.total, self.dtype)


class Mean(Metric):
    """Running weighted mean of values: sum(values · weights) / sum(weights).

    >>> mean = Mean()
    >>> mean.update_state([1.0, 3.0], sample_weight=[1.0, 0.0]); float(mean(5.0))
    3.0
    """

    def __init__(self, name: str = "mean", dtype: Any = None):
        super().__init__(dtype, name)
        self.total = self.add_sum("total")
        self.count = self.add_sum("count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add ``values`` (B, ...); ``sample_weight`` has their shape or (B,)."""
        values, weights = samplewise(values, sample_weight, ops.mean)
        self.total.assign_add(ops.sum(values))
        self.count.assign_add(float(values.size) if weights is None else ops.sum(weights))

    def result(self) -> Tensor:
        return ops.cast(ops.divide_no_nan(self.total, self.count), self.dtype)


class MeanMetricWrapper(Mean):
    """Running mean of ``fn(y_true, y_pred, **kwargs)``.

    >>> def error(y_true, y_pred):
    ...     return ops.absolute(ops.subtract(y_true, y_pred))
    >>> float(MeanMetricWrapper(error)([1.0, 2.0], [1.0, 4.0]))
    1.0
    """

    def __init__(self, fn: Callable, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(name or getattr(fn, "__name__", None) or "mean", dtype)
        self.fn = fn
        self._options = kwargs
        for option, value in kwargs.items():
            setattr(self, option, value)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch: targets, predictions, and weights (B,) or one per value; masked steps do not count."""
        weights = apply_mask(sample_weight, get_mask(y_pred), config.floatx(), "sum")
        super().update_state(self.fn(y_true, y_pred, **self._options), weights)


class FunctionMetric(MeanMetricWrapper):
    """Running mean of a function; a subclass names it and takes its options. Those of losses should fall."""

    def __init_subclass__(
        cls,
        function: Callable | None = None,
        name: str | None = None,
        options_first: bool = False,
        **rest: Any,
    ) -> None:
        super().__init_subclass__(**rest)
        if function is not None:
            if "_direction" not in vars(cls):
                cls._direction = "down" if function.__module__.endswith("losses") else "up"
            own = {"name": name or function.__name__, "dtype": None}
            cls.__init__ = constructor_with_options(MeanMetricWrapper, function, options_first, **own)
