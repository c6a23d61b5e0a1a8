"""What ``import tenzoo`` loads, and that every public name is there."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import tenzoo

# Modules that may be loaded beyond those of numpy: by `import tenzoo`, and by touching every public name.
IMPORT_LIMIT = 40
EVERYTHING_LIMIT = 400

EVERYTHING = "import tenzoo\nfor name in tenzoo.__all__: getattr(tenzoo, name)"


def python(code: str) -> str:
    """Run ``code`` in a fresh process and return what it prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def modules_after(code: str) -> set[str]:
    """The names of all modules that a fresh process has loaded after ``code``."""
    return set(json.loads(python(f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))")))


@pytest.fixture(scope="module")
def numpy_modules() -> set[str]:
    return modules_after("import numpy")


@pytest.mark.parametrize(("code", "limit"), [("import tenzoo", IMPORT_LIMIT), (EVERYTHING, EVERYTHING_LIMIT)])
def test_few_modules_are_loaded(code, limit, numpy_modules, heavy_packages):
    loaded = modules_after(code)
    assert not heavy_packages & loaded
    surplus = sorted(loaded - numpy_modules)
    assert len(surplus) <= limit, surplus


def test_training_does_not_wait_for_augmentation():
    assert "tenzoo.datasets.image.augment" not in modules_after("import tenzoo.training")
    python("from tenzoo import datasets; from tenzoo.datasets import augment; assert datasets.augment is augment")


def test_names_for_type_checkers_are_the_names_at_run_time():
    tree = ast.parse(Path(tenzoo.__file__).read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    shown = {(node.module, alias.name) for node in block.body for alias in node.names}
    assert shown == {(None, name) for name in tenzoo._MODULES} | {
        (module, name) for module, names in tenzoo._NAMES.items() for name in names
    }


@pytest.mark.parametrize("name", tenzoo.__all__)
def test_public_name_is_there(name):
    assert getattr(tenzoo, name) is getattr(tenzoo, name)
    assert name in dir(tenzoo)


@pytest.mark.parametrize("name", tenzoo._MODULES)
def test_namespace_is_a_module(name):
    python(f"import tenzoo.{name}; from tenzoo import {name}; assert {name} is tenzoo.{name}")


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(AttributeError, match=r"Sequental.*Did you mean 'Sequential'"):
        getattr(tenzoo, "Sequental")  # noqa: B009


def test_a_script_for_keras_finds_its_names():
    python("""
import tenzoo as keras
from tenzoo import layers, ops
from tenzoo.callbacks import EarlyStopping
from tenzoo.layers import Dense
from tenzoo.losses import SparseCategoricalCrossentropy
from tenzoo.metrics import SparseCategoricalAccuracy
from tenzoo.models import Model, Sequential, load_model
from tenzoo.optimizers import Adam
from tenzoo.optimizers.schedules import CosineDecay
from tenzoo.utils import to_categorical

assert keras.layers.Dense is layers.Dense is Dense
assert keras.models.Sequential is keras.Sequential is Sequential
assert keras.Model is Model and keras.models.load_model is load_model
assert keras.losses.SparseCategoricalCrossentropy is SparseCategoricalCrossentropy
assert keras.metrics.SparseCategoricalAccuracy is SparseCategoricalAccuracy
assert keras.optimizers.Adam is Adam
assert keras.optimizers.schedules.CosineDecay is CosineDecay
assert keras.callbacks.EarlyStopping is EarlyStopping
assert keras.utils.to_categorical is to_categorical
assert issubclass(Dense, keras.Layer)
keras.utils.set_random_seed(1)
""")
