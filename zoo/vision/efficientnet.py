"""EfficientNet: depth, width and resolution scaled together (Tan, Le, 2019)."""

from __future__ import annotations

import math
from typing import Any

from ...core import Tensor
from ...layers import Layer, StochasticDepth
from ..registry import converter, model
from .classifier import (
    TENSORFLOW,
    ConvNorm,
    SqueezeExcite,
    StagedClassifier,
    drop_rates,
    round_channels,
    with_keras_pixels,
)


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


class EfficientNet(StagedClassifier):
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


def _transformers_names(net: EfficientNet) -> list:
    """Transformers counts the blocks through."""
    return [
        (r"^stem\.conv\.", "efficientnet.embeddings.convolution."),
        (r"^stem\.norm\.", "efficientnet.embeddings.batchnorm."),
        (r"^top\.conv\.", "efficientnet.encoder.top_conv."),
        (r"^top\.norm\.", "efficientnet.encoder.top_bn."),
        (r"^stages\.(\d+)\.(\d+)\.", lambda m: f"efficientnet.encoder.blocks.{net.block_number(m)}."),
        (r"\.expand\.conv\.", ".expansion.expand_conv."),
        (r"\.expand\.norm\.", ".expansion.expand_bn."),
        (r"\.depthwise\.conv\.", ".depthwise_conv.depthwise_conv."),
        (r"\.depthwise\.norm\.", ".depthwise_conv.depthwise_norm."),
        (r"\.excite\.", ".squeeze_excite."),
        (r"\.project\.conv\.", ".projection.project_conv."),
        (r"\.project\.norm\.", ".projection.project_bn."),
    ]


@converter("transformers", "efficientnet", names=_transformers_names, defaults=TENSORFLOW)
def from_transformers(config: dict[str, Any], **options: Any) -> EfficientNet:
    """EfficientNetForImageClassification, converted from TensorFlow with its padding."""
    expected = {"hidden_act": ("swish", "silu"), "pooling_type": ("mean",), "squeeze_expansion_ratio": (0.25,)}
    for key, values in {**expected, "depth_divisor": (8,)}.items():
        if config.get(key, values[0]) not in values:
            raise ValueError(f"{key} is {config[key]!r}; only {values[0]!r} is implemented")
    width = config["width_coefficient"]
    keys = ("expand_ratios", "out_channels", "num_block_repeats", "strides", "kernel_sizes")
    settings = {
        "stages": tuple(zip(*(config[key] for key in keys), strict=True)),
        "top": config["hidden_dim"] / width,
        "padding": "same",
        "epsilon": config.get("batch_norm_eps", 1e-3),
        "dropout": config.get("dropout_rate", 0.5),
        "channels": config.get("num_channels", 3),
    }
    return EfficientNet(width, config["depth_coefficient"], **(settings | options))


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
    defaults=TENSORFLOW,
)
def from_timm_of_tensorflow(config: dict[str, Any], **options: Any) -> EfficientNet:
    """The networks of timm that were trained in TensorFlow."""
    ours = config["architecture"].removeprefix("tf_")
    return globals()[ours](**(TENSORFLOW | options))


_KERAS_NAMES = [
    (r"^stem\.conv/", "stem_conv/"),
    (r"^stem\.norm/", "stem_bn/"),
    (r"^top\.conv/", "top_conv/"),
    (r"^top\.norm/", "top_bn/"),
    (r"^stages\.(\d+)\.(\d+)\.", lambda m: f"block{int(m[1]) + 1}{chr(ord('a') + int(m[2]))}_"),
    (r"_depthwise\.conv/", "_dwconv/"),
    (r"_depthwise\.norm/", "_bn/"),
    (r"_excite\.", "_se_"),
    (r"\.conv/", "_conv/"),
    (r"\.norm/", "_bn/"),
    (r"^classifier/", "predictions/"),
]


@converter(
    "keras",
    "efficientnetb0",
    "efficientnetb1",
    "efficientnetb2",
    "efficientnetb3",
    "efficientnetb4",
    "efficientnetb5",
    "efficientnetb6",
    "efficientnetb7",
    names=_KERAS_NAMES,
    ignored=(r"^normalization_0/",),
)
def from_keras(config: dict[str, Any], **options: Any) -> EfficientNet:
    """keras.applications.EfficientNetB0 to B7, but for their layers that prepare the images."""
    entry = globals()[config["name"].replace("efficientnetb", "efficientnet_b")]
    return with_keras_pixels(entry(**(TENSORFLOW | options)), "torch")
