"""Recipes are found by their files, and each one keeps its side of the contract."""

import dataclasses
import subprocess
import sys

import pytest

from tenzoo.recipes import registry


def test_names_are_those_of_the_files():
    assert {"vision/cifar10", "vision/digits", "vision/mnist"} <= set(registry.names())
    assert registry.names("vision/dig*") == ["vision/digits"]
    assert registry.names("nothing/*") == []


def test_unknown_recipe_gets_a_suggestion():
    with pytest.raises(ValueError, match=r"Unknown recipe 'vision/digit'\. Did you mean 'vision/digits'"):
        registry.find("vision/digit")


def test_a_new_file_is_a_new_recipe(tmp_path, monkeypatch):
    from tenzoo import recipes

    (tmp_path / "toys").mkdir()
    (tmp_path / "toys" / "count_up.py").write_text('"""Count to three.\n\nSlowly."""\n')
    (tmp_path / "toys" / "_shared.py").write_text('"""No recipe."""\n')
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path)])
    assert registry.names("toys/*") == ["toys/count-up"]
    assert registry.summary("toys/count-up") == "Count to three"


def test_contract(recipe):
    assert registry.summary(recipe.name)
    assert dataclasses.is_dataclass(recipe.config)
    config = recipe.config()
    assert hash(config) == hash(recipe.config()), "the configuration must be a frozen dataclass"
    assert hasattr(config, "seed")
    assert set(recipe.smoke) <= {field.name for field in dataclasses.fields(config)}
    assert all(relation in (">=", "<=") for relation, _ in recipe.expected.values())


def test_listing_imports_nothing_heavy():
    code = """
import sys
from tenzoo.recipes.cli import main
for argv in (["list"], ["--version"], ["--help"]):
    assert main(argv) == 0
print(sorted({"numpy", "tyro", "matplotlib", "PIL", "tqdm"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"
