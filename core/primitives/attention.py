"""Attention as one op, so that its scores never need be in memory all at once; Vaswani et al. (2017).

Queries are (B, T, heads, d), keys and values (B, S, heads_kv, d) and (B, S, heads_kv, e); heads / heads_kv heads share
their keys and values (Ainslie et al. 2023). Scores are ``scale`` · query · key; with a ``cap`` c they become
c·tanh(score / c). Inputs that may follow are told apart by their dtypes:

- floats: a bias, added to the scores: (B or 1, heads or 1, T or 1, S);
- booleans: a mask of such a shape, True where a query may look; what it hides has the least finite score;
- uint32: the state of a draw. Weights are dropped with the probability ``rate``, and the others scaled by
  1 / (1 - rate). One evaluation of Philox serves four keys of a row, and a weight's word depends on the draw and on its
  batch, head, query and key alone: see `kept`.

With ``causal`` query t sees keys 0..t alone. The second result, (B, heads, T, 2), is what the gradient wants to know of
each query's scores: the largest, and the sum of exp(score - largest); Dao et al. (2022). Of a query that sees nothing
they are 0 and the negative sum. The gradients take it as an input that has to belong to the others: kernels rely on it,
and the references compute the same anew.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..dtypes import FLOAT32, HALVES, is_floating
from ..errors import ShapeError
from ..op import Case, Spec, declare, spec_of
from ..tensor import Tensor
from .random_bits import _random_bits, random_bits

LANES = 8  # keys in a row that get the same word of Philox blocks in a row


def _kind(x: Any) -> str:
    return "f" if is_floating(x.dtype) else x.dtype.kind


def optional(kind: str, rest: tuple) -> Any:
    """The input of a kind of dtype among those that may be there ("f": bias, "b": mask, "u": draw), or None."""
    return next((x for x in rest if _kind(x) == kind), None)


def _checked(q: Any, k: Any, v: Any, rest: tuple, rate: float) -> None:
    full = (q.shape[0], q.shape[2], q.shape[1], k.shape[1]) if q.ndim == k.ndim == v.ndim == 4 else None
    fits = full and k.shape[:3] == v.shape[:3] and q.shape[0] == k.shape[0] and q.shape[3] == k.shape[3]
    fits = fits and k.shape[2] and q.shape[2] % k.shape[2] == 0 and k.shape[1]
    fits = fits and len(set(map(_kind, rest))) == len(rest) and q.dtype == k.dtype == v.dtype
    for x in rest:
        if _kind(x) == "u":
            fits = fits and x.shape == (4,)
        else:
            fits = fits and x.ndim == 4 and x.shape[3] == full[3] and x.dtype in (q.dtype, bool)
            fits = fits and all(n in (1, m) for n, m in zip(x.shape, full, strict=True))
    if not fits or (rate > 0) != (optional("u", rest) is not None):
        raise ShapeError(
            "attention: expected queries (B, T, heads, d), keys (B, S, heads_kv, d), values (B, S, heads_kv, e) with S "
            "> 0 and heads a multiple of heads_kv, perhaps a bias and a mask (B, heads, T, S) or with axes of 1, and "
            f"with a rate the 4 words of a draw; floats of one dtype; received rate {rate} and "
            + ", ".join(f"{x.dtype.name}{list(x.shape)}" for x in (q, k, v, *rest))
        )


def _rule(q: Any, k: Any, v: Any, *rest: Any, rate: float, **_: Any) -> tuple[Spec, ...]:
    _checked(q, k, v, rest, rate)
    exact = FLOAT32 if q.dtype in HALVES else q.dtype
    return Spec((*q.shape[:3], v.shape[3]), q.dtype), Spec((q.shape[0], q.shape[2], q.shape[1], 2), exact)


def _gradient_rule(q: Any, k: Any, v: Any, g: Any, statistics: Any, *rest: Any, rate: float, **_: Any) -> tuple:
    _checked(q, k, v, rest, rate)
    return tuple(map(spec_of, (q, k, v)))


def _bias_gradient_rule(q: Any, k: Any, v: Any, g: Any, statistics: Any, *rest: Any, rate: float, **_: Any) -> Spec:
    _checked(q, k, v, rest, rate)
    return spec_of(optional("f", rest))


# -- which weights are kept ------------------------------------------------------------------------------------------


def groups_of(keys: int) -> int:
    """How many times four words of `LANES` blocks each a row of keys takes."""
    return -(-keys // (4 * LANES))


def kept(draw: Any, shape: tuple, rate: float) -> Any:
    """Which weights of ``shape`` (B, heads, T, S) are not dropped.

    Row r (of all batches, heads and queries) begins at block r · groups · LANES of the draw's Philox blocks (see
    random_bits.py); key s has word s % (4 · LANES) // LANES of block s // (4 · LANES) · LANES + s % LANES from there.
    """
    groups = groups_of(shape[3])
    bits = random_bits if isinstance(draw, Tensor) else _random_bits
    words = bits(draw, shape=(4, *shape[:3], groups, LANES)).transpose((1, 2, 3, 4, 0, 5))
    words = words.reshape((*shape[:3], groups * 4 * LANES))
    return words[..., : shape[3]] >= np.uint32(least_word(rate))


def least_word(rate: float) -> int:
    """The least random word with which a weight is kept."""
    return min(int(rate * 2**32), 2**32 - 1)


# -- references ------------------------------------------------------------------------------------------------------


def _for_all_heads(x: np.ndarray, heads: int) -> np.ndarray:
    return np.repeat(x, heads // x.shape[2], 2)


def _weights(q: np.ndarray, k: np.ndarray, rest: tuple, causal: bool, scale: float, cap: float, rate: float) -> tuple:
    """All of (B, heads, T, S): how much each query takes of each value, how much it would without dropping, and the
    derivative of the scores by what they were before the cap; and the second result of the op.
    """
    scores = np.einsum("bthd,bshd->bhts", q, k, optimize=True) * np.asarray(scale, q.dtype)
    slope = np.ones((), q.dtype)
    if cap:
        bent = np.tanh(scores / np.asarray(cap, q.dtype))
        scores, slope = bent * np.asarray(cap, q.dtype), 1 - bent * bent
    if (bias := optional("f", rest)) is not None:
        scores = scores + bias
    if (mask := optional("b", rest)) is not None:
        scores = np.where(mask, scores, np.finfo(q.dtype).min)
    if causal:
        scores = np.where(np.tri(*scores.shape[2:], dtype=bool), scores, -np.inf).astype(q.dtype)
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    used = weights = weights / total
    if rate:
        keep = kept(optional("u", rest), weights.shape, rate)
        used = np.where(keep, weights * np.asarray(1 / (1 - rate), q.dtype), np.zeros((), q.dtype))
    blind = top == np.finfo(q.dtype).min
    statistics = np.concatenate([np.where(blind, 0, top), np.where(blind, -total, total)], -1).astype(q.dtype)
    return used, weights, slope, statistics


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, *rest: np.ndarray, **how: Any) -> tuple:
    k, v = (_for_all_heads(x, q.shape[2]) for x in (k, v))
    used, *_, statistics = _weights(q, k, rest, **how)
    return np.einsum("bhts,bshe->bthe", used, v, optimize=True), statistics


def _changes(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, rest: tuple, how: dict) -> tuple:
    """The weights that were used, and the gradients by the scores after and before the cap."""
    used, weights, slope, _ = _weights(q, k, rest, **how)
    change = used * np.einsum("bthe,bshe->bhts", g, v, optimize=True)
    change = change - weights * change.sum(-1, keepdims=True)
    if (mask := optional("b", rest)) is not None:
        change = np.where(mask, change, np.zeros((), q.dtype))
    return used, change, change * slope


def _attention_gradient(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, statistics: Any, *rest: np.ndarray, **how: Any
) -> tuple:
    shared = (*k.shape[:3], q.shape[2] // k.shape[2])
    k, v = (_for_all_heads(x, q.shape[2]) for x in (k, v))
    used, _, change = _changes(q, k, v, g, rest, how)
    change = change * np.asarray(how["scale"], q.dtype)
    dq = np.einsum("bhts,bshd->bthd", change, k, optimize=True)
    dk = np.einsum("bhts,bthd->bshd", change, q, optimize=True).reshape(*shared, q.shape[3]).sum(3)
    dv = np.einsum("bhts,bthe->bshe", used, g, optimize=True).reshape(*shared, g.shape[3]).sum(3)
    return dq, dk, dv


def _bias_gradient(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, statistics: Any, *rest: np.ndarray, **how: Any
) -> np.ndarray:
    k, v = (_for_all_heads(x, q.shape[2]) for x in (k, v))
    change = _changes(q, k, v, g, rest, how)[1]
    spread = tuple(i for i, (n, m) in enumerate(zip(optional("f", rest).shape, change.shape, strict=True)) if n != m)
    return change.sum(spread, keepdims=True)


# -- gradients -------------------------------------------------------------------------------------------------------


def _gradient(g: tuple, made: tuple, q: Tensor, k: Tensor, v: Tensor, *rest: Tensor, **how: Any) -> tuple:
    if g[1] is not None:
        return _gradient_in_steps(g, made, q, k, v, rest, how)
    inputs = (q, k, v, g[0], made[1], *rest)
    # The bias's is made only where it is wanted.
    of_bias = functools.partial(attention_bias_gradient, *inputs, **how)
    return (*attention_gradient(*inputs, **how), *[of_bias if x is optional("f", rest) else None for x in rest])


def _in_steps(rest: tuple, how: dict) -> tuple:
    """Attention as a function of (q, k, v, bias if there is one) with its scores in memory, and the bias as a tuple."""
    from ..ops.nn import _attention_in_steps

    def function(q: Tensor, k: Tensor, v: Tensor, *bias: Tensor) -> tuple:
        return _attention_in_steps(q, k, v, *bias, *(x for x in rest if _kind(x) != "f"), **how)

    return function, tuple(x for x in rest if _kind(x) == "f")


def _by_input(parts: tuple, rest: tuple) -> list:
    """Gradients for the inputs that may be there: what is left of ``parts`` is the bias's."""
    return [parts[0] if _kind(x) == "f" else None for x in rest]


def _gradient_in_steps(g: tuple, made: tuple, q: Tensor, k: Tensor, v: Tensor, rest: tuple, how: dict) -> tuple:
    from ..gradients import vjp
    from ..ops import concatenate, exp

    attend, bias = _in_steps(rest, how)

    def both(*x: Tensor) -> tuple:
        y, scores = attend(*x)
        top = scores.max(-1, True)
        return y, concatenate([top, exp(scores - top).sum(-1, True)], -1)

    parts = vjp(both, q, k, v, *bias)[1](
        tuple(x * 0 if part is None else part for part, x in zip(g, made, strict=True))
    )
    return (*parts[:3], *_by_input(parts[3:], rest))


def _second_gradient(
    g: Any, made: Any, q: Tensor, k: Tensor, v: Tensor, dy: Tensor, *others: Tensor, **how: Any
) -> tuple:
    """Further gradients are those of the same computed in steps, with the scores in memory."""
    from ..gradients import vjp

    rest = others[1:]
    attend, bias = _in_steps(rest, how)
    many = isinstance(g, tuple)

    def first(q: Tensor, k: Tensor, v: Tensor, dy: Tensor, *bias: Tensor) -> Any:
        parts = vjp(lambda *x: attend(*x)[0], q, k, v, *bias)[1](dy)
        return parts[:3] if many else parts[3]

    if many:
        g = tuple(x * 0 if part is None else part for part, x in zip(g, (q, k, v), strict=True))
    parts = vjp(first, q, k, v, dy, *bias)[1](g)
    return (*parts[:4], None, *_by_input(parts[4:], rest))


# -- cases -----------------------------------------------------------------------------------------------------------


def _work(q: np.ndarray, k: np.ndarray, v: np.ndarray, *_: np.ndarray, **__: Any) -> float:
    return q.size * k.shape[1] * 2


def _cases() -> list[Case]:
    generator = np.random.default_rng(0)
    masks = [generator.random(shape) < 0.7 for shape in [(2, 1, 1, 7), (2, 4, 5, 7), (1, 1, 5, 1)]]
    masks[2] = np.repeat(masks[2], 7, -1)  # some queries see nothing
    draw = np.array([1, 2, 3, 4], np.uint32)
    how = {"causal": False, "scale": 0.4, "cap": 0.0, "rate": 0.0}
    causal = how | {"causal": True, "scale": 0.5}
    shared = ((2, 5, 4, 3), (2, 7, 2, 3), (2, 7, 2, 6))
    return [
        Case(((2, 5, 2, 3), (2, 7, 2, 3), (2, 7, 2, 4)), how),
        Case(((1, 9, 1, 8), (1, 9, 1, 8), (1, 9, 1, 8)), causal),
        Case(((1, 7, 2, 2), (1, 3, 1, 2), (1, 3, 1, 1)), causal),
        Case((*shared, masks[0]), how),
        Case((*shared, masks[1]), causal),
        Case((*shared, masks[2]), how),
        Case(((0, 2, 1, 3), (0, 2, 1, 3), (0, 2, 1, 3)), how),
        Case(((0, 2, 1, 3), (0, 2, 1, 3), (0, 2, 1, 3), (1, 1, 2, 2), draw), how | {"rate": 0.5}),
        Case(((1, 30, 1, 9), (1, 30, 1, 9), (1, 30, 1, 17)), causal),
        Case((*shared, draw), how | {"rate": 0.3}),
        Case(((1, 40, 2, 3), (1, 37, 1, 3), (1, 37, 1, 5), draw), causal | {"rate": 0.6}),
        Case(shared, how | {"cap": 0.5}),
        Case((*shared, (2, 4, 5, 7)), how),
        Case((*shared, (1, 1, 1, 7)), causal),
        Case((*shared, (2, 1, 1, 7), masks[2], draw), how | {"rate": 0.2, "cap": 1.5}),
        Case((*shared, (1, 4, 5, 7), masks[1], draw), causal | {"rate": 0.2, "cap": 1.5}),
        Case(((1, 30, 1, 9), (1, 30, 1, 9), (1, 30, 1, 9), (1, 1, 30, 30)), causal),
    ]


def _gradient_cases(with_bias: bool) -> list[Case]:
    """The cases of attention, with a gradient of its result, and what it knows of the scores."""
    made, generator = [], np.random.default_rng(1)
    for inputs, attributes, *_ in _cases():
        arrays = [generator.uniform(-2, 2, x) if isinstance(x, tuple) else x for x in inputs]
        if with_bias <= (optional("f", tuple(arrays[3:])) is not None):
            y, statistics = _attention(*arrays, **attributes)
            made.append(Case((*arrays[:3], generator.uniform(-2, 2, y.shape), statistics, *arrays[3:]), attributes))
    return made


attention = declare("attention", rule=_rule, reference=_attention, gradient=_gradient, cases=_cases, work=_work)
attention_gradient = declare(
    "attention_gradient",
    rule=_gradient_rule,
    reference=_attention_gradient,
    gradient=_second_gradient,
    cases=functools.partial(_gradient_cases, with_bias=False),
    work=_work,
)
attention_bias_gradient = declare(
    "attention_bias_gradient",
    rule=_bias_gradient_rule,
    reference=_bias_gradient,
    gradient=_second_gradient,
    cases=functools.partial(_gradient_cases, with_bias=True),
    work=_work,
)
