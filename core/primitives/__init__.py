"""The primitives: about eighty ops that everything else is composed of. Importing this declares them."""

from . import (
    contraction,
    control,
    convolution,
    elementwise,
    indexing,
    linalg,
    movement,
    numbers,
    pooling,
    random_bits,
    reduction,
    spectral,
)

__all__ = [
    "contraction",
    "control",
    "convolution",
    "elementwise",
    "indexing",
    "linalg",
    "movement",
    "numbers",
    "pooling",
    "random_bits",
    "reduction",
    "spectral",
]
