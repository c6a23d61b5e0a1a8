"""MobileNet: convolutions of each channel, then of each pixel (Howard, Zhu, Chen, Kalenichenko et al., 2017)."""

from __future__ import annotations

from typing import Any

from ...core import Tensor
from ...layers import Layer
from ..registry import converter, model
from .classifier import TENSORFLOW, ConvNorm, StagedClassifier, with_keras_pixels


class SeparableConv(Layer):
    """Filter each channel, then mix them: (B, H, W, C) -> (B, H / stride, W / stride, filters)"""

    def __init__(self, filters: int, strides: int, padding: str = "even", epsilon: float = 1e-5, **options: Any):
        super().__init__(**options)
        common = {"activation": "relu6", "padding": padding, "epsilon": epsilon}
        self.depthwise, self.pointwise = ConvNorm(None, 3, strides, **common), ConvNorm(filters, 1, **common)

    def call(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


# Channels, blocks, stride of the first block: table 1 of the paper.
STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))


class MobileNetV1(StagedClassifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides 2, 4, 8, 16, 32.

    Args:
        multiplier: of all channels, of which there are at least 8.
        stages: channels, blocks and stride of each stage.
        stem: filters of the first convolution, before the multiplier.
        padding: "even" as in PyTorch, "same" as in TensorFlow.
        epsilon: of the batch normalisation.
        options: those of :class:`Classifier`.
    """

    def __init__(
        self,
        multiplier: float = 1.0,
        stages: tuple[tuple[int, int, int], ...] = STAGES,
        stem: int = 32,
        padding: str = "even",
        epsilon: float = 1e-5,
        **options: Any,
    ):
        super().__init__(**options)
        common = {"padding": padding, "epsilon": epsilon}

        def channels(base: int) -> int:
            return max(8, int(base * multiplier))

        self.stem = ConvNorm(channels(stem), 3, 2, activation="relu6", **common)
        self.strides = [strides for _, _, strides in stages]
        self.stages = [
            [SeparableConv(channels(base), 1 if index else strides, **common) for index in range(blocks)]
            for base, blocks, strides in stages
        ]
        self.top = None


# Variants


@model(test_variant={"stages": ((8, 1, 1), (16, 2, 2)), "stem": 8, "image_size": 16})
def mobilenet_v1(**options):
    """MobileNet: 4.2 million parameters."""
    return MobileNetV1(**options)


@model()
def mobilenet_v1_075(**options):
    """MobileNet with 0.75 times the channels: 2.6 million parameters."""
    return MobileNetV1(0.75, **options)


@model()
def mobilenet_v1_050(**options):
    """MobileNet with half the channels: 1.3 million parameters."""
    return MobileNetV1(0.5, **options)


@model()
def mobilenet_v1_025(**options):
    """MobileNet with a quarter of the channels: 0.5 million parameters."""
    return MobileNetV1(0.25, **options)


# Weights


def _transformers_names(net: MobileNetV1) -> list:
    """Transformers counts the convolutions through."""
    return [
        (r"^stem\.", "mobilenet_v1.conv_stem."),
        (r"^stages\.(\d+)\.(\d+)\.depthwise\.", lambda m: f"mobilenet_v1.layer.{2 * net.block_number(m)}."),
        (r"^stages\.(\d+)\.(\d+)\.pointwise\.", lambda m: f"mobilenet_v1.layer.{2 * net.block_number(m) + 1}."),
        (r"\.conv\.", ".convolution."),
        (r"\.norm\.", ".normalization."),
    ]


@converter("transformers", "mobilenet_v1", names=_transformers_names, defaults=TENSORFLOW)
def from_transformers(config: dict[str, Any], **options: Any) -> MobileNetV1:
    """MobileNetV1ForImageClassification, converted from TensorFlow with its padding."""
    for key, value in {"hidden_act": "relu6", "min_depth": 8}.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key} is {config[key]!r}; only {value!r} is implemented")
    settings = {
        "padding": "same" if config.get("tf_padding", True) else "even",
        "epsilon": config.get("layer_norm_eps", 1e-3),
        "dropout": config.get("classifier_dropout_prob", 0.999),
        "channels": config.get("num_channels", 3),
    }
    return MobileNetV1(config.get("depth_multiplier", 1.0), **(settings | options))


@converter(
    "timm",
    "mobilenetv1_100",
    "mobilenetv1_125",
    names=[
        (r"^stem\.conv\.", "conv_stem."),
        (r"^stem\.norm\.", "bn1."),
        (r"^stages\.", "blocks."),
        (r"\.depthwise\.conv\.", ".conv_dw."),
        (r"\.depthwise\.norm\.", ".bn1."),
        (r"\.pointwise\.conv\.", ".conv_pw."),
        (r"\.pointwise\.norm\.", ".bn2."),
    ],
)
def from_timm(config: dict[str, Any], **options: Any) -> MobileNetV1:
    """The networks of timm of these names, without their head's convolution."""
    return MobileNetV1(int(config["architecture"][-3:]) / 100, **options)


_KERAS = {
    "mobilenet_1.00": "mobilenet_v1",
    "mobilenet_0.75": "mobilenet_v1_075",
    "mobilenet_0.50": "mobilenet_v1_050",
    "mobilenet_0.25": "mobilenet_v1_025",
}


def _keras_names(net: MobileNetV1) -> list:
    """Keras counts the blocks through, from 1 on."""
    return [
        (r"^stem\.conv/", "conv1/"),
        (r"^stem\.norm/", "conv1_bn/"),
        (r"^stages\.(\d+)\.(\d+)\.depthwise\.", lambda m: f"conv_dw_{net.block_number(m) + 1}."),
        (r"^stages\.(\d+)\.(\d+)\.pointwise\.", lambda m: f"conv_pw_{net.block_number(m) + 1}."),
        (r"\.conv/", "/"),
        (r"\.norm/", "_bn/"),
        (r"^classifier/", "conv_preds/"),
    ]


@converter("keras", "mobilenet_1.00", "mobilenet_0.75", "mobilenet_0.50", "mobilenet_0.25", names=_keras_names)
def from_keras(config: dict[str, Any], **options: Any) -> MobileNetV1:
    """keras.applications.MobileNet."""
    entry = globals()[_KERAS.get(config["name"], config["name"])]
    return with_keras_pixels(entry(**(TENSORFLOW | options)), "tf")
