"""Random programs, forward and differentiated: compiled code has to compute what the numpy references compute."""

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler.plan import Plan

LARGEST = 5000  # elements


def axis(generator, x):
    return int(generator.integers(x.ndim))


# Each takes a generator and two values, and answers a value, or None where it does not fit them.
STEPS = [
    lambda g, a, b: ops.tanh(a),
    lambda g, a, b: ops.gelu(a),
    lambda g, a, b: a + b,
    lambda g, a, b: a * b * 0.5,
    lambda g, a, b: ops.where(a > 0.1, a, ops.relu(-a) * 0.3),
    lambda g, a, b: ops.reshape(a, (-1,)),
    lambda g, a, b: ops.softmax(a, -1) if a.ndim else None,
    lambda g, a, b: ops.flip(a, -1) if a.ndim else None,
    lambda g, a, b: ops.sum(a, axis(g, a), keepdims=bool(g.integers(2))) / 3 if a.ndim else None,
    lambda g, a, b: ops.max(a, axis(g, a), keepdims=bool(g.integers(2))) if a.ndim else None,
    lambda g, a, b: ops.layer_normalization(a) if a.ndim and a.shape[-1] > 1 else None,
    lambda g, a, b: a[1:] if a.ndim and a.shape[0] > 1 else None,
    lambda g, a, b: ops.split(a, 2, -1)[1] if a.ndim and a.shape[-1] % 2 == 0 else None,
    lambda g, a, b: ops.concatenate([a, b], -1) if a.ndim and a.shape == b.shape else None,
    lambda g, a, b: ops.transpose(a, g.permutation(a.ndim)) if a.ndim > 1 else None,
    lambda g, a, b: ops.reshape(a, (6, a.size // 6)) if a.ndim == 1 and a.size % 6 == 0 else None,
    lambda g, a, b: ops.matmul(a, b) * 0.2 if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0] else None,
]


def random_program(generator):
    """A function of tensors that applies steps chosen now to what came before, and answers some of the values."""
    seeds = generator.integers(0, 2**31, size=generator.integers(3, 16))

    def program(*inputs):
        values, results = list(inputs), []
        for seed in seeds:
            choice = np.random.default_rng(seed)
            step = STEPS[choice.integers(len(STEPS))]
            a, b = (values[choice.integers(len(values))] for _ in range(2))
            try:
                made = step(choice, a, b)
            except core.ShapeError:
                continue
            if made is None or made.size > LARGEST:
                continue
            values.append(made)
            if choice.integers(3) == 0:
                results.append(made)
        return [*results, values[-1]]

    return program


def differentiated(program):
    def loss(*inputs):
        parts = [(y * np.sin(np.arange(y.size)).reshape(y.shape)).sum() for y in program(*inputs)]
        return sum(parts, core.tensor(0.0, "float64"))

    return lambda *inputs: core.pytree.flatten(core.value_and_grad(loss, (0, 1, 2))(*inputs))


@pytest.mark.parametrize("seed", range(60))
def test_compiled_equals_eager(seed):
    generator = np.random.default_rng(seed)
    program = random_program(generator)
    function = differentiated(program) if seed % 2 else program
    shapes = [(6, 4), (4, 6), (6, 4)] if generator.integers(2) else [(2, 3, 4), (3, 4), (4,)]
    inputs = [core.tensor(generator.normal(size=shape)) for shape in shapes]
    expected = function(*inputs)
    received = Plan(core.trace(function, *inputs)).run([x.numpy() for x in inputs])
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_allclose(b, a.numpy(), rtol=1e-9, atol=1e-10)
