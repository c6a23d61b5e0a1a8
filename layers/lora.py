"""Low-rank adaptation: a trained weight is frozen, and the product of two small matrices is learnt beside it."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, ops
from .layer import Layer


class LowRankAdaptation(Layer):
    """What layers with one large weight share; Hu et al., "LoRA" (2021).

    With :meth:`enable_lora` the weight, (…, n), becomes weight + alpha / rank · a @ b, where a is (…, rank) and b
    (rank, n). Only a and b are trained, and the bias.

    >>> import tenzoo as tz
    >>> layer = tz.layers.Dense(4)
    >>> layer.build((None, 3))
    >>> layer.enable_lora(rank=2)
    >>> [weight.name for weight in layer.trainable_weights]
    ['bias', 'lora_kernel_a', 'lora_kernel_b']
    """

    adapted = "kernel"  # name of the weight
    lora_enabled = False

    def _configure_lora(self, rank: int | None, alpha: float | None) -> None:
        if rank is not None and rank < 1:
            raise ValueError(f"{type(self).__name__}: lora_rank is a positive integer; received {rank}.")
        self.lora_rank, self.lora_alpha = rank, rank if alpha is None else alpha

    def _build_lora(self) -> None:
        """For the end of ``build``."""
        if self.lora_rank:
            self.enable_lora(self.lora_rank, self.lora_alpha)

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        """Freeze the weight, and learn a correction of ``rank`` instead; compile the model again afterwards.

        Args:
            rank: columns of a, rows of b.
            lora_alpha: the correction counts alpha / rank; ``rank`` by default.
            a_initializer, b_initializer: of the two matrices; with b = 0 the layer starts as it was.
        """
        if not self.built and self._path is None:
            raise ValueError(f"Layer '{self.name}' has no weights yet: call it or build() it before enable_lora().")
        if self.lora_enabled:
            raise ValueError(f"Layer '{self.name}' is adapted already, with rank {self.lora_rank}.")
        weight = getattr(self, self.adapted)
        if weight.constraint is not None:
            raise ValueError(
                f"Layer '{self.name}' has a {self.adapted}_constraint, which cannot hold for the sum of the weight and "
                "its correction: make the layer without it."
            )
        self._configure_lora(rank, lora_alpha)
        self._arguments.update(lora_rank=rank, lora_alpha=self.lora_alpha)  # what the config holds
        weight.trainable = False
        self._frozen[:] = [other for other in self._frozen if other is not weight]  # unfreezing spares it
        for part, shape, initializer in (
            ("a", (*weight.shape[:-1], rank), a_initializer),
            ("b", (rank, weight.shape[-1]), b_initializer),
        ):
            name = f"lora_{self.adapted}_{part}"
            matrix = self.add_weight(shape, initializer, regularizer=weight.regularizer, name=name)
            matrix.path = f"{weight.path.rpartition('/')[0]}/{name}"
            setattr(self, name, matrix)
        self.lora_enabled = True

    def merge_lora(self) -> None:
        """Add the correction to the weight for good, and start it at 0 again: the outputs stay as they are."""
        if not self.lora_enabled:
            raise ValueError(f"Layer '{self.name}' is not adapted: there is nothing to merge.")
        getattr(self, self.adapted).assign(self._adapted_weight())
        b = getattr(self, f"lora_{self.adapted}_b")
        b.assign(ops.zeros_like(b))

    def _adapted_weight(self) -> Any:
        weight = getattr(self, self.adapted)
        return weight + self._correction() if self.lora_enabled else weight

    def _correction(self, rows: Tensor | None = None) -> Tensor:
        """alpha / rank · a @ b, or the ``rows`` of a @ b."""
        a = getattr(self, f"lora_{self.adapted}_a") if rows is None else rows
        return ops.matmul(a, getattr(self, f"lora_{self.adapted}_b")) * (self.lora_alpha / self.lora_rank)
