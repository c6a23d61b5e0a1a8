"""Read handwritten digits of 8 × 8 pixels with a small convolutional net.

The data are the 1,797 digits of the UCI set that come with tenzoo. A fifth of each class is the test set, a
tenth of the rest is for validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ... import layers, training
from ..image_prediction import explain_images, predict_images
from ..registry import Metrics, recipe
from ._classification import ClassificationConfig, moved, train_classifier

if TYPE_CHECKING:
    from ..run_folder import RunFolder


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Options of ``tenzoo run vision/digits``."""

    epochs: int = 24
    batch_size: int = 32
    learning_rate: float = 5e-3


def build(shape: tuple[int, int, int], classes: int, scale: float) -> training.Sequential:
    """Return the net: (B, 8, 8, 1) -> (B, 10) logits."""

    def convolution(filters: int) -> list[layers.Layer]:
        return [
            layers.Conv2D(filters, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.Activation("relu"),
        ]

    return training.Sequential(
        [
            layers.Input(shape),
            layers.Rescaling(scale),
            *convolution(16),
            *convolution(32),
            layers.MaxPooling2D(2),  # (B, 4, 4, 32)
            *convolution(64),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(classes),
        ]
    )


def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move each digit by up to one column; every digit fills all rows, so none up or down."""
    return moved(images, rng, rows=0, columns=1)


@recipe(
    Config,
    smoke={"epochs": 1, "limit": 256},
    expected={"test.accuracy": (">=", 0.985)},
    predict=predict_images,
    explain=explain_images,
)
def run(config: Config, run: RunFolder) -> Metrics:
    """Train, test, and leave model and pictures in the folder."""
    return train_classifier(config, run, "digits", build, augment)
