"""MobileNetV3: inverted residuals found by search, with hard swish and weighed channels (Howard et al., 2019)."""

from __future__ import annotations

from typing import Any

from ...core import Tensor, ops
from ...layers import Dense, Layer, StochasticDepth
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


class InvertedResidual(Layer):
    """Expand, filter each channel, perhaps weigh the channels, project: (B, H, W, C) -> (B, H / stride, …, filters)

    Args:
        width: channels between the convolutions; None for those of the input, without the expansion.
        excite: whether the channels are weighed; this takes ``width``.
        residual: whether the input is added to the output.
        padding: "even" as in PyTorch, "same" as in TensorFlow.
    """

    def __init__(
        self,
        filters: int,
        width: int | None,
        kernel_size: int,
        strides: int,
        excite: int | None,
        activation: str,
        residual: bool,
        drop: float = 0.0,
        padding: str = "even",
        epsilon: float = 1e-5,
        **options: Any,
    ):
        super().__init__(**options)
        common = {"padding": padding, "epsilon": epsilon}
        self.expand = ConvNorm(width, 1, activation=activation, **common) if width else None
        self.depthwise = ConvNorm(None, kernel_size, strides, activation=activation, **common)
        self.excite = SqueezeExcite(excite, gate="hard_sigmoid") if excite else None
        self.project = ConvNorm(filters, 1, activation=None, **common)
        self.drop = StochasticDepth(drop) if residual else None

    def call(self, x: Tensor) -> Tensor:
        y = self.depthwise(x if self.expand is None else self.expand(x))
        y = self.project(y if self.excite is None else self.excite(y))
        return y if self.drop is None else x + self.drop(y)


# Stages of (kernel size, width, channels, weighed, activation, stride): tables 1 and 2 of the paper.
LARGE = (
    ((3, 16, 16, False, "relu", 1),),
    ((3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1)),
    ((5, 72, 40, True, "relu", 2), (5, 120, 40, True, "relu", 1), (5, 120, 40, True, "relu", 1)),
    (
        (3, 240, 80, False, "hard_swish", 2),
        (3, 200, 80, False, "hard_swish", 1),
        (3, 184, 80, False, "hard_swish", 1),
        (3, 184, 80, False, "hard_swish", 1),
    ),
    ((3, 480, 112, True, "hard_swish", 1), (3, 672, 112, True, "hard_swish", 1)),
    (
        (5, 672, 160, True, "hard_swish", 2),
        (5, 960, 160, True, "hard_swish", 1),
        (5, 960, 160, True, "hard_swish", 1),
    ),
)
SMALL = (
    ((3, 16, 16, True, "relu", 2),),
    ((3, 72, 24, False, "relu", 2), (3, 88, 24, False, "relu", 1)),
    (
        (5, 96, 40, True, "hard_swish", 2),
        (5, 240, 40, True, "hard_swish", 1),
        (5, 240, 40, True, "hard_swish", 1),
    ),
    ((5, 120, 48, True, "hard_swish", 1), (5, 144, 48, True, "hard_swish", 1)),
    (
        (5, 288, 96, True, "hard_swish", 2),
        (5, 576, 96, True, "hard_swish", 1),
        (5, 576, 96, True, "hard_swish", 1),
    ),
)


class MobileNetV3(StagedClassifier):
    """(B, H, W, channels) -> (B, classes); a feature map for each resolution.

    Args:
        stages: kernel size, width, channels, whether weighed, activation and stride of each block.
        top: channels before the pooling.
        hidden: units after the pooling.
        padding: "even" as in PyTorch, "same" as in TensorFlow.
        epsilon: of the batch normalisation.
        drop_path: rate of stochastic depth at the last block.
        options: those of :class:`Classifier`.
    """

    _head_layers = ("top", "hidden", "dropout", "classifier")

    def __init__(
        self,
        stages: tuple[tuple[tuple[int, int, int, bool, str, int], ...], ...],
        top: int,
        hidden: int,
        padding: str = "even",
        epsilon: float = 1e-5,
        drop_path: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        common = {"padding": padding, "epsilon": epsilon}
        self.stem = ConvNorm(16, 3, 2, activation="hard_swish", **common)
        rates = drop_rates(drop_path, [len(stage) for stage in stages])
        self.stages, channels = [], 16
        for index, (stage, drops) in enumerate(zip(stages, rates)):
            blocks = []
            for (kernel_size, width, filters, weighed, activation, strides), drop in zip(stage, drops):
                excite = round_channels(width / 4) if weighed else None
                residual = strides == 1 and channels == filters
                blocks.append(
                    InvertedResidual(
                        filters,
                        width if index else None,
                        kernel_size,
                        strides,
                        excite,
                        activation,
                        residual,
                        drop,
                        **common,
                    )
                )
                channels = filters
            self.stages.append(blocks)
        self.strides = [stage[0][-1] for stage in stages]
        self.top = ConvNorm(top, 1, activation="hard_swish", **common)
        self.hidden = Dense(hidden, activation="hard_swish")

    def head(self, features: Tensor) -> Tensor:
        """The coarsest feature map (B, H, W, C) -> logits (B, classes)."""
        pooled = ops.mean(self.top(features), axis=(1, 2))
        return self.classifier(self.dropout(self.hidden(pooled)))


# Variants

TINY = (((3, 16, 16, True, "relu", 1),), ((5, 32, 24, True, "hard_swish", 2), (3, 32, 24, False, "relu", 1)))


@model(test_variant={"stages": TINY, "top": 16, "hidden": 16, "image_size": 16})
def mobilenet_v3_large(stages=LARGE, top=960, hidden=1280, **options):
    """MobileNetV3-Large: 5.5 million parameters."""
    return MobileNetV3(stages, top, hidden, **options)


@model()
def mobilenet_v3_small(**options):
    """MobileNetV3-Small: 2.5 million parameters."""
    return MobileNetV3(SMALL, 576, 1024, **options)


# Weights

_NAMES = [
    (r"^stem\.conv\.", "conv_stem."),
    (r"^stem\.norm\.", "bn1."),
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
    (r"\.excite\.reduce\.", ".se.conv_reduce."),
    (r"\.excite\.expand\.", ".se.conv_expand."),
    (r"^hidden\.", "conv_head."),
]
# The last convolution counts as a stage of its own.


@converter(
    "timm",
    "mobilenetv3_large_100",
    names=[*_NAMES, (r"^top\.conv\.", "blocks.6.0.conv."), (r"^top\.norm\.", "blocks.6.0.bn1.")],
)
def large_from_timm(config: dict[str, Any], **options: Any) -> MobileNetV3:
    """The larger network of timm."""
    return mobilenet_v3_large(**options)


@converter(
    "timm",
    "mobilenetv3_small_100",
    names=[*_NAMES, (r"^top\.conv\.", "blocks.5.0.conv."), (r"^top\.norm\.", "blocks.5.0.bn1.")],
)
def small_from_timm(config: dict[str, Any], **options: Any) -> MobileNetV3:
    """The smaller network of timm."""
    return mobilenet_v3_small(**options)


_KERAS = {"MobileNetV3Large": "mobilenet_v3_large", "MobileNetV3Small": "mobilenet_v3_small"}


def _keras_names(net: MobileNetV3) -> list:
    """Keras counts the blocks through; the first has no number."""
    return [
        (r"^stem\.conv/", "conv/"),
        (r"^stem\.norm/", "conv_bn/"),
        (r"^top\.conv/", "conv_1/"),
        (r"^top\.norm/", "conv_1_bn/"),
        (r"^hidden/", "conv_2/"),
        (r"^stages\.0\.0\.", "expanded_conv_"),
        (r"^stages\.(\d+)\.(\d+)\.", lambda m: f"expanded_conv_{net.block_number(m)}_"),
        (r"_excite\.reduce/", "_squeeze_excite_conv/"),
        (r"_excite\.expand/", "_squeeze_excite_conv_1/"),
        (r"\.conv/", "/"),
        (r"\.norm/", "_bn/"),
        (r"^classifier/", "logits/"),
    ]


@converter("keras", "MobileNetV3Large", "MobileNetV3Small", names=_keras_names)
def from_keras(config: dict[str, Any], **options: Any) -> MobileNetV3:
    """keras.applications.MobileNetV3Large and MobileNetV3Small."""
    entry = globals()[_KERAS.get(config["name"], config["name"])]
    return with_keras_pixels(entry(**(TENSORFLOW | options)), "tf")
