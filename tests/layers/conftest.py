"""What the tests of layers share: the harness can be imported, names and random numbers start anew."""

import sys
from pathlib import Path

import pytest

from tenzoo import core, layers

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def fresh_session():
    layers.clear_session()
    core.random.seed(0)
