"""From an image in any form to the normalised pixels that a classifier takes.

The arithmetic is that of the reference image processors, whose resizing is Pillow's: ViTImageProcessor,
MobileNetV2ImageProcessor and ConvNextImageProcessor (ResNet and ConvNeXt) of transformers, and the evaluation
transform of timm. What they leave to their callers is done here too: EXIF rotation, palettes, CMYK, 16 bits.
"""

from __future__ import annotations

import io
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ...datasets.image.augment import normalize
from ...datasets.image.decode import open_image, standard_image
from ...layers.serialization import Serializable

if TYPE_CHECKING:
    from PIL import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


class Preprocess(Serializable):
    """Resize, crop and normalise: image -> (H, W, C) float32, a list of images -> (B, H, W, C).

    An image is a path, the bytes of an image file, a Pillow image, or an array of unsigned bytes (H, W, C) or
    (H, W). Files turn as their EXIF data say.

    Args:
        size: height and width of the result.
        resize: what the image is brought to before ``size`` is cut from its centre: a number for the shorter side,
            or height and width; None stretches it to ``size``.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos", as Pillow has them.
        mean: of the channels, in units where white is 1; their number is the number of channels (1, 3 or 4).
        std: what the channels are divided by.
        crop: where an odd margin goes: "floor" as in transformers, "round" as in torchvision and timm.
        reverse: the channels of the result go from blue to red, as networks that began in Caffe take them.

    >>> Preprocess(size=(2, 2), mean=HALF, std=HALF)(np.full((4, 6, 3), 255, "uint8")).max()
    np.float32(1.0)
    """

    def __init__(
        self,
        size: tuple[int, int] = (224, 224),
        resize: int | tuple[int, int] | None = None,
        interpolation: str = "bilinear",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        crop: str = "floor",
        reverse: bool = False,
    ):
        if interpolation not in ("nearest", "bilinear", "bicubic", "lanczos"):
            raise ValueError(f"interpolation is nearest, bilinear, bicubic or lanczos; received {interpolation!r}.")
        if crop not in ("floor", "round"):
            raise ValueError(f'crop is "floor" or "round"; received {crop!r}.')
        if len(mean) != len(std) or len(mean) not in (1, 3, 4):
            raise ValueError(f"mean and std have 1, 3 or 4 numbers each; received {mean!r} and {std!r}.")
        self.size, self.resize, self.interpolation = (int(size[0]), int(size[1])), resize, interpolation
        self.mean, self.std, self.crop, self.reverse = tuple(mean), tuple(std), crop, reverse

    @classmethod
    def from_transformers(cls, config: dict[str, Any]) -> Preprocess:
        """What a ``preprocessor_config.json`` of transformers asks for.

        Raises:
            ValueError: for steps that are not implemented.
        """
        if not config.get("do_resize", True) or not config.get("do_rescale", True):
            raise ValueError("an image processor that does not resize or rescale is not supported")
        size, crop, resize = _extents(config.get("size", 224)), _extents(config.get("crop_size")), None
        if "crop_pct" in config and len(size) == 1:  # ConvNextImageProcessor; from 384 on it stretches
            resize = int(size[0] / config["crop_pct"]) if size[0] < 384 else None
        elif config.get("do_center_crop", False) and crop:
            resize, size = size[0] if len(size) == 1 else size, crop
        normalise, resample = config.get("do_normalize", True), config.get("resample", 2)
        if resample not in _INTERPOLATIONS:
            raise ValueError(f"resample is {resample!r}; known are {_INTERPOLATIONS}")
        return cls(
            size=size * (2 // len(size)),
            resize=resize,
            interpolation=_INTERPOLATIONS[resample],
            mean=tuple(config["image_mean"]) if normalise else (0.0, 0.0, 0.0),
            std=tuple(config["image_std"]) if normalise else (1.0, 1.0, 1.0),
        )

    @classmethod
    def from_timm(cls, config: dict[str, Any]) -> Preprocess:
        """What the ``pretrained_cfg`` of timm asks for in evaluation."""
        height, width = config["input_size"][1:]
        if config.get("crop_mode", "center") != "center":
            raise ValueError(f"crop_mode {config['crop_mode']!r} is not supported")
        return cls(
            size=(height, width),
            resize=math.floor(min(height, width) / config.get("crop_pct", 0.875)),
            interpolation=config.get("interpolation", "bicubic"),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            crop="round",
        )

    @classmethod
    def from_keras(cls, mode: str, size: int) -> Preprocess:
        """What ``preprocess_input`` of a module of keras.applications does, or its model itself.

        Args:
            mode: "tf" for -1 to 1, "torch" for ImageNet's mean and standard deviation, "caffe" for its mean alone and
                channels from blue to red, "128" for a division by 128 in place of 127.5.
            size: height and width of the result.
        """
        if mode == "caffe":
            mean = (123.68 / 255, 116.779 / 255, 103.939 / 255)
            return cls((size, size), mean=mean, std=(1 / 255,) * 3, reverse=True)
        half = (128 / 255,) * 3
        mean, std = {"tf": (HALF, HALF), "torch": (IMAGENET_MEAN, IMAGENET_STD), "128": (half, half)}[mode]
        return cls((size, size), mean=mean, std=std)

    def __call__(self, images: Any) -> np.ndarray:
        """Return the pixels of one image (H, W, C), or of a list of them (B, H, W, C).

        Raises:
            DataError: for a file that cannot be decoded, by name.
            ValueError: for an array that holds no picture.
        """
        if isinstance(images, (list, tuple)):
            return np.stack([self(image) for image in images])
        picture = self._fitted(read_image(images, len(self.mean)))
        pixels = normalize(np.asarray(picture).reshape(*self.size, len(self.mean)), self.mean, self.std)
        return pixels[..., ::-1] if self.reverse else pixels

    def _fitted(self, picture: Image.Image) -> Image.Image:
        """The picture at ``size``."""
        from PIL import Image

        method = Image.Resampling[self.interpolation.upper()]
        if isinstance(self.resize, int):
            shorter = min(picture.size)
            wide, high = (extent * self.resize // shorter for extent in picture.size)
        else:
            high, wide = self.resize or self.size
        picture = picture.resize((wide, high), method)
        height, width = self.size
        left, top = self._margin(wide - width), self._margin(high - height)
        return picture.crop((left, top, left + width, top + height))  # black where the picture is smaller

    def _margin(self, spare: int) -> int:
        return math.floor(spare / 2) if self.crop == "floor" else round(spare / 2)


_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def _extents(size: Any) -> tuple[int, ...]:
    """A size in transformers' configs, of any age: (shorter side,), (height, width), or () for none."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or (size["height"], size["width"])
    return () if size is None else (size,) if isinstance(size, int) else tuple(size)


def read_image(image: Any, channels: int = 3) -> Image.Image:
    """Return an image (see :class:`Preprocess`) as a Pillow image of 1, 3 or 4 channels of 8 bits, upright."""
    from PIL import Image

    if isinstance(image, Image.Image):
        return standard_image(image, channels)
    if isinstance(image, (bytes, bytearray)):
        image = io.BytesIO(image)
    if isinstance(image, (str, os.PathLike, io.IOBase)):
        return open_image(image, channels)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(
            "An image is a path, bytes, a Pillow image, or an array of uint8 (H, W) or (H, W, 1, 3 or 4); received an "
            f"array of {array.dtype} {array.shape}. Pixels between 0 and 1 are multiplied by 255 and rounded first."
        )
    return standard_image(Image.fromarray(_squeezed(array)), channels)


def _squeezed(array: np.ndarray) -> np.ndarray:
    """Pillow's grey images have no axis of channels."""
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
