"""Helpers for scripts, as in keras.utils."""

from .training.utils import *
