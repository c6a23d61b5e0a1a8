"""Functions on tensors, under the names of keras.ops; composed of the primitives."""

from types import ModuleType as _ModuleType

from . import control, ctc, image, indexing, linalg, linear, math, nn, reductions, shape, signal
from .common import deferrable as _deferrable


def _functions_of(*modules: _ModuleType) -> dict:
    """Every public function defined in the modules, ready for deferred arguments."""
    return {
        name: _deferrable(value)
        for module in modules
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == module.__name__
    }


def _namespace(name: str, functions: dict) -> _ModuleType:
    made = _ModuleType(f"{__name__}.{name}", f"The functions of keras.ops.{name}.")
    vars(made).update(functions)
    return made


_numeric = _functions_of(math, shape, reductions, linear, indexing)
_neural = _functions_of(nn, ctc)
_algebra = _functions_of(linalg)
_images = _functions_of(image)
_functions = {**_numeric, **_neural, **_algebra, **_functions_of(control, signal)}
globals().update(_functions)

# ops.image.resize, ops.linalg.solve, …; these take the place of the modules that define them.
image = _namespace("image", _images)
linalg = _namespace("linalg", {**_algebra, "jvp": _functions["jvp"]})
nn = _namespace("nn", {**_neural, **{n: _functions[n] for n in ("moments", "multi_hot", "normalize", "one_hot")}})
_further = ("corrcoef", "correlate", "slogdet", "vectorize")
numpy = _namespace("numpy", {**_numeric, **{n: _functions[n] for n in _further}})
__all__ = [*sorted(_functions), "image", "linalg", "nn", "numpy"]
