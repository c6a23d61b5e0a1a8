"""Inception v3: branches of convolutions of several sizes, side by side.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision (2015). The
auxiliary classifier, which the paper uses in training, is left out.
"""

from __future__ import annotations

import re
from typing import Any

from ...core import Tensor, ops
from ...layers import Layer
from ..conversion import named_weights
from ..registry import converter, model, weights
from .classifier import Classifier, ConvNorm, with_keras_pixels


class Mixed(Layer):
    """Convolutions side by side, their results one after the other: (B, H, W, C) -> (B, H, W, the sum of all filters)

    Args:
        branches: for each branch its convolutions: filters and kernel size.
        pooled: filters of the convolution behind an average pooling. None: a maximum pooling without one, and the
            last convolutions have a stride of 2, without padding.
        fork: the last convolution of each branch that has several is 1×3, and has one of 3×1 beside it.
        options: those of :class:`ConvNorm`.
    """

    def __init__(
        self,
        branches: tuple[tuple[tuple[int, Any], ...], ...],
        pooled: int | None,
        fork: bool = False,
        epsilon: float = 1e-3,
        scale: bool = True,
        count_padding: bool = True,
        **options: Any,
    ):
        super().__init__(**options)
        common = {"epsilon": epsilon, "scale": scale}
        self.fork, self.count_padding = fork, count_padding
        self.branches = []
        for branch in branches:
            convs = [ConvNorm(filters, kernel_size, **common) for filters, kernel_size in branch]
            if pooled is None:
                convs[-1] = ConvNorm(*branch[-1], 2, padding="valid", **common)
            if fork and len(branch) > 1:
                filters, (rows, columns) = branch[-1]
                convs.append(ConvNorm(filters, (columns, rows), **common))
            self.branches.append(convs)
        self.pooled = None if pooled is None else ConvNorm(pooled, 1, **common)

    def call(self, x: Tensor) -> Tensor:
        results = []
        for convs in self.branches:
            y = x
            in_a_row = convs[:-2] if self.fork and len(convs) > 1 else convs
            for conv in in_a_row:
                y = conv(y)
            results += [y] if in_a_row is convs else [convs[-2](y), convs[-1](y)]
        if self.pooled is None:
            results.append(ops.max_pool(x, 3, 2))
        else:
            results.append(self.pooled(self._averages(x)))
        return ops.concatenate(results, axis=-1)

    def _averages(self, x: Tensor) -> Tensor:
        """The means of 3×3 pixels, or of those that are within the map."""
        if self.count_padding:
            x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            return ops.average_pool(x, 3, 1)
        return ops.average_pool(x, 3, 1, "same")


def _a(pooled: int) -> tuple:
    return (((64, 1),), ((48, 1), (64, 5)), ((64, 1), (96, 3), (96, 3))), pooled, False


def _c(width: int) -> tuple:
    down, across = (7, 1), (1, 7)
    twice = ((width, 1), (width, down), (width, across), (width, down), (192, across))
    return (((192, 1),), ((width, 1), (width, across), (192, down)), twice), 192, False


_B = (((384, 3),), ((64, 1), (96, 3), (96, 3))), None, False
_D = (((192, 1), (320, 3)), ((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3))), None, False
_E = (((320, 1),), ((384, 1), (384, (1, 3))), ((448, 1), (384, 3), (384, (1, 3)))), 192, True

# Branches, filters after the pooling, and whether they fork, of each module: figures 5, 10, 6, 10 and 7 of the paper.
MODULES = (_a(32), _a(64), _a(64), _B, _c(128), _c(160), _c(160), _c(192), _D, _E, _E)


class InceptionV3(Classifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides of about 2, 4, 8, 16, 32.

    Args:
        modules: arguments of each :class:`Mixed`.
        stem: filters of the convolutions before them.
        epsilon: of the batch normalisation.
        scale: whether the batch normalisation has a factor, as in PyTorch, or only an offset, as in Keras.
        count_padding: whether averages at the edges count zeros, as in PyTorch, or not, as in Keras.
        options: those of :class:`Classifier`.
    """

    def __init__(
        self,
        modules: tuple = MODULES,
        stem: tuple[int, int, int, int, int] = (32, 32, 64, 80, 192),
        epsilon: float = 1e-3,
        scale: bool = True,
        count_padding: bool = True,
        image_size: int = 299,
        **options: Any,
    ):
        super().__init__(image_size=image_size, **options)
        common = {"epsilon": epsilon, "scale": scale}
        self.stem = [
            ConvNorm(stem[0], 3, 2, padding="valid", **common),
            ConvNorm(stem[1], 3, padding="valid", **common),
            ConvNorm(stem[2], 3, **common),
            ConvNorm(stem[3], 1, **common),
            ConvNorm(stem[4], 3, padding="valid", **common),
        ]
        self.mixed = [Mixed(*arguments, count_padding=count_padding, **common) for arguments in modules]

    def features(self, images: Tensor) -> list[Tensor]:
        """The last map of each resolution."""
        x, maps = images, []
        for index, conv in enumerate(self.stem):
            if index == 3:
                maps.append(x)
                x = ops.max_pool(x, 3, 2)
            x = conv(x)
        maps.append(x)
        x = ops.max_pool(x, 3, 2)
        for module in self.mixed:
            if module.pooled is None:
                maps.append(x)
            x = module(x)
        return [*maps, x]


# Variants

TINY = (
    ((((8, 1),), ((4, 1), (8, 3))), 4, False),
    ((((8, 3),),), None, False),
    ((((8, 1),), ((8, 1), (4, (1, 3)))), 4, True),
)


@model(test_variant={"modules": TINY, "stem": (8, 8, 8, 8, 16), "image_size": 47})
def inception_v3(**options):
    """Inception v3: 23.8 million parameters."""
    return InceptionV3(**options)


# Weights

# License and data as the model card on the hub states them.
weights(
    "inception_v3.imagenet",
    source="hf://timm/inception_v3.tf_in1k",
    license="apache-2.0",
    classes=1000,
    trained_on="ImageNet-1k",
)


def _convolutions(net: InceptionV3) -> dict[str, int]:
    """The paths of the convolutions with their numbers, in the order in which everyone makes them."""
    paths = (re.fullmatch(r"(.*)\.conv\.kernel", path) for path, _, _ in named_weights(net))
    return {match[1]: number for number, match in enumerate(filter(None, paths))}


_PARTS = {
    "a": "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 branch_pool",
    "b": "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
    "c": "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 "
    "branch7x7dbl_5 branch_pool",
    "d": "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
    "e": "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a "
    "branch3x3dbl_3b branch_pool",
}
_TIMM = [f"Conv2d_{place}" for place in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")] + [
    f"Mixed_{place}.{part}"
    for place, kind in zip(("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"), "aaabccccdee")
    for part in _PARTS[kind].split()
]


def _timm_names(net: InceptionV3) -> list:
    theirs = dict(zip(_convolutions(net), _TIMM))
    return [
        (r"^(.*)\.(conv|norm)\.", lambda m: f"{theirs.get(m[1], m[1])}.{'conv' if m[2] == 'conv' else 'bn'}."),
        (r"^classifier\.", "fc."),
    ]


@converter("timm", "inception_v3", names=_timm_names, ignored=(r"^AuxLogits\.",))
def from_timm(config: dict[str, Any], **options: Any) -> InceptionV3:
    """The network of timm and torchvision of this name."""
    return InceptionV3(**options)


def _keras_names(net: InceptionV3) -> list:
    """Keras gives the layers no names."""
    numbers = _convolutions(net) if net is not None else {}
    return [
        (r"^(.*)\.conv/", lambda m: f"conv2d_{numbers[m[1]]}/"),
        (r"^(.*)\.norm/", lambda m: f"batch_normalization_{numbers[m[1]]}/"),
        (r"^classifier/", "predictions/"),
    ]


@converter("keras", "inception_v3", names=_keras_names)
def from_keras(config: dict[str, Any], **options: Any) -> InceptionV3:
    """keras.applications.InceptionV3."""
    return with_keras_pixels(InceptionV3(**({"scale": False, "count_padding": False} | options)), "tf")
