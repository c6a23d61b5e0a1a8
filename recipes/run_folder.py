"""The folder that a run writes: what was asked for, what came out, and what it takes to continue.

    config.json      the recipe and its configuration
    metrics.jsonl    one line for each finished epoch; other trainings of the run have a file of their own
    checkpoint/      where training stands, for `tenzoo resume`
    model.tenzoo     the trained model, and what its recipe keeps beside it
    *.png            pictures, each with a description in its metadata
    report.html      all of it on one page
    metrics.json     the results; written last, so it marks a finished run

Every file appears complete or not at all.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..training import Model
    from ..training.callbacks import Callback


class RunFolderError(RuntimeError):
    """A folder that cannot be used as the folder of a run; the message says what to do instead."""


class RunFolder:
    """Reads and writes the files of one run.

    Attributes:
        path: the folder.
        recipe: name of the recipe.
        settings: its configuration, as a dict.
        verbose: what to hand to ``fit``: "auto", or 0 for silence.
    """

    def __init__(self, path: str | os.PathLike, verbose: str | int = "auto"):
        """Open the folder of a run, finished or not.

        Raises:
            RunFolderError: where no run was begun there.
        """
        self.path = Path(path)
        self.verbose = verbose
        if not self.path.is_dir():
            raise RunFolderError(f"There is no folder {self.path}.")
        try:
            content = self.read("config.json")
            self.recipe, self.settings = content["recipe"], content["config"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"{self.path} is not the folder of a run: expected a config.json from `tenzoo run` in it."
            ) from error

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        recipe: str,
        config: Any,
        overwrite: bool = False,
        verbose: str | int = "auto",
    ) -> RunFolder:
        """Begin a run in a new or empty folder, or, with ``overwrite``, in place of the run it holds.

        Raises:
            RunFolderError: where the folder holds anything else.
        """
        path = Path(path)
        if path.exists() and any(path.iterdir()):
            earlier = cls(path)  # raises unless it is the folder of a run, which alone may be deleted
            if not overwrite:
                state, way = "a finished run", "Choose another folder with --out"
                if not earlier.finished:
                    state, way = "an unfinished run", f"Continue it with `tenzoo resume {path}`"
                raise RunFolderError(f"{path} holds {state}. {way}, or replace it with --overwrite.")
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        _write_json(path / "config.json", {"recipe": recipe, "config": asdict(config)})
        return cls(path, verbose)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "metrics.json").is_file()

    @property
    def history(self) -> list[dict[str, float]]:
        """The metrics of each finished epoch: ``[{"epoch": 1, "seconds": 0.9, "loss": 1.2, ...}, ...]``."""
        return self.history_of("metrics")

    def history_of(self, log: str) -> list[dict[str, float]]:
        """The metrics of each finished epoch of another training of the run; see :meth:`callbacks`."""
        file = self.path / f"{log}.jsonl"
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []

    @property
    def seconds(self) -> float:
        """How long all finished epochs took."""
        return sum(line["seconds"] for file in self.path.glob("*.jsonl") for line in self.history_of(file.stem))

    def read(self, name: str) -> Any:
        """Return the content of a JSON file."""
        return json.loads((self.path / name).read_text("utf-8"))

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file."""
        _write_json(self.path / name, content)

    def discard_unless_begun(self) -> None:
        """Delete the folder if nothing but the configuration was written, as when the data are not there."""
        if [file.name for file in self.path.iterdir()] == ["config.json"]:
            shutil.rmtree(self.path)

    def save_model(self, model: Model) -> None:
        """Write ``model.tenzoo``, without the state of the optimizer, which is in the checkpoint."""
        model.save(self.path / "model.tenzoo", include_optimizer=False)

    def load_model(self) -> Model:
        """Return the trained model.

        Raises:
            RunFolderError: where the run has not got that far.
        """
        from .. import training

        if not (self.path / "model.tenzoo").is_file():
            raise RunFolderError(
                f"{self.path} holds no trained model yet. Finish the run with `tenzoo resume {self.path}`."
            )
        return training.load_model(self.path / "model.tenzoo")

    def save_figure(self, name: str, figure: Figure, description: str) -> None:
        """Write a picture; the report shows it over its description."""
        save_figure(self.path / name, figure, metadata={"Description": description})

    def callbacks(self, stage: str = "", log: str = "metrics") -> list[Callback]:
        """Return the callbacks that write ``metrics.jsonl`` and ``checkpoint/``, and resume from them.

        A run that calls ``fit`` several times names each: ``stage`` is the checkpoint's folder inside that folder. Fits
        whose epochs follow one another share a ``log``; others have one of their own.
        """
        from ..training import callbacks

        begun = 0.0

        def on_epoch_begin(epoch: int, logs: dict | None = None) -> None:
            nonlocal begun
            begun = time.perf_counter()

        def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
            self._log(log, epoch + 1, time.perf_counter() - begun, logs)

        # The line goes before the checkpoint: killed in between, the epoch is trained and logged once more.
        return [
            callbacks.LambdaCallback(on_epoch_begin=on_epoch_begin, on_epoch_end=on_epoch_end),
            callbacks.BackupAndRestore(self.path / "checkpoint" / stage, delete_checkpoint=False),
        ]

    def _log(self, log: str, epoch: int, seconds: float, logs: dict[str, float]) -> None:
        # JSON has no NaN and no infinity.
        values = {key: float(value) if math.isfinite(value) else None for key, value in logs.items()}
        line = {"epoch": epoch, "seconds": round(seconds, 3)} | values
        lines = [earlier for earlier in self.history_of(log) if earlier["epoch"] < epoch] + [line]
        with replacing(self.path / f"{log}.jsonl") as temporary:
            temporary.write_text("".join(f"{json.dumps(entry)}\n" for entry in lines), "utf-8")


def save_figure(path: Path, figure: Figure, **options: Any) -> None:
    """Write a figure in the format that the name says, whole or not at all.

    Raises:
        RunFolderError: there is no such folder, or the format is unknown.
    """
    from .pictures import DPI  # numpy comes with it

    if not path.parent.is_dir():
        raise RunFolderError(f"{path} cannot be written: there is no folder {path.parent}.")
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:] not in known:
        raise RunFolderError(f"{path} cannot be written: expected a name that ends in .png or .jpg.")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=DPI, **options)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path`` that takes its place at the end, all at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_json(path: Path, content: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
