"""Optimizers, as in ``keras.optimizers``."""

from ..training.optimizers import *
from . import schedules
