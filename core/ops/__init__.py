"""Functions on tensors, under the names of keras.ops; composed of the primitives."""

from . import control, indexing, linear, math, nn, reductions, shape, signal
from .common import deferrable as _deferrable


def _collect() -> dict:
    """Every public function defined in the modules above, ready for deferred arguments."""
    found = {}
    for module in (math, shape, reductions, linear, indexing, nn, control, signal):
        for name, value in vars(module).items():
            if not name.startswith("_") and callable(value) and value.__module__ == module.__name__:
                found[name] = _deferrable(value)
    return found


_functions = _collect()
globals().update(_functions)
__all__ = sorted(_functions)
