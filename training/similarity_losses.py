"""Losses of embeddings: like samples close together, unlike ones apart."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, ops, tensor
from ..core.errors import ShapeError
from ..layers.serialization import register_serializable
from .loss import FunctionLoss, LossFunctionWrapper, as_float, as_pair

_NEVER = -1e9  # as a logit; finite, so that gradients are


def _matches(labels: Any, references: Any, remove_diagonal: bool) -> tuple[Tensor, Tensor]:
    """Masks (B, R) of the pairs with equal labels, perhaps without those on the diagonal, and with unlike."""
    labels, references = (ops.reshape(ops.cast(part, "int32"), (-1,)) for part in (labels, references))
    equal = ops.equal(ops.expand_dims(labels, 1), ops.expand_dims(references, 0))
    positive = equal
    if remove_diagonal:
        positive = equal & ops.logical_not(ops.eye(*equal.shape, dtype="bool"))
    return positive, ops.logical_not(equal)


def _embeddings(y_pred: Any, loss: str) -> Tensor:
    y_pred = as_float(y_pred)
    if y_pred.ndim != 2:
        raise ShapeError(f"{loss}: expected embeddings of shape (B, D); received {y_pred.shape}.")
    return y_pred


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Tensor:
    """Circle loss of embeddings of length 1: labels (B,), embeddings (B, D) -> (B,).

    Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization" (2020).

    Args:
        ref_labels: labels (R,) of ``ref_embeddings``; those of the batch by default.
        ref_embeddings: embeddings (R, D) to compare with; those of the batch by default.
        remove_diagonal: do not compare sample i with reference i.
        gamma: scale of the similarities.
        margin: how far from the ideal similarity counts as good.
    """
    y_pred = _embeddings(y_pred, "circle")
    references = y_pred if ref_embeddings is None else _embeddings(ref_embeddings, "circle")
    positive, negative = _matches(y_true, y_true if ref_labels is None else ref_labels, remove_diagonal)
    distances = ops.maximum(1.0 - ops.matmul(y_pred, ops.transpose(references)), 0.0)
    attract = -gamma * (margin + distances) * (margin - distances)
    repel = gamma * ops.maximum(1.0 + margin - distances, 0.0) * (1.0 - margin - distances)
    sums = [
        ops.logsumexp(ops.where(mask, logits, _NEVER), axis=1)
        for mask, logits in ((positive, attract), (negative, repel))
    ]
    return ops.softplus(sums[0] + sums[1])


def contrastive(y_true: Any, y_pred: Any, margin: float = 1.0) -> Tensor:
    """mean(y·d² + (1 - y)·max(margin - d, 0)²) over the last axis, (B, ..., C) -> (B, ...).

    Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping" (2006).

    Args:
        y_true: 1 for pairs of a kind, 0 for others.
        y_pred: distances d of the pairs, not negative.
        margin: distance from which on unlike pairs are far enough apart.

    >>> contrastive([[1.0], [0.0]], [[0.5], [0.5]]).tolist()
    [0.25, 0.25]
    """
    y_true, distance = as_pair(y_true, y_pred, "contrastive")
    apart = ops.square(ops.maximum(margin - distance, 0.0))
    return ops.mean(y_true * ops.square(distance) + (1.0 - y_true) * apart, axis=-1)


def _hardest(y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Distances (B,) to the farthest sample of the same label and the nearest of another; who has both."""
    y_pred = _embeddings(y_pred, "triplet")
    positive, negative = _matches(y_true, y_true, True)
    squares = ops.sum(ops.square(ops.expand_dims(y_pred, 1) - ops.expand_dims(y_pred, 0)), axis=-1)
    # The square root has no slope at 0, where two embeddings are the same.
    distances = ops.where(squares > 0, ops.sqrt(ops.where(squares > 0, squares, 1.0)), 0.0)
    farthest = ops.max(ops.where(positive, distances, 0.0), axis=1)
    nearest = ops.min(ops.where(negative, distances, float("inf")), axis=1)
    return farthest, nearest, ops.any(positive, axis=1) & ops.any(negative, axis=1)


def triplet(y_true: Any, y_pred: Any, margin: float = 1.0) -> Tensor:
    """max(d(a, p) - d(a, n) + margin, 0) per sample a: labels (B,), embeddings (B, D) -> (B,).

    p is the farthest sample of the batch with a's label, n the nearest with another; without both the loss
    is 0. Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification" (2017).

    >>> triplet([0, 0, 1], [[0.0], [1.0], [3.0]]).tolist()
    [0.0, 0.0, 0.0]
    """
    farthest, nearest, complete = _hardest(y_true, y_pred)
    gap = farthest - ops.where(complete, nearest, 0.0) + margin
    return ops.where(complete, ops.maximum(gap, 0.0), 0.0)


def info_nce(y_true: Any, y_pred: Any, temperature: float = 0.1, symmetric: bool = False) -> Tensor:
    """Cross-entropy of picking the partner of each sample from the batch by cosine: (B, D), (B, D) -> (B,).

    Van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding" (2018).

    Args:
        y_true: embeddings of the partners: sample i belongs to partner i.
        y_pred: embeddings of the samples.
        temperature: what the cosines are divided by.
        symmetric: also pick samples for the partners, and take the mean, as in CLIP (Radford et al., 2021).
    """
    y_true, y_pred = as_pair(_embeddings(y_true, "info_nce"), _embeddings(y_pred, "info_nce"), "info_nce")
    logits = ops.matmul(ops.normalize(y_pred), ops.transpose(ops.normalize(y_true))) / temperature
    rows = -ops.diagonal(ops.log_softmax(logits, axis=1))
    return (rows - ops.diagonal(ops.log_softmax(logits, axis=0))) / 2 if symmetric else rows


class Circle(LossFunctionWrapper):
    """Loss object of :func:`circle` within a batch; a mean is over the samples whose loss is not 0."""

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "circle",
        dtype: Any = None,
    ):
        options = {"gamma": gamma, "margin": margin, "remove_diagonal": remove_diagonal}
        super().__init__(circle, reduction, name, dtype, **options)

    def counted(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self.call(y_true, y_pred) > 0


class Contrastive(FunctionLoss, function=contrastive):
    """Loss object of :func:`contrastive`."""


class Triplet(FunctionLoss, function=triplet):
    """Loss object of :func:`triplet`; a mean is over the samples that have both kinds of partners."""

    def counted(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return _hardest(tensor(y_true), y_pred)[2]


class InfoNCE(FunctionLoss, function=info_nce):
    """Loss object of :func:`info_nce`."""


for _function in (circle, contrastive, info_nce, triplet):
    register_serializable("losses")(_function)
