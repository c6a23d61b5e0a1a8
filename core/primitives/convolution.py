"""Convolution over channels-last data, and its two gradients; the three are linear in each operand.

``x`` is (N, *spatial, C), ``w`` is (*kernel, C / groups, K), ``y`` is (N, *output, K). ``padding`` is one
(low, high) pair per spatial axis. Each gradient of one of the three is another of them, so any order works.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..op import Case, Spec, declare
from ..tensor import Tensor


def output_extent(extent: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> int:
    """Number of windows along an axis; 0 where the padded input is shorter than one window."""
    return max(0, (extent + padding[0] + padding[1] - (kernel - 1) * dilation - 1) // stride + 1)


def _rule(x: Any, w: Any, strides: tuple, padding: tuple, dilation: tuple, groups: int) -> Spec:
    rank = len(strides)
    if len(x.shape) != rank + 2 or len(w.shape) != rank + 2:
        raise ShapeError(
            f"conv: expected input (N, *spatial, C) and kernel (*kernel, C/groups, K) with {rank} spatial axes; "
            f"received shapes {x.shape} and {w.shape}."
        )
    if x.shape[-1] != w.shape[-2] * groups or w.shape[-1] % groups:
        raise ShapeError(
            f"conv: the input has {x.shape[-1]} channels (shape {x.shape}), but the kernel {w.shape} with "
            f"groups={groups} takes {w.shape[-2] * groups} and makes {w.shape[-1]}, a multiple of groups."
        )
    spatial = tuple(map(output_extent, x.shape[1:-1], w.shape[:-2], strides, padding, dilation))
    if 0 in spatial and 0 not in x.shape[1:-1]:
        raise ShapeError(
            f"conv: the kernel {w.shape[:-2]} with dilation {dilation} is larger than the padded input: spatial shape "
            f"{x.shape[1:-1]}, padding {padding}. Use padding='same' or a smaller kernel."
        )
    return Spec((x.shape[0], *spatial, w.shape[-1]), x.dtype)


def windows(kernel: tuple, spatial: tuple, strides: tuple, dilation: tuple) -> Iterator[tuple]:
    """Yield, for each kernel position, the slices of the padded input that meet it, all output positions at once."""
    for position in itertools.product(*map(range, kernel)):
        slices = tuple(
            slice(p * d, p * d + (n - 1) * s + 1 if n else p * d, s)
            for p, d, n, s in zip(position, dilation, spatial, strides, strict=True)
        )
        yield position, (slice(None), *slices)


def _padded(x: np.ndarray, padding: tuple) -> np.ndarray:
    return np.pad(x, ((0, 0), *padding, (0, 0))) if any(map(any, padding)) else x


def _padded_zeros(shape: tuple, padding: tuple, dtype: np.dtype) -> np.ndarray:
    spatial = tuple(n + a + b for n, (a, b) in zip(shape[1:-1], padding, strict=True))
    return np.zeros((shape[0], *spatial, shape[-1]), dtype)


def _cropped(x: np.ndarray, padding: tuple) -> np.ndarray:
    return x[(slice(None), *(slice(a, n - b) for (a, b), n in zip(padding, x.shape[1:-1], strict=True)))]


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """(..., C) -> (groups, positions, C / groups)"""
    return x.reshape(-1, groups, x.shape[-1] // groups).transpose(1, 0, 2)


def _conv(x: np.ndarray, w: np.ndarray, strides: tuple, padding: tuple, dilation: tuple, groups: int) -> np.ndarray:
    kernel = w.shape[:-2]
    spatial = tuple(map(output_extent, x.shape[1:-1], kernel, strides, padding, dilation))
    if 0 in spatial and 0 not in x.shape[1:-1]:
        raise ValueError("the kernel is larger than the padded input")  # the rule says it better
    x = _padded(x, padding)
    total = np.zeros((groups, x.shape[0] * math.prod(spatial), w.shape[-1] // groups), x.dtype)
    for position, window in windows(kernel, spatial, strides, dilation):
        total += np.matmul(_grouped(x[window], groups), _grouped(w[position], groups))
    return total.transpose(1, 0, 2).reshape(x.shape[0], *spatial, w.shape[-1])


def _input_gradient(
    g: np.ndarray, w: np.ndarray, shape: tuple, strides: tuple, padding: tuple, dilation: tuple, groups: int
) -> np.ndarray:
    spatial = g.shape[1:-1]
    out = _padded_zeros(shape, padding, g.dtype)
    g = _grouped(g, groups)
    for position, window in windows(w.shape[:-2], spatial, strides, dilation):
        part = np.matmul(g, _grouped(w[position], groups).transpose(0, 2, 1))
        out[window] += part.transpose(1, 0, 2).reshape(shape[0], *spatial, shape[-1])
    return _cropped(out, padding)


def _filter_gradient(
    x: np.ndarray, g: np.ndarray, kernel: tuple, strides: tuple, padding: tuple, dilation: tuple, groups: int
) -> np.ndarray:
    spatial = g.shape[1:-1]
    x = _padded(x, padding)
    out = np.empty((*kernel, x.shape[-1] // groups, g.shape[-1]), x.dtype)
    g = _grouped(g, groups)
    for position, window in windows(kernel, spatial, strides, dilation):
        part = np.matmul(_grouped(x[window], groups).transpose(0, 2, 1), g)  # (groups, C/groups, K/groups)
        out[position] = part.transpose(1, 0, 2).reshape(out.shape[-2:])
    return out


def _conv_gradient(g: Tensor, y: Tensor, x: Tensor, w: Tensor, **geometry: Any) -> tuple:
    return (
        lambda: conv_input_gradient(g, w, shape=x.shape, **geometry),
        lambda: conv_filter_gradient(x, g, kernel=w.shape[:-2], **geometry),
    )


_PLAIN = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
_SAME = {**_PLAIN, "padding": ((1, 1), (1, 1))}
_STRIDED = {**_PLAIN, "strides": (2, 3), "padding": ((1, 0), (0, 2))}
_DILATED = {**_PLAIN, "dilation": (2, 1)}
_GROUPED = {**_SAME, "groups": 2}
_DEPTHWISE = {**_SAME, "groups": 3, "strides": (2, 2)}
_LINE = {"strides": (2,), "padding": ((2, 1),), "dilation": (1,), "groups": 1}
_CUBE = {"strides": (1, 2, 1), "padding": ((1, 1), (0, 0), (0, 1)), "dilation": (1, 1, 1), "groups": 1}
_GEOMETRIES = [
    ((2, 5, 6, 3), (3, 2, 3, 4), _PLAIN),
    ((1, 4, 5, 2), (3, 3, 2, 3), _SAME),
    ((1, 7, 8, 2), (3, 2, 2, 2), _STRIDED),
    ((1, 6, 4, 2), (3, 3, 2, 2), _DILATED),
    ((1, 4, 4, 4), (3, 3, 2, 6), _GROUPED),
    ((1, 5, 5, 3), (3, 3, 1, 6), _DEPTHWISE),
    ((2, 7, 3), (4, 3, 2), _LINE),
    ((1, 3, 4, 3, 2), (2, 2, 2, 2, 2), _CUBE),
    ((2, 3, 3, 2), (1, 1, 2, 3), _PLAIN),
    ((0, 5, 5, 2), (3, 3, 2, 3), _PLAIN),
]


def _made(x: tuple, w: tuple, geometry: dict) -> tuple[int, ...]:
    return _rule(Spec(x, np.dtype("float64")), Spec(w, np.dtype("float64")), **geometry).shape


conv = declare(
    "conv",
    rule=_rule,
    reference=_conv,
    gradient=_conv_gradient,
    work=lambda x, w, strides, **_: x.size / math.prod(strides) * w.size / x.shape[-1],
    cases=[Case((x, w), geometry) for x, w, geometry in _GEOMETRIES],
)
conv_input_gradient = declare(
    "conv_input_gradient",
    rule=lambda g, w, shape, **geometry: Spec(shape, g.dtype),
    reference=_input_gradient,
    work=lambda g, w, **_: g.size * w.size / w.shape[-1],
    gradient=lambda g, y, up, w, shape, **geometry: (
        lambda: conv(g, w, **geometry),
        lambda: conv_filter_gradient(g, up, kernel=w.shape[:-2], **geometry),
    ),
    cases=[Case((_made(x, w, geo), w), {"shape": x, **geo}) for x, w, geo in _GEOMETRIES],
)
conv_filter_gradient = declare(
    "conv_filter_gradient",
    rule=lambda x, g, kernel, groups, **geometry: Spec((*kernel, x.shape[-1] // groups, g.shape[-1]), x.dtype),
    reference=_filter_gradient,
    work=lambda x, g, kernel, groups, **_: g.size * math.prod(kernel) * x.shape[-1] / groups,
    gradient=lambda g, y, x, up, kernel, **geometry: (
        lambda: conv_input_gradient(up, g, shape=x.shape, **geometry),
        lambda: conv(x, g, **geometry),
    ),
    cases=[Case((x, _made(x, w, geo)), {"kernel": w[:-2], **geo}) for x, w, geo in _GEOMETRIES],
)
