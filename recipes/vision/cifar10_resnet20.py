"""Train ResNet-20 on CIFAR-10 as its authors did; they report 91.25 %.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015), section 4.2 and table 6: an error of
8.75 % after 64,000 steps on all 50,000 training images. So nothing is held out for validation, and the test images are
looked at once, at the end. Where the width changes, shortcuts are 1×1 convolutions here (2,752 weights more), in the
paper the image with zeros for the new channels. It takes hours on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ... import datasets, zoo
from ...datasets import augment
from ...training import callbacks, losses, optimizers, schedules, utils
from ...zoo.vision.preprocess import Preprocess
from ..image_prediction import explain_images, predict_images
from ..registry import Metrics, recipe
from ._classification import ClassificationConfig, Split, load_published, mirrored, moved
from ._own_pictures import Pictures, finish

if TYPE_CHECKING:
    from ..run_folder import RunFolder

# Of the channels of the training images, in units where white is 1.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Options of ``tenzoo run vision/cifar10-resnet20``."""

    depth: int = 20
    """Layers of the net, 6n + 2; the paper has 20, 32, 44, 56 and 110."""
    epochs: int = 164
    """Passes over the training images; 164 are the 64,000 steps of the paper."""
    batch_size: int = 128
    learning_rate: float = 0.1
    """Learning rate of the first half of the steps; a tenth of it in the third quarter, a hundredth in the last."""
    momentum: float = 0.9
    """Share of the step before in each step."""
    weight_decay: float = 1e-4
    """Factor of half the squared weights in the loss."""

    def __post_init__(self):
        super().__post_init__()
        if self.depth < 8 or self.depth % 6 != 2:
            raise ValueError(f"depth must be 6n + 2: 8, 14, 20, ...; received {self.depth}.")


def batches(train: Split, config: Config) -> datasets.Dataset:
    """Return normalised batches: each image mirrored or not, and moved by up to four pixels."""

    def change(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple:
        shown = moved(mirrored(images, rng), rng, rows=4, columns=4)
        return augment.normalize(shown, MEAN, STD), labels.astype(np.int32)

    data = datasets.Dataset.from_arrays(tuple(train)).shuffle(seed=config.seed)
    return data.batch(config.batch_size).map(change, seed=config.seed).prefetch()


@recipe(
    Config,
    smoke={"epochs": 1, "data": "synthetic", "limit": 32, "batch_size": 32, "depth": 8},
    expected={"test.accuracy": (">=", 0.9125)},  # the figure of the paper
    predict=predict_images,
    explain=explain_images,
)
def run(config: Config, run: RunFolder) -> Metrics:
    """Train, test, and leave model and pictures in the folder."""
    spec = datasets.info("cifar10")
    train, test = load_published(spec, config)
    utils.set_random_seed(config.seed)
    model = zoo.create("resnet20", depths=(config.depth // 6,) * 3, classes=len(spec.classes))
    model.card.labels = list(spec.classes)
    model.card.preprocess = Preprocess((32, 32), mean=MEAN, std=STD)
    steps = config.epochs * -(-len(train.labels) // config.batch_size)
    rates = [config.learning_rate, config.learning_rate / 10, config.learning_rate / 100]
    schedule = schedules.PiecewiseConstantDecay([steps // 2, steps * 3 // 4], rates)
    # In the loss the momentum would add the decay up to 1 / (1 - momentum) times as much; here it does not.
    decay = config.weight_decay / (1 - config.momentum)
    model.compile(
        optimizer=optimizers.SGD(schedule, config.momentum, weight_decay=decay),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        batches(train, config),
        epochs=config.epochs,
        callbacks=[callbacks.TerminateOnNaN(), *run.callbacks()],
        verbose=run.verbose,
    )
    return finish(model, Pictures(*test), config, run)
