"""The wheel, built from a clean copy of the tree, holds what the tree holds."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

# Root folders that are not part of the package.
OUTSIDE = {"tests", "benchmarks", "docs", ".ci"}


@pytest.fixture(scope="module")
def copy(root, files, tmp_path_factory) -> Path:
    """A clean copy of the tree: what a fresh clone holds once the untracked files are added."""
    folder = tmp_path_factory.mktemp("clone")
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / file, folder / file)
    return folder


@pytest.fixture(scope="module")
def wheel(copy, tmp_path_factory) -> Path:
    """The wheel, built with the setuptools of this environment, so no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet"]
    result = subprocess.run([*command, "-w", str(folder), str(copy)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder that holds the unpacked wheel."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_every_root_folder_is_mapped_or_outside(files, rooms):
    folders = {file.split("/")[0] for file in files if "/" in file}
    strangers = folders - set(rooms) - OUTSIDE
    assert not strangers, (
        f"{sorted(strangers)} are new at the root: map them under [tool.setuptools.package-dir] in "
        f"pyproject.toml, or list them in OUTSIDE here"
    )


def test_every_room_is_a_package(root, rooms):
    assert not [room for room in rooms if not (root / room / "__init__.py").is_file()]


def test_every_folder_with_code_is_a_package(files, rooms):
    code = {Path(file).parent for file in files if file.endswith(".py") and file.split("/")[0] in rooms}
    missing = [str(folder) for folder in sorted(code) if f"{folder}/__init__.py" not in files]
    assert not missing, f"folders without __init__.py: {missing}"


def test_the_root_is_no_package(root):
    assert not (root / "__init__.py").exists()


def test_wheel_holds_every_file_of_the_rooms(wheel, files, rooms):
    expected = set()
    for file in files:
        room, _, rest = file.partition("/")
        if room in rooms:
            expected.add(rooms[room].replace(".", "/") + "/" + rest)
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == expected, (
        f"missing from the wheel (see package-data in pyproject.toml): {sorted(expected - names)}; "
        f"only in the wheel: {sorted(names - expected)}"
    )


def test_wheel_carries_its_license_and_command(installed):
    (info,) = installed.glob("tenzoo-*.dist-info")
    assert "Apache License" in (info / "licenses" / "LICENSE").read_text()
    metadata = (info / "METADATA").read_text()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "tenzoo = tenzoo.recipes.cli:main" in (info / "entry_points.txt").read_text()


def test_wheel_imports_without_the_tree(installed, tmp_path):
    code = "import tenzoo, tenzoo.core; print(tenzoo.__file__); print(tenzoo.core.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert all(line.startswith(str(installed)) for line in result.stdout.split())


def test_version_is_said_once(pyproject):
    import tenzoo

    assert tenzoo.__version__ == pyproject["project"]["version"]


def test_all_extra_holds_every_optional_feature(pyproject):
    extras = pyproject["project"]["optional-dependencies"]
    assert set(extras) == {"audio", "rl", "hdf5", "tensorboard", "all", "test", "parity", "bench"}
    assert extras["all"] == ["tenzoo[audio,rl,hdf5,tensorboard]"]
