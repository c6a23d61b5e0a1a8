"""RegNet: residual networks whose widths grow linearly, found by narrowing a space of designs.

Radosavovic, Kosaraju, Girshick, He, Dollár: Designing Network Design Spaces (2020). X has plain blocks; those of Y
weigh their channels.
"""

from __future__ import annotations

from typing import Any

from ...core import Tensor, ops
from ...layers import Layer, StochasticDepth
from ..registry import converter, model, weights
from .classifier import ConvNorm, SqueezeExcite, StagedClassifier, drop_rates


class Block(Layer):
    """1×1, 3×3 and 1×1 convolutions of one width and a shortcut: (B, H, W, C) -> (B, H / stride, W / stride, filters)

    Args:
        groups: of the 3×3 convolution.
        hidden: units of the layer that weighs the channels; None for no weighing.
        project: whether the shortcut is a convolution.
    """

    def __init__(
        self,
        filters: int,
        strides: int,
        groups: int,
        hidden: int | None,
        project: bool,
        drop: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.conv1 = ConvNorm(filters, 1)
        self.conv2 = ConvNorm(filters, 3, strides, groups=groups)
        self.excite = SqueezeExcite(hidden) if hidden else None
        self.conv3 = ConvNorm(filters, 1, activation=None)
        self.shortcut = ConvNorm(filters, 1, strides, activation=None) if project else None
        self.drop = StochasticDepth(drop)

    def call(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        y = self.drop(self.conv3(y if self.excite is None else self.excite(y)))
        return ops.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class RegNet(StagedClassifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides 2, 4, 8, 16, 32.

    Args:
        depths: blocks in each stage, each of which halves the resolution.
        widths: channels of each stage.
        group_width: channels in each group of the 3×3 convolutions.
        weighed: whether the blocks weigh their channels: RegNetY.
        stem: filters of the first convolution.
        drop_path: rate of stochastic depth at the last block.
        options: those of :class:`Classifier`.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        group_width: int,
        weighed: bool = False,
        stem: int = 32,
        drop_path: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.weighed = weighed
        self.stem = ConvNorm(stem, 3, 2)
        self.strides = [2] * len(depths)
        self.stages, channels = [], stem
        for width, drops in zip(widths, drop_rates(drop_path, depths), strict=True):
            groups, stage = max(1, width // group_width), []
            for index, drop in enumerate(drops):
                hidden = round(channels / 4) if weighed else None
                stage.append(Block(width, 1 if index else 2, groups, hidden, index == 0, drop))
                channels = width
            self.stages.append(stage)
        self.top = None


# Variants, named after their billions of multiplications: 002 does 0.2, 320 does 32.

TINY = {"depths": (1, 2), "widths": (16, 24), "group_width": 8, "stem": 8, "image_size": 32}


@model(test_variant=TINY)
def regnetx_002(depths=(1, 1, 4, 7), widths=(24, 56, 152, 368), group_width=8, **options):
    """RegNetX-200MF: 2.7 million parameters."""
    return RegNet(depths, widths, group_width, **options)


@model()
def regnetx_004(**options):
    """RegNetX-400MF: 5.2 million parameters."""
    return RegNet((1, 2, 7, 12), (32, 64, 160, 384), 16, **options)


@model()
def regnetx_006(**options):
    """RegNetX-600MF: 6.2 million parameters."""
    return RegNet((1, 3, 5, 7), (48, 96, 240, 528), 24, **options)


@model()
def regnetx_008(**options):
    """RegNetX-800MF: 7.3 million parameters."""
    return RegNet((1, 3, 7, 5), (64, 128, 288, 672), 16, **options)


@model()
def regnetx_016(**options):
    """RegNetX-1.6GF: 9.2 million parameters."""
    return RegNet((2, 4, 10, 2), (72, 168, 408, 912), 24, **options)


@model()
def regnetx_032(**options):
    """RegNetX-3.2GF: 15.3 million parameters."""
    return RegNet((2, 6, 15, 2), (96, 192, 432, 1008), 48, **options)


@model()
def regnetx_040(**options):
    """RegNetX-4.0GF: 22.1 million parameters."""
    return RegNet((2, 5, 14, 2), (80, 240, 560, 1360), 40, **options)


@model()
def regnetx_064(**options):
    """RegNetX-6.4GF: 26.2 million parameters."""
    return RegNet((2, 4, 10, 1), (168, 392, 784, 1624), 56, **options)


@model()
def regnetx_080(**options):
    """RegNetX-8.0GF: 39.6 million parameters."""
    return RegNet((2, 5, 15, 1), (80, 240, 720, 1920), 120, **options)


@model()
def regnetx_120(**options):
    """RegNetX-12GF: 46.1 million parameters."""
    return RegNet((2, 5, 11, 1), (224, 448, 896, 2240), 112, **options)


@model()
def regnetx_160(**options):
    """RegNetX-16GF: 54.3 million parameters."""
    return RegNet((2, 6, 13, 1), (256, 512, 896, 2048), 128, **options)


@model()
def regnetx_320(**options):
    """RegNetX-32GF: 107.8 million parameters."""
    return RegNet((2, 7, 13, 1), (336, 672, 1344, 2520), 168, **options)


@model(test_variant=TINY)
def regnety_002(depths=(1, 1, 4, 7), widths=(24, 56, 152, 368), group_width=8, **options):
    """RegNetY-200MF: 3.2 million parameters."""
    return RegNet(depths, widths, group_width, weighed=True, **options)


@model()
def regnety_004(**options):
    """RegNetY-400MF: 4.3 million parameters."""
    return RegNet((1, 3, 6, 6), (48, 104, 208, 440), 8, weighed=True, **options)


@model()
def regnety_006(**options):
    """RegNetY-600MF: 6.1 million parameters."""
    return RegNet((1, 3, 7, 4), (48, 112, 256, 608), 16, weighed=True, **options)


@model()
def regnety_008(**options):
    """RegNetY-800MF: 6.3 million parameters."""
    return RegNet((1, 3, 8, 2), (64, 128, 320, 768), 16, weighed=True, **options)


@model()
def regnety_016(**options):
    """RegNetY-1.6GF: 11.2 million parameters."""
    return RegNet((2, 6, 17, 2), (48, 120, 336, 888), 24, weighed=True, **options)


@model()
def regnety_032(**options):
    """RegNetY-3.2GF: 19.4 million parameters."""
    return RegNet((2, 5, 13, 1), (72, 216, 576, 1512), 24, weighed=True, **options)


@model()
def regnety_040(**options):
    """RegNetY-4.0GF: 20.6 million parameters."""
    return RegNet((2, 6, 12, 2), (128, 192, 512, 1088), 64, weighed=True, **options)


@model()
def regnety_064(**options):
    """RegNetY-6.4GF: 30.6 million parameters."""
    return RegNet((2, 7, 14, 2), (144, 288, 576, 1296), 72, weighed=True, **options)


@model()
def regnety_080(**options):
    """RegNetY-8.0GF: 39.2 million parameters."""
    return RegNet((2, 4, 10, 1), (168, 448, 896, 2016), 56, weighed=True, **options)


@model()
def regnety_120(**options):
    """RegNetY-12GF: 51.8 million parameters."""
    return RegNet((2, 5, 11, 1), (224, 448, 896, 2240), 112, weighed=True, **options)


@model()
def regnety_160(**options):
    """RegNetY-16GF: 83.6 million parameters."""
    return RegNet((2, 4, 11, 1), (224, 448, 1232, 3024), 112, weighed=True, **options)


@model()
def regnety_320(**options):
    """RegNetY-32GF: 145.0 million parameters."""
    return RegNet((2, 5, 12, 1), (232, 696, 1392, 3712), 232, weighed=True, **options)


# Weights

# License and data as the model card on the hub states them.
weights(
    "regnety_032.imagenet",
    source="hf://timm/regnety_032.ra_in1k",
    license="apache-2.0",
    classes=1000,
    trained_on="ImageNet-1k",
)


def _transformers_names(net: RegNet) -> list:
    """Transformers counts the layers of a block, of which weighing is one."""
    last = 3 if net.weighed else 2
    return [
        (r"^stem\.", "regnet.embedder.embedder."),
        (r"^stages\.(\d+)\.(\d+)\.", r"regnet.encoder.stages.\1.layers.\2."),
        (r"\.conv1\.", ".layer.0."),
        (r"\.conv2\.", ".layer.1."),
        (r"\.excite\.reduce\.", ".layer.2.attention.0."),
        (r"\.excite\.expand\.", ".layer.2.attention.2."),
        (r"\.conv3\.", f".layer.{last}."),
        (r"\.conv\.", ".convolution."),
        (r"\.norm\.", ".normalization."),
        (r"^classifier\.", "classifier.1."),
    ]


@converter("transformers", "regnet", names=_transformers_names)
def from_transformers(config: dict[str, Any], **options: Any) -> RegNet:
    """RegNetForImageClassification."""
    for key, value in {"hidden_act": "relu", "downsample_in_first_stage": True}.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key} is {config[key]!r}; only {value!r} is implemented")
    settings = {
        "weighed": config.get("layer_type", "y") == "y",
        "stem": config.get("embedding_size", 32),
        "channels": config.get("num_channels", 3),
    }
    depths, widths = tuple(config["depths"]), tuple(config["hidden_sizes"])
    return RegNet(depths, widths, config["groups_width"], **(settings | options))


@converter(
    "timm",
    "regnetx_002",
    "regnetx_004",
    "regnetx_006",
    "regnetx_008",
    "regnetx_016",
    "regnetx_032",
    "regnetx_040",
    "regnetx_064",
    "regnetx_080",
    "regnetx_120",
    "regnetx_160",
    "regnetx_320",
    "regnety_002",
    "regnety_004",
    "regnety_006",
    "regnety_008",
    "regnety_016",
    "regnety_032",
    "regnety_040",
    "regnety_064",
    "regnety_080",
    "regnety_120",
    "regnety_160",
    "regnety_320",
    names=[
        (r"^stages\.(\d+)\.(\d+)\.", lambda m: f"s{int(m[1]) + 1}.b{int(m[2]) + 1}."),
        (r"\.excite\.reduce\.", ".se.fc1."),
        (r"\.excite\.expand\.", ".se.fc2."),
        (r"\.shortcut\.", ".downsample."),
        (r"\bnorm\.", "bn."),
        (r"^classifier\.", "head.fc."),
    ],
)
def from_timm(config: dict[str, Any], **options: Any) -> RegNet:
    """The networks of timm of these names."""
    return globals()[config["architecture"]](**options)
