"""Heavy ops one at a time: eager code runs them compiled, with a kernel kept for each kind of input."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from .graph import Graph
from .op import Op, placeholder

KEPT = 128  # kernels; each keeps the memory that it works in
_plans: dict[Any, Any] = {}


def compute(op: Op, arrays: list[np.ndarray], attributes: dict) -> Any:
    """What ``op.reference(*arrays, **attributes)`` returns, computed by native code."""
    key = (op, tuple((a.shape, a.dtype.char) for a in arrays), tuple(sorted(attributes.items())))
    if key not in _plans:
        if len(_plans) >= KEPT:
            _plans.clear()
        _plans[key] = _compiled(op, arrays, attributes)
    plan = _plans[key]
    if plan is None:
        return op.compute(*arrays, **attributes)
    results = plan.run(arrays)
    return results[0] if len(results) == 1 else tuple(results)


def _compiled(op: Op, arrays: list[np.ndarray], attributes: dict) -> Any:
    from .compiler.emit_llvm import CompileError
    from .compiler.stored import compiled

    symbols = [placeholder(a.shape, a.dtype) for a in arrays]
    try:
        return compiled(Graph(symbols, {}, op(*symbols, **attributes), {}))
    except CompileError as error:
        logging.getLogger("tenzoo.compile").warning("%s: numpy computes it, because %s", op.name, error)
        return None
