"""`tenzoo predict hf://owner/name photo.jpg`, against a hub of our own."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hub_server import clean_environment, settings
from PIL import Image

from tenzoo import zoo


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def predict(hub, tmp_path):
    """The command in a process of its own, since huggingface_hub reads its settings when it is imported."""

    def run(*argv, **environment):
        command = [sys.executable, "-m", "tenzoo", "predict", *map(str, argv)]
        environment = {**clean_environment(), **settings(hub, tmp_path / "cache"), **environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr
        return done

    return run


def test_prediction_and_picture(predict, folder, photo, tmp_path):
    done = predict("hf://owner/model", photo, "--json", "--gradcam", tmp_path / "where.png")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    expected = zoo.load(folder).classify(photo, top=3)[0]
    assert [entry["label"] for entry in record["predictions"]] == [label for label, _ in expected]
    probabilities = [entry["probability"] for entry in record["predictions"]]
    np.testing.assert_allclose(probabilities, [probability for _, probability in expected], atol=1e-5)
    with Image.open(tmp_path / "where.png") as picture:
        assert picture.width > 2 * picture.height * 0.8  # the photo, and beside it the photo coloured

    done = predict("hf://owner/model", photo)  # from the cache
    assert done.stdout.startswith(f"{photo}: {expected[0][0]} {expected[0][1]:.1%}, ")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (401, "no such model, or it is private"),
        (404, "no such model"),
        (429, "too many requests"),
        ("silence", "not reached"),
    ],
)
def test_a_hub_on_a_bad_day(predict, hub, photo, fault, message):
    hub.fault = fault
    done = predict("hf://owner/model", photo, HF_HUB_ETAG_TIMEOUT="1")
    assert done.returncode == 1 and not done.stdout
    assert "hf://owner/model" in done.stderr and message in done.stderr


def test_a_photo_that_is_none(predict, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"no image")
    done = predict("hf://owner/model", tmp_path / "photo.jpg")
    assert done.returncode == 1 and "photo.jpg cannot be read" in done.stderr


def test_no_address_of_the_hub(predict, photo):
    done = predict("hf://nonsense", photo)
    assert done.returncode == 1 and "Expected hf://owner/name" in done.stderr
