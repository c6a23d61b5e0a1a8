"""Losses: formulas by hand, weights and masks, gradients, extreme values, tracing, and errors that help."""

import itertools

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core
from tenzoo.training import losses

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3))
P = RNG.dirichlet(np.ones(3), 4)
U = RNG.uniform(0.05, 0.95, (4, 3))
LABELS = np.array([0, 2, 1, 2])
ONE_HOT = np.eye(3)[LABELS]
BINARY = RNG.integers(0, 2, (4, 3)).astype(float)

CASES = [
    (losses.mean_squared_error, X, U, {}, ((X - U) ** 2).mean(-1)),
    (losses.mean_absolute_error, X, U, {}, np.abs(X - U).mean(-1)),
    (losses.mean_absolute_percentage_error, U, X, {}, 100 * (np.abs(X - U) / U).mean(-1)),
    (losses.mean_squared_logarithmic_error, U, P, {}, ((np.log1p(U) - np.log1p(P)) ** 2).mean(-1)),
    (losses.log_cosh, X, U, {}, np.log(np.cosh(X - U)).mean(-1)),
    (losses.huber, 3 * X, U, {"delta": 0.5}, None),
    (losses.poisson, BINARY, U, {}, (U - BINARY * np.log(U)).mean(-1)),
    (losses.kl_divergence, P, U, {}, (P * np.log(P / U)).sum(-1)),
    (losses.cosine_similarity, X, U, {}, None),
    (losses.binary_crossentropy, BINARY, U, {}, -np.log(np.where(BINARY, U, 1 - U)).mean(-1)),
    (losses.binary_crossentropy, BINARY, X, {"from_logits": True, "label_smoothing": 0.1}, None),
    (losses.binary_focal_crossentropy, BINARY, U, {}, None),
    (losses.binary_focal_crossentropy, BINARY, X, {"from_logits": True, "apply_class_balancing": True}, None),
    (losses.categorical_crossentropy, ONE_HOT, P, {}, -np.log(P[np.arange(4), LABELS])),
    (losses.categorical_crossentropy, ONE_HOT, X, {"from_logits": True, "label_smoothing": 0.2}, None),
    (losses.categorical_focal_crossentropy, ONE_HOT, X, {"from_logits": True}, None),
    (losses.sparse_categorical_crossentropy, LABELS, P, {}, -np.log(P[np.arange(4), LABELS])),
    (losses.sparse_categorical_crossentropy, LABELS, X, {"from_logits": True}, None),
    (
        losses.sparse_categorical_crossentropy,
        LABELS,
        P,
        {"label_smoothing": 0.2},
        -((0.8 * ONE_HOT + 0.2 / 3) * np.log(P)).sum(-1),
    ),
    (losses.categorical_generalized_cross_entropy, LABELS, P, {"q": 0.5}, None),
    (losses.hinge, 2 * BINARY - 1, X, {}, np.maximum(1 - (2 * BINARY - 1) * X, 0).mean(-1)),
    (losses.squared_hinge, BINARY, X, {}, (np.maximum(1 - (2 * BINARY - 1) * X, 0) ** 2).mean(-1)),
    (losses.categorical_hinge, ONE_HOT, X, {}, None),
    (losses.dice, BINARY, U, {"axis": -1}, 1 - 2 * (BINARY * U).sum(-1) / (BINARY + U).sum(-1)),
    (losses.tversky, BINARY, U, {"axis": -1, "alpha": 0.3}, None),
    (
        losses.contrastive,
        BINARY,
        U,
        {"margin": 0.7},
        (BINARY * U**2 + (1 - BINARY) * np.maximum(0.7 - U, 0) ** 2).mean(-1),
    ),
    (losses.quantile, X, U, {"quantiles": 0.9}, np.maximum(0.9 * (X - U), -0.1 * (X - U)).mean(-1)),
    (
        losses.quantile,
        X[:, 0],
        U,
        {"quantiles": [0.1, 0.5, 0.9]},
        np.mean([np.maximum(q * (X[:, 0] - u), (q - 1) * (X[:, 0] - u)) for q, u in zip((0.1, 0.5, 0.9), U.T)], 0),
    ),
    (losses.circle, LABELS, X / np.linalg.norm(X, axis=-1, keepdims=True), {"gamma": 8.0}, None),
    (losses.triplet, LABELS, X, {"margin": 2.0}, None),
    (losses.info_nce, U, X, {}, None),
    (losses.info_nce, U, X, {"temperature": 0.5, "symmetric": True}, None),
    (losses.ctc, np.array([[1, 2], [2, 2], [1, 0], [0, 0]]), RNG.normal(size=(4, 5, 3)), {}, None),
]


def named(case):
    return f"{case[0].__name__}-{len(case[3])}" if isinstance(case, tuple) else None


@pytest.mark.parametrize("case", CASES, ids=named)
def test_formula(case):
    function, y_true, y_pred, options, expected = case
    values = function(y_true, y_pred, **options)
    assert values.shape == (4,) and values.dtype == np.float64
    if expected is not None:
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_gradient(case):
    function, y_true, y_pred, options, _ = case
    gradient = tz.grad(lambda y: core.ops.sum(function(y_true, y, **options)))(core.tensor(y_pred)).numpy()
    step = 1e-6
    for index in np.ndindex(y_pred.shape):
        shift = np.zeros_like(y_pred)
        shift[index] = step
        up, down = (function(y_true, y_pred + sign * shift, **options).numpy().sum() for sign in (1, -1))
        assert gradient[index] == pytest.approx((up - down) / (2 * step), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_traced_equals_eager(case):
    function, y_true, y_pred, options, _ = case
    graph = tz.trace(lambda t, p: function(t, p, **options), core.tensor(y_true), core.tensor(y_pred))
    np.testing.assert_array_equal(graph(y_true, y_pred).numpy(), function(y_true, y_pred, **options).numpy())


def test_reductions():
    y_true, y_pred, weights = np.zeros((4, 1)), np.array([[1.0], [2.0], [3.0], [4.0]]), [1.0, 0.0, 2.0, 1.0]
    expected = {"sum": 35.0, "sum_over_batch_size": 35 / 4, "mean": 35 / 4, "mean_with_sample_weight": 35 / 4}
    for reduction, value in expected.items():
        assert float(losses.MeanSquaredError(reduction)(y_true, y_pred, weights)) == pytest.approx(value)
    assert losses.MeanSquaredError(None)(y_true, y_pred, weights).tolist() == [1, 0, 18, 16]
    assert float(losses.MeanSquaredError()(np.zeros((0, 2)), np.zeros((0, 2)))) == 0
    with pytest.raises(ValueError, match=r"Unknown reduction 'avg'.*mean"):
        losses.MeanSquaredError("avg")


def test_weights_per_sample_reach_all_time_steps():
    y_pred = np.arange(6.0).reshape(2, 3, 1)
    value = losses.MeanSquaredError()(np.zeros((2, 3, 1)), y_pred, sample_weight=[1.0, 0.0])
    assert float(value) == pytest.approx((0 + 1 + 4) / 6)
    with pytest.raises(ValueError, match="one weight per sample"):
        losses.MeanSquaredError()(np.zeros((2, 3, 1)), y_pred, sample_weight=[1.0, 0.0, 2.0, 1.0])


def test_masked_values_leave_the_mean():
    y_pred, mask = np.array([[1.0], [2.0], [9.0]]), [True, True, False]
    for reduction in ("sum_over_batch_size", "mean_with_sample_weight"):
        assert float(losses.MeanSquaredError(reduction)(np.zeros((3, 1)), y_pred, mask=mask)) == pytest.approx(2.5)
    ignoring = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    some = ignoring([0, -1, 2], X[:3], mask=[True, True, True])
    assert float(some) == pytest.approx(
        float(losses.SparseCategoricalCrossentropy(from_logits=True)([0, 2], X[[0, 2]]))
    )


def test_the_mask_of_the_layers_is_used():
    from tenzoo.layers import set_mask

    y_pred = core.tensor(np.ones((2, 3, 1), "float32"))
    set_mask(y_pred, core.tensor(np.array([[True, False, False], [False, False, False]])))
    assert float(losses.MeanSquaredError()(np.zeros((2, 3, 1)), y_pred)) == 1.0


def test_extreme_logits_stay_finite():
    logits = np.array([[1e4, -1e4, 0.0]])
    for function, y_true in [
        (losses.categorical_crossentropy, [[0.0, 1.0, 0.0]]),
        (losses.binary_crossentropy, [[0.0, 1.0, 1.0]]),
        (losses.sparse_categorical_crossentropy, [1]),
    ]:
        value, gradient = tz.value_and_grad(lambda y, f=function, t=y_true: core.ops.sum(f(t, y, from_logits=True)))(
            core.tensor(logits)
        )
        assert np.isfinite(float(value)) and np.isfinite(gradient.numpy()).all()
    # A class that is ruled out by an infinite logit costs nothing.
    assert float(losses.sparse_categorical_crossentropy([0], [[0.0, -np.inf]], from_logits=True)[0]) == 0


def test_logits_and_probabilities_agree():
    softmax = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
    for name, y_true in (("categorical_crossentropy", ONE_HOT), ("sparse_categorical_crossentropy", LABELS)):
        function = losses.get(name)
        np.testing.assert_allclose(function(y_true, X, from_logits=True), function(y_true, softmax), rtol=1e-6)


@pytest.mark.parametrize(
    "loss, y_true, y_pred, hint",
    [
        ("categorical_crossentropy", LABELS, X, "Use sparse_categorical_crossentropy"),
        ("categorical_crossentropy", LABELS[:, None], X, "Use sparse_categorical_crossentropy"),
        ("sparse_categorical_crossentropy", ONE_HOT, X, "Use categorical_crossentropy"),
        ("binary_crossentropy", LABELS, X, "Use sparse_categorical_crossentropy"),
        ("mse", U[:, 0], X, "the last layer needs 1 unit; it has 3"),
        ("mse", U[:, :2], X, "The last layer needs 2 units; it has 3"),
        ("mae", U[:2], X, "expected the same shape"),
        ("sparse_categorical_crossentropy", [0, 3, 1, 2], X, r"Label 3 at position \(1,\).*from 0 to 2"),
        ("sparse_categorical_crossentropy", [0, 1, -1, 2], X, r"Label -1 at position \(2,\).*ignore_class"),
    ],
)
def test_a_loss_that_does_not_fit(loss, y_true, y_pred, hint):
    with pytest.raises(ValueError, match=hint):
        losses.get(loss)(y_true, y_pred)


def test_labels_out_of_range_in_a_compiled_step():
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    loss.check(np.array([0, -1, 2, 1]), X)
    with pytest.raises(ValueError, match="Label 3"):
        loss.check(np.array([0, 1, 2, 3]), X)


def test_one_class_warns():
    with pytest.warns(SyntaxWarning, match="binary_crossentropy"):
        losses.categorical_crossentropy(np.ones((4, 1)), np.ones((4, 1)))


def test_lookup_and_saving():
    assert losses.get("mse") is losses.get("MSE") is losses.mean_squared_error
    assert losses.get(None) is None
    with pytest.raises(ValueError, match="Did you mean 'mean_squared_error'"):
        losses.get("mean_square_error")
    loss = losses.get(losses.serialize(losses.Huber(delta=0.3, reduction="sum")))
    assert (loss.delta, loss.reduction, loss.name) == (0.3, "sum", "huber_loss")
    wrapped = losses.deserialize(losses.serialize(losses.LossFunctionWrapper(losses.huber, delta=2.0)))
    assert float(wrapped([0.0], [4.0])) == float(losses.huber([0.0], [4.0], delta=2.0))
    with pytest.raises(TypeError, match=r"Huber: .*dleta.*It takes \(delta"):
        losses.Huber(dleta=1.0)


@pytest.mark.parametrize(
    "shapes, name",
    [
        (((8,), (8, 3)), "sparse_categorical_crossentropy"),
        (((8, 3), (8, 3)), "categorical_crossentropy"),
        (((8,), (8, 1)), "binary_crossentropy"),
    ],
)
def test_crossentropy_is_chosen_by_shape(shapes, name):
    assert losses.resolve("crossentropy", *shapes).name == name
    assert losses.resolve("mse", *shapes).name == "mse"


def test_own_losses():
    class Half(losses.Loss):
        def call(self, y_true, y_pred):
            return 0.5 * core.ops.mean(core.ops.abs(y_true - y_pred), axis=-1)

    assert float(Half()([[2.0]], [[4.0]])) == 1.0
    assert Half().name == "half"
    resolved = losses.resolve(lambda t, p: core.ops.square(t - p)[:, 0], (2, 1), (2, 1))
    assert float(resolved(np.zeros((2, 1)), np.full((2, 1), 3.0))) == 9.0


def test_ctc_sums_over_all_alignments():
    logits = RNG.normal(size=(1, 4, 3))
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    for labels in ([1, 2], [1, 1], [2]):
        total = 0.0
        for path in itertools.product(range(3), repeat=4):
            merged = [key for key, _ in itertools.groupby(path) if key != 0]
            if merged == labels:
                total += np.prod(probabilities[np.arange(4), path])
        padded = np.array([labels + [0] * (3 - len(labels))])
        assert losses.ctc(padded, logits).item() == pytest.approx(-np.log(total), rel=1e-6)


def test_ctc_leaves_masked_frames_out():
    logits = RNG.normal(size=(2, 6, 4)).astype("float32")
    labels, mask = np.array([[1, 2], [3, 0]]), np.arange(6) < np.array([[4], [6]])
    loss = losses.CTC(reduction=None)
    assert loss(labels, logits, mask=mask)[0].item() == pytest.approx(loss(labels[:1], logits[:1, :4]).item())
    with pytest.raises(ValueError, match="Label 4"):
        loss.check(np.array([[4, 0]]), logits[:1])
    with pytest.raises(losses.ShapeError, match=r"\(B, T, C\)"):
        losses.ctc([1, 2], logits)


def test_triplet_takes_the_hardest_of_the_batch():
    distances = np.linalg.norm(X[:, None] - X[None], axis=-1)
    expected = []
    for i, label in enumerate(LABELS):
        same = [distances[i, j] for j in range(4) if j != i and LABELS[j] == label]
        other = [distances[i, j] for j in range(4) if LABELS[j] != label]
        expected.append(max(max(same) - min(other) + 1.0, 0.0) if same else 0.0)
    np.testing.assert_allclose(losses.triplet(LABELS, X).numpy(), expected, rtol=1e-6)
    assert losses.Triplet()(LABELS, X).item() == pytest.approx(np.mean([expected[1], expected[3]]))


def test_info_nce_is_the_cross_entropy_of_the_partners():
    cosines = (X / np.linalg.norm(X, axis=1, keepdims=True)) @ (U / np.linalg.norm(U, axis=1, keepdims=True)).T
    expected = losses.sparse_categorical_crossentropy(np.arange(4), cosines / 0.1, from_logits=True)
    np.testing.assert_allclose(losses.info_nce(U, X).numpy(), expected.numpy(), rtol=1e-6)


def test_circle_without_partners_is_finite():
    value, gradient = tz.value_and_grad(lambda y: losses.Circle()([0, 1, 2], y))(core.tensor(np.eye(3)))
    assert np.isfinite(value.item()) and np.isfinite(gradient.numpy()).all()


def test_quantiles_need_an_output_each():
    with pytest.raises(losses.ShapeError, match="quantiles"):
        losses.quantile(X[:, 0], U, [0.1, 0.9])
    with pytest.raises(ValueError, match="between 0 and 1"):
        losses.quantile(X, U, 1.5)
