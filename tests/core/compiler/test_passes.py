"""The passes of the compiler: each is a function from graph to graph, and can be left out."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import core
from tenzoo.core import config, ops
from tenzoo.core.compiler.plan import Plan
from tenzoo.core.compiler.simplify import PASSES, REQUIRED

X = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")


def names(graph):
    return [node.op.name for node in graph.nodes()]


def both(name, function, *arrays):
    """The graph of a function before and after a pass; both compute the same."""
    arrays = arrays or (X,)
    before = core.trace(function, *map(core.tensor, arrays))
    after = PASSES[name](before)
    for a, b in zip(*(core.pytree.flatten(graph(*arrays)) for graph in (before, after)), strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-6, atol=1e-6)
    return before, after


def test_algebra():
    def function(x):
        y = ops.transpose(ops.transpose(ops.negative(-(x * 1 - 0)))) / 1
        return ops.reshape(ops.reshape(y, (-1,)), x.shape) - 0 + ops.sum(ops.expand_dims(x, 0), 0)

    before, after = both("algebra", function)
    assert len(names(before)) > 10
    assert set(names(after)) == {"add", "reshape"}


def test_algebra_keeps_what_holds_for_finite_numbers_only():
    _, after = both("algebra", lambda x: (x * 0, x - x, x / x))
    assert names(after) == ["multiply", "subtract", "divide"]


def test_algebra_keeps_the_sign_of_zero():
    _, after = both("algebra", lambda x: (x + 0.0, 0.0 + x, x - 0.0, x + -0.0))
    assert names(after) == ["add", "add"]


def test_merge():
    before, after = both("merge", lambda x: ops.exp(x) + ops.exp(x) * ops.exp(x + 1) + ops.exp(x + 1))
    assert names(before).count("exp") == 4
    assert names(after).count("exp") == 2


def test_merge_leaves_recomputation_alone():
    def function(x):
        return core.value_and_grad(core.checkpoint(lambda x: ops.sum(ops.sin(ops.exp(x)))))(x)

    before, after = both("merge", function)
    assert names(after).count("exp") == names(before).count("exp") == 2


def test_split():
    before, after = both("split", ops.sum, np.ones((64, 2048), "float32"))
    assert names(before) == ["reduce_sum"]
    assert names(after).count("reduce_sum") == 2
    both("split", ops.max, np.arange(1 << 17, dtype="float32"))
    _, after = both("split", lambda x: ops.sum(x, 1), np.ones((64, 2048), "float32"))
    assert names(after) == ["reduce_sum"]  # there are rows enough


def test_forms():
    _, after = both("forms", lambda x: ops.concatenate([ops.transpose(x), ops.transpose(x) + 1], 0))
    assert names(after).count("contiguous") == 1
    _, after = both("forms", lambda x: ops.matmul(ops.flip(x, 0), ops.transpose(x)))
    assert names(after).count("contiguous") == 1


def test_volumes():
    w = np.random.default_rng(0).normal(size=(2, 2, 2, 1, 3)).astype("float32")
    x = X.reshape(1, 3, 4, 4, 1)
    before, after = both("volumes", lambda x, w: ops.conv(x, w, padding="same"), x, w)
    ranks = [[len(node.attributes["strides"]) for node in g.nodes() if node.op.name == "conv"] for g in (before, after)]
    assert ranks == [[3], [2]]
    flat = core.trace(lambda x: ops.relu(x), core.tensor(X))
    assert PASSES["volumes"](flat) is flat


def test_settled():
    _, after = both("settled", lambda x: core.grad(lambda x: ops.sum(ops.max(x * 2, 1)))(x))
    assert "settled" in names(after)
    _, after = both("settled", lambda x: ops.max(x * 2, 1))
    assert "settled" not in names(after)


def test_fold():
    model = tz.Sequential([tz.layers.Conv2D(3, 2), tz.layers.BatchNormalization()])
    x = X.reshape(2, 4, 3, 2)
    model(x, training=True)
    before, after = both("fold", lambda x: model(x, training=False), x)
    channels = [
        sum(n.op.name == "multiply" and n.specs[0].shape == (2, 3, 2, 3) for n in g.nodes()) for g in (before, after)
    ]
    assert channels == [1, 0]


def step_results():
    """Three steps of a model in which every optional pass has something to do."""
    tz.utils.set_random_seed(0)
    layers = tz.layers
    tokens, volume = layers.Input((4,), dtype="int32"), layers.Input((3, 4, 4, 1))
    h = layers.Flatten()(layers.BatchNormalization()(layers.Conv3D(2, 2)(volume)))
    h = layers.Concatenate()([h, layers.Flatten()(layers.Embedding(4096, 4)(tokens))])
    model = tz.Model([tokens, volume], layers.Dense(3, activation="softmax")(h))
    model.compile(tz.optimizers.Adam(0.01, epsilon=1e-3), "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 4096, (12, 4)).astype("int32"), rng.normal(size=(12, 3, 4, 4, 1)).astype("float32")]
    history = model.fit(x, rng.integers(0, 3, 12), batch_size=4, epochs=2, verbose=0)
    return [*history.history["loss"], model.predict(x, verbose=0), *(v.numpy() for v in model.variables)]


@pytest.fixture(scope="module")
def expected():
    return step_results()


OPTIONAL = config.passes()


@pytest.mark.parametrize("missing", [*OPTIONAL, "all"])
def test_numbers_do_not_depend_on_a_pass(missing, expected, monkeypatch):
    left = ",".join(name for name in OPTIONAL if missing not in (name, "all"))
    monkeypatch.setenv("TENZOO_PASSES", left or "none")
    assert config.passes() == tuple(name for name in OPTIONAL if missing not in (name, "all"))
    for a, b in zip(expected, step_results(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_every_pass_is_required_or_can_be_left_out(monkeypatch):
    assert set(PASSES) - set(REQUIRED) == set(OPTIONAL) - {"fuse", "in_place", "share", "winograd"}
    monkeypatch.setenv("TENZOO_PASSES", "merge,algebr")
    with pytest.raises(ValueError, match=r"'algebr'.*'algebra'"):
        config.passes()


def test_in_place(monkeypatch):
    v = core.Variable(np.ones((50, 50), "float32"))

    def function(x):
        v.assign(v * 2 + x)

    graph = core.trace(function, core.tensor(1.0))
    assert not Plan(graph).copies
    monkeypatch.setenv("TENZOO_PASSES", "fuse")
    plan = Plan(graph)
    assert len(plan.copies) == 1
    plan.run([np.array(3, np.float32)])
    assert (v.numpy() == 5).all()
