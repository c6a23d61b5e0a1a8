"""Loss functions and classes, as in keras.losses."""

from .training.losses import *
