"""Swin: a transformer whose tokens look at each other within windows, which shift from block to block.

Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo: Swin Transformer: Hierarchical Vision Transformer using Shifted Windows (2021).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core import Tensor, Variable, ops
from ...layers import Dense, Layer, LayerNormalization, StochasticDepth
from ..registry import converter, model, weights
from .classifier import Classifier, Conv, drop_rates

INITIAL = "truncated_normal"  # of standard deviation 0.02


class WindowAttention(Layer):
    """The tokens of a window look at each other: (B, H, W, width) -> (B, H, W, width)

    What is added to the scores is learnt for each distance between two tokens and each head. A map that windows do not
    cover evenly is padded with zeros at its end. The windows are no larger than the map that the layer is built for.

    Args:
        window: side of the windows in tokens.
        shifted: the windows begin in the middle of those of the layer before. Those that go over the edge are made of
            what is left at both ends, without a look from one end at the other.
        pad_first: whether padding comes before the shift, as in transformers, or after it, as in timm.
    """

    def __init__(self, width: int, heads: int, window: int, shifted: bool, pad_first: bool = True, **options: Any):
        super().__init__(**options)
        if width % heads:
            raise ValueError(f"width is a multiple of heads; received {width} and {heads}.")
        self.heads, self.window, self.shifted, self.pad_first = heads, window, shifted, pad_first
        self.qkv = Dense(3 * width, kernel_initializer=INITIAL)
        self.project = Dense(width, kernel_initializer=INITIAL)

    def build(self, input_shape: Any) -> None:
        self.sides = rows, columns = tuple(min(self.window, extent) for extent in input_shape[1:3])
        distances = (2 * rows - 1) * (2 * columns - 1)
        self.relative_positions = self.add_weight((distances, self.heads), INITIAL, name="relative_positions")
        row, column = (place.ravel() for place in np.indices(self.sides))
        down, right = row[:, None] - row, column[:, None] - column  # (N, N) from key to query
        self.distance = (down + rows - 1) * (2 * columns - 1) + right + columns - 1

    def adapt_positions(self, value: np.ndarray, variable: Variable, format: str) -> np.ndarray:
        """What was learnt for larger windows, (distances, heads), for the distances that there are in those here."""
        side = math.isqrt(len(value))
        if variable is not self.relative_positions or value.shape != (side**2, self.heads) or side % 2 == 0:
            return value
        spare = [(side - (2 * extent - 1)) // 2 for extent in self.sides]
        if min(spare) < 0:
            return value
        square = value.reshape(side, side, self.heads)
        return square[spare[0] : side - spare[0], spare[1] : side - spare[1]].reshape(-1, self.heads)

    def call(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        rows, columns = self.sides
        sides = zip((height, width), self.sides)
        shifts = [side // 2 if self.shifted and extent > side else 0 for extent, side in sides]
        margins = ((0, 0), (0, -height % rows), (0, -width % columns), (0, 0))
        if self.pad_first:
            x = _rolled(ops.pad(x, margins), [-shift for shift in shifts])
        else:
            x = ops.pad(_rolled(x, [-shift for shift in shifts]), margins)
        down, across = x.shape[1] // rows, x.shape[2] // columns  # how many windows
        x = ops.reshape(x, (batch, down, rows, across, columns, channels))
        x = ops.reshape(ops.transpose(x, (0, 2, 4, 1, 3, 5)), (batch, rows * columns, down * across, channels))

        # The heads of all windows side by side: (B, N, windows · heads, d)
        qkv = ops.reshape(self.qkv(x), (batch, rows * columns, down * across, 3, channels))
        heads = (batch, rows * columns, down * across * self.heads, channels // self.heads)
        q, k, v = (ops.reshape(qkv[:, :, :, which], heads) for which in range(3))
        x = ops.dot_product_attention(q, k, v, bias=self._bias(down, across, shifts))
        x = self.project(ops.reshape(x, (batch, rows * columns, down * across, channels)))

        x = ops.reshape(x, (batch, rows, columns, down, across, channels))
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 4, 2, 5)), (batch, down * rows, across * columns, channels))
        if self.pad_first:
            return _rolled(x, shifts)[:, :height, :width]
        return _rolled(x[:, :height, :width], shifts)

    def _bias(self, down: int, across: int, shifts: list[int]) -> Tensor:
        """What is added to the scores: (windows · heads, N, N)"""
        windows, length = down * across, self.sides[0] * self.sides[1]
        bias = ops.transpose(ops.take(self.relative_positions, self.distance, axis=0), (2, 0, 1))
        bias = ops.broadcast_to(bias, (windows, self.heads, length, length))
        if any(shifts):
            bias = bias + _edges(down, across, self.sides, shifts)
        return ops.reshape(bias, (windows * self.heads, length, length))


def _rolled(x: Tensor, shifts: list[int]) -> Tensor:
    return ops.roll(x, shifts, axis=(1, 2)) if any(shifts) else x


def _edges(down: int, across: int, sides: tuple[int, ...], shifts: list[int]) -> np.ndarray:
    """-100 between tokens that only the shift made neighbours, else 0: (windows, 1, N, N)"""
    regions = []
    for windows, side, shift in zip((down, across), sides, shifts):
        place = np.arange(windows * side)
        regions.append((place >= len(place) - shift if shift else np.zeros_like(place)).reshape(windows, side))
    region = 2 * regions[0][:, None, :, None] + regions[1][None, :, None, :]  # (down, across, rows, columns)
    region = region.reshape(down * across, 1, -1)
    return np.where(region[..., :, None] == region[..., None, :], 0, -100).astype("float32")


class Block(Layer):
    """Attention and a perceptron, each normalised before and added to its input; shapes as :class:`WindowAttention`.

    Args:
        hidden: units between the two layers of the perceptron.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        window: int,
        shifted: bool,
        hidden: int,
        drop: float = 0.0,
        pad_first: bool = True,
        **options: Any,
    ):
        super().__init__(**options)
        self.norm1, self.norm2 = LayerNormalization(epsilon=1e-5), LayerNormalization(epsilon=1e-5)
        self.attention = WindowAttention(width, heads, window, shifted, pad_first)
        self.hidden = Dense(hidden, activation="gelu", kernel_initializer=INITIAL)
        self.contract = Dense(width, kernel_initializer=INITIAL)
        self.drop1, self.drop2 = StochasticDepth(drop), StochasticDepth(drop)

    def call(self, x: Tensor) -> Tensor:
        x = x + self.drop1(self.attention(self.norm1(x)))
        return x + self.drop2(self.contract(self.hidden(self.norm2(x))))


class PatchMerging(Layer):
    """Four neighbours become one token: (B, H, W, C) -> (B, ⌈H / 2⌉, ⌈W / 2⌉, width)"""

    def __init__(self, width: int, **options: Any):
        super().__init__(**options)
        self.norm = LayerNormalization(epsilon=1e-5)
        self.reduction = Dense(width, use_bias=False, kernel_initializer=INITIAL)

    def call(self, x: Tensor) -> Tensor:
        x = ops.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        four = [x[:, row::2, column::2] for column in range(2) for row in range(2)]
        return self.reduction(self.norm(ops.concatenate(four, axis=-1)))


class Swin(Classifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides 4, 8, 16, 32 of a patch size of 4.

    Images need not be multiples of anything: they and the maps are padded at their ends.

    Args:
        width: length of the tokens in the first stage; each stage doubles it.
        depths: blocks in each stage.
        heads: of the attention in each stage.
        window: side of the windows in tokens.
        patch_size: side of the patches in pixels.
        ratio: units between the two layers of the perceptrons, in widths.
        pad_first: see :class:`WindowAttention`.
        drop_path: rate of stochastic depth at the last block.
        options: those of :class:`Classifier`.
    """

    _head_layers = ("norm", "dropout", "classifier")

    def __init__(
        self,
        width: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        window: int = 7,
        patch_size: int = 4,
        ratio: float = 4.0,
        pad_first: bool = True,
        drop_path: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.patch_size = patch_size
        self.stem = Conv(width, patch_size, patch_size, "valid", use_bias=True, kernel_initializer=INITIAL)
        self.stem_norm = LayerNormalization(epsilon=1e-5)
        widths = [width * 2**stage for stage in range(len(depths))]
        self.mergers = [PatchMerging(wide) for wide in widths[1:]]
        self.stages = [
            [
                Block(wide, many, window, bool(index % 2), int(ratio * wide), drop, pad_first)
                for index, drop in enumerate(drops)
            ]
            for wide, many, drops in zip(widths, heads, drop_rates(drop_path, depths), strict=True)
        ]
        self.norm = LayerNormalization(epsilon=1e-5)

    def features(self, images: Tensor) -> list[Tensor]:
        """The result of each stage."""
        margins = [(0, -extent % self.patch_size) for extent in images.shape[1:3]]
        x = self.stem_norm(self.stem(ops.pad(images, ((0, 0), *margins, (0, 0)))))
        maps = []
        for index, blocks in enumerate(self.stages):
            if index:
                x = self.mergers[index - 1](x)
            for block in blocks:
                x = block(x)
            maps.append(x)
        return maps

    def head(self, features: Tensor) -> Tensor:
        """The coarsest feature map (B, H, W, C) -> logits (B, classes)."""
        return super().head(self.norm(features))


# Variants


@model(test_variant={"width": 8, "depths": (2, 2), "heads": (2, 4), "window": 3, "image_size": 30})
def swin_tiny(width=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), **options):
    """Swin-T: 28.3 million parameters."""
    return Swin(width, depths, heads, **options)


@model()
def swin_small(**options):
    """Swin-S: 49.6 million parameters."""
    return Swin(96, (2, 2, 18, 2), (3, 6, 12, 24), **options)


@model()
def swin_base(**options):
    """Swin-B: 87.8 million parameters."""
    return Swin(128, (2, 2, 18, 2), (4, 8, 16, 32), **options)


@model()
def swin_base_384(**options):
    """Swin-B for images of 384 pixels, with windows of 12 tokens: 87.9 million parameters."""
    return Swin(128, (2, 2, 18, 2), (4, 8, 16, 32), **({"window": 12, "image_size": 384} | options))


@model()
def swin_large(**options):
    """Swin-L: 196.5 million parameters."""
    return Swin(192, (2, 2, 18, 2), (6, 12, 24, 48), **options)


@model()
def swin_large_384(**options):
    """Swin-L for images of 384 pixels, with windows of 12 tokens: 196.7 million parameters."""
    return Swin(192, (2, 2, 18, 2), (6, 12, 24, 48), **({"window": 12, "image_size": 384} | options))


# Weights

# License and data as the model card on the hub states them.
weights(
    "swin_tiny.imagenet",
    source="hf://timm/swin_tiny_patch4_window7_224.ms_in1k",
    license="mit",
    classes=1000,
    trained_on="ImageNet-1k",
)


@converter(
    "transformers",
    "swin",
    names=[
        (r"^stem\.", "swin.embeddings.patch_embeddings.projection."),
        (r"^stem_norm\.", "swin.embeddings.norm."),
        (r"^norm\.", "swin.layernorm."),
        (r"^mergers\.(\d+)\.", r"swin.encoder.layers.\1.downsample."),
        (r"^stages\.(\d+)\.(\d+)\.", r"swin.encoder.layers.\1.blocks.\2."),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"\.attention\.qkv\.", ".attention.self.{query,key,value}."),
        (r"\.attention\.project\.", ".attention.output.dense."),
        (r"\.attention\.relative_positions$", ".attention.self.relative_position_bias_table"),
        (r"\.hidden\.", ".intermediate.dense."),
        (r"\.contract\.", ".output.dense."),
    ],
    ignored=(r"\.relative_position_index$",),
)
def from_transformers(config: dict[str, Any], **options: Any) -> Swin:
    """SwinForImageClassification."""
    expected = {"hidden_act": "gelu", "use_absolute_embeddings": False, "qkv_bias": True, "layer_norm_eps": 1e-5}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key} is {config[key]!r}; only {value!r} is implemented")
    settings = {
        "window": config.get("window_size", 7),
        "patch_size": config.get("patch_size", 4),
        "ratio": config.get("mlp_ratio", 4.0),
        "channels": config.get("num_channels", 3),
    }
    return Swin(config["embed_dim"], tuple(config["depths"]), tuple(config["num_heads"]), **(settings | options))


_TIMM = {
    "swin_tiny_patch4_window7_224": "swin_tiny",
    "swin_small_patch4_window7_224": "swin_small",
    "swin_base_patch4_window7_224": "swin_base",
    "swin_base_patch4_window12_384": "swin_base_384",
    "swin_large_patch4_window7_224": "swin_large",
    "swin_large_patch4_window12_384": "swin_large_384",
}


@converter(
    "timm",
    "swin_tiny_patch4_window7_224",
    "swin_small_patch4_window7_224",
    "swin_base_patch4_window7_224",
    "swin_base_patch4_window12_384",
    "swin_large_patch4_window7_224",
    "swin_large_patch4_window12_384",
    names=[
        (r"^stem\.", "patch_embed.proj."),
        (r"^stem_norm\.", "patch_embed.norm."),
        (r"^mergers\.(\d+)\.", lambda m: f"layers.{int(m[1]) + 1}.downsample."),
        (r"^stages\.(\d+)\.(\d+)\.", r"layers.\1.blocks.\2."),
        (r"\.attention\.qkv\.", ".attn.qkv."),
        (r"\.attention\.project\.", ".attn.proj."),
        (r"\.attention\.relative_positions$", ".attn.relative_position_bias_table"),
        (r"\.hidden\.", ".mlp.fc1."),
        (r"\.contract\.", ".mlp.fc2."),
        (r"^classifier\.", "head.fc."),
    ],
    ignored=(r"\.relative_position_index$", r"\.attn_mask$"),
)
def from_timm(config: dict[str, Any], **options: Any) -> Swin:
    """The networks of timm of these names."""
    return globals()[_TIMM[config["architecture"]]](**({"pad_first": False} | options))
