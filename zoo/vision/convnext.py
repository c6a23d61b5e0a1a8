"""ConvNeXt: a convolutional network with the manners of a transformer.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: A ConvNet for the 2020s (2022). Woo et al.: ConvNeXt V2 (2023), which
normalises the responses of the channels in place of scaling them.
"""

from __future__ import annotations

from typing import Any

from ...core import Tensor, ops
from ...layers import Dense, Layer, LayerNormalization, StochasticDepth
from ...layers.initializers import Constant
from ..registry import converter, model
from .classifier import Classifier, Conv, DepthwiseConv, drop_rates, with_keras_pixels

INITIAL = "truncated_normal"


class ResponseNormalization(Layer):
    """x + gamma · x · (its norm over the map / the mean norm of the channels) + beta: (B, H, W, C) -> (B, H, W, C)"""

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight(input_shape[-1:], "zeros", name="gamma")
        self.beta = self.add_weight(input_shape[-1:], "zeros", name="beta")

    def call(self, x: Tensor) -> Tensor:
        norm = ops.sqrt(ops.sum(ops.square(x), axis=(1, 2), keepdims=True) + 1e-12)  # (B, 1, 1, C)
        share = norm / (ops.mean(norm, axis=-1, keepdims=True) + 1e-6)
        return self.gamma * (x * share) + self.beta + x


class Block(Layer):
    """A 7×7 convolution of each channel, then a perceptron at each pixel: (B, H, W, width) -> (B, H, W, width)

    Args:
        version: 1 scales the result channel by channel; 2 normalises the responses within the perceptron.
    """

    def __init__(self, width: int, drop: float = 0.0, version: int = 1, **options: Any):
        super().__init__(**options)
        self.width, self.version = width, version
        self.depthwise = DepthwiseConv(7, use_bias=True, depthwise_initializer=INITIAL)
        self.norm = LayerNormalization(epsilon=1e-6)
        self.hidden = Dense(4 * width, activation="gelu", kernel_initializer=INITIAL)
        self.response = ResponseNormalization() if version == 2 else None
        self.contract = Dense(width, kernel_initializer=INITIAL)
        self.drop = StochasticDepth(drop)

    def build(self, input_shape: Any) -> None:
        if self.version == 1:
            self.scale = self.add_weight((self.width,), Constant(1e-6), name="scale")

    def call(self, x: Tensor) -> Tensor:
        y = self.hidden(self.norm(self.depthwise(x)))
        if self.version == 2:
            return x + self.drop(self.contract(self.response(y)))
        return x + self.drop(self.contract(y) * self.scale)


class ConvNeXt(Classifier):
    """(B, H, W, channels) -> (B, classes); feature maps at strides 4, 8, 16, 32.

    Args:
        depths: blocks in each stage.
        widths: channels of each stage.
        version: 1 or 2.
        drop_path: rate of stochastic depth at the last block.
        options: those of :class:`Classifier`.
    """

    _head_layers = ("norm", "dropout", "classifier")

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        version: int = 1,
        drop_path: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.stem = Conv(widths[0], 4, 4, "valid", use_bias=True, kernel_initializer=INITIAL)
        self.stem_norm = LayerNormalization(epsilon=1e-6)
        rates = drop_rates(drop_path, depths)
        self.downsamplers = [
            [
                LayerNormalization(epsilon=1e-6),
                Conv(width, 2, 2, "valid", use_bias=True, kernel_initializer=INITIAL),
            ]
            for width in widths[1:]
        ]
        self.stages = [[Block(width, drop, version) for drop in drops] for width, drops in zip(widths, rates)]
        self.norm = LayerNormalization(epsilon=1e-6)

    def features(self, images: Tensor) -> list[Tensor]:
        """The result of each stage."""
        x = self.stem_norm(self.stem(images))
        maps = []
        for index, blocks in enumerate(self.stages):
            if index:
                norm, conv = self.downsamplers[index - 1]
                x = conv(norm(x))
            for block in blocks:
                x = block(x)
            maps.append(x)
        return maps

    def head(self, features: Tensor) -> Tensor:
        """The coarsest feature map (B, H, W, C) -> logits (B, classes)."""
        return self.classifier(self.dropout(self.norm(ops.mean(features, axis=(1, 2)))))


# Variants

TINY = {"depths": (1, 2), "widths": (8, 16), "image_size": 32}


@model(test_variant=TINY)
def convnext_tiny(depths=(3, 3, 9, 3), widths=(96, 192, 384, 768), **options):
    """ConvNeXt-T: 28.6 million parameters."""
    return ConvNeXt(depths, widths, **options)


@model()
def convnext_small(**options):
    """ConvNeXt-S: 50.2 million parameters."""
    return ConvNeXt((3, 3, 27, 3), (96, 192, 384, 768), **options)


@model()
def convnext_base(**options):
    """ConvNeXt-B: 88.6 million parameters."""
    return ConvNeXt((3, 3, 27, 3), (128, 256, 512, 1024), **options)


@model()
def convnext_large(**options):
    """ConvNeXt-L: 198 million parameters."""
    return ConvNeXt((3, 3, 27, 3), (192, 384, 768, 1536), **options)


@model()
def convnext_xlarge(**options):
    """ConvNeXt-XL: 350 million parameters."""
    return ConvNeXt((3, 3, 27, 3), (256, 512, 1024, 2048), **options)


@model()
def convnextv2_atto(**options):
    """ConvNeXt V2-A: 3.7 million parameters."""
    return ConvNeXt((2, 2, 6, 2), (40, 80, 160, 320), version=2, **options)


@model(test_variant=TINY)
def convnextv2_tiny(depths=(3, 3, 9, 3), widths=(96, 192, 384, 768), **options):
    """ConvNeXt V2-T: 28.6 million parameters."""
    return ConvNeXt(depths, widths, version=2, **options)


@model()
def convnextv2_base(**options):
    """ConvNeXt V2-B: 88.7 million parameters."""
    return ConvNeXt((3, 3, 27, 3), (128, 256, 512, 1024), version=2, **options)


# Weights

_TRANSFORMERS = [
    (r"^stem\.", "embeddings.patch_embeddings."),
    (r"^stem_norm\.", "embeddings.layernorm."),
    (r"^norm\.", "layernorm."),
    (r"^downsamplers\.(\d+)\.", lambda m: f"encoder.stages.{int(m[1]) + 1}.downsampling_layer."),
    (r"^stages\.(\d+)\.(\d+)\.", r"encoder.stages.\1.layers.\2."),
    (r"\.depthwise\.", ".dwconv."),
    (r"\.norm\.", ".layernorm."),
    (r"\.hidden\.", ".pwconv1."),
    (r"\.response\.", ".grn."),
    (r"\.contract\.", ".pwconv2."),
    (r"\.scale$", ".layer_scale_parameter"),
]


def _from_transformers(config: dict[str, Any], version: int, options: dict[str, Any]) -> ConvNeXt:
    if config.get("hidden_act", "gelu") != "gelu" or config.get("patch_size", 4) != 4:
        raise ValueError("only hidden_act 'gelu' and patch_size 4 are implemented")
    depths, widths = tuple(config["depths"]), tuple(config["hidden_sizes"])
    return ConvNeXt(depths, widths, version, **({"channels": config.get("num_channels", 3)} | options))


@converter("transformers", "convnext", names=[*_TRANSFORMERS, (r"^(embeddings|encoder|layernorm)\b", r"convnext.\1")])
def from_transformers(config: dict[str, Any], **options: Any) -> ConvNeXt:
    """ConvNextForImageClassification."""
    if config.get("layer_scale_init_value", 1e-6) <= 0:
        raise ValueError("layer_scale_init_value is 0; blocks without scale are not implemented")
    return _from_transformers(config, 1, options)


@converter(
    "transformers", "convnextv2", names=[*_TRANSFORMERS, (r"^(embeddings|encoder|layernorm)\b", r"convnextv2.\1")]
)
def v2_from_transformers(config: dict[str, Any], **options: Any) -> ConvNeXt:
    """ConvNextV2ForImageClassification."""
    return _from_transformers(config, 2, options)


@converter(
    "timm",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
    "convnext_large",
    "convnext_xlarge",
    "convnextv2_atto",
    "convnextv2_tiny",
    "convnextv2_base",
    names=[
        (r"^stem\.", "stem.0."),
        (r"^stem_norm\.", "stem.1."),
        (r"^norm\.", "head.norm."),
        (r"^downsamplers\.(\d+)\.", lambda m: f"stages.{int(m[1]) + 1}.downsample."),
        (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
        (r"\.depthwise\.", ".conv_dw."),
        (r"\.hidden\.", ".mlp.fc1."),
        (r"\.response\.", ".mlp.grn."),
        (r"\.contract\.", ".mlp.fc2."),
        (r"\.scale$", ".gamma"),
        (r"^classifier\.", "head.fc."),
    ],
)
def from_timm(config: dict[str, Any], **options: Any) -> ConvNeXt:
    """The networks of timm of these names."""
    return globals()[config["architecture"]](**options)


@converter(
    "keras",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
    "convnext_large",
    "convnext_xlarge",
    names=[
        (r"^stem/", "stem_conv/"),
        (r"^stem_norm/", "stem_layernorm/"),
        (r"^downsamplers\.(\d)\.0/", r"downsampling_layernorm_\1/"),
        (r"^downsamplers\.(\d)\.1/", r"downsampling_conv_\1/"),
        (r"^stages\.(\d)\.(\d+)(\.|/)", r"stage_\1_block_\2_"),
        (r"_depthwise/", "_depthwise_conv/"),
        (r"_norm/", "_layernorm/"),
        (r"_hidden/", "_pointwise_conv_1/"),
        (r"_contract/", "_pointwise_conv_2/"),
        (r"_scale$", "_layer_scale"),
        (r"^norm/", "head_layernorm/"),
        (r"^classifier/", "head_dense/"),
    ],
    renamed=[
        (r"^convnext_[a-z]+_", ""),
        (r"_layer_scale/.*", "_layer_scale"),
        (r"^layer_normalization_0/", "head_layernorm/"),  # without the last layer it has no name
    ],
)
def from_keras(config: dict[str, Any], **options: Any) -> ConvNeXt:
    """keras.applications.ConvNeXtTiny to XLarge, but for their layer that prepares the images."""
    return with_keras_pixels(globals()[config["name"]](**options), "torch")
