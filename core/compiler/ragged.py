"""Fewer rows than usual: one compiled program for all batches of at most so many samples.

A step is traced for a full batch and for a smaller one. Where the two graphs differ only by the number of rows, and in
numbers that follow from it, the graph of the full batch computes the smaller one too: what is missing is padded with
copies of a row, sums over the batch see zeros in its place, numbers that differ become inputs, and random bits are
drawn for as many rows as there are. So the results are those of the smaller batch: of its mean loss, its batch
normalisation, its dropout. Every op has to be known not to mix rows otherwise; if one is not, there is no such graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import pytree
from ..dtypes import INT32
from ..graph import Graph
from ..op import Node, Op, Spec, placeholder
from ..ops.common import along_axis
from ..primitives import elementwise, movement
from ..primitives.contraction import parse
from ..primitives.random_bits import UINT32, _random_bits
from ..tensor import Tensor, wrap
from .partition import ALIASES, REDUCTIONS, is_elementwise


def _random_part(state: np.ndarray, size: np.ndarray, shape: tuple) -> np.ndarray:
    drawn = _random_bits(state, (int(size),))
    return np.concatenate([drawn, np.full(math.prod(shape) - drawn.size, 1 << 31, UINT32)]).reshape(shape)


# The bits of a draw of ``size`` words; those that follow, up to ``shape``, are of no interest.
random_part = Op("random_bits", rule=lambda state, size, shape: Spec(tuple(shape), UINT32), reference=_random_part)

_NEUTRAL = {"reduce_sum": 0, "reduce_prod": 1, "reduce_max": -np.inf, "reduce_min": np.inf}
# Element-wise ops that are zero where their first operand is.
_KEEP_ZERO = {"negative", "cast", "absolute", "sqrt", "sign", "tanh", "erf", "sin", "expm1", "log1p", "divide"}
# And those that are finite for all finite operands, however strange.
_FINITE = _KEEP_ZERO - {"sqrt", "expm1", "log1p", "divide"}
_FINITE |= {"add", "subtract", "multiply", "maximum", "minimum", "where", "cos", "sigmoid", "relu", "floor", "ceil"}
_FINITE |= {"rint", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
_FINITE |= {"bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor"}
_BY_IMAGE = {"conv", "conv_input_gradient", "max_pool", "unpool", "pool_gather", "window_sum", "window_spread"}
_ATTENTION = {"attention", "attention_gradient", "attention_bias_gradient"}
_ALONG_AXIS = {"argmax", "argmin", "cumsum", "cumprod", "argsort"}


class Mixed(Exception):  # noqa: N818  not an error: smaller batches then have a program of their own
    """Rows of the batch depend on each other in a way that is not known here, or the two graphs differ otherwise."""


class Rows(NamedTuple):
    """The batch is the outermost factor of ``axis``: its extent is ``times`` the number of samples."""

    axis: int
    times: int


class Ragged:
    """The graph of ``full`` made fit for the smaller batch of ``part``; raises :class:`Mixed` if that cannot be.

    Attributes:
        graph: takes the arguments of ``full``, then the number of samples, then ``numbers``.
        numbers: the inputs that depend on the number of samples, as (for the full batch, for the smaller one).
        rows: for each leaf of the result its Rows, or None.
    """

    def __init__(self, full: Graph, part: Graph):
        self._sizes = tuple(next(x.shape[0] for x in graph.inputs if x.ndim) for graph in (full, part))
        self._known: dict[Any, Rows | None] = {}
        self._same: dict[Any, Any] = {}  # keys in the two graphs
        # Keys of values by what they hold where samples are missing: zero; something that is no copy of a sample, as it
        # follows from such a zero; among these, what may not be finite, so that its product with zero is not zero.
        self._zero: set = set()
        self._strange: set = set()
        self._unsafe: set = set()
        self._values: dict[Any, Tensor] = {}
        self._inputs: dict[Any, Tensor] = {}
        self._valid: dict[int, Tensor] = {}
        self._fixed = False  # inside a loop nothing can be changed
        self.numbers: list[tuple[np.ndarray, np.ndarray]] = []
        self._count = placeholder((), INT32, "samples")
        if list(full.reads) != list(part.reads) or list(full.writes) != list(part.writes):
            raise Mixed("variables")
        for a, b in zip(full.inputs, part.inputs, strict=True):
            self._known[a.key] = self._rows(a.shape, b.shape)
            self._same[a.key] = b.key
        for a, b in zip(full.reads.values(), part.reads.values(), strict=True):
            self._known[a.key], self._same[a.key] = None, b.key
        self._walk(full, part)
        found = [self._look_up(a, b) for a, b in zip(full.outputs, part.outputs, strict=True)]
        count = len(found) - len(full.writes)
        if any(rows is not None for _, rows in found[count:]):
            raise Mixed("a variable")
        values = [value for value, _ in found]
        self.rows = [rows for _, rows in found[:count]]
        self.graph = Graph(
            [*full.inputs, self._count, *self._inputs.values()],
            full.reads,
            pytree.unflatten(full.result, values[:count]),
            dict(zip(full.writes, values[count:], strict=True)),
        )

    def _walk(self, full: Graph, part: Graph) -> None:
        pairs = full.nodes(), part.nodes()
        words = [[(node.op.name, len(node.inputs), len(node.specs)) for node in nodes] for nodes in pairs]
        if words[0] != words[1]:
            raise Mixed("the ops")
        for a, b in zip(*pairs, strict=True):
            self._node(a, b)

    # -- values ------------------------------------------------------------------------------------------------------

    def _rows(self, a: Sequence[int], b: Sequence[int]) -> Rows | None:
        """Where the batch is in a value that has these shapes in the two graphs."""
        if len(a) != len(b):
            raise Mixed(f"a value of shape {a} or {b}")
        axes = [i for i, (n, m) in enumerate(zip(a, b, strict=True)) if n != m]
        if not axes:
            return None
        full, part = self._sizes
        times, rest = divmod(a[axes[0]], full)
        if len(axes) > 1 or rest or b[axes[0]] != times * part:
            raise Mixed(f"a value of shape {a} or {b}")
        return Rows(axes[0], times)

    def _look_up(self, a: Tensor, b: Tensor) -> tuple[Tensor, Rows | None]:
        """What stands for a value of the full graph, and where the batch is in it."""
        if a._array is None:
            if b._array is not None or self._same[a.key] != b.key:
                raise Mixed("what is computed from what")
            return self._values.get(a.key, a), self._known[a.key]
        rows = self._rows(a.shape, b.shape) if b._array is not None else None
        if b._array is None or a.dtype != b.dtype:
            raise Mixed("constants")
        if np.array_equal(a._array[tuple(map(slice, b.shape))], b._array, equal_nan=a.dtype.kind == "f"):
            return a, rows
        numbers = [array.reshape(-1)[:1].reshape(()) for array in (a._array, b._array)]
        if self._fixed or any((x._array != n).any() for x, n in zip((a, b), numbers, strict=True)):
            raise Mixed("constants")
        key = a.dtype, *(n.tobytes() for n in numbers)
        if key not in self._inputs:
            self._inputs[key] = placeholder((), a.dtype, "number")
            self.numbers.append(tuple(numbers))
        number = self._inputs[key]
        return (movement.broadcast_to(number, shape=a.shape) if a.shape else number), rows

    def _is_zero(self, value: Tensor) -> bool:
        return value.key in self._zero if value._array is None else not value._array.any()

    def _masked(self, value: Tensor, rows: Rows, number: float = 0) -> Tensor:
        """``value`` with a number in place of the samples that are missing."""
        if self._fixed:
            raise Mixed("a sum inside a loop")
        if rows.times not in self._valid:
            places = wrap(np.arange(self._sizes[0] * rows.times, dtype=np.int32))
            limit = elementwise.multiply(self._count, wrap(np.int32(rows.times)))
            self._valid[rows.times] = elementwise.less(places, limit)
        valid = along_axis(self._valid[rows.times], rows.axis, value.ndim)
        if value.dtype.kind in "iu" and not np.isfinite(number):
            limits = np.iinfo(value.dtype)
            number = limits.min if number < 0 else limits.max
        number = number > 0 if value.dtype.kind == "b" else number
        return elementwise.where(valid, value, wrap(np.asarray(number, value.dtype)))

    def _settle(self, value: Tensor, now: Tensor, rows: Rows) -> Tensor:
        """Make a value of the graph zero where samples are missing, for all that read it from here on."""
        if self._is_zero(value):
            return now
        self._zero.add(value.key)
        self._strange.add(value.key)
        self._unsafe.discard(value.key)
        self._values[value.key] = self._masked(now, rows)
        return self._values[value.key]

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _node(self, a: Node, b: Node) -> None:
        found = [self._look_up(x, y) for x, y in zip(a.inputs, b.inputs, strict=True)]
        inputs, rows = [value for value, _ in found], [r for _, r in found]
        made = [self._rows(s.shape, t.shape) for s, t in zip(a.specs, b.specs, strict=True)]
        name = a.op.name
        if name not in ALIASES and not _same(a.attributes, b.attributes, [r and r.axis for r in made]):
            raise Mixed(f"{name}: attributes")
        if name == "scan":
            zero = self._scan(a, b, rows, made)
        elif name == "random_bits" and made[0] is not None:
            if self._fixed or made[0].axis:
                raise Mixed("random bits")
            size = math.prod(a.specs[0].shape) // self._sizes[0]
            inputs.append(elementwise.multiply(self._count, wrap(np.int32(size))))
            self._values[(a, 0)] = random_part(*inputs, **a.attributes)
            zero = False
        elif any(r is not None for r in (*rows, *made)):
            zero = self._checked(a, inputs, rows, made)
        else:
            zero = False
        if not self._fixed and any(x is not y for x, y in zip(inputs, a.inputs, strict=False)):
            for i, value in enumerate(a.again(tuple(inputs)).outputs()):
                self._values.setdefault((a, i), value)
        strange = [value._array is None and value.key in self._strange for value in a.inputs]
        unsafe = any(map(self._is_unsafe, a.inputs)) or (any(strange) and name == "scan")
        if is_elementwise(a.op):
            unsafe |= any(strange[1:] if name == "divide" else strange[:1] if name == "where" else strange) and (
                name not in _FINITE or name == "where"
            )
        for i, r in enumerate(made):
            key = (a, i)
            self._known[key], self._same[key] = r, (b, i)
            if r is not None and any(strange):
                self._strange.add(key)
            if zero[i] if isinstance(zero, list) else zero:
                self._zero.add(key)
            elif r is not None and unsafe:
                self._unsafe.add(key)

    def _is_unsafe(self, value: Tensor) -> bool:
        return value._array is None and value.key in self._unsafe

    def _checked(self, node: Node, inputs: list, rows: list, made: list) -> Any:
        """Raise Mixed unless the op treats rows alike, its inputs masked if need be; answers where results are zero."""
        name, zeros = node.op.name, [self._is_zero(value) for value in node.inputs]
        if name in ALIASES:
            expected = rows[: len(made)]
            zero: Any = zeros[: len(made)]
        elif name in REDUCTIONS or name == "scatter_add" or name in ("contract", "conv_filter_gradient"):
            return getattr(self, f"_{'reduction' if name in REDUCTIONS else name}")(node, inputs, rows, made)
        elif name == "attention_bias_gradient" and made[0] is None:
            return self._attention_bias_gradient(node, inputs, rows)
        else:
            expected, zero = self._plain(node, rows, made, zeros)
        if expected != made:
            raise Mixed(name)
        return zero

    def _plain(self, node: Node, rows: list, made: list, zeros: list) -> tuple[list, Any]:
        """Ops that sum over no rows: where the batch has to be in their results, and whether these are zero."""
        name, attributes, first = node.op.name, node.attributes, rows[0]
        shape, result = node.inputs[0].shape if node.inputs else (), node.specs[0].shape
        if is_elementwise(node.op) or name == "broadcast_to":
            ends = {Rows(r.axis - v.ndim, r.times) for r, v in zip(rows, node.inputs, strict=True) if r is not None}
            fits = made[0] is not None and ends <= {Rows(made[0].axis - len(result), made[0].times)}
            safe = not any(map(self._is_unsafe, node.inputs))
            zero = zeros[0] and name in _KEEP_ZERO | {"broadcast_to"}
            zero = zero and (
                name != "divide" or node.inputs[1]._array is not None or node.inputs[1].key not in self._strange
            )
            zero = zero or (name == "multiply" and any(zeros) and safe) or (name == "where" and all(zeros[1:]))
            zero = zero or (name in ("add", "subtract", "maximum", "minimum") and all(zeros))
            return made if fits else [], zero
        if name in _BY_IMAGE or name in _ATTENTION:
            fits = all(r is None or r.axis == 0 for r in (*rows, *made))
            data = {"conv": 1, "conv_input_gradient": 1}.get(name, len(rows))
            fits = fits and all(r is None for r in rows[data:]) and first is not None
            safe = not any(map(self._is_unsafe, node.inputs))
            zero = name != "attention" and zeros[3] and safe if name in _ATTENTION else zeros[0]
            return made if fits else [], [zero, False] if name == "max_pool" else zero
        if name == "gather":
            return self._gathered(node, rows), [zeros[0] and first is not None]
        if name == "concatenate":
            fits = first is not None and all(r == first for r in rows) and first.axis != attributes["axis"]
            return made if fits else [], all(zeros)
        if first is None:
            raise Mixed(name)
        axis, times = first
        if name == "reshape":
            to = made[0]
            fits = to is not None and math.prod(shape[:axis]) == math.prod(result[: to.axis])
            return made if fits else [], zeros[0]
        if name == "transpose":
            return [Rows(attributes["axes"].index(axis), times)], zeros[0]
        if name == "slice":
            whole = result[axis] == shape[axis] and attributes["starts"][axis] == 0
            return [first] if whole else [], zeros[0]
        if name == "split":
            return ([first] * len(made) if attributes["axis"] != axis else []), [zeros[0]] * len(made)
        if name == "flip":
            return ([first] if axis not in attributes["axes"] else []), zeros[0]
        if name == "pad":
            edges = [attributes[key][axis] for key in ("low", "high", "interior")]
            return ([first] if not any(edges) else []), zeros[0] and attributes["value"] == 0
        if name in _ALONG_AXIS and attributes["axis"] != axis:
            dropped = len(result) < len(shape) and attributes["axis"] < axis
            return [Rows(axis - dropped, times)], zeros[0] and name in ("cumsum", "cumprod")
        raise Mixed(name)

    @staticmethod
    def _gathered(node: Node, rows: list) -> list:
        """The batch may be in the indices, in what is gathered but beyond the axes that these address, or in both, if
        every row takes from itself.
        """
        source, *indices = rows
        count, rank = len(indices), node.inputs[1].ndim
        if source is None and all(r == indices[0] for r in indices):
            return [indices[0]]
        if source is not None and source.axis >= count and not any(indices):
            return [Rows(source.axis - count + rank, source.times)]
        if source is not None and source.axis < count and _own(node.inputs[source.axis + 1], indices[source.axis]):
            return [indices[source.axis]] if set(indices) <= {None, indices[source.axis]} else []
        return []

    def _reduction(self, node: Node, inputs: list, rows: list, made: list) -> bool:
        (axis, times), axes, name = rows[0], node.attributes["axes"], node.op.name
        value = node.inputs[0]
        if axis not in axes:
            kept = axis if node.attributes["keepdims"] else axis - sum(i < axis for i in axes)
            if made != [Rows(kept, times)]:
                raise Mixed(name)
            return self._is_zero(value)
        if name == "reduce_sum":
            inputs[0] = self._settle(value, inputs[0], rows[0])
        else:
            inputs[0] = self._masked(inputs[0], rows[0], _NEUTRAL[name])
        return False

    def _scatter_add(self, node: Node, inputs: list, rows: list, made: list) -> bool:
        updates, *indices = rows
        if updates is None or updates.axis >= node.inputs[1].ndim or not set(indices) <= {None, updates}:
            raise Mixed("scatter_add")
        (into,) = made
        if into is None:
            inputs[0] = self._settle(node.inputs[0], inputs[0], updates)
            return False
        if into.axis >= len(indices) or not _own(node.inputs[into.axis + 1], indices[into.axis]):
            raise Mixed("scatter_add")
        return self._is_zero(node.inputs[0])

    def _conv_filter_gradient(self, node: Node, inputs: list, rows: list, made: list) -> bool:
        if any(r is None or r.axis for r in rows):
            raise Mixed("conv_filter_gradient")
        return self._summed(node, inputs, rows)

    def _attention_bias_gradient(self, node: Node, inputs: list, rows: list) -> bool:
        """Of a bias that all samples share: a sum over them, of zeros where the gradient of the result is zero."""
        if any(r is not None and r.axis for r in rows) or rows[3] is None or any(map(self._is_unsafe, node.inputs)):
            raise Mixed("attention_bias_gradient")
        inputs[3] = self._settle(node.inputs[3], inputs[3], rows[3])
        return False

    def _contract(self, node: Node, inputs: list, rows: list, made: list) -> bool:
        *operands, result = parse(node.attributes["spec"])
        letters = {s[r.axis] for s, r in zip(operands, rows, strict=True) if r is not None}
        if len(letters) > 1:
            raise Mixed("contract")
        (letter,) = letters
        if letter not in result:
            return self._summed(node, inputs, rows)
        if made[0] is None or made[0].axis != result.index(letter):
            raise Mixed("contract")
        zero = any(r is not None and self._is_zero(v) for r, v in zip(rows, node.inputs, strict=True))
        return zero and not any(map(self._is_unsafe, node.inputs))

    def _summed(self, node: Node, inputs: list, rows: list) -> bool:
        """A product summed over the batch: one of the operands has to be zero; rather the later one, a gradient."""
        if not any(self._is_zero(value) for value in node.inputs):
            i = max((0, 1), key=lambda k: -1 if node.inputs[k]._array is not None else node.inputs[k].node.serial)
            if rows[i] is None:
                raise Mixed(node.op.name)
            inputs[i] = self._settle(node.inputs[i], inputs[i], rows[i])
        for i, value in enumerate(node.inputs):
            if self._is_unsafe(value):
                inputs[i] = self._settle(value, inputs[i], rows[i])
        return False

    def _scan(self, a: Node, b: Node, rows: list, made: list) -> list[bool]:
        """A loop: its body has to treat rows alike as it is. What is zero in the carry has to remain so."""
        bodies = a.attributes["body"], b.attributes["body"]
        body, inner = bodies[0], bodies[0].graph
        if (body.constants, body.carried) != (bodies[1].constants, bodies[1].carried):
            raise Mixed("scan")
        start = body.constants + body.carried
        if any(r is not None and r.axis == 0 for r in (*rows[start:], *made)):
            raise Mixed("scan")
        inside = [r if r is None or i < start else Rows(r.axis - 1, r.times) for i, r in enumerate(rows)]
        zero = {v.key for v, outer in zip(inner.inputs, a.inputs, strict=True) if self._is_zero(outer)}
        if any(v._array is None and v.key in self._strange for v in a.inputs):
            self._strange.update(v.key for v in inner.inputs)
            self._unsafe.update({v.key for v in inner.inputs} - zero)
        saved = self._fixed
        self._fixed = True
        while True:
            self._zero = {key for key in self._zero if key not in {v.key for v in inner.inputs}} | zero
            self._known.update(zip([v.key for v in inner.inputs], inside, strict=True))
            self._same.update((x.key, y.key) for x, y in zip(inner.inputs, bodies[1].graph.inputs, strict=True))
            self._walk(inner, bodies[1].graph)
            results = [self._look_up(x, y)[1] for x, y in zip(inner.outputs, bodies[1].graph.outputs, strict=True)]
            carry = list(zip(body.part(inner.inputs, "carry"), inner.outputs, strict=False))
            lost = {v.key for v, after in carry if v.key in zero and not self._is_zero(after)}
            if not lost:
                break
            zero -= lost
            self._zero -= {(node, i) for node in inner.nodes() for i in range(len(node.specs))}
        self._fixed = saved
        if [r and Rows(r.axis + 1, r.times) for r in results] != made or results[: body.carried] != [
            self._known[v.key] for v, _ in carry
        ]:
            raise Mixed("scan")
        return [self._is_zero(value) for value in inner.outputs]


def _own(index: Tensor, rows: Rows | None) -> bool:
    """Whether an index is, for every row, the number of that row."""
    if index._array is None or rows is None:
        return False
    numbers = np.arange(index.shape[rows.axis]).reshape((-1,) + (1,) * (index.ndim - 1 - rows.axis))
    return bool((index._array == numbers).all())


def _same(a: dict, b: dict, axes: list) -> bool:
    """Whether attributes agree, but for shapes (which are compared as such) and where a slice ends along the batch."""
    for name, value in a.items():
        other = b.get(name)
        if name == "stops" and axes[0] is not None:
            value, other = ((*stops[: axes[0]], *stops[axes[0] + 1 :]) for stops in (value, other))
        if isinstance(value, np.ndarray):
            value, other = value.tolist(), np.asarray(other).tolist()
        if name not in ("shape", "body") and value != other:
            return False
    return len(a) == len(b)
