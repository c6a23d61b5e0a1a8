"""Read the handwritten digits of MNIST, 28 × 28 pixels, with a small convolutional net."""

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
    """Options of ``tenzoo run vision/mnist``."""

    epochs: int = 5
    batch_size: int = 128


def build(shape: tuple[int, int, int], classes: int, scale: float) -> training.Sequential:
    """Return the net: (B, 28, 28, 1) -> (B, 10) logits."""
    return training.Sequential(
        [
            layers.Input(shape),
            layers.Rescaling(scale),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),  # (B, 14, 14, 16)
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),  # (B, 7, 7, 32)
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(classes),
        ]
    )


def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move each digit by up to two pixels."""
    return moved(images, rng, rows=2, columns=2)


@recipe(
    Config,
    smoke={"epochs": 1, "data": "synthetic", "limit": 128},
    predict=predict_images,
    explain=explain_images,
)
def run(config: Config, run: RunFolder) -> Metrics:
    """Train, test, and leave model and pictures in the folder."""
    return train_classifier(config, run, "mnist", build, augment)
