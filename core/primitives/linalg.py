"""Matrix factorizations and linear systems over the last two axes, with LAPACK as reference.

Gradients: Giles, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation" (2008);
Townsend, "Differentiating the singular value decomposition" (2016); Roberts, Roberts, "QR and LQ decomposition matrix
backpropagation algorithms for square, wide, and deep matrices" (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import INT32, is_floating
from ..errors import DtypeError, ShapeError
from ..op import Case, Spec, declare
from ..tensor import Tensor, wrap
from .elementwise import equal, scalar, where
from .movement import concatenate, reshape, slice_, transpose


def _t(x: Tensor) -> Tensor:
    return transpose(x, axes=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _mask(x: Tensor, values: np.ndarray) -> Tensor:
    return x * wrap(values.astype(x.dtype))


def _eye(like: Tensor) -> Tensor:
    return wrap(np.eye(like.shape[-1], dtype=like.dtype))


def _row(x: Tensor) -> Tensor:
    """(…, n) -> (…, 1, n), which scales the columns of a matrix."""
    return reshape(x, shape=(*x.shape[:-1], 1, x.shape[-1]))


def _square(name: str, x: Any) -> None:
    if len(x.shape) < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name}: expected square matrices (…, n, n); received shape {x.shape}.")
    if not is_floating(x.dtype):
        raise DtypeError(f"{name}: expected a float dtype; received {x.dtype.name}.")


def _square_rule(name: str, *dropped: int) -> Callable:
    """The rule of an op of square matrices; each result has their shape without so many of the last axes."""

    def rule(x: Any) -> Any:
        _square(name, x)
        specs = tuple(Spec(x.shape[: len(x.shape) - count], x.dtype) for count in dropped)
        return specs if len(specs) > 1 else specs[0]

    return rule


def _matrices(name: str, x: Any) -> tuple[tuple[int, ...], int, int]:
    if len(x.shape) < 2 or not is_floating(x.dtype):
        raise ShapeError(f"{name}: expected float matrices (…, m, n); received {x.dtype.name}{list(x.shape)}.")
    return x.shape[:-2], *x.shape[-2:]


def _or_zero(g: Tensor | None, like: Tensor) -> Tensor:
    return like * scalar(0, like) if g is None else g


def _symmetric(x: np.ndarray) -> np.ndarray:
    return (x + np.swapaxes(x, -1, -2)) / 2


_GENERATOR = np.random.default_rng(0)
_SQUARE = _GENERATOR.normal(size=(2, 3, 3)) + 2 * np.eye(3)
_POSITIVE = _SQUARE @ np.swapaxes(_SQUARE, -1, -2) + np.eye(3)
_TALL = _GENERATOR.normal(size=(4, 3))
_BATCH = [Case((_POSITIVE,)), Case((_POSITIVE[0],)), Case((_POSITIVE[:0],), differentiable=False)]


def _solve_rule(a: Any, b: Any) -> Spec:
    _square("solve", a)
    if b.shape[:-1] != a.shape[:-1]:
        raise ShapeError(f"solve: expected (…, n, n) and (…, n, m); received shapes {a.shape} and {b.shape}.")
    return Spec(b.shape, b.dtype)


def _solve_gradient(g: Tensor, x: Tensor, a: Tensor, b: Tensor) -> tuple:
    by_b = solve(_t(a), g)
    return lambda: -(by_b @ _t(x)), by_b


# x with a @ x = b
solve = declare(
    "solve",
    rule=_solve_rule,
    reference=np.linalg.solve,
    gradient=_solve_gradient,
    cases=[Case((_SQUARE, (2, 3, 2))), Case((_SQUARE[0], (3, 1))), Case((_SQUARE, (2, 3, 0)))],
)


def _cholesky_gradient(g: Tensor, factor: Tensor, x: Tensor) -> tuple:
    n = x.shape[-1]
    lower = np.tri(n)
    inner = _mask(_t(factor) @ _mask(g, lower), lower - np.eye(n) / 2)
    left = solve(_t(factor), inner)  # L^-T · inner
    half = solve(_t(factor), _t(left))  # (L^-T · inner · L^-1) transposed
    return ((half + _t(half)) * scalar(0.5, x),)


# The lower factor of the symmetric part of x, which has to be positive definite.
cholesky = declare(
    "cholesky",
    rule=_square_rule("cholesky", 0),
    reference=lambda x: np.linalg.cholesky(_symmetric(x)),
    gradient=_cholesky_gradient,
    cases=_BATCH,
)


def _differences(values: Tensor) -> Tensor:
    """1 / (v_j - v_i) for each pair, and 0 where they are equal."""
    gap = _row(values) - _t(_row(values))
    same = equal(gap, scalar(0, gap))
    return where(same, scalar(0, gap), scalar(1, gap) / where(same, scalar(1, gap), gap))


def _eigh_gradient(g: tuple, y: tuple, x: Tensor) -> tuple:
    values, vectors = y
    by_values, by_vectors = (_or_zero(part, like) for part, like in zip(g, y, strict=True))
    inner = _row(by_values) * _eye(x) + _differences(values) * (_t(vectors) @ by_vectors)
    full = vectors @ inner @ _t(vectors)
    return ((full + _t(full)) * scalar(0.5, x),)


# Eigenvalues, ascending, and eigenvectors (columns) of the symmetric part of x.
eigh = declare(
    "eigh",
    rule=_square_rule("eigh", 1, 0),
    reference=lambda x: tuple(np.linalg.eigh(_symmetric(x))),
    gradient=_eigh_gradient,
    cases=_BATCH,
)


def _eig(x: np.ndarray) -> tuple:
    values, vectors = np.linalg.eig(x)
    return tuple(np.asarray(part, x.dtype) for both in (values, vectors) for part in (both.real, both.imag))


# Eigenvalues and eigenvectors (columns) of x, their real and their imaginary parts.
eig = declare(
    "eig",
    rule=_square_rule("eig", 1, 1, 0, 0),
    reference=_eig,
    cases=[case._replace(differentiable=False) for case in _BATCH],
)


def _svd_rule(x: Any, full: bool) -> tuple:
    lead, m, n = _matrices("svd", x)
    k = min(m, n)
    rows, columns = (m, n) if full else (k, k)
    return Spec((*lead, m, rows), x.dtype), Spec((*lead, k), x.dtype), Spec((*lead, columns, n), x.dtype)


def _svd_gradient(g: tuple, y: tuple, x: Tensor, full: bool) -> tuple:
    if full and x.shape[-1] != x.shape[-2]:
        raise ValueError(f"svd: with full_matrices=True only square matrices have a gradient, not shape {x.shape}.")
    u, s, vh = y
    gu, gs, gvh = (_or_zero(part, like) for part, like in zip(g, y, strict=True))
    v, gv = _t(vh), _t(gvh)
    gaps = _differences(s * s)
    left, right = _t(u) @ gu, _t(v) @ gv
    inner = gaps * (left - _t(left)) * _row(s) + _row(gs) * _eye(gaps) + _t(_row(s)) * gaps * (right - _t(right))
    outside_u = (gu - u @ left) / _row(s)
    outside_v = (gv - v @ right) / _row(s)
    return (u @ inner @ vh + outside_u @ vh + u @ _t(outside_v),)


svd = declare(
    "svd",
    rule=_svd_rule,
    reference=lambda x, full: tuple(np.linalg.svd(x, full_matrices=full)),
    gradient=_svd_gradient,
    cases=[
        Case((_SQUARE,), {"full": True}),
        Case((_TALL,), {"full": False}),
        Case((_TALL.T,), {"full": False}),
        Case((_TALL,), {"full": True}, differentiable=False),
    ],
)


def _qr_rule(x: Any, complete: bool) -> tuple:
    lead, m, n = _matrices("qr", x)
    k = m if complete else min(m, n)
    return Spec((*lead, m, k), x.dtype), Spec((*lead, k, n), x.dtype)


def _qr_gradient(g: tuple, y: tuple, x: Tensor, complete: bool) -> tuple:
    q, r = y
    *_, m, n = x.shape
    if complete and m > n:
        raise ValueError(f"qr: with mode='complete' matrices with more rows than columns ({x.shape}) have no gradient.")
    gq, gr = (_or_zero(part, like) for part, like in zip(g, y, strict=True))
    gr = _mask(gr, np.triu(np.ones(r.shape[-2:])))
    if m >= n:
        return (_qr_square_gradient(q, r, gq, gr),)
    starts, stops = (0,) * x.ndim, x.shape
    head = {"starts": starts, "stops": (*stops[:-1], m), "steps": (1,) * x.ndim}
    tail = {"starts": (*starts[:-1], m), "stops": stops, "steps": (1,) * x.ndim}
    by_head = _qr_square_gradient(
        q, slice_(r, **head), gq + slice_(x, **tail) @ _t(slice_(gr, **tail)), slice_(gr, **head)
    )
    return (concatenate(by_head, q @ slice_(gr, **tail), axis=x.ndim - 1),)


def _qr_square_gradient(q: Tensor, r: Tensor, gq: Tensor, gr: Tensor) -> Tensor:
    inner = r @ _t(gr) - _t(gq) @ q
    n = inner.shape[-1]
    copied = _mask(inner, np.tri(n)) + _t(_mask(inner, np.tri(n, k=-1)))
    return _t(solve(r, _t(gq + q @ copied)))


qr = declare(
    "qr",
    rule=_qr_rule,
    reference=lambda x, complete: tuple(np.linalg.qr(x, "complete" if complete else "reduced")),
    gradient=_qr_gradient,
    cases=[
        Case((_SQUARE,), {"complete": True}),
        Case((_TALL,), {"complete": False}),
        Case((_TALL.T,), {"complete": False}),
        Case((_TALL,), {"complete": True}, differentiable=False),
    ],
)


def _slogdet_gradient(g: tuple, y: tuple, x: Tensor) -> tuple:
    if g[1] is None:
        return (None,)
    return (reshape(g[1], shape=(*g[1].shape, 1, 1)) * solve(_t(x), _eye(x) + x * scalar(0, x)),)


# Sign, and logarithm of the magnitude, of the determinant.
slogdet = declare(
    "slogdet",
    rule=_square_rule("slogdet", 2, 2),
    reference=lambda x: tuple(np.asarray(part, x.dtype) for part in np.linalg.slogdet(x)),
    gradient=_slogdet_gradient,
    cases=[Case((_SQUARE,)), Case((_SQUARE[1],)), Case((_SQUARE[:0],), differentiable=False)],
)


def _lu(x: np.ndarray) -> tuple:
    """Gaussian elimination with partial pivoting (Golub, Van Loan, "Matrix computations", 3.4)."""
    *lead, m, n = x.shape
    out = np.array(x).reshape(-1, m, n)
    pivots = np.zeros((len(out), min(m, n)), np.int32)
    for a, pivot in zip(out, pivots, strict=True):
        for k in range(min(m, n)):
            p = pivot[k] = k + int(np.argmax(np.abs(a[k:, k])))
            a[[k, p]] = a[[p, k]]
            if a[k, k]:
                a[k + 1 :, k] /= a[k, k]
                a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
    return out.reshape(x.shape), pivots.reshape(*lead, min(m, n))


def _lu_gradient(*_: Any) -> None:
    raise ValueError("lu_factor: it has no gradient here; solve, inv, slogdet and cholesky have.")


def _lu_rule(x: Any) -> tuple:
    lead, m, n = _matrices("lu_factor", x)
    return Spec(x.shape, x.dtype), Spec((*lead, min(m, n)), INT32)


# L (without its ones) and U in one matrix, and the row exchanged with row k in step k.
lu = declare(
    "lu",
    rule=_lu_rule,
    reference=_lu,
    gradient=_lu_gradient,
    cases=[Case((_SQUARE,), differentiable=False), Case((_TALL,), differentiable=False)],
)
