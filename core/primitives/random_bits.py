"""Random bits from the counter-based generator Philox4x32-10.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

A draw is addressed, not consumed: the state is four 32-bit words (seed low, seed high, draw low, draw high),
and a draw of n words runs Philox with the key (seed low, seed high) on the counters (block, 0, draw low, draw
high) for block = 0 … q-1, where q = ceil(n / 4). Word i of the draw is output i // q of block i % q. So any
thread can compute any word, and the same seed gives the same bits everywhere. A state may have a fifth word, the
number of the first block, for a draw that is made in parts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..op import Case, Spec, declare

UINT32 = np.dtype("uint32")
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
_PART = 1 << 13  # blocks that are computed at a time: what numpy keeps in between then stays in the cache


def philox(counter: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Run Philox4x32-10 on four arrays of counter words (held as uint64) under a key of two words."""
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    k0, k1 = key
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(ROUNDS):
        p0 = c0 * np.uint64(_MULTIPLIERS[0])
        p1 = c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (p1 >> half) ^ c1 ^ np.uint64(k0),
            p1 & mask,
            (p0 >> half) ^ c3 ^ np.uint64(k1),
            p0 & mask,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def _random_bits(state: np.ndarray, shape: tuple) -> np.ndarray:
    size = math.prod(shape)
    blocks = -(-size // 4)
    seed_low, seed_high, draw_low, draw_high, first = (*(int(word) for word in state), 0)[:5]
    words = np.empty((4, blocks), UINT32)
    for start in range(0, blocks, _PART):
        part = words[:, start : start + _PART]
        block = np.arange(first + start, first + start + part.shape[1], dtype=np.uint64)
        part[...] = philox([block, np.zeros_like(block), draw_low, draw_high], (seed_low, seed_high))
    return words.reshape(-1)[:size].reshape(shape)


def _rule(state: Any, shape: tuple) -> Spec:
    if state.shape not in ((4,), (5,)) or state.dtype != UINT32:
        raise ShapeError(
            f"random_bits: the state is 4 or 5 words of uint32; received {state.dtype.name}{list(state.shape)}."
        )
    return Spec(tuple(shape), UINT32)


_STATE = np.array([1, 2, 3, 4], np.uint32)
random_bits = declare(
    "random_bits",
    rule=_rule,
    reference=_random_bits,
    cases=[
        Case((_STATE,), {"shape": (3, 5)}, differentiable=False),
        Case((_STATE,), {"shape": ()}, differentiable=False),
        Case((_STATE,), {"shape": (0, 3)}, differentiable=False),
        Case((_STATE,), {"shape": (8,)}, differentiable=False),
        Case((np.append(_STATE, np.uint32(7)),), {"shape": (4, 3)}, differentiable=False),
    ],
)
