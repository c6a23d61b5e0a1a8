"""Initializers of weights. Without a seed they draw from the global stream of ``tz.random``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import core
from ..core import ShapeError, Tensor, ops
from ..core.errors import unknown
from .serialization import Serializable, aliases, deserialize, resolve, serialize


class Initializer(Serializable, namespace="initializers"):
    """Base: ``initializer(shape, dtype=None)`` makes the first value of a weight."""

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(shape, dtype); write one.")

    def clone(self) -> Initializer:
        """An equal initializer."""
        return self.from_config(self.get_config())


class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return ops.zeros(shape, dtype)


class Ones(Initializer):
    """All 1."""

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return ops.ones(shape, dtype)


class Constant(Initializer):
    """One value everywhere, or an array that broadcasts to the shape."""

    def __init__(self, value: Any = 0.0):
        self.value = value

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return ops.broadcast_to(ops.cast(self.value, dtype), shape)


class RandomUniform(Initializer):
    """Uniform in [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None):
        self.minval, self.maxval, self.seed = minval, maxval, seed

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return core.random.uniform(shape, self.minval, self.maxval, dtype, self.seed)


class RandomNormal(Initializer):
    """Normal."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None):
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return core.random.normal(shape, self.mean, self.stddev, dtype, self.seed)


class TruncatedNormal(RandomNormal):
    """Normal within two standard deviations of the mean."""

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return core.random.truncated_normal(shape, self.mean, self.stddev, dtype, self.seed)


def _fans(shape: tuple[int, ...], inputs: Any, outputs: Any) -> tuple[int, int]:
    """Inputs and outputs per unit: along the axes given, of a kernel (*window, in, out), or of a vector."""
    if inputs is not None and outputs is not None:
        return math.prod(shape[axis] for axis in inputs), math.prod(shape[axis] for axis in outputs)
    if len(shape) < 2:
        return (shape or (1,))[0], (shape or (1,))[0]
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


class VarianceScaling(Initializer):
    """Random with variance scale / n, n the number of inputs ("fan_in"), outputs ("fan_out") or their mean.

    ``distribution``: "truncated_normal", "untruncated_normal" or "uniform". Lists ``input_axes`` and
    ``output_axes``, given together, say which axes of a weight are those of inputs and of outputs.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Any = None,
        output_axes: Any = None,
    ):
        if scale <= 0 or mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(
                f'Expected scale > 0 and mode "fan_in", "fan_out" or "fan_avg"; received {scale}, {mode!r}.'
            )
        if distribution not in ("normal", "truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(
                'Expected the distribution "truncated_normal", "untruncated_normal" or "uniform"; received '
                f"{distribution!r}."
            )
        self.scale, self.mode, self.distribution, self.seed = scale, mode, distribution, seed
        self.input_axes, self.output_axes = input_axes, output_axes

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        fan_in, fan_out = _fans(tuple(shape), self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return core.random.uniform(shape, -limit, limit, dtype, self.seed)
        if self.distribution == "untruncated_normal":
            return core.random.normal(shape, 0.0, math.sqrt(variance), dtype, self.seed)
        # The normal distribution cut at two standard deviations has a standard deviation of 0.8796...
        stddev = math.sqrt(variance) / 0.87962566103423978
        return core.random.truncated_normal(shape, 0.0, stddev, dtype, self.seed)


class GlorotUniform(VarianceScaling):
    """Uniform with variance 2 / (in + out); Glorot, Bengio (2010)."""

    def __init__(self, seed: Any = None, input_axes: Any = None, output_axes: Any = None):
        super().__init__(1.0, "fan_avg", "uniform", seed, input_axes, output_axes)


class GlorotNormal(VarianceScaling):
    """Truncated normal with variance 2 / (in + out); Glorot, Bengio (2010)."""

    def __init__(self, seed: Any = None, input_axes: Any = None, output_axes: Any = None):
        super().__init__(1.0, "fan_avg", "truncated_normal", seed, input_axes, output_axes)


class HeUniform(VarianceScaling):
    """Uniform with variance 2 / in; He, Zhang, Ren, Sun (2015)."""

    def __init__(self, seed: Any = None, input_axes: Any = None, output_axes: Any = None):
        super().__init__(2.0, "fan_in", "uniform", seed, input_axes, output_axes)


class HeNormal(VarianceScaling):
    """Truncated normal with variance 2 / in; He, Zhang, Ren, Sun (2015)."""

    def __init__(self, seed: Any = None, input_axes: Any = None, output_axes: Any = None):
        super().__init__(2.0, "fan_in", "truncated_normal", seed, input_axes, output_axes)


class LecunUniform(VarianceScaling):
    """Uniform with variance 1 / in; LeCun, Bottou, Orr, Müller (1998)."""

    def __init__(self, seed: Any = None, input_axes: Any = None, output_axes: Any = None):
        super().__init__(1.0, "fan_in", "uniform", seed, input_axes, output_axes)


class LecunNormal(VarianceScaling):
    """Truncated normal with variance 1 / in; LeCun, Bottou, Orr, Müller (1998)."""

    def __init__(self, seed: Any = None, input_axes: Any = None, output_axes: Any = None):
        super().__init__(1.0, "fan_in", "truncated_normal", seed, input_axes, output_axes)


class Orthogonal(Initializer):
    """Orthonormal rows or columns of the weight as a matrix (everything, last axis); Saxe et al. (2014)."""

    def __init__(self, gain: float = 1.0, seed: Any = None):
        self.gain, self.seed = gain, seed

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        if len(shape) < 2:
            raise ShapeError(f"Orthogonal: expected a shape with at least two axes; received {tuple(shape)}.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        drawn = core.random.normal((max(rows, columns), min(rows, columns)), seed=self.seed)
        q, r = np.linalg.qr(drawn.numpy())
        q = q * np.sign(np.diag(r))  # makes the draw uniform over the orthogonal matrices
        return ops.cast(self.gain * (q.T if rows < columns else q).reshape(shape), dtype)


class Identity(Initializer):
    """The identity matrix times ``gain``."""

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        if len(shape) != 2:
            raise ShapeError(f"Identity: expected a shape with two axes; received {tuple(shape)}.")
        return self.gain * ops.eye(*shape, dtype=dtype)


_WINDOWS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46), "blackman": (0.42, 0.5, 0.08), "boxcar": (1.0,)}


class STFT(Initializer):
    """Waves to convolve with for a Fourier transform of frames: (frame length, 1, frequencies).

    Args:
        side: "real" for cosines, "imag" for sines.
        window: "hann", "hamming", "blackman", "boxcar", an array of the frame's length, or None.
        scaling: "density" divides by the window's root of squares, "spectrum" by its sum; None leaves it.
        periodic: whether the window goes on periodically, else it is symmetric.
    """

    def __init__(
        self, side: str = "real", window: Any = "hann", scaling: str | None = "density", periodic: bool = False
    ):
        if side not in ("real", "imag") or scaling not in ("density", "spectrum", None):
            raise ValueError(
                f"STFT: side is 'real' or 'imag', scaling 'density', 'spectrum' or None; received {side!r}, "
                f"{scaling!r}."
            )
        if isinstance(window, str) and window not in _WINDOWS:
            raise unknown("window", window, _WINDOWS)
        self.side, self.window, self.scaling, self.periodic = side, window, scaling, periodic

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        length, _, count = shape
        window, scale = np.ones(length), 1.0
        if self.window is not None:
            window = self._window(length)
            scale = {"density": np.sqrt(np.sum(window**2)), "spectrum": np.sum(np.abs(window))}.get(self.scaling, 1.0)
        turns = np.outer(np.arange(length), np.arange(count)) / (2 * (count - 1))
        waves = (np.cos if self.side == "real" else np.sin)(-2 * np.pi * turns)
        return ops.cast((waves * (window / scale)[:, None])[:, None], dtype)

    def _window(self, length: int) -> np.ndarray:
        if not isinstance(self.window, str):
            return np.asarray(self.window, np.float64)
        angle = 2 * np.pi * np.arange(length) / max(length - (not self.periodic), 1)
        return sum((-1) ** k * share * np.cos(k * angle) for k, share in enumerate(_WINDOWS[self.window]))


_CLASSES = [value for value in list(vars().values()) if isinstance(value, type) and issubclass(value, Initializer)]
_KNOWN = aliases(_CLASSES)
# Keras's other names, which are also attributes of this module.
_KNOWN.update(IdentityInitializer=Identity, OrthogonalInitializer=Orthogonal, STFTInitializer=STFT)
_OTHER = [name for name in _KNOWN if name not in globals() and name != "initializer"]
globals().update({name: _KNOWN[name] for name in _OTHER})
_KNOWN.update(zero=Zeros, one=Ones, normal=RandomNormal, uniform=RandomUniform)
__all__ = [*(cls.__name__ for cls in _CLASSES), *_OTHER, "deserialize", "get", "serialize"]


def get(identifier: Any) -> Any:
    """The initializer for a name ("he_normal"), a config, a class, or a callable ``(shape, dtype)``."""
    if isinstance(identifier, (int, float, np.ndarray, Tensor)):
        return Constant(identifier)
    return resolve(identifier, "initializer", _KNOWN)
