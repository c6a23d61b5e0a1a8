"""Penalties on weights and outputs, as scalars to add to the loss."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, ops
from .serialization import Serializable, aliases, deserialize, resolve, serialize

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "OrthogonalRegularizer",
    "Regularizer",
    "deserialize",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "orthogonal_regularizer",
    "serialize",
]


class Regularizer(Serializable, namespace="regularizers"):
    """Base: ``regularizer(x)`` is the penalty on a tensor."""

    def __call__(self, x: Any) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(x); write one.")


class L1L2(Regularizer):
    """l1·Σ|x| + l2·Σx²"""

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        if l1 is None or l2 is None or l1 < 0 or l2 < 0:
            raise ValueError(f"Expected penalties that are not negative; received l1={l1}, l2={l2}.")
        self.l1, self.l2 = l1, l2

    def __call__(self, x: Any) -> Tensor:
        penalties = []
        if self.l1:
            penalties.append(self.l1 * ops.sum(ops.absolute(x)))
        if self.l2:
            penalties.append(self.l2 * ops.sum(ops.square(x)))
        return sum(penalties[1:], penalties[0]) if penalties else ops.zeros(())


class L1(L1L2):
    """l1·Σ|x|"""

    def __init__(self, l1: float = 0.01):
        super().__init__(l1=l1)


class L2(L1L2):
    """l2·Σx²"""

    def __init__(self, l2: float = 0.01):
        super().__init__(l2=l2)


class OrthogonalRegularizer(Regularizer):
    """Penalty on the cosines between the rows (or columns) of a matrix, 0 when they are orthogonal."""

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        if mode not in ("rows", "columns"):
            raise ValueError(f'mode is "rows" or "columns"; received {mode!r}.')
        self.factor, self.mode = factor, mode

    def __call__(self, x: Any) -> Tensor:
        axis = 1 if self.mode == "rows" else 0
        x = ops.normalize(x, axis)
        cosines = ops.matmul(x, ops.transpose(x)) if self.mode == "rows" else ops.matmul(ops.transpose(x), x)
        size = cosines.shape[0]
        pairs = max(size * (size - 1) / 2, 1)
        return self.factor * 0.5 * ops.sum(ops.absolute(cosines * (1 - ops.eye(size, dtype=cosines.dtype)))) / pairs


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer


_KNOWN = {
    **aliases([L1, L2, L1L2, OrthogonalRegularizer]),
    "orthogonal": OrthogonalRegularizer,
    "l1_l2": L1L2(0.01, 0.01),
}


def get(identifier: Any) -> Any:
    """The regularizer for a name ("l2"), a config, a class, or a callable; None stays None."""
    return resolve(identifier, "regularizer", _KNOWN)
