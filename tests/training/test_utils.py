"""Helpers for scripts, and the examples in the docstrings of the training parts."""

import doctest
import importlib
import random

import numpy as np
import pytest

import tenzoo as tz
from tenzoo.training import utils

MODULES = [
    "calibration",
    "confusion_metrics",
    "detection_metrics",
    "forecast_metrics",
    "input_data",
    "loss",
    "loss_scaling",
    "losses",
    "metric",
    "metrics",
    "model",
    "multi_optimizer",
    "optimizer",
    "optimizers",
    "ranking_metrics",
    "saving",
    "schedules",
    "similarity_losses",
    "text_metrics",
    "tools",
    "utils",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"tenzoo.training.{name}")
    assert doctest.testmod(module, extraglobs={"tz": tz}).failed == 0


def test_seeds_repeat_everything():
    def draw():
        utils.set_random_seed(3)
        return random.random(), np.random.rand(), float(tz.random.uniform(()))  # noqa: NPY002

    assert draw() == draw()


def test_to_categorical():
    np.testing.assert_array_equal(utils.to_categorical([[1], [0]], 3), [[0, 1, 0], [1, 0, 0]])
    assert utils.to_categorical(np.zeros((2, 3), int)).shape == (2, 3, 1)
    assert utils.to_categorical(tz.tensor([[1], [2]])).tolist() == [[0, 1, 0], [0, 0, 1]]
    with pytest.raises(ValueError, match=r"in \[0, 1\] for 2 classes; received 0 to 2"):
        utils.to_categorical([0, 2], num_classes=2)


def test_pad_sequences():
    assert utils.pad_sequences([[1, 2, 3], [], [4]], padding="post").tolist() == [
        [1, 2, 3],
        [0] * 3,
        [4, 0, 0],
    ]
    assert utils.pad_sequences([[1, 2, 3]], maxlen=2, truncating="post").tolist() == [[1, 2]]
    assert utils.pad_sequences([np.ones((1, 2)), np.ones((3, 2))], dtype="float32").shape == (2, 3, 2)
    for arguments in ({"padding": "left"}, {"truncating": "left"}):
        with pytest.raises(ValueError, match='"pre" or "post"'):
            utils.pad_sequences([[1]], **arguments)
    with pytest.raises(ValueError, match="a list of sequences"):
        utils.pad_sequences([1, 2])


def test_batches_are_packed_and_unpacked():
    for batch in ((1, None, None), (1, 2, None), (1, 2, 3), ([1, 2], None, None)):
        assert utils.unpack_x_y_sample_weight(utils.pack_x_y_sample_weight(*batch)) == batch
    with pytest.raises(ValueError, match="received a tuple of 4"):
        utils.unpack_x_y_sample_weight((1, 2, 3, 4))


def test_split_dataset():
    x, y = np.arange(10), np.arange(10) * 2
    (left_x, left_y), (right_x, right_y) = utils.split_dataset((x, y), right_size=3, shuffle=True, seed=0)
    assert sorted([*left_x, *right_x]) == list(range(10)) and len(right_x) == 3
    np.testing.assert_array_equal(2 * left_x, left_y)
    np.testing.assert_array_equal(2 * right_x, right_y)
    with pytest.raises(ValueError, match="do not fit 10 samples"):
        utils.split_dataset(x, left_size=12)
    with pytest.raises(ValueError, match="left_size or right_size"):
        utils.split_dataset(x)
