"""steps_per_execution: several steps in one compiled call give the numbers of as many calls."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import layers
from tenzoo.training import several_steps, trainer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 6, 3)).astype("float32")
Y = RNG.integers(0, 3, 70)


def dense():
    middle = [layers.Dense(8, "relu"), layers.Dropout(0.3), layers.BatchNormalization()]
    return [layers.Flatten(), *middle, layers.Dense(3)]


def recurrent():
    return [layers.LSTM(4, dropout=0.2), layers.Dense(3)]


def convolution():
    return [layers.Conv1D(4, 3, padding="same"), layers.GlobalMaxPooling1D(), layers.Dense(3)]


def train(make, steps, **options):
    tz.utils.set_random_seed(1)
    model = tz.Sequential([layers.Input((6, 3)), *make()])
    rate = tz.optimizers.schedules.ExponentialDecay(0.01, 3, 0.9)
    loss = tz.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        tz.optimizers.Adam(rate, clipnorm=1.0), loss, metrics=["accuracy"], steps_per_execution=steps, **options
    )
    calls = []
    count = tz.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: calls.append((batch, logs["loss"])))
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, validation_data=(X[:40], Y[:40]), callbacks=[count])
    return model, history.history, calls


@pytest.mark.parametrize("make", [dense, recurrent, convolution])
def test_same_numbers_as_one_by_one(make):
    one, several = train(make, 1), train(make, 4)
    assert [batch for batch, _ in several[2]] == [3, 7, 8] * 2  # 9 batches, the last of 6 samples
    assert [loss for _, loss in several[2]] == pytest.approx([one[2][i][1] for i in (3, 7, 8, 12, 16, 17)], rel=1e-6)
    for name, values in one[1].items():
        np.testing.assert_allclose(several[1][name], values, rtol=1e-6)
    for a, b in zip(one[0].variables, several[0].variables, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-7)
    assert int(one[0].optimizer.iterations) == int(several[0].optimizer.iterations) == 18


def test_one_call_for_a_group(monkeypatch):
    sizes = []
    run = trainer._Compiled.in_loop
    monkeypatch.setattr(
        trainer._Compiled, "in_loop", lambda self, batches: sizes.append(len(batches)) or run(self, batches)
    )
    single = []
    call = trainer._Compiled.__call__
    monkeypatch.setattr(trainer._Compiled, "__call__", lambda self, batch: single.append(1) or call(self, batch))
    train(dense, 4)
    assert sizes == [4] * 6  # in each epoch two groups of training and one of validation ...
    assert len(single) == 4  # ... and two batches that remain
    train(dense, 4, run_eagerly=True)
    assert len(sizes) == 6


def test_large_models_are_called_step_by_step(monkeypatch):
    expected = train(dense, 1)[1]["loss"]
    monkeypatch.setattr(several_steps, "MOST_STATE", 100)
    assert train(dense, 4)[1]["loss"] == expected


def test_metrics_in_the_place_of_loss_weights():
    model = tz.Sequential([layers.Input((6, 3)), *dense()])
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
    with pytest.raises(ValueError, match=r"loss_weights are numbers.*'accuracy'"):
        model.fit(X, Y, verbose=0)


class Adversary(tz.Model):
    """Two networks with an optimizer each, trained against each other by a step of their own."""

    def __init__(self):
        super().__init__()
        self.generator = tz.Sequential([tz.Input((2,)), layers.Dense(18)])
        self.critic = tz.Sequential([tz.Input((18,)), layers.Dense(1)])
        self.generator_optimizer, self.critic_optimizer = tz.optimizers.Adam(0.01), tz.optimizers.SGD(0.01)
        self.mean = tz.metrics.Mean(name="critic")

    def train_step(self, data):
        x = tz.ops.reshape(data[0], (-1, 18))
        noise = tz.random.normal((x.shape[0], 2))
        for network, optimizer, sign in (
            (self.critic, self.critic_optimizer, 1.0),
            (self.generator, self.generator_optimizer, -1.0),
        ):
            with tz.GradientTape() as tape:
                made, real = self.critic(self.generator(noise)), self.critic(x)
                loss = sign * (tz.ops.mean(tz.ops.softplus(made)) + tz.ops.mean(tz.ops.softplus(-real)))
            weights = network.trainable_weights
            optimizer.apply(tape.gradient(loss, weights), weights)
        self.mean.update_state(loss)
        return {"loss": loss, "critic": self.mean.result()}


def test_a_step_of_ones_own_on_batches_of_a_generator():
    def batches():
        for at in range(0, 64, 8):
            yield X[at : at + 8], Y[at : at + 8]

    runs = []
    for steps in (1, 4):
        tz.utils.set_random_seed(1)
        model = Adversary()
        model.compile(steps_per_execution=steps)
        history = model.fit(batches(), verbose=0).history
        runs.append([history["critic"], *map(np.array, model.variables)])
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
