"""Small models that learn from large ones, as in keras.distillation."""

from .training.distillation import *
