"""Metrics of rankings: each row scores items, and a target says how relevant each of them is.

Items of negative relevance are padding and do not count, nor do rows without a relevant item.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Tensor, config, ops
from ..core.errors import ShapeError
from .loss import apply_mask, as_pair
from .metric import Mean


class RankingMetric(Mean):
    """Base: the weighted mean over rows of ``score``.

    Args:
        k: only the k best items of each row count; all by default.
    """

    _direction = "up"

    def __init__(self, k: int | None = None, name: str | None = None, dtype: Any = None):
        super().__init__(name, dtype)
        if k is not None and k < 1:
            raise ValueError(f"k has to be positive; received {k}.")
        self.k = k

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add relevances and scores (B, items), with weights (B,)."""
        y_true, y_pred = as_pair(y_true, y_pred, self.name)
        if y_true.ndim != 2:
            raise ShapeError(f"{self.name}: expected values of shape (B, items); received {y_true.shape}.")
        best = ops.argsort(ops.where(y_true < 0, float("inf"), -y_pred), axis=1)
        relevance = ops.maximum(y_true, 0.0)
        ranked = ops.take_along_axis(relevance, best, axis=1)
        counted = ops.any(relevance > 0, axis=1)
        weights = apply_mask(sample_weight, counted, config.floatx(), "sum")
        super().update_state(self.score(ranked[:, : self.k], relevance), weights)

    def score(self, ranked: Tensor, relevance: Tensor) -> Tensor:
        """Figures (B,) from the relevances of the items in the order of their scores, (B, k), and of all."""
        raise NotImplementedError(f"{type(self).__name__} has to define score.")


class HitRate(RankingMetric):
    """Share of rows with a relevant item among the k best.

    >>> float(HitRate(k=1)([[1, 0], [0, 1]], [[0.9, 0.1], [0.8, 0.2]]))
    0.5
    """

    def __init__(self, k: int | None = 10, name: str = "hit_rate", dtype: Any = None):
        super().__init__(k, name, dtype)

    def score(self, ranked: Tensor, relevance: Tensor) -> Tensor:
        return ops.cast(ops.any(ranked > 0, axis=1), ranked.dtype)


class MeanAveragePrecision(RankingMetric):
    """Mean over rows of the precision at the place of each relevant item.

    With ``k`` the precisions are divided by the number of relevant items, or by k if there are more.

    >>> round(float(MeanAveragePrecision()([[1, 0, 1]], [[0.9, 0.8, 0.7]])), 4)
    0.8333
    """

    def __init__(self, k: int | None = None, name: str = "mean_average_precision", dtype: Any = None):
        super().__init__(k, name, dtype)

    def score(self, ranked: Tensor, relevance: Tensor) -> Tensor:
        hits = ops.cast(ranked > 0, ranked.dtype)
        places = np.arange(1, ranked.shape[1] + 1, dtype=ranked.dtype)
        precisions = ops.sum(hits * ops.cumsum(hits, axis=1) / places, axis=1)
        found = ops.sum(ops.cast(relevance > 0, ranked.dtype), axis=1)
        return ops.divide_no_nan(precisions, ops.minimum(found, float(ranked.shape[1])))


class NDCG(RankingMetric):
    """Discounted cumulative gain, sum(relevance / log2(1 + place)), as a share of the best possible.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (2002).

    >>> round(float(NDCG()([[3, 0, 1]], [[0.9, 0.8, 0.7]])), 4)
    0.9639
    """

    def __init__(self, k: int | None = None, name: str = "ndcg", dtype: Any = None):
        super().__init__(k, name, dtype)

    def score(self, ranked: Tensor, relevance: Tensor) -> Tensor:
        discounts = 1 / np.log2(np.arange(2, ranked.shape[1] + 2)).astype(ranked.dtype)
        ideal = -ops.sort(-relevance, axis=1)[:, : self.k]
        return ops.divide_no_nan(ops.sum(ranked * discounts, axis=1), ops.sum(ideal * discounts, axis=1))
