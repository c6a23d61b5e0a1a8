"""Helpers for scripts, as in keras.utils."""

from .training.tools import *
from .training.utils import *
