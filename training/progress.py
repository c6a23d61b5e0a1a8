"""ProgressBar: how far the work is, on a terminal as a bar, elsewhere as plain lines."""

from __future__ import annotations

import sys
import time
from typing import Any

from .callback import Callback

_SECONDS_BETWEEN_BARS, _SECONDS_BETWEEN_LINES = 0.1, 30.0


class ProgressBar(Callback):
    """Shows loss, metrics, samples per second and the time left.

    ``verbose`` of ``fit``: 1 a bar, or on a file or pipe a line per epoch and every half minute; 2 one line
    per epoch; 0 nothing.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._fitting = False
        self._label = ""
        self._started = self._shown = self._now = 0.0
        self._batches = 0

    def _begin(self, label: str) -> None:
        self.close()
        self._label = label
        self._started = self._shown = self._now = time.perf_counter()
        if self.params.get("verbose") in (0, 2) or not sys.stdout.isatty():
            return
        from tqdm import tqdm

        steps = self.params.get("steps")
        layout = "{desc}: {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        self._bar = tqdm(total=steps, desc=label, file=sys.stdout, bar_format=layout if steps else None)

    def _advance(self, batch: int, logs: Any) -> None:
        self._batches = batch + 1
        self._now = time.perf_counter()
        pause = _SECONDS_BETWEEN_LINES if self._bar is None else _SECONDS_BETWEEN_BARS
        if self._now - self._shown < pause:
            return
        self._shown = self._now
        if self._bar is not None:
            self._draw(logs)
        elif self.params.get("verbose") in (1, "auto"):
            steps = self.params.get("steps")
            print(
                f"{self._label}: batch {batch + 1}{f'/{steps}' if steps else ''}, {self._text(logs)}",
                flush=True,
            )

    def _draw(self, logs: Any) -> None:
        self._bar.n = self._batches
        self._bar.set_postfix_str(self._text(logs), refresh=True)

    def _end(self, logs: Any) -> None:
        if self._bar is not None:
            self._draw(logs)
        elif self.params.get("verbose") != 0:
            seconds = time.perf_counter() - self._started
            print(f"{self._label}: {seconds:.1f} s, {self._text(logs)}", flush=True)
        self.close()

    def _text(self, logs: Any) -> str:
        values = [f"{name} {value:.4g}" for name, value in (logs or {}).items() if isinstance(value, (int, float))]
        speed = self.params["feed"].samples / max(self._now - self._started, 1e-9)  # without the validation
        return ", ".join([*values, f"{speed:,.0f} samples/s"])

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._fitting = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begin(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._advance(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._end(logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._fitting = False

    def on_test_begin(self, logs: Any = None) -> None:
        if not self._fitting:
            self._begin("Evaluate")

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self._fitting:
            self._advance(batch, logs)

    def on_test_end(self, logs: Any = None) -> None:
        if not self._fitting:
            self._end(logs)

    def on_predict_begin(self, logs: Any = None) -> None:
        self._begin("Predict")

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self._advance(batch, {})

    def on_predict_end(self, logs: Any = None) -> None:
        self._end({})
