"""Constraints of weights, as in keras.constraints."""

from .layers.constraints import *
