"""MobileNetV2: inverted residuals with linear bottlenecks (Sandler, Howard, Zhu, Zhmoginov, Chen, 2018)."""

from __future__ import annotations

import re
from typing import Any

from ...core import Tensor
from ...layers import Layer, StochasticDepth
from ..registry import converter, model
from .classifier import TENSORFLOW, ConvNorm, StagedClassifier, drop_rates, round_channels, with_keras_pixels


class InvertedResidual(Layer):
    """Expand, filter each channel, project: (B, H, W, C) -> (B, H / stride, W / stride, filters)

    Args:
        width: channels between the convolutions; None for those of the input, without the expansion.
        residual: whether the input is added to the output.
        options: those of :class:`ConvNorm`.
    """

    def __init__(
        self,
        filters: int,
        width: int | None,
        strides: int,
        residual: bool,
        drop: float = 0.0,
        padding: str = "even",
        epsilon: float = 1e-5,
        **options: Any,
    ):
        super().__init__(**options)
        common = {"padding": padding, "epsilon": epsilon}
        self.expand = ConvNorm(width, 1, activation="relu6", **common) if width else None
        self.depthwise = ConvNorm(None, 3, strides, activation="relu6", **common)
        self.project = ConvNorm(filters, 1, activation=None, **common)
        self.drop = StochasticDepth(drop) if residual else None

    def call(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return y if self.drop is None else x + self.drop(y)


# Expansion, channels, blocks, stride of the first block: table 2 of the paper.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetV2(StagedClassifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides 2, 4, 8, 16, 32.

    Args:
        multiplier: of all channels.
        stages: expansion, channels, blocks and stride of each stage.
        stem: filters of the first convolution, before the multiplier.
        top: channels before the pooling; they are not multiplied by less than 1.
        padding: "even" as in PyTorch, "same" as in TensorFlow.
        epsilon: of the batch normalisation.
        drop_path: rate of stochastic depth at the last block.
        options: those of :class:`Classifier`.
    """

    def __init__(
        self,
        multiplier: float = 1.0,
        stages: tuple[tuple[int, int, int, int], ...] = STAGES,
        stem: int = 32,
        top: int = 1280,
        padding: str = "even",
        epsilon: float = 1e-5,
        drop_path: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        common = {"padding": padding, "epsilon": epsilon}
        channels = round_channels(stem * multiplier)
        self.stem = ConvNorm(channels, 3, 2, activation="relu6", **common)
        rates = drop_rates(drop_path, [blocks for _, _, blocks, _ in stages])
        self.stages = []
        self.strides = [strides for *_, strides in stages]
        for (expansion, base, _, first), drops in zip(stages, rates):
            width, stage = round_channels(base * multiplier), []
            for index, drop in enumerate(drops):
                strides = first if index == 0 else 1
                inner = channels * expansion if expansion > 1 else None
                residual = strides == 1 and channels == width
                stage.append(InvertedResidual(width, inner, strides, residual, drop, **common))
                channels = width
            self.stages.append(stage)
        self.top = ConvNorm(round_channels(top * max(multiplier, 1.0)), 1, activation="relu6", **common)


# Variants


@model(test_variant={"stages": ((1, 8, 1, 1), (2, 16, 2, 2)), "stem": 8, "top": 16, "image_size": 16})
def mobilenet_v2(**options):
    """MobileNetV2: 3.5 million parameters."""
    return MobileNetV2(**options)


@model()
def mobilenet_v2_050(**options):
    """MobileNetV2 with half the channels: 2.0 million parameters."""
    return MobileNetV2(0.5, **options)


@model()
def mobilenet_v2_140(**options):
    """MobileNetV2 with 1.4 times the channels: 6.1 million parameters."""
    return MobileNetV2(1.4, **options)


# Weights


def _place(match: re.Match) -> str:
    """Transformers counts the blocks through, and has the first one in its stem."""
    stage, block = int(match[1]), int(match[2])
    if stage == 0:
        return "mobilenet_v2.conv_stem."
    return f"mobilenet_v2.layer.{sum(blocks for _, _, blocks, _ in STAGES[1:stage]) + block}."


@converter(
    "transformers",
    "mobilenet_v2",
    names=[
        (r"^stem\.", "mobilenet_v2.conv_stem.first_conv."),
        (r"^stages\.(\d+)\.(\d+)\.", _place),
        (r"^top\.", "mobilenet_v2.conv_1x1."),
        (r"\.expand\.", ".expand_1x1."),
        (r"\.depthwise\.", ".conv_3x3."),
        (r"\.project\.", ".reduce_1x1."),
        (r"\.conv\.", ".convolution."),
        (r"\.norm\.", ".normalization."),
    ],
    defaults=TENSORFLOW,
)
def from_transformers(config: dict[str, Any], **options: Any) -> MobileNetV2:
    """MobileNetV2ForImageClassification, converted from TensorFlow with its padding."""
    expected = {"output_stride": 32, "expand_ratio": 6, "depth_divisible_by": 8, "first_layer_is_expansion": True}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key} is {config[key]}; only {value} is implemented")
    multiplier = config.get("depth_multiplier", 1.0)
    top = 1280 if config.get("finegrained_output", True) else 1280 * min(multiplier, 1.0)
    settings = {
        "padding": "same" if config.get("tf_padding", True) else "even",
        "epsilon": config.get("layer_norm_eps", 1e-3),
        "dropout": config.get("classifier_dropout_prob", 0.0),
        "channels": config.get("num_channels", 3),
    }
    return MobileNetV2(multiplier, top=top, **(settings | options))


_TIMM = {"mobilenetv2_050": 0.5, "mobilenetv2_100": 1.0, "mobilenetv2_140": 1.4}


@converter(
    "timm",
    "mobilenetv2_050",
    "mobilenetv2_100",
    "mobilenetv2_140",
    names=[
        (r"^stem\.conv\.", "conv_stem."),
        (r"^stem\.norm\.", "bn1."),
        (r"^top\.conv\.", "conv_head."),
        (r"^top\.norm\.", "bn2."),
        (r"^stages\.0\.0\.depthwise\.conv\.", "blocks.0.0.conv_dw."),  # the first block does not expand
        (r"^stages\.0\.0\.depthwise\.norm\.", "blocks.0.0.bn1."),
        (r"^stages\.0\.0\.project\.conv\.", "blocks.0.0.conv_pw."),
        (r"^stages\.0\.0\.project\.norm\.", "blocks.0.0.bn2."),
        (r"^stages\.", "blocks."),
        (r"\.expand\.conv\.", ".conv_pw."),
        (r"\.expand\.norm\.", ".bn1."),
        (r"\.depthwise\.conv\.", ".conv_dw."),
        (r"\.depthwise\.norm\.", ".bn2."),
        (r"\.project\.conv\.", ".conv_pwl."),
        (r"\.project\.norm\.", ".bn3."),
    ],
)
def from_timm(config: dict[str, Any], **options: Any) -> MobileNetV2:
    """The networks of timm of these names."""
    return MobileNetV2(_TIMM[config["architecture"]], **options)


_KERAS = {
    "mobilenetv2_1.00": "mobilenet_v2",
    "mobilenetv2_0.50": "mobilenet_v2_050",
    "mobilenetv2_1.40": "mobilenet_v2_140",
}


def _keras_names(net: MobileNetV2) -> list:
    """Keras counts the blocks through; the first has a name of its own."""
    return [
        (r"^stem\.conv/", "Conv1/"),
        (r"^stem\.norm/", "bn_Conv1/"),
        (r"^top\.conv/", "Conv_1/"),
        (r"^top\.norm/", "Conv_1_bn/"),
        (r"^stages\.0\.0\.", "expanded_conv_"),
        (r"^stages\.(\d+)\.(\d+)\.", lambda m: f"block_{net.block_number(m)}_"),
        (r"\.conv/", "/"),
        (r"\.norm/", "_BN/"),
        (r"^classifier/", "predictions/"),
    ]


@converter("keras", "mobilenetv2_1.00", "mobilenetv2_0.50", "mobilenetv2_1.40", names=_keras_names)
def from_keras(config: dict[str, Any], **options: Any) -> MobileNetV2:
    """keras.applications.MobileNetV2."""
    entry = globals()[_KERAS.get(config["name"], config["name"])]
    return with_keras_pixels(entry(**(TENSORFLOW | options)), "tf")
