"""Distillation gives the losses and the trained students that Keras gives."""

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
pytest.importorskip("keras.distillation")  # new in Keras 3.12

import tenzoo as tz  # noqa: E402

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = RNG.integers(0, 3, 12)


def logits_loss(library, temperature):
    if library is keras:  # by its class: the name gives a function, which Keras does not scale
        return keras.distillation.LogitsDistillation(temperature, loss=keras.losses.KLDivergence())
    return tz.distillation.LogitsDistillation(temperature)


@pytest.mark.parametrize("temperature", [1.0, 3.0, 10.0])
def test_loss(temperature):
    teacher, student = 3 * RNG.normal(size=(2, 6, 5)).astype("float32")
    theirs = logits_loss(keras, temperature).compute_loss(teacher, student)
    np.testing.assert_allclose(logits_loss(tz, temperature)(teacher, student), theirs, rtol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_three_steps(weight):
    students, initial = {}, None
    for library in (keras, tz):
        teacher, student = (
            library.Sequential(
                [library.layers.Input((4,)), library.layers.Dense(units, "tanh"), library.layers.Dense(3)]
            )
            for units in (8, 5)
        )
        initial = initial or [model.get_weights() for model in (teacher, student)]
        for model, weights in zip((teacher, student), initial):
            model.set_weights(weights)
        distiller = library.distillation.Distiller(
            teacher, student, [logits_loss(library, 2.0)], [1.5], student_loss_weight=weight
        )
        loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(optimizer=library.optimizers.SGD(0.3), loss=loss)
        distiller.fit(X, Y, batch_size=4, epochs=1, shuffle=False, verbose=0)
        students[library] = student.get_weights()
    for ours, theirs, before in zip(students[tz], students[keras], initial[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        assert np.abs(ours - before).max() > 1e-3
