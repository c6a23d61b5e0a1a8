"""The hashes of texts that Hashing, HashedCrossing and the lookups distribute by."""

from __future__ import annotations

from typing import Any

_WORD = (1 << 64) - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def _rotate(value: int, shift: int) -> int:
    value &= _WORD
    return (value >> shift | value << (64 - shift)) & _WORD


def _mix(u: int, v: int, factor: int) -> int:
    a = (u ^ v) * factor & _WORD
    a ^= a >> 47
    b = (v ^ a) * factor & _WORD
    b ^= b >> 47
    return b * factor & _WORD


def fingerprint(text: bytes) -> int:
    """FarmHash's Fingerprint64 (Pike, 2014), for texts of any length."""

    def word(at: int, size: int = 8) -> int:
        at = at % len(text) if at < 0 else at
        return int.from_bytes(text[at : at + size], "little")

    n = len(text)
    factor = (_K2 + 2 * n) & _WORD
    if n > 64:
        return _fingerprint_long(text, word)
    if n > 32:
        a, b, c, d = word(0) * _K2, word(8), word(-8) * factor, word(-16) * _K2
        y = (_rotate(a + b, 43) + _rotate(c, 30) + d) & _WORD
        z = _mix(y, (a + _rotate(b + _K2, 18) + c) & _WORD, factor)
        e, f = word(16) * factor, word(24)
        g, h = (y + word(-32)) * factor, (z + word(-24)) * factor
        u = (_rotate(e + f, 43) + _rotate(g, 30) + h) & _WORD
        return _mix(u, (e + _rotate(f + a, 18) + g) & _WORD, factor)
    if n > 16:
        a, b, c, d = word(0) * _K1, word(8), word(-8) * factor, word(-16) * _K2
        u = (_rotate(a + b, 43) + _rotate(c, 30) + d) & _WORD
        return _mix(u, (a + _rotate(b + _K2, 18) + c) & _WORD, factor)
    if n >= 8:
        a, b = (word(0) + _K2) & _WORD, word(-8)
        c = (_rotate(b, 37) * factor + a) & _WORD
        return _mix(c, (_rotate(a, 25) + b) * factor & _WORD, factor)
    if n >= 4:
        return _mix(n + (word(0, 4) << 3), word(-4, 4), factor)
    if n:
        y, z = text[0] + (text[n >> 1] << 8), n + (text[-1] << 2)
        mixed = (y * _K2 ^ z * _K0) & _WORD
        return (mixed ^ mixed >> 47) * _K2 & _WORD
    return _K2


def _fingerprint_long(text: bytes, word: Any) -> int:
    def pair(at: int, a: int, b: int) -> tuple[int, int]:
        w, x, y, z = (word(at + 8 * i) for i in range(4))
        a += w
        b = _rotate(b + a + z, 21)
        c = a
        a += x + y
        b += _rotate(a, 44)
        return (a + z) & _WORD, (b + c) & _WORD

    n = len(text)
    x = 81
    y = (81 * _K1 + 113) & _WORD
    z = y * _K2 + 113
    z = ((z ^ (z & _WORD) >> 47) & _WORD) * _K2 & _WORD
    v, w = (0, 0), (0, 0)
    x = (x * _K2 + word(0)) & _WORD
    last = (n - 1) // 64 * 64
    for at in range(0, last, 64):
        x = _rotate(x + y + v[0] + word(at + 8), 37) * _K1 & _WORD
        y = _rotate(y + v[1] + word(at + 48), 42) * _K1 & _WORD
        x ^= w[1]
        y = (y + v[0] + word(at + 40)) & _WORD
        z = _rotate(z + w[0], 33) * _K1 & _WORD
        v = pair(at, v[1] * _K1 & _WORD, x + w[0])
        w = pair(at + 32, z + w[1], y + word(at + 16))
        z, x = x, z
    factor = (_K1 + ((z & 0xFF) << 1)) & _WORD
    at = n - 64
    w = ((w[0] + ((n - 1) & 63)) & _WORD, w[1])
    v = ((v[0] + w[0]) & _WORD, v[1])
    w = ((w[0] + v[0]) & _WORD, w[1])
    x = _rotate(x + y + v[0] + word(at + 8), 37) * factor & _WORD
    y = _rotate(y + v[1] + word(at + 48), 42) * factor & _WORD
    x ^= w[1] * 9 & _WORD
    y = (y + v[0] * 9 + word(at + 40)) & _WORD
    z = _rotate(z + w[0], 33) * factor & _WORD
    v = pair(at, v[1] * factor & _WORD, x + w[0])
    w = pair(at + 32, z + w[1], y + word(at + 16))
    z, x = x, z
    first = (_mix(v[0], w[0], factor) + (y ^ y >> 47) * _K0 + z) & _WORD
    return _mix(first, (_mix(v[1], w[1], factor) + x) & _WORD, factor)


def siphash(text: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4 of ``text`` under a key of two 64-bit words; Aumasson, Bernstein (2012)."""
    v = [word ^ half for word, half in zip(_SIP, (key[0], key[1]) * 2, strict=True)]
    padded = text + bytes(-(len(text) + 1) % 8) + bytes([len(text) & 0xFF])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        _sip_rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xFF
    _sip_rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


_SIP = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def _sip_rounds(v: list[int], count: int) -> None:
    for _ in range(count):
        for a, b, shift, half in ((0, 1, 13, 32), (2, 3, 16, 0), (0, 3, 21, 0), (2, 1, 17, 32)):
            v[a] = (v[a] + v[b]) & _WORD
            v[b] = _rotate(v[b], 64 - shift) ^ v[a]
            v[a] = _rotate(v[a], 64 - half) if half else v[a]


def joined(first: int, second: int) -> int:
    """One 64-bit hash of two, as TensorFlow joins the hashes of crossed features."""
    factor = 0xC6A4A7935BD1E995
    mixed = second * factor & _WORD
    result = (first ^ factor ^ (mixed ^ mixed >> 47) * factor) & _WORD
    result = result * factor & _WORD
    result = (result ^ result >> 47) * factor & _WORD
    return result ^ result >> 47
