"""Worker processes: the same elements, and a clean end whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tenzoo.datasets import DataError, Dataset, image_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and /proc are those of Unix")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = pathlib.Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def processes_of(dataset):
    """An iterator after its first element, and the workers behind it."""
    iterator = iter(dataset)
    next(iterator)
    return iterator, [child for child in multiprocessing.active_children() if child.name == "tenzoo-map"]


def doubled(x):
    return 2 * x, os.getpid()


@pytest.mark.parametrize("count", [1, 3])
def test_elements_come_in_order_from_other_processes(count):
    results = list(Dataset.from_arrays(np.arange(50)).map(doubled, count, processes=True))
    assert [int(x) for x, _ in results] == list(range(0, 100, 2))
    workers = {pid for _, pid in results}
    assert len(workers) == count and os.getpid() not in workers
    wait_until(lambda: not any(map(alive, workers)))


def test_large_elements_both_ways():
    """More than a pipe holds, so a worker that only sent or only received would stop everything."""
    dataset = Dataset.from_arrays(np.ones((20, 300_000))).map(lambda x: x + 1, 2, processes=True)
    assert all((x == 2).all() for x in dataset)


def test_functions_that_fail(tmp_path):
    def fail(path):
        raise KeyError("no such thing")

    with pytest.raises(DataError, match=r"map\(fail\) failed on element 0 \('x.jpg'\): KeyError"):
        list(Dataset.from_files(["x.jpg", "y.jpg"]).map(fail, 2, processes=True))
    with pytest.raises(DataError, match="element 0 cannot leave its process"):
        list(Dataset.from_arrays(np.arange(3)).map(lambda x: lambda: x, 2, processes=True))


def test_an_unreadable_picture_is_named_or_skipped_and_counted(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    for number in range(5):
        Image.new("RGB", (4, 4)).save(tmp_path / "a" / f"{number}.png")
    (tmp_path / "a" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3\.png"):
        list(image_folder(tmp_path, processes=True))
    dataset = image_folder(tmp_path, processes=True, on_error="skip")
    for _ in range(2):
        assert len(list(dataset)) == 4
    assert len(caplog.messages) == 1 and "1 so far" in caplog.text and "3.png" in caplog.text


def test_where_processes_are_not_forked(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    for number in range(3):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "a" / f"{number}.png")
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    images = list(image_folder(tmp_path, processes=True, num_parallel=1))
    assert [int(image[0, 0, 0]) for image, _ in images] == [0, 1, 2]
    with pytest.raises(DataError, match="has to stand in a module"):
        list(Dataset.from_arrays(np.arange(3)).map(lambda x: x, 1, processes=True))


def die_on_seven(path):
    if path.endswith("7.jpg"):
        os.kill(os.getpid(), signal.SIGKILL)
    return path


def test_a_worker_that_dies_is_reported_with_its_file():
    files = [f"{number}.jpg" for number in range(20)]
    iterator = iter(Dataset.from_files(files).map(die_on_seven, 3, processes=True))
    assert [next(iterator) for _ in range(7)] == files[:7]
    with pytest.raises(DataError, match=r"killed by SIGKILL .* element 7 \('7.jpg'\) of map\(die_on_seven\)"):
        next(iterator)
    assert not [child for child in multiprocessing.active_children() if child.name == "tenzoo-map"]


def test_a_worker_that_is_killed_from_outside_behind_a_prefetch():
    def slow(x):
        time.sleep(0.05)
        return x

    dataset = Dataset.from_arrays(np.arange(1000)).map(slow, 2, processes=True).batch(2).prefetch()
    iterator, workers = processes_of(dataset)
    os.kill(workers[0].pid, signal.SIGKILL)
    with pytest.raises(DataError, match="killed by SIGKILL"):
        list(iterator)
    wait_until(lambda: not any(alive(worker.pid) for worker in workers))


def test_closing_or_dropping_an_iterator_ends_the_workers():
    dataset = Dataset.from_arrays(np.arange(1000)).map(doubled, 2, processes=True)
    iterator, workers = processes_of(dataset)
    assert len(workers) == 2
    iterator.close()
    assert not any(alive(worker.pid) for worker in workers)
    assert int(next(iterator)[0]) == 2  # it goes on where it stood
    iterator, workers = processes_of(dataset)
    del iterator
    assert not any(alive(worker.pid) for worker in workers)


SCRIPT = """
import os, signal, time
import numpy as np
from tenzoo.datasets import Dataset

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored

def work(x):
    time.sleep(0.01)
    os.write(2, f"{{os.getpid()}}\\n".encode())  # in one piece
    return x

dataset = Dataset.from_arrays(np.arange(100000)).map(work, 2, processes={processes}).batch(4){prefetch}
for batch in dataset:
    print("batch", flush=True)
"""


@pytest.mark.parametrize("prefetch", ["", ".prefetch()"])
@pytest.mark.parametrize("processes", [False, True])
def test_control_c_ends_it_all(processes, prefetch):
    """As from a terminal: the signal reaches the whole group. One traceback is printed, nobody is left."""
    command = [sys.executable, "-c", SCRIPT.format(processes=processes, prefetch=prefetch)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for _ in range(3):
            assert process.stdout.readline() == "batch\n"
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    lines = errors.splitlines()
    workers = {int(line) for line in lines if line.isdigit()}
    assert process.returncode == -signal.SIGINT and lines[-1] == "KeyboardInterrupt"
    assert errors.count("Traceback") == 1
    wait_until(lambda: not any(map(alive, workers)))


def test_the_workers_do_not_outlive_a_killed_parent():
    command = [sys.executable, "-c", SCRIPT.format(processes=True, prefetch="")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            process.stdout.readline()
        workers = set()
        while len(workers) < 2:
            workers.add(int(process.stderr.readline()))
        process.kill()
    wait_until(lambda: not any(map(alive, workers)))
