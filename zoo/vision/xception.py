"""Xception: Inception's branches taken to their end, a convolution for each channel (Chollet, 2016)."""

from __future__ import annotations

from typing import Any

from ...core import Tensor, ops
from ...layers import BatchNormalization, Layer
from ..registry import converter, model
from .classifier import TENSORFLOW, Classifier, Conv, ConvNorm, DepthwiseConv, with_keras_pixels


class SeparableConv(Layer):
    """Filter each channel, mix them, normalise: (B, H, W, C) -> (B, H, W, filters)"""

    def __init__(self, filters: int, epsilon: float = 1e-5, **options: Any):
        super().__init__(**options)
        self.depthwise, self.pointwise = DepthwiseConv(3), Conv(filters, 1)
        self.norm = BatchNormalization(epsilon=epsilon, momentum=0.9)

    def call(self, x: Tensor) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(x)))


class Block(Layer):
    """Separable convolutions, each of what is positive, and a shortcut: (B, H, W, C) -> (B, H, W, widths[-1])

    Args:
        widths: filters of the convolutions.
        shrink: a pooling halves the resolution, and the shortcut is a convolution.
        activate: whether the first convolution too sees only what is positive.
        padding: of the pooling: "even" as in PyTorch, "same" as in TensorFlow.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        shrink: bool,
        activate: bool = True,
        padding: str = "even",
        epsilon: float = 1e-5,
        **options: Any,
    ):
        super().__init__(**options)
        self.activate, self.padding = activate, padding
        self.convs = [SeparableConv(width, epsilon) for width in widths]
        self.shortcut = ConvNorm(widths[-1], 1, 2, activation=None, epsilon=epsilon) if shrink else None

    def call(self, x: Tensor) -> Tensor:
        y = x
        for index, conv in enumerate(self.convs):
            y = conv(ops.relu(y) if index or self.activate else y)
        if self.shortcut is None:
            return x + y
        return self.shortcut(x) + ops.max_pool(y, 3, 2, [(1, 1), (1, 1)] if self.padding == "even" else "same")


class Xception(Classifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides of about 2, 4, 8, 16, 32.

    Args:
        stem: filters of the two convolutions at the beginning.
        entry: filters of the blocks that each halve the resolution.
        middle: number of blocks after them, of three convolutions each.
        leave: filters of the two convolutions in the last block.
        top: filters of the two convolutions before the pooling.
        padding: of the poolings: "even" as in PyTorch, "same" as in TensorFlow.
        epsilon: of the batch normalisation.
        options: those of :class:`Classifier`.
    """

    def __init__(
        self,
        stem: tuple[int, int] = (32, 64),
        entry: tuple[int, ...] = (128, 256, 728),
        middle: int = 8,
        leave: tuple[int, int] = (728, 1024),
        top: tuple[int, int] = (1536, 2048),
        padding: str = "even",
        epsilon: float = 1e-5,
        image_size: int = 299,
        **options: Any,
    ):
        super().__init__(image_size=image_size, **options)
        common = {"padding": padding, "epsilon": epsilon}
        self.stem = [
            ConvNorm(stem[0], 3, 2, padding="valid", epsilon=epsilon),
            ConvNorm(stem[1], 3, padding="valid", epsilon=epsilon),
        ]
        self.blocks = [
            *(Block((width, width), True, activate=bool(index), **common) for index, width in enumerate(entry)),
            *(Block((entry[-1],) * 3, False, **common) for _ in range(middle)),
            Block(leave, True, **common),
        ]
        self.top = [SeparableConv(width, epsilon) for width in top]

    def features(self, images: Tensor) -> list[Tensor]:
        """The last map of each resolution."""
        x, maps = self.stem[1](self.stem[0](images)), []
        for block in self.blocks:
            if block.shortcut is not None:
                maps.append(x)
            x = block(x)
        for conv in self.top:
            x = ops.relu(conv(x))
        return [*maps, x]


# Variants


@model(
    test_variant={
        "stem": (8, 8),
        "entry": (8, 16),
        "middle": 1,
        "leave": (16, 16),
        "top": (16, 16),
        "image_size": 35,
    }
)
def xception(**options):
    """Xception: 22.9 million parameters."""
    return Xception(**options)


# Weights


def _place(match: Any) -> str:
    """The place among timm's activations, convolutions and normalisations; the first block begins without the first."""
    block, conv = int(match[1]), int(match[2])
    first = 3 * conv + (1 if block else 0)
    if match[3] == "norm":
        return f"block{block + 1}.rep.{first + 1}."
    return f"block{block + 1}.rep.{first}.{'conv1' if match[3] == 'depthwise' else 'pointwise'}."


@converter(
    "timm",
    "legacy_xception",
    "xception",
    names=[
        (r"^stem\.(\d)\.conv\.", lambda m: f"conv{int(m[1]) + 1}."),
        (r"^stem\.(\d)\.norm\.", lambda m: f"bn{int(m[1]) + 1}."),
        (r"^blocks\.(\d+)\.convs\.(\d)\.(depthwise|pointwise|norm)\.", _place),
        (r"^blocks\.(\d+)\.shortcut\.conv\.", lambda m: f"block{int(m[1]) + 1}.skip."),
        (r"^blocks\.(\d+)\.shortcut\.norm\.", lambda m: f"block{int(m[1]) + 1}.skipbn."),
        (r"^top\.(\d)\.depthwise\.", lambda m: f"conv{int(m[1]) + 3}.conv1."),
        (r"^top\.(\d)\.pointwise\.", lambda m: f"conv{int(m[1]) + 3}.pointwise."),
        (r"^top\.(\d)\.norm\.", lambda m: f"bn{int(m[1]) + 3}."),
        (r"^classifier\.", "fc."),
    ],
)
def from_timm(config: dict[str, Any], **options: Any) -> Xception:
    """The network of timm of this name, its older one included."""
    return Xception(**options)


def _keras_names(net: Xception) -> list:
    """Keras counts the first convolutions as a block, and gives the shortcuts no names."""
    blocks = net.blocks if net is not None else []
    shortcuts = [number for number, block in enumerate(blocks) if block.shortcut is not None]
    top = len(blocks) + 2
    return [
        (r"^stem\.(\d)\.conv/", lambda m: f"block1_conv{int(m[1]) + 1}/"),
        (r"^stem\.(\d)\.norm/", lambda m: f"block1_conv{int(m[1]) + 1}_bn/"),
        (r"^blocks\.(\d+)\.shortcut\.conv/", lambda m: f"conv2d_{shortcuts.index(int(m[1]))}/"),
        (r"^blocks\.(\d+)\.shortcut\.norm/", lambda m: f"batch_normalization_{shortcuts.index(int(m[1]))}/"),
        (r"^blocks\.(\d+)\.convs\.(\d)\.", lambda m: f"block{int(m[1]) + 2}_sepconv{int(m[2]) + 1}."),
        (r"^top\.(\d)\.", lambda m: f"block{top}_sepconv{int(m[1]) + 1}."),
        (r"\.depthwise/kernel", "/depthwise_kernel"),
        (r"\.pointwise/kernel", "/pointwise_kernel"),
        (r"\.norm/", "_bn/"),
        (r"^classifier/", "predictions/"),
    ]


@converter("keras", "xception", names=_keras_names)
def from_keras(config: dict[str, Any], **options: Any) -> Xception:
    """keras.applications.Xception."""
    return with_keras_pixels(Xception(**(TENSORFLOW | options)), "tf")
