"""EfficientNetV2: EfficientNet with plain convolutions in its first stages (Tan, Le, 2021)."""

from __future__ import annotations

import math
from typing import Any

from ...core import Tensor
from ...layers import Layer, StochasticDepth
from ..registry import converter, model
from .classifier import TENSORFLOW, ConvNorm, StagedClassifier, drop_rates, with_keras_pixels
from .efficientnet import MBConv


class FusedMBConv(Layer):
    """Expand by a 3×3 convolution, project: (B, H, W, C) -> (B, H / stride, W / stride, filters)

    Args:
        channels: those of the input.
        expansion: of the channels in between; 1 for the 3×3 convolution alone.
        padding: "even" as in PyTorch, "same" as in TensorFlow.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        strides: int,
        expansion: int,
        drop: float = 0.0,
        padding: str = "even",
        epsilon: float = 1e-5,
        **options: Any,
    ):
        super().__init__(**options)
        common = {"padding": padding, "epsilon": epsilon}
        if expansion == 1:
            self.expand, self.project = None, ConvNorm(filters, 3, strides, activation="silu", **common)
        else:
            self.expand = ConvNorm(channels * expansion, 3, strides, activation="silu", **common)
            self.project = ConvNorm(filters, 1, activation=None, **common)
        self.drop = StochasticDepth(drop) if strides == 1 and channels == filters else None

    def call(self, x: Tensor) -> Tensor:
        y = self.project(x if self.expand is None else self.expand(x))
        return y if self.drop is None else x + self.drop(y)


class EfficientNetV2(StagedClassifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides 2, 4, 8, 16, 32.

    Args:
        stages: expansion, channels, blocks, stride of the first block, and whether the blocks are fused.
        stem: filters of the first convolution.
        top: channels before the pooling.
        padding: "even" as in PyTorch, "same" as in TensorFlow.
        epsilon: of the batch normalisation.
        drop_path: rate of stochastic depth at the last block.
        options: those of :class:`Classifier`.
    """

    def __init__(
        self,
        stages: tuple[tuple[int, int, int, int, bool], ...],
        stem: int = 24,
        top: int = 1280,
        padding: str = "even",
        epsilon: float = 1e-5,
        drop_path: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        common = {"padding": padding, "epsilon": epsilon}
        self.stem = ConvNorm(stem, 3, 2, activation="silu", **common)
        self.strides = [strides for _, _, _, strides, _ in stages]
        self.stages, channels = [], stem
        rates = drop_rates(drop_path, [blocks for _, _, blocks, _, _ in stages])
        for (expansion, filters, _, first, fused), drops in zip(stages, rates):
            stage = []
            for index, drop in enumerate(drops):
                strides = first if index == 0 else 1
                if fused:
                    stage.append(FusedMBConv(channels, filters, strides, expansion, drop, **common))
                else:
                    stage.append(MBConv(channels, filters, 3, strides, expansion, drop, **common))
                channels = filters
            self.stages.append(stage)
        self.top = ConvNorm(top, 1, activation="silu", **common)


# Stages as :class:`EfficientNetV2` takes them. B0 is what B1 to B3 are made of; the paper's own are S, M and L.
B0 = (
    (1, 16, 1, 1, True),
    (4, 32, 2, 2, True),
    (4, 48, 2, 2, True),
    (4, 96, 3, 2, False),
    (6, 112, 5, 1, False),
    (6, 192, 8, 2, False),
)
S = (
    (1, 24, 2, 1, True),
    (4, 48, 4, 2, True),
    (4, 64, 4, 2, True),
    (4, 128, 6, 2, False),
    (6, 160, 9, 1, False),
    (6, 256, 15, 2, False),
)
M = (
    (1, 24, 3, 1, True),
    (4, 48, 5, 2, True),
    (4, 80, 5, 2, True),
    (4, 160, 7, 2, False),
    (6, 176, 14, 1, False),
    (6, 304, 18, 2, False),
    (6, 512, 5, 1, False),
)
L = (
    (1, 32, 4, 1, True),
    (4, 64, 7, 2, True),
    (4, 96, 7, 2, True),
    (4, 192, 10, 2, False),
    (6, 224, 19, 1, False),
    (6, 384, 25, 2, False),
    (6, 640, 7, 1, False),
)


def _scaled(width: float, depth: float, size: int, dropout: float, options: dict[str, Any]) -> EfficientNetV2:
    """B0 with its channels, but not those of the expansion, and its blocks multiplied."""

    def channels(base: int) -> int:
        return int(base * width + 4) // 8 * 8

    stages = tuple((expansion, channels(base), math.ceil(n * depth), *rest) for expansion, base, n, *rest in B0)
    settings = {"stem": channels(32), "top": channels(1280), "image_size": size, "dropout": dropout}
    return EfficientNetV2(**({"stages": stages} | settings | options))


# Variants

TINY = ((1, 8, 1, 1, True), (2, 16, 2, 2, True), (2, 16, 2, 1, False))


@model(test_variant={"stages": TINY, "stem": 8, "top": 16, "image_size": 16, "dropout": 0.0})
def efficientnetv2_s(stages=S, **options):
    """EfficientNetV2-S: 21.5 million parameters."""
    return EfficientNetV2(stages, **({"image_size": 384, "dropout": 0.2} | options))


@model()
def efficientnetv2_m(**options):
    """EfficientNetV2-M: 54.1 million parameters."""
    return EfficientNetV2(M, **({"image_size": 480, "dropout": 0.3} | options))


@model()
def efficientnetv2_l(**options):
    """EfficientNetV2-L: 118.5 million parameters."""
    return EfficientNetV2(L, **({"stem": 32, "image_size": 480, "dropout": 0.4} | options))


@model()
def efficientnetv2_b0(**options):
    """EfficientNetV2-B0: 7.1 million parameters."""
    return _scaled(1.0, 1.0, 224, 0.2, options)


@model()
def efficientnetv2_b1(**options):
    """EfficientNetV2-B1: 8.1 million parameters."""
    return _scaled(1.0, 1.1, 240, 0.2, options)


@model()
def efficientnetv2_b2(**options):
    """EfficientNetV2-B2: 10.1 million parameters."""
    return _scaled(1.1, 1.2, 260, 0.3, options)


@model()
def efficientnetv2_b3(**options):
    """EfficientNetV2-B3: 14.4 million parameters."""
    return _scaled(1.2, 1.4, 300, 0.3, options)


# Weights

_NAMES = [
    (r"^stem\.conv\.", "conv_stem."),
    (r"^stem\.norm\.", "bn1."),
    (r"^top\.conv\.", "conv_head."),
    (r"^top\.norm\.", "bn2."),
    (r"^stages\.0\.(\d+)\.project\.conv\.", r"blocks.0.\1.conv."),  # the first stage does not expand
    (r"^stages\.0\.(\d+)\.project\.norm\.", r"blocks.0.\1.bn1."),
    (r"^stages\.([12])\.(\d+)\.expand\.conv\.", r"blocks.\1.\2.conv_exp."),
    (r"^stages\.([12])\.(\d+)\.expand\.norm\.", r"blocks.\1.\2.bn1."),
    (r"^stages\.([12])\.(\d+)\.project\.norm\.", r"blocks.\1.\2.bn2."),
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


@converter("timm", "efficientnetv2_s", "efficientnetv2_m", "efficientnetv2_l", names=_NAMES)
def from_timm(config: dict[str, Any], **options: Any) -> EfficientNetV2:
    """The networks of timm of these names, trained in PyTorch."""
    return globals()[config["architecture"]](**options)


@converter(
    "timm",
    "tf_efficientnetv2_s",
    "tf_efficientnetv2_m",
    "tf_efficientnetv2_l",
    "tf_efficientnetv2_b0",
    "tf_efficientnetv2_b1",
    "tf_efficientnetv2_b2",
    "tf_efficientnetv2_b3",
    names=_NAMES,
    defaults=TENSORFLOW,
)
def from_timm_of_tensorflow(config: dict[str, Any], **options: Any) -> EfficientNetV2:
    """The networks of timm that were trained in TensorFlow."""
    ours = config["architecture"].removeprefix("tf_")
    return globals()[ours](**(TENSORFLOW | options))


_KERAS_NAMES = [
    (r"^stem\.conv/", "stem_conv/"),
    (r"^stem\.norm/", "stem_bn/"),
    (r"^top\.conv/", "top_conv/"),
    (r"^top\.norm/", "top_bn/"),
    (r"^stages\.(\d+)\.(\d+)\.", lambda m: f"block{int(m[1]) + 1}{chr(ord('a') + int(m[2]))}_"),
    (r"_depthwise\.conv/", "_dwconv2/"),
    (r"_depthwise\.norm/", "_bn/"),
    (r"_excite\.", "_se_"),
    (r"\.conv/", "_conv/"),
    (r"\.norm/", "_bn/"),
    (r"^classifier/", "predictions/"),
]


@converter(
    "keras",
    "efficientnetv2-s",
    "efficientnetv2-m",
    "efficientnetv2-l",
    "efficientnetv2-b0",
    "efficientnetv2-b1",
    "efficientnetv2-b2",
    "efficientnetv2-b3",
    names=_KERAS_NAMES,
    ignored=(r"^normalization_0/",),
)
def from_keras(config: dict[str, Any], **options: Any) -> EfficientNetV2:
    """keras.applications.EfficientNetV2, but for its layers that prepare the images."""
    name = config["name"].replace("-", "_")
    net = globals()[name](**(TENSORFLOW | options))
    return with_keras_pixels(net, "torch" if "_b" in name else "128")
