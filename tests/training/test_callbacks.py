"""Callbacks: their hooks in order, and what each of the ready-made ones does."""

import csv
import math

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import layers
from tenzoo.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)


def make_model(learning_rate=0.1):
    tz.random.seed(0)
    model = tz.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile(tz.optimizers.SGD(learning_rate), "mse")
    return model


DATA = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")


class Scripted(Callback):
    """Puts given values into the logs, as if training had gone that way."""

    def __init__(self, **values):
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs.update({name: values[epoch] for name, values in self.values.items()})


def fit(callbacks, epochs=6, model=None, **options):
    model = model or make_model()
    return model.fit(*DATA, batch_size=4, epochs=epochs, verbose=0, callbacks=callbacks, **options)


def test_hooks_in_order():
    seen = []

    class Recorder(Callback):
        def on_batch_end(self, batch, logs=None):
            seen.append(("batch", batch, sorted(logs)))

        def on_epoch_begin(self, epoch, logs=None):
            seen.append(("begin", epoch))

        def on_epoch_end(self, epoch, logs=None):
            seen.append(("end", epoch, sorted(logs)))

        def on_test_begin(self, logs=None):
            seen.append("test")

        def on_train_end(self, logs=None):
            seen.append("over")

    recorder = Recorder()
    fit([recorder], epochs=1, validation_data=DATA)
    assert seen == [
        ("begin", 0),
        ("batch", 0, ["loss"]),
        ("batch", 1, ["loss"]),
        "test",
        ("end", 0, ["loss", "val_loss"]),
        "over",
    ]
    assert recorder.params["epochs"] == 1 and recorder.params["steps"] == 2 and recorder.model.compiled


def test_evaluate_and_predict_call_their_hooks():
    seen = []
    hooks = {
        name: lambda *_, name=name: seen.append(name)
        for name in ("on_test_end", "on_test_batch_end", "on_predict_begin", "on_predict_batch_end")
    }
    model = make_model()
    model.evaluate(*DATA, verbose=0, callbacks=[LambdaCallback(**hooks)])
    model.predict(DATA[0], verbose=0, callbacks=[LambdaCallback(**hooks)])
    assert seen == ["on_test_batch_end", "on_test_end", "on_predict_begin", "on_predict_batch_end"]
    with pytest.raises(TypeError, match="on_epoch_ends"):
        LambdaCallback(on_epoch_ends=print)
    with pytest.raises(TypeError, match="Expected a Callback"):
        model.predict(DATA[0], callbacks=["EarlyStopping"])


def test_stop_training_in_an_epoch():
    model = make_model()
    stop = LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", True))
    assert fit([stop], model=model).epoch == [0]


@pytest.mark.parametrize(
    "options, values, epochs",
    [
        ({"patience": 2}, [3, 2, 2, 2, 1, 0], 4),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.8, 2.7, 0, 0, 0], 3),
        ({"patience": 1, "mode": "max"}, [1, 2, 1, 3, 4, 5], 3),
        ({"patience": 1, "start_from_epoch": 3}, [1, 2, 3, 4, 5, 6], 5),
        ({"patience": 2, "baseline": 1.0}, [3, 2, 2, 0, 0, 0], 3),
    ],
)
def test_early_stopping(options, values, epochs):
    history = fit([Scripted(loss=values), EarlyStopping(monitor="loss", **options)])
    assert len(history.epoch) == epochs


def test_early_stopping_restores_the_best_weights():
    weights = []
    model = make_model()
    record = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()))
    stopping = EarlyStopping(monitor="loss", patience=2, restore_best_weights=True)
    fit([Scripted(loss=[3, 1, 2, 2, 0, 0]), record, stopping], model=model)
    assert stopping.best_epoch == 1 and stopping.stopped_epoch == 3
    assert np.array_equal(model.get_weights()[0], weights[1][0])
    assert not np.array_equal(model.get_weights()[0], weights[3][0])


def test_monitor_that_is_missing_or_of_unknown_direction():
    with pytest.warns(UserWarning, match="'val_loss', which is not in the logs"):
        fit([EarlyStopping()], epochs=1)
    with pytest.raises(ValueError, match="mode='max'"):
        fit([Scripted(speed=[1] * 6), EarlyStopping(monitor="speed")])
    with pytest.raises(ValueError, match='"auto", "min" or "max"'):
        EarlyStopping(mode="up")


def test_direction_is_that_of_the_metric():
    model = make_model()
    model.compile("sgd", "mse", metrics=["mae", tz.metrics.BinaryAccuracy(name="right")])
    history = fit([Scripted(right=[1, 2, 3, 2, 2, 2]), EarlyStopping(monitor="right", patience=1)], model=model)
    assert len(history.epoch) == 4


def test_learning_rate_scheduler():
    history = fit([LearningRateScheduler(lambda epoch, rate: rate * 0.5)], epochs=3)
    assert history.history["learning_rate"] == pytest.approx([0.05, 0.025, 0.0125])
    history = fit([LearningRateScheduler(lambda epoch: 1 / (epoch + 1))], epochs=3)
    assert history.history["learning_rate"] == pytest.approx([1, 1 / 2, 1 / 3])
    with pytest.raises(ValueError, match="float"):
        fit([LearningRateScheduler(lambda epoch: None)])


def test_reduce_lr_on_plateau():
    plateau = ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, cooldown=1, min_lr=0.03)
    history = fit([Scripted(loss=[3, 3, 3, 3, 3, 3]), plateau])
    # reduced after epoch 1; cooling down in epoch 2 ends there; then at once again, to the lowest rate
    assert history.history["learning_rate"] == pytest.approx([0.1, 0.1, 0.05, 0.03, 0.03, 0.03])
    with pytest.raises(ValueError, match="below 1"):
        ReduceLROnPlateau(factor=1.5)


def test_model_checkpoint_best_only_and_names(tmp_path):
    best = tmp_path / "sub" / "best.tenzoo"
    values = [3.0, 2.0, 4.0]
    model = make_model()
    record = []
    callbacks = [
        Scripted(loss=values),
        LambdaCallback(on_epoch_end=lambda epoch, logs: record.append(model.get_weights()[0])),
        ModelCheckpoint(best, monitor="loss", save_best_only=True),
        ModelCheckpoint(tmp_path / "w-{epoch:02d}-{loss:.1f}.weights.safetensors", save_weights_only=True),
    ]
    fit(callbacks, epochs=3, model=model)
    assert np.array_equal(tz.load_model(best).get_weights()[0], record[1])
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert names == [f"w-0{i + 1}-{value}.weights.safetensors" for i, value in enumerate(values)]
    with pytest.raises(KeyError, match="not in the logs"):
        fit([ModelCheckpoint(tmp_path / "{acc}.tenzoo")])


def test_model_checkpoint_by_batches(tmp_path):
    fit([ModelCheckpoint(tmp_path / "{epoch}-{batch}.tenzoo", save_freq=3)], epochs=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2-1.tenzoo", "3-2.tenzoo"]
    with pytest.raises(ValueError, match="save_freq"):
        ModelCheckpoint("x", save_freq=0)


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    fit([CSVLogger(path)], epochs=2)
    fit([CSVLogger(path, append=True)], epochs=3, initial_epoch=2)
    rows = list(csv.DictReader(path.open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    fit([CSVLogger(path, separator=";")], epochs=1)
    assert path.read_text().splitlines()[0] == "epoch;loss"


def test_terminate_on_nan(capsys):
    x, y = DATA
    model = make_model()
    with pytest.warns(UserWarning, match="became nan"):
        history = model.fit(x, y * np.nan, batch_size=4, epochs=3, verbose=0, callbacks=[TerminateOnNaN()])
    assert history.epoch == [0] and "batch 0" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="nan"), pytest.raises(RuntimeError, match="nan"):
        model.fit(x, y * np.nan, verbose=0, callbacks=[TerminateOnNaN(raise_error=True)])


def test_progress_as_plain_lines(capsys):
    model = make_model()
    model.fit(*DATA, epochs=2, validation_data=DATA)
    model.evaluate(*DATA)
    model.predict(DATA[0])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Epoch 1/2", "Epoch 2/2", "Evaluate", "Predict"]
    assert "loss" in lines[0] and "val_loss" in lines[0] and "samples/s" in lines[0]
    model.fit(*DATA, verbose=0)
    model.predict(DATA[0], verbose=0)
    assert capsys.readouterr().out == ""


def test_progress_as_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    make_model().fit(*DATA, batch_size=2, epochs=2, verbose=1)
    text = capsys.readouterr().out
    assert "Epoch 2/2: 100%" in text and "4/4" in text and "loss" in text and "samples/s" in text
