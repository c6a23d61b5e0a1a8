"""Fourier transforms. A complex value is a pair (real, imaginary) of float tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..primitives.indexing import scatter_add
from ..primitives.spectral import fft as _fft
from ..tensor import Tensor, wrap
from .common import convert, promote, promote_float, scalar, to_float
from .indexing import take
from .linear import matmul
from .shape import concatenate, flip, moveaxis, pad, stack, swapaxes, zeros_like


def fft(x: tuple) -> tuple[Tensor, Tensor]:
    """Discrete Fourier transform of the last axis of a (real, imaginary) pair."""
    return _fft(*promote_float(*x), inverse=False)


def _ifft(x: tuple) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`fft`."""
    real, imaginary = _fft(*promote_float(*x), inverse=True)
    scale = scalar(1 / max(real.shape[-1], 1), real)
    return real * scale, imaginary * scale


def fft2(x: tuple) -> tuple[Tensor, Tensor]:
    """Discrete Fourier transform of the last two axes."""
    return _of_two_axes(fft, x)


def ifft2(x: tuple) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`fft2`."""
    return _of_two_axes(_ifft, x)


def _of_two_axes(transform: Callable, x: tuple) -> tuple[Tensor, Tensor]:
    for _ in range(2):
        real, imaginary = transform(x)
        x = swapaxes(real, -1, -2), swapaxes(imaginary, -1, -2)
    return x


def rfft(x: Any, fft_length: int | None = None) -> tuple[Tensor, Tensor]:
    """Transform of real data: the fft_length // 2 + 1 frequencies that are not redundant."""
    x = _resized(to_float(x), fft_length)
    real, imaginary = _fft(x, zeros_like(x), inverse=False)
    kept = x.shape[-1] // 2 + 1
    return real[..., :kept], imaginary[..., :kept]


def irfft(x: tuple, fft_length: int | None = None) -> Tensor:
    """Inverse of :func:`rfft`; the length is 2·(frequencies - 1) by default."""
    real, imaginary = promote_float(*x)
    length = 2 * (real.shape[-1] - 1) if fft_length is None else fft_length
    kept = length // 2 + 1
    real, imaginary = _resized(real, kept), _resized(imaginary, kept)
    mirrored = slice(1, (length + 1) // 2)
    full_real = concatenate([real, flip(real[..., mirrored], -1)], -1)
    full_imaginary = concatenate([imaginary, -flip(imaginary[..., mirrored], -1)], -1)
    return _fft(full_real, full_imaginary, inverse=True)[0] * scalar(1 / length, real)


def _resized(x: Tensor, length: int | None) -> Tensor:
    if length is None or length == x.shape[-1]:
        return x
    if length < x.shape[-1]:
        return x[..., :length]
    return pad(x, [(0, 0)] * (x.ndim - 1) + [(0, length - x.shape[-1])])


def extract_sequences(x: Any, sequence_length: int, sequence_stride: int) -> Tensor:
    """Overlapping frames of the last axis: (…, T) -> (…, frames, sequence_length)."""
    x = convert(x)
    if sequence_length > x.shape[-1]:
        raise ShapeError(f"extract_sequences: frames of {sequence_length} do not fit into {x.shape[-1]} samples.")
    starts = np.arange(0, x.shape[-1] - sequence_length + 1, sequence_stride, dtype=np.int32)
    return take(x, starts[:, None] + np.arange(sequence_length, dtype=np.int32), -1)


def _window(window: Any, length: int, fft_length: int, dtype: Any) -> np.ndarray:
    if window is None:
        values = np.ones(length)
    elif isinstance(window, str):
        shapes = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46)}
        if window not in shapes:
            raise ValueError(f"stft: window is 'hann', 'hamming', an array or None; received {window!r}.")
        a, b = shapes[window]
        values = a - b * np.cos(2 * np.pi * np.arange(length) / length)  # periodic, as for spectra
    else:
        values = np.asarray(window)
    before = (fft_length - length) // 2
    return np.pad(values, (before, fft_length - length - before)).astype(dtype)


def stft(
    x: Any, sequence_length: int, sequence_stride: int, fft_length: int, window: Any = "hann", center: bool = True
) -> tuple[Tensor, Tensor]:
    """Short-time Fourier transform (…, T) -> pair of (…, frames, fft_length // 2 + 1)."""
    x = to_float(x)
    if fft_length < sequence_length:
        raise ValueError(f"stft: fft_length {fft_length} is shorter than sequence_length {sequence_length}.")
    if center:
        x = pad(x, [(0, 0)] * (x.ndim - 1) + [(fft_length // 2, fft_length // 2)], "reflect")
    frames = extract_sequences(x, fft_length, sequence_stride)
    return rfft(frames * wrap(_window(window, sequence_length, fft_length, x.dtype)), fft_length)


def istft(
    x: tuple,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Any = "hann",
    center: bool = True,
) -> Tensor:
    """Inverse of :func:`stft`: overlapping frames are added and divided by the windows' squares."""
    frames = irfft(x, fft_length)
    values = _window(window, sequence_length, fft_length, frames.dtype)
    total = _overlap_add(frames * wrap(values), sequence_stride)
    squares = np.broadcast_to(values * values, (frames.shape[-2], fft_length))
    weight = np.asarray(_overlap_add(wrap(np.ascontiguousarray(squares)), sequence_stride))
    y = total / wrap(np.where(weight > 1e-11, weight, 1).astype(frames.dtype))
    start = fft_length // 2 if center else 0
    stop = start + length if length is not None else y.shape[-1] - start
    return y[..., start:stop]


def _overlap_add(frames: Tensor, stride: int) -> Tensor:
    """(…, frames, length) -> (…, (frames - 1)·stride + length)"""
    count, length = frames.shape[-2:]
    places = (np.arange(count)[:, None] * stride + np.arange(length)).astype(np.int32)
    front = moveaxis(frames, (-2, -1), (0, 1))
    summed = scatter_add(front, wrap(places), shape=((count - 1) * stride + length, *front.shape[2:]))
    return moveaxis(summed, 0, -1)


def view_as_complex(x: Any) -> tuple[Tensor, Tensor]:
    """(…, 2) -> (real, imaginary)"""
    x = convert(x)
    return x[..., 0], x[..., 1]


def view_as_real(x: tuple) -> Tensor:
    """(real, imaginary) -> (…, 2)"""
    return stack(promote_float(*x), -1)


def correlate(x1: Any, x2: Any, mode: str = "valid") -> Tensor:
    """Cross-correlation of two vectors: sums of x1[n + k]·x2[n]; mode "valid", "same" or "full"."""
    a, b = promote(x1, x2)
    if a.ndim != 1 or b.ndim != 1 or not a.size or not b.size:
        raise ShapeError(f"correlate: expected two vectors with elements; received shapes {a.shape} and {b.shape}.")
    if mode not in ("valid", "same", "full"):
        raise ValueError(f"correlate: mode is 'valid', 'same' or 'full'; received {mode!r}.")
    swapped = a.size < b.size
    if swapped:
        a, b = b, a
    total = {"valid": 0, "same": b.size - 1, "full": 2 * (b.size - 1)}[mode]
    low = (total + 1 - swapped) // 2 if mode == "same" else total // 2
    frames = extract_sequences(pad(a, [(low, total - low)]), b.size, 1)
    result = matmul(frames, b)
    return flip(result, 0) if swapped else result
