"""The examples of CONTRIBUTING.md run, each as part of the file that its first line names."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import tenzoo as tz
from tenzoo.core.op import Op

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M | re.S)
EXAMPLES = dict(BLOCKS)


def run(file: str) -> dict:
    """Execute an example as a module of tenzoo, with the names of the file where there is one already."""
    *folders, name = Path(file).with_suffix("").parts
    package = ".".join(["tenzoo", *folders])
    names = {"__name__": f"{package}.{name}", "__package__": package}
    if (ROOT / file).exists():
        names |= vars(importlib.import_module(f"{package}.{name}"))
    exec(compile(EXAMPLES[file], file, "exec"), names)
    return names


def test_every_example_is_tested():
    assert len(EXAMPLES) == len(BLOCKS) == 6


def test_op(monkeypatch):
    from tenzoo.core.primitives import elementwise

    monkeypatch.setattr(Op, "registry", dict(Op.registry))
    declared = run("core/primitives/elementwise.py")["cbrt"]
    assert declared.cases
    monkeypatch.setattr(elementwise, "cbrt", declared, raising=False)
    functions = run("core/ops/math.py")
    np.testing.assert_allclose(functions["cbrt"]([1.0, 8.0]), [1.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(tz.grad(functions["cbrt"])(tz.tensor(8.0)), 1 / 12, rtol=1e-6)
    np.testing.assert_allclose(functions["squareplus"]([0.0, 1.5]), [1.0, 2.0], rtol=1e-6)


def test_layer():
    layer = run("layers/scale.py")["Scale"](initial=3.0)
    np.testing.assert_array_equal(layer(np.ones((2, 4), np.float32)), np.full((2, 4), 3.0))
    assert layer.get_config()["initial"] == 3.0 and len(layer.trainable_weights) == 1


def test_model(monkeypatch):
    from tenzoo.zoo import registry

    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    model = run("zoo/vision/plainnet.py")["plainnet4"](classes=10, image_size=32)
    assert model(np.zeros((2, 32, 32, 3), np.float32)).shape == (2, 10)
    assert registry._entries["plainnet4"].test_variant == {"widths": (4, 8)}


def test_dataset(monkeypatch):
    from tenzoo.datasets import registry

    tz.datasets.list()
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))
    run("datasets/image/bars.py")
    (images, labels), _ = tz.datasets.bars.load_data()
    assert images.shape == (100, 8, 8) and set(labels) == {0, 1}
    assert len(tz.datasets.load("bars", "test", data_dir="synthetic")) == 20


@pytest.mark.parametrize("options", [[], ["--smoke"]])
def test_recipe(tenzoo, tmp_path, monkeypatch, options):
    from tenzoo import recipes

    file = tmp_path / "package" / "toys" / "line.py"
    file.parent.mkdir(parents=True)
    file.write_text(EXAMPLES["recipes/toys/line.py"])
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path / "package")])
    assert tenzoo("list", "toys/*").output == "toys/line  Fit a straight line through noisy points\n"
    status, output, errors = tenzoo("run", "toys/line", *options, "--out", tmp_path / "run", "--json")
    assert status == 0, errors
    assert options or json.loads(output)["test"]["loss"] <= 0.02
    status, _, errors = tenzoo("predict", tmp_path / "run", "x.png")
    assert status == 2 and "toys/line makes no predictions from files" in errors


def test_example_of_the_architecture_page():
    (example,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/architecture.md").read_text("utf-8"), re.M | re.S)
    exec(example, {})
