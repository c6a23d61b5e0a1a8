"""Layers that join several inputs, and the same as functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..core import ShapeError, Tensor, ops, pytree
from .layer import Layer


class _Merge(Layer):
    """Join a list of tensors that broadcast; those with fewer axes get new ones after the batch axis."""

    supports_masking = True
    combine: Callable  # joins two tensors
    least = 1  # how many inputs there have to be

    def merge(self, inputs: list[Tensor]) -> Tensor:
        """Join tensors of one rank."""
        return functools.reduce(self.combine, inputs)

    def call(self, inputs: Any) -> Tensor:
        if not isinstance(inputs, (list, tuple)) or len(inputs) < self.least:
            raise ValueError(
                f"{type(self).__name__} takes a list of at least {self.least} tensors; received "
                f"{pytree.structure(inputs)}."
            )
        rank = max(x.ndim for x in inputs)
        return self.merge([ops.expand_dims(x, range(1, 1 + rank - x.ndim)) if x.ndim < rank else x for x in inputs])

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if previous_mask is None or any(mask is None for mask in previous_mask):
            return None
        return functools.reduce(ops.logical_or, previous_mask)


class Add(_Merge):
    """Sum of the inputs."""

    combine = staticmethod(ops.add)


class Subtract(_Merge):
    """The first input minus the second."""

    combine = staticmethod(ops.subtract)
    least = 2

    def merge(self, inputs: list[Tensor]) -> Tensor:
        if len(inputs) != 2:
            raise ValueError(f"Subtract takes exactly 2 inputs; received {len(inputs)}.")
        return super().merge(inputs)


class Multiply(_Merge):
    """Product of the inputs."""

    combine = staticmethod(ops.multiply)


class Average(_Merge):
    """Mean of the inputs."""

    combine = staticmethod(ops.add)

    def merge(self, inputs: list[Tensor]) -> Tensor:
        return super().merge(inputs) / len(inputs)


class Maximum(_Merge):
    """The largest input at each position."""

    combine = staticmethod(ops.maximum)


class Minimum(_Merge):
    """The smallest input at each position."""

    combine = staticmethod(ops.minimum)


class Concatenate(_Merge):
    """The inputs one after the other along ``axis``; the other extents have to be equal."""

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any) -> Tensor:
        if isinstance(inputs, (list, tuple)) and len({x.ndim for x in inputs}) > 1:
            raise ShapeError(f"Concatenate takes inputs with equally many axes; received {[x.shape for x in inputs]}.")
        return super().call(inputs)

    def merge(self, inputs: list[Tensor]) -> Tensor:
        return ops.concatenate(inputs, self.axis)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if previous_mask is None:
            return None
        masks = []
        for x, mask in zip(inputs, previous_mask, strict=True):
            if mask is None:
                mask = ops.ones(x.shape, "bool")
            masks.append(ops.broadcast_to(ops.reshape(mask, mask.shape + (1,) * (x.ndim - mask.ndim)), x.shape))
        return ops.all(ops.concatenate(masks, self.axis), -1)


class Dot(_Merge):
    """Sum of products of two inputs along an axis of each: (B, T, C), (B, S, C) with axes 2 -> (B, T, S)

    Args:
        axes: the axis of both inputs, or one for each; never the batch axis 0.
        normalize: whether the vectors along these axes are scaled to length 1 first (cosine).
    """

    def __init__(self, axes: Any, normalize: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.axes = (axes, axes) if isinstance(axes, int) else tuple(axes)
        self.normalize = normalize

    def call(self, inputs: Any) -> Tensor:
        a, b = inputs
        i, j = (axis % x.ndim for axis, x in zip(self.axes, inputs, strict=True))
        if i == 0 or j == 0 or a.shape[i] != b.shape[j]:
            raise ShapeError(
                f"Dot: expected two axes of one extent, not the batch axis; received axes {self.axes} of "
                f"shapes {a.shape} and {b.shape}."
            )
        if self.normalize:
            a, b = ops.normalize(a, i), ops.normalize(b, j)
        # "zac" and "zdc" meet in c and z, the batch, is common.
        left = "z" + "abcdefgh"[: a.ndim - 1]
        right = "z" + "ijklmnop"[: b.ndim - 1]
        right = right.replace(right[j], left[i])
        kept = left.replace(left[i], "") + right[1:].replace(left[i], "")
        dotted = ops.einsum(f"{left},{right}->{kept}", a, b)
        return ops.expand_dims(dotted, 1) if dotted.ndim == 1 else dotted

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None


def _function(layer_class: type[_Merge]) -> Callable:
    """A layer as a function of its inputs and then of its arguments."""

    def function(inputs: Any, *arguments: Any, **options: Any) -> Any:
        return layer_class(*arguments, **options)(inputs)

    function.__name__ = function.__qualname__ = layer_class.__name__.lower()
    function.__doc__ = layer_class.__doc__
    return function


add, subtract, multiply, average = map(_function, (Add, Subtract, Multiply, Average))
maximum, minimum = map(_function, (Maximum, Minimum))


def concatenate(inputs: Any, axis: int = -1, **options: Any) -> Any:
    """:class:`Concatenate` as a function of its inputs."""
    return Concatenate(axis=axis, **options)(inputs)


def dot(inputs: Any, axes: Any = -1, **options: Any) -> Any:
    """:class:`Dot` as a function of its inputs."""
    return Dot(axes=axes, **options)(inputs)
