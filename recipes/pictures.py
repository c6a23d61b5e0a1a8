"""Pictures of a run, drawn with matplotlib and without a display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = TRAIN, VALIDATION, _ = "#3b6fb6", "#d9822b", "#6f9e4c"
RIGHT, WRONG = "#3a3a3a", "#c0392b"
DPI = 130  # pixels in an inch of the pictures
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
        _describe(axes, key.replace("_", " "))
    return figure


def comparison(histories: dict[str, Sequence[dict[str, float]]]) -> Figure:
    """Draw loss and accuracy in validation over the epochs of several trainings by name, the first in front."""
    figure = _figure(10.4, 3.6)
    for key, axes in zip(("loss", "accuracy"), figure.subplots(1, 2)):
        for place, ((name, history), color) in enumerate(zip(histories.items(), COLORS)):
            values = [line[f"val_{key}"] for line in history]
            epochs = [line["epoch"] for line in history]
            axes.plot(
                epochs, values, color=color, marker="o", markersize=3, linewidth=1.6, label=name, zorder=9 - place
            )
        _describe(axes, key)
    return figure


def _describe(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # also of a single epoch
    axes.grid(color="#e3e3e3", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


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
    images: Sequence[np.ndarray],
    labels: np.ndarray,
    predictions: np.ndarray,
    confidences: np.ndarray,
    classes: Sequence[str],
    columns: int = 8,
) -> Figure:
    """Draw images with what they were taken for; a mistake is framed, with the true class under it.

    ``images`` are (H, W, 1 or 3), from 0 to 1; the other arrays are (N,).
    """
    columns = min(columns, len(images))
    sheet = _Sheet(images, columns, footer=bool(np.any(labels != predictions)))
    for place, (image, label, prediction, confidence) in enumerate(zip(images, labels, predictions, confidences)):
        color = RIGHT if prediction == label else WRONG
        sheet.show(place, image, frame=color if color == WRONG else None)
        sheet.write(place, f"{shortened(classes[prediction])}  {confidence:.0%}", color)
        if prediction != label:
            sheet.write(place, f"is {shortened(classes[label])}", color, below=True)
    return sheet.figure()


def heat(
    images: Sequence[np.ndarray],
    heated: Sequence[np.ndarray],
    predictions: Sequence[str],
    confidences: Sequence[float],
    labels: Sequence[str | None],
    columns: int = 4,
    inches: float = 1.3,
) -> Figure:
    """Draw pairs of images: as it is, with the predicted class, and coloured where that was found.

    ``images`` and ``heated`` are (H, W, 1 or 3), from 0 to 1. A label is the true class; None where it is not known.
    An image is ``inches`` large.
    """
    columns = min(columns, len(images))
    mistaken = any(label not in (None, prediction) for label, prediction in zip(labels, predictions))
    sheet = _Sheet([*images, *heated], 2 * columns, mistaken, inches)
    for number, (prediction, confidence, label) in enumerate(zip(predictions, confidences, labels)):
        color = RIGHT if label in (None, prediction) else WRONG
        sheet.show(2 * number, images[number], frame=color if color == WRONG else None)
        sheet.show(2 * number + 1, heated[number])
        sheet.write(2 * number, f"{shortened(prediction, 24)}  {confidence:.0%}", color)
        if color == WRONG:
            sheet.write(2 * number, f"is {shortened(label, 24)}", color, below=True)
    return sheet.figure()


def shortened(name: str, longest: int = 13) -> str:
    """A name that has room over a picture; the hub's are lists of synonyms: "tench, Tinca tinca"."""
    name = name.partition(",")[0]
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


class _Sheet:
    """Images side by side in rows, with a line of text over each, and one under it where there is a ``footer``.

    They are pasted into one picture: with axes for each of them drawing takes seconds.
    """

    GAP = 0.06  # between columns; in units of an image's side, like all that follows
    UNDER = 0.2

    def __init__(self, images: Sequence[np.ndarray], columns: int, footer: bool, inches: float = 1.3):
        from PIL import Image

        self.columns = columns
        self.side = round(inches * DPI)
        self.font_size = 8 if inches < 2 else 12
        self.over = self.font_size / (31 * inches)  # room for the line of text
        self.tallest = max(image.shape[0] / max(image.shape[:2]) for image in images)
        self.row = self.over + self.tallest + (self.UNDER if footer else 0.02)
        self.height, self.width = self.row * -(-len(images) // columns), (1 + self.GAP) * columns + self.GAP
        size = round(self.width * self.side), round(self.height * self.side)
        self.canvas = Image.new("RGB", size, "white")
        self.texts: list[tuple] = []

    def show(self, place: int, image: np.ndarray, frame: str | None = None) -> None:
        from PIL import Image, ImageDraw

        left, top = (round(part * self.side) for part in self._corner(place))
        pixels = np.round(255 * np.broadcast_to(image, (*image.shape[:2], 3))).astype(np.uint8)
        scale = self.side / max(image.shape[:2])
        size = [max(1, round(extent * scale)) for extent in image.shape[1::-1]]
        method = Image.Resampling.NEAREST if scale > 1.5 else Image.Resampling.LANCZOS
        left += (self.side - size[0]) // 2
        self.canvas.paste(Image.fromarray(pixels).resize(size, method), (left, top))
        if frame:
            right, bottom = left + size[0], top + size[1]
            box = (left - 2, top - 2, right + 1, bottom + 1)
            ImageDraw.Draw(self.canvas).rectangle(box, outline=frame, width=4)

    def write(self, place: int, text: str, color: str, below: bool = False) -> None:
        left, top = self._corner(place)
        y, align = (top + self.tallest + 0.03, "top") if below else (top - 0.03, "bottom")
        self.texts.append((left, y, text, color, align))

    def figure(self) -> Figure:
        figure = _figure(self.canvas.width / DPI, self.canvas.height / DPI, layout=None)
        figure.figimage(np.asarray(self.canvas))  # pixel by pixel, at the resolution of the figure
        for left, y, text, color, align in self.texts:
            place = left / self.width, 1 - y / self.height
            figure.text(*place, text, color=color, fontsize=self.font_size, va=align, ha="left")
        return figure

    def _corner(self, place: int) -> tuple[float, float]:
        row, column = divmod(place, self.columns)
        return self.GAP + (1 + self.GAP) * column, self.over + self.row * row


def _figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    # Without pyplot there is no global state, and no window system is looked for.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout=layout)
