"""What the tests of the house share: the tree, its rooms, and the files a clone would have."""

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Packages that are imported where they are used, so that `import tenzoo` stays quick.
HEAVY = {
    "PIL",
    "gymnasium",
    "huggingface_hub",
    "librosa",
    "llvmlite",
    "matplotlib",
    "pooch",
    "requests",
    "safetensors",
    "soundfile",
    "tokenizers",
    "tqdm",
    "tyro",
}


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the working tree."""
    return ROOT


@pytest.fixture(scope="session")
def heavy_packages() -> set[str]:
    """The packages that nothing loads before they are used."""
    return HEAVY


@pytest.fixture(scope="session")
def pyproject() -> dict:
    """pyproject.toml as a dict."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def rooms(pyproject) -> dict[str, str]:
    """Root folder -> package, as setuptools maps them: {"api": "tenzoo", "core": "tenzoo.core", ...}."""
    package_dir = pyproject["tool"]["setuptools"]["package-dir"]
    return {folder: package for package, folder in package_dir.items()}


@pytest.fixture(scope="session")
def files() -> list[str]:
    """Every file git tracks or would track, as a path relative to the root; what it ignores is left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a git working tree")
    return sorted(path for path in listing.split("\0") if path and (ROOT / path).is_file())
