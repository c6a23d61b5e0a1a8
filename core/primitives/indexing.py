"""Reading and writing at computed positions, and sorting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import INT32
from ..errors import DtypeError, ShapeError
from ..op import Case, Spec, declare


def _check(name: str, shape: tuple, indices: tuple) -> None:
    if not indices or len(indices) > len(shape):
        raise ShapeError(f"{name}: {len(indices)} index tensors for a value of shape {shape}.")
    for index in indices:
        if index.dtype.kind not in "iu":
            raise DtypeError(f"{name}: indices have to be integers; received {index.dtype.name}.")
        if index.shape != indices[0].shape:
            raise ShapeError(f"{name}: index shapes {indices[0].shape} and {index.shape} differ.")
    if 0 in shape[: len(indices)] and indices[0].size:
        raise IndexError(f"{name}: a value of shape {shape} has no elements to index.")
    _in_range(name, shape, [getattr(index, "_array", None) for index in indices])


def _gather_rule(x: Any, *indices: Any) -> Spec:
    _check("gather", x.shape, indices)
    return Spec((*indices[0].shape, *x.shape[len(indices) :]), x.dtype)


def _scatter_add_rule(updates: Any, *indices: Any, shape: tuple) -> Spec:
    _check("scatter_add", shape, indices)
    return Spec(shape, updates.dtype)


def _scatter_set_rule(x: Any, updates: Any, *indices: Any) -> Spec:
    _check("scatter_set", x.shape, indices)
    return Spec(x.shape, x.dtype)


def _in_range(name: str, shape: tuple, indices: Sequence[np.ndarray | None]) -> None:
    for axis, index in enumerate(indices):
        if index is None:  # not known yet: compiled code reads NaN there
            continue
        bad = (index < -shape[axis]) | (index >= shape[axis])
        if bad.any():
            raise IndexError(
                f"{name}: index {index[bad].flat[0]} is out of range for axis {axis} of a value of shape {shape}; "
                f"valid are 0 to {shape[axis] - 1}."
            )


def _gather(x: np.ndarray, *indices: np.ndarray) -> np.ndarray:
    _in_range("gather", x.shape, indices)
    return x[indices]


def _scatter_add(updates: np.ndarray, *indices: np.ndarray, shape: tuple) -> np.ndarray:
    _in_range("scatter_add", shape, indices)
    out = np.zeros(shape, updates.dtype)
    np.add.at(out, indices, updates)
    return out


def _scatter_set(x: np.ndarray, updates: np.ndarray, *indices: np.ndarray) -> np.ndarray:
    _in_range("scatter_set", x.shape, indices)
    out = x.copy()
    out[indices] = updates
    return out


_ROWS = np.array([[0, 2], [1, 1], [-1, 0]], np.int32)
_COLUMNS = np.array([[1, 0], [3, 1], [2, 2]], np.int32)
_DISTINCT = np.array([2, 0], np.int32)

# x[i0, i1, …]: K index tensors of one shape address the first K axes; negative ones count from the end.
gather = declare(
    "gather",
    rule=_gather_rule,
    reference=_gather,
    gradient=lambda g, y, x, *indices: (scatter_add(g, *indices, shape=x.shape), *[None] * len(indices)),
    cases=[
        Case(((3, 4), _ROWS)),
        Case(((3, 4), _ROWS, _COLUMNS)),
        Case(((3, 4, 2), _ROWS)),
        Case(((5,), np.array(2, np.int32))),
        Case(((5, 2), np.zeros((0,), np.int32))),
    ],
)
# Zeros of ``shape``, with each update added at its position; repeated positions add up.
scatter_add = declare(
    "scatter_add",
    rule=_scatter_add_rule,
    reference=_scatter_add,
    gradient=lambda g, y, updates, *indices, shape: (gather(g, *indices), *[None] * len(indices)),
    cases=[
        Case(((3, 2, 4), _ROWS), {"shape": (3, 4)}),
        Case(((3, 2), _ROWS, _COLUMNS), {"shape": (3, 4)}),
        Case(((0, 2), np.zeros((0,), np.int32)), {"shape": (3, 2)}),
    ],
)
# x with rows replaced; where a position is repeated the last update stays (and gradients treat each as kept).
scatter_set = declare(
    "scatter_set",
    rule=_scatter_set_rule,
    reference=_scatter_set,
    gradient=lambda g, y, x, updates, *indices: (
        lambda: scatter_set(g, updates * np.asarray(0, g.dtype), *indices),
        lambda: gather(g, *indices),
        *[None] * len(indices),
    ),
    cases=[Case(((3, 4), (2, 4), _DISTINCT)), Case(((3, 4), (2,), _DISTINCT, np.array([1, 3], np.int32)))],
)


def _argsort(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    if not descending:
        return np.argsort(x, axis, kind="stable").astype(np.int32)
    # Reverse, sort, reverse: equal elements keep their order, as a stable descending sort should.
    last = x.shape[axis] - 1
    return np.flip(last - np.argsort(np.flip(x, axis), axis, kind="stable"), axis).astype(np.int32)


argsort = declare(
    "argsort",
    rule=lambda x, axis, descending: Spec(x.shape, INT32),
    reference=_argsort,
    cases=[
        Case(((3, 4),), {"axis": 1, "descending": False}, differentiable=False),
        Case(((3, 4),), {"axis": 0, "descending": True}, differentiable=False),
        Case((np.array([2, 1, 2, 1, 3]),), {"axis": 0, "descending": True}, differentiable=False),
        Case(((0, 3),), {"axis": 0, "descending": False}, differentiable=False),
    ],
)
# Positions at which ``values`` would be inserted into the sorted vector.
searchsorted = declare(
    "searchsorted",
    rule=lambda vector, values, side: Spec(values.shape, INT32),
    reference=lambda vector, values, side: np.asarray(np.searchsorted(vector, values, side), np.int32),
    cases=[
        Case((np.array([0.0, 1.0, 1.0, 2.0]), (3, 2)), {"side": "left"}, differentiable=False),
        Case((np.array([0.0, 1.0, 2.0]), np.array([1.0, 5.0])), {"side": "right"}, differentiable=False),
    ],
)
