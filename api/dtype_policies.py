"""Dtype policies of layers, as in keras.dtype_policies."""

from .layers.dtype_policy import DTypePolicy, get

__all__ = ["DTypePolicy", "get"]
