"""What the tests of the zoo share: a tiny model, its folder as transformers would write it, and a hub that has it."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tenzoo import core, zoo
from tenzoo.zoo import registry

sys.path.insert(0, str(Path(__file__).parent))

from hub_server import Hub
from zoo_folders import TINY, tensors_of, write_folder


@pytest.fixture
def model():
    """A tiny classifier of three classes with random weights, those of batch normalisation included."""
    core.random.seed(3)
    made = zoo.create("resnet18", classes=3, **TINY)
    for weight in made.weights:
        weight.assign(core.random.uniform(weight.shape, 0.5, 1.5) * weight.value + 0.01)
    return made


@pytest.fixture
def tensors(model) -> dict[str, np.ndarray]:
    """Its weights as transformers names them."""
    return tensors_of(model, registry.find_converter("transformers", "resnet"))


@pytest.fixture
def folder(tensors, tmp_path) -> Path:
    """Its folder as transformers writes it."""
    path = tmp_path / "model"
    path.mkdir()
    write_folder(path, tensors)
    return path


@pytest.fixture
def hub(folder):
    """The hub with the tiny model on it."""
    server = Hub({file.name: file.read_bytes() for file in folder.iterdir()})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
