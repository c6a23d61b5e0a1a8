"""What the README says works: its example runs, and its commands are the ones the checks run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ["pip install . && tenzoo run vision/digits", "pip install '.[test]' && pytest"]


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_set_up_is_two_commands(readme):
    assert [block.strip() for block in blocks(readme, "bash")] == COMMANDS


def test_checks_take_the_test_command_from_the_readme(root, readme):
    """The way .ci/run picks the line must find exactly this command."""
    found = [line for line in readme.splitlines() if "'.[test]'" in line and "&&" in line]
    assert found == [COMMANDS[1]]
    assert """readme_command "'.[test]'\"""" in (root / ".ci" / "run").read_text()


def test_example_runs(readme, tmp_path):
    (example,) = blocks(readme, "python")
    result = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "accuracy" in result.stdout


def test_links_lead_somewhere(root, readme):
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", readme) if "://" not in target]
    missing = [target for target in targets if not (root / target.split("#")[0]).exists()]
    assert not missing, f"the README links to missing files: {missing}"
