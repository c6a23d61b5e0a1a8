"""Decoding and augmenting JPEGs against PyTorch's DataLoader: ``python -m benchmarks input``.

Photographs are read, cropped at random, resized to 224 × 224, mirrored and normalised, in batches of 32, by tenzoo on
threads, by tenzoo in processes and by a DataLoader (``pip install torchvision`` beside torch) with as many workers.
They take turns, epoch by epoch. Processor time is that of a contestant with all of its processes. The last line tells
how long the training step of a ResNet-20 waits for 32 × 32 JPEGs that are made while it runs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTESTANTS = ("tenzoo", "tenzoo-processes", "torch")
BATCH = 32


def write_photographs(folder: pathlib.Path, count: int, side: int) -> None:
    """Write parts of a photograph that comes with matplotlib, 4:3 and 3:4, as JPEGs in 4 classes."""
    import matplotlib
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    path = pathlib.Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    with Image.open(path) as image:
        whole = image.convert("RGB")
    for number in range(count):
        width = int(rng.integers(300, whole.width))
        left, top = int(rng.integers(0, whole.width - width)), int(rng.integers(0, whole.height - width))
        part = whole.crop((left, top, left + width, top + width))
        size = (side, side * 3 // 4) if number % 2 else (side * 3 // 4, side)
        (folder / str(number % 4)).mkdir(parents=True, exist_ok=True)
        quality = int(rng.integers(80, 96))
        part.resize(size, Image.Resampling.BICUBIC).save(folder / str(number % 4) / f"{number}.jpg", quality=quality)


def tenzoo_batches(folder: str, workers: int, processes: bool) -> Iterable:
    """The pipeline of tenzoo."""
    from tenzoo.datasets import augment, image_folder

    steps = [augment.RandomResizedCrop(224), augment.RandomFlip(), augment.Normalize(MEAN, STD)]
    files = image_folder(folder, transform=steps, num_parallel=workers, processes=processes)
    return files.shuffle(seed=1).batch(BATCH).prefetch()


def torch_batches(folder: str, workers: int) -> Iterable:
    """The same with torchvision and a DataLoader whose workers stay from epoch to epoch."""
    import torch
    from torchvision import datasets, transforms

    torch.set_num_threads(1)
    steps = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    files = datasets.ImageFolder(folder, steps)
    return torch.utils.data.DataLoader(files, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)


def processor_seconds() -> float:
    """Processor time of this process and its children, also those that still run."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in multiprocessing.active_children():
        fields = pathlib.Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def contestant(name: str, folder: str, workers: int) -> None:
    """Run an epoch for every line on stdin, and print what it took."""
    processes = name == "tenzoo-processes"
    batches = torch_batches(folder, workers) if name == "torch" else tenzoo_batches(folder, workers, processes)
    for _ in sys.stdin:
        start, used = time.perf_counter(), processor_seconds()
        images = sum(len(pixels) for pixels, _ in batches)
        result = {"wall": time.perf_counter() - start, "processor": processor_seconds() - used, "images": images}
        print(json.dumps(result), flush=True)


def waiting(folder: str, workers: int, batch: int, steps: int) -> tuple[float, float]:
    """Share of the time in which the training step of a ResNet-20 waits for its batch, and seconds of a step."""
    from tenzoo import layers, training, zoo
    from tenzoo.datasets import augment, image_folder

    changes = [augment.RandomCrop(32, padding=4), augment.RandomFlip(), augment.Normalize(MEAN, STD)]
    data = image_folder(folder, size=32, transform=changes, num_parallel=workers).shuffle(seed=1)
    data = data.repeat().batch(batch).prefetch()
    model = zoo.create("resnet20", classes=4)
    inputs = layers.Input((32, 32, 3))
    model = training.Model(inputs, model(inputs))
    model.compile("sgd", training.losses.SparseCategoricalCrossentropy(from_logits=True))
    waits, times = [], []
    iterator = iter(data)
    for _ in range(steps + 5):
        start = time.perf_counter()
        x, y = next(iterator)
        waits.append(time.perf_counter() - start)
        model.train_on_batch(x, y)
        times.append(time.perf_counter() - start)
    iterator.close()
    return sum(waits[5:]) / sum(times[5:]), statistics.median(times[5:])  # the first compiles


def race(folder: str, names: list[str], options: argparse.Namespace) -> dict[str, list[dict]]:
    """Let the contestants take turns; the first turn of each warms up."""
    from .measure import Settings

    running = {}
    for name in names:
        python = Settings(pythons=dict(options.python)).python(name.partition("-")[0])
        # -P: the folder of this file has modules with the names of others
        command = [python, "-P", __file__, "--contestant", name, folder, str(options.workers)]
        try:
            running[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            print(f"{name} is left out: {python} does not start: {error.strerror}", file=sys.stderr)
    results: dict[str, list[dict]] = {name: [] for name in names}
    try:
        for _ in range(options.rounds + 1):
            for name, process in list(running.items()):
                print("go", file=process.stdin, flush=True)
                if line := process.stdout.readline():
                    results[name].append(json.loads(line))
                else:
                    print(f"{name} is left out: it ended with status {process.wait()}", file=sys.stderr)
                    del running[name]
                time.sleep(0.2)
    finally:
        for process in running.values():
            process.stdin.close()
            process.wait()
    return {name: rounds[1:] for name, rounds in results.items() if len(rounds) > 1}


def table(results: dict[str, list[dict]]) -> str:
    """Medians over the rounds, and the medians of the rounds' ratios to torch."""

    def per_image(name: str, what: str) -> list[float]:
        return [result[what] / result["images"] for result in results[name]]

    lines = [f"{'':<18} {'images/s':>9} {'× torch':>8} {'processor ms':>13} {'× torch':>8}"]
    for name in results:
        wall, processor = per_image(name, "wall"), per_image(name, "processor")
        cells = f"{name:<18} {1 / statistics.median(wall):>9.0f} {{}} {1e3 * statistics.median(processor):>13.2f} {{}}"
        ratios = [
            f"{statistics.median(theirs / own for own, theirs in zip(mine, per_image('torch', what))):>8.2f}"
            if "torch" in results
            else f"{'':>8}"
            for mine, what in ((wall, "wall"), (processor, "processor"))
        ]
        lines.append(cells.format(*ratios))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks input", description=__doc__)
    parser.add_argument("--images", type=int, default=256, help="JPEGs in an epoch (default: %(default)s)")
    parser.add_argument("--side", type=int, default=500, help="longer side of them (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="workers of each (default: %(default)s)")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        type=lambda text: tuple(text.split("=", 1)),
        metavar="NAME=PATH",
        help="interpreter of torch or tenzoo",
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the benchmark itself")
    options = parser.parse_args(arguments)
    batch, steps = 128, 20
    if options.tiny:
        options.images, options.side, options.rounds, batch, steps = 8, 64, 1, 8, 1
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(pathlib.Path(folder, "large"), options.images, options.side)
        results = race(os.path.join(folder, "large"), list(CONTESTANTS), options)
        print(table(results))
        write_photographs(pathlib.Path(folder, "small"), 4 * batch, 43)
        share, seconds = waiting(os.path.join(folder, "small"), options.workers, batch, steps)
    print(
        f"A step of ResNet-20, batch {batch}, takes {1e3 * seconds:.0f} ms, of which {share:.1%} is waiting for JPEGs."
    )
    return int("tenzoo" not in results)


if __name__ == "__main__":
    _, _, who, where, count = sys.argv
    contestant(who, where, int(count))
