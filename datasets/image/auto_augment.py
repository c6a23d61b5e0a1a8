"""Augmentation by policies: AutoAugment, RandAugment, TrivialAugment.

Operations and magnitudes are those of torchvision (torchvision/transforms/autoaugment.py), which follow the papers'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

Fill = int | tuple[int, ...] | None  # colour of what comes in from outside; None is black


class Operation(NamedTuple):
    """A change of an image by a magnitude."""

    apply: Callable[[Any, float, dict], Any]  # (image, magnitude, options of Image.transform) -> image
    signed: bool = False  # the magnitude is as often negative


def _affine(image: Image.Image, matrix: tuple[float, ...], options: dict) -> Image.Image:
    """The pixel at (x, y) is taken from (a·x + b·y + c, d·x + e·y + f)."""
    from PIL.Image import Transform

    return image.transform(image.size, Transform.AFFINE, matrix, **options)


def _enhanced(name: str) -> Callable:
    def apply(image: Image.Image, magnitude: float, options: dict) -> Image.Image:
        from PIL import ImageEnhance

        return getattr(ImageEnhance, name)(image).enhance(1 + magnitude)

    return apply


def _ops(name: str, *kinds: Callable[[float], float]) -> Callable:
    def apply(image: Image.Image, magnitude: float, options: dict) -> Image.Image:
        from PIL import ImageOps

        return getattr(ImageOps, name)(image, *(kind(magnitude) for kind in kinds))

    return apply


OPERATIONS = {
    "Identity": Operation(lambda image, magnitude, options: image),
    "ShearX": Operation(lambda image, m, options: _affine(image, (1, m, 0, 0, 1, 0), options), signed=True),
    "ShearY": Operation(lambda image, m, options: _affine(image, (1, 0, 0, m, 1, 0), options), signed=True),
    "TranslateX": Operation(lambda image, m, options: _affine(image, (1, 0, -int(m), 0, 1, 0), options), signed=True),
    "TranslateY": Operation(lambda image, m, options: _affine(image, (1, 0, 0, 0, 1, -int(m)), options), signed=True),
    "Rotate": Operation(lambda image, m, options: image.rotate(m, **options), signed=True),  # degrees
    "Brightness": Operation(_enhanced("Brightness"), signed=True),
    "Color": Operation(_enhanced("Color"), signed=True),
    "Contrast": Operation(_enhanced("Contrast"), signed=True),
    "Sharpness": Operation(_enhanced("Sharpness"), signed=True),
    "Posterize": Operation(_ops("posterize", round)),  # bits that are kept
    "Solarize": Operation(_ops("solarize", float)),  # lowest value that is inverted
    "AutoContrast": Operation(_ops("autocontrast")),
    "Equalize": Operation(_ops("equalize")),
    "Invert": Operation(_ops("invert")),
}
Ranges = dict[str, tuple[float, float]]  # operation -> weakest and strongest magnitude


def ranges(width: int, height: int) -> Ranges:
    """Return the magnitudes of AutoAugment and RandAugment."""
    shift = 150 / 331  # of the side: 150 pixels of the paper's 331
    return {
        "ShearX": (0, 0.3),
        "ShearY": (0, 0.3),
        "TranslateX": (0, shift * width),
        "TranslateY": (0, shift * height),
        "Rotate": (0, 30),
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), (0, 0.9)),
        "Posterize": (8, 4),
        "Solarize": (255, 0),
        **dict.fromkeys(("Identity", "AutoContrast", "Equalize", "Invert"), (0, 0)),
    }


# Those of TrivialAugment, "Wide" in the paper.
WIDE_RANGES: Ranges = {
    "Identity": (0, 0),
    "ShearX": (0, 0.99),
    "ShearY": (0, 0.99),
    "TranslateX": (0, 32),
    "TranslateY": (0, 32),
    "Rotate": (0, 135),
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), (0, 0.99)),
    "Posterize": (8, 2),
    "Solarize": (255, 0),
    "AutoContrast": (0, 0),
    "Equalize": (0, 0),
}


def magnitude(bounds: tuple[float, float], level: int, levels: int) -> float:
    """Return the magnitude at one of so many evenly spaced levels, from weakest to strongest."""
    return bounds[0] + (bounds[1] - bounds[0]) * level / (levels - 1)


def apply_operation(
    image: Image.Image, name: str, magnitude: float, interpolation: str = "nearest", fill: Fill = None
) -> Image.Image:
    """Return the image after one operation; "nearest", "bilinear" or "bicubic" for those that move pixels."""
    from PIL.Image import Resampling

    if isinstance(fill, int) and (bands := len(image.getbands())) > 1:
        fill = (fill,) * bands
    options = {"resample": Resampling[interpolation.upper()], "fillcolor": fill}
    return OPERATIONS[name].apply(image, magnitude, options)


@dataclass(frozen=True)
class _Policy:
    def _apply(self, image: Any, name: str, strength: float, rng: np.random.Generator) -> Any:
        negative = rng.random() < 0.5 and OPERATIONS[name].signed
        return apply_operation(image, name, -strength if negative else strength, self.interpolation, self.fill)


@dataclass(frozen=True)
class RandAugment(_Policy):
    """``num_ops`` random operations of one magnitude, of ``levels`` from none to strongest; Cubuk et al. (2020)."""

    num_ops: int = 2
    magnitude: int = 9
    levels: int = 31
    interpolation: str = "nearest"
    fill: Fill = None

    def __post_init__(self):
        if not 0 <= self.magnitude < self.levels:
            raise ValueError(f"magnitude must lie in 0 … {self.levels - 1}; received {self.magnitude!r}.")

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        for _ in range(self.num_ops):
            name = RAND_AUGMENT[rng.integers(len(RAND_AUGMENT))]
            strength = magnitude(ranges(*image.size)[name], self.magnitude, self.levels)
            image = self._apply(image, name, strength, rng)
        return image


RAND_AUGMENT = tuple(name for name in OPERATIONS if name != "Invert")


@dataclass(frozen=True)
class TrivialAugment(_Policy):
    """One random operation of a random magnitude, the wide ranges; Müller and Hutter (2021)."""

    levels: int = 31
    interpolation: str = "nearest"
    fill: Fill = None

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        name = list(WIDE_RANGES)[rng.integers(len(WIDE_RANGES))]
        strength = magnitude(WIDE_RANGES[name], int(rng.integers(self.levels)), self.levels)
        return self._apply(image, name, strength, rng)


@dataclass(frozen=True)
class AutoAugment(_Policy):
    """One of 25 pairs of operations that were found for a dataset; Cubuk et al. (2019).

    ``policy`` is "imagenet", "cifar10" or "svhn".
    """

    policy: str = "imagenet"
    interpolation: str = "nearest"
    fill: Fill = None

    def __post_init__(self):
        if self.policy not in POLICIES:
            raise ValueError(f"policy is one of {', '.join(POLICIES)}; received {self.policy!r}.")

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        pairs = POLICIES[self.policy]
        for name, probability, level in pairs[rng.integers(len(pairs))]:
            strength = magnitude(ranges(*image.size)[name], level, 10)
            if rng.random() < probability:
                image = self._apply(image, name, strength, rng)
        return image


def _policy(text: str) -> tuple[tuple[tuple[str, float, int], ...], ...]:
    """Read lines of two operations, each a name, a probability and a level (- where there is none)."""

    def operation(name: str, probability: str, level: str) -> tuple[str, float, int]:
        return name, float(probability), 0 if level == "-" else int(level)

    lines = [line.split() for line in text.strip().splitlines()]
    return tuple((operation(*words[:3]), operation(*words[3:])) for words in lines)


# The tables in the appendix of the paper, in the order of torchvision.
POLICIES = {
    "imagenet": _policy("""
        Posterize    0.4 8    Rotate       0.6 9
        Solarize     0.6 5    AutoContrast 0.6 -
        Equalize     0.8 -    Equalize     0.6 -
        Posterize    0.6 7    Posterize    0.6 6
        Equalize     0.4 -    Solarize     0.2 4
        Equalize     0.4 -    Rotate       0.8 8
        Solarize     0.6 3    Equalize     0.6 -
        Posterize    0.8 5    Equalize     1.0 -
        Rotate       0.2 3    Solarize     0.6 8
        Equalize     0.6 -    Posterize    0.4 6
        Rotate       0.8 8    Color        0.4 0
        Rotate       0.4 9    Equalize     0.6 -
        Equalize     0.0 -    Equalize     0.8 -
        Invert       0.6 -    Equalize     1.0 -
        Color        0.6 4    Contrast     1.0 8
        Rotate       0.8 8    Color        1.0 2
        Color        0.8 8    Solarize     0.8 7
        Sharpness    0.4 7    Invert       0.6 -
        ShearX       0.6 5    Equalize     1.0 -
        Color        0.4 0    Equalize     0.6 -
        Equalize     0.4 -    Solarize     0.2 4
        Solarize     0.6 5    AutoContrast 0.6 -
        Invert       0.6 -    Equalize     1.0 -
        Color        0.6 4    Contrast     1.0 8
        Equalize     0.8 -    Equalize     0.6 -
    """),
    "cifar10": _policy("""
        Invert       0.1 -    Contrast     0.2 6
        Rotate       0.7 2    TranslateX   0.3 9
        Sharpness    0.8 1    Sharpness    0.9 3
        ShearY       0.5 8    TranslateY   0.7 9
        AutoContrast 0.5 -    Equalize     0.9 -
        ShearY       0.2 7    Posterize    0.3 7
        Color        0.4 3    Brightness   0.6 7
        Sharpness    0.3 9    Brightness   0.7 9
        Equalize     0.6 -    Equalize     0.5 -
        Contrast     0.6 7    Sharpness    0.6 5
        Color        0.7 7    TranslateX   0.5 8
        Equalize     0.3 -    AutoContrast 0.4 -
        TranslateY   0.4 3    Sharpness    0.2 6
        Brightness   0.9 6    Color        0.2 8
        Solarize     0.5 2    Invert       0.0 -
        Equalize     0.2 -    AutoContrast 0.6 -
        Equalize     0.2 -    Equalize     0.6 -
        Color        0.9 9    Equalize     0.6 -
        AutoContrast 0.8 -    Solarize     0.2 8
        Brightness   0.1 3    Color        0.7 0
        Solarize     0.4 5    AutoContrast 0.9 -
        TranslateY   0.9 9    TranslateY   0.7 9
        AutoContrast 0.9 -    Solarize     0.8 3
        Equalize     0.8 -    Invert       0.1 -
        TranslateY   0.7 9    AutoContrast 0.9 -
    """),
    "svhn": _policy("""
        ShearX       0.9 4    Invert       0.2 -
        ShearY       0.9 8    Invert       0.7 -
        Equalize     0.6 -    Solarize     0.6 6
        Invert       0.9 -    Equalize     0.6 -
        Equalize     0.6 -    Rotate       0.9 3
        ShearX       0.9 4    AutoContrast 0.8 -
        ShearY       0.9 8    Invert       0.4 -
        ShearY       0.9 5    Solarize     0.2 6
        Invert       0.9 -    AutoContrast 0.8 -
        Equalize     0.6 -    Rotate       0.9 3
        ShearX       0.9 4    Solarize     0.3 3
        ShearY       0.8 8    Invert       0.7 -
        Equalize     0.9 -    TranslateY   0.6 6
        Invert       0.9 -    Equalize     0.6 -
        Contrast     0.3 3    Rotate       0.8 4
        Invert       0.8 -    TranslateY   0.0 2
        ShearY       0.7 6    Solarize     0.4 8
        Invert       0.6 -    Rotate       0.8 4
        ShearY       0.3 7    TranslateX   0.9 3
        ShearX       0.1 6    Invert       0.6 -
        Solarize     0.7 2    TranslateY   0.6 7
        ShearY       0.8 4    Invert       0.8 -
        ShearX       0.7 9    TranslateY   0.8 3
        ShearY       0.8 5    AutoContrast 0.7 -
        ShearX       0.7 2    Invert       0.1 -
    """),
}
