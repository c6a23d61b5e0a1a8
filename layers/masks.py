"""Masks that travel with tensors: which time steps count.

A mask is a bool tensor, (B, T) for data (B, T, ...), False where a step is padding. Tensors are immutable and
carry no attributes, so the masks lie in a table beside them, by identity, and go when their tensor goes.
"""

from __future__ import annotations

import weakref
from typing import Any

from ..core import Tensor, pytree

_masks: dict[int, tuple[weakref.ref, Tensor]] = {}


def get_mask(values: Any) -> Any:
    """The mask of a tensor, or None; for a tree the tree of masks, or None if there is none in it."""
    if not _masks:
        return None
    if type(values) is Tensor:
        entry = _masks.get(id(values))
        return entry[1] if entry else None
    found = [get_mask(leaf) if type(leaf) is Tensor else None for leaf in pytree.flatten(values)]
    return pytree.unflatten(values, found) if any(mask is not None for mask in found) else None


def set_mask(values: Any, masks: Any) -> None:
    """Attach ``masks`` (of the structure of ``values``; None anywhere means no mask there)."""
    if masks is None:
        return
    if type(values) is Tensor:
        key = id(values)
        _masks[key] = (weakref.ref(values, lambda _, drop=_masks.pop: drop(key, None)), masks)
        return
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in pairs:
        set_mask(value, masks[key])
