"""Whether the frameworks do the same work: equal losses from equal weights, equal numbers of parameters."""

from __future__ import annotations

import os
import tempfile

import numpy as np

from .measure import Settings, Worker, WorkerError
from .workloads import WORKLOADS

STEPS = 3
TOLERANCE = 1e-3  # relative; Adam divides by roots of tiny gradients, which differ by rounding


def check(workload: str, frameworks: list[str], settings: Settings) -> bool:
    """Compare the frameworks with the first of them, print what was found, and return whether they agree."""
    reference, *others = frameworks
    kind = WORKLOADS[workload]
    agree = True
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.npz")
        try:
            with Worker(reference, workload, settings, folder, build_only=True) as worker:
                worker.ask(save=weights)
                expected = worker.ask(losses=STEPS)["losses"] if kind.loss else []
                parameters = worker.first["parameters"]
        except WorkerError as error:
            print(f"{workload:<20} {reference:<14} FAILED: {error}", flush=True)
            return False
        print(f"{workload:<20} {reference:<14} {parameters} parameters; losses {_text(expected)}", flush=True)
        for framework in others:
            try:
                with Worker(framework, workload, settings, folder, build_only=True) as worker:
                    same = worker.first["parameters"] == parameters or kind.name in TWO_BIASES
                    note = f"{worker.first['parameters']} parameters"
                    if kind.mapped and kind.loss:
                        worker.ask(load=weights)
                        losses = worker.ask(losses=STEPS)["losses"]
                        same = same and np.allclose(losses, expected, rtol=TOLERANCE)
                        note += f"; losses {_text(losses)}"
            except WorkerError as error:
                same, note = False, str(error)
            agree = agree and same
            print(f"{'':<20} {framework:<14} {note}: {'same' if same else 'DIFFERENT'}", flush=True)
    return agree


TWO_BIASES = ("lstm", "bilstm")  # PyTorch's LSTM has a second bias, which is a part of its step


def _text(losses: list[float]) -> str:
    return " ".join(f"{loss:.6f}" for loss in losses)
