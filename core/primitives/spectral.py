"""Discrete Fourier transform of the last axis; a complex value is a pair of real tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Case, Spec, declare
from ..tensor import Tensor
from .elementwise import scalar


def _fft(real: np.ndarray, imaginary: np.ndarray, inverse: bool) -> tuple:
    value = real + 1j * imaginary
    if value.shape[-1] == 0:
        return real, imaginary
    out = np.fft.ifft(value, norm="forward") if inverse else np.fft.fft(value)
    return np.ascontiguousarray(out.real, real.dtype), np.ascontiguousarray(out.imag, real.dtype)


def _gradient(g: tuple, y: tuple, real: Tensor, imaginary: Tensor, inverse: bool) -> tuple:
    # The transform's matrix is symmetric, so its conjugate transpose is the transform the other way.
    zero = real * scalar(0, real)
    return fft(g[0] if g[0] is not None else zero, g[1] if g[1] is not None else zero, inverse=not inverse)


def _rule(real: Any, imaginary: Any, inverse: bool) -> tuple:
    return Spec(real.shape, real.dtype), Spec(real.shape, real.dtype)


# Neither direction is scaled: divide by the length after one of them.
fft = declare(
    "fft",
    rule=_rule,
    reference=_fft,
    gradient=_gradient,
    cases=[
        Case(((3, 8), (3, 8)), {"inverse": False}),
        Case(((2, 3, 5), (2, 3, 5)), {"inverse": True}),
        Case(((1,), (1,)), {"inverse": False}),
    ],
)
