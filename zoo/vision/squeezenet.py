"""SqueezeNet: 1×1 convolutions that squeeze before those that expand (Iandola et al., 2016)."""

from __future__ import annotations

from typing import Any

from ...core import Tensor, ops
from ...layers import Layer
from ..registry import model
from .classifier import Classifier, Conv


class Fire(Layer):
    """Squeeze to few channels, expand by 1×1 and 3×3 convolutions: (B, H, W, C) -> (B, H, W, 2 · expand)"""

    def __init__(self, squeeze: int, expand: int, **options: Any):
        super().__init__(**options)
        common = {"use_bias": True, "activation": "relu"}
        self.squeeze = Conv(squeeze, 1, **common)
        self.expand1, self.expand3 = Conv(expand, 1, **common), Conv(expand, 3, **common)

    def call(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return ops.concatenate([self.expand1(x), self.expand3(x)], axis=-1)


class SqueezeNet(Classifier):
    """(B, H, W, channels) -> (B, classes); a feature map for each resolution.

    The classifier is a layer over the mean of the last map, which gives the same logits as the mean of a classifier at
    each of its pixels, but for the ReLU of the paper after it.

    Args:
        stages: squeezing and expanding filters of the modules between two poolings.
        stem: filters of the first convolution.
        dropout: before the classifier.
        options: those of :class:`Classifier`.
    """

    def __init__(
        self,
        stages: tuple[tuple[tuple[int, int], ...], ...],
        stem: int = 64,
        dropout: float = 0.5,
        **options: Any,
    ):
        super().__init__(dropout=dropout, **options)
        self.stem = Conv(stem, 3, 2, "valid", use_bias=True, activation="relu")
        self.stages = [[Fire(squeeze, expand) for squeeze, expand in stage] for stage in stages]

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps before each pooling, and the last one."""
        x = self.stem(images)
        maps = [x]
        for stage in self.stages:
            x = ops.max_pool(x, 3, 2)
            for fire in stage:
                x = fire(x)
            maps.append(x)
        return maps


STAGES = (((16, 64),) * 2, ((32, 128),) * 2, ((48, 192), (48, 192), (64, 256), (64, 256)))


@model(test_variant={"stages": (((8, 8),), ((8, 8), (8, 16))), "stem": 8, "image_size": 33, "dropout": 0.0})
def squeezenet1_1(stages=STAGES, **options):
    """SqueezeNet 1.1: 1.2 million parameters."""
    return SqueezeNet(stages, **options)
