"""Windows that slide over the spatial axes of channels-last data (N, *spatial, C): maximum and sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import INT32
from ..errors import ShapeError
from ..op import Case, Spec, declare
from .convolution import _cropped, _padded_zeros, output_extent, windows


def _spatial(shape: tuple, window: tuple, strides: tuple, padding: tuple) -> tuple[int, ...]:
    return tuple(output_extent(n, w, s, p, 1) for n, w, s, p in zip(shape[1:-1], window, strides, padding, strict=True))


def _rule(x: Any, window: tuple, strides: tuple, padding: tuple) -> Spec:
    if len(x.shape) != len(window) + 2:
        raise ShapeError(f"pool: expected (N, *spatial, C) with {len(window)} spatial axes; received shape {x.shape}.")
    spatial = _spatial(x.shape, window, strides, padding)
    if 0 in spatial and 0 not in x.shape[1:-1]:
        raise ShapeError(
            f"pool: the window {window} is larger than the padded input: spatial shape {x.shape[1:-1]}, padding "
            f"{padding}. Use padding='same' or a smaller window."
        )
    return Spec((x.shape[0], *spatial, x.shape[-1]), x.dtype)


def _offsets(x: np.ndarray, window: tuple, strides: tuple, padding: tuple, fill: Any) -> list[np.ndarray]:
    spatial = _spatial(x.shape, window, strides, padding)
    if 0 in spatial and 0 not in x.shape[1:-1]:
        raise ValueError("the window is larger than the padded input")  # the rule says it better
    x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    return [x[slices] for _, slices in windows(window, spatial, strides, (1,) * len(window))]


def _max_pool(x: np.ndarray, window: tuple, strides: tuple, padding: tuple) -> tuple:
    low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    parts = _offsets(x, window, strides, padding, low)
    best = parts[0].copy()
    where = np.zeros(best.shape, np.int32)
    for i, part in enumerate(parts[1:], 1):
        better = (part > best) | ((part != part) & (best == best))  # the first NaN wins
        where[better] = i
        best[better] = part[better]
    return best, where


def _spread(g: np.ndarray, part: Callable, shape: tuple, window: tuple, strides: tuple, padding: tuple) -> np.ndarray:
    """Zeros of ``shape`` with ``part(i)`` added to what lies at position i of the windows."""
    out = _padded_zeros(shape, padding, g.dtype)
    for i, (_, slices) in enumerate(windows(window, g.shape[1:-1], strides, (1,) * len(window))):
        out[slices] += part(i)
    return _cropped(out, padding)


def _pool_gather(x: np.ndarray, where: np.ndarray, window: tuple, strides: tuple, padding: tuple) -> np.ndarray:
    parts = _offsets(x, window, strides, padding, 0)
    return np.select([where == i for i in range(len(parts))], parts, 0).astype(x.dtype)


_GEOMETRIES = [
    ((2, 4, 6, 3), {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}),
    ((1, 5, 5, 2), {"window": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}),
    ((1, 5, 4, 2), {"window": (2, 3), "strides": (1, 1), "padding": ((0, 1), (1, 1))}),
    ((2, 7, 2), {"window": (3,), "strides": (2,), "padding": ((0, 0),)}),
    ((1, 3, 4, 2, 1), {"window": (2, 2, 2), "strides": (1, 2, 2), "padding": ((0, 0), (0, 0), (0, 0))}),
    ((0, 4, 4, 1), {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}),
]


def _made(shape: tuple, geometry: dict) -> tuple[int, ...]:
    return (shape[0], *_spatial(shape, **geometry), shape[-1])


def _positions(shape: tuple, geometry: dict) -> np.ndarray:
    made = _made(shape, geometry)
    return np.arange(math.prod(made), dtype=np.int32).reshape(made) % math.prod(geometry["window"])


# Answers the maxima, and which position of its window each was found at.
max_pool = declare(
    "max_pool",
    rule=lambda x, **geometry: (_rule(x, **geometry), Spec(_rule(x, **geometry).shape, INT32)),
    reference=_max_pool,
    gradient=lambda g, y, x, **geometry: (None if g[0] is None else unpool(g[0], y[1], shape=x.shape, **geometry),),
    cases=[Case((shape,), geometry) for shape, geometry in _GEOMETRIES],
)
unpool = declare(
    "unpool",
    rule=lambda g, where, shape, **geometry: Spec(shape, g.dtype),
    reference=lambda g, where, **geometry: _spread(g, lambda i: np.where(where == i, g, 0), **geometry),
    gradient=lambda g, y, up, where, shape, **geometry: (pool_gather(g, where, **geometry), None),
    cases=[Case((_made(shape, geo), _positions(shape, geo)), {"shape": shape, **geo}) for shape, geo in _GEOMETRIES],
)
pool_gather = declare(
    "pool_gather",
    rule=lambda x, where, **geometry: Spec(where.shape, x.dtype),
    reference=_pool_gather,
    gradient=lambda g, y, x, where, **geometry: (unpool(g, where, shape=x.shape, **geometry), None),
    cases=[Case((shape, _positions(shape, geo)), geo) for shape, geo in _GEOMETRIES],
)


def _window_sum(x: np.ndarray, window: tuple, strides: tuple, padding: tuple) -> np.ndarray:
    parts = _offsets(x, window, strides, padding, 0)
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


window_sum = declare(
    "window_sum",
    rule=_rule,
    reference=_window_sum,
    gradient=lambda g, y, x, **geometry: (window_spread(g, shape=x.shape, **geometry),),
    cases=[Case((shape,), geometry) for shape, geometry in _GEOMETRIES],
)
window_spread = declare(
    "window_spread",
    rule=lambda g, shape, **geometry: Spec(shape, g.dtype),
    reference=lambda g, **geometry: _spread(g, lambda i: g, **geometry),
    gradient=lambda g, y, up, shape, **geometry: (window_sum(g, **geometry),),
    cases=[Case((_made(shape, geo),), {"shape": shape, **geo}) for shape, geo in _GEOMETRIES],
)
