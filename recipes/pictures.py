"""Pictures of a run, drawn with matplotlib and without a display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, VALIDATION = "#3b6fb6", "#d9822b"
RIGHT, WRONG = "#3a3a3a", "#c0392b"
MAX_CLASSES = 30  # up to here a confusion matrix has room for numbers and names


def curves(history: Sequence[dict[str, float]]) -> Figure:
    """Draw each metric over the epochs, in training and in validation: a panel for each.

    ``history`` holds ``{"epoch": 1, "loss": 1.2, "val_loss": 1.1, ...}`` for each epoch.
    """
    hidden = ("epoch", "seconds", "learning_rate")
    last = history[-1] if history else {}
    keys = [key for key in last if key not in hidden and not key.startswith("val_")]
    figure = _figure(5.2 * max(len(keys), 1), 3.6)
    for key, axes in zip(keys, figure.subplots(1, len(keys), squeeze=False)[0] if keys else ()):
        for name, label, color in ((key, "training", TRAIN), (f"val_{key}", "validation", VALIDATION)):
            if name in last:
                epochs, values = zip(*((line["epoch"], line[name]) for line in history if name in line))
                axes.plot(epochs, values, color=color, marker="o", markersize=3, linewidth=1.6, label=label)
        axes.set_title(key.replace("_", " "), loc="left", fontweight="bold")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="#e3e3e3", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw how often each true class (a row) was taken for each class (a column).

    ``labels`` and ``predictions`` are (N,), numbers of classes. The shade is the share of its row.
    """
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels, predictions), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(4.2, 0.52 * len(classes) + 1.6), 14)
    figure = _figure(side, side)
    axes = figure.subplots()
    axes.imshow(np.where(counts > 0, np.sqrt(shares), 0), cmap="Blues", vmin=0, vmax=1.15)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= MAX_CLASSES:
        ticks = range(len(classes))
        turn = {"rotation": 45, "ha": "right"} if max(map(len, classes)) > 2 else {}
        axes.set_xticks(ticks, classes, **turn)
        axes.set_yticks(ticks, classes)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.4 else WRONG if row != column else RIGHT
                axes.text(column, row, count, ha="center", va="center", fontsize=9, color=color)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def samples(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    confidences: np.ndarray,
    classes: Sequence[str],
    columns: int = 8,
) -> Figure:
    """Draw images with what they were taken for; a mistake is framed, with the true class beside it.

    ``images`` is (N, H, W, 1 or 3), from 0 to 1; the other arrays are (N,).
    """
    rows = -(-len(images) // columns)
    figure = _figure(1.35 * columns, 1.75 * rows, layout=None)  # so many axes take it a second
    figure.subplots_adjust(0.01, 0.2 / rows, 0.99, 1 - 0.15 / rows, wspace=0.1, hspace=0.45)
    rows_of_data = zip(images, labels, predictions, confidences)
    for place, (image, label, prediction, confidence) in enumerate(rows_of_data):
        axes = figure.add_subplot(rows, columns, place + 1)
        _sample(axes, image, classes[prediction], confidence, classes[label])
    return figure


def _sample(axes: Axes, image: np.ndarray, prediction: str, confidence: float, label: str) -> None:
    axes.set(xticks=[], yticks=[])
    grey = image.shape[-1] == 1
    axes.imshow(image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    wrong = prediction != label
    axes.spines[:].set(color=WRONG if wrong else "#d0d0d0", linewidth=2.5 if wrong else 0.8)
    axes.set_title(f"{prediction}  {confidence:.0%}", fontsize=9, color=WRONG if wrong else RIGHT, pad=3)
    if wrong:
        axes.set_xlabel(f"is {label}", fontsize=9, color=WRONG, labelpad=2)


def _figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    # Without pyplot there is no global state, and no window system is looked for.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)
