"""Models: layers made of layers, functional (a graph of calls) or subclassed with a ``call``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..core import ShapeError, Tensor, ops, pytree
from ..core.errors import unknown
from .functional import KerasTensor, Node, infer, symbolic_leaves
from .layer import Layer, unique
from .masks import get_mask, set_mask
from .serialization import Serializable, custom_object_scope, deserialize, serialize
from .summary import print_summary


class InputLayer(Layer):
    """Where data enter a functional model; made by :func:`Input`."""

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        batch_shape: Any = None,
        name: str | None = None,
    ):
        super().__init__(dtype=dtype, name=name)
        if (shape is None) == (batch_shape is None):
            raise ValueError("Input: give either shape (without the batch axis) or batch_shape.")
        if isinstance(shape, int):
            raise ValueError(f"Input: shape is a tuple; received {shape}. For vectors of {shape} write ({shape},).")
        self.batch_shape = (batch_size, *shape) if batch_shape is None else tuple(batch_shape)
        node = Node(self, (), {})
        node.outputs = KerasTensor(self.batch_shape, self.dtype, self.name, node)
        self._nodes.append(node)
        self.built = True

    def call(self) -> None:
        """An input has nothing to compute."""


def Input(  # noqa: N802  a function that reads as what it stands for
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    batch_shape: Any = None,
    name: str | None = None,
) -> KerasTensor:
    """Declare an input of a functional model; ``shape`` is that of one example, None where it may vary.

    >>> x = Input((28, 28, 1), name="image")
    >>> x.shape
    (None, 28, 28, 1)
    """
    return InputLayer(shape, batch_size, dtype, batch_shape, name).output


class Reference(Serializable, namespace="models"):
    """In the config of a functional model: output number ``output`` of call number ``call``."""

    def __init__(self, call: int, output: int):
        self.call, self.output = call, output


class _Step(NamedTuple):
    """One call of a functional model, and which values nobody needs after it."""

    node: Node
    only: KerasTensor | None  # the only argument, if the call takes one tensor and nothing else
    finished: tuple[KerasTensor, ...]


class Model(Layer):
    """A layer made of layers.

    Functional: ``Model(inputs, outputs)`` repeats the calls that lead from the inputs to the outputs (trees
    of KerasTensors). Subclassed: make layers in ``__init__`` and use them in ``call``.

    >>> x = Input((4,))
    >>> model = Model(x, Dense(2)(x))
    >>> model(np.ones((3, 4))).shape
    (3, 2)
    """

    supports_masking = True

    def __init__(self, inputs: Any = None, outputs: Any = None, name: str | None = None, **options: Any):
        super().__init__(name=name, **options)
        vars(self).update(inputs=None, outputs=None, nodes=[], _calling=False)
        if (inputs is None) != (outputs is None):
            raise ValueError("A functional model needs both inputs and outputs.")
        if inputs is not None:
            self._set_graph(inputs, outputs)

    # The graph

    def _set_ends(self, inputs: Any, outputs: Any) -> list[Node]:
        """Note the trees of symbolic inputs and outputs; return the calls between them."""
        sources, results = symbolic_leaves(inputs), symbolic_leaves(outputs)
        calls = _calls_between(sources, results)
        heads = [leaf.node for leaf in sources if isinstance(leaf.node.target, InputLayer)]
        vars(self).update(_input_tree=inputs, _output_tree=outputs, inputs=sources, outputs=results)
        vars(self).update(nodes=[*heads, *calls], built=True)
        return calls

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        for tree, what in ((inputs, "inputs"), (outputs, "outputs")):
            leaves = pytree.flatten(tree)
            if not leaves or len(symbolic_leaves(leaves)) != len(leaves):
                raise ValueError(
                    f"The {what} of a functional model are made from Input() by calling layers; received {tree!r:.200}."
                )
        calls = self._set_ends(inputs, outputs)
        vars(self).update(_steps=_plan(calls, self.outputs), _casts_inputs=False)  # they have declared dtypes
        self._graph_layers = unique(node.target for node in self.nodes if isinstance(node.target, Layer))
        names = [layer.name for layer in self._graph_layers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Model '{self.name}' has several layers named {twice}; names have to be unique.")

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the graph; models that are not functional write their own."""
        if self.inputs is None:
            raise NotImplementedError(
                f"Model '{self.name}' ({type(self).__name__}) has no call(): write one, or make it with "
                "inputs and outputs."
            )
        set_mask(inputs, mask)
        values = dict(zip(map(id, self.inputs), self._fit_inputs(inputs), strict=True))

        def look_up(leaf: Any) -> Any:
            return values[id(leaf)] if type(leaf) is KerasTensor else leaf

        for node, only, finished in self._steps:
            if only is not None:
                result = node.target(values[id(only)])
            else:
                arguments, options = pytree.map(look_up, (node.arguments, node.options))
                result = node.target(*arguments, **options)
            if type(node.outputs) is KerasTensor:
                values[id(node.outputs)] = result
            else:
                values.update(zip(map(id, pytree.flatten(node.outputs)), pytree.flatten(result), strict=True))
            for leaf in finished:
                del values[id(leaf)]
        return pytree.map(look_up, self._output_tree)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """None: the outputs carry the masks that the layers inside gave them."""

    def _fit_inputs(self, inputs: Any) -> list[Tensor]:
        """One tensor per input: dicts are taken apart by name, dtypes are cast, shapes are checked."""
        if isinstance(inputs, dict):
            tree = self._input_tree
            keys = list(tree) if isinstance(tree, dict) else [leaf.name for leaf in self.inputs]
            missing = [key for key in keys if key not in inputs]
            if missing:
                raise ValueError(f"Expected inputs named {keys}; received {list(inputs)}: {missing} missing.")
            inputs = [inputs[key] for key in keys]
        given = pytree.flatten(inputs)
        if len(given) != len(self.inputs):
            raise ValueError(
                f"Expected {len(self.inputs)} inputs, {pytree.structure(self._input_tree)}; received "
                f"{len(given)}, {pytree.structure(inputs)}."
            )
        return [_fit(value, leaf) for value, leaf in zip(given, self.inputs, strict=True)]

    def build(self, input_shape: Any) -> None:
        """Create the weights of a subclassed model for inputs of this shape, by tracing its ``call``."""
        if self.inputs is None and not self._calling:
            infer(self.call, (self._stand_ins(input_shape),), {})

    def _build_for(self, signature: Any, arguments: tuple, options: dict[str, Any]) -> None:
        vars(self)["_calling"] = True  # the layers inside are built as they are called, in a moment
        try:
            super()._build_for(signature, arguments, options)
        finally:
            vars(self)["_calling"] = False

    # Looking at it

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside, in the order of the calls or of the attributes."""
        return unique(self._leaves(Layer))

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of a name, or at an index of :attr:`layers`."""
        if (name is None) == (index is None):
            raise ValueError("get_layer: give either a name or an index.")
        layers = self.layers
        if index is not None:
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        raise unknown("layer", name, [layer.name for layer in layers])

    @property
    def input(self) -> Any:
        """The symbolic inputs of a functional model."""
        return super().input if self.inputs is None else self._input_tree

    @property
    def output(self) -> Any:
        """The symbolic outputs of a functional model."""
        return super().output if self.inputs is None else self._output_tree

    @property
    def input_shape(self) -> Any:
        """Shapes of the inputs, None where they vary."""
        return pytree.map(lambda leaf: leaf.shape, self.input)

    @property
    def output_shape(self) -> Any:
        """Shapes of the outputs, None where they vary."""
        return pytree.map(lambda leaf: leaf.shape, self.output)

    def summary(
        self,
        line_length: int | None = None,
        print_fn: Callable | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
    ) -> None:
        """Print a table of the layers: output shapes and numbers of parameters."""
        print_summary(self, line_length, print_fn, expand_nested, show_trainable)

    # Config

    def get_config(self) -> dict[str, Any]:
        """The graph of a functional model, the constructor's arguments of another, ready for JSON."""
        if self._arguments.get("inputs") is None:
            return super().get_config()
        return {"name": self.name, "trainable": self.trainable, "dtype": self.dtype_policy.name, **_graph_config(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Make a model, without weight values, from what :meth:`get_config` returned."""
        with custom_object_scope(custom_objects):
            config = deserialize(config)
            if "calls" not in config:
                return super().from_config(config)
            inputs, outputs = _rebuild(*(config.pop(part) for part in ("layers", "calls", "inputs", "outputs")))
            return cls(inputs=inputs, outputs=outputs, **config)


def _calls_between(sources: list[KerasTensor], results: list[KerasTensor]) -> list[Node]:
    """The calls that lead from ``sources`` to ``results``, in the order in which they were made."""
    known = {id(leaf) for leaf in sources}
    found: dict[int, Node] = {}
    waiting = list(results)
    while waiting:
        leaf = waiting.pop()
        if id(leaf) in known or leaf.node.serial in found:
            continue
        if isinstance(leaf.node.target, InputLayer):
            raise ValueError(
                f"The outputs depend on the input '{leaf.name}' {leaf.shape}, which is not among the model's "
                f"inputs: {[source.name for source in sources]}."
            )
        found[leaf.node.serial] = leaf.node
        waiting.extend(leaf.node.inputs)
    return [found[serial] for serial in sorted(found)]


def _plan(calls: list[Node], results: list[KerasTensor]) -> list[_Step]:
    """The calls as steps that let go of each value after its last use."""
    last = {id(leaf): position for position, node in enumerate(calls) for leaf in node.inputs}
    kept = {id(leaf) for leaf in results}
    steps = []
    for position, node in enumerate(calls):
        alone = len(node.arguments) == 1 and type(node.arguments[0]) is KerasTensor and not node.options
        used = {id(leaf): leaf for leaf in node.inputs}
        finished = tuple(leaf for key, leaf in used.items() if last[key] == position and key not in kept)
        steps.append(_Step(node, node.arguments[0] if alone else None, finished))
    return steps


def _fit(value: Tensor, expected: KerasTensor) -> Tensor:
    """``value`` as an input declares it: a last axis of 1 added or dropped, the dtype cast."""
    shape, fitted = expected.shape, value
    if value.ndim == len(shape) - 1 and shape[-1] == 1:
        fitted = ops.expand_dims(value, -1)
    elif value.ndim == len(shape) + 1 and value.shape[-1] == 1:
        fitted = ops.squeeze(value, -1)
    if fitted.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, fitted.shape, strict=True)):
        hint = " The first axis is the batch: one example x is given as x[None]." if value.ndim < len(shape) else ""
        raise ShapeError(f"Input '{expected.name}' expects shape {shape}; received {value.shape}.{hint}")
    if fitted.dtype != expected.dtype:
        fitted = ops.cast(fitted, expected.dtype)
    if fitted is not value:
        set_mask(fitted, get_mask(value))
    return fitted


def _graph_config(model: Model) -> dict[str, Any]:
    """The layers of a functional model, each once, and the calls: which layer or function, on what."""
    places: dict[int, Reference] = {}
    layers: dict[str, Layer] = {}
    calls = []

    def refer(leaf: Any) -> Any:
        return places[id(leaf)] if type(leaf) is KerasTensor else leaf

    for source in model.inputs:
        head = source.node.target
        if not isinstance(head, InputLayer):  # the model begins inside another one
            head = InputLayer(batch_shape=source.shape, dtype=source.dtype)
        layers[head.name] = head
        places[id(source)] = Reference(len(calls), 0)
        calls.append({"target": head.name, "arguments": [], "options": {}})
    for node in (step.node for step in model._steps):
        target = node.target
        if isinstance(target, Layer):
            layers[target.name] = target
            target = target.name
        arguments, options = pytree.map(refer, (list(node.arguments), node.options))
        for position, leaf in enumerate(symbolic_leaves(node.outputs)):
            places[id(leaf)] = Reference(len(calls), position)
        calls.append({"target": target, "arguments": arguments, "options": options})
    ends = {"inputs": pytree.map(refer, model._input_tree), "outputs": pytree.map(refer, model._output_tree)}
    return serialize({"layers": list(layers.values()), "calls": calls, **ends})


def _rebuild(layers: list[Layer], calls: list[dict], inputs: Any, outputs: Any) -> tuple[Any, Any]:
    """Repeat the calls of a config; return the symbolic inputs and outputs."""
    named = {layer.name: layer for layer in layers}
    results: list[list[KerasTensor]] = []

    def look_up(leaf: Any) -> Any:
        return results[leaf.call][leaf.output] if isinstance(leaf, Reference) else leaf

    for call in calls:
        target = named[call["target"]] if isinstance(call["target"], str) else call["target"]
        if isinstance(target, InputLayer):
            result = target.output
        else:
            arguments, options = pytree.map(look_up, (call["arguments"], call["options"]))
            result = target(*arguments, **options)
        results.append(symbolic_leaves(result))
    return pytree.map(look_up, inputs), pytree.map(look_up, outputs)


def clone_model(model: Model, clone_function: Callable[[Layer], Layer] | None = None) -> Model:
    """A model of the same structure with new weights; ``clone_function`` may exchange layers."""
    config = model.get_config()
    if clone_function is not None:
        if "layers" not in config:
            raise ValueError(f"clone_model: '{model.name}' is neither functional nor Sequential.")
        layers = {layer.name: layer for layer in model.layers if not isinstance(layer, InputLayer)}
        names = [part["config"]["name"] for part in config["layers"]]
        config["layers"] = [
            clone_function(layers[name]) if name in layers else part
            for name, part in zip(names, config["layers"], strict=True)
        ]
    return type(model).from_config(config)
