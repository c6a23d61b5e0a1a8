"""Element-wise primitives. Operands share one dtype (ops.* promotes) and broadcast as in numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..dtypes import BOOL, is_floating, kind_of
from ..errors import DtypeError
from ..op import Case, Op, Spec, broadcast_shapes, declare, spec_of
from ..tensor import Tensor, wrap

_KINDS = {"f": "a float dtype", "fiu": "a number", "biu": "an integer or bool", "fiub": "a number or bool"}


def scalar(value: float, like: Tensor) -> Tensor:
    """A scalar of the dtype of ``like``."""
    return wrap(np.asarray(value, like.dtype))


def sum_to(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum ``gradient`` over the axes along which a value of ``shape`` was broadcast to get there."""
    if gradient.shape == shape:
        return gradient
    from .movement import reshape
    from .reduction import reduce_sum

    extra = gradient.ndim - len(shape)
    axes = tuple(i for i in range(gradient.ndim) if i < extra or (shape[i - extra] == 1 and gradient.shape[i] != 1))
    total = reduce_sum(gradient, axes=axes, keepdims=False) if axes else gradient
    return total if total.shape == shape else reshape(total, shape=shape)


def elementwise(
    name: str,
    reference: Callable,
    gradient: Callable | None = None,
    kinds: str = "f",
    result: np.dtype | None = None,
    low: float = -2.0,
    high: float = 2.0,
    shapes: Iterable | None = None,
    arity: int = 1,
    fusible: bool = True,
) -> Op:
    """Declare an element-wise op.

    ``gradient(g, y, *inputs)`` answers one tensor per input (thunks allowed, None where there is none); sums
    over broadcast axes are added here. ``kinds`` are the numpy dtype kinds that it takes, ``result`` the
    dtype of its result where that is not the operands'. The test cases are drawn from (low, high). A
    ``fusible`` op has a method of its name in the compiler's scalar builder.
    """

    def rule(*inputs: Any) -> Spec:
        for value in inputs:
            if kind_of(value.dtype) not in kinds:
                raise DtypeError(
                    f"{name}: expected {_KINDS[kinds]}; received dtype {value.dtype.name} with shape {value.shape}. "
                    "Cast it first."
                )
            if value.dtype != inputs[0].dtype:
                dtypes = ", ".join(value.dtype.name for value in inputs)
                raise DtypeError(f"{name}: the operands' dtypes differ: {dtypes}.")
        shape = broadcast_shapes(name, *(value.shape for value in inputs))
        return Spec(shape, inputs[0].dtype if result is None else result)

    def broadcast_gradient(g: Tensor, y: Tensor, *inputs: Tensor) -> tuple:
        parts = gradient(g, y, *inputs)
        if type(parts) is not tuple:
            parts = (parts,)
        return tuple(_fit(part, value.shape) for part, value in zip(parts, inputs, strict=True))

    if shapes is None:
        shapes = [((3, 4),) * arity, ((),) * arity, ((0, 2),) * arity]
        if arity == 2:
            shapes += [((3, 1), (4,)), ((2, 3, 4), (3, 1))]
    cases = [Case(inputs, {}, low, high, gradient is not None) for inputs in shapes]
    return declare(
        name,
        rule=rule,
        reference=reference,
        gradient=broadcast_gradient if gradient else None,
        emit=(lambda b, *inputs: getattr(b, name)(*inputs)) if fusible else None,
        cases=cases,
    )


def _fit(part: Any, shape: tuple[int, ...]) -> Any:
    if part is None:
        return None
    if callable(part):
        return lambda: sum_to(part(), shape)
    return sum_to(part, shape)


def _erf(x: np.ndarray) -> np.ndarray:
    """Error function after W. J. Cody, "Rational Chebyshev approximation for the error function" (1969)."""
    z = np.asarray(x, np.float64)
    a = np.abs(z)
    with np.errstate(all="ignore"):
        t = z * z
        near = z * _rational(t, _ERF_P, _ERF_Q)
        middle = _rational(a, ERFC_P, ERFC_Q)
        s = 1 / t
        far = (0.5641895835477563 - s * _rational(s, ERFX_P, ERFX_Q)) / a
        tail = 1 - np.exp(-t) * np.where(a <= 4, middle, far)
    out = np.where(a <= 0.46875, near, np.copysign(np.where(a > 6, 1.0, tail), z))
    return np.where(np.isnan(z), z, out).astype(x.dtype)


def _rational(x: np.ndarray, p: tuple, q: tuple) -> np.ndarray:
    return np.polyval(p, x) / np.polyval(q, x)


_ERF_P = (
    1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3,
)  # fmt: skip
_ERF_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
ERFC_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1, 2.98635138197400131e2,
    8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
ERFC_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip
ERFX_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803e-4,
)  # fmt: skip
ERFX_Q = (
    1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip


# -- arithmetic ------------------------------------------------------------------------------------------------------

negative = elementwise("negative", np.negative, lambda g, y, x: negative(g), kinds="fiu")
add = elementwise("add", np.add, lambda g, y, a, b: (g, g), arity=2, kinds="fiu")
subtract = elementwise("subtract", np.subtract, lambda g, y, a, b: (g, lambda: negative(g)), arity=2, kinds="fiu")
multiply = elementwise("multiply", np.multiply, lambda g, y, a, b: (lambda: g * b, lambda: g * a), arity=2, kinds="fiu")
divide = elementwise(
    "divide", np.divide, lambda g, y, a, b: (lambda: g / b, lambda: negative(g * y / b)), low=0.5, arity=2
)


def _power_gradient(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple:
    zero, one = scalar(0, a), scalar(1, a)

    def base() -> Tensor:  # b·a^(b-1), and exactly 0 where b is 0, even at a = 0
        return where(equal(b, zero), zero, g * b * power(a, where(equal(b, zero), one, b - one)))

    def exponent() -> Tensor:  # y·log(a), and 0 where a is not positive
        positive = greater(a, zero)
        return where(positive, g * y * log(where(positive, a, one)), zero)

    return base, exponent


power = elementwise("power", np.power, _power_gradient, low=0.5, arity=2, kinds="fiu")
floor_divide = elementwise("floor_divide", np.floor_divide, low=0.5, arity=2, kinds="fiu")
mod = elementwise(
    "mod", np.mod, lambda g, y, a, b: (g, lambda: negative(g * floor(a / b))), low=0.5, arity=2, kinds="fiu"
)


def _extremum_gradient(how: str) -> Callable:
    """Ties share. The operands are compared with each other, not with the result: compiled code may compute an operand
    twice, with roundings that differ in the last bit.
    """

    def gradient(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple:
        ahead = greater if how == "maximum" else less
        half, zero = scalar(0.5, a) * g, scalar(0, a)

        def share(mine: Tensor, other: Tensor) -> Tensor:
            return where(ahead(mine, other), g, where(equal(mine, other), half, zero))

        return lambda: share(a, b), lambda: share(b, a)

    return gradient


maximum = elementwise("maximum", np.maximum, _extremum_gradient("maximum"), kinds="fiub", arity=2)
minimum = elementwise("minimum", np.minimum, _extremum_gradient("minimum"), kinds="fiub", arity=2)
absolute = elementwise("absolute", np.absolute, lambda g, y, x: g * sign(x), kinds="fiu")
sign = elementwise("sign", np.sign, kinds="fiu")
floor = elementwise("floor", np.floor)
ceil = elementwise("ceil", np.ceil)
rint = elementwise("rint", np.rint)

# -- exponentials and their kin --------------------------------------------------------------------------------------

exp = elementwise("exp", np.exp, lambda g, y, x: g * y)
log = elementwise("log", np.log, lambda g, y, x: g / x, low=0.2)
expm1 = elementwise("expm1", np.expm1, lambda g, y, x: g * (y + scalar(1, x)))
log1p = elementwise("log1p", np.log1p, lambda g, y, x: g / (x + scalar(1, x)), low=-0.8)
sqrt = elementwise("sqrt", np.sqrt, lambda g, y, x: g * scalar(0.5, x) / y, low=0.2)
rsqrt = elementwise(
    "rsqrt", lambda x: (1 / np.sqrt(x)).astype(x.dtype), lambda g, y, x: g * scalar(-0.5, x) * y / x, low=0.2
)
tanh = elementwise("tanh", np.tanh, lambda g, y, x: g * (scalar(1, x) - y * y))
erf = elementwise("erf", _erf, lambda g, y, x: g * scalar(2 / np.sqrt(np.pi), x) * exp(negative(x * x)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


# These two are primitives because their gradients need only their results: the operand need not be kept.
sigmoid = elementwise("sigmoid", _sigmoid, lambda g, y, x: g * y * (scalar(1, x) - y))
relu = elementwise(
    "relu",
    lambda x: np.where(x <= 0, np.zeros((), x.dtype), x),  # this way round NaN stays NaN
    lambda g, y, x: where(less_equal(y, scalar(0, y)), scalar(0, g), g),
    kinds="fiub",
)

# -- trigonometry ----------------------------------------------------------------------------------------------------

sin = elementwise("sin", np.sin, lambda g, y, x: g * cos(x))
cos = elementwise("cos", np.cos, lambda g, y, x: negative(g * sin(x)))
tan = elementwise("tan", np.tan, lambda g, y, x: g * (scalar(1, x) + y * y), low=-1.2, high=1.2)
arcsin = elementwise(
    "arcsin", np.arcsin, lambda g, y, x: g * rsqrt(scalar(1, x) - x * x), low=-0.8, high=0.8, fusible=False
)
arccos = elementwise(
    "arccos", np.arccos, lambda g, y, x: negative(g * rsqrt(scalar(1, x) - x * x)), low=-0.8, high=0.8, fusible=False
)
arctan = elementwise("arctan", np.arctan, lambda g, y, x: g / (scalar(1, x) + x * x), fusible=False)
arctan2 = elementwise(
    "arctan2",
    np.arctan2,
    lambda g, y, a, b: (lambda: g * b / (a * a + b * b), lambda: negative(g * a / (a * a + b * b))),
    low=0.3,
    arity=2,
    fusible=False,
)
sinh = elementwise("sinh", np.sinh, lambda g, y, x: g * cosh(x), fusible=False)
cosh = elementwise("cosh", np.cosh, lambda g, y, x: g * sinh(x), fusible=False)
arcsinh = elementwise("arcsinh", np.arcsinh, lambda g, y, x: g * rsqrt(x * x + scalar(1, x)), fusible=False)
arccosh = elementwise(
    "arccosh", np.arccosh, lambda g, y, x: g * rsqrt(x * x - scalar(1, x)), low=1.3, high=4, fusible=False
)
arctanh = elementwise(
    "arctanh", np.arctanh, lambda g, y, x: g / (scalar(1, x) - x * x), low=-0.8, high=0.8, fusible=False
)

# -- comparison and choice -------------------------------------------------------------------------------------------

equal = elementwise("equal", np.equal, kinds="fiub", result=BOOL, arity=2)
not_equal = elementwise("not_equal", np.not_equal, kinds="fiub", result=BOOL, arity=2)
less = elementwise("less", np.less, kinds="fiub", result=BOOL, arity=2)
less_equal = elementwise("less_equal", np.less_equal, kinds="fiub", result=BOOL, arity=2)
greater = elementwise("greater", np.greater, kinds="fiub", result=BOOL, arity=2)
greater_equal = elementwise("greater_equal", np.greater_equal, kinds="fiub", result=BOOL, arity=2)
isnan = elementwise("isnan", np.isnan, result=BOOL)
isinf = elementwise("isinf", np.isinf, result=BOOL)


def _where_rule(condition: Any, a: Any, b: Any) -> Spec:
    if condition.dtype != BOOL or a.dtype != b.dtype:
        raise DtypeError(
            "where: expected a bool condition and two values of one dtype; received "
            f"{condition.dtype.name}, {a.dtype.name} and {b.dtype.name}."
        )
    return Spec(broadcast_shapes("where", condition.shape, a.shape, b.shape), a.dtype)


def _where_gradient(g: Tensor, y: Tensor, condition: Tensor, a: Tensor, b: Tensor) -> tuple:
    zero = scalar(0, g)
    by_a, by_b = (lambda: where(condition, g, zero)), (lambda: where(condition, zero, g))
    return None, _fit(by_a, a.shape), _fit(by_b, b.shape)


_MASK = np.array([[True, False, True, True], [False, False, True, False], [True, True, False, False]])
where = declare(
    "where",
    rule=_where_rule,
    reference=np.where,
    gradient=_where_gradient,
    emit=lambda b, condition, x, y: b.where(condition, x, y),
    cases=[
        Case((_MASK, (3, 4), (3, 4))),
        Case((_MASK[0], (3, 1), ())),
        Case((_MASK[:, :1], (4,), (2, 1, 4))),
        Case((_MASK[:0], (0, 4), (4,))),
    ],
)

# -- integers and bools ----------------------------------------------------------------------------------------------

_INTEGERS = [(np.arange(6, dtype=np.int32).reshape(2, 3), np.array([3, 0, 5], np.int32))]
_BITS = [*_INTEGERS, (_MASK, ~_MASK[:1])]
bitwise_and = elementwise("bitwise_and", np.bitwise_and, kinds="biu", shapes=_BITS, arity=2)
bitwise_or = elementwise("bitwise_or", np.bitwise_or, kinds="biu", shapes=_BITS, arity=2)
bitwise_xor = elementwise("bitwise_xor", np.bitwise_xor, kinds="biu", shapes=_BITS, arity=2)
bitwise_not = elementwise("bitwise_not", np.bitwise_not, kinds="biu", shapes=[(_MASK,), _INTEGERS[0][:1]])
left_shift = elementwise("left_shift", np.left_shift, kinds="biu", shapes=_INTEGERS, arity=2)
right_shift = elementwise("right_shift", np.right_shift, kinds="biu", shapes=_INTEGERS, arity=2)

# -- conversion ------------------------------------------------------------------------------------------------------


def _cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        return x.astype(dtype)


cast = declare(
    "cast",
    rule=lambda x, dtype: Spec(x.shape, dtype),
    reference=_cast,
    gradient=lambda g, y, x, dtype: (cast(g, dtype=x.dtype) if is_floating(x.dtype) else None,),
    emit=lambda b, x, dtype: b.cast(x, dtype),
    cases=[
        Case(((3, 4),), {"dtype": np.dtype("float64")}),
        Case(((3, 4),), {"dtype": np.dtype("int32")}, differentiable=False),
        Case((_MASK,), {"dtype": np.dtype("float32")}, differentiable=False),
        Case((np.arange(5),), {"dtype": np.dtype("bool")}, differentiable=False),
    ],
)


def _pass_on(name: str, gradient: Callable | None) -> Op:
    cases = [Case(((3, 4),), differentiable=gradient is not None)]
    return declare(name, rule=spec_of, reference=lambda x: x, gradient=gradient, emit=lambda b, x: x, cases=cases)


stop_gradient = _pass_on("stop_gradient", None)
identity = _pass_on("identity", lambda g, y, x: (g,))
