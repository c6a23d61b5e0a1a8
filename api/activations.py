"""Activation functions, as in keras.activations."""

from .layers.activations import *
