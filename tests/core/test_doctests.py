"""The examples in the docstrings of the tensor core run."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

from tenzoo import core

MODULES = [
    found.name for found in pkgutil.walk_packages(core.__path__, core.__name__ + ".") if ".compiler" not in found.name
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    names = {**vars(core), "np": np, **vars(module)}
    assert doctest.testmod(module, extraglobs=names).failed == 0
