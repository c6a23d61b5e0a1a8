"""Functions of neural networks: activations, convolution, pooling, normalisation, losses on tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import config
from ..dtypes import FLOAT32, HALVES, limits
from ..errors import ShapeError
from ..gradients import custom_gradient, with_gradient
from ..primitives import attention, convolution, elementwise, pooling
from ..tensor import Tensor, wrap
from . import math, reductions
from .common import along_axis, axes_of, axis_of, cast_to, convert, pair, promote, promote_float, scalar, to_float
from .indexing import take_along_axis
from .linear import einsum
from .shape import broadcast_to, expand_dims, moveaxis, pad, rearrange, reshape, split, squeeze, stack, transpose

# -- activations -----------------------------------------------------------------------------------------------------


def relu(x: Any) -> Tensor:
    """max(x, 0); the gradient at 0 is 0."""
    return elementwise.relu(convert(x))


def relu6(x: Any) -> Tensor:
    """min(max(x, 0), 6); the gradient at 0 and at 6 is 0."""
    x, zero, six = promote(x, 0, 6)
    low = elementwise.less_equal(x, zero)
    outside = math.logical_or(low, elementwise.greater_equal(x, six))  # one mask is kept for the gradient
    return elementwise.where(outside, elementwise.where(low, zero, six), x)


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Tensor:
    """x where positive, negative_slope·x elsewhere."""
    x = to_float(x)
    return elementwise.where(elementwise.greater(x, scalar(0, x)), x, x * scalar(negative_slope, x))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x))"""
    return elementwise.sigmoid(to_float(x))


def log_sigmoid(x: Any) -> Tensor:
    """log(sigmoid(x)) without overflow."""
    return math.negative(softplus(math.negative(x)))


def hard_sigmoid(x: Any) -> Tensor:
    """x / 6 + 1/2, limited to [0, 1]."""
    return math.clip(to_float(x) / 6 + 0.5, 0, 1)


def silu(x: Any) -> Tensor:
    """x·sigmoid(x); Elfwing, Uchibe, Doya (2017), Ramachandran, Zoph, Le (2017)."""
    x = to_float(x)
    share = sigmoid(x)
    return with_gradient(x * share, x, lambda g, y: g * (share + y * (scalar(1, x) - share)))


swish = silu


def hard_silu(x: Any) -> Tensor:
    """x·hard_sigmoid(x)"""
    x = to_float(x)
    return x * hard_sigmoid(x)


hard_swish = hard_silu


def softplus(x: Any) -> Tensor:
    """log(1 + exp(x)) without overflow."""
    x = to_float(x)
    return math.maximum(x, 0) + elementwise.log1p(elementwise.exp(math.negative(math.absolute(x))))


def softsign(x: Any) -> Tensor:
    """x / (1 + |x|)"""
    x = to_float(x)
    return x / (math.absolute(x) + 1)


def soft_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """x moved towards 0 by ``threshold``."""
    x = to_float(x)
    return math.where(x > threshold, x - threshold, math.where(x < -threshold, x + threshold, 0.0))


def hard_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """x, and 0 within ``threshold`` of 0."""
    x = to_float(x)
    return math.where(math.absolute(x) > threshold, x, 0.0)


def tanh_shrink(x: Any) -> Tensor:
    """x - tanh(x)"""
    x = to_float(x)
    return x - elementwise.tanh(x)


def hard_tanh(x: Any) -> Tensor:
    """x limited to [-1, 1]."""
    return math.clip(x, -1, 1)


def threshold(x: Any, threshold: float, default_value: float) -> Tensor:
    """x where above the threshold, ``default_value`` elsewhere."""
    x = convert(x)
    return math.where(x > threshold, x, default_value)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha·(exp(x) - 1) elsewhere; Clevert, Unterthiner, Hochreiter (2015)."""
    x = to_float(x)
    positive = elementwise.greater(x, scalar(0, x))
    # exp of the positive side would overflow and spoil the gradient.
    below = elementwise.expm1(elementwise.where(positive, scalar(0, x), x)) * scalar(alpha, x)
    return elementwise.where(positive, x, below)


def selu(x: Any) -> Tensor:
    """Scaled ELU; Klambauer, Unterthiner, Mayr, Hochreiter (2017)."""
    return elu(x, 1.6732632423543772) * 1.0507009873554805


def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """ELU with a continuous derivative; Barron (2017)."""
    x = to_float(x)
    return math.maximum(x, 0) + alpha * elementwise.expm1(math.minimum(x, 0) / alpha)


def gelu(x: Any, approximate: bool = True) -> Tensor:
    """x·Φ(x), with tanh when approximate; Hendrycks, Gimpel (2016)."""
    x = to_float(x)
    half, one = scalar(0.5, x), scalar(1, x)
    if approximate:
        a, b = scalar(np.sqrt(2 / np.pi), x), scalar(np.sqrt(2 / np.pi) * 0.044715, x)
        tanh = elementwise.tanh(x * (a + b * x * x))
        share = half + half * tanh

        def slope() -> Tensor:
            return share + half * x * (one - tanh * tanh) * (a + scalar(3, x) * b * x * x)
    else:
        share = half + half * elementwise.erf(x * scalar(np.sqrt(0.5), x))

        def slope() -> Tensor:
            return share + x * elementwise.exp(x * x * -half) * scalar(1 / np.sqrt(2 * np.pi), x)

    return with_gradient(x * share, x, lambda g, _: g * slope())


def glu(x: Any, axis: int = -1) -> Tensor:
    """First half times the sigmoid of the second half of an axis; Dauphin et al. (2016)."""
    value, gate = split(to_float(x), 2, axis)
    return value * sigmoid(gate)


def squareplus(x: Any, b: float = 4) -> Tensor:
    """(x + sqrt(x² + b)) / 2"""
    x = to_float(x)
    return (x + math.sqrt(x * x + b)) / 2


def sparse_plus(x: Any) -> Tensor:
    """0 below -1, x above 1, (x + 1)² / 4 between."""
    x = to_float(x)
    return math.where(x <= -1, 0.0, math.where(x < 1, math.square(x + 1) / 4, x))


def sparse_sigmoid(x: Any) -> Tensor:
    """0 below -1, 1 above 1, (x + 1) / 2 between."""
    return math.clip((to_float(x) + 1) / 2, 0, 1)


def softmax(x: Any, axis: int | Sequence[int] | None = -1) -> Tensor:
    """exp(x) divided by its sum over the axis; of half precision computed in float32."""
    x = to_float(x)
    if x.dtype in HALVES:
        return cast_to(softmax(cast_to(x, FLOAT32), axis), x.dtype)
    shifted = elementwise.exp(x - elementwise.stop_gradient(reductions.max(x, axis, True)))
    y = shifted / reductions.sum(shifted, axis, True)
    return with_gradient(y, x, lambda g, y: y * (g - reductions.sum(g * y, axis, True)))


def log_softmax(x: Any, axis: int | Sequence[int] | None = -1) -> Tensor:
    """log(softmax(x)) without loss of precision; of half precision computed in float32."""
    x = to_float(x)
    if x.dtype in HALVES:
        return cast_to(log_softmax(cast_to(x, FLOAT32), axis), x.dtype)
    shifted = x - elementwise.stop_gradient(reductions.max(x, axis, True))
    y = shifted - elementwise.log(reductions.sum(elementwise.exp(shifted), axis, True))
    return with_gradient(y, x, lambda g, y: g - elementwise.exp(y) * reductions.sum(g, axis, True))


def sparsemax(x: Any, axis: int = -1) -> Tensor:
    """Projection onto the probability simplex; Martins, Astudillo (2016)."""
    x = moveaxis(to_float(x), axis, -1)
    descending = math.negative(reductions.sort(math.negative(x), -1))
    count = np.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    total = reductions.cumsum(descending, -1)
    support = math.greater(1 + count * descending, total)
    k = reductions.sum(math.cast(support, "int32"), -1, True)
    edge = (take_along_axis(total, k - 1, -1) - 1) / math.cast(k, x.dtype)
    return moveaxis(math.maximum(x - edge, 0), -1, axis)


# -- convolution and pooling -----------------------------------------------------------------------------------------


def _channels_last(data_format: str | None, name: str) -> None:
    if data_format not in (None, "channels_last"):
        raise ValueError(f"{name}: data are channels last here; received data_format={data_format!r}.")


def _resolve_padding(
    padding: Any, spatial: tuple, kernel: tuple, strides: tuple, dilation: tuple
) -> tuple[tuple[int, int], ...]:
    """(low, high) per spatial axis for "valid", "same" (output ceil(n / stride)), "causal", or explicit pairs."""
    if not isinstance(padding, str):
        return tuple((int(a), int(b)) for a, b in padding)
    name = padding.lower()
    if name == "valid":
        return ((0, 0),) * len(spatial)
    if name == "causal":
        return tuple(((k - 1) * d, 0) for k, d in zip(kernel, dilation, strict=True))
    if name != "same":
        raise ValueError(f"padding is 'valid', 'same', 'causal' or (low, high) pairs; received {padding!r}.")
    geometry = zip(spatial, kernel, strides, dilation, strict=True)
    totals = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in geometry]
    return tuple((total // 2, total - total // 2) for total in totals)


def conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Tensor:
    """Convolution (N, *spatial, C), (*kernel, C / groups, K) -> (N, *output, K).

    The number of groups is the input's channels over the kernel's. ``padding``: "valid", "same", "causal" or
    (low, high) pairs.
    """
    _channels_last(data_format, "conv")
    x, w = promote(inputs, kernel)
    rank = w.ndim - 2
    if x.ndim != rank + 2:
        raise ShapeError(
            f"conv: expected input (N, *spatial, C) with {rank} spatial axes for a kernel of shape {w.shape}; received "
            f"shape {x.shape}."
        )
    strides, dilation = pair(strides, rank, "strides"), pair(dilation_rate, rank, "dilation_rate")
    if w.shape[-2] == 0 or x.shape[-1] % w.shape[-2]:
        raise ShapeError(
            f"conv: the input has {x.shape[-1]} channels (shape {x.shape}), which the kernel's {w.shape[-2]} (shape "
            f"{w.shape}) do not divide."
        )
    pads = _resolve_padding(padding, x.shape[1:-1], w.shape[:-2], strides, dilation)
    groups = x.shape[-1] // w.shape[-2]
    return convolution.conv(x, w, strides=strides, padding=pads, dilation=dilation, groups=groups)


def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Tensor:
    """Convolution of each channel by itself: (N, *spatial, C), (*kernel, C, m) -> (N, *output, C·m)."""
    x, w = promote(inputs, kernel)
    if x.shape[-1] != w.shape[-2]:
        raise ShapeError(f"depthwise_conv: input {x.shape} and kernel {w.shape} differ in channels.")
    w = reshape(w, (*w.shape[:-2], 1, w.shape[-2] * w.shape[-1]))
    return conv(x, w, strides, padding, data_format, dilation_rate)


def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Tensor:
    """Depthwise convolution followed by a 1×1 convolution."""
    x = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(x, pointwise_kernel)


def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Tensor:
    """Transposed convolution (the gradient of conv by its input): (N, *spatial, C), (*kernel, K, C) -> (N, *output, K).

    Output extents: "valid" (n - 1)·stride + span (at least the stride), "same" n·stride, or set by output_padding.
    """
    _channels_last(data_format, "conv_transpose")
    x, w = promote(inputs, kernel)
    rank = w.ndim - 2
    if x.ndim != rank + 2 or x.shape[-1] != w.shape[-1]:
        raise ShapeError(
            f"conv_transpose: expected input (N, *spatial, {w.shape[-1]}) with {rank} spatial axes for a kernel "
            f"(*kernel, out, in) of shape {w.shape}; received shape {x.shape}."
        )
    strides, dilation = pair(strides, rank, "strides"), pair(dilation_rate, rank, "dilation_rate")
    extra = (None,) * rank if output_padding is None else pair(output_padding, rank, "output_padding")
    spatial, pads = [], []
    for n, k, s, d, more in zip(x.shape[1:-1], w.shape[:-2], strides, dilation, extra, strict=True):
        span = (k - 1) * d + 1
        if padding.lower() == "valid":
            low, extent = 0, (n - 1) * s + span + (max(s - span, 0) if more is None else more)
        else:
            around = s + span - 2 if more is None else span + span % 2 - 2 + more  # zeros around the spread input
            low = span - 1 - min((around + 1) // 2, span - 1)
            extent = (n - 1) * s + around + 2 - span
        high = (n - 1) * s + span - low - extent
        spatial.append(extent)
        pads.append((low, max(high, 0)))
    shape = (x.shape[0], *spatial, w.shape[-2])
    geometry = {"strides": strides, "padding": tuple(pads), "dilation": dilation, "groups": 1}
    return convolution.conv_input_gradient(x, w, shape=shape, **geometry)


def _pool_geometry(x: Tensor, pool_size: Any, strides: Any, padding: Any) -> dict:
    rank = x.ndim - 2
    window = pair(pool_size, rank, "pool_size")
    strides = window if strides is None else pair(strides, rank, "strides")
    pads = _resolve_padding(padding, x.shape[1:-1], window, strides, (1,) * rank)
    return {"window": window, "strides": strides, "padding": pads}


def max_pool(
    inputs: Any, pool_size: Any, strides: Any = None, padding: Any = "valid", data_format: str | None = None
) -> Tensor:
    """Maximum over windows of (N, *spatial, C)."""
    _channels_last(data_format, "max_pool")
    x = convert(inputs)
    return pooling.max_pool(x, **_pool_geometry(x, pool_size, strides, padding))[0]


def average_pool(
    inputs: Any, pool_size: Any, strides: Any = None, padding: Any = "valid", data_format: str | None = None
) -> Tensor:
    """Mean over windows of (N, *spatial, C); padding does not count."""
    _channels_last(data_format, "average_pool")
    x = to_float(inputs)
    geometry = _pool_geometry(x, pool_size, strides, padding)
    total = pooling.window_sum(x, **geometry)
    if not any(map(any, geometry["padding"])):
        return total / scalar(int(np.prod(geometry["window"])), x)
    inside = wrap(np.ones((1, *x.shape[1:-1], 1), x.dtype))
    return total / pooling.window_sum(inside, **geometry)


def adaptive_average_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Tensor:
    """Mean over windows chosen so that the output has ``output_size`` spatial extents."""
    _channels_last(data_format, "adaptive_average_pool")
    return _adaptive(to_float(inputs), output_size, reductions.mean)


def adaptive_max_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Tensor:
    """Maximum over windows chosen so that the output has ``output_size`` spatial extents."""
    _channels_last(data_format, "adaptive_max_pool")
    return _adaptive(convert(inputs), output_size, reductions.max)


def _adaptive(x: Tensor, output_size: Any, reduce: Any) -> Tensor:
    for axis, count in enumerate(pair(output_size, x.ndim - 2, "output_size"), 1):
        extent = x.shape[axis]
        if extent % count == 0:
            x = reduce(reshape(x, (*x.shape[:axis], count, extent // count, *x.shape[axis + 1 :])), axis + 1)
            continue
        edges = [(i * extent // count, -(-(i + 1) * extent // count)) for i in range(count)]
        x = stack([reduce(x[(*[slice(None)] * axis, slice(a, b))], axis) for a, b in edges], axis)
    return x


# -- normalisation and attention -------------------------------------------------------------------------------------


def batch_normalization(
    x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) · scale + offset along one axis."""
    x = to_float(x)
    axis = axis_of(axis, x.ndim, "batch_normalization")

    def along(value: Any) -> Tensor:
        return along_axis(cast_to(convert(value), x.dtype), axis, x.ndim)

    factor = math.rsqrt(along(variance) + epsilon)
    if scale is not None:
        factor = factor * along(scale)
    y = (x - along(mean)) * factor
    return y if offset is None else y + along(offset)


def standardize(
    x: Any, axes: Sequence[int], scale: Any = None, offset: Any = None, epsilon: float = 1e-3
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise to mean 0 and variance 1 over ``axes``, then scale and shift: batch normalisation while training.

    Returns the result, and mean and variance with the axes kept, which are constants for differentiation. Ioffe,
    Szegedy (2015). The gradient is the short form of it: two sums over the axes.
    """
    x = to_float(x)
    axes = axes_of(axes, x.ndim, "standardize")
    kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
    count = scalar(x.size / max(1, int(np.prod(kept))), x)
    parameters = [reshape(cast_to(convert(p), x.dtype), kept) for p in (scale, offset) if p is not None]

    def function(x: Tensor, *parameters: Tensor) -> tuple:
        mean = reductions.sum(x, axes, True) / count
        centred = x - mean
        variance = reductions.sum(centred * centred, axes, True) / count
        factor = elementwise.rsqrt(variance + scalar(epsilon, x))
        scaled = factor if scale is None else factor * parameters[0]
        y = centred * scaled
        y = y if offset is None else y + parameters[-1]

        def gradient(g: Tensor, *_: Tensor) -> list[Tensor]:
            normal = centred * factor
            total, along = reductions.sum(g, axes, True), reductions.sum(g * normal, axes, True)
            dx = scaled * (g - (total + normal * along) / count)
            return [dx, *([along] if scale is not None else []), *([total] if offset is not None else [])]

        return (y, mean, variance), gradient

    return custom_gradient(function)(x, *parameters)


def layer_normalization(
    x: Any, gamma: Any = None, beta: Any = None, axis: Any = -1, epsilon: float | None = None
) -> Tensor:
    """Normalise each example over ``axis`` to mean 0 and variance 1, then scale and shift; Ba, Kiros,
    Hinton (2016). Of half precision computed in float32.
    """
    x = to_float(x)
    if x.dtype in HALVES:
        return cast_to(layer_normalization(cast_to(x, FLOAT32), gamma, beta, axis, epsilon), x.dtype)
    centred = x - reductions.mean(x, axis, True)
    variance = reductions.mean(centred * centred, axis, True)
    y = centred * math.rsqrt(variance + (config.epsilon() if epsilon is None else epsilon))
    if gamma is not None:
        y = y * _along_axes(gamma, x, axis)
    return y if beta is None else y + _along_axes(beta, x, axis)


def _along_axes(value: Any, x: Tensor, axis: Any) -> Tensor:
    """A value of the extents of x along ``axis`` so that it broadcasts against x."""
    value = cast_to(convert(value), x.dtype)
    axes = axes_of(axis, x.ndim, "layer_normalization")
    if value.ndim == x.ndim or axes == tuple(range(x.ndim - len(axes), x.ndim)):
        return value
    return reshape(value, [n if i in axes else 1 for i, n in enumerate(x.shape)])


def rms_normalization(x: Any, scale: Any = None, axis: Any = -1, epsilon: float | None = None) -> Tensor:
    """Divide by the root of the mean square over ``axis``, then scale; Zhang, Sennrich (2019).

    Of half precision computed in float32.
    """
    x = to_float(x)
    if x.dtype in HALVES:
        return cast_to(rms_normalization(cast_to(x, FLOAT32), scale, axis, epsilon), x.dtype)
    y = x * math.rsqrt(reductions.mean(x * x, axis, True) + (config.epsilon() if epsilon is None else epsilon))
    return y if scale is None else y * cast_to(convert(scale), x.dtype)


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
    dropout: float = 0.0,
    seed: Any = None,
) -> Tensor:
    """Attention (B, T, heads, d), (B, S, heads_kv, d), (B, S, heads_kv, d) -> (B, T, heads, d).

    ``mask`` is True where a query may look, and broadcasts to (B, heads, T, S); ``bias`` is added to the
    scores. ``attn_logits_soft_cap`` limits the scores smoothly by a tanh. ``dropout`` is the probability with which a
    weight is dropped, by a draw of ``seed`` (see :mod:`tenzoo.random`). ``flash_attention`` is accepted for
    Keras and changes nothing. Fewer key heads than query heads are shared among them. Vaswani et al. (2017).

    The scores are never in memory: neither here nor for the first gradient.

    >>> x = np.ones((1, 3, 2, 4), "float32")
    >>> dot_product_attention(x, x, x, bias=np.zeros((2, 3, 3)), is_causal=True).shape
    (1, 3, 2, 4)
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dot_product_attention: dropout is in [0, 1); received {dropout}.")
    q, k, v = promote_float(query, key, value)
    if q.ndim != 4 or k.ndim != 4 or v.ndim != 4 or q.shape[2] % k.shape[2]:
        raise ShapeError(
            f"dot_product_attention: expected (B, T, heads, d) and (B, S, heads_kv, d); received {q.shape}, {k.shape}, "
            f"{v.shape}."
        )
    scale = float(1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    mask = None if mask is None else math.cast(mask, "bool")
    if is_causal and mask is not None:  # one mask, as a query that it leaves nothing looks at all keys alike
        mask, is_causal = math.logical_and(mask, wrap(np.tri(q.shape[1], k.shape[1], dtype=bool))), False
    # Half precision is computed in single.
    inputs = [cast_to(x, FLOAT32) if x.dtype in HALVES else x for x in (q, k, v)]
    bias = None if bias is None else cast_to(convert(bias), inputs[0].dtype)
    full = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    for name, x in (("bias", bias), ("mask", mask)):
        if x is not None:
            shape = (1,) * (4 - x.ndim) + x.shape
            if len(shape) > 4 or any(n not in (1, m) for n, m in zip(shape, full, strict=True)):
                raise ShapeError(
                    f"dot_product_attention: {name} has to broadcast to (B, heads, T, S), here {full}; received "
                    f"{x.shape}."
                )
            inputs.append(broadcast_to(reshape(x, shape), (*shape[:3], full[3])))
    if dropout:
        from ..random import _state

        inputs.append(_state(seed))
    how = {"causal": bool(is_causal), "scale": scale, "cap": float(attn_logits_soft_cap or 0), "rate": float(dropout)}
    attend = attention.attention if k.shape[1] else _attention_in_steps
    return cast_to(attend(*inputs, **how)[0], q.dtype)


def _attention_in_steps(
    q: Tensor, k: Tensor, v: Tensor, *rest: Tensor, causal: bool, scale: float, cap: float, rate: float
) -> tuple[Tensor, Tensor]:
    """What the op computes with its scores (B, heads, T, S) as a tensor, and these: for further gradients."""
    shared = q.shape[2] // k.shape[2]
    if shared > 1:
        from .shape import repeat

        k, v = repeat(k, shared, 2), repeat(v, shared, 2)
    scores = einsum("bthd,bshd->bhts", q * scalar(scale, q), k)
    if cap:
        scores = math.tanh(scores / cap) * cap
    bias, mask, draw = (attention.optional(kind, rest) for kind in "fbu")
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = math.where(mask, scores, scalar(limits(scores.dtype).min, scores))
    if causal:
        seen = wrap(np.tri(q.shape[1], k.shape[1], dtype=bool))
        scores = math.where(seen, scores, scalar(-np.inf, scores))
    weights = softmax(scores)
    if draw is not None:
        kept = attention.kept(draw, weights.shape, rate)
        weights = math.where(kept, weights * scalar(1 / (1 - rate), weights), scalar(0, weights))
    return einsum("bhts,bshd->bthd", weights, v), scores


# -- losses on tensors -----------------------------------------------------------------------------------------------


def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Tensor:
    """-sum(target · log(output)) over ``axis``; ``output`` is normalised first unless from_logits."""
    target, output = promote_float(target, output)
    if target.shape != output.shape:
        raise ShapeError(
            f"categorical_crossentropy: target {target.shape} and output {output.shape} differ. Integer labels go with "
            "sparse_categorical_crossentropy."
        )
    if from_logits:
        return math.negative(reductions.sum(target * log_softmax(output, axis), axis))
    output = output / reductions.sum(output, axis, True)
    epsilon = config.epsilon()
    return math.negative(reductions.sum(target * math.log(math.clip(output, epsilon, 1 - epsilon)), axis))


def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Tensor:
    """-log(output) at the class ``target``: targets (…) of integers, output (…, classes)."""
    output = to_float(output)
    target = math.cast(target, "int32")
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = squeeze(target, -1)
    expected = tuple(n for i, n in enumerate(output.shape) if i != axis_of(axis, output.ndim, "crossentropy"))
    if target.shape != expected:
        raise ShapeError(
            f"sparse_categorical_crossentropy: labels have shape {target.shape}, output {output.shape}; expected "
            f"labels of shape {expected}. One-hot labels go with categorical_crossentropy."
        )
    classes = output.shape[axis]
    if target._array is not None and target.size and not 0 <= target._array.min() <= target._array.max() < classes:
        raise IndexError(
            f"sparse_categorical_crossentropy: labels go from {target._array.min()} to {target._array.max()}; expected "
            f"0 to {classes - 1}, as there are {classes} classes."
        )
    # The class is picked by comparison rather than by indexing, so that the gradient needs no scatter: all is one
    # pass over the rows, forward and backward.
    numbers = along_axis(np.arange(classes, dtype=np.int32), axis, output.ndim)
    hot = math.equal(numbers, expand_dims(target, axis))

    def picked(values: Tensor) -> Tensor:
        return reductions.sum(elementwise.where(hot, values, scalar(0, values)), axis)

    if from_logits:
        shifted = output - elementwise.stop_gradient(reductions.max(output, axis, True))
        return math.log(reductions.sum(math.exp(shifted), axis)) - picked(shifted)
    chosen = picked(output) / reductions.sum(output, axis)
    return math.negative(math.log(math.clip(chosen, config.epsilon(), 1 - config.epsilon())))


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Tensor:
    """-(target·log(output) + (1 - target)·log(1 - output)), element by element."""
    target, output = promote_float(target, output)
    if target.shape != output.shape:
        raise ShapeError(f"binary_crossentropy: target {target.shape} and output {output.shape} differ.")
    if from_logits:
        rest = elementwise.log1p(elementwise.exp(math.negative(math.absolute(output))))
        return math.maximum(output, 0) - output * target + rest
    output = math.clip(output, config.epsilon(), 1 - config.epsilon())
    return math.negative(target * math.log(output) + (1 - target) * math.log(1 - output))


def polar(abs_: Any, angle: Any) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of a complex number given by magnitude and angle."""
    abs_, angle = promote_float(abs_, angle)
    return abs_ * math.cos(angle), abs_ * math.sin(angle)


def unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Sliding windows of (N, C, H, W), channels first, as columns: (N, C · kernel elements, positions)."""
    x = convert(x)
    kernel, dilation, padding, stride = _pairs(kernel_size, dilation, padding, stride)
    x = pad(transpose(x, (0, 2, 3, 1)), ((0, 0), *((p, p) for p in padding), (0, 0)))
    spatial = _positions(x.shape[1:-1], kernel, stride, dilation)
    parts = [x[window] for _, window in convolution.windows(kernel, spatial, stride, dilation)]
    columns = transpose(stack(parts, 1), (0, 4, 1, 2, 3))  # (N, C, positions in the kernel, *spatial)
    return reshape(columns, (x.shape[0], x.shape[-1] * len(parts), spatial[0] * spatial[1]))


def fold(x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Sums of overlapping windows, the transpose of unfold: (N, C · kernel elements, positions) -> (N, C, H, W)."""
    x = convert(x)
    size = pair(output_size, 2, "output_size")
    kernel, dilation, padding, stride = _pairs(kernel_size, dilation, padding, stride)
    spatial = _positions(tuple(n + 2 * p for n, p in zip(size, padding, strict=True)), kernel, stride, dilation)
    rows = x.shape[1]
    channels = rows // (kernel[0] * kernel[1])
    # The gradient of a convolution that copies each element of a window to an output channel of its own.
    copying = np.eye(rows, dtype=x.dtype).reshape(channels, *kernel, rows).transpose(1, 2, 0, 3)
    folded = convolution.conv_input_gradient(
        transpose(reshape(x, (x.shape[0], rows, *spatial)), (0, 2, 3, 1)),
        wrap(np.ascontiguousarray(copying)),
        shape=(x.shape[0], *size, channels),
        strides=stride,
        padding=tuple((p, p) for p in padding),
        dilation=dilation,
        groups=1,
    )
    return transpose(folded, (0, 3, 1, 2))


def _pairs(*sizes: Any) -> list[tuple[int, int]]:
    names = ("kernel_size", "dilation", "padding", "stride")
    return [pair(size, 2, name) for size, name in zip(sizes, names, strict=True)]


def _positions(spatial: tuple, kernel: tuple, stride: tuple, dilation: tuple) -> tuple[int, ...]:
    return tuple(map(convolution.output_extent, spatial, kernel, stride, ((0, 0), (0, 0)), dilation))


def depth_to_space(x: Any, block_size: int, data_format: str = "channels_last") -> Tensor:
    """(N, H, W, b·b·C) -> (N, H·b, W·b, C)"""
    _channels_last(data_format, "depth_to_space")
    return rearrange(x, "n h w (p q c) -> n (h p) (w q) c", p=block_size, q=block_size)


def space_to_depth(x: Any, block_size: int, data_format: str = "channels_last") -> Tensor:
    """(N, H·b, W·b, C) -> (N, H, W, b·b·C)"""
    _channels_last(data_format, "space_to_depth")
    return rearrange(x, "n (h p) (w q) c -> n h w (p q c)", p=block_size, q=block_size)


def psnr(x1: Any, x2: Any, max_val: float) -> Tensor:
    """Peak signal-to-noise ratio in decibels."""
    x1, x2 = promote_float(x1, x2)
    return 20 * math.log10(max_val) - 10 * math.log10(reductions.mean(math.square(x1 - x2)))
