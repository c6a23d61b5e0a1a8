"""Variable: named state (weights, statistics, optimizer slots, random counters), and scopes that stand in for it."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np

from .dtypes import is_floating
from .errors import ShapeError, TraceError
from .op import state
from .primitives.elementwise import cast
from .tensor import Tensor, install_operators, tensor, wrap

next_stamp = itertools.count(1).__next__  # assignments are numbered, so that what follows from values can be kept
# Reads and assignments of variables outside of traces: after one, compiled code has to look where they are.
changes = SimpleNamespace(count=0)


class Variable:
    """A mutable cell that holds one tensor of fixed shape and dtype.

    Args:
        value: initial value, anything :func:`tensor` takes.
        dtype: dtype of the cell; that of ``value`` by default.
        trainable: whether gradient tapes watch it and optimizers update it.
        autocast: whether layers that compute in another dtype read it in theirs.
        name: a name for messages; ``path`` adds the names of the layers around it.
        copy: if not, an array given as ``value`` becomes the variable's own memory; nobody else may use it then.

    >>> v = Variable([1.0, 2.0])
    >>> _ = v.assign_add([1.0, 1.0])
    >>> v.numpy()
    array([2., 3.], dtype=float32)
    """

    __slots__ = (
        *("__weakref__", "_shared", "_value", "autocast", "constraint", "name", "path", "regularizer", "stamp"),
        "trainable",
    )

    def __init__(
        self,
        value: Any,
        dtype: Any = None,
        trainable: bool = True,
        name: str = "variable",
        autocast: bool = True,
        copy: bool = True,
    ):
        initial = tensor(value, dtype) if copy else wrap(value)
        if initial._array is None:
            raise TraceError(
                f"Variable {name!r} cannot take a symbolic initial value: variables have to exist before a function is "
                "traced. Build the layer, or call it once, outside."
            )
        self._value = wrap(initial._array)
        self._shared = initial is value or hasattr(value, "__tensor__")  # whether others may hold the array too
        self.stamp = next_stamp()  # of the last assignment
        self.name = name
        self.path = name
        self.trainable = trainable
        self.autocast = autocast and is_floating(initial.dtype)
        self.regularizer = None
        self.constraint = None

    @property
    def value(self) -> Tensor:
        """The tensor held now (inside a trace: the symbolic one)."""
        value = state.variable_scopes[-1].read(self) if state.variable_scopes else self._read()
        if state.recorders:
            if self.trainable:
                value.watched = True
            if not state.variable_scopes or state.variable_scopes[-1].notes_reads:
                for recorder in state.recorders:
                    recorder.note_read(self, value)
        if state.autocast is not None and self.autocast and value.dtype != state.autocast:
            return cast(value, dtype=state.autocast)
        return value

    __tensor__ = value.fget

    def _read(self) -> Tensor:
        changes.count += 1
        self._shared = True
        return self._value

    def storage(self, writable: bool) -> np.ndarray:
        """The array that holds the value, for compiled code; to be written to only if asked for as ``writable``."""
        array = self._value._array
        if not array.flags.c_contiguous or (writable and self._shared):
            array = np.array(array, order="C")
            self._value = wrap(array)
            self._shared = False
            changes.count += 1  # others that are bound to the old array have to look again
        return array

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the value."""
        return self._value.shape

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the value as it is read."""
        return state.autocast if state.autocast is not None and self.autocast else self._value.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._value.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._value.size

    def numpy(self) -> np.ndarray:
        """The value as a read-only numpy array."""
        return self.value.numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.value.__array__(dtype, copy)

    __array_ufunc__ = Tensor.__array_ufunc__
    __array_function__ = Tensor.__array_function__

    def assign(self, value: Any) -> Tensor:
        """Replace the value; the shape must fit and the dtype is converted. Returns the new value."""
        new = value if type(value) is Tensor else tensor(value)
        if new.shape != self.shape:
            raise ShapeError(
                f"Variable '{self.path}' has shape {self.shape}; received a value of shape {new.shape} to assign."
            )
        if new.dtype != self._value.dtype:
            new = tensor(new, self._value.dtype)
        scopes = state.variable_scopes
        if scopes:
            # As outside of scopes, an assigned value is a new start for gradients.
            scopes[-1].write(self, new.detached() if state.recorders else new)
        elif new._array is None:
            raise TraceError(
                f"A symbolic value was assigned to variable '{self.path}' outside of its trace. Values made while a "
                "function is traced cannot leave it, except as its results."
            )
        else:
            changes.count += 1
            self._shared = True
            self._value = wrap(new._array)
            self.stamp = next_stamp()
        return new

    def assign_add(self, value: Any) -> Tensor:
        """Add ``value`` in place. Returns the new value."""
        return self.assign(self.value + value)

    def assign_sub(self, value: Any) -> Tensor:
        """Subtract ``value`` in place. Returns the new value."""
        return self.assign(self.value - value)

    def __getattr__(self, name: str) -> Any:
        if name in _DELEGATED:
            return getattr(self.value, name)
        raise AttributeError(f"'Variable' object has no attribute {name!r}")

    def __len__(self) -> int:
        return len(self._value)

    def __hash__(self) -> int:
        return id(self)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    def __repr__(self) -> str:
        return f"<Variable {self.path} shape={self.shape} dtype={self._value.dtype.name}>"


def _of_value(name: str) -> Any:
    return lambda self, *arguments: getattr(Tensor, name)(self.value, *arguments)


_DELEGATED = frozenset(("item", "tolist", "astype", "reshape", "transpose", "T", "sum", "mean", "max", "min"))
for _name in ("__bool__", "__float__", "__getitem__", "__index__", "__int__"):  # Python asks the class
    setattr(Variable, _name, _of_value(_name))
install_operators(Variable)
Variable.__eq__ = object.__eq__  # state is compared by identity, so that it can be kept in lists and dicts
Variable.__ne__ = object.__ne__


class StateScope:
    """While open, reads and assignments of variables go to this scope and leave the variables alone.

    ``initial`` maps variables to the tensors that they are to hold inside. ``reads`` and ``writes`` tell
    afterwards what was asked for first and what was assigned last.

    >>> v = Variable(1.0)
    >>> with StateScope() as scope:
    ...     _ = v.assign(5.0)
    ...     inside = float(v)
    >>> inside, float(v), float(scope.writes[v])
    (5.0, 1.0, 5.0)
    """

    notes_reads = True  # whether gradient tapes hear of the reads inside

    def __init__(self, initial: dict[Variable, Tensor] | None = None):
        self.reads: dict[Variable, Tensor] = dict(initial or {})
        self.writes: dict[Variable, Tensor] = {}

    def read(self, variable: Variable) -> Tensor:
        """Value of ``variable`` in this scope."""
        if variable in self.writes:
            return self.writes[variable]
        if variable not in self.reads:
            self.reads[variable] = self.first_read(variable)
        return self.reads[variable]

    def first_read(self, variable: Variable) -> Tensor:
        """Value at the first read: what the scope outside says."""
        scopes = state.variable_scopes
        position = scopes.index(self)
        return scopes[position - 1].read(variable) if position else variable._read()

    def write(self, variable: Variable, value: Tensor) -> None:
        """Note an assignment."""
        self.writes[variable] = value

    def __enter__(self) -> StateScope:
        state.variable_scopes.append(self)
        return self

    def __exit__(self, *exception: Any) -> None:
        state.variable_scopes.remove(self)
