"""Steps that change pictures: resize, crop, flip, colour, erase, normalise; and mixing within a batch.

A step is called with a Pillow image and a numpy Generator, and returns the changed image. ``Compose`` makes of
several one function for ``Dataset.map`` or ``image_folder``. What is drawn depends on the seed, the epoch and the
number of the element alone, so the workers can be many or few.

>>> from tenzoo import datasets
>>> change = Compose([RandomCrop(32, padding=4), RandomFlip(), RandAugment()])
>>> images, labels = np.zeros((8, 32, 32, 3), np.uint8), np.arange(8)
>>> pipeline = datasets.Dataset.from_arrays((images, labels)).map(change, num_parallel=2, seed=1)
>>> pipeline = pipeline.batch(4).map(MixUp(classes=8), seed=1)
>>> [(x.shape, y.shape) for x, y in pipeline]
[((4, 32, 32, 3), (4, 8)), ((4, 32, 32, 3), (4, 8))]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .auto_augment import AutoAugment, RandAugment, TrivialAugment

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "Compose",
    "Resize",
    "CenterCrop",
    "LetterBox",
    "RandomCrop",
    "RandomResizedCrop",
    "RandomFlip",
    "ColorJitter",
    "RandAugment",
    "AutoAugment",
    "TrivialAugment",
    "RandomErasing",
    "Normalize",
    "normalize",
    "MixUp",
    "CutMix",
]

Step = Callable[["Image.Image", np.random.Generator], "Image.Image | np.ndarray"]

TRIES = 10  # to draw a rectangle that fits, as in the reference implementations


class Compose:
    """Steps one after the other, as a function of an image and whatever comes with it.

    ``compose(image, label, ..., rng=generator)`` returns the changed image as an array, (H, W, C) or (H, W) like the
    one that came in, and the rest as it was. The image is an array of unsigned bytes, or a Pillow image. Steps that
    draw nothing need no ``rng``.

    >>> Compose([Resize(4), CenterCrop(4), Normalize(HALF, HALF)])(np.full((6, 8, 3), 255, np.uint8)).max()
    np.float32(1.0)
    """

    def __init__(self, steps: Sequence[Step]):
        self.steps = list(steps)

    def __call__(self, image: Any, *rest: Any, rng: np.random.Generator | None = None) -> Any:
        one_channel = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 1
        image = _picture(image)
        for step in self.steps:
            image = step(image, rng if rng is not None else NO_GENERATOR)
        array = np.asarray(image)
        array = array[:, :, None] if one_channel and array.ndim == 2 else array
        return (array, *rest) if rest else array

    def __repr__(self) -> str:
        return f"Compose({self.steps})"


def _picture(image: Any) -> Image.Image:
    from PIL import Image

    if isinstance(image, Image.Image):
        return image
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ValueError(
            "Expected an image of unsigned bytes, (H, W) or (H, W, 1, 3 or 4), or a Pillow image; received "
            f"{array.dtype} {array.shape}. Steps for single images come before batch() and before floating point."
        )
    return Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)


class _NoGenerator:
    """Stands where a generator is missing, and says so when something is to be drawn."""

    def __getattr__(self, name: str) -> Any:
        raise ValueError("A random step needs a generator: give Dataset.map() or image_folder() a seed.")


NO_GENERATOR = _NoGenerator()


# Size and place


@dataclass(frozen=True)
class Resize:
    """Resize to (height, width), or the shorter side to a number, antialiased, as Pillow and torchvision do."""

    size: int | tuple[int, int]
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image, rng: Any = None) -> Image.Image:
        if isinstance(self.size, int):
            shorter = min(image.size)
            width, height = (int(self.size * extent / shorter) for extent in image.size)
        else:
            height, width = self.size
        return _resized(image, (height, width), self.interpolation)


@dataclass(frozen=True)
class CenterCrop:
    """Cut (height, width) from the centre, on black where the image is smaller."""

    size: int | tuple[int, int]

    def __call__(self, image: Image.Image, rng: Any = None) -> Image.Image:
        height, width = _pair(self.size)
        return _cropped(image, _margin(image.height - height), _margin(image.width - width), height, width)


def _margin(spare: int) -> int:
    """What is left out before the centre; negative where the image is smaller."""
    return round(spare / 2) if spare > 0 else -(-spare // 2)


@dataclass(frozen=True)
class LetterBox:
    """Fit the whole image into (height, width), in its proportions, on bars of one colour; as ImageOps.pad does."""

    size: int | tuple[int, int]
    fill: int | tuple[int, ...] = 0
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image, rng: Any = None) -> Image.Image:
        from PIL import ImageOps

        height, width = _pair(self.size)
        return ImageOps.pad(image, (width, height), _method(self.interpolation), _colour(image, self.fill))


@dataclass(frozen=True)
class RandomCrop:
    """A window of (height, width) at a random place of the image, widened by ``padding`` pixels on each side.

    ``fill`` is the colour of the padding, or "reflect" for the mirrored image. What is smaller than the window is
    put on black.
    """

    size: int | tuple[int, int]
    padding: int = 0
    fill: int | tuple[int, ...] | str = 0

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        height, width = _pair(self.size)
        if self.padding:
            image = self._padded(image)
        spare_rows, spare_columns = max(0, image.height - height), max(0, image.width - width)
        top, left = int(rng.integers(0, spare_rows + 1)), int(rng.integers(0, spare_columns + 1))
        return _cropped(image, top, left, height, width)

    def _padded(self, image: Image.Image) -> Image.Image:
        from PIL import Image, ImageOps

        if self.fill != "reflect":
            return ImageOps.expand(image, self.padding, _colour(image, self.fill))
        pixels = np.asarray(image)
        return Image.fromarray(np.pad(pixels, [(self.padding,) * 2] * 2 + [(0, 0)] * (pixels.ndim - 2), "reflect"))


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the image, by share of the area and by width / height, resized to (height, width).

    The crop of Szegedy et al. (2015), in the form of torchvision: the ratio is uniform on a logarithmic scale; after
    ten parts that do not fit, the largest in the centre with an allowed ratio.
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        part = _cropped(image, *self.part(image.height, image.width, rng))
        return _resized(part, _pair(self.size), self.interpolation)

    def part(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw (top, left, height, width)."""
        for _ in range(TRIES):
            rows, columns = _rectangle(height * width, self.scale, self.ratio, rng)
            if 0 < columns <= width and 0 < rows <= height:
                return int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1)), rows, columns
        low, high = self.ratio
        columns = min(width, round(height * high))
        rows = min(height, round(width / low))
        return (height - rows) // 2, (width - columns) // 2, rows, columns


def _rectangle(area: int, scale: tuple, ratio: tuple, rng: np.random.Generator) -> tuple[int, int]:
    """Draw (height, width) from the ranges of the share of ``area`` and of width / height."""
    target = area * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(target / aspect)), round(math.sqrt(target * aspect))


@dataclass(frozen=True)
class RandomFlip:
    """Mirror with a probability; mode: "horizontal", "vertical" or "horizontal_and_vertical" (drawn one by one)."""

    mode: str = "horizontal"
    probability: float = 0.5

    def __post_init__(self):
        if self.mode not in ("horizontal", "vertical", "horizontal_and_vertical"):
            raise ValueError(f'mode is "horizontal", "vertical" or "horizontal_and_vertical"; received {self.mode!r}.')

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        from PIL.Image import Transpose

        for direction, method in (("horizontal", Transpose.FLIP_LEFT_RIGHT), ("vertical", Transpose.FLIP_TOP_BOTTOM)):
            if direction in self.mode and rng.random() < self.probability:
                image = image.transpose(method)
        return image


# Colour


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast, saturation and hue by random amounts, in random order.

    Brightness, contrast and saturation are multiplied by a factor from [max(0, 1 - x), 1 + x]; the hue moves by up
    to ``hue`` of the colour circle, at most 0.5. A pair gives the range itself.
    """

    brightness: float | tuple[float, float] = 0.0
    contrast: float | tuple[float, float] = 0.0
    saturation: float | tuple[float, float] = 0.0
    hue: float | tuple[float, float] = 0.0

    def __post_init__(self):
        low, high = self._range("hue")
        if not -0.5 <= low <= high <= 0.5:
            raise ValueError(f"hue is at most 0.5, half of the colour circle; received {self.hue!r}.")
        for name in ("brightness", "contrast", "saturation"):
            low, high = self._range(name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} is not negative, a pair in order; received {getattr(self, name)!r}.")

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        from PIL import ImageEnhance

        ways = {
            "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
            "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
            "saturation": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
            "hue": hue_moved,
        }
        names = list(ways)
        for index in rng.permutation(len(names)):
            name = names[index]
            low, high = self._range(name)
            factor = rng.uniform(low, high)
            if (low, high) != ((0, 0) if name == "hue" else (1, 1)):
                image = ways[name](image, factor)
        return image

    def _range(self, name: str) -> tuple[float, float]:
        value = getattr(self, name)
        if isinstance(value, tuple):
            return value
        return (-value, value) if name == "hue" else (max(0.0, 1 - value) if value >= 0 else value, 1 + value)


def hue_moved(image: Image.Image, share: float) -> Image.Image:
    """Return the image with its hues moved by a share of the colour circle, in steps of 1/255; grey stays grey."""
    from PIL import Image

    if image.mode != "RGB":
        return image
    hue, saturation, value = image.convert("HSV").split()
    shift = int(share * 255)
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


@dataclass(frozen=True)
class RandomErasing:
    """With a probability put noise, or one colour, over a random rectangle; Zhong et al. (2020).

    Args:
        probability: of an image to be changed.
        scale: range of the share of the area.
        ratio: range of width / height.
        fill: a colour, or "random" for pixels drawn one by one.
    """

    probability: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    fill: int | tuple[int, ...] | str = "random"

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        if rng.random() >= self.probability:
            return image
        for _ in range(TRIES):
            rows, columns = _rectangle(image.height * image.width, self.scale, self.ratio, rng)
            if 0 < rows < image.height and 0 < columns < image.width:
                return self._erased(image, rows, columns, rng)
        return image

    def _erased(self, image: Image.Image, rows: int, columns: int, rng: np.random.Generator) -> Image.Image:
        from PIL import Image

        top, left = int(rng.integers(0, image.height - rows + 1)), int(rng.integers(0, image.width - columns + 1))
        if self.fill == "random":
            bands = len(image.getbands())
            shape = (rows, columns, bands) if bands > 1 else (rows, columns)
            patch: Any = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        else:
            patch = _colour(image, self.fill)
        image = image.copy()
        image.paste(patch, (left, top, left + columns, top + rows))
        return image


# To floating point

HALF = (0.5, 0.5, 0.5)


def normalize(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Return (pixels / 255 - mean) / std of unsigned bytes (..., W, C) as float32; one mean and std for each channel.

    >>> normalize(np.array([[[0, 51, 255]]], np.uint8), HALF, HALF).round(2)
    array([[[-1. , -0.6,  1. ]]], dtype=float32)
    """
    channels = pixels.shape[-1]
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"mean and std need a number for each of {channels} channels; received {mean!r} and {std!r}.")
    # Whole rows at a time: numpy is several times slower with an inner loop over three channels.
    width = pixels.shape[-2] if pixels.ndim > 1 else 1
    rows = pixels.reshape(-1, width * channels).astype(np.float32)
    rows /= np.float32(255)
    rows -= np.tile(np.asarray(mean, np.float32), width)
    rows /= np.tile(np.asarray(std, np.float32), width)
    return rows.reshape(pixels.shape)


@dataclass(frozen=True)
class Normalize:
    """``normalize`` as the last step: -> (H, W, C) float32."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Image.Image, rng: Any = None) -> np.ndarray:
        pixels = np.asarray(image)
        return normalize(pixels if pixels.ndim == 3 else pixels[:, :, None], self.mean, self.std)


# Within a batch


@dataclass(frozen=True)
class MixUp:
    """Mix each image with another one of the batch, and their labels likewise; Zhang et al. (2018).

    ``(images (B, H, W, C), labels (B,) or (B, classes)) -> (float32 images, labels (B, classes))``, for
    ``Dataset.map`` with a seed, after ``batch``. The shares are drawn from the beta distribution (alpha, alpha).
    """

    classes: int
    alpha: float = 0.2

    def __call__(self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple:
        order = rng.permutation(len(images))
        share = rng.beta(self.alpha, self.alpha, len(images)).astype(np.float32)
        pixels = images.astype(np.float32)
        by_image = share.reshape(-1, *(1,) * (images.ndim - 1))
        return by_image * pixels + (1 - by_image) * pixels[order], _mixed(labels, self.classes, share, order)


@dataclass(frozen=True)
class CutMix:
    """Paste a rectangle of another image of the batch into each, and mix the labels by area; Yun et al. (2019).

    Called as MixUp; the pixels keep their dtype. The share that is kept is drawn from the beta distribution
    (alpha, alpha).
    """

    classes: int
    alpha: float = 1.0

    def __call__(self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple:
        height, width = images.shape[1:3]
        order = rng.permutation(len(images))
        side = np.sqrt(1 - rng.beta(self.alpha, self.alpha, len(images)))
        rows, columns = np.rint(side * height).astype(int), np.rint(side * width).astype(int)
        tops, lefts = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        mixed = images.copy()
        for image, other, top, left, high, wide in zip(mixed, order, tops, lefts, rows, columns):
            place = slice(top, top + high), slice(left, left + wide)
            image[place] = images[other][place]
        kept = (1 - rows * columns / (height * width)).astype(np.float32)
        return mixed, _mixed(labels, self.classes, kept, order)


def _mixed(labels: np.ndarray, classes: int, share: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return share · labels + (1 - share) · the others', as probabilities (B, classes)."""
    if labels.ndim == 1:
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"The labels must lie in 0 … {classes - 1}; received {labels.min()} to {labels.max()}.")
        labels = np.eye(classes, dtype=np.float32)[labels]
    return share[:, None] * labels + (1 - share[:, None]) * labels[order]


# Help


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _method(interpolation: str) -> Image.Resampling:
    from PIL.Image import Resampling

    return Resampling[interpolation.upper()]


def _colour(image: Image.Image, fill: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """One number stands for all bands."""
    bands = len(image.getbands())
    return (fill,) * bands if isinstance(fill, int) and bands > 1 else fill


def _resized(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    return image.resize((size[1], size[0]), _method(interpolation))


def _cropped(image: Image.Image, top: int, left: int, height: int, width: int) -> Image.Image:
    """The window, on black where it leaves the image."""
    return image.crop((left, top, left + width, top + height))
