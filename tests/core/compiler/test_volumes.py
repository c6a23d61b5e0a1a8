"""Convolutions and pools over three axes: kernels for all of them, and the numbers of the references."""

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler.plan import Plan


def compiled(function, *arrays):
    """The results of compiled code that never calls numpy, in the structure of the function's."""
    graph = core.trace(function, *map(core.tensor, arrays))
    plan = Plan(graph)
    assert all(step.call is None for step in plan.steps)
    return plan.run(arrays)


GEOMETRIES = {
    "plain": ((2, 4, 5, 6, 3), (2, 3, 2, 3, 4), {}),
    "same": ((1, 5, 4, 6, 2), (3, 3, 3, 2, 5), {"padding": "same"}),
    "strided": ((2, 7, 6, 5, 3), (3, 2, 3, 3, 4), {"strides": (2, 1, 2), "padding": "same"}),
    "strided by more than the filter": ((1, 8, 4, 4, 2), (2, 1, 1, 2, 3), {"strides": (3, 1, 1)}),
    "dilated": ((1, 7, 6, 5, 2), (2, 2, 2, 2, 3), {"dilation_rate": (3, 1, 2)}),
    "grouped": ((2, 4, 4, 3, 6), (3, 2, 2, 3, 4), {"padding": "same"}),
    "each channel by itself": ((1, 4, 5, 4, 3), (2, 3, 3, 1, 3), {"padding": "same"}),
    "points": ((2, 3, 4, 3, 5), (1, 1, 1, 5, 2), {}),
    "one channel": ((1, 6, 6, 6, 1), (3, 3, 3, 1, 2), {}),
}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolution_and_gradients(name, dtype):
    x_shape, w_shape, options = GEOMETRIES[name]
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(dtype) for shape in (x_shape, w_shape))

    def function(x, w):
        def loss(x, w):
            return ops.sum(ops.sin(ops.conv(x, w, **options)))

        return [ops.conv(x, w, **options), *core.grad(loss, (0, 1))(x, w)]

    expected = function(core.tensor(x), core.tensor(w))
    for a, b in zip(expected, compiled(function, x, w), strict=True):
        np.testing.assert_allclose(
            b, a.numpy(), **({"rtol": 1e-12, "atol": 1e-12} if dtype == "float64" else {"rtol": 2e-4, "atol": 2e-5})
        )


@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"strides": (2, 1, 2), "padding": "same"}])
def test_transposed_convolution(options):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3, 4, 3, 4)), rng.normal(size=(3, 2, 2, 5, 4))

    def function(x, w):
        return [
            ops.conv_transpose(x, w, **options),
            *core.grad(lambda x, w: ops.sum(ops.conv_transpose(x, w, **options) ** 2), (0, 1))(x, w),
        ]

    for a, b in zip(function(core.tensor(x), core.tensor(w)), compiled(function, x, w), strict=True):
        np.testing.assert_allclose(b, a.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pool", [ops.max_pool, ops.average_pool])
@pytest.mark.parametrize("options", [{}, {"strides": (1, 2, 1), "padding": "same"}])
def test_pools(pool, options):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 6, 3))

    def function(x):
        return [pool(x, (3, 2, 2), **options), core.grad(lambda x: ops.sum(ops.sin(pool(x, (3, 2, 2), **options))))(x)]

    for a, b in zip(function(core.tensor(x)), compiled(function, x), strict=True):
        np.testing.assert_allclose(b, a.numpy(), rtol=1e-12, atol=1e-12)
