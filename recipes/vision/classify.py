"""Train any image classifier of the zoo on any folder of images, at any size.

From random weights or from trained ones. Without a folder it learns to tell generated shapes apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...training import utils
from ..image_prediction import explain_images, predict_images
from ..registry import Metrics, recipe
from ._own_pictures import OwnPicturesConfig, finish, fit, load, make_model

if TYPE_CHECKING:
    from ..run_folder import RunFolder


@dataclass(frozen=True)
class Config(OwnPicturesConfig):
    """Options of ``tenzoo run vision/classify``."""

    model: str = "resnet20"
    """Name of a model; `tenzoo models` lists them."""
    weights: str | None = None
    """Trained weights to begin with: their name, such as `imagenet`, or a file; random ones without."""
    image_size: int = 32
    """Side of the images that the model sees, in pixels; larger ones show more and take longer."""
    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    drop_path: float | None = None
    """Rate of stochastic depth at the last block, for models that have it."""


@recipe(
    Config,
    smoke={"model": "lenet5", "epochs": 1, "limit": 54, "batch_size": 64, "image_size": 16},
    expected={"test.accuracy": (">=", 0.45)},  # of six shapes; seeds 0, 1, 2 gave 0.65, 0.52, 0.71
    predict=predict_images,
    explain=explain_images,
)
def run(config: Config, run: RunFolder) -> Metrics:
    """Train, test, and leave model and pictures in the folder."""
    splits = load(config, config.image_size)
    utils.set_random_seed(config.seed)
    options = {} if config.drop_path is None else {"drop_path": config.drop_path}
    model = make_model(config.model, splits, config.image_size, weights=config.weights, **options)
    fit(model, splits, config, run, epochs=config.epochs, learning_rate=config.learning_rate)
    return finish(model, splits.test, config, run, skipped=splits.skipped)
