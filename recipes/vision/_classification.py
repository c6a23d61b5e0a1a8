"""What the recipes for image classification share: options, training and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ... import datasets, training
from ...training import callbacks, losses, optimizers, schedules, utils
from ...zoo.vision.gradcam import grad_cam, overlay
from .. import pictures
from ..image_prediction import border_mean, probabilities_of
from ..registry import Metrics

if TYPE_CHECKING:
    from ..run_folder import RunFolder

VALIDATION_SHARE = 0.1  # of the training images
WARM_UP_SHARE = 0.1  # of the steps
SHOWN = 32  # samples in a picture
EXPLAINED = 12  # those of them with Grad-CAM, a quarter of them mistakes

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # (B, H, W, C) -> (B, H, W, C)


@dataclass(frozen=True)
class TrainingConfig:
    """Options of every recipe for image classification."""

    epochs: int = 10
    """Passes over the training images."""
    batch_size: int = 64
    """Images in a training step."""
    learning_rate: float = 2e-3
    """Highest learning rate: reached in the first tenth of the steps, then lowered to 0 along a cosine."""
    weight_decay: float = 1e-4
    """How strongly AdamW pulls the weights to 0."""
    seed: int = 0
    """The same seed gives the same numbers: initial weights, order of the images, augmentation, dropout."""
    limit: int | None = None
    """Use no more than this many images for training, and for the test, to try things out."""

    def __post_init__(self):
        for name in ("epochs", "batch_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, received {value}.")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, received {self.learning_rate}.")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, received {self.seed}.")


@dataclass(frozen=True)
class ClassificationConfig(TrainingConfig):
    """Options of the recipes for a known dataset."""

    data: str = "auto"
    """`auto` (shipped or downloaded), `synthetic` (made up), or a folder with the published files."""


class Split(NamedTuple):
    """Images (N, H, W, C) as published, and labels (N,)."""

    images: np.ndarray
    labels: np.ndarray

    def batches(self, batch_size: int) -> datasets.Dataset:
        """Return batches for a model: pixels become floats only there, four times as large."""
        return datasets.Dataset.from_arrays(tuple(self)).batch(batch_size).map(_as_floats)

    def augmented_batches(self, batch_size: int, augment: Augmentation, seed: int) -> datasets.Dataset:
        """Return batches in an order and with an augmentation that are new in each epoch."""

        def change(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple:
            return _as_floats(augment(images, rng), labels)

        data = datasets.Dataset.from_arrays(tuple(self)).shuffle(seed=seed)
        return data.batch(batch_size).map(change, seed=seed)


def train_classifier(
    config: ClassificationConfig,
    run: RunFolder,
    dataset: str,
    build: Callable[..., training.Model],
    augment: Augmentation,
) -> Metrics:
    """Train a classifier on a dataset, test it, and leave model and pictures in the folder.

    ``build(shape, classes, scale)`` returns a model from pixels, which it has to multiply by ``scale`` to get
    0 to 1, to logits: (B, *shape) -> (B, classes).

    Raises:
        FloatingPointError: where the loss is no number any more.
    """
    spec = datasets.info(dataset)
    train, validation, test = load_splits(spec, config)
    shape, high = train.images.shape[1:], spec.value_range[1]
    preprocessing = {"height": shape[0], "width": shape[1], "channels": shape[2], "maximum": high}
    preprocessing["dark_border"] = bool(border_mean(train.images) < high / 2)
    run.write("preprocess.json", preprocessing | {"classes": spec.classes})

    utils.set_random_seed(config.seed)
    model = build(shape, len(spec.classes), 1 / high)
    steps = config.epochs * -(-len(train.labels) // config.batch_size)
    model.compile(
        optimizer=optimizers.AdamW(warm_up_and_cosine(config.learning_rate, steps), config.weight_decay),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        train.augmented_batches(config.batch_size, augment, config.seed),
        epochs=config.epochs,
        validation_data=validation.batches(config.batch_size),
        callbacks=[callbacks.TerminateOnNaN(), *run.callbacks()],
        verbose=run.verbose,
    )
    check_finite(run.history)
    run.save_model(model)

    logits = model.predict(test.batches(config.batch_size), verbose=0)
    draw_pictures(
        run,
        model,
        inputs=lambda numbers: test.images[numbers].astype(np.float32),
        view=lambda pixels: pixels / high,
        labels=test.labels,
        logits=logits,
        classes=spec.classes,
    )
    last = run.history[-1]
    return {
        "test": model.evaluate(test.batches(config.batch_size), return_dict=True, verbose=0),
        "validation": {name: last[f"val_{name}"] for name in ("accuracy", "loss")},
        "train": {name: last[name] for name in ("accuracy", "loss")},
        "parameters": model.count_params(),
    }


def load_splits(spec: datasets.DatasetSpec, config: ClassificationConfig) -> tuple[Split, Split, Split]:
    """Return the images for training, for validation (a tenth of the former) and for the test."""
    train, test = load_published(spec, config)
    held_out = stratified(train.labels, VALIDATION_SHARE)
    return (
        Split(train.images[~held_out], train.labels[~held_out]),
        Split(train.images[held_out], train.labels[held_out]),
        test,
    )


def load_published(spec: datasets.DatasetSpec, config: ClassificationConfig) -> tuple[Split, Split]:
    """Return the images for training and for the test, as many as are wanted.

    Raises:
        FetchError: they are not there; the message says how they can be had.
    """
    folder = None if config.data == "auto" else config.data
    try:
        train, test = (Split(*spec.arrays(split, folder)) for split in ("train", "test"))
    except datasets.FetchError as error:
        raise datasets.FetchError(f"{error}\nHere: --data DIR, or --data synthetic.") from error
    return tuple(
        Split(images.reshape(*images.shape[:3], -1)[: config.limit], labels[: config.limit])
        for images, labels in (train, test)
    )


def stratified(labels: np.ndarray, share: float) -> np.ndarray:
    """Return a mask of this share of the samples of each class, evenly spaced, at least one."""
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        held_out[np.flatnonzero(labels == label)[:: round(1 / share)]] = True
    return held_out


def warm_up_and_cosine(highest: float, steps: int) -> schedules.LearningRateSchedule:
    """Return the schedule of the learning rate: up along a line, then down to 0 along a cosine."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    return schedules.CosineDecay(0.0, max(1, steps - warm_up), warmup_target=highest, warmup_steps=warm_up)


def moved(
    images: np.ndarray, rng: np.random.Generator, rows: int, columns: int, border: str = "constant"
) -> np.ndarray:
    """Move each image by up to so many rows and columns: (B, H, W, C) -> (B, H, W, C).

    What comes in is 0, or with ``border="reflect"`` the mirrored image.
    """
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)), border)
    top = rng.integers(0, 2 * rows + 1, (count, 1)) + np.arange(height)  # (B, H)
    left = rng.integers(0, 2 * columns + 1, (count, 1)) + np.arange(width)  # (B, W)
    return padded[np.arange(count)[:, None, None], top[:, :, None], left[:, None, :]]


def mirrored(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror about half of the images, left to right: (B, H, W, C) -> (B, H, W, C)."""
    return np.where(rng.random((len(images), 1, 1, 1)) < 0.5, images[:, :, ::-1], images)


def draw_pictures(
    run: RunFolder,
    model: training.Model,
    inputs: Callable[[np.ndarray], np.ndarray],
    view: Callable[[np.ndarray], np.ndarray],
    labels: np.ndarray,
    logits: np.ndarray,
    classes: Sequence[str],
) -> None:
    """Write the curves, the confusion matrix, and sheets of test images: some, the worst mistakes, Grad-CAM.

    ``inputs`` gives what the model takes for test images by number, (n, H, W, C), and ``view`` turns that into pixels
    from 0 to 1; ``labels`` (N,) and ``logits`` (N, classes) are those of the whole test set.
    """
    probabilities = probabilities_of(logits)
    predictions, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(-confidences[wrong], kind="stable")][:SHOWN]
    some = np.random.default_rng(0).permutation(len(labels))[:SHOWN]

    def sheet(name: str, numbers: np.ndarray, description: str) -> None:
        images = view(inputs(numbers))
        parts = (labels[numbers], predictions[numbers], confidences[numbers])
        run.save_figure(name, pictures.samples(images, *parts, classes), description)

    run.save_figure(
        "curves.png",
        pictures.curves(run.history),
        "Loss and accuracy over the epochs. In training they are measured on augmented images with dropout, "
        "while the net is still learning, so they may look worse than in validation.",
    )
    run.save_figure(
        "confusion.png",
        pictures.confusion(labels, predictions, classes),
        "How often each true class (row) of the test images was taken for which class (column).",
    )
    sheet(
        "samples.png", some, "Test images drawn by lot, with the predicted class and its probability; mistakes framed."
    )
    if len(worst):
        counted = f"{len(wrong)} mistakes" if len(wrong) > 1 else "1 mistake"
        sheet("mistakes.png", worst, f"The most confident of {counted} in {len(labels)} test images.")
    explained = np.concatenate([some[: EXPLAINED - EXPLAINED // 4], worst[: EXPLAINED // 4]])
    pixels = inputs(explained)
    images = view(pixels)
    heated = [
        overlay(np.round(255 * image).astype(np.uint8), heat) / 255
        for image, heat in zip(images, grad_cam(model, pixels))
    ]
    names = [[classes[index] for index in of[explained]] for of in (predictions, labels)]
    run.save_figure(
        "gradcam.png",
        pictures.heat(images, heated, names[0], confidences[explained], names[1]),
        "Where the net found what speaks for the class that it predicts (Grad-CAM): red most, blue least.",
    )


def _as_floats(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images.astype(np.float32), labels.astype(np.int32)


def check_finite(history: list[dict[str, float]]) -> None:
    """Raise a FloatingPointError if the loss of an epoch is no number."""
    for line in history:
        if line["loss"] is None:
            raise FloatingPointError(
                f"The loss is not finite any more in epoch {line['epoch']}. Try a lower --learning-rate."
            )
