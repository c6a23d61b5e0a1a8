"""Constraints: what optimizers apply to a weight after each update."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, config, ops
from .serialization import Serializable, aliases, deserialize, resolve, serialize

__all__ = ["Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm", "deserialize", "get", "serialize"]
__all__ += ["max_norm", "min_max_norm", "non_neg", "unit_norm"]


class Constraint(Serializable, namespace="constraints"):
    """Base: ``constraint(w)`` is the nearest allowed value of a weight."""

    def __call__(self, w: Any) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(w); write one.")


def _norms(w: Any, axis: Any) -> Tensor:
    return ops.sqrt(ops.sum(ops.square(w), axis, keepdims=True))


class MaxNorm(Constraint):
    """Scale down the vectors along ``axis`` that are longer than ``max_value``."""

    def __init__(self, max_value: float = 2, axis: Any = 0):
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Any) -> Tensor:
        norms = _norms(w, self.axis)
        return w * (ops.clip(norms, 0, self.max_value) / (norms + config.epsilon()))


class NonNeg(Constraint):
    """Nothing below 0."""

    def __call__(self, w: Any) -> Tensor:
        return ops.maximum(w, 0)


class UnitNorm(Constraint):
    """Vectors of length 1 along ``axis``."""

    def __init__(self, axis: Any = 0):
        self.axis = axis

    def __call__(self, w: Any) -> Tensor:
        return w / (_norms(w, self.axis) + config.epsilon())


class MinMaxNorm(Constraint):
    """Move the lengths of the vectors along ``axis`` into [min_value, max_value], by the share ``rate``."""

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0):
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Any) -> Tensor:
        norms = _norms(w, self.axis)
        wanted = self.rate * ops.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (wanted / (norms + config.epsilon()))


_KNOWN = aliases([MaxNorm, MinMaxNorm, NonNeg, UnitNorm])
# Keras's other names.
max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm


def get(identifier: Any) -> Any:
    """The constraint for a name ("non_neg"), a config, a class, or a callable; None stays None."""
    return resolve(identifier, "constraint", _KNOWN)
