"""The pipeline: what it yields, in which order, and how it goes on after a stop."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzoo.datasets import DataError, Dataset


def numbers(count=10):
    return Dataset.from_arrays(np.arange(count))


def stream(count=10):
    return Dataset.from_generator(lambda: iter(range(count)))


def values(dataset):
    return [np.asarray(element).tolist() for element in dataset]


# Sources


def test_arrays_come_as_trees():
    dataset = Dataset.from_arrays({"x": np.eye(3), "y": (np.arange(3), None)})
    elements = list(dataset)
    assert len(dataset) == 3
    assert elements[1]["x"].tolist() == [0, 1, 0] and elements[1]["y"] == (1, None)


@pytest.mark.parametrize(
    "arrays, reason",
    [((np.zeros(3), np.zeros(4)), r"\(3,\), \(4,\)"), ([1, 2], "np.array"), ((), "no array")],
)
def test_arrays_that_do_not_fit(arrays, reason):
    with pytest.raises(ValueError, match=reason):
        Dataset.from_arrays(arrays)


def test_a_generator_is_called_for_each_epoch():
    dataset = stream(3)
    assert values(dataset) == values(dataset) == [0, 1, 2]
    assert dataset.cardinality is None
    assert len(Dataset.from_generator([4, 5], length=2)) == 2
    with pytest.raises(TypeError, match="unknown"):
        len(dataset)


def test_a_generator_that_runs_once_is_refused():
    with pytest.raises(TypeError, match="Pass the function"):
        Dataset.from_generator(iter([1, 2]))


def test_files(tmp_path):
    for name in "ba":
        (tmp_path / f"{name}.txt").write_text(name * 2)
    dataset = Dataset.from_files(f"{tmp_path}/*.txt", read=lambda path: Path(path).read_text())
    assert list(dataset) == ["aa", "bb"]
    assert list(Dataset.from_files([tmp_path / "b.txt"])) == [str(tmp_path / "b.txt")]
    with pytest.raises(DataError, match=r"\*\.csv"):
        Dataset.from_files(f"{tmp_path}/*.csv")


# Transformations


def test_a_tuple_is_several_arguments():
    dataset = Dataset.from_arrays((np.arange(3), np.arange(3) * 10))
    assert values(dataset.map(lambda x, y: x + y)) == [0, 11, 22]
    assert [x for x, _ in dataset.filter(lambda x, y: y > 5)] == [1, 2]


def test_steps_with_known_sizes():
    assert values(numbers().skip(2).take(3)) == [2, 3, 4]
    assert values(stream().skip(2).take(3)) == [2, 3, 4]
    assert values(numbers(2).repeat(2).enumerate(5)) == [[5, 0], [6, 1], [7, 0], [8, 1]]
    assert values(numbers(2).concatenate(numbers(1))) == [0, 1, 0]
    assert values(Dataset.zip(numbers(2), stream(3))) == [[0, 0], [1, 1]]
    assert values(numbers(5).batch(2)) == [[0, 1], [2, 3], [4]]
    assert values(numbers(5).batch(2, drop_remainder=True)) == [[0, 1], [2, 3]]
    assert values(stream(5).batch(2, drop_remainder=True)) == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    "dataset, size",
    [
        (numbers().batch(3), 4),
        (numbers().batch(3, drop_remainder=True), 3),
        (numbers().map(str).skip(8).repeat(3), 6),
        (numbers().repeat(), math.inf),
        (numbers().repeat().batch(3).take(7), 7),
        (numbers(0).repeat(), 0),
        (stream().repeat(0), 0),
        (stream().batch(2), None),
        (numbers().filter(bool), None),
        (Dataset.zip(numbers(3), numbers().repeat()), 3),
        (numbers(3).concatenate(numbers(4)).shuffle(2).prefetch(), 7),
    ],
)
def test_cardinality(dataset, size):
    assert dataset.cardinality == size
    if isinstance(size, int):
        assert len(dataset) == len(list(dataset)) == size


def test_an_endless_repeat_of_nothing_ends():
    assert values(stream(0).repeat()) == []


def test_batches_of_python_numbers():
    (batch,) = Dataset.from_generator([(1.5, 1, True), (2.0, 2, False)]).batch(2)
    assert [leaf.dtype.kind for leaf in batch] == ["f", "i", "b"]
    assert batch[0].dtype == np.float32 and batch[0].tolist() == [1.5, 2]


def test_elements_that_make_no_batch():
    with pytest.raises(DataError, match=r"leaf 1 came as \(1,\) and \(2,\)"):
        list(Dataset.from_generator([(0, np.ones(1)), (0, np.ones(2))]).batch(2))
    with pytest.raises(DataError, match="one structure"):
        list(Dataset.from_generator([(1, 2), {"a": 1}]).batch(2))


def test_padded_batch():
    ragged = [(np.arange(n), n) for n in (1, 3, 2)]
    first, second = Dataset.from_generator(ragged).padded_batch(2, padding=-1)
    assert first[0].tolist() == [[0, -1, -1], [0, 1, 2]] and first[1].tolist() == [1, 3]
    assert second[0].tolist() == [[0, 1]]


def test_padding_for_each_leaf_and_to_a_multiple():
    ragged = [{"x": np.ones((n, 2)), "y": np.ones(3)} for n in (1, 5)]
    (batch,) = Dataset.from_generator(ragged).padded_batch(2, padding={"x": 7, "y": None}, pad_to_multiple=4)
    assert batch["x"].shape == (2, 8, 2) and batch["y"].shape == (2, 3)
    assert batch["x"][0, 1:].min() == 7 and batch["x"][1, :5].max() == 1
    with pytest.raises(ValueError, match="structure"):
        list(Dataset.from_generator([(1, 2)]).padded_batch(2, padding=(0, 0, 0)))
    with pytest.raises(DataError, match="one rank"):
        list(Dataset.from_generator([np.ones(1), np.ones((1, 1))]).padded_batch(2))


def test_bucket_by_length():
    ragged = Dataset.from_generator([np.full(n, n) for n in (1, 4, 2, 9, 3, 2, 7)])
    batches = list(ragged.bucket_by_length(len, boundaries=[2, 4], batch_sizes=[2, 2, 3]))
    assert [batch.shape for batch in batches] == [(2, 2), (2, 4), (1, 2), (2, 9)]
    assert batches[0].tolist() == [[1, 0], [2, 2]]
    full = list(ragged.bucket_by_length(len, [2, 4], 2, drop_remainder=True))
    assert [batch.shape for batch in full] == [(2, 2), (2, 4), (2, 9)]
    with pytest.raises(ValueError, match="increase"):
        ragged.bucket_by_length(len, [4, 2], 2)
    with pytest.raises(ValueError, match="3 buckets"):
        ragged.bucket_by_length(len, [2, 4], [2, 2])


@pytest.mark.parametrize("call", ["batch(0)", "shuffle(seed=-1)", "take(-1)", "prefetch(0)", "map(str, 0)"])
def test_numbers_that_make_no_sense(call):
    with pytest.raises(ValueError, match="whole number of at least"):
        eval(f"dataset.{call}", {"dataset": numbers()})


# Order


@pytest.mark.parametrize("make", [numbers, stream])
def test_shuffling_goes_by_seed_and_epoch(make):
    dataset = make(50).shuffle(seed=3)
    first, second = values(dataset), values(dataset)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second and first != list(range(50))
    again = make(50).shuffle(seed=3)
    assert [values(again), values(again)] == [first, second]
    assert values(make(50).shuffle(seed=4)) != first
    assert values(dataset.iterate(epoch=0)) == first
    fixed = make(50).shuffle(seed=3, reshuffle_each_iteration=False)
    assert values(fixed) == values(fixed)


def test_the_order_is_the_published_one():
    """Training runs resume across versions of numpy only if this never changes."""
    assert values(numbers(8).shuffle(seed=0)) == [3, 2, 1, 6, 0, 7, 4, 5]


def test_each_pass_of_a_repeat_is_shuffled_anew():
    passes = np.reshape(values(numbers(20).shuffle(seed=1).repeat(3)), (3, 20))
    assert len({tuple(one) for one in passes.tolist()}) == 3
    assert (np.sort(passes) == np.arange(20)).all()


def test_a_stream_is_shuffled_within_its_buffer():
    order = values(stream(100).shuffle(buffer_size=5, seed=1))
    assert sorted(order) == list(range(100))
    assert all(value <= position + 5 for position, value in enumerate(order))


def test_shuffling_all_positions_evenly():
    counts = np.zeros((6, 6))
    for make in (numbers, stream):
        dataset = make(6).shuffle(seed=0)
        for _ in range(500):
            counts[np.arange(6), values(dataset)] += 1
    assert abs(counts / 1000 - 1 / 6).max() < 0.06  # five standard deviations


def test_mapped_arrays_are_shuffled_before_they_are_mapped():
    seen = []
    dataset = numbers(100).map(lambda n: seen.append(int(n)) or n).shuffle(seed=1).take(3)
    assert values(dataset) == seen and len(seen) == 3


def test_a_parallel_map_keeps_the_order():
    def slow_at_first(number):
        time.sleep(0.02 if number == 0 else 0)
        return number

    assert values(numbers(30).map(slow_at_first, num_parallel=4)) == list(range(30))


def test_a_parallel_map_runs_in_parallel_and_not_far_ahead():
    both = threading.Barrier(2, timeout=5)
    assert values(numbers(2).map(lambda n: both.wait() * 0 + n, num_parallel=2)) == [0, 1]
    seen = []
    iterator = iter(numbers(100).map(lambda n: seen.append(n), num_parallel=2))
    next(iterator)
    time.sleep(0.05)
    assert len(seen) <= 5
    iterator.close()


@pytest.mark.parametrize("num_parallel", [1, 3])
def test_random_maps_go_by_seed_epoch_and_number(num_parallel):
    def jitter(number, rng):
        return number + rng.random()

    dataset = numbers(20).shuffle(seed=1).map(jitter, num_parallel, seed=5)
    first, second = values(dataset), values(dataset)
    expected = numbers(20).shuffle(seed=1).map(jitter, seed=5)
    assert first == values(expected) and second == values(expected)
    assert sorted(np.mod(first, 1)) != sorted(np.mod(second, 1))
    assert values(dataset.skip(5).iterate(0)) == first[5:]


# Resuming


def augment(number, rng):
    return number * 100 + rng.integers(100)


STEPS = {
    "map": lambda d: d.map(lambda n: n + 1),
    "parallel": lambda d: d.map(lambda n: n + 1, num_parallel=2),
    "random": lambda d: d.map(augment, seed=2),
    "filter": lambda d: d.filter(lambda n: np.sum(n) % 3 != 0),
    "shuffle": lambda d: d.shuffle(seed=1),
    "buffer": lambda d: d.filter(lambda n: True).map(lambda n: n, seed=None).shuffle(4, seed=1),
    "repeat": lambda d: d.repeat(2),
    "take": lambda d: d.take(9),
    "skip": lambda d: d.skip(2),
    "concatenate": lambda d: d.concatenate(numbers(3)),
    "prefetch": lambda d: d.prefetch(2),
    "cache": lambda d: d.cache(),
    "bucket": lambda d: d.bucket_by_length(lambda n: 1 + int(n) % 3, [1, 2], 1).map(lambda n: n[0]),
    "zip": lambda d: Dataset.zip(d, d).map(lambda a, b: a * 2 + b),
    "enumerate": lambda d: d.enumerate().map(lambda i, n: i + n),
}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([numbers, stream]),
    st.lists(st.sampled_from(sorted(STEPS)), max_size=4),
    st.integers(1, 4),
    st.integers(0, 2),
    st.data(),
)
def test_any_pipeline_resumes_in_mid_epoch(make, names, batch_size, epoch, data):
    def build():
        dataset = make(12)
        for name in names:
            dataset = STEPS[name](dataset)
        return dataset.batch(batch_size)

    whole = [batch.tolist() for batch in build().iterate(epoch)]
    position = data.draw(st.integers(0, len(whole)))
    iterator = build().iterate(epoch)
    assert [next(iterator).tolist() for _ in range(position)] == whole[:position]
    state = json.loads(json.dumps(iterator.state_dict()))
    iterator.close()
    resumed = build()
    resumed.load_state_dict(state)
    assert [batch.tolist() for batch in resumed] == whole[position:]
    following = [batch.tolist() for batch in build().iterate(epoch + 1)]
    assert [batch.tolist() for batch in resumed] == following


def test_an_iterator_can_go_back():
    iterator = iter(numbers(10).shuffle(seed=1).batch(3))
    first = next(iterator)
    state = iterator.state_dict()
    rest = values(iterator)
    iterator.load_state_dict(state)
    assert iterator.state_dict() == state == {"epoch": 0, "position": 1}
    assert values(iterator) == rest and len(first) == 3


def test_resuming_does_not_make_what_it_skips():
    seen = []
    dataset = numbers(1000).shuffle(seed=1).map(lambda n: seen.append(n) or n).batch(10).prefetch()
    next(dataset.iterate(0, position=99))
    assert len(seen) == 10
    next(numbers(3).repeat().iterate(0, position=10**9))  # would take minutes otherwise


@pytest.mark.parametrize("state", [{}, {"epoch": 0}, {"epoch": -1, "position": 0}, {"epoch": 0, "position": "1"}, None])
def test_states_that_are_none(state):
    with pytest.raises(ValueError, match="state of a dataset"):
        numbers().load_state_dict(state)


def test_the_state_of_other_data():
    with pytest.raises(ValueError, match="stands at element 11 of a dataset that has 10"):
        numbers().load_state_dict({"epoch": 0, "position": 11})


# Caches


def test_a_cache_calls_once(tmp_path):
    for path in (None, tmp_path / "sub" / "cache"):
        calls = []
        dataset = numbers(4).map(lambda n, calls=calls: calls.append(n) or n * 2).cache(path)
        next(iter(dataset))  # an epoch that is broken off is not kept
        assert values(dataset) == values(dataset) == [0, 2, 4, 6]
        assert len(calls) == 5
        assert values(dataset.skip(1)) == [2, 4, 6]
    assert [entry.name for entry in (tmp_path / "sub").iterdir()] == ["cache"]


def test_a_cache_file_keeps_trees(tmp_path):
    element = {"x": np.eye(2, dtype=np.float16), "y": (np.str_("é"), [np.int8(3), None])}
    dataset = Dataset.from_generator([element, (1, 2)]).cache(tmp_path / "c")
    for _ in range(2):
        first, second = dataset
        assert first["x"].dtype == np.float16 and (first["x"] == np.eye(2)).all()
        assert first["y"] == ("é", [3, None]) and second == (1, 2)


def test_a_cache_file_keeps_the_precision_of_the_first_pass(tmp_path):
    dataset = Dataset.from_generator([1.5, 2.5]).cache(tmp_path / "c").batch(2)
    assert [batch.dtype for _ in range(2) for batch in dataset] == [np.float32, np.float32]


def test_damaged_cache_files(tmp_path):
    dataset = numbers(4).cache(tmp_path / "c")
    list(dataset)
    whole = (tmp_path / "c").read_bytes()
    for damaged in (b"", whole[:-3], whole[-40:], whole[: len(whole) // 2] + whole[-40:], b"x" * 100):
        (tmp_path / "c").write_bytes(damaged)
        with pytest.raises(DataError, match="Delete it"):
            list(dataset)


# Threads and errors


@pytest.mark.parametrize("num_parallel", [1, 3])
@pytest.mark.parametrize("prefetch", [False, True])
def test_an_error_of_a_worker_names_the_element(num_parallel, prefetch):
    def decode(path, label):
        if path.startswith("bad"):
            raise OSError("no such picture")
        return label

    dataset = Dataset.from_arrays((np.array(["a.png", "b.png", "bad.png", "c.png"]), np.arange(4)))
    dataset = dataset.map(decode, num_parallel)
    iterator = iter(dataset.prefetch() if prefetch else dataset)
    assert [next(iterator), next(iterator)] == [0, 1]
    expected = r"map\(decode\) failed on element 2 \('bad.png'\): OSError: no such picture"
    with pytest.raises(DataError, match=expected) as caught:
        next(iterator)
    assert isinstance(caught.value.__cause__, OSError)


def test_errors_of_predicates_and_generators():
    with pytest.raises(DataError, match=r"filter\(<lambda>\) failed on element 1: ZeroDivisionError"):
        list(Dataset.from_generator([1, 0]).filter(lambda n: 1 / n))

    def broken():
        yield 1
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        list(Dataset.from_generator(broken).prefetch())


def test_an_error_is_not_the_end_of_the_data():
    broken = [True]

    def sometimes(number):
        if number == 1 and broken:
            raise OSError
        return number

    iterator = iter(numbers(3).map(sometimes).prefetch())
    assert next(iterator) == 0
    for _ in range(2):
        with pytest.raises(DataError, match="element 1"):
            next(iterator)
    broken.clear()
    assert values(iterator) == [1, 2]


def alive():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tenzoo")]


@pytest.mark.parametrize("end", ["close", "drop", "exhaust", "error"])
def test_no_thread_outlives_its_iterator(end):
    def work(number):
        if end == "error" and number == 50:
            raise ValueError
        return number

    iterator = iter(numbers(100).map(work, num_parallel=2).prefetch(3))
    next(iterator)
    assert len(alive()) == 3
    if end == "close":
        iterator.close()
    elif end == "drop":
        del iterator
    elif end == "exhaust":
        list(iterator)
    else:
        with pytest.raises(DataError):
            list(iterator)
    deadline = time.monotonic() + 2
    while alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert alive() == []


def test_prefetch_works_ahead_but_not_far():
    made = []
    iterator = iter(numbers(100).map(lambda n: made.append(n) or n).prefetch(3))
    assert next(iterator) == 0
    deadline = time.monotonic() + 2
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 5  # one used, three waiting, one in hand
    iterator.close()


SCRIPT = """
import signal, time
from tenzoo.datasets import Dataset
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
def slow(n):
    time.sleep(0.05)
    return n
for n in Dataset.from_arrays(np.arange(10**6)).map(slow, num_parallel=2).prefetch(4):
    print(n, flush=True)
"""


def test_ctrl_c_ends_the_process():
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline().strip() == b"0"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=5)
    assert errors.strip().endswith(b"KeyboardInterrupt") and process.returncode != 0
