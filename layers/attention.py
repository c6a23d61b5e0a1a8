"""Attention: each query takes a mean of values, weighted by how well their keys match it."""

from __future__ import annotations

import math
import string
from typing import Any

import numpy as np

from .. import core
from ..core import ShapeError, Tensor, ops
from ..core.dtypes import limits
from .dense import EinsumDense
from .layer import Layer


class _MultiHead(Layer):
    """What MultiHeadAttention and GroupedQueryAttention share: projections, masks, the cache."""

    supports_masking = True
    attention_axes: Any = None

    def _configure(self, heads: tuple[int, int], dims: tuple[int, int], dropout: float, options: dict) -> None:
        if min(*heads, *dims) <= 0 or heads[0] % heads[1]:
            raise ValueError(
                f"{type(self).__name__}: expected positive numbers of heads, those of the queries a multiple of "
                f"those of the keys, and positive lengths; received heads {heads}, lengths {dims}."
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"{type(self).__name__}: dropout is in [0, 1); received {dropout}.")
        self._heads, self._dims, self.dropout = heads, dims, dropout
        self.use_bias, self.use_gate = options["use_bias"], options["use_gate"]
        self.sliding_window, self.rotary = options["sliding_window"], options["rotary"]
        if dropout:
            self.seed_generator = core.random.SeedGenerator(options["seed"])

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        (queries, keys), (key_dim, value_dim) = self._heads, self._dims
        key_shape = key_shape or value_shape
        rank = len(query_shape)
        self._flat = rank == 3  # (B, T, C), the axes as attention wants them
        axes = range(1, rank - 1) if self.attention_axes is None else self.attention_axes
        self._axes = [axis % (rank - 1) for axis in axes]
        self.query_dense = self._project("query", query_shape, (queries, key_dim))
        self.key_dense = self._project("key", key_shape, (keys, key_dim))
        if self.use_gate:
            self.gate_dense = self._project("gate", query_shape, (queries, value_dim), activation="sigmoid")
        self.value_dense = self._project("value", value_shape, (keys, value_dim))
        outputs = self._output_shape(query_shape)
        summed = (*query_shape[:-1], queries, value_dim)
        self.output_dense = self._project("attention_output", summed, outputs, axes=2)

    def _output_shape(self, query_shape: Any) -> tuple:
        return (query_shape[-1],)

    def _project(self, name: str, shape: Any, made: tuple, axes: int = 1, activation: Any = None) -> EinsumDense:
        """A built layer that sums over the last ``axes`` and makes others of the extents ``made``."""
        letters = string.ascii_lowercase
        summed, new = letters[:axes], letters[axes : axes + len(made)]
        options = {
            f"{weight}_{kind}": getattr(self, f"{weight}_{kind}")
            for weight in ("kernel", "bias")
            for kind in ("initializer", "regularizer", "constraint")
        }
        layer = EinsumDense(
            f"...{summed},{summed}{new}->...{new}",
            made,
            activation=activation,
            bias_axes=new if self.use_bias else None,
            name=name,
            dtype=self.dtype_policy,
            **options,
        )
        layer.build(shape)
        return layer

    def initial_cache(self, batch_size: int, length: int) -> Tensor:
        """An empty key/value cache for sequences of up to ``length`` steps: (B, 2, length, heads, d)."""
        key_dim, value_dim = self._dims
        if key_dim != value_dim:
            raise ValueError(f"A cache needs keys and values of one length; they have {key_dim}, {value_dim}.")
        return ops.zeros((batch_size, 2, length, self._heads[1], key_dim), self.compute_dtype)

    def call(
        self,
        query: Tensor,
        value: Tensor,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool = False,
        use_causal_mask: bool = False,
        cache: Any = None,
        cache_update_index: Any = None,
    ) -> Any:
        start = 0 if cache_update_index is None else cache_update_index
        q = self.query_dense(query)
        k, v = self.key_dense(value if key is None else key), self.value_dense(value)
        if self.rotary is not None:
            q, k = self.rotary(q, start_index=start), self.rotary(k, start_index=start)
        if cache is not None:
            cache = ops.slice_update(cache, (0, 0, start, 0, 0), ops.stack([k, v], 1))
            k, v = cache[:, 0], cache[:, 1]
        masks = (query_mask, value_mask, key_mask)
        plain = self._flat and self.sliding_window is None and not return_attention_scores and cache is None
        if use_causal_mask and plain and all(m is None for m in (attention_mask, *masks)):
            # The op knows what is causal: it does not look at keys that are hidden for all queries of a block.
            outputs = ops.dot_product_attention(q, k, v, is_causal=True, **_dropping(self, training))
            scores = None
        else:
            mask = self._mask(masks, attention_mask, query.shape, k.shape, start, use_causal_mask)
            outputs, scores = self._attend(q, k, v, mask, training, return_attention_scores)
        if self.use_gate:
            outputs = outputs * self.gate_dense(query)
        outputs = self.output_dense(outputs)
        further = ([scores] if return_attention_scores else []) + ([] if cache is None else [cache])
        return (outputs, *further) if further else outputs

    def _mask(
        self, masks: tuple, explicit: Any, queries: tuple, keys: tuple, start: Any, causal: bool
    ) -> Tensor | None:
        """Where queries may look, (B, T, S) or with B = 1; None for everywhere."""
        query_mask, value_mask, key_mask = masks
        parts = [] if explicit is None else [ops.cast(explicit, "bool")]
        if query_mask is not None:
            parts.append(ops.expand_dims(query_mask, -1))
        parts += [ops.expand_dims(mask, -2) for mask in (value_mask, key_mask) if mask is not None]
        if causal or self.sliding_window is not None:
            rows = ops.expand_dims(ops.arange(queries[1]) + ops.cast(start, "int32"), -1)
            distance = rows - ops.arange(keys[1])  # (T, S)
            if causal:
                parts.append(ops.expand_dims(distance >= 0, 0))
            if self.sliding_window is not None:
                parts.append(ops.expand_dims(ops.absolute(distance) < self.sliding_window, 0))
        if not self._flat and len(parts) > (explicit is not None):
            raise ShapeError(
                f"Masks of queries, values and keys, and causal ones, go with inputs (B, T, C); received "
                f"{queries}. Give an attention_mask (B, *T, *S)."
            )
        mask = None
        for part in parts:
            mask = part if mask is None else ops.logical_and(mask, part)
        return mask

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Any, training: bool, with_scores: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Projected queries (B, *T, heads, d), keys, values (B, *S, …) -> (B, *T, heads, d), scores."""
        if self._flat:
            return self._attend_flat(q, k, v, mask, training, with_scores)
        free = [axis for axis in range(1, q.ndim - 2) if axis not in self._axes]
        order = [0, *free, *self._axes, q.ndim - 2, q.ndim - 1]
        count = 1 + len(free)
        moved = [ops.transpose(x, order) for x in (q, k, v)]
        lead, steps, keys = moved[0].shape[:count], moved[0].shape[count:-2], moved[1].shape[count:-2]
        flat = [ops.reshape(x, (math.prod(lead), -1, *x.shape[-2:])) for x in moved]
        if mask is not None:
            spread = (mask.shape[0], *(1,) * len(free), math.prod(steps), math.prod(keys))
            mask = ops.broadcast_to(ops.reshape(mask, spread), (*lead, *spread[-2:]))
            mask = ops.reshape(mask, (math.prod(lead), *spread[-2:]))
        outputs, scores = self._attend_flat(*flat, mask, training, with_scores)
        outputs = ops.reshape(outputs, (*lead, *steps, *outputs.shape[-2:]))
        if scores is not None:
            scores = ops.reshape(scores, (*lead, scores.shape[1], *steps, *keys))
        return ops.transpose(outputs, [order.index(axis) for axis in range(len(order))]), scores

    @staticmethod
    def _for_heads(mask: Tensor | None) -> Tensor | None:
        """A mask (B, T, S) as (B, 1, T, S): the same for all heads."""
        return mask if mask is None or mask.ndim == 4 else ops.expand_dims(mask, 1)

    def _attend_flat(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Any, training: bool, with_scores: bool
    ) -> tuple[Tensor, Tensor | None]:
        mask = self._for_heads(mask)
        if not with_scores:
            return ops.dot_product_attention(q, k, v, mask=mask, **_dropping(self, training)), None
        shared = q.shape[2] // k.shape[2]
        k, v = (ops.repeat(x, shared, 2) if shared > 1 else x for x in (k, v))
        logits = ops.einsum("bthd,bshd->bhts", q * (1 / math.sqrt(q.shape[-1])), k)
        if mask is not None:
            logits = ops.where(mask, logits, float(limits(logits.dtype).min))
        scores = ops.softmax(logits)
        if mask is not None:
            scores = ops.where(mask, scores, 0.0)  # also of a query that may look nowhere
        used = scores
        if _dropping(self, training):
            used = core.random.dropout(scores, self.dropout, seed=self.seed_generator)
        return ops.einsum("bhts,bshd->bthd", used, v), scores


def _dropping(layer: Any, training: bool) -> dict:
    """What `dot_product_attention` has to know of a layer's dropout; nothing if there is none now."""
    return {"dropout": layer.dropout, "seed": layer.seed_generator} if training and layer.dropout else {}


class MultiHeadAttention(_MultiHead):
    """Attention of several heads: queries (B, T, C), values (B, S, C'), keys (B, S, C'') -> (B, T, C)

    Vaswani et al.: "Attention is all you need" (2017).

    Args:
        num_heads: number of heads.
        key_dim: length of a head's queries and keys.
        value_dim: length of a head's values; ``key_dim`` by default.
        dropout: rate at which scores are dropped in training.
        output_shape: the output's last axis or axes; those of the query by default.
        attention_axes: axes over which to attend, of inputs with several; all but batch and features by default.
        sliding_window: how far queries look: |position of the query - that of the key| < sliding_window.
        flash_attention: accepted for Keras and changes nothing.
        use_gate: whether the result is multiplied by a learnt gate of the query.
        rotary: a :class:`RotaryEmbedding` to turn the projected queries and keys with.

    In the call:
        key: the value by default.
        attention_mask: (B, T, S) or (B, heads, T, S), True where a query may look. The masks that came with
            the inputs count as well.
        use_causal_mask: whether queries look at no later positions.
        return_attention_scores: whether to return (output, scores (B, heads, T, S)).
        cache: keys and values of the steps before, (B, 2, length, heads, d), from :meth:`initial_cache`. Those
            of this call are written at ``cache_update_index`` (an integer or a tensor), and the new cache is
            returned after the output. With ``use_causal_mask`` the places not yet filled are not looked at.

    >>> layer, x = MultiHeadAttention(2, 4), np.ones((1, 3, 8))
    >>> layer(x, x, use_causal_mask=True).shape
    (1, 3, 8)
    >>> cache = layer.initial_cache(batch_size=1, length=3)
    >>> for i in range(3):  # one step after the other
    ...     now = x[:, i : i + 1]
    ...     y, cache = layer(now, now, use_causal_mask=True, cache=cache, cache_update_index=i)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: Any = None,
        attention_axes: Any = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        rotary: Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim or key_dim
        self.attention_axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes
        self.output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape
        options = {"use_bias": use_bias, "use_gate": use_gate, "sliding_window": sliding_window}
        options.update(rotary=rotary, seed=seed)
        self._configure((num_heads, num_heads), (key_dim, self.value_dim), dropout, options)

    def _output_shape(self, query_shape: Any) -> tuple:
        return tuple(self.output_shape or query_shape[-1:])


class GroupedQueryAttention(_MultiHead):
    """Attention in which groups of query heads share one key and value head: (B, T, C), (B, S, C') -> (B, T, C)

    Ainslie et al.: "GQA" (2023). The further arguments are those of :class:`MultiHeadAttention`.

    Args:
        head_dim: length of queries, keys and values of a head.
        num_query_heads: number of heads; a multiple of ``num_key_value_heads``.
        num_key_value_heads: number of heads of keys and values.
    """

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        rotary: Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        options = {"use_bias": use_bias, "use_gate": use_gate, "sliding_window": sliding_window}
        options.update(rotary=rotary, seed=seed)
        self._configure((num_query_heads, num_key_value_heads), (head_dim, head_dim), dropout, options)


GroupQueryAttention = GroupedQueryAttention


class Attention(Layer):
    """Dot-product attention on [query (B, T, C), value (B, S, C'), key (B, S, C) (the value by default)].

    (B, T, C'), with ``return_attention_scores`` also the scores (B, T, S). Luong, Pham, Manning (2015).

    Args:
        use_scale: whether the scores are multiplied by a learnt number.
        score_mode: "dot", or "concat" for the sum of tanh(query + key) over the features.
        dropout: rate at which scores are dropped in training.
        seed: of the dropout.
    """

    supports_masking = True

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(f'{type(self).__name__}: score_mode is "dot" or "concat"; received {score_mode!r}.')
        self.use_scale, self.score_mode, self.dropout = use_scale, score_mode, dropout
        if dropout:
            self.seed_generator = core.random.SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight((), "ones", name="scale") if self.use_scale else None
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight")

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        if self.score_mode == "dot":
            scores = ops.einsum("btc,bsc->bts", query, key)
            return scores if self.scale is None else scores * self.scale
        mixed = ops.expand_dims(query, 2) + ops.expand_dims(key, 1)  # (B, T, S, C)
        mixed = mixed if self.scale is None else mixed * self.scale
        return self.concat_score_weight * ops.sum(ops.tanh(mixed), -1)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            raise ValueError(
                f"{type(self).__name__} takes a list [query, value] or [query, value, key]; received {inputs!r:.80}."
            )
        query, value, key = (*inputs, inputs[1])[:3]
        query_mask, value_mask = (mask[0], mask[1]) if mask is not None else (None, None)
        seen = None if value_mask is None else ops.expand_dims(value_mask, 1)
        if use_causal_mask:
            causal = np.tri(query.shape[1], key.shape[1], dtype=bool)[None]
            seen = ops.logical_and(causal, causal if seen is None else seen)
        dropping = _dropping(self, training)
        if self.score_mode == "dot" and not return_attention_scores:
            query = query if self.scale is None else query * self.scale
            heads = (ops.expand_dims(x, 2) for x in (query, key, value))  # one
            mask = None if seen is None else ops.expand_dims(seen, 1)
            outputs, weights = ops.squeeze(ops.dot_product_attention(*heads, mask=mask, scale=1.0, **dropping), 2), None
        else:
            scores = self._scores(query, key)
            if seen is not None:
                lowered = scores - (65504.0 if scores.dtype == "float16" else 1e9)
                scores = ops.where(seen, scores, lowered)
            weights = ops.softmax(scores)
            if dropping:
                weights = core.random.dropout(weights, self.dropout, seed=self.seed_generator)
            outputs = ops.matmul(weights, value)
        if query_mask is not None:
            outputs = ops.where(ops.expand_dims(query_mask, -1), outputs, 0.0)
        return (outputs, weights) if return_attention_scores else outputs

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None if previous_mask is None else previous_mask[0]


class AdditiveAttention(Attention):
    """Attention by the sum of scale·tanh(query + key) over the features; Bahdanau, Cho, Bengio (2015).

    [query (B, T, C), value (B, S, C'), key (B, S, C) (the value by default)] -> (B, T, C')

    Args:
        use_scale: whether there is a learnt factor for each feature.
        dropout: rate at which scores are dropped in training.
        seed: of the dropout.
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, seed: int | None = None, **kwargs: Any):
        super().__init__(use_scale, "concat", dropout, seed, **kwargs)

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[0][-1],)
        self.scale = self.add_weight(shape, "glorot_uniform", name="scale") if self.use_scale else None

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        mixed = ops.tanh(ops.expand_dims(query, 2) + ops.expand_dims(key, 1))  # (B, T, S, C)
        return ops.sum(mixed if self.scale is None else mixed * self.scale, -1)
