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
