"""Sound as pictures of its frequencies, inside a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import Tensor, config, ops
from .checks import InputSpec
from .convolution import check_channels_last
from .initializers import STFT
from .layer import Layer

_SPECTRA = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")


class STFTSpectrogram(Layer):
    """Fourier transforms of overlapping frames, by learnable convolutions: (B, T, C) -> (B, frames, C·frequencies)

    Args:
        mode: "log" (of the magnitude), "magnitude", "psd" (power), "real", "imag", "angle", or "stft" (both parts).
        frame_length: of a frame, in samples.
        frame_step: from frame to frame; half a frame by default.
        fft_length: of the transform; the next power of two by default. There are fft_length // 2 + 1 frequencies.
        window: "hann", "hamming", "blackman", "boxcar", an array, or None.
        periodic: whether the window goes on periodically, else it is symmetric.
        scaling: "density", "spectrum" or None; see ``initializers.STFT``.
        padding: "valid" or "same".
        expand_dims: whether channels stay apart: (B, frames, frequencies, C).

    >>> STFTSpectrogram(frame_length=16)(np.ones((2, 64, 1))).shape
    (2, 7, 9)
    """

    input_spec = InputSpec(ndim=3)

    def __init__(
        self,
        mode: str = "log",
        frame_length: int = 256,
        frame_step: int | None = None,
        fft_length: int | None = None,
        window: Any = "hann",
        periodic: bool = False,
        scaling: str | None = "density",
        padding: str = "valid",
        expand_dims: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_channels_last(data_format)
        if mode not in _SPECTRA or padding not in ("valid", "same"):
            raise ValueError(
                f'STFTSpectrogram: mode is one of {_SPECTRA}, padding "valid" or "same"; received {mode!r}, '
                f"{padding!r}."
            )
        self.frame_step = frame_step or frame_length // 2
        self.fft_length = fft_length or 2 ** math.ceil(math.log2(frame_length))
        if not 1 <= self.frame_step <= frame_length <= self.fft_length:
            raise ValueError(
                f"STFTSpectrogram: expected frame_step <= frame_length <= fft_length; received {self.frame_step}, "
                f"{frame_length}, {self.fft_length}."
            )
        self.mode, self.frame_length, self.padding, self.expand_dims = mode, frame_length, padding, expand_dims
        self.window, self.periodic, self.scaling = window, periodic, scaling

    def build(self, input_shape: Any) -> None:
        shape = (self.frame_length, 1, self.fft_length // 2 + 1)
        for side in ("real", "imag"):
            if self.mode != {"real": "imag", "imag": "real"}[side]:
                start = STFT(side, self.window, self.scaling, self.periodic)
                setattr(self, f"{side}_kernel", self.add_weight(shape, start, name=f"{side}_kernel"))

    def call(self, inputs: Tensor) -> Tensor:
        batch, steps, channels = inputs.shape
        signals = ops.reshape(ops.transpose(inputs, (0, 2, 1)), (batch * channels, steps, 1))

        def part(kernel: Any) -> Tensor:
            made = ops.conv(signals, kernel, self.frame_step, self.padding)
            return ops.reshape(made, (batch, channels, *made.shape[1:]))  # (B, C, frames, frequencies)

        if self.mode in ("real", "imag"):
            spectrum = part(self.real_kernel if self.mode == "real" else self.imag_kernel)
        else:
            spectrum = self._combined(part(self.real_kernel), part(self.imag_kernel))
        if self.expand_dims:
            return ops.transpose(spectrum, (0, 2, 3, 1))
        spectrum = ops.transpose(spectrum, (0, 2, 1, 3))
        return ops.reshape(spectrum, (*spectrum.shape[:2], -1))

    def _combined(self, real: Tensor, imaginary: Tensor) -> Tensor:
        if self.mode == "stft":
            return ops.concatenate([real, imaginary], -1)
        if self.mode == "angle":
            return ops.arctan2(imaginary, real)
        power = ops.square(real) + ops.square(imaginary)
        if self.mode == "psd":  # frequencies with a mirror image count twice
            return power + ops.pad(power[..., 1:-1], ((0, 0), (0, 0), (0, 0), (1, 1)))
        magnitude = ops.sqrt(ops.maximum(power, config.epsilon()))
        return magnitude if self.mode == "magnitude" else ops.log(ops.maximum(magnitude, config.epsilon()))


class MelSpectrogram(Layer):
    """Energies in bands that the ear tells apart: (…, T) samples -> (…, num_mel_bins, frames)

    Args:
        fft_length: of the Fourier transform of a frame.
        sequence_stride: from frame to frame, in samples.
        sequence_length: of a frame; fft_length by default.
        window: "hann", "hamming", an array, or None.
        sampling_rate: samples per second.
        num_mel_bins: number of bands.
        min_freq: lower edge of the lowest band, in hertz.
        max_freq: upper edge of the highest; half the sampling rate by default.
        power_to_db: whether energies are told in decibels.
        top_db: how far below the largest energy small ones are cut off, in decibels.
        mag_exp: power of the magnitude; 2 for energies.
        min_power: least energy.
        ref_power: energy of 0 decibels.

    >>> MelSpectrogram(fft_length=64, sequence_stride=32, num_mel_bins=8)(np.ones((2, 256))).shape
    (2, 8, 9)
    """

    def __init__(
        self,
        fft_length: int = 2048,
        sequence_stride: int = 512,
        sequence_length: int | None = None,
        window: Any = "hann",
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        min_freq: float = 20.0,
        max_freq: float | None = None,
        power_to_db: bool = True,
        top_db: float = 80.0,
        mag_exp: float = 2.0,
        min_power: float = 1e-10,
        ref_power: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.fft_length, self.sequence_stride = fft_length, sequence_stride
        self.sequence_length, self.window = sequence_length or fft_length, window
        self.power_to_db, self.top_db, self.mag_exp = power_to_db, top_db, mag_exp
        self.min_power, self.ref_power = min_power, ref_power
        edges = (min_freq, max_freq or int(sampling_rate / 2))
        self._bands = mel_bands(fft_length // 2 + 1, num_mel_bins, sampling_rate, edges)

    def call(self, inputs: Tensor) -> Tensor:
        samples = ops.cast(inputs, self.compute_dtype)
        real, imaginary = ops.stft(samples, self.sequence_length, self.sequence_stride, self.fft_length, self.window)
        spectrum = ops.power(ops.sqrt(ops.square(real) + ops.square(imaginary)), self.mag_exp)
        mel = ops.matmul(spectrum, ops.cast(self._bands, spectrum.dtype))
        if self.power_to_db:
            mel = 10 * ops.log10(ops.maximum(mel, self.min_power))
            mel = mel - 10 * math.log10(max(abs(self.ref_power), self.min_power))
            mel = ops.maximum(mel, ops.max(mel) - self.top_db)
        return ops.swapaxes(mel, -1, -2)


def mel_bands(frequencies: int, bands: int, sampling_rate: float, edges: tuple[float, float]) -> np.ndarray:
    """Triangles of height 1, evenly spaced on the mel scale of the Hidden Markov Model Toolkit: (frequencies, bands)"""

    def mel(hertz: Any) -> Any:
        return 1127 * np.log1p(np.asarray(hertz) / 700)

    places = mel(np.linspace(0, sampling_rate / 2, frequencies))[:, None]
    corners = np.linspace(*mel(edges), bands + 2)
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    triangles = np.minimum((places - low) / (middle - low), (high - places) / (high - middle))
    triangles = np.maximum(triangles, 0)
    triangles[0] = 0  # the constant part belongs to no band
    return triangles
