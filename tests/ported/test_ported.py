"""Keras scripts run and learn with only the import changed; where Keras is installed, so do the originals."""

import os
import runpy
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIBRARIES = ["tenzoo", pytest.param("keras", marks=pytest.mark.slow)]


def run(name, tmp_path, library):
    if library == "keras":
        os.environ.setdefault("KERAS_BACKEND", "jax")
        pytest.importorskip("keras")
    source = (HERE / name).read_text()
    assert source.count("import tenzoo as keras") == 1
    script = tmp_path / name
    script.write_text(source.replace("import tenzoo as keras", f"import {library} as keras"))
    return runpy.run_path(str(script))


@pytest.mark.parametrize("library", LIBRARIES)
def test_mnist_cnn(library, tmp_path, capsys):
    values = run("mnist_cnn.py", tmp_path, library)
    assert values["score"][1] > 0.95
    assert "Total params" in capsys.readouterr().out


@pytest.mark.parametrize("library", LIBRARIES)
def test_two_inputs(library, tmp_path):
    values = run("two_inputs.py", tmp_path, library)
    results = values["results"]
    assert {"loss", "priority_loss", "department_loss", "department_accuracy"} == set(results)
    assert results["department_accuracy"] > 0.8
    assert results["loss"] < 0.5 * values["history"].history["loss"][0]
    assert values["predictions"]["department"].shape == (5, 4)


@pytest.mark.parametrize("library", LIBRARIES)
def test_lstm_sentiment(library, tmp_path):
    values = run("lstm_sentiment.py", tmp_path, library)
    assert values["history"].history["val_accuracy"][-1] > 0.85


@pytest.mark.parametrize("library", LIBRARIES)
def test_seq2seq(library, tmp_path):
    values = run("seq2seq.py", tmp_path, library)
    assert values["right"] > 0.85


@pytest.mark.parametrize("library", LIBRARIES)
def test_transformer_classifier(library, tmp_path):
    values = run("transformer_classifier.py", tmp_path, library)
    assert values["history"].history["val_accuracy"][-1] > 0.85


@pytest.mark.parametrize("library", LIBRARIES)
def test_autoencoder(library, tmp_path):
    values = run("autoencoder.py", tmp_path, library)
    assert values["error_after"] < 0.3 * values["error_before"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_timeseries_lstm(library, tmp_path):
    values = run("timeseries_lstm.py", tmp_path, library)
    assert values["error"] < 0.3 * values["naive_error"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_custom_layer_and_callback(library, tmp_path):
    values = run("custom_layer_and_callback.py", tmp_path, library)
    history, events = values["history"].history, values["stopping"].events
    assert history["loss"][-1] < 0.1 * history["loss"][0]
    assert events[:4] == ["train", "batch 0", "batch 4", "epoch 0: ['loss', 'mae']"]
    assert history["learning_rate"][4] == pytest.approx(0.05 * 0.7**2)
    assert values["difference"] < 1e-6


# In Keras a step with a tape of one's own depends on the backend, so these two are run here alone.


def test_vae(tmp_path):
    values = run("vae.py", tmp_path, "tenzoo")
    history = values["history"].history
    assert history["reconstruction_loss"][-1] < 0.6 * history["reconstruction_loss"][0]
    assert values["decoded"].shape == (2, 12, 12, 1) and values["means"].shape == (512, 2)


def test_gan(tmp_path):
    values = run("gan.py", tmp_path, "tenzoo")
    assert set(values["history"].history) == {"d_loss", "g_loss"}
    center, real = values["monitor"].centers[-1], values["real"].mean(axis=0)
    assert abs(center - real).max() < 1.2  # the circle has radius 1, and training began around 0
    assert values["monitor"].generated.std(axis=0).min() > 0.2
