"""The models of the workloads in PyTorch, as a careful user writes them: channels last, fused attention.

Convolution nets take images as the other frameworks do, (B, H, W, C), and see them channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from . import workloads


def mlp(w: workloads.Mlp) -> nn.Module:
    return nn.Sequential(
        nn.Linear(w.features, w.hidden),
        nn.ReLU(),
        nn.Linear(w.hidden, w.hidden),
        nn.ReLU(),
        nn.Linear(w.hidden, w.classes),
    )


class ChannelsLast(nn.Module):
    """A view of (B, H, W, C) as (B, C, H, W)."""

    def forward(self, x):
        return x.permute(0, 3, 1, 2)


class Flatten(nn.Module):
    """(B, C, H, W) -> (B, H·W·C): a view when channels are last."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


def images(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(ChannelsLast(), *layers).to(memory_format=torch.channels_last)


def cnn(w: workloads.Cnn) -> nn.Module:
    def conv(channels: int, filters: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]

    n = w.filters
    return images(
        *conv(3, n),
        *conv(n, n),
        nn.MaxPool2d(2),
        *conv(n, 2 * n),
        *conv(2 * n, 2 * n),
        nn.MaxPool2d(2),
        Flatten(),
        nn.Linear((w.size // 4) ** 2 * 2 * n, w.hidden),
        nn.ReLU(),
        nn.Linear(w.hidden, w.classes),
    )


def convolve(
    channels: int,
    filters: int,
    kernel: int,
    stride: int = 1,
    activation: Callable[..., nn.Module] | None = nn.ReLU,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution, batch normalisation, activation."""
    convolution = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers = [convolution, nn.BatchNorm2d(filters)]
    return nn.Sequential(*layers, *([activation(inplace=True)] if activation else []))


class Residual(nn.Module):
    """body(x) + shortcut(x), then ReLU if asked for."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, activate: bool = True):
        super().__init__()
        self.body, self.shortcut, self.activate = body, shortcut or nn.Identity(), activate

    def forward(self, x):
        y = self.body(x) + self.shortcut(x)
        return F.relu(y, inplace=True) if self.activate else y


class Head(nn.Sequential):
    """The mean over the image and a dense layer."""

    def __init__(self, channels: int, classes: int):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def resnet20(w: workloads.ResNet20) -> nn.Module:
    layers: list[nn.Module] = [convolve(3, w.filters, 3)]
    channels = w.filters
    for stage in range(3):
        filters = w.filters * 2**stage
        for block in range(w.blocks):
            stride = 2 if stage and block == 0 else 1
            body = nn.Sequential(convolve(channels, filters, 3, stride), convolve(filters, filters, 3, activation=None))
            shortcut = convolve(channels, filters, 1, stride, None) if stride == 2 else None
            layers.append(Residual(body, shortcut))
            channels = filters
    return images(*layers, Head(channels, w.classes))


def mobilenet_v2(w: workloads.MobileNetV2) -> nn.Module:
    layers: list[nn.Module] = [convolve(3, 32, 3, 2, nn.ReLU6)]
    channels = 32
    for expansion, filters, stride in w.blocks():
        wide = channels * expansion
        body = nn.Sequential(
            *([convolve(channels, wide, 1, activation=nn.ReLU6)] if expansion > 1 else []),
            convolve(wide, wide, 3, stride, nn.ReLU6, groups=wide),
            convolve(wide, filters, 1, activation=None),
        )
        same = stride == 1 and channels == filters
        layers.append(Residual(body, activate=False) if same else body)
        channels = filters
    return images(*layers, convolve(channels, w.last, 1, activation=nn.ReLU6), Head(w.last, w.classes))


def resnet50(w: workloads.ResNet50) -> nn.Module:
    layers: list[nn.Module] = [convolve(3, w.filters, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = w.filters
    for stage, depth in enumerate(w.depths):
        narrow = w.filters * 2**stage
        for block in range(depth):
            stride = 2 if stage and block == 0 else 1
            body = nn.Sequential(
                convolve(channels, narrow, 1),
                convolve(narrow, narrow, 3, stride),
                convolve(narrow, 4 * narrow, 1, activation=None),
            )
            shortcut = convolve(channels, 4 * narrow, 1, stride, None) if block == 0 else None
            layers.append(Residual(body, shortcut))
            channels = 4 * narrow
    return images(*layers, Head(channels, w.classes))


class Lstm(nn.Module):
    """Embedding, LSTM, one logit from the last output."""

    def __init__(self, w: workloads.Lstm):
        super().__init__()
        self.embedding = nn.Embedding(w.vocabulary, w.width)
        self.lstm = nn.LSTM(w.width, w.units, batch_first=True)
        self.head = nn.Linear(w.units, 1)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0][:, -1])


class BiLstm(nn.Module):
    """A stack of bidirectional LSTMs, classes for every frame."""

    def __init__(self, w: workloads.BiLstm):
        super().__init__()
        self.lstm = nn.LSTM(w.features, w.units, w.layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * w.units, w.classes)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


class Embed(nn.Module):
    """Vectors of the tokens and of their places."""

    def __init__(self, w: workloads.Transformer):
        super().__init__()
        self.tokens = nn.Embedding(w.vocabulary, w.width)
        self.places = nn.Parameter(torch.empty(w.length, w.width).uniform_(-0.05, 0.05))

    def forward(self, x):
        return self.tokens(x) + self.places


class Attention(nn.Module):
    """Self-attention with one product for queries, keys and values."""

    def __init__(self, w: workloads.Transformer, causal: bool):
        super().__init__()
        self.heads, self.causal = w.heads, causal
        self.project = nn.Linear(w.width, 3 * w.width)
        self.output = nn.Linear(w.width, w.width)

    def forward(self, x):
        q, k, v = self.project(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)  # (B, heads, T, d)
        return self.output(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a feed-forward net, each with a shortcut; the norm before it, or after the sum."""

    def __init__(self, w: workloads.Transformer, causal: bool, norm_first: bool):
        super().__init__()
        self.norm_first = norm_first
        norms = nn.LayerNorm(w.width), nn.LayerNorm(w.width)
        attention = Attention(w, causal)
        mlp = nn.Sequential(nn.Linear(w.width, 4 * w.width), nn.GELU(), nn.Linear(4 * w.width, w.width))
        parts = (norms[0], attention, norms[1], mlp) if norm_first else (attention, norms[0], mlp, norms[1])
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        if self.norm_first:
            norm1, attention, norm2, mlp = self.parts
            x = x + attention(norm1(x))
            return x + mlp(norm2(x))
        attention, norm1, mlp, norm2 = self.parts
        x = norm1(x + attention(x))
        return norm2(x + mlp(x))


class First(nn.Module):
    """The first token: (B, T, d) -> (B, d)"""

    def forward(self, x):
        return x[:, 0]


def bert_like(w: workloads.BertLike) -> nn.Module:
    blocks = [Block(w, causal=False, norm_first=False) for _ in range(w.layers)]
    return nn.Sequential(Embed(w), nn.LayerNorm(w.width), *blocks, First(), nn.Linear(w.width, w.classes))


class Tokens(nn.Module):
    """A token for the class before those of the patches, and places: (B, d, H, W) -> (B, T, d)"""

    def __init__(self, w: workloads.VitS16):
        super().__init__()
        self.own = nn.Parameter(torch.empty(1, w.width).uniform_(-0.05, 0.05))
        self.places = nn.Parameter(torch.empty(w.length, w.width).uniform_(-0.05, 0.05))

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        return torch.cat([self.own.expand(x.shape[0], 1, -1), x], 1) + self.places


def vit(w: workloads.VitS16) -> nn.Module:
    blocks = [Block(w, causal=False, norm_first=True) for _ in range(w.layers)]
    patches = nn.Conv2d(3, w.width, w.patch, w.patch)
    return images(patches, Tokens(w), *blocks, nn.LayerNorm(w.width), First(), nn.Linear(w.width, w.classes))


def gpt(w: workloads.Gpt) -> nn.Module:
    blocks = [Block(w, causal=True, norm_first=True) for _ in range(w.layers)]
    head = nn.Linear(w.width, w.vocabulary, bias=False)
    return nn.Sequential(Embed(w), *blocks, nn.LayerNorm(w.width), head)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet20": resnet20,
    "lstm": Lstm,
    "bert-like": bert_like,
    "gpt": gpt,
    "gpt-mid": gpt,
    "bilstm": BiLstm,
    "mobilenet_v2": mobilenet_v2,
    "resnet50-inference": resnet50,
    "resnet50": resnet50,
    "resnet50-inference-32": resnet50,
    "mobilenet_v2-inference": mobilenet_v2,
    "mobilenet_v2-inference-32": mobilenet_v2,
    "vit-s16": vit,
    "vit-s16-inference": vit,
    "vit-s16-inference-32": vit,
    "call": mlp,
    "small-step": mlp,
    "small-step-8": mlp,
}


def build(workload: workloads.Workload) -> nn.Module:
    """The model of a workload."""
    return BUILDERS[workload.name](workload)


@torch.no_grad()
def load_keras_weights(model: nn.Module, weights: list[np.ndarray]) -> None:
    """Take over the trainable weights of the Keras-like model of the same workload, in their order there.

    Raises ValueError when they do not fit.
    """
    rest = iter([torch.from_numpy(weight) for weight in weights])
    _load(model, rest)
    if next(rest, None) is not None:
        raise ValueError("There are more weights than the model takes.")


def _load(module: nn.Module, rest: Iterator[torch.Tensor]) -> None:
    loader = _LOADERS.get(type(module))
    if loader is not None:
        loader(module, rest)
    else:
        for child in module.children():
            _load(child, rest)


def _load_linear(module: nn.Linear, rest: Iterator[torch.Tensor]) -> None:
    _put(module.weight, next(rest).T)
    if module.bias is not None:
        _put(module.bias, next(rest))


def _load_convolution(module: nn.Conv2d, rest: Iterator[torch.Tensor]) -> None:
    _put(module.weight, next(rest).permute(3, 2, 0, 1))
    if module.bias is not None:
        _put(module.bias, next(rest))


def _load_norm(module: nn.LayerNorm, rest: Iterator[torch.Tensor]) -> None:
    _put(module.weight, next(rest))
    _put(module.bias, next(rest))


def _load_embedding(module: nn.Embedding, rest: Iterator[torch.Tensor]) -> None:
    _put(module.weight, next(rest))


def _load_embed(module: Embed, rest: Iterator[torch.Tensor]) -> None:
    _put(module.tokens.weight, next(rest))
    _put(module.places, next(rest))


def _load_tokens(module: Tokens, rest: Iterator[torch.Tensor]) -> None:
    _put(module.own, next(rest))
    _put(module.places, next(rest))


def _load_attention(module: Attention, rest: Iterator[torch.Tensor]) -> None:
    width = module.output.in_features
    for part in range(3):
        rows = slice(part * width, (part + 1) * width)
        _put(module.project.weight[rows], next(rest).reshape(width, width).T)
        _put(module.project.bias[rows], next(rest).reshape(width))
    _put(module.output.weight, next(rest).reshape(width, width).T)
    _put(module.output.bias, next(rest))


def _load_lstm(module: nn.LSTM, rest: Iterator[torch.Tensor]) -> None:
    for layer in range(module.num_layers):
        for suffix in ("", "_reverse")[: 1 + module.bidirectional]:
            for name in ("weight_ih", "weight_hh"):
                _put(getattr(module, f"{name}_l{layer}{suffix}"), next(rest).T)
            _put(getattr(module, f"bias_ih_l{layer}{suffix}"), next(rest))
            getattr(module, f"bias_hh_l{layer}{suffix}").zero_()


_LOADERS: dict[type, Callable] = {
    nn.Linear: _load_linear,
    nn.Conv2d: _load_convolution,
    nn.LayerNorm: _load_norm,
    nn.Embedding: _load_embedding,
    nn.LSTM: _load_lstm,
    Embed: _load_embed,
    Tokens: _load_tokens,
    Attention: _load_attention,
}


def _put(target: torch.Tensor, value: torch.Tensor) -> None:
    if target.shape != value.shape:
        raise ValueError(f"A weight of shape {tuple(value.shape)} came for one of {tuple(target.shape)}.")
    target.copy_(value)
