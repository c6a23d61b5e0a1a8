"""Model and Sequential: the structures of the layers room, made trainable and savable."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .. import layers
from ..core import Graph, config, pytree, trace
from ..layers.serialization import deserialize, register_serializable, serialize
from . import saving
from .trainer import Trainer


@register_serializable("models")
class Model(Trainer, layers.Model):
    """A model that can be trained: ``Model(inputs, outputs)``, or a subclass with ``call``.

    >>> inputs = layers.Input((3,))
    >>> model = Model(inputs, layers.Dense(1)(inputs))
    >>> model.compile("sgd", "mse")
    >>> history = model.fit([[0.0, 1.0, 2.0]], [[1.0]], verbose=0)
    >>> model.predict([[0.0, 1.0, 2.0]], verbose=0).shape
    (1, 1)
    """

    # What the model was built for, so that a loaded one can be built again: a tree of "float32:32,10".
    _input_specs: Any = None

    def build(self, input_shape: Any) -> None:
        """Create the weights for inputs of this shape (with the batch axis)."""
        if self._input_specs is None and isinstance(input_shape, (tuple, list)):
            self._input_specs = f"{config.floatx()}:{','.join(str(extent or 1) for extent in input_shape)}"
        super().build(input_shape)

    def _build_for(self, signature: Any, arguments: tuple, options: dict[str, Any]) -> None:
        self._input_specs = pytree.map(
            lambda leaf: f"{leaf.dtype.name}:{','.join(str(extent or 1) for extent in leaf.shape)}",
            arguments[0],
        )
        super()._build_for(signature, arguments, options)

    def build_as_before(self, specs: Any) -> None:
        """Create the weights as another model did whose ``_input_specs`` these are; nothing is computed."""
        self._trace(specs)

    def _trace(self, specs: Any) -> Graph:
        """The graph of an inference on inputs of these specs."""

        def stand_in(spec: str) -> np.ndarray:
            dtype, _, shape = spec.partition(":")
            return np.broadcast_to(np.zeros((), dtype), [int(extent) for extent in shape.split(",")])

        return trace(self, pytree.map(stand_in, specs), training=False)

    def save(self, filepath: Any, overwrite: bool = True, include_optimizer: bool = True) -> None:
        """Save architecture, weights and optimizer to one file, for :func:`load_model`.

        A crash while saving leaves the old file or the new one, never half of one.
        """
        saving.save_model(self, filepath, overwrite, include_optimizer)

    def to_json(self, **options: Any) -> str:
        """The architecture as JSON, without weights, for :func:`tenzoo.models.model_from_json`.

        ``options`` are those of :func:`json.dumps`.
        """
        return json.dumps(serialize(self), **options)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Save the weights to a safetensors file."""
        saving.save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False) -> None:
        """Load weights from a safetensors or model file; names, shapes and dtypes have to fit.

        With ``skip_mismatch`` what does not fit is left out, with a warning.

        Raises:
            SavedFileError: the file is damaged, or weights are missing, unknown, or of other shapes; then
                nothing is changed.
        """
        saving.load_weights(self, filepath, skip_mismatch)


@register_serializable("models")
class Sequential(Model, layers.Sequential):
    """A model of layers in a row that can be trained.

    >>> model = Sequential([layers.Dense(4, activation="relu"), layers.Dense(1)])
    >>> model.predict([[0.0, 1.0, 2.0]], verbose=0).shape
    (1, 1)
    """


def model_from_json(json_string: str, custom_objects: dict[str, Any] | None = None) -> Any:
    """A model with new weights from what :meth:`Model.to_json` returned; nothing of the text is executed.

    Args:
        custom_objects: your own classes and functions by name, unless they are registered.

    Raises:
        ValueError: the text is no JSON of a model, or names an unknown class.

    >>> model = Sequential([layers.Input((3,)), layers.Dense(2)])
    >>> model_from_json(model.to_json()).output_shape
    (None, 2)
    """
    try:
        config = json.loads(json_string)
    except RecursionError:
        raise ValueError("The JSON is nested too deeply for a model.") from None
    model = deserialize(config, custom_objects)
    if not isinstance(model, layers.Model):
        raise ValueError(f"Expected the JSON of a model; received that of {model!r:.80}.")
    return model
