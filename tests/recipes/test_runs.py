"""What runs leave behind, what they give again, and what survives a kill."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tenzoo import datasets
from tenzoo.recipes import registry, report
from tenzoo.recipes.run_folder import RunFolder

FILES = {
    "config.json",
    "metrics.jsonl",
    "metrics.json",
    "model.tenzoo",
    "checkpoint",
    "curves.png",
    "confusion.png",
    "samples.png",
    "gradcam.png",
    "report.html",
}


def lookup(metrics: dict, path: str) -> float:
    for part in path.split("."):
        metrics = metrics[part]
    return metrics


def without_seconds(metrics: dict) -> dict:
    return {key: value for key, value in metrics.items() if key != "seconds"}


def test_smoke_run_leaves_everything(recipe, smoke_run):
    folder = smoke_run(recipe.name)
    assert {file.name for file in folder.iterdir()} >= FILES
    run = RunFolder(folder)
    assert run.finished and run.recipe == recipe.name
    metrics = run.read("metrics.json")
    assert metrics["seconds"] > 0 and metrics["test"]
    assert all(np.isfinite(lookup(metrics, path)) for path in recipe.expected)
    assert [line["epoch"] for line in run.history] == list(range(1, len(run.history) + 1))
    assert len(run.history) >= 1
    for file in folder.glob("*.png"):
        with Image.open(file) as image:
            image.load()
            assert image.info["Description"]


def test_report_stands_alone(recipe, smoke_run):
    folder = smoke_run(recipe.name)
    page = (folder / "report.html").read_text("utf-8")
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == len(list(folder.glob("*.png")))
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "url(" not in page and "@import" not in page and "<script" not in page
    for setting in RunFolder(folder).settings:
        assert setting.replace("_", "-") in page
    assert f"tenzoo run {recipe.name} " in page


def test_report_escapes_what_it_shows(tmp_path):
    digits = registry.find("vision/digits")
    run = RunFolder.create(tmp_path / "run", digits.name, digits.config(data="<b>&"))
    report.write(run, digits, {"test": {"<i>": 0.5}, "seconds": 1.0})
    page = (run.path / "report.html").read_text("utf-8")
    assert "<b>" not in page and "<i>" not in page
    assert "--data &#x27;&lt;b&gt;&amp;&#x27;" in page


def test_expectation_is_judged_unless_the_configuration_differs():
    digits = registry.find("vision/digits")
    settings = {"epochs": digits.config().epochs, "seed": 7}
    metrics = {"test": {"accuracy": 0.99}}
    text = "test accuracy 0.99, expected >= 0.985"
    assert report.verdicts(digits, settings, metrics) == [(text, True)]
    metrics = {"test": {"accuracy": 0.98}}
    assert report.verdicts(digits, settings, metrics)[0][1] is False
    assert report.verdicts(digits, settings | {"epochs": 1}, metrics) == []


def test_same_seed_same_numbers(tenzoo, tmp_path):
    def metrics(seed: int, name: str) -> dict:
        argv = ["run", "vision/digits", "--smoke", "--seed", seed, "--out", tmp_path / name, "--json"]
        return without_seconds(json.loads(tenzoo(*argv).output) | {"folder": None})

    first = metrics(1, "first")
    assert metrics(1, "again") == first
    assert metrics(2, "other") != first
    assert RunFolder(tmp_path / "first").read("config.json") == RunFolder(tmp_path / "again").read("config.json")


@pytest.mark.parametrize("kill_after", ["metrics.jsonl", "model.tenzoo"])
def test_killed_and_resumed_equals_uninterrupted(tenzoo, tmp_path, kill_after):
    options = ["--smoke", "--epochs", "3", "--seed", "3", "--json"]
    expected = tenzoo("run", "vision/digits", *options, "--out", tmp_path / "whole")
    assert expected.status == 0, expected.errors

    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "tenzoo", "run", "vision/digits", *options, "--out", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (folder / kill_after).exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    run = RunFolder(folder)
    assert not run.finished, "it was too quick to be killed"

    resumed = tenzoo("resume", folder, "--json")
    assert resumed.status == 0, resumed.errors
    whole = RunFolder(tmp_path / "whole")
    assert without_seconds(run.read("metrics.json")) == without_seconds(whole.read("metrics.json"))
    assert [without_seconds(line) for line in run.history] == [without_seconds(line) for line in whole.history]
    status, output, errors = tenzoo("resume", folder)
    assert status == 0 and "finished already" in errors and "accuracy" in output


@pytest.fixture
def digit(tmp_path):
    """An image file of the first digit of the test set, enlarged, and its label."""
    images, labels = datasets.info("digits").arrays("test")
    pixels = np.kron(images[0] * 15, np.ones((4, 4))).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    Image.fromarray(255 - pixels).convert("RGB").save(tmp_path / "ink.png")
    return tmp_path / "digit.png", str(labels[0])


def test_predict(tenzoo, smoke_run, digit):
    file, _ = digit
    folder = smoke_run("vision/digits")
    status, output, errors = tenzoo("predict", folder, file, file.with_name("ink.png"), "--json")
    assert status == 0, errors
    light, ink = json.loads(output)
    assert light["file"] == str(file)
    labels, probabilities = zip(*((entry["label"], entry["probability"]) for entry in light["predictions"]))
    assert set(labels) < set("0123456789") and sorted(probabilities, reverse=True) == list(probabilities)
    assert ink["predictions"][0]["label"] == labels[0], "dark ink on a light ground reads the same"

    line = tenzoo("predict", folder, file).output
    assert line.startswith(f"{file}: {labels[0]} {probabilities[0]:.1%}, ")


@pytest.mark.parametrize("content", [None, b"", b"no image at all"])
def test_predict_names_a_bad_image(tenzoo, smoke_run, tmp_path, digit, content):
    bad = tmp_path / "bad.png"
    if content is not None:
        bad.write_bytes(content)
    status, output, errors = tenzoo("predict", smoke_run("vision/digits"), digit[0], bad)
    assert status == 1 and str(bad) in errors and not output and "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_digits_reaches_what_it_promises(tenzoo, tmp_path, seed, digit):
    status, output, errors = tenzoo("run", "vision/digits", "--seed", seed, "--out", tmp_path / "run", "--json")
    assert status == 0, errors
    metrics = json.loads(output)
    for path, (relation, bound) in registry.find("vision/digits").expected.items():
        assert relation == ">=" and lookup(metrics, path) >= bound
    file, label = digit
    assert tenzoo("predict", tmp_path / "run", file).output.startswith(f"{file}: {label} ")
