"""Losses, metrics, optimizers and schedules give the numbers that Keras gives."""

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
jax = pytest.importorskip("jax")

import tenzoo as tz  # noqa: E402
from tenzoo.training import metrics  # noqa: E402

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(6, 5)).astype("float32")
POSITIVE = RNG.uniform(0.1, 2.0, (6, 5)).astype("float32")
PROBABILITIES = RNG.dirichlet(np.ones(5), 6).astype("float32")
UNIT = RNG.uniform(0.01, 0.99, (6, 5)).astype("float32")
ONE_HOT = np.eye(5, dtype="float32")[RNG.integers(0, 5, 6)]
SOFT = RNG.dirichlet(np.ones(5), 6).astype("float32")
LABELS = ONE_HOT.argmax(-1).astype("int32")
BINARY = RNG.integers(0, 2, (6, 5)).astype("float32")
SEQUENCE_LABELS = RNG.integers(0, 4, (3, 7)).astype("int32")
SEQUENCE_LOGITS = RNG.normal(size=(3, 7, 4)).astype("float32")
WEIGHTS = np.array([1.0, 0.0, 2.5, 0.3, 1.0, 0.7], "float32")


def close(ours, theirs, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=rtol, atol=atol)


# Losses: class, arguments, targets, predictions

LOSSES = [
    ("MeanSquaredError", {}, VALUES, POSITIVE),
    ("MeanAbsoluteError", {}, VALUES, POSITIVE),
    ("MeanAbsolutePercentageError", {}, POSITIVE, VALUES),
    ("MeanSquaredLogarithmicError", {}, POSITIVE, UNIT),
    ("Huber", {}, VALUES, POSITIVE),
    ("Huber", {"delta": 0.3}, VALUES, POSITIVE),
    ("LogCosh", {}, VALUES, POSITIVE),
    ("Poisson", {}, BINARY, POSITIVE),
    ("KLDivergence", {}, SOFT, PROBABILITIES),
    ("CosineSimilarity", {}, VALUES, POSITIVE),
    ("CosineSimilarity", {"axis": 0, "reduction": "sum"}, VALUES, POSITIVE),
    ("BinaryCrossentropy", {}, BINARY, UNIT),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, BINARY, VALUES),
    ("BinaryCrossentropy", {"label_smoothing": 0.2}, BINARY[:, 0], UNIT[:, :1]),
    ("BinaryFocalCrossentropy", {}, BINARY, UNIT),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True, "gamma": 3.0}, BINARY, UNIT),
    ("BinaryFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, BINARY, VALUES),
    ("CategoricalCrossentropy", {}, ONE_HOT, PROBABILITIES),
    ("CategoricalCrossentropy", {}, SOFT, UNIT),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, ONE_HOT, VALUES),
    ("CategoricalFocalCrossentropy", {}, ONE_HOT, PROBABILITIES),
    ("CategoricalFocalCrossentropy", {"from_logits": True, "alpha": 0.5}, ONE_HOT, VALUES),
    ("SparseCategoricalCrossentropy", {}, LABELS, PROBABILITIES),
    ("SparseCategoricalCrossentropy", {}, LABELS[:, None], UNIT),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, LABELS, VALUES),
    ("SparseCategoricalCrossentropy", {"from_logits": True, "ignore_class": 2}, LABELS, VALUES),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.7}, LABELS, PROBABILITIES),
    ("Hinge", {}, BINARY, VALUES),
    ("Hinge", {}, 2 * BINARY - 1, VALUES),
    ("SquaredHinge", {}, BINARY, VALUES),
    ("CategoricalHinge", {}, ONE_HOT, VALUES),
    ("Dice", {}, BINARY, UNIT),
    ("Dice", {"axis": 1}, BINARY, UNIT),
    ("Tversky", {"alpha": 0.3, "beta": 0.7}, BINARY, UNIT),
    ("Tversky", {"axis": (1,)}, BINARY, UNIT),
    ("Circle", {}, np.array([0, 1, 0, 2, 1, 0]), VALUES / np.linalg.norm(VALUES, axis=1, keepdims=True)),
    ("Circle", {"gamma": 4.0, "remove_diagonal": False}, LABELS, PROBABILITIES),
    ("CTC", {}, np.array([[1, 2, 0], [3, 3, 1], [0, 0, 0]]), SEQUENCE_LOGITS),
]


def named(case):
    return f"{case[0]}-{'-'.join(f'{k}={v}' for k, v in case[1].items())}" if isinstance(case, tuple) else None


@pytest.mark.parametrize("case", LOSSES, ids=named)
def test_loss(case):
    name, options, y_true, y_pred = case
    ours, theirs = getattr(tz.losses, name)(**options), getattr(keras.losses, name)(**options)
    close(ours(y_true, y_pred), jax.jit(theirs)(y_true, y_pred))
    assert ours.name == theirs.name


PER_SAMPLE = [case for case in LOSSES if "axis" not in case[1] and case[0] not in ("Dice", "Tversky", "Circle", "CTC")]


@pytest.mark.parametrize("case", PER_SAMPLE, ids=named)
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", None])
def test_loss_weighted(case, reduction):
    name, options, y_true, y_pred = case
    options = {**options, "reduction": reduction}
    ours, theirs = getattr(tz.losses, name)(**options), getattr(keras.losses, name)(**options)
    close(ours(y_true, y_pred, WEIGHTS), theirs(y_true, y_pred, WEIGHTS))


@pytest.mark.parametrize("weights", [None, np.array([[1.0], [0.0], [2.0]], "float32"), "full"])
def test_loss_over_time(weights):
    weights = UNIT[:3, :1] * np.ones((3, 7), "float32") if isinstance(weights, str) else weights
    options = {"from_logits": True, "ignore_class": 0}
    ours = tz.losses.SparseCategoricalCrossentropy(**options)(SEQUENCE_LABELS, SEQUENCE_LOGITS, weights)
    theirs = keras.losses.SparseCategoricalCrossentropy(**options)(SEQUENCE_LABELS, SEQUENCE_LOGITS, weights)
    close(ours, theirs)


@pytest.mark.parametrize("name", ["mse", "MAE", "bce", "kld", "msle", "mape", "huber", "log_cosh", "squared_hinge"])
def test_loss_function(name):
    y_true, y_pred = BINARY.reshape(2, 3, 5), UNIT.reshape(2, 3, 5)
    close(tz.losses.get(name)(y_true, y_pred), keras.losses.get(name)(y_true, y_pred))


# Metrics

METRICS = [
    ("Accuracy", {}, LABELS, np.array([0, 1, 2, 3, 4, 0])),
    ("BinaryAccuracy", {}, BINARY, UNIT),
    ("BinaryAccuracy", {"threshold": 0.7}, BINARY[:, :1], UNIT[:, :1]),
    ("CategoricalAccuracy", {}, ONE_HOT, VALUES),
    ("SparseCategoricalAccuracy", {}, LABELS, VALUES),
    ("SparseCategoricalAccuracy", {}, LABELS[:, None], VALUES),
    ("TopKCategoricalAccuracy", {"k": 2}, ONE_HOT, VALUES),
    ("SparseTopKCategoricalAccuracy", {"k": 3}, LABELS, VALUES),
    ("MeanSquaredError", {}, VALUES, POSITIVE),
    ("RootMeanSquaredError", {}, VALUES, POSITIVE),
    ("MeanAbsoluteError", {}, VALUES, POSITIVE),
    ("MeanAbsolutePercentageError", {}, POSITIVE, VALUES),
    ("MeanSquaredLogarithmicError", {}, POSITIVE, UNIT),
    ("LogCoshError", {}, VALUES, POSITIVE),
    ("CosineSimilarity", {}, VALUES, POSITIVE),
    ("PearsonCorrelation", {}, VALUES, POSITIVE),
    ("ConcordanceCorrelation", {}, VALUES, POSITIVE),
    ("Hinge", {}, BINARY, VALUES),
    ("SquaredHinge", {}, BINARY, VALUES),
    ("CategoricalHinge", {}, ONE_HOT, VALUES),
    ("KLDivergence", {}, SOFT, PROBABILITIES),
    ("Poisson", {}, BINARY, POSITIVE),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, BINARY, UNIT),
    ("CategoricalCrossentropy", {"from_logits": True}, ONE_HOT, VALUES),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, LABELS, VALUES),
    ("R2Score", {}, VALUES, POSITIVE),
    ("R2Score", {"class_aggregation": None, "num_regressors": 2}, VALUES, POSITIVE),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, VALUES, POSITIVE),
    ("TruePositives", {}, BINARY, UNIT),
    ("FalsePositives", {"thresholds": [0.8, 0.2]}, BINARY, UNIT),
    ("TrueNegatives", {"thresholds": [0.0, 0.5, 1.0]}, BINARY, UNIT),
    ("FalseNegatives", {}, BINARY, UNIT),
    ("Precision", {}, BINARY, UNIT),
    ("Precision", {"thresholds": [0.1, 0.9]}, BINARY, UNIT),
    ("Precision", {"top_k": 2}, BINARY, UNIT),
    ("Precision", {"class_id": 1, "thresholds": 0.3}, BINARY, UNIT),
    ("Recall", {}, BINARY, UNIT),
    ("Recall", {"top_k": 3, "class_id": 0}, BINARY, UNIT),
    ("SensitivityAtSpecificity", {"specificity": 0.5}, BINARY, UNIT),
    ("SpecificityAtSensitivity", {"sensitivity": 0.6, "num_thresholds": 21}, BINARY, UNIT),
    ("PrecisionAtRecall", {"recall": 0.6, "class_id": 2}, BINARY, UNIT),
    ("RecallAtPrecision", {"precision": 0.5}, BINARY, UNIT),
    ("AUC", {}, BINARY, UNIT),
    ("AUC", {"curve": "PR"}, BINARY, UNIT),
    ("AUC", {"curve": "PRGAIN"}, BINARY, UNIT),
    ("AUC", {"curve": "PR", "summation_method": "majoring", "num_thresholds": 30}, BINARY, UNIT),
    ("AUC", {"summation_method": "minoring", "from_logits": True}, BINARY, VALUES),
    ("AUC", {"thresholds": [0.9, 0.5, 0.15]}, BINARY, UNIT),
    ("AUC", {"multi_label": True}, BINARY, UNIT),
    ("AUC", {"multi_label": True, "num_labels": 5, "label_weights": [1.0, 2.0, 0.0, 0.5, 1.0]}, BINARY, UNIT),
    ("F1Score", {}, ONE_HOT, VALUES),
    ("F1Score", {"average": "weighted", "threshold": 0.4}, BINARY, UNIT),
    ("FBetaScore", {"average": "micro", "beta": 2.0}, ONE_HOT, PROBABILITIES),
    ("FBetaScore", {"average": "macro", "beta": 0.5, "threshold": 0.2}, BINARY, UNIT),
]
IOUS = [
    ("IoU", {"num_classes": 5, "target_class_ids": [0, 2]}, LABELS, np.array([0, 1, 2, 3, 4, 0])),
    ("MeanIoU", {"num_classes": 5}, LABELS, np.array([0, 1, 2, 3, 4, 0])),
    (
        "MeanIoU",
        {"num_classes": 4, "ignore_class": 0, "sparse_y_pred": False},
        SEQUENCE_LABELS,
        SEQUENCE_LOGITS,
    ),
    ("BinaryIoU", {"threshold": 0.3}, BINARY, UNIT),
    ("OneHotIoU", {"num_classes": 5, "target_class_ids": [1, 3, 4]}, ONE_HOT, VALUES),
    ("OneHotMeanIoU", {"num_classes": 5}, ONE_HOT, VALUES),
]


def halves(*arrays):
    """Two batches of unlike size."""
    cut = len(arrays[0]) // 3
    return [tuple(a[:cut] for a in arrays), tuple(a[cut:] for a in arrays)]


@pytest.mark.parametrize("case", METRICS + IOUS, ids=named)
def test_metric(case):
    name, options, y_true, y_pred = case
    ours, theirs = getattr(tz.metrics, name)(**options), getattr(keras.metrics, name)(**options)
    for batch in halves(y_true, y_pred):
        ours.update_state(*batch)
        theirs.update_state(*batch)
        close(ours.result(), theirs.result())
    ours.reset_state()
    theirs.reset_state()
    ours.update_state(*batch)
    theirs.update_state(*batch)
    close(ours.result(), theirs.result())
    assert ours._direction == getattr(theirs, "_direction", ours._direction)


@pytest.mark.parametrize("case", METRICS, ids=named)
def test_metric_weighted(case):
    name, options, y_true, y_pred = case
    ours, theirs = getattr(tz.metrics, name)(**options), getattr(keras.metrics, name)(**options)
    weights = WEIGHTS
    if name == "R2Score":  # Keras counts samples of weight 0 in the adjusted score
        weights = WEIGHTS + 0.1
    for *batch, weight in halves(y_true, y_pred, weights):
        ours.update_state(*batch, sample_weight=weight)
        theirs.update_state(*batch, sample_weight=weight)
    close(ours.result(), theirs.result(), atol=5e-6)  # Keras sums up in float32


@pytest.mark.parametrize("name", ["Mean", "Sum"])
@pytest.mark.parametrize("weights", [None, WEIGHTS, WEIGHTS[:, None], UNIT])
def test_reduction(name, weights):
    ours, theirs = getattr(tz.metrics, name)(), getattr(keras.metrics, name)()
    for metric in (ours, theirs):
        metric.update_state(VALUES, weights)
        metric.update_state(3.5)
    close(ours.result(), theirs.result())


@pytest.mark.parametrize(
    "shapes",
    [
        ((8,), (8, 3)),
        ((8, 1), (8, 3)),
        ((8, 3), (8, 3)),
        ((8, 1), (8, 1)),
        ((8,), (8, 1)),
        ((8, 4), (8, 4, 5)),
    ],
)
def test_accuracy_is_chosen_by_shape(shapes):
    from keras.src.trainers.compile_utils import get_metric

    theirs = get_metric("accuracy", *(np.zeros(shape) for shape in shapes))
    assert type(metrics.resolve("accuracy", *shapes)).__name__ == type(theirs).__name__


# Optimizers

OPTIMIZERS = [
    ("SGD", {}),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"learning_rate": 0.1, "clipnorm": 0.5}),
    ("SGD", {"learning_rate": 0.1, "clipvalue": 0.2}),
    ("SGD", {"learning_rate": 0.1, "global_clipnorm": 0.5}),
    ("SGD", {"learning_rate": 0.1, "loss_scale_factor": 8.0}),
    ("SGD", {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 2}),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "gradient_accumulation_steps": 2}),
    ("RMSprop", {"learning_rate": 0.01}),
    ("RMSprop", {"learning_rate": 0.01, "rho": 0.8, "momentum": 0.5, "centered": True}),
    ("Adam", {}),
    ("Adam", {"learning_rate": 0.01, "amsgrad": True, "epsilon": 1e-3}),
    ("Adam", {"learning_rate": 0.01, "gradient_accumulation_steps": 2, "weight_decay": 0.1, "use_ema": True}),
    ("AdamW", {"learning_rate": 0.01, "weight_decay": 0.05}),
    ("Adagrad", {"learning_rate": 0.1}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adamax", {"learning_rate": 0.01}),
    ("Nadam", {"learning_rate": 0.01}),
    ("Lion", {"learning_rate": 0.01}),
    ("Ftrl", {"learning_rate": 0.1}),
    (
        "Ftrl",
        {
            "learning_rate": 0.1,
            "l1_regularization_strength": 0.01,
            "l2_regularization_strength": 0.02,
            "l2_shrinkage_regularization_strength": 0.03,
            "beta": 0.1,
        },
    ),
    ("Adafactor", {"learning_rate": 0.01}),
    ("Lamb", {"learning_rate": 0.01}),
    ("ScheduleFreeAdamW", {"learning_rate": 0.01}),
    ("ScheduleFreeAdamW", {"warmup_steps": 3, "weight_decay": 0.1, "beta_1": 0.8}),
    ("Muon", {"learning_rate": 0.01}),
    ("Muon", {"learning_rate": 0.01, "nesterov": False, "rms_rate": None, "adam_lr_ratio": 0.5}),
]


@pytest.mark.parametrize("case", OPTIMIZERS, ids=named)
def test_optimizer(case):
    name, options = case
    rng = np.random.default_rng(1)
    start = {
        "kernel": rng.normal(size=(5, 3)),
        "bias": rng.normal(size=(3,)),
        "wide": rng.normal(size=(2, 3, 4)),
    }
    start = {key: value.astype("float32") for key, value in start.items()}
    ours = [tz.Variable(value, name=key) for key, value in start.items()]
    theirs = [keras.Variable(value, name=key) for key, value in start.items()]
    our, their = getattr(tz.optimizers, name)(**options), getattr(keras.optimizers, name)(**options)
    for step in range(4):
        gradients = [rng.normal(size=value.shape).astype("float32") for value in start.values()]
        our.apply_gradients(zip(gradients, ours))
        their.apply_gradients(zip(gradients, theirs))
        for a, b in zip(ours, theirs):
            close(a, b, rtol=2e-5, atol=2e-6)
        assert int(our.iterations) == int(their.iterations), step
    our.finalize_variable_values(ours)
    their.finalize_variable_values(theirs)
    for a, b in zip(ours, theirs):
        close(a, b, rtol=2e-5, atol=2e-6)
    assert {"name", *our.get_config()} <= {"learning_rate_multipliers", *their.get_config()}


# Schedules

SCHEDULES = [
    ("PiecewiseConstantDecay", {"boundaries": [3, 10], "values": [1.0, 0.5, 0.1]}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.9}),
    (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.9, "staircase": True},
    ),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5}),
    (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5, "staircase": True},
    ),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 12, "power": 2.0}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 6, "cycle": True}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 15, "alpha": 0.1}),
    (
        "CosineDecay",
        {"initial_learning_rate": 0.01, "decay_steps": 12, "warmup_target": 0.1, "warmup_steps": 5},
    ),
    (
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.1, "first_decay_steps": 5, "m_mul": 0.9, "alpha": 0.05},
    ),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 5, "t_mul": 1.0}),
]


@pytest.mark.parametrize("case", SCHEDULES, ids=named)
def test_schedule(case):
    name, options = case
    ours = getattr(tz.optimizers.schedules, name)(**options)
    theirs = getattr(keras.optimizers.schedules, name)(**options)
    expected = jax.jit(jax.vmap(theirs))(np.arange(25, dtype="float32"))
    close([ours(step) for step in range(25)], expected, atol=1e-7)
    assert ours.get_config() == theirs.get_config()


def test_optimizer_follows_schedule():
    options = {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}
    ours, theirs = tz.Variable([1.0, 2.0]), keras.Variable(np.array([1.0, 2.0], "float32"))
    our = tz.optimizers.SGD(tz.optimizers.schedules.ExponentialDecay(**options))
    their = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(**options))
    for _ in range(5):
        our.apply([np.ones(2, "float32")], [ours])
        their.apply([np.ones(2, "float32")], [theirs])
        close(ours, theirs)
        close(our.learning_rate, their.learning_rate)


# Helpers


def test_pad_sequences():
    sequences = [[1, 2, 3], [4], [], [5, 6]]
    for options in ({}, {"maxlen": 2}, {"maxlen": 2, "padding": "post", "truncating": "post", "value": -1}):
        close(tz.utils.pad_sequences(sequences, **options), keras.utils.pad_sequences(sequences, **options))


def test_to_categorical_and_normalize():
    close(tz.utils.to_categorical(LABELS[:, None], 5), keras.utils.to_categorical(LABELS[:, None], 5))
    close(tz.utils.normalize(VALUES, axis=1, order=1), keras.utils.normalize(VALUES, axis=1, order=1))
