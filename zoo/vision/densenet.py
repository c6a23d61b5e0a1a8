"""DenseNet: every layer sees the results of all before it (Huang, Liu, van der Maaten, Weinberger, 2016)."""

from __future__ import annotations

from typing import Any

from ...core import Tensor, ops
from ...layers import BatchNormalization, Layer
from ..registry import converter, model
from .classifier import Classifier, Conv, ConvNorm, with_keras_pixels


class NormConv(Layer):
    """conv(relu(norm(x))): (B, H, W, C) -> (B, H, W, filters)"""

    def __init__(self, filters: int, kernel_size: int, **options: Any):
        super().__init__(**options)
        self.norm = BatchNormalization(epsilon=1e-5, momentum=0.9)
        self.conv = Conv(filters, kernel_size)

    def call(self, inputs: Tensor) -> Tensor:
        return self.conv(ops.relu(self.norm(inputs)))


class DenseLayer(Layer):
    """Adds ``growth`` channels to its input: (B, H, W, C) -> (B, H, W, C + growth)"""

    def __init__(self, growth: int, **options: Any):
        super().__init__(**options)
        self.bottleneck, self.grow = NormConv(4 * growth, 1), NormConv(growth, 3)

    def call(self, x: Tensor) -> Tensor:
        return ops.concatenate([x, self.grow(self.bottleneck(x))], axis=-1)


class DenseNet(Classifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides 4, 8, 16, 32.

    Args:
        depths: layers in each block.
        growth: channels that each layer adds.
        stem: filters of the first convolution.
        options: those of :class:`Classifier`.
    """

    def __init__(self, depths: tuple[int, ...], growth: int = 32, stem: int = 64, **options: Any):
        super().__init__(**options)
        self.stem = ConvNorm(stem, 7, 2)
        self.blocks, self.transitions = [], []
        channels = stem
        for index, depth in enumerate(depths):
            if index:
                channels //= 2
                self.transitions.append(NormConv(channels, 1))
            self.blocks.append([DenseLayer(growth) for _ in range(depth)])
            channels += depth * growth
        self.norm = BatchNormalization(epsilon=1e-5, momentum=0.9)

    def features(self, images: Tensor) -> list[Tensor]:
        """The result of each block."""
        x = ops.max_pool(self.stem(images), 3, 2, [(1, 1), (1, 1)])
        maps = []
        for index, layers in enumerate(self.blocks):
            if index:
                x = ops.average_pool(self.transitions[index - 1](x), 2)
            for layer in layers:
                x = layer(x)
            maps.append(x)
        maps[-1] = ops.relu(self.norm(x))
        return maps


# Variants


@model(test_variant={"depths": (1, 2), "growth": 4, "stem": 8, "image_size": 32})
def densenet121(depths=(6, 12, 24, 16), **options):
    """DenseNet-121: 8.0 million parameters."""
    return DenseNet(depths, **options)


@model()
def densenet161(**options):
    """DenseNet-161: 28.7 million parameters."""
    return DenseNet((6, 12, 36, 24), growth=48, stem=96, **options)


@model()
def densenet169(**options):
    """DenseNet-169: 14.1 million parameters."""
    return DenseNet((6, 12, 32, 32), **options)


@model()
def densenet201(**options):
    """DenseNet-201: 20.0 million parameters."""
    return DenseNet((6, 12, 48, 32), **options)


# Weights


@converter(
    "timm",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    names=[
        (r"^stem\.(conv|norm)\.", r"features.\g<1>0."),
        (r"^blocks\.(\d+)\.(\d+)\.", lambda m: f"features.denseblock{int(m[1]) + 1}.denselayer{int(m[2]) + 1}."),
        (r"\.bottleneck\.(norm|conv)\.", r".\g<1>1."),
        (r"\.grow\.(norm|conv)\.", r".\g<1>2."),
        (r"^transitions\.(\d+)\.", lambda m: f"features.transition{int(m[1]) + 1}."),
        (r"^norm\.", "features.norm5."),
    ],
)
def from_timm(config: dict[str, Any], **options: Any) -> DenseNet:
    """The networks of timm and torchvision of these names."""
    return globals()[config["architecture"]](**options)


@converter(
    "keras",
    "densenet121",
    "densenet169",
    "densenet201",
    names=[
        (r"^stem\.conv/", "conv1_conv/"),
        (r"^stem\.norm/", "conv1_bn/"),
        (r"^blocks\.(\d+)\.(\d+)\.", lambda m: f"conv{int(m[1]) + 2}_block{int(m[2]) + 1}_"),
        (r"_bottleneck\.norm/", "_0_bn/"),
        (r"_bottleneck\.conv/", "_1_conv/"),
        (r"_grow\.norm/", "_1_bn/"),
        (r"_grow\.conv/", "_2_conv/"),
        (r"^transitions\.(\d+)\.norm/", lambda m: f"pool{int(m[1]) + 2}_bn/"),
        (r"^transitions\.(\d+)\.conv/", lambda m: f"pool{int(m[1]) + 2}_conv/"),
        (r"^norm/", "bn/"),
        (r"^classifier/", "predictions/"),
    ],
)
def from_keras(config: dict[str, Any], **options: Any) -> DenseNet:
    """keras.applications.DenseNet121, 169 and 201."""
    return with_keras_pixels(globals()[config["name"]](**options), "torch")
