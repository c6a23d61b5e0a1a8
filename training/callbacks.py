"""Callbacks: what happens at the beginnings and ends of training, epochs and batches; with Keras's names."""

from __future__ import annotations

import contextlib
import csv
import inspect
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import saving
from .averaging import Lookahead, ModelEMA, StochasticWeightAveraging, SwapEMAWeights
from .callback import HOOKS, Callback
from .monitoring import GradientStatistics, Profiler, RemoteMonitor, TensorBoard, TimeLimit
from .progress import ProgressBar

ProgbarLogger = ProgressBar  # the name that Keras gives it

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "GradientStatistics",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "Lookahead",
    "ModelCheckpoint",
    "ModelEMA",
    "MonitorCallback",
    "Profiler",
    "ProgbarLogger",
    "ProgressBar",
    "ReduceLROnPlateau",
    "RemoteMonitor",
    "StochasticWeightAveraging",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
    "TimeLimit",
]


class CallbackList:
    """Several callbacks as one; a hook that none of them overrides costs next to nothing."""

    def __init__(
        self,
        callbacks: Iterable[Callback] | Callback | None = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
        if isinstance(callbacks, CallbackList):
            callbacks = callbacks.callbacks
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or [])
        for callback in given:
            if not isinstance(callback, Callback):
                raise TypeError(f"Expected a Callback; received {callback!r}.")
        if add_progbar and not any(isinstance(callback, ProgressBar) for callback in given):
            given.append(ProgressBar())
        self._history = next((callback for callback in given if isinstance(callback, History)), None)
        if add_history and self._history is None:
            self._history = History()
            given.append(self._history)
        self.callbacks = sorted(given, key=lambda callback: callback.runs_last)
        for callback in self.callbacks:
            callback.set_params(params)
            callback.set_model(model)
        if add_history:
            model.history = self._history
        for hook in HOOKS:
            setattr(self, hook, self._dispatcher(hook))

    def _dispatcher(self, hook: str) -> Callable:
        methods = [getattr(callback, hook) for callback in self.callbacks if _overrides(callback, hook)]

        def dispatch(*arguments: Any) -> None:
            for method in methods:
                method(*arguments)

        return dispatch

    def close(self) -> None:
        """Close all callbacks, which then hold on to the data no longer."""
        for callback in self.callbacks:
            callback.close()
            callback.params.pop("feed", None)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states of the callbacks that have one, with the names of their classes."""
        states = [{"class": type(c).__name__, "state": c.state_dict()} for c in self.callbacks]
        return [entry for entry in states if entry["state"]]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Hand out the states to the callbacks, which have to be the same as when they were saved."""
        stateful = [callback for callback in self.callbacks if callback.state_dict()]
        expected, received = [s["class"] for s in states], [type(c).__name__ for c in stateful]
        if expected != received:
            raise ValueError(f"The backup was made with the callbacks {expected}; this fit has {received}.")
        for callback, entry in zip(stateful, states, strict=True):
            callback.load_state_dict(entry["state"])


def _overrides(callback: Callback, hook: str) -> bool:
    names = [hook, hook.replace("train_batch", "batch")]
    return any(name in vars(callback) or getattr(type(callback), name) is not getattr(Callback, name) for name in names)


class History(Callback):
    """Keeps the logs of all epochs: ``history["loss"][3]``, ``epoch[3]``. ``fit`` returns one."""

    state_names = ("epoch", "history")

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """A callback of functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))``."""

    def __init__(
        self,
        on_epoch_begin: Callable | None = None,
        on_epoch_end: Callable | None = None,
        on_train_begin: Callable | None = None,
        on_train_end: Callable | None = None,
        on_train_batch_begin: Callable | None = None,
        on_train_batch_end: Callable | None = None,
        **hooks: Callable,
    ):
        hooks |= {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        for name, function in hooks.items():
            if not hasattr(Callback, name):
                raise TypeError(f"LambdaCallback has no hook {name!r}; the hooks are {', '.join(HOOKS)}.")
            if function is not None:
                setattr(self, name, function)


class TerminateOnNaN(Callback):
    """Stops training when the loss is NaN or infinite; with ``raise_error`` by a RuntimeError."""

    def __init__(self, raise_error: bool = False):
        self.raise_error = raise_error

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        message = f"The loss is {loss} after batch {batch}: training ends."
        if self.raise_error:
            raise RuntimeError(message)
        print(message)
        self.model.stop_training = True


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch: ``schedule(epoch, current rate)`` or ``schedule(epoch)``."""

    def __init__(self, schedule: Callable, verbose: int = 0):
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        optimizer = self.model.optimizer
        current = float(optimizer.learning_rate)
        takes_rate = len(inspect.signature(self.schedule).parameters) > 1
        rate = self.schedule(epoch, current) if takes_rate else self.schedule(epoch)
        if not isinstance(rate, (int, float, np.floating)):
            raise ValueError(f"The schedule has to return a float; received {rate!r} for epoch {epoch}.")
        optimizer.learning_rate = float(rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {rate:.6g}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class MonitorCallback(Callback):
    """Base of callbacks that follow one entry of the logs and know which way is better.

    Args:
        monitor: name in the logs of an epoch.
        mode: "min", "max", or "auto": by the metric; a name that ends in "loss" or "error" is to be low.
        baseline: value that has to be beaten first.
        min_delta: an improvement is by more than this.
    """

    def __init__(self, monitor: str, mode: str = "auto", baseline: float | None = None, min_delta: float = 0.0):
        if mode not in ("auto", "min", "max"):
            raise ValueError(f'mode must be "auto", "min" or "max"; received {mode!r}.')
        self.monitor = monitor
        self.mode = mode
        self.best = baseline
        self.min_delta = abs(min_delta)

    def current(self, logs: dict | None) -> float | None:
        """The monitored value, or None with a warning if the logs do not have it."""
        if logs is None or self.monitor not in logs:
            warnings.warn(
                f"{type(self).__name__} monitors {self.monitor!r}, which is not in the logs; they have "
                f"{', '.join(logs or {})}. Names with val_ need validation data.",
                stacklevel=3,
            )
            return None
        return logs[self.monitor]

    def improves(self, value: float, reference: float | None) -> bool:
        """True where ``value`` is better than ``reference`` by more than ``min_delta``; NaN never is."""
        if math.isnan(value) or reference is None:
            return not math.isnan(value)
        if self._lower_is_better():
            return value + self.min_delta < reference
        return value - self.min_delta > reference

    def _lower_is_better(self) -> bool:
        if self.mode != "auto":
            return self.mode == "min"
        name = self.monitor.removeprefix("val_")
        for metric in self.model.metrics:
            direction = getattr(metric, "_direction", None)
            if direction and name in (metric.name, self.model._log_name(metric)):
                return direction == "down"
        if name.endswith(("loss", "error")):
            return True
        raise ValueError(
            f"{type(self).__name__} does not know whether {self.monitor!r} is better high or low: pass "
            "mode='max' or mode='min'."
        )


class EarlyStopping(MonitorCallback):
    """Stops training when the monitored value has not improved for ``patience`` epochs.

    Args:
        restore_best_weights: at the end go back to the weights of the best epoch.
        start_from_epoch: epochs to wait before looking.
        baseline: value to beat; improvements that do not reach it do not reset the patience.
    """

    state_names = ("wait", "stopped_epoch", "best", "best_epoch", "best_weights")

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = None
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = self.current(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._keep(epoch)
        self.wait += 1
        if self.improves(value, self.best):
            self.best = value
            self._keep(epoch)
            if self.baseline is None or self.improves(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _keep(self, epoch: int) -> None:
        self.best_epoch = epoch
        if self.restore_best_weights:
            self.best_weights = self.model.get_weights()

    def on_train_end(self, logs: Any = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of the best epoch: {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)


class ReduceLROnPlateau(MonitorCallback):
    """Multiplies the learning rate by ``factor`` after ``patience`` epochs without improvement.

    Args:
        cooldown: epochs to wait after a reduction.
        min_lr: lowest learning rate.
    """

    state_names = ("best", "wait", "cooldown_counter")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        if factor >= 1:
            raise ValueError(f"factor must be below 1; received {factor}.")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self._reset()

    def _reset(self) -> None:
        self.best = None
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        optimizer = self.model.optimizer
        if logs is not None:
            logs["learning_rate"] = float(optimizer.learning_rate)
        value = self.current(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improves(value, self.best):
            self.best = value
            self.wait = 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch, optimizer)

    def _reduce(self, epoch: int, optimizer: Any) -> None:
        old = float(optimizer.learning_rate)
        if old <= np.float32(self.min_lr):
            return
        new = max(old * self.factor, self.min_lr)
        optimizer.learning_rate = new
        self.cooldown_counter = self.cooldown
        self.wait = 0
        if self.verbose:
            print(f"Epoch {epoch + 1}: reducing the learning rate to {new:.6g}")


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, after epochs or batches; a file is replaced whole or not at all.

    Args:
        filepath: may name "epoch" (from 1), "batch" and what is in the logs:
            "m-{epoch:02d}-{val_loss:.2f}.tenzoo".
        save_best_only: only when the monitored value improves.
        save_freq: "epoch", or a number of batches.
        initial_value_threshold: value to beat by the first save.
    """

    state_names = ("best", "_batches")

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ):
        super().__init__(monitor, mode, initial_value_threshold)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = _checked_frequency(save_freq)
        self._batches = 0
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if self.save_freq != "epoch" and self._batches % self.save_freq == 0:
            self._save({"epoch": self._epoch + 1, "batch": batch + 1, **(logs or {})}, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.save_freq == "epoch":
            self._save({"epoch": epoch + 1, **(logs or {})}, logs)

    def _save(self, names: dict[str, Any], logs: dict | None) -> None:
        if self.save_best_only:
            value = self.current(logs)
            if value is None or not self.improves(value, self.best):
                return
            self.best = value
        try:
            path = self.filepath.format(**names)
        except KeyError as error:
            raise KeyError(
                f"filepath={self.filepath!r} names {error}, which is not in the logs: {', '.join(names)}."
            ) from None
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        if self.verbose:
            print(f"Epoch {names['epoch']}: saved to {path}")


def _checked_frequency(save_freq: str | int) -> str | int:
    if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
        raise ValueError(f'save_freq must be "epoch" or a number of batches; received {save_freq!r}.')
    return save_freq


class CSVLogger(Callback):
    """Writes the logs of each epoch as a line of ``filename``, with ``append`` to those that are there."""

    def __init__(self, filename: Any, separator: str = ",", append: bool = False):
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self._columns: list[str] | None = None

    state_names = ("_columns",)

    def on_train_begin(self, logs: Any = None) -> None:
        self._columns = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        first = self._columns is None
        if first:
            self._columns = ["epoch", *sorted(logs)]
        # The file is opened for each line, so that lines are never lost, and a resumed fit adds to it.
        fresh = first and not self.append
        with open(self.filename, "w" if fresh else "a", newline="") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if file.tell() == 0:
                writer.writerow(self._columns)
            writer.writerow([epoch, *(logs.get(name, "NA") for name in self._columns[1:])])


class BackupAndRestore(Callback):
    """Keeps the whole state of training in ``backup_dir``, and returns to it when the script is run again.

    Weights, optimizer, metrics, random streams, place in the data, states of the callbacks and history: a fit
    that was killed and run again with the same script ends with the same bits as one that ran through. That
    holds for arrays, a :class:`Dataset`, and iterables that give the same batches again.

    Args:
        backup_dir: folder of its own for each fit.
        save_freq: "epoch", or a number of batches.
        double_checkpoint: keep the backup before the last one too.
        delete_checkpoint: delete the backup when training has ended.
    """

    runs_last = True
    state_names = ("_batches",)

    def __init__(
        self,
        backup_dir: Any,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        if not backup_dir:
            raise ValueError("backup_dir must name a folder; received an empty one.")
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = _checked_frequency(save_freq)
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._path = os.path.join(self.backup_dir, "latest.tenzoo")
        self._previous = os.path.join(self.backup_dir, "previous.tenzoo")
        self._batches = 0

    def on_train_begin(self, logs: Any = None) -> None:
        if os.path.exists(self._path):
            try:
                state = saving.read_state(self._path)
            except saving.SavedFileError:
                if not os.path.exists(self._previous):
                    raise
                state = saving.read_state(self._previous)
            self.model._run.load_state_dict(state)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if self.save_freq != "epoch" and self._batches % self.save_freq == 0:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.save_freq == "epoch":
            self._save()

    def _save(self) -> None:
        os.makedirs(self.backup_dir, exist_ok=True)
        if self.double_checkpoint and os.path.exists(self._path):
            shutil.copyfile(self._path, self._previous)
        saving.write_state(self._path, self.model._run.state_dict())

    def on_train_end(self, logs: Any = None) -> None:
        if self.delete_checkpoint:
            with contextlib.suppress(OSError):  # there may be none, and the folder may hold other files
                os.remove(self._path)
            with contextlib.suppress(OSError):
                os.remove(self._previous)
            with contextlib.suppress(OSError):
                os.rmdir(self.backup_dir)
