"""Grad-CAM: where in a picture a classifier finds what speaks for a class.

Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization (2017).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...core import GradientTape, Tensor, ops, pytree, tensor
from ...layers import Layer
from .classifier import Classifier
from .preprocess import Preprocess

COLOURS, BRIGHTEST = "turbo", 0.9  # matplotlib's map from low to high, and the place in it of the highest: no dark red
STRENGTH = 0.7  # share of the colour where the heat is highest


def grad_cam(model: Any, images: Any, classes: Sequence[int] | None = None, layer: Layer | None = None) -> np.ndarray:
    """Return how much each place speaks for a class: (B, H, W, C) -> (B, H, W), from 0 to 1 in each image.

    The channels of a feature map are weighed by the mean gradient of the class's logit, summed, and what is negative is
    cut off. An image in which nothing speaks for the class stays 0 everywhere.

    Args:
        model: from images to logits (B, classes).
        images: as the model takes them, normalised.
        classes: the class of each image; the most probable one by default.
        layer: whose output is the feature map (B, h, w, C), or tokens (B, T, C) of which the last h·h are patches. By
            default the coarsest features of a classifier of the zoo with more than one place, what the last block of a
            ViT looks at, and for any other model the last layer that makes a map of more than one place.

    Raises:
        ValueError: the model makes no logits, or no feature map is found.

    >>> model = tz.zoo.create("lenet5", classes=3)
    >>> grad_cam(model, np.ones((2, 28, 28, 1), "float32")).shape
    (2, 28, 28)
    """
    images = tensor(images)
    with GradientTape() as tape, _captured(model, layer, tape) as maps:
        logits = model(images, training=False)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ValueError(f"Grad-CAM needs a model that makes logits (B, classes); {model.name!r} makes {logits!r}.")
        chosen = np.argmax(np.asarray(logits), axis=1) if classes is None else np.asarray(classes)
        score = ops.sum(logits * ops.one_hot(chosen, logits.shape[1], dtype=logits.dtype))
    if not maps:
        raise ValueError(f"No layer of {model.name!r} makes a feature map (B, h, w, C); name one with layer=.")
    if maps[-1].ndim not in (3, 4):
        raise ValueError(f"Expected a layer that makes a map (B, h, w, C) or tokens (B, T, C), not {maps[-1].shape}.")
    gradient = tape.gradient(score, maps[-1])
    if gradient is None:
        raise ValueError(f"The logits of {model.name!r} do not depend on the feature map {maps[-1].shape}.")
    weights = ops.mean(_as_map(gradient), axis=(1, 2), keepdims=True)  # (B, 1, 1, C)
    heat = ops.relu(ops.sum(weights * _as_map(maps[-1]), axis=-1, keepdims=True))  # (B, h, w, 1)
    heat = np.asarray(ops.image.resize(heat, images.shape[1:3], interpolation="bilinear"))[..., 0]
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


@contextlib.contextmanager
def _captured(model: Any, layer: Layer | None, tape: GradientTape) -> Iterator[list[Tensor]]:
    """Inside, what may be the feature map is put into a list while the model is called; the last one counts."""
    maps: list[Tensor] = []

    def keep(result: Any) -> None:
        candidates = [value for value in pytree.flatten(result) if isinstance(value, Tensor)]
        if layer is None:
            candidates = [value for value in candidates if value.ndim == 4 and value.shape[1] * value.shape[2] > 1]
        if candidates:
            tape.watch(candidates[-1])
            maps.append(candidates[-1])

    with contextlib.ExitStack() as stack:
        layer = _default_layer(model) if layer is None else layer
        if layer is not None:
            stack.enter_context(_listening(layer, "call", keep))
        elif isinstance(model, Classifier) and type(model).call is Classifier.call:
            stack.enter_context(_listening(model, "features", keep))
        else:
            for inner in model._walk():
                stack.enter_context(_listening(inner, "call", keep))
        yield maps


def _default_layer(model: Any) -> Layer | None:
    """A ViT reads its class off one token, which sees the patches through the last block's attention alone."""
    from .vit import ViT

    return model.blocks[-1].norm1 if isinstance(model, ViT) else None


@contextlib.contextmanager
def _listening(layer: Any, method: str, listen: Any) -> Iterator[None]:
    """Inside, ``listen`` hears the results of a method of this one object."""
    original = getattr(layer, method)

    def heard(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        listen(result)
        return result

    vars(layer)[method] = heard
    try:
        yield
    finally:
        del vars(layer)[method]


def _as_map(tokens: Tensor) -> Tensor:
    """(B, T, C) -> (B, h, h, C) of the last h·h tokens; a map stays as it is."""
    if tokens.ndim == 4:
        return tokens
    batch, length, channels = tokens.shape
    side = math.isqrt(length)
    return ops.reshape(tokens[:, length - side * side :], (batch, side, side, channels))


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Colour a picture by heat: uint8 (H, W, 1 or 3) and 0 to 1 (H, W) -> uint8 (H, W, 3). 0 leaves it as it is."""
    import matplotlib

    colours = 255 * matplotlib.colormaps[COLOURS](BRIGHTEST * heat)[..., :3]
    share = STRENGTH * heat[..., None]
    return np.round((1 - share) * np.broadcast_to(picture, colours.shape) + share * colours).astype(np.uint8)


def heat_on_picture(heat: np.ndarray, preprocess: Preprocess, height: int, width: int) -> np.ndarray:
    """Bring heat of what a model saw, (h, w), back onto the whole picture, (height, width); 0 where it saw nothing."""
    from PIL import Image

    resize = preprocess.resize or preprocess.size
    scale = (min(height, width) / resize,) * 2 if isinstance(resize, int) else (height / resize[0], width / resize[1])
    high, wide = (max(1, round(extent * factor)) for extent, factor in zip(preprocess.size, scale))
    enlarged = Image.fromarray(heat.astype(np.float32)).resize((wide, high), Image.Resampling.BILINEAR)
    whole = Image.new("F", (width, height))
    whole.paste(enlarged, ((width - wide) // 2, (height - high) // 2))
    return np.asarray(whole).clip(0, 1)
