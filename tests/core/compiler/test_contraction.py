"""Matrix products by the micro-kernel against numpy."""

import numpy as np
import pytest

from tenzoo.core.compiler import contraction, native
from tenzoo.core.compiler.loops import f32, f64, of_dtype

TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def execute(made, arrays, pool=None):
    """Run a contraction on arrays by name."""
    buffers = {**arrays, "work": np.full(made.work, 255, np.uint8)}
    loaded = native.load([step.kernel for step in made.steps])
    launches = [
        native.Launch(kernel, [buffers[name].ctypes.data for name in step.buffers])
        for kernel, step in zip(loaded, made.steps)
    ]
    (pool or native.pool()).run(native.Program(launches))
    return arrays["out"]


def relative_error(got, expected):
    return abs(got - expected).max() / max(abs(expected).max(), 1e-30)


def strides(array):
    return tuple(step // array.itemsize for step in array.strides)


def operand(rng, shape, batch, transposed, dtype):
    stored = rng.normal(size=(*batch, *(shape[::-1] if transposed else shape))).astype(dtype)
    return stored, np.swapaxes(stored, -1, -2) if transposed else stored


def check(m, n, k, batch=(), transposed=(False, False), dtype="float32", pool=None):
    rng = np.random.default_rng(0)
    a_stored, a = operand(rng, (m, k), batch, transposed[0], dtype)
    b_stored, b = operand(rng, (k, n), batch, transposed[1], dtype)
    out = np.full((*batch, m, n), 9, dtype)
    made = contraction.matmul(m, n, k, strides(a), strides(b), strides(out), batch, of_dtype(dtype))
    execute(made, {"a": a_stored, "b": b_stored, "out": out}, pool)
    assert relative_error(out, a.astype("f8") @ b.astype("f8")) < TOLERANCE[dtype]
    return out


SHAPES = [
    (1, 1, 1),
    (6, 16, 8),
    (7, 17, 9),
    (13, 33, 65),
    (1, 40, 700),
    (129, 70, 330),
    (3, 8, 1000),
    (50, 10, 333),
]


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_products(shape, transposed):
    check(*shape, transposed=transposed)


@pytest.mark.parametrize("transposed", [(False, False), (True, True)])
def test_double_precision_and_batches(transposed):
    check(33, 17, 40, (2, 3), transposed, "float64")
    check(130, 70, 350, (), transposed, "float64")


@pytest.mark.parametrize("transposed", [(False, False), (True, False)])
def test_a_long_summed_index_is_shared_out(transposed):
    check(5, 7, 5000, transposed=transposed)
    check(30, 40, 8192, (2,), transposed=transposed)


@pytest.mark.parametrize("transposed", [(False, False), (True, False)])
def test_rows_a_power_of_two_apart(transposed):
    check(140, 520, 512, transposed=transposed)


def test_heads_inside_a_row():
    # (B, T, heads, d) read as one product for each batch element and head
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 2, 20, 3, 8)).astype("f4")
    out = np.zeros((2, 3, 20, 20), "f4")
    batch, order = (2, 3), (20 * 24, 8, 24, 1)
    made = contraction.matmul(20, 20, 8, order, (20 * 24, 8, 1, 24), strides(out), batch)
    execute(made, {"a": q, "b": k, "out": out})
    assert relative_error(out, np.einsum("bthd,bshd->bhts", q, k, dtype="f8")) < 1e-5


def test_a_broadcast_operand():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 9, 7)).astype("f4"), rng.normal(size=(7, 11)).astype("f4")
    out = np.zeros((4, 9, 11), "f4")
    execute(contraction.matmul(9, 11, 7, (63, 7, 1), (0, 11, 1), (99, 11, 1), (4,)), {"a": a, "b": b, "out": out})
    assert relative_error(out, a.astype("f8") @ b) < 1e-5


@pytest.mark.parametrize("shape", [(14, 21, 30), (13, 37, 700), (9, 20, 5000)])
@pytest.mark.parametrize("activation", ["maximum", "tanh"])
def test_epilogues(shape, activation):
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, m, k)).astype("f4") / k**0.5, rng.normal(size=(2, k, n)).astype("f4")
    bias, residual = rng.normal(size=n).astype("f4"), rng.normal(size=(2, m, n)).astype("f4")
    raw, out = np.zeros((2, m, n), "f4"), np.zeros((2, m, n), "f4")

    def epilogue(b, value, place, extras):
        at = (place.batch * m + place.row) * n + place.column
        value = value + b.load(value.type, extras[0], place.column) + b.load(value.type, extras[1], at)
        b.store(value, extras[2], at)
        return b.tanh(value) if activation == "tanh" else b.maximum(value, 0)

    made = contraction.matmul(m, n, k, (m * k, k, 1), (k * n, n, 1), (m * n, n, 1), (2,), f32, epilogue, 3)
    arrays = {"a": a, "b": b, "out": out, "extra0": bias, "extra1": residual, "extra2": raw}
    execute(made, arrays)
    expected = a.astype("f8") @ b + bias + residual
    assert relative_error(raw, expected) < 1e-5
    assert relative_error(out, np.tanh(expected) if activation == "tanh" else np.maximum(expected, 0)) < 1e-5


def test_nan_and_infinity_survive():
    a, b, out = np.ones((20, 30), "f4"), np.ones((30, 40), "f4"), np.zeros((20, 40), "f4")
    a[3, 4], a[5, 6], b[7, 8] = np.nan, np.inf, -np.inf
    execute(contraction.matmul(20, 40, 30, (30, 1), (40, 1), (40, 1)), {"a": a, "b": b, "out": out})
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(out, a @ b)


@pytest.mark.parametrize("shape", [(100, 200, 700), (20, 30, 6000)])
def test_results_do_not_depend_on_the_number_of_threads(shape, monkeypatch):
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setenv("TENZOO_NUM_THREADS", str(threads))
        pool = native.Pool(threads)
        results.append(check(*shape, dtype="float64", pool=pool))
        pool.close()
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("type_", [f32, f64])
def test_tiles_fit_the_registers(type_):
    for m, n in [(1, 1), (1, 1000), (128, 512), (6, 10), (1000, 3)]:
        tile = contraction.choose_tile(type_, m, n)
        assert tile.rows * tile.vectors + tile.vectors + 1 <= 32 and tile.rows >= 1
