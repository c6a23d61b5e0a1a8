"""Callbacks that watch a training: time, gradients, kernels, a server, TensorBoard."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
import warnings
from typing import Any

import numpy as np

from ..core import GradientTape, StateScope, profile
from ..core.files import write_atomically
from .callback import Callback
from .data import make_feed
from .run import all_variables
from .utils import pack_x_y_sample_weight


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


class Profiler(Callback):
    """Profiles one compiled step of a fit, kernel by kernel: prints the table, or writes it and a trace.

    Args:
        batch: number of the batch, from 1, before which the step is profiled; it is run a few times for that, on the
            first batch, and leaves no trace in the model.
        path: folder for "profile.txt" and "trace.json", for chrome://tracing or Perfetto; None to print.
        runs: of the step.
    """

    def __init__(self, batch: int = 2, path: Any = None, runs: int = 10):
        if batch < 1 or runs < 1:
            raise ValueError(f"Expected positive numbers; received batch={batch}, runs={runs}.")
        self.batch, self.path, self.runs = batch, path, runs
        self._batches = 0
        self._example: Any = None
        self.profile: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._batches = 0
        self._example = pack_x_y_sample_weight(*self.model._run.feed.example())

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if self._batches != self.batch:
            return
        model, example = self.model, self._example
        kept = [(variable, variable.numpy().copy()) for variable in all_variables(model)]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.profile = profile(model.train_step, example, runs=self.runs)
        finally:
            for variable, value in kept:
                variable.assign(value)
        if self.path is None:
            print(self.profile)
            return
        os.makedirs(self.path, exist_ok=True)
        self.profile.save(os.path.join(self.path, "trace.json"))
        write_atomically(os.path.join(self.path, "profile.txt"), lambda file: file.write(f"{self.profile}\n".encode()))


class RemoteMonitor(Callback):
    """Sends the logs of each epoch to a server, by an HTTP POST; a server that is not there is a warning.

    Args:
        root: address of the server.
        path: where on it.
        field: of the form that holds the logs, as JSON.
        headers: of the request.
        send_as_json: send JSON itself instead of a form.
    """

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path: str = "/publish/epoch/end/",
        field: str = "data",
        headers: dict[str, str] | None = None,
        send_as_json: bool = False,
    ):
        if not root.startswith(("http://", "https://")):
            raise ValueError(f"root begins with http:// or https://; received {root!r}.")
        self.root, self.path, self.field = root, path, field
        self.headers, self.send_as_json = dict(headers or {}), send_as_json

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        import urllib.parse
        import urllib.request

        values = {name: float(value) for name, value in (logs or {}).items() if np.ndim(value) == 0}
        text = json.dumps({"epoch": epoch, **values})
        kind = "application/json" if self.send_as_json else "application/x-www-form-urlencoded"
        data = text if self.send_as_json else urllib.parse.urlencode({self.field: text})
        request = urllib.request.Request(
            self.root + self.path, data.encode(), {"Content-Type": kind, **self.headers}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()
        except OSError as error:
            warnings.warn(f"RemoteMonitor could not reach {self.root}: {error}", stacklevel=2)


class TensorBoard(Callback):
    """Writes the logs for TensorBoard, into the folders "train" and "validation" of ``log_dir``.

    Needs tensorboardX (``pip install tenzoo[tensorboard]``).

    Args:
        log_dir: folder.
        histogram_freq: write histograms of the weights every so many epochs; 0: never.
        write_graph: there is no graph in TensorBoard's format; :func:`tenzoo.draw` makes pictures of models.
        write_images: with the histograms, write the weights as pictures, grey from least to largest; takes Pillow.
        write_steps_per_second: write how fast epochs and batches pass.
        update_freq: "epoch", "batch", or a number of batches between two entries.
        profile_batch: number of a batch, or (first, last), whose first step :class:`Profiler` profiles, into the
            folder "profile"; 0: none.
        embeddings_freq: write the tables of embeddings for the projector every so many epochs; 0: never.
        embeddings_metadata: a file with a label in each line, for each row of a table; or files by name of the layer.
    """

    def __init__(
        self,
        log_dir: Any = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int | tuple[int, int] = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ):
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = histogram_freq
        self.write_graph = write_graph
        self.write_images = write_images
        first = profile_batch if isinstance(profile_batch, int) else profile_batch[0]
        self._profiler = Profiler(first, os.path.join(self.log_dir, "profile")) if first else Callback()
        self.embeddings_freq = embeddings_freq
        self.embeddings_metadata = embeddings_metadata
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self._writers: dict[str, Any] = {}
        self._opened = 0
        self._batches = 0
        self._tests = 0
        self._began = self._batch_began = 0.0
        self._first = 0

    state_names = ("_batches", "_tests")

    def set_model(self, model: Any) -> None:
        """Receive the model."""
        super().set_model(model)
        self._profiler.set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        self._profiler.on_train_begin(logs)

    def _writer(self, folder: str) -> Any:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError("TensorBoard takes tensorboardX: pip install tensorboardX") from None
        if folder not in self._writers:
            # Writers opened within one second would otherwise have one file.
            self._opened += 1
            path = os.path.join(self.log_dir, folder)
            self._writers[folder] = SummaryWriter(path, filename_suffix=f".{os.getpid()}.{self._opened}")
        return self._writers[folder]

    def _write(self, folder: str, values: dict[str, Any], step: int) -> None:
        for name, value in values.items():
            if np.ndim(value) == 0:
                self._writer(folder).add_scalar(name, value, step)
            else:
                self._writer(folder).add_histogram(name, np.asarray(value), step)

    def _write_weights(self, epoch: int) -> None:
        weights = {weight.path: weight.numpy() for weight in self.model.weights}
        self._write("train", weights, epoch)
        for path, value in weights.items() if self.write_images else ():
            if value.ndim and value.size:
                table = value.reshape(-1, value.shape[-1]).astype("float32")
                spread = np.ptp(table)
                table = (table - table.min()) / (spread if spread > 0 else 1.0)
                wide = table if table.shape[0] <= table.shape[1] else table.T
                self._writer("train").add_image(f"{path}/image", wide, epoch, dataformats="HW")

    def _write_embeddings(self, epoch: int) -> None:
        for layer in self.model._walk():
            table = getattr(layer, "embeddings", None)
            if table is None:
                continue
            given = self.embeddings_metadata
            path = given.get(layer.name) if isinstance(given, dict) else given
            labels = None
            if path is not None:
                with open(path, encoding="utf-8") as file:
                    labels = file.read().splitlines()[: table.shape[0]]
            self._writer("train").add_embedding(table.numpy(), labels, global_step=epoch, tag=layer.name)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._profiler.on_train_batch_begin(batch, logs)
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
        rate = getattr(self.model.optimizer, "learning_rate", None)
        if rate is not None:  # a MultiOptimizer has none
            logs.setdefault("learning_rate", float(rate))
        validation = {name.removeprefix("val_"): logs.pop(name) for name in list(logs) if name.startswith("val_")}
        if self.write_steps_per_second:
            logs["steps_per_second"] = (self._batches - self._first) / (time.perf_counter() - self._began)
        self._write("train", {f"epoch_{name}": value for name, value in logs.items()}, epoch)
        if validation:
            self._write("validation", {f"epoch_{name}": value for name, value in validation.items()}, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            self._write_embeddings(epoch)

    def on_test_end(self, logs: Any = None) -> None:
        if self.model._run is None:  # not the validation of a fit, which on_epoch_end writes
            self._tests += 1
            values = {f"evaluation_{name}": value for name, value in (logs or {}).items()}
            self._write("validation", values, self._tests)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
