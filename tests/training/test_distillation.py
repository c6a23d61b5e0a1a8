"""Distillation: the loss against its formula, what is trained and what is not, saving."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo.distillation import Distiller, LogitsDistillation

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
Y = (X[:, 0] + X[:, 1] > 0).astype("int64") + (X[:, 2] > 0)
LOSS = tz.losses.SparseCategoricalCrossentropy(from_logits=True)


def net(units=8):
    return tz.Sequential(
        [tz.layers.Dense(units, activation="relu"), tz.layers.BatchNormalization(), tz.layers.Dense(3)]
    )


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_is_hintons(temperature):
    teacher, student = RNG.normal(size=(2, 5, 3))
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    expected = temperature**2 * np.mean(np.sum(p * np.log(p / q), -1))
    np.testing.assert_allclose(LogitsDistillation(temperature)(teacher, student), expected, rtol=1e-5)
    np.testing.assert_allclose(LogitsDistillation(temperature)(teacher, teacher), 0, atol=1e-7)


def test_gradient_at_high_temperatures_is_that_of_the_logits_difference():
    # Hinton et al., section 2.1: for zero-mean logits T² times the gradient tends to (student - teacher) / classes.
    teacher, student = RNG.normal(size=(2, 1, 3)).astype("float64")
    teacher, student = teacher - teacher.mean(), student - student.mean()
    gradient = tz.grad(lambda logits: LogitsDistillation(1e3)(teacher, logits))(tz.tensor(student))
    np.testing.assert_allclose(gradient, (student - teacher) / 3, rtol=1e-2, atol=1e-3)


def test_total_loss_and_evaluation():
    tz.utils.set_random_seed(0)
    teacher, student = net(16), net()
    distiller = Distiller(
        teacher, student, [LogitsDistillation(2.0), lambda t, s: tz.ops.mean((t - s) ** 2)], [1, 3], 0.3
    )
    distiller.compile(tz.optimizers.SGD(0.0), LOSS)
    loss = distiller.fit(X, Y, batch_size=64, verbose=0, shuffle=False).history["loss"][0]
    told, said = np.asarray(teacher(X)), np.asarray(student(X, training=True))
    soft = float(LogitsDistillation(2.0)(told, said)) + 3 * np.mean((told - said) ** 2)
    np.testing.assert_allclose(loss, 0.3 * float(LOSS(Y, said)) + 0.7 * soft, rtol=1e-4)
    np.testing.assert_allclose(distiller.evaluate(X, Y, verbose=0), float(LOSS(Y, student(X))), rtol=1e-5)
    np.testing.assert_allclose(distiller.predict(X, verbose=0), student(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("eager", [False, True])
def test_the_student_alone_is_trained(eager):
    teacher, student = net(16), net()
    distiller = Distiller(teacher, student, LogitsDistillation())
    distiller.compile("adam", LOSS, metrics=["accuracy"], run_eagerly=eager)
    teacher(X), student(X)
    before = teacher.get_weights(), student.get_weights()
    history = distiller.fit(X, Y, batch_size=16, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] and "accuracy" in history
    for old, new in zip(before[0], teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(np.any(old != new) for old, new in zip(before[1], student.get_weights(), strict=True))
    assert {id(w) for w in distiller.trainable_weights} == {id(w) for w in student.trainable_weights}
    assert len(teacher.trainable_weights) == 6, "the teacher itself is not changed"


def test_soft_targets_alone_make_the_student_agree():
    tz.utils.set_random_seed(1)
    teacher, student = (tz.Sequential([tz.layers.Dense(3)]) for _ in range(2))
    teacher(X)
    distiller = Distiller(teacher, student, LogitsDistillation(2.0), student_loss_weight=0.0)
    distiller.compile(tz.optimizers.Adam(0.05), LOSS)
    distiller.fit(X, np.zeros_like(Y), epochs=40, verbose=0)  # the labels do not count
    agree = np.argmax(student.predict(X, verbose=0), 1) == np.argmax(teacher.predict(X, verbose=0), 1)
    assert agree.mean() > 0.9


def test_saved_and_loaded(tmp_path):
    distiller = Distiller(net(), net(), LogitsDistillation(5.0), student_loss_weight=0.2)
    distiller.compile("adam", LOSS)
    distiller.fit(X, Y, verbose=0)
    distiller.save(tmp_path / "both.tenzoo")
    loaded = tz.load_model(tmp_path / "both.tenzoo")
    np.testing.assert_allclose(loaded(X), distiller(X), rtol=1e-6)
    np.testing.assert_allclose(loaded.teacher(X), distiller.teacher(X), rtol=1e-6)
    assert loaded.distillation_losses[0].temperature == 5.0 and loaded.student_loss_weight == 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogitsDistillation(0), "temperature has to be positive; received 0"),
        (lambda: Distiller(net(), net(), LogitsDistillation(), student_loss_weight=2), r"in \[0, 1\]; received 2"),
        (lambda: Distiller(net(), net(), [LogitsDistillation()], [1, 2]), "1 losses and 2 weights"),
        (lambda: LogitsDistillation()(np.zeros((2, 3)), np.zeros((2, 4))), "shape (2, 3), those of the student (2, 4)"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message.replace("\\", "") in str(caught.value)
