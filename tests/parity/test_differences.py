"""Everything that Keras has and that is not here, or is otherwise, stands in docs/keras-differences.md."""

import os
import runpy
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("keras")

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "docs" / "keras_differences.py"


def test_differences_have_reasons():
    script = runpy.run_path(str(SCRIPT))
    _, unexplained = script["grouped"](script["differences"]())
    assert not unexplained, "give a reason in docs/keras_differences.py, and run it"
