"""Metrics: formulas by hand, exactness over batches and padding, tracing, merging, lookup."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core
from tenzoo.training import metrics

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(12, 4)).astype("float32")
UNIT = RNG.uniform(0.01, 0.99, (12, 4)).astype("float32")
LABELS = RNG.integers(0, 4, 12)
ONE_HOT = np.eye(4, dtype="float32")[LABELS]
BINARY = RNG.integers(0, 2, (12, 4)).astype("float32")

# metric, targets, predictions, expected result (None: only the properties below are checked)
CASES = [
    (metrics.Accuracy(), LABELS, SCORES.argmax(-1), (SCORES.argmax(-1) == LABELS).mean()),
    (metrics.BinaryAccuracy(threshold=0.3), BINARY, UNIT, ((UNIT > 0.3) == BINARY).mean()),
    (metrics.CategoricalAccuracy(), ONE_HOT, SCORES, (SCORES.argmax(-1) == LABELS).mean()),
    (metrics.SparseCategoricalAccuracy(), LABELS, SCORES, (SCORES.argmax(-1) == LABELS).mean()),
    (
        metrics.SparseTopKCategoricalAccuracy(k=2),
        LABELS,
        SCORES,
        np.mean([label in row.argsort()[-2:] for label, row in zip(LABELS, SCORES)]),
    ),
    (metrics.TopKCategoricalAccuracy(k=3), ONE_HOT, SCORES, None),
    (
        metrics.SparseTopKCategoricalAccuracy(k=2, from_sorted_ids=True),
        LABELS,
        SCORES.argsort(-1)[:, ::-1].copy(),
        np.mean([label in row.argsort()[-2:] for label, row in zip(LABELS, SCORES)]),
    ),
    (metrics.MeanSquaredError(), UNIT, SCORES, ((UNIT - SCORES) ** 2).mean()),
    (metrics.RootMeanSquaredError(), UNIT, SCORES, np.sqrt(((UNIT - SCORES) ** 2).mean())),
    (metrics.MeanAbsoluteError(), UNIT, SCORES, np.abs(UNIT - SCORES).mean()),
    (metrics.BinaryCrossentropy(), BINARY, UNIT, -np.log(np.where(BINARY, UNIT, 1 - UNIT)).mean()),
    (metrics.SparseCategoricalCrossentropy(from_logits=True), LABELS, SCORES, None),
    (metrics.Perplexity(from_logits=True), LABELS, np.zeros((12, 4), "float32"), 4.0),
    (metrics.PearsonCorrelation(), UNIT, SCORES, np.mean([np.corrcoef(*p)[0, 1] for p in zip(UNIT, SCORES)])),
    (metrics.R2Score(), UNIT, SCORES, np.mean(1 - ((UNIT - SCORES) ** 2).sum(0) / (UNIT.var(0) * 12))),
    (metrics.TruePositives(), BINARY, UNIT, ((UNIT > 0.5) * BINARY).sum()),
    (metrics.FalsePositives(), BINARY, UNIT, ((UNIT > 0.5) * (1 - BINARY)).sum()),
    (
        metrics.FalseNegatives(thresholds=[0.7, 0.2]),
        BINARY,
        UNIT,
        [((t >= UNIT) * BINARY).sum() for t in (0.7, 0.2)],
    ),
    (metrics.TrueNegatives(), BINARY, UNIT, ((UNIT <= 0.5) * (1 - BINARY)).sum()),
    (metrics.Precision(), BINARY, UNIT, BINARY[UNIT > 0.5].mean()),
    (metrics.Recall(), BINARY, UNIT, (UNIT > 0.5)[BINARY == 1].mean()),
    (metrics.Recall(class_id=2, top_k=2), BINARY, UNIT, None),
    (metrics.SensitivityAtSpecificity(0.5), BINARY, UNIT, None),
    (metrics.SpecificityAtSensitivity(0.5), BINARY, UNIT, None),
    (metrics.PrecisionAtRecall(0.5), BINARY, UNIT, None),
    (metrics.RecallAtPrecision(0.5), BINARY, UNIT, None),
    (metrics.AUC(curve="PR"), BINARY, UNIT, None),
    (metrics.AUC(multi_label=True, label_weights=[1, 2, 3, 4]), BINARY, UNIT, None),
    (metrics.FBetaScore("weighted", beta=2.0), ONE_HOT, SCORES, None),
    (metrics.F1Score("micro"), ONE_HOT, UNIT, (UNIT.argmax(-1) == LABELS).mean()),
    (metrics.ConfusionMatrix(4, sparse_y_pred=False), LABELS, SCORES, None),
    (metrics.MeanIoU(4, sparse_y_pred=False), LABELS, SCORES, None),
    (metrics.BinaryIoU(), BINARY, UNIT, None),
    (metrics.OneHotMeanIoU(4), ONE_HOT, SCORES, None),
    (metrics.HitRate(k=2), ONE_HOT, SCORES, (np.argsort(-SCORES)[:, :2] == LABELS[:, None]).any(1).mean()),
    (
        metrics.MeanAveragePrecision(),
        ONE_HOT,
        SCORES,
        np.mean(1 / (1 + (np.argsort(-SCORES) == LABELS[:, None]).argmax(1))),
    ),
    (metrics.MeanAveragePrecision(k=3), BINARY, UNIT, None),
    (
        metrics.NDCG(),
        ONE_HOT,
        SCORES,
        np.mean(1 / np.log2(2 + (np.argsort(-SCORES) == LABELS[:, None]).argmax(1))),
    ),
    (metrics.NDCG(k=2), BINARY, UNIT, None),
    (metrics.CalibrationError(), LABELS, np.ones((12, 4), "float32") / 4, abs(1 / 4 - (LABELS == 0).mean())),
    (metrics.CalibrationError(num_bins=5, norm="max", from_logits=True), LABELS, SCORES, None),
    (metrics.CalibrationError(), BINARY[:, 0], UNIT[:, :1], None),
    (
        metrics.SymmetricMeanAbsolutePercentageError(),
        UNIT,
        SCORES,
        (200 * np.abs(UNIT - SCORES) / (UNIT + np.abs(SCORES))).mean(),
    ),
    (
        metrics.MeanAbsoluteScaledError(),
        UNIT,
        SCORES,
        np.abs(UNIT - SCORES).mean() / np.abs(np.diff(UNIT, axis=1)).mean(),
    ),
    (
        metrics.MeanAbsoluteScaledError(seasonality=2, scale=0.5),
        UNIT,
        SCORES,
        np.abs(UNIT - SCORES).mean() / 0.5,
    ),
    (
        metrics.ContinuousRankedProbabilityScore(),
        UNIT[:, 0],
        SCORES,
        np.mean([np.abs(x - y).mean() - np.abs(x[:, None] - x).mean() / 2 for x, y in zip(SCORES, UNIT[:, 0])]),
    ),
]


def named(case):
    return case[0].name


def fresh(metric):
    return metrics.deserialize(metrics.serialize(metric))


def final(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return np.asarray(metric.result())


@pytest.mark.parametrize("case", CASES, ids=named)
def test_formula_and_batches(case):
    metric, y_true, y_pred, expected = case
    whole = final(fresh(metric), (y_true, y_pred))
    if expected is not None:
        np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-5)
    parts = fresh(metric)
    np.testing.assert_allclose(
        final(parts, *[(y_true[s], y_pred[s]) for s in (slice(5), slice(5, 12))]), whole, rtol=1e-6
    )
    parts.reset_state()
    np.testing.assert_allclose(final(parts, (y_true, y_pred)), whole)
    assert parts.result().dtype == np.float32


@pytest.mark.parametrize("case", CASES, ids=named)
def test_padding_of_weight_zero_does_not_count(case):
    metric, y_true, y_pred, _ = case
    padded = [np.concatenate([values, values[:3]]) for values in (y_true, y_pred)]
    weights = np.array([1.0] * 12 + [0.0] * 3, "float32")
    with_padding = final(fresh(metric), (*padded, weights))
    np.testing.assert_allclose(with_padding, final(fresh(metric), (y_true, y_pred)), rtol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_weights_are_like_repetition(case):
    metric, y_true, y_pred, _ = case
    repeated = [np.concatenate([values, values[:5]]) for values in (y_true, y_pred)]
    weights = np.array([2.0] * 5 + [1.0] * 7, "float32")
    np.testing.assert_allclose(
        final(fresh(metric), (y_true, y_pred, weights)), final(fresh(metric), repeated), rtol=1e-5
    )


@pytest.mark.parametrize("case", CASES, ids=named)
def test_traced_equals_eager(case):
    metric, y_true, y_pred, _ = case
    weights = UNIT[:, 0]
    eager, traced = fresh(metric), fresh(metric)
    traced.update_state(y_true, y_pred, weights)
    traced.reset_state()

    def step(y_true, y_pred, weights):
        traced.update_state(y_true, y_pred, weights)
        return traced.result()

    graph = tz.trace(step, y_true, y_pred, weights)
    for _ in range(2):
        eager.update_state(y_true, y_pred, weights)
        np.testing.assert_allclose(graph(y_true, y_pred, weights), eager.result(), rtol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_merge(case):
    metric, y_true, y_pred, _ = case
    first, second = fresh(metric), fresh(metric)
    first.update_state(y_true[:5], y_pred[:5])
    second.update_state(y_true[5:], y_pred[5:])
    first.merge_state([second])
    np.testing.assert_allclose(first.result(), final(fresh(metric), (y_true, y_pred)), rtol=1e-6)


def test_merge_of_unlike_metrics():
    with pytest.raises(ValueError, match="same arguments"):
        metrics.Precision().merge_state([metrics.Precision(thresholds=[0.1, 0.2])])


def test_auc_is_the_chance_of_the_right_order():
    y_true, y_pred = BINARY[:, 0], UNIT[:, 0]
    pairs = [(p > n) for p in y_pred[y_true == 1] for n in y_pred[y_true == 0]]
    assert float(metrics.AUC(num_thresholds=2000)(y_true, y_pred)) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_confusion_matrix_counts_pairs():
    matrix = metrics.ConfusionMatrix(3, ignore_class=2)([0, 0, 1, 2, 1], [0, 1, 1, 1, 7])
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert float(metrics.MeanIoU(3)([0, 0, 1], [0, 1, 1])) == pytest.approx(0.5)


def test_counts_stay_exact_beyond_the_precision_of_float32():
    mean = metrics.Mean()
    mean.total.assign(2.0**25)
    mean.count.assign(2.0**25)
    mean.update_state([1.0])
    assert float(mean.count) == 2**25 + 1


def test_ignored_labels_do_not_count():
    metric = metrics.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    some = final(metric, (np.where(LABELS == 0, -1, LABELS), SCORES))
    kept = LABELS != 0
    np.testing.assert_allclose(some, final(fresh(CASES[11][0]), (LABELS[kept], SCORES[kept])), rtol=1e-6)


def test_masks_of_the_layers_count():
    from tenzoo.layers import set_mask

    y_pred = core.tensor(np.array([[[0.9], [0.1]], [[0.9], [0.9]]], "float32"))
    set_mask(y_pred, core.tensor(np.array([[True, False], [True, True]])))
    assert float(metrics.BinaryAccuracy()(np.ones((2, 2, 1)), y_pred)) == 1.0


@pytest.mark.parametrize(
    "shapes, kind",
    [
        (((8,), (8, 3)), "SparseCategorical"),
        (((8, 1), (8, 3)), "SparseCategorical"),
        (((8, 5), (8, 5, 3)), "SparseCategorical"),
        (((8, 3), (8, 3)), "Categorical"),
        (((8,), (8, 1)), "Binary"),
        (((8, 1), (8, 1)), "Binary"),
    ],
)
def test_shorthands_are_chosen_by_shape(shapes, kind):
    for short in ("accuracy", "acc"):
        metric = metrics.resolve(short, *shapes)
        assert (type(metric).__name__, metric.name) == (f"{kind}Accuracy", short)
    assert type(metrics.resolve("ce", *shapes)).__name__ == f"{kind}Crossentropy"


def test_lookup():
    assert isinstance(metrics.get("mae"), metrics.MeanAbsoluteError)
    assert isinstance(metrics.get("AUC"), metrics.AUC)
    assert metrics.resolve("mse", (8, 1), (8, 1)).name == "mse"
    assert metrics.resolve(lambda t, p: core.ops.abs(t - p), (8, 1), (8, 1)).name == "<lambda>"
    with pytest.raises(ValueError, match="Did you mean 'precision'"):
        metrics.get("precison")


@pytest.mark.parametrize(
    "make",
    [
        lambda: metrics.AUC(curve="ROK"),
        lambda: metrics.AUC(num_thresholds=1),
        lambda: metrics.Precision(thresholds=2.0),
        lambda: metrics.F1Score("mean"),
        lambda: metrics.FBetaScore(beta=0.0),
        lambda: metrics.IoU(3, [3]),
        lambda: metrics.SensitivityAtSpecificity(1.5),
        lambda: metrics.R2Score("mean"),
        lambda: metrics.F1Score()(LABELS, LABELS),
        lambda: metrics.CategoricalAccuracy()(LABELS, SCORES),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError):
        make()


def test_own_metrics():
    class Spread(metrics.Metric):
        def __init__(self, name="spread"):
            super().__init__(name=name)
            self.mean = metrics.Mean()
            self.seen = self.add_weight(name="seen")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.mean.update_state(core.ops.max(y_pred) - core.ops.min(y_pred))
            self.seen.assign_add(1)

        def result(self):
            return {"mean": self.mean.result(), "batches": self.seen.value}

    metric = Spread()
    metric(None, core.tensor([1.0, 4.0]))
    assert {k: float(v) for k, v in metric(None, core.tensor([0.0, 1.0])).items()} == {
        "mean": 2,
        "batches": 2,
    }
    assert [v.path for v in metric.variables] == ["spread/seen", "mean/total", "mean/count"]
    metric.reset_state()
    assert all(float(v) == 0 for v in metric.variables)


def test_rankings_leave_padding_out():
    y_true, y_pred = np.array([[1.0, 0, 1, -1], [0, 0, 0, 0]]), np.array([[0.1, 0.5, 0.9, 2.0], [1, 2, 3, 4]])
    for metric in (metrics.HitRate(1), metrics.MeanAveragePrecision(), metrics.NDCG()):
        assert final(metric, (y_true, y_pred)) == final(fresh(metric), (y_true[:1, :3], y_pred[:1, :3]))


def test_calibration_of_one_bin():
    metric = metrics.CalibrationError(num_bins=1)
    assert final(metric, ([1, 0, 1, 1], [[0.8], [0.3], [0.6], [1.0]])) == pytest.approx(1 - 0.775)
    assert final(metrics.CalibrationError(), ([0], [[0.25, 0.75]])) == pytest.approx(0.75)


def test_scaled_error_needs_a_season():
    with pytest.raises(ValueError, match="more than 7 steps"):
        metrics.MeanAbsoluteScaledError(7).update_state(UNIT, SCORES)
