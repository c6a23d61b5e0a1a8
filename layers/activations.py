"""Activation functions under the names of keras.activations; most are functions of ``tz.ops``."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, ops
from ..core.ops import (  # noqa: F401
    celu,
    elu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    swish,
    tanh,
    tanh_shrink,
    threshold,
)
from . import serialization


@serialization.register_serializable("activations")
def linear(x: Any) -> Any:
    """x"""
    return x


@serialization.register_serializable("activations")
def exponential(x: Any) -> Tensor:
    """e to the power x."""
    return ops.exp(x)


@serialization.register_serializable("activations")
def mish(x: Any) -> Tensor:
    """x·tanh(softplus(x)); Misra (2019)."""
    return x * ops.tanh(ops.softplus(x))


@serialization.register_serializable("activations")
def gelu(x: Any, approximate: bool = False) -> Tensor:
    """x·Φ(x), with tanh when approximate; Hendrycks, Gimpel (2016)."""
    return ops.gelu(x, approximate=approximate)


@serialization.register_serializable("activations")
def relu(
    x: Any,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,  # noqa: F811  Keras's name
) -> Tensor:
    """x above ``threshold``, at most ``max_value``; negative_slope·(x - threshold) below."""
    above = ops.relu(x) if threshold == 0 else ops.where(x > threshold, x, 0.0)
    if max_value is not None:
        above = ops.minimum(above, max_value)
    return above if negative_slope == 0 else above - negative_slope * ops.relu(threshold - x)


_KNOWN = {name: value for name, value in list(globals().items()) if callable(value) and name.islower()}
serialize, deserialize = serialization.serialize, serialization.deserialize
__all__ = [*_KNOWN, "deserialize", "get", "serialize"]


def get(identifier: Any) -> Any:
    """The function for a name ("relu") or a config; a callable itself; linear for None."""
    return linear if identifier is None else serialization.resolve(identifier, "activation", _KNOWN)
