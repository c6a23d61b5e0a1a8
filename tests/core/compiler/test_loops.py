"""The loop IR builder: what kernels written with it compute."""

import ctypes

import numpy as np
import pytest

from tenzoo.core.compiler import emit_llvm
from tenzoo.core.compiler.loops import Module, f32, f64, i8, i32, i64, index, of_dtype, ptr, u8


def compiled(module: Module, buffers: int, pipeline: str = "loops"):
    """Load function "f" of a module: takes that many pointers and a count."""
    library = emit_llvm.Library(emit_llvm.compile_text(module.text(), pipeline), ("f",))
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * buffers, ctypes.c_int64)(library.address["f"])

    def call(*arrays, count=None):
        function(*(a.ctypes.data for a in arrays), arrays[0].size if count is None else count)

    call.library = library
    return call


def elementwise(body, *arrays, out, pipeline="loops"):
    """Apply body(b, *scalars) to every element of the arrays."""
    module = Module()
    types = [of_dtype(a.dtype) for a in arrays]
    result = np.empty(arrays[0].shape, out)
    signature = [*[ptr] * (len(arrays) + 1), index]
    with module.function("f", signature) as (b, *pointers, n), b.loop(0, n) as i:
        values = [b.load(t, p, i) for t, p in zip(types, pointers)]
        b.store(body(b, *values), pointers[-1], i)
    compiled(module, len(arrays) + 1, pipeline)(*map(np.ascontiguousarray, arrays), result)
    return result


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_integer_arithmetic_is_numpys(dtype):
    rng, info = np.random.default_rng(0), np.iinfo(dtype)
    x = rng.integers(info.min, info.max, 500, dtype, endpoint=True)
    y = rng.integers(max(info.min, -9), 9, 500, dtype)
    x[:2], y[:2] = info.min, (info.max if info.min == 0 else -1)
    for body, reference in [
        (lambda b, x, y: x + y * x - y, lambda x, y: x + y * x - y),
        (lambda b, x, y: x // y, np.floor_divide),
        (lambda b, x, y: x % y, np.remainder),
        (lambda b, x, y: (x & y) | (x ^ ~y), lambda x, y: (x & y) | (x ^ ~y)),
        (lambda b, x, y: b.maximum(x, y) - b.minimum(x, y), lambda x, y: np.maximum(x, y) - np.minimum(x, y)),
    ]:
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(elementwise(body, x, y, out=dtype), reference(x, y))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes_pass_nan_on_and_comparisons_do_not(dtype):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, 1.5, -2.0], dtype)
    x, y = (a.ravel() for a in np.meshgrid(special, special))
    for name in ("maximum", "minimum"):
        got = elementwise(lambda b, x, y, name=name: getattr(b, name)(x, y), x, y, out=dtype)
        np.testing.assert_array_equal(got, getattr(np, name)(x, y))
        bounded = elementwise(lambda b, x, name=name: getattr(b, name)(0.5, x), x, out=dtype)
        np.testing.assert_array_equal(bounded, getattr(np, name)(x, np.asarray(0.5, dtype)))
    for name in ("__lt__", "__le__", "__gt__", "__ge__", "eq", "ne"):
        got = elementwise(lambda b, x, y, name=name: getattr(x, name)(y), x, y, out="bool")
        reference = {"eq": x == y, "ne": x != y}.get(name)
        np.testing.assert_array_equal(got, getattr(x, name)(y) if reference is None else reference)


@pytest.mark.parametrize("source", ["float32", "float64", "float16", "int32", "uint8", "bool"])
@pytest.mark.parametrize("target", ["float32", "float64", "float16", "int64", "int8", "bool"])
def test_casts(source, target):
    x = np.array([0, 1, 2, 100, 3.5], "float64").astype(source)
    got = elementwise(lambda b, x: b.cast(x, of_dtype(target)), x, out=target)
    np.testing.assert_array_equal(got, x.astype(target))


@pytest.mark.parametrize("source", ["float32", "float64"])
def test_large_floats_as_unsigned(source):
    x = np.array([0, 1.5, 2.0**31, 2.0**63 - 2.0**40, 2.0**63, 1e19, 1.8e19], source)
    got = elementwise(lambda b, x: b.cast(x, of_dtype("uint64")), x, out="uint64")
    np.testing.assert_array_equal(got, x.astype("uint64"))


def test_rounding_and_signs():
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4999], "float32")
    for name, reference in [("round", np.rint), ("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc)]:
        np.testing.assert_array_equal(elementwise(lambda b, x, n=name: getattr(b, n)(x), x, out="f4"), reference(x))
    np.testing.assert_array_equal(elementwise(lambda b, x: b.abs(-x), x, out="f4"), abs(x))
    np.testing.assert_array_equal(elementwise(lambda b, x: x % 2.0, x, out="f4"), x % 2)


def test_loop_results_after_an_empty_loop_are_the_initial_values():
    module = Module()
    with module.function("f", [ptr, index]) as (b, out, n):
        with b.loop(5, n, 3, carry=[b.const(f64, 7.0)]) as (i, state):
            state[0] = state[0] + b.cast(i, f64)
        b.store(state[0], out)
    call, out = compiled(module, 1), np.zeros(1)
    for count, expected in [(0, 7), (5, 7), (6, 12), (9, 20)]:
        call(out, count=count)
        assert out[0] == expected


def test_branches_keep_what_they_assign():
    module = Module()
    with module.function("f", [ptr, ptr, index]) as (b, x, out, n):
        best = b.variable(b.const(f32, -np.inf))
        with b.loop(0, n, carry=[b.const(i64, 0)]) as (i, state):
            value = b.load(f32, x, i)
            with b.if_(value > 0, carry=state):
                state[0] = state[0] + 1
            with b.if_(value > best.get()) as bigger:
                best.set(value)
            with bigger.otherwise():
                b.store(value, out, 2)
        b.store(best.get(), out, 0)
        b.store(b.cast(state[0], f32), out, 1)
    x, out = np.array([-1, 3, 2, -5, 8, 0.5], "f4"), np.zeros(3, "f4")
    compiled(module, 2, "blocks")(x, out, count=6)
    assert out.tolist() == [8, 4, 0.5]


def test_endless_loop_ends_where_it_is_told_to():
    module = Module()
    with module.function("f", [ptr, index]) as (b, out, n):
        counter = b.variable(b.const(index, 0))
        with b.forever() as search:
            search.break_if((counter.get() * counter.get()) > n)
            counter.set(counter.get() + 1)
        b.store(b.cast(counter.get(), i64), out)
    call, out = compiled(module, 1), np.zeros(1, np.int64)
    call(out, count=1000)
    assert out[0] == 32


def test_vectors():
    module = Module()
    with module.function("f", [ptr, ptr, index]) as (b, x, out, _n):
        v = b.load(f32.vector(4), x)
        swapped = b.shuffle(v, v, [3, 2, 1, 0])
        b.store(b.fma(swapped, 2.0, v + 1.0), out)
        b.store(b.reduce("add", v), out, 4)
        b.store(b.extract(b.insert(v, b.const(f32, 9), 2), 2), out, 5)
    x, out = np.arange(4, dtype="f4"), np.zeros(6, "f4")
    compiled(module, 2, "blocks")(x, out)
    assert out.tolist() == [7, 6, 5, 4, 6, 9]


def test_tables_and_bytes():
    module = Module()
    table = module.table(i32, [3, 1, 2])
    with module.function("f", [ptr, ptr, index]) as (b, x, out, n):
        with b.loop(0, n) as i:
            place = b.cast(b.load(i32, b.symbol(table), i), index)
            b.store(b.load(u8, x, place), out, i)
        b.copy(b.offset(u8, out, 3), x, 2)
        b.fill_zero(b.offset(i8, out, 5), 1)
    x, out = np.array([10, 20, 30, 40], np.uint8), np.full(6, 99, np.uint8)
    compiled(module, 2)(x, out, count=3)
    assert out.tolist() == [40, 20, 30, 10, 20, 0]


def test_the_same_calls_give_the_same_text():
    def text():
        module = Module()
        with module.kernel("kernel", 2) as (b, (x, y), lo, hi, _), b.loop(lo, hi, parallel=True) as i:
            b.store(b.exp(b.load(f32, x, i)), y, i)
        return module.text()

    assert text() == text()


def test_mistakes_are_errors():
    with Module().function("f", [f32, f64]) as (b, x, y):
        with pytest.raises(TypeError, match="f32 and f64: cast"):
            x + y
        with pytest.raises(TypeError, match="truth value"):
            bool(x < 1)
        with pytest.raises(TypeError, match="defined on floats"):
            b.exp(b.const(i32, 1))
    with pytest.raises(emit_llvm.CompileError, match="could not compile"):
        emit_llvm.compile_text("define void @f() { nonsense }")
    undominated = """
        define i32 @f(i1 %c) {
        entry:
          br i1 %c, label %yes, label %no
        yes:
          %x = add i32 1, 2
          br label %no
        no:
          ret i32 %x
        }
    """
    with pytest.raises(emit_llvm.CompileError, match="does not dominate"):
        emit_llvm.compile_text(undominated)
