"""Tensor operations, as in keras.ops."""

from .core.ops import *
