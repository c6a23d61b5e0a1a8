"""Image files to arrays, with a clear word for each file that cannot be one."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112  # the number of this field in EXIF data
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by number of channels


def decode_image(
    path: str | os.PathLike | BinaryIO, size: int | tuple[int, int] | None = None, channels: int = 3
) -> np.ndarray:
    """Return an image file, by path or opened, as unsigned bytes (height, width, channels).

    ``size`` is (height, width), or one number for both; the image is stretched to it (bilinear,
    antialiased). ``channels`` is 1 (grey), 3 (RGB) or 4 (RGB and opacity). The orientation in the EXIF data
    is applied; CMYK and palettes are converted; of 16 bits the upper 8 are kept; of an animation the first
    picture; opacity is dropped unless asked for.

    Raises:
        DataError: names a file that is missing, no image, truncated, or larger than Pillow's limit.
    """
    image = open_image(path, channels)
    if size is not None:
        from PIL import Image

        height, width = (size, size) if isinstance(size, int) else size
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image.height, image.width, channels)


def open_image(path: str | os.PathLike | BinaryIO, channels: int = 3) -> Image.Image:
    """Return an image file as a Pillow image of 1, 3 or 4 channels of 8 bits, upright; see ``decode_image``."""
    from PIL import Image

    if channels not in MODES:
        raise ValueError(f"channels must be 1, 3 or 4, received {channels!r}.")
    try:
        with Image.open(str(path) if isinstance(path, str) else path) as image:  # not numpy's str, for its messages
            # Pillow only warns up to twice this limit.
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise ValueError(
                    f"{image.width} × {image.height} pixels may be a decompression bomb; "
                    "raise PIL.Image.MAX_IMAGE_PIXELS if they are not"
                )
            image.load()  # whole: the "draft" of a JPEG is faster, but not what resizing the whole picture gives
            return standard_image(image, channels)
    except Exception as error:  # decoders fail in many ways on damaged files: SyntaxError, struct.error, …
        name = path if isinstance(path, (str, os.PathLike)) else getattr(path, "name", "given as bytes")
        raise DataError(f"The image {name} cannot be read: {type(error).__name__}: {error}") from error


def standard_image(image: Image.Image, channels: int = 3) -> Image.Image:
    """Return a Pillow image upright, with 1, 3 or 4 channels of 8 bits; the same one, if that is what it is."""
    if image.getexif().get(ORIENTATION, 1) != 1:  # Pillow would copy upright ones too
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
    image = _eight_bits(image)
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def _eight_bits(image):
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits; Pillow would clip instead of scaling
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("pixels in floating point have no known range")
    return image
