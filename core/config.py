"""Process-wide settings, each overridable by an environment variable."""

from __future__ import annotations

import os
import time

from .errors import unknown

LOADED = time.time()  # the core's first module, just now
_floatx = "float32"
_epsilon = 1e-7
_PASSES = ("volumes", "algebra", "merge", "split", "casts", "fold", "sparse", "fuse", "in_place", "share", "winograd")


def floatx() -> str:
    """Name of the dtype given to Python floats and new weights."""
    return _floatx


def set_floatx(name: str) -> None:
    """Set the default float dtype: "bfloat16", "float16", "float32" or "float64"."""
    global _floatx
    if name not in ("bfloat16", "float16", "float32", "float64"):
        raise ValueError(f'floatx must be "bfloat16", "float16", "float32" or "float64"; received {name!r}.')
    _floatx = name


def epsilon() -> float:
    """The small number that losses and metrics add before they divide."""
    return _epsilon


def set_epsilon(value: float) -> None:
    """Set the number returned by :func:`epsilon`."""
    global _epsilon
    _epsilon = float(value)


def threads() -> int:
    """Number of threads that compiled code uses: ``TENZOO_NUM_THREADS``, else the cores available."""
    chosen = os.environ.get("TENZOO_NUM_THREADS", "")
    if chosen:
        if not chosen.isdigit() or int(chosen) < 1:
            raise ValueError(f"TENZOO_NUM_THREADS has to be a whole number from 1 on; it is {chosen!r}.")
        return int(chosen)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def passes() -> tuple[str, ...]:
    """Optional passes of the compiler that are switched on: those that ``TENZOO_PASSES`` lists with commas, or all.

    "none" is none of them. This is for finding out which one to blame; the numbers are the same without.
    """
    chosen = os.environ.get("TENZOO_PASSES")
    if not chosen:
        return _PASSES
    names = tuple(name.strip() for name in chosen.split(",") if name.strip() != "none")
    for name in names:
        if name not in _PASSES:
            raise unknown("pass in TENZOO_PASSES", name, (*_PASSES, "none"))
    return names
