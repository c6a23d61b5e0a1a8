"""ShuffleNet v2: half of the channels go through a block, then both halves are shuffled.

Ma, Zhang, Zheng, Sun: ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design (2018).
"""

from __future__ import annotations

from typing import Any

from ...core import Tensor, ops
from ...layers import Layer
from ..registry import converter, model
from .classifier import ConvNorm, StagedClassifier


class Unit(Layer):
    """Convolutions of half the channels beside the other half, shuffled: (B, H, W, C) -> (B, H / stride, …, filters)

    Args:
        strides: with 2, both halves are convolutions of all channels.
    """

    def __init__(self, filters: int, strides: int, **options: Any):
        super().__init__(**options)
        half = filters // 2
        self.expand = ConvNorm(half, 1)
        self.depthwise = ConvNorm(None, 3, strides, activation=None)
        self.project = ConvNorm(half, 1)
        self.shortcut = [ConvNorm(None, 3, strides, activation=None), ConvNorm(half, 1)] if strides > 1 else []

    def call(self, x: Tensor) -> Tensor:
        kept, changed = x, x
        if not self.shortcut:
            half = x.shape[-1] // 2
            kept, changed = x[..., :half], x[..., half:]
        for conv in self.shortcut:
            kept = conv(kept)
        changed = self.project(self.depthwise(self.expand(changed)))
        pairs = ops.stack([kept, changed], axis=-1)  # (B, H, W, filters / 2, 2): channels of the halves take turns
        return ops.reshape(pairs, (*pairs.shape[:3], -1))


class ShuffleNetV2(StagedClassifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides 2, 8, 16, 32.

    Args:
        widths: channels of each stage.
        depths: units in each stage, each of which halves the resolution.
        stem: filters of the first convolution.
        top: channels before the pooling.
        options: those of :class:`Classifier`.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        depths: tuple[int, ...] = (4, 8, 4),
        stem: int = 24,
        top: int = 1024,
        **options: Any,
    ):
        super().__init__(**options)
        self.stem = ConvNorm(stem, 3, 2)
        self.stages = [
            [Unit(width, 1 if index else 2) for index in range(depth)]
            for width, depth in zip(widths, depths, strict=True)
        ]
        self.top = ConvNorm(top, 1)

    def features(self, images: Tensor) -> list[Tensor]:
        """The first convolution's map, and the result of each stage."""
        maps = [self.stem(images)]
        x = ops.max_pool(maps[0], 3, 2, [(1, 1), (1, 1)])
        for units in self.stages:
            for unit in units:
                x = unit(x)
            maps.append(x)
        return maps


# Variants


@model()
def shufflenet_v2_x0_5(**options):
    """ShuffleNet v2 0.5×: 1.4 million parameters."""
    return ShuffleNetV2((48, 96, 192), **options)


@model(test_variant={"widths": (8, 16), "depths": (2, 1), "stem": 8, "top": 16, "image_size": 32})
def shufflenet_v2_x1_0(widths=(116, 232, 464), **options):
    """ShuffleNet v2 1×: 2.3 million parameters."""
    return ShuffleNetV2(widths, **options)


@model()
def shufflenet_v2_x1_5(**options):
    """ShuffleNet v2 1.5×: 3.5 million parameters."""
    return ShuffleNetV2((176, 352, 704), **options)


@model()
def shufflenet_v2_x2_0(**options):
    """ShuffleNet v2 2×: 7.4 million parameters."""
    return ShuffleNetV2((244, 488, 976), **({"top": 2048} | options))


# Weights


@converter(
    "torchvision",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
    names=[
        (r"^stem\.", "conv1."),
        (r"^top\.", "conv5."),
        (r"^stages\.(\d)\.(\d+)\.", lambda m: f"stage{int(m[1]) + 2}.{m[2]}."),
        (r"\.shortcut\.0\.", ".branch1."),
        (r"\.shortcut\.1\.conv\.", ".branch1.2."),
        (r"\.shortcut\.1\.norm\.", ".branch1.3."),
        (r"\.expand\.", ".branch2."),
        (r"\.depthwise\.conv\.", ".branch2.3."),
        (r"\.depthwise\.norm\.", ".branch2.4."),
        (r"\.project\.conv\.", ".branch2.5."),
        (r"\.project\.norm\.", ".branch2.6."),
        (r"\.conv\.", ".0."),
        (r"\.norm\.", ".1."),
        (r"^classifier\.", "fc."),
    ],
)
def from_torchvision(config: dict[str, Any], **options: Any) -> ShuffleNetV2:
    """The networks of torchvision of these names."""
    return globals()[config["architecture"]](**options)
