"""The command line: help that explains, and errors that say what to do."""

import json

import pytest

from tenzoo.recipes import cli
from tenzoo.recipes.run_folder import RunFolder


def test_help_shows_commands_and_examples(tenzoo):
    status, output, _ = tenzoo("--help")
    assert status == 0
    for word in ("list", "run", "resume", "predict", "tenzoo run vision/digits", "report.html"):
        assert word in output
    assert tenzoo().output == output


def test_version(tenzoo):
    import tenzoo as tz

    assert tenzoo("--version").output == f"tenzoo {tz.__version__}\n"


def test_cache(tenzoo, tmp_path, monkeypatch):
    monkeypatch.setenv("TENZOO_CACHE", str(tmp_path))
    (tmp_path / "kernel.o").write_bytes(bytes(2_000_000))
    assert tenzoo("cache", "show").output == f"1 kernels and plans, 2.0 MB, in {tmp_path}\n"
    assert "removed from" in tenzoo("cache", "clear").output
    assert not list(tmp_path.iterdir())


def test_models(tenzoo):
    assert "resnet50" in tenzoo("models").output.split()
    assert tenzoo("models", "vit_*").output.splitlines()[0].startswith("vit_")
    status, _, errors = tenzoo("models", "resnest")
    assert status == 1 and "No model matches 'resnest'" in errors


def test_list(tenzoo):
    lines = tenzoo("list").output.splitlines()
    (digits,) = [line for line in lines if line.startswith("vision/digits ")]
    assert "digits" in digits.partition(" ")[2]
    cifar = [line.split()[0] for line in tenzoo("list", "cifar").output.splitlines()]
    assert cifar == ["vision/cifar10", "vision/cifar10-resnet20"]
    assert tenzoo("list", "vision/m*").output.startswith("vision/mnist")


def test_list_without_a_match(tenzoo):
    status, output, errors = tenzoo("list", "quantum*")
    assert (status, output) == (1, "") and "No recipe matches 'quantum*'" in errors


def test_help_of_a_recipe_lists_its_options_with_defaults(tenzoo):
    status, output, _ = tenzoo("run", "vision/digits", "--help")
    assert status == 0
    text = " ".join(output.replace("│", " ").split())
    assert "usage: tenzoo run vision/digits" in text
    assert "--learning-rate FLOAT Highest learning rate" in text
    assert "(default: 0.005)" in text
    for option in (
        "--out",
        "--json",
        "--smoke",
        "--overwrite",
        "--epochs",
        "--seed",
        "--batch-size",
        "--data",
    ):
        assert option in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rum"], "Unknown command 'rum'. Did you mean 'run'"),
        (["run"], "Expected the name of a recipe"),
        (["run", "--epochs", "3"], "Expected the name of a recipe"),
        (["run", "vision/digit"], "Did you mean 'vision/digits'"),
        (["run", "vision/digits", "--epohcs", "3"], "--epochs"),
        (["run", "vision/digits", "--epochs", "many"], "--epochs"),
        (["run", "vision/digits", "--epochs", "0"], "epochs must be at least 1, received 0"),
        (["run", "vision/digits", "--learning-rate", "-1"], "learning_rate must be positive, received -1.0"),
        (["run", "vision/digits", "--seed", "-1"], "seed must not be negative"),
        (["resume"], "DIR"),
        (["predict", "folder"], "FILE"),
        (["list", "--all"], "--all"),
    ],
)
def test_wrong_usage_says_so_and_exits_with_2(tenzoo, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    status, output, errors = tenzoo(*argv)
    assert status == 2
    assert message in errors and "Traceback" not in errors
    assert not output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["resume", "predict"])
def test_a_folder_that_is_no_run(tenzoo, tmp_path, command):
    files = ["image.png"] if command == "predict" else []
    assert tenzoo(command, tmp_path / "none", *files)[::2] == (
        1,
        f"tenzoo: error: There is no folder {tmp_path / 'none'}.\n",
    )
    (tmp_path / "config.json").write_text("[]")
    status, _, errors = tenzoo(command, tmp_path, *files)
    assert status == 1 and "is not the folder of a run" in errors


def test_data_that_are_not_there_leave_no_folder_behind(tenzoo, tmp_path):
    out = tmp_path / "run"
    status, _, errors = tenzoo("run", "vision/mnist", "--data", tmp_path / "nothing", "--out", out)
    assert status == 1 and "there is no folder" in errors and str(tmp_path / "nothing") in errors
    assert not out.exists()


def test_nothing_is_overwritten_unasked(tenzoo, tmp_path):
    from tenzoo.recipes import registry

    digits = registry.find("vision/digits")
    out = tmp_path / "run"
    argv = ["run", "vision/digits", "--smoke", "--out", out, "--json"]

    out.mkdir()
    (out / "letter.txt").write_text("mine")
    for option in ([], ["--overwrite"]):
        status, _, errors = tenzoo(*argv, *option)
        assert status == 1 and "is not the folder of a run" in errors
    (out / "letter.txt").unlink()

    run = RunFolder.create(out, digits.name, digits.config())
    status, _, errors = tenzoo(*argv)
    assert status == 1 and "an unfinished run" in errors and f"tenzoo resume {out}" in errors

    run.write("metrics.json", {"test": {"accuracy": 0.5}, "seconds": 1.0})
    status, _, errors = tenzoo(*argv)
    assert status == 1 and "a finished run" in errors and "--overwrite" in errors
    assert run.read("metrics.json")["test"] == {"accuracy": 0.5}

    assert tenzoo(*argv, "--overwrite").status == 0
    assert run.read("metrics.json")["test"] != {"accuracy": 0.5}


def test_a_configuration_of_another_version(tenzoo, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "vision/digits", "config": {"warp": 9}}))
    status, _, errors = tenzoo("resume", tmp_path)
    assert status == 1 and "config.json does not fit the recipe vision/digits" in errors and "warp" in errors


def test_predict_before_the_end(tenzoo, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "vision/digits", "config": {}}))
    status, _, errors = tenzoo("predict", tmp_path, "image.png")
    assert status == 1 and "holds no trained model yet" in errors


def test_interrupt_says_how_to_go_on(tenzoo, tmp_path, monkeypatch):
    from tenzoo import training

    def fit(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Model, "fit", fit)
    status, _, errors = tenzoo("run", "vision/digits", "--smoke", "--out", tmp_path / "run")
    assert status == 130 and f"tenzoo resume {tmp_path / 'run'}" in errors


def test_an_unexpected_error_is_one_line_unless_debugging(tenzoo, monkeypatch):
    def fail(_):
        raise KeyError("lost")

    monkeypatch.setitem(cli.COMMANDS, "list", fail)
    status, _, errors = tenzoo("list")
    assert status == 1 and "KeyError: 'lost'" in errors and "TENZOO_DEBUG=1" in errors
    assert "Traceback" not in errors
    monkeypatch.setenv("TENZOO_DEBUG", "1")
    assert "Traceback" in tenzoo("list").errors
