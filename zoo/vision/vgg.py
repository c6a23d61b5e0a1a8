"""VGG: stacks of 3×3 convolutions (Simonyan, Zisserman, 2014), with batch normalisation as an option."""

from __future__ import annotations

from typing import Any

from ...core import Tensor, ops
from ...layers import BatchNormalization, MaxPooling2D, ReLU
from ..registry import converter, model
from .classifier import Classifier, Conv, with_keras_pixels


class VGG(Classifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides 1, 2, 4, 8, 16, 32.

    Args:
        depths: convolutions between two poolings.
        widths: their filters.
        normalise: whether each convolution is followed by batch normalisation.
        hidden: units of the two layers before the last.
        window: side of the last map for images of ``image_size``; smaller maps are too small.
        dropout: before the last two layers.
        options: those of :class:`Classifier`.
    """

    _head_layers = ("hidden1", "hidden2", "dropout", "classifier")

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...] = (64, 128, 256, 512, 512),
        normalise: bool = False,
        hidden: int = 4096,
        window: int = 7,
        dropout: float = 0.5,
        **options: Any,
    ):
        super().__init__(dropout=dropout, **options)
        self.steps = []
        for depth, width in zip(depths, widths, strict=True):
            for _ in range(depth):
                self.steps.append(Conv(width, 3, use_bias=True))
                if normalise:
                    self.steps.append(BatchNormalization(epsilon=1e-5, momentum=0.9))
                self.steps.append(ReLU())
            self.steps.append(MaxPooling2D(2))
        # A fully connected layer over the last map is a convolution as large as the map.
        self.hidden1 = Conv(hidden, window, padding="valid", use_bias=True, activation="relu")
        self.hidden2 = Conv(hidden, 1, use_bias=True, activation="relu")

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps before each pooling, and the last one."""
        x, maps = images, []
        for step in self.steps:
            if isinstance(step, MaxPooling2D):
                maps.append(x)
            x = step(x)
        return [*maps, x]

    def head(self, features: Tensor) -> Tensor:
        """The coarsest feature map (B, H, W, C) -> logits (B, classes)."""
        x = self.hidden2(self.dropout(self.hidden1(features)))
        return self.classifier(self.dropout(ops.mean(x, axis=(1, 2))))


# Variants

TINY = {"depths": (1, 2), "widths": (8, 16), "hidden": 16, "window": 4, "image_size": 16, "dropout": 0.0}


@model()
def vgg11(**options):
    """VGG-11: 132.9 million parameters."""
    return VGG((1, 1, 2, 2, 2), **options)


@model()
def vgg11_bn(**options):
    """VGG-11 with batch normalisation: 132.9 million parameters."""
    return VGG((1, 1, 2, 2, 2), normalise=True, **options)


@model()
def vgg13(**options):
    """VGG-13: 133.0 million parameters."""
    return VGG((2, 2, 2, 2, 2), **options)


@model()
def vgg13_bn(**options):
    """VGG-13 with batch normalisation: 133.1 million parameters."""
    return VGG((2, 2, 2, 2, 2), normalise=True, **options)


@model(test_variant=TINY)
def vgg16(depths=(2, 2, 3, 3, 3), **options):
    """VGG-16: 138.4 million parameters."""
    return VGG(depths, **options)


@model(test_variant=TINY)
def vgg16_bn(depths=(2, 2, 3, 3, 3), **options):
    """VGG-16 with batch normalisation: 138.4 million parameters."""
    return VGG(depths, normalise=True, **options)


@model()
def vgg19(**options):
    """VGG-19: 143.7 million parameters."""
    return VGG((2, 2, 4, 4, 4), **options)


@model()
def vgg19_bn(**options):
    """VGG-19 with batch normalisation: 143.7 million parameters."""
    return VGG((2, 2, 4, 4, 4), normalise=True, **options)


# Weights


@converter(
    "timm",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    names=[
        (r"^steps\.", "features."),
        (r"^hidden([12])\.", r"pre_logits.fc\1."),
        (r"^classifier\.", "head.fc."),
    ],
)
def from_timm(config: dict[str, Any], **options: Any) -> VGG:
    """The networks of timm of these names."""
    return globals()[config["architecture"]](**options)


def _keras_names(net: VGG) -> list:
    """Keras counts convolutions by block."""
    places, block, conv = {}, 1, 0
    for index, step in enumerate(net.steps if net is not None else []):
        if isinstance(step, MaxPooling2D):
            block, conv = block + 1, 0
        elif isinstance(step, Conv):
            conv += 1
            places[index] = f"block{block}_conv{conv}/"
    return [
        (r"^steps\.(\d+)/", lambda m: places[int(m[1])]),
        (r"^hidden([12])/", r"fc\1/"),
        (r"^classifier/", "predictions/"),
    ]


@converter("keras", "vgg16", "vgg19", names=_keras_names)
def from_keras(config: dict[str, Any], **options: Any) -> VGG:
    """keras.applications.VGG16 and VGG19."""
    settings = {"window": options.get("image_size", 224) // 32, "dropout": 0.0}
    return with_keras_pixels(globals()[config["name"]](**(settings | options)), "caffe")
