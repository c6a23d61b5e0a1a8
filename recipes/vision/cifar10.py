"""Tell ten kinds of things apart on the colour photographs of CIFAR-10, 32 × 32 pixels.

Four convolutions, each with batch normalisation and a pooling that halves the picture. Residual nets reach
more, and take much longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ... import layers, training
from ..image_prediction import explain_images, predict_images
from ..registry import Metrics, recipe
from ._classification import ClassificationConfig, mirrored, moved, train_classifier

if TYPE_CHECKING:
    from ..run_folder import RunFolder


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Options of ``tenzoo run vision/cifar10``."""

    epochs: int = 15
    batch_size: int = 128
    weight_decay: float = 5e-3


def build(shape: tuple[int, int, int], classes: int, scale: float) -> training.Model:
    """Return the net: (B, 32, 32, 3) -> (B, 10) logits."""
    pixels = layers.Input(shape)
    x = layers.Rescaling(2 * scale, offset=-1)(pixels)
    for filters in (32, 64, 128, 128):  # (B, 32, 32, 3) -> (B, 2, 2, 128)
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.95)(x)
        x = layers.Activation("relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.3)(x)
    return training.Model(pixels, layers.Dense(classes)(x))


def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror half of the photographs, and move each by up to four pixels."""
    return moved(mirrored(images, rng), rng, rows=4, columns=4)


@recipe(
    Config,
    smoke={"epochs": 1, "data": "synthetic", "limit": 64},
    predict=predict_images,
    explain=explain_images,
)
def run(config: Config, run: RunFolder) -> Metrics:
    """Train, test, and leave model and pictures in the folder."""
    return train_classifier(config, run, "cifar10", build, augment)
