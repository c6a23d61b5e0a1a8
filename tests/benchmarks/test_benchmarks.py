"""The benchmarks themselves, tried in tenzoo alone and on small sizes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def benchmarks(*arguments: str, code: int = 0) -> str:
    """What the command prints; it has to end with status ``code``."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_a_run_makes_a_table_and_a_file(tmp_path):
    path = tmp_path / "result.json"
    options = [
        "--frameworks",
        "tenzoo,tenzoo-fit",
        "--tiny",
        "--steps",
        "3",
        "--rounds",
        "2",
        "--json",
        str(path),
    ]
    printed = benchmarks("small-step", "call", *options)
    assert "| small-step | tenzoo-fit |" in printed
    content = json.loads(path.read_text())
    assert list(content["workloads"]) == ["small-step", "call"]
    assert content["machine"]["processors"] > 0 and "numpy" in content["versions"]["tenzoo"]
    for measured in content["workloads"].values():
        assert measured["floor_seconds"] > 0
        for result in measured["results"]:
            assert result["error"] is None
            assert [len(times) for times in result["rounds"]] == [3, 3]
            assert result["cold"] > 0 and result["warm"] > 0 and result["memory"] > 1e6


def test_the_list_names_every_workload():
    printed = benchmarks("--list")
    for name in (
        "mlp",
        "cnn",
        "resnet20",
        "lstm",
        "bert-like",
        "gpt",
        "gpt-mid",
        "bilstm",
        "mobilenet_v2",
        "call",
    ):
        assert f"{name} " in printed


def test_what_is_not_installed_is_left_out_and_an_unknown_name_is_refused():
    printed = benchmarks("call", "--frameworks", "torch", "--python", "torch=/no/such/python", code=1)
    assert "torch is left out: /no/such/python does not start" in printed
    assert "unknown: 'mpl'" in benchmarks("mpl", code=2)


@pytest.mark.slow
def test_every_workload_takes_steps():
    printed = benchmarks("--check", "--tiny", "--frameworks", "tenzoo")
    assert printed.count("parameters; losses") >= 13 and "nan" not in printed


def test_kernels_are_listed_by_time():
    assert "contract" in benchmarks("kernels", "mlp", "--tiny")


@pytest.mark.slow  # a ResNet is compiled
def test_the_input_pipeline_is_timed():
    printed = benchmarks("input", "--tiny", "--python", "torch=/no/such/python")
    assert "torch is left out: /no/such/python does not start" in printed
    assert "tenzoo-processes" in printed and "is waiting for JPEGs" in printed
