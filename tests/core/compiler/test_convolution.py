"""Convolutions and their gradients by the micro-kernel against sums of matrix products."""

import numpy as np
import pytest

from tenzoo.core.compiler import convolution
from tenzoo.core.compiler.convolution import Convolution
from tenzoo.core.compiler.loops import f32, f64

from .test_contraction import TOLERANCE, execute, relative_error


def geometry(images, size, channels, filters, kernel, stride=1, dilation=1, groups=1, same=True, type_=f32):
    size = size if isinstance(size, tuple) else (size, size)
    reach = (kernel - 1) * dilation + 1
    if same:
        out = tuple(-(-s // stride) for s in size)
        pad = tuple(max(0, (o - 1) * stride + reach - s) // 2 for o, s in zip(out, size))
    else:
        out, pad = tuple((s - reach) // stride + 1 for s in size), (0, 0)
    two = lambda n: (n, n)
    return Convolution(
        images, size, channels, two(kernel), filters, out, two(stride), two(dilation), pad, groups, type_
    )


def taps(conv, padded):
    """For each filter element and group, the pixels of the padded input that it sees."""
    c = conv.channels // conv.groups
    for i in range(conv.kernel[0]):
        for j in range(conv.kernel[1]):
            y, x = i * conv.dilation[0], j * conv.dilation[1]
            rows = slice(y, y + (conv.out[0] - 1) * conv.stride[0] + 1, conv.stride[0])
            columns = slice(x, x + (conv.out[1] - 1) * conv.stride[1] + 1, conv.stride[1])
            for group in range(conv.groups):
                yield i, j, group, padded[:, rows, columns, group * c : (group + 1) * c]


def pad(conv, x):
    extent = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(conv.out, conv.stride, conv.kernel, conv.dilation)]
    shape = [max(e, p + s) for e, p, s in zip(extent, conv.pad, conv.size)]
    padded = np.zeros((conv.images, *shape, conv.channels))
    inner = padded[:, conv.pad[0] : conv.pad[0] + conv.size[0], conv.pad[1] : conv.pad[1] + conv.size[1]]
    inner[:] = x
    return padded, inner


def reference(conv, x, w, dy):
    """Return y, the input gradient and the filter gradient."""
    n = conv.filters // conv.groups
    padded, _ = pad(conv, x)
    padded_gradient, dx = pad(conv, 0)
    y, dw = np.zeros(dy.shape), np.zeros(w.shape)
    both = zip(taps(conv, padded), taps(conv, padded_gradient))
    for (i, j, group, seen), (_, _, _, gradient) in both:
        own = slice(group * n, (group + 1) * n)
        y[..., own] += seen @ w[i, j, :, own]
        gradient += dy[..., own] @ w[i, j, :, own].T
        dw[i, j, :, own] = np.tensordot(seen, dy[..., own], ((0, 1, 2), (0, 1, 2)))
    return y, dx, dw


CASES = {
    "3x3": geometry(images=2, size=7, channels=3, filters=5, kernel=3),
    "many images in a block": geometry(images=9, size=3, channels=8, filters=8, kernel=3),
    "several blocks of channels": geometry(images=5, size=4, channels=70, filters=33, kernel=3),
    "large image": geometry(images=1, size=(20, 33), channels=40, filters=50, kernel=3),
    "1x1": geometry(images=2, size=8, channels=16, filters=24, kernel=1),
    "1x1 strided": geometry(images=2, size=8, channels=5, filters=6, kernel=1, stride=2),
    "strided": geometry(images=3, size=9, channels=4, filters=17, kernel=3, stride=2),
    "stride above kernel": geometry(images=2, size=6, channels=4, filters=4, kernel=2, stride=3),
    "even kernel": geometry(images=2, size=8, channels=3, filters=3, kernel=4, stride=2),
    "7x7 strided": geometry(images=1, size=13, channels=3, filters=4, kernel=7, stride=2),
    "dilated": geometry(images=2, size=11, channels=6, filters=8, kernel=3, dilation=2),
    "grouped": geometry(images=2, size=10, channels=8, filters=12, kernel=3, groups=2),
    "grouped strided": geometry(images=2, size=10, channels=8, filters=12, kernel=3, groups=4, stride=2),
    "valid": geometry(images=2, size=9, channels=4, filters=4, kernel=5, same=False),
    "valid strided": geometry(images=2, size=(9, 12), channels=64, filters=4, kernel=3, stride=2, same=False),
    "double": geometry(images=2, size=7, channels=5, filters=5, kernel=3, type_=f64),
    "depthwise": geometry(images=2, size=9, channels=13, filters=13, kernel=3, groups=13),
    "depthwise strided": geometry(images=3, size=11, channels=20, filters=20, kernel=5, groups=20, stride=2),
    "depthwise dilated": geometry(images=2, size=9, channels=64, filters=64, kernel=3, groups=64, dilation=2),
    "depthwise double": geometry(images=1, size=8, channels=10, filters=10, kernel=3, groups=10, same=False, type_=f64),
    "depthwise multiplied": geometry(images=2, size=6, channels=4, filters=8, kernel=3, groups=4),
}


@pytest.mark.parametrize("name", CASES)
def test_convolution_and_gradients(name):
    conv = CASES[name]
    dtype = "float64" if conv.type is f64 else "float32"
    rng = np.random.default_rng(0)
    x = rng.normal(size=(conv.images, *conv.size, conv.channels)).astype(dtype)
    w = rng.normal(size=(*conv.kernel, conv.channels // conv.groups, conv.filters)).astype(dtype)
    dy = rng.normal(size=(conv.images, *conv.out, conv.filters)).astype(dtype)
    y, dx, dw = reference(conv, *(a.astype("f8") for a in (x, w, dy)))
    arrays = {"x": x, "w": w, "dy": dy}
    for make, expected in [
        (convolution.convolution, y),
        (convolution.input_gradient, dx),
        (convolution.filter_gradient, dw),
    ]:
        got = execute(make(conv), {**arrays, "out": np.full(expected.shape, 9, dtype)})
        assert relative_error(got, expected) < TOLERANCE[dtype], make.__name__


@pytest.mark.parametrize("name", ["strided", "1x1", "depthwise strided", "several blocks of channels"])
def test_epilogue_sees_pixel_and_channel(name):
    conv = CASES[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(conv.images, *conv.size, conv.channels)).astype("f4")
    w = rng.normal(size=(*conv.kernel, conv.channels // conv.groups, conv.filters)).astype("f4")
    dy = rng.normal(size=(conv.images, *conv.out, conv.filters)).astype("f4")
    y, dx, dw = reference(conv, *(a.astype("f8") for a in (x, w, dy)))
    for make, expected in [
        (convolution.convolution, y),
        (convolution.input_gradient, dx),
        (convolution.filter_gradient, dw.reshape(-1, conv.filters)),
    ]:
        scale, shift = (
            rng.normal(size=expected.shape[-1]).astype("f4"),
            rng.normal(size=expected.shape).astype("f4"),
        )

        def epilogue(b, value, place, extras, width=expected.shape[-1]):
            shift = b.load(value.type, extras[1], place.row * width + place.column)
            return value * b.load(value.type, extras[0], place.column) + shift

        arrays = {
            "x": x,
            "w": w,
            "dy": dy,
            "extra0": scale,
            "extra1": shift,
            "out": np.zeros(expected.shape, "f4"),
        }
        got = execute(make(conv, epilogue, 2), arrays)
        assert relative_error(got, expected * scale + shift) < 1e-5, make.__name__
