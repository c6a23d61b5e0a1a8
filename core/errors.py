"""The errors of the library. Each says what was expected, what arrived, where, and the likely fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ShapeError(ValueError):
    """Shapes that do not fit each other or the operation."""


class DtypeError(TypeError):
    """A dtype that an operation does not take."""


class TraceError(RuntimeError):
    """A symbolic tensor was used where a value is needed, or state was touched from outside a trace."""


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not registered, with the nearest known names.

    >>> print(unknown("optimizer", "adm", ["adam", "sgd"]))
    Unknown optimizer 'adm'. Did you mean 'adam'? Known: adam, sgd.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = " Did you mean " + " or ".join(repr(candidate) for candidate in near) + "?" if near else ""
    listing = ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
    return ValueError(f"Unknown {kind} {name!r}.{hint} Known: {listing}.")
