"""What is computed: sizes, data and floating-point operations of every workload.

To add one: a class here and its line in ``WORKLOADS``, and a function of its name in ``keras_models`` and
``torch_models``. Everything is float32; training is a step of Adam with learning rate 1e-3, without dropout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

BATCHES = 4  # different batches that a worker visits in turn


@dataclasses.dataclass(frozen=True)
class Workload:
    """One row of the table; a subclass has its sizes as fields, and small ones for tests in ``tiny``.

    ``loss`` is "classes" (integer targets and logits) or "binary" (targets 0 and 1, one logit); None is
    inference. ``mapped`` tells whether the weights of one framework, put into another, give the same losses.
    They do not where a convolution with stride 2 pads: "same" pads at the end, PyTorch on both sides.
    """

    name: ClassVar[str]
    loss: ClassVar[str | None] = "classes"
    mapped: ClassVar[bool] = True
    tiny: ClassVar[dict[str, object]] = {}

    batch: int

    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The data, equal in every framework: ``BATCHES`` pairs of inputs and targets."""
        generator = np.random.default_rng(0)
        return [(self.inputs(generator), self.targets(generator)) for _ in range(BATCHES)]

    def inputs(self, generator: np.random.Generator) -> np.ndarray:
        """One batch of inputs."""
        raise NotImplementedError

    def targets(self, generator: np.random.Generator) -> np.ndarray:
        """One batch of targets."""
        raise NotImplementedError

    def flops(self) -> float:
        """Operations of the products and convolutions of a step, an addition and a product being two."""
        raise NotImplementedError


def training(forward: float, first: float = 0) -> float:
    """Operations of a training step, given those of the forward pass.

    The backward pass has two products for each of the forward pass. The ``first`` operations, which read the
    data, need no gradient of their inputs.
    """
    return 3 * forward - first


def products(rows: int, *pairs: tuple[int, int]) -> int:
    """Operations of products of ``rows`` rows with matrices (m, n)."""
    return sum(2 * rows * m * n for m, n in pairs)


def convolution(size: int, kernel: int, channels: int, filters: int) -> int:
    """Operations of a convolution of one image to (size, size, filters)."""
    return 2 * size * size * kernel * kernel * channels * filters


def pixels(generator: np.random.Generator, *shape: int) -> np.ndarray:
    return generator.standard_normal(shape, dtype=np.float32)


def integers(generator: np.random.Generator, limit: int, *shape: int) -> np.ndarray:
    return generator.integers(0, limit, shape, dtype=np.int32)


@dataclasses.dataclass(frozen=True)
class Mlp(Workload):
    """Dense 784-512-512-10."""

    name = "mlp"
    tiny = {"batch": 4, "features": 12, "hidden": 16}

    batch: int = 128
    features: int = 784
    hidden: int = 512
    classes: int = 10

    def inputs(self, generator):
        return pixels(generator, self.batch, self.features)

    def targets(self, generator):
        return integers(generator, self.classes, self.batch)

    def flops(self):
        sizes = (self.features, self.hidden), (self.hidden, self.hidden), (self.hidden, self.classes)
        return training(products(self.batch, *sizes), products(self.batch, sizes[0]))


@dataclasses.dataclass(frozen=True)
class SmallStep(Mlp):
    """A training step of a 3-layer net on one row: what a step costs beside its arithmetic."""

    name = "small-step"
    tiny = {}

    batch: int = 1
    features: int = 64
    hidden: int = 64


@dataclasses.dataclass(frozen=True)
class SmallStep8(SmallStep):
    """The same on eight rows."""

    name = "small-step-8"

    batch: int = 8


@dataclasses.dataclass(frozen=True)
class Call(SmallStep):
    """A compiled call of a 3-layer net on one row: what a call costs beside its arithmetic."""

    name = "call"
    loss = None

    def flops(self):
        sizes = (self.features, self.hidden), (self.hidden, self.hidden), (self.hidden, self.classes)
        return products(self.batch, *sizes)


class Images(Workload):
    """Square colour images in classes."""

    size: int
    classes: int

    def forward(self) -> tuple[int, int]:
        """Operations of the forward pass for one image, and those of the first convolution."""
        raise NotImplementedError

    def flops(self):
        each, first = self.forward()
        return training(self.batch * each, self.batch * first) if self.loss else self.batch * each

    def inputs(self, generator):
        return pixels(generator, self.batch, self.size, self.size, 3)

    def targets(self, generator):
        return integers(generator, self.classes, self.batch)


@dataclasses.dataclass(frozen=True)
class Cnn(Images):
    """Conv 32-32-pool-64-64-pool, all 3×3, and Dense 512-10."""

    name = "cnn"
    tiny = {"batch": 2, "size": 8, "filters": 4, "hidden": 8}

    batch: int = 64
    size: int = 32
    filters: int = 32
    hidden: int = 512
    classes: int = 10

    def forward(self):
        n, size, hidden = self.filters, self.size, self.hidden
        first = convolution(size, 3, 3, n)
        each = first + convolution(size, 3, n, n)
        each += convolution(size // 2, 3, n, 2 * n) + convolution(size // 2, 3, 2 * n, 2 * n)
        return each + products(1, ((size // 4) ** 2 * 2 * n, hidden), (hidden, self.classes)), first


@dataclasses.dataclass(frozen=True)
class ResNet20(Images):
    """ResNet-20 for CIFAR, with projections where the size changes; He et al. (2015)."""

    name = "resnet20"
    mapped = False
    tiny = {"batch": 2, "size": 8, "blocks": 1}

    batch: int = 128
    size: int = 32
    filters: int = 16
    blocks: int = 3
    classes: int = 10

    def forward(self):
        size, channels = self.size, self.filters
        first = convolution(size, 3, 3, channels)
        each = first
        for stage in range(3):
            filters = self.filters * 2**stage
            if stage:
                size //= 2
                each += convolution(size, 1, channels, filters)
            each += convolution(size, 3, channels, filters)
            each += (2 * self.blocks - 1) * convolution(size, 3, filters, filters)
            channels = filters
        return each + products(1, (channels, self.classes)), first


@dataclasses.dataclass(frozen=True)
class MobileNetV2(Images):
    """MobileNetV2, width 1; Sandler et al. (2018)."""

    name = "mobilenet_v2"
    mapped = False
    tiny = {"batch": 2, "size": 32, "stages": ((1, 8, 1, 1), (6, 8, 2, 2)), "last": 16}

    batch: int = 16
    size: int = 96
    # expansion, filters, blocks, stride of the first block
    stages: tuple = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    last: int = 1280
    classes: int = 1000

    def blocks(self) -> Iterable[tuple[int, int, int]]:
        """Expansion, filters and stride of every block."""
        for expansion, filters, count, stride in self.stages:
            for index in range(count):
                yield expansion, filters, stride if index == 0 else 1

    def forward(self):
        size, channels = self.size // 2, 32
        first = convolution(size, 3, 3, channels)
        each = first
        for expansion, filters, stride in self.blocks():
            wide = channels * expansion
            if expansion > 1:
                each += convolution(size, 1, channels, wide)
            size //= stride
            each += convolution(size, 3, 1, wide) + convolution(size, 1, wide, filters)
            channels = filters
        return each + convolution(size, 1, channels, self.last) + products(1, (self.last, self.classes)), first


@dataclasses.dataclass(frozen=True)
class ResNet50(Images):
    """ResNet-50, the strides in the 3×3 convolutions."""

    name = "resnet50"
    mapped = False
    tiny = {"batch": 2, "size": 32, "filters": 4, "depths": (1, 1, 1, 1), "classes": 10}

    batch: int = 16
    size: int = 224
    filters: int = 64
    depths: tuple = (3, 4, 6, 3)
    classes: int = 1000

    def forward(self):
        size, channels = self.size // 2, self.filters
        first = convolution(size, 7, 3, channels)
        each, size = first, size // 2
        for stage, depth in enumerate(self.depths):
            narrow, stride = self.filters * 2**stage, 1 if stage == 0 else 2
            for block in range(depth):
                each += convolution(size, 1, channels, narrow)
                if block == 0:
                    size //= stride
                    each += convolution(size, 1, channels, 4 * narrow)
                each += convolution(size, 3, narrow, narrow) + convolution(size, 1, narrow, 4 * narrow)
                channels = 4 * narrow
        return each + products(1, (channels, self.classes)), first


@dataclasses.dataclass(frozen=True)
class ResNet50Inference(ResNet50):
    """ResNet-50 classifies one image."""

    name = "resnet50-inference"
    loss = None

    batch: int = 1


@dataclasses.dataclass(frozen=True)
class ResNet50Inference32(ResNet50Inference):
    """The same on 32 images at once."""

    name = "resnet50-inference-32"

    batch: int = 32


@dataclasses.dataclass(frozen=True)
class MobileNetV2Inference(MobileNetV2):
    """MobileNetV2 classifies one image."""

    name = "mobilenet_v2-inference"
    loss = None

    batch: int = 1
    size: int = 224


@dataclasses.dataclass(frozen=True)
class MobileNetV2Inference32(MobileNetV2Inference):
    """The same on 32 images at once."""

    name = "mobilenet_v2-inference-32"

    batch: int = 32


@dataclasses.dataclass(frozen=True)
class VitS16(Images):
    """ViT-S/16: a training step; Dosovitskiy et al. (2020), Touvron et al. (2020)."""

    name = "vit-s16"
    tiny = {"batch": 2, "size": 16, "patch": 8, "layers": 1, "width": 8, "heads": 2, "classes": 10}

    batch: int = 8
    size: int = 224
    patch: int = 16
    layers: int = 12
    width: int = 384
    heads: int = 6
    classes: int = 1000

    @property
    def length(self) -> int:
        """Tokens: one for each patch, and one for the class."""
        return (self.size // self.patch) ** 2 + 1

    def forward(self):
        d, rows = self.width, self.length
        first = convolution(self.size // self.patch, self.patch, 3, d)
        block = products(rows, (d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)) + 4 * rows * rows * d
        return first + self.layers * block + products(1, (d, self.classes)), first


@dataclasses.dataclass(frozen=True)
class VitS16Inference(VitS16):
    """ViT-S/16 classifies one image."""

    name = "vit-s16-inference"
    loss = None

    batch: int = 1


@dataclasses.dataclass(frozen=True)
class VitS16Inference32(VitS16Inference):
    """The same on 32 images at once."""

    name = "vit-s16-inference-32"

    batch: int = 32


@dataclasses.dataclass(frozen=True)
class Lstm(Workload):
    """Embedding, LSTM, one logit from its last output."""

    name = "lstm"
    loss = "binary"
    tiny = {"batch": 2, "vocabulary": 20, "length": 5, "width": 8, "units": 8}

    batch: int = 32
    vocabulary: int = 20000
    length: int = 80
    width: int = 128
    units: int = 128

    def inputs(self, generator):
        return integers(generator, self.vocabulary, self.batch, self.length)

    def targets(self, generator):
        return integers(generator, 2, self.batch, 1).astype(np.float32)

    def flops(self):
        steps = products(self.batch * self.length, (self.width + self.units, 4 * self.units))
        return training(steps + products(self.batch, (self.units, 1)))


@dataclasses.dataclass(frozen=True)
class BiLstm(Workload):
    """Two bidirectional LSTMs on frames of features, a class for every frame."""

    name = "bilstm"
    tiny = {"batch": 2, "features": 6, "length": 4, "units": 8}

    batch: int = 16
    features: int = 80
    length: int = 200
    units: int = 256
    layers: int = 2
    classes: int = 40

    def inputs(self, generator):
        return pixels(generator, self.batch, self.length, self.features)

    def targets(self, generator):
        return integers(generator, self.classes, self.batch, self.length)

    def flops(self):
        rows, gates, inputs, forward = self.batch * self.length, 4 * self.units, self.features, 0
        for _ in range(self.layers):
            forward += 2 * products(rows, (inputs, gates), (self.units, gates))
            inputs = 2 * self.units
        forward += products(rows, (inputs, self.classes))
        return training(forward, 2 * products(rows, (self.features, gates)))


class Transformer(Workload):
    """A stack of attention and feed-forward blocks over tokens."""

    vocabulary: int
    length: int
    layers: int
    width: int
    heads: int

    def inputs(self, generator):
        return integers(generator, self.vocabulary, self.batch, self.length)

    def blocks(self, pairs: float) -> float:
        """Operations of the blocks' forward pass; every token looks at ``pairs`` others."""
        rows, d = self.batch * self.length, self.width
        attention = 4 * rows * pairs * d
        return self.layers * (products(rows, (d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)) + attention)


@dataclasses.dataclass(frozen=True)
class BertLike(Transformer):
    """A post-norm encoder with GELU; classes from its first token."""

    name = "bert-like"
    tiny = {"batch": 2, "vocabulary": 20, "length": 6, "layers": 1, "width": 8, "heads": 2}

    batch: int = 32
    vocabulary: int = 5000
    length: int = 128
    layers: int = 4
    width: int = 256
    heads: int = 4
    classes: int = 4

    def targets(self, generator):
        return integers(generator, self.classes, self.batch)

    def flops(self):
        return training(self.blocks(self.length) + products(self.batch, (self.width, self.classes)))


@dataclasses.dataclass(frozen=True)
class Gpt(Transformer):
    """A pre-norm causal language model with GELU; its floor counts the pairs that the mask leaves."""

    name = "gpt"
    tiny = {"batch": 2, "vocabulary": 11, "length": 6, "layers": 1, "width": 8, "heads": 2}

    batch: int = 12
    vocabulary: int = 65
    length: int = 64
    layers: int = 4
    width: int = 128
    heads: int = 4

    def targets(self, generator):
        return self.inputs(generator)

    def flops(self):
        head = products(self.batch * self.length, (self.width, self.vocabulary))
        return training(self.blocks((self.length + 1) / 2) + head)


@dataclasses.dataclass(frozen=True)
class GptMid(Gpt):
    """The same, larger."""

    name = "gpt-mid"

    batch: int = 8
    vocabulary: int = 5000
    length: int = 256
    width: int = 256
    heads: int = 8


WORKLOADS: dict[str, type[Workload]] = {
    kind.name: kind
    for kind in (
        Mlp,
        Cnn,
        ResNet20,
        Lstm,
        BertLike,
        Gpt,
        GptMid,
        BiLstm,
        MobileNetV2,
        ResNet50Inference,
        ResNet50,
        ResNet50Inference32,
        MobileNetV2Inference,
        MobileNetV2Inference32,
        VitS16,
        VitS16Inference,
        VitS16Inference32,
        Call,
        SmallStep,
        SmallStep8,
    )
}
# The rest, which take seconds a step or stand for the vision zoo, on demand.
ON_DEMAND = {"resnet50", "resnet50-inference-32", "mobilenet_v2-inference", "mobilenet_v2-inference-32", "vit-s16"}
ON_DEMAND |= {"vit-s16-inference", "vit-s16-inference-32"}
DEFAULT = [name for name in WORKLOADS if name not in ON_DEMAND]


def workload(name: str, tiny: bool = False) -> Workload:
    """The workload of that name, at its own sizes or at those for tests."""
    kind = WORKLOADS[name]
    return kind(**kind.tiny) if tiny else kind()
