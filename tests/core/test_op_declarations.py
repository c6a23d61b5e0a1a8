"""One test over all declared ops: rule, reference, gradient and graph have to agree on every case."""

import zlib

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import primitives
from tenzoo.core.op import Op, spec_of

CASES = [
    pytest.param(op, case, id=f"{op.name}-{i}")
    for op in Op.registry.values()
    for i, case in enumerate(op.cases() if callable(op.cases) else op.cases)
]
DIFFERENTIABLE = [p for p in CASES if p.values[1].differentiable]


def make_inputs(op, case, dtype="float64"):
    generator = np.random.default_rng(zlib.crc32(op.name.encode()))
    inputs = []
    for item in case.inputs:
        if isinstance(item, tuple):
            inputs.append(generator.uniform(case.low, case.high, item).astype(dtype))
        else:
            inputs.append(item.astype(dtype) if item.dtype.kind == "f" else item)
    return inputs


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def test_every_op_has_cases():
    assert primitives.__all__
    assert [op.name for op in Op.registry.values() if not op.cases] == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("op", "case"), CASES)
def test_rule_agrees_with_reference(op, case, dtype):
    arrays = make_inputs(op, case, dtype)
    tensors = [core.tensor(array) for array in arrays]
    specs = op.rule(*tensors, **case.attributes)
    specs = specs if type(specs) is tuple else (specs,)
    with np.errstate(all="ignore"):
        results = as_tuple(op.reference(*arrays, **case.attributes))
    assert [(np.shape(r), np.asarray(r).dtype) for r in results] == [(s.shape, s.dtype) for s in specs]


@pytest.mark.parametrize(("op", "case"), CASES)
def test_reference_takes_views(op, case):
    """Transposed and strided inputs give the same result as contiguous ones."""
    arrays = make_inputs(op, case)
    views = [np.asfortranarray(np.repeat(a, 2, -1))[..., ::2] if a.ndim else a for a in arrays]
    with np.errstate(all="ignore"):
        expected = as_tuple(op.reference(*arrays, **case.attributes))
        received = as_tuple(op.reference(*views, **case.attributes))
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(("op", "case"), CASES)
def test_traced_equals_eager(op, case):
    tensors = [core.tensor(array) for array in make_inputs(op, case)]
    eager = as_tuple(op(*tensors, **case.attributes))
    graph = core.trace(lambda *inputs: op(*inputs, **case.attributes), *tensors)
    assert [spec_of(t) for t in as_tuple(graph.result)] == [spec_of(t) for t in eager]
    for a, b in zip(eager, as_tuple(graph(*tensors)), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def scalar_function(op, case, arrays):
    """The op as a function of its float inputs to one number, with the points to differentiate at."""
    floats = [i for i, array in enumerate(arrays) if array.dtype.kind == "f"]
    generator = np.random.default_rng(1)
    weights = {}

    def function(*values):
        inputs = [core.tensor(array) for array in arrays]
        for i, value in zip(floats, values, strict=True):
            inputs[i] = core.tensor(value)
        total = core.tensor(0.0, "float64")
        for i, output in enumerate(as_tuple(op(*inputs, **case.attributes))):
            if output.dtype.kind == "f":
                if i not in weights:
                    weights[i] = generator.normal(size=output.shape)
                total = total + (output * weights[i]).sum()
        return total

    return function, [arrays[i] for i in floats]


def directional(function, points, directions, step=1e-6):
    ahead = function(*(p + step * d for p, d in zip(points, directions, strict=True)))
    behind = function(*(p - step * d for p, d in zip(points, directions, strict=True)))
    return (float(ahead) - float(behind)) / (2 * step)


def check_gradient(function, points):
    arguments = tuple(range(len(points)))
    gradients = core.grad(function, arguments)(*map(core.tensor, points))
    generator = np.random.default_rng(2)
    for _ in range(3):
        directions = [generator.normal(size=p.shape) for p in points]
        expected = directional(function, points, directions)
        parts = [g.numpy() * d for g, d in zip(gradients, directions, strict=True)]
        size = max(1.0, sum(np.abs(part).sum() for part in parts))
        assert abs(sum(part.sum() for part in parts) - expected) <= 1e-6 * size
    return gradients


@pytest.mark.parametrize(("op", "case"), DIFFERENTIABLE)
def test_gradient_against_finite_differences(op, case):
    function, points = scalar_function(op, case, make_inputs(op, case))
    check_gradient(function, points)


@pytest.mark.parametrize(("op", "case"), DIFFERENTIABLE)
def test_second_gradient_against_finite_differences(op, case):
    function, points = scalar_function(op, case, make_inputs(op, case))
    generator = np.random.default_rng(3)
    weights = [generator.normal(size=p.shape) for p in points]
    arguments = tuple(range(len(points)))

    def slope(*values):
        gradients = core.grad(function, arguments)(*values)
        return sum(((g * w).sum() for g, w in zip(gradients, weights, strict=True)), core.tensor(0.0, "float64"))

    check_gradient(slope, points)


@pytest.mark.parametrize(("op", "case"), DIFFERENTIABLE)
def test_forward_mode_equals_reverse_mode(op, case):
    function, points = scalar_function(op, case, make_inputs(op, case))
    generator = np.random.default_rng(4)
    tangents = [generator.normal(size=p.shape) for p in points]
    _, pushed = core.jvp(function, points, tangents)
    gradients = core.grad(function, tuple(range(len(points))))(*points)
    expected = sum((g.numpy() * t).sum() for g, t in zip(gradients, tangents, strict=True))
    np.testing.assert_allclose(float(pushed), expected, rtol=1e-9, atol=1e-9)
