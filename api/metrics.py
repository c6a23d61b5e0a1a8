"""Metric functions and classes, as in keras.metrics."""

from .training.metrics import *
