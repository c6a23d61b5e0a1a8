"""fit, evaluate and predict: structures of data, weights, metrics by hand, reproducibility, and errors."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import layers
from tenzoo.training.data import make_feed


def linear_model(units=1, features=3, seed=0, **options):
    tz.random.seed(seed)
    inputs = layers.Input((features,))
    return tz.Model(inputs, layers.Dense(units, **options)(inputs))


def regression(samples=20, features=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features)).astype("float32")
    return x, x.sum(-1, keepdims=True).astype("float32")


def blobs(samples=240, classes=3, seed=0):
    """Classes that a small network tells apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, samples)
    x = rng.normal(size=(samples, 6)).astype("float32") * 0.4
    x[np.arange(samples), y] += 2.0
    return x, y


def two_in_two_out():
    a, b = layers.Input((2,), name="a"), layers.Input((3,), name="b")
    joined = layers.Concatenate()([a, b])
    return tz.Model([a, b], [layers.Dense(1, name="value")(joined), layers.Dense(4, name="logits")(joined)])


# Learning


def test_learns_and_predicts():
    tz.random.seed(1)
    x, y = blobs()
    model = tz.Sequential([layers.Dense(16, activation="relu"), layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.learning_rate = 0.01
    history = model.fit(x, y, epochs=12, validation_split=0.25, verbose=0)
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history.epoch == list(range(12))
    assert history.history["loss"][-1] < 0.3 * history.history["loss"][0]
    assert history.history["val_accuracy"][-1] > 0.9
    predicted = model.predict(x, verbose=0)
    assert isinstance(predicted, np.ndarray) and predicted.shape == (240, 3)
    assert np.mean(predicted.argmax(-1) == y) > 0.9


def test_same_seed_same_numbers():
    def run(seed):
        tz.random.seed(seed)
        model = tz.Sequential([layers.Dense(8, activation="relu"), layers.Dropout(0.5), layers.Dense(3)])
        loss = tz.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        history = model.fit(*blobs(), epochs=2, verbose=0)
        return history.history["loss"], model.get_weights()

    first, again, other = run(3), run(3), run(4)
    assert first[0] == again[0]
    assert all(np.array_equal(a, b) for a, b in zip(first[1], again[1]))
    assert first[0] != other[0]


# Numbers by hand


def test_sgd_step_by_hand():
    model = linear_model(use_bias=False)
    x, y = regression(4)
    w = model.get_weights()[0]
    model.compile(tz.optimizers.SGD(0.1), "mse")
    loss = model.train_on_batch(x, y)
    assert loss == pytest.approx(np.mean((x @ w - y) ** 2), rel=1e-5)
    np.testing.assert_allclose(model.get_weights()[0], w - 0.1 * 2 / 4 * x.T @ (x @ w - y), rtol=1e-5)


def test_metrics_are_means_over_samples_of_ragged_batches():
    model = linear_model()
    x, y = regression(10)
    model.compile("sgd", "mse", metrics=["mae", "mse"])
    result = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    error = model.predict(x, verbose=0) - y
    assert result["loss"] == pytest.approx(np.mean(error**2), rel=1e-5)
    assert result["mse"] == pytest.approx(np.mean(error**2), rel=1e-5)
    assert result["mae"] == pytest.approx(np.mean(np.abs(error)), rel=1e-5)
    assert model.evaluate(x, y, verbose=0) == pytest.approx([result["loss"], result["mae"], result["mse"]])
    assert model.metrics_names == ["loss", "mae", "mse"]


def test_sample_weight_by_hand():
    model = linear_model()
    x, y = regression(6)
    weights = np.arange(6, dtype="float32")
    model.compile("sgd", "mse", metrics=["mse"], weighted_metrics=["mse", "mae"])
    result = model.evaluate(x, y, sample_weight=weights, batch_size=6, verbose=0, return_dict=True)
    squared = ((model.predict(x, verbose=0) - y) ** 2)[:, 0]
    assert result["loss"] == pytest.approx(np.mean(squared * weights), rel=1e-5)
    assert result["mse"] == pytest.approx(np.mean(squared), rel=1e-5)
    assert result["weighted_mse"] == pytest.approx(np.average(squared, weights=weights), rel=1e-5)
    assert list(result) == ["loss", "mse", "weighted_mse", "mae"]


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weight_equals_sample_weight(one_hot):
    x, y = blobs(12)
    targets = np.eye(3, dtype="float32")[y] if one_hot else y
    loss = "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy"
    losses = []
    for options in (
        {"class_weight": {0: 2.0, 2: 0.5}},
        {"sample_weight": np.array([2.0, 1.0, 0.5], "float32")[y]},
    ):
        model = linear_model(3, 6, activation="softmax")
        model.compile("sgd", loss)
        losses.append(model.fit(x, targets, shuffle=False, verbose=0, **options).history["loss"])
    assert losses[0] == losses[1]


def test_regularizers_and_add_loss_count():
    class Penalty(layers.Layer):
        def call(self, inputs):
            self.add_loss(0.25)
            return inputs

    inputs = layers.Input((3,))
    dense = layers.Dense(1, kernel_regularizer="l2")
    model = tz.Model(inputs, Penalty()(dense(inputs)))
    model.compile("sgd", "mse")
    x, y = regression(8)
    plain = np.mean((model.predict(x, verbose=0) - y) ** 2)
    expected = plain + 0.25 + 0.01 * np.sum(dense.get_weights()[0] ** 2)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_masks_leave_padding_out():
    class MaskZeros(layers.Layer):
        supports_masking = True

        def call(self, inputs):
            return inputs

        def compute_mask(self, inputs, previous_mask=None):
            return tz.ops.any(inputs != 0, axis=-1)

    inputs = layers.Input((4, 2))
    model = tz.Model(inputs, MaskZeros()(inputs))
    model.compile("sgd", "mse", metrics=["mae"])
    x = np.ones((2, 4, 2), "float32")
    x[0, 2:] = 0
    y = np.full((2, 4, 2), 3.0, "float32")
    result = model.evaluate(x, y, verbose=0, return_dict=True)
    assert result["loss"] == pytest.approx(4.0) and result["mae"] == pytest.approx(2.0)


# Several inputs and outputs


@pytest.mark.parametrize("form", ["lists", "dicts"])
def test_several_outputs(form):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(10, 2)).astype("float32"), rng.normal(size=(10, 3)).astype("float32")
    value, label = rng.normal(size=(10, 1)).astype("float32"), rng.integers(0, 4, 10)
    crossentropy = tz.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = two_in_two_out()
    if form == "lists":
        x, y = [a, b], [value, label]
        model.compile("sgd", ["mse", crossentropy], loss_weights=[1.0, 0.5], metrics=[["mae"], ["accuracy"]])
    else:
        x, y = {"a": a, "b": b}, {"logits": label, "value": value}
        model.compile(
            "sgd",
            {"logits": crossentropy, "value": "mse"},
            loss_weights={"value": 1.0, "logits": 0.5},
            metrics={"value": "mae", "logits": ["accuracy"]},
        )
    result = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    assert list(result) == ["loss", "value_mae", "logits_accuracy", "value_loss", "logits_loss"]
    assert result["loss"] == pytest.approx(result["value_loss"] + 0.5 * result["logits_loss"], rel=1e-5)
    predicted = model.predict(x, verbose=0)
    assert result["value_mae"] == pytest.approx(np.mean(np.abs(predicted[0] - value)), rel=1e-5)
    assert result["logits_accuracy"] == pytest.approx(np.mean(predicted[1].argmax(-1) == label))
    history = model.fit(x, y, epochs=2, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]


def test_one_loss_for_all_outputs_and_none_for_one():
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(6, 2)).astype("float32"), rng.normal(size=(6, 3)).astype("float32")]
    value, logits = np.zeros((6, 1), "float32"), np.zeros((6, 4), "float32")
    model = two_in_two_out()
    model.compile("sgd", "mse")
    assert set(model.evaluate(x, [value, logits], verbose=0, return_dict=True)) == {
        "loss",
        "value_loss",
        "logits_loss",
    }
    model.compile("sgd", {"value": "mse"})
    assert set(model.evaluate(x, {"value": value}, verbose=0, return_dict=True)) == {"loss"}
    model.compile("sgd", ["mse", None])
    assert model.evaluate(x, [value], verbose=0) == model.evaluate(x, {"value": value}, verbose=0)


def test_dict_outputs_of_a_subclassed_model():
    class Heads(tz.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(1), layers.Dense(2)

        def call(self, inputs):
            return {"first": self.first(inputs["x"]), "second": self.second(inputs["x"])}

    model = Heads()
    model.compile("sgd", {"first": "mse", "second": "mae"}, metrics={"second": ["mse"]})
    x = {"x": np.ones((5, 3), "float32")}
    y = {"second": np.ones((5, 2), "float32"), "first": np.ones((5, 1), "float32")}
    history = model.fit(x, y, verbose=0)
    assert list(history.history) == ["loss", "second_mse", "first_loss", "second_loss"]
    assert model.predict(x, verbose=0)["second"].shape == (5, 2)


# Sources of data


def epochs_of(feed, count=1):
    return [[tuple(batch[0].numpy()[:, 0]) for batch in feed.epoch()] for _ in range(count)]


def test_arrays_are_shuffled_anew_each_epoch():
    x = np.arange(8.0)[:, None]
    first, second = epochs_of(make_feed(x, batch_size=3, seed=5), 2)
    assert [len(batch) for batch in first] == [3, 3, 2]
    assert first != second
    assert sorted(sum(first, ())) == sorted(sum(second, ())) == list(range(8))
    assert epochs_of(make_feed(x, batch_size=3, seed=5), 2) == [first, second]
    assert epochs_of(make_feed(x, batch_size=4)) == [[(0, 1, 2, 3), (4, 5, 6, 7)]]


def test_sources_are_equivalent():
    x, y = regression(12)
    batches = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 12, 4)]

    class Loader:  # like a torch DataLoader: batches are lists
        def __iter__(self):
            return iter([list(batch) for batch in batches])

        def __len__(self):
            return 3

    sources = {
        "loader": Loader(),
        "dataset": tz.datasets.Dataset.from_arrays((x, y)).batch(4),
        "generator": (batch for _ in range(2) for batch in batches),
    }
    reference = linear_model()
    reference.compile("sgd", "mse")
    expected = reference.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0).history["loss"]
    for name, source in sources.items():
        model = linear_model()
        model.compile("sgd", "mse")
        steps = 3 if name == "generator" else None
        losses = model.fit(source, epochs=2, steps_per_epoch=steps, verbose=0).history["loss"]
        assert losses == expected, name


def test_steps_per_epoch_goes_on_through_the_data():
    x = np.arange(6.0)[:, None]
    feed = make_feed(x, batch_size=2, steps=2)
    assert epochs_of(feed, 3) == [[(0, 1), (2, 3)], [(4, 5), (0, 1)], [(2, 3), (4, 5)]]
    assert feed.steps == 2


def test_a_generator_that_ends_stops_the_training_with_a_warning():
    x, y = regression(4)
    model = linear_model()
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="ran out.*received 1"):
        history = model.fit(((x, y) for _ in range(3)), steps_per_epoch=2, epochs=5, verbose=0)
    assert history.epoch == [0, 1]


def test_lists_of_numbers_float64_and_tensors():
    model = linear_model(features=1)
    model.compile("sgd", "mse")
    model.fit([[1.0], [2.0]], [1.0, 2.0], verbose=0)
    model.fit(np.ones((2, 1)), tz.tensor([[1.0], [2.0]]), verbose=0)
    assert model.predict(np.ones((3, 1)), verbose=0).dtype == np.float32


def test_validation_split_is_the_last_part():
    x, y = regression(10)
    y[7:] += 100
    model = linear_model()
    model.compile(tz.optimizers.SGD(0.0), "mse")
    history = model.fit(x, y, validation_split=0.3, verbose=0).history
    assert history["val_loss"][0] > 5000 > history["loss"][0]
    assert history["val_loss"][0] == pytest.approx(model.evaluate(x[7:], y[7:], verbose=0), rel=1e-6)


def test_validation_data_frequency_and_steps():
    x, y = regression(12)
    model = linear_model()
    model.compile("sgd", "mse")
    history = model.fit(x, y, epochs=4, validation_data=(x, y), validation_freq=2, validation_steps=1, verbose=0)
    assert len(history.history["val_loss"]) == 2
    history = model.fit(x, y, epochs=3, validation_data=(x, y), validation_freq=[1, 3], verbose=0)
    assert len(history.history["val_loss"]) == 2


def test_validation_steps_are_the_same_batches_each_time():
    x, y = regression(12)
    model = linear_model()
    model.compile(tz.optimizers.SGD(0.0), "mse")
    options = {"validation_data": (x, y), "validation_batch_size": 4, "validation_steps": 2}
    losses = model.fit(x, y, epochs=3, verbose=0, **options).history["val_loss"]
    assert losses == [pytest.approx(model.evaluate(x[:8], y[:8], verbose=0))] * 3


def test_initial_epoch():
    x, y = regression()
    model = linear_model()
    model.compile("sgd", "mse")
    assert model.fit(x, y, epochs=5, initial_epoch=3, verbose=0).epoch == [3, 4]


# Steps of one's own


def test_custom_train_step_and_metrics():
    class Custom(tz.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)
            self.tracker = tz.metrics.Mean(name="my_loss")

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, data):
            x, y = data[:2]
            with tz.GradientTape() as tape:
                loss = tz.ops.mean((self(x, training=True) - y) ** 2)
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
            self.tracker.update_state(loss)
            return {"my_loss": self.tracker.result()}

        @property
        def metrics(self):
            return [self.tracker]

    model = Custom()
    model.compile(optimizer=tz.optimizers.SGD(0.1))
    history = model.fit(*regression(), epochs=5, verbose=0).history
    assert list(history) == ["my_loss"]
    assert history["my_loss"][-1] < 0.5 * history["my_loss"][0]


def test_own_step_may_make_its_targets():
    class Autoencoder(tz.Model):
        def train_step(self, data):
            x = data
            with tz.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(x, x, y_pred)
            self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
            return self.compute_metrics(x, x, y_pred)

    inputs = layers.Input((3,))
    model = Autoencoder(inputs, layers.Dense(3)(inputs))
    model.compile("sgd", "mse", metrics=["mae"])
    history = model.fit(regression()[0], epochs=3, verbose=0).history
    assert history["mae"][-1] < history["mae"][0]


def test_custom_compute_loss():
    class Custom(tz.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return tz.ops.mean(tz.ops.absolute(y - y_pred)) + 7.0

    inputs = layers.Input((3,))
    model = Custom(inputs, layers.Dense(1)(inputs))
    model.compile("sgd")
    assert model.fit(*regression(), verbose=0).history["loss"][0] > 7


def test_steps_per_execution_counts_batches_in_groups():
    x, y = regression(20)
    seen = []
    model = linear_model()
    model.compile("sgd", "mse", steps_per_execution=2)
    hook = tz.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[hook])
    assert seen == [1, 3, 4]


def test_on_batch_methods():
    x, y = regression(8)
    model = linear_model()
    model.compile("sgd", "mse", metrics=["mae"])
    first = model.train_on_batch(x, y, return_dict=True)
    assert set(first) == {"loss", "mae"}
    model.reset_metrics()
    assert model.test_on_batch(x, y)[0] < first["loss"]
    assert model.predict_on_batch(x).shape == (8, 1)


# Bad input


def expect(message, x, y=None, model=None, **options):
    model = model or linear_model()
    if not model.compiled:
        model.compile("sgd", "mse")
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(x, y, verbose=0, **options)


def test_bad_data():
    x, y = regression(6)
    expect(r"same number of samples.*x of shape \(6, 3\) and y of shape \(4, 1\)", x, y[:4])
    expect("empty", x[:0], y[:0])
    expect("empty", [])
    expect("targets y are missing", x)
    expect("batch_size", x, y, batch_size=0)
    expect("bring their own targets", iter([(x, y)]), y)
    expect("x is missing", None)
    expect("differ in structure", iter([(x, y), (x, y, y[:, 0])]))
    expect("(x, y, sample_weight)", iter([(x, y, y, y)]))
    expect("validation_split", x, y, validation_split=0.99)
    expect("class_weight and sample_weight", x, y, class_weight={0: 1.0}, sample_weight=np.ones(6))
    expect("must be arrays", object())


def test_labels_out_of_range_are_named():
    x = np.zeros((4, 3), "float32")
    for loss in ("sparse_categorical_crossentropy", tz.losses.SparseCategoricalCrossentropy()):
        model = linear_model(3, activation="softmax")
        model.compile("sgd", loss)
        expect(r"In y: Label 3 at position .*2.*3 classes", x, np.array([0, 1, 3, 2]), model)
        batches = [(x, np.array([0, 1, 2, 2])), (x, np.array([0, -1, 2, 2]))]
        expect(r"In y in batch 1: Label -1 at position .*1", iter(batches), model=model)


def test_loss_that_does_not_fit_the_output():
    model = linear_model(3)
    model.compile("sgd", "categorical_crossentropy")
    expect("sparse_categorical_crossentropy", np.zeros((4, 3), "float32"), np.array([0, 1, 2, 0]), model)


def test_bad_compile():
    model = linear_model()
    with pytest.raises(ValueError, match="Did you mean 'adam'"):
        model.compile("adm", "mse")
    with pytest.raises(ValueError, match="Unknown loss 'msee'"):
        model.compile("sgd", "msee")
    with pytest.raises(ValueError, match="list, tuple or dict"):
        model.compile("sgd", "mse", metrics="mae")
    with pytest.raises(ValueError, match="compile"):
        linear_model().fit(*regression())
    model = two_in_two_out()
    model.compile("sgd", {"valeu": "mse"})
    x = [np.zeros((2, 2), "float32"), np.zeros((2, 3), "float32")]
    expect("Did you mean 'value'", x, [np.zeros((2, 1)), np.zeros((2, 4))], model)
    model.compile("sgd")
    expect("no loss", x, [np.zeros((2, 1)), np.zeros((2, 4))], model)


def test_nan_loss_warns_once():
    x, y = regression(8)
    x[5] = np.nan
    model = linear_model()
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="became nan in epoch 1, batch 2") as caught:
        model.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0)
    assert len([w for w in caught if "became nan" in str(w.message)]) == 1


# The step as one function


def test_a_whole_step_can_be_traced():
    x, y = blobs(16)
    results = []
    for traced in (False, True):
        tz.random.seed(2)
        model = tz.Sequential(
            [
                layers.Dense(8, activation="relu"),
                layers.BatchNormalization(),
                layers.Dropout(0.5),
                layers.Dense(3),
            ]
        )
        loss = tz.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        model.evaluate(x, y, verbose=0)
        model.optimizer.build(model.trainable_variables)
        model.reset_metrics()
        batch = (tz.tensor(x), tz.tensor(y), None)
        step = tz.trace(model.train_step, batch) if traced else model.train_step
        logs = [step(batch) for _ in range(3)][-1]
        results.append([float(value) for value in logs.values()] + model.get_weights())
    for eager, graph in zip(*results):
        np.testing.assert_array_equal(eager, graph)


def test_a_model_that_nobody_holds_is_freed():
    """With its compiled steps, variables and memory."""
    x, y = np.ones((8, 4), "float32"), np.zeros(8, "int32")

    def train():
        model = tz.Sequential([tz.Input((4,)), tz.layers.Dense(3)])
        model.compile("adam", tz.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        model.fit(x, y, verbose=0)
        return weakref.ref(model)

    model = train()
    gc.collect()
    assert model() is None


def functional() -> tz.Model:
    start = layers.Input((3,))
    return tz.Model(start, layers.Dense(1)(layers.concatenate([start, layers.Dense(2)(start)])))


@pytest.mark.parametrize("build", [lambda: tz.Sequential([layers.Input((3,)), layers.Dense(1)]), functional])
def test_a_fitted_model_can_be_copied_and_holds_no_data(build):
    x, y = regression()
    model = build()
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0)
    assert "feed" not in model.history.params
    expected = model.predict(x, verbose=0)
    for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(made.predict(x, verbose=0), expected)
        made.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
