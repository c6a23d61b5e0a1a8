"""The recipes by name, found by the place of their file: ``vision/digits.py`` holds ``vision/digits``.

Listing them reads their docstrings and imports none of them, so it costs next to nothing.
"""

from __future__ import annotations

import ast
import fnmatch
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .run_folder import RunFolder

Metrics = dict[str, Any]  # {"test": {"accuracy": 0.99, ...}, "validation": ..., ...}
_recipes: dict[str, Recipe] = {}


@dataclass(frozen=True)
class Recipe:
    """A task that can be run.

    Attributes:
        run: ``run(config, folder) -> metrics`` does the work and leaves its files in the folder. The metrics
            have a part ``"test"``, and may have more.
        config: a frozen dataclass; its fields are options of the command line, the text under them the help.
        smoke: fields of the configuration for a run of seconds, without network, that tests every step.
        expected: what a run with the defaults reaches, as measured: ``{"test.accuracy": (">=", 0.985)}``.
        predict: ``predict(folder, files) -> records`` applies the trained model to files. A record can be
            written as JSON; its ``"summary"`` is the line to print.
        explain: ``explain(folder, files) -> figure`` shows what in the files led to the predictions.
    """

    name: str
    run: Callable[[Any, RunFolder], Metrics]
    config: type
    smoke: dict[str, Any]
    expected: dict[str, tuple[str, float]]
    predict: Callable[[RunFolder, list[Path]], list[dict]] | None
    explain: Callable[[RunFolder, list[Path]], Figure] | None


def recipe(
    config: type,
    smoke: dict[str, Any],
    expected: dict[str, tuple[str, float]] | None = None,
    predict: Callable[[RunFolder, list[Path]], list[dict]] | None = None,
    explain: Callable[[RunFolder, list[Path]], Figure] | None = None,
) -> Callable[[Callable], Callable]:
    """Register a function as the recipe of its file; see :class:`Recipe` for the arguments."""

    def register(run: Callable[[Any, RunFolder], Metrics]) -> Callable:
        domain, module = run.__module__.split(".")[-2:]
        name = f"{domain}/{module.replace('_', '-')}"
        _recipes[name] = Recipe(name, run, config, smoke, expected or {}, predict, explain)
        return run

    return register


def names(pattern: str = "*") -> list[str]:
    """Return the names that match a pattern such as ``"vision/*"``."""
    return sorted(fnmatch.filter(_files(), pattern))


def summary(name: str) -> str:
    """Return the first line of the docstring of a recipe's file."""
    docstring = ast.get_docstring(ast.parse(_files()[name].read_text("utf-8"))) or ""
    return docstring.partition("\n")[0].rstrip(".")


def find(name: str) -> Recipe:
    """Import a recipe and return it.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    file = _files().get(name)
    if file is None:
        from ..core import errors

        raise errors.unknown("recipe", name, _files())
    importlib.import_module(f"{__package__}.{file.parent.name}.{file.stem}")
    return _recipes[name]


def _files() -> dict[str, Path]:
    folders = importlib.import_module(__package__).__path__
    files = sorted(file for folder in folders for file in Path(folder).glob("*/[!_]*.py"))
    return {f"{file.parent.name}/{file.stem.replace('_', '-')}": file for file in files}
