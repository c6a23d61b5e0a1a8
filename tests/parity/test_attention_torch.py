"""Attention against torch's `scaled_dot_product_attention`: values and gradients, of biases too."""

import numpy as np
import pytest

import tenzoo as tz

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bias", [None, (2, 4, 37, 45), (4, 37, 45), (1, 37, 45), (2, 4, 1, 45)])
@pytest.mark.parametrize("groups", [4, 2])
def test_attention_with_a_bias(bias, groups):
    sizes = (2, 37, 4, 8), (2, 45, groups, 8), (2, 45, groups, 6), (2, 37, 4, 6), *([bias] if bias else [])
    q, k, v, g, *bias = (RNG.normal(size=size).astype("float32") for size in sizes)

    def attend(q, k, v, *bias):
        return tz.ops.dot_product_attention(q, k, v, *bias)

    y, gradients = tz.jit(lambda g, *x: (lambda y, pullback: (y, pullback(g)))(*tz.vjp(attend, *x)))(g, q, k, v, *bias)
    points = [torch.tensor(x, requires_grad=True) for x in (q, k, v, *bias)]
    by_head = [x.transpose(1, 2) for x in points[:3]]
    expected = torch.nn.functional.scaled_dot_product_attention(
        *by_head, attn_mask=points[3] if bias else None, enable_gqa=True
    ).transpose(1, 2)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    expected.backward(torch.tensor(g))
    for a, b in zip(gradients, points, strict=True):
        np.testing.assert_allclose(a, b.grad.numpy(), rtol=1e-3, atol=1e-5)
