"""Images of another size, inside a model."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, ops
from .convolution import check_channels_last
from .layer import Layer


class Resizing(Layer):
    """Images of another size: (N, H, W, C) or (H, W, C) -> (N, height, width, C)

    Args:
        height: of the result.
        width: of the result.
        interpolation: "nearest", "bilinear", "bicubic", "lanczos3", "lanczos5".
        crop_to_aspect_ratio: whether to cut margins away rather than distort.
        pad_to_aspect_ratio: whether to add margins rather than distort.
        fill_mode: of the margins; "constant".
        fill_value: of the margins.
        antialias: whether to widen the kernel when shrinking.

    >>> Resizing(4, 6)(np.ones((2, 8, 8, 3))).shape
    (2, 4, 6, 3)
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_channels_last(data_format)
        self.height, self.width, self.interpolation = height, width, interpolation
        self.crop_to_aspect_ratio, self.pad_to_aspect_ratio = crop_to_aspect_ratio, pad_to_aspect_ratio
        self.fill_mode, self.fill_value, self.antialias = fill_mode, fill_value, antialias

    def call(self, inputs: Tensor) -> Tensor:
        return ops.image.resize(
            ops.cast(inputs, self.compute_dtype),
            (self.height, self.width),
            self.interpolation,
            self.antialias,
            self.crop_to_aspect_ratio,
            self.pad_to_aspect_ratio,
            self.fill_mode,
            self.fill_value,
        )


class CenterCrop(Layer):
    """The middle of images, (N, H, W, C) or (H, W, C) -> (N, height, width, C); smaller images are enlarged first."""

    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        check_channels_last(data_format)
        self.height, self.width = height, width

    def call(self, inputs: Tensor) -> Tensor:
        return center_crop(ops.cast(inputs, self.compute_dtype), self.height, self.width)


def center_crop(images: Tensor, height: int, width: int) -> Tensor:
    """The middle of images (…, H, W, C); where they are smaller, the middle of enlarged ones."""
    spare_rows, spare_columns = images.shape[-3] - height, images.shape[-2] - width
    if spare_rows < 0 or spare_columns < 0:
        return ops.image.resize(images, (height, width), crop_to_aspect_ratio=True)
    top, left = spare_rows // 2, spare_columns // 2
    return images[..., top : top + height, left : left + width, :]


class MaxNumBoundingBoxes(Layer):
    """Bounding boxes cut or padded to one number, so that batches have one shape.

    Takes a dict with "bounding_boxes": {"boxes": (N, n, 4), "labels": (N, n)}; its other parts stay.

    Args:
        max_number: of boxes.
        fill_value: of the boxes and labels that are added.

    >>> boxes = {"boxes": np.ones((1, 2, 4)), "labels": np.array([[3, 5]])}
    >>> MaxNumBoundingBoxes(3)({"bounding_boxes": boxes})["bounding_boxes"]["labels"].tolist()
    [[3, 5, -1]]
    """

    def __init__(self, max_number: int, fill_value: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.max_number, self.fill_value = int(max_number), int(fill_value)

    def call(self, inputs: dict) -> dict:
        boxes = inputs["bounding_boxes"]
        return {**inputs, "bounding_boxes": {**boxes, **{key: self._fitted(boxes[key]) for key in ("boxes", "labels")}}}

    def _fitted(self, values: Tensor) -> Tensor:
        values = values[:, : self.max_number]
        margins = [(0, 0), (0, self.max_number - values.shape[1]), *[(0, 0)] * (values.ndim - 2)]
        return ops.pad(values, margins, constant_values=self.fill_value)
