"""Train a small net on CIFAR-10 to 94 % in ten epochs, after airbench.

Keller Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), whose airbench94 reaches 94.01 % on average: a
first layer that whitens 2×2 patches, of which only the biases are trained, for three epochs; filters that begin as the
identity; batch normalisation without scales, its biases trained 64 times as fast; Nesterov momentum under a triangle of
learning rates; Lookahead; label smoothing; every image mirrored in every other epoch; and at the end the mean over six
views of each test image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import datasets
from ...core import Tensor, Variable, ops, random
from ...datasets import augment
from ...layers import BatchNormalization, Conv2D, Dense, Layer
from ...layers.initializers import Initializer, VarianceScaling
from ...training import callbacks, losses, optimizers, schedules, utils
from ...zoo.vision.classifier import Classifier
from ...zoo.vision.preprocess import Preprocess
from ..image_prediction import explain_images, predict_images
from ..registry import Metrics, recipe
from ._classification import ClassificationConfig, Split, load_published, mirrored, moved
from ._own_pictures import Pictures, finish
from .cifar10_resnet20 import MEAN, STD

if TYPE_CHECKING:
    from ..run_folder import RunFolder

BIAS_FACTOR = 64.0  # of the learning rate, for the biases of batch normalisation
WHITENED = 5000  # images that the statistics of patches are taken from
LOOKAHEAD_PERIOD, LOOKAHEAD_EPOCHS = 5, 3  # batches between two updates; epochs before the first
WHITENING_EPOCHS = 3  # in which the biases of the first layer are trained
TTA_SHIFT = 1  # pixels


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Options of ``tenzoo run vision/airbench``."""

    width: int = 64
    """Channels of the first block; the others have four times as many."""
    epochs: int = 10
    """Passes over the training images; the paper stops after 9.9."""
    batch_size: int = 1024
    learning_rate: float = 11.5
    """Highest learning rate for a step on 1024 images, were there no momentum."""
    weight_decay: float = 0.0153
    """Share of the weights that such a step takes away at the highest learning rate."""
    momentum: float = 0.85
    """Share of the step before in each step."""
    label_smoothing: float = 0.2
    """Share of the targets that goes to all classes alike."""


# The net


class PartialIdentity(Initializer):
    """Filters (h, w, C, F) of which the first C hand the channels on as they are; the others are random."""

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        height, width, channels, filters = shape
        bound = (height * width * channels) ** -0.5
        kernel = np.array(random.uniform(shape, -bound, bound, dtype))
        kept = min(channels, filters)
        kernel[..., :kept] = 0
        kernel[height // 2, width // 2, np.arange(kept), np.arange(kept)] = 1
        return ops.cast(kernel, dtype)


class Group(Layer):
    """Two convolutions with a pooling between them: (B, H, W, C) -> (B, H / 2, W / 2, filters)"""

    def __init__(self, filters: int, **options: Any):
        super().__init__(**options)
        self.conv1, self.conv2 = (
            Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=PartialIdentity()) for _ in range(2)
        )
        self.norm1, self.norm2 = (BatchNormalization(momentum=0.6, epsilon=1e-12, scale=False) for _ in range(2))

    def call(self, x: Tensor) -> Tensor:
        x = ops.max_pool(self.conv1(x), 2, 2)
        x = ops.gelu(self.norm1(x), approximate=False)
        return ops.gelu(self.norm2(self.conv2(x)), approximate=False)


class AirNet(Classifier):
    """(B, 32, 32, channels) -> (B, classes); feature maps of 15, 7 and 3 pixels.

    Args:
        width: filters of the first group; the others have four times as many.
        options: those of :class:`Classifier`.
    """

    def __init__(self, width: int = 64, **options: Any):
        super().__init__(**options)
        self.whiten = Conv2D(2 * 4 * self.channels, 2)
        self.groups = [Group(width), Group(4 * width), Group(4 * width)]
        uniform = VarianceScaling(1 / 3, "fan_in", "uniform")  # as PyTorch has it: ±1 / sqrt(features)
        self.classifier = Dense(self.classes, use_bias=False, kernel_initializer=uniform)

    def features(self, images: Tensor) -> list[Tensor]:
        """What comes out of each group."""
        maps = [ops.gelu(self.whiten(images), approximate=False)]  # (B, 31, 31, 24)
        for group in self.groups:
            maps.append(group(maps[-1]))
        return maps[1:]

    def head(self, features: Tensor) -> Tensor:
        """The last feature map (B, 3, 3, C) -> logits (B, classes)."""
        return self.classifier(ops.max(features, axis=(1, 2))) / 9

    def whiten_patches(self, images: np.ndarray) -> None:
        """Let the first layer make the components of 2×2 patches of these images, and their opposites, of variance 1.

        It is not trained. ``images`` are (N, H, W, C), normalised.
        """
        windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))  # (N, H - 1, W - 1, C, 2, 2)
        patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 4 * images.shape[-1]).astype(np.float64)
        variances, directions = np.linalg.eigh(patches.T @ patches / len(patches))
        components = (directions / np.sqrt(variances + 5e-4))[:, ::-1]
        kernel = np.concatenate([components, -components], axis=1)
        self.whiten.kernel.assign(kernel.reshape(self.whiten.kernel.shape).astype(np.float32))
        self.whiten.kernel.trainable = False


# Training


class Triangle(schedules.LearningRateSchedule):
    """From a fifth of the highest rate up to it at 23 % of the steps, and down to 7 % of it."""

    def __init__(self, highest: float, steps: int):
        self.highest, self.steps = highest, steps

    def __call__(self, step: Any) -> Tensor:
        passed, top = ops.cast(step, "float32") / self.steps, 0.23
        rising, falling = 0.2 + 0.8 * passed / top, 1 - 0.93 * (passed - top) / (1 - top)
        return self.highest * ops.where(passed < top, rising, falling)


class BiasedSGD(optimizers.SGD):
    """SGD under which the biases of batch normalisation move faster, and decay like all other weights."""

    def weight_decay_of(self, variable: Variable) -> float | None:
        decay = super().weight_decay_of(variable)
        return decay / BIAS_FACTOR if decay and variable.name == "beta" else decay


def make_optimizer(config: Config, steps: int) -> optimizers.Optimizer:
    """Return the optimizer for the mean loss of a batch.

    Nesterov momentum makes a step 1 + 1 / (1 - momentum) times as long as the gradient says; the rate is divided by
    that, so that it can be chosen by itself.
    """
    rate = config.learning_rate * config.batch_size / 1024 / (1 + 1 / (1 - config.momentum))
    decay = config.weight_decay * config.batch_size / 1024 / rate
    return BiasedSGD(
        Triangle(rate, steps),
        config.momentum,
        nesterov=True,
        weight_decay=decay,
        learning_rate_multipliers={"/beta$": BIAS_FACTOR},
    )


def batches(train: Split, config: Config) -> datasets.Dataset:
    """Return the batches of two epochs: half of the images are mirrored in the first, the others in the second.

    All are moved by up to two pixels, over a border that mirrors the image.
    """
    once = mirrored(train.images, np.random.default_rng(config.seed))

    def epoch(other_way: bool) -> datasets.Dataset:
        def change(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple:
            images = images[:, :, ::-1] if other_way else images
            shown = moved(images, rng, rows=2, columns=2, border="reflect")
            return augment.normalize(shown, MEAN, STD), labels.astype(np.int32)

        seed = 2 * config.seed + other_way
        data = datasets.Dataset.from_arrays((once, train.labels)).shuffle(seed=seed)
        return data.batch(config.batch_size, drop_remainder=True).map(change, seed=seed)

    return epoch(False).concatenate(epoch(True)).prefetch()


def views(pixels: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Return six views of images, mirrored or not and in three places, and how much each counts."""
    height, width = pixels.shape[1:3]
    padded = np.pad(pixels, ((0, 0), (TTA_SHIFT,) * 2, (TTA_SHIFT,) * 2, (0, 0)), "reflect")
    places = [(0.5, TTA_SHIFT), (0.25, 0), (0.25, 2 * TTA_SHIFT)]
    shown = [(share, padded[:, at : at + height, at : at + width]) for share, at in places]
    return [(share / 2, view) for share, one in shown for view in (one, one[:, :, ::-1])]


@recipe(
    Config,
    smoke={"epochs": 1, "data": "synthetic", "limit": 32, "batch_size": 32, "width": 8},
    expected={"test.accuracy": (">=", 0.94)},  # the figure of the paper
    predict=predict_images,
    explain=explain_images,
)
def run(config: Config, run: RunFolder) -> Metrics:
    """Train, test, and leave model and pictures in the folder."""
    spec = datasets.info("cifar10")
    train, test = load_published(spec, config)
    per_epoch = len(train.labels) // config.batch_size
    if not per_epoch:
        raise ValueError(f"batch_size is {config.batch_size}, more than the {len(train.labels)} training images.")
    utils.set_random_seed(config.seed)
    model = AirNet(config.width, classes=len(spec.classes), image_size=32)
    model.build_default()
    model.card.labels, model.card.preprocess = list(spec.classes), Preprocess((32, 32), mean=MEAN, std=STD)
    model.whiten_patches(augment.normalize(train.images[:WHITENED], MEAN, STD))
    steps = config.epochs * per_epoch
    model.compile(
        optimizer=make_optimizer(config, steps),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
    )
    lookahead = callbacks.Lookahead(
        lambda step: 1 - 0.95**LOOKAHEAD_PERIOD * (step / steps) ** 3, LOOKAHEAD_PERIOD, LOOKAHEAD_EPOCHS * per_epoch
    )

    def freeze_whitening(epoch: int, logs: Any = None) -> None:
        model.whiten.bias.trainable = epoch < WHITENING_EPOCHS

    freeze = callbacks.LambdaCallback(on_epoch_begin=freeze_whitening)
    model.fit(
        batches(train, config),
        epochs=config.epochs,
        steps_per_epoch=per_epoch,
        callbacks=[callbacks.TerminateOnNaN(), lookahead, freeze, *run.callbacks()],
        verbose=run.verbose,
    )
    pixels = augment.normalize(test.images, MEAN, STD)
    logits = sum(share * model.predict(view, batch_size=config.batch_size, verbose=0) for share, view in views(pixels))
    metrics = finish(model, Pictures(*test), config, run, logits)
    one_view = model.predict(pixels, batch_size=config.batch_size, verbose=0)
    metrics["test"]["accuracy of one view"] = float(np.mean(one_view.argmax(axis=1) == test.labels))
    return metrics
