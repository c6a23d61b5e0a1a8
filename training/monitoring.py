"""Callbacks that watch a training: time, gradients, TensorBoard."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from ..core import GradientTape, StateScope
from .callback import Callback
from .data import make_feed


class TimeLimit(Callback):
    """Stops training after the first batch that ends later than ``seconds`` from the start.

    Time before an interruption counts, when :class:`BackupAndRestore` resumes the training.
    """

    state_names = ("elapsed",)

    def __init__(self, seconds: float):
        if seconds <= 0:
            raise ValueError(f"seconds has to be positive; received {seconds}.")
        self.seconds = seconds
        self.elapsed = 0.0
        self._last = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self.elapsed, self._last = 0.0, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        self.elapsed += now - self._last
        self._last = now
        if self.elapsed > self.seconds:
            self.model.stop_training = True


class GradientStatistics(Callback):
    """Looks at the gradients of one batch after each epoch, for signs that they vanish or explode.

    The logs get "gradient_norm", the norm of all gradients together. ``statistics`` has a list by path of
    the variable: for each epoch the norm of its gradient, the share of zeros in it, and the ratio of its norm
    to that of the variable.

    Args:
        x, y, sample_weight: the batch.
    """

    def __init__(self, x: Any, y: Any = None, sample_weight: Any = None):
        self._batch = make_feed(x, y, sample_weight, batch_size=np.iinfo(np.int32).max).example()
        self.statistics: dict[str, list[dict[str, float]]] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        x, y, sample_weight = self._batch
        variables = self.model.trainable_variables
        with StateScope(), GradientTape() as tape:  # nothing of it is to stay: no statistics, no metrics
            y_pred = self.model(x, training=True)
            loss = self.model._loss_of(x, y, y_pred, sample_weight, training=True)
            gradients = tape.gradient(loss, variables)
        squares = 0.0
        for variable, gradient in zip(variables, gradients, strict=True):
            if gradient is None:
                continue
            values = gradient.numpy()
            norm = float(np.linalg.norm(values))
            squares += norm**2
            size = float(np.linalg.norm(variable.numpy()))
            entry = {"norm": norm, "zeros": float(np.mean(values == 0)), "ratio": norm / max(size, 1e-12)}
            self.statistics.setdefault(variable.path, []).append(entry)
        if logs is not None:
            logs["gradient_norm"] = squares**0.5


class TensorBoard(Callback):
    """Writes the logs for TensorBoard, into the folders "train" and "validation" of ``log_dir``.

    Needs tensorboardX (``pip install tenzoo[tensorboard]``).

    Args:
        log_dir: folder.
        histogram_freq: write histograms of the weights every so many epochs; 0: never.
        write_graph: there is no graph in TensorBoard's format; :func:`tenzoo.draw` makes pictures of models.
        write_steps_per_second: write how fast epochs and batches pass.
        update_freq: "epoch", "batch", or a number of batches between two entries.
    """

    def __init__(
        self,
        log_dir: Any = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
    ):
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = histogram_freq
        self.write_graph = write_graph
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self._writers: dict[str, Any] = {}
        self._opened = 0
        self._batches = 0
        self._tests = 0
        self._began = self._batch_began = 0.0
        self._first = 0

    state_names = ("_batches", "_tests")

    def _write(self, folder: str, values: dict[str, Any], step: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError("TensorBoard takes tensorboardX: pip install tensorboardX") from None
        if folder not in self._writers:
            # Writers opened within one second would otherwise have one file.
            self._opened += 1
            path = os.path.join(self.log_dir, folder)
            self._writers[folder] = SummaryWriter(path, filename_suffix=f".{os.getpid()}.{self._opened}")
        for name, value in values.items():
            if np.ndim(value) == 0:
                self._writers[folder].add_scalar(name, value, step)
            else:
                self._writers[folder].add_histogram(name, np.asarray(value), step)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._batch_began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if self.update_freq == "epoch" or self._batches % self.update_freq:
            return
        values = {f"batch_{name}": value for name, value in (logs or {}).items()}
        if self.write_steps_per_second:
            values["batch_steps_per_second"] = 1 / (time.perf_counter() - self._batch_began)
        self._write("train", values, self._batches)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began, self._first = time.perf_counter(), self._batches

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = dict(logs or {})
        logs.setdefault("learning_rate", float(self.model.optimizer.learning_rate))
        validation = {name.removeprefix("val_"): logs.pop(name) for name in list(logs) if name.startswith("val_")}
        if self.write_steps_per_second:
            logs["steps_per_second"] = (self._batches - self._first) / (time.perf_counter() - self._began)
        self._write("train", {f"epoch_{name}": value for name, value in logs.items()}, epoch)
        if validation:
            self._write("validation", {f"epoch_{name}": value for name, value in validation.items()}, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write("train", {weight.path: weight.numpy() for weight in self.model.weights}, epoch)

    def on_test_end(self, logs: Any = None) -> None:
        if self.model._run is None:  # not the validation of a fit, which on_epoch_end writes
            self._tests += 1
            values = {f"evaluation_{name}": value for name, value in (logs or {}).items()}
            self._write("validation", values, self._tests)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
