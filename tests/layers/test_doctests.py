"""The examples in the docstrings of the layers run."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

from tenzoo import layers

MODULES = [found.name for found in pkgutil.iter_modules(layers.__path__, "tenzoo.layers.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    names = {**vars(layers), "np": np, **vars(module)}
    assert doctest.testmod(module, extraglobs=names).failed == 0
