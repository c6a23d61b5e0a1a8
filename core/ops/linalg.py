"""Linear algebra: factorizations, systems, determinants, norms, over the last two axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import config
from ..dtypes import limits
from ..errors import ShapeError
from ..primitives import linalg as primitive
from ..tensor import Tensor, wrap
from . import math
from .common import axes_of, axis_of, promote_float, scalar, to_float
from .linear import matmul
from .reductions import max, mean, min, sum
from .shape import broadcast_to, diagonal, expand_dims, moveaxis, squeeze, swapaxes, tril, triu


def _identity(x: Tensor) -> Tensor:
    return broadcast_to(wrap(np.eye(x.shape[-1], dtype=x.dtype)), x.shape)


def cholesky(x: Any, upper: bool = False) -> Tensor:
    """The triangular factor L of x = L·Lᵀ (of x = UᵀU if upper) for positive definite x (…, n, n).

    Raises a ValueError where x is not positive definite.
    """
    factor = primitive.cholesky(to_float(x))
    return swapaxes(factor, -1, -2) if upper else factor


def cholesky_inverse(x: Any, upper: bool = False) -> Tensor:
    """Inverse of the matrix whose Cholesky factor is x."""
    factor = to_float(x)
    factor = swapaxes(triu(factor), -1, -2) if upper else tril(factor)
    root = primitive.solve(factor, _identity(factor))
    return matmul(swapaxes(root, -1, -2), root)


def solve(a: Any, b: Any) -> Tensor:
    """x with a·x = b: (…, n, n), (…, n) or (…, n, m) -> shape of b. Raises a ValueError for singular a."""
    a, b = promote_float(a, b)
    if b.ndim == a.ndim - 1:
        return squeeze(primitive.solve(a, expand_dims(b, -1)), -1)
    return primitive.solve(a, b)


def solve_triangular(a: Any, b: Any, lower: bool = False) -> Tensor:
    """x with a·x = b, where only the upper (or lower) triangle of a counts."""
    a = to_float(a)
    return solve(tril(a) if lower else triu(a), b)


def inv(x: Any) -> Tensor:
    """Inverse of square matrices (…, n, n). Raises a ValueError for singular ones."""
    x = to_float(x)
    return primitive.solve(x, _identity(x))


def slogdet(x: Any) -> tuple[Tensor, Tensor]:
    """Sign of the determinant, and logarithm of its magnitude."""
    return primitive.slogdet(to_float(x))


def det(x: Any) -> Tensor:
    """Determinant of square matrices (…, n, n) -> (…)."""
    sign, logarithm = slogdet(x)
    return sign * math.exp(logarithm)


def logdet(x: Any) -> Tensor:
    """Logarithm of the determinant of positive definite matrices."""
    return slogdet(x)[1]


def eigh(x: Any) -> tuple[Tensor, Tensor]:
    """Eigenvalues (ascending) and eigenvectors (as columns) of symmetric matrices."""
    return primitive.eigh(to_float(x))


def eig(x: Any) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Eigenvalues and eigenvectors (as columns) of square matrices, each as a pair of real and imaginary parts.

    There is no gradient; :func:`eigh` has one, for symmetric matrices.

    >>> (real, imaginary), vectors = eig([[0.0, -1.0], [1.0, 0.0]])
    >>> sorted(imaginary.tolist())
    [-1.0, 1.0]
    """
    values, values_imaginary, vectors, vectors_imaginary = primitive.eig(to_float(x))
    return (values, values_imaginary), (vectors, vectors_imaginary)


def qr(x: Any, mode: str = "reduced") -> tuple[Tensor, Tensor]:
    """x = Q·R with orthonormal columns of Q and upper triangular R; mode "reduced" or "complete"."""
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: mode is 'reduced' or 'complete'; received {mode!r}.")
    return primitive.qr(to_float(x), complete=mode == "complete")


def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """x = U·diag(s)·Vᵀ: returns U, s (descending) and Vᵀ, or s alone."""
    if not compute_uv:
        return primitive.svd(to_float(x), full=False)[1]
    return primitive.svd(to_float(x), full=full_matrices)


def pinv(x: Any, rcond: float | None = None) -> Tensor:
    """Pseudo-inverse (Moore, Penrose) of (…, m, n): (…, n, m). Singular values below rcond · largest count as 0."""
    x = to_float(x)
    u, s, vh = primitive.svd(x, full=False)
    cut = limits(x.dtype).eps * np.max(x.shape[-2:]) * 10 if rcond is None else rcond
    kept = s > max(s, -1, True) * scalar(cut, s)
    inverse = math.where(kept, 1 / math.where(kept, s, 1.0), 0.0)
    return matmul(swapaxes(vh, -1, -2) * expand_dims(inverse, -2), swapaxes(u, -1, -2))


def lstsq(a: Any, b: Any, rcond: float | None = None) -> Tensor:
    """x of least norm that minimises |a·x - b|²: (m, n), (m,) or (m, k) -> (n,) or (n, k)."""
    a, b = promote_float(a, b)
    if a.ndim != 2 or b.ndim not in (1, 2) or a.shape[0] != b.shape[0]:
        raise ShapeError(f"lstsq: expected (m, n) and (m,) or (m, k); received shapes {a.shape} and {b.shape}.")
    return matmul(pinv(a, rcond), b)


def matrix_rank(x: Any, tol: float | None = None) -> Tensor:
    """Number of singular values above ``tol``; int32."""
    x = to_float(x)
    s = svd(x, compute_uv=False)
    edge = max(s, -1, True) * float(np.max(x.shape[-2:]) * limits(x.dtype).eps) if tol is None else tol
    return sum(math.cast(s > edge, "int32"), -1)


def lu_factor(x: Any) -> tuple[Tensor, Tensor]:
    """LU factorization with partial pivoting: L and U in one matrix, and the rows exchanged (int32)."""
    return primitive.lu(to_float(x))


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Norm of vectors (one axis) or matrices (two axes, or a matrix without ``axis``), as numpy.linalg.norm.

    ord: None (2-norm of all elements); for vectors any number, inf, -inf; for matrices "fro", "nuc", 1, -1,
    2, -2, inf, -inf.
    """
    x = to_float(x)
    if ord is None:
        return math.sqrt(sum(x * x, axis, keepdims))
    axes = axes_of(axis, x.ndim, "norm")
    if axis is not None and not isinstance(axis, int):
        axes = tuple(axis_of(a, x.ndim, "norm") for a in axis)  # the order matters: rows, columns
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) != 2:
        raise ShapeError(f"norm: ord={ord!r} needs one or two axes; shape {x.shape} with axis={axis} has {len(axes)}.")
    result = _matrix_norm(moveaxis(x, axes, (-2, -1)), ord)
    return expand_dims(result, sorted(axes)) if keepdims else result


def _vector_norm(x: Tensor, ord: Any, axis: int, keepdims: bool) -> Tensor:
    if isinstance(ord, str):
        raise ValueError(f"norm: ord={ord!r} is one of matrices; vectors take a number.")
    if ord == 2:
        return math.sqrt(sum(x * x, axis, keepdims))
    magnitude = math.absolute(x)
    if ord == np.inf:
        return max(magnitude, axis, keepdims)
    if ord == -np.inf:
        return min(magnitude, axis, keepdims)
    if ord == 1:
        return sum(magnitude, axis, keepdims)
    if ord == 0:
        return sum(math.cast(math.not_equal(x, 0), x.dtype), axis, keepdims)
    return math.power(sum(math.power(magnitude, ord), axis, keepdims), 1.0 / ord)


def _matrix_norm(x: Tensor, ord: Any) -> Tensor:
    if ord == "fro":
        return math.sqrt(sum(x * x, (-2, -1)))
    if ord == "nuc":
        return sum(svd(x, compute_uv=False), -1)
    if ord in (1, -1, np.inf, -np.inf):
        totals = sum(math.absolute(x), -2 if ord in (1, -1) else -1)
        return max(totals, -1) if ord > 0 else min(totals, -1)
    if ord in (2, -2):
        s = svd(x, compute_uv=False)
        return max(s, -1) if ord > 0 else min(s, -1)
    raise ValueError(f"norm: ord of matrices is 'fro', 'nuc', ±1, ±2 or ±inf; received {ord!r}.")


def normalize(x: Any, axis: int = -1, order: int = 2, epsilon: float | None = None) -> Tensor:
    """x divided by its norm along an axis."""
    x = to_float(x)
    epsilon = config.epsilon() if epsilon is None else epsilon
    if order == 2:
        return x * math.rsqrt(math.maximum(sum(x * x, axis, True), epsilon**2))
    return x / math.maximum(norm(x, order, axis, True), epsilon)


def cdist(x: Any, y: Any) -> Tensor:
    """Euclidean distances between all pairs of rows: (…, n, d), (…, m, d) -> (…, n, m)."""
    x, y = promote_float(x, y)
    difference = expand_dims(x, -2) - expand_dims(y, -3)
    return math.sqrt(sum(difference * difference, -1))


def corrcoef(x: Any) -> Tensor:
    """Correlation coefficients of variables in rows: (variables, observations) -> (variables, variables)."""
    x = to_float(x)
    x = expand_dims(x, 0) if x.ndim == 1 else x
    centred = x - mean(x, -1, True)
    covariance = matmul(centred, swapaxes(centred, -1, -2))
    deviation = math.sqrt(diagonal(covariance))
    result = covariance / expand_dims(deviation, 0) / expand_dims(deviation, 1)
    return math.clip(squeeze(result) if result.size == 1 else result, -1, 1)
