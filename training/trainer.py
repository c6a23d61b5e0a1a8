"""Trainer: compile, fit, evaluate and predict, over steps that are functions of variables and a batch."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from ..core import GradientTape, StateScope, Tensor, TraceError, jit, ops, pytree, random, trace
from . import metrics as metrics_module
from . import optimizers
from .callbacks import CallbackList
from .data import (
    Feed,
    batch_length,
    chunks,
    first_sample,
    make_feed,
    split_for_validation,
)
from .loss_scaling import LossScaleOptimizer
from .objectives import Objectives
from .run import Run
from .several_steps import TooMuchStateError, looped, run_group
from .utils import pack_x_y_sample_weight, unpack_x_y_sample_weight


class Trainer:
    """What a model needs to be trained; mixed into :class:`Model`.

    Override :meth:`train_step`, :meth:`test_step`, :meth:`predict_step`, :meth:`compute_loss` or
    :meth:`compute_metrics` to change a part. A step takes a batch, reads and assigns variables by tensor
    operations alone, and returns the logs: a dict of scalars.
    """

    compiled = False
    optimizer: Any = None
    loss: Any = None
    run_eagerly = False
    jit_compile: bool | str = "auto"
    steps_per_execution = 1
    stop_training = False
    history: Any = None
    _objectives: Objectives | None = None
    _loss_tracker: Any = None
    _compile_arguments: dict | None = None
    _run: Run | None = None

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Say how the model is to be trained.

        Args:
            optimizer: name or :class:`Optimizer`.
            loss: name, function ``(y_true, y_pred) -> values`` or :class:`Loss`; for several outputs a list,
                or a dict by output name.
            loss_weights: factor of each loss in the total.
            metrics: names, functions or :class:`Metric` objects; for several outputs a list of lists, or a
                dict. "accuracy" and "crossentropy" are the binary, categorical or sparse form by the shapes.
            weighted_metrics: metrics that count samples by their weight.
            run_eagerly: run steps op by op, for debugging.
            steps_per_execution: batches between two calls of the callbacks' batch hooks. Steps of small models,
                whose calls cost as much as what they compute, then run in one compiled loop.
            jit_compile: "auto" or True: compile steps unless ``run_eagerly``; False: never.
            auto_scale_loss: under the policy "mixed_float16", put the optimizer into a
                :class:`LossScaleOptimizer`, so that small gradients do not become 0.
        """
        if steps_per_execution < 1:
            raise ValueError(f"steps_per_execution must be at least 1; received {steps_per_execution}.")
        arguments = {
            "optimizer": self._scaling(optimizers.get(optimizer), auto_scale_loss),
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
            "auto_scale_loss": auto_scale_loss,
        }
        vars(self)["_compile_arguments"] = arguments  # past the tracking of layers in attributes
        self.optimizer = arguments["optimizer"]
        self.loss = loss
        self.run_eagerly = run_eagerly
        self.jit_compile = jit_compile
        vars(self)["_executables"] = {}
        self.steps_per_execution = steps_per_execution
        self._objectives = Objectives(loss, loss_weights, metrics, weighted_metrics, self.output_names)
        self._loss_tracker = metrics_module.Mean(name="loss")
        self.stop_training = False
        self.compiled = True

    def _scaling(self, optimizer: Any, auto_scale_loss: bool) -> Any:
        """The optimizer, made to scale the loss where half precision needs that."""
        wanted = auto_scale_loss and self.dtype_policy.name == "mixed_float16"
        if not wanted or isinstance(optimizer, LossScaleOptimizer):
            return optimizer
        return LossScaleOptimizer(optimizer, name="loss_scale_optimizer")

    # One step

    def train_step(self, data: Any) -> dict[str, Any]:
        """Learn from one batch (x, y, sample_weight) and return the logs."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        with GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self._loss_of(x, y, y_pred, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        self._loss_tracker.update_state(loss, sample_weight=batch_length(x))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate one batch (x, y, sample_weight) and return the logs."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        loss = self._loss_of(x, y, y_pred, sample_weight, training=False)
        self._loss_tracker.update_state(loss, sample_weight=batch_length(x))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """Return the outputs for one batch."""
        return self(unpack_x_y_sample_weight(data)[0], training=False)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Return the total loss, a scalar: those of ``compile``, regularizers, and what layers added."""
        loss = None if self._objectives is None else self._objectives.loss(y, y_pred, sample_weight)
        losses = ([] if loss is None else [loss]) + [ops.sum(added) for added in self.losses]
        if not losses and training:
            raise ValueError(
                "There is no loss to train with: pass loss= to compile(), call add_loss() in a layer, or "
                "override compute_loss() or train_step()."
            )
        total = losses[0] if losses else ops.zeros(())
        for added in losses[1:]:
            total = total + added
        return total

    def _loss_of(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Tensor:
        if _takes_training(type(self).compute_loss):
            return self.compute_loss(x, y, y_pred, sample_weight, training=training)
        return self.compute_loss(x, y, y_pred, sample_weight)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Add a batch to the metrics and return the values of all of them."""
        if self._objectives is not None:
            self._objectives.update_metrics(y, y_pred, sample_weight)
        return self.get_metrics_result()

    @property
    def output_names(self) -> list[str] | None:
        """Names of the outputs of a functional model: those of the layers that make them; None for others."""
        leaves = getattr(self, "outputs", None)
        if leaves is None:
            return None
        targets = [leaf.node.target for leaf in leaves]
        names = [getattr(target, "name", None) or target.__name__ for target in targets]
        return [name if names.count(name) == 1 else f"{name}_{names[:i].count(name)}" for i, name in enumerate(names)]

    # Metrics

    @property
    def metrics(self) -> list:
        """The metric objects: the mean loss, those of ``compile``, and those held as attributes of layers."""
        found = [] if self._loss_tracker is None else [self._loss_tracker]
        if self._objectives is not None:
            found += self._objectives.metrics
        return found + [metric for metric in _held_metrics(self) if metric not in found]

    @property
    def metrics_names(self) -> list[str]:
        """Names of the metrics, as in the logs."""
        return [self._log_name(metric) for metric in self.metrics]

    def _log_name(self, metric: Any) -> str:
        return metric.name if self._objectives is None else self._objectives.log_name(metric)

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the value of each metric by name."""
        results = {}
        for metric in self.metrics:
            value = metric.result()
            results.update(value if isinstance(value, dict) else {self._log_name(metric): value})
        return results

    def reset_metrics(self) -> None:
        """Start all metrics afresh."""
        for metric in self.metrics:
            metric.reset_state()

    # Loops

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Collection[int] = 1,
    ) -> Any:
        """Train the model and return the :class:`History`.

        Args:
            x: arrays (n, ...), or a tuple, list or dict of them; a :class:`Dataset`; or any iterable of
                batches x, (x, y) or (x, y, sample_weight): a generator, a torch DataLoader.
            y: targets for arrays, of the structure of the model's outputs.
            batch_size: samples per batch for arrays; 32 by default. The last batch may be smaller.
            epochs: number of the epoch to stop before, counted from ``initial_epoch``.
            verbose: 0 silent; 1 or "auto" a bar, without a terminal plain lines; 2 one line an epoch.
            callbacks: list of :class:`Callback`.
            validation_split: the last fraction of the arrays, cut off before shuffling, is for validation.
            validation_data: (x, y), (x, y, sample_weight), or anything else that ``x`` may be.
            shuffle: visit arrays in a new random order each epoch.
            class_weight: weight of each class in the loss, by class number.
            sample_weight: weight of each sample (n,), or of each output's samples.
            steps_per_epoch: batches in an epoch; the data are started over where they end.
            validation_steps: batches in a validation; all by default.
            validation_freq: validate every so many epochs, or after the epochs with these numbers (from 1).

        Raises:
            ValueError: the data do not fit together or the model; the message says which and how.
        """
        self._require_compiled("fit")
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_for_validation(x, y, sample_weight, validation_split)
        feed = make_feed(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            steps=steps_per_epoch,
            seed=int(random.bits(())) if shuffle else None,
            class_weight=class_weight,
        )
        validation = None
        if validation_data is not None:
            validation = _validation_feed(validation_data, validation_batch_size or batch_size, validation_steps)
        self._prepare(feed)
        if validation is not None and self._objectives.built:
            validation.watch_targets(self._objectives.check, "y of the validation data")
        run = Run(self, feed, validation, initial_epoch)
        run.callbacks = self._callbacks(callbacks, verbose, feed, epochs, add_history=True)
        self._run = run
        self.stop_training = False
        test_step = self._executable(self.test_step, 0 if validation is None else validation.rest)
        try:
            run.callbacks.on_train_begin()
            while run.epoch < epochs and not self.stop_training:
                self._train_epoch(run)
                if run.step == 0:  # the data had no batch left
                    break
                epoch, logs = run.epoch, dict(run.logs)
                if validation is not None and _is_due(epoch + 1, validation_freq):
                    results = self._test_epoch(validation, test_step, run.callbacks)
                    logs.update({f"val_{name}": value for name, value in results.items()})
                run.epoch, run.step = epoch + 1, 0  # before the callbacks, one of which may save the state
                run.callbacks.on_epoch_end(epoch, logs)
            self.optimizer.finalize_variable_values()
            run.callbacks.on_train_end(dict(run.logs))
        finally:
            run.callbacks.close()
            self._run = None
        return self.history

    def _train_epoch(self, run: Run) -> None:
        if run.step == 0:
            self.reset_metrics()
        run.callbacks.on_epoch_begin(run.epoch)
        train_step = self._executable(self.train_step, run.feed.rest)  # a callback may have frozen something
        run.settle()
        for group in chunks(run.feed.steps_of(run.step), self.steps_per_execution):
            run.callbacks.on_train_batch_begin(run.step)
            logs = run_group(train_step, group, self.steps_per_execution)
            run.step += len(group)
            run.logs = as_floats(logs)
            run.note_loss()
            run.callbacks.on_train_batch_end(run.step - 1, run.logs)
            if self.stop_training:
                break
        if run.feed.exhausted:
            self.stop_training = True

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the loss and metrics over the data: a list (a number if there is one), or a dict by name."""
        self._require_compiled("evaluate")
        feed = make_feed(x, y, sample_weight, batch_size=batch_size, steps=steps)
        self._prepare(feed, training=False)
        hooks = self._callbacks(callbacks, verbose, feed)
        try:
            logs = self._test_epoch(feed, self._executable(self.test_step, feed.rest), hooks)
        finally:
            hooks.close()
        return logs if return_dict else as_list(logs)

    def _test_epoch(self, feed: Feed, test_step: Callable, callbacks: CallbackList) -> dict[str, Any]:
        self.reset_metrics()
        logs: dict[str, Any] = {}
        callbacks.on_test_begin()
        step = 0
        for group in chunks(feed.steps_of(), self.steps_per_execution):
            callbacks.on_test_batch_begin(step)
            results = run_group(test_step, group, self.steps_per_execution)
            step += len(group)
            logs = as_floats(results)
            callbacks.on_test_batch_end(step - 1, logs)
        feed.restart()
        callbacks.on_test_end(logs)
        return logs

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Return the outputs for all samples as numpy arrays, (n, ...) each, of the outputs' structure."""
        feed = make_feed(x, batch_size=batch_size, steps=steps)
        self._build_layers(feed.example()[0])
        hooks = self._callbacks(callbacks, verbose, feed)
        predict_step = self._executable(self.predict_step, feed.rest)
        batches: list = []
        try:
            hooks.on_predict_begin()
            for step, batch in enumerate(feed.steps_of()):
                hooks.on_predict_batch_begin(step)
                outputs = pytree.map(np.asarray, predict_step(batch))
                batches.append(outputs)
                hooks.on_predict_batch_end(step, {"outputs": outputs})
            hooks.on_predict_end()
        finally:
            hooks.close()
        return pytree.map(lambda *parts: np.concatenate(parts), *batches)

    # One batch

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Learn from one batch; return the loss and metrics since the last :meth:`reset_metrics`."""
        return self._on_batch(self.train_step, x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Evaluate one batch; return the loss and metrics since the last :meth:`reset_metrics`."""
        return self._on_batch(self.test_step, x, y, sample_weight, None, return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Return the outputs for one batch as numpy arrays."""
        batch = _single_batch(x)
        self._build_layers(batch[0])
        return pytree.map(np.asarray, self._executable(self.predict_step)(pack_x_y_sample_weight(*batch)))

    def _on_batch(self, step: Callable, x: Any, y: Any, sample_weight: Any, class_weight: Any, as_dict: bool):
        self._require_compiled(step.__name__.replace("step", "on_batch"))
        feed = _batch_feed(x, y, sample_weight, class_weight)
        self._prepare(feed, training=step == self.train_step)
        batch = pack_x_y_sample_weight(*feed.example())
        logs = as_floats(self._executable(step)(batch))
        return logs if as_dict else as_list(logs)

    # What comes before the first step

    def _executable(self, step: Callable, rest: int = 0) -> Callable:
        """Return the function that loops call for each batch: the step itself, or compiled as a whole.

        A step is a function of its batch and of the variables it reads, all of which exist by now. Batches
        are trees of tensors; only the last of an epoch may be smaller than the others: of ``rest`` samples, if
        that is known before.
        """
        if self.run_eagerly or not self.jit_compile:
            return step
        # What a step does is fixed when it is traced: another set of trained variables is another step.
        key = step.__name__, tuple((id(v), v.trainable) for v in self.variables)
        known = vars(self).setdefault("_executables", {})
        if key not in known:
            known[key] = _Compiled(step, f"{self.name}.{step.__name__}")
        known[key].expect(rest)
        return known[key]

    def _require_compiled(self, method: str) -> None:
        if not self.compiled:
            raise ValueError(f"Call compile(optimizer, loss) before {method}().")

    def _callbacks(
        self, callbacks: Any, verbose: str | int, feed: Feed, epochs: int = 1, add_history: bool = False
    ) -> CallbackList:
        return CallbackList(
            callbacks,
            add_history=add_history,
            add_progbar=verbose != 0,
            model=self,
            verbose=verbose,
            epochs=epochs,
            steps=feed.steps,
            feed=feed,
        )

    def _prepare(self, feed: Feed, training: bool = True) -> None:
        """Make all variables, so that steps only assign them; let the feed refuse targets that do not fit."""
        x, y, _ = feed.example()
        objectives = self._objectives
        self._build_layers(x)
        # A step of one's own may make its targets itself; then the first step tells what they look like.
        if not (objectives.empty or objectives.built or (y is None and self._has_own_step())):
            outputs = self._outputs_of(x)
            if outputs is not None:
                objectives.build(y, outputs)
        if objectives.built:
            feed.watch_targets(objectives.check, "y")
        if training and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def _has_own_step(self) -> bool:
        return type(self).train_step is not Trainer.train_step

    def _build_layers(self, x: Any) -> None:
        """Make the weights by calling the model; one with a step of its own may do without ``call``."""
        if not all(layer.built for layer in self._walk()):
            self._outputs_of(x)

    def _outputs_of(self, x: Any) -> Any:
        """Return stand-ins for the model's outputs, which have their shapes; None without ``call``."""
        try:
            return trace(lambda x: self(x, training=False), x).result
        except TraceError:  # a layer that looks at values: try on one sample, and leave no trace of it
            with StateScope():
                return self(first_sample(x), training=False)
        except NotImplementedError:
            if not self._has_own_step():
                raise
            return None


class _Compiled:
    """A step, compiled as a whole; run op by op, after a warning, if it cannot be traced."""

    def __init__(self, step: Callable, name: str):
        self._step, self._name = step, name
        self._compiled: Any = jit(step, name=name, ragged=True)
        self._loop: Callable | None = jit(looped(step), name=f"{name} in a loop")

    def __reduce__(self) -> Any:
        """A copy of the model compiles its own steps."""
        return _Compiled, (self._step, self._name)

    def expect(self, rest: int) -> None:
        """Be ready for a batch of so many samples."""
        if self._compiled is not None:
            self._compiled.rest = rest

    def __call__(self, batch: Any) -> Any:
        if self._compiled is None:
            return self._step(batch)
        try:
            return self._compiled(batch)
        except TraceError as error:
            warnings.warn(
                f"A step is not compiled but runs op by op, because it looks at values: {error}", stacklevel=3
            )
            self._compiled = None
            return self._step(batch)

    def in_loop(self, batches: list) -> Any:
        """The logs of the last of several batches, run in one call; None if that cannot be compiled."""
        if self._compiled is None or self._loop is None:
            return None
        try:
            return self._loop(batches)
        except (TraceError, TooMuchStateError):
            self._loop = None  # one by one, each step says by itself what is wrong
            return None


@functools.cache
def _takes_training(compute_loss: Callable) -> bool:
    """Whether a ``compute_loss`` knows the argument, which Keras added late."""
    return "training" in inspect.signature(compute_loss).parameters


def _held_metrics(model: Any) -> list:
    """The metrics that a model and its layers hold as attributes, except trainable models inside it."""
    layers = [model, *(layer for layer in model._walk() if not isinstance(layer, Trainer))]
    found = {
        id(value): value
        for layer in layers
        for name, value in vars(layer).items()
        if isinstance(value, metrics_module.Metric) and name != "_loss_tracker"
    }
    return list(found.values())


def _validation_feed(data: Any, batch_size: int | None, steps: int | None) -> Feed:
    if not isinstance(data, (tuple, list)):
        return make_feed(data, steps=steps)
    x, y, sample_weight = unpack_x_y_sample_weight(data)
    return make_feed(x, y, sample_weight, batch_size=batch_size, steps=steps)


def _batch_feed(x: Any, y: Any = None, sample_weight: Any = None, class_weight: dict | None = None) -> Feed:
    """One batch as a feed of its own: all samples in one."""
    everything = np.iinfo(np.int32).max
    return make_feed(x, y, sample_weight, batch_size=everything, class_weight=class_weight)


def _single_batch(x: Any) -> tuple:
    return _batch_feed(x).example()


def _is_due(epoch: int, frequency: int | Collection[int]) -> bool:
    if isinstance(frequency, Collection):
        return epoch in frequency
    return epoch % frequency == 0


def as_floats(logs: dict[str, Any]) -> dict[str, Any]:
    """Turn the scalar tensors of the logs into Python numbers, other tensors into arrays."""
    if not isinstance(logs, dict):
        raise TypeError(f"A step has to return its logs as a dict of scalars; received {type(logs).__name__}.")
    return {
        name: value.item()
        if getattr(value, "size", 0) == 1
        else np.asarray(value)
        if hasattr(value, "shape")
        else value
        for name, value in logs.items()
    }


def as_list(logs: dict[str, Any]) -> Any:
    """The values of the logs; the value itself if it is the only one."""
    values = list(logs.values())
    return values[0] if len(values) == 1 else values
