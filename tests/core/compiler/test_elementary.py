"""exp, log and their kin against extended precision."""

import numpy as np
import pytest

from tenzoo.core.compiler.loops import Module, index, of_dtype, ptr

from .test_loops import compiled, elementwise


def erf(x):
    """By its series of positive terms, in extended precision."""
    x = np.asarray(x, np.longdouble)
    size = np.minimum(abs(x), np.longdouble(8))
    term, total = size.copy(), np.zeros_like(size)
    for n in range(300):
        total += term
        term = term * 2 * size * size / (2 * n + 3)
    root_pi = np.sqrt(np.longdouble("3.14159265358979323846264338"))
    value = np.minimum(2 / root_pi * np.exp(-size * size) * total, 1)
    return np.where(np.isnan(x), x, np.copysign(value, x))


def units_in_last_place(got, expected):
    """Distance in units of the last place; 0 where both are the same infinity or both NaN."""
    with np.errstate(all="ignore"):
        rounded = expected.astype(got.dtype)
        unit = np.spacing(np.where(np.isfinite(rounded), abs(rounded), 1).astype(got.dtype)).astype(np.longdouble)
        distance = abs(got.astype(np.longdouble) - expected) / unit
        same = (np.isnan(got) & np.isnan(expected)) | (got == rounded)
    return np.where(same, 0, np.where(np.isnan(distance), np.inf, distance)).max()


def arguments(dtype, *spans):
    rng, info = np.random.default_rng(0), np.finfo(dtype)
    special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        np.inf,
        -np.inf,
        np.nan,
        info.max,
        -info.max,
        info.tiny,
        info.smallest_subnormal,
    ]
    return np.concatenate([np.array(special), *(rng.uniform(lo, hi, 3000) for lo, hi in spans)]).astype(dtype)


CASES = {
    "exp": (np.exp, [(-1e-3, 1e-3), (-104, 89), (-746, 710)], 1.1),
    "expm1": (np.expm1, [(-1e-4, 1e-4), (-2, 2), (-50, 89), (80, 710)], 2),
    "log": (np.log, [(0, 1e-40), (0.5, 2), (0.999, 1.001), (0, 1e30)], 1.1),
    "log1p": (np.log1p, [(-1e-7, 1e-7), (-1, 2), (0, 1e30)], 2),
    "tanh": (np.tanh, [(-1e-4, 1e-4), (-1, 1), (-20, 20)], {"float32": 6, "float64": 3}),
    "erf": (erf, [(-1e-4, 1e-4), (-1.1, 1.1), (-6, 6)], {"float32": 6, "float64": 4}),
    "sin": (np.sin, [(-1e-4, 1e-4), (-10, 10), (-1e5, 1e5), (-2e12, 2e12), (-3e38, 3e38)], 2),
    "cos": (np.cos, [(-1e-4, 1e-4), (-10, 10), (-1e5, 1e5), (-2e12, 2e12), (-3e38, 3e38)], 2),
}


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="no extended precision to compare with")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_accuracy(name, dtype):
    reference, spans, bound = CASES[name]
    x = arguments(dtype, *spans)
    got = elementwise(lambda b, x: getattr(b, name)(x), x, out=dtype)
    with np.errstate(all="ignore"):
        expected = reference(x.astype(np.longdouble))
    if name == "exp":  # nothing below the normal numbers, or just above
        tiny = expected < 4 * np.finfo(dtype).tiny
        assert np.all((got[tiny] == 0) | (abs(got[tiny] - expected[tiny]) < 1e-6 * expected[tiny]))
        got, expected = got[~tiny], expected[~tiny]
    assert units_in_last_place(got, expected) <= (bound[dtype] if isinstance(bound, dict) else bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_large_angles(name, dtype):
    """Among others in a vector, in scalar code, and in vectors that the kernel holds itself."""
    x = np.ldexp(np.random.default_rng(0).uniform(-2, 2, 2000), np.arange(2000) % 127).astype(dtype)
    got = elementwise(lambda b, x: getattr(b, name)(x), x, out=dtype)
    np.testing.assert_allclose(got, getattr(np, name)(x), rtol=0, atol=4 * np.finfo(dtype).eps)
    alone = np.concatenate([elementwise(lambda b, x: getattr(b, name)(x), x[i : i + 1], out=dtype) for i in (3, 50)])
    np.testing.assert_array_equal(alone, got[[3, 50]])
    module, type_ = Module(), of_dtype(np.dtype(dtype)).vector(4)
    with module.function("f", [ptr, ptr, index]) as (b, source, target, n), b.loop(0, n, step=4) as i:
        b.store(getattr(b, name)(b.load(type_, source, i)), target, i)
    held = np.empty_like(x)
    compiled(module, 2, "blocks")(x, held)
    np.testing.assert_array_equal(held, got)


@pytest.mark.parametrize("name", ["sin", "tanh", "erf", "expm1", "log1p"])
def test_negative_zero_keeps_its_sign(name):
    x = np.full(20, -0.0, "float32")
    assert np.signbit(elementwise(lambda b, x: getattr(b, name)(x), x, out="float32")).all()


@pytest.mark.parametrize("function", [np.tanh, erf])
def test_bounded_functions_stay_within_one(function):
    x = np.concatenate([np.linspace(-20, 20, 200_001), np.nextafter(np.float32(9), [0, 10]), [np.inf, -np.inf]])
    got = elementwise(lambda b, x: getattr(b, function.__name__)(x), x.astype("float32"), out="float32")
    assert abs(got).max() == 1


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="no extended precision to compare with")
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 0.51), ("float64", 25)])
def test_power(dtype, bound):
    rng = np.random.default_rng(0)
    special = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, np.inf, -np.inf, np.nan, -2.5, 0.5, 3.0, 1e30]
    x, y = (a.ravel() for a in np.meshgrid(special, special))
    x = np.concatenate([x, np.exp(rng.uniform(-60, 60, 3000)), rng.uniform(-2, 2, 500)]).astype(dtype)
    y = np.concatenate([y, rng.uniform(-12, 12, 3000), rng.integers(-9, 9, 500)]).astype(dtype)
    got = elementwise(lambda b, x, y: b.power(x, y), x, y, out=dtype)
    with np.errstate(all="ignore"):
        assert units_in_last_place(got, np.power(x.astype(np.longdouble), y.astype(np.longdouble))) <= bound


def test_half_width_floats_are_computed_in_single():
    x = np.linspace(-5, 5, 100).astype("float16")
    got = elementwise(lambda b, x: b.tanh(x), x, out="float16")
    np.testing.assert_array_equal(got, np.tanh(x.astype("float64")).astype("float16"))
