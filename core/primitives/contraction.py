"""Products summed over shared axes: every matrix product is one ``contract``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..op import Case, Spec, declare
from ..tensor import Tensor


def parse(spec: str) -> tuple[str, str, str]:
    """Split "ab,bc->ac" into its three parts.

    Every letter of an operand stands once in it, and in the result or in the other operand too; so each
    gradient of a contraction is a contraction.
    """
    inputs, result = spec.split("->")
    a, b = inputs.split(",")
    return a, b, result


def _rule(x: Any, y: Any, spec: str) -> Spec:
    a, b, result = parse(spec)
    extents: dict[str, int] = {}
    for letters, value in ((a, x), (b, y)):
        if len(letters) != len(value.shape):
            raise ShapeError(
                f"contract '{spec}': '{letters}' names {len(letters)} axes, but the operand has shape {value.shape}."
            )
        for letter, extent in zip(letters, value.shape, strict=True):
            if extents.setdefault(letter, extent) != extent:
                raise ShapeError(
                    f"contract '{spec}': shapes {x.shape} and {y.shape} disagree on the axis '{letter}': "
                    f"{extents[letter]} against {extent}. For a matrix product the last axis of the first operand has "
                    "to equal the last but one of the second."
                )
    return Spec(tuple(extents[letter] for letter in result), x.dtype)


def split_axes(spec: str) -> tuple[str, str, str, str]:
    """Letters of the batch axes, the free axes of either operand, and the summed axes."""
    a, b, result = parse(spec)
    batch = "".join(c for c in result if c in a and c in b)
    rows = "".join(c for c in result if c in a and c not in b)
    columns = "".join(c for c in result if c in b and c not in a)
    summed = "".join(c for c in a if c in b and c not in result)
    return batch, rows, columns, summed


def _contract(x: np.ndarray, y: np.ndarray, spec: str) -> np.ndarray:
    a, b, result = parse(spec)
    batch, rows, columns, summed = split_axes(spec)
    left = x.transpose([a.index(c) for c in batch + rows + summed])
    right = y.transpose([b.index(c) for c in batch + summed + columns])
    extents = dict(zip(a + b, x.shape + y.shape, strict=True))
    if any(extents[letter] != extent for letter, extent in zip(a, x.shape, strict=True)):
        _rule(x, y, spec)  # numpy would multiply axes of 2 and 6 with those of 3 and 4

    def size(letters: str) -> int:
        return math.prod(extents[c] for c in letters)

    lead = [extents[c] for c in batch]
    product = np.matmul(
        left.reshape(*lead, size(rows), size(summed)), right.reshape(*lead, size(summed), size(columns))
    )
    order = batch + rows + columns
    return product.reshape([extents[c] for c in order]).transpose([order.index(c) for c in result])


def _gradient(g: Tensor, z: Tensor, x: Tensor, y: Tensor, spec: str) -> tuple:
    a, b, result = parse(spec)
    return (lambda: contract(g, y, spec=f"{result},{b}->{a}"), lambda: contract(x, g, spec=f"{a},{result}->{b}"))


contract = declare(
    "contract",
    rule=_rule,
    reference=_contract,
    gradient=_gradient,
    cases=[
        Case(((3, 4), (4, 5)), {"spec": "ab,bc->ac"}),
        Case(((2, 3, 4), (2, 5, 4)), {"spec": "abc,adc->abd"}),
        Case(((2, 3, 4), (4, 3, 5)), {"spec": "abc,cbd->da"}),
        Case(((4,), (4,)), {"spec": "a,a->"}),
        Case(((3,), (2,)), {"spec": "a,b->ba"}),
        Case(((2, 3), (2, 3)), {"spec": "ab,ab->ba"}),
        Case(((0, 3), (3, 2)), {"spec": "ab,bc->ac"}),
        Case(((2, 0), (0, 3)), {"spec": "ab,bc->ac"}),
    ],
)
