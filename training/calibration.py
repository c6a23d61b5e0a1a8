"""Calibration: whether predictions made with a confidence of 80 % are right 80 % of the time."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Tensor, config, ops, tensor
from ..core.errors import unknown
from .loss import apply_mask
from .losses import integer_labels
from .metric import Metric


class CalibrationError(Metric):
    """Expected calibration error: the mean distance between confidence and accuracy, over bins of confidence.

    Guo et al., "On Calibration of Modern Neural Networks" (2017).

    Args:
        num_bins: equal parts of [0, 1].
        norm: "l1", the mean over the bins weighted by their samples, or "max", the worst bin.
        from_logits: outputs are any real numbers instead of probabilities.

    >>> round(float(CalibrationError()([0, 1], [[0.9, 0.1], [0.6, 0.4]])), 4)
    0.35
    """

    _direction = "down"

    def __init__(
        self,
        num_bins: int = 15,
        norm: str = "l1",
        from_logits: bool = False,
        name: str = "calibration_error",
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        if norm not in ("l1", "max"):
            raise unknown("norm", norm, ("l1", "max"))
        self.num_bins = num_bins
        self.norm = norm
        self.from_logits = from_logits
        self.confidence, self.right, self.count = (
            self.add_sum(part, (num_bins,)) for part in ("confidence", "right", "count")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add labels (B, ...) with outputs (B, ..., C); or labels 0 and 1 with outputs (B, ..., 1)."""
        y_pred = ops.cast(tensor(y_pred), config.floatx())
        labels = integer_labels(y_true, y_pred, self.name)
        if y_pred.shape[-1] == 1:
            second = ops.sigmoid(y_pred) if self.from_logits else y_pred
            y_pred = ops.concatenate([1.0 - second, second], axis=-1)
        elif self.from_logits:
            y_pred = ops.softmax(y_pred)
        confidence = ops.max(y_pred, axis=-1)
        right = ops.cast(ops.equal(ops.argmax(y_pred, -1), labels), y_pred.dtype)
        weights = apply_mask(sample_weight, ops.ones_like(confidence), y_pred.dtype, "sum")
        weights = ops.reshape(ops.broadcast_to(weights, confidence.shape), (-1,))
        # Bins are open at their lower edge, so that 1.0 belongs to the last.
        edges = np.linspace(0, 1, self.num_bins + 1)[1:-1].astype(config.floatx())
        bins = ops.reshape(ops.sum(ops.cast(ops.expand_dims(confidence, -1) > edges, "int32"), -1), (-1,))
        for variable, values in ((self.confidence, confidence), (self.right, right), (self.count, None)):
            values = weights if values is None else ops.reshape(values, (-1,)) * weights
            variable.assign_add(ops.segment_sum(values, bins, self.num_bins))

    def result(self) -> Tensor:
        gaps = ops.absolute(self.right - self.confidence)
        if self.norm == "max":
            return ops.cast(ops.max(ops.divide_no_nan(gaps, self.count)), self.dtype)
        return ops.cast(ops.divide_no_nan(ops.sum(gaps), ops.sum(self.count)), self.dtype)
