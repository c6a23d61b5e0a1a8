"""Run: where a fit stands, and all that has to be kept to go on from there bit for bit."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..core import StateScope, Variable, random
from .data import Feed
from .optimizers import Optimizer
from .utils import pack_x_y_sample_weight


class Run:
    """A fit under way.

    Attributes:
        epoch, step: number of the epoch, and of batches done in it.
        logs: those of the last batch.
        feed, validation: the data.
        callbacks: the :class:`CallbackList`.
    """

    def __init__(self, model: Any, feed: Feed, validation: Feed | None, epoch: int):
        self.model = model
        self.feed = feed
        self.validation = validation
        self.callbacks: Any = None
        self.epoch = epoch
        self.step = 0
        self.logs: dict[str, Any] = {}
        self._resumed: dict | None = None
        self._warned = False

    def note_loss(self) -> None:
        """Warn, once, when the loss is no finite number any more."""
        loss = self.logs.get("loss")
        if isinstance(loss, float) and not math.isfinite(loss) and not self._warned:
            self._warned = True
            warnings.warn(
                f"The loss became {loss} in epoch {self.epoch + 1}, batch {self.step}. Look for a learning "
                "rate that is too high, a logarithm or a division of zero, or NaN in the data. The callback "
                "TerminateOnNaN stops training here.",
                stacklevel=4,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the fit depends on: numbers, text and arrays in dicts and lists."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "logs": self.logs,
            "stop_training": self.model.stop_training,
            "feed": self.feed.state_dict(),
            "validation": None if self.validation is None else self.validation.state_dict(),
            "callbacks": self.callbacks.state_dict(),
            "variables": [variable.numpy() for variable in all_variables(self.model)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.epoch, self.step, self.logs = state["epoch"], state["step"], state["logs"]
        self.model.stop_training = state["stop_training"]
        self.feed.load_state_dict(state["feed"])
        if self.validation is not None and state["validation"] is not None:
            self.validation.load_state_dict(state["validation"])
        self._load_inner(state)
        self._resumed = state if self.step else None

    def _load_inner(self, state: dict[str, Any]) -> None:
        variables = all_variables(self.model)
        if len(variables) < len(state["variables"]):  # some are made by the first step: take one, for nothing
            with StateScope():
                self.model.train_step(pack_x_y_sample_weight(*self.feed.example()))
            variables = all_variables(self.model)
        if [v.shape for v in variables] != [value.shape for value in state["variables"]]:
            raise ValueError(
                f"The backup holds {len(state['variables'])} variables, not the {len(variables)} of this "
                "model, optimizer and metrics: it was made by another script. Delete it to start afresh."
            )
        for variable, value in zip(variables, state["variables"], strict=True):
            variable.assign(value)
        self.callbacks.load_state_dict(state["callbacks"])

    def settle(self) -> None:
        """After a return into the middle of an epoch: undo what the callbacks did again at its beginning."""
        if self._resumed is not None:
            self._load_inner(self._resumed)
            self._resumed = None


def all_variables(model: Any) -> list[Variable]:
    """All variables that training changes: of model, optimizers and metrics, and the random stream."""
    optimizers = [model.optimizer, *(value for value in vars(model).values() if isinstance(value, Optimizer))]
    found = [
        *model.variables,
        *(variable for optimizer in optimizers if optimizer is not None for variable in optimizer.variables),
        *(variable for metric in model.metrics for variable in metric.variables),
        random.global_generator.state,
    ]
    return list({id(variable): variable for variable in found}.values())
