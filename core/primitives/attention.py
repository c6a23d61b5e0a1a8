"""Attention as one op, so that its scores never need be in memory all at once; Vaswani et al. (2017).

Queries are (B, T, heads, d), keys and values (B, S, heads_kv, d) and (B, S, heads_kv, e); heads / heads_kv heads share
their keys and values (Ainslie et al. 2023). An optional last input is a mask, True where a query may look: (B or 1,
heads or 1, T or 1, S); what it hides has the least finite score. With ``causal`` query t sees keys 0..t alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError
from ..op import Case, Spec, declare, spec_of
from ..tensor import Tensor


def _checked(q: Any, k: Any, v: Any, mask: tuple) -> None:
    shapes = [x.shape for x in (q, k, v, *mask)]
    fits = all(len(shape) == 4 for shape in shapes) and k.shape[:3] == v.shape[:3] and q.shape[0] == k.shape[0]
    fits = fits and q.shape[3] == k.shape[3] and k.shape[2] and q.shape[2] % k.shape[2] == 0 and k.shape[1]
    if fits and mask:
        full = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
        fits = full[3] == shapes[3][3] and all(n in (1, m) for n, m in zip(shapes[3], full, strict=True))
    if not fits:
        raise ShapeError(
            "attention: expected queries (B, T, heads, d), keys (B, S, heads_kv, d), values (B, S, heads_kv, e) with S "
            "> 0 and heads a multiple of heads_kv, and perhaps a mask that broadcasts to (B, heads, T, S); received "
            + ", ".join(map(str, shapes))
        )


def _rule(q: Any, k: Any, v: Any, *mask: Any, causal: bool, scale: float) -> Spec:
    _checked(q, k, v, mask)
    return Spec((*q.shape[:3], v.shape[3]), q.dtype)


def _gradient_rule(q: Any, k: Any, v: Any, g: Any, *mask: Any, causal: bool, scale: float) -> tuple[Spec, ...]:
    _checked(q, k, v, mask)
    return tuple(map(spec_of, (q, k, v)))


def _for_all_heads(x: np.ndarray, heads: int) -> np.ndarray:
    return np.repeat(x, heads // x.shape[2], 2)


def _weights(q: np.ndarray, k: np.ndarray, mask: tuple, causal: bool, scale: float) -> np.ndarray:
    """(B, heads, T, S): how much each query takes of each value."""
    scores = np.einsum("bthd,bshd->bhts", q, k, optimize=True) * np.asarray(scale, q.dtype)
    if mask:
        scores = np.where(mask[0], scores, np.finfo(q.dtype).min)
    if causal:
        scores = np.where(np.tri(*scores.shape[2:], dtype=bool), scores, -np.inf).astype(q.dtype)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, *mask: np.ndarray, causal: bool, scale: float) -> Any:
    k, v = (_for_all_heads(x, q.shape[2]) for x in (k, v))
    return np.einsum("bhts,bshe->bthe", _weights(q, k, mask, causal, scale), v, optimize=True)


def _attention_gradient(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, *mask: np.ndarray, causal: bool, scale: float
) -> tuple:
    shared = (*k.shape[:3], q.shape[2] // k.shape[2])
    k, v = (_for_all_heads(x, q.shape[2]) for x in (k, v))
    weights = _weights(q, k, mask, causal, scale)
    change = np.einsum("bthe,bshe->bhts", g, v, optimize=True)
    change = weights * (change - (weights * change).sum(-1, keepdims=True))
    if mask:
        change = np.where(mask[0], change, np.zeros((), q.dtype))
    change *= np.asarray(scale, q.dtype)
    dq = np.einsum("bhts,bshd->bthd", change, k, optimize=True)
    dk = np.einsum("bhts,bthd->bshd", change, q, optimize=True).reshape(*shared, q.shape[3]).sum(3)
    dv = np.einsum("bhts,bthe->bshe", weights, g, optimize=True).reshape(*shared, g.shape[3]).sum(3)
    return dq, dk, dv


def _gradient(g: Tensor, y: Tensor, q: Tensor, k: Tensor, v: Tensor, *mask: Tensor, **how: Any) -> tuple:
    return (*attention_gradient(q, k, v, g, *mask, **how), *[None] * len(mask))


def _second_gradient(
    g: tuple, y: tuple, q: Tensor, k: Tensor, v: Tensor, dy: Tensor, *mask: Tensor, causal: bool, scale: float
) -> tuple:
    """Further gradients are those of the same computed in steps, with the scores in memory."""
    from ..gradients import vjp
    from ..ops.nn import _attention_in_steps

    def in_steps(*x: Tensor) -> Tensor:
        return _attention_in_steps(*x, *mask, causal=causal, scale=scale)

    def first(q: Tensor, k: Tensor, v: Tensor, dy: Tensor) -> tuple:
        return vjp(in_steps, q, k, v)[1](dy)

    g = tuple(x * 0 if part is None else part for part, x in zip(g, (q, k, v), strict=True))
    return (*vjp(first, q, k, v, dy)[1](g), *[None] * len(mask))


def _work(q: np.ndarray, k: np.ndarray, v: np.ndarray, *_: np.ndarray, **__: Any) -> float:
    return q.size * k.shape[1] * 2


def _cases() -> list[Case]:
    generator = np.random.default_rng(0)
    masks = [generator.random(shape) < 0.7 for shape in [(2, 1, 1, 7), (2, 4, 5, 7), (1, 1, 5, 1)]]
    masks[2] = np.repeat(masks[2], 7, -1)  # some queries see nothing
    plain, causal = {"causal": False, "scale": 0.4}, {"causal": True, "scale": 0.5}
    shared = ((2, 5, 4, 3), (2, 7, 2, 3), (2, 7, 2, 6))
    return [
        Case(((2, 5, 2, 3), (2, 7, 2, 3), (2, 7, 2, 4)), plain),
        Case(((1, 9, 1, 8), (1, 9, 1, 8), (1, 9, 1, 8)), causal),
        Case(((1, 7, 2, 2), (1, 3, 1, 2), (1, 3, 1, 1)), causal),
        Case((*shared, masks[0]), plain),
        Case((*shared, masks[1]), causal),
        Case((*shared, masks[2]), plain),
        Case(((0, 2, 1, 3), (0, 2, 1, 3), (0, 2, 1, 3)), plain),
        Case(((1, 30, 1, 9), (1, 30, 1, 9), (1, 30, 1, 17)), causal),
    ]


def _gradient_cases(cases: list[Case]) -> list[Case]:
    made = []
    for inputs, attributes, *_ in cases:
        q, k, v, *mask = inputs
        made.append(Case((q, k, v, (*q[:3], v[3]), *mask), attributes))
    return made


attention = declare("attention", rule=_rule, reference=_attention, gradient=_gradient, cases=_cases(), work=_work)
attention_gradient = declare(
    "attention_gradient",
    rule=_gradient_rule,
    reference=_attention_gradient,
    gradient=_second_gradient,
    cases=_gradient_cases(_cases()),
    work=_work,
)
