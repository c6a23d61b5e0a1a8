"""Matrix products and contractions."""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..primitives.contraction import contract
from ..tensor import Tensor
from . import math
from .common import axis_of, promote
from .reductions import sum as reduce_sum
from .shape import broadcast_to, diagonal, expand_dims, moveaxis, pad, reshape, squeeze, stack, transpose

_LETTERS = string.ascii_letters


def matmul(x1: Any, x2: Any) -> Tensor:
    """Matrix product over the last two axes, (…, n, k) @ (…, k, m) -> (…, n, m); vectors as in numpy."""
    a, b = promote(x1, x2)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"matmul: expected at least one axis each; received shapes {a.shape} and {b.shape}.")
    if a.ndim == b.ndim == 1:
        return contract(a, b, spec="a,a->")
    if a.ndim == 1:
        return squeeze(matmul(expand_dims(a, 0), b), -2)
    if b.ndim == 1:
        return squeeze(matmul(a, expand_dims(b, 1)), -1)
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"matmul: shapes {a.shape} and {b.shape} do not fit: the last axis of the first ({a.shape[-1]}) has to "
            f"equal the last but one of the second ({b.shape[-2]}). Transpose or reshape one of them."
        )
    return _product(a, b)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """(…, n, k) @ (…, k, m) whose leading axes broadcast."""
    try:
        lead = _LETTERS[: len(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))]
    except ValueError:
        raise ShapeError(f"matmul: the leading axes of shapes {a.shape} and {b.shape} do not broadcast.") from None
    left, right = lead[len(lead) + 2 - a.ndim :] + "YZ", lead[len(lead) + 2 - b.ndim :] + "ZX"
    left, a = _without_ones(left, a, right, b)
    right, b = _without_ones(right, b, left, a)
    return contract(a, b, spec=f"{left},{right}->{lead}YX")


def dot(x1: Any, x2: Any) -> Tensor:
    """numpy's dot: sums over the last axis of x1 and the last but one of x2; scalars multiply."""
    a, b = promote(x1, x2)
    if a.ndim == 0 or b.ndim == 0:
        return math.multiply(a, b)
    return tensordot(a, b, ([a.ndim - 1], [max(b.ndim - 2, 0)]))


def vdot(x1: Any, x2: Any) -> Tensor:
    """Dot product of the flattened operands."""
    a, b = promote(x1, x2)
    return contract(reshape(a, (-1,)), reshape(b, (-1,)), spec="a,a->")


def inner(x1: Any, x2: Any) -> Tensor:
    """Sums over the last axis of both operands."""
    a, b = promote(x1, x2)
    return math.multiply(a, b) if 0 in (a.ndim, b.ndim) else tensordot(a, b, ([-1], [-1]))


def outer(x1: Any, x2: Any) -> Tensor:
    """Products of all pairs of elements of the flattened operands."""
    a, b = promote(x1, x2)
    return math.multiply(reshape(a, (-1, 1)), reshape(b, (1, -1)))


def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Tensor:
    """Sum over pairs of axes: a number (last of x1 with first of x2) or two lists."""
    a, b = promote(x1, x2)
    if isinstance(axes, int):
        first, second = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        first, second = ([part] if isinstance(part, int) else list(part) for part in axes)
    first = [axis_of(i, a.ndim, "tensordot") for i in first]
    second = [axis_of(i, b.ndim, "tensordot") for i in second]
    left, right = list(_LETTERS[: a.ndim]), list(_LETTERS[a.ndim : a.ndim + b.ndim])
    for i, j in zip(first, second, strict=True):
        right[j] = left[i]
    kept = [c for c in left if c not in right] + [c for c in right if c not in left]
    return contract(a, b, spec=f"{''.join(left)},{''.join(right)}->{''.join(kept)}")


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Einstein summation over named axes, as numpy's; "..." stands for further axes that broadcast.

    >>> einsum("bij,bjk->bik", np.ones((2, 3, 4)), np.ones((2, 4, 5))).shape
    (2, 3, 5)
    """
    operands = promote(*operands)
    inputs, result = _expand_ellipsis(subscripts.replace(" ", ""), operands)
    extents: dict[str, int] = {}
    for letters, value in zip(inputs, operands, strict=True):
        if len(letters) != value.ndim:
            raise ShapeError(
                f"einsum '{subscripts}': '{letters}' names {len(letters)} axes; the operand has shape {value.shape}."
            )
        for letter, extent in zip(letters, value.shape, strict=True):
            if extents.setdefault(letter, extent) not in (extent, 1) and extent != 1:
                raise ShapeError(f"einsum '{subscripts}': axis '{letter}' has extents {extents[letter]} and {extent}.")
            extents[letter] = max(extents[letter], extent)
    terms = [_prepared(letters, value) for letters, value in zip(inputs, operands, strict=True)]
    letters, value = terms[0]
    for i, (other, operand) in enumerate(terms[1:], 1):
        needed = set(result).union(*(rest for rest, _ in terms[i + 1 :]))
        letters, value = _pairwise(letters, value, other, operand, needed)
    letters, value = _summed(letters, value, set(result))
    missing = [c for c in result if c not in letters]
    if missing:
        raise ValueError(f"einsum '{subscripts}': the result names '{missing[0]}', which no operand has.")
    value = transpose(value, [letters.index(c) for c in result])
    return broadcast_to(value, [extents[c] for c in result])


def _expand_ellipsis(subscripts: str, operands: list[Tensor]) -> tuple[list[str], str]:
    left, arrow, result = subscripts.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        raise ValueError(f"einsum '{subscripts}' names {len(inputs)} operands; received {len(operands)}.")
    free = [c for c in reversed(_LETTERS) if c not in subscripts]
    ranks = [v.ndim - len(s) + 3 for s, v in zip(inputs, operands, strict=True) if "..." in s]
    rest = "".join(free[: max(ranks, default=0)])
    inputs = [
        s.replace("...", rest[len(rest) - (v.ndim - len(s) + 3) :]) if "..." in s else s
        for s, v in zip(inputs, operands, strict=True)
    ]
    if not arrow:
        joined = "".join(inputs)
        named = sorted(c for c in set(joined) if joined.count(c) == 1 and c not in rest)
        return inputs, rest + "".join(named)
    return inputs, result.replace("...", rest)


def _prepared(letters: str, value: Tensor) -> tuple[str, Tensor]:
    """Take the diagonal of letters that an operand repeats."""
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            first = letters.index(letter)
            second = letters.index(letter, first + 1)
            value = moveaxis(diagonal(value, 0, first, second), -1, 0)
            letters = letter + letters[:first] + letters[first + 1 : second] + letters[second + 1 :]
    return letters, value


def _summed(letters: str, value: Tensor, needed: set[str]) -> tuple[str, Tensor]:
    gone = [i for i, c in enumerate(letters) if c not in needed]
    return ("".join(c for c in letters if c in needed), reduce_sum(value, gone)) if gone else (letters, value)


def _pairwise(a: str, x: Tensor, b: str, y: Tensor, needed: set[str]) -> tuple[str, Tensor]:
    a, x = _summed(a, x, needed | set(b))
    b, y = _summed(b, y, needed | set(a))
    a, x = _without_ones(a, x, b, y)
    b, y = _without_ones(b, y, a, x)
    result = [c for c in dict.fromkeys(a + b) if c in needed]
    # An axis of extent 1 may have left only one of the operands with a letter that is to go.
    a, x = _summed(a, x, needed | set(b))
    b, y = _summed(b, y, needed | set(a))
    return "".join(result), contract(x, y, spec=f"{a},{b}->{''.join(result)}")


def _without_ones(a: str, x: Tensor, b: str, y: Tensor) -> tuple[str, Tensor]:
    """Drop the axes of x with extent 1 that the other operand has longer: they broadcast."""
    ones = [i for i, c in enumerate(a) if c in b and x.shape[i] == 1 and y.shape[b.index(c)] != 1]
    return ("".join(c for i, c in enumerate(a) if i not in ones), squeeze(x, ones)) if ones else (a, x)


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Sum of a diagonal."""
    return reduce_sum(diagonal(x, offset, axis1, axis2), -1)


def cross(x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Tensor:
    """Cross product of vectors of 3 (or 2, whose third element is 0) along an axis."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = promote(x1, x2)
    a, b = moveaxis(a, axisa, 0), moveaxis(b, axisb, 0)
    if not {a.shape[0], b.shape[0]} <= {2, 3}:
        raise ShapeError(f"cross: expected vectors of 2 or 3; received {a.shape[0]} and {b.shape[0]}.")
    if a.shape[0] == b.shape[0] == 2:
        return a[0] * b[1] - a[1] * b[0]
    a, b = (pad(v, [(0, 3 - v.shape[0]), *[(0, 0)] * (v.ndim - 1)]) for v in (a, b))
    return stack([a[i] * b[j] - a[j] * b[i] for i, j in ((1, 2), (2, 0), (0, 1))], axisc)


def kron(x1: Any, x2: Any) -> Tensor:
    """Kronecker product."""
    a, b = promote(x1, x2)
    rank = max(a.ndim, b.ndim)
    a = reshape(a, (1,) * (rank - a.ndim) + a.shape)
    b = reshape(b, (1,) * (rank - b.ndim) + b.shape)
    wide_a = reshape(a, [n for extent in a.shape for n in (extent, 1)])
    wide_b = reshape(b, [n for extent in b.shape for n in (1, extent)])
    return reshape(wide_a * wide_b, [n * m for n, m in zip(a.shape, b.shape, strict=True)])
