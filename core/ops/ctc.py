"""Connectionist temporal classification: its loss and its greedy decoding.

Graves, Fernández, Gomez, Schmidhuber: "Connectionist temporal classification" (ICML 2006).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError
from ..tensor import Tensor, wrap
from . import math
from .common import convert, scalar, to_float
from .control import scan
from .indexing import take_along_axis
from .nn import log_softmax
from .reductions import argmax, argsort, logsumexp, max, sum
from .shape import arange, broadcast_to, concatenate, expand_dims, full, reshape, stack, transpose

_NEVER = -1e5  # logarithm of a probability of 0, small enough and still finite for gradients


def ctc_loss(target: Any, output: Any, target_length: Any, output_length: Any, mask_index: int = 0) -> Tensor:
    """Minus the log-probability of the labels, over all alignments with the frames: (B,).

    ``target``: labels (B, S); ``output``: logits (B, T, classes), of which ``mask_index`` is the blank; the
    lengths (B,) say how many of them count.
    """
    output, target = to_float(output), math.cast(target, "int32")
    lengths, frames = math.cast(target_length, "int32"), math.cast(output_length, "int32")
    if output.ndim != 3 or target.ndim != 2 or target.shape[0] != output.shape[0]:
        raise ShapeError(
            f"ctc_loss: expected labels (B, S) and logits (B, T, classes); received {target.shape} and {output.shape}."
        )
    batch, labels = target.shape
    logs = log_softmax(output)
    # blank, first label, blank, second label, …, blank
    blanks = full((batch, labels), mask_index, "int32")
    states = concatenate([reshape(stack([blanks, target], -1), (batch, -1)), full((batch, 1), mask_index, "int32")], 1)
    count = 2 * labels + 1
    emitted = take_along_axis(logs, broadcast_to(expand_dims(states, 1), (batch, output.shape[1], count)), -1)
    never = scalar(_NEVER, output)
    # A label may follow the one before it without a blank between, unless the two are the same.
    skips = concatenate([full((batch, 2), False), math.not_equal(states[:, 2:], states[:, :-2])], 1)
    alpha = math.where(arange(count) < 2, emitted[:, 0], never)

    def step(alpha: Tensor, frame: tuple[Tensor, Tensor]) -> tuple[Tensor, None]:
        scores, counts = frame
        one = concatenate([broadcast_to(never, (batch, 1)), alpha[:, :-1]], 1)
        two = concatenate([broadcast_to(never, (batch, 2)), alpha[:, :-2]], 1)[:, :count]
        moved = logsumexp(stack([alpha, one, math.where(skips, two, never)]), 0) + scores
        return math.where(expand_dims(counts, 1), moved, alpha), None

    within = expand_dims(arange(1, output.shape[1]), 1) < expand_dims(frames, 0)
    alpha, _ = scan(step, alpha, (transpose(emitted[:, 1:], (1, 0, 2)), within))
    ends = stack([2 * lengths, math.maximum(2 * lengths - 1, 0)], 1)
    last = take_along_axis(alpha, ends, 1)
    no_label = math.logical_and(math.equal(expand_dims(lengths, 1), 0), wrap(np.array([False, True])))
    return math.negative(logsumexp(math.where(no_label, never, last), 1))


def ctc_decode(
    inputs: Any,
    sequence_lengths: Any,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int = 0,
) -> tuple[Tensor, Tensor]:
    """The most probable class of each frame, without repetitions and blanks.

    ``inputs``: scores (B, T, classes). Returns labels (1, B, T), filled up with -1, and minus the sum of the scores
    taken (B, 1). Only the strategy "greedy" exists here; ``beam_width`` and ``top_paths`` belong to the other.
    """
    if strategy != "greedy" or top_paths != 1:
        raise ValueError(
            f"ctc_decode: strategy is 'greedy' with one path here; received {strategy!r}, {top_paths} paths."
        )
    x = convert(inputs)
    frames = x.shape[1]
    beyond = arange(frames) >= expand_dims(math.cast(sequence_lengths, "int32"), -1)
    labels = math.where(beyond, mask_index, argmax(x, -1))
    scores = math.where(beyond, scalar(0, x), max(x, -1))
    if merge_repeated:
        repeated = concatenate([full((x.shape[0], 1), False), math.equal(labels[:, 1:], labels[:, :-1])], 1)
        labels = math.where(repeated, mask_index, labels)
    blank = math.equal(labels, mask_index)
    order = argsort(math.where(blank, frames, broadcast_to(arange(frames), labels.shape)))
    packed = take_along_axis(math.where(blank, -1, labels), order, -1)
    return expand_dims(packed, 0), math.negative(sum(scores, 1, True))
