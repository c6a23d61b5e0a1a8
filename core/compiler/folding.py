"""Batch normalisation at inference, folded into the convolution before it.

A factor per channel that follows from variables which the graph does not assign is multiplied into the filters, and
these are then computed when such a variable changes, not in every call: (w ∗ x + a) · s = (w · s) ∗ x + a · s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ..op import Node
from ..primitives import movement
from ..primitives.elementwise import add, multiply, subtract
from ..tensor import Tensor
from .rewriting import reachable, rewrite

SHIFTS = {"add": add, "subtract": subtract}


def fold(outputs: Sequence[Tensor], settled: Sequence[Tensor]) -> list[Tensor]:
    """The outputs, with the factors of convolutions folded into their filters; ``settled`` are the variables' symbols
    that the graph does not assign.
    """
    known, nodes = {symbol.node for symbol in settled}, reachable(outputs)
    if not known or not any(node.op.name == "conv" for node in nodes):
        return list(outputs)
    for node in nodes:
        sources = [value.node for value in node.inputs if value._array is None]
        if sources and all(source in known for source in sources):
            known.add(node)
    readers = Counter(v.key for v in (*outputs, *(v for node in nodes for v in node.inputs)) if v._array is None)

    def constant(value: Tensor, channels: int) -> bool:
        """Whether a value is settled, and one number for each channel."""
        return (
            (value._array is not None or value.node in known)
            and value.size == channels
            and value.shape[-1:] == (channels,)
        )

    def scaled(value: Tensor, factor: Tensor) -> Callable[[Tensor], Tensor] | None:
        """How to make value · factor of what ``value`` has become; None where ``value`` is no convolution."""
        node = value.node
        if value._array is not None or readers[value.key] != 1:
            return None
        channels = node.specs[0].shape[-1]
        if node.op.name == "conv" and node.inputs[1].node in known:
            return lambda now: _conv(now.node, factor)
        if node.op.name not in SHIFTS or not constant(node.inputs[1], channels):
            return None
        inner = scaled(node.inputs[0], factor)
        return inner and (lambda now: SHIFTS[node.op.name](inner(now.node.inputs[0]), now.node.inputs[1] * factor))

    def rule(node: Node, inputs: tuple) -> Any:
        if node.op is multiply and node.specs[0].shape and node.inputs[0].shape == node.specs[0].shape:
            if constant(node.inputs[1], node.specs[0].shape[-1]):
                make = scaled(node.inputs[0], inputs[1])
                return make and make(inputs[0])
        return None

    return rewrite(nodes, outputs, [rule], merge=False)


def _conv(node: Node, factor: Tensor) -> Tensor:
    """The convolution with each filter multiplied by its factor."""
    x, filters = node.inputs
    scaled = filters * movement.reshape(factor, shape=(factor.size,))
    return node.again((x, scaled)).output(0)
