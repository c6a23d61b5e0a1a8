"""EfficientNet: depth, width and resolution scaled together (Tan, Le, 2019)."""

from __future__ import annotations

import math
from typing import Any

from ...core import Tensor
from ...layers import Layer, StochasticDepth
from ..registry import converter, model
from .classifier import Classifier, ConvNorm, SqueezeExcite, drop_rates, round_channels


class MBConv(Layer):
    """Expand, filter each channel, weigh the channels, project: (B, H, W, C) -> (B, H / stride, W / stride, filters)

    Args:
        channels: those of the input.
        expansion: of the channels in between; 1 for none.
        padding: "even" as in PyTorch, "same" as in TensorFlow.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: int,
        strides: int,
        expansion: int,
        drop: float = 0.0,
        padding: str = "even",
        epsilon: float = 1e-5,
        **options: Any,
    ):
        super().__init__(**options)
        common = {"padding": padding, "epsilon": epsilon}
        self.expand = ConvNorm(channels * expansion, 1, activation="silu", **common) if expansion > 1 else None
        self.depthwise = ConvNorm(None, kernel_size, strides, activation="silu", **common)
        self.excite = SqueezeExcite(max(1, channels // 4), activation="silu")
        self.project = ConvNorm(filters, 1, activation=None, **common)
        self.drop = StochasticDepth(drop) if strides == 1 and channels == filters else None

    def call(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.excite(self.depthwise(y)))
        return y if self.drop is None else x + self.drop(y)


# Expansion, channels, blocks, stride of the first block, kernel size: table 1 of the paper.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class EfficientNet(Classifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides 2, 4, 8, 16, 32.

    Args:
        width: multiplier of the channels.
        depth: multiplier of the numbers of blocks.
        stages: expansion, channels, blocks, stride and kernel size of each stage, before the multipliers.
        stem: filters of the first convolution, before the multiplier.
        top: channels before the pooling, before the multiplier.
        padding: "even" as in PyTorch, "same" as in TensorFlow.
        epsilon: of the batch normalisation.
        drop_path: rate of stochastic depth at the last block.
        options: those of :class:`Classifier`.
    """

    _head_layers = ("top", "dropout", "classifier")

    def __init__(
        self,
        width: float,
        depth: float,
        stages: tuple[tuple[int, int, int, int, int], ...] = STAGES,
        stem: int = 32,
        top: int = 1280,
        padding: str = "even",
        epsilon: float = 1e-5,
        drop_path: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        common = {"padding": padding, "epsilon": epsilon}
        channels = round_channels(stem * width)
        self.stem = ConvNorm(channels, 3, 2, activation="silu", **common)
        rates = drop_rates(drop_path, [math.ceil(blocks * depth) for _, _, blocks, _, _ in stages])
        self.strides = [strides for _, _, _, strides, _ in stages]
        self.stages = []
        for (expansion, base, _, first, kernel_size), drops in zip(stages, rates):
            filters, stage = round_channels(base * width), []
            for index, drop in enumerate(drops):
                strides = first if index == 0 else 1
                stage.append(MBConv(channels, filters, kernel_size, strides, expansion, drop, **common))
                channels = filters
            self.stages.append(stage)
        self.top = ConvNorm(round_channels(top * width), 1, activation="silu", **common)

    def features(self, images: Tensor) -> list[Tensor]:
        """The last map of each resolution."""
        x, maps = self.stem(images), []
        for blocks, strides in zip(self.stages, self.strides):
            if strides > 1:
                maps.append(x)
            for block in blocks:
                x = block(x)
        return [*maps, x]

    def head(self, features: Tensor) -> Tensor:
        """The coarsest feature map (B, H, W, C) -> logits (B, classes)."""
        return super().head(self.top(features))


# Variants


def _efficientnet(width: float, depth: float, size: int, dropout: float, options: dict[str, Any]) -> EfficientNet:
    return EfficientNet(width, depth, **({"image_size": size, "dropout": dropout} | options))


TINY = {"stages": ((1, 8, 1, 1, 3), (2, 16, 2, 2, 5)), "stem": 8, "top": 16, "image_size": 16, "dropout": 0.0}


@model(test_variant=TINY)
def efficientnet_b0(**options):
    """EfficientNet-B0: 5.3 million parameters."""
    return _efficientnet(1.0, 1.0, 224, 0.2, options)


@model()
def efficientnet_b1(**options):
    """EfficientNet-B1: 7.8 million parameters."""
    return _efficientnet(1.0, 1.1, 240, 0.2, options)


@model()
def efficientnet_b2(**options):
    """EfficientNet-B2: 9.1 million parameters."""
    return _efficientnet(1.1, 1.2, 260, 0.3, options)


@model()
def efficientnet_b3(**options):
    """EfficientNet-B3: 12 million parameters."""
    return _efficientnet(1.2, 1.4, 300, 0.3, options)


@model()
def efficientnet_b4(**options):
    """EfficientNet-B4: 19 million parameters."""
    return _efficientnet(1.4, 1.8, 380, 0.4, options)


@model()
def efficientnet_b5(**options):
    """EfficientNet-B5: 30 million parameters."""
    return _efficientnet(1.6, 2.2, 456, 0.4, options)


@model()
def efficientnet_b6(**options):
    """EfficientNet-B6: 43 million parameters."""
    return _efficientnet(1.8, 2.6, 528, 0.5, options)


@model()
def efficientnet_b7(**options):
    """EfficientNet-B7: 66 million parameters."""
    return _efficientnet(2.0, 3.1, 600, 0.5, options)


# Weights

_NAMES = [
    (r"^stem\.conv\.", "conv_stem."),
    (r"^stem\.norm\.", "bn1."),
    (r"^top\.conv\.", "conv_head."),
    (r"^top\.norm\.", "bn2."),
    (r"^stages\.0\.(\d+)\.depthwise\.conv\.", r"blocks.0.\1.conv_dw."),  # the first stage does not expand
    (r"^stages\.0\.(\d+)\.depthwise\.norm\.", r"blocks.0.\1.bn1."),
    (r"^stages\.0\.(\d+)\.project\.conv\.", r"blocks.0.\1.conv_pw."),
    (r"^stages\.0\.(\d+)\.project\.norm\.", r"blocks.0.\1.bn2."),
    (r"^stages\.", "blocks."),
    (r"\.expand\.conv\.", ".conv_pw."),
    (r"\.expand\.norm\.", ".bn1."),
    (r"\.depthwise\.conv\.", ".conv_dw."),
    (r"\.depthwise\.norm\.", ".bn2."),
    (r"\.project\.conv\.", ".conv_pwl."),
    (r"\.project\.norm\.", ".bn3."),
    (r"\.excite\.reduce\.", ".se.conv_reduce."),
    (r"\.excite\.expand\.", ".se.conv_expand."),
]


@converter(
    "timm",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    names=_NAMES,
)
def from_timm(config: dict[str, Any], **options: Any) -> EfficientNet:
    """The networks of timm of these names, trained in PyTorch."""
    return globals()[config["architecture"]](**options)


@converter(
    "timm",
    "tf_efficientnet_b0",
    "tf_efficientnet_b1",
    "tf_efficientnet_b2",
    "tf_efficientnet_b3",
    "tf_efficientnet_b4",
    "tf_efficientnet_b5",
    "tf_efficientnet_b6",
    "tf_efficientnet_b7",
    names=_NAMES,
)
def from_timm_of_tensorflow(config: dict[str, Any], **options: Any) -> EfficientNet:
    """The networks of timm that were trained in TensorFlow."""
    ours = config["architecture"].removeprefix("tf_")
    return globals()[ours](**({"padding": "same", "epsilon": 1e-3} | options))
