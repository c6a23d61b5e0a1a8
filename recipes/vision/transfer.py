"""Teach a trained image classifier new classes from few images: freeze, train the head, unfreeze.

First the new last layer alone is trained, on the features as they are; then all layers, the slower the nearer they are
to the image. The same net is trained from scratch for as many epochs, and the run reports the margin over it. Without
options a net that is trained here on ten generated shapes learns six other ones from a few pictures each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...layers.serialization import deserialize, serialize
from ...training import finetuning, utils
from ...zoo.vision.classifier import Classifier
from .. import pictures
from ..image_prediction import explain_images, predict_images
from ..registry import Metrics, recipe
from . import _shapes
from ._own_pictures import (
    GENERATED,
    OwnPicturesConfig,
    finish,
    fit,
    load,
    load_trained,
    make_model,
    prepared,
    scores,
    test_logits,
)

if TYPE_CHECKING:
    from ..run_folder import RunFolder


@dataclass(frozen=True)
class Config(OwnPicturesConfig):
    """Options of ``tenzoo run vision/transfer``."""

    source: str = GENERATED
    """A run's folder, a saved model, `hf://owner/name`, weights of `--model` such as `imagenet`, or `shapes`."""
    model: str = "resnet20"
    """Name of a model; `tenzoo models` lists them. A run, a saved model or one of the hub brings its own."""
    image_size: int = 32
    """Side of the images that the model sees, in pixels; ignored where the source has one of its own."""
    generated: int = 72
    head_epochs: int = 10
    """Passes in which only the new last layer is trained."""
    head_learning_rate: float = 1e-2
    """Highest learning rate for the last layer alone."""
    epochs: int = 20
    """Passes in which all layers are trained, after those for the head."""
    batch_size: int = 16
    learning_rate: float = 2e-3
    layer_decay: float = 0.8
    """Factor of the learning rate from one layer or block to the one before it."""
    weight_decay: float = 0.05
    scratch_learning_rate: float = 3e-3
    """Highest learning rate for the net that is trained from scratch, to compare."""
    source_epochs: int = 12
    """Passes over the generated pictures for the source."""
    source_pictures: int = 2000
    """How many pictures to generate for the source."""


@recipe(
    Config,
    smoke={
        "model": "lenet5",
        "epochs": 1,
        "head_epochs": 1,
        "source_epochs": 1,
        "source_pictures": 60,
        "limit": 54,
        "batch_size": 64,
        "image_size": 16,
    },
    expected={"test.accuracy": (">=", 0.65), "margin": (">=", 0.3)},
    predict=predict_images,
    explain=explain_images,
)
def run(config: Config, run: RunFolder) -> Metrics:
    """Train head, net and comparison, test both, and leave model and pictures in the folder."""
    utils.set_random_seed(config.seed)
    if config.source == GENERATED:
        model = _trained_on_shapes(config, run)
    else:
        model = load_trained(config.source, config.model)
    splits = load(config, model.image_size)
    model.replace_head(len(splits.classes))
    prepared(model, splits)
    scratch = prepared(untrained(model), splits)

    finetuning.train_only(model, [getattr(model, name) for name in model._classifiers])
    rate, epochs = config.head_learning_rate, config.head_epochs
    fit(model, splits, config, run, epochs=epochs, learning_rate=rate, stage="head")
    model.trainable = True
    rates = finetuning.layerwise_learning_rates(model, config.layer_decay)
    options = {"initial_epoch": epochs, "epochs": epochs + config.epochs, "stage": "whole", "rates": rates}
    fit(model, splits, config, run, learning_rate=config.learning_rate, **options)
    metrics = finish(model, splits.test, config, run, skipped=splits.skipped)

    rate, epochs = config.scratch_learning_rate, config.head_epochs + config.epochs
    fit(scratch, splits, config, run, epochs=epochs, learning_rate=rate, stage="scratch", log="scratch")
    metrics["scratch"] = scores(test_logits(scratch, splits.test, config.batch_size), splits.test.labels)
    metrics["margin"] = metrics["test"]["accuracy"] - metrics["scratch"]["accuracy"]
    run.save_figure(
        "margin.png",
        pictures.comparison({"transfer": run.history, "from scratch": run.history_of("scratch")}),
        "On the validation images: transfer, first of the head alone, against the same net trained from scratch.",
    )
    return metrics


def _trained_on_shapes(config: Config, run: RunFolder) -> Classifier:
    drawn = replace(config, data=GENERATED, limit=None, generated=config.source_pictures)
    splits = load(drawn, config.image_size, _shapes.SOURCE)
    model = make_model(config.model, splits, config.image_size)
    rate, epochs = config.scratch_learning_rate, config.source_epochs
    fit(model, splits, config, run, epochs=epochs, learning_rate=rate, stage="source", log="source")
    return model


def untrained(model: Classifier) -> Classifier:
    """Return the same architecture with random weights."""
    made = deserialize(serialize(model))
    made.build_default()
    return made
