"""Computing in half precision with weights in float32, as in keras.mixed_precision."""

from .layers.dtype_policy import DTypePolicy, dtype_policy, set_dtype_policy
from .training.loss_scaling import LossScaleOptimizer

Policy = DTypePolicy
global_policy = dtype_policy
set_global_policy = set_dtype_policy

__all__ = [
    "DTypePolicy",
    "LossScaleOptimizer",
    "Policy",
    "dtype_policy",
    "global_policy",
    "set_dtype_policy",
    "set_global_policy",
]
