"""Every import of the package, read from its source: arrows point down, heavy imports wait for their use."""

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

# room: the rooms it may import from, besides itself
ARROWS = {
    "core": set(),
    "datasets": {"core"},
    "layers": {"core"},
    "training": {"core", "layers", "datasets"},
    "zoo": {"core", "layers", "datasets", "training"},
    "deploy": {"core", "layers", "datasets", "training", "zoo"},
    "insight": {"core", "layers", "datasets", "training", "zoo"},
    "recipes": {"core", "layers", "datasets", "training", "zoo", "deploy", "insight"},
    "api": {"core", "layers", "datasets", "training", "zoo", "deploy", "insight", "recipes"},
}

# Modules that may load a heavy package, since they are themselves imported only where they are used.
HEAVY_ALLOWED = {"core/compiler/emit_llvm.py": {"llvmlite"}}


class Import(NamedTuple):
    """One imported module; ``parts`` are counted from tenzoo if it is relative: ("core", "ops")."""

    file: str
    line: int
    parts: tuple[str, ...]
    relative: bool
    at_load: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {'tenzoo.' if self.relative else ''}{'.'.join(self.parts)}"


def package_of(file: str) -> tuple[str, ...]:
    """The folder inside tenzoo: ``layers/core/dense.py`` -> ("layers", "core"); api/ is tenzoo itself."""
    folders = PurePosixPath(file).parts[:-1]
    return folders[1:] if folders[0] == "api" else folders


def is_type_checking(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports_in(file: str, node: ast.AST, at_load: bool = True) -> Iterator[Import]:
    """Every import under ``node``; in functions and for type checkers they do not run at load."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, child.lineno, tuple(alias.name.split(".")), False, at_load)
        elif isinstance(child, ast.ImportFrom):
            yield from imports_from(file, child, at_load)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_type_checking(child):
            yield from imports_in(file, child, at_load=False)
        else:
            yield from imports_in(file, child, at_load)


def imports_from(file: str, node: ast.ImportFrom, at_load: bool) -> Iterator[Import]:
    """``from ..core import ops`` names tenzoo.core.ops: the imported names may be modules themselves."""
    module = tuple(node.module.split(".")) if node.module else ()
    if node.level == 0:
        yield Import(file, node.lineno, module, False, at_load)
        return
    package = package_of(file)
    climbs = node.level - 1
    assert climbs <= len(package), f"{file}:{node.lineno}: a relative import that leaves tenzoo"
    base = package[: len(package) - climbs] + module
    for alias in node.names:
        yield Import(file, node.lineno, (*base, alias.name), True, at_load)


def imports_of(source: str, file: str) -> list[Import]:
    return list(imports_in(file, ast.parse(source, file)))


def room_of(item: Import) -> str:
    """The room that an import inside tenzoo reaches."""
    return item.parts[0] if item.parts[0] in ARROWS else "api"


def upward(imports: list[Import]) -> list[str]:
    """The imports that reach a room above, or beside, the one they stand in."""
    wrong = []
    for item in imports:
        here, there = item.file.split("/")[0], room_of(item)
        if item.relative and there != here and there not in ARROWS[here]:
            wrong.append(f"{item} ({here} may not import from {there})")
    return wrong


def absolute(imports: list[Import]) -> list[str]:
    return [f"{item} (write it relative)" for item in imports if not item.relative and item.parts[0] == "tenzoo"]


def heavy(imports: list[Import], packages: set[str]) -> list[str]:
    """The imports of ``packages`` that happen while a module loads."""
    return [
        f"{item} (import it where it is used)"
        for item in imports
        if item.at_load and not item.relative and item.parts[0] in packages - HEAVY_ALLOWED.get(item.file, set())
    ]


def emits_elsewhere(imports: list[Import]) -> list[str]:
    """The imports of llvmlite outside the one file that emits LLVM IR."""
    return [
        f"{item} (core/compiler/emit_llvm.py alone imports llvmlite)"
        for item in imports
        if not item.relative and item.parts[0] == "llvmlite" and item.file != "core/compiler/emit_llvm.py"
    ]


def private(imports: list[Import], modules: set[tuple[str, ...]]) -> list[str]:
    """The private modules imported from outside their folder. ``modules`` are all modules, by their parts."""
    wrong = []
    for item in imports:
        for depth, part in enumerate(item.parts):
            hidden = part.startswith("_") and not part.startswith("__")
            inside = package_of(item.file)[:depth] == item.parts[:depth]
            if item.relative and hidden and not inside and item.parts[: depth + 1] in modules:
                wrong.append(f"{item} ({part} is private to its folder)")
    return wrong


def module_parts(file: str) -> tuple[str, ...]:
    stem = PurePosixPath(file).stem
    return package_of(file) if stem == "__init__" else (*package_of(file), stem)


@pytest.fixture(scope="module")
def sources(root: Path, files: list[str], rooms: dict[str, str]) -> list[str]:
    return [file for file in files if file.endswith(".py") and file.split("/")[0] in rooms]


@pytest.fixture(scope="module")
def imports(root: Path, sources: list[str]) -> list[Import]:
    return [item for file in sources for item in imports_of((root / file).read_text("utf-8"), file)]


def report(wrong: list[str]) -> None:
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_room_has_its_arrows(rooms):
    assert set(rooms) <= set(ARROWS)


def test_arrows_point_down(imports):
    report(upward(imports))


def test_imports_inside_the_package_are_relative(imports):
    report(absolute(imports))


def test_heavy_packages_are_imported_where_they_are_used(imports, heavy_packages):
    report(heavy(imports, heavy_packages))


def test_one_file_imports_llvmlite(imports):
    report(emits_elsewhere(imports))


def test_private_modules_stay_in_their_folder(imports, sources):
    report(private(imports, {module_parts(file) for file in sources}))


# The rules themselves, on sources that keep or break them.


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("core/tensor.py", "from ..layers import Dense"),
        ("core/tensor.py", "def f():\n    from .. import layers"),
        ("core/compiler/plan.py", "from ...training.optimizers import Adam"),
        ("core/tensor.py", "from .. import __version__"),
        ("datasets/image/digits.py", "from ...layers import Layer"),
        ("layers/dense.py", "if TYPE_CHECKING:\n    from ..training import Model"),
        ("layers/dense.py", "from ..datasets import Dataset"),
        ("training/fit.py", "from ..zoo.vision import resnet"),
    ],
)
def test_an_upward_arrow_is_found(file, source):
    assert upward(imports_of(source, file))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("core/tensor.py", "from . import ops\nfrom .errors import unknown\nimport numpy as np"),
        ("layers/core/dense.py", "from ...core import ops\nfrom ..base import Layer\nfrom . import shapes"),
        ("training/fit.py", "from ..layers import Layer\nfrom ..datasets import Dataset"),
        ("recipes/vision/digits.py", "from ...zoo import vision"),
        ("api/losses.py", "from .training.losses import *"),
        ("api/optimizers/schedules.py", "from ..training.schedules import *"),
    ],
)
def test_a_downward_arrow_is_not(file, source):
    assert not upward(imports_of(source, file))


def test_an_absolute_import_of_ourselves_is_found():
    assert absolute(imports_of("import tenzoo.core", "layers/dense.py"))
    assert absolute(imports_of("from tenzoo import core", "layers/dense.py"))


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("core/draw.py", "import matplotlib.pyplot as plt", True),
        ("datasets/files.py", "try:\n    from PIL import Image\nexcept ImportError:\n    pass", True),
        ("training/bar.py", "class A:\n    import tqdm", True),
        ("core/draw.py", "def f():\n    import matplotlib.pyplot as plt", False),
        ("core/draw.py", "if TYPE_CHECKING:\n    from PIL import Image", False),
        ("core/compiler/emit_llvm.py", "import llvmlite", False),
    ],
)
def test_a_heavy_import_is_found_only_while_loading(file, source, found, heavy_packages):
    assert bool(heavy(imports_of(source, file), heavy_packages)) == found


def test_llvmlite_is_found_anywhere_else():
    assert emits_elsewhere(imports_of("def f():\n    import llvmlite.binding", "core/compiler/cache.py"))


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("layers/dense.py", "from ..core._cache import load", True),
        ("layers/dense.py", "from ..core import _cache", True),
        ("core/tensor.py", "from ._cache import load", False),
        ("core/compiler/plan.py", "from .._cache import load", False),
        ("layers/dense.py", "from ..core.tensor import _helper", False),
    ],
)
def test_a_private_module_is_found_outside_its_folder(file, source, found):
    assert bool(private(imports_of(source, file), {("core", "_cache"), ("core", "tensor")})) == found
