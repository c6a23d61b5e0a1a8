"""Automatic names of layers: dense, dense_1, dense_2, …; each once in a process."""

from __future__ import annotations

from .dtype_policy import set_dtype_policy
from .serialization import snake_case

_counts: dict[str, int] = {}


def automatic_name(cls: type) -> str:
    """A name for an object of ``cls`` that no other one was given."""
    stem = snake_case(cls.__name__).lstrip("_")
    count = _counts.get(stem, 0)
    _counts[stem] = count + 1
    return f"{stem}_{count}" if count else stem


def clear_session() -> None:
    """Start counting names anew, and drop the dtype policy that was set."""
    _counts.clear()
    set_dtype_policy(None)
