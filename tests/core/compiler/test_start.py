"""What stands between the start of a process and its first step: compiling undisturbed, and laying out memory."""

import gc
import sys

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core.compiler.execution import Buffer
from tenzoo.core.compiler.plan import Step, _place


@pytest.fixture
def interval():
    before = sys.getswitchinterval()
    yield sys.setswitchinterval
    sys.setswitchinterval(before)


class TestUndisturbed:
    """While something is compiled, threads take turns often and garbage waits."""

    @pytest.mark.parametrize(("own", "meanwhile"), [(0.02, 5e-4), (2.5e-4, 2.5e-4)])
    def test_threads_take_turns_often(self, interval, own, meanwhile):
        seen = []

        def function(x):
            seen.append(sys.getswitchinterval())
            return x + 1

        interval(own)
        core.jit(function)(core.tensor([1.0]))
        assert seen == [pytest.approx(meanwhile)]
        assert sys.getswitchinterval() == pytest.approx(own)

    def test_all_is_as_before_where_tracing_fails(self, interval):
        def function(x):
            assert not gc.isenabled()
            raise ArithmeticError("of the function itself")

        interval(0.02)
        with pytest.raises(ArithmeticError):
            core.jit(function)(core.tensor([1.0]))
        assert sys.getswitchinterval() == pytest.approx(0.02)
        assert gc.isenabled()


class TestArena:
    """Offsets of temporaries, of which each is there from the first to the last step that uses it."""

    @staticmethod
    def steps(*rows):
        return [Step(None, list(buffers), None) for buffers in rows]

    @staticmethod
    def temporary(size):
        return Buffer("temporary", (size,), np.dtype("uint8"))

    def test_what_lives_at_one_time_does_not_overlap(self):
        rng = np.random.default_rng(0)
        for _ in range(20):
            buffers = [self.temporary(int(n)) for n in rng.integers(0, 2000, 60)]
            rows = [[] for _ in range(30)]
            for buffer in buffers:
                first, last = sorted(rng.integers(0, 30, 2))
                rows[first].append(buffer)
                rows[last].append(buffer)
            leaving = buffers[::10]
            placed = _place(self.steps(*rows), leaving)
            assert set(placed) == set(buffers)
            assert all(buffer.last == 30 for buffer in leaving)
            for i, a in enumerate(placed):
                for b in placed[:i]:
                    apart = a.offset + a.room <= b.offset or b.offset + b.room <= a.offset
                    assert apart or a.last < b.first or b.last < a.first

    def test_memory_is_used_again(self):
        a, b, c, d = (self.temporary(640) for _ in range(4))
        _place(self.steps([a], [a, b], [b, c], [c, d]), ())
        assert sorted(x.offset for x in (a, b, c, d)) == [0, 0, 640, 640]

    def test_a_gap_is_filled_from_below(self):
        large, small, least = self.temporary(1280), self.temporary(640), self.temporary(64)
        after = self.temporary(512)
        _place(self.steps([large, small], [small, least], [small, after, least]), ())
        assert [x.offset for x in (large, small, after, least)] == [0, 1280, 0, 512]
