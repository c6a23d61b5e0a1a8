"""Philox in loop IR: see primitives/random_bits.py for the sequence."""

from __future__ import annotations

from ..primitives.random_bits import _MULTIPLIERS, _WEYL, ROUNDS
from .loops import Builder, Value, u32, u64


def philox(b: Builder, number: Value, state: list[Value]) -> list[Value]:
    """The four words of a block (u32, a scalar or a vector of blocks) of the draw that ``state`` addresses."""
    number = number + state[4] if state[4:] else number
    zero = b.const(u64.vector(number.type.lanes), 0)
    # Words are held in the lower halves of 64 bits, where products need them: nothing has to change its place.
    counter = [b.cast(number, u64), zero, *(zero + b.cast(word, u64) for word in state[2:4])]
    key = state[:2]
    for _ in range(ROUNDS):
        products = [counter[2 * i] * _MULTIPLIERS[i] for i in range(2)]
        high, low = [p >> 32 for p in products], [p & 0xFFFFFFFF for p in products]
        wide = [b.cast(k, u64) for k in key]
        counter = [high[1] ^ counter[1] ^ wide[0], low[1], high[0] ^ counter[3] ^ wide[1], low[0]]
        key = [k + w for k, w in zip(key, _WEYL, strict=True)]
    return [b.cast(word, u32) for word in counter]
