"""Convolutions of 3 x 3 by Winograd's products: against float64 sums, against the plain way, and around the edges."""

import dataclasses

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler import winograd
from tenzoo.core.compiler.emit_llvm import vector_bytes
from tenzoo.core.compiler.windows import Convolution

SHAPES = [  # images, height, width, channels, filters, padding: even and odd grids, blocks that are not full
    (4, 8, 8, 16, 16, "same"),
    (7, 9, 7, 16, 32, "same"),
    (3, 17, 17, 24, 48, "valid"),
    (9, 5, 5, 64, 80, "same"),
    (5, 32, 32, 16, 16, "same"),
    (1, 28, 28, 128, 64, "same"),
    (2, 16, 30, 40, 112, "valid"),
    (5, 7, 7, 256, 272, "same"),
]


def _data(images, height, width, channels, filters, padding, dtype="float32"):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(images, height, width, channels)).astype(dtype)
    w = (generator.normal(size=(3, 3, channels, filters)) / np.sqrt(9 * channels)).astype(dtype)
    less = 0 if padding == "same" else 2
    dy = generator.normal(size=(images, height - less, width - less, filters)).astype(dtype)
    return x, w, dy


def _expected(x, w, dy, padding):
    """The result and both gradients, summed tap by tap in float64."""
    x, w, dy = (value.astype("float64") for value in (x, w, dy))
    margin = 1 if padding == "same" else 0
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    y, dx, dw = np.zeros(dy.shape), np.zeros_like(padded), np.zeros_like(w)
    for i in range(3):
        for j in range(3):
            seen = np.s_[:, i : i + dy.shape[1], j : j + dy.shape[2]]
            y += padded[seen] @ w[i, j]
            dx[seen] += dy @ w[i, j].T
            dw[i, j] = np.einsum("nhwc,nhwf->cf", padded[seen], dy, optimize=True)
    return y, dx[:, margin : margin + x.shape[1], margin : margin + x.shape[2]], dw


def _all_three(x, w, dy, padding):
    y, pull = core.vjp(lambda x, w: ops.conv(x, w, strides=1, padding=padding), x, w)
    return (y, *pull(dy))


def _fits(images, height, width, channels, filters, padding):
    less = 0 if padding == "same" else 2
    out = (height - less, width - less)
    return winograd.fits(Convolution(images, (height, width), channels, (3, 3), filters, out), channels, filters)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_sums_in_float64(shape):
    lanes = vector_bytes() // 4
    assert _fits(*shape) == (shape[3] % lanes == 0 and shape[4] % (2 * lanes) == 0)  # always, but with wider vectors
    data = _data(*shape)
    made = core.jit(lambda *values: _all_three(*values, shape[-1]))(*data)
    for value, expected in zip(made, _expected(*data, shape[-1]), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=3e-6 * np.abs(expected).max())


def test_float64():
    data = _data(4, 9, 8, 16, 24, "same", "float64")
    made = core.jit(lambda *values: _all_three(*values, "same"))(*data)
    for value, expected in zip(made, _expected(*data, "same"), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14 * np.abs(expected).max())


def test_same_as_the_plain_way(monkeypatch):
    data = _data(3, 12, 11, 32, 32, "same")
    made = core.jit(lambda *values: _all_three(*values, "same"))(*data)
    monkeypatch.setenv("TENZOO_PASSES", "fuse,in_place")
    assert not _fits(3, 12, 11, 32, 32, "same")
    plain = core.jit(lambda *values: _all_three(*values, "same"))(*data)
    for value, other in zip(made, plain, strict=True):
        value, other = np.asarray(value), np.asarray(other)
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=3e-6 * np.abs(other).max())
        assert not np.array_equal(value, other)  # it was another way


@pytest.mark.parametrize("size", [(10, 10), (9, 11)], ids=str)
def test_epilogue(size):
    """Bias, residual and mask are applied to the pixels that there are, and stored with them."""
    x, w, residual = _data(6, *size, 16, 16, "same")
    bias = np.linspace(-1, 1, 16, dtype="float32")

    def function(x, w, bias, residual):
        y = ops.conv(x, w, strides=1, padding="same") + bias + residual
        return ops.relu(y), y > 0

    made, mask = core.jit(function)(x, w, bias, residual)
    expected = _expected(x, w, residual, "same")[0] + bias + residual
    np.testing.assert_allclose(made, np.maximum(expected, 0), rtol=1e-5, atol=3e-6 * np.abs(expected).max())
    sure = np.abs(expected) > 1e-5
    np.testing.assert_array_equal(np.asarray(mask)[sure], expected[sure] > 0)


def test_filters_transformed_ahead():
    """Filters that no call changes are transformed once; when they are assigned, again."""
    x, w, dy = _data(1, 14, 14, 32, 32, "same")
    variable = core.Variable(w)
    function = core.jit(lambda x: ops.conv(x, variable.value, strides=1, padding="same"))
    for scale in (1, -2):
        variable.assign(w * scale)
        expected = _expected(x, w, dy, "same")[0] * scale
        np.testing.assert_allclose(function(x), expected, rtol=1e-5, atol=3e-6 * np.abs(expected).max())


def test_infinity_stays_within_reach():
    """What is not finite makes the pixels under the filter not finite, and no others."""
    x, w, _ = _data(4, 12, 12, 16, 16, "same")
    x[1, 5, 6, 3], x[2, 0, 11, 0] = np.inf, np.nan
    made = np.asarray(core.jit(lambda x, w: ops.conv(x, w, strides=1, padding="same"))(x, w))
    reached = np.zeros(made.shape, bool)
    reached[1, 4:7, 5:8] = reached[2, :2, 10:] = True
    np.testing.assert_array_equal(np.isfinite(made), ~reached)


def test_runs_are_bit_identical():
    data = _data(5, 13, 13, 32, 48, "same")
    function = core.jit(lambda *values: _all_three(*values, "same"))
    first = [np.asarray(value).copy() for value in function(*data)]
    for _ in range(3):
        for value, before in zip(function(*data), first, strict=True):
            np.testing.assert_array_equal(value, before)


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": (5, 5)},
        {"stride": (2, 2)},
        {"dilation": (2, 2)},
        {"groups": 2},
        {"images": 1, "size": (8, 8), "out": (8, 8)},
        {"channels": 3},
        {"filters": 10},
        {"size": (16, 99999), "out": (16, 99999)},
    ],
    ids=str,
)
def test_left_to_the_plain_way(change):
    conv = dataclasses.replace(Convolution(8, (16, 16), 16, (3, 3), 16, (16, 16)), **change)
    assert not winograd.fits(conv, conv.channels, conv.filters)
