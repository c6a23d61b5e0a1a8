"""ViT and DeiT: a transformer over the patches of an image.

Dosovitskiy et al.: An Image is Worth 16x16 Words (2020). Touvron et al.: Training data-efficient image transformers &
distillation through attention (2020), whose distilled form has a second token and a second classifier.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core import ShapeError, Tensor, Variable, ops
from ...layers import Dense, Layer, LayerNormalization, StochasticDepth
from ..registry import converter, model, weights
from .classifier import Classifier, Conv, drop_rates

INITIAL = "truncated_normal"  # of standard deviation 0.02


class PatchEmbedding(Layer):
    """Tokens of the image and their positions: (B, H, W, C) -> (B, tokens + patches, width)

    Args:
        tokens: learnt ones that come first: the class token, and for DeiT the distillation token.
    """

    def __init__(self, width: int, patch_size: int, tokens: int = 1, **options: Any):
        super().__init__(**options)
        self.width, self.patch_size, self.tokens = width, patch_size, tokens
        self.project = Conv(width, patch_size, patch_size, "valid", use_bias=True, kernel_initializer=INITIAL)

    def build(self, input_shape: Any) -> None:
        self.grid = (input_shape[1] // self.patch_size, input_shape[2] // self.patch_size)
        length = self.tokens + self.grid[0] * self.grid[1]
        self.class_token = self.add_weight((1, 1, self.width), "zeros", name="class_token")
        if self.tokens == 2:
            self.distillation_token = self.add_weight((1, 1, self.width), "zeros", name="distillation_token")
        self.positions = self.add_weight((1, length, self.width), INITIAL, name="positions")

    def adapt_positions(self, value: np.ndarray, variable: Variable, format: str) -> np.ndarray:
        """Positions (1, tokens + n², width) that were learnt for n × n patches, for as many as there are here.

        Transformers and timm resample them by different cubic functions, each of which is followed here.
        """
        side = math.isqrt(max(0, value.shape[1] - self.tokens)) if value.ndim == 3 else 0
        if variable is not self.positions or side == 0 or value.shape != (1, self.tokens + side**2, self.width):
            return value
        rows, columns = (_cubic_shares(side, extent, smooth=format != "transformers") for extent in self.grid)
        patches = value[0, self.tokens :].reshape(side, side, self.width)
        patches = np.einsum("hr,wc,rcd->hwd", rows, columns, patches).reshape(1, -1, self.width)
        return np.concatenate([value[:, : self.tokens], patches], axis=1)

    def call(self, images: Tensor) -> Tensor:
        patches = self.project(images)  # (B, rows, columns, width)
        batch, *grid, width = patches.shape
        if tuple(grid) != self.grid:
            size = [extent * self.patch_size for extent in self.grid]
            raise ShapeError(
                f"The positions are learnt for images of {size[0]} × {size[1]} pixels; received {images.shape}. Resize "
                "the images, or create the model with that image_size."
            )
        first = [self.class_token.value] + ([self.distillation_token.value] if self.tokens == 2 else [])
        first = [ops.broadcast_to(token, (batch, 1, width)) for token in first]
        patches = ops.reshape(patches, (batch, grid[0] * grid[1], width))
        return ops.concatenate([*first, patches], axis=1) + self.positions


def _cubic_shares(old: int, new: int, smooth: bool) -> np.ndarray:
    """What each of ``old`` places contributes to each of ``new`` ones: (new, old)

    Args:
        smooth: Pillow's cubic function, as wide as the new places; else the one that PyTorch takes without
            antialiasing, and places beyond the ends are like the last.
    """
    a, wide = (-0.5, max(1.0, old / new)) if smooth else (-0.75, 1.0)
    reach = math.ceil(2 * wide)
    places = np.arange(-reach, old + reach)
    far = np.abs((np.arange(new)[:, None] + 0.5) * old / new - 0.5 - places) / wide
    near = ((a + 2) * far - (a + 3)) * far**2 + 1
    shares = np.where(far <= 1, near, np.where(far < 2, a * (((far - 5) * far + 8) * far - 4), 0))
    inside = shares[:, reach:-reach].copy()
    if smooth:
        return inside / inside.sum(1, keepdims=True)
    inside[:, 0] += shares[:, :reach].sum(1)
    inside[:, -1] += shares[:, -reach:].sum(1)
    return inside


class Attention(Layer):
    """Every token looks at every other: (B, T, width) -> (B, T, width)"""

    def __init__(self, width: int, heads: int, qkv_bias: bool = True, **options: Any):
        super().__init__(**options)
        if width % heads:
            raise ValueError(f"width is a multiple of heads; received {width} and {heads}.")
        self.heads = heads
        self.qkv = Dense(3 * width, use_bias=qkv_bias, kernel_initializer=INITIAL)
        self.project = Dense(width, kernel_initializer=INITIAL)

    def call(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = ops.reshape(self.qkv(x), (batch, length, 3, self.heads, width // self.heads))
        attended = ops.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])  # (B, T, heads, d)
        return self.project(ops.reshape(attended, (batch, length, width)))


class Block(Layer):
    """Attention and a perceptron, each normalised before and added to its input: (B, T, width) -> (B, T, width)"""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        drop: float = 0.0,
        epsilon: float = 1e-6,
        qkv_bias: bool = True,
        **options: Any,
    ):
        super().__init__(**options)
        self.norm1, self.norm2 = LayerNormalization(epsilon=epsilon), LayerNormalization(epsilon=epsilon)
        self.attention = Attention(width, heads, qkv_bias)
        self.hidden = Dense(hidden, activation="gelu", kernel_initializer=INITIAL)
        self.contract = Dense(width, kernel_initializer=INITIAL)
        self.drop1, self.drop2 = StochasticDepth(drop), StochasticDepth(drop)

    def call(self, x: Tensor) -> Tensor:
        x = x + self.drop1(self.attention(self.norm1(x)))
        return x + self.drop2(self.contract(self.hidden(self.norm2(x))))


class ViT(Classifier):
    """(B, image_size, image_size, channels) -> (B, classes)

    The feature map is the last layer's, (B, rows, columns, width).

    Args:
        patch_size: side of the patches in pixels.
        width: length of the tokens.
        depth: number of blocks.
        heads: of the attention.
        hidden: units between the two layers of the perceptrons; 4 · width by default.
        tokens: 1 for the class token, 2 with the distillation token.
        distilled: a second classifier looks at the distillation token; the logits are the mean of both.
        epsilon: of the layer normalisation.
        qkv_bias: whether queries, keys and values have a bias.
        drop_path: rate of stochastic depth at the last block.
        options: those of :class:`Classifier`.
    """

    _head_layers = ("dropout", "classifier", "distillation_classifier")

    def __init__(
        self,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int | None = None,
        tokens: int = 1,
        distilled: bool = False,
        epsilon: float = 1e-6,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.tokens = tokens
        self.embedding = PatchEmbedding(width, patch_size, tokens)
        self.blocks = [
            Block(width, heads, hidden or 4 * width, drop, epsilon, qkv_bias)
            for drop in drop_rates(drop_path, [depth])[0]
        ]
        self.norm = LayerNormalization(epsilon=epsilon)
        self.distillation_classifier = Dense(self.classes) if distilled else None
        if distilled:
            self._classifiers = ("classifier", "distillation_classifier")

    def encode(self, images: Tensor) -> Tensor:
        """The tokens after the last block, normalised: (B, tokens + patches, width)."""
        x = self.embedding(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def features(self, images: Tensor) -> list[Tensor]:
        """The patches after the last block, as one map."""
        patches = self.encode(images)[:, self.tokens :]
        return [ops.reshape(patches, (patches.shape[0], *self.embedding.grid, patches.shape[2]))]

    def call(self, images: Tensor) -> Any:
        if self.features_only:
            return self.features(images)
        x = self.encode(images)
        logits = self.classifier(self.dropout(x[:, 0]))
        if self.distillation_classifier is None:
            return logits
        return (logits + self.distillation_classifier(x[:, 1])) / 2


# Variants

TINY = {"patch_size": 8, "width": 16, "depth": 2, "heads": 2, "image_size": 16}


@model()
def vit_ti16(**options):
    """ViT-Ti/16: 5.7 million parameters."""
    return ViT(16, 192, 12, 3, **options)


@model()
def vit_s16(**options):
    """ViT-S/16: 22 million parameters."""
    return ViT(16, 384, 12, 6, **options)


@model(test_variant=TINY)
def vit_b16(patch_size=16, width=768, depth=12, heads=12, **options):
    """ViT-B/16: 87 million parameters."""
    return ViT(patch_size, width, depth, heads, **options)


@model()
def vit_b32(**options):
    """ViT-B/32: 88 million parameters."""
    return ViT(32, 768, 12, 12, **options)


@model()
def vit_l16(**options):
    """ViT-L/16: 304 million parameters."""
    return ViT(16, 1024, 24, 16, **options)


@model(test_variant=TINY)
def deit_b16_distilled(patch_size=16, width=768, depth=12, heads=12, **options):
    """DeiT-B/16 with distillation token: 87 million parameters."""
    return ViT(patch_size, width, depth, heads, tokens=2, distilled=True, **options)


@model()
def deit_s16_distilled(**options):
    """DeiT-S/16 with distillation token: 22 million parameters."""
    return ViT(16, 384, 12, 6, tokens=2, distilled=True, **options)


@model()
def deit_ti16_distilled(**options):
    """DeiT-Ti/16 with distillation token: 5.9 million parameters."""
    return ViT(16, 192, 12, 3, tokens=2, distilled=True, **options)


# Weights

# Licenses and data as the model cards on the hub state them.
weights(
    "vit_b16.imagenet",
    source="hf://google/vit-base-patch16-224",
    license="apache-2.0",
    classes=1000,
    trained_on="ImageNet-21k, then ImageNet-1k",
)

_TRANSFORMERS = [
    (r"^embedding\.class_token$", "embeddings.cls_token"),
    (r"^embedding\.distillation_token$", "embeddings.distillation_token"),
    (r"^embedding\.positions$", "embeddings.position_embeddings"),
    (r"^embedding\.project\.", "embeddings.patch_embeddings.projection."),
    (r"^blocks\.", "encoder.layer."),
    (r"^norm\.", "layernorm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attention\.qkv\.", ".attention.attention.{query,key,value}."),
    (r"\.attention\.project\.", ".attention.output.dense."),
    (r"\.hidden\.", ".intermediate.dense."),
    (r"\.contract\.", ".output.dense."),
]


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    if config.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"hidden_act is {config['hidden_act']!r}; only 'gelu' is implemented")
    return {
        "patch_size": config.get("patch_size", 16),
        "width": config.get("hidden_size", 768),
        "depth": config.get("num_hidden_layers", 12),
        "heads": config.get("num_attention_heads", 12),
        "hidden": config.get("intermediate_size", 3072),
        "epsilon": config.get("layer_norm_eps", 1e-12),
        "qkv_bias": config.get("qkv_bias", True),
        "channels": config.get("num_channels", 3),
    }


@converter(
    "transformers",
    "vit",
    names=[*_TRANSFORMERS, (r"^(embeddings|encoder|layernorm)\b", r"vit.\1")],
    ignored=(r"^vit\.pooler\.",),
)
def vit_from_transformers(config: dict[str, Any], **options: Any) -> ViT:
    """ViTForImageClassification; the DeiT models without distillation token are among them."""
    return ViT(**(_settings(config) | options))


_DEIT = [*_TRANSFORMERS, (r"^(embeddings|encoder|layernorm)\b", r"deit.\1")]


@converter("transformers", "deit", names=_DEIT, ignored=(r"^deit\.pooler\.",))
def deit_from_transformers(config: dict[str, Any], **options: Any) -> ViT:
    """DeiTForImageClassification, which leaves the distillation token without a classifier."""
    return ViT(tokens=2, **(_settings(config) | options))


@converter(
    "transformers",
    "DeiTForImageClassificationWithTeacher",
    names=[*_DEIT, (r"^classifier\.", "cls_classifier.")],
)
def distilled_from_transformers(config: dict[str, Any], **options: Any) -> ViT:
    """DeiTForImageClassificationWithTeacher, whose logits are the mean of two classifiers."""
    return ViT(tokens=2, distilled=True, **(_settings(config) | options))


_TIMM = {
    "vit_tiny_patch16_224": "vit_ti16",
    "vit_small_patch16_224": "vit_s16",
    "vit_base_patch16_224": "vit_b16",
    "vit_base_patch32_224": "vit_b32",
    "vit_large_patch16_224": "vit_l16",
    "deit_tiny_patch16_224": "vit_ti16",
    "deit_small_patch16_224": "vit_s16",
    "deit_base_patch16_224": "vit_b16",
    "deit_tiny_distilled_patch16_224": "deit_ti16_distilled",
    "deit_small_distilled_patch16_224": "deit_s16_distilled",
    "deit_base_distilled_patch16_224": "deit_b16_distilled",
}


@converter(
    "timm",
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "vit_base_patch32_224",
    "vit_large_patch16_224",
    "deit_tiny_patch16_224",
    "deit_small_patch16_224",
    "deit_base_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit_small_distilled_patch16_224",
    "deit_base_distilled_patch16_224",
    names=[
        (r"^embedding\.class_token$", "cls_token"),
        (r"^embedding\.distillation_token$", "dist_token"),
        (r"^embedding\.positions$", "pos_embed"),
        (r"^embedding\.project\.", "patch_embed.proj."),
        (r"\.attention\.qkv\.", ".attn.qkv."),
        (r"\.attention\.project\.", ".attn.proj."),
        (r"\.hidden\.", ".mlp.fc1."),
        (r"\.contract\.", ".mlp.fc2."),
        (r"^classifier\.", "head."),
        (r"^distillation_classifier\.", "head_dist."),
    ],
)
def from_timm(config: dict[str, Any], **options: Any) -> ViT:
    """The networks of timm of these names."""
    return globals()[_TIMM[config["architecture"]]](**options)
