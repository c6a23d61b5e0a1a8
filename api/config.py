"""Settings of the whole process, as in keras.config."""

from .core.config import epsilon, floatx, set_epsilon, set_floatx, threads
from .layers.dtype_policy import dtype_policy, set_dtype_policy

__all__ = ["dtype_policy", "epsilon", "floatx", "set_dtype_policy", "set_epsilon", "set_floatx", "threads"]
