"""Convolutions over three axes as convolutions over two.

The slices that a filter meets along the first axis lie side by side as channels: a filter of three slices is a filter
of one with three times the channels. That copies the data once for each slice of the filter, which costs little beside
the products.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..op import Node
from ..primitives import convolution, movement
from ..primitives.indexing import gather
from ..tensor import Tensor, wrap


def is_volume(node: Node) -> bool:
    """Whether a node is a convolution of (N, D, H, W, C), or one of its gradients."""
    return node.op.name in _FORMS and len(node.attributes["strides"]) == 3


def flattened(node: Node, inputs: tuple) -> Any:
    """The rule that makes it one of (N · D, H, W, C')."""
    if not is_volume(node) or 0 in node.specs[0].shape or 0 in inputs[0].shape:
        return None
    attributes = dict(node.attributes)
    depth = []
    for name in ("strides", "dilation", "padding"):
        first, *rest = attributes[name]
        depth.append(first)
        attributes[name] = tuple(rest)
    return _FORMS[node.op.name](node, *inputs, (*depth[:2], depth[2][0]), attributes)


def _forward(node: Node, x: Tensor, w: Tensor, depth: tuple, attributes: dict) -> Tensor:
    shape = node.specs[0].shape
    images = _images(x, _places(x.shape[0], x.shape[1], shape[1], w.shape[0], depth), attributes["groups"])
    w = movement.transpose(w, axes=(1, 2, 0, 3, 4))  # (kh, kw, K, c, f)
    w = movement.reshape(w, shape=(*w.shape[:2], w.shape[2] * w.shape[3], w.shape[4]))
    return movement.reshape(convolution.conv(images, w, **attributes), shape=shape)


def _input_gradient(node: Node, g: Tensor, w: Tensor, depth: tuple, attributes: dict) -> Tensor:
    shape, groups = node.specs[0].shape, attributes["groups"]
    images = _images(g, _places(g.shape[0], g.shape[1], shape[1], w.shape[0], depth, True), groups)
    w = movement.reshape(w, shape=(*w.shape[:4], groups, w.shape[4] // groups))
    w = movement.transpose(w, axes=(1, 2, 3, 4, 0, 5))  # (kh, kw, c, groups, K, f)
    w = movement.reshape(w, shape=(*w.shape[:3], w.shape[3] * w.shape[4] * w.shape[5]))
    attributes["shape"] = (shape[0] * shape[1], *shape[2:])
    return movement.reshape(convolution.conv_input_gradient(images, w, **attributes), shape=shape)


def _filter_gradient(node: Node, x: Tensor, g: Tensor, depth: tuple, attributes: dict) -> Tensor:
    k, *kernel = attributes["kernel"]
    attributes["kernel"] = tuple(kernel)
    images = _images(x, _places(x.shape[0], x.shape[1], g.shape[1], k, depth), attributes["groups"])
    g = movement.reshape(g, shape=(g.shape[0] * g.shape[1], *g.shape[2:]))
    made = convolution.conv_filter_gradient(images, g, **attributes)
    made = movement.reshape(made, shape=(*kernel, k, *node.specs[0].shape[3:]))
    return movement.transpose(made, axes=(2, 0, 1, 3, 4))


_FORMS = {"conv": _forward, "conv_input_gradient": _input_gradient, "conv_filter_gradient": _filter_gradient}


@functools.lru_cache(64)
def _places(
    count: int, extent: int, out: int, kernel: int, depth: tuple[int, int, int], inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Image and slice that each of (count, out, kernel) takes; the slice behind the last one is padding.

    With ``inverse`` they are taken by the slices that a convolution of ``out`` slices to ``extent`` read. (Equal ones
    are one constant, so that what is gathered for a convolution serves its gradient too.)
    """
    stride, dilation, padding = depth
    own, tap = np.arange(out)[:, None], np.arange(kernel) * dilation
    at = own * stride + tap - padding
    if inverse:
        at = np.where((own + padding - tap) % stride, extent, (own + padding - tap) // stride)
    at = np.where((at < 0) | (at >= extent), extent, at).astype(np.int32)
    images = np.broadcast_to(np.arange(count, dtype=np.int32)[:, None, None], (count, *at.shape))
    return tuple(wrap(np.array(np.broadcast_to(a, images.shape))) for a in (images, at))


def _images(x: Tensor, places: tuple[Tensor, Tensor], groups: int) -> Tensor:
    """(N, D, H, W, C) -> (N · out, H, W, groups · kernel · C / groups): slices as channels."""
    _, extent, *size, channels = x.shape
    count, out, kernel = places[0].shape
    if (places[1]._array == extent).any():
        x = movement.pad(x, low=(0,) * 5, high=(0, 1, 0, 0, 0), interior=(0,) * 5, value=0)
    made = gather(x, *places)  # (N, out, kernel, H, W, C)
    made = movement.reshape(made, shape=(count, out, kernel, *size, groups, channels // groups))
    made = movement.transpose(made, axes=(0, 1, 3, 4, 5, 2, 6))
    return movement.reshape(made, shape=(count * out, *size, kernel * channels))
