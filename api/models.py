"""Models and their loading, as in ``keras.models``."""

from .training import Model, Sequential, load_model

__all__ = ["Model", "Sequential", "load_model"]
