"""What the recipes for image classification share: options, training, pictures, and prediction on files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ... import datasets, training
from ...training import callbacks, losses, optimizers, schedules, utils
from .. import pictures
from ..registry import Metrics

if TYPE_CHECKING:
    from ..run_folder import RunFolder

VALIDATION_SHARE = 0.1  # of the training images
WARM_UP_SHARE = 0.1  # of the steps
SHOWN = 32  # samples in the picture

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # (B, H, W, C) -> (B, H, W, C)


@dataclass(frozen=True)
class ClassificationConfig:
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
    data: str = "auto"
    """`auto` (shipped or downloaded), `synthetic` (made up), or a folder with the published files."""
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
    preprocessing["dark_border"] = bool(_border_mean(train.images) < high / 2)
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
    _check_finite(run.history)
    run.save_model(model)

    logits = model.predict(test.batches(config.batch_size), verbose=0)
    draw_pictures(run, Split(test.images / high, test.labels), probabilities_of(logits), spec.classes)
    last = run.history[-1]
    return {
        "test": model.evaluate(test.batches(config.batch_size), return_dict=True, verbose=0),
        "validation": {name: last[f"val_{name}"] for name in ("accuracy", "loss")},
        "train": {name: last[name] for name in ("accuracy", "loss")},
        "parameters": model.count_params(),
    }


def load_splits(spec: datasets.DatasetSpec, config: ClassificationConfig) -> tuple[Split, Split, Split]:
    """Return the images for training, for validation (a tenth of the former) and for the test."""
    folder = None if config.data == "auto" else config.data
    try:
        train, test = (Split(*spec.arrays(split, folder)) for split in ("train", "test"))
    except datasets.FetchError as error:
        raise datasets.FetchError(f"{error}\nHere: --data DIR, or --data synthetic.") from error
    train, test = (
        Split(images.reshape(*images.shape[:3], -1)[: config.limit], labels[: config.limit])
        for images, labels in (train, test)
    )
    held_out = _stratified_tenth(train.labels)
    return (
        Split(train.images[~held_out], train.labels[~held_out]),
        Split(train.images[held_out], train.labels[held_out]),
        test,
    )


def _stratified_tenth(labels: np.ndarray) -> np.ndarray:
    """Return a mask of every tenth sample of each class, at least one."""
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        held_out[np.flatnonzero(labels == label)[:: round(1 / VALIDATION_SHARE)]] = True
    return held_out


def warm_up_and_cosine(highest: float, steps: int) -> schedules.LearningRateSchedule:
    """Return the schedule of the learning rate: up along a line, then down to 0 along a cosine."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    return schedules.CosineDecay(0.0, max(1, steps - warm_up), warmup_target=highest, warmup_steps=warm_up)


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of logits (N, classes)."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def moved(images: np.ndarray, rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Move each image by up to so many rows and columns; what comes in is 0: (B, H, W, C) -> (B, H, W, C)."""
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    top = rng.integers(0, 2 * rows + 1, (count, 1)) + np.arange(height)  # (B, H)
    left = rng.integers(0, 2 * columns + 1, (count, 1)) + np.arange(width)  # (B, W)
    return padded[np.arange(count)[:, None, None], top[:, :, None], left[:, None, :]]


def mirrored(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror about half of the images, left to right: (B, H, W, C) -> (B, H, W, C)."""
    return np.where(rng.random((len(images), 1, 1, 1)) < 0.5, images[:, :, ::-1], images)


def draw_pictures(run: RunFolder, test: Split, probabilities: np.ndarray, classes: tuple[str, ...]) -> None:
    """Write the curves, the confusion matrix and a sheet of test images with predictions."""
    predictions, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions != test.labels)
    run.save_figure(
        "curves.png",
        pictures.curves(run.history),
        "Loss and accuracy over the epochs. In training they are measured on augmented images with dropout, "
        "while the net is still learning, so they may look worse than in validation.",
    )
    run.save_figure(
        "confusion.png",
        pictures.confusion(test.labels, predictions, classes),
        "How often each true class (row) of the test images was taken for which class (column).",
    )
    # The mistakes, the most confident first, then what else comes first in the test set.
    mistakes = wrong[np.argsort(-confidences[wrong], kind="stable")][: SHOWN // 2]
    others = np.setdiff1d(np.arange(len(predictions)), wrong)[: SHOWN - len(mistakes)]
    shown = np.concatenate([mistakes, others])
    images = test.images[shown]
    run.save_figure(
        "samples.png",
        pictures.samples(images, test.labels[shown], predictions[shown], confidences[shown], classes),
        f"Test images with the predicted class and its probability: the {len(mistakes)} most confident of "
        f"{len(wrong)} mistakes in {len(predictions)} images, framed, and some of the others.",
    )


def predict_images(run: RunFolder, files: Iterable[Path], best: int = 3) -> list[dict]:
    """Classify image files of any size with the trained model of a run.

    A grey image is inverted where its border is light and that of the training images dark, or the reverse:
    so ink on paper is read by a net that learnt white digits on black.

    Returns for each ``{"file", "predictions": [{"label", "probability"}, ...], "summary"}``, best first.

    Raises:
        DataError: names the file that is missing or no image.
    """
    model, about = run.load_model(), run.read("preprocess.json")
    size, classes = (about["height"], about["width"]), about["classes"]
    images = [datasets.decode_image(file, size, about["channels"]) for file in files]
    if about["channels"] == 1:
        images = [
            image if (_border_mean(image[None]) < 127.5) == about["dark_border"] else 255 - image for image in images
        ]
    pixels = np.stack(images).astype(np.float32) * (about["maximum"] / 255)
    logits = model.predict(pixels, verbose=0)
    records = []
    for file, probabilities in zip(files, probabilities_of(logits)):
        order = np.argsort(-probabilities, kind="stable")[:best]
        predictions = [
            {"label": classes[index], "probability": round(float(probabilities[index]), 6)} for index in order
        ]
        listing = ", ".join(f"{entry['label']} {entry['probability']:.1%}" for entry in predictions)
        records.append({"file": str(file), "predictions": predictions, "summary": f"{file}: {listing}"})
    return records


def _border_mean(images: np.ndarray) -> float:
    """Return the mean of the outermost pixels of images (N, H, W, C)."""
    rows, columns = images[:, [0, -1]], images[:, :, [0, -1]]
    return (rows.mean() + columns.mean()) / 2


def _as_floats(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images.astype(np.float32), labels.astype(np.int32)


def _check_finite(history: list[dict[str, float]]) -> None:
    for line in history:
        if line["loss"] is None:
            raise FloatingPointError(
                f"The loss is not finite any more in epoch {line['epoch']}. Try a lower --learning-rate."
            )
