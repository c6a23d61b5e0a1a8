"""Losses, metrics, optimizers and schedules of Keras with random arguments, shapes, weights and masks."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
jax = pytest.importorskip("jax")

from driver import Case, Inner, Random, assert_near, compare, examples  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import tenzoo as tz  # noqa: E402

pytestmark = pytest.mark.slow

BOOL, SEEDS = st.booleans(), st.integers(0, 999)
FRACTION, SMOOTHING = st.floats(0.1, 0.9), st.sampled_from([0.1, 0.0])
BATCH = st.integers(2, 6)


def maybe(**choices):
    """Arguments of which each may be left at its default."""
    return st.fixed_dictionaries({}, optional=choices)


# Losses: what targets and predictions are, and the arguments

LOGITS = {"from_logits": BOOL, "label_smoothing": SMOOTHING}
LOSSES = {
    "MeanSquaredError": ("real", maybe()),
    "MeanAbsoluteError": ("real", maybe()),
    "MeanAbsolutePercentageError": ("positive", maybe()),
    "MeanSquaredLogarithmicError": ("positive", maybe()),
    "Huber": ("real", maybe(delta=FRACTION)),
    "LogCosh": ("real", maybe()),
    "Poisson": ("positive", maybe()),
    "CosineSimilarity": ("real", maybe(axis=st.sampled_from([-1, 1]))),
    "KLDivergence": ("distributions", maybe()),
    "Hinge": ("binary", maybe()),
    "SquaredHinge": ("binary", maybe()),
    "CategoricalHinge": ("one-hot", maybe()),
    "BinaryCrossentropy": ("binary", maybe(**LOGITS)),
    "BinaryFocalCrossentropy": (
        "binary",
        maybe(**LOGITS, apply_class_balancing=BOOL, alpha=FRACTION, gamma=st.floats(1, 3)),
    ),
    "CategoricalCrossentropy": ("distributions", maybe(**LOGITS)),
    "CategoricalFocalCrossentropy": ("one-hot", maybe(**LOGITS, alpha=FRACTION, gamma=st.floats(1, 3))),
    "SparseCategoricalCrossentropy": ("classes", maybe(from_logits=BOOL, ignore_class=st.integers(0, 2))),
    "CategoricalGeneralizedCrossEntropy": ("classes", maybe(q=FRACTION)),
    "Dice": ("binary", maybe(axis=st.sampled_from([(1,), None]))),
    "Tversky": ("binary", maybe(alpha=FRACTION, beta=FRACTION, axis=st.sampled_from([(1,), None]))),
    "Circle": ("embeddings", maybe(gamma=st.floats(1, 8), margin=FRACTION, remove_diagonal=BOOL)),
    "CTC": ("sequences", maybe()),
}
UNWEIGHTED = ("Dice", "Tversky", "Circle", "CTC")  # one number for a batch, or weights of their own


def targets_and_predictions(kind, shape, seed, logits=False):
    """Arrays for a loss or a metric; ``shape`` ends with the number of classes."""
    rng = np.random.default_rng(seed)
    real = rng.normal(size=shape)
    unit = 1 / (1 + np.exp(-real))
    softmax = np.exp(real) / np.exp(real).sum(-1, keepdims=True)
    classes = rng.integers(0, shape[-1], shape[:-1])
    one_hot = np.eye(shape[-1])[classes]
    pairs = {
        "real": (rng.normal(size=shape), real),
        "positive": (rng.uniform(0.2, 2, shape), unit + 0.1),
        "binary": (rng.integers(0, 2, shape), real if logits else unit),
        "one-hot": (one_hot, real if logits else softmax),
        "distributions": (0.9 * one_hot + 0.1 / shape[-1], real if logits else softmax),
        "classes": (classes, real if logits else softmax),
        "embeddings": (rng.integers(0, 3, shape[0]), real / np.linalg.norm(real, axis=-1, keepdims=True)),
        "sequences": (rng.integers(0, shape[-1], (shape[0], 3)), rng.normal(size=(shape[0], 8, shape[-1]))),
    }
    y_true, y_pred = pairs[kind]
    return y_true.astype("int32" if y_true.dtype.kind == "i" else "float32"), y_pred.astype("float32")


@st.composite
def loss_cases(draw, name):
    kind, arguments = LOSSES[name]
    arguments = draw(arguments)
    shape = (draw(BATCH), *draw(st.sampled_from([(3,), (4, 3), (2, 1, 4)])))
    shape = (shape[0], shape[-1]) if kind in ("embeddings", "sequences") else shape
    if len(shape) == 2 and "axis" in arguments and name == "CosineSimilarity":
        arguments = {}
    y_true, y_pred = targets_and_predictions(kind, shape, draw(SEEDS), arguments.get("from_logits", False))
    weights = mask = None
    if name not in UNWEIGHTED and "axis" not in arguments:
        reductions = ["sum", "mean_with_sample_weight", "mean", "sum_over_batch_size", None]
        arguments["reduction"] = draw(st.sampled_from(reductions))
        rows = shape[:-1]
        spread = (rows[0], *(1 for _ in rows[1:]))  # one weight for several values
        spread = rows if arguments["reduction"] == "mean_with_sample_weight" else spread
        weighted = draw(st.sampled_from([rows, None, spread]))
        rng = np.random.default_rng(draw(SEEDS))
        weights = None if weighted is None else rng.uniform(0, 2, weighted).astype("float32")
        mask = rng.uniform(size=rows) < 0.7 if draw(BOOL) else None
    return arguments, y_true, y_pred, weights, mask


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name):
    @examples(2 if name == "CTC" else 4)
    @given(loss_cases(name))
    def agrees(case):
        arguments, y_true, y_pred, weights, mask = case
        their, our = getattr(keras.losses, name)(**arguments), getattr(tz.losses, name)(**arguments)

        def theirs(y_pred, mask):
            if mask is not None:
                keras.src.backend.set_keras_mask(y_pred, mask)
            values = their(y_true, y_pred, weights)
            return values.sum(), values

        (_, expected), gradient = jax.jit(jax.value_and_grad(theirs, has_aux=True))(y_pred, mask)
        inputs = tz.tensor(y_pred)
        with tz.GradientTape() as tape:
            tape.watch(inputs)
            if mask is not None:
                tz.layers.set_mask(inputs, tz.tensor(mask))
            values = our(y_true, inputs, weights)
            total = tz.ops.sum(values)
        assert_near(values, expected, "values")
        assert_near(tape.gradient(total, [inputs])[0], gradient, "gradients")

    agrees()


# Metrics

THRESHOLDS = {"thresholds": st.sampled_from([0.3, [0.2, 0.7]]), "class_id": st.integers(0, 2)}
AT = {"num_thresholds": st.integers(5, 60), "class_id": st.integers(0, 2)}
AVERAGE = {"average": st.sampled_from([None, "micro", "macro", "weighted"]), "threshold": st.sampled_from([None, 0.4])}
METRICS = {
    "Accuracy": ("equal", maybe()),
    "BinaryAccuracy": ("binary", maybe(threshold=FRACTION)),
    "CategoricalAccuracy": ("one-hot", maybe()),
    "SparseCategoricalAccuracy": ("classes", maybe()),
    "TopKCategoricalAccuracy": ("one-hot", st.fixed_dictionaries({"k": st.integers(1, 3)})),
    "SparseTopKCategoricalAccuracy": ("classes", st.fixed_dictionaries({"k": st.integers(1, 3)})),
    "MeanSquaredError": ("real", maybe()),
    "RootMeanSquaredError": ("real", maybe()),
    "MeanAbsoluteError": ("real", maybe()),
    "MeanAbsolutePercentageError": ("positive", maybe()),
    "MeanSquaredLogarithmicError": ("positive", maybe()),
    "LogCoshError": ("real", maybe()),
    "CosineSimilarity": ("real", maybe()),
    "PearsonCorrelation": ("real", maybe()),
    "ConcordanceCorrelation": ("real", maybe()),
    "Hinge": ("binary", maybe()),
    "SquaredHinge": ("binary", maybe()),
    "CategoricalHinge": ("one-hot", maybe()),
    "KLDivergence": ("distributions", maybe()),
    "Poisson": ("positive", maybe()),
    "BinaryCrossentropy": ("binary", maybe(**LOGITS)),
    "CategoricalCrossentropy": ("one-hot", maybe(**LOGITS)),
    "SparseCategoricalCrossentropy": ("classes", maybe(from_logits=BOOL)),
    "R2Score": (
        "real",
        maybe(class_aggregation=st.sampled_from([None, "uniform_average", "variance_weighted_average"])),
    ),
    "TruePositives": ("binary", maybe(thresholds=THRESHOLDS["thresholds"])),
    "FalsePositives": ("binary", maybe(thresholds=THRESHOLDS["thresholds"])),
    "TrueNegatives": ("binary", maybe(thresholds=THRESHOLDS["thresholds"])),
    "FalseNegatives": ("binary", maybe(thresholds=THRESHOLDS["thresholds"])),
    "Precision": ("binary", maybe(**THRESHOLDS) | maybe(top_k=st.integers(1, 3))),
    "Recall": ("binary", maybe(**THRESHOLDS) | maybe(top_k=st.integers(1, 3))),
    "SensitivityAtSpecificity": ("binary", st.fixed_dictionaries({"specificity": FRACTION}, optional=AT)),
    "SpecificityAtSensitivity": ("binary", st.fixed_dictionaries({"sensitivity": FRACTION}, optional=AT)),
    "PrecisionAtRecall": ("binary", st.fixed_dictionaries({"recall": FRACTION}, optional=AT)),
    "RecallAtPrecision": ("binary", st.fixed_dictionaries({"precision": FRACTION}, optional=AT)),
    "AUC": (
        "binary",
        maybe(
            num_thresholds=st.integers(5, 60),
            curve=st.sampled_from(["PR", "ROC", "PRGAIN"]),
            summation_method=st.sampled_from(["majoring", "minoring", "interpolation"]),
            from_logits=BOOL,
            multi_label=BOOL,
        ),
    ),
    "F1Score": ("one-hot", maybe(**AVERAGE)),
    "FBetaScore": ("one-hot", maybe(**AVERAGE, beta=st.floats(0.5, 2))),
    "IoU": ("equal", st.just({"num_classes": 4, "target_class_ids": [0, 2]})),
    "MeanIoU": ("equal", st.fixed_dictionaries({"num_classes": st.just(4)}, optional={"ignore_class": st.just(1)})),
    "BinaryIoU": ("binary", maybe(threshold=FRACTION)),
    "OneHotIoU": ("one-hot", st.just({"num_classes": 4, "target_class_ids": [1, 3]})),
    "OneHotMeanIoU": ("one-hot", st.just({"num_classes": 4})),
}
PER_SAMPLE_WEIGHTS = ("IoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU", "BinaryIoU")


@st.composite
def metric_cases(draw, name):
    """Arguments, and batches of unlike size."""
    kind, arguments = METRICS[name]
    arguments, weighted, batches = draw(arguments), draw(BOOL) and name not in PER_SAMPLE_WEIGHTS, []
    for size in draw(st.lists(st.integers(3, 9), min_size=2, max_size=3)):
        seed = draw(SEEDS)
        if kind == "equal":
            pair = tuple(np.random.default_rng(seed).integers(0, 4, (2, size)).astype("float32"))
        else:
            pair = targets_and_predictions(kind, (size, 4), seed, arguments.get("from_logits", False))
        weights = np.random.default_rng(seed).uniform(0.1, 2, size).astype("float32")
        batches.append((*pair, weights) if weighted else pair)
    return arguments, batches


@pytest.mark.parametrize("name", METRICS)
def test_metric(name):
    @examples(3)
    @given(metric_cases(name))
    def agrees(case):
        arguments, batches = case
        theirs, ours = getattr(keras.metrics, name)(**arguments), getattr(tz.metrics, name)(**arguments)
        if not getattr(theirs, "_built", True):
            theirs._build(batches[0][0].shape, batches[0][1].shape) if name == "R2Score" else build(theirs, batches)

        def stream(batches):
            state = [variable.value for variable in theirs.variables]
            for batch in batches:
                state = theirs.stateless_update_state(state, *batch)
            return theirs.stateless_result(state)

        for batch in batches:
            ours.update_state(*batch)
        assert_near(ours.result(), jax.jit(stream)(batches), name)
        parts = [getattr(tz.metrics, name)(**arguments) for _ in batches]
        for part, batch in zip(parts, batches):
            part.update_state(*batch)
        parts[0].merge_state(parts[1:])
        assert_near(parts[0].result(), ours.result(), f"{name}, merged")

    def build(metric, batches):
        metric.update_state(*batches[0])
        metric.reset_state()

    agrees()


# Optimizers: their own arguments, those of all, and schedules as the learning rate

RATE = st.sampled_from([0.05, 0.01])
BETAS = {"beta_1": FRACTION, "beta_2": FRACTION}
OPTIMIZERS = {
    "SGD": {"momentum": FRACTION, "nesterov": BOOL},
    "RMSprop": {"rho": FRACTION, "momentum": FRACTION, "centered": st.just(True), "epsilon": st.just(1e-3)},
    "Adam": BETAS | {"amsgrad": BOOL},
    "AdamW": BETAS | {"amsgrad": BOOL, "weight_decay": FRACTION},
    "Adagrad": {"initial_accumulator_value": FRACTION},
    "Adadelta": {"rho": FRACTION},
    "Adamax": BETAS,
    "Nadam": BETAS,
    "Lion": BETAS,
    "Ftrl": {
        "learning_rate_power": st.floats(-0.9, -0.1),
        "l1_regularization_strength": st.floats(0, 0.01),
        "l2_regularization_strength": FRACTION,
        "l2_shrinkage_regularization_strength": FRACTION,
        "beta": FRACTION,
    },
    "Adafactor": {"beta_2_decay": st.floats(-0.9, -0.3), "relative_step": BOOL, "clip_threshold": FRACTION},
    "Lamb": BETAS,
    "ScheduleFreeAdamW": BETAS | {"warmup_steps": st.integers(0, 3)},
    "Muon": {"nesterov": BOOL, "momentum": FRACTION, "ns_steps": st.integers(3, 6)},
}
COMMON = {
    "weight_decay": FRACTION,
    "use_ema": BOOL,
    "ema_momentum": FRACTION,
    "ema_overwrite_frequency": st.integers(1, 3),
    "gradient_accumulation_steps": st.integers(2, 3),
    "loss_scale_factor": st.sampled_from([2.0, 16.0]),
}
CLIPPING = st.sampled_from([{}, {"clipnorm": 0.1}, {"global_clipnorm": 0.2}, {"clipvalue": 0.02}])
NETWORK = Case(
    Random((4, 5)), {"layers": [Inner("Dense", {"units": 6, "activation": "tanh"}), Inner("Dense", {"units": 3})]}
)


@st.composite
def optimizer_arguments(draw, name):
    arguments = {"learning_rate": draw(RATE), **draw(maybe(**COMMON | OPTIMIZERS[name])), **draw(CLIPPING)}
    if arguments.get("nesterov") and name == "SGD":
        arguments.setdefault("momentum", 0.5)
    return arguments


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name):
    @examples(3)
    @given(optimizer_arguments(name), BOOL)
    def agrees(arguments, compiled):
        compare("Sequential", NETWORK, (name, arguments), compiled, steps=4)

    agrees()


# Schedules

STEPS = {"decay_steps": st.integers(1, 50), "initial_learning_rate": FRACTION}
SCHEDULES = {
    "PiecewiseConstantDecay": st.just({"boundaries": [3, 10], "values": [1.0, 0.5, 0.1]}),
    "ExponentialDecay": st.fixed_dictionaries(STEPS | {"decay_rate": FRACTION, "staircase": BOOL}),
    "InverseTimeDecay": st.fixed_dictionaries(STEPS | {"decay_rate": FRACTION, "staircase": BOOL}),
    "PolynomialDecay": st.fixed_dictionaries(
        STEPS, optional={"end_learning_rate": st.floats(0, 0.1), "power": st.floats(0.5, 3), "cycle": BOOL}
    ),
    "CosineDecay": st.fixed_dictionaries(
        STEPS, optional={"alpha": FRACTION, "warmup_steps": st.integers(1, 9), "warmup_target": FRACTION}
    ),
    "CosineDecayRestarts": st.fixed_dictionaries(
        {"initial_learning_rate": FRACTION, "first_decay_steps": st.integers(2, 20)},
        optional={"t_mul": st.floats(1, 3), "m_mul": FRACTION, "alpha": FRACTION},
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name):
    @examples(5)
    @given(SCHEDULES[name], st.lists(st.integers(0, 200), min_size=20, max_size=20))
    def agrees(arguments, steps):
        theirs = getattr(keras.optimizers.schedules, name)(**arguments)
        ours = getattr(tz.optimizers.schedules, name)(**arguments)
        expected = jax.jit(jax.vmap(theirs))(np.array(steps, "float32"))
        assert_near([ours(step) for step in steps], list(np.asarray(expected)), name)
        assert ours.get_config() == theirs.get_config()

    agrees()


def public(module, base):
    """The classes of a module of Keras, under one name each."""
    found = {value.__name__ for value in vars(module).values() if isinstance(value, type) and issubclass(value, base)}
    return found - {base.__name__}


def test_nothing_is_left_out():
    assert public(keras.losses, keras.losses.Loss) <= set(LOSSES)
    assert public(keras.metrics, keras.metrics.Metric) - set(METRICS) == {"Mean", "Sum", "MeanMetricWrapper"}
    wrappers = {"LossScaleOptimizer", "MultiOptimizer"}
    assert public(keras.optimizers, keras.optimizers.Optimizer) - wrappers <= set(OPTIMIZERS)
    schedules = keras.optimizers.schedules
    assert public(schedules, schedules.LearningRateSchedule) <= set(SCHEDULES)
