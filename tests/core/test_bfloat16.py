"""bfloat16 in tensors: conversion, promotion, ops, gradients, and the ways out."""

import pickle

import ml_dtypes
import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core
from tenzoo.core import dtypes, ops, random

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def half(values):
    return core.tensor(values, "bfloat16")


@pytest.mark.parametrize("given", ["bfloat16", BFLOAT16, ml_dtypes.bfloat16])
def test_names(given):
    assert dtypes.as_dtype(given) is dtypes.BFLOAT16
    assert dtypes.is_floating(dtypes.BFLOAT16) and dtypes.limits(dtypes.BFLOAT16).eps == 2.0**-7


def test_conversion_rounds_to_nearest_even():
    x = half([1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8 - 2.0**-20, np.inf, np.nan, 300])
    np.testing.assert_array_equal(x.tolist(), [1, 1 + 2.0**-6, -1 - 2.0**-7, np.inf, np.nan, 300])
    assert ops.cast(x[-1], "int32").item() == 300 and ops.cast(core.tensor(7), "bfloat16").item() == 7
    assert ops.cast(x, "bool").tolist() == [True] * 6


@pytest.mark.parametrize(
    ("a", "b", "result"),
    [
        ("bfloat16", "float16", "float32"),
        ("bfloat16", "float32", "float32"),
        ("bfloat16", "float64", "float64"),
        ("int64", "bfloat16", "bfloat16"),
        ("bool", "bfloat16", "bfloat16"),
        ("bfloat16", "bfloat16", "bfloat16"),
    ],
)
def test_promotion(a, b, result):
    assert dtypes.result_type(dtypes.as_dtype(a), dtypes.as_dtype(b)) == result
    assert (ops.ones(2, a) + ops.ones(2, b)).dtype == result


def test_numbers_take_its_dtype():
    x = half([1.0, 2.0])
    for result in (
        x + 1,
        0.5 * x,
        x / np.float64(3),
        x - True,
        x**2,
        ops.where(x > 1, x, 0.1),
        x + ml_dtypes.bfloat16(1),
    ):
        assert result.dtype == "bfloat16"
    assert (x > 1).dtype == "bool" and ops.argmax(x).dtype == "int32"


def test_arrays_of_it_are_tensors():
    array = np.array([1.5, -2.0], BFLOAT16)
    x = core.tensor(array)
    assert x.dtype is dtypes.BFLOAT16 and np.asarray(x).dtype == BFLOAT16
    np.testing.assert_array_equal(np.asarray(x), array)
    np.testing.assert_array_equal(np.asarray(x, "float32"), [1.5, -2.0])
    assert "bfloat16" in repr(x) and float(x[0]) == 1.5 and x.tolist() == [1.5, -2.0]
    assert pickle.loads(pickle.dumps(x)).dtype == "bfloat16"
    assert core.jit(lambda x: x * 2)(array).tolist() == [3.0, -4.0]


def test_ops_calculate_in_float32_and_round_once():
    x = half(np.random.default_rng(0).normal(size=(7, 5)))
    single = ops.cast(x, "float32")
    for function in (
        ops.exp,
        ops.logsumexp,
        lambda x: ops.var(x, 1),
        lambda x: x @ ops.transpose(x),
        lambda x: ops.linalg.inv(x[:5] + 4 * ops.eye(5, dtype=x.dtype)),
        lambda x: ops.sort(x, 0),
        lambda x: ops.cumprod(x, 1),
        lambda x: ops.softmax(x * 10),
        ops.log_softmax,
        lambda x: ops.layer_normalization(x * 1000),
        lambda x: ops.rms_normalization(x * 1000),
        ops.nan_to_num,
        lambda x: ops.saturate_cast(x * 0.5, "int8"),
        lambda x: ops.segment_max(x, np.array([0, 0, 1, 1, 2, 2, 2]), 3),
    ):
        found, expected = function(x), function(single)
        assert found.dtype == ("bfloat16" if expected.dtype == "float32" else expected.dtype)
        np.testing.assert_allclose(ops.cast(found, "float32"), expected, rtol=2.0**-6, atol=2.0**-6)


def test_sums_are_not_made_in_it():
    ones = ops.ones(3000, "bfloat16")
    assert ops.sum(ones).item() == 3008  # the nearest there is
    assert ops.mean(ones).item() == 1 and (ones @ ones).item() == ops.sum(ones).item()


def test_gradients_have_the_dtype_of_what_they_are_for():
    x, w = half([[1.0, 2.0]]), core.tensor([[0.5], [0.25]])
    with core.GradientTape() as tape:
        tape.watch([x, w])
        loss = ops.sum(ops.cast(x @ ops.cast(w, "bfloat16"), "float32") ** 2)
    gradients = tape.gradient(loss, [x, w])
    assert [g.dtype.name for g in gradients] == ["bfloat16", "float32"]
    assert gradients[0].tolist() == [[1.0, 0.5]] and gradients[1].tolist() == [[2.0], [4.0]]


def test_variables():
    v = core.Variable([1.0, 2.0], "bfloat16")
    v.assign_add([2.0**-10, 1.0])
    assert v.numpy().tolist() == [1.0, 3.0] and v.dtype == "bfloat16"
    step = core.jit(lambda: v.assign(v * 2))
    step()
    assert v.numpy().tolist() == [2.0, 6.0]


def test_random_numbers():
    x = random.uniform((1000,), dtype="bfloat16", seed=1)
    assert x.dtype == "bfloat16" and float(ops.min(x)) >= 0 and float(ops.max(x)) < 1
    assert abs(float(ops.mean(random.normal((1000,), dtype="bfloat16", seed=1)))) < 0.2
    assert float(ops.max(random.uniform((1000,), 1.0, 1.5, dtype="bfloat16", seed=1))) < 1.5


def test_floatx():
    tz.config.set_floatx("bfloat16")
    try:
        assert core.tensor(0.1).dtype == "bfloat16"
    finally:
        tz.config.set_floatx("float32")
