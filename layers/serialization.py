"""Objects written as JSON and made again, by registered names alone: reading executes nothing of the file's.

An object is written as ``{"class_name": "layers>Dense", "config": {...}}`` where the config holds the
constructor's arguments, which :class:`Serializable` records. A function is written by its registered name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core import Tensor, Variable, ops, tensor
from ..core.errors import unknown

__all__ = [
    "Serializable",
    "custom_object_scope",
    "deserialize",
    "get_registered_name",
    "get_registered_object",
    "register_serializable",
    "resolve",
    "serialize",
    "snake_case",
]

_PACKAGE = __name__.partition(".")[0]
_registry: dict[str, Any] = {}
_names: dict[Any, str] = {}


class _CustomObjects(threading.local):
    def __init__(self) -> None:
        self.stack: list[dict[str, Any]] = []


_custom = _CustomObjects()


def snake_case(name: str) -> str:
    """A class name in lower case: ``HeNormal`` -> ``he_normal``, ``MaxPooling2D`` -> ``max_pooling2d``."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Serializable:
    """Base of what has a config: the arguments of the constructor are recorded, once, here.

    Classes of this package are registered when they are defined, under ``namespace>Name`` in the room that
    declared the namespace and under ``module>Name`` elsewhere; others with :func:`register_serializable`.
    """

    _namespace: tuple[str, str] = ("", "")  # the room that declared it, and its name

    def __init_subclass__(cls, namespace: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        package, _, module = cls.__module__.partition(".")
        room = module.partition(".")[0]
        if namespace:
            cls._namespace = (room, namespace)
        if package == _PACKAGE:
            home, prefix = cls._namespace
            _register(f"{prefix if room == home else module}>{cls.__name__}", cls)

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        instance = super().__new__(cls)
        vars(instance)["_arguments"] = _bind(cls, arguments, options)
        return instance

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, ready for JSON."""
        return {name: serialize(value) for name, value in self._arguments.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make an object from what :meth:`get_config` returned."""
        return cls(**{name: deserialize(value) for name, value in config.items()})


_signature = functools.cache(lambda cls: inspect.signature(cls.__init__))


def _bind(cls: type, arguments: tuple, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, defaults included; those taken by ``**options`` beside the others."""
    signature = _signature(cls)
    try:
        bound = signature.bind(None, *arguments, **options)
    except TypeError:
        return {}  # __init__ is about to raise it under its own name
    bound.apply_defaults()
    named = dict(list(bound.arguments.items())[1:])
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update(named.pop(parameter.name))
    return named


def register_serializable(package: str = "Custom", name: str | None = None) -> Callable:
    """Decorate a class or function so that saved models may name it, as ``package>name``.

    >>> @register_serializable()
    ... def double(x):
    ...     return 2 * x
    >>> deserialize(serialize(double)) is double
    True
    """

    def decorate(thing: Any) -> Any:
        key = f"{package}>{name or thing.__name__}"
        _registry[key] = thing
        _names[thing] = key
        return thing

    return decorate


def _register(key: str, thing: Any) -> None:
    known = _registry.get(key, thing)
    if (known.__module__, known.__qualname__) != (thing.__module__, thing.__qualname__):
        raise ValueError(f"{thing!r} and {known!r} would both be saved as {key!r}; rename one of them.")
    _registry[key] = thing
    _names[thing] = key


for _prefix, _home in (("ops", ops), ("ops.image", ops.image)):
    for _name, _function in vars(_home).items():
        if callable(_function) and not _name.startswith("_"):
            _register(f"{_prefix}>{_name}", _function)


@contextlib.contextmanager
def custom_object_scope(objects: dict[str, Any] | None) -> Iterator[None]:
    """While open, :func:`deserialize` also finds ``objects``, by name, before the registered ones."""
    _custom.stack.append(objects or {})
    try:
        yield
    finally:
        _custom.stack.pop()


def serialize(value: Any) -> Any:
    """Write ``value`` with what JSON has: dicts, lists, strings, numbers, booleans and None.

    Takes those, tuples, slices, dtypes, arrays, tensors, objects with ``get_config``, functions with a name.
    What is written already stays as it is. Raises TypeError for anything else, lambdas among it.
    """
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [serialize(item) for item in value]
    if isinstance(value, dict):
        return _serialize_dict(value)
    if isinstance(value, tuple):
        return {"class_name": "__tuple__", "items": [serialize(item) for item in value]}
    if isinstance(value, slice):
        items = [serialize(item) for item in (value.start, value.stop, value.step)]
        return {"class_name": "__slice__", "items": items}
    if value is Ellipsis:
        return {"class_name": "__ellipsis__"}
    if isinstance(value, (np.ndarray, Tensor, Variable)):
        array = np.asarray(value)
        kind = "__array__" if isinstance(value, np.ndarray) else "__tensor__"
        items = array.ravel().tolist()
        return {"class_name": kind, "dtype": array.dtype.name, "shape": list(array.shape), "items": items}
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return {"class_name": "__dtype__", "name": np.dtype(value).name}
    if hasattr(value, "get_config") and not isinstance(value, type):
        cls = type(value)
        return {"class_name": _names.get(cls, cls.__name__), "config": serialize(value.get_config())}
    if callable(value):
        name = _names.get(value, getattr(value, "__name__", "<lambda>"))
        if "<" not in name:
            return {"class_name": "__function__", "name": name}
    raise TypeError(
        f"Expected something that can be written as JSON; received {value!r} of type {type(value).__name__}. "
        "Give its class a get_config() method, or name a lambda and decorate it: @register_serializable()."
    )


def _serialize_dict(value: dict) -> dict:
    if all(isinstance(key, str) for key in value):
        return value if "class_name" in value else {key: serialize(item) for key, item in value.items()}
    return {"class_name": "__dict__", "items": [[serialize(k), serialize(v)] for k, v in value.items()]}


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Make again what :func:`serialize` wrote; ``custom_objects`` maps names to classes and functions.

    Raises ValueError for a class or function that is not registered, and for a malformed config.
    """
    if custom_objects:
        with custom_object_scope(custom_objects):
            return deserialize(config)
    if isinstance(config, list):
        return [deserialize(item) for item in config]
    if not isinstance(config, dict):
        return config
    if "class_name" not in config:
        return {key: deserialize(item) for key, item in config.items()}
    try:
        name = config["class_name"]
        if name in _READERS:
            return _READERS[name](config)
        inner = config["config"]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"The config of {config['class_name']!r} is malformed ({error!r}): {config!r:.200}") from None
    cls = _look_up(name, "class")
    if not (isinstance(cls, type) and hasattr(cls, "from_config")):
        raise ValueError(f"{name!r} is not a class with a from_config method, so no config can be given to it.")
    return cls.from_config(deserialize(inner))


_READERS: dict[str, Callable[[dict], Any]] = {
    "__tuple__": lambda c: tuple(deserialize(item) for item in c["items"]),
    "__slice__": lambda c: slice(*[deserialize(item) for item in c["items"]]),
    "__ellipsis__": lambda c: Ellipsis,
    "__dict__": lambda c: {deserialize(key): deserialize(item) for key, item in c["items"]},
    "__array__": lambda c: np.array(c["items"], dtype=c["dtype"]).reshape(c["shape"]),
    "__tensor__": lambda c: tensor(np.array(c["items"], dtype=c["dtype"]).reshape(c["shape"])),
    "__dtype__": lambda c: np.dtype(c["name"]),
    "__function__": lambda c: _look_up(c["name"], "function"),
}


def get_registered_name(obj: Any) -> str:
    """The name under which saved models know a class or function: ``package>name``, or its own if unknown."""
    return _names.get(obj, obj.__name__)


def get_registered_object(name: str, custom_objects: dict[str, Any] | None = None) -> Any:
    """The class or function of a name, or None."""
    for objects in [custom_objects or {}, *reversed(_custom.stack)]:
        for candidate in (name, str(name).rpartition(">")[2]):
            if candidate in objects:
                return objects[candidate]
    if not isinstance(name, str):
        return None
    if name not in _registry:
        _import_home(name)
    return _registry.get(name)


def _look_up(name: Any, kind: str) -> Any:
    found = get_registered_object(name)
    if found is not None:
        return found
    error = unknown(
        kind, name, [key for key, thing in _registry.items() if isinstance(thing, type) == (kind == "class")]
    )
    hint = f"decorate it with @register_serializable() or pass custom_objects={{{str(name)!r}: …}}"
    raise ValueError(f"{error} If {name!r} is your own {kind}, {hint}.")


def _import_home(name: str) -> None:
    """Import the module of this package that registers ``zoo.vision.resnet>ResNet``; none but our own."""
    module = name.rpartition(">")[0]
    if re.fullmatch(r"[a-z]\w*(\.[a-z]\w*)+", module):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"{_PACKAGE}.{module}")


def resolve(identifier: Any, kind: str, known: dict[str, Any]) -> Any:
    """What an argument such as ``activation=`` means: None, a name in ``known``, a config, or an object."""
    if identifier is None or (callable(identifier) and not isinstance(identifier, type)):
        return identifier
    if isinstance(identifier, type):
        return identifier()
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if identifier not in known:
        raise unknown(kind, identifier, known)
    found = known[identifier]
    return found() if isinstance(found, type) else found


def aliases(classes: list[type]) -> dict[str, type]:
    """Names under which :func:`resolve` finds classes: ``HeNormal`` and ``he_normal``."""
    return {name: cls for cls in classes for name in (cls.__name__, snake_case(cls.__name__))}
