"""Loop IR: a builder that writes kernels as text, one call per instruction.

A kernel body is ordinary Python that runs once and leaves its instructions behind:

>>> module = Module()
>>> with module.function("scale", [ptr, ptr, index]) as (b, x, y, n):
...     with b.loop(0, n) as i:
...         b.store(b.tanh(b.load(f32, x, i)) * 2.0, y, i)
>>> "define void @scale" in module.text()
True

The text is LLVM IR, but nothing in it is tied to a machine: types, loops, arithmetic and intrinsics that
every target lowers. Scalar loops over contiguous data are left to the vectoriser; register-blocked code uses
vector types.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from ..dtypes import BFLOAT16
from . import elementary

FAST = "reassoc nsz arcp contract "  # never nnan or ninf: NaN and infinity must survive compilation


class Type:
    """A scalar, vector or pointer type.

    `kind` is one of f(loat), i(nt), u(nsigned), b(ool), p(ointer), v(oid).
    """

    __slots__ = ("_dtype", "_vectors", "bits", "element", "kind", "lanes", "llvm", "name", "suffix")

    def __init__(self, name: str, llvm: str, kind: str, bits: int, lanes: int = 0, element: Type | None = None):
        self.name, self.llvm, self.kind, self.bits, self.lanes = name, llvm, kind, bits, lanes
        self.element = element or self
        scalar = name if kind == "f" else f"i{bits}"
        self.suffix = f"v{lanes}{self.element.suffix}" if lanes else scalar
        self._vectors: dict[int, Type] = {}

    def vector(self, lanes: int) -> Type:
        """Return the vector of `lanes` such scalars; 0 lanes is the scalar itself."""
        if lanes == 0:
            return self.element
        scalar = self.element
        if lanes not in scalar._vectors:
            made = Type(
                f"{scalar.name}x{lanes}",
                f"<{lanes} x {scalar.llvm}>",
                scalar.kind,
                scalar.bits,
                lanes,
                scalar,
            )
            scalar._vectors[lanes] = made
        return scalar._vectors[lanes]

    @property
    def size(self) -> int:
        """Bytes one scalar takes in memory (a bool takes one)."""
        return max(1, self.bits // 8)

    @property
    def integer(self) -> Type:
        """The signed integer type of the same width and lanes."""
        return {8: i8, 16: i16, 32: i32, 64: i64}[self.bits].vector(self.lanes)

    @property
    def boolean(self) -> Type:
        """The truth value of the same lanes."""
        return i1.vector(self.lanes)

    def __repr__(self) -> str:
        return self.name


void, ptr = Type("void", "void", "v", 0), Type("ptr", "ptr", "p", 64)
f16, bf16 = Type("f16", "half", "f", 16), Type("bf16", "i16", "f", 16)  # for memory alone: see in_register
f32, f64 = Type("f32", "float", "f", 32), Type("f64", "double", "f", 64)
i1 = Type("i1", "i1", "b", 1)
i8, i16, i32, i64 = (Type(f"i{bits}", f"i{bits}", "i", bits) for bits in (8, 16, 32, 64))
u8, u16, u32, u64 = (Type(f"u{bits}", f"i{bits}", "u", bits) for bits in (8, 16, 32, 64))
index = Type("index", "i64", "i", 64)  # loop counters and offsets: arithmetic that never overflows, `//` on >= 0 only

_BY_DTYPE = {
    "float16": f16, "float32": f32, "float64": f64, "bool": i1, "int8": i8, "int16": i16, "int32": i32,
    "int64": i64, "uint8": u8, "uint16": u16, "uint32": u32, "uint64": u64, "bfloat16": bf16,
}  # fmt: skip


@functools.cache
def of_dtype(dtype) -> Type:
    """Return the scalar type that stores numpy's `dtype`."""
    return _BY_DTYPE[np.dtype(dtype).name]


@functools.cache
def in_register(dtype) -> Type:
    """Return the scalar type in which kernels hold and compute numpy's `dtype`: half precision is single there."""
    type_ = of_dtype(dtype)
    return f32 if type_ is f16 or type_ is bf16 else type_


def literal(type_: Type, value) -> str:
    """Return `value` written as a constant of `type_`; a vector gets it in every lane."""
    if type_.lanes:
        return f"splat ({type_.element.llvm} {literal(type_.element, value)})"
    if type_.kind == "f":
        if type_ is f64 or type_ is f32:
            with np.errstate(over="ignore"):
                number = float(np.float32(value)) if type_ is f32 else float(value)
            return "0x" + struct.pack(">d", number).hex()
        if type_ is f16:
            with np.errstate(over="ignore"):
                return "0xH" + np.float16(value).tobytes()[::-1].hex()
        return str(int(np.asarray(value, BFLOAT16).view(np.int16)))
    if type_.kind == "b":
        return "true" if value else "false"
    if type_.kind == "p":
        return "null"
    return str(int(value))


def _rounded(value, type_: Type) -> float:
    with np.errstate(over="ignore"):
        return float(np.asarray(value, np.float32).astype(np.float16 if type_.element is f16 else BFLOAT16))


class Value:
    """The result of an instruction, an argument, or a constant; operators write further instructions."""

    __slots__ = ("builder", "const", "text", "type")

    def __init__(self, builder: Builder, type_: Type, text: str, const=None):
        self.builder, self.type, self.text, self.const = builder, type_, text, const

    @property
    def typed(self) -> str:
        return f"{self.type.llvm} {self.text}"

    def __repr__(self) -> str:
        return f"<{self.type} {self.text}>"

    def __bool__(self) -> bool:
        raise TypeError("a loop IR value has no truth value while the kernel is being written: use if_ or select")

    # fmt: off
    def __add__(self, other): return self.builder.binary("add", self, other)
    def __radd__(self, other): return self.builder.binary("add", other, self)
    def __sub__(self, other): return self.builder.binary("sub", self, other)
    def __rsub__(self, other): return self.builder.binary("sub", other, self)
    def __mul__(self, other): return self.builder.binary("mul", self, other)
    def __rmul__(self, other): return self.builder.binary("mul", other, self)
    def __truediv__(self, other): return self.builder.binary("div", self, other)
    def __rtruediv__(self, other): return self.builder.binary("div", other, self)
    def __floordiv__(self, other): return self.builder.floor_divide(self, other)
    def __rfloordiv__(self, other): return self.builder.floor_divide(other, self)
    def __mod__(self, other): return self.builder.remainder(self, other)
    def __rmod__(self, other): return self.builder.remainder(other, self)
    def __and__(self, other): return self.builder.binary("and", self, other)
    def __rand__(self, other): return self.builder.binary("and", other, self)
    def __or__(self, other): return self.builder.binary("or", self, other)
    def __ror__(self, other): return self.builder.binary("or", other, self)
    def __xor__(self, other): return self.builder.binary("xor", self, other)
    def __rxor__(self, other): return self.builder.binary("xor", other, self)
    def __lshift__(self, other): return self.builder.binary("shl", self, other)
    def __rshift__(self, other): return self.builder.binary("shr", self, other)
    def __lt__(self, other): return self.builder.compare("lt", self, other)
    def __le__(self, other): return self.builder.compare("le", self, other)
    def __gt__(self, other): return self.builder.compare("gt", self, other)
    def __ge__(self, other): return self.builder.compare("ge", self, other)
    def eq(self, other): return self.builder.compare("eq", self, other)
    def ne(self, other): return self.builder.compare("ne", self, other)
    def __neg__(self): return self.builder.negate(self)
    def __invert__(self): return self.builder.binary("xor", self, True if self.type.kind == "b" else -1)
    # fmt: on


_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "rem": "frem"}
_INT_OPS = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor", "shl": "shl"}
_FOLD = {"add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y}


class Module:
    """A set of functions and constant tables that compile together."""

    def __init__(self):
        self._parts: list[str] = []
        self._declared: set[str] = set()
        self._metadata: list[str] = []
        self._tables = 0
        self.functions: set[str] = set()  # that have been written
        self.kept: set[str] = set()  # those that LLVM finds uses for later than it drops unused ones

    def text(self) -> str:
        """Return the whole module as text: the same calls give the same text."""
        kept = ", ".join([f"ptr @{name}" for name in sorted(self.kept)])
        used = f'@llvm.compiler.used = appending global [{len(self.kept)} x ptr] [{kept}], section "llvm.metadata"'
        return "\n".join([*self._parts, *sorted(self._declared), *self._metadata, *[used] * bool(kept)]) + "\n"

    def table(self, type_: Type, values: Sequence) -> str:
        """Add a constant array and return its name, to be read through `Builder.symbol`."""
        self._tables += 1
        name = f"table{self._tables}"
        write = str if type_.kind in "iu" else functools.partial(literal, type_)
        cells = ", ".join([f"{type_.llvm} {write(value)}" for value in values])
        self._parts.append(f"@{name} = internal constant [{len(values)} x {type_.llvm}] [{cells}], align 64")
        return name

    def metadata(self, text: str) -> str:
        """Add a metadata node, in which {self} stands for its own name, and return the name."""
        name = f"!{len(self._metadata)}"
        self._metadata.append(f"{name} = {text.replace('{self}', name)}")
        return name

    def declare(self, name: str, result: Type, parameters: Sequence[Type], variadic: bool = False) -> None:
        """Declare a function that lives outside the module, in libc or in another module."""
        listing = ", ".join([type_.llvm for type_ in parameters] + ["..."] * variadic)
        self._declared.add(f"declare {result.llvm} @{name}({listing})")

    @contextlib.contextmanager
    def function(
        self,
        name: str,
        parameters: Sequence[Type],
        result: Type = void,
        attributes: str = "",
        noalias: bool = False,
    ) -> Iterator[tuple]:
        """Write a function; yields its builder, then one value per parameter.

        `noalias` promises that no two pointer parameters reach the same memory. `attributes` is e.g.
        "internal".
        """
        self.functions.add(name)
        b = Builder(self, result)
        arguments = [Value(b, type_, f"%a{i}") for i, type_ in enumerate(parameters)]
        yield (b, *arguments)
        if b.open:
            b.ret()
        mark = {True: " noalias", False: ""}
        listing = ", ".join(f"{a.type.llvm}{mark[noalias and a.type is ptr]} {a.text}" for a in arguments)
        # An internal function that were inlined would be optimised twice.
        linkage, inlining = ("internal ", " noinline") if attributes == "internal" else ("", "")
        head = f"define {linkage}{result.llvm} @{name}({listing}) nounwind{inlining} {{\nentry:"
        self._parts.append("\n".join([head, *b.allocas, *b.lines, "}"]))

    @contextlib.contextmanager
    def kernel(self, name: str, buffers: int) -> Iterator[tuple]:
        """Write a kernel: `void name(ptr arguments, i64 lo, i64 hi, ptr scratch)`, the form the thread pool
        runs.

        `arguments` points to `buffers` addresses. Yields (builder, [buffers], lo, hi, scratch): write items
        lo..hi. No two buffers may overlap: one that is read and overwritten in place is one buffer, used
        twice.
        """
        with self.function(
            f"{name}.body", [*[ptr] * buffers, index, index, ptr], attributes="internal", noalias=True
        ) as (
            b,
            *arguments,
            lo,
            hi,
            scratch,
        ):
            yield b, arguments, lo, hi, scratch
        with self.function(name, [ptr, index, index, ptr]) as (b, addresses, lo, hi, scratch):
            b.call(f"{name}.body", void, [*(b.load(ptr, addresses, i) for i in range(buffers)), lo, hi, scratch])


class Builder:
    """Writes the instructions of one function."""

    def __init__(self, module: Module, result: Type):
        self.module, self.result = module, result
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.flags = FAST
        self.open = True  # the current block has no terminator yet
        self._count = 0
        self._block = "entry"
        self._access_group = ""
        self._touched: set[str] | None = None
        self._known: dict[str, Value] = {}  # pure instructions whose results reach this point

    # -- plumbing --------------------------------------------------------------------------------------------

    def emit(self, type_: Type, text: str, pure: bool = True) -> Value:
        """Append an instruction that yields a value; a pure one is not repeated where its result is known."""
        known = self._known.get(text) if pure else None
        if known is not None and known.type is type_:
            return known
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {text}")
        value = Value(self, type_, name)
        if pure:
            self._known[text] = value
        return value

    def effect(self, text: str) -> None:
        """Append an instruction that yields nothing."""
        self.lines.append("  " + text)

    def _label(self) -> str:
        self._count += 1
        return f"b{self._count}"

    def _start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self._block, self.open = label, True

    def _branch(self, label: str) -> None:
        if self.open:
            self.effect(f"br label %{label}")
        self.open = False

    def _branch_if(self, condition: Value, yes: str, no: str) -> None:
        self.effect(f"br i1 {condition.text}, label %{yes}, label %{no}")
        self.open = False

    def const(self, type_: Type, value) -> Value:
        """Return a constant; for a vector type, in every lane."""
        return Value(self, type_, literal(type_, value), value)

    def _pair(self, x, y) -> tuple[Value, Value]:
        """Bring two operands to one type: numbers take the other's, scalars spread over the other's lanes."""
        if not isinstance(x, Value):
            return self.const(y.type, x), y
        if not isinstance(y, Value):
            return x, self.const(x.type, y)
        if x.type.lanes != y.type.lanes:
            x, y = self.splat(x, y.type.lanes), self.splat(y, x.type.lanes)
        if x.type is not y.type:
            raise TypeError(f"loop IR operands have types {x.type} and {y.type}: cast one of them")
        return x, y

    @contextlib.contextmanager
    def exact(self) -> Iterator[None]:
        """Inside, float arithmetic is done as written: no reassociation, no contraction."""
        saved, self.flags = self.flags, ""
        yield
        self.flags = saved

    # -- arithmetic ------------------------------------------------------------------------------------------

    def binary(self, op: str, x, y) -> Value:
        """`x op y` for add, sub, mul, div (floats), and, or, xor, shl, shr (integers; shr keeps the sign)."""
        x, y = self._pair(x, y)
        kind = x.type.kind
        if kind == "f":
            if op not in _FLOAT_OPS:
                raise TypeError(f"loop IR has no {op} of {x.type}")
            return self.emit(x.type, f"{_FLOAT_OPS[op]} {self.flags}{x.typed}, {y.text}")
        if x.type is index:
            if x.const is not None and y.const is not None and op in _FOLD:
                return self.const(index, _FOLD[op](x.const, y.const))
            if (y.const == 0 and op in ("add", "sub")) or (y.const == 1 and op == "mul"):
                return x
            if (x.const == 0 and op == "add") or (x.const == 1 and op == "mul"):
                return y
        if op == "shr":
            return self.emit(x.type, f"{'ashr' if kind == 'i' else 'lshr'} {x.typed}, {y.text}")
        if kind == "b" and op in ("add", "mul", "sub"):
            op = {"add": "or", "mul": "and", "sub": "xor"}[op]
        if op not in _INT_OPS:
            raise TypeError(f"loop IR has no {op} of {x.type}")
        wrap = "nsw " if x.type is index and op in ("add", "sub", "mul") else ""
        return self.emit(x.type, f"{_INT_OPS[op]} {wrap}{x.typed}, {y.text}")

    def shift_right_logical(self, x: Value, y) -> Value:
        """Shift in zeros, whatever the sign."""
        x, y = self._pair(x, y)
        return self.emit(x.type, f"lshr {x.typed}, {y.text}")

    def negate(self, x: Value) -> Value:
        if x.type.kind == "f":
            return self.emit(x.type, f"fneg {self.flags}{x.typed}")
        return self.binary("sub", 0, x)

    def _machine_divide(self, op: str, x: Value, y: Value) -> Value:
        return self.emit(x.type, f"{'s' if x.type.kind == 'i' else 'u'}{op} {x.typed}, {y.text}")

    def _guarded(self, x: Value, y: Value) -> Value:
        """A divisor that cannot trap: 1 where it is 0, or where the quotient would overflow."""
        bad = y.eq(0)
        if x.type.kind == "i":
            bad = bad | (y.eq(-1) & x.eq(-(1 << (x.type.bits - 1))))
        return self.select(bad, self.const(y.type, 1), y)

    def floor_divide(self, x, y) -> Value:
        """numpy's `x // y`; integers divided by zero give 0. Of `index` values: both must be >= 0."""
        x, y = self._pair(x, y)
        if x.type is index:
            return x if y.const == 1 else self.emit(index, f"udiv {x.typed}, {y.text}")
        if x.type.kind == "f":
            return self.floor(x / y)
        zero, divisor = y.eq(0), self._guarded(x, y)
        quotient = self._machine_divide("div", x, divisor)
        if x.type.kind == "i":
            rest = x - quotient * divisor
            quotient = quotient - self.cast((rest.ne(0)) & ((rest ^ divisor) < 0), x.type)
        return self.select(zero, self.const(x.type, 0), quotient)

    def remainder(self, x, y) -> Value:
        """numpy's `x % y`, with the sign of `y`; integers modulo 0 give 0. Of `index` values: both >= 0."""
        x, y = self._pair(x, y)
        if x.type is index:
            return self.const(index, 0) if y.const == 1 else self.emit(index, f"urem {x.typed}, {y.text}")
        if x.type.kind == "f":
            rest = self.emit(x.type, f"frem {x.typed}, {y.text}")
            return self.select(rest.ne(0) & ((rest < 0) ^ (y < 0)), rest + y, rest)
        zero, divisor = y.eq(0), self._guarded(x, y)
        rest = self._machine_divide("rem", x, divisor)
        if x.type.kind == "i":
            rest = self.select((rest.ne(0)) & ((rest ^ divisor) < 0), rest + divisor, rest)
        return self.select(zero, self.const(x.type, 0), rest)

    def compare(self, how: str, x, y) -> Value:
        """`x how y` for lt le gt ge eq ne, as numpy: comparisons with NaN are false, except ne."""
        x, y = self._pair(x, y)
        kind = x.type.kind
        if kind == "f":
            return self.emit(x.type.boolean, f"fcmp {'u' if how == 'ne' else 'o'}{how} {x.typed}, {y.text}")
        sign = "" if how in ("eq", "ne") else "s" if kind == "i" else "u"
        return self.emit(x.type.boolean, f"icmp {sign}{how} {x.typed}, {y.text}")

    def select(self, condition: Value, x, y) -> Value:
        """`x` where the condition holds, else `y`."""
        x, y = self._pair(x, y)
        return self.emit(x.type, f"select {condition.typed}, {x.typed}, {y.typed}")

    def _intrinsic(self, name: str, *values: Value, result: Type | None = None) -> Value:
        flags = self.flags if values[0].type.kind == "f" else ""
        type_ = result or values[0].type
        listing = ", ".join(value.typed for value in values)
        return self.emit(type_, f"call {flags}{type_.llvm} @llvm.{name}.{values[0].type.suffix}({listing})")

    def fma(self, x, y, z) -> Value:
        """`x * y + z`, in one instruction where the machine has it."""
        x, y = self._pair(x, y)
        x, z = self._pair(x, z)
        x, y = self._pair(x, y)
        return self._intrinsic("fmuladd", x, y, z)

    def maximum(self, x, y) -> Value:
        """The larger; NaN where either is NaN."""
        return self._extreme("gt", "max", x, y)

    def minimum(self, x, y) -> Value:
        """The smaller; NaN where either is NaN."""
        return self._extreme("lt", "min", x, y)

    def _extreme(self, how: str, name: str, x, y) -> Value:
        x, y = self._pair(x, y)
        if x.const is not None:
            x, y = y, x
        if x.type.kind == "f":
            if y.const is not None and y.const == y.const:  # a bound: one instruction, and NaN passes through
                return self.select(self.compare({"gt": "lt", "lt": "gt"}[how], x, y), y, x)
            return self.select(self.compare(how, x, y) | x.ne(x), x, y)
        if x.type.kind == "b":
            return x | y if name == "max" else x & y
        if x.type is index and x.const is not None and y.const is not None:
            return self.const(index, max(x.const, y.const) if name == "max" else min(x.const, y.const))
        return self._intrinsic(f"{'s' if x.type.kind == 'i' else 'u'}{name}", x, y)

    def abs(self, x: Value) -> Value:
        if x.type.kind == "f":
            return self._intrinsic("fabs", x)
        return self.maximum(x, -x) if x.type.kind == "i" else x

    def isnan(self, x: Value) -> Value:
        return x.ne(x)

    # fmt: off
    def sqrt(self, x): return self._intrinsic("sqrt", x)
    def floor(self, x): return self._intrinsic("floor", x)
    def ceil(self, x): return self._intrinsic("ceil", x)
    def trunc(self, x): return self._intrinsic("trunc", x)
    def round(self, x): return self._intrinsic("roundeven", x)
    def copysign(self, x, sign): return self._intrinsic("copysign", *self._pair(x, sign))
    def rsqrt(self, x): return 1.0 / self.sqrt(x)
    def exp(self, x): return elementary.exp(self, x)
    def expm1(self, x): return elementary.expm1(self, x)
    def log(self, x): return elementary.log(self, x)
    def log1p(self, x): return elementary.log1p(self, x)
    def tanh(self, x): return elementary.tanh(self, x)
    def erf(self, x): return elementary.erf(self, x)
    def sin(self, x): return elementary.sin(self, x)
    def cos(self, x): return elementary.cos(self, x)
    def power(self, x, y): return elementary.power(self, *self._pair(x, y))
    # fmt: on

    # -- conversions and vectors -----------------------------------------------------------------------------

    def cast(self, x: Value, type_: Type) -> Value:
        """Convert to the scalar type of `type_`, lane by lane, as numpy's astype; bool is `x != 0`."""
        type_ = type_.vector(x.type.lanes)
        source, target = x.type, type_
        if source is target:
            return x
        if x.const is not None and source.kind != "p":
            return self.const(type_, x.const if target.element not in (f16, bf16) else _rounded(x.const, target))
        if source.element is bf16:
            bits = self.emit(u32.vector(source.lanes), f"zext {x.typed} to {u32.vector(source.lanes).llvm}")
            return self.cast(self.bitcast(bits << 16, f32.vector(source.lanes)), type_)
        if target.kind == "b":
            return x.ne(0)
        if target.bits == 16 and target.kind == "f" and source.element is not f32:
            return self.cast(self.cast(x, f32), type_)  # the other conversions are not instructions but calls
        if target.element is bf16:
            return self._to_bfloat16(x, type_)
        if source.kind == "f":
            if target.kind == "f":
                return self.emit(
                    type_, f"{'fpext' if source.bits < target.bits else 'fptrunc'} {x.typed} to {type_.llvm}"
                )
            if target.element is u64:  # what is too large for a signed number is made smaller, and its upper bit set
                upper = x >= 2.0**63
                whole = self.cast(self.select(upper, x - 2.0**63, x), i64)
                return self.cast(self.select(upper, whole ^ -(2**63), whole), type_)
            wide = i64.vector(x.type.lanes) if target.bits == 64 or target.element is u32 else i32.vector(x.type.lanes)
            # Out of range is undefined; freeze makes it an arbitrary number instead.
            whole = self.emit(wide, f"fptosi {x.typed} to {wide.llvm}")
            return self.cast(self.emit(wide, f"freeze {whole.typed}"), type_)
        if target.kind == "f":
            return self.emit(type_, f"{'si' if source.kind == 'i' else 'ui'}tofp {x.typed} to {type_.llvm}")
        if source.bits == target.bits:
            return Value(self, type_, x.text)
        how = "trunc" if source.bits > target.bits else "sext" if source.kind == "i" else "zext"
        return self.emit(type_, f"{how} {x.typed} to {type_.llvm}")

    def _to_bfloat16(self, x: Value, type_: Type) -> Value:
        """The upper half of a float32, rounded to nearest, ties to even; in integers, since few machines have it."""
        bits = self.bitcast(x, u32.vector(x.type.lanes))
        bits = bits + ((bits >> 16) & 1) + 0x7FFF
        bits = self.select(x.ne(x), self.const(bits.type, 0x7FC00000), bits)
        return self.emit(type_, f"trunc {(bits >> 16).typed} to {type_.llvm}")

    def bitcast(self, x: Value, type_: Type) -> Value:
        """The same bits as another type."""
        return self.emit(type_, f"bitcast {x.typed} to {type_.llvm}")

    def splat(self, x: Value, lanes: int) -> Value:
        """A vector with `x` in every lane; a vector stays as it is."""
        if lanes == 0 or x.type.lanes:
            return x
        type_ = x.type.vector(lanes)
        if x.const is not None:
            return self.const(type_, x.const)
        first = self.emit(type_, f"insertelement {type_.llvm} poison, {x.typed}, i64 0")
        spread = f"shufflevector {first.typed}, {type_.llvm} poison, <{lanes} x i32> zeroinitializer"
        return self.emit(type_, spread)

    def shuffle(self, x: Value, y: Value, lanes: Sequence[int]) -> Value:
        """The lanes of x followed by y, picked by number."""
        picks = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.emit(
            x.type.vector(len(lanes)), f"shufflevector {x.typed}, {y.typed}, <{len(lanes)} x i32> <{picks}>"
        )

    def extract(self, x: Value, lane: int) -> Value:
        return self.emit(x.type.element, f"extractelement {x.typed}, i64 {lane}")

    def insert(self, x: Value, item: Value, lane: int) -> Value:
        return self.emit(x.type, f"insertelement {x.typed}, {item.typed}, i64 {lane}")

    def reduce(self, how: str, x: Value) -> Value:
        """Combine the lanes of a vector: add, mul, or (floats, NaN not kept) max."""
        element = x.type.element
        if x.type.kind != "f" or how == "max":
            return self._intrinsic(f"vector.reduce.{'f' if x.type.kind == 'f' else ''}{how}", x, result=element)
        start = {"add": 0, "mul": 1}[how]
        text = f"call {self.flags}{element.llvm} @llvm.vector.reduce.f{how}.{x.type.suffix}"
        return self.emit(element, f"{text}({element.llvm} {literal(element, start)}, {x.typed})")

    # -- memory ----------------------------------------------------------------------------------------------

    def offset(self, type_: Type, pointer: Value, i) -> Value:
        """The address of element `i` of an array of scalars of `type_`."""
        if isinstance(i, Value) and i.const is not None:
            i = i.const
        if not isinstance(i, Value):
            if i == 0:
                return pointer
            i = self.const(index, i)
        element = "i8" if type_.kind == "b" else type_.element.llvm
        return self.emit(ptr, f"getelementptr inbounds {element}, {pointer.typed}, {i.typed}")

    def load(self, type_: Type, pointer: Value, i=0) -> Value:
        """Element `i` of the array at `pointer`; a vector type takes that many elements from there on."""
        address = self.offset(type_, pointer, i)
        if self._touched is not None:
            self._touch(type_, address)
            return self.const(type_, 0)
        stored = i8.vector(type_.lanes) if type_.kind == "b" else type_
        text = f"load {stored.llvm}, {address.typed}, align {type_.size}{self._access_group}"
        value = self.emit(stored, text, pure=False)
        return value.ne(0) if type_.kind == "b" else value

    def store(self, value: Value, pointer: Value, i=0) -> None:
        """Write `value` (scalar or vector) from element `i` on."""
        address = self.offset(value.type, pointer, i)
        if self._touched is not None:
            self._touch(value.type, address)
            return
        if value.type.kind == "b":
            value = self.cast(value, u8)
        self.effect(f"store {value.typed}, {address.typed}, align {value.type.size}{self._access_group}")

    def copy(self, target: Value, source: Value, size) -> None:
        """Copy `size` bytes between places that do not overlap."""
        size = size if isinstance(size, Value) else self.const(index, size)
        self.effect(f"call void @llvm.memcpy.p0.p0.i64({target.typed}, {source.typed}, {size.typed}, i1 false)")

    def fill_zero(self, target: Value, size) -> None:
        """Set `size` bytes to zero."""
        size = size if isinstance(size, Value) else self.const(index, size)
        self.effect(f"call void @llvm.memset.p0.i64({target.typed}, i8 0, {size.typed}, i1 false)")

    def opaque(self, pointer: Value) -> Value:
        """The same address, its origin hidden: LLVM weighs no formulas for whole nests of loops."""
        return self.emit(ptr, f"call ptr @llvm.launder.invariant.group.p0({pointer.typed})", pure=False)

    def symbol(self, name: str) -> Value:
        """The address of a table or function of this module."""
        return Value(self, ptr, f"@{name}")

    def variable(self, initial: Value) -> Variable:
        """A mutable cell for values that cross branches; it becomes a register."""
        self._count += 1
        name = f"%v{self._count}"
        self.allocas.append(f"  {name} = alloca {initial.type.llvm}")
        cell = Variable(self, initial.type, name)
        cell.set(initial)
        return cell

    def atomic_load(self, type_: Type, pointer: Value, order: str = "acquire") -> Value:
        return self.emit(type_, f"load atomic {type_.llvm}, {pointer.typed} {order}, align {type_.size}", False)

    def atomic_store(self, value: Value, pointer: Value, order: str = "release") -> None:
        self.effect(f"store atomic {value.typed}, {pointer.typed} {order}, align {value.type.size}")

    def atomic_update(self, op: str, pointer: Value, value: Value, order: str = "seq_cst") -> Value:
        """`op` is add, sub, xchg, or, and…; returns the value before."""
        return self.emit(value.type, f"atomicrmw {op} {pointer.typed}, {value.typed} {order}", False)

    def compare_exchange(self, pointer: Value, expected: Value, value: Value) -> Value:
        """Store `value` if the memory holds `expected`; returns whether it did."""
        pair = self._label()
        self.effect(f"%{pair} = cmpxchg {pointer.typed}, {expected.typed}, {value.typed} seq_cst seq_cst")
        return self.emit(i1, f"extractvalue {{ {value.type.llvm}, i1 }} %{pair}, 1")

    @contextlib.contextmanager
    def touching(self):
        """Inside, vectors are not loaded and stored but brought near, for code that soon does so; a load gives 0."""
        self._touched = set()
        yield
        self._touched = None

    def _touch(self, type_: Type, address: Value) -> None:
        if type_.lanes > 1 and address.text not in self._touched:
            self._touched.add(address.text)
            self.prefetch(address)

    def prefetch(self, pointer: Value) -> None:
        self.effect(f"call void @llvm.prefetch.p0({pointer.typed}, i32 0, i32 3, i32 1)")

    # -- control ---------------------------------------------------------------------------------------------

    def call(self, function: str | Value, result: Type, arguments: Sequence[Value], variadic: bool = False):
        """Call a function by name, or by address."""
        target = function.text if isinstance(function, Value) else f"@{function}"
        shape = f"{result.llvm} ({arguments[0].type.llvm}, ...)" if variadic else result.llvm
        text = f"call {shape} {target}({', '.join(argument.typed for argument in arguments)})"
        return self.effect(text) if result is void else self.emit(result, text, pure=False)

    def ret(self, value: Value | None = None) -> None:
        self.effect("ret void" if value is None else f"ret {value.typed}")
        self.open = False

    @contextlib.contextmanager
    def loop(self, lo, hi, step=1, carry: list[Value] | None = None, parallel: bool = False, vectorize: bool = True):
        """Run the body for lo <= i < hi. Yields the index, or (index, state) with values carried round.

        `state` is a list: assign to its items inside the body; after the loop it holds the final values.
        `parallel` promises that no iteration touches memory another one writes, which frees the vectoriser of
        run-time checks.

        >>> with b.loop(0, n, carry=[b.const(f32, 0)]) as (i, state):      # doctest: +SKIP
        ...     state[0] += b.load(f32, x, i)
        >>> total = state[0]                                               # doctest: +SKIP
        """
        lo = lo if isinstance(lo, Value) else self.const(index, lo)
        lo, hi = self._pair(lo, hi)
        initial = [*(carry or ())]
        body, done, before = self._label(), self._label(), self._block
        if lo.const is None or hi.const is None or lo.const >= hi.const:
            self._branch_if(lo < hi, body, done)
        else:
            self._branch(body)
        self._start(body)
        place = len(self.lines)
        self._count += 1
        i = Value(self, lo.type, f"%i{self._count}")
        state = [Value(self, value.type, f"%c{self._count}.{k}") for k, value in enumerate(initial)]
        phis = list(state)
        group, saved_group = "", self._access_group
        if parallel:
            group = self.module.metadata("distinct !{}")
            self._access_group = f", !llvm.access.group {group}"
        outside, self._known = self._known, dict(self._known)
        yield (i, state) if carry is not None else i
        self._access_group = saved_group
        following = i + step
        latch = self._block
        hints = [] if vectorize else ['!{!"llvm.loop.vectorize.enable", i1 false}', '!{!"llvm.loop.unroll.disable"}']
        hints += [f'!{{!"llvm.loop.parallel_accesses", {group}}}'] if group else []
        note = ""
        if hints:
            nodes = "".join(", " + self.module.metadata(hint) for hint in hints)
            note = ", !llvm.loop " + self.module.metadata(f"distinct !{{{{self}}{nodes}}}")
        self.effect(f"br i1 {(following < hi).text}, label %{body}, label %{done}{note}")
        heads = [f"  {i.text} = phi {i.type.llvm} [{lo.text}, %{before}], [{following.text}, %{latch}]"]
        for phi, start, end in zip(phis, initial, state, strict=True):
            heads.append(f"  {phi.text} = phi {phi.type.llvm} [{start.text}, %{before}], [{end.text}, %{latch}]")
        self.lines[place:place] = heads
        guarded = self.lines[place - 2].startswith("  br i1")
        self._start(done)
        self._known = outside
        for k, (start, end) in enumerate(zip(initial, state, strict=True)):
            first = f"[{start.text}, %{before}], " if guarded else ""
            state[k] = self.emit(start.type, f"phi {start.type.llvm} {first}[{end.text}, %{latch}]", pure=False)

    @contextlib.contextmanager
    def if_(self, condition: Value, carry: list[Value] | None = None) -> Iterator[Branch]:
        """Run the body where the condition holds.

        Items of `carry` that are assigned inside keep their new values after it.
        """
        yes, no, before = self._label(), self._label(), self._block
        old = [*(carry or ())]
        self._branch_if(condition, yes, no)
        self._start(yes)
        branch = Branch(self)
        outside, self._known = self._known, dict(self._known)
        yield branch
        self._known = outside
        inner, reaches = self._block, self.open
        branch.jump = len(self.lines) if reaches else None
        self._branch(no)
        self._start(no)
        for k, value in enumerate(old):
            if carry[k] is not value and reaches:
                text = f"phi {value.type.llvm} [{carry[k].text}, %{inner}], [{value.text}, %{before}]"
                carry[k] = self.emit(value.type, text, pure=False)
            else:
                carry[k] = value

    @contextlib.contextmanager
    def forever(self) -> Iterator[Endless]:
        """Run the body again and again, until `break_if` leaves it."""
        body, done = self._label(), self._label()
        self._branch(body)
        self._start(body)
        outside, self._known = self._known, dict(self._known)
        yield Endless(self, done)
        self._known = outside
        self._branch(body)
        self._start(done)


class Variable:
    """A mutable cell: `get()` and `set(value)`."""

    def __init__(self, builder: Builder, type_: Type, name: str):
        self._builder, self._type, self._name = builder, type_, name

    def get(self) -> Value:
        return self._builder.emit(self._type, f"load {self._type.llvm}, ptr {self._name}", pure=False)

    def set(self, value) -> None:
        value = value if isinstance(value, Value) else self._builder.const(self._type, value)
        self._builder.effect(f"store {value.typed}, ptr {self._name}")


class Branch:
    """The handle on an `if_`: `with branch.otherwise():` right after it writes the other arm."""

    def __init__(self, builder: Builder):
        self._builder = builder
        self.jump: int | None = None  # the line that leaves the first arm

    @contextlib.contextmanager
    def otherwise(self) -> Iterator[None]:
        b = self._builder
        done = b._label()
        if self.jump is not None:
            b.lines[self.jump] = f"  br label %{done}"
        outside, b._known = b._known, dict(b._known)
        yield
        b._known = outside
        b._branch(done)
        b._start(done)


class Endless:
    """The handle on a `forever` loop."""

    def __init__(self, builder: Builder, done: str):
        self._builder, self._done = builder, done

    def break_if(self, condition: Value) -> None:
        onwards = self._builder._label()
        self._builder._branch_if(condition, self._done, onwards)
        self._builder._start(onwards)
