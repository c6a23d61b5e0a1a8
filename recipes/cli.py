"""The command line: ``tenzoo list``, ``run``, ``resume``, ``predict``."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from . import registry
from .run_folder import RunFolder, RunFolderError

DESCRIPTION = """\
Train ready-made deep-learning recipes on this computer, and use what they learnt.
"""
EXAMPLES = """\
examples:
  tenzoo list                              what there is to run
  tenzoo run vision/digits                 train a net to read digits, in less than a minute
  tenzoo run vision/digits --help          the options of a recipe, with their defaults
  tenzoo run vision/digits --epochs 5 --out runs/first
  tenzoo resume runs/first                 go on with a run that was interrupted
  tenzoo predict runs/first image.png      apply the trained model to a picture
  tenzoo predict runs/first image.png --gradcam where.png    and show where in it the answer was found
  tenzoo predict hf://microsoft/resnet-50 photo.jpg          the same with a model of the Hugging Face hub

A run leaves a folder with the model, its metrics, pictures, and report.html to look at.
TENZOO_DEBUG=1 shows where an error comes from.
"""


class UsageError(Exception):
    """A command line that cannot be followed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        _say("Interrupted.")
        return 130
    except BrokenPipeError:  # `tenzoo list | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("TENZOO_DEBUG"):
            traceback.print_exc()
        expected = isinstance(error, (UsageError, ValueError, ArithmeticError, RuntimeError, OSError))
        _say(f"tenzoo: error: {error if expected else f'{type(error).__name__}: {error}'}")
        if not expected:
            _say("This looks like a bug. Set TENZOO_DEBUG=1 to see where it comes from.")
        return 2 if isinstance(error, UsageError) else 1


def _main(argv: list[str]) -> int:
    parser = _parser()
    if not argv:
        parser.print_help()
        return 0
    if argv[0] not in COMMANDS and not argv[0].startswith("-"):
        raise UsageError(_unknown("command", argv[0], COMMANDS))
    if argv[0] == "run" and not (argv[1:] and (argv[1][0] != "-" or argv[1] in ("-h", "--help"))):
        raise UsageError("Expected the name of a recipe first: tenzoo run NAME [options]. See tenzoo list.")
    try:
        options = parser.parse_args(argv)
        return COMMANDS[options.command](options)
    except SystemExit as exit:  # argparse and tyro have said what there is to say
        return exit.code if isinstance(exit.code, int) else 2


def _parser() -> argparse.ArgumentParser:
    def add(name: str, help: str, **about: Any) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", **about)

    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("tenzoo", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=formatter)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    command = add("list", "show the recipes")
    command.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="such as cifar, or 'vision/*'")

    command = add(
        "run",
        "train a recipe and write a folder with model, metrics, pictures and report",
        usage="tenzoo run NAME [options]",
        epilog="The options depend on the recipe: tenzoo run NAME --help",
    )
    command.add_argument("name", metavar="NAME", help="of a recipe; see tenzoo list")
    command.add_argument("options", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)

    command = add("resume", "go on with a run that was interrupted, to the same end as without")
    command.add_argument("folder", metavar="DIR", help="the folder of the run")
    command.add_argument("--json", action="store_true", help="print the metrics as JSON, and nothing else")

    command = add("predict", "apply the model of a finished run, or one of the hub, to files")
    command.add_argument("model", metavar="DIR", help="the folder of the run, or hf://owner/name[@revision]")
    command.add_argument("files", metavar="FILE", nargs="+", type=Path, help="such as an image")
    command.add_argument("--json", action="store_true", help="print the predictions as JSON")
    command.add_argument(
        "--gradcam", metavar="OUT", type=Path, help="picture to write: where in the images the classes were found"
    )

    command = add("models", "show the models of the zoo, for tenzoo.zoo.create")
    command.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="such as resnet, or 'vit_*'")

    command = add("cache", "show or clear the native code that was compiled in earlier runs")
    command.add_argument("action", choices=("show", "clear"), help="what to do with it")
    return parser


class _Version(argparse.Action):
    """Reads the version when it is asked for, not when the parser is made."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"tenzoo {version('tenzoo')}")
        parser.exit()


def _list(options: argparse.Namespace) -> int:
    plain = not set(options.pattern) & set("*?[")
    names = registry.names(f"*{options.pattern}*" if plain else options.pattern)
    if not names:
        _say(f"No recipe matches {options.pattern!r}. `tenzoo list` shows them all.")
        return 1
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {registry.summary(name)}")
    return 0


@dataclass(frozen=True)
class RunOptions:
    """What can be said about a run of any recipe."""

    out: str
    """Folder to write, new or empty."""
    overwrite: bool = False
    """Delete the run that the folder holds first."""
    json: bool = False
    """Print the metrics as JSON, and nothing else."""
    smoke: bool = False
    """A run of seconds that tries every step: smaller defaults for the options below."""


def _run(options: argparse.Namespace) -> int:
    try:
        recipe = registry.find(options.name)
        run_options, config = _parse_run(recipe, options.options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    verbose = 0 if run_options.json else "auto"
    run = RunFolder.create(run_options.out, recipe.name, config, run_options.overwrite, verbose)
    return _execute(recipe, config, run, run_options.json)


def _parse_run(recipe: registry.Recipe, argv: list[str]) -> tuple[RunOptions, Any]:
    """Read the options of a run; those of the recipe are the fields of its configuration."""
    from typing import Annotated

    import tyro

    config = replace(recipe.config(), **(recipe.smoke if "--smoke" in argv else {}))
    return tyro.cli(
        tuple[
            Annotated[RunOptions, tyro.conf.arg(name="")],
            Annotated[recipe.config, tyro.conf.arg(name="")],
        ],
        args=argv,
        default=(RunOptions(out=_fresh_folder(recipe.name)), config),
        prog=f"tenzoo run {recipe.name}",
        description=registry.summary(recipe.name),
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def _fresh_folder(name: str) -> str:
    stem = f"runs/{name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(path for path in candidates if not os.path.exists(path))


def _resume(options: argparse.Namespace) -> int:
    run = RunFolder(options.folder, verbose=0 if options.json else "auto")
    if run.finished:
        _say(f"{run.path} is finished already; there is nothing to resume.")
        _show(run, options.json)
        return 0
    recipe = registry.find(run.recipe)
    return _execute(recipe, _config(recipe, run), run, options.json)


def _config(recipe: registry.Recipe, run: RunFolder) -> Any:
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in run.settings.items()}
    try:
        return recipe.config(**settings)
    except TypeError as error:
        raise RunFolderError(
            f"{run.path / 'config.json'} does not fit the recipe {recipe.name} of this version: {error}"
        ) from error


def _execute(recipe: registry.Recipe, config: Any, run: RunFolder, as_json: bool) -> int:
    """Do the work, then write the report and the metrics."""
    from . import report

    earlier = run.seconds
    begun = time.perf_counter()
    try:
        metrics = recipe.run(config, run)
        metrics["seconds"] = round(earlier + time.perf_counter() - begun, 2)
        report.write(run, recipe, metrics)
        run.write("metrics.json", metrics)
    except KeyboardInterrupt:
        _say(f"\nInterrupted. Go on with: tenzoo resume {run.path}")
        return 130
    except Exception:
        run.discard_unless_begun()
        raise
    _show(run, as_json)
    if not as_json:
        for text, reached in report.verdicts(recipe, run.settings, metrics):
            print(f"{text}: {'reached' if reached else 'MISSED'}")
        print(f"Look at {run.path / 'report.html'}, or try: tenzoo predict {run.path} FILE")
    return 0


def _show(run: RunFolder, as_json: bool) -> None:
    metrics = run.read("metrics.json")
    if as_json:
        print(json.dumps(metrics | {"folder": str(run.path)}, indent=2))
        return
    test = ", ".join(f"{name} {value:.4f}" for name, value in metrics["test"].items())
    singles = (f"{name} {value:.4f}, " for name, value in metrics.items() if isinstance(value, float))
    others = "".join(text for text in singles if not text.startswith("seconds "))
    print(f"{run.recipe}: test {test}, {others}after {metrics['seconds']:.1f} s")


def _predict(options: argparse.Namespace) -> int:
    if options.model.startswith("hf://"):
        from .image_prediction import Predictor

        predictor = Predictor.of_hub(options.model)
        predict, explain = predictor.records, predictor.explanation
    else:
        predict, explain = _of_run(RunFolder(options.model, verbose=0), bool(options.gradcam))
    records = predict(options.files)
    if options.gradcam:
        from .run_folder import save_figure

        save_figure(options.gradcam, explain(options.files))
    if options.json:
        print(json.dumps(records, indent=2))
    else:
        print("\n".join(record["summary"] for record in records))
    return 0


def _of_run(run: RunFolder, explained: bool) -> tuple[Callable, Callable | None]:
    recipe = registry.find(run.recipe)
    if recipe.predict is None:
        raise UsageError(f"{recipe.name} makes no predictions from files.")
    if explained and recipe.explain is None:
        raise UsageError(f"{recipe.name} cannot explain its predictions; leave out --gradcam.")
    return partial(recipe.predict, run), recipe.explain and partial(recipe.explain, run)


def _cache(options: argparse.Namespace) -> int:
    from ..core.compiler import native

    folder = native.cache_folder()
    files = [file for file in folder.glob("*") if file.suffix in native.CACHED]
    size = sum(file.stat().st_size for file in files) / 1e6
    if options.action == "clear":
        native.trim_cache(0)
    verb = "removed from" if options.action == "clear" else "in"
    print(f"{len(files)} kernels and plans, {size:.1f} MB, {verb} {folder}")
    return 0


def _models(options: argparse.Namespace) -> int:
    from .. import zoo

    pattern = options.pattern
    names = zoo.list(pattern=pattern if set(pattern) & set("*?[") else f"*{pattern}*")
    if not names:
        _say(f"No model matches {pattern!r}. `tenzoo models` shows them all.")
        return 1
    print("\n".join(names))
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "run": _run,
    "resume": _resume,
    "predict": _predict,
    "models": _models,
    "cache": _cache,
}


def _unknown(kind: str, name: str, known: Any) -> str:
    from ..core import errors  # numpy comes with it

    return str(errors.unknown(kind, name, known))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
