"""The examples in the documentation of the data room run."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["", ".pipeline", ".registry", ".image.augment"])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"tenzoo.datasets{name}"))
    assert result.attempted > 0 and result.failed == 0
