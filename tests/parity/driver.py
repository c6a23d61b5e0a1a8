"""One driver for layers: built in Keras and here, with the same weights, and trained side by side for three steps."""

import os
from dataclasses import dataclass, field
from typing import Any

import jax
import keras
import numpy as np
from hypothesis import HealthCheck, Phase, settings

import tenzoo as tz
from tenzoo import core
from tenzoo.core import pytree

# As many random cases for each test as TENZOO_PARITY_EXAMPLES says, and then failures are made small. Without it a
# few, the same each time, as each of them has to be compiled twice.
EXAMPLES = os.environ.get("TENZOO_PARITY_EXAMPLES")


def examples(count):
    """Settings of a property that is tried on ``count`` examples by default."""
    return settings(
        max_examples=int(EXAMPLES or count),
        phases=list(Phase) if EXAMPLES else [Phase.explicit, Phase.generate],
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@dataclass(frozen=True)
class Random:
    """An array that is drawn anew for each step: ``kind`` is normal, uniform, mask, or the upper end of integers."""

    shape: tuple
    kind: str | int = "normal"

    def sample(self, generator):
        if self.kind == "normal":
            return generator.normal(size=self.shape).astype("float32")
        if self.kind == "uniform":
            return generator.uniform(size=self.shape).astype("float32")
        if self.kind == "mask":
            return generator.uniform(size=self.shape) < 0.6
        return generator.integers(0, self.kind, self.shape).astype("int32")


@dataclass(frozen=True)
class Inner:
    """A layer among the arguments of another one."""

    name: str
    arguments: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Arguments of the constructor, inputs, and further arguments of the call."""

    inputs: Any
    arguments: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


def make(library, name, arguments):
    """The layer ``name`` of ``keras`` or ``tenzoo``."""

    def made(value):
        if isinstance(value, list):
            return [made(part) for part in value]
        return make(library, value.name, value.arguments) if isinstance(value, Inner) else value

    found = getattr(library.layers, name, None) or getattr(library, name)
    return found(**{key: made(value) for key, value in arguments.items()})


def sample(tree, generator):
    return pytree.map(lambda leaf: leaf.sample(generator) if isinstance(leaf, Random) else leaf, tree)


def is_float(leaf):
    return np.dtype(leaf.dtype).kind == "f"


def objective(outputs):
    """The outputs' mean with weights of either sign: what is trained."""
    generator, total = np.random.default_rng(7), 0.0
    for output in pytree.flatten(outputs):
        weights = generator.normal(size=output.shape).astype("float32") / max(1, np.prod(output.shape))
        if is_float(output):
            total = total + (output * weights).sum()
    return total


def their_step(layer, optimizer, static):
    """step(data, trained, fixed, slots) -> (results, new trained, new fixed, new slots), compiled by JAX."""
    variables = layer.trainable_variables, untrained(layer)

    def step(data, trained, fixed, slots):
        leaves, tree = jax.tree_util.tree_flatten(data)
        moving = [is_float(leaf) for leaf in leaves]

        def loss(floats, trained):
            floats = iter(floats)
            merged = [next(floats) if m else leaf for m, leaf in zip(moving, leaves)]
            inputs, options = jax.tree_util.tree_unflatten(tree, merged)
            known = [*zip(variables[0], trained), *zip(variables[1], fixed)]
            with keras.StatelessScope(known, collect_losses=True) as scope:
                output = layer(inputs, **options, **static)
                total = objective(output) + sum(layer.losses)
            changed = [scope.get_current_value(variable) for variable in variables[1]]
            return total, (output, [old if new is None else new for old, new in zip(fixed, changed)])

        floats = [leaf for m, leaf in zip(moving, leaves) if m]
        gradients, (output, fixed) = jax.grad(loss, (0, 1), has_aux=True)(floats, trained)
        if trained:
            trained, slots = optimizer.stateless_apply(slots, gradients[1], trained)
        return (output, gradients), trained, fixed, slots

    return jax.jit(step)


def untrained(layer):
    """The variables of a layer of Keras that gradients do not change; states are not among its variables."""
    states = [pytree.flatten(getattr(part, "states", None)) for part in layer._flatten_layers()]
    return [*layer.non_trainable_variables, *(state for some in states for state in some)]


def our_step(layer, optimizer, static):
    """step(data) -> results; weights and slots are updated in place."""

    def step(data):
        data = pytree.map(core.tensor, data)
        inputs, options = data
        watched = [leaf for leaf in pytree.flatten(data) if is_float(leaf)]
        with core.GradientTape() as tape:
            tape.watch(watched)
            output = layer(inputs, **options, **static)
            loss = core.tensor(objective(output) + sum(layer.losses))
        weights = layer.trainable_variables
        found = tape.gradient(loss, [*watched, *weights])
        gradients = [core.ops.zeros_like(v) if g is None else g for g, v in zip(found, [*watched, *weights])]
        if weights:
            optimizer.apply(gradients[len(watched) :], weights)
        return output, (gradients[: len(watched)], gradients[len(watched) :])

    return step


def assert_near(found, expected, what, tolerance=1e-5):
    """Every array within ``tolerance`` of the largest number among them."""
    found = [np.asarray(leaf) for leaf in pytree.flatten(found)]
    expected = [np.asarray(leaf) for leaf in pytree.flatten(expected)]
    assert [leaf.shape for leaf in found] == [leaf.shape for leaf in expected], what
    numbers = [np.abs(leaf[np.isfinite(leaf)]).max(initial=0) for leaf in expected if leaf.dtype.kind == "f"]
    scale = max(1e-3, *numbers) if numbers else 1.0
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def compare(name, case, optimizer=("SGD", {"learning_rate": 0.5, "momentum": 0.9}), compiled=True, steps=3):
    """Train the layer ``name`` in both libraries: outputs, gradients, weights and states agree after each step."""
    generator = np.random.default_rng(0)
    static = {key: value for key, value in case.options.items() if isinstance(value, (bool, str))}
    arrays = {key: value for key, value in sorted(case.options.items()) if key not in static}  # in JAX's order
    batches = [sample((case.inputs, arrays), generator) for _ in range(steps)]
    theirs, ours = (make(library, name, case.arguments) for library in (keras, tz))
    if name == "Normalization":  # it keeps what it computes when it is built
        theirs.build(case.inputs.shape)
    jax.eval_shape(lambda inputs, options: theirs(inputs, **options, **static), *batches[0])
    for variable in untrained(theirs):
        if isinstance(variable.value, jax.core.Tracer):  # a state, left behind by finding the shapes
            variable.assign(np.zeros(variable.shape, "float32"))
    ours(batches[0][0], **batches[0][1], **static)
    if hasattr(ours, "reset_state"):
        ours.reset_state()
    _share_weights(theirs, ours, generator)

    kind, settings_of_it = optimizer
    their_optimizer, our_optimizer = (getattr(library.optimizers, kind)(**settings_of_it) for library in (keras, tz))
    if theirs.trainable_variables:
        their_optimizer.build(theirs.trainable_variables)
    state = [[v.value for v in vs] for vs in (theirs.trainable_variables, untrained(theirs))]
    state.append([variable.value for variable in their_optimizer.variables])
    their, our = their_step(theirs, their_optimizer, static), our_step(ours, our_optimizer, static)
    our = core.jit(our) if compiled else our
    weights = {id(variable) for variable in theirs.non_trainable_weights}
    shown = [id(variable) in weights for variable in untrained(theirs)]
    for number, batch in enumerate(batches):
        (outputs, gradients), *state = their(batch, *state)
        our_outputs, our_gradients = our(batch)
        where = f"in step {number}"
        assert_near(our_outputs, outputs, f"outputs {where}")
        assert_near(our_gradients, gradients, f"gradients {where}")
        assert_near(ours.trainable_variables, state[0], f"weights {where}")
        assert_near(ours.non_trainable_weights, [v for v, s in zip(state[1], shown) if s], f"state {where}")


def _share_weights(theirs, ours, generator):
    values = []
    for weight in theirs.weights:
        low, high = (-0.6, 0.9) if weight.trainable else (0.5, 1.5)  # variances among the latter
        values.append(generator.uniform(low, high, weight.shape).astype("float32"))
    theirs.set_weights(values)
    ours.set_weights(values)
