"""What all image classifiers share: the head on their features, what they know about their data, and layers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ...core import Tensor, ops
from ...layers import BatchNormalization, Conv2D, Dense, DepthwiseConv2D, Dropout, Layer, activations
from ...layers.serialization import Serializable, serialize
from ...training import Model
from .preprocess import Preprocess


class Card(Serializable):
    """What is known of trained weights.

    Args:
        preprocess: how images become the pixels they were trained on.
        labels: names of the classes.
        license: as the source documents it.
        source: where the weights come from.
    """

    def __init__(
        self,
        preprocess: Preprocess | None = None,
        labels: list[str] | None = None,
        license: str | None = None,
        source: str | None = None,
    ):
        self.preprocess, self.labels, self.license, self.source = preprocess, labels, license, source

    def get_config(self) -> dict[str, Any]:
        """The facts as they are now, ready for JSON."""
        return {name: serialize(value) for name, value in vars(self).items() if not name.startswith("_")}


class Classifier(Model):
    """Normalised pixels (B, H, W, channels) -> logits (B, classes).

    A family makes its layers in ``__init__`` and defines ``features(images)``, the list of feature maps from the
    finest to the coarsest. The last layer is ``self.classifier``.

    Args:
        classes: number of logits.
        channels: of the images.
        image_size: side of the images it is meant for, in pixels.
        features_only: the model returns the list of feature maps; its head is never built.
        dropout: share of the pooled features that is dropped in training.
        card: what is known of the weights.
    """

    _classifiers: tuple[str, ...] = ("classifier",)  # the attributes that give logits
    _head_layers: tuple[str, ...] = ("dropout", "classifier")  # those that the features do without

    def __init__(
        self,
        classes: int = 1000,
        channels: int = 3,
        image_size: int = 224,
        features_only: bool = False,
        dropout: float = 0.0,
        card: Card | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        if classes < 1 or channels < 1:
            raise ValueError(f"classes and channels are positive; received {classes} and {channels}.")
        self.classes, self.channels, self.image_size, self.features_only = (
            classes,
            channels,
            image_size,
            features_only,
        )
        self.card = Card() if card is None else card
        self.dropout = Dropout(dropout)
        self.classifier = Dense(classes)

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps (B, H / stride, W / stride, C) from the finest to the coarsest."""
        raise NotImplementedError(f"{type(self).__name__} has no features(images); write it.")

    def head(self, features: Tensor) -> Tensor:
        """The coarsest feature map (B, H, W, C) -> logits (B, classes)."""
        return self.classifier(self.dropout(ops.mean(features, axis=(1, 2))))

    def call(self, images: Tensor) -> Any:
        maps = self.features(images)
        return maps if self.features_only else self.head(maps[-1])

    def build_default(self) -> None:
        """Create the weights; nothing is computed."""
        if not self.built:
            self.build((1, self.image_size, self.image_size, self.channels))
            self.built = True

    def replace_head(self, classes: int) -> None:
        """Put a new, random classifier in place of the last layer. Compile the model afterwards."""
        self.classes = self._arguments["classes"] = classes
        for name in self._classifiers:
            width = getattr(self, name).kernel.shape[0]
            setattr(self, name, Dense(classes))
            with self._scope():
                getattr(self, name).build((1, width))
        self.card.labels = None

    def remove_head(self) -> None:
        """Return feature maps from now on, and forget the layers that only logits need."""
        self.features_only = self._arguments["features_only"] = True
        for name in self._head_layers:
            setattr(self, name, None)

    # What is known of the data

    @property
    def preprocess(self) -> Preprocess:
        """Image (path, bytes, Pillow image, array) -> the pixels that the model takes."""
        if self.card.preprocess is not None:
            return self.card.preprocess
        size = (self.image_size, self.image_size)
        return Preprocess(size) if self.channels == 3 else Preprocess(size, mean=(0.5,), std=(0.5,))

    @property
    def labels(self) -> list[str] | None:
        """Names of the classes, where they are known."""
        return self.card.labels

    @property
    def license(self) -> str | None:
        """License of the weights, where it is known."""
        return self.card.license

    @property
    def source(self) -> str | None:
        """Where the weights come from."""
        return self.card.source

    def classify(self, images: Any, top: int = 5) -> list[list[tuple[str, float]]]:
        """Return for each of the images (or the only one) its most probable classes, as (label, probability)."""
        images = list(images) if isinstance(images, (list, tuple)) else [images]
        logits = np.asarray(self.predict(self.preprocess(images), verbose=0))
        shares = np.asarray(ops.softmax(logits))
        names = self.labels or [str(number) for number in range(self.classes)]
        order = np.argsort(-shares, axis=1)[:, :top]
        return [[(names[i], float(row[i])) for i in best] for row, best in zip(shares, order)]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments and what is known of the weights, ready for JSON."""
        return {**super().get_config(), "card": serialize(self.card)}


# Options of nets that were trained in TensorFlow: its padding, and Keras's batch normalisation.
TENSORFLOW = {"padding": "same", "epsilon": 1e-3}


def with_keras_pixels(net: Classifier, mode: str) -> Classifier:
    """The classifier, with how Keras prepares its images noted; see :meth:`Preprocess.from_keras`."""
    if net.channels == 3:
        net.card.preprocess = Preprocess.from_keras(mode, net.image_size)
    return net


class StagedClassifier(Classifier):
    """A classifier of a stem, stages of blocks, and perhaps a convolution before the pooling.

    A family makes ``self.stem``, ``self.stages`` (lists of blocks), ``self.strides`` (of the first block of each), and
    ``self.top`` or None.
    """

    _head_layers = ("top", "dropout", "classifier")

    def features(self, images: Tensor) -> list[Tensor]:
        """The last map of each resolution."""
        x, maps = self.stem(images), []
        for blocks, strides in zip(self.stages, self.strides):
            if strides > 1:
                maps.append(x)
            for block in blocks:
                x = block(x)
        return [*maps, x]

    def head(self, features: Tensor) -> Tensor:
        """The coarsest feature map (B, H, W, C) -> logits (B, classes)."""
        return super().head(features if self.top is None else self.top(features))

    def block_number(self, match: re.Match) -> int:
        """The place of a block, counted through all stages, where a pattern found its stage and its place in that."""
        return sum(map(len, self.stages[: int(match[1])])) + int(match[2])


def _pads(layer: Any, padding: str) -> Any:
    """Padding for :func:`ops.conv`: "even" adds the same on both sides, as PyTorch's models do."""
    if padding == "even":
        return [(d * (k - 1) // 2,) * 2 for k, d in zip(layer.kernel_size, layer.dilation_rate)]
    return padding


class Conv(Conv2D):
    """Conv2D as networks of PyTorch have it: (B, H, W, C) -> (B, ⌈H / stride⌉, ⌈W / stride⌉, filters)

    It has no bias by default, and ``padding="even"`` besides the usual ones, which adds the same on both sides.
    """

    paddings = ("even", "same", "valid")

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "even",
        use_bias: bool = False,
        kernel_initializer: Any = "he_normal",
        **options: Any,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            **options,
        )

    def call(self, inputs: Tensor) -> Tensor:
        pads = _pads(self, self.padding)
        return self._finish(ops.conv(inputs, self.kernel, self.strides, pads, dilation_rate=self.dilation_rate))


class DepthwiseConv(DepthwiseConv2D):
    """DepthwiseConv2D with the paddings and defaults of :class:`Conv`: (B, H, W, C) -> (B, ⌈H / stride⌉, …, C)"""

    paddings = ("even", "same", "valid")

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "even",
        use_bias: bool = False,
        depthwise_initializer: Any = "he_normal",
        **options: Any,
    ):
        super().__init__(
            kernel_size,
            strides,
            padding,
            use_bias=use_bias,
            depthwise_initializer=depthwise_initializer,
            **options,
        )

    def call(self, inputs: Tensor) -> Tensor:
        pads = _pads(self, self.padding)
        return self._finish(
            ops.depthwise_conv(inputs, self.kernel, self.strides, pads, dilation_rate=self.dilation_rate)
        )


class ConvNorm(Layer):
    """activation(norm(conv(x))): (B, H, W, C) -> (B, ⌈H / stride⌉, ⌈W / stride⌉, filters)

    Args:
        filters: None makes the convolution depthwise.
        momentum: of the moving statistics.
        scale: whether the normalisation has a factor for each channel.
    """

    def __init__(
        self,
        filters: int | None,
        kernel_size: Any,
        strides: Any = 1,
        groups: int = 1,
        activation: Any = "relu",
        padding: str = "even",
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        scale: bool = True,
        **options: Any,
    ):
        super().__init__(**options)
        if filters is None:
            self.conv = DepthwiseConv(kernel_size, strides, padding)
        else:
            self.conv = Conv(filters, kernel_size, strides, padding, groups=groups)
        self.norm = BatchNormalization(epsilon=epsilon, momentum=momentum, scale=scale)
        self.activation = activations.get(activation)

    def call(self, inputs: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(inputs)))


class SqueezeExcite(Layer):
    """Weighs the channels by what the whole map shows (Hu, Shen, Sun, 2017): (B, H, W, C) -> (B, H, W, C)

    Args:
        hidden: units between the two layers.
        activation: between the two layers.
        gate: what makes weights of the result.
    """

    def __init__(self, hidden: int, activation: Any = "relu", gate: Any = "sigmoid", **options: Any):
        super().__init__(**options)
        self.hidden = hidden
        self.reduce = Dense(hidden, activation=activation)
        self.gate = activations.get(gate)

    def build(self, input_shape: Any) -> None:
        self.expand = Dense(input_shape[-1])

    def call(self, inputs: Tensor) -> Tensor:
        pooled = ops.mean(inputs, axis=(1, 2), keepdims=True)
        return inputs * self.gate(self.expand(self.reduce(pooled)))


def drop_rates(last: float, depths: Any) -> list[list[float]]:
    """Rates of stochastic depth that grow linearly over the blocks up to ``last``, for each block of each stage."""
    rates = iter(np.linspace(0, last, sum(depths)).tolist())
    return [[next(rates) for _ in range(depth)] for depth in depths]


def round_channels(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``channels``, but no less than 90 % of it."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
