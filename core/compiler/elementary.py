"""exp, log, tanh and their kin as straight-line arithmetic, so that loops which use them vectorise.

Each takes a builder and a f32 or f64 value (scalar or vector) and returns a value within about 2 units in the
last place (f32 tanh and erf: 6, where they come near 1), right at 0, infinity, NaN, on denormals and where the
result overflows; results of exp below the normal numbers are 0. There are no branches, no tables and no integer
conversions that a vector unit may lack: whole numbers are read from the low bits of a float that has been pushed
above 2^mantissa. Half-width floats are computed in f32. Beyond 2^40, sin and cos are the C library's.
"""

from __future__ import annotations

import functools
import math

import numpy as np

LN2 = {32: (0.693359375, -2.12194440e-4), 64: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
MANTISSA = {32: 23, 64: 52}
BIAS = {32: 127, 64: 1023}
PI_2 = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33)

# (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, lowest degree first
EXP = {
    32: (0.5000000053677857, 0.16666666905251207, 0.041666324339760086, 0.008333219116936231,
         0.0013943420388405948, 0.00019962643185724203),
    64: tuple(1.0 / math.factorial(k) for k in range(2, 14)),
}  # fmt: skip
# (log((1 + s) / (1 - s)) - 2 s) / s in powers of s^2
LOG = {
    32: (0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    64: (6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01,
         2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01,
         1.479819860511658591e-01),
}  # fmt: skip
# tanh(x) / x and erf(x) / x in f32: a polynomial in x^2 over another, up to the x from which on the function is 1
TANH_RATIO = (
    (1.2715787887573242, 0.17395107448101044, 0.004918904509395361, 3.561410267138854e-05, 3.8892235210141735e-08,
     -1.5518366106026527e-11),
    (1.2715787887573242, 0.597810685634613, 0.034645307809114456, 0.0005008316366001964, 1.6370165667467518e-06),
    9.0,
)  # fmt: skip
ERF_RATIO = (
    (1.2149568796157837, 0.19938427209854126, 0.05844713747501373, 0.004139472730457783, 0.0004072466981597245,
     5.004744252801174e-06, -1.4006033666191797e-08),
    (1.0767275094985962, 0.5356089472770691, 0.12266045808792114, 0.0166321974247694, 0.0014047827571630478,
     6.758052040822804e-05),
    3.95,
)  # fmt: skip
# erf(x) / x in powers of x^2 on |x| <= 1, and -log(1 - erf(x)) on 1 <= x <= 6, in f64
ERF_NEAR = (
    1.1283791670955126, -0.3761263890318375, 0.11283791670954904, -0.026866170645079696,
    0.0052239776248272345, -0.0008548326980425393, 0.00012055331068926668, -1.4925593707148142e-05,
    1.6460968667514434e-06, -1.6349917961337366e-07, 1.465681053044731e-08, -1.1360424170050497e-09,
    5.934836796718606e-11,
)  # fmt: skip
ERF_FAR = (
    8.356421090172442e-07, 1.128371246829058, 0.6366546663620548, 0.1026777975729955,
    -0.018950918827196038, -0.00045127120532018587, 0.0019428898911565695, -0.0007783015441352458,
    0.00012953949829100342, 2.920816692823321e-05, -2.9373169929402982e-05, 1.1909155482814423e-05,
    -3.3144989659848725e-06, 6.964424949563862e-07, -1.134215771206168e-07, 1.4328594242965293e-08,
    -1.3827161554621184e-09, 9.86870010297908e-11, -4.914033776870729e-12, 1.5247064341932178e-13,
    -2.2194534285655542e-15,
)  # fmt: skip
REDUCIBLE = 2.0**40  # up to here r = x - k pi/2 comes out right with that pi/2
# (sin(r) - r) / r^3 and (cos(r) - 1 + r^2 / 2) / r^4 in powers of r^2, on |r| <= pi/4
SIN = {
    32: (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4),
    64: (-1.66666666666666307295e-1, 8.33333333332211858878e-3, -1.98412698295895385996e-4,
         2.75573136213857245213e-6, -2.50507477628578072866e-8, 1.58962301576546568060e-10),
}  # fmt: skip
COS = {
    32: (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5),
    64: (4.16666666666665929218e-2, -1.38888888888730564116e-3, 2.48015872888517045348e-5,
         -2.75573141792967388112e-7, 2.08757008419747316778e-9, -1.13585365213876817300e-11),
}  # fmt: skip


def elementary(function):
    """Compute in exact float steps; half-width floats in f32, integers are refused."""

    @functools.wraps(function)
    def emit(b, x, *others):
        if x.type.kind != "f":
            raise TypeError(f"{function.__name__} is defined on floats, got {x.type}: cast first")
        if x.type.bits == 16:
            from .loops import f32

            return b.cast(emit(b, b.cast(x, f32), *(b.cast(other, f32) for other in others)), x.type)
        with b.exact():
            return function(b, x, *others)

    return emit


def _polynomial(b, x, coefficients):
    total = b.const(x.type, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = b.fma(total, x, coefficient)
    return total


def _ratio(b, x, numerator, denominator, end):
    """x P(x^2) / Q(x^2), which comes near 1 at x = end, and stays there."""
    bounded = b.maximum(b.minimum(x, end), -end)
    square = bounded * bounded
    value = bounded * _polynomial(b, square, numerator) / _polynomial(b, square, denominator)
    return b.maximum(b.minimum(value, 1.0), -1.0)


def _nearest_whole(b, x, factor=1.0, bias=0):
    """Return k, x * factor rounded to a whole number, and a number with k + bias in its low bits, as an integer."""
    magic = 1.5 * 2.0 ** MANTISSA[x.type.bits] + bias
    pushed = b.fma(x, factor, magic)
    return pushed - magic, b.bitcast(pushed, x.type.integer)


def _reduce_exp(b, x, bias):
    """Return k, 2^(k + bias) and r, where x = k ln2 + log(1 + r)."""
    bits = x.type.bits
    k, whole = _nearest_whole(b, x, 1 / math.log(2), BIAS[bits] + bias)
    high, low = LN2[bits]
    r = b.fma(k, -low, b.fma(k, -high, x))
    return k, b.bitcast(whole << MANTISSA[bits], x.type), b.fma(r * r, _polynomial(b, r, EXP[bits]), r)


@elementary
def exp(b, x):
    # Half the result, as 2^128 is no number; at the lower end the power is 0, at the upper the result is infinite.
    low, high = {32: (-87.4, 89.0), 64: (-708.4, 710.0)}[x.type.bits]
    _, scale, rest = _reduce_exp(b, b.maximum(b.minimum(x, high), low), -1)
    return b.fma(rest, scale, scale) * 2.0


@elementary
def expm1(b, x):
    low, high = {32: (-20.0, 89.0), 64: (-40.0, 710.0)}[x.type.bits]
    k, scale, rest = _reduce_exp(b, b.maximum(b.minimum(x, high), low), -1)
    result = b.fma(scale, rest, scale - 0.5) * 2.0
    return b.select(k.eq(0), b.select(x.eq(0), x, rest), result)


@elementary
def tanh(b, x):
    if x.type.bits == 32:
        return _ratio(b, x, *TANH_RATIO)
    t = expm1(b, b.abs(x) * -2.0)
    return b.copysign(t / (t + 2.0), x)


def _split_log(b, x):
    """Return k and m with x = 2^k m, sqrt(1/2) <= m < sqrt(2), for normal and denormal x > 0."""
    bits, integer = x.type.bits, x.type.integer
    mantissa, bias = MANTISSA[bits], BIAS[bits]
    tiny = x < 2.0 ** (1 - bias)
    pattern = b.bitcast(b.select(tiny, x * 2.0**mantissa, x), integer)
    root = np.float32(math.sqrt(0.5)).view(np.int32) if bits == 32 else np.float64(math.sqrt(0.5)).view(np.int64)
    shifted = pattern + ((bias << mantissa) - int(root))
    m = b.bitcast((shifted & ((1 << mantissa) - 1)) + int(root), x.type)
    unsigned = b.shift_right_logical(shifted, mantissa)
    pushed = b.bitcast(unsigned | ((bias + mantissa) << mantissa), x.type)
    k = pushed - b.select(tiny, b.const(x.type, 2.0**mantissa + bias + mantissa), 2.0**mantissa + bias)
    return k, m


def _log_edges(b, x, result):
    """Put in log's values at 0, below 0, infinity and NaN."""
    result = b.select(x.eq(math.inf), x, result)
    result = b.select(x.eq(0), b.const(x.type, -math.inf), result)
    return b.select((x < 0) | x.ne(x), b.const(x.type, math.nan), result)


@elementary
def log(b, x):
    k, m = _split_log(b, x)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    high, low = LN2[x.type.bits]
    half = f * f * 0.5
    tail = b.fma(s, half + z * _polynomial(b, z, LOG[x.type.bits]), k * low)
    return _log_edges(b, x, b.fma(k, high, f - (half - tail)))


@elementary
def log1p(b, x):
    u = x + 1.0
    lost = b.select((u > 0) & (u < math.inf), (x - (u - 1.0)) / u, 0.0)
    return b.select(x.eq(0), x, log(b, u) + lost)


@elementary
def erf(b, x):
    if x.type.bits == 32:
        return _ratio(b, x, *ERF_RATIO)
    size = b.abs(x)
    near = x * _polynomial(b, x * x, ERF_NEAR)
    _, scale, rest = _reduce_exp(b, _polynomial(b, b.minimum(size, 6.0), [-c for c in ERF_FAR]), 0)
    far = 1.0 - b.fma(rest, scale, scale)
    return b.select(size < 1.0, near, b.copysign(far, x))


def _quadrant(b, x):
    """Return r and q with x = q pi/2 + r, |r| <= pi/4; reduced in f64, where |x| is at most REDUCIBLE."""
    from .loops import f64, i32

    wide = b.cast(x, f64)
    k, whole = _nearest_whole(b, wide, 2 / math.pi)
    r = wide
    for part in PI_2 if x.type.bits == 64 else PI_2[:2]:
        r = b.fma(k, -part, r)
    return b.cast(r, x.type), b.cast(whole, i32) if x.type.bits == 32 else whole


def _sine_of_quadrant(b, r, q):
    bits = r.type.bits
    z = r * r
    sine = b.fma(z * r, _polynomial(b, z, SIN[bits]), r)
    cosine = b.fma(z * z, _polynomial(b, z, COS[bits]), b.fma(z, -0.5, 1.0))
    value = b.select((q & 1).eq(0), sine, cosine)
    return b.select((q & 2).eq(0), value, -value)


@elementary
def sin(b, x):
    r, q = _quadrant(b, x)
    y = _sine_of_quadrant(b, r, q)
    return _or_beyond(b, "sin", x, b.select(x.eq(0), x, y))  # -0 stays -0


@elementary
def cos(b, x):
    r, q = _quadrant(b, x)
    return _or_beyond(b, "cos", x, _sine_of_quadrant(b, r, q + 1))


def _or_beyond(b, name, x, y):
    """y; and where |x| is above REDUCIBLE, the C library's function of x.

    A branch would keep a loop from being vectorised. A call does not if the function has twins that take vectors.
    """
    from .emit_llvm import vector_bytes

    scalar, lanes, module = x.type.element, x.type.lanes, b.module
    own, whole = f"{name}.or.beyond.{scalar.name}", vector_bytes() // scalar.size
    twins = {n: f"{own}.{n}" for n in sorted({lanes} if lanes else {max(whole // 2, 2), whole})}
    for n, function in {0: own, **twins}.items():
        if function not in module.functions:
            _write_beyond(module, name, function, scalar.vector(n))
    if lanes:
        return b.emit(x.type, f"call {x.type.llvm} @{twins[lanes]}({x.typed}, {y.typed})")
    module.kept.update(twins.values())
    variants = ",".join(f"_ZGV_LLVM_N{n}vv_{own}({twin})" for n, twin in twins.items())
    attributes = f'nounwind willreturn memory(none) "vector-function-abi-variant"="{variants}"'
    return b.emit(scalar, f"call {scalar.llvm} @{own}({x.typed}, {y.typed}) {attributes}")


def _write_beyond(module, name, function, type_):
    scalar, lanes = type_.element, type_.lanes
    library = name if scalar.bits == 64 else f"{name}f"
    module.declare(library, scalar, [scalar])
    with module.function(function, [type_, type_], type_, "internal") as (b, x, y):
        large = b.abs(x) > REDUCIBLE
        result = [y]
        with b.if_(b.reduce("or", large) if lanes else large, carry=result):
            if not lanes:
                result[0] = b.call(library, scalar, [x])
            for lane in range(lanes):
                result[0] = b.insert(result[0], b.call(library, scalar, [b.extract(x, lane)]), lane)
            result[0] = b.select(large, result[0], y)  # what a lane holds does not depend on its neighbours
        b.ret(result[0])


def _log_pair(b, x):
    """log of x > 0 as a sum of two f64, good to about 2^-60."""
    k, m = _split_log(b, x)
    f = m - 1.0
    whole = f + 2.0
    lost = f - (whole - 2.0)
    s = f / whole
    s_low = b.fma(-s, lost, b.fma(-s, whole, f)) / whole
    z = s * s
    high, low = LN2[64]
    lead, small = k * high, s * 2.0
    total = lead + small
    rest = (lead - total) + small + (b.fma(k, low, s_low * 2.0) + s * z * _polynomial(b, z, LOG[64]))
    high = total + rest
    return high, (total - high) + rest


@elementary
def power(b, x, y):
    from .loops import f64

    if x.type.bits == 32:
        size = b.abs(b.cast(x, f64))
        result = b.cast(exp(b, b.cast(y, f64) * log(b, size)), x.type)
    else:
        size = b.abs(x)
        high, low = _log_pair(b, size)
        high = _log_edges(b, size, high)
        product = y * high
        spill = b.fma(y, low, b.fma(y, high, -product))
        ordinary = b.abs(product) < 800.0
        # exp(p + e) = exp(p) (1 + e)
        rough = exp(b, product)
        result = b.select(ordinary & (b.abs(spill) < 1.0), b.fma(rough, spill, rough), rough)
    whole = b.floor(y).eq(y)
    half = y * 0.5
    odd = whole & b.floor(half).ne(half) & (b.abs(y) < 2.0 ** (MANTISSA[x.type.bits] + 1))
    negative = b.bitcast(x, x.type.integer) < 0
    result = b.select(negative & odd, -result, result)
    outside = (x < 0) & ~whole & (x > -math.inf)
    result = b.select(outside, b.const(x.type, math.nan), result)
    one = x.eq(1.0) | y.eq(0) | (x.eq(-1.0) & b.abs(y).eq(math.inf))
    return b.select(one, b.const(x.type, 1.0), result)
