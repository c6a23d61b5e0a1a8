"""Optimizers: first steps by hand, tracing, clipping, decay, averages, accumulation, exact resume."""

import warnings

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core
from tenzoo.core import ops
from tenzoo.training import optimizers, schedules

CLASSES = {name: getattr(optimizers, name) for name in optimizers.__all__ if name[0].isupper()}
# Those that wrap others are in test_tools and test_multi_optimizer.
for _name in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"):
    CLASSES.pop(_name)
VARIANTS = {
    **{name: (cls, {}) for name, cls in CLASSES.items()},
    "momentum": (optimizers.SGD, {"momentum": 0.9}),
    "nesterov": (optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
    "centered": (optimizers.RMSprop, {"momentum": 0.9, "centered": True}),
    "amsgrad": (optimizers.Adam, {"amsgrad": True}),
    "global clipnorm": (optimizers.Adam, {"global_clipnorm": 0.1, "weight_decay": 0.1}),
    "clipnorm": (optimizers.Adam, {"clipnorm": 0.1}),
    "clipvalue": (optimizers.Adam, {"clipvalue": 0.1}),
    "averages": (optimizers.Adam, {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}),
    "accumulation": (optimizers.Adam, {"gradient_accumulation_steps": 2}),
    "schedule": (optimizers.Adam, {"learning_rate": schedules.CosineDecay(0.1, 10)}),
    "loss scale": (optimizers.SGD, {"loss_scale_factor": 128.0}),
}


def model(dtype="float32"):
    rng = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (3,), "cube": (2, 2, 3)}
    return [tz.Variable(rng.normal(size=shape).astype(dtype), name=name) for name, shape in shapes.items()]


def loss_of(variables):
    kernel, bias, cube = variables
    return ops.sum(ops.square(kernel - 1.0)) + ops.sum(ops.square(bias + 2.0)) + ops.sum(ops.square(cube))


def step(optimizer, variables):
    with tz.GradientTape() as tape:
        loss = loss_of(variables)
        scaled = optimizer.scale_loss(loss)
    optimizer.apply(tape.gradient(scaled, variables), variables)
    return loss


def values(variables):
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("name", VARIANTS)
def test_traced_equals_eager(name):
    cls, options = VARIANTS[name]
    eager, traced = model(), model()
    first, second = cls(**options), cls(**options)
    second.build(traced)
    graph = tz.trace(lambda: step(second, traced))
    assert set(graph.writes) <= {*traced, *second.variables}
    for _ in range(5):
        assert float(step(first, eager)) == pytest.approx(float(graph()), rel=1e-6)
    for a, b in zip(values(eager + first.variables), values(traced + second.variables)):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", VARIANTS)
def test_learns(name):
    cls, options = VARIANTS[name]
    variables, optimizer = model(), cls(**{"learning_rate": 0.05, **options})
    losses = [float(step(optimizer, variables)) for _ in range(20)]
    assert losses[-1] < losses[0] and np.isfinite(losses).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_resume_is_exact(name):
    cls, options = VARIANTS[name]
    whole, interrupted = model(), model()
    one = cls(**options)
    for _ in range(6):
        step(one, whole)
    before = cls(**options)
    for _ in range(3):
        step(before, interrupted)
    store = {}
    before.save_own_variables(store)
    after = optimizers.deserialize(optimizers.serialize(before))
    resumed = [tz.Variable(variable.numpy(), name=variable.name) for variable in interrupted]
    after.build(resumed)
    after.load_own_variables(store)
    for _ in range(3):
        step(after, resumed)
    for a, b in zip(values(whole), values(resumed)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CLASSES)
def test_float64_stays_float64(name):
    variables, optimizer = model("float64"), CLASSES[name](learning_rate=0.01)
    step(optimizer, variables)
    assert all(variable.dtype == np.float64 for variable in variables)


def first_step(optimizer, start=(1.0, -2.0), gradient=(0.5, -4.0)):
    variable = tz.Variable(np.array(start, "float32"), name="kernel")
    optimizer.apply([np.array(gradient, "float32")], [variable])
    return variable.numpy()


def test_first_steps_by_hand():
    w, g = np.array([1.0, -2.0]), np.array([0.5, -4.0])
    np.testing.assert_allclose(first_step(optimizers.SGD(0.1)), w - 0.1 * g, rtol=1e-6)
    np.testing.assert_allclose(first_step(optimizers.Adam(0.1)), w - 0.1 * np.sign(g), rtol=1e-5)
    expected = w - 0.1 * g / np.sqrt(0.1 * g**2 + 1e-7)
    np.testing.assert_allclose(first_step(optimizers.RMSprop(0.1)), expected, rtol=1e-5)
    expected = w - 0.1 * 0.01 * w - 0.1 * np.sign(g)
    np.testing.assert_allclose(first_step(optimizers.AdamW(0.1, weight_decay=0.01)), expected, rtol=1e-5)
    np.testing.assert_allclose(first_step(optimizers.Lion(0.1)), w - 0.1 * np.sign(g), rtol=1e-6)


def test_clipping():
    w, g = np.array([1.0, -2.0]), np.array([3.0, -4.0])
    for options, clipped in [
        ({"clipvalue": 3.5}, [3.0, -3.5]),
        ({"clipnorm": 1.0}, g / 5),
        ({"global_clipnorm": 10.0}, g),
        ({"global_clipnorm": 2.5}, g / 2),
    ]:
        np.testing.assert_allclose(first_step(optimizers.SGD(1.0, **options), w, g), w - clipped, rtol=1e-6)
    assert not np.isfinite(first_step(optimizers.SGD(1.0, global_clipnorm=1.0), w, [np.inf, 1.0])).any()
    np.testing.assert_array_equal(first_step(optimizers.SGD(1.0, clipnorm=1.0), w, [0.0, 0.0]), w)
    with pytest.raises(ValueError, match="one way of clipping"):
        optimizers.SGD(clipnorm=1.0, clipvalue=1.0)


def test_weight_decay_spares_what_is_excluded():
    variables = [tz.Variable([1.0], name=name) for name in ("kernel", "bias", "embedding")]
    optimizer = optimizers.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[variables[2]], var_names=["bias", "gamma"])
    optimizer.apply([[0.0]] * 3, variables)
    np.testing.assert_allclose(np.ravel(values(variables)), [0.95, 1.0, 1.0], rtol=1e-6)
    with pytest.raises(ValueError, match="before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


def test_learning_rate_multipliers():
    variables = [tz.Variable([1.0], name=name) for name in ("block_0/kernel", "block_1/kernel", "head/kernel")]
    optimizer = optimizers.SGD(0.1, learning_rate_multipliers={"block_0": 0.25, "block": 0.5})
    optimizer.apply([[1.0]] * 3, variables)
    np.testing.assert_allclose(np.ravel(values(variables)), [0.975, 0.95, 0.9], rtol=1e-6)
    assert optimizer.get_config()["learning_rate_multipliers"] == {"block_0": 0.25, "block": 0.5}


def test_moving_averages():
    variable = tz.Variable([0.0])
    optimizer = optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    for _ in range(3):
        optimizer.apply([[-1.0]], [variable])
    assert float(variable[0]) == 3
    optimizer.finalize_variable_values([variable])
    assert float(variable[0]) == 0.25 * 1 + 0.25 * 2 + 0.5 * 3


def test_accumulation_takes_the_mean():
    variable = tz.Variable([0.0])
    optimizer = optimizers.SGD(1.0, gradient_accumulation_steps=3)
    for gradient in (1.0, 2.0, 6.0, 100.0):
        optimizer.apply([[gradient]], [variable])
    assert float(variable[0]) == -3
    assert int(optimizer.iterations) == 1


def test_learning_rate_can_be_read_and_set():
    optimizer = optimizers.Adam(0.01)
    assert float(optimizer.learning_rate) == pytest.approx(0.01)
    assert optimizer.get_config()["learning_rate"] == 0.01
    optimizer.learning_rate = 0.5
    assert float(optimizer.learning_rate) == 0.5
    assert optimizers.deserialize(optimizers.serialize(optimizer)).get_config()["learning_rate"] == 0.5
    optimizer.learning_rate = schedules.ExponentialDecay(1.0, 1, 0.5)
    optimizer.apply([[1.0]], [tz.Variable([1.0])])
    assert float(optimizer.learning_rate) == 0.5
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert isinstance(again._learning_rate, schedules.ExponentialDecay)
    with pytest.raises(TypeError, match="follows a schedule"):
        optimizer.learning_rate = 0.1
    with pytest.raises(ValueError, match="a number, a schedule or a function"):
        optimizers.SGD("fast")
    assert float(optimizers.SGD(lambda: 0.25).learning_rate) == 0.25


def test_a_set_learning_rate_reaches_the_compiled_step():
    variable, optimizer = tz.Variable([1.0]), optimizers.SGD(0.1)
    optimizer.build([variable])
    graph = tz.trace(lambda: optimizer.apply([core.tensor([1.0])], [variable]))
    optimizer.learning_rate = 0.5
    graph()
    assert float(variable[0]) == 0.5


def test_missing_gradients():
    variables, optimizer = model(), optimizers.SGD()
    with pytest.raises(ValueError, match="No variable has a gradient: kernel, bias, cube"):
        optimizer.apply([None] * 3, variables)
    before = variables[1].numpy()
    with pytest.warns(UserWarning, match="bias: the loss does not depend"):
        optimizer.apply([np.ones((4, 3)), None, np.ones((2, 2, 3))], variables)
    np.testing.assert_array_equal(variables[1].numpy(), before)
    with pytest.raises(ValueError, match="was built with"):
        optimizer.apply([[1.0]], [tz.Variable([1.0], name="other")])
    with pytest.raises(ValueError, match="one gradient per variable; received 1 for 3"):
        optimizer.apply([[1.0]])
    with pytest.raises(ValueError, match=r"call build\(variables\)"):
        optimizers.SGD().apply([[1.0]])


def test_apply_gradients_and_constraints():
    variable = tz.Variable([1.0])
    variable.constraint = lambda value: ops.maximum(value, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count = optimizers.SGD(1.0).apply_gradients([(core.tensor([5.0]), variable)])
    assert float(variable[0]) == 0 and int(count) == 1


def test_paths_are_stable_and_unique():
    variables = [tz.Variable([1.0], name="w"), tz.Variable([2.0], name="w")]
    paths = []
    for _ in range(2):
        optimizer = optimizers.SGD(momentum=0.9)
        optimizer.build(variables)
        paths.append([variable.path for variable in optimizer.variables])
    assert paths[0] == paths[1] == ["sgd/iteration", "sgd/learning_rate", "sgd/momentum/w", "sgd/momentum/w_1"]


def test_slots_do_not_share_memory():
    """They may be cut from one piece, but a step, or an assignment, changes one alone."""
    weights = [
        core.Variable(np.ones(shape, dtype)) for shape, dtype in [((3, 5), "f"), ((), "f"), ((2,), "d"), ((0, 4), "f")]
    ]
    optimizer = optimizers.Adam(0.1, amsgrad=True)
    optimizer.build(weights)
    slots = [slot for weight in weights for slot in optimizer.state(weight)]
    assert len(slots) == 12 and not any(np.any(slot) for slot in slots)
    assert [slot.dtype for slot in slots] == [weight.dtype for weight in weights for _ in range(3)]
    step = core.jit(lambda: optimizer.apply([ops.ones(w.shape, w.dtype) * (i + 1) for i, w in enumerate(weights)]))
    step()
    for i, weight in enumerate(weights):
        for slot, expected in zip(optimizer.state(weight), (0.1 * (i + 1), 0.001 * (i + 1) ** 2), strict=False):
            np.testing.assert_allclose(slot, np.full(weight.shape, expected), rtol=1e-5)


def test_state_that_does_not_fit_is_refused():
    optimizer, store = optimizers.Adam(), {}
    optimizer.build(model())
    optimizer.save_own_variables(store)
    other = optimizers.Adam(amsgrad=True)
    other.build(model())
    with pytest.raises(ValueError, match=r"missing .*velocity_hat"):
        other.load_own_variables(store)


def test_lookup():
    assert type(optimizers.get("adam")) is type(optimizers.get("Adam")) is optimizers.Adam
    assert type(optimizers.get("RMSprop")) is type(optimizers.get("rmsprop")) is optimizers.RMSprop
    assert type(optimizers.get(optimizers.Lion)) is optimizers.Lion
    with pytest.raises(ValueError, match="Did you mean 'adam'"):
        optimizers.get("adamv")
    with pytest.raises(ValueError, match="Expected an optimizer"):
        optimizers.get(3)


def test_an_optimizer_as_written_for_keras():
    class Momentum(optimizers.Optimizer):
        def __init__(self, learning_rate=0.1, momentum=0.9, **options):
            super().__init__(learning_rate=learning_rate, **options)
            self.momentum = momentum

        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.momenta = [self.add_variable_from_reference(v, name="momentum") for v in variables]

        def update_step(self, gradient, variable, learning_rate):
            momentum = self.momenta[self._get_variable_index(variable)]
            self.assign(momentum, ops.subtract(ops.multiply(momentum, self.momentum), gradient * learning_rate))
            self.assign_add(variable, momentum)

    ours, theirs = model(), model()
    own, built_in = Momentum(), optimizers.SGD(0.1, momentum=0.9)
    for _ in range(3):
        step(own, ours)
        step(built_in, theirs)
    for a, b in zip(values(ours), values(theirs)):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("name", CLASSES)
def test_an_optimizer_may_be_built_while_a_step_is_traced(name):
    weights = [tz.Variable([[1.0, -2.0], [0.5, 3.0]]) for _ in range(2)]
    updates = [CLASSES[name]().apply for _ in range(2)]
    updates[1] = tz.jit(lambda gradients, apply=updates[1]: apply(gradients, [weights[1]]))
    updates[0]([tz.tensor([[0.1, -0.2], [0.3, 0.4]])], [weights[0]])
    updates[1]([tz.tensor([[0.1, -0.2], [0.3, 0.4]])])
    np.testing.assert_allclose(weights[1].numpy(), weights[0].numpy(), rtol=1e-5)
