"""AlexNet, in the form for one processor (Krizhevsky, 2014; Krizhevsky, Sutskever, Hinton, 2012)."""

from __future__ import annotations

from typing import Any

from ...core import Tensor, ops
from ...layers import Dense, Flatten
from ..registry import model
from .classifier import Classifier, Conv


class AlexNet(Classifier):
    """(B, 224, 224, channels) -> (B, classes); feature maps of 55, 27, 13 and 6 pixels.

    Args:
        widths: filters of the five convolutions.
        hidden: units of the two layers before the last.
        dropout: before each of these.
        options: those of :class:`Classifier`.
    """

    _head_layers = ("flatten", "hidden1", "hidden2", "dropout", "classifier")

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 192, 384, 256, 256),
        hidden: int = 4096,
        dropout: float = 0.5,
        **options: Any,
    ):
        super().__init__(dropout=dropout, **options)
        common = {"activation": "relu", "use_bias": True}
        # Two more rows on one side than on the other would do for 227 pixels; 224 take two on both.
        self.padding = [(0, 0), (2, 2), (2, 2), (0, 0)]
        self.convs = [
            Conv(widths[0], 11, 4, "valid", **common),
            Conv(widths[1], 5, **common),
            *(Conv(width, 3, **common) for width in widths[2:]),
        ]
        self.flatten = Flatten()
        self.hidden1, self.hidden2 = Dense(hidden, activation="relu"), Dense(hidden, activation="relu")

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps before each pooling, and the last one."""
        first = self.convs[0](ops.pad(images, self.padding))
        second = self.convs[1](ops.max_pool(first, 3, 2))
        third = ops.max_pool(second, 3, 2)
        for conv in self.convs[2:]:
            third = conv(third)
        return [first, second, third, ops.max_pool(third, 3, 2)]

    def head(self, features: Tensor) -> Tensor:
        """The last feature map (B, 6, 6, C) -> logits (B, classes)."""
        x = self.hidden1(self.dropout(self.flatten(features)))
        return self.classifier(self.hidden2(self.dropout(x)))


@model(test_variant={"widths": (8, 8, 8, 8, 8), "hidden": 16, "image_size": 64, "dropout": 0.0})
def alexnet(**options):
    """AlexNet: 61.1 million parameters."""
    return AlexNet(**options)
