"""The primitives: about eighty ops that everything else is composed of. Importing this declares them."""

from . import (
    attention,
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
    "attention", "contraction", "control", "convolution", "elementwise", "indexing", "linalg", "movement",
    "numbers", "pooling", "random_bits", "reduction", "spectral",
]  # fmt: skip
