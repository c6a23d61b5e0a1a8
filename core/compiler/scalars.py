"""Element-wise ops as loop IR: what the ``emit`` of a declaration is handed as ``b``."""

from __future__ import annotations

from typing import Any

from .indices import Unfusable
from .loops import Builder, Value, in_register, of_dtype

# What users write is done in its order, with no more than a product and a sum in one instruction: x / sqrt(y) by an
# approximate reciprocal root, or x + y - y without y, would lose infinity and NaN. Sums over an axis are left free.
CAREFUL = "contract "


class Scalars:
    """Names of element-wise ops, each a method that writes the op for one element."""

    def __init__(self, builder: Builder):
        self.builder = builder

    def apply(self, op: Any, values: list[Value], attributes: dict) -> Value:
        """Write ``op``. Half precision is single here: it is rounded where it is stored, or by a cast."""
        saved, self.builder.flags = self.builder.flags, CAREFUL
        try:
            return op.emit(self, *values, **attributes)
        finally:
            self.builder.flags = saved

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.builder, name, None)
        if method is None:  # an op that nobody has taught the compiler yet: numpy computes it
            raise Unfusable(name)
        return method

    # fmt: off
    def negative(self, x): return -x
    def add(self, x, y): return x + y
    def subtract(self, x, y): return x - y
    def multiply(self, x, y): return x * y
    def divide(self, x, y): return x / y
    def absolute(self, x): return self.builder.abs(x)
    def rint(self, x): return self.builder.round(x)
    def tan(self, x): return self.builder.sin(x) / self.builder.cos(x)
    def equal(self, x, y): return x.eq(y)
    def not_equal(self, x, y): return x.ne(y)
    def less(self, x, y): return x < y
    def less_equal(self, x, y): return x <= y
    def greater(self, x, y): return x > y
    def greater_equal(self, x, y): return x >= y
    def isinf(self, x): return self.builder.abs(x).eq(float("inf"))
    def where(self, condition, x, y): return self.builder.select(condition, x, y)
    def bitwise_and(self, x, y): return x & y
    def bitwise_or(self, x, y): return x | y
    def bitwise_xor(self, x, y): return x ^ y
    def bitwise_not(self, x): return ~x
    def cast(self, x, dtype): return self.builder.cast(self.builder.cast(x, of_dtype(dtype)), in_register(dtype))
    # fmt: on

    def sign(self, x: Value) -> Value:
        """-1, 0 or 1; NaN stays NaN."""
        b = self.builder
        one, zero = b.const(x.type, 1), b.const(x.type, 0)
        if x.type.kind == "u":
            return b.select(x.ne(0), one, zero)
        signed = b.select(x > 0, one, b.select(x < 0, b.const(x.type, -1), zero))
        return b.select(x.ne(x), x, signed) if x.type.kind == "f" else signed

    def relu(self, x: Value) -> Value:
        """0 where x <= 0; NaN stays NaN."""
        return self.builder.select(x <= 0, self.builder.const(x.type, 0), x)

    def sigmoid(self, x: Value) -> Value:
        """1 / (1 + exp(-x)); exp overflows to infinity where the result is 0."""
        return 1.0 / (1.0 + self.builder.exp(-x))

    def mod(self, x: Value, y: Value) -> Value:
        """The remainder, with the sign of the divisor even where it is zero."""
        b = self.builder
        rest = b.remainder(x, y)
        return b.select(rest.eq(0), b.copysign(b.const(x.type, 0), y), rest) if x.type.kind == "f" else rest

    def floor_divide(self, x: Value, y: Value) -> Value:
        """numpy's: by way of the remainder, as x / y may round up to a whole number; infinity // y is NaN."""
        b = self.builder
        if x.type.kind != "f":
            return b.floor_divide(x, y)
        rest = b.emit(x.type, f"frem {x.typed}, {y.text}")
        above = b.cast(rest.ne(0) & ((rest < 0) ^ (y < 0)), x.type)
        quotient = b.round((x - rest) / y) - above
        quotient = b.select(quotient.eq(0), b.copysign(b.const(x.type, 0), x / y), quotient)
        return b.select(y.eq(0), x / y, quotient)

    def power(self, x: Value, y: Value) -> Value:
        """x to the power y; of integers by repeated squaring, and 0 for a fraction."""
        b = self.builder
        if x.type.kind == "f":
            return b.power(x, y)
        result, base, rest = b.const(x.type, 1), x, y
        for _ in range(x.type.bits - (x.type.kind == "i")):
            result = b.select((rest & 1).ne(0), result * base, result)
            base, rest = base * base, rest >> 1
        if x.type.kind == "i":
            result = b.select((y < 0) & x.ne(1) & x.ne(-1), b.const(x.type, 0), result)
        return result

    def left_shift(self, x: Value, y: Value) -> Value:
        """x · 2^y; 0 where all bits are shifted out."""
        return self.builder.select(_in_width(y), x << y, self.builder.const(x.type, 0))

    def right_shift(self, x: Value, y: Value) -> Value:
        """x / 2^y rounded down; what is left when all bits are shifted out is the sign."""
        b = self.builder
        gone = x >> (x.type.bits - 1) if x.type.kind == "i" else b.const(x.type, 0)
        return b.select(_in_width(y), x >> y, gone)


def _in_width(shift: Value) -> Value:
    """Whether a shift leaves any of the bits; as in numpy, a negative one leaves none."""
    inside = shift < shift.type.bits
    return inside & (shift >= 0) if shift.type.kind == "i" else inside
