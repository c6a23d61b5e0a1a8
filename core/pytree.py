"""Nested containers of leaves: tuples, lists, dicts, named tuples; None is an empty container."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def _is_namedtuple(tree: Any) -> bool:
    return isinstance(tree, tuple) and hasattr(tree, "_fields")


def flatten(tree: Any) -> list:
    """Return the leaves of ``tree`` in order; dicts go by insertion order of their keys.

    >>> flatten({"a": 1, "b": (2, [3, None])})
    [1, 2, 3]
    """
    leaves: list = []
    _collect(tree, leaves)
    return leaves


def _collect(tree: Any, leaves: list) -> None:
    if tree is None:
        return
    if isinstance(tree, (tuple, list)):
        for child in tree:
            _collect(child, leaves)
    elif isinstance(tree, dict):
        for child in tree.values():
            _collect(child, leaves)
    else:
        leaves.append(tree)


def unflatten(like: Any, leaves: Any) -> Any:
    """Put ``leaves`` into a tree of the structure of ``like``; surplus or missing leaves are errors."""
    iterator = iter(leaves)
    try:
        tree = _fill(like, iterator)
    except StopIteration:
        raise ValueError(f"Too few leaves for the structure {structure(like)}.") from None
    if next(iterator, leaves) is not leaves:
        raise ValueError(f"Too many leaves for the structure {structure(like)}.")
    return tree


def _fill(like: Any, leaves: Iterator) -> Any:
    if like is None:
        return None
    if _is_namedtuple(like):
        return type(like)(*[_fill(child, leaves) for child in like])
    if isinstance(like, (tuple, list)):
        # A plain loop, not a generator: StopIteration has to reach the caller.
        children = [_fill(child, leaves) for child in like]
        return tuple(children) if isinstance(like, tuple) else children
    if isinstance(like, dict):
        return {key: _fill(child, leaves) for key, child in like.items()}
    return next(leaves)


def structure(tree: Any) -> str:
    """Describe the shape of ``tree`` with ``*`` for each leaf.

    >>> structure({"a": 1, "b": (2, [3])})
    "{'a': *, 'b': (*, [*])}"
    """
    if tree is None:
        return "None"
    if _is_namedtuple(tree):
        fields = (f"{name}={structure(child)}" for name, child in zip(tree._fields, tree, strict=True))
        return f"{type(tree).__name__}({', '.join(fields)})"
    if isinstance(tree, tuple):
        return "(" + ", ".join(structure(child) for child in tree) + ("," if len(tree) == 1 else "") + ")"
    if isinstance(tree, list):
        return "[" + ", ".join(structure(child) for child in tree) + "]"
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {structure(child)}" for key, child in tree.items()) + "}"
    return "*"


def map(function: Callable, tree: Any, *rest: Any) -> Any:
    """Apply ``function`` to corresponding leaves of trees of one structure.

    >>> map(lambda a, b: a + b, {"x": 1}, {"x": 10})
    {'x': 11}
    """
    columns = [flatten(tree)]
    for other in rest:
        if structure(other) != structure(tree):
            raise ValueError(f"The trees differ in structure: expected {structure(tree)}, received {structure(other)}.")
        columns.append(flatten(other))
    return unflatten(tree, [function(*leaves) for leaves in zip(*columns, strict=True)])
