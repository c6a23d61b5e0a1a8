"""MLP-Mixer: perceptrons over the patches of an image, then over their channels (Tolstikhin et al., 2021)."""

from __future__ import annotations

from typing import Any

from ...core import ShapeError, Tensor, ops
from ...layers import Dense, Layer, LayerNormalization, StochasticDepth
from ..registry import converter, model, weights
from .classifier import Classifier, Conv, drop_rates


class Perceptron(Layer):
    """Two layers with a GELU between them: (..., C) -> (..., C)"""

    def __init__(self, hidden: int, **options: Any):
        super().__init__(**options)
        self.hidden = Dense(hidden, activation="gelu")

    def build(self, input_shape: Any) -> None:
        self.contract = Dense(input_shape[-1])

    def call(self, x: Tensor) -> Tensor:
        return self.contract(self.hidden(x))


class Block(Layer):
    """Mixes the tokens, then the channels, each added to its input: (B, T, width) -> (B, T, width)"""

    def __init__(self, tokens_hidden: int, channels_hidden: int, drop: float = 0.0, **options: Any):
        super().__init__(**options)
        self.norm1, self.norm2 = LayerNormalization(epsilon=1e-6), LayerNormalization(epsilon=1e-6)
        self.tokens, self.channels = Perceptron(tokens_hidden), Perceptron(channels_hidden)
        self.drop1, self.drop2 = StochasticDepth(drop), StochasticDepth(drop)

    def call(self, x: Tensor) -> Tensor:
        across = self.tokens(ops.transpose(self.norm1(x), (0, 2, 1)))  # (B, width, T)
        x = x + self.drop1(ops.transpose(across, (0, 2, 1)))
        return x + self.drop2(self.channels(self.norm2(x)))


class MLPMixer(Classifier):
    """(B, image_size, image_size, channels) -> (B, classes)

    The feature map is the last layer's, (B, rows, columns, width).

    Args:
        patch_size: side of the patches in pixels.
        width: length of the tokens.
        depth: number of blocks.
        drop_path: rate of stochastic depth at the last block.
        options: those of :class:`Classifier`.
    """

    def __init__(self, patch_size: int, width: int, depth: int, drop_path: float = 0.0, **options: Any):
        super().__init__(**options)
        self.stem = Conv(width, patch_size, patch_size, "valid", use_bias=True)
        self.blocks = [Block(width // 2, 4 * width, drop) for drop in drop_rates(drop_path, [depth])[0]]
        self.norm = LayerNormalization(epsilon=1e-6)

    def features(self, images: Tensor) -> list[Tensor]:
        """The patches after the last block, as one map."""
        if images.shape[1:3] != (self.image_size, self.image_size):
            raise ShapeError(
                f"The layers over the patches are made for images of {self.image_size} × {self.image_size} pixels; "
                f"received {images.shape}. Resize the images, or create the model with that image_size."
            )
        x = self.stem(images)
        batch, rows, columns, width = x.shape
        x = ops.reshape(x, (batch, rows * columns, width))
        for block in self.blocks:
            x = block(x)
        return [ops.reshape(self.norm(x), (batch, rows, columns, width))]


# Variants


@model()
def mixer_s32(**options):
    """Mixer-S/32: 19 million parameters."""
    return MLPMixer(32, 512, 8, **options)


@model()
def mixer_s16(**options):
    """Mixer-S/16: 19 million parameters."""
    return MLPMixer(16, 512, 8, **options)


@model()
def mixer_b32(**options):
    """Mixer-B/32: 60 million parameters."""
    return MLPMixer(32, 768, 12, **options)


@model(test_variant={"patch_size": 8, "width": 16, "depth": 2, "image_size": 32})
def mixer_b16(patch_size=16, width=768, depth=12, **options):
    """Mixer-B/16: 60 million parameters."""
    return MLPMixer(patch_size, width, depth, **options)


@model()
def mixer_l32(**options):
    """Mixer-L/32: 207 million parameters."""
    return MLPMixer(32, 1024, 24, **options)


@model()
def mixer_l16(**options):
    """Mixer-L/16: 208 million parameters."""
    return MLPMixer(16, 1024, 24, **options)


# Weights

# License and data as the model card on the hub states them.
weights(
    "mixer_b16.imagenet",
    source="hf://timm/mixer_b16_224.goog_in21k_ft_in1k",
    license="apache-2.0",
    classes=1000,
    trained_on="ImageNet-21k, then ImageNet-1k",
)


@converter(
    "timm",
    "mixer_s32_224",
    "mixer_s16_224",
    "mixer_b32_224",
    "mixer_b16_224",
    "mixer_l32_224",
    "mixer_l16_224",
    names=[
        (r"^stem\.", "stem.proj."),
        (r"\.(tokens|channels)\.hidden\.", r".mlp_\1.fc1."),
        (r"\.(tokens|channels)\.contract\.", r".mlp_\1.fc2."),
        (r"^classifier\.", "head."),
    ],
)
def from_timm(config: dict[str, Any], **options: Any) -> MLPMixer:
    """The networks of timm of these names."""
    return globals()[config["architecture"].removesuffix("_224")](**options)
