"""Callback: the hooks that the training loop calls; the ready-made callbacks are in :mod:`callbacks`."""

from __future__ import annotations

from typing import Any

STAGES = ("train", "epoch", "train_batch", "test", "test_batch", "predict", "predict_batch")
HOOKS = tuple(f"on_{stage}_{edge}" for stage in STAGES for edge in ("begin", "end"))


class Callback:
    """Base class: override the hooks that you need.

    ``on_train_*`` is called by ``fit``, ``on_test_*`` by ``evaluate`` and validation, ``on_predict_*`` by
    ``predict``; ``on_batch_*`` is short for ``on_train_batch_*``. Epochs and batches are counted from 0.
    ``logs`` has the loss and metrics since the beginning of the epoch, in ``on_epoch_end`` also those of the
    validation ("val_loss"), and a callback may add entries for those after it; ``on_predict_batch_end`` has
    "outputs".

    Attributes:
        model: the model; set ``model.stop_training = True`` to end the training.
        params: "epochs", "steps" (batches in an epoch, or None), "verbose".
    """

    #: A callback that keeps the state of the others runs after them.
    runs_last = False
    #: Names of the attributes that have to survive a restart.
    state_names: tuple[str, ...] = ()

    model: Any = None
    params: dict[str, Any] = {}

    def set_params(self, params: dict[str, Any]) -> None:
        """Receive the parameters of the run."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Receive the model."""
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        """Return what has to survive a restart: numbers, text and arrays."""
        return {name: getattr(self, name) for name in self.state_names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        for name, value in state.items():
            setattr(self, name, value)

    def close(self) -> None:
        """After the run, also when it failed: let go of files and screens."""

    def on_train_begin(self, logs: Any = None) -> None: ...

    def on_train_end(self, logs: Any = None) -> None: ...

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None: ...

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None: ...

    def on_batch_begin(self, batch: int, logs: Any = None) -> None: ...

    def on_batch_end(self, batch: int, logs: Any = None) -> None: ...

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Any = None) -> None: ...

    def on_test_end(self, logs: Any = None) -> None: ...

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None: ...

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None: ...

    def on_predict_begin(self, logs: Any = None) -> None: ...

    def on_predict_end(self, logs: Any = None) -> None: ...

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None: ...

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None: ...
