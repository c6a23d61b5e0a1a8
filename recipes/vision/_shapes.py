"""Generated pictures of shapes: something to learn, and to transfer what was learnt, without a download."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FINER = 2  # shapes are drawn this many times finer, so that their edges are smooth
NOISE = 0.08  # standard deviation, where white is 1

# Where a shape is, by the coordinates x and y; all of them lie within a circle of radius 1.
Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _box(x: np.ndarray, y: np.ndarray, left: float, right: float, bottom: float, top: float) -> np.ndarray:
    return (x > left) & (x < right) & (y > bottom) & (y < top)


def _petals(count: int, depth: float) -> Shape:
    return lambda x, y: np.hypot(x, y) < 0.65 + depth * np.cos(count * np.arctan2(y, x))


SOURCE: dict[str, Shape] = {
    "arrow": lambda x, y: _box(x, y, -0.85, 0.1, -0.2, 0.2) | ((x > 0) & (np.abs(y) < 0.75 - x * 0.85)),
    "bars": lambda x, y: (np.abs(np.abs(y) - 0.45) < 0.2) & (np.abs(x) < 0.8),
    "cross": lambda x, y: (np.minimum(np.abs(x), np.abs(y)) < 0.24) & (np.maximum(np.abs(x), np.abs(y)) < 0.85),
    "disc": lambda x, y: np.hypot(x, y) < 0.8,
    "ell": lambda x, y: _box(x, y, -0.6, -0.15, -0.75, 0.75) | _box(x, y, -0.6, 0.6, -0.75, -0.3),
    "half": lambda x, y: (np.hypot(x, y + 0.35) < 0.85) & (y > -0.35),
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.65) < 0.2,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.65,
    "star": _petals(5, 0.28),
    "triangle": lambda x, y: (y > -0.5) & (y < 0.85 - 1.7 * np.abs(x)),
}
TARGET: dict[str, Shape] = {
    "crescent": lambda x, y: (np.hypot(x, y) < 0.85) & (np.hypot(x - 0.4, y) > 0.65),
    "flower": _petals(7, 0.22),
    "frame": lambda x, y: np.abs(np.maximum(np.abs(x), np.abs(y)) - 0.53) < 0.15,
    "heart": lambda x, y: (1.7 * x**2 + (1.35 * y - 0.8 * np.sqrt(np.abs(x))) ** 2) < 0.9,
    "hexagon": lambda x, y: np.maximum(np.abs(y), 0.866 * np.abs(x) + 0.5 * np.abs(y)) < 0.7,
    "tee": lambda x, y: _box(x, y, -0.7, 0.7, 0.25, 0.7) | _box(x, y, -0.22, 0.22, -0.8, 0.7),
}


def draw(shapes: dict[str, Shape], count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (count, size, size, 3) of unsigned bytes, and labels (count,), as many of each shape.

    A shape of any colour, size, angle and place, with another one's edge in the way, lies on a background that shades
    from one colour to another; noise is over everything.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(shapes)).astype(np.int32)
    figures = list(shapes.values())
    pictures = np.stack([_picture(figures[label], size, rng) for label in labels])
    return pictures, labels


def _picture(shape: Shape, size: int, rng: np.random.Generator) -> np.ndarray:
    axis = (np.arange(size * FINER) + 0.5) / (size * FINER) * 2 - 1
    x, y = np.meshgrid(axis, -axis)
    from_colour, to_colour, colour, other = rng.random((4, 3))
    while np.abs(colour - (from_colour + to_colour) / 2).max() < 0.35:  # or it would hardly be seen
        colour = rng.random(3)
    slope = rng.normal(size=2)
    shade = (0.5 + 0.35 * (slope[0] * x + slope[1] * y)).clip(0, 1)[..., None]
    canvas = from_colour * (1 - shade) + to_colour * shade
    canvas[_placed(shape, x, y, rng)] = colour
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.0)
    canvas[np.cos(angle) * x + np.sin(angle) * y > distance] = other  # a corner is cut off
    coarse = canvas.reshape(size, FINER, size, FINER, 3).mean(axis=(1, 3))
    noisy = coarse + rng.normal(0, NOISE, coarse.shape)
    return np.round(255 * noisy.clip(0, 1)).astype(np.uint8)


def _placed(shape: Shape, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scale = rng.uniform(0.4, 0.75)
    angle = rng.uniform(-0.6, 0.6)
    x, y = ((axis - middle) / scale for axis, middle in zip((x, y), rng.uniform(-0.25, 0.25, 2)))
    return shape(np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x)
