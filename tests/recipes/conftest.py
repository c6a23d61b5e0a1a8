"""Command lines run in this process, and one smoke run of each recipe that the tests share."""

import contextlib
import io
from pathlib import Path
from typing import NamedTuple

import pytest

from tenzoo.recipes import registry
from tenzoo.recipes.cli import main


class Outcome(NamedTuple):
    """What a command line came to."""

    status: int
    output: str
    errors: str


def tenzoo(*argv: object) -> Outcome:
    """Run ``tenzoo`` with these arguments in this process."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main([str(argument) for argument in argv])
    return Outcome(status, output.getvalue(), errors.getvalue())


@pytest.fixture(scope="session", name="tenzoo")
def tenzoo_fixture():
    """The function that runs a command line."""
    return tenzoo


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """A function from a recipe's name to the folder of its smoke run, which happens once."""
    folders: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in folders:
            folder = tmp_path_factory.mktemp("runs") / "run"
            outcome = tenzoo("run", name, "--smoke", "--out", folder, "--json")
            assert outcome.status == 0, outcome.errors
            folders[name] = folder
        return folders[name]

    return run


@pytest.fixture(params=registry.names())
def recipe(request) -> registry.Recipe:
    """Each recipe in turn."""
    return registry.find(request.param)
