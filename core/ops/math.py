"""Element-wise functions."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial as _factorial
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import DtypeError
from ..op import Op
from ..primitives import elementwise as primitive
from ..primitives import numbers
from ..tensor import Tensor, filled
from .common import cast_to, convert, promote, promote_float, scalar, to_float


def cast(x: Any, dtype: Any) -> Tensor:
    """Convert to another dtype; floats are truncated towards zero on their way to integers."""
    return cast_to(convert(x), dtypes.as_dtype(dtype))


def _numbers(*values: Any) -> list[Tensor]:
    """Promote; bools count as int32."""
    values = promote(*values)
    return [cast_to(v, dtypes.INT32) for v in values] if values[0].dtype == dtypes.BOOL else values


def _number(value: Any) -> Tensor:
    return _numbers(value)[0]


def _bool(value: Any) -> Tensor:
    return cast_to(convert(value), dtypes.BOOL)


def _bools(*values: Any) -> list[Tensor]:
    return [_bool(value) for value in values]


def _unary(op: Op, description: str, prepare: Callable = to_float, name: str = "") -> Callable:
    """A function of x that applies ``op`` to what ``prepare`` makes of it."""

    def function(x: Any) -> Tensor:
        return op(prepare(x))

    function.__name__ = function.__qualname__ = name or op.name
    function.__doc__ = description
    return function


def _binary(op: Op, description: str, prepare: Callable = promote, name: str = "") -> Callable:
    """A function of x1 and x2 that applies ``op`` to what ``prepare`` makes of both."""

    def function(x1: Any, x2: Any) -> Tensor:
        return op(*prepare(x1, x2))

    function.__name__ = function.__qualname__ = name or op.name
    function.__doc__ = description
    return function


add = _binary(primitive.add, "x1 + x2, element by element.", _numbers)
subtract = _binary(primitive.subtract, "x1 - x2, element by element.", _numbers)
multiply = _binary(primitive.multiply, "x1 * x2, element by element.", _numbers)
divide = true_divide = _binary(primitive.divide, "x1 / x2 as floats, element by element.", promote_float)
floor_divide = _binary(primitive.floor_divide, "x1 / x2 rounded towards minus infinity.", _numbers)
mod = remainder = _binary(primitive.mod, "Remainder of floor_divide; it has the sign of x2.", _numbers)
maximum = _binary(primitive.maximum, "The larger of x1 and x2; NaN if either is.")
minimum = _binary(primitive.minimum, "The smaller of x1 and x2; NaN if either is.")
arctan2 = _binary(primitive.arctan2, "Angle of the point (x2, x1), in (-π, π].", promote_float)
nextafter = _binary(numbers.nextafter, "The next float after x1 towards x2.", promote_float)

equal = _binary(primitive.equal, "x1 == x2, element by element, as bool.")
not_equal = _binary(primitive.not_equal, "x1 != x2, element by element, as bool.")
less = _binary(primitive.less, "x1 < x2, element by element, as bool.")
less_equal = _binary(primitive.less_equal, "x1 <= x2, element by element, as bool.")
greater = _binary(primitive.greater, "x1 > x2, element by element, as bool.")
greater_equal = _binary(primitive.greater_equal, "x1 >= x2, element by element, as bool.")

logical_and = _binary(primitive.bitwise_and, "True where both are.", _bools, name="logical_and")
logical_or = _binary(primitive.bitwise_or, "True where either is.", _bools, name="logical_or")
logical_xor = _binary(primitive.bitwise_xor, "True where exactly one is.", _bools, name="logical_xor")
logical_not = _unary(primitive.bitwise_not, "True where x is False or 0.", _bool, name="logical_not")

negative = _unary(primitive.negative, "-x", _number)
sign = _unary(primitive.sign, "-1, 0 or 1.", _number)
fabs = _unary(primitive.absolute, "|x| as a float", name="fabs")
exp = _unary(primitive.exp, "e to the power x.")
expm1 = _unary(primitive.expm1, "exp(x) - 1, exact for small x.")
log = _unary(primitive.log, "Natural logarithm.")
log1p = _unary(primitive.log1p, "log(1 + x), exact for small x.")
sqrt = _unary(primitive.sqrt, "Square root.")
rsqrt = _unary(primitive.rsqrt, "1 / sqrt(x).")
sin = _unary(primitive.sin, "Sine of an angle in radians.")
cos = _unary(primitive.cos, "Cosine of an angle in radians.")
tan = _unary(primitive.tan, "Tangent of an angle in radians.")
arcsin = _unary(primitive.arcsin, "Inverse sine, in radians.")
arccos = _unary(primitive.arccos, "Inverse cosine, in radians.")
arctan = _unary(primitive.arctan, "Inverse tangent, in radians.")
sinh = _unary(primitive.sinh, "Hyperbolic sine.")
cosh = _unary(primitive.cosh, "Hyperbolic cosine.")
tanh = _unary(primitive.tanh, "Hyperbolic tangent.")
arcsinh = _unary(primitive.arcsinh, "Inverse hyperbolic sine.")
arccosh = _unary(primitive.arccosh, "Inverse hyperbolic cosine.")
arctanh = _unary(primitive.arctanh, "Inverse hyperbolic tangent.")
erf = _unary(primitive.erf, "Error function.")
floor = _unary(primitive.floor, "The largest whole number not above x.")
ceil = _unary(primitive.ceil, "The smallest whole number not below x.")


def divide_no_nan(x1: Any, x2: Any) -> Tensor:
    """x1 / x2, and 0 where x2 is 0."""
    x1, x2 = promote_float(x1, x2)
    zero = primitive.equal(x2, scalar(0, x2))
    return primitive.where(zero, scalar(0, x1), primitive.divide(x1, primitive.where(zero, scalar(1, x2), x2)))


def fmod(x1: Any, x2: Any) -> Tensor:
    """Remainder of the division rounded towards 0; it has the sign of x1."""
    x1, x2 = _numbers(x1, x2)
    rest = primitive.mod(absolute(x1), absolute(x2))
    return primitive.where(primitive.less(x1, scalar(0, x1)), primitive.negative(rest), rest)


def gcd(x1: Any, x2: Any) -> Tensor:
    """Greatest common divisor of integers."""
    return numbers.gcd(*_integers("gcd", x1, x2))


def lcm(x1: Any, x2: Any) -> Tensor:
    """Least common multiple of integers."""
    x1, x2 = _integers("lcm", x1, x2)
    divisor = numbers.gcd(x1, x2)
    return absolute(x1 // maximum(divisor, 1) * x2)


def _integers(name: str, *values: Any) -> list[Tensor]:
    values = _numbers(*values)
    if dtypes.is_floating(values[0].dtype):
        raise DtypeError(f"{name}: expected integers; received {values[0].dtype.name}.")
    return values


def power(x1: Any, x2: Any) -> Tensor:
    """x1 to the power x2."""
    base, exponent = _numbers(x1, x2)
    if dtypes.weak(x2) and x2 == 2:
        return primitive.multiply(base, base)
    if dtypes.weak(x2) and x2 == 0.5:
        return primitive.sqrt(base)
    return primitive.power(base, exponent)


def absolute(x: Any) -> Tensor:
    """|x|"""
    x = convert(x)
    return x if x.dtype.kind in "bu" else primitive.absolute(x)


abs = absolute


def signbit(x: Any) -> Tensor:
    """Where the sign of x is minus, that of -0.0 too."""
    x = convert(x)
    if not dtypes.is_floating(x.dtype):
        return less(x, 0)
    zero, one = scalar(0, x), scalar(1, x)
    negative_zero = logical_and(primitive.equal(x, zero), primitive.less(one / x, zero))
    return logical_or(primitive.less(x, zero), negative_zero)


def heaviside(x1: Any, x2: Any) -> Tensor:
    """0 where x1 is negative, 1 where positive, x2 where 0."""
    x1, x2 = promote_float(x1, x2)
    positive = primitive.greater(x1, scalar(0, x1))
    step = where(positive, scalar(1, x1), x1 * 0)  # NaN stays
    return where(primitive.equal(x1, scalar(0, x1)), x2, where(isinf(x1), positive, step))


def fmax(x1: Any, x2: Any) -> Tensor:
    """The larger of x1 and x2; NaN only where both are."""
    x1, x2 = promote(x1, x2)
    return where(isnan(x1), x2, where(isnan(x2), x1, primitive.maximum(x1, x2)))


def fmin(x1: Any, x2: Any) -> Tensor:
    """The smaller of x1 and x2; NaN only where both are."""
    x1, x2 = promote(x1, x2)
    return where(isnan(x1), x2, where(isnan(x2), x1, primitive.minimum(x1, x2)))


def clip(x: Any, x_min: Any, x_max: Any) -> Tensor:
    """Limit x to [x_min, x_max]; None leaves a side open."""
    x = convert(x)
    if x_min is not None:
        x = maximum(x, x_min)
    return x if x_max is None else minimum(x, x_max)


def square(x: Any) -> Tensor:
    """x²"""
    x = _number(x)
    return primitive.multiply(x, x)


def reciprocal(x: Any) -> Tensor:
    """1 / x"""
    return divide(1, x)


def round(x: Any, decimals: int = 0) -> Tensor:
    """Round to the nearest, halves to even; with negative ``decimals`` to tens, hundreds and so on.

    >>> round([13, 15, 25], -1).tolist()
    [10, 20, 20]
    """
    x = convert(x)
    if not dtypes.is_floating(x.dtype):
        return x if decimals >= 0 else _round_integers(x, 10**-decimals)
    if decimals == 0:
        return primitive.rint(x)
    factor = scalar(10.0 ** abs(decimals), x)
    return primitive.rint(x * factor) / factor if decimals > 0 else primitive.rint(x / factor) * factor


def _round_integers(x: Tensor, unit: int) -> Tensor:
    """To multiples of ``unit``, exactly; what is too large for the dtype wraps around."""
    wide = cast_to(x, np.dtype("uint64" if x.dtype == "uint64" else "int64"))
    if unit > np.iinfo(wide.dtype).max:
        return filled(0, x.shape, x.dtype)
    quotient = wide // unit
    twice = 2 * (wide - quotient * unit)
    up = primitive.where(primitive.equal(twice, scalar(unit, wide)), quotient % 2 == 1, twice > unit)
    return cast_to((quotient + cast_to(up, wide.dtype)) * unit, x.dtype)


def trunc(x: Any) -> Tensor:
    """Drop the fraction."""
    x = convert(x)
    if not dtypes.is_floating(x.dtype):
        return x
    return primitive.where(primitive.less(x, scalar(0, x)), primitive.ceil(x), primitive.floor(x))


def log2(x: Any) -> Tensor:
    """Logarithm to the base 2."""
    x = to_float(x)
    return primitive.log(x) * scalar(1 / np.log(2), x)


def log10(x: Any) -> Tensor:
    """Logarithm to the base 10."""
    x = to_float(x)
    return primitive.log(x) * scalar(1 / np.log(10), x)


def exp2(x: Any) -> Tensor:
    """2 to the power x."""
    x = to_float(x)
    return primitive.exp(x * scalar(np.log(2), x))


def cbrt(x: Any) -> Tensor:
    """Cube root."""
    x = to_float(x)
    return primitive.sign(x) * primitive.power(primitive.absolute(x), scalar(1 / 3, x))


def ldexp(x1: Any, x2: Any) -> Tensor:
    """x1·2^x2"""
    x1, x2 = promote_float(x1, x2)
    return x1 * primitive.power(scalar(2, x1), x2)


def logaddexp(x1: Any, x2: Any) -> Tensor:
    """log(exp(x1) + exp(x2)) without overflow."""
    x1, x2 = promote_float(x1, x2)
    high = maximum(x1, x2)
    difference = primitive.negative(primitive.absolute(x1 - x2))
    same_infinity = primitive.equal(x1, x2)
    return high + primitive.log1p(primitive.exp(primitive.where(same_infinity, scalar(0, x1), difference)))


def logaddexp2(x1: Any, x2: Any) -> Tensor:
    """log2(2^x1 + 2^x2) without overflow."""
    x1, x2 = promote_float(x1, x2)
    factor = scalar(np.log(2), x1)
    return logaddexp(x1 * factor, x2 * factor) / factor


def erfc(x: Any) -> Tensor:
    """1 - erf(x), exact for large x too.

    Cody, "Rational Chebyshev approximation for the error function" (1969).
    """
    x = to_float(x)
    z = primitive.absolute(x)
    near = primitive.less(z, scalar(0.46875, z))
    far = primitive.greater(z, scalar(4, z))
    middle_z = primitive.where(far, scalar(4, z), z)
    far_z = primitive.where(far, z, scalar(4, z))
    middle = _polynomial(middle_z, primitive.ERFC_P) / _polynomial(middle_z, primitive.ERFC_Q)
    s = scalar(1, z) / (far_z * far_z)
    tail = _polynomial(s, primitive.ERFX_P) / _polynomial(s, primitive.ERFX_Q)
    tail = (scalar(1 / np.sqrt(np.pi), z) - s * tail) / far_z
    beyond = primitive.exp(primitive.negative(z * z)) * primitive.where(far, tail, middle)
    beyond = primitive.where(primitive.less(x, scalar(0, x)), scalar(2, x) - beyond, beyond)
    return primitive.where(near, scalar(1, x) - primitive.erf(x), beyond)


def erfinv(x: Any) -> Tensor:
    """Inverse error function.

    Giles, "Approximating the erfinv function" (GPU Computing Gems, 2011); two Newton steps refine float64.
    """
    x = to_float(x)
    w = -primitive.log((scalar(1, x) - x) * (scalar(1, x) + x))
    central = _polynomial(w - 2.5, _ERFINV_CENTRAL)
    tail = _polynomial(primitive.sqrt(maximum(w, 5.0)) - 3.0, _ERFINV_TAIL)
    y = primitive.where(primitive.less(w, scalar(5, w)), central, tail) * x
    if x.dtype == dtypes.FLOAT64:
        inside = primitive.less(primitive.absolute(x), scalar(1, x))
        for _ in range(2):
            step = (primitive.erf(y) - x) / (2 / np.sqrt(np.pi) * primitive.exp(-(y * y)))
            y = primitive.where(inside, y - step, y)
    edge = primitive.equal(primitive.absolute(x), scalar(1, x))
    # The sign has no gradient: that of an infinite product would spoil the other elements with 0 · inf.
    return primitive.where(edge, primitive.sign(x) * scalar(np.inf, x), y)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    y = scalar(coefficients[0], x)
    for coefficient in coefficients[1:]:
        y = y * x + scalar(coefficient, x)
    return y


_ERFINV_CENTRAL = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_ERFINV_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


def isnan(x: Any) -> Tensor:
    """Where x is not a number."""
    x = convert(x)
    return primitive.isnan(x) if dtypes.is_floating(x.dtype) else _nowhere(x)


def isinf(x: Any) -> Tensor:
    """Where x is plus or minus infinity."""
    x = convert(x)
    return primitive.isinf(x) if dtypes.is_floating(x.dtype) else _nowhere(x)


def isfinite(x: Any) -> Tensor:
    """Where x is neither infinite nor NaN."""
    return logical_not(logical_or(isnan(x), isinf(x)))


def isposinf(x: Any) -> Tensor:
    """Where x is plus infinity."""
    return equal(x, np.inf)


def isneginf(x: Any) -> Tensor:
    """Where x is minus infinity."""
    return equal(x, -np.inf)


def _nowhere(x: Tensor) -> Tensor:
    return filled(False, x.shape, bool)


def isclose(x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where |x1 - x2| <= atol + rtol·|x2|."""
    x1, x2 = promote_float(x1, x2)
    near = primitive.less_equal(absolute(x1 - x2), atol + rtol * absolute(x2))
    near = logical_or(logical_and(near, isfinite(x2)), equal(x1, x2))
    return logical_or(near, logical_and(isnan(x1), isnan(x2))) if equal_nan else near


def isreal(x: Any) -> Tensor:
    """True everywhere: tensors are real."""
    return filled(True, convert(x).shape, bool)


def bitwise_and(x: Any, y: Any) -> Tensor:
    """x & y of integers or bools."""
    return primitive.bitwise_and(*promote(x, y))


def bitwise_or(x: Any, y: Any) -> Tensor:
    """x | y of integers or bools."""
    return primitive.bitwise_or(*promote(x, y))


def bitwise_xor(x: Any, y: Any) -> Tensor:
    """x ^ y of integers or bools."""
    return primitive.bitwise_xor(*promote(x, y))


def bitwise_not(x: Any) -> Tensor:
    """~x of integers or bools."""
    return primitive.bitwise_not(convert(x))


bitwise_invert = bitwise_not


def left_shift(x: Any, y: Any) -> Tensor:
    """x << y of integers."""
    return primitive.left_shift(*_numbers(x, y))


def right_shift(x: Any, y: Any) -> Tensor:
    """x >> y of integers."""
    return primitive.right_shift(*_numbers(x, y))


bitwise_left_shift, bitwise_right_shift = left_shift, right_shift


def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """x1 where the condition holds, x2 elsewhere; the positions where it holds when called with it alone."""
    if x1 is None and x2 is None:
        from .indexing import nonzero

        return nonzero(condition)
    return primitive.where(_bool(condition), *promote(x1, x2))


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """Replace NaN by ``nan`` and infinities by the largest finite numbers or the given ones."""
    x = convert(x)
    if not dtypes.is_floating(x.dtype):
        return x
    limits = dtypes.limits(x.dtype)
    x = where(isnan(x), nan, x)
    x = where(isposinf(x), float(limits.max) if posinf is None else posinf, x)
    return where(isneginf(x), float(limits.min) if neginf is None else neginf, x)


def real(x: Any) -> Tensor:
    """x: tensors are real."""
    return convert(x)


def imag(x: Any) -> Tensor:
    """0: tensors are real."""
    x = convert(x)
    return filled(0, x.shape, x.dtype)


conjugate = conj = real


def angle(x: Any) -> Tensor:
    """Angle of real numbers as complex ones: π where negative, else 0."""
    x = to_float(x)
    result = where(signbit(x), scalar(np.pi, x), scalar(0, x))
    return where(primitive.isnan(x), x, result)


def deg2rad(x: Any) -> Tensor:
    """Degrees to radians."""
    return multiply(to_float(x), np.pi / 180)


def rad2deg(x: Any) -> Tensor:
    """Radians to degrees."""
    return multiply(to_float(x), 180 / np.pi)


_SINC = [(-1) ** k / _factorial(2 * k + 1) for k in range(9, -1, -1)]  # sin(x) / x in powers of x², highest first


def sinc(x: Any) -> Tensor:
    """sin(πx) / (πx), and 1 at 0."""
    x = to_float(x) * np.pi
    near = primitive.less(absolute(x), scalar(1, x))
    # A series near 0: the gradient of the quotient loses all digits there.
    power = where(near, square(x), 0.0)
    series = 0.0
    for factor in _SINC:
        series = series * power + factor
    return where(near, series, sin(x) / where(near, 1.0, x))


def hypot(x1: Any, x2: Any) -> Tensor:
    """sqrt(x1² + x2²)"""
    x1, x2 = promote_float(x1, x2)
    return sqrt(add(square(x1), square(x2)))


def view(x: Any, dtype: Any = None) -> Tensor:
    """The bytes of x read as another dtype."""
    x = convert(x)
    return x if dtype is None else numbers.view(x, dtype=dtypes.as_dtype(dtype))


def saturate_cast(x: Any, dtype: Any) -> Tensor:
    """Convert to another dtype; what does not fit becomes its smallest or largest number."""
    x, target = convert(x), dtypes.as_dtype(dtype)
    if target.kind == "b":
        return greater(x, 0)
    if x.dtype.kind == "b":
        return cast_to(x, target)
    limits, own = dtypes.limits(target), dtypes.limits(x.dtype)
    low, high = (max(limits.min, own.min), min(limits.max, own.max))
    if dtypes.is_floating(x.dtype) and not dtypes.is_floating(target) and float(x.dtype.type(high)) > high:
        high = np.nextafter(x.dtype.type(high), x.dtype.type(0))  # the limit itself is no float of this size
    return cast_to(clip(x, x.dtype.type(low), x.dtype.type(high)), target)


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Tensor:
    """For each element the choice of the first condition that holds, else ``default``."""
    if len(condlist) != len(choicelist):
        raise ValueError(f"select: {len(condlist)} conditions for {len(choicelist)} choices.")
    result = default
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        result = where(condition, choice, result)
    return convert(result)


def i0(x: Any) -> Tensor:
    """Modified Bessel function of the first kind, order 0.

    The trapezoid rule for its integral over half a period of cosh(x·cos θ), which converges exponentially.
    """
    x = to_float(x)
    points = 128 if x.dtype == dtypes.FLOAT64 else 32
    nodes = np.cos((np.arange(points) + 0.5) * np.pi / points).astype(x.dtype)
    from .reductions import mean
    from .shape import expand_dims

    return mean(cosh(expand_dims(x, -1) * nodes), -1)
