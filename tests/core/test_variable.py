"""Variables and the scopes that stand in for them."""

import threading

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import ShapeError, StateScope, Variable, ops, tensor


class TestVariable:
    def test_assignment(self):
        v = Variable([1, 2], name="counts")
        assert v.assign([3, 4]).tolist() == [3, 4]
        assert v.assign_add(1).tolist() == [4, 5] and v.assign_sub([1, 2]).tolist() == [3, 3]
        v.assign([1.9, 2.1])
        assert v.dtype == np.int32 and v.tolist() == [1, 2]

    def test_dtype(self):
        assert Variable(1.0, dtype="float64").dtype == np.float64
        assert Variable(np.zeros(2)).dtype == np.float64

    def test_wrong_shape(self):
        v = Variable([1.0, 2.0], name="kernel")
        v.path = "dense/kernel"
        with pytest.raises(ShapeError, match=r"'dense/kernel' has shape \(2,\); received a value of shape \(3,\)"):
            v.assign([1.0, 2.0, 3.0])
        assert v.tolist() == [1, 2]

    def test_assigned_arrays_are_copied(self):
        v, array = Variable(np.zeros(2)), np.ones(2)
        v.assign(array)
        array[0] = 5
        assert v.tolist() == [1, 1]
        with pytest.raises(ValueError):
            v.numpy()[0] = 5

    def test_values_read_before_stay(self):
        v = Variable(1.0)
        before = v.value
        v.assign(2.0)
        assert float(before) == 1

    def test_like_a_tensor(self):
        v = Variable([[1.0, 2.0]], name="v")
        assert (v.shape, v.ndim, v.size, len(v)) == ((1, 2), 2, 2, 1)
        assert v.T.shape == (2, 1) and v[0, 1].item() == 2 and v.sum().item() == 3
        assert (ops.exp(v) * v @ v.T).shape == (1, 1)
        assert np.asarray(v).tolist() == [[1, 2]] and (np.ones(2) + v).tolist() == [[2, 3]]
        assert int(Variable(3)) == 3 and float(Variable(3)) == 3 and bool(Variable(0)) is False
        assert "v shape=(1, 2) dtype=float32" in repr(v)
        with pytest.raises(AttributeError, match="no attribute 'foo'"):
            _ = v.foo

    def test_equality_is_identity(self):
        a, b = Variable(1.0), Variable(1.0)
        assert a == a and a != b and len({a, b}) == 2 and [a, b].index(b) == 1
        assert bool(ops.equal(a, b)) and bool(tensor(1.0) == a)

    def test_memory_to_be_written_to_is_nobody_elses(self):
        array, values = np.ones(3, "float32"), tensor([1.0, 2.0])
        first, second = Variable(array), Variable(values)
        third = Variable(second)
        assert np.shares_memory(first.storage(False), first.storage(True))  # made by a copy: no second one is needed
        for mine, others in ((first, array), (second, values.numpy()), (third, second.storage(True))):
            assert not np.shares_memory(mine.storage(True), others)
        seen = first.value
        first.storage(True)[:] = 7
        assert seen.tolist() == [1, 1, 1] == array.tolist()

    def test_memory_that_is_handed_over(self):
        array = np.zeros(3, "float32")
        v = Variable(array, copy=False)
        assert np.shares_memory(v.storage(True), array)
        seen = v.value
        assert not np.shares_memory(v.storage(True), array)  # somebody has it now
        v.assign([1, 2, 3])
        assert seen.tolist() == [0, 0, 0]


class TestStateScope:
    def test_reads_and_writes(self):
        v, w, untouched = Variable(1.0), Variable(2.0), Variable(3.0)
        with StateScope() as scope:
            w.assign(v + 1)
            w.assign_add(1)
            assert float(w) == 3 and float(v.value) == 1
        assert (float(v), float(w)) == (1, 2)
        assert set(scope.reads) == {v} and set(scope.writes) == {w} and float(scope.writes[w]) == 3
        assert untouched not in scope.reads

    def test_initial_values(self):
        v = Variable(1.0)
        with StateScope({v: tensor(10.0)}) as scope:
            v.assign_add(1.0)
        assert float(scope.writes[v]) == 11 and float(v) == 1

    def test_nested(self):
        v = Variable(1.0)
        with StateScope() as outer:
            v.assign(5.0)
            with StateScope() as inner:
                v.assign_add(1.0)
            assert float(v) == 5
        assert float(inner.writes[v]) == 6 and float(outer.writes[v]) == 5 and float(v) == 1

    def test_closed_by_exceptions(self):
        v = Variable(1.0)
        with pytest.raises(ShapeError), StateScope():
            v.assign(v.assign(2.0) * [1.0, 1.0])
        assert float(v) == 1 and float(v.assign(3.0)) == 3 == float(v)

    def test_wrong_shape_inside(self):
        with StateScope(), pytest.raises(ShapeError):
            Variable([1.0]).assign([1.0, 2.0])

    def test_scopes_belong_to_a_thread(self):
        v, seen = Variable(1.0), []
        with StateScope():
            v.assign(2.0)
            thread = threading.Thread(target=lambda: seen.append(float(v)))
            thread.start()
            thread.join()
        assert seen == [1]

    def test_stateless_gradient(self):
        v = Variable(3.0)

        def loss(value):
            with StateScope({v: value}):
                return v * v

        assert float(core.grad(loss)(tensor(5.0))) == 10


def test_numpy_computes_with_variables_what_ops_do_not_have():
    v = Variable([1.0, 2.0])
    assert np.add.reduce(v) == 3
    np.testing.assert_array_equal(np.multiply.outer(v, v), [[1, 2], [2, 4]])
    assert np.exp(v, dtype="float64").dtype == np.float64
