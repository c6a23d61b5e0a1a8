"""Counter-based random numbers, as in keras.random."""

from .core.random import *
