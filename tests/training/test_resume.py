"""Exact resume: a fit that is killed and run again ends with the bits of one that ran through."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import layers
from tenzoo.callbacks import BackupAndRestore, Callback, EarlyStopping

SCRIPT = textwrap.dedent(
    """
    import os, signal, sys
    import numpy as np
    import tenzoo as tz
    from tenzoo import layers
    from tenzoo.callbacks import *

    folder, source, save_freq, kill_after = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    tz.random.seed(11)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 6)).astype("float32"), rng.integers(0, 3, 50)

    class Kill(Callback):
        count = 0

        def on_train_batch_begin(self, batch, logs=None):
            self.count += 1
            if self.count == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

    model = tz.Sequential([
        layers.Dense(8, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(3),
    ])
    loss = tz.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tz.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    options = {"validation_data": (x, y), "epochs": 4, "verbose": 0}
    if source == "arrays":
        data = dict(x=x, y=y, batch_size=8)
    elif source == "dataset":
        data = dict(x=tz.datasets.Dataset.from_arrays((x, y)).shuffle(seed=3).batch(8).prefetch(2))
    elif source == "generator":
        batches = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 48, 8)]
        data = dict(x=(batch for _ in range(9) for batch in batches), steps_per_epoch=7)
    frequency = save_freq if save_freq == "epoch" else int(save_freq)
    history = model.fit(**data, **options, callbacks=[
        BackupAndRestore(folder + "/backup", save_freq=frequency),
        LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        EarlyStopping("val_loss", patience=100, restore_best_weights=True),
        CSVLogger(folder + "/log.csv"),
        Kill(),
    ])
    model.save_weights(folder + "/end.safetensors")
    np.save(folder + "/losses.npy", [history.history[k] for k in ("loss", "val_loss", "accuracy")])
    """
)


def run(folder, source, save_freq, kill_after=-1):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(folder), source, str(save_freq), str(kill_after)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    results = {}

    def once(source):
        if source not in results:
            folder = tmp_path_factory.mktemp(source)
            finished = run(folder, source, "epoch")
            assert finished.returncode == 0, finished.stderr
            results[source] = folder
        return results[source]

    return once


@pytest.mark.parametrize(
    "source, save_freq, kills",
    [("arrays", 2, (5, 9)), ("arrays", "epoch", (10,)), ("dataset", 3, (12,)), ("generator", 2, (12,))],
)
def test_killed_and_run_again(source, save_freq, kills, tmp_path, uninterrupted):
    expected = uninterrupted(source)
    for batches in kills:
        killed = run(tmp_path, source, save_freq, kill_after=batches)
        assert killed.returncode == -9, killed.stderr
    finished = run(tmp_path, source, save_freq)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "end.safetensors").read_bytes() == (expected / "end.safetensors").read_bytes()
    assert np.array_equal(np.load(tmp_path / "losses.npy"), np.load(expected / "losses.npy"))
    assert (tmp_path / "log.csv").read_text() == (expected / "log.csv").read_text()
    assert not (tmp_path / "backup").exists()


def make_model():
    model = tz.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


X, Y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")


class Interrupt(Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def interrupted(folder, **options):
    with pytest.raises(KeyboardInterrupt):
        make_model().fit(X, Y, epochs=4, verbose=0, callbacks=[BackupAndRestore(folder, **options), Interrupt()])


def test_history_and_epochs_go_on(tmp_path):
    interrupted(tmp_path / "b")
    seen = []

    class Other(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(epoch)

    history = make_model().fit(X, Y, epochs=4, verbose=2, callbacks=[BackupAndRestore(tmp_path / "b"), Other()])
    assert seen == [2, 3] and history.epoch == [0, 1, 2, 3] and len(history.history["loss"]) == 4


def test_backup_of_another_script_is_refused(tmp_path):
    interrupted(tmp_path / "b")
    callbacks = [BackupAndRestore(tmp_path / "b"), EarlyStopping("loss")]
    with pytest.raises(ValueError, match="made with the callbacks"):
        make_model().fit(X, Y, epochs=4, verbose=0, callbacks=callbacks)
    other = tz.Sequential([layers.Input((2,)), layers.Dense(3), layers.Dense(1)])
    other.compile("sgd", "mse")
    with pytest.raises(ValueError, match="another script"):
        other.fit(X, Y, verbose=0, callbacks=[BackupAndRestore(tmp_path / "b"), Interrupt()])


def test_damaged_backup_falls_back_to_the_one_before(tmp_path):
    folder = tmp_path / "b"
    interrupted(folder, double_checkpoint=True)
    (folder / "latest.tenzoo").write_bytes(b"PK damaged")
    with pytest.raises(KeyboardInterrupt):
        make_model().fit(X, Y, epochs=4, verbose=0, callbacks=[BackupAndRestore(folder), Interrupt()])
    os.remove(folder / "previous.tenzoo")
    (folder / "latest.tenzoo").write_bytes(b"PK damaged")
    with pytest.raises(ValueError, match=r"latest\.tenzoo"):
        make_model().fit(X, Y, epochs=4, verbose=0, callbacks=[BackupAndRestore(folder), Interrupt()])


def test_only_its_own_files_are_deleted(tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    make_model().fit(X, Y, verbose=0, callbacks=[BackupAndRestore(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_variables_made_by_the_first_step_are_restored(tmp_path):
    class Own(tz.Model):
        """Like a GAN: an optimizer of its own, which is built by its first update."""

        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def compile(self, own_optimizer):
            super().compile()
            self.own_optimizer = own_optimizer

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, data):
            x, y = data
            with tz.GradientTape() as tape:
                loss = tz.ops.mean((self(x) - y) ** 2)
            self.own_optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
            return {"loss": loss}

    def train(*callbacks):
        tz.random.seed(5)
        model = Own()
        model.compile(tz.optimizers.Adam(0.1))
        model.fit(X, Y, epochs=4, verbose=0, callbacks=[BackupAndRestore(tmp_path / "b"), *callbacks])
        return model.get_weights()

    expected = train()
    with pytest.raises(KeyboardInterrupt):
        train(Interrupt())

    assert all(np.array_equal(a, b) for a, b in zip(train(), expected))
