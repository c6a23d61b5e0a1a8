"""Embedding, and what makes and passes masks."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, ops
from .layer import Layer
from .lora import LowRankAdaptation
from .masks import set_mask


class Embedding(LowRankAdaptation):
    """A vector for each integer: (…) -> (…, output_dim)

    Args:
        input_dim: number of different integers, which run from 0 to input_dim - 1.
        output_dim: length of the vectors.
        mask_zero: whether 0 stands for padding, which the layers after this one shall skip.
        weights: the table to start with, (input_dim, output_dim).
        lora_rank: learn a correction of the table of this rank in its place; see :meth:`enable_lora`.
        lora_alpha: the correction counts lora_alpha / lora_rank; lora_rank by default.

    >>> Embedding(10, 4)(np.array([[1, 2, 0]])).shape
    (1, 3, 4)
    """

    adapted = "embeddings"

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.autocast = False  # what is taken from the table is cast, not all of it
        self._configure_lora(lora_rank, lora_alpha)
        if input_dim <= 0 or output_dim <= 0:
            raise ValueError(f"Embedding: expected positive extents; received {input_dim} and {output_dim}.")
        self.input_dim, self.output_dim, self.mask_zero = input_dim, output_dim, mask_zero
        self.supports_masking = mask_zero
        if weights is not None:
            self.build()
            self.embeddings.assign(weights[0] if isinstance(weights, list) and len(weights) == 1 else weights)

    def build(self, input_shape: Any = None) -> None:
        self.embeddings = self.add_weight((self.input_dim, self.output_dim), name="embeddings")
        self._build_lora()

    def call(self, inputs: Tensor) -> Tensor:
        indices = inputs if inputs.dtype.kind in "iu" else ops.cast(inputs, "int32")
        vectors = ops.take(self.embeddings, indices, axis=0)
        if self.lora_enabled:
            vectors = vectors + self._correction(ops.take(self.lora_embeddings_a, indices, axis=0))
        return ops.cast(vectors, self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return ops.not_equal(inputs, 0) if self.mask_zero else None


class ReversibleEmbedding(Embedding):
    """An embedding that also turns vectors into scores of the integers: with ``reverse=True`` (…, C) -> (…, input_dim)

    The further arguments are those of :class:`Embedding`.

    Args:
        tie_weights: whether the scores are products with the embeddings, or with weights of their own.
        reverse_dtype: dtype in which scores are computed.
        logit_soft_cap: limit of the scores' size, smoothly by a tanh.

    >>> layer = ReversibleEmbedding(10, 4)
    >>> layer(layer(np.array([[1, 2]])), reverse=True).shape
    (1, 2, 10)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        reverse_dtype: Any = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            input_dim,
            output_dim,
            embeddings_initializer,
            embeddings_regularizer,
            embeddings_constraint,
            mask_zero,
            **kwargs,
        )
        self.tie_weights, self.reverse_dtype, self.logit_soft_cap = tie_weights, reverse_dtype, logit_soft_cap

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        if not self.tie_weights:
            shape = (self.output_dim, self.input_dim)
            self.reverse_embeddings = self.add_weight(shape, self.embeddings_initializer, name="reverse_embeddings")

    def call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        if not reverse:
            vectors = super().call(inputs)
            set_mask(vectors, super().compute_mask(inputs))
            return vectors
        kernel = ops.transpose(self._adapted_weight()) if self.tie_weights else self.reverse_embeddings
        inputs = ops.cast(inputs, self.dtype)
        if self.reverse_dtype is not None:
            inputs, kernel = (ops.cast(x, self.reverse_dtype) for x in (inputs, kernel))
        scores = ops.matmul(inputs, kernel)
        cap = self.logit_soft_cap
        return scores if cap is None else ops.tanh(scores / cap) * cap

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """None: vectors carry the mask that the call gave them, and scores none."""


class Masking(Layer):
    """Mask the time steps whose features all equal ``mask_value``, and set them to 0: (B, T, C)."""

    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def call(self, inputs: Tensor) -> Tensor:
        return ops.where(ops.expand_dims(self.compute_mask(inputs), -1), inputs, 0)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Tensor:
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)


class Identity(Layer):
    """The input itself."""

    supports_masking = True

    def call(self, inputs: Any) -> Any:
        return inputs
