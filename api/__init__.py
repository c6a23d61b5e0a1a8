"""tenzoo: a compact deep-learning library with a Keras-like API.

Everything here is loaded at first use, so ``import tenzoo`` costs next to nothing. To add a public name, add
it to ``_NAMES`` and to the imports for type checkers under it; to add a namespace, add a module beside this
file and its name to ``_MODULES``.

>>> import tenzoo as tz
>>> tz.tensor([1.0, 2.0]).shape
(2,)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# tenzoo.<name>: namespaces, each a module of its own.
_MODULES = (
    "activations",
    "callbacks",
    "config",
    "constraints",
    "datasets",
    "distillation",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "ops",
    "optimizers",
    "random",
    "regularizers",
    "saving",
    "tree",
    "utils",
    "zoo",
)

# where a name is defined: the names
_NAMES = {
    "core": (
        "GradientTape",
        "Tensor",
        "Variable",
        "checkpoint",
        "custom_gradient",
        "draw",
        "grad",
        "jit",
        "jvp",
        "profile",
        "stop_gradient",
        "tensor",
        "trace",
        "value_and_grad",
        "vjp",
    ),
    "layers": ("Input", "InputSpec", "KerasTensor", "Layer"),
    "layers.dtype_policy": ("DTypePolicy",),
    "layers.initializers": ("Initializer",),
    "layers.regularizers": ("Regularizer",),
    "training": ("Model", "Sequential", "load_model"),
    "training.losses": ("Loss",),
    "training.metrics": ("Metric",),
    "training.optimizers": ("Optimizer",),
}

if TYPE_CHECKING:
    from . import (
        activations,
        callbacks,
        config,
        constraints,
        datasets,
        distillation,
        dtype_policies,
        initializers,
        layers,
        losses,
        metrics,
        mixed_precision,
        models,
        ops,
        optimizers,
        random,
        regularizers,
        saving,
        tree,
        utils,
        zoo,
    )
    from .core import (
        GradientTape,
        Tensor,
        Variable,
        checkpoint,
        custom_gradient,
        draw,
        grad,
        jit,
        jvp,
        profile,
        stop_gradient,
        tensor,
        trace,
        value_and_grad,
        vjp,
    )
    from .layers import Input, InputSpec, KerasTensor, Layer
    from .layers.dtype_policy import DTypePolicy
    from .layers.initializers import Initializer
    from .layers.regularizers import Regularizer
    from .training import Model, Sequential, load_model
    from .training.losses import Loss
    from .training.metrics import Metric
    from .training.optimizers import Optimizer

_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *_MODULES, *_HOME]


def __getattr__(name: str) -> Any:
    """Load a public name at its first use and keep it."""
    if name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES:
        value = import_module(f".{name}", __name__)
    elif name.startswith("__"):
        # What Python itself asks for (__path__, __wrapped__, ...) is no spelling mistake.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        from .core.errors import unknown

        raise AttributeError(str(unknown("tenzoo attribute", name, __all__)), name=name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
