"""Schedules: values at the turning points, tracing, saving, and use by an optimizer."""

import math

import numpy as np
import pytest

import tenzoo as tz
from tenzoo.training import schedules

EXAMPLES = {
    "ConstantSchedule": (schedules.ConstantSchedule(0.3), {0: 0.3, 99: 0.3}),
    "PiecewiseConstantDecay": (
        schedules.PiecewiseConstantDecay([2, 5], [1.0, 0.5, 0.1]),
        {0: 1.0, 2: 1.0, 3: 0.5, 5: 0.5, 6: 0.1},
    ),
    "ExponentialDecay": (schedules.ExponentialDecay(1.0, 10, 0.5), {0: 1.0, 10: 0.5, 15: 0.5**1.5}),
    "staircase": (schedules.ExponentialDecay(1.0, 10, 0.5, staircase=True), {9: 1.0, 10: 0.5, 19: 0.5}),
    "InverseTimeDecay": (schedules.InverseTimeDecay(1.0, 10, 0.5), {0: 1.0, 10: 1 / 1.5, 20: 0.5}),
    "PolynomialDecay": (
        schedules.PolynomialDecay(1.0, 10, 0.0, power=2.0),
        {0: 1.0, 5: 0.25, 10: 0.0, 99: 0.0},
    ),
    "cycle": (schedules.PolynomialDecay(1.0, 10, 0.0, cycle=True), {0: 1.0, 5: 0.5, 10: 0.0, 15: 0.25}),
    "CosineDecay": (schedules.CosineDecay(1.0, 10, alpha=0.1), {0: 1.0, 5: 0.55, 10: 0.1, 50: 0.1}),
    "warmup": (
        schedules.CosineDecay(0.0, 10, warmup_target=1.0, warmup_steps=4),
        {0: 0.0, 2: 0.5, 4: 1.0, 9: 0.5, 14: 0.0, 20: 0.0},
    ),
    "no warm-up steps": (schedules.CosineDecay(0.5, 10, warmup_target=1.0), {0: 1.0, 10: 0.0}),
    "CosineDecayRestarts": (
        schedules.CosineDecayRestarts(1.0, 4, m_mul=0.5),
        {0: 1.0, 2: 0.5, 4: 0.5, 8: 0.25, 12: 0.25},
    ),
    "equal restarts": (schedules.CosineDecayRestarts(1.0, 4, t_mul=1.0), {0: 1.0, 2: 0.5, 4: 1.0, 6: 0.5}),
    "OneCycle": (schedules.OneCycle(1.0, 100, 0.3), {0: 0.04, 29: 1.0, 99: 4e-6, 500: 4e-6}),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_values(name):
    schedule, expected = EXAMPLES[name]
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, abs=1e-6)
        assert float(schedule(tz.Variable(step, dtype="int32"))) == float(schedule(step))


@pytest.mark.parametrize("name", EXAMPLES)
def test_traced_and_saved(name):
    schedule, expected = EXAMPLES[name]
    copy = schedules.deserialize(schedules.serialize(schedule))
    assert type(copy) is type(schedule)
    step = tz.Variable(0, dtype="int32", trainable=False)
    graph = tz.trace(lambda: copy(step))
    for at in expected:
        step.assign(at)
        assert float(graph()) == float(schedule(at))


def test_one_cycle_is_smooth_and_has_one_peak():
    rates = np.array([float(schedules.OneCycle(1.0, 50, 0.4)(step)) for step in range(50)])
    assert rates.argmax() == 19
    assert (np.diff(rates[:20]) > 0).all() and (np.diff(rates[19:]) < 0).all()
    middle = 0.04 + 0.96 * (1 - math.cos(math.pi * 10 / 19)) / 2
    assert rates[10] == pytest.approx(middle, rel=1e-5)


def test_bad_arguments():
    with pytest.raises(ValueError, match="decay_steps has to be positive; received 0"):
        schedules.CosineDecay(1.0, 0)
    with pytest.raises(ValueError, match="received 2 values for 2 boundaries"):
        schedules.PiecewiseConstantDecay([1, 2], [1.0, 2.0])
    with pytest.raises(NotImplementedError, match="__call__"):
        schedules.LearningRateSchedule()(0)
