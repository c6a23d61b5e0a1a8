"""Downloads against a server of our own that speaks the hub's protocol, on its good days and on its bad ones."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_server import COMMIT, clean_environment, settings
from zoo_folders import CONFIG, TINY, tensors_of, write_folder

from tenzoo import zoo
from tenzoo.layers.layer import blank_weights
from tenzoo.zoo import registry


@pytest.fixture
def load(hub, tmp_path):
    """Load in a process of its own, since huggingface_hub reads its settings when it is imported."""

    def run(source="hf://owner/model", **environment):
        program = (
            "import sys, numpy as np; from tenzoo import zoo, training\n"
            "try:\n    model = zoo.load(sys.argv[1])\n"
            "except training.SavedFileError as error:\n    print(error); sys.exit(3)\n"
            "np.save(sys.argv[2], np.asarray(model(np.ones((1, 32, 32, 3)))))\n"
            "print(model.source)\n"
        )
        environment = {**clean_environment(), **settings(hub, tmp_path / "cache"), **environment}
        done = subprocess.run(
            [sys.executable, "-c", program, source, str(tmp_path / "out.npy")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode in (0, 3), done.stderr
        return np.load(tmp_path / "out.npy") if done.returncode == 0 else done.stdout

    return run


def test_download_cache_and_offline(load, hub, folder):
    expected = np.asarray(zoo.load(folder)(np.ones((1, 32, 32, 3))))
    np.testing.assert_allclose(load(), expected, rtol=1e-6)
    downloads = [path for command, path, *_ in hub.log if command == "GET" and path.endswith(".safetensors")]
    assert len(downloads) == 1 and COMMIT in downloads[0]  # all files of one revision
    np.testing.assert_allclose(load(), expected, rtol=1e-6)
    assert len([1 for command, path, *_ in hub.log if command == "GET" and path.endswith(".safetensors")]) == 1
    hub.log.clear()
    np.testing.assert_allclose(load(HF_HUB_OFFLINE="1"), expected, rtol=1e-6)
    assert not hub.log


def test_offline_without_the_files(load, hub):
    assert "offline" in load(HF_HUB_OFFLINE="1") and not hub.log


def test_revision_and_token(load, hub):
    assert not isinstance(load(f"hf://owner/model@{COMMIT}", HF_TOKEN="hf_secret"), str)
    assert {authorization for *_, authorization, _ in hub.log} == {"Bearer hf_secret"}
    assert "no such revision" in load("hf://owner/model@v9")


def test_shards(load, hub, tensors, tmp_path, folder):
    expected = np.asarray(zoo.load(folder)(np.ones((1, 32, 32, 3))))
    shards = {"model-1.safetensors": {}, "model-2.safetensors": {}}
    for index, (name, value) in enumerate(tensors.items()):
        list(shards.values())[index % 2][name] = value
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    del hub.files["model.safetensors"]
    hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    for file, part in shards.items():
        (tmp_path / file).mkdir()
        write_folder(tmp_path / file, part, CONFIG)
        hub.files[file] = (tmp_path / file / "model.safetensors").read_bytes()
    np.testing.assert_allclose(load(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("fault", "message"),
    [(401, "no such model, or it is private"), (403, "access"), (404, "no such model"), (429, "too many requests")],
)
def test_refusals(load, hub, fault, message):
    hub.fault = fault
    answer = load()
    assert "hf://owner/model" in answer and message in answer


def test_a_hub_that_hangs(load, hub):
    hub.fault = "silence"
    answer = load(HF_HUB_ETAG_TIMEOUT="2")
    assert "hf://owner/model" in answer and "not reached" in answer
    hub.fault = None
    whole = load()
    hub.fault = "silence"
    np.testing.assert_array_equal(load(HF_HUB_ETAG_TIMEOUT="2"), whole)  # from the cache


def test_a_model_without_weights(load, hub):
    del hub.files["model.safetensors"]
    assert "has no weights" in load()


def test_wrong_bytes_are_deleted_and_fetched_again(load, hub):
    hub.fault = "wrong bytes"
    answer = load()
    assert "arrived damaged" in answer and "SHA-256" in answer
    hub.fault = None
    assert not isinstance(load(), str)


def test_an_interrupted_download_goes_on(load, hub, tmp_path):
    # huggingface_hub keeps what arrived in pieces of 10 MB.
    with blank_weights():
        model = zoo.create("resnet18", classes=3, **{**TINY, "widths": (8, 1024)})
    large = tmp_path / "large"
    large.mkdir()
    tensors = tensors_of(model, registry.find_converter("transformers", "resnet"))
    write_folder(large, tensors, {**CONFIG, "hidden_sizes": [8, 1024]})
    hub.files = {file.name: file.read_bytes() for file in large.iterdir()}
    hub.fault = "broken off"
    assert "hf://owner/model" in load()
    assert not list(Path(tmp_path / "cache").rglob("snapshots/*/model.safetensors"))
    hub.fault = None
    assert not isinstance(load(), str)
    parts = [part for command, path, _, part in hub.log if command == "GET" and path.endswith("model.safetensors")]
    assert any(part and not part.startswith("bytes=0-") for part in parts)
