"""Callbacks of the training loop, as in keras.callbacks."""

from .training.callbacks import *
