"""Layer: what every layer and model is. It has weights, a way to build them on first call, and a ``call``."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..core import ShapeError, Tensor, Variable, ops, pytree, tensor
from ..core.dtypes import as_dtype, is_floating
from ..core.errors import unknown
from ..core.op import state
from ..core.random import SeedGenerator
from . import constraints, dtype_policy, initializers, regularizers
from .checks import tell_where
from .dtype_policy import DTypePolicy
from .functional import KerasTensor, connect, infer, symbolic_leaves
from .masks import get_mask, set_mask
from .naming import automatic_name
from .serialization import Serializable


class _CallContext(threading.local):
    """What a layer's call hands down to the calls inside it."""

    training: bool | None = None  # None where nobody has said
    root: Layer | None = None  # the outermost layer being called
    blank: bool = False  # whether new weights start as zeros
    room: tuple[float, float] = (math.inf, math.inf)  # layers, and numbers in their weights, that may still be made


_context = _CallContext()


class _Signature(NamedTuple):
    """What ``call`` and ``build`` of a class take, looked up once per class."""

    names: tuple[str, ...]  # positional parameters of call
    takes_training: bool
    default: Any  # of ``training``
    training: int  # position of ``training``; beyond all arguments if it has none
    masks: tuple[tuple[int, str], ...]  # (position of an argument, name of the parameter for its mask)
    makes_mask: bool
    shapes: int  # how many shapes build takes


@functools.cache
def _signature(cls: type[Layer]) -> _Signature:
    parameters = inspect.signature(cls.call).parameters
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = tuple(name for name, p in parameters.items() if p.kind in positional)[1:]
    masks = [(0, "mask")] if "mask" in parameters else []
    masks += [(i, f"{name}_mask") for i, name in enumerate(names) if f"{name}_mask" in parameters]
    build = inspect.signature(cls.build).parameters.values()
    return _Signature(
        names=names,
        takes_training="training" in parameters,
        default=parameters["training"].default if "training" in parameters else None,
        training=names.index("training") if "training" in names else 1 << 30,
        masks=tuple(masks),
        makes_mask=cls.compute_mask is not Layer.compute_mask,
        shapes=sum(p.kind in positional for p in build) - 1,
    )


@contextlib.contextmanager
def blank_weights(layers: float = math.inf, numbers: float = math.inf) -> Iterator[None]:
    """Inside, new weights start as zeros, which costs nothing: for models whose weights are about to be loaded.

    More than so many ``layers``, or ``numbers`` in their weights, are a ValueError.
    """
    saved = _context.blank, _context.room
    _context.blank, _context.room = True, (layers, numbers)
    try:
        yield
    finally:
        _context.blank, _context.room = saved


def _take_room(layers: int, numbers: int) -> None:
    _context.room = _context.room[0] - layers, _context.room[1] - numbers
    if min(_context.room) < 0:
        raise ValueError("the model would have far more layers, or larger weights, than there are weights for")


@contextlib.contextmanager
def _outside_of_traces() -> Iterator[None]:
    """New weights are values, also when the first call happens while a function is traced or recorded."""
    saved = state.variable_scopes, state.recorders, state.autocast
    state.variable_scopes, state.recorders, state.autocast = [], [], None
    try:
        yield
    finally:
        state.variable_scopes, state.recorders, state.autocast = saved


def _prepared(build: Callable) -> Callable:
    """Wrap a class's ``build``: concrete weights, paths under the layer's name, ``built`` set at the end."""

    @functools.wraps(build)
    def wrapped(self: Layer, *shapes: Any) -> None:
        if self._path is not None:  # super().build() of a build that is running
            build(self, *shapes)
            return
        with self._scope(), _outside_of_traces():
            build(self, *shapes)
        self.built = True

    return wrapped


def _with_weight_options(init: Callable) -> Callable:
    """Wrap a class's ``__init__``: arguments such as ``kernel_initializer`` become attributes.

    Each class does so for its own arguments, so a subclass may pass them on or leave them to their defaults.
    """
    signature = inspect.signature(init)
    kinds = {name: _WEIGHT_OPTIONS.get(name.rpartition("_")[2]) for name in signature.parameters}
    kinds = {name: kind for name, kind in kinds.items() if kind is not None and name not in _COMMON}

    @functools.wraps(init)
    def wrapped(self: Layer, *arguments: Any, **options: Any) -> None:
        bound = signature.bind(self, *arguments, **options)
        bound.apply_defaults()
        for name, kind in kinds.items():
            setattr(self, name, kind.get(bound.arguments[name]))
        init(self, *arguments, **options)

    return wrapped if kinds else init


class Layer(Serializable, namespace="layers"):
    """A function of tensors with state.

    A subclass creates weights in ``build(input_shape)`` (called once, before the first call) with
    :meth:`add_weight`, and computes in ``call(inputs)``, which may also take ``training`` and ``mask``.
    Weights and layers assigned to attributes, also inside lists and dicts, are found; constructor arguments
    are recorded for :meth:`get_config`.

    >>> class Gain(Layer):
    ...     def build(self, input_shape):
    ...         self.factor = self.add_weight((input_shape[-1],), "ones", name="factor")
    ...     def call(self, inputs):
    ...         return inputs * self.factor
    >>> Gain()(np.ones((2, 3))).shape
    (2, 3)

    Args:
        name: unique within a model; made from the class name by default.
        dtype: of the weights and of the computation, or a :class:`DTypePolicy` (or its name) with one for
            either; by default the policy in force, ``floatx`` where none was set. Float inputs are cast.
        autocast: whether inputs, and weights when they are read, are cast to the dtype of the computation.
        trainable: whether the weights may be trained.
        activity_regularizer: a penalty on the outputs, added to :attr:`losses` and divided by the batch size.
        input_shape: shape without the batch axis; for the first layer of a ``Sequential``.
    """

    input_spec: Any = None
    supports_masking: bool = False
    _casts_inputs: bool = True  # whether that is this layer's task, not that of those inside

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "build" in vars(cls):
            cls.build = _prepared(cls.build)
        if "__init__" in vars(cls):
            cls.__init__ = _with_weight_options(cls.__init__)

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        layer = super().__new__(cls, *arguments, **options)
        _take_room(1, 0)
        vars(layer).update(name=None, built=False, _trainable=True, _path=None)
        vars(layer).update(
            _tracked={},  # attributes that hold layers or variables, or containers that may
            _weights=[],  # what add_weight made
            _frozen=[],  # the weights that become trainable again when the layer does
            _losses=[],  # what add_loss was given in the last call
            _losing=[],  # the layers that were, while this one was the outermost called
            _nodes=[],  # calls on symbolic tensors
            _made=None,  # shapes of the outputs of the first call, for summaries
        )
        return layer

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        input_shape: Any = None,
        **unexpected: Any,
    ):
        super().__init__()
        if unexpected:
            known = inspect.signature(type(self).__init__).parameters.keys() | _COMMON
            error = unknown("argument", next(iter(unexpected)), known - {"self", "kwargs", "unexpected"})
            raise TypeError(f"{type(self).__name__}(): {error}")
        self.name = automatic_name(type(self)) if name is None else str(name)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.autocast = autocast
        self.dtype_policy = dtype
        self._trainable = bool(trainable)
        vars(self)["declared_shape"] = None if input_shape is None else (None, *input_shape)

    # Weights and nested layers

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, _TRACKED):
            self._tracked[name] = value
            variable = getattr(value, "state", value) if isinstance(value, SeedGenerator) else value
            if isinstance(variable, Variable) and variable.path == variable.name:
                variable.path = f"{self.name}/{variable.name}"
        elif name in self._tracked:
            del self._tracked[name]
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._tracked.pop(name, None)
        object.__delattr__(self, name)

    def _leaves(self, kind: type) -> list:
        return [leaf for leaf in pytree.flatten(list(self._tracked.values())) if isinstance(leaf, kind)]

    def _walk(self, trainable_only: bool = False, seen: set[int] | None = None) -> Iterator[Layer]:
        """This layer and all those inside it, each once; or without what frozen layers hold."""
        seen = set() if seen is None else seen
        if id(self) not in seen and (self.trainable or not trainable_only):
            seen.add(id(self))
            yield self
            for layer in self._leaves(Layer):
                yield from layer._walk(trainable_only, seen)

    def _own_weights(self) -> list[Variable]:
        return unique([*self._weights, *self._leaves(Variable)])

    @property
    def weights(self) -> list[Variable]:
        """All weights, of this layer and then of those inside it, without random counters."""
        return unique(weight for layer in self._walk() for weight in layer._own_weights())

    @property
    def variables(self) -> list[Variable]:
        """All weights and random counters."""
        counters = (g.state for layer in self._walk() for g in layer._leaves(SeedGenerator))
        return unique([*self.weights, *counters])

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights to train: none of a layer with ``trainable=False``, nor of the layers inside it."""
        layers = self._walk(trainable_only=True)
        return unique(w for layer in layers for w in layer._own_weights() if w.trainable)

    trainable_variables = trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that are not to be trained: moving statistics, and what is frozen."""
        trained = set(self.trainable_weights)
        return [weight for weight in self.weights if weight not in trained]

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The variables that are not to be trained, random counters among them."""
        trained = set(self.trainable_weights)
        return [variable for variable in self.variables if variable not in trained]

    @property
    def trainable(self) -> bool:
        """Whether the weights may be trained. Assigning goes down to the layers inside."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self._walk():
            layer._trainable = bool(value)
            if not value:
                layer._frozen.extend(weight for weight in layer._own_weights() if weight.trainable)
            for weight in layer._frozen:
                weight.trainable = bool(value)
            if value:
                layer._frozen.clear()

    def add_weight(
        self,
        shape: Any = (),
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str = "weight",
        autocast: bool = True,
    ) -> Variable:
        """Make a weight; for use in ``build`` or ``__init__``. Without ``autocast`` it is read in its own dtype.

        An initializer, regularizer or constraint that is not given is the layer's attribute
        ``{name}_initializer`` and so on, which constructor arguments of such names become. Failing that
        floats start as "glorot_uniform", others as "zeros".
        """
        dtype = as_dtype(self.variable_dtype if dtype is None else dtype)
        default = "glorot_uniform" if is_floating(dtype) else "zeros"
        initializer = initializers.get(initializer) or getattr(self, f"{name}_initializer", None)
        initializer = initializer or initializers.get(default)
        shape = tuple(shape)
        if None in shape:
            raise ShapeError(
                f"Weight {name!r} of layer '{self.name}' would have shape {shape}. The extents that weights "
                "depend on have to be known when a layer is built: give them in Input(shape=...)."
            )
        _take_room(0, math.prod(shape))
        value = ops.zeros(shape, dtype) if _context.blank else initializer(shape, dtype=dtype)
        weight = Variable(value, dtype, trainable and self.trainable, name, autocast)
        if trainable and not self.trainable:
            self._frozen.append(weight)
        weight.path = f"{self._path or self.name}/{name}"
        weight.regularizer = regularizers.get(regularizer) or getattr(self, f"{name}_regularizer", None)
        weight.constraint = constraints.get(constraint) or getattr(self, f"{name}_constraint", None)
        self._weights.append(weight)
        return weight

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the values of :attr:`weights`."""
        return [np.array(weight) for weight in self.weights]

    def set_weights(self, weights: list) -> None:
        """Set the values of :attr:`weights`; their number and shapes must fit."""
        own = self.weights
        if len(own) != len(weights):
            hint = "" if own or self.built else " The layer is not built yet: call it once, or build() it."
            raise ValueError(f"Layer '{self.name}' has {len(own)} weights; received {len(weights)}.{hint}")
        for weight, value in zip(own, weights, strict=True):
            if tuple(np.shape(value)) != weight.shape:
                raise ShapeError(f"Weight '{weight.path}' has shape {weight.shape}; received {np.shape(value)}.")
        for weight, value in zip(own, weights, strict=True):
            weight.assign(value)

    def count_params(self) -> int:
        """Number of elements in all weights."""
        if not self.built and not self.weights:
            raise ValueError(f"Layer '{self.name}' is not built yet, so it has no weights to count. Call it first.")
        return sum(weight.size for weight in self.weights)

    @contextlib.contextmanager
    def _scope(self) -> Iterator[None]:
        """Weights made inside get paths under this layer's."""
        scopes = state.scopes
        self._path = f"{scopes[-1]}/{self.name}" if scopes else self.name
        scopes.append(self._path)
        try:
            yield
        finally:
            scopes.pop()
            self._path = None

    # Dtypes

    @property
    def dtype_policy(self) -> DTypePolicy:
        """The dtypes of the weights and of the computation. Weights that exist keep theirs."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, policy: Any) -> None:
        self._dtype_policy = dtype_policy.get(policy)
        self._dtype = as_dtype(self._dtype_policy.compute_dtype)
        self._mixed = self.compute_dtype != self.variable_dtype

    @property
    def dtype(self) -> str:
        """Name of the dtype of the weights."""
        return self._dtype_policy.variable_dtype

    variable_dtype = dtype

    @property
    def compute_dtype(self) -> str:
        """Name of the dtype that float inputs are cast to."""
        return self._dtype_policy.compute_dtype

    def _admit(self, value: Any) -> Any:
        """Arrays become tensors, floats are cast to the compute dtype (and keep their mask)."""
        if type(value) is not Tensor:
            if isinstance(value, (list, tuple, dict)):
                return pytree.map(self._admit, value)
            if not isinstance(value, Variable) and not hasattr(value, "__array__"):
                return value
            value = tensor(value)
        if value.dtype is self._dtype or not is_floating(value.dtype) or not (self.autocast and self._casts_inputs):
            return value
        cast = ops.cast(value, self._dtype)
        set_mask(cast, get_mask(value))
        return cast

    # Calls

    def build(self, input_shape: Any) -> None:
        """Create the weights for inputs of ``input_shape`` (a tree of shapes if ``call`` takes a tree)."""

    def call(self, *arguments: Any, **options: Any) -> Any:
        """Compute the outputs; subclasses say how."""
        raise NotImplementedError(f"{type(self).__name__} has no call() method; write one.")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Build if need be, then :meth:`call`; on KerasTensors, record the call for a functional model."""
        if self.name is None:
            raise RuntimeError(f"{type(self).__name__}.__init__ has to call super().__init__() first.")
        signature = _signature(type(self))
        if not arguments and signature.names and signature.names[0] in options:
            arguments = (options.pop(signature.names[0]),)
        simple = len(arguments) == 1 and type(arguments[0]) is Tensor and not options
        if not simple and symbolic_leaves((arguments, options)):
            return self._connect(arguments, options)

        arguments = tuple([self._admit(value) for value in arguments])
        if options:
            options = {name: self._admit(value) for name, value in options.items()}
        if len(arguments) > signature.training:
            options.update(zip(signature.names[signature.training :], arguments[signature.training :]))
            arguments = arguments[: signature.training]
        training = options.pop("training", None)
        outer = _context.training, _context.root
        autocast = state.autocast
        if training is None:
            training = signature.default if outer[0] is None else outer[0]
        if signature.takes_training:
            options["training"] = training
        masks = self._take_masks(signature, arguments, options)
        scopes = state.scopes
        path = f"{scopes[-1]}/{self.name}" if scopes else self.name
        depth = len(scopes)
        try:
            if not self.built:
                self._build_for(signature, arguments, options)
            if self.input_spec is not None:
                self._check_inputs(arguments)
            scopes.append(path)
            _context.training = training
            if self._mixed or autocast is not None:
                state.autocast = self._dtype if self.autocast and is_floating(self._dtype) else None
            if outer[1] is None:
                _context.root = self
                self._forget_losses()
            outputs = self.call(*arguments, **options)
            if self.activity_regularizer is not None:
                self._regularize_activity(outputs)
        except Exception as error:
            tell_where(error, self, path, arguments)
            raise
        finally:
            del scopes[depth:]
            _context.training, _context.root = outer
            state.autocast = autocast
        if masks is not None or signature.makes_mask:
            self._pass_masks(arguments, masks, outputs)
        if self._made is None:
            vars(self)["_made"] = pytree.map(_any_batch, outputs)
        return outputs

    def _connect(self, arguments: tuple, options: dict[str, Any]) -> Any:
        signature = _signature(type(self))
        try:
            if not self.built:
                self._build_for(signature, arguments, options)
            if self.input_spec is not None:
                self._check_inputs(arguments)
        except Exception as error:
            tell_where(error, self, self.name, arguments)
            raise
        outputs = self._isolated(connect, arguments, options)
        for leaf in symbolic_leaves(outputs)[:1]:
            self._nodes.append(leaf.node)
        return outputs

    def _isolated(self, function: Callable, arguments: tuple, options: dict[str, Any]) -> Any:
        """Trace this layer for its shapes: as if nothing was being called, and without losses left behind."""
        outer = _context.training, _context.root
        _context.training, _context.root = False, None
        try:
            return function(self, arguments, options)
        finally:
            _context.training, _context.root = outer
            self._forget_losses()

    def _build_for(self, signature: _Signature, arguments: tuple, options: dict[str, Any]) -> None:
        given = [*arguments, *(options.get(name) for name in signature.names[len(arguments) :])]
        shapes = [pytree.map(lambda leaf: getattr(leaf, "shape", None), value) for value in given[: signature.shapes]]
        self.build(*shapes)
        self.built = True

    def _check_inputs(self, arguments: tuple) -> None:
        specs = self.input_spec if isinstance(self.input_spec, (list, tuple)) else [self.input_spec]
        leaves = pytree.flatten(arguments[0])
        if len(specs) != len(leaves):
            raise ValueError(f"Expected {len(specs)} inputs; received {len(leaves)}.")
        for spec, leaf in zip(specs, leaves, strict=True):
            if spec is not None and hasattr(leaf, "shape"):
                spec.check(leaf)

    # Masks

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the outputs: that of the input, if the layer supports masking."""
        return previous_mask

    def _take_masks(self, signature: _Signature, arguments: tuple, options: dict[str, Any]) -> Any:
        """Fill in the mask parameters of ``call`` that were not given; return the first argument's mask."""
        for position, name in signature.masks:
            if options.get(name) is None and position < len(arguments):
                options[name] = get_mask(arguments[position])
        explicit = options.get("mask")
        return get_mask(arguments[0]) if explicit is None and arguments else explicit

    def _pass_masks(self, arguments: tuple, masks: Any, outputs: Any) -> None:
        if get_mask(outputs) is not None:
            return
        if self.supports_masking or _signature(type(self)).makes_mask:
            made = self.compute_mask(arguments[0], masks)
            if isinstance(made, Tensor) == isinstance(outputs, Tensor):
                set_mask(outputs, made)
        elif not _signature(type(self)).masks:
            warnings.warn(
                f"Layer '{self.name}' ({type(self).__name__}) does not support masking; the mask of its "
                "input ends here.",
                stacklevel=3,
            )

    # Losses

    def add_loss(self, loss: Any) -> None:
        """Add scalar tensors to :attr:`losses`; for use in ``call``. The next call starts anew."""
        self._losses.extend(tensor(value) for value in pytree.flatten(loss))
        if _context.root is not None:
            _context.root._losing.append(self)

    def _forget_losses(self) -> None:
        for layer in self._losing:
            layer._losses.clear()
        self._losing.clear()

    def _regularize_activity(self, outputs: Any) -> None:
        for output in pytree.flatten(outputs):
            loss = self.activity_regularizer(output)
            self.add_loss(loss / max(output.shape[0], 1) if output.ndim else loss)

    @property
    def losses(self) -> list[Tensor]:
        """What the layers added with :meth:`add_loss` in the last call, and the penalties on the weights."""
        added = [loss for layer in self._walk() for loss in layer._losses]
        return added + [w.regularizer(w.value) for w in self.trainable_weights if w.regularizer is not None]

    # Shapes and configs

    def compute_output_spec(self, *arguments: Any, **options: Any) -> Any:
        """Shapes and dtypes of the outputs for KerasTensors, as KerasTensors; found by tracing ``call``."""
        if not self.built:
            self._build_for(_signature(type(self)), arguments, options)
        return self._isolated(infer, arguments, options)

    def compute_output_shape(self, *input_shapes: Any) -> Any:
        """Shape of the output for inputs of these shapes; None stands for any extent."""
        inputs = tuple(self._stand_ins(shapes) for shapes in input_shapes)
        return pytree.map(lambda leaf: leaf.shape, self.compute_output_spec(*inputs))

    def _stand_ins(self, shapes: Any) -> Any:
        return _map_shapes(lambda shape: KerasTensor(shape, self._dtype), shapes)

    def _symbolic(self, what: str) -> Any:
        if len(self._nodes) != 1:
            raise AttributeError(
                f"Layer '{self.name}' was called {len(self._nodes)} times on symbolic tensors; its {what} is "
                "defined after exactly one such call."
            )
        node = self._nodes[0]
        return node.outputs if what == "output" else node.arguments[0]

    @property
    def input(self) -> Any:
        """The KerasTensors that the layer was called on in a functional model."""
        return self._symbolic("input")

    @property
    def output(self) -> Any:
        """The KerasTensors that the layer made in a functional model."""
        return self._symbolic("output")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, ready for JSON."""
        common = {"name": self.name, "trainable": self.trainable, "dtype": self.dtype_policy.name}
        return {**super().get_config(), **common}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make a layer, without weight values, from what :meth:`get_config` returned."""
        parameters = inspect.signature(cls.__init__).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return super().from_config(config)
        # A constructor without **kwargs: what every layer has is set afterwards.
        layer = super().from_config({k: v for k, v in config.items() if k in parameters or k not in _COMMON})
        for name in ("name", "trainable"):
            if name in config:
                setattr(layer, name, config[name])
        return layer

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


_TRACKED = (Layer, Variable, SeedGenerator, list, tuple, dict)
_WEIGHT_OPTIONS = {"initializer": initializers, "regularizer": regularizers, "constraint": constraints}
_COMMON = {"name", "trainable", "dtype", "autocast", "activity_regularizer", "input_shape"}


def unique(items: Any) -> list:
    """The items, each object once, in order."""
    return list({id(item): item for item in items}.values())


def _any_batch(value: Any) -> Any:
    """The shape of an output, the first extent unknown."""
    shape = getattr(value, "shape", None)
    return (None, *shape[1:]) if shape else shape


def _map_shapes(function: Callable, shapes: Any) -> Any:
    """Map over a tree whose leaves are shapes."""
    if isinstance(shapes, dict):
        return {key: _map_shapes(function, shape) for key, shape in shapes.items()}
    if all(extent is None or isinstance(extent, (int, np.integer)) for extent in shapes):
        return function(shapes)
    return type(shapes)([_map_shapes(function, shape) for shape in shapes])
