"""fit against Keras: same initial weights, same order of data, three epochs; same losses and weights."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

import tenzoo as tz

keras = pytest.importorskip("keras")


def network(lib):
    return lib.Sequential(
        [
            lib.layers.Input((8, 8, 1)),
            lib.layers.Conv2D(4, 3, activation="relu"),
            lib.layers.MaxPooling2D(),
            lib.layers.Flatten(),
            lib.layers.Dense(12, activation="tanh", kernel_regularizer="l2"),
            lib.layers.Dense(3, activation="softmax"),
        ]
    )


def two_heads(lib):
    inputs = lib.layers.Input((8, 8, 1))
    flat = lib.layers.Dense(6, activation="relu")(lib.layers.Flatten()(inputs))
    heads = [
        lib.layers.Dense(3, activation="softmax", name="kind")(flat),
        lib.layers.Dense(1, name="size")(flat),
    ]
    return lib.Model(inputs, heads)


def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 50)
    x = rng.normal(size=(50, 8, 8, 1)).astype("float32")
    x[np.arange(50), y] += 1.5
    return x, y, rng.uniform(0.5, 2, size=50).astype("float32")


def compare(make, optimizer, compile_options, x, y, **fit_options):
    reference, model = make(keras), make(tz)
    model.set_weights(reference.get_weights())
    histories = []
    for lib, candidate in ((keras, reference), (tz, model)):
        candidate.compile(optimizer(lib.optimizers), **compile_options)
        options = {"epochs": 3, "batch_size": 16, "shuffle": False, "verbose": 0, **fit_options}
        histories.append(candidate.fit(x, y, **options).history)
    assert set(histories[0]) == set(histories[1])
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    for expected, weight in zip(reference.get_weights(), model.get_weights()):
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5)


OPTIMIZERS = {
    "sgd": lambda optimizers: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda optimizers: optimizers.Adam(1e-3, clipnorm=1.0),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("weights", [None, "sample_weight", "class_weight"])
def test_classifier(optimizer, weights):
    x, y, sample_weight = data()
    options = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    fit_options = {"validation_split": 0.2}
    if weights == "sample_weight":
        options["weighted_metrics"] = ["accuracy"]
        fit_options["sample_weight"] = sample_weight
    elif weights == "class_weight":
        fit_options["class_weight"] = {0: 2.0, 1: 0.5}
    compare(network, OPTIMIZERS[optimizer], options, x, y, **fit_options)


@pytest.mark.parametrize("form", ["lists", "dicts"])
def test_two_outputs(form):
    x, y, size = data()
    options = {"loss": ["sparse_categorical_crossentropy", "mse"], "metrics": [["accuracy"], ["mae", "mse"]]}
    options["loss_weights"] = [1.0, 0.3]
    targets = [y, size[:, None]]
    if form == "dicts":
        names = ["kind", "size"]
        options = {name: dict(zip(names, value)) for name, value in options.items()}
        targets = dict(zip(names, targets))
    compare(two_heads, OPTIMIZERS["adam"], options, x, targets, validation_data=(x, targets))
