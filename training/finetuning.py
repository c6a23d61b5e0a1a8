"""Parts of fine-tuning: which layers are trained, and how fast each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..layers import Layer
from ..layers import Model as LayerModel
from ..layers.layer import unique

__all__ = ["layerwise_learning_rates", "train_only"]


def train_only(model: Layer, layers: Sequence[Layer]) -> None:
    """Freeze all of a model but these layers; ``model.trainable = True`` lets everything be trained again.

    A frozen batch normalization keeps its statistics and uses them. Compile the model afterwards.

    Raises:
        ValueError: a layer is not in the model.

    >>> model = tz.zoo.create("lenet5", classes=3)
    >>> train_only(model, [model.classifier])
    >>> len(model.weights), len(model.trainable_weights)
    (10, 2)
    """
    inside = {id(layer) for layer in model._walk()}
    for layer in layers:
        if id(layer) not in inside:
            raise ValueError(
                f"Layer {layer.name!r} is not in {model.name!r}, so it cannot be the part that is trained."
            )
    model.trainable = True
    _freeze(model, {id(layer) for layer in layers})


def _freeze(layer: Layer, but: set[int]) -> None:
    if id(layer) in but:
        return
    if not any(id(inner) in but for inner in layer._walk()):
        layer.trainable = False
        return
    for weight in layer._own_weights():  # of a layer that has to stay trainable for the sake of one inside it
        if weight.trainable:
            weight.trainable = False
            layer._frozen.append(weight)
    for inner in layer._leaves(Layer):
        _freeze(inner, but)


def layerwise_learning_rates(model: Any, decay: float = 0.75) -> dict[str, float]:
    """Factors of the learning rate that fall with the distance from the output, for an optimizer's
    ``learning_rate_multipliers``: what the first layers know is the most general, so they change least.

    The last of the model's layers or blocks that are trained has 1, the one before it ``decay``, then ``decay``², and
    so on, in the order in which the model uses them; models inside it are opened. Names of layers are new in each
    process, so make them anew for a model that was loaded. Clark et al., "ELECTRA" (2020); Bao et al., "BEiT" (2021).

    >>> model = tz.Sequential([tz.layers.Dense(4, name="first"), tz.layers.Dense(2, name="last")])
    >>> model(np.ones((1, 3))).shape
    (1, 2)
    >>> layerwise_learning_rates(model, 0.5)
    {'(^|/)first/': 0.5, '(^|/)last/': 1.0}
    >>> optimizer = tz.optimizers.AdamW(1e-3, learning_rate_multipliers=layerwise_learning_rates(model))
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay has to lie in (0, 1]; received {decay}.")
    if not model.weights:
        raise ValueError(f"Model {model.name!r} has no weights yet: call it on some data first.")
    parts = [part for part in _parts(model) if part.trainable_weights]
    last = len(parts) - 1
    return {f"(^|/){re.escape(part.name)}/": decay ** (last - index) for index, part in enumerate(parts)}


def _parts(model: Any) -> list[Layer]:
    """The layers of a model, those of models inside it in their place, in the order of use."""
    if model.inputs is not None:
        direct = unique(node.target for node in model.nodes if isinstance(node.target, Layer))
    else:
        place = {weight: index for index, weight in enumerate(model._trace(model._input_specs).reads)}
        used = [part for part in unique(model._leaves(Layer)) if any(w in place for w in part.weights)]
        direct = sorted(used, key=lambda part: min(place[w] for w in part.weights if w in place))
    opened = (_parts(part) if isinstance(part, LayerModel) else [part] for part in direct)
    return [part for parts in opened for part in parts]
