"""Element-wise primitives about how numbers are made; in compiled code they call their references."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import kind_of
from ..errors import DtypeError, ShapeError
from ..op import Case, Op, Spec, broadcast_shapes, declare


def _pairwise(name: str, function: Any, kinds: str, cases: list[Case]) -> Op:
    def rule(a: Any, b: Any) -> Spec:
        if a.dtype != b.dtype or kind_of(a.dtype) not in kinds:
            raise DtypeError(f"{name}: expected operands of one dtype; received {a.dtype.name} and {b.dtype.name}.")
        return Spec(broadcast_shapes(name, a.shape, b.shape), a.dtype)

    return declare(name, rule=rule, reference=function, cases=cases)


_INTEGERS = Case((np.arange(-6, 6, dtype=np.int32).reshape(3, 4), np.array([4, 6, 0, 9], np.int32)), {}, 0, 0, False)
gcd = _pairwise("gcd", np.gcd, "iu", [_INTEGERS])
nextafter = _pairwise("nextafter", np.nextafter, "f", [Case(((3, 4), (4,)), differentiable=False)])


def _view_rule(x: Any, dtype: np.dtype) -> Spec:
    old, new = x.dtype.itemsize, dtype.itemsize
    last = x.shape[-1] * old if x.shape else old
    if (not x.shape and old != new) or last % new:
        raise ShapeError(f"view: shape {x.shape} of {x.dtype.name} cannot be read as {dtype.name}.")
    return Spec((*x.shape[:-1], last // new) if x.shape else (), dtype)


# The same bytes read as another dtype; the last axis grows or shrinks with the size of an element.
view = declare(
    "view",
    rule=_view_rule,
    reference=lambda x, dtype: np.ascontiguousarray(x).reshape(x.shape).view(dtype),
    cases=[
        Case(((3, 4),), {"dtype": np.dtype("int32")}, differentiable=False),
        Case((np.arange(4, dtype=np.int32),), {"dtype": np.dtype("uint8")}, differentiable=False),
        Case((np.array(3, np.int32),), {"dtype": np.dtype("uint32")}, differentiable=False),
    ],
)
