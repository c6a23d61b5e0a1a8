"""Primitives about order and loops rather than numbers."""

from __future__ import annotations

from ..op import Case, declare, spec_of

# The first ``count`` inputs, not to be computed before the others are there. Recomputed values stay behind
# it, where they cannot be merged with the values that they recompute.
barrier = declare(
    "barrier",
    rule=lambda *values, count: tuple(map(spec_of, values[:count])),
    reference=lambda *values, count: tuple(values[:count]),
    gradient=lambda g, y, *values, count: (*g, *[None] * (len(values) - count)),
    cases=[Case(((3, 4), (2,)), {"count": 1}), Case(((2,), (3,)), {"count": 2})],
)
