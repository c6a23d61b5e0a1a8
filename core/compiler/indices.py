"""Index arithmetic: positions as affine functions of loop variables, and shapes as products of their extents."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

_numbers = itertools.count()


class Var:
    """A loop variable that runs over range(extent)."""

    __slots__ = ("extent", "number")

    def __init__(self, extent: int):
        self.extent = extent
        self.number = next(_numbers)


class SplitNeeded(Exception):  # noqa: N818  not an error: lowering starts again with a finer variable
    """An index can be written only if ``var`` is split into (extent / inner, inner)."""

    def __init__(self, var: Var, inner: int):
        super().__init__(var.extent, inner)
        self.var = var
        self.inner = inner


class NotAffine(Exception):  # noqa: N818  the value has to be put into memory first
    """A position cannot be written as an affine function of the loop variables."""


class Unfusable(Exception):  # noqa: N818  not an error: the nodes then get kernels of their own, or numpy's help
    """Nodes that were put together cannot be computed in one pass over the data, or an op has no emission."""


class Affine:
    """``const`` plus the sum of coefficient · variable."""

    __slots__ = ("const", "terms")

    def __init__(self, terms: Iterable[tuple[Var, int]] = (), const: int = 0):
        self.terms = tuple((v, c) for v, c in terms if c)
        self.const = const

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and self.terms == other.terms and self.const == other.const

    def __hash__(self) -> int:
        return hash((self.terms, self.const))

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.terms, self.const + other)
        total = dict(self.terms)
        for var, coefficient in other.terms:
            total[var] = total.get(var, 0) + coefficient
        ordered = sorted(total.items(), key=lambda item: item[0].number)
        return Affine(ordered, self.const + other.const)

    def __mul__(self, factor: int) -> Affine:
        return Affine(((v, c * factor) for v, c in self.terms), self.const * factor)

    def coefficient(self, var: Var) -> int:
        """The factor of ``var``."""
        return next((c for v, c in self.terms if v is var), 0)

    def bounds(self) -> tuple[int, int]:
        """Smallest and largest value."""
        spans = [(v.extent - 1) * c for v, c in self.terms]
        return self.const + sum(s for s in spans if s < 0), self.const + sum(s for s in spans if s > 0)

    def divide(self, divisor: int) -> tuple[Affine, Affine]:
        """Quotient and remainder by ``divisor``, both affine; asks for a split where that makes it possible."""
        high = Affine(((v, c // divisor) for v, c in self.terms if c % divisor == 0), self.const // divisor)
        rest = Affine(((v, c) for v, c in self.terms if c % divisor), self.const % divisor)
        low, top = rest.bounds()
        if low >= 0 and top < divisor:
            return high, rest
        for var, coefficient in rest.terms:
            inner, odd = divmod(divisor, coefficient) if coefficient > 0 else (0, 1)
            if not odd and 1 < inner < var.extent and var.extent % inner == 0:
                raise SplitNeeded(var, inner)
        raise NotAffine


ZERO = Affine()


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def linear(indices: Sequence[Affine], shape: Sequence[int]) -> Affine:
    """Row-major position of an element."""
    total = ZERO
    for position, stride in zip(indices, strides_of(shape), strict=True):
        total = total + position * stride
    return total


def delinearize(position: Affine, shape: Sequence[int]) -> tuple[Affine, ...]:
    """Indices of the element at a row-major position."""
    indices = []
    for extent in reversed(shape[1:]):
        position, rest = position.divide(extent) if extent > 1 else (position, ZERO)
        indices.append(rest)
    return (position, *reversed(indices)) if shape else ()


def refine(factors: Sequence[int], shape: Sequence[int]) -> list[list[int]] | None:
    """Split each factor so that every extent of ``shape`` is a product of neighbouring parts.

    Both have the same product. Returns the parts of each factor, or None where boundaries cross.

    >>> refine([6, 4], [2, 12])
    [[2, 3], [4]]
    >>> refine([4, 3], [3, 4]) is None
    True
    """
    if 0 in factors or 0 in shape:  # nothing is computed
        return None
    extents = [n for n in shape if n != 1]
    parts: list[list[int]] = []
    for factor in factors:
        cut: list[int] = []
        while factor > 1:
            if not extents:
                return None
            if factor % extents[0] == 0:
                step = extents.pop(0)
            elif extents[0] % factor == 0:
                step = factor
                extents[0] //= factor
            else:
                return None
            cut.append(step)
            factor //= step
        parts.append(cut or [1])
    return parts if not extents else None


def indices_of(shape: Sequence[int], variables: Sequence[Var]) -> tuple[Affine, ...]:
    """Index of each axis of ``shape``, whose extents are products of the variables' extents in order."""
    rest = [v for v in variables if v.extent > 1]  # of an axis without elements no index is ever taken
    result = []
    for extent in shape:
        own: list[Var] = []
        size = 1
        while size < extent:
            own.append(rest.pop(0))
            size *= own[-1].extent
        position, step = ZERO, 1
        for var in reversed(own):
            position = position + Affine([(var, step)])
            step *= var.extent
        result.append(position)
    return tuple(result)
