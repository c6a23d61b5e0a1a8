"""What the parity tests share: Keras computes with JAX, which compiles quickly rather than well; and torchvision."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

# Read when keras and jax are imported. Nearly all of the time goes into XLA's compilations, one for each new shape.
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

sys.path.insert(0, str(Path(__file__).parent))  # for driver.py


@pytest.fixture(scope="session")
def torchvision():
    """torchvision, without its operators where they are compiled for CUDA and torch is not, as with PyPI's wheels.

    The two that it asks for when it is imported are then declared, without code: nothing here calls them.
    """
    torch = pytest.importorskip("torch")
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("needs torchvision")
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision")


@pytest.fixture(scope="session")
def timm(torchvision):
    """timm, which imports torchvision."""
    return pytest.importorskip("timm")
