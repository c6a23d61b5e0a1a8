"""Tensors: making them, dtypes, operators, indexing, the numpy protocol, messages."""

import operator
import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tenzoo import core
from tenzoo.core import DtypeError, ShapeError, ops, tensor
from tenzoo.core.dtypes import as_dtype, result_type

quick = settings(max_examples=150, deadline=None)


def same(received, expected):
    received = np.asarray(received)
    assert received.shape == np.shape(expected)
    np.testing.assert_array_equal(received, expected)


class TestCreation:
    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            (1, "int32"),
            (1.5, "float32"),
            (True, "bool"),
            ([1, 2], "int32"),
            ([1, 2.5], "float32"),
            ([[True], [False]], "bool"),
            ([], "float32"),
            (np.zeros(2), "float64"),
            (np.int64(3), "int64"),
            (np.arange(2, dtype=np.uint8), "uint8"),
            (range(3), "int32"),
        ],
    )
    def test_default_dtype(self, value, dtype):
        made = tensor(value)
        assert made.dtype == np.dtype(dtype)
        same(made, np.asarray(value))

    def test_floatx(self):
        core.config.set_floatx("float64")
        try:
            assert tensor(1.0).dtype == np.float64
            assert ops.zeros(3).dtype == np.float64
        finally:
            core.config.set_floatx("float32")

    @pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("float64"), np.dtype(">f8")])
    def test_dtype_can_be_given_in_many_ways(self, dtype):
        assert tensor([1, 2], dtype).dtype == np.float64

    def test_big_endian_data(self):
        same(tensor(np.arange(3, dtype=">i4")), [0, 1, 2])
        assert tensor(np.arange(3, dtype=">i4")).dtype == np.int32

    def test_from_a_tensor_a_variable_and_lists_of_them(self):
        t = tensor([1.0, 2.0])
        assert tensor(t) is t
        assert tensor(t, "int32").dtype == np.int32
        same(tensor(core.Variable([3.0])), [3.0])
        same(tensor([[t, core.Variable([3.0, 4.0])], [t, [5, 6]]]), [[[1, 2], [3, 4]], [[1, 2], [5, 6]]])
        same(tensor([tensor(1), 2.5]), [1, 2.5])

    def test_data_are_copied(self):
        array = np.zeros(3)
        t = tensor(array)
        array[0] = 1
        same(t, np.zeros(3))

    def test_immutable(self):
        t = tensor([1.0, 2.0])
        with pytest.raises(ValueError):
            t.numpy()[0] = 5
        with pytest.raises(TypeError):
            t[0] = 5
        copy = ops.convert_to_numpy(t)
        copy[0] = 5
        same(t, [1, 2])

    def test_python_integers_have_to_fit(self):
        with pytest.raises(DtypeError, match="int64"):
            tensor(2**40)
        assert int(tensor(2**40, "int64")) == 2**40
        with pytest.raises(OverflowError):
            tensor([1, 2], "int8") + 300

    def test_messages(self):
        with pytest.raises(DtypeError, match=r"Expected numbers.*'text'"):
            tensor("text")
        with pytest.raises(DtypeError, match="list cannot become a tensor"):
            tensor([[1, 2], [3]])
        with pytest.raises(DtypeError):
            tensor(object())
        with pytest.raises(ValueError, match=r"Unknown dtype 'flaot32'.*'float32'"):
            tensor(1, "flaot32")

    def test_shape_properties(self):
        t = ops.zeros((2, 3))
        assert (t.shape, t.ndim, t.size, len(t)) == ((2, 3), 2, 6, 2)
        with pytest.raises(TypeError, match="no length"):
            len(tensor(1))
        assert [row.shape for row in t] == [(3,), (3,)]

    def test_scalars_convert(self):
        assert (int(tensor(3)), float(tensor(3)), bool(tensor(0))) == (3, 3.0, False)
        assert tensor(2.5).item() == 2.5
        assert [10, 20, 30][tensor(1)] == 20
        with pytest.raises(DtypeError, match="integer scalar"):
            [1][tensor(0.0)]
        assert tensor([[1], [2]]).tolist() == [[1], [2]]

    def test_repr_and_pickle(self):
        t = tensor([[1.0, 2.0], [3.0, 4.0]])
        assert "shape=(2, 2), dtype=float32" in repr(t)
        same(pickle.loads(pickle.dumps(t)), t.numpy())

    def test_dlpack(self):
        same(np.from_dlpack(tensor([1.0, 2.0])), [1, 2])


class TestPromotion:
    @pytest.mark.parametrize(
        ("a", "b", "result"),
        [
            ("bool", "int32", "int32"),
            ("bool", "float32", "float32"),
            ("int8", "int32", "int32"),
            ("int32", "int64", "int64"),
            ("int8", "uint8", "int16"),
            ("int64", "uint64", "int64"),
            ("int32", "float16", "float16"),
            ("int64", "float32", "float32"),
            ("float16", "float32", "float32"),
            ("float32", "float64", "float64"),
            ("uint8", "float64", "float64"),
        ],
    )
    def test_table(self, a, b, result):
        x, y = ops.ones(2, a), ops.ones(2, b)
        assert (x + y).dtype == (y + x).dtype == result_type(x, y) == np.dtype(result)

    @pytest.mark.parametrize("number", [2.5, np.float64(2.5), np.float32(2.5)])
    def test_floats_are_weak(self, number):
        assert (ops.ones(2, "float16") * number).dtype == np.float16
        assert (number * ops.ones(2, "float32")).dtype == np.float32
        assert (ops.ones(2, "float64") + number).dtype == np.float64
        assert (ops.ones(2, "int32") * number).dtype == np.float32

    @pytest.mark.parametrize("number", [2, np.int64(2), np.uint8(2)])
    def test_integers_are_weak(self, number):
        assert (ops.ones(2, "int8") + number).dtype == np.int8
        assert (ops.ones(2, "float32") + number).dtype == np.float32
        assert (ops.ones(2, "bool") + number).dtype == np.int32

    def test_arrays_are_strong(self):
        assert (ops.ones(2) + np.ones(2)).dtype == np.float64
        assert (np.ones(2) + ops.ones(2)).dtype == np.float64

    def test_results_that_have_to_be_floats(self):
        assert (tensor([1, 2]) / 2).dtype == np.float32
        assert ops.mean(tensor([1, 2])).dtype == np.float32
        assert ops.exp(tensor([1, 2], "int64")).dtype == np.float32
        assert (tensor([1, 2]) ** 2.0).dtype == np.float32
        assert (tensor([1, 2]) ** 2).dtype == np.int32

    def test_bools_add_like_integers(self):
        t = tensor([True, True])
        same(t + t, [2, 2])
        same(ops.sum(t), 2)
        same(-t, [-1, -1])

    def test_as_dtype(self):
        assert as_dtype(None) == as_dtype(float) == as_dtype("float") == np.float32
        assert as_dtype(int) == np.int32 and as_dtype(bool) == np.bool_


ARITHMETIC = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"]
BITS = ["and_", "or_", "xor", "lshift", "rshift"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]


class TestOperators:
    @pytest.mark.parametrize("name", ARITHMETIC + COMPARISONS)
    def test_against_numpy(self, name):
        function = getattr(operator, name)
        a, b = np.array([[1.5, 2.0, 3.0]]), np.array([[2.0], [0.5]])
        expected = function(a, b)
        for x, y in [(tensor(a), tensor(b)), (tensor(a), b), (a, tensor(b)), (core.Variable(a), tensor(b))]:
            received = function(x, y)
            assert type(received) is core.Tensor
            np.testing.assert_allclose(np.asarray(received), expected)
        for number in (2, 1.5, np.float64(1.5), np.int32(3)):
            np.testing.assert_allclose(np.asarray(function(number, tensor(b))), function(number, b))
            np.testing.assert_allclose(np.asarray(function(tensor(b), number)), function(b, number))

    @pytest.mark.parametrize("name", BITS)
    def test_bits_against_numpy(self, name):
        function = getattr(operator, name)
        a, b = np.array([5, 6, 7], np.int32), np.array([1, 2, 0], np.int32)
        same(function(tensor(a), tensor(b)), function(a, b))
        same(function(a, tensor(b)), function(a, b))
        same(function(6, tensor(b)), function(np.int32(6), b))

    def test_bool_operators(self):
        a, b = np.array([True, False]), np.array([True, True])
        same(tensor(a) & b, a & b)
        same(a | tensor(b), a | b)
        same(~tensor(a), ~a)

    def test_unary(self):
        a = np.array([-1.25, 2.75])
        t = tensor(a)
        same(-t, -a)
        same(+t, a)
        same(abs(t), abs(a))
        same(round(t), np.round(a))
        same(round(t, 1), np.round(a, 1))
        v = core.Variable(a)
        same(-v, -a)
        same(+v, a)
        same(abs(v), abs(a))
        same(round(v), np.round(a))

    def test_matmul_and_lists(self):
        a = np.arange(6.0).reshape(2, 3)
        same(tensor(a) @ a.T, a @ a.T)
        same(a.T @ tensor(a), a.T @ a)
        same(tensor([1.0, 2.0]) + [3, 4], [4, 6])
        same([3, 4] - tensor([1.0, 2.0]), [2, 2])

    def test_unknown_operands(self):
        assert (tensor(1) == None) is False  # noqa: E711
        assert tensor(1) != "1"
        with pytest.raises(TypeError):
            tensor(1) + "1"
        with pytest.raises(TypeError):
            tensor(1) < None  # noqa: B015

    def test_integer_power_with_negative_exponent(self):
        with pytest.raises(ValueError, match="power"):
            tensor([2, 3]) ** tensor([-1, 1])

    def test_broadcast_message(self):
        with pytest.raises(ShapeError, match=r"add: shapes \(2,\) and \(3,\) do not broadcast"):
            ops.ones(2) + ops.ones(3)
        with pytest.raises(ShapeError, match=r"matmul: shapes \(2, 3\) and \(2, 3\) do not fit"):
            ops.ones((2, 3)) @ ops.ones((2, 3))

    def test_methods(self):
        a = np.arange(6.0).reshape(2, 3)
        t = tensor(a)
        same(t.T, a.T)
        same(t.transpose(1, 0), a.T)
        same(t.transpose((1, 0)), a.T)
        same(t.reshape(3, 2), a.reshape(3, 2))
        same(t.reshape((3, -1)), a.reshape(3, 2))
        same(t.sum(0), a.sum(0))
        same(t.mean(-1, keepdims=True), a.mean(-1, keepdims=True))
        same(t.max(), a.max())
        same(t.min(axis=1), a.min(1))
        assert t.astype("int32").dtype == np.int32


class TestNumpyProtocol:
    def test_asarray(self):
        t = tensor([1.0, 2.0])
        assert np.asarray(t).dtype == np.float32
        assert np.asarray(t, np.float64).dtype == np.float64
        assert not np.asarray(t).flags.writeable
        assert np.array(t).flags.writeable
        same(np.asarray(core.Variable([1.0])), [1.0])

    def test_ufuncs_answer_tensors(self):
        t = tensor([0.5, 1.0])
        for function in (
            np.exp,
            np.tanh,
            np.add,
            np.maximum,
            np.fabs,
            np.true_divide,
            np.isfinite,
            np.remainder,
        ):
            arguments = (t,) * function.nin
            received = function(*arguments)
            assert type(received) is core.Tensor, function
            np.testing.assert_allclose(received.numpy(), function(*(np.asarray(a) for a in arguments)), 1e-6)

    def test_other_ufuncs_answer_arrays(self):
        t = tensor([0.5, 1.0])
        assert type(np.spacing(t)) is np.ndarray
        assert np.add.reduce(t) == 1.5
        out = np.zeros(2)
        np.add(t, 1, out=out)
        same(out, [1.5, 2.0])
        array = np.ones(2)
        array += t
        same(array, [1.5, 2.0])
        assert type(array) is np.ndarray

    def test_functions_take_values(self):
        t, v = tensor([[1.0, 2.0], [3.0, 4.0]]), core.Variable([[5.0, 6.0]])
        assert np.sum(t) == 10 and np.mean(t, axis=0).tolist() == [2, 3]
        same(np.concatenate([t, v]), [[1, 2], [3, 4], [5, 6]])
        same(np.where(t > 2, t, 0), [[0, 0], [3, 4]])
        assert np.allclose(t, t) and np.argmax(v) == 1
        np.testing.assert_array_equal(t, t.numpy())
        assert np.shape(t) == (2, 2) and np.ndim(v) == 2 and np.size(t) == 4

    def test_shape_functions_know_symbolic_tensors(self):
        graph = core.trace(lambda x: ops.ones(np.shape(x)) * np.ndim(x), ops.zeros((2, 3)))
        assert graph.result.shape == (2, 3)


SHAPE = (4, 3, 5)


@st.composite
def basic_index(draw, shape=SHAPE):
    items = []
    axes = draw(st.integers(0, len(shape)))
    for extent in shape[:axes]:
        kind = draw(st.sampled_from(["int", "slice", "none", "full"]))
        if kind == "none":
            items.append(None)
        if kind == "int":
            items.append(draw(st.integers(-extent, extent - 1)))
        elif kind == "slice":
            edge = st.one_of(st.none(), st.integers(-extent - 2, extent + 2))
            step = draw(st.one_of(st.none(), st.integers(-3, 3).filter(bool)))
            items.append(slice(draw(edge), draw(edge), step))
        else:
            items.append(slice(None))
    if draw(st.booleans()):
        items.append(Ellipsis)
        if axes < len(shape) and draw(st.booleans()):
            items.append(draw(st.integers(-shape[-1], shape[-1] - 1)))
    return tuple(items)


@st.composite
def advanced_index(draw, shape=SHAPE):
    lead = draw(st.sampled_from([(2,), (3, 2), (1,), (0,), (2, 1)]))
    items = []
    for extent in shape[: draw(st.integers(1, len(shape)))]:
        kind = draw(st.sampled_from(["array", "array", "int", "slice", "none"]))
        if kind == "none":
            items.append(None)
        if kind in ("array", "none"):
            here = draw(st.sampled_from([lead, (1,), ()])) if lead != (0,) else lead
            dtype = draw(st.sampled_from([np.int32, np.int64]))
            flat = draw(
                st.lists(st.integers(-extent, extent - 1), min_size=int(np.prod(here)), max_size=int(np.prod(here)))
            )
            items.append(np.array(flat, dtype).reshape(here))
        elif kind == "int":
            items.append(draw(st.integers(-extent, extent - 1)))
        else:
            items.append(slice(draw(st.integers(0, extent)), None, draw(st.sampled_from([1, 2, -1]))))
    return tuple(items)


ARRAY = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.float64)


class TestIndexing:
    @quick
    @given(basic_index())
    def test_basic(self, index):
        same(tensor(ARRAY)[index], ARRAY[index])

    @quick
    @given(advanced_index())
    def test_advanced(self, index):
        same(tensor(ARRAY)[index], ARRAY[index])

    @quick
    @given(advanced_index())
    def test_advanced_with_tensors_while_traced(self, index):
        where = [i for i, item in enumerate(index) if isinstance(item, np.ndarray)]

        def function(x, *found):
            full = list(index)
            for i, item in zip(where, found, strict=True):
                full[i] = item
            return x[tuple(full)]

        arrays = [tensor(index[i]) for i in where]
        graph = core.trace(function, tensor(ARRAY), *arrays)
        same(graph(tensor(ARRAY), *arrays), ARRAY[index])

    @pytest.mark.parametrize(
        "index",
        [
            ARRAY > 10,
            (ARRAY[:, :, 0] > 10),
            (slice(None), ARRAY[0, :, 0] > 4),
            (Ellipsis, ARRAY[0, 0] > 2),
            (0, ARRAY[0, :, 0] > 4, slice(1, 3)),
            np.zeros(4, bool),
            [0, 2],
            ([0, 2], [1, 1]),
            [],
        ],
    )
    def test_masks_and_lists(self, index):
        expected = ARRAY[np.array([], int)] if isinstance(index, list) and not index else ARRAY[index]
        same(tensor(ARRAY)[index], expected)

    def test_variables_index_and_are_indexed(self):
        v = core.Variable(ARRAY)
        same(v[1:, core.Variable([0, 1])], ARRAY[1:, [0, 1]])
        same(list(core.Variable([1.0, 2.0])), [1, 2])

    @pytest.mark.parametrize(
        ("index", "error", "message"),
        [
            (4, IndexError, r"Index 4 is out of range for axis 0"),
            ((0, -4), IndexError, r"Index -4 is out of range"),
            (([0, 9],), IndexError, "index 9 is out of range for axis 0"),
            ((0, 0, 0, 0), IndexError, "Too many indices: 4"),
            ((..., ...), IndexError, "one ellipsis"),
            (np.ones(3, bool), IndexError, r"mask of shape \(3,\) does not fit axis 0"),
            ((..., np.ones(4, bool)), IndexError, r"mask of shape \(4,\)"),
            (1.5, DtypeError, "cannot be indexed with float"),
            ("a", DtypeError, "cannot be indexed with str"),
            (np.array([0.5]), DtypeError, "indices have to be integers"),
            (True, DtypeError, "single bool"),
        ],
    )
    def test_messages(self, index, error, message):
        with pytest.raises(error, match=message):
            tensor(ARRAY)[index]

    def test_gradient_of_indexing(self):
        gradient = core.grad(lambda x: (x[[0, 0, 2], 1:, ::-2] * 2).sum())(tensor(ARRAY))
        expected = np.zeros(SHAPE)
        for i in (0, 0, 2):
            expected[i, 1:, ::-2] += 2
        same(gradient, expected)


def test_numbers_in_text():
    assert f"{core.tensor(1.23456):.3f} {core.tensor(7):04d} {core.Variable(2.5):.1f}" == "1.235 0007 2.5"
    assert f"{core.tensor([1, 2])}" == str(core.tensor([1, 2]))
    assert f"{core.Variable(2.5)}" == str(core.Variable(2.5))
    with pytest.raises(core.TraceError, match="formatting needs the value"):
        core.trace(lambda x: f"{x:.3f}" and x, core.tensor(1.0))
