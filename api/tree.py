"""Nested containers of leaves: flatten, unflatten, map, structure."""

from .core.pytree import *
