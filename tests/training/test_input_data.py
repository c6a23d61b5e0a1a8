"""Batches by number, windows of series, and Keras's names for saving."""

import numpy as np
import pytest

import tenzoo as tz


class Batches(tz.utils.PyDataset):
    def __init__(self):
        self.calls = []
        self.x = np.arange(24, dtype="float32").reshape(12, 2)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.calls.append(index)
        part = self.x[4 * index : 4 * index + 4]
        return part, part.sum(1, keepdims=True)

    def on_epoch_end(self):
        self.calls.append("end")


def test_batches_by_number():
    data = Batches()
    model = tz.Sequential([tz.Input((2,)), tz.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(data, epochs=2, verbose=0)
    assert data.calls == [0, 1, 2, "end"] * 2 and len(history.history["loss"]) == 2
    same = tz.Sequential([tz.Input((2,)), tz.layers.Dense(1)])
    same.set_weights(model.get_weights())
    same.compile("sgd", "mse")
    x, y = (np.concatenate(parts) for parts in zip(*Batches(), strict=True))
    assert model.evaluate(data, verbose=0) == pytest.approx(same.evaluate(x, y, batch_size=4, verbose=0))
    assert model.predict(data, verbose=0).shape == (12, 1)
    with pytest.raises(NotImplementedError, match="__getitem__"):
        tz.utils.PyDataset()[0]


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("rate", [1, 2])
@pytest.mark.parametrize("bounds", [(None, None), (5, 40)])
def test_windows(stride, rate, bounds):
    data = np.random.default_rng(0).normal(size=(50, 2))
    targets = np.arange(45)
    dataset = tz.utils.timeseries_dataset_from_array(data, targets, 4, stride, rate, 8, False, None, *bounds)
    x, y = (np.concatenate(parts) for parts in zip(*dataset, strict=True))
    start, end = bounds[0] or 0, bounds[1] or 50
    places = [i for i in range(start, 45, stride) if i + 3 * rate < end]
    np.testing.assert_array_equal(y, targets[places])
    np.testing.assert_array_equal(x, np.array([data[i : i + 3 * rate + 1 : rate] for i in places]))


def test_windows_shuffled_alone_and_wrong():
    data = np.arange(30)
    options = {"sequence_length": 3, "batch_size": None}
    alone = [np.asarray(window).tolist() for window in tz.utils.timeseries_dataset_from_array(data, None, **options)]
    assert alone == [[i, i + 1, i + 2] for i in range(28)]
    shuffled = tz.utils.timeseries_dataset_from_array(data, None, shuffle=True, seed=1, **options)
    first, second = ([np.asarray(window).tolist() for window in shuffled] for _ in range(2))
    assert first != second and sorted(first) == sorted(second) == alone
    model = tz.Sequential([tz.Input((3,)), tz.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(tz.utils.timeseries_dataset_from_array(data / 30, data[3:] / 30, 3, batch_size=8), verbose=0)
    for wrong in ({"sequence_length": 31}, {"sequence_length": 0}, {"sequence_length": 3, "end_index": 31}):
        with pytest.raises(ValueError, match=r"positive|no window|end_index"):
            tz.utils.timeseries_dataset_from_array(data, None, **wrong)


def test_names_for_saving(tmp_path):
    @tz.saving.register_keras_serializable("mine")
    class Twice(tz.layers.Layer):
        def call(self, inputs):
            return inputs * 2

    assert tz.saving.get_registered_name(Twice) == "mine>Twice"
    assert tz.saving.get_registered_object("mine>Twice") is Twice
    assert tz.saving.get_registered_object("mine>Thrice") is None
    assert tz.saving.get_registered_object("Thrice", {"Thrice": Twice}) is Twice
    assert tz.saving.get_registered_object("layers>Dense") is tz.layers.Dense
    model = tz.Sequential([tz.Input((2,)), Twice(), tz.layers.Dense(1, kernel_constraint=tz.constraints.max_norm(1))])
    tz.models.save_model(model, tmp_path / "m.tenzoo")
    again = tz.saving.load_model(tmp_path / "m.tenzoo")
    np.testing.assert_array_equal(again(np.ones((1, 2))), model(np.ones((1, 2))))
    tz.saving.save_weights(model, tmp_path / "w.safetensors")
    copy = tz.models.clone_model(model)
    tz.saving.load_weights(copy, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(copy(np.ones((1, 2))), model(np.ones((1, 2))))
    assert isinstance(tz.Input((2,)), tz.KerasTensor) and tz.InputSpec(ndim=2).ndim == 2


def test_architecture_as_json():
    x = tz.Input((4,), name="x")
    model = tz.Model(x, tz.layers.Dense(2, name="out")(tz.layers.Dropout(0.5)(x) + 1), name="net")
    again = tz.models.model_from_json(model.to_json(indent=1))
    assert again.name == "net" and [w.path for w in again.weights] == [w.path for w in model.weights]
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(np.ones((1, 4))), model(np.ones((1, 4))))
    hostile = (
        '{"class_name": "os>system", "config": {}}',
        '{"class_name": "__function__", "name": "os.system"}',
        '{"class_name": "posix.system", "config": {"command": "true"}}',
        "[" * 100_000 + "]" * 100_000,
        "{",
        "3",
    )
    for text in hostile:
        with pytest.raises(ValueError, match=r"system|nested|Expect"):
            tz.models.model_from_json(text)
