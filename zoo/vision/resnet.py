"""ResNet: residual networks, in the forms for ImageNet and for CIFAR.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (2015), and Identity Mappings in Deep Residual
Networks (2016) for the form with activations first ("v2"). The bottleneck has its stride in the 3×3 convolution
("v1.5"), as everyone's trained weights do.
"""

from __future__ import annotations

from typing import Any

from ...core import Tensor, ops
from ...layers import BatchNormalization, Layer, StochasticDepth
from ..registry import converter, model, weights
from .classifier import Classifier, Conv, ConvNorm, SqueezeExcite, drop_rates, with_keras_pixels


class BasicBlock(Layer):
    """Two 3×3 convolutions and a shortcut: (B, H, W, C) -> (B, H / stride, W / stride, filters)"""

    def __init__(self, filters: int, strides: int = 1, project: bool = False, drop: float = 0.0, **options: Any):
        super().__init__(**options)
        self.conv1 = ConvNorm(filters, 3, strides)
        self.conv2 = ConvNorm(filters, 3, activation=None)
        self.shortcut = ConvNorm(filters, 1, strides, activation=None) if project else None
        self.drop = StochasticDepth(drop)

    def call(self, x: Tensor) -> Tensor:
        residual = self.drop(self.conv2(self.conv1(x)))
        return ops.relu(residual + (x if self.shortcut is None else self.shortcut(x)))


class Bottleneck(Layer):
    """1×1, 3×3 and 1×1 convolutions and a shortcut: (B, H, W, C) -> (B, H / stride, W / stride, filters)"""

    expansion = 4  # of the channels by the last convolution
    groups = 1  # of the 3×3 convolution

    def __init__(self, filters: int, strides: int = 1, project: bool = False, drop: float = 0.0, **options: Any):
        super().__init__(**options)
        width = filters // self.expansion
        self.conv1 = ConvNorm(width, 1)
        self.conv2 = ConvNorm(width, 3, strides, groups=self.groups)
        self.conv3 = ConvNorm(filters, 1, activation=None)
        self.shortcut = ConvNorm(filters, 1, strides, activation=None) if project else None
        self.drop = StochasticDepth(drop)

    def call(self, x: Tensor) -> Tensor:
        residual = self.drop(self.conv3(self.conv2(self.conv1(x))))
        return ops.relu(residual + (x if self.shortcut is None else self.shortcut(x)))


class OriginalBottleneck(Bottleneck):
    """The bottleneck of the paper, which has its stride in the first convolution."""

    def __init__(self, filters: int, strides: int = 1, project: bool = False, drop: float = 0.0, **options: Any):
        super().__init__(filters, 1, False, drop, **options)
        self.conv1 = ConvNorm(filters // self.expansion, 1, strides)
        self.shortcut = ConvNorm(filters, 1, strides, activation=None) if project else None


class WideBottleneck(Bottleneck):
    """The bottleneck of Wide ResNet, twice as wide inside (Zagoruyko, Komodakis, 2016)."""

    expansion = 2


class ResNeXtBottleneck(Bottleneck):
    """The bottleneck of ResNeXt 32×4d, in 32 groups (Xie, Girshick, Dollár, Tu, He, 2016)."""

    expansion, groups = 2, 32


class ResNeXt8Bottleneck(Bottleneck):
    """The bottleneck of ResNeXt 32×8d."""

    expansion, groups = 1, 32


class SEBottleneck(Bottleneck):
    """The bottleneck of SE-ResNet, whose channels are weighed before the sum (Hu, Shen, Sun, 2017)."""

    def __init__(self, filters: int, strides: int = 1, project: bool = False, drop: float = 0.0, **options: Any):
        super().__init__(filters, strides, project, drop, **options)
        self.excite = SqueezeExcite(filters // 16)

    def call(self, x: Tensor) -> Tensor:
        residual = self.drop(self.excite(self.conv3(self.conv2(self.conv1(x)))))
        return ops.relu(residual + (x if self.shortcut is None else self.shortcut(x)))


class PreActivationBottleneck(Layer):
    """The bottleneck of v2, normalised and activated before each convolution; shapes as :class:`Bottleneck`."""

    expansion = 4

    def __init__(self, filters: int, strides: int = 1, project: bool = False, drop: float = 0.0, **options: Any):
        super().__init__(**options)
        width = filters // self.expansion
        self.norm1, self.conv1 = BatchNormalization(epsilon=1e-5, momentum=0.9), Conv(width, 1)
        self.norm2, self.conv2 = BatchNormalization(epsilon=1e-5, momentum=0.9), Conv(width, 3, strides)
        self.norm3, self.conv3 = BatchNormalization(epsilon=1e-5, momentum=0.9), Conv(filters, 1)
        self.shortcut = Conv(filters, 1, strides) if project else None
        self.drop = StochasticDepth(drop)

    def call(self, x: Tensor) -> Tensor:
        y = ops.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv2(ops.relu(self.norm2(self.conv1(y))))
        return shortcut + self.drop(self.conv3(ops.relu(self.norm3(y))))


class TensorFlowBottleneck(PreActivationBottleneck):
    """The bottleneck of v2 in Keras: biases where no normalisation follows, and shortcuts that leave out pixels."""

    def __init__(self, filters: int, strides: int = 1, project: bool = False, drop: float = 0.0, **options: Any):
        super().__init__(filters, strides, project, drop, **options)
        self.strides = strides
        self.conv3 = Conv(filters, 1, use_bias=True)
        self.shortcut = Conv(filters, 1, strides, use_bias=True) if project else None

    def call(self, x: Tensor) -> Tensor:
        y = ops.relu(self.norm1(x))
        shortcut = x[:, :: self.strides, :: self.strides] if self.shortcut is None else self.shortcut(y)
        y = self.conv2(ops.relu(self.norm2(self.conv1(y))))
        return shortcut + self.drop(self.conv3(ops.relu(self.norm3(y))))


class ResNet(Classifier):
    """Stages of residual blocks: (B, H, W, channels) -> (B, classes); feature maps at strides 4, 8, 16, 32.

    Args:
        block: class of the blocks.
        depths: blocks in each stage; every stage but the first halves the resolution.
        widths: channels that come out of each stage.
        stem: filters of the first convolution.
        cifar: the first convolution is 3×3 at full resolution, without pooling after it, for small images.
        shrink_last: the last blocks of the stages halve the resolution, but for the last stage, in place of the first
            blocks, but for the first stage; and there are zeros around what is pooled: v2 as in Keras.
        drop_path: rate of stochastic depth at the last block.
        options: those of :class:`Classifier`.
    """

    def __init__(
        self,
        block: type,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        stem: int = 64,
        cifar: bool = False,
        shrink_last: bool = False,
        drop_path: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.cifar, self.shrink_last = cifar, shrink_last
        self.preactivated = issubclass(block, PreActivationBottleneck)
        if self.preactivated:
            self.stem = Conv(stem, 3 if cifar else 7, 1 if cifar else 2, use_bias=shrink_last)
            self.norm = BatchNormalization(epsilon=1e-5, momentum=0.9)
        else:
            self.stem = ConvNorm(stem, 3 if cifar else 7, 1 if cifar else 2)
        rates = drop_rates(drop_path, depths)
        self.stages = []
        channels = stem
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = []
            for index in range(depth):
                if shrink_last:
                    strides = 2 if stage < len(depths) - 1 and index == depth - 1 else 1
                    project = index == 0
                else:
                    strides = 2 if stage and index == 0 else 1
                    project = strides > 1 or channels != width
                blocks.append(block(width, strides, project, rates[stage][index]))
                channels = width
            self.stages.append(blocks)

    def features(self, images: Tensor) -> list[Tensor]:
        """The result of each stage."""
        x = self.stem(images)
        if self.shrink_last:
            x = ops.max_pool(ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)
        elif not self.cifar:
            x = ops.max_pool(x, 3, 2, [(1, 1), (1, 1)])
        maps = []
        for blocks in self.stages:
            for block in blocks:
                x = block(x)
            maps.append(x)
        if self.preactivated:
            maps[-1] = ops.relu(self.norm(x))
        return maps


# Variants for ImageNet

TINY = {"stem": 8, "widths": (8, 16), "image_size": 32}


@model(test_variant={**TINY, "depths": (1, 1)})
def resnet18(depths=(2, 2, 2, 2), widths=(64, 128, 256, 512), **options):
    """ResNet-18: 11.7 million parameters."""
    return ResNet(BasicBlock, depths, widths, **options)


@model()
def resnet34(**options):
    """ResNet-34: 21.8 million parameters."""
    return ResNet(BasicBlock, (3, 4, 6, 3), (64, 128, 256, 512), **options)


@model(test_variant={**TINY, "depths": (2, 1)})
def resnet50(depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048), **options):
    """ResNet-50 v1.5: 25.6 million parameters."""
    return ResNet(Bottleneck, depths, widths, **options)


@model()
def resnet101(**options):
    """ResNet-101 v1.5: 44.5 million parameters."""
    return ResNet(Bottleneck, (3, 4, 23, 3), (256, 512, 1024, 2048), **options)


@model()
def resnet152(**options):
    """ResNet-152 v1.5: 60.2 million parameters."""
    return ResNet(Bottleneck, (3, 8, 36, 3), (256, 512, 1024, 2048), **options)


@model(test_variant={**TINY, "depths": (2, 1)})
def resnet50_v2(depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048), **options):
    """ResNet-50 v2, with activations first: 25.5 million parameters."""
    return ResNet(PreActivationBottleneck, depths, widths, **options)


@model()
def resnet101_v2(**options):
    """ResNet-101 v2, with activations first: 44.5 million parameters."""
    return ResNet(PreActivationBottleneck, (3, 4, 23, 3), (256, 512, 1024, 2048), **options)


@model()
def resnet152_v2(**options):
    """ResNet-152 v2, with activations first: 60.2 million parameters."""
    return ResNet(PreActivationBottleneck, (3, 8, 36, 3), (256, 512, 1024, 2048), **options)


GROUPED = {"stem": 8, "widths": (64, 128), "image_size": 32, "depths": (1, 1)}


@model(test_variant=GROUPED)
def resnext50_32x4d(depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048), **options):
    """ResNeXt-50 32×4d: 25.0 million parameters."""
    return ResNet(ResNeXtBottleneck, depths, widths, **options)


@model()
def resnext101_32x8d(**options):
    """ResNeXt-101 32×8d: 88.8 million parameters."""
    return ResNet(ResNeXt8Bottleneck, (3, 4, 23, 3), (256, 512, 1024, 2048), **options)


@model(test_variant=GROUPED)
def seresnet50(depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048), **options):
    """SE-ResNet-50: 28.1 million parameters."""
    return ResNet(SEBottleneck, depths, widths, **options)


@model()
def wide_resnet50_2(**options):
    """Wide ResNet-50-2: 68.9 million parameters."""
    return ResNet(WideBottleneck, (3, 4, 6, 3), (256, 512, 1024, 2048), **options)


@model()
def wide_resnet101_2(**options):
    """Wide ResNet-101-2: 126.9 million parameters."""
    return ResNet(WideBottleneck, (3, 4, 23, 3), (256, 512, 1024, 2048), **options)


# Variants for CIFAR: 6n + 2 layers, as in section 4.2 of the first paper


def _cifar(n: int, options: dict[str, Any]) -> ResNet:
    settings = {"depths": (n, n, n), "widths": (16, 32, 64), "classes": 10, "image_size": 32}
    return ResNet(BasicBlock, stem=16, cifar=True, **(settings | options))


@model(test_variant={"depths": (1, 1), "widths": (16, 32), "image_size": 16})
def resnet20(**options):
    """ResNet-20 for CIFAR: 0.27 million parameters."""
    return _cifar(3, options)


@model()
def resnet32(**options):
    """ResNet-32 for CIFAR: 0.46 million parameters."""
    return _cifar(5, options)


@model()
def resnet44(**options):
    """ResNet-44 for CIFAR: 0.66 million parameters."""
    return _cifar(7, options)


@model()
def resnet56(**options):
    """ResNet-56 for CIFAR: 0.85 million parameters."""
    return _cifar(9, options)


@model()
def resnet110(**options):
    """ResNet-110 for CIFAR: 1.7 million parameters."""
    return _cifar(18, options)


# Weights

# Licenses and data as the model cards on the hub state them.
weights(
    "resnet50.imagenet",
    source="hf://microsoft/resnet-50",
    license="apache-2.0",
    classes=1000,
    trained_on="ImageNet-1k",
)
weights(
    "resnet18.imagenet",
    source="hf://timm/resnet18.a1_in1k",
    license="apache-2.0",
    classes=1000,
    trained_on="ImageNet-1k",
)


@converter(
    "transformers",
    "resnet",
    names=[
        (r"^stem\.", "resnet.embedder.embedder."),
        (r"^stages\.(\d+)\.(\d+)\.", r"resnet.encoder.stages.\1.layers.\2."),
        (r"\.conv([123])\.(conv|norm)", lambda m: f".layer.{int(m[1]) - 1}.{m[2]}"),
        (r"\.conv\.", ".convolution."),
        (r"\.norm\.", ".normalization."),
        (r"^classifier\.", "classifier.1."),
    ],
)
def from_transformers(config: dict[str, Any], **options: Any) -> ResNet:
    """ResNetForImageClassification."""
    if config.get("downsample_in_first_stage"):
        raise ValueError("downsampling in the first stage is not implemented")
    block = OriginalBottleneck if config.get("downsample_in_bottleneck") else Bottleneck
    block = block if config.get("layer_type", "bottleneck") == "bottleneck" else BasicBlock
    shape = {"stem": config["embedding_size"], "channels": config["num_channels"]}
    return ResNet(block, tuple(config["depths"]), tuple(config["hidden_sizes"]), **shape, **options)


@converter(
    "timm",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "seresnet50",
    "wide_resnet50_2",
    "wide_resnet101_2",
    names=[
        (r"^stem\.conv\.", "conv1."),
        (r"^stem\.norm\.", "bn1."),
        (r"^stages\.(\d+)\.", lambda m: f"layer{int(m[1]) + 1}."),
        (r"\.conv(\d)\.conv\.", r".conv\1."),
        (r"\.conv(\d)\.norm\.", r".bn\1."),
        (r"\.shortcut\.conv\.", ".downsample.0."),
        (r"\.shortcut\.norm\.", ".downsample.1."),
        (r"\.excite\.reduce\.", ".se.fc1."),
        (r"\.excite\.expand\.", ".se.fc2."),
        (r"^classifier\.", "fc."),
    ],
)
def from_timm(config: dict[str, Any], **options: Any) -> ResNet:
    """The networks of timm and torchvision of these names."""
    return globals()[config["architecture"]](**options)


@converter(
    "timm",
    "resnetv2_50",
    "resnetv2_101",
    "resnetv2_152",
    names=[
        (r"^stem\.", "stem.conv."),
        (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
        (r"\.shortcut\.", ".downsample.conv."),
        (r"^classifier\.", "head.fc."),
    ],
)
def v2_from_timm(config: dict[str, Any], **options: Any) -> ResNet:
    """The networks of timm of these names, with activations first."""
    return globals()[config["architecture"].replace("resnetv2_", "resnet") + "_v2"](**options)


def _keras_names(net: ResNet) -> list:
    """Keras numbers convolutions and normalisations from 1 on, and has the shortcut as 0."""
    names = [(r"^stages\.(\d+)\.(\d+)\.", lambda m: f"conv{int(m[1]) + 2}_block{int(m[2]) + 1}_")]
    if net is not None and net.preactivated:
        names += [
            (r"^stem/", "conv1_conv/"),
            (r"^norm/", "post_bn/"),
            (r"_norm1/", "_preact_bn/"),
            (r"_norm2/", "_1_bn/"),
            (r"_norm3/", "_2_bn/"),
            (r"_conv([123])/", r"_\1_conv/"),
            (r"_shortcut/", "_0_conv/"),
        ]
    else:
        names += [
            (r"^stem\.(conv|norm)/", r"conv1.\1/"),
            (r"_conv([123])\.", r"_\1."),
            (r"_shortcut\.", "_0."),
            (r"\.conv/", "_conv/"),
            (r"\.norm/", "_bn/"),
        ]
    return [*names, (r"^classifier/", "predictions/")]


_DEPTHS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}


@converter(
    "keras", "resnet50", "resnet101", "resnet152", "resnet50v2", "resnet101v2", "resnet152v2", names=_keras_names
)
def from_keras(config: dict[str, Any], **options: Any) -> ResNet:
    """keras.applications.ResNet50 to 152 and ResNet50V2 to 152V2, whose strides are in other places than elsewhere."""
    size, v2 = config["name"].removeprefix("resnet").replace("_", "").partition("v2")[:2]
    if size not in _DEPTHS:
        raise ValueError(f"Keras has no {config['name']}")
    settings = {"depths": _DEPTHS[size], "widths": (256, 512, 1024, 2048)} | options
    if v2:
        return with_keras_pixels(ResNet(TensorFlowBottleneck, shrink_last=True, **settings), "tf")
    return with_keras_pixels(ResNet(OriginalBottleneck, **settings), "caffe")
