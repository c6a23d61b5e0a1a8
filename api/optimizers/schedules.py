"""Learning-rate schedules, as in ``keras.optimizers.schedules``."""

from ..training.schedules import *
