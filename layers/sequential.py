"""Sequential: layers one after the other."""

from __future__ import annotations

from typing import Any

from .functional import KerasTensor
from .layer import Layer
from .masks import set_mask
from .model import Input, InputLayer, Model
from .serialization import serialize


class Sequential(Model):
    """A stack of layers, each fed with the result of the one before.

    Without an ``Input`` at the bottom the weights are made at the first call.

    >>> model = Sequential([Input((8,)), Dense(4, activation="relu"), Dense(1)])
    >>> model(np.ones((2, 8))).shape
    (2, 1)
    """

    def __init__(self, layers: Any = None, trainable: bool = True, name: str | None = None, **options: Any):
        super().__init__(trainable=trainable, name=name, **options)
        self._stack: list[Layer] = []
        # The symbolic input and what each layer makes of it, once a shape is known; whether it was declared.
        vars(self).update(_trail=[], _declared=False)
        for layer in layers or []:
            self.add(layer)

    def add(self, layer: Any) -> None:
        """Put a layer (or, first, an ``Input``) on top."""
        if isinstance(layer, KerasTensor):
            layer = layer.node.target
        if isinstance(layer, InputLayer):
            if self._stack or self._trail:
                raise ValueError(f"Sequential '{self.name}': an Input comes first, and once.")
            self._begin(layer.output)
            return
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential.add: expected a layer; received {layer!r} of type {type(layer).__name__}.")
        if any(layer.name == other.name for other in self._stack):
            raise ValueError(f"Sequential '{self.name}' already has a layer named '{layer.name}'; names are unique.")
        if not self._stack and not self._trail and layer.declared_shape is not None:
            self._begin(Input(batch_shape=layer.declared_shape))
        if self._trail:
            with self._scope():
                self._trail.append(layer(self._trail[-1]))
        self._stack.append(layer)
        self._update()

    def pop(self) -> Layer:
        """Take the last layer off and return it."""
        if not self._stack:
            raise ValueError(f"Sequential '{self.name}' has no layers.")
        layer = self._stack.pop()
        if self._trail:
            self._trail.pop()
        self._update()
        return layer

    def _begin(self, start: KerasTensor) -> None:
        self._trail.append(start)
        vars(self)["_declared"] = True
        self._update()

    def _update(self) -> None:
        self.built = False
        if self._trail:
            self._set_ends(self._trail[0], self._trail[-1])

    def build(self, input_shape: Any) -> None:
        """Create the weights for inputs of this shape (with the batch axis)."""
        if not self._trail:
            # This shape was met, not declared: inputs of other shapes stay welcome.
            self._trail.append(Input(batch_shape=(None, *input_shape[1:])))
            for layer in self._stack:
                self._trail.append(layer(self._trail[-1]))
            self._update()

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Feed the layers one after the other."""
        set_mask(inputs, mask)
        if self._declared:
            (inputs,) = self._fit_inputs(inputs)
        for layer in self._stack:
            inputs = layer(inputs)
        return inputs

    @property
    def layers(self) -> list[Layer]:
        """The layers from the first to the last."""
        return list(self._stack)

    def get_config(self) -> dict[str, Any]:
        """The layers, ready for JSON."""
        if "layers" not in self._arguments:
            return super().get_config()
        head = [self.inputs[0].node.target] if self._declared else []
        layers = serialize([*head, *self._stack])
        return {"name": self.name, "trainable": self.trainable, "dtype": self.dtype_policy.name, "layers": layers}
