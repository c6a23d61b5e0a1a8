"""Weight initializers, as in keras.initializers."""

from .layers.initializers import *
