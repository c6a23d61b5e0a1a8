"""Downloads against a server of our own that speaks the hub's protocol, on its good days and on its bad ones."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from zoo_folders import CONFIG, TINY, tensors_of, write_folder

from tenzoo import zoo
from tenzoo.layers.layer import blank_weights
from tenzoo.zoo import registry

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Serves ``files`` as the repository owner/model; ``fault`` is what goes wrong, ``log`` what was asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.fault, self.log = files, None, []
        self.refused: dict[str, int] = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        hub = self.server
        hub.log.append((self.command, self.path, self.headers.get("Authorization"), self.headers.get("Range")))
        if hub.fault == "silence":
            threading.Event().wait(30)
            return
        if isinstance(hub.fault, int):
            code = {404: "RepoNotFound", 401: "RepoNotFound", 403: "GatedRepo"}.get(hub.fault)
            self.reply(hub.fault, b"", {"X-Error-Code": code} if code else {}, with_body)
            return
        parts = self.path.split("?")[0].split("/")
        if parts[1:4] != ["owner", "model", "resolve"]:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
        elif parts[4] not in ("main", COMMIT):
            self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"}, with_body)
        elif parts[5] not in hub.files:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, with_body)
        else:
            self.send_file(parts[5], hub.files[parts[5]], with_body)

    def send_file(self, name, content, with_body):
        large = name.endswith(".safetensors")
        etag = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            if with_body and self.server.fault == "wrong bytes":
                content = bytes(len(content))
        begin = 0
        if with_body and self.headers.get("Range"):
            begin = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        half = (len(content) - begin) // 2 if with_body and large and self.server.fault == "broken off" else None
        self.reply(206 if begin else 200, content[begin:], headers, with_body, half)

    def reply(self, status, content, headers, with_body, stop_after=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content[:stop_after])
        if stop_after is not None:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *arguments):
        """Silence."""


@pytest.fixture
def hub(folder):
    """The hub with the tiny model on it."""
    server = Hub({file.name: file.read_bytes() for file in folder.iterdir()})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


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
        settings = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "10",
            "HF_HUB_ETAG_TIMEOUT": "20",
            **environment,
        }
        clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")}
        done = subprocess.run(
            [sys.executable, "-c", program, source, str(tmp_path / "out.npy")],
            env={**clean, **settings},
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
