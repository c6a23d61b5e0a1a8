"""Batches with fewer samples in the program of a full one: the numbers of the step run op by op."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core
from tenzoo.core import ops
from tenzoo.core.compiler.plan import Plan
from tenzoo.core.compiler.ragged import Mixed, Ragged

L = tz.layers


def convolutional():
    body = [L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(), L.SpatialDropout2D(0.2)]
    head = [L.Flatten(), L.Dropout(0.3), L.Dense(8, activation="gelu"), L.GaussianNoise(0.1), L.LayerNormalization()]
    return tz.Sequential([*body, *head, L.Dense(4, activation="softmax")]), (8, 8, 2)


def recurrent():
    return tz.Sequential([L.Bidirectional(L.LSTM(5, return_sequences=True)), L.GRU(4), L.Dense(4)]), (5, 3)


def tokens():
    return tz.Sequential([L.Embedding(50, 6, mask_zero=True), L.GRU(5), L.Dense(4)]), "tokens"


def attending():
    x = L.Input((6, 8))
    h = L.LayerNormalization()(x + L.MultiHeadAttention(2, 4, dropout=0.1)(x, x))
    return tz.Model(x, L.Dense(4, activation="softmax")(L.GlobalAveragePooling1D()(h))), (6, 8)


def depthwise():
    body = [L.DepthwiseConv2D(3, padding="same"), L.GroupNormalization(2), L.AveragePooling2D()]
    return tz.Sequential([*body, L.Conv2DTranspose(3, 2), L.GlobalMaxPooling2D(), L.Dense(4)]), (6, 6, 4)


def data(shape, samples):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 50, (samples, 6)) if shape == "tokens" else rng.normal(size=(samples, *shape))
    return x.astype("float32" if shape != "tokens" else "int32"), rng.integers(0, 4, samples), rng.uniform(size=samples)


MODELS = [convolutional, recurrent, tokens, attending, depthwise]
BATCH = 12


def trained(make, eagerly, samples=2 * BATCH + 5):
    tz.utils.set_random_seed(1)
    model, shape = make()
    x, y, weight = data(shape, samples)
    loss = tz.losses.SparseCategoricalCrossentropy(from_logits=make not in (convolutional, attending))
    metrics = ["accuracy", tz.metrics.SparseTopKCategoricalAccuracy(2)]
    model.compile(tz.optimizers.SGD(0.1), loss, metrics=metrics, weighted_metrics=["accuracy"], run_eagerly=eagerly)
    history = model.fit(x, y, BATCH, epochs=2, sample_weight=weight, validation_data=(x[:20], y[:20]), verbose=0)
    figures = [*history.history.values(), *model.evaluate(x, y, BATCH, verbose=0), model.predict(x, BATCH, verbose=0)]
    return [*figures, *(v.numpy() for v in model.variables)], model


def programs(model):
    """How many programs each step was compiled to."""
    return {key[0]: count(step._compiled) for key, step in model._executables.items()}


def count(compiled):
    return len({id(run.planned()) for run in compiled._cache.values()})


@pytest.mark.parametrize("make", MODELS)
def test_one_program_for_all_batches_of_a_fit_equals_eager(make):
    expected, _ = trained(make, True)
    received, model = trained(make, False)
    assert programs(model) == {"train_step": 1, "test_step": 1, "predict_step": 1}
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-4, atol=2e-6)


def test_many_sizes_are_one_program_after_the_second():
    model, shape = convolutional()
    x, _, _ = data(shape, 40)
    expected = model.predict_on_batch(x)
    for size in (30, 13, 10, 40):
        np.testing.assert_allclose(model.predict_on_batch(x[:size]), expected[:size], rtol=1e-5, atol=1e-6)
    assert programs(model) == {"predict_step": 2}
    np.testing.assert_allclose(model.predict_on_batch(x[:2]), expected[:2], rtol=1e-5, atol=1e-6)
    assert programs(model) == {"predict_step": 3}  # not worth twenty times the work


def test_rows_that_depend_on_each_other_have_a_program_for_every_size():
    class Pairs(tz.Model):
        def call(self, x):
            return ops.matmul(x, ops.transpose(x))

    model = Pairs()
    x = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    np.testing.assert_allclose(model.predict_on_batch(x), x @ x.T, rtol=1e-5)
    np.testing.assert_allclose(model.predict_on_batch(x[:5]), x[:5] @ x[:5].T, rtol=1e-5)
    assert programs(model) == {"predict_step": 2}


def graphs(function, shape=(6, 4), part=4, of=core.trace):
    x = np.random.default_rng(2).normal(size=shape)
    return Ragged(*(of(function, core.tensor(x[:n])) for n in (len(x), part))), x


FITTING = {
    "mean": lambda x: ops.mean(x),
    "variance": lambda x: ops.var(x, 0),
    "largest": lambda x: ops.max(ops.log(ops.abs(x)), 0),
    "smallest integer": lambda x: ops.min(ops.cast(x * 10, "int32"), 0),
    "any": lambda x: ops.any(x > 2.2, 0),
    "all": lambda x: ops.all(x < 2.2),
    "product": lambda x: ops.prod(x, 0),
    "merged axes": lambda x: ops.mean(ops.reshape(x, (-1, 2)), 0),
    "moved": lambda x: ops.transpose(x) * 2,
    "numbers of the batch": lambda x: x / x.shape[0] + ops.arange(x.shape[0], dtype=x.dtype)[:, None],
    "full of a number": lambda x: x + ops.full(x.shape, 1.0 / x.shape[0]),
    "covariance": lambda x: ops.matmul(ops.transpose(x), x) / x.shape[0],
    "gradient": lambda x: core.grad(lambda w: ops.mean(ops.tanh(x @ w) ** 2))(ops.ones((4, 3), x.dtype)),
    "segments": lambda x: ops.segment_sum(x, ops.cast(ops.abs(x[:, 0]) > 1, "int32"), 2),
    "not finite": lambda x: ops.sum(ops.where(x > 0, ops.log(x), 0.0) * x, 0),
    "positions": lambda x: ops.argmax(x, 1),
    "rows of a table": lambda x: ops.take(ops.reshape(ops.arange(8.0), (4, 2)), ops.argmax(x, 1), axis=0),
    "along an axis": lambda x: ops.take_along_axis(x, ops.argmax(x, 1, keepdims=True), 1),
    "gradient along an axis": lambda x: core.grad(
        lambda w: ops.sum(ops.take_along_axis(x * w, ops.argmax(x, 1, keepdims=True), 1) ** 2)
    )(ops.ones((4,), x.dtype)),
    "one for each": lambda x: ops.one_hot(ops.argmax(x, 1), 4),
    "dropped attention with a bias that is learnt": lambda x: core.grad(
        lambda b: ops.sum(
            ops.dot_product_attention(*[x.reshape((-1, 2, 1, 2))] * 3, bias=b, dropout=0.4, seed=1)[:, :, 0]
            * x[:, None, :2]
        )
    )(ops.ones((1, 2, 2), x.dtype)),
    "in a loop": lambda x: ops.scan(lambda c, s: (c * 0.5 + s, c * s), ops.zeros((x.shape[0],), x.dtype), x.T)[1],
}


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("part", [1, 4, 5])
def test_graphs_that_fit(name, part):
    found, x = graphs(FITTING[name], part=part)
    expected = np.asarray(FITTING[name](core.tensor(x[:part])))
    padded = np.concatenate([x[:part], np.repeat(x[:1], len(x) - part, 0)])
    numbers = [number for _, number in found.numbers]
    for run in (Plan(found.graph).run, lambda arrays: [found.graph.run(arrays)]):
        (received,) = map(np.asarray, run([padded, np.asarray(part, np.int32), *numbers]))
        (rows,) = found.rows
        if rows is not None:
            received = received[(*[slice(None)] * rows.axis, slice(part * rows.times))]
        np.testing.assert_allclose(received, expected, rtol=1e-12)


MIXED = {
    "products of rows": lambda x: x @ ops.transpose(x),
    "running sums": lambda x: ops.cumsum(x, 0),
    "sorted": lambda x: ops.sort(x, 0),
    "reversed": lambda x: ops.flip(x, 0),
    "the last row": lambda x: x[-1],
    "all but one": lambda x: x[1:],
    "next to each other": lambda x: ops.concatenate([x, x], 0),
    "other order of axes": lambda x: ops.reshape(ops.transpose(x), (-1,)),
    "rows of others": lambda x: ops.take_along_axis(x, ops.argsort(x, 0), 0),
    "rows by number": lambda x: ops.take(x, ops.argmax(x, 0), axis=0),
    "tiled numbers": lambda x: ops.tile(x, (2, 1)),
    "numbers from the end": lambda x: x * ops.arange(x.shape[0], 0, -1, dtype=x.dtype)[:, None],
    "shifted": lambda x: ops.roll(x, 1, 0),
    "another program": lambda x: ops.sin(x) if x.shape[0] == 6 else ops.cos(x),
    "another order": lambda x: (lambda a, b: a - b if x.shape[0] == 6 else b - a)(ops.sin(x), ops.sin(x * 2)),
    "other attributes": lambda x: ops.roll(ops.transpose(x), x.shape[0], 0)[:, 0],
    "a loop over rows": lambda x: ops.scan(lambda c, row: (c + row, c), ops.zeros((4,), x.dtype), x)[0],
    "a sum in a loop": lambda x: ops.scan(lambda c, s: (c + ops.sum(s), c), ops.zeros((), x.dtype), x.T)[0],
    "random columns": lambda x: ops.transpose(x) + core.random.uniform((4, x.shape[0]), dtype="float64"),
}


@pytest.mark.parametrize("name", MIXED)
def test_graphs_that_do_not_fit(name):
    with pytest.raises(Mixed):
        graphs(MIXED[name])


def test_random_draws_are_those_of_the_smaller_batch():
    draws = [lambda x: x + core.random.uniform(x.shape, dtype="float32"), lambda x: core.random.dropout(x, 0.5)]
    for draw in draws:
        for part in (1, 3, 17):
            run = core.jit(draw, ragged=True)
            run.rest = part
            x = core.ops.ones((18, 5))
            core.random.seed(4)
            run(x)
            received = [run(x[:part]), run(x)]
            core.random.seed(4)
            draw(x)
            for a, b in zip([draw(x[:part]), draw(x)], received, strict=True):
                np.testing.assert_array_equal(b, a)
            assert count(run) == 1


def test_an_error_for_the_last_batch_comes_with_it():
    def step(x):
        return ops.reshape(x, (4, -1))

    run = core.jit(step, ragged=True)
    run.rest = 3
    assert run(ops.ones((6, 2))).shape == (4, 3)
    with pytest.raises(ValueError, match="reshape"):
        run(ops.ones((3, 2)))


def test_scalars_among_the_arguments():
    run = core.jit(lambda factor, x: ops.sum(x) * factor, ragged=True)
    for size in (6, 5, 4):
        assert float(run(core.tensor(2.0), ops.ones((size, 2)))) == 4 * size
    assert count(run) == 2


def test_what_is_zero_already_is_not_masked_again():
    for keeps_zero in (ops.absolute, ops.negative, ops.tanh):
        found, _ = graphs(lambda x, keeps_zero=keeps_zero: ops.sum(x, 0) + ops.sum(keeps_zero(x), 0))
        assert [node.op.name for node in found.graph.nodes()].count("where") == 1
