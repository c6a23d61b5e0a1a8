"""Element-wise ops as loop IR: what the ``emit`` of a declaration is handed as ``b``."""

from __future__ import annotations

from typing import Any

from .indices import Unfusable
from .loops import Builder, Value, in_register, of_dtype


class Scalars:
    """Names of element-wise ops, each a method that writes the op for one element."""

    def __init__(self, builder: Builder):
        self.builder = builder

    def apply(self, op: Any, values: list[Value], attributes: dict) -> Value:
        """Write ``op``. Half precision is single here: it is rounded where it is stored, or by a cast."""
        return op.emit(self, *values, **attributes)

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
    def mod(self, x, y): return self.builder.remainder(x, y)
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
    def left_shift(self, x, y): return x << y
    def right_shift(self, x, y): return x >> y
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

    def power(self, x: Value, y: Value) -> Value:
        """x to the power y; of integers by repeated squaring."""
        b = self.builder
        if x.type.kind == "f":
            return b.power(x, y)
        result, base, rest = b.const(x.type, 1), x, y
        for _ in range(6):  # exponents from 64 on overflow every base but 0, 1 and -1
            result = b.select((rest & 1).ne(0), result * base, result)
            base, rest = base * base, rest >> 1
        return result
