"""Distillation: a small model learns from what a large one says about each input, beside the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core import Tensor, Variable, ops
from ..core.errors import ShapeError
from ..layers.serialization import Serializable
from .model import Model

__all__ = ["Distiller", "LogitsDistillation"]


class LogitsDistillation(Serializable):
    """How far the student's softened probabilities are from the teacher's: logits (B, ..., C) twice -> scalar.

    T² · KL(softmax(teacher / T) ‖ softmax(student / T)), the mean over the samples. Softened, the teacher's small
    probabilities tell which classes it finds alike. T² makes up for the gradients, which fall with 1 / T².
    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).

    Args:
        temperature: T; 1 leaves the probabilities as they are, higher values make them more even.

    >>> round(float(LogitsDistillation(temperature=2.0)([[2.0, 0.0]], [[0.0, 0.0]])), 4)
    0.4438
    """

    def __init__(self, temperature: float = 3.0):
        if not temperature > 0:
            raise ValueError(f"temperature has to be positive; received {temperature}.")
        self.temperature = temperature

    def __call__(self, teacher_logits: Any, student_logits: Any) -> Tensor:
        """Raises ShapeError for logits of different shapes."""
        teacher, student = (ops.divide(logits, self.temperature) for logits in (teacher_logits, student_logits))
        if teacher.shape != student.shape:
            raise ShapeError(
                f"The logits of the teacher have shape {teacher.shape}, those of the student {student.shape}; both "
                "have to tell the same classes apart."
            )
        teacher, student = ops.log_softmax(teacher), ops.log_softmax(student)
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        return self.temperature**2 * ops.mean(divergence)


class Distiller(Model):
    """Trains ``student`` on the labels and on the outputs of ``teacher``, which stays as it is.

    The loss in training is student_loss_weight · (loss of ``compile``) + (1 - student_loss_weight) · (weighted sum of
    the distillation losses). Evaluation gives the loss of ``compile`` alone, as for any model; predictions are the
    student's. Afterwards use ``distiller.student``.

    Args:
        teacher: a trained model; it is called as in inference.
        student: a model for the same inputs, with outputs of the same shape.
        distillation_losses: a function (teacher's outputs, student's outputs) -> scalar, or a list of them.
        distillation_loss_weights: a factor for each of the distillation losses; 1 by default.
        student_loss_weight: share of the labels in the loss, from 0 to 1.

    >>> teacher, student = (tz.Sequential([tz.layers.Dense(2)]) for _ in range(2))
    >>> distiller = Distiller(teacher, student, LogitsDistillation(temperature=4.0), student_loss_weight=0.1)
    >>> distiller.compile("adam", tz.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    >>> sorted(distiller.fit(np.ones((4, 3)), np.zeros(4, int), verbose=0).history)
    ['accuracy', 'loss']
    """

    def __init__(
        self,
        teacher: Any,
        student: Any,
        distillation_losses: Callable | Sequence[Callable],
        distillation_loss_weights: Sequence[float] | None = None,
        student_loss_weight: float = 0.5,
        **options: Any,
    ):
        super().__init__(**options)
        if not 0 <= student_loss_weight <= 1:
            raise ValueError(f"student_loss_weight has to lie in [0, 1]; received {student_loss_weight}.")
        losses = list(distillation_losses) if isinstance(distillation_losses, (list, tuple)) else [distillation_losses]
        weights = [1.0] * len(losses) if distillation_loss_weights is None else list(distillation_loss_weights)
        if not losses or len(weights) != len(losses):
            raise ValueError(
                f"Expected distillation losses, and a weight for each; received {len(losses)} losses and "
                f"{len(weights)} weights."
            )
        self.teacher, self.student = teacher, student
        self.distillation_losses, self.distillation_loss_weights = losses, weights
        self.student_loss_weight = student_loss_weight

    @property
    def trainable_weights(self) -> list[Variable]:
        """Those of the student."""
        return self.student.trainable_weights if self.trainable else []

    trainable_variables = trainable_weights

    def build(self, input_shape: Any) -> None:
        """Create the weights of both models."""
        for model in (self.teacher, self.student):
            if not model.built:
                model.compute_output_spec(self._stand_ins(input_shape))

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The student's outputs."""
        return self.student(inputs, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """The loss of a batch, a scalar; see the class."""
        hard = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return hard
        told = ops.stop_gradient(self.teacher(x, training=False))
        pairs = zip(self.distillation_loss_weights, self.distillation_losses, strict=True)
        soft = [weight * loss(told, y_pred) for weight, loss in pairs]
        return self.student_loss_weight * hard + (1 - self.student_loss_weight) * sum(soft[1:], soft[0])
