"""The functions of ops against numpy and against their formulas; gradients against finite differences."""

import math as plain
from pathlib import Path

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import DtypeError, ShapeError, ops, tensor

GENERATOR = np.random.default_rng(0)


def normal(*shape):
    return GENERATOR.normal(size=shape)


def uniform(*shape, low=0.0, high=1.0):
    return GENERATOR.uniform(low, high, shape)


def check(received, expected, tolerance=1e-6):
    if isinstance(expected, (tuple, list)):
        assert len(received) == len(expected)
        for a, b in zip(received, expected, strict=True):
            check(a, b, tolerance)
        return
    expected = np.asarray(expected)
    received = np.asarray(received)
    assert received.shape == expected.shape
    np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance)


A, B, C = normal(3, 4), normal(3, 4), normal(2, 3, 4)
P, U = uniform(3, 4, low=0.2, high=2), uniform(3, 4, low=-0.9, high=0.9)
I, J = GENERATOR.integers(-5, 6, (3, 4)), GENERATOR.integers(1, 9, (3, 4))
T, F = A > 0, B > 0
E = np.zeros((0, 3))
S = np.array([-np.inf, -1.5, -0.0, 0.0, 2.5, np.inf, np.nan])
N = np.where(uniform(4, 6) < 0.3, np.nan, normal(4, 6))

# names of numpy functions: argument lists on which ops and numpy have to agree
NUMPY = {
    "abs absolute negative sign square trunc isfinite isinf isnan isposinf isneginf signbit real imag": [
        (A,),
        (E,),
        (S,),
        (2.5,),
    ],
    "conj conjugate angle isreal nan_to_num": [(A,), (S,)],
    "exp expm1 exp2 sin cos tan tanh sinh cosh arctan arcsinh cbrt floor ceil fabs sinc deg2rad rad2deg i0": [
        (A * 3,),
        (E,),
        (0.5,),
        (J,),
    ],
    "log log2 log10 log1p sqrt reciprocal": [(P,), (E,), (2.0,)],
    "arcsin arccos arctanh": [(U,)],
    "arccosh": [(P + 1,)],
    "round": [(A * 9,), (A, 2), (np.array([0.5, 1.5, -0.5]),), (np.array([13, 15, 25, -15, -16]), -1)],
    "add subtract multiply divide true_divide arctan2 hypot logaddexp logaddexp2 maximum minimum fmax fmin": [
        (A, B),
        (C, A),
        (A[:, :1], B[0]),
        (E, E[0:0]),
        (2.0, A),
        (I, J),
    ],
    "equal not_equal less less_equal greater greater_equal": [(A, B), (I, J), (I, I), (A, 0), (S, S)],
    "floor_divide mod remainder fmod": [(A, P), (I, J), (I, -J), (A, -2.0)],
    "power": [(P, A), (I, 2), (J, 2.0), (P, 0.5), (2, J)],
    "heaviside ldexp": [(np.round(A), J)],
    "gcd lcm bitwise_and bitwise_or bitwise_xor": [(I, J)],
    "left_shift right_shift bitwise_left_shift bitwise_right_shift": [(I, J)],
    "bitwise_not bitwise_invert": [(I,), (T,)],
    "logical_and logical_or logical_xor": [(T, F), (I, T)],
    "logical_not": [(T,), (A,)],
    "nextafter": [(A, B), (0.0, 1.0)],
    "isclose allclose": [(A, A + 1e-9), (A, B), (S, S)],
    "isin": [(I, J)],
    "clip": [(A, -0.5, 0.5), (A, None, 0.5), (I, -2, 2)],
    "where": [(T, A, B), (T, A, 0.0)],
    "sum prod mean max min amax amin std var any all ptp median": [
        (A,),
        (A, 0),
        (A, -1),
        (C, (0, 2)),
        (I,),
        (T.astype(int), 1),
    ],
    "argmax argmin count_nonzero": [(A,), (A, 1), (C, 0)],
    "nansum nanprod nanmean nanmax nanmin nanstd nanvar nanmedian nanargmax nanargmin": [
        (N,),
        (N, 1),
        (A, 0),
    ],
    "cumsum cumprod nancumsum nancumprod": [(A,), (A, 1), (C, 1)],
    "quantile nanquantile": [(A, 0.3), (C, [0.1, 0.5, 1.0], 1), (N, 0.5), (C, 0.7, (0, 2))],
    "percentile nanpercentile": [(A, 30.0), (A, [10.0, 100.0], 0)],
    "average": [(A,), (A, 1), (A, 1, P[0]), (A, 0, P)],
    "diff": [(A,), (A, 2), (A, 1, 0), (T,)],
    "trapezoid": [(A,), (A, P[0]), (A, None, 0.5, 0)],
    "corrcoef": [(A,)],
    "histogram": [(A,), (A, 4, (-1, 1))],
    "digitize": [(A, np.array([-1.0, 0.0, 1.0]))],
    "searchsorted": [(np.sort(A[0]), B), (np.sort(A[0]), A[0], "right")],
    "sort argsort": [(A,), (A, 0), (A, None)],
    "unique": [(I,)],
    "nonzero": [(I,), (T,)],
    "zeros ones": [((2, 3),)],
    "zeros_like ones_like": [(A,)],
    "full": [((2, 3), 1.5)],
    "full_like": [(A, 2.0)],
    "arange": [(5,), (1, 9, 2), (0.0, 1.0, 0.25)],
    "linspace geomspace": [(1.0, 2.0, 5), (1.0, 2.0, 4, False), (P, P + 1, 3)],
    "logspace": [(0.0, 1.0, 5)],
    "eye": [(3,), (3, 4, 1)],
    "identity hamming hanning bartlett blackman": [(5,)],
    "kaiser": [(7, 5.0)],
    "tri": [(3,), (3, 4, -1)],
    "tril triu": [(A,), (C, 1), (C, -1)],
    "vander": [(P[0],), (P[0], 3, True), (P[0], 0)],
    "meshgrid": [(P[0], P[1, :3]), (P[0], P[1], P[2, :2])],
    "ravel copy transpose squeeze flip fliplr flipud rot90 size ndim shape array": [(A,), (C,)],
    "reshape": [(A, (2, -1)), (A, -1), (E, (3, 0))],
    "swapaxes": [(C, 0, 2), (C, -1, 1)],
    "moveaxis": [(C, 0, 2), (C, (0, 1), (2, 0))],
    "expand_dims": [(A, 1), (A, (0, -1))],
    "broadcast_to": [(A, (2, 3, 4))],
    "concatenate stack": [([A, B],), ([A, B], 1)],
    "hstack vstack dstack": [([A, B],), ([A[0], B[0]],), ([C, C],)],
    "append": [(A, B), (A, B, 1)],
    "split": [(C, 2, 2), (A, [1, 3], 1), (A, [-1], 1), (A, [2, 9], 1)],
    "array_split": [(normal(7), 3), (A, 3, 1), (A, [1], 1)],
    "vsplit hsplit": [(normal(4, 6), 2)],
    "dsplit": [(C, 2)],
    "roll": [(A, 2), (A, -1, 1), (A, (1, 2), (0, 1))],
    "tile": [(A, 2), (A, (2, 1, 3))],
    "repeat": [(A, 2), (A, 2, 1), (A, np.array([1, 0, 2]), 0)],
    "pad": [
        (A, 1),
        (A, ((1, 2), (0, 1))),
        *((A, ((1, 2), (0, 1)), m) for m in ("reflect", "symmetric", "edge", "wrap")),
    ],
    "diag": [(A[0],), (A[0], -2), (A, 1)],
    "diagonal trace": [(A,), (C, 1, 1, 2), (A, -1)],
    "diagflat": [(A,), (A[0], -1)],
    "take": [(A, [0, -1], 0), (C, [[0, 1], [2, 3]], 2), (A, [0, 5])],
    "take_along_axis": [(A, np.argsort(A, 1), 1), (C, np.zeros((2, 1, 4), int), 1)],
    "unravel_index": [(np.array([3, 7]), (3, 4))],
    "matmul": [
        (A, B.T),
        (C, normal(2, 4, 5)),
        (C, normal(4, 5)),
        (A, B[0]),
        (A[0], B[0]),
        (normal(2, 1, 3, 4), normal(5, 4, 2)),
        (I, J.T),
        (E, normal(3, 2)),
    ],
    "dot": [(A, B.T), (A, B[0]), (2.0, A), (C, normal(5, 4, 2))],
    "inner outer vdot": [(A[0], B[0])],
    "kron": [(A, B[:2])],
    "tensordot": [(C, normal(3, 4, 2)), (C, normal(4, 5), 1), (C, normal(4, 3), ((1, 2), (1, 0)))],
    "cross": [(normal(5, 3), normal(5, 3))],
    "correlate": [(normal(7), normal(n), m) for n in (1, 3, 4, 9) for m in ("valid", "same", "full")],
}
LINALG = {
    "det inv slogdet": [(normal(2, 3, 3),), (normal(3, 3),)],
    "solve": [(normal(2, 3, 3), normal(2, 3, 2)), (normal(3, 3), normal(3))],
    "pinv": [(normal(5, 3),), (normal(3, 5),)],
    "matrix_rank": [(normal(5, 3),), (np.ones((3, 3)),)],
    "norm": [
        (A,),
        *((A, o) for o in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)),
        *((A, o, 1) for o in (0, 1, 2, 3.5, np.inf, -np.inf)),
        (C, None, (0, 1)),
        (C, 1, (2, 0)),
        (C, 2, 1, True),
    ],
}
TABLE = [
    pytest.param(name, source, call, id=f"{name}-{i}")
    for table, source in ((NUMPY, np), (LINALG, np.linalg))
    for names, calls in table.items()
    for name in names.split()
    for i, call in enumerate(calls)
]


@pytest.mark.filterwarnings(
    "ignore:All-NaN", "ignore:Mean of empty", "ignore:Degrees of freedom", "ignore:invalid value"
)
@pytest.mark.parametrize(("name", "source", "call"), TABLE)
def test_against_numpy(name, source, call):
    core.config.set_floatx("float64")
    try:
        with np.errstate(all="ignore"):
            check(getattr(ops, name)(*call), getattr(source, name)(*call), 1e-9)
    finally:
        core.config.set_floatx("float32")


@pytest.mark.parametrize(
    "equation",
    [
        "ij,jk->ik",
        "ij,jk",
        "bij,bjk->bik",
        "ij->",
        "ij->ji",
        "ii->i",
        "ii",
        "i,j->ij",
        "ij,ij->",
        "...ij,jk->...ik",
        "ij,jk,kl->il",
        "b...i,b...i->b...",
        "iij->ij",
        "ij,i->ij",
        "abc,cd,d->ab",
        "i,i,i->i",
    ],
)
def test_einsum(equation):
    sizes = dict.fromkeys("ijk", 3) | {"a": 2, "b": 2, "c": 4, "d": 5, "l": 2}
    left = equation.split("->")[0].split(",")
    operands = [
        normal(*[n for c in s.replace("...", "#") for n in ((2, 3) if c == "#" else (sizes[c],))]) for s in left
    ]
    check(ops.einsum(equation, *operands), np.einsum(equation, *operands), 1e-9)
    graph = core.trace(lambda *given: ops.einsum(equation, *given), *map(tensor, operands))
    check(graph(*map(tensor, operands)), np.einsum(equation, *operands), 1e-9)


def test_einsum_broadcasts_and_refuses():
    x, y = normal(3, 1), normal(1, 4)
    check(ops.einsum("ij,ij->ij", x, y), x * y)
    check(ops.einsum("ij,ij->i", x, y), (x * y).sum(1))
    with pytest.raises(ShapeError, match="axis 'j' has extents"):
        ops.einsum("ij,jk->ik", A, B)
    with pytest.raises(ShapeError, match="names 1 axes"):
        ops.einsum("i->i", A)
    with pytest.raises(ValueError, match="names 2 operands"):
        ops.einsum("i,i->", A[0])
    with pytest.raises(ValueError, match="which no operand has"):
        ops.einsum("i->ij", A[0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    shifted = np.exp(x - x.max(axis, keepdims=True))
    return shifted / shifted.sum(axis, keepdims=True)


ERF = np.vectorize(plain.erf)
ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "sigmoid": sigmoid,
    "log_sigmoid": lambda x: np.log(sigmoid(x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(abs(x) - 0.5, 0),
    "hard_shrink": lambda x: np.where(abs(x) > 0.5, x, 0),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.maximum(x, 0) + np.expm1(np.minimum(x, 0)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x < 1, (x + 1) ** 2 / 4, x)),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "softmax": softmax,
    "log_softmax": lambda x: np.log(softmax(x)),
    "erf": ERF,
    "erfc": np.vectorize(plain.erfc),
    "rsqrt": lambda x: 1 / np.sqrt(x),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 1), (1,)])
def test_activations(name, shape):
    x = normal(*shape) * 3
    x = abs(x) + 0.1 if name == "rsqrt" else x
    check(getattr(ops, name)(x), ACTIVATIONS[name](x), 1e-9)
    gradient = core.grad(lambda t: ops.sum(getattr(ops, name)(t) ** 2))(tensor(x))
    ahead, behind = (ACTIVATIONS[name](x + d) ** 2 for d in (1e-6, -1e-6))
    if name not in ("softmax", "log_softmax"):
        check(gradient, (ahead - behind) / 2e-6, 1e-5)


def test_activations_at_the_extremes():
    x = np.array([-1e4, -100.0, 0.0, 100.0, 1e4], "float32")
    for name in ACTIVATIONS:
        if name == "rsqrt":
            continue
        function = getattr(ops, name)
        y, gradient = core.value_and_grad(lambda t, f=function: ops.sum(f(t)))(tensor(x))
        assert not np.isnan(y.numpy()), name
        assert not np.isnan(gradient.numpy()).any(), name


def test_erfc_keeps_its_precision():
    x = np.linspace(-6, 9, 151)
    expected = np.array([plain.erfc(v) for v in x])
    np.testing.assert_allclose(ops.erfc(x), expected, rtol=1e-12)
    np.testing.assert_allclose(ops.erfc(x.astype("float32")), expected, rtol=1e-4, atol=1e-30)


def test_erfinv():
    x = np.concatenate([uniform(50, low=-1), [-0.999999, 0.999999, 0.0]])
    check(ops.erf(ops.erfinv(x)), x, 1e-12)
    check(ops.erf(ops.erfinv(x.astype("float32"))), x, 1e-5)
    assert ops.erfinv(np.array([-1.0, 1.0, 2.0])).tolist()[:2] == [-np.inf, np.inf]


def test_gelu_exact_threshold_glu():
    check(ops.gelu(A, approximate=False), A * 0.5 * (1 + ERF(A / np.sqrt(2))))
    check(ops.threshold(A, 0.1, 7.0), np.where(A > 0.1, A, 7.0))
    check(ops.glu(A), A[:, :2] * sigmoid(A[:, 2:]))
    check(ops.softmax(C, (0, 2)), np.exp(C) / np.exp(C).sum((0, 2), keepdims=True))


def test_sparsemax_projects_onto_the_simplex():
    y = ops.sparsemax(A * 3).numpy()
    check(y.sum(-1), np.ones(3))
    assert (y >= 0).all() and (y == 0).any()
    tau = (A * 3 - y)[y > 0]
    for row, projected in zip(A * 3, y, strict=True):
        assert np.ptp((row - projected)[projected > 0]) < 1e-9
    assert tau.size


def naive_conv(x, w, strides, padding, dilation=1, groups=1):
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    span = [(k - 1) * dilation + 1 for k in w.shape[:2]]
    out = [(n - s) // strides + 1 for n, s in zip(x.shape[1:3], span, strict=True)]
    y = np.zeros((x.shape[0], *out, w.shape[-1]))
    for i, j in np.ndindex(*out):
        window = x[:, i * strides :, j * strides :][:, : span[0] : dilation, : span[1] : dilation]
        for o in range(w.shape[-1]):
            g = o // (w.shape[-1] // groups)
            part = window[..., g * w.shape[2] : (g + 1) * w.shape[2]]
            y[:, i, j, o] = (part * w[..., o]).sum((1, 2, 3))
    return y


X = normal(2, 7, 8, 4)


@pytest.mark.parametrize("strides", [1, 2])
def test_convolutions(strides):
    w = normal(3, 2, 4, 5)
    check(ops.conv(X, w, strides), naive_conv(X, w, strides, ((0, 0), (0, 0))))
    low_high = ((1, 1), (0, 1)) if strides == 1 else ((1, 1), (0, 0))
    check(ops.conv(X, w, strides, "same"), naive_conv(X, w, strides, low_high))
    check(ops.conv(X, w, strides, ((2, 0), (1, 3))), naive_conv(X, w, strides, ((2, 0), (1, 3))))
    grouped = normal(3, 3, 2, 6)
    check(ops.conv(X, grouped, strides), naive_conv(X, grouped, strides, ((0, 0), (0, 0)), groups=2))
    check(ops.conv(X, w, dilation_rate=2), naive_conv(X, w, 1, ((0, 0), (0, 0)), 2))
    depth = normal(3, 3, 4, 2)
    expected = naive_conv(X, depth.reshape(3, 3, 1, 8), 1, ((0, 0), (0, 0)), groups=4)
    check(ops.depthwise_conv(X, depth), expected)
    point = normal(1, 1, 8, 3)
    check(ops.separable_conv(X, depth, point), naive_conv(expected, point, 1, ((0, 0), (0, 0))))


def test_causal_convolution():
    x, w = normal(1, 6, 2), normal(3, 2, 2)
    y = ops.conv(x, w, padding="causal").numpy()
    changed = x.copy()
    changed[:, 4:] += 1
    assert y.shape == (1, 6, 2)
    check(ops.conv(changed, w, padding="causal")[:, :4], y[:, :4])


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (2, 2), (2, 3), (5, 2)])
def test_conv_transpose_is_the_transpose(padding, size, stride):
    """<conv(y), x> = <y, conv_transpose(x)>, where the extents of y are those that conv_transpose makes."""
    x, w = normal(2, 4, 5, 3), normal(size, size, 2, 3)
    made = ops.conv_transpose(x, w, stride, padding)
    y = normal(*made.shape)
    back = ops.conv(y, w, stride, padding)
    if back.shape == x.shape:
        check(np.sum(np.asarray(back) * x), np.sum(np.asarray(made) * y), 1e-9)
    assert made.shape[1] == (4 * stride if padding == "same" else 3 * stride + max(size, stride))


def test_pooling():
    window = np.lib.stride_tricks.sliding_window_view(X, (2, 3), (1, 2))
    check(ops.max_pool(X, (2, 3), 1), window.max((-1, -2)))
    check(ops.average_pool(X, (2, 3), (2, 1)), window.mean((-1, -2))[:, ::2])
    ones = np.ones((1, 5, 5, 1))
    check(ops.average_pool(ones, 3, 2, "same"), np.ones((1, 3, 3, 1)))
    check(ops.max_pool(-ones, 3, 2, "same"), -np.ones((1, 3, 3, 1)))
    line = normal(1, 6, 2)
    check(ops.max_pool(line, 2), line.reshape(1, 3, 2, 2).max(2))
    check(ops.adaptive_average_pool(X, (1, 2)), X.reshape(2, 7, 2, 4, 4).mean((1, 3))[:, None])
    check(ops.adaptive_max_pool(X, 1), X.max((1, 2), keepdims=True))
    assert np.isnan(ops.max_pool(np.array([1.0, np.nan]).reshape(1, 2, 1), 2).numpy()).all()


def test_normalisation():
    mean, variance, beta, gamma = normal(4), uniform(4), normal(4), normal(4)
    expected = (X - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    check(ops.batch_normalization(X, mean, variance, -1, beta, gamma), expected)
    centred = (A - A.mean(-1, keepdims=True)) / np.sqrt(A.var(-1, keepdims=True) + 1e-7)
    check(ops.layer_normalization(A, gamma, beta), centred * gamma + beta)
    first = (A - A.mean(0)) / np.sqrt(A.var(0) + 1e-7)
    check(ops.layer_normalization(A, P[:, 0], axis=0), first * P[:, :1])
    check(ops.rms_normalization(A, gamma), A / np.sqrt((A**2).mean(-1, keepdims=True) + 1e-7) * gamma)
    check(ops.normalize(A), A / np.linalg.norm(A, axis=-1, keepdims=True))
    check(ops.normalize(A, 0, 1), A / abs(A).sum(0))
    check(ops.moments(C, (0, 1)), (C.mean((0, 1)), C.var((0, 1))))


def test_attention():
    q, k, v = normal(2, 5, 4, 3), normal(2, 6, 2, 3), normal(2, 6, 2, 3)
    mask, bias = normal(2, 4, 5, 6) > 0, normal(4, 5, 6)
    mask[..., 0] = True
    wide_k, wide_v = np.repeat(k, 2, 2), np.repeat(v, 2, 2)
    scores = np.einsum("bthd,bshd->bhts", q, wide_k) / np.sqrt(3) + bias
    scores = np.where(mask & np.tri(5, 6, dtype=bool), scores, -np.inf)
    expected = np.einsum("bhts,bshd->bthd", softmax(scores), wide_v)
    check(ops.dot_product_attention(q, k, v, bias, mask, is_causal=True), expected)
    capped = np.tanh(np.einsum("bthd,bshd->bhts", q, wide_k) / np.sqrt(3) / 2) * 2
    received = ops.dot_product_attention(q, k, v, attn_logits_soft_cap=2.0)
    check(received, np.einsum("bhts,bshd->bthd", softmax(capped), wide_v))
    with pytest.raises(ShapeError, match="dot_product_attention"):
        ops.dot_product_attention(q, normal(2, 6, 3, 3), v)


def test_crossentropies():
    labels, logits = np.array([0, 3, 1]), A
    hot = np.eye(4)[labels]
    logs = np.log(softmax(logits))
    expected = -(hot * logs).sum(-1)
    check(ops.categorical_crossentropy(hot, logits, from_logits=True), expected)
    check(ops.categorical_crossentropy(hot, softmax(logits)), expected, 1e-5)
    check(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True), expected)
    check(ops.sparse_categorical_crossentropy(labels[:, None], softmax(logits)), expected, 1e-5)
    target = (A > 0).astype(float)
    expected = -(target * np.log(sigmoid(B)) + (1 - target) * np.log(1 - sigmoid(B)))
    check(ops.binary_crossentropy(target, B, from_logits=True), expected)
    check(ops.binary_crossentropy(target, sigmoid(B)), expected, 1e-5)
    with pytest.raises(ShapeError, match="sparse_categorical_crossentropy"):
        ops.categorical_crossentropy(labels, logits)
    with pytest.raises(ShapeError, match=r"expected labels of shape \(3,\)"):
        ops.sparse_categorical_crossentropy(hot, logits)


def alignments(logs, label, blank):
    """Probability of a label by going through all alignments."""
    frames, classes = logs.shape
    total = 0.0
    for path in np.ndindex(*[classes] * frames):
        merged = [c for i, c in enumerate(path) if c != blank and (i == 0 or path[i - 1] != c)]
        if merged == list(label):
            total += np.exp(sum(logs[t, c] for t, c in enumerate(path)))
    return -np.log(total)


def test_ctc():
    logits = normal(3, 5, 3)
    target, lengths, frames = np.array([[1, 1], [2, 1], [0, 0]]), [2, 1, 0], [5, 4, 3]
    logs = np.log(softmax(logits))
    expected = [alignments(logs[i, : frames[i]], target[i, : lengths[i]], 0) for i in range(3)]
    check(ops.ctc_loss(target, logits, lengths, frames), expected)
    check_gradient(lambda x: ops.sum(ops.ctc_loss(target, x, lengths, frames)), logits)
    scores = np.log([[[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]])
    labels, score = ops.ctc_decode(scores, [4])
    assert labels.tolist() == [[[1, 1, -1, -1, -1]]]
    check(score, [[-4 * np.log(0.8)]])
    with pytest.raises(ValueError, match="greedy"):
        ops.ctc_decode(scores, [4], strategy="beam_search")


def test_indexing_functions():
    check(ops.slice(C, (0, 1, 1), (2, 2, 3)), C[:, 1:3, 1:4])
    check(ops.slice(C, tensor([0, 1, 1]), (2, 2, 3)), C[:, 1:3, 1:4])
    changed = C.copy()
    changed[:, 1:3, 1:3] = 5
    check(ops.slice_update(C, (0, 1, 1), np.full((2, 2, 2), 5.0)), changed)
    expected = np.zeros((4, 3))
    np.add.at(expected, [0, 2, 0], A[:, :3])
    check(ops.scatter([[0], [2], [0]], A[:, :3], (4, 3)), expected)
    for reduction, ufunc in {"add": np.add, "max": np.maximum, "min": np.minimum, "mul": np.multiply}.items():
        expected = A.copy()
        ufunc.at(expected, ([0, 0, 2], [1, 1, 3]), P[0, :3])
        check(ops.scatter_update(A, [[0, 1], [0, 1], [2, 3]], P[0, :3], reduction), expected)
    expected = A.copy()
    expected[[0, 2]] = B[:2]
    check(ops.scatter_update(A, [[0], [2]], B[:2]), expected)
    ids = np.array([0, 2, 0])
    check(ops.segment_sum(A, ids), [A[0] + A[2], np.zeros(4), A[1]])
    check(ops.segment_max(A, ids, 3), [np.maximum(A[0], A[2]), np.full(4, -np.inf), A[1]])
    check(ops.segment_min(A, ids, 3), [np.minimum(A[0], A[2]), np.full(4, np.inf), A[1]])
    check(ops.segment_prod(A, ids, 3), [A[0] * A[2], np.ones(4), A[1]])
    assert ops.one_hot([1, 3, -1], 3).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert ops.multi_hot([[0, 2], [1, 1]], 3).tolist() == [[1, 0, 1], [0, 1, 0]]
    assert ops.bincount([1, 2, 2, 5]).tolist() == [0, 1, 2, 0, 0, 1]
    check(ops.bincount([1, 2, 2], weights=[0.5, 1.0, 2.0], minlength=5), [0, 0.5, 3, 0, 0])
    values, places = ops.top_k(A, 2)
    check(values, -np.sort(-A, -1)[:, :2])
    check(np.take_along_axis(A, places.numpy(), -1), values)
    assert ops.in_top_k([0, 1], [[0.1, 0.5, 0.4], [0.1, 0.5, 0.4]], 2).tolist() == [False, True]
    check(
        ops.unique([3, 1, 3], return_index=True, return_inverse=True, return_counts=True),
        np.unique([3, 1, 3], True, True, True),
    )
    assert ops.unique([3, 1, 3], size=4, fill_value=9).tolist() == [1, 3, 9, 9]
    assert ops.argpartition(A, 1).shape == A.shape
    check(ops.get_item(A, (1, slice(2))), A[1, :2])
    check(ops.unstack(A, axis=1), list(A.T))
    check(ops.select([T, F], [A, B], 7.0), np.select([T, F], [A, B], 7.0))
    check(ops.divide_no_nan([1.0, 2.0], [0.0, 4.0]), [0, 0.5])
    check(ops.isin(I, J, invert=True), ~np.isin(I, J))


def test_conversions():
    assert ops.cast([1.9, -1.9], "int32").tolist() == [1, -1]
    assert ops.saturate_cast([-5.0, 300.0, 7.5], "uint8").tolist() == [0, 255, 7]
    assert ops.saturate_cast([1e20, -1e20], "int32").tolist() == [2147483520, -(2**31)]
    assert ops.saturate_cast(np.array([-1, 2**40]), "uint16").tolist() == [0, 65535]
    copy = ops.convert_to_numpy(tensor([1.0]))
    copy[0] = 2
    assert copy.tolist() == [2] and ops.empty((2, 0)).shape == (2, 0)
    check(ops.view(np.float32([1.5]), "int32"), np.float32([1.5]).view("int32"))
    assert ops.dtype(A) == "float64" and ops.is_tensor(tensor(1)) and not ops.is_tensor(1)
    assert ops.convert_to_tensor([1]).dtype == np.int32 and ops.empty_like(I).dtype == I.dtype
    assert (ops.logsumexp(A).shape, ops.shape(A), ops.size(A)) == ((), (3, 4), 12)


def test_rearrange():
    x = normal(2, 6, 3)
    check(ops.rearrange(x, "b (h p) c -> b h (p c)", p=2), x.reshape(2, 3, 6))
    check(ops.rearrange(x, "b h c -> c (b h)"), x.transpose(2, 0, 1).reshape(3, 12))
    check(ops.rearrange(x[:, None], "b 1 h c -> b c h"), x.transpose(0, 2, 1))
    for pattern, options in (
        ("b h -> h b", {}),
        ("b (h p) c -> b h p c", {}),
        ("b (h p) c -> b h p c", {"p": 4}),
    ):
        with pytest.raises(ShapeError, match="rearrange"):
            ops.rearrange(x, pattern, **options)
    with pytest.raises(ValueError, match="same axes"):
        ops.rearrange(x, "b h c -> b h")


def test_linear_algebra():
    m = normal(2, 3, 3)
    spd = m @ m.transpose(0, 2, 1) + np.eye(3)
    check(ops.cholesky(spd), np.linalg.cholesky(spd))
    check(ops.cholesky(spd, upper=True), np.linalg.cholesky(spd).transpose(0, 2, 1))
    check(ops.cholesky_inverse(ops.cholesky(spd)), np.linalg.inv(spd))
    check(ops.logdet(spd), np.linalg.slogdet(spd)[1])
    check(ops.solve_triangular(m, m, lower=True), np.linalg.solve(np.tril(m), m))
    values, vectors = ops.eigh(spd)
    check(vectors @ (ops.expand_dims(values, -1) * vectors.transpose(0, 2, 1)), spd)
    for shape in ((4, 3), (3, 4), (2, 3, 3)):
        x = normal(*shape)
        u, s, vh = ops.svd(x, full_matrices=False)
        check(u @ (ops.expand_dims(s, -1) * vh), x)
        check(ops.svd(x, compute_uv=False), np.linalg.svd(x, compute_uv=False))
        for mode in ("reduced", "complete"):
            q, r = ops.qr(x, mode)
            check(q @ r, x)
        lu, pivots = ops.lu_factor(x)
        rows = min(shape[-2:])
        lower = np.tril(lu, -1)[..., :rows] + np.eye(shape[-2], rows)
        rebuilt = lower @ np.triu(lu)[..., :rows, :]
        for index in np.ndindex(*shape[:-2]):
            order = list(range(shape[-2]))
            for k, p in enumerate(pivots.numpy()[index]):
                order[k], order[p] = order[p], order[k]
            check(rebuilt[index], x[index][order])
    a, b = normal(5, 3), normal(5, 2)
    check(ops.lstsq(a, b), np.linalg.lstsq(a, b, rcond=None)[0])
    check(ops.cdist(A, B), np.linalg.norm(A[:, None] - B, axis=-1))
    check(ops.linalg.norm(A), np.linalg.norm(A))
    with pytest.raises(ValueError, match=r"cholesky.*not positive definite"):
        ops.cholesky(-np.eye(2))
    with pytest.raises(ValueError, match=r"solve.*[Ss]ingular"):
        ops.inv(np.zeros((2, 2)))
    with pytest.raises(ShapeError, match="expected square matrices"):
        ops.det(A)


def test_fourier():
    x, y = normal(2, 4, 6), normal(2, 4, 6)
    z = x + 1j * y

    def pair(value):
        return value.real, value.imag

    check(ops.fft((x, y)), pair(np.fft.fft(z)))
    check(ops.fft2((x, y)), pair(np.fft.fft2(z)))
    check(ops.ifft2((x, y)), pair(np.fft.ifft2(z)))
    for length in (None, 4, 9):
        check(ops.rfft(x, length), pair(np.fft.rfft(x, length)))
        check(ops.irfft((x, y), length), np.fft.irfft(z, length))
    signal = normal(2, 50)
    spectrum = ops.stft(signal, 10, 4, 16)
    assert spectrum[0].shape == (2, 13, 9)
    check(ops.istft(spectrum, 10, 4, 16, length=48), signal[:, :48])
    check(ops.extract_sequences(signal, 8, 3), np.lib.stride_tricks.sliding_window_view(signal, 8, 1)[:, ::3])
    check(ops.view_as_real(ops.view_as_complex(x[..., :2])), x[..., :2])
    check(ops.polar(P, A), (P * np.cos(A), P * np.sin(A)))


def test_windows_as_columns():
    x = normal(2, 3, 6, 7)
    columns = ops.unfold(x, (2, 3), stride=2)
    check(columns[:, :, 0], x[:, :, :2, :3].reshape(2, -1))
    ones = ops.fold(ops.unfold(np.ones((1, 2, 4, 4)), 2), 4, 2)
    check(ones[0, 0], np.outer([1, 2, 2, 1], [1, 2, 2, 1]))
    image = normal(2, 3, 4, 8)
    check(ops.space_to_depth(ops.depth_to_space(image, 2), 2), image)
    check(ops.psnr(A, A + 0.1, 1.0), 20.0)


def test_control_on_values():
    check(ops.fori_loop(0, 4, lambda i, v: v + i, 1), 7)
    check(ops.while_loop(lambda i: i < 5, lambda i: i + 2, 0), 6)
    carry, ys = ops.scan(lambda c, x: (c + x, c), tensor(0.0), np.arange(4.0), reverse=True)
    check((carry, ys), (6, [6, 5, 3, 0]))
    check(ops.scan(lambda c, _: (c * 2, c), 1, length=3), (8, [1, 2, 4]))
    with pytest.raises(ValueError, match="disagree"):
        ops.scan(lambda c, x: (c, x), 0, (A, C))
    check(ops.map(lambda row: row * 2, A), A * 2)
    check(ops.vectorized_map(lambda pair: pair[0] * pair[1], (A, B)), A * B)
    check(ops.associative_scan(lambda a, b: a * b, P, axis=1), np.cumprod(P, 1))
    check(ops.associative_scan(lambda a, b: a + b, A, reverse=True), np.cumsum(A[::-1], 0)[::-1])
    check(ops.jvp(lambda x: x * x, (A,), (B,)), (A * A, 2 * A * B))
    check(ops.jvp(lambda x: (x * x, x), (A,), (B,), has_aux=True), (A * A, 2 * A * B, A))
    doubled = ops.custom_gradient(lambda x: (x, lambda g: g * 2))
    assert core.grad(lambda x: doubled(x))(1.0).item() == 2
    assert ops.stop_gradient(tensor(1.0)).item() == 1


def test_image_functions():
    image = uniform(2, 8, 6, 3)
    check(ops.image.resize(image, (4, 3), antialias=False), image.reshape(2, 4, 2, 3, 2, 3).mean((2, 4)))
    check(ops.image.resize(image, (16, 12), "nearest"), image.repeat(2, 1).repeat(2, 2))
    for method in ("bilinear", "bicubic", "lanczos3", "lanczos5"):
        check(ops.image.resize(np.ones((5, 5, 1)), (9, 3), method, antialias=True), np.ones((9, 3, 1)))
        check(ops.image.resize(image, (8, 6), method), image)
    assert ops.image.resize((image * 255).astype("uint8"), (3, 3)).dtype == np.uint8
    assert ops.image.resize(image, (4, 4), crop_to_aspect_ratio=True).shape == (2, 4, 4, 3)
    still = np.array([1.0, 0, 0, 0, 1, 0, 0, 0])
    check(ops.image.affine_transform(image, still), image)
    moved = ops.image.affine_transform(image, [1.0, 0, 2, 0, 1, 1, 0, 0])
    check(moved[:, :7, :4], image[:, 1:, 2:])
    check(moved[:, 7], np.zeros((2, 6, 3)))
    corners = np.array([[0.0, 0], [5, 0], [0, 7], [5, 7]])
    check(ops.image.perspective_transform(image, [corners] * 2, [corners] * 2), image)
    check(
        ops.image.map_coordinates(A, [[0.5, 1.0], [1.0, 2.5]], 1),
        [(A[0, 1] + A[1, 1]) / 2, (A[1, 2] + A[1, 3]) / 2],
    )
    check(ops.image.hsv_to_rgb(ops.image.rgb_to_hsv(image)), image)
    check(ops.image.rgb_to_grayscale(image), (image * [0.2989, 0.587, 0.114]).sum(-1, keepdims=True))
    blurred = ops.image.gaussian_blur(np.ones((1, 9, 9, 1)), (3, 3))
    check(blurred[0, 4, 4, 0], 1.0)
    edges = ops.image.sobel_edges(np.repeat(np.arange(6.0), 5).reshape(1, 6, 5, 1))
    check(edges[0, 2, 2, 0], [8, 0])
    check(ops.image.ssim(uniform(12, 12, 1), uniform(12, 12, 1)).shape, ())
    check(ops.image.ssim(np.ones((2, 12, 12, 1)), np.ones((2, 12, 12, 1))), np.ones(2))
    check(ops.image.crop_images(image, 1, 2, 3, 1), image[:, 1:5, 2:5])
    check(
        ops.image.pad_images(image[0], 1, 2, target_height=10, target_width=10),
        np.pad(image[0], ((1, 1), (2, 2), (0, 0))),
    )
    check(ops.image.extract_patches(image, 2)[:, 1, 2], image[:, 2:4, 4:6].reshape(2, -1))
    volume = uniform(4, 4, 4, 2)
    check(ops.image.extract_patches_3d(volume, 2)[1, 0, 1], volume[2:, :2, 2:].reshape(-1))
    check(
        ops.image.scale_and_translate(A, (6, 4), [2.0], [0.0], [0], "linear"),
        ops.image.resize(A[..., None], (6, 4))[..., 0],
    )
    warped = ops.image.elastic_transform(image, 2.0, 1.0, seed=1)
    assert warped.shape == image.shape and warped.dtype == image.dtype
    check(warped, ops.image.elastic_transform(image, 2.0, 1.0, seed=1))
    check(ops.image.elastic_transform(image, 0.0, 1.0), image)
    with pytest.raises(DtypeError, match="rgb_to_hsv"):
        ops.image.rgb_to_hsv(image.astype(int))
    with pytest.raises(ShapeError, match=r"resize: expected \(H, W, C\)"):
        ops.image.resize(A, (2, 2))


def check_gradient(function, *points, tolerance=1e-6):
    points = [np.asarray(p, np.float64) for p in points]
    gradients = core.grad(function, tuple(range(len(points))))(*map(tensor, points))
    for _ in range(3):
        directions = [GENERATOR.normal(size=p.shape) for p in points]
        ahead, behind = (
            float(function(*(tensor(p + step * d) for p, d in zip(points, directions, strict=True))))
            for step in (1e-6, -1e-6)
        )
        slope = sum(float((g.numpy() * d).sum()) for g, d in zip(gradients, directions, strict=True))
        assert abs(slope - (ahead - behind) / 2e-6) <= tolerance * max(1, abs(slope))
    return gradients


WEIGHTS = normal(200)


def weighted(value):
    """A number in which every element of a result counts differently."""
    return sum(
        (ops.sum(ops.ravel(part) * WEIGHTS[: part.size]) for part in core.pytree.flatten(value)),
        tensor(0.0, "float64"),
    )


GRADIENTS = {
    "softmax": (ops.softmax, A),
    "log_softmax over two axes": (lambda x: ops.log_softmax(x, (0, 1)), A),
    "gelu": (ops.gelu, A),
    "erf, erfc, erfinv": (lambda x: (ops.erf(x), ops.erfc(x * 3), ops.erfinv(x)), U),
    "attention": (
        lambda q, k: ops.dot_product_attention(q, k, k, is_causal=True),
        normal(1, 3, 4, 2),
        normal(1, 3, 2, 2),
    ),
    "conv_transpose": (
        lambda x, w: ops.conv_transpose(x, w, 2, "same"),
        normal(1, 3, 3, 2),
        normal(3, 3, 2, 2),
    ),
    "average_pool same": (lambda x: ops.average_pool(x, 3, 2, "same"), normal(1, 5, 5, 2)),
    "max_pool": (lambda x: ops.max_pool(x, 2), normal(1, 4, 4, 2)),
    "einsum": (lambda x, y: ops.einsum("bij,jk->bki", x, y), C, normal(4, 2)),
    "sort, quantile, median": (lambda x: (ops.sort(x, 0), ops.quantile(x, [0.2, 0.7], 1), ops.median(x)), A),
    "stft": (lambda x: ops.stft(x, 6, 3, 8), normal(20)),
    "istft": (lambda x, y: ops.istft((x, y), 6, 3, 8), normal(5, 5), normal(5, 5)),
    "logsumexp": (lambda x: ops.logsumexp(x, 1), A),
    "norms": (lambda x: (ops.norm(x), ops.norm(x, 1, 0), ops.norm(x, "nuc"), ops.norm(x, 3, 1)), A),
    "normalisation": (lambda x, g: (ops.layer_normalization(x, g), ops.rms_normalization(x, g)), A, B[0]),
    "variance, std": (lambda x: (ops.var(x, 0), ops.std(x, 1), ops.nanvar(x)), A),
    "cumulative": (lambda x: (ops.cumsum(x, 1), ops.cumprod(x, 0)), P),
    "prod": (lambda x: ops.prod(x, 1), A),
    "logaddexp, hypot, power": (
        lambda x, y: (ops.logaddexp(x, y), ops.hypot(x, y), ops.power(ops.abs(x), y)),
        A,
        B,
    ),
    "resize": (lambda x: ops.image.resize(x, (5, 3), "bicubic", antialias=True), normal(4, 6, 2)),
    "affine": (
        lambda x, t: ops.image.affine_transform(x, t),
        normal(5, 4, 1),
        [1.13, 0.21, 0.317, -0.117, 0.93, 0.419, 0, 0],
    ),
    "pinv, det": (lambda x: (ops.pinv(x), ops.det(x[:3])), normal(4, 3)),
    "lstsq": (ops.lstsq, normal(4, 2), normal(4)),
    "indexing": (lambda x: (ops.take(x, [0, 0, 2], 0), ops.roll(x, 1, 1), ops.pad(x, 1, "reflect")), A),
    "segments": (lambda x: (ops.segment_sum(x, [0, 1, 0]), ops.segment_max(x, [0, 1, 0])), A),
    "unfold, fold": (lambda x: ops.fold(ops.unfold(x, 2) ** 2, 4, 2), normal(1, 2, 4, 4)),
    "scan": (lambda x: ops.scan(lambda c, r: (ops.tanh(c + r), c * r), x[0], x), A),
    "i0, sinc, cbrt": (lambda x: (ops.i0(x), ops.sinc(x), ops.cbrt(x)), P),
    "swapped selections": (
        lambda x, y: (ops.fmax(x, y), ops.where(x > y, x * y, y), ops.clip(x, -0.5, y)),
        A,
        B,
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_composed_functions(name):
    function, *points = GRADIENTS[name]
    check_gradient(lambda *values: weighted(function(*values)), *points)


def test_gradients_at_delicate_points():
    x = tensor([1.0, -np.inf, 2.0, -np.inf])
    check(core.grad(lambda x: ops.logsumexp(x))(x), [sigmoid(-1.0), 0, sigmoid(1.0), 0])
    check(core.grad(lambda x: ops.sum(ops.softmax(x) * [1.0, 2, 3, 4]))(x)[1::2], [0, 0])
    check(ops.logsumexp(ops.full((3,), -np.inf)), -np.inf)
    check(ops.logaddexp(-np.inf, -np.inf), -np.inf)
    check(core.grad(lambda x: ops.sum(ops.erfinv(x)))(tensor([1.0, 0.0]))[1], np.sqrt(np.pi) / 2)
    check(core.grad(lambda x: ops.sum(x**2.0))(tensor([0.0])), [0])
    check(core.grad(lambda x: ops.sum(x**0))(tensor([0.0])), [0])
    check(core.grad(lambda x: ops.sum(ops.prod(x)))(tensor([0.0, 2.0, 3.0])), [6, 0, 0])
    check(core.grad(lambda x: ops.sum(ops.divide_no_nan(1.0, x)))(tensor([0.0, 2.0])), [0, -0.25])
    check(core.grad(lambda x: ops.max(x))(tensor([1.0, 3.0, 3.0])), [0, 0.5, 0.5])
    check(core.grad(lambda x: ops.sum(ops.relu(x)))(tensor([-1.0, 0.0, 1.0])), [0, 0, 1])
    check(core.grad(lambda x: ops.nansum(x) ** 2)(tensor([1.0, np.nan])), [2, 0])


def test_standardize_is_batch_normalization_with_a_short_gradient():
    generator = np.random.default_rng(0)
    x, weights = generator.normal(size=(2, 4, 3, 5, 6))
    scale, offset = generator.normal(size=(2, 6))

    def composed(x, scale, offset):
        mean, variance = ops.moments(x, (0, 1, 2))
        return ops.batch_normalization(x, mean, variance, -1, offset, scale)

    def short(x, scale, offset):
        return ops.standardize(x, (0, 1, 2), scale, offset)[0]

    def loss(function):
        return lambda *values: (function(*values) ** 2 * weights).sum()

    check(short(x, scale, offset), composed(x, scale, offset))
    for a, b in zip(
        core.grad(loss(short), (0, 1, 2))(x, scale, offset),
        core.grad(loss(composed), (0, 1, 2))(x, scale, offset),
        strict=True,
    ):
        check(a, b)
    second = [
        core.grad(lambda x, f=f: (core.grad(loss(f))(x, scale, offset) * weights).sum())(x) for f in (short, composed)
    ]
    check(*second)
    _, mean, variance = ops.standardize(x, (0,))
    check(mean, x.mean(0, keepdims=True))
    check(variance, x.var(0, keepdims=True))


def test_float16_sums_in_float32():
    x = np.full(70000, 2.0, "float16")
    assert ops.mean(x).item() == 2 and ops.mean(x).dtype == np.float16
    assert ops.sum(np.full(3000, 1.0, "float16")).item() == 3000


def test_every_function_is_tested_here():
    source = Path(__file__).read_text(encoding="utf-8")
    tested = {name for names in (*NUMPY, *LINALG) for name in names.split()} | set(ACTIVATIONS)
    missing = [n for n in ops.__all__ if n not in tested and f"ops.{n}(" not in source and f"ops.{n})" not in source]
    spaces = {"image", "linalg", "nn", "numpy"}
    assert set(missing) - spaces - {"cond", "switch"} == set()  # the two are tested in test_graph.py
    assert [n for n in dir(ops.image) if not n.startswith("_") and f"ops.image.{n}" not in source] == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.reshape(A, (5, -1)), ShapeError, r"reshape: shape \(3, 4\) with 12 elements"),
        (lambda: ops.sum(A, 2), ShapeError, "axis 2 is out of range"),
        (lambda: ops.sum(A, (0, 0)), ShapeError, "named twice"),
        (lambda: ops.concatenate([A, C]), ShapeError, "concatenate"),
        (lambda: ops.concatenate([1, 2]), ShapeError, "use stack"),
        (lambda: ops.stack([A, C]), ShapeError, "stack: the shapes differ"),
        (lambda: ops.split(A, 3, 1), ShapeError, "3 equal parts"),
        (lambda: ops.squeeze(A, 0), ShapeError, "extent 1"),
        (lambda: ops.broadcast_to(A, (3, 5)), ShapeError, "broadcast"),
        (lambda: ops.transpose(A, (0, 0)), ShapeError, "permutation"),
        (lambda: ops.max(E), ShapeError, "without elements"),
        (lambda: ops.argmax(E, 0), ShapeError, "without elements"),
        (lambda: ops.take(A, [0.5], 0), DtypeError, "integers"),
        (lambda: ops.take(A, [7], 0), IndexError, "index 7 is out of range"),
        (lambda: ops.bitwise_and(A, B), DtypeError, "integer or bool"),
        (lambda: ops.gcd(A, B), DtypeError, "expected integers"),
        (lambda: ops.conv(X, normal(3, 3, 3, 2)), ShapeError, "4 channels"),
        (lambda: ops.conv(X, normal(9, 9, 4, 2)), ShapeError, "larger than the padded input"),
        (lambda: ops.conv(X, normal(3, 4, 2)), ShapeError, "spatial axes"),
        (lambda: ops.conv(X, normal(3, 3, 4, 2), padding="sane"), ValueError, "'valid', 'same'"),
        (lambda: ops.max_pool(X, 9), ShapeError, "larger than the padded input"),
        (lambda: ops.max_pool(X, 2, data_format="channels_first"), ValueError, "channels last"),
        (lambda: ops.matmul(1.0, A), ShapeError, "at least one axis"),
        (lambda: ops.tensordot(normal(5, 2, 6), normal(3, 4), 2), ShapeError, "disagree on the axis"),
        (lambda: ops.pad(A, ((1, 2),) * 3), ShapeError, "pair per axis"),
        (lambda: ops.pad(A, 1, "mirror"), ValueError, "received 'mirror'"),
        (lambda: ops.quantile(A, 0.5, method="cubic"), ValueError, "received 'cubic'"),
        (lambda: ops.top_k(A, 9), ShapeError, "k=9"),
        (lambda: ops.cross(A, A), ShapeError, "vectors of 2 or 3"),
        (lambda: ops.one_hot([0.5], 3), DtypeError, "integers"),
        (lambda: ops.stft(A, 16, 4, 8), ValueError, "shorter"),
        (lambda: ops.stft(A, 2, 1, 2, window="box"), ValueError, "received 'box'"),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_eig():
    x = np.random.default_rng(0).normal(size=(2, 4, 4))
    (real, imaginary), (vectors, further) = ops.eig(x)
    values, vectors = np.asarray(real) + 1j * np.asarray(imaginary), np.asarray(vectors) + 1j * np.asarray(further)
    np.testing.assert_allclose(x @ vectors, vectors * values[:, None], atol=1e-12)


def test_vectorize():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(3.0)
    seen = []
    check(ops.vectorize(lambda x, y: seen.append(x.shape) or x - y)(a, b), a - b)
    assert set(seen) == {()}
    check(ops.vectorize(lambda x, y: x + y)(1.0, 2.0), 3.0)
    check(ops.vectorize(ops.matmul, signature="(m,n),(n)->(m)")(np.ones((4, 2, 3)), b), np.full((4, 2), 3.0))
    check(ops.vectorize(lambda n, x: x.sum() * n, excluded=[0], signature="(n)->()")(2, a), 2 * a.sum(1))
    pair = ops.vectorize(lambda x: {"twice": 2 * x, "square": x * x})(a)
    check(pair["twice"], 2 * a)
    check(pair["square"], a * a)
    for wrong in ("(n", "(n)->", "n->n"):
        with pytest.raises(ValueError, match="signature"):
            ops.vectorize(lambda x: x, signature=wrong)
    with pytest.raises(ValueError, match="does not fit 1"):
        ops.vectorize(lambda x: x, signature="(n),(n)->()")(a)


def test_arguments_that_may_be_left_out():
    check(ops.arange(4), [0, 1, 2, 3])
    check(ops.arange(4, None, None), [0, 1, 2, 3])
    check(ops.arange(1, 6, 2), [1, 3, 5])
    with pytest.raises(ValueError, match="num_classes"):
        ops.multi_hot([1, 2])


def test_lu_factor_names_itself_in_its_error():
    with pytest.raises(ValueError, match="lu_factor: expected float matrices"):
        ops.lu_factor([1.0, 2.0])


def test_bools_of_a_segment_are_counted():
    assert ops.segment_sum([True, True, False, True], [0, 0, 1, 1], 2).tolist() == [2, 1]
    assert ops.segment_max([True, False, False], [0, 0, 1], 2).tolist() == [1, 0]


@pytest.mark.parametrize("name", ["bias", "mask"])
def test_attention_says_what_does_not_broadcast(name):
    x = np.ones((2, 5, 4, 8), "float32")
    for shape in [(3, 5, 5), (2, 4, 5, 6), (1, 2, 4, 5, 5)]:
        with pytest.raises(ShapeError, match=rf"{name} has to broadcast to .*\(2, 4, 5, 5\); received \({shape[0]}, "):
            ops.dot_product_attention(x, x, x, **{name: np.ones(shape, "float32")})


def test_bools_count_as_numbers_where_they_are_shifted():
    x = np.array([True, False])
    for function in (ops.left_shift, ops.right_shift, ops.relu6):
        arguments = (x,) if function is ops.relu6 else (x, x)
        eager, compiled = function(*arguments), core.jit(function)(*arguments)
        assert eager.dtype == compiled.dtype == np.int32
        assert eager.tolist() == compiled.tolist()
    assert core.jit(ops.relu)(x).tolist() == ops.relu(x).tolist() == [True, False]


def test_hypot_squares_in_the_wider_dtype():
    x = core.tensor(np.array([1.5078], "float16"))
    check(ops.hypot(x, core.tensor(2.0)), np.hypot(x.numpy().astype("float32"), 2), 1e-6)
