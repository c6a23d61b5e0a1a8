"""Teach a small image classifier what a large one knows (distillation).

The student learns from the labels and from the softened probabilities of the teacher. The same student is trained on
the labels alone for as many epochs, and the run reports the margins over it. They are positive only where the teacher
is clearly better than the student alone. Without options a ResNet-20 that has seen 3,000 generated pictures teaches a
LeNet-5 that sees 600 others: over seeds 0 to 2 it is right in 62 % of the test pictures in place of 57 % (margins of 1,
4 and 10 points), with a cross-entropy of 1.01 in place of 1.39; the teacher in 88 %. With 300 pictures the margin
varied from -6 to 19 points. Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...training import utils
from ...training.distillation import Distiller, LogitsDistillation
from ...zoo.vision.classifier import Classifier
from .. import pictures
from ..image_prediction import explain_images, predict_images
from ..registry import Metrics, recipe
from ._own_pictures import (
    GENERATED,
    OwnPicturesConfig,
    Splits,
    finish,
    fit,
    load,
    load_trained,
    make_model,
    scores,
    test_logits,
)

if TYPE_CHECKING:
    from ..run_folder import RunFolder

TRAINED_HERE = "trained-here"


@dataclass(frozen=True)
class Config(OwnPicturesConfig):
    """Options of ``tenzoo run vision/distill``."""

    teacher: str = TRAINED_HERE
    """The teacher: the folder of a run on the same classes, a saved model, `hf://owner/name`, or `trained-here`."""
    teacher_model: str = "resnet20"
    """Name of the model to train as the teacher, where it is trained here; `tenzoo models` lists them."""
    teacher_epochs: int = 10
    """Passes over the images for such a teacher."""
    teacher_pictures: int = 3000
    """How many pictures to generate for such a teacher, where no folder is given: more than the student sees."""
    model: str = "lenet5"
    """Name of the student's model."""
    generated: int = 600
    image_size: int = 32
    """Side of the images that both models see, in pixels; ignored where the teacher has one of its own."""
    smallest_crop: float = 0.7
    temperature: float = 2.0
    """How much the probabilities are softened; 1: not at all."""
    student_loss_weight: float = 0.1
    """Share of the labels in the student's loss; the rest is the teacher's."""
    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 2e-3
    label_smoothing: float = 0.0
    weight_decay: float = 0.05


@recipe(
    Config,
    smoke={
        "teacher_model": "lenet5",
        "epochs": 1,
        "teacher_epochs": 1,
        "limit": 54,
        "batch_size": 64,
        "image_size": 16,
    },
    # Of the accuracy the margin is of the size of its spread over seeds, so the loss is what is promised.
    expected={"test.accuracy": (">=", 0.55), "loss_margin": (">=", 0.1)},
    predict=predict_images,
    explain=explain_images,
)
def run(config: Config, run: RunFolder) -> Metrics:
    """Train teacher, student and comparison, test them, and leave the student and pictures in the folder."""
    utils.set_random_seed(config.seed)
    splits, teacher = _taught(config, run)
    student, alone = (make_model(config.model, splits, teacher.image_size, channels=teacher.channels) for _ in range(2))
    for model in (student, alone):
        model.card.preprocess = teacher.preprocess
    soft = LogitsDistillation(config.temperature)
    distiller = Distiller(teacher, student, soft, student_loss_weight=config.student_loss_weight)
    plan = {"epochs": config.epochs, "learning_rate": config.learning_rate}
    fit(distiller, splits, config, run, stage="student", preprocess=teacher.preprocess, **plan)
    metrics = finish(student, splits.test, config, run, skipped=splits.skipped)

    fit(alone, splits, config, run, stage="alone", log="alone", **plan)
    for name, model in (("alone", alone), ("teacher", teacher)):
        metrics[name] = scores(test_logits(model, splits.test, config.batch_size), splits.test.labels)
    metrics["margin"] = metrics["test"]["accuracy"] - metrics["alone"]["accuracy"]
    metrics["loss_margin"] = metrics["alone"]["loss"] - metrics["test"]["loss"]
    run.save_figure(
        "margin.png",
        pictures.comparison({"distilled": run.history, "labels alone": run.history_of("alone")}),
        "On the validation images: the student with the teacher, against the same student with the labels alone.",
    )
    return metrics


def _taught(config: Config, run: RunFolder) -> tuple[Splits, Classifier]:
    """The pictures and the teacher.

    Raises:
        ValueError: it is no image classifier, or tells other classes apart.
    """
    if config.teacher == TRAINED_HERE:
        shown = load(replace(config, generated=config.teacher_pictures), config.image_size)
        teacher = make_model(config.teacher_model, shown, config.image_size)
        rate, epochs = config.learning_rate, config.teacher_epochs
        fit(teacher, shown, config, run, epochs=epochs, learning_rate=rate, stage="teacher", log="teacher")
        return load(config, config.image_size) if config.data == GENERATED else shown, teacher
    teacher = load_trained(config.teacher)
    splits = load(config, teacher.image_size)
    if teacher.labels != list(splits.classes):
        raise ValueError(
            f"{config.teacher} was trained for the classes {teacher.labels}; the images have {list(splits.classes)}."
        )
    return splits, teacher
