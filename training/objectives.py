"""What a model is compiled with: losses and metrics laid out over its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core import Tensor, ops, pytree, wrap
from ..core.dtypes import HALVES
from ..core.errors import unknown
from ..layers.masks import get_mask, set_mask
from . import losses as losses_module
from . import metrics as metrics_module
from .data import batch_length


def _in_single(output: Any) -> Any:
    """Predictions of half precision in float32, so that metrics add no rounding of their own."""
    if output.dtype not in HALVES:
        return output
    single = ops.cast(output, "float32")
    set_mask(single, get_mask(output))
    return single


class Head:
    """One output of the model: its name (None for an only output), its loss, and its metrics."""

    def __init__(self, name: str | None):
        self.name = name
        self.loss: Any = None
        self.weight: Any = None
        self.tracker: Any = None  # running mean of the loss, where there are several
        self.metrics: list = []
        self.weighted_metrics: list = []


class Objectives:
    """Losses and metrics as given to ``compile``, resolved once shapes of targets and outputs are known."""

    def __init__(self, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any, output_names: Any):
        for name, given in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if given is not None and not isinstance(given, (list, tuple, dict)):
                raise ValueError(f"{name} must be a list, tuple or dict; received {given!r}.")
        for name in pytree.flatten(loss):
            if isinstance(name, str):
                losses_module.resolve(name, (1,), (1, 2))  # an unknown name is an error here, not in fit
        self.built = False
        self.empty = loss is None and not metrics and not weighted_metrics
        self._loss = loss
        self._loss_weights = loss_weights
        self._metrics = metrics
        self._weighted_metrics = weighted_metrics
        self._output_names = output_names
        self._outputs: Any = None
        self._heads: list[Head] = []
        self._log_names: dict[Any, str] = {}

    def build(self, y: Any, y_pred: Any) -> None:
        """Make the losses and metrics that fit these targets and outputs."""
        heads = [Head(name) for name in _leaf_names(y_pred, self._output_names)]
        layouts = [
            self._spread(spec, y_pred, argument)
            for spec, argument in (
                (self._loss, "loss"),
                (self._loss_weights, "loss_weights"),
                (self._metrics, "metrics"),
                (self._weighted_metrics, "weighted_metrics"),
            )
        ]
        targets = [None] * len(heads) if y is None else self._targets(y, y_pred, layouts[0])
        for head, target, output, loss, weight, metrics, weighted in zip(
            heads, targets, pytree.flatten(y_pred), *layouts, strict=True
        ):
            loss = _only(loss)
            if target is None:
                _refuse_without_target(head, loss or metrics or weighted)
                continue
            shapes = target.shape, output.shape
            head.loss = losses_module.resolve(loss, *shapes)
            head.weight = _only(weight)
            if isinstance(head.weight, (str, list, tuple, dict)):
                raise ValueError(
                    f"loss_weights are numbers, one for each output; received {head.weight!r}. After the loss, "
                    "compile() takes loss_weights and then metrics: name them."
                )
            head.metrics = [metrics_module.resolve(m, *shapes) for m in pytree.flatten(metrics)]
            head.weighted_metrics = [metrics_module.resolve(m, *shapes) for m in pytree.flatten(weighted)]
        with_loss = [head for head in heads if head.loss is not None]
        if len(with_loss) > 1:
            for head in with_loss:
                head.tracker = metrics_module.Mean(name=f"{head.name}_loss")
        # Only the shapes of the outputs are of interest later.
        self._outputs = pytree.map(lambda v: wrap(np.broadcast_to(np.zeros((), v.dtype), v.shape)), y_pred)
        self._heads = heads
        self._log_names = _log_names(heads)
        self.built = True

    def _spread(self, spec: Any, y_pred: Any, argument: str) -> list:
        return spread(spec, y_pred, self._output_names, argument)

    def _targets(self, y: Any, y_pred: Any, losses: list) -> list:
        """Align targets with outputs; outputs without a loss may have been left out."""
        if _is_container(y_pred) and len(y_pred) > 1:
            wanted = [_only(loss) is not None for loss in losses]
            given = pytree.flatten(y)
            if isinstance(y, (list, tuple)) and len(given) < len(wanted) and len(given) == sum(wanted):
                remaining = iter(given)
                return [next(remaining) if is_wanted else None for is_wanted in wanted]
            if not _is_container(y):
                raise ValueError(
                    f"The model has {len(wanted)} outputs, {pytree.structure(y_pred)}; expected targets y of "
                    f"this structure, received one array of shape {y.shape}."
                )
        return [_only(part) for part in self._spread(y, y_pred, "y")]

    @property
    def metrics(self) -> list:
        """All metric objects: those asked for, then the running means of the losses of several outputs."""
        return list(self._log_names)

    def log_name(self, metric: Any) -> str:
        """Name of a metric in the logs: with that of its output, if there are several."""
        return self._log_names.get(metric, metric.name)

    def loss(self, y: Any, y_pred: Any, sample_weight: Any) -> Tensor | None:
        """Weighted sum of the losses of all outputs, as a scalar; None without any."""
        total = None
        for head, target, output, weights in self._rows(y, y_pred, sample_weight):
            if head.loss is None:
                continue
            value = head.loss(target, output, sample_weight=weights)
            if head.tracker is not None:
                head.tracker.update_state(value, sample_weight=batch_length(output))
            if head.weight is not None:
                value = value * head.weight
            total = value if total is None else total + value
        return total

    def update_metrics(self, y: Any, y_pred: Any, sample_weight: Any) -> None:
        """Add a batch to the metrics."""
        for head, target, output, weights in self._rows(y, y_pred, sample_weight):
            output = _in_single(output)
            for metric in head.metrics:
                metric.update_state(target, output)
            for metric in head.weighted_metrics:
                metric.update_state(target, output, sample_weight=weights)

    def _rows(self, y: Any, y_pred: Any, sample_weight: Any) -> Iterator[tuple]:
        if not self.built:
            self.build(y, y_pred)
        if y is None:
            for head in self._heads:
                _refuse_without_target(head, head.loss or head.metrics or head.weighted_metrics)
            return iter(())
        if len(self._heads) == 1 and type(y) is Tensor and type(y_pred) is Tensor:
            return iter([(self._heads[0], y, y_pred, _only(sample_weight))])
        targets = self._targets(y, y_pred, [head.loss for head in self._heads])
        weights = [_only(part) for part in self._spread(sample_weight, y_pred, "sample_weight")]
        return zip(self._heads, targets, pytree.flatten(y_pred), weights)

    def check(self, y: Any, where: str) -> None:
        """Raise ValueError for targets that a loss cannot take: labels out of range, say."""
        for head, target, output, _ in self._rows(y, self._outputs, None):
            try:
                if head.loss is not None:
                    head.loss.check(target, output)
            except ValueError as error:
                of_output = f", output {head.name!r}" if head.name else ""
                raise ValueError(f"In {where}{of_output}: {error}") from None


def spread(spec: Any, outputs: Any, names: Any, argument: str) -> list:
    """Lay ``spec`` out over the leaves of ``outputs``: by name, by position, or the same for all.

    >>> spread({"b": "mse"}, {"a": 1, "b": 2}, None, "loss")
    [None, 'mse']
    """
    if not _is_container(outputs):
        if isinstance(spec, dict):
            if len(spec) != 1 or (names and next(iter(spec)) not in names):
                raise ValueError(
                    f"{argument} is a dict with the keys {list(spec)}, but the model has one output"
                    + (f", named {names[0]!r}." if names else ".")
                )
            return list(spec.values())
        return [spec]
    children = list(outputs.values() if isinstance(outputs, dict) else outputs)
    keys = list(outputs) if isinstance(outputs, dict) else _keys(children, names)
    if isinstance(spec, dict):
        for key in spec:
            if key not in keys:
                raise unknown(f"output in {argument}", key, map(str, keys))
        parts = [spec.get(key) for key in keys]
    elif isinstance(spec, (list, tuple)) and len(spec) == len(children):
        parts = list(spec)
    elif isinstance(spec, (list, tuple)) and len(spec) != 1:
        raise ValueError(
            f"{argument} has {len(spec)} entries for {len(children)} outputs ({', '.join(map(str, keys))}); "
            "expected one entry per output, or a dict by output name."
        )
    else:
        parts = [_only(spec)] * len(children)
    return [leaf for part, child in zip(parts, children) for leaf in spread(part, child, None, argument)]


def _is_container(tree: Any) -> bool:
    return isinstance(tree, (list, tuple, dict))


def _only(spec: Any) -> Any:
    """Unpack a list or dict of one."""
    while _is_container(spec) and len(spec) == 1:
        spec = next(iter(spec.values())) if isinstance(spec, dict) else spec[0]
    return spec


def _keys(children: list, names: Any) -> list:
    if names and len(names) == len(children):
        return list(names)
    return [f"output_{position + 1}" for position in range(len(children))]


def _leaf_names(outputs: Any, names: Any) -> list[str | None]:
    if not _is_container(outputs) or len(pytree.flatten(outputs)) == 1:
        return [None] * len(pytree.flatten(outputs))
    children = list(outputs.values() if isinstance(outputs, dict) else outputs)
    keys = list(outputs) if isinstance(outputs, dict) else _keys(children, names)
    found = []
    for key, child in zip(keys, children):
        found += [str(key) if leaf is None else f"{key}/{leaf}" for leaf in _leaf_names(child, None)]
    return found


def _log_names(heads: list[Head]) -> dict[Any, str]:
    """Names for the logs: output's name first, and never twice the same."""
    names: dict[Any, str] = {}
    for kind in ("metrics", "weighted_metrics"):
        for head in heads:
            for metric in getattr(head, kind):
                base = f"{head.name}_{metric.name}" if head.name else metric.name
                if base in names.values() and kind == "weighted_metrics":
                    base = f"weighted_{base}"
                name, count = base, 0
                while name in names.values():
                    count += 1
                    name = f"{base}_{count}"
                names[metric] = name
    names.update({head.tracker: head.tracker.name for head in heads if head.tracker is not None})
    return names


def _refuse_without_target(head: Head, wanted: Any) -> None:
    if wanted:
        output = f"output {head.name!r}" if head.name else "the output"
        raise ValueError(
            f"The targets y are missing: the model was compiled with a loss or metrics for {output}, but the "
            "data hold only x. Pass y, or yield batches (x, y)."
        )
