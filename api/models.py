"""Models and their loading, as in ``keras.models``."""

from .layers import clone_model
from .training import Model, Sequential, load_model
from .training.model import model_from_json
from .training.saving import save_model

__all__ = ["Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model"]
