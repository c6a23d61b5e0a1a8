"""What layers check of their inputs, and how their errors say where they happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core import DtypeError, ShapeError, pytree
from ..core.dtypes import as_dtype


@dataclass(frozen=True)
class InputSpec:
    """What a layer takes: a number of axes, extents along some of them (``axes={-1: 3}``), a whole shape."""

    dtype: Any = None
    shape: tuple[int | None, ...] | None = None
    ndim: int | None = None
    max_ndim: int | None = None
    min_ndim: int | None = None
    axes: dict[int, int | None] | None = None

    def check(self, value: Any) -> None:
        """Raise ShapeError or DtypeError if a tensor does not fit."""
        shape, count = value.shape, len(value.shape)
        if self.ndim is not None and count != self.ndim:
            self._refuse(f"{self.ndim} axes", value)
        if self.min_ndim is not None and count < self.min_ndim:
            self._refuse(f"at least {self.min_ndim} axes", value)
        if self.max_ndim is not None and count > self.max_ndim:
            self._refuse(f"at most {self.max_ndim} axes", value)
        for axis, extent in (self.axes or {}).items():
            if extent is not None and shape[axis] not in (extent, None):
                self._refuse(f"extent {extent} along axis {axis}", value)
        if self.shape is not None and (
            count != len(self.shape) or any(a != b and a and b for a, b in zip(shape, self.shape, strict=True))
        ):
            self._refuse(f"shape {self.shape}", value)
        if self.dtype is not None and value.dtype != as_dtype(self.dtype):
            raise DtypeError(f"Expected dtype {as_dtype(self.dtype).name}; received {value.dtype.name}.")

    def _refuse(self, expected: str, value: Any) -> None:
        hint = ""
        wanted = self.ndim or self.min_ndim or (len(self.shape) if self.shape else 0)
        if wanted == len(value.shape) + 1:
            hint = " A missing batch axis is added with x[None], a missing channel axis with x[..., None]."
        elif self.axes:
            hint = " A built layer keeps the extents it was built for."
        raise ShapeError(f"Expected an input with {expected}; received shape {value.shape}.{hint}")


def tell_where(error: Exception, layer: Any, path: str, arguments: tuple) -> None:
    """Add to an error's message the path and the inputs of the innermost layer that it left."""
    if hasattr(error, "layer_path"):
        return
    error.layer_path = path
    where = f"in layer '{path}' ({type(layer).__name__}), called with {_describe(arguments)}"
    if len(error.args) == 1 and isinstance(error.args[0], str) and not isinstance(error, KeyError):
        error.args = (f"{error.args[0]}\n  {where}",)
    else:
        error.add_note(where)


def _describe(arguments: tuple) -> str:
    def leaf(value: Any) -> str:
        shape = getattr(value, "shape", None)
        return repr(value)[:40] if shape is None else f"{value.dtype.name}{list(shape)}"

    return ", ".join(str(pytree.map(leaf, value)).replace("'", "") for value in arguments) or "no inputs"
