"""Every function of keras.ops gives here what it gives there, in float32 within 1e-5."""

import inspect
import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

from tenzoo.core import ops  # noqa: E402

GENERATOR = np.random.default_rng(0)


def normal(*shape):
    return GENERATOR.normal(size=shape).astype("float32")


def uniform(*shape, low=0.0, high=1.0):
    return GENERATOR.uniform(low, high, shape).astype("float32")


def whole(*shape, low=-5, high=6):
    return GENERATOR.integers(low, high, shape).astype("int32")


def holes(*shape):
    x = normal(*shape)
    x.flat[::3] = np.nan
    return x


def positive_definite(*shape):
    x = normal(*shape)
    return x @ np.swapaxes(x, -1, -2) + 2 * np.eye(shape[-1], dtype="float32")


A, B, C = normal(3, 4), normal(3, 4), normal(2, 3, 4)
P = uniform(3, 4, low=0.2, high=2.0)
U = uniform(3, 4, low=-0.9, high=0.9)
I, J = whole(3, 4), whole(3, 4, low=1, high=9)
T, F = normal(3, 4) > 0, normal(3, 4) > 0
N = holes(4, 6)
S = np.array([-np.inf, -1.5, -0.0, 0.0, 2.5, np.inf, np.nan], "float32")
X = normal(2, 7, 8, 3)
IMAGE = uniform(2, 9, 11, 3)
SPD, SQ = positive_definite(2, 4, 4), normal(2, 4, 4) + 3 * np.eye(4, dtype="float32")
SEQ = normal(2, 40)

# name: calls, each a tuple of positional arguments with options in a dict at the end
CASES = {}


def case(names, *calls):
    for name in names.split():
        CASES.setdefault(name, []).extend(call if isinstance(call, tuple) else (call,) for call in calls)


case("abs absolute negative sign square trunc real imag conj conjugate angle isreal round", A, I, S[:-1])
case("ceil floor fabs exp expm1 exp2 tanh sinh sin cos tan arctan arcsinh cbrt sinc", A * 2, I)
case("erf erfc", A * 2)
case("log log2 log10 log1p sqrt reciprocal", P, J)
case("rsqrt", P)
case("arcsin arccos arctanh erfinv", U)
case("arccosh", P + 1)
case("cosh deg2rad rad2deg i0", A)
case("isnan isinf isfinite isposinf isneginf signbit nan_to_num logical_not", S, I)
case("nan_to_num", (S, {"nan": 1.0, "posinf": 9.0, "neginf": -9.0}))
case("round", (A * 50, {"decimals": 1}))
case(
    "add subtract multiply divide true_divide arctan2 hypot logaddexp logaddexp2 divide_no_nan",
    (A, B),
    (A, B[0]),
    (I, J),
)
case("maximum minimum equal not_equal less less_equal greater greater_equal", (A, B), (I, J), (A, 0.0))
case("fmax fmin", (A, B), (N, N[::-1].copy()))
case("floor_divide mod fmod", (A, P), (I, J), (A, -P))
case("power", (P, A), (A, 2), (J, 2), (P, 0.5), (J, 2.0))
case("divide_no_nan", (A, np.round(B)))
case("heaviside", (np.round(A), 0.5), (S, 0.5))
case("gcd lcm bitwise_and bitwise_or bitwise_xor", (I, J))
case("left_shift right_shift bitwise_left_shift bitwise_right_shift", (I, J % 5))
case("bitwise_not bitwise_invert", I, T)
case("logical_and logical_or logical_xor", (T, F), (I, T))
case("ldexp", (A, J))
case("nextafter", (A, B))
case("isclose allclose", (A, A + 1e-7), (A, B), (S, S, {"equal_nan": True}))
case("isin", (I, whole(4)), (I, whole(4), {"invert": True}))
case("clip", (A, -0.5, 0.5), (I, -2, 2))
case("cast saturate_cast", (A * 3, "int32"), (np.abs(I), "bool"))
case("cast", (I, "float32"))
case("saturate_cast", (A * 400, "uint8"), (I, "uint8"), (np.float32([1e20, -1e20]), "int32"))
case("view", (A, "int32"), (I, "float32"), (I, "int16"))
case("where", (T, A, B), (T, A, 0.0), (T, I, 1.5))
case("select", ([T, F], [A, B], 0.5))
case(
    "sum prod mean max min amax amin std var any all argmax argmin logsumexp median ptp count_nonzero",
    A,
    (A, 1),
    (C, 0),
    I,
)
case(
    "sum mean max min std var any all logsumexp median ptp prod",
    (C, (0, 2)),
    (C, {"axis": 1, "keepdims": True}),
)
case("argmax argmin", (C, {"axis": 1, "keepdims": True}))
case(
    "nansum nanprod nanmean nanmax nanmin nanstd nanvar nanmedian nanargmax nanargmin",
    N,
    (N, 1),
    (N, {"axis": 0, "keepdims": True}),
)
case("nancumsum nancumprod cumsum cumprod", (N, 1), A, (A, 0))
case("quantile", (A, 0.3), (A, [0.1, 0.5], 1), (C, 0.7, {"axis": (0, 2), "keepdims": True}), (N, 0.5))
case("nanquantile", (N, 0.3), (N, [0.1, 0.5], 1), (N, 0.4, {"axis": 0, "keepdims": True}))
case("percentile nanpercentile", (A, 30.0), (A, [10.0, 50.0], 1))
for method in ("lower", "higher", "nearest", "midpoint"):
    case("quantile nanquantile", (normal(11), [0.24, 0.33, 0.57], {"method": method}))
case("average", A, (A, 1), (A, {"axis": 1, "weights": P}), (A, {"axis": 1, "weights": P[0]}))
case("moments", (C, [0, 1]), (C, [1], {"keepdims": True}))
case("diff", A, (A, 2), (A, {"axis": 0}))
case("trapezoid", A, (A, P[0]), (A, {"dx": 0.5, "axis": 0}))
case("corrcoef", A)
case(
    "bincount",
    (np.array([1, 2, 2, 5], "int32"),),
    (np.array([1, 2, 2], "int32"), {"weights": P[0, :3], "minlength": 6}),
)
case("digitize", (A, np.array([-1.0, 0.0, 1.0], "float32")))
case("searchsorted", (np.sort(A[0]), B), (np.sort(A[0]), B, {"side": "right"}))
case("sort argsort", A, (A, 0), (A, None))
case("top_k", (A, 2))
case("in_top_k", (np.array([0, 1, 3]), A, 2))
case("unique", I, (I, {"return_index": True, "return_inverse": True, "return_counts": True}))
case("nonzero", I, T)
case("zeros ones empty", ((2, 3),), ((2,), "int32"))
case("full", ((2, 3), 1.5), ((2,), 3, "int32"))
case("zeros_like ones_like empty_like", A, I)
case("full_like", (A, 2.0))
case("arange", 5, (1, 9, 2), (0.0, 1.0, 0.25))
case("linspace", (0.0, 1.0, 5), (0.0, 1.0, {"num": 4, "endpoint": False}), (A, B, {"num": 3, "axis": -1}))
case("linspace", (0.0, 1.0, {"num": 4, "retstep": True}))
case("logspace", (0.0, 1.0, 5), (A, B, 3))
case("geomspace", (1.0, 100.0, 5), (P, P + 3, 4))
case("eye", 3, (3, 4, 1))
case("identity", 3)
case("tri", 3, (3, 4, -1))
case("tril triu", SQ, (SQ, 1))
case("meshgrid", (P[0], P[1, :3]), (P[0], P[1, :3], {"indexing": "ij"}))
case("hamming hanning bartlett blackman", 7)
case("kaiser", (7, 5.0))
case("vander", P[0], (P[0], 3, True))
case("array convert_to_tensor copy ravel size ndim shape dtype", A)
case("convert_to_numpy", A)
case("is_tensor", 3)
case("reshape", (A, (2, -1)))
case("transpose", A, (C, (1, 2, 0)))
case("swapaxes", (C, 0, 2))
case("moveaxis", (C, 0, 2), (C, (0, 1), (2, 0)))
case("expand_dims", (A, 1), (A, (0, -1)))
case("squeeze", A[:, None], (A[:, None], 1))
case("broadcast_to", (A, (2, 3, 4)))
case("concatenate", ([A, B],), ([A, B], 1))
case("stack", ([A, B],), ([A, B], -1))
case("hstack vstack dstack", ([A, B],), ([A[0], B[0]],))
case("append", (A, B), (A, B, 1))
case("split", (C, 2, 2), (A, [1, 3], 1))
case("array_split", (normal(7), 3), (C, 3, 2))
case("vsplit hsplit", (normal(4, 6), 2))
case("dsplit", (C, 2))
case("unstack", A, (A, 4, 1))
case("flip", A, (A, 1))
case("fliplr flipud", A)
case("roll", (A, 2), (A, -1, 1), (A, (1, 2), (0, 1)))
case("rot90", A, (C, 3, (1, 2)))
case("tile", (A, 2), (A, (2, 1, 3)))
case("repeat", (A, 2), (A, 2, 1), (A, np.array([1, 0, 2]), 0))
case(
    "pad",
    (A, 1),
    (A, ((1, 2), (0, 1)), "reflect"),
    (A, ((1, 2), (0, 1)), "constant", 3.0),
    (A, ((1, 2), (0, 1)), "symmetric"),
)
case("diag", A[0], (SQ[0], 1))
case("diagonal trace", SQ[0], (C, 1, 1, 2))
case("diagflat", A, (A[0], -1))
case("slice", (C, (0, 1, 1), (2, 2, 3)))
case("slice_update", (C, (0, 1, 1), normal(2, 2, 3)))
case("take", (A, [0, 2], 0), (C, [[0, 1], [2, 3]], 2), (A, [0, 5]))
case("take_along_axis", (A, np.argsort(A, 1), 1), (C, np.zeros((2, 1, 4), "int32"), 1))
case("get_item", (C, (0, slice(None), -1)))
case("scatter", (np.array([[0], [2]]), normal(2, 3), (4, 3)))
case("scatter_update", (A, [[0, 1], [2, 3]], normal(2)), (A, [[0], [0]], normal(2, 4), {"reduction": "add"}))
case("scatter_update", *((A, [[0], [0]], normal(2, 4), {"reduction": kind}) for kind in ("max", "min", "mul")))
case("segment_sum segment_max segment_min segment_prod", (normal(5, 2), np.array([0, 0, 1, 2, 2]), 3))
case("one_hot", (whole(3, low=0, high=4), 4), (whole(3, 2, low=0, high=4), 4, 1))
case("multi_hot", (whole(3, 2, low=0, high=4), 4))
case("unravel_index", ([3, 7], (3, 4)))
case("rearrange", (C, "a b (c d) -> (a c) d b", {"c": 2}))
case("matmul", (A, B.T), (C, normal(2, 4, 5)), (A, B[0]), (I, J.T))
case("dot", (A, B.T), (A, B[0]), (2.0, A))
case("inner", (A, B))
case("outer vdot", (A, B))
case("tensordot", (C, normal(3, 4, 2)), (C, normal(4, 5), 1), (C, normal(4, 3), ((1, 2), (1, 0))))
case("einsum", ("bij,bjk->bik", C, normal(2, 4, 5)), ("ij->j", A), ("ii", SQ[0]), ("...i,i->...", C, A[0]))
case("kron", (A, B[:2]))
case(
    "cross",
    (normal(2, 3), normal(2, 3)),
    (normal(2, 2), normal(2, 2)),
    (normal(3, 2), normal(3, 2), {"axis": 0}),
)
case("correlate", *((normal(7), normal(n), mode) for n in (3, 4, 9) for mode in ("valid", "same", "full")))
case("cdist", (A, normal(5, 4)))
case("cholesky", SPD, (SPD, True))
case("cholesky_inverse", np.linalg.cholesky(SPD[0]))
case("det inv slogdet", SQ)
case("logdet", SPD)
case("solve", (SQ, normal(2, 4, 3)), (SQ[0], normal(4)))
case("solve_triangular", (SQ, normal(2, 4, 3)), (SQ, normal(2, 4, 3), True))
case("lu_factor", SQ[0])
case("lstsq", (normal(5, 3), normal(5, 2)), (normal(5, 3), normal(5)))
case("pinv", normal(5, 3))
case("matrix_rank", normal(5, 3), np.ones((3, 3), "float32"))
case(
    "norm",
    A,
    (A, 1),
    (A, "nuc"),
    (A, "fro"),
    (A, 2),
    (A, np.inf),
    (C, 3, 1),
    (C, 2, (1, 2)),
    (C, -1, (0, 2), True),
    (A[0], 0),
)
case("normalize", A, (A, 0, 1), (A, -1, 3))
case(
    "relu relu6 sigmoid silu swish softplus softsign elu selu celu gelu tanh_shrink hard_tanh log_sigmoid",
    A * 4,
)
case(
    "hard_sigmoid hard_silu hard_swish leaky_relu soft_shrink hard_shrink squareplus sparse_plus sparse_sigmoid",
    A * 4,
)
case("softmax log_softmax", A, (C, 1), (C, (0, 1)))
case("glu", A)
case("gelu", (A, False))
case("leaky_relu", (A, 0.1))
case("elu celu", (A, 0.5))
case("threshold", (A, 0.1, 2.0))
case(
    "conv",
    (X, normal(3, 2, 3, 4)),
    (X, normal(3, 3, 3, 4), 2, "same"),
    (X, normal(2, 2, 3, 4), {"dilation_rate": 2}),
)
case(
    "conv",
    (normal(2, 9, 4), normal(3, 2, 6), {"padding": "same", "strides": 2}),
    (normal(1, 4, 5, 4, 2), normal(2, 2, 2, 2, 3)),
)
case("depthwise_conv", (X, normal(3, 3, 3, 2), 1, "same"), (X, normal(3, 3, 3, 1), 2, "valid"))
case("separable_conv", (X, normal(3, 3, 3, 2), normal(1, 1, 6, 5), 1, "same"))
for padding in ("valid", "same"):
    for stride, size in ((1, 3), (2, 3), (2, 2), (3, 2), (3, 5)):
        case("conv_transpose", (X, normal(size, size, 4, 3), stride, padding))
    case(
        "conv_transpose",
        (X, normal(3, 3, 4, 3), 2, padding, 1),
        (X, normal(3, 3, 4, 3), 1, padding, None, None, 2),
    )
    case(
        "max_pool average_pool",
        (X, (2, 2), (2, 2), padding),
        (X, (3, 2), (2, 1), padding),
        (normal(2, 9, 3), (3,), (2,), padding),
    )
case("adaptive_average_pool adaptive_max_pool", (X, (3, 4)), (X, 2))
case(
    "batch_normalization",
    (X, normal(3), uniform(3), -1),
    (X, normal(3), uniform(3), 3, normal(3), normal(3), 1e-2),
)
case("layer_normalization", A, (A, B[0], P[0]))
case("rms_normalization", A, (A, B[0]))
QKV = (normal(2, 5, 4, 3), normal(2, 6, 4, 3), normal(2, 6, 4, 3))
case(
    "dot_product_attention",
    QKV,
    (*QKV, {"is_causal": True}),
    (*QKV, {"mask": normal(2, 4, 5, 6) > 0, "scale": 0.5}),
)
case("dot_product_attention", (*QKV, {"bias": normal(2, 4, 5, 6)}), (QKV[0], *(v[:, :, :2] for v in QKV[1:])))
SOFT = uniform(3, 4) / 2
case("categorical_crossentropy", (SOFT, A, True), (SOFT, SOFT + 0.1))
case("binary_crossentropy", (SOFT, A, True), (SOFT, SOFT + 0.1))
case("sparse_categorical_crossentropy", ([0, 3, 1], A, True), ([0, 3, 1], SOFT + 0.1))
case(
    "ctc_loss",
    (whole(3, 4, low=1, high=5), normal(3, 9, 5), [4, 2, 0], [9, 7, 3]),
    (np.array([[1, 1, 2]]), normal(1, 6, 3), [3], [6]),
)
case("ctc_decode", (normal(3, 9, 5), [9, 5, 2]), (normal(3, 9, 5), [9, 5, 2], {"merge_repeated": False}))
case("psnr", (SOFT, P, 1.0))
case("unfold", (normal(2, 3, 6, 7), 3), (normal(2, 3, 8, 7), (2, 3), 2, 1, 2))
case("fold", (normal(2, 12, 20), (5, 6), 2), (normal(2, 8, 9), 6, 2, 1, 0, 2))
case("depth_to_space", (normal(2, 3, 4, 12), 2))
case("space_to_depth", (normal(2, 4, 6, 3), 2))
case("fft ", ((normal(2, 6), normal(2, 6)),))
case("fft2 ifft2", ((normal(2, 4, 6), normal(2, 4, 6)),))
case("rfft", SEQ, (SEQ, 32), (SEQ, 51))
case("irfft", ((normal(2, 9), normal(2, 9)),), ((normal(2, 9), normal(2, 9)), 15))
case("extract_sequences", (SEQ, 8, 3))
case("stft", (SEQ, 10, 4, 16), (SEQ, 16, 8, 16, "hamming", False), (SEQ, 8, 4, 8, None))
case(
    "istft",
    (tuple(np.array(p) for p in ops.stft(SEQ, 10, 4, 16)), 10, 4, 16),
    (tuple(np.array(p) for p in ops.stft(SEQ, 10, 4, 16)), 10, 4, 16, 38),
)
case(
    "image.resize",
    *(
        (IMAGE, (5, 14), m, {"antialias": a})
        for m in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
        for a in (False, True)
    ),
)
case(
    "image.resize",
    (IMAGE[0], (4, 4), {"crop_to_aspect_ratio": True}),
    (IMAGE, (8, 20), {"pad_to_aspect_ratio": True, "fill_value": 0.5}),
)
case("image.resize", ((IMAGE * 255).astype("uint8"), (5, 14), "bicubic"))
case(
    "image.scale_and_translate",
    (IMAGE[0], (12, 8, 3), np.float32([1.5, 0.7]), np.float32([0.5, -1.0]), (0, 1), "linear"),
)
COORDINATES = uniform(2, 5, 6, low=-4, high=14)
for mode in ("constant", "nearest", "wrap", "mirror", "reflect"):
    case("image.map_coordinates", *((IMAGE[0, :, :, 0], COORDINATES, order, mode) for order in (0, 1)))
    for method in ("nearest", "bilinear"):
        case(
            "image.affine_transform",
            (IMAGE, np.float32([[1.1, 0.2, -1.3, 0.1, 0.9, 1.4, 0, 0]] * 2), method, mode),
        )
CORNERS = np.float32([[0, 0], [10, 0], [0, 8], [10, 8]])
case(
    "image.perspective_transform",
    (IMAGE[0], CORNERS, CORNERS + uniform(4, 2, high=2)),
    (IMAGE, np.stack([CORNERS] * 2), np.stack([CORNERS] * 2) + uniform(2, 4, 2), "nearest", 0.5),
)
case("image.gaussian_blur", (IMAGE, (3, 5), (1.0, 2.0), "channels_last"))
case("image.sobel_edges", IMAGE)
case("image.ssim", (uniform(2, 16, 17, 3), uniform(2, 16, 17, 3)))
case("image.rgb_to_grayscale", IMAGE, (IMAGE * 255).astype("uint8"), IMAGE[0])
case("image.rgb_to_hsv image.hsv_to_rgb", IMAGE, IMAGE[0])
case(
    "image.crop_images",
    (IMAGE, 1, 2, 3, 1),
    (IMAGE, {"top_cropping": 1, "left_cropping": 2, "target_height": 4, "target_width": 5}),
)
case(
    "image.pad_images",
    (IMAGE, 1, 2, 3, 1),
    (IMAGE, {"top_padding": 1, "left_padding": 2, "target_height": 14, "target_width": 15}),
)
case("image.extract_patches", (IMAGE, 3), (IMAGE, (2, 3), (1, 2), 1, "same"), (IMAGE, 2, 1, 2))
case("image.extract_patches_3d", (normal(1, 5, 6, 7, 2), 2), (normal(5, 6, 7, 2), (1, 2, 3), 2))
case("map", (lambda x: x * 2, A))
case("vectorized_map", (lambda x: x * 2, A))
case(
    "scan",
    (lambda c, x: (c + x, c * x), np.float32(1), A[0]),
    (lambda c, x: (c + x, c * x), np.float32(1), A[0], {"reverse": True}),
)
case("associative_scan", (lambda a, b: a + b, normal(7)), (lambda a, b: a * b, A, {"reverse": True, "axis": 1}))
case("fori_loop", (0, 5, lambda i, v: v + i, 1.0))
case("while_loop", (lambda i, v: i < 5, lambda i, v: (i + 1, v * 2), (0, 1.0)))
case("cond", (True, lambda: 1.0, lambda: 2.0))
case("switch", (1, [lambda x: x, lambda x: x * 2], A))
case("stop_gradient", A)
case("jvp", (lambda x: x * x, (A,), (B,)), (lambda x: (x * x, x), (A,), (B,), {"has_aux": True}))

# What is compared below in another way, or in tests/core alone: complex numbers, factorizations (unique up to
# signs), random fields, and sparsemax, whose rows do not sum to 1 in Keras 3.15.
APART = {
    "view_as_real",
    "view_as_complex",
    "polar",
    "eig",
    "vectorize",
    "eigh",
    "svd",
    "qr",
    "argpartition",
    "histogram",
    "image.elastic_transform",
    "sparsemax",
    "custom_gradient",
}


def resolve(module, name):
    for part in name.split("."):
        module = getattr(module, part)
    return module


def split_call(call):
    return (call[:-1], call[-1]) if call and isinstance(call[-1], dict) else (call, {})


def leaves(value):
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in leaves(part)]
    return [value if isinstance(value, str) else np.asarray(value)]


PARAMETERS = [
    pytest.param(name, call, id=f"{name}-{i}")
    for name, calls in CASES.items()
    for i, call in enumerate(calls)
    if name not in APART
]


@pytest.mark.parametrize(("name", "call"), PARAMETERS)
def test_same_result(name, call):
    arguments, options = split_call(call)
    with np.errstate(all="ignore"):
        expected = leaves(resolve(keras.ops, name)(*arguments, **options))
    received = leaves(resolve(ops, name)(*arguments, **options))
    assert len(received) == len(expected)
    for a, b in zip(received, expected, strict=True):
        if isinstance(b, str):
            assert a == b
            continue
        assert a.shape == b.shape
        assert a.dtype.kind == b.dtype.kind or {a.dtype.kind, b.dtype.kind} <= set("iu")
        scale = max(1.0, float(np.max(np.abs(b), initial=0, where=np.isfinite(b)))) if b.dtype.kind == "f" else 1
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * scale)


def test_complex_pairs():
    x = normal(3, 2)
    pair = ops.view_as_complex(x)
    np.testing.assert_array_equal(np.asarray(keras.ops.view_as_complex(x)), pair[0].numpy() + 1j * pair[1].numpy())
    np.testing.assert_array_equal(ops.view_as_real(pair), x)
    real, imaginary = ops.polar(P, A)
    np.testing.assert_allclose(np.asarray(keras.ops.polar(P, A)), real.numpy() + 1j * imaginary.numpy(), rtol=1e-5)


def test_factorizations():
    square = normal(4, 4)
    (real, imaginary), (vectors, further) = ops.eig(square)
    theirs, their_vectors = keras.ops.eig(square)
    found, vectors = np.asarray(real) + 1j * np.asarray(imaginary), np.asarray(vectors) + 1j * np.asarray(further)
    order, others = np.lexsort((found.imag, found.real)), np.lexsort((np.imag(theirs), np.real(theirs)))
    np.testing.assert_allclose(found[order], np.asarray(theirs)[others], rtol=1e-4, atol=1e-5)
    overlaps = np.abs((vectors[:, order].conj() * np.asarray(their_vectors)[:, others]).sum(0))
    np.testing.assert_allclose(overlaps, np.ones(4), rtol=1e-4)  # the same but for a phase
    for a, b in ((ops.eigh(SPD), keras.ops.eigh(SPD)), (ops.svd(X[0, 0]), keras.ops.svd(X[0, 0]))):
        for part, other in zip(a, b, strict=True):
            np.testing.assert_allclose(np.abs(part), np.abs(other), rtol=1e-4, atol=1e-4)
    for mode in ("reduced", "complete"):
        for part, other in zip(ops.qr(A.T, mode), keras.ops.qr(A.T, mode), strict=True):
            np.testing.assert_allclose(np.abs(part), np.abs(other), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ops.svd(A, compute_uv=False), keras.ops.svd(A, compute_uv=False), rtol=1e-5)


def public(module):
    return {name for name in dir(module) if not name.startswith("_")}


def test_every_function_is_there_and_compared():
    spaces = {"image", "linalg", "nn", "numpy"}
    assert public(keras.ops) <= set(ops.__all__)
    assert public(keras.ops) - spaces <= set(CASES) | APART
    assert {f"image.{name}" for name in public(keras.ops.image)} <= set(CASES) | APART
    for space in spaces:
        assert public(getattr(keras.ops, space)) <= public(getattr(ops, space)), space
    # numpy's name of mod, and what BatchNormalization is made of
    assert set(ops.__all__) - public(keras.ops) == {"remainder", "standardize"}


def test_same_parameters():
    for name in sorted(set(CASES) - APART):
        theirs = inspect.signature(resolve(keras.ops, name)).parameters
        ours = inspect.signature(resolve(ops, name)).parameters
        expected = [n for n in theirs if n not in ("kwargs", "sparse", "ragged")]
        assert [n for n in ours if n != "sparse"][: len(expected)] == expected, name


def test_vectorize():
    def spread(a, b):
        return a * 2 + b

    for library in (ops, keras.ops):
        made = library.vectorize(spread)(A, A[0])
        np.testing.assert_allclose(made, A * 2 + A[0], rtol=1e-5)
    for signature, function, given in (
        ("(m,n),(n)->(m)", lambda module: module.matmul, (normal(5, 1, 2, 3), normal(4, 3))),
        ("(n)->()", lambda module: module.max, (normal(2, 3, 4),)),
        ("(),(n)->(n)", lambda module: module.multiply, (normal(2, 1), normal(3, 4))),
    ):
        ours, theirs = (m.vectorize(function(m), signature=signature)(*given) for m in (ops, keras.ops))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    scaled = ops.vectorize(lambda a, power: a**power, excluded={1})(A, 2)
    np.testing.assert_allclose(scaled, A**2, rtol=1e-5)
