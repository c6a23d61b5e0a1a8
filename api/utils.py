"""Helpers for scripts, as in keras.utils."""

from .training.finetuning import *
from .training.input_data import *
from .training.tools import *
from .training.utils import *
