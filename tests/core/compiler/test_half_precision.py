"""Half precision in compiled code: two bytes in memory, float32 in registers, rounded to nearest even when stored."""

import importlib.util
import pathlib

import ml_dtypes
import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler.plan import Plan
from tenzoo.core.compiler.simplify import PASSES


def module_of(path):
    spec = importlib.util.spec_from_file_location(f"half_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_here = pathlib.Path(__file__).parent
declarations = module_of(_here.parent / "test_op_declarations.py")
random_programs = module_of(_here / "test_random_programs.py")

HALVES = ("bfloat16", "float16")
SPACING = {"bfloat16": 2.0**-7, "float16": 2.0**-10}  # relative, between neighbouring numbers


def compiled(function, *inputs):
    """The results of a function, as arrays, and the steps of its plan."""
    plan = Plan(core.trace(function, *inputs))
    return plan.run([x.numpy() for x in inputs]), plan.steps


def wide(array):
    with np.errstate(invalid="ignore"):  # of signalling NaN
        return np.asarray(array).astype("float64")


@pytest.mark.parametrize("dtype", HALVES)
def test_every_number_survives_the_way_through_registers(dtype):
    every = np.arange(1 << 16, dtype="uint16").view(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    (same, single), _ = compiled(lambda x: (x[::-1], ops.cast(x, "float32")), core.tensor(every))
    np.testing.assert_array_equal(wide(same), wide(every)[::-1])
    np.testing.assert_array_equal(single, every.astype("float32"))
    assert same.dtype == dtype


@pytest.mark.parametrize("dtype", HALVES)
def test_results_are_rounded_to_nearest_even(dtype):
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 17, "uint32")
    exact = np.arange(1 << 16, dtype="uint32") << 16  # and every tie of bfloat16
    x = np.concatenate([bits, exact, exact | 0x8000]).view("float32")
    (got,), _ = compiled(lambda x: ops.cast(x, dtype), core.tensor(x))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(wide(got), wide(x.astype(core.dtypes.as_dtype(dtype))))


@pytest.mark.parametrize("dtype", HALVES)
def test_a_cast_rounds_although_nothing_is_stored(dtype):
    x = core.tensor(np.random.default_rng(0).normal(size=100).astype("float32"))
    there_and_back = lambda x: ops.cast(ops.cast(x, dtype), "float32")
    (got,), steps = compiled(there_and_back, x)
    np.testing.assert_array_equal(got, there_and_back(x).numpy())
    assert len(steps) == 1
    (constant,), _ = compiled(lambda x: x + ops.cast(ops.cast(core.tensor(0.1), dtype), "float32"), x * 0)
    assert constant[0] == np.float32(core.dtypes.as_dtype(dtype).type(0.1))


def has_floats(op, case):
    return any(array.dtype == "float32" for array in declarations.make_inputs(op, case, "float32"))


LEFT_OUT = ("view", "nextafter")  # are about the numbers' bits, which differ
LEFT_OUT += ("attention_gradient", "attention_bias_gradient")  # rounded inputs no longer belong together
CASES = [p for p in declarations.CASES if has_floats(*p.values) and p.values[0].name not in LEFT_OUT]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("op", "case"), CASES)
def test_compiled_op_equals_reference(op, case, dtype):
    arrays = declarations.make_inputs(op, case, "float32")
    tensors = [core.tensor(a, dtype if a.dtype == "float32" else None) for a in arrays]
    expected = declarations.as_tuple(op(*tensors, **case.attributes))
    received, _ = compiled(lambda *inputs: op(*inputs, **case.attributes), *tensors)
    for result, reference in zip(received, expected, strict=True):
        assert result.dtype == reference.dtype and result.shape == reference.shape
        tolerance = SPACING[dtype] if core.dtypes.is_floating(reference.dtype) else 0
        np.testing.assert_allclose(wide(result), wide(reference), rtol=tolerance, atol=1e-6 if tolerance else 0)


def gradient(function):
    """The gradient of a weighted sum of a function's square, by all its arguments."""

    def loss(*values):
        result = ops.cast(function(*values), "float32")
        return (result * result * np.sin(np.arange(result.size, dtype="float32")).reshape(result.shape)).mean()

    return lambda *inputs: core.grad(loss, tuple(range(len(inputs))))(*inputs)


def recurrence(x, w):
    """A scan whose carry has half precision, as have the weights, which are the same in every iteration."""
    return ops.scan(lambda h, x: ((y := ops.tanh(x + h @ w)), y), ops.zeros((3, 4), x.dtype), x)[1]


LABELS = np.random.default_rng(1).integers(0, 10, 64)
FUSED = {
    "dense": (lambda x, w, b: ops.relu(x @ w + b), (33, 20), (20, 17), (17,)),
    "dense gradient": (gradient(lambda x, w, b: ops.tanh(x @ w + b)), (33, 20), (20, 17), (17,)),
    "views of one product": (
        lambda x, w: ops.einsum("abc,adc->abd", *ops.split(ops.reshape(x @ w, (6, 4, 8)), 2, 1)),
        (24, 5),
        (5, 8),
    ),
    "transposed operands": (lambda x, w: ops.transpose(x) @ ops.transpose(w), (20, 33), (17, 20)),
    "many terms": (lambda x, w: x @ w, (3, 9000), (9000, 5)),
    "convolution": (gradient(lambda x, w: ops.relu(ops.conv(x, w, 2, "same"))), (3, 9, 8, 4), (3, 3, 4, 6)),
    "depthwise convolution": (
        gradient(lambda x, w: ops.depthwise_conv(x, w, 1, "same")),
        (3, 9, 8, 4),
        (3, 3, 4, 1),
    ),
    "pooling": (gradient(lambda x: ops.max_pool(x, 2) + ops.average_pool(x, 2)), (3, 8, 8, 5)),
    "embedding": (gradient(lambda t: ops.take(t, np.arange(600) % 7, 0)), (7, 5)),
    "softmax": (gradient(ops.softmax), (64, 100)),
    "layer normalisation": (ops.layer_normalization, (64, 100), (100,), (100,)),
    "long sums": (lambda x: (ops.sum(x), ops.mean(x * x, (0, 2))), (64, 40, 32)),
    "columns": (lambda x: ops.sum(x * x, 0), (500, 40)),
    "cumulative": (lambda x: ops.cumsum(x, 1), (5, 300)),
    "recurrence": (gradient(recurrence), (6, 3, 4), (4, 4)),
}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", FUSED)
def test_fused_code_is_as_exact_as_half_precision_allows(name, dtype):
    function, *shapes = FUSED[name]
    generator = np.random.default_rng(0)
    inputs = [core.tensor(generator.normal(size=shape), dtype) for shape in shapes]
    exact = declarations.as_tuple(function(*(ops.cast(x, "float64") for x in inputs)))
    received, steps = compiled(function, *inputs)
    for result, reference, eager in zip(received, exact, declarations.as_tuple(function(*inputs)), strict=True):
        assert result.dtype == eager.dtype == dtype
        scale = np.abs(reference.numpy()).max()
        error = np.abs(wide(result) - reference.numpy()).max() / scale
        allowed = np.abs(wide(eager) - reference.numpy()).max() / scale
        assert error <= 1.5 * allowed + SPACING[dtype], (error, allowed)
    assert all(step.kernel is not None or step.loops for step in steps)


@pytest.mark.parametrize("seed", range(16))
def test_random_programs(seed):
    generator, dtype = np.random.default_rng(1000 + seed), HALVES[seed // 2 % 2]
    program = random_programs.random_program(generator)
    function = gradient_of_all(program) if seed % 2 else program
    inputs = [core.tensor(generator.normal(size=shape), dtype) for shape in ((6, 4), (4, 6), (6, 4))]
    exact, eager = function(*(ops.cast(x, "float32") for x in inputs)), function(*inputs)
    received, _ = compiled(function, *inputs)
    for found, rounded, reference in zip(received, eager, exact, strict=True):
        scale = max(np.abs(wide(reference)).max(initial=0), 1e-3)
        error, allowed = (np.abs(wide(y) - wide(reference)).max(initial=0) / scale for y in (found, rounded))
        assert error <= 3 * allowed + 6 * SPACING[dtype]


def gradient_of_all(program):
    def loss(*inputs):
        weighted = [ops.cast(y, "float32") * np.sin(np.arange(y.size, dtype="float32")).reshape(y.shape)
                    for y in program(*inputs)]  # fmt: skip
        return sum((part.sum() for part in weighted), core.tensor(0.0))

    return lambda *inputs: list(core.grad(loss, (0, 1, 2))(*inputs))


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_do_not_stop_where_the_next_term_is_too_small(dtype):
    x = core.tensor(np.full((8192, 2), 0.5), dtype)
    indices = np.zeros(8192, "int32")
    for function in (
        lambda x: ops.sum(x, 0),
        lambda x: ops.sum(ops.transpose(x), 1),
        lambda x: ops.transpose(x) @ ops.ones(8192, dtype),
        lambda x: ops.cumsum(x, 0)[-1],
        lambda x: ops.segment_sum(x, indices, 1)[0],
        lambda x: ops.average_pool(ops.reshape(x, (128, 64, 2)), 64)[0, 0] * 8192,
    ):
        np.testing.assert_array_equal(wide(function(x)), 4096)
        (got,), _ = compiled(function, x)
        np.testing.assert_array_equal(wide(got), 4096)


@pytest.mark.parametrize("dtype", HALVES)
def test_weights_are_cast_once_for_all_iterations_of_a_loop(dtype):
    """And what they learn from each iteration is added up in float32."""

    def function(x, w):
        def step(h, x):
            h = ops.tanh(x + h @ ops.cast(w, dtype))
            return h, h

        return ops.sum(ops.cast(ops.scan(step, ops.zeros((3, 4), dtype), x)[1], "float32"))

    generator = np.random.default_rng(0)
    x, w = core.tensor(generator.normal(size=(6, 3, 4)), dtype), core.tensor(generator.normal(size=(4, 4)), "float32")
    gradients = core.grad(function, (0, 1))
    loops = [node for node in PASSES["casts"](core.trace(gradients, x, w)).nodes() if node.op.name == "scan"]
    for loop in loops:
        body = loop.attributes["body"]
        symbols = {v.key for v in body.part(body.graph.inputs, "constants")}
        casts = [node for node in body.graph.nodes() if node.op.name == "cast"]
        assert not any(node.inputs[0].key in symbols for node in casts)
    assert len(loops) == 2
    received, _ = compiled(gradients, x, w)
    for found, expected in zip(received, gradients(x, w), strict=True):
        assert found.dtype == expected.dtype
        scale = np.abs(wide(expected)).max()
        np.testing.assert_allclose(wide(found), wide(expected), atol=4 * SPACING[dtype] * scale)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_takes_half_the_memory(dtype):
    """What waits for the backward pass is kept in two bytes an element."""

    def network(*weights):
        def loss(*weights):
            x = weights[0]
            for w in weights[1:]:
                x = ops.tanh(x @ w)
            return ops.sum(ops.cast(x, "float32"))

        return core.grad(loss, tuple(range(1, len(weights))))(*weights)

    generator = np.random.default_rng(0)
    shapes = [(4096, 32), *[(32, 32)] * 12]
    inputs = [core.tensor(generator.normal(size=shape) / 8, dtype) for shape in shapes]
    half = Plan(core.trace(network, *inputs)).arena_bytes
    single = Plan(core.trace(network, *(ops.cast(x, "float32") for x in inputs))).arena_bytes
    assert half < 0.7 * single
