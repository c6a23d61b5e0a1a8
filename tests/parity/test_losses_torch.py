"""Losses that Keras lacks, or that it has too, against those of torch: values and gradients."""

import numpy as np
import pytest

import tenzoo as tz

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)


def compare(ours, theirs, *inputs):
    """``ours`` and ``theirs`` as functions of ``inputs``, of which the first is differentiated."""
    value, gradient = tz.jit(lambda x: tz.value_and_grad(lambda y: ours(y, *inputs[1:]))(x))(tz.tensor(inputs[0]))
    x = torch.tensor(inputs[0], requires_grad=True)
    expected = theirs(x, *(torch.tensor(part) for part in inputs[1:]))
    expected.backward()
    np.testing.assert_allclose(value.item(), expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient.numpy(), x.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 7, 5, 3), (2, 20, 4, 6), (1, 1, 3, 1)])
def test_ctc(shape):
    batch, frames, classes, longest = shape
    logits = RNG.normal(size=(batch, frames, classes)).astype("float32")
    labels = RNG.integers(1, classes, (batch, longest))
    lengths = RNG.integers(1, longest // 2 + 2, batch).clip(max=longest)
    labels[np.arange(longest) >= lengths[:, None]] = 0

    def theirs(logits, labels):
        logs = torch.log_softmax(logits, -1).transpose(0, 1)
        frames_of = torch.full((batch,), frames)
        losses = torch.nn.functional.ctc_loss(logs, labels, frames_of, torch.tensor(lengths), reduction="none")
        return losses.mean()

    compare(lambda x, y: tz.losses.CTC()(y, x), theirs, logits, labels)


@pytest.mark.parametrize("symmetric", [False, True])
def test_info_nce(symmetric):
    def theirs(x, y):
        logits = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(y).T / 0.2
        entropies = [torch.nn.functional.cross_entropy(z, torch.arange(5)) for z in (logits, logits.T)]
        return sum(entropies) / 2 if symmetric else entropies[0]

    loss = tz.losses.InfoNCE(temperature=0.2, symmetric=symmetric)
    x, y = RNG.normal(size=(2, 5, 4)).astype("float32")
    compare(lambda a, b: loss(b, a), theirs, x, y)


def test_triplet():
    x = RNG.normal(size=(3, 4)).astype("float32")

    def theirs(x):
        near = torch.nn.functional.triplet_margin_loss
        return (near(x[:1], x[1:2], x[2:], margin=2.0, eps=0) + near(x[1:2], x[:1], x[2:], margin=2.0, eps=0)) / 2

    compare(lambda y: tz.losses.Triplet(margin=2.0)([0, 0, 1], y), theirs, x)


def test_quantile():
    x, y = RNG.normal(size=(2, 6, 4)).astype("float32")

    def theirs(x, y):
        return torch.maximum(0.8 * (y - x), -0.2 * (y - x)).mean()

    compare(lambda a, b: tz.losses.Quantile(0.8)(b, a), theirs, x, y)
