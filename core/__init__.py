"""Tensors, ops, gradients, graphs: everything that the layers stand on. Knows nothing above it."""

from . import config, errors, pytree
from .tensor import Tensor, tensor, wrap  # first: it brings the ops, which need it

from . import ops  # isort: skip
from . import random  # isort: skip
from .draw import draw
from .errors import DtypeError, ShapeError, TraceError
from .gradients import GradientTape, checkpoint, custom_gradient, grad, jvp, value_and_grad, vjp
from .graph import Graph, trace
from .jit import jit
from .ops import stop_gradient
from .profile import profile
from .variable import StateScope, Variable


def is_symbolic(value: Tensor) -> bool:
    """True for a tensor met while tracing, which has no values yet."""
    return value._array is None


__all__ = [
    "DtypeError", "GradientTape", "Graph", "ShapeError", "StateScope", "Tensor", "TraceError", "Variable",
    "checkpoint", "config", "custom_gradient", "draw", "errors", "grad", "is_symbolic", "jit", "jvp", "ops",
    "profile", "pytree", "random", "stop_gradient", "tensor", "trace", "value_and_grad", "vjp", "wrap",
]  # fmt: skip
