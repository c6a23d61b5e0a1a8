"""What image files show, by the model of a run or of the hub, and where in them that was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import zoo
from ..zoo.vision.classifier import Classifier
from ..zoo.vision.gradcam import grad_cam, heat_on_picture, overlay
from ..zoo.vision.preprocess import Preprocess, read_image
from . import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .run_folder import RunFolder

LARGEST = 640  # pixels of the longer side of a picture that is shown


@dataclass(frozen=True)
class Predictor:
    """A trained classifier, and what it needs to read files.

    Attributes:
        model: from pixels to logits (B, classes).
        labels: names of the classes.
        preprocess: from files to pixels.
        dark_border: for grey images, whether those it was trained on have a dark border. One with another border is
            inverted: so ink on paper is read by a net that learnt white digits on black. None: nothing is inverted.
    """

    model: Any
    labels: Sequence[str]
    preprocess: Preprocess
    dark_border: bool | None = None

    @classmethod
    def of_run(cls, run: RunFolder) -> Predictor:
        """The model of a finished run: one of the zoo, which knows how to read files, or with a preprocess.json."""
        model = run.load_model()
        if isinstance(model, Classifier):
            return cls(model, labels_of(model), model.preprocess)
        about = run.read("preprocess.json")
        channels, scale = about["channels"], 1 / about["maximum"]
        preprocess = Preprocess((about["height"], about["width"]), mean=(0.0,) * channels, std=(scale,) * channels)
        return cls(model, about["classes"], preprocess, about["dark_border"] if channels == 1 else None)

    @classmethod
    def of_hub(cls, address: str) -> Predictor:
        """A model of the Hugging Face hub, ``hf://owner/name``.

        Raises:
            CheckpointError: it cannot be had; the message says why.
            ValueError: it is no image classifier.
        """
        model = zoo.load(address)
        if not isinstance(model, Classifier):
            raise ValueError(f"{address} is a {type(model).__name__}; expected a classifier of images.")
        return cls(model, labels_of(model), model.preprocess)

    def pixels(self, files: Sequence[Path]) -> np.ndarray:
        """What the model takes, (B, H, W, C).

        Raises:
            DataError: names the file that is missing or no image.
        """
        pixels = self.preprocess(list(files))
        if self.dark_border is None:
            return pixels
        white = 1 / self.preprocess.std[0]
        inverted = [(border_mean(image[None]) < white / 2) != self.dark_border for image in pixels]
        return np.where(np.array(inverted)[:, None, None, None], white - pixels, pixels)

    def records(self, files: Sequence[Path], best: int = 3) -> list[dict]:
        """Return for each file ``{"file", "predictions": [{"label", "probability"}, ...], "summary"}``, best first."""
        logits = self.model.predict(self.pixels(files), verbose=0)
        return [self._record(file, shares, best) for file, shares in zip(files, probabilities_of(logits))]

    def _record(self, file: Path, probabilities: np.ndarray, best: int) -> dict:
        order = np.argsort(-probabilities, kind="stable")[:best]
        predictions = [
            {"label": self.labels[index], "probability": round(float(probabilities[index]), 6)} for index in order
        ]
        listing = ", ".join(f"{entry['label']} {entry['probability']:.1%}" for entry in predictions)
        return {"file": str(file), "predictions": predictions, "summary": f"{file}: {listing}"}

    def explanation(self, files: Sequence[Path]) -> Figure:
        """Draw each picture beside its Grad-CAM for the most probable class."""
        channels = len(self.preprocess.mean)
        best = [record["predictions"][0] for record in self.records(files, 1)]
        heats = grad_cam(self.model, self.pixels(files))
        shown, heated = [], []
        for file, heat in zip(files, heats):
            picture = read_image(file, channels)
            picture.thumbnail((LARGEST, LARGEST))
            array = np.asarray(picture).reshape(picture.height, picture.width, channels)[..., :3]
            shown.append(array / 255)
            heated.append(overlay(array, heat_on_picture(heat, self.preprocess, *array.shape[:2])) / 255)
        labels, confidences = zip(*((entry["label"], entry["probability"]) for entry in best))
        return pictures.heat(shown, heated, labels, confidences, [None] * len(best), columns=1, inches=4.0)


def predict_images(run: RunFolder, files: Sequence[Path]) -> list[dict]:
    """Classify image files with the model of a run; see :class:`Predictor`."""
    return Predictor.of_run(run).records(files)


def explain_images(run: RunFolder, files: Sequence[Path]) -> Figure:
    """Draw where the model of a run found what it sees in image files."""
    return Predictor.of_run(run).explanation(files)


def labels_of(model: Classifier) -> list[str]:
    """Return the names of the classes; their numbers where these are not known."""
    return model.labels or [str(number) for number in range(model.classes)]


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of logits (N, classes)."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def border_mean(images: np.ndarray) -> float:
    """Return the mean of the outermost pixels of images (N, H, W, C)."""
    rows, columns = images[:, [0, -1]], images[:, :, [0, -1]]
    return (rows.mean() + columns.mean()) / 2
