"""Training: models that can be compiled, fitted, evaluated and saved, and all that this takes."""

from __future__ import annotations

from .model import Model, Sequential
from .saving import SavedFileError, load_model
from .trainer import Trainer

__all__ = ["Model", "SavedFileError", "Sequential", "Trainer", "load_model"]
