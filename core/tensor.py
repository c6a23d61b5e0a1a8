"""Tensor: an immutable value with a shape and a dtype, or, while tracing, the name of a value to come."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from . import dtypes, pytree
from .errors import DtypeError, TraceError


class Tensor:
    """An immutable n-dimensional array.

    A concrete tensor holds a numpy array; a symbolic one, met while tracing, holds none and stands for output
    ``index`` of graph node ``node``. A concrete tensor remembers its node only while a gradient may want it.

    >>> t = tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> (t @ t + 1).numpy()
    array([[ 8., 11.],
           [16., 23.]], dtype=float32)
    """

    __slots__ = ("__weakref__", "_array", "dtype", "index", "node", "shape", "watched")

    def __init__(self, array: np.ndarray | None, shape: tuple, dtype: np.dtype, node: Any = None, index: int = 0):
        self._array = array
        self.shape = shape
        self.dtype = dtype
        self.node = node
        self.index = index
        self.watched = False

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def key(self) -> Any:
        """What identifies this value in a graph: its node and output index, or the tensor itself."""
        return (self.node, self.index) if self.node is not None else id(self)

    def detached(self) -> Tensor:
        """The same value without its history, which can then be freed: a constant for gradients."""
        return wrap(self._array) if self._array is not None else ops.stop_gradient(self)

    def numpy(self) -> np.ndarray:
        """Return the value as a read-only numpy array (no copy)."""
        view = self._concrete("numpy()").view()
        view.flags.writeable = False
        return view

    def item(self) -> bool | int | float:
        """Return the only element as a Python number."""
        return self._concrete("item()").item()

    def tolist(self) -> Any:
        """Return the elements as nested lists."""
        return self._concrete("tolist()").tolist()

    def astype(self, dtype: Any) -> Tensor:
        """Return the tensor converted to ``dtype``."""
        return ops.cast(self, dtype)

    def reshape(self, *shape: Any) -> Tensor:
        """Return the tensor with another shape; one extent may be -1."""
        return ops.reshape(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    def transpose(self, *axes: Any) -> Tensor:
        """Return the tensor with permuted axes (reversed without arguments)."""
        if len(axes) == 1 and not isinstance(axes[0], int):
            axes = axes[0]
        return ops.transpose(self, axes or None)

    @property
    def T(self) -> Tensor:  # noqa: N802
        """The tensor with its axes reversed."""
        return ops.transpose(self)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Sum over ``axis``."""
        return ops.sum(self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Mean over ``axis``."""
        return ops.mean(self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Maximum over ``axis``."""
        return ops.max(self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Minimum over ``axis``."""
        return ops.min(self, axis, keepdims)

    def _concrete(self, what: str) -> np.ndarray:
        if self._array is None:
            raise TraceError(
                f"{what} needs the value of a tensor, but this one is symbolic: shape {self.shape}, dtype "
                f"{self.dtype.name}, made by '{self.node.op.name}' while a function was traced{_user_line()}. Keep to "
                "tensor operations there (ops.where for a choice by value, ops.cond for a branch), or run it eagerly."
            )
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self._concrete("np.asarray()")
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else self.numpy()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        name = {"true_divide": "divide", "fabs": "absolute"}.get(ufunc.__name__, ufunc.__name__)
        function = getattr(ops, name, None)
        if method == "__call__" and function is not None and not options:
            return function(*inputs)
        return getattr(ufunc, method)(*_arrays(inputs), **options)

    def __array_function__(self, function: Any, types: Any, arguments: tuple, options: dict) -> Any:
        if function in (np.shape, np.ndim, np.size):  # known of a symbolic tensor too
            return function.__wrapped__(*arguments, **options)
        return function(*_arrays(arguments), **_arrays(options))

    def __dlpack__(self, **options: Any) -> Any:
        array = self._concrete("DLPack export")
        if array.dtype == dtypes.BFLOAT16:
            from .dlpack import bfloat16_capsule

            return bfloat16_capsule(array, **options)
        return array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._concrete("DLPack export").__dlpack_device__()

    def __bool__(self) -> bool:
        return bool(self._concrete("bool()"))

    def __int__(self) -> int:
        return int(self._concrete("int()"))

    def __float__(self) -> float:
        return float(self._concrete("float()"))

    def __index__(self) -> int:
        array = self._concrete("use as an index")
        if array.dtype.kind not in "iu" or array.ndim:
            raise DtypeError(
                f"Only an integer scalar can be a Python index; received shape {self.shape} {self.dtype.name}."
            )
        return int(array)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("A scalar tensor has no length.")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        if self._array is None:
            return f"Tensor(symbolic '{self.node.op.name}', shape={self.shape}, dtype={self.dtype.name})"
        text = np.array2string(self._array, separator=", ", prefix="Tensor(")
        return f"Tensor({text}, shape={self.shape}, dtype={self.dtype.name})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        array = self._concrete("formatting")
        return format(array.item() if array.ndim == 0 else array, spec)

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> Any:
        return tensor, (self._concrete("pickling"),)

    def __getitem__(self, index: Any) -> Tensor:
        return ops.get_item(self, index)


def _holds_tensor(value: Any) -> bool:
    """Whether a value is a tensor or a variable."""
    return isinstance(value, Tensor) or hasattr(value, "__tensor__")


def _arrays(tree: Any) -> Any:
    """Containers with numpy arrays in the place of tensors and variables."""
    return pytree.map(lambda leaf: np.asarray(leaf) if _holds_tensor(leaf) else leaf, tree)


def _method(name: str) -> Any:
    def method(self: Tensor, *arguments: Any) -> Any:
        return getattr(ops, name)(self, *arguments)

    method.__name__ = name
    return method


def _binary(name: str, reflected: bool = False) -> Any:
    def method(self: Tensor, other: Any) -> Any:
        if not _operand(other):
            return NotImplemented
        function = getattr(ops, name)
        return function(other, self) if reflected else function(self, other)

    method.__name__ = name
    return method


def _operand(value: Any) -> bool:
    return isinstance(value, (Tensor, int, float, np.ndarray, np.generic, list, tuple)) or hasattr(value, "__tensor__")


def install_operators(cls: type) -> None:
    """Give ``cls`` Python's arithmetic and comparison operators, computed by :mod:`ops`."""
    arithmetic = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide"}
    arithmetic |= {"mod": "mod", "pow": "power", "matmul": "matmul", "lshift": "left_shift", "rshift": "right_shift"}
    arithmetic |= {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}
    comparisons = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal"}
    comparisons |= {"gt": "greater", "ge": "greater_equal"}
    unary = {"neg": "negative", "pos": "copy", "abs": "absolute", "invert": "bitwise_not", "round": "round"}
    for symbol, name in (arithmetic | comparisons).items():
        setattr(cls, f"__{symbol}__", _binary(name))
    for symbol, name in arithmetic.items():
        setattr(cls, f"__r{symbol}__", _binary(name, reflected=True))
    for symbol, name in unary.items():
        setattr(cls, f"__{symbol}__", _method(name))


install_operators(Tensor)


def wrap(array: np.ndarray) -> Tensor:
    """Make a tensor around ``array`` without copying; nobody may write to the array afterwards."""
    return Tensor(array, array.shape, array.dtype)


def filled(value: Any, shape: tuple[int, ...], dtype: Any) -> Tensor:
    """Make a tensor that holds ``value`` everywhere, in memory for one element."""
    return wrap(np.broadcast_to(np.asarray(value, dtype), shape))


def tensor(value: Any, dtype: Any = None) -> Tensor:
    """Make a tensor from numbers, nested lists, an array, a variable, or another tensor.

    Python floats become ``floatx`` (float32), ints int32; numpy arrays keep their dtype. The data are copied,
    so a later change to ``value`` does not show.

    >>> tensor([1, 2]).dtype.name, tensor(0.5).dtype.name, tensor(np.zeros(2)).dtype.name
    ('int32', 'float32', 'float64')
    """
    if hasattr(value, "__tensor__"):
        value = value.__tensor__()
    if isinstance(value, Tensor):
        return value if dtype is None or value.dtype == dtypes.as_dtype(dtype) else ops.cast(value, dtype)
    if isinstance(value, (list, tuple)) and any(map(_holds_tensor, pytree.flatten(value))):
        return ops.cast(ops.stack([tensor(item) for item in value]), dtype or _common(value))
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DtypeError(f"A {type(value).__name__} cannot become a tensor: {error}.") from None
    if dtypes.kind_of(array.dtype) not in "fiub":
        raise DtypeError(
            f"Expected numbers or booleans for a tensor; received {_describe(value)} of dtype {array.dtype}. "
            "Text has to be encoded as integers first; ragged lists have to be padded."
        )
    target = dtypes.as_dtype(_default_dtype(value, array) if dtype is None else dtype)
    narrowed = dtype is None and array.dtype != target == dtypes.INT32 and array.size
    if narrowed and not (array.min() >= -(2**31) and array.max() < 2**31):
        raise DtypeError(f"Python integers become int32, which {_describe(value)} does not fit; say dtype='int64'.")
    return wrap(np.array(array, dtype=target, order="C", copy=True))


def _default_dtype(value: Any, array: np.ndarray) -> Any:
    if hasattr(value, "dtype"):
        return array.dtype
    return {"f": None, "i": dtypes.INT32, "u": dtypes.INT32}.get(dtypes.kind_of(array.dtype), array.dtype)


def _common(values: Any) -> np.dtype:
    return dtypes.result_type(*[item if dtypes.weak(item) else tensor(item).dtype for item in values])


def _describe(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "…"


def _user_line() -> str:
    """Where the user's own code was, for the message of an error met while tracing."""
    package = __name__.partition(".")[0]
    frame = sys._getframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != package and not module.startswith(package + "."):
            return f", at {frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


from . import ops  # noqa: E402  the operators above need the functions, and those need Tensor
