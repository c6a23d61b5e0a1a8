"""Random changes of the colours of images (N, H, W, C); RandAugment and AugMix, which draw among many changes."""

from __future__ import annotations

from typing import Any

from .. import core
from ..core import Tensor, ops
from .augmentation import (
    Augmentation,
    RandomBrightness,
    RandomContrast,
    RandomRotation,
    RandomShear,
    RandomTranslation,
    share,
)
from .equalization import Equalization


class _Colour(Augmentation):
    """Changes by a factor that is drawn for each image, in [0, 1]; f stands for 0 … f."""

    def __init__(
        self,
        factor: Any,
        value_range: Any = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, data_format, **kwargs)
        self.factor = share(type(self).__name__, factor)
        self.value_range = tuple(value_range)

    def transform(self, images: Tensor) -> Tensor:
        changed = self.recolour(images, self._uniform(images, *self.factor))
        return ops.clip(changed, *self.value_range)

    def recolour(self, images: Tensor, factor: Tensor) -> Tensor:
        """Images changed by factors (N, 1, 1, 1)."""
        raise NotImplementedError

    def _unit(self, images: Tensor) -> Tensor:
        """Pixels from the value range to [0, 1]."""
        low, high = self.value_range
        return (images - low) / (high - low)

    def _back(self, images: Tensor) -> Tensor:
        """Pixels from [0, 1] to the value range."""
        low, high = self.value_range
        return images * (high - low) + low


class RandomGrayscale(Augmentation):
    """Images (N, H, W, 3) without colours, with probability ``factor``."""

    def __init__(self, factor: float = 0.5, data_format: str | None = None, seed: int | None = None, **kwargs: Any):
        super().__init__(seed, data_format, **kwargs)
        self.factor = factor

    def transform(self, images: Tensor) -> Tensor:
        return ops.where(self._uniform(images, 0, 1) < self.factor, ops.image.rgb_to_grayscale(images), images)


class RandomInvert(_Colour):
    """The largest value minus the pixels, with a probability drawn from ``factor`` (a pair; f stands for 0 … f)."""

    def __init__(
        self,
        factor: Any = 1.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(factor, value_range, data_format, seed, **kwargs)

    def recolour(self, images: Tensor, factor: Tensor) -> Tensor:
        return ops.where(self._uniform(images, 0, 1) < factor, self.value_range[1] - images, images)


class RandomColorDegeneration(_Colour):
    """Mix images (N, H, W, 3) with their grey versions: factor 0 keeps all colour, 1 leaves none."""

    def recolour(self, images: Tensor, factor: Tensor) -> Tensor:
        return images + factor * (ops.image.rgb_to_grayscale(images) - images)


class RandomSaturation(_Colour):
    """Saturation of images (N, H, W, 3) times f / (1 - f): factor 0 leaves grey, 0.5 changes nothing, 1 is full."""

    def recolour(self, images: Tensor, factor: Tensor) -> Tensor:
        hue, saturation, value = ops.split(ops.image.rgb_to_hsv(self._unit(images)), 3, -1)
        saturation = ops.clip(saturation * (factor / (1 - factor + core.config.epsilon())), 0, 1)
        return self._back(ops.image.hsv_to_rgb(ops.concatenate([hue, saturation, value], -1)))


class RandomHue(_Colour):
    """Hues of images (N, H, W, 3) turned by at most ``factor`` times half a turn, either way."""

    def recolour(self, images: Tensor, factor: Tensor) -> Tensor:
        turn = ops.where(self._uniform(images, 0, 1) > 0.5, -0.5, 0.5) * factor
        hue, saturation, value = ops.split(ops.image.rgb_to_hsv(self._unit(images)), 3, -1)
        return self._back(ops.image.hsv_to_rgb(ops.concatenate([(hue + turn) % 1.0, saturation, value], -1)))


class RandomSharpness(_Colour):
    """Mix images with smoothed versions: factor 0 is smooth, 0.5 changes nothing, 1 sharpens."""

    def recolour(self, images: Tensor, factor: Tensor) -> Tensor:
        channels = images.shape[-1]
        bell = ops.cast([[1, 1, 1], [1, 5, 1], [1, 1, 1]], images.dtype) / 13
        kernel = ops.broadcast_to(ops.reshape(bell, (3, 3, 1, 1)), (3, 3, channels, 1))
        smooth = ops.depthwise_conv(images, kernel, 1, "same")
        return images + (1 - 2 * factor) * (smooth - images)


class RandomPosterization(Augmentation):
    """Pixels with fewer bits: a number drawn from ``factor``, (lower, upper) in [1, 8] without upper; f for 1 … f."""

    def __init__(
        self,
        factor: Any,
        value_range: Any = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, data_format, **kwargs)
        self.factor = tuple(factor) if isinstance(factor, (tuple, list)) else (1, factor)
        self.value_range = tuple(value_range)
        if not 1 <= self.factor[0] <= self.factor[1] <= 8:
            raise ValueError(f"RandomPosterization: factors are whole numbers from 1 to 8; received {factor}.")

    def transform(self, images: Tensor) -> Tensor:
        low, high = self.value_range
        least, most = self.factor
        bits = core.random.randint((images.shape[0], 1, 1, 1), least, max(most, least + 1), seed=self.seed_generator)
        step = 2.0 ** ops.cast(8 - bits, images.dtype)
        bytes_ = ops.floor((images - low) * (255 / (high - low)))
        return ops.floor(bytes_ / step) * step * ((high - low) / 255) + low


class Solarization(Augmentation):
    """Add a number to the pixels, and invert those above a threshold.

    Args:
        addition_factor: of which 255 times is added, in [0, 1]; f stands for 0 … f.
        threshold_factor: of which 255 times is the threshold, likewise.
        value_range: least and largest value of pixels.
        seed: of the draws.
    """

    def __init__(
        self,
        addition_factor: Any = 0.0,
        threshold_factor: Any = 0.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, **kwargs)
        self.addition_factor = share("Solarization", addition_factor)
        self.threshold_factor = share("Solarization", threshold_factor)
        self.value_range = tuple(value_range)

    def transform(self, images: Tensor) -> Tensor:
        low, high = self.value_range
        added = self._uniform(images, *self.addition_factor)
        threshold = self._uniform(images, *self.threshold_factor)
        x = ops.clip((images - low) / (high - low) + added, 0, 1)
        return ops.where(x < threshold, x, 1 - x) * (high - low) + low


class AutoContrast(Augmentation):
    """Each channel of each image stretched to the whole value range."""

    def __init__(self, value_range: Any = (0, 255), **kwargs: Any):
        super().__init__(**kwargs)
        self.value_range = tuple(value_range)

    def transform(self, images: Tensor) -> Tensor:
        low, high = self.value_range
        least = ops.min(images, (1, 2), keepdims=True)
        spread = ops.max(images, (1, 2), keepdims=True) - least
        stretched = (images - least) / ops.where(spread > 0, spread, 1.0) * (high - low) + low
        return ops.where(spread > 0, stretched, images)


def _next(seed: int | None, number: int) -> int | None:
    """A seed for one of several layers, other than those of the rest."""
    return None if seed is None else seed + 1 + number


class RandomColorJitter(Augmentation):
    """RandomBrightness, RandomContrast, RandomSaturation and RandomHue, those whose factor is given, in this order."""

    def __init__(
        self,
        value_range: Any = (0, 255),
        brightness_factor: Any = None,
        contrast_factor: Any = None,
        saturation_factor: Any = None,
        hue_factor: Any = None,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, data_format, **kwargs)
        kinds = {
            RandomBrightness: brightness_factor,
            RandomContrast: contrast_factor,
            RandomSaturation: saturation_factor,
            RandomHue: hue_factor,
        }
        self.changes = [
            kind(factor, value_range=value_range, seed=_next(seed, number), dtype=self.dtype_policy)
            for number, (kind, factor) in enumerate(kinds.items())
            if factor is not None
        ]

    def transform(self, images: Tensor) -> Tensor:
        for change in self.changes:
            images = change(images, training=True)
        return images


def _changes(layer: Augmentation, kinds: tuple[type, ...], interpolation: str, value_range: Any) -> list[Augmentation]:
    """One layer of each kind, as strong as the factor of ``layer``, each with a seed of its own."""
    factor = layer.factor
    warp, colour = {"interpolation": interpolation}, {"value_range": value_range}
    options: dict[type, tuple[tuple, dict]] = {
        RandomShear: ((factor, factor), warp),
        RandomTranslation: ((factor, factor), warp),
        RandomRotation: ((factor,), warp),
        Solarization: ((factor, factor), colour),
        RandomPosterization: ((max(1, int(8 * factor[1])),), colour),
        AutoContrast: ((), colour),
        Equalization: ((), colour),
    }
    made = []
    for number, kind in enumerate(kinds):
        given, named = options.get(kind, ((factor,), colour))
        made.append(kind(*given, **named, seed=_next(layer.seed, number), dtype=layer.dtype_policy))
    return made


def _one_of(changes: list[Augmentation], images: Tensor, choice: Tensor) -> Tensor:
    """Each image (N, H, W, C) as the change whose number is its choice (N, 1, 1, 1) makes it; else unchanged."""
    changed = images
    for number, change in enumerate(changes):
        changed = ops.where(choice == number, change(images, training=True), changed)
    return changed


class RandAugment(Augmentation):
    """``num_ops`` changes one after the other, drawn for each image among ten; Cubuk et al. (2019).

    Shear, translation, rotation, brightness, colour, contrast, sharpness, solarization, posterization, auto contrast.

    Args:
        value_range: least and largest value of pixels.
        num_ops: number of changes.
        factor: how strong, in [0, 1]; f stands for 0 … f.
        interpolation: "nearest" or "bilinear".
        seed: of the draws.
    """

    moves = True
    kinds = (
        RandomShear,
        RandomTranslation,
        RandomRotation,
        RandomBrightness,
        RandomColorDegeneration,
        RandomContrast,
        RandomSharpness,
        Solarization,
        RandomPosterization,
        AutoContrast,
    )

    def __init__(
        self,
        value_range: Any = (0, 255),
        num_ops: int = 2,
        factor: Any = 0.5,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, data_format, **kwargs)
        self.num_ops, self.factor = num_ops, share("RandAugment", factor)
        self.changes = _changes(self, self.kinds, interpolation, value_range)

    def transform(self, images: Tensor) -> Tensor:
        shape = (images.shape[0], 1, 1, 1)
        for _ in range(self.num_ops):
            choice = core.random.randint(shape, 0, len(self.changes), seed=self.seed_generator)
            images = _one_of(self.changes, images, choice)
        return images


class AugMix(Augmentation):
    """Each image mixed with several versions of itself, each changed by a chain of random changes.

    The changes and shares are drawn for each image. Hendrycks et al. (2020).

    Args:
        value_range: least and largest value of pixels.
        num_chains: number of versions.
        chain_depth: largest number of changes in a row.
        factor: how strong, in [0, 1]; f stands for 0 … f.
        alpha: of the Dirichlet and beta distributions that the shares are drawn from.
        all_ops: whether brightness, colour, contrast and sharpness are among the changes.
        interpolation: "nearest" or "bilinear".
        seed: of the draws.

    >>> AugMix(num_chains=2, chain_depth=1, all_ops=False)(np.ones((1, 8, 8, 3))).shape
    (1, 8, 8, 3)
    """

    moves = True
    kinds = (
        RandomShear,
        RandomTranslation,
        RandomRotation,
        RandomPosterization,
        Solarization,
        AutoContrast,
        Equalization,
    )

    def __init__(
        self,
        value_range: Any = (0, 255),
        num_chains: int = 3,
        chain_depth: int = 3,
        factor: Any = 0.3,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, data_format, **kwargs)
        self.num_chains, self.chain_depth, self.alpha = num_chains, chain_depth, alpha
        self.factor, self.value_range = share("AugMix", factor), tuple(value_range)
        further = (RandomBrightness, RandomColorDegeneration, RandomContrast, RandomSharpness) if all_ops else ()
        self.changes = _changes(self, self.kinds + further, interpolation, value_range)

    def transform(self, images: Tensor) -> Tensor:
        count, chains, generator = images.shape[0], self.num_chains, self.seed_generator
        versions = ops.tile(images, (chains, 1, 1, 1))  # (chains · N, H, W, C): all chains in one batch
        for _ in range(self.chain_depth):
            none = len(self.changes)
            choice = core.random.randint((chains * count, 1, 1, 1), 0, none + 1, seed=generator)
            versions = _one_of(self.changes, versions, choice)
        drawn = core.random.gamma((chains, count, 1, 1, 1), self.alpha, images.dtype, generator)
        versions = ops.reshape(versions, (chains, *images.shape))
        mixed = ops.sum(versions * (drawn / ops.sum(drawn, 0, keepdims=True)), 0)
        kept = core.random.beta((count, 1, 1, 1), self.alpha, self.alpha, images.dtype, generator)
        return ops.clip(kept * images + (1 - kept) * mixed, *self.value_range)
