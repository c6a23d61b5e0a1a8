"""Low-rank adaptation: what is trained, frozen, saved and merged."""

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import layers

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 4)).astype("float32")


def make():
    tz.utils.set_random_seed(0)
    model = tz.Sequential([layers.Input((3,)), layers.Dense(5, "tanh"), layers.Dense(4)])
    model.compile("sgd", "mse")
    return model


def test_fine_tuning_changes_the_small_matrices_alone(tmp_path):
    model = make()
    before = model.predict(X, verbose=0)
    dense = model.layers[-1]
    dense.enable_lora(2, lora_alpha=4)
    np.testing.assert_array_equal(model.predict(X, verbose=0), before)
    model.layers[0].trainable = False
    model.compile(tz.optimizers.SGD(0.5), "mse")
    frozen = [np.array(weight) for weight in (*model.layers[0].weights, dense.kernel)]
    losses = model.fit(X, Y, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    for weight, value in zip((*model.layers[0].weights, dense.kernel), frozen, strict=True):
        np.testing.assert_array_equal(weight, value)

    after = model.predict(X, verbose=0)
    model.save(tmp_path / "m.tenzoo")
    np.testing.assert_array_equal(tz.load_model(tmp_path / "m.tenzoo").predict(X, verbose=0), after)
    dense.merge_lora()
    np.testing.assert_allclose(model.predict(X, verbose=0), after, rtol=1e-5, atol=1e-6)
    assert not np.allclose(dense.kernel, frozen[-1]) and not np.any(dense.lora_kernel_b)
    # Weights of the merged model fit one that was never adapted.
    plain = make()
    plain.layers[-1].set_weights(dense.get_weights()[:2])
    np.testing.assert_allclose(plain.predict(X, verbose=0), after, rtol=1e-5, atol=1e-6)


def test_freezing_and_unfreezing_spare_the_kernel():
    layer = layers.Dense(4, trainable=False)
    layer(X)
    layer.enable_lora(1)
    assert not layer.trainable_weights
    layer.trainable = True
    assert [weight.name for weight in layer.trainable_weights] == ["bias", "lora_kernel_a", "lora_kernel_b"]
    assert layer.lora_kernel_a.path == layer.kernel.path.replace("kernel", "lora_kernel_a")


def test_mistakes():
    with pytest.raises(ValueError, match="no weights yet"):
        layers.Dense(4).enable_lora(2)
    with pytest.raises(ValueError, match="positive"):
        layers.Dense(4, lora_rank=0)
    layer = layers.Dense(4, lora_rank=2)
    layer(X)
    with pytest.raises(ValueError, match="already, with rank 2"):
        layer.enable_lora(2)
    layer = layers.Dense(4, kernel_constraint="non_neg")
    layer(X)
    with pytest.raises(ValueError, match="constraint"):
        layer.enable_lora(2)
    with pytest.raises(ValueError, match="nothing to merge"):
        layer.merge_lora()


def test_reversible_embedding_shares_its_correction():
    layer = layers.ReversibleEmbedding(6, 4, lora_rank=2)
    vectors = layer(np.arange(6))
    layer.lora_embeddings_b.assign(np.ones((2, 4)))
    table = np.array(layer.embeddings) + np.array(layer.lora_embeddings_a) @ np.ones((2, 4))
    np.testing.assert_allclose(layer(np.arange(6)), table, rtol=1e-5)
    np.testing.assert_allclose(layer(vectors, reverse=True), np.array(vectors) @ table.T, rtol=1e-4, atol=1e-5)
