"""LeNet-5 with the activations of today (LeCun, Bottou, Bengio, Haffner, 1998)."""

from __future__ import annotations

from typing import Any

from ...core import Tensor
from ...layers import Conv2D, Dense, Flatten, MaxPooling2D
from ..registry import model
from .classifier import Classifier


class LeNet(Classifier):
    """(B, 28, 28, channels) -> (B, classes); feature maps of 14 and 5 pixels."""

    _head_layers = ("flatten", "hidden1", "hidden2", "dropout", "classifier")

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.conv1, self.pool1 = Conv2D(6, 5, padding="same", activation="relu"), MaxPooling2D(2)
        self.conv2, self.pool2 = Conv2D(16, 5, activation="relu"), MaxPooling2D(2)
        self.flatten = Flatten()
        self.hidden1, self.hidden2 = Dense(120, activation="relu"), Dense(84, activation="relu")

    def features(self, images: Tensor) -> list[Tensor]:
        """What comes out of the two poolings."""
        first = self.pool1(self.conv1(images))  # (B, 14, 14, 6)
        return [first, self.pool2(self.conv2(first))]  # (B, 5, 5, 16)

    def head(self, features: Tensor) -> Tensor:
        """The last feature map (B, 5, 5, 16) -> logits (B, classes)."""
        return self.classifier(self.dropout(self.hidden2(self.hidden1(self.flatten(features)))))


@model(test_variant={})
def lenet5(**options):
    """LeNet-5: 0.06 million parameters."""
    return LeNet(**({"classes": 10, "channels": 1, "image_size": 28} | options))
