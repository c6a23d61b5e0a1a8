"""Random tensors from a counter in a variable.

Every draw takes the state of a :class:`SeedGenerator` (four words: seed and number of the draw), makes its bits with
Philox4x32-10 as documented in :mod:`primitives.random_bits`, and counts the draw. So a traced function draws the same
numbers as an eager one, and a run resumed from saved variables goes on where it stopped.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import dtypes, ops
from .errors import DtypeError, ShapeError
from .op import state as _calls
from .ops.common import convert, scalar
from .ops.shape import _shape
from .primitives import elementwise
from .primitives.random_bits import random_bits
from .tensor import Tensor, wrap
from .variable import Variable

__all__ = [
    "SeedGenerator", "bernoulli", "beta", "binomial", "bits", "categorical", "dropout", "exponential", "gamma",
    "global_generator", "gumbel", "integers", "normal", "permutation", "randint", "seed", "shuffle",
    "truncated_normal", "uniform",
]  # fmt: skip


class SeedGenerator:
    """A stream of random draws: ``state`` holds (seed low, seed high, draw low, draw high) as uint32.

    >>> a, b = SeedGenerator(7), SeedGenerator(7)
    >>> bool(ops.all(uniform((3,), seed=a) == uniform((3,), seed=b)))
    True
    """

    def __init__(self, seed: int | None = None, name: str = "seed_generator"):
        if seed is None:
            # Drawn from the global stream: reproducible after `random.seed`, different for each generator.
            low, high = (int(word) for word in bits((2,)).numpy())
            seed = low | high << 32
        self.seed = seed
        self.state = Variable(_words(seed), trainable=False, name=name)

    def next(self) -> Tensor:
        """State for one draw; counts it."""
        state = self.state.value
        low = state[2:3] + np.uint32(1)
        carry = ops.cast(low == 0, "uint32")
        self.state.assign(ops.concatenate([state[:2], low, state[3:] + carry]))
        return state

    def get_config(self) -> dict:
        """Arguments that make an equal generator."""
        return {"seed": self.seed}


def _words(seed: int) -> np.ndarray:
    return np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, 0, 0], np.uint32)


# The stream of draws without a seed; its state belongs into an exact checkpoint.
global_generator = SeedGenerator(0, name="global_random_state")


def seed(value: int) -> None:
    """Restart the global stream at ``value``; the draws after it are always the same."""
    global_generator.state.assign(_words(value))


def _state(seed: Any) -> Tensor:
    if seed is None:
        return global_generator.next()
    if isinstance(seed, (int, np.integer)):
        return wrap(_words(int(seed)))
    return seed.next()


def bits(shape: Any, seed: Any = None) -> Tensor:
    """Uniform 32-bit words, uint32. ``seed``: None (global stream), an int (always the same draw), a generator."""
    return random_bits(_state(seed), shape=_shape(shape))


_PART = 1 << 14  # blocks of four words, in a draw that is made in parts; few enough to stay in the cache


def _mapped(function: Callable, unit_of: Callable, least: int, shape: Any, seed: Any, *numbers: Any) -> Tensor:
    """function(unit_of(words), *numbers), an element-wise map of random words.

    From ``least`` elements on a draw of known numbers is made in parts, by one kernel for all shapes: the initial
    values of large models would otherwise take longer than the first steps of training.
    """
    draw, shape = _state(seed), _shape(shape)
    size = math.prod(shape)
    known = draw._array is not None and all(isinstance(n, (int, float)) for n in numbers)
    if not known or size < least or _calls.recorders or _calls.variable_scopes:
        return function(unit_of(random_bits(draw, shape=shape)), *numbers)
    blocks = -(-size // 4)
    values = np.empty((4, blocks), np.float32)
    scalars = [wrap(np.asarray(n, np.float32)) for n in numbers]
    for first in range(0, blocks, _PART):
        part = _part_of(function, unit_of)(wrap(np.append(draw.numpy(), np.uint32(first))), *scalars)
        values[:, first : first + _PART] = part.numpy()[:, : blocks - first]
    return wrap(values.reshape(-1)[:size].reshape(shape))


@functools.cache
def _part_of(function: Callable, unit_of: Callable) -> Callable:
    from .jit import jit

    def part(draw: Tensor, *numbers: Tensor) -> Tensor:
        return function(unit_of(random_bits(draw, shape=(4, _PART))), *numbers)

    return jit(part, name=function.__name__)


# The kernels compile in the time in which numpy makes some millions of numbers, of uniform ones twice as many.
_LEAST_UNIFORM, _LEAST_NORMAL = 1 << 20, 1 << 16


def _unit(shape: Any, dtype: np.dtype, seed: Any) -> Tensor:
    """Uniform multiples of 2^-24 in [0, 1) (of 2^-53 for float64, 2^-11 for float16, 2^-8 for bfloat16)."""
    if dtype == dtypes.FLOAT64:
        return _double(shape, 26, seed) * 2.0**-53
    return _unit_of(bits(shape, seed), dtype)


def _unit_of(words: Tensor, dtype: np.dtype = dtypes.FLOAT32) -> Tensor:
    kept = dtypes.limits(dtype).nmant + 1
    value = ops.cast(words >> np.uint32(32 - kept), dtype)
    return value * scalar(2.0**-kept, value)


def _double(shape: Any, low: int, seed: Any) -> Tensor:
    """Whole numbers of 27 + ``low`` random bits, in float64."""
    words = bits((2, *_shape(shape)), seed)
    high, rest = ops.cast(words[0] >> np.uint32(5), "float64"), ops.cast(words[1] >> np.uint32(32 - low), "float64")
    return high * 2.0**low + rest


def _open_unit(shape: Any, dtype: np.dtype, seed: Any) -> Tensor:
    """Uniform odd multiples of 2^-24 (2^-53 for float64): in (0, 1), symmetric about 1/2; float32 for float16."""
    if dtype == dtypes.FLOAT64:
        return (_double(shape, 25, seed) + 0.5) * 2.0**-52
    return _open_unit_of(bits(shape, seed))


def _open_unit_of(words: Tensor) -> Tensor:
    # One bit less than the mantissa holds: the half is added without rounding, which could reach 1.
    value = ops.cast(words >> np.uint32(9), dtypes.FLOAT32)
    return (value + scalar(0.5, value)) * scalar(2.0**-23, value)


def uniform(shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None) -> Tensor:
    """Uniform numbers in [minval, maxval): minval + (maxval - minval) · (word >> 8) · 2^-24 in float32."""
    dtype = dtypes.as_dtype(dtype)
    if not dtypes.is_floating(dtype):
        raise DtypeError(f"uniform: expected a float dtype; received {dtype.name}. Integers come from randint.")
    constant = dtypes.weak(minval) and dtypes.weak(maxval)
    if constant and minval == 0 and maxval == 1:
        return _unit(shape, dtype, seed)
    # The sum may be rounded up to maxval.
    last = float(np.nextafter(dtype.type(maxval), dtype.type(minval))) if constant else None
    if constant and dtype == dtypes.FLOAT32:
        return _mapped(_uniform, _unit_of, _LEAST_UNIFORM, shape, seed, minval, maxval - minval, last)
    return ops.cast(_uniform(_unit(shape, dtype, seed), minval, maxval - minval, last), dtype)


def _uniform(unit: Tensor, minval: Any, span: Any, last: Any) -> Tensor:
    value = unit * span + minval
    return value if last is None else ops.minimum(value, last)


def normal(shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> Tensor:
    """Normal numbers, by the inverse of the distribution function of a uniform draw."""
    return _of_open_unit(_normal, shape, mean, stddev, dtype, seed)


def _normal(unit: Tensor, mean: Any, stddev: Any) -> Tensor:
    return ops.erfinv(unit * 2 - 1) * float(np.sqrt(2)) * stddev + mean


def truncated_normal(shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> Tensor:
    """Normal numbers within two standard deviations of the mean (others are never drawn)."""
    return _of_open_unit(_truncated_normal, shape, mean, stddev, dtype, seed)


def _truncated_normal(unit: Tensor, mean: Any, stddev: Any) -> Tensor:
    edge = 0.9544997361036416  # erf(2 / sqrt(2))
    standard = ops.erfinv((unit * 2 - 1) * edge) * float(np.sqrt(2))
    return ops.clip(standard, -2.0, 2.0) * stddev + mean


def _of_open_unit(function: Callable, shape: Any, mean: Any, stddev: Any, dtype: Any, seed: Any) -> Tensor:
    dtype = dtypes.as_dtype(dtype)
    if dtype == dtypes.FLOAT64:
        return ops.cast(function(_open_unit(shape, dtype, seed), mean, stddev), dtype)
    return ops.cast(_mapped(function, _open_unit_of, _LEAST_NORMAL, shape, seed, mean, stddev), dtype)


def randint(shape: Any, minval: int, maxval: int, dtype: Any = "int32", seed: Any = None) -> Tensor:
    """Integers in [minval, maxval): minval + word mod (maxval - minval)."""
    span = int(maxval) - int(minval)
    if not 0 < span <= 1 << 32:
        raise ValueError(f"randint: expected minval < maxval, at most 2^32 apart; received {minval} and {maxval}.")
    words = bits(shape, seed)
    if span < 1 << 32:
        words = words % np.uint32(span)
    return ops.cast(ops.cast(words, "int64") + int(minval), dtype)


integers = randint


def bernoulli(shape: Any, p: Any = 0.5, dtype: Any = None, seed: Any = None) -> Tensor:
    """1 with probability p, else 0."""
    return ops.cast(_unit(shape, dtypes.FLOAT32, seed) < p, dtypes.as_dtype(dtype))


def gumbel(shape: Any, dtype: Any = None, seed: Any = None) -> Tensor:
    """Standard Gumbel numbers, -log(-log(u))."""
    dtype = dtypes.as_dtype(dtype)
    return ops.cast(-ops.log(-ops.log(_open_unit(shape, dtype, seed))), dtype)


def exponential(shape: Any, scale: Any = 1.0, dtype: Any = None, seed: Any = None) -> Tensor:
    """Exponential numbers of mean ``scale``."""
    dtype = dtypes.as_dtype(dtype)
    return ops.cast(-ops.log(_open_unit(shape, dtype, seed)) * scale, dtype)


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> Tensor:
    """Class numbers drawn by ``logits``: (batch, classes) -> (batch, num_samples)."""
    logits = convert(logits)
    if logits.ndim != 2:
        raise ShapeError(f"categorical: expected logits (batch, classes); received shape {logits.shape}.")
    noise = gumbel((logits.shape[0], num_samples, logits.shape[1]), logits.dtype, seed)
    return ops.cast(ops.argmax(ops.expand_dims(logits, 1) + noise, -1), dtype)


def permutation(x: Any, axis: int = 0, seed: Any = None) -> Tensor:
    """The slices of ``x`` (of range(x) for an int) in random order along an axis."""
    x = ops.arange(x) if isinstance(x, (int, np.integer)) else convert(x)
    order = ops.argsort(ops.cast(bits((x.shape[axis],), seed), "int64"))
    return ops.take(x, order, axis)


shuffle = permutation


def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Tensor:
    """Zero each element with probability ``rate`` and scale the others by 1 / (1 - rate); Srivastava et al. (2014)."""
    x = ops.convert_to_tensor(inputs)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate is in [0, 1); received {rate}.")
    shape = x.shape if noise_shape is None else [n or m for n, m in zip(noise_shape, x.shape, strict=True)]
    # word >= rate · 2^32 keeps the element: one integer comparison
    kept = bits(shape, seed) >= np.uint32(min(int(rate * 2**32), 2**32 - 1))
    return elementwise.where(kept, x * scalar(1 / (1 - rate), x), scalar(0, x))


def gamma(shape: Any, alpha: Any, dtype: Any = None, seed: Any = None) -> Tensor:
    """Gamma numbers of shape ``alpha`` and scale 1.

    Marsaglia, Tsang: "A simple method for generating gamma variables" (2000), with a fixed number of 12
    trials per element, of which the first accepted counts (all are refused less than once in 10^15).
    """
    dtype = dtypes.as_dtype(dtype)
    shape, trials = _shape(shape), 12
    alpha = ops.broadcast_to(ops.cast(alpha, dtype), shape)
    boosted = ops.where(alpha < 1, alpha + 1, alpha)
    d = boosted - 1 / 3
    c = 1 / ops.sqrt(9 * d)
    generator = _generator(seed)
    x = normal((trials, *shape), dtype=dtype, seed=generator)
    u = _open_unit((trials, *shape), dtype, generator)
    v = ops.power(1 + c * x, 3)
    positive = v > 0
    safe = ops.where(positive, v, 1.0)
    accepted = ops.logical_and(positive, ops.log(u) < 0.5 * x * x + d - d * safe + d * ops.log(safe))
    first = ops.argmax(ops.cast(accepted, "int32"), 0)
    value = d * ops.take_along_axis(safe, ops.expand_dims(first, 0), 0)[0]
    boost = ops.cast(ops.power(_open_unit(shape, dtype, generator), 1 / alpha), dtype)
    return ops.where(alpha < 1, value * boost, value)


def _generator(seed: Any) -> SeedGenerator | None:
    """For several draws: numbers become generators of their own."""
    return SeedGenerator(int(seed)) if isinstance(seed, (int, np.integer)) else seed


def binomial(shape: Any, counts: Any, probabilities: Any, dtype: Any = None, seed: Any = None) -> Tensor:
    """Number of successes in ``counts`` (known) trials that succeed with ``probabilities``; one draw a trial."""
    counts = np.asarray(counts)
    trials = int(counts.max(initial=0))
    success = _unit((trials, *_shape(shape)), dtypes.FLOAT32, seed) < probabilities
    taken = np.arange(trials).reshape(-1, *[1] * len(_shape(shape))) < counts
    return ops.cast(ops.sum(ops.logical_and(success, taken), 0), dtypes.as_dtype(dtype))


def beta(shape: Any, alpha: Any, beta: Any, dtype: Any = None, seed: Any = None) -> Tensor:
    """Beta numbers, from two gamma draws."""
    generator = _generator(seed)
    a = gamma(shape, alpha, dtype, generator)
    b = gamma(shape, beta, dtype, generator)
    return a / (a + b)
