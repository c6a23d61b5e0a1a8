"""The models of the workloads in the API that tenzoo shares with Keras; ``k`` is either of them.

Every function takes the library and the workload, and returns a model with its weights built; the outputs are
logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import workloads

EPSILON = 1e-5  # of normalisations, as in PyTorch


def mlp(k: Any, w: workloads.Mlp) -> Any:
    return k.Sequential(
        [
            k.Input((w.features,)),
            k.layers.Dense(w.hidden, activation="relu"),
            k.layers.Dense(w.hidden, activation="relu"),
            k.layers.Dense(w.classes),
        ]
    )


def cnn(k: Any, w: workloads.Cnn) -> Any:
    def conv(filters: int) -> Any:
        return k.layers.Conv2D(filters, 3, padding="same", activation="relu")

    return k.Sequential(
        [
            k.Input((w.size, w.size, 3)),
            conv(w.filters),
            conv(w.filters),
            k.layers.MaxPooling2D(2),
            conv(2 * w.filters),
            conv(2 * w.filters),
            k.layers.MaxPooling2D(2),
            k.layers.Flatten(),
            k.layers.Dense(w.hidden, activation="relu"),
            k.layers.Dense(w.classes),
        ]
    )


def convolve(k: Any, x: Any, filters: int, kernel: int, stride: int = 1, activation: str | None = "relu") -> Any:
    """Convolution, batch normalisation, activation: (B, H, W, C) -> (B, H / stride, W / stride, filters)"""
    x = k.layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
    x = k.layers.BatchNormalization(momentum=0.9, epsilon=EPSILON)(x)
    return k.layers.Activation(activation)(x) if activation else x


def classify(k: Any, inputs: Any, x: Any, classes: int) -> Any:
    """The model that ends in the mean over the image and a dense layer."""
    return k.Model(inputs, k.layers.Dense(classes)(k.layers.GlobalAveragePooling2D()(x)))


def resnet20(k: Any, w: workloads.ResNet20) -> Any:
    inputs = k.Input((w.size, w.size, 3))
    x = convolve(k, inputs, w.filters, 3)
    for stage in range(3):
        filters = w.filters * 2**stage
        for block in range(w.blocks):
            stride = 2 if stage and block == 0 else 1
            y = convolve(k, x, filters, 3, stride)
            y = convolve(k, y, filters, 3, activation=None)
            if stride == 2:
                x = convolve(k, x, filters, 1, stride, activation=None)
            x = k.layers.Activation("relu")(k.layers.Add()([x, y]))
    return classify(k, inputs, x, w.classes)


def mobilenet_v2(k: Any, w: workloads.MobileNetV2) -> Any:
    inputs = k.Input((w.size, w.size, 3))
    x = convolve(k, inputs, 32, 3, 2, "relu6")
    channels = 32
    for expansion, filters, stride in w.blocks():
        y = convolve(k, x, channels * expansion, 1, activation="relu6") if expansion > 1 else x
        y = k.layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(y)
        y = k.layers.BatchNormalization(momentum=0.9, epsilon=EPSILON)(y)
        y = k.layers.Activation("relu6")(y)
        y = convolve(k, y, filters, 1, activation=None)
        x = k.layers.Add()([x, y]) if stride == 1 and channels == filters else y
        channels = filters
    return classify(k, inputs, convolve(k, x, w.last, 1, activation="relu6"), w.classes)


def resnet50(k: Any, w: workloads.ResNet50) -> Any:
    inputs = k.Input((w.size, w.size, 3))
    x = convolve(k, inputs, w.filters, 7, 2)
    x = k.layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, depth in enumerate(w.depths):
        narrow = w.filters * 2**stage
        for block in range(depth):
            stride = 2 if stage and block == 0 else 1
            y = convolve(k, x, narrow, 1)
            y = convolve(k, y, narrow, 3, stride)
            y = convolve(k, y, 4 * narrow, 1, activation=None)
            if block == 0:
                x = convolve(k, x, 4 * narrow, 1, stride, activation=None)
            x = k.layers.Activation("relu")(k.layers.Add()([x, y]))
    return classify(k, inputs, x, w.classes)


def lstm(k: Any, w: workloads.Lstm) -> Any:
    return k.Sequential(
        [
            k.Input((w.length,), dtype="int32"),
            k.layers.Embedding(w.vocabulary, w.width),
            recurrent(k, w.units),
            k.layers.Dense(1),
        ]
    )


def bilstm(k: Any, w: workloads.BiLstm) -> Any:
    inputs = x = k.Input((w.length, w.features))
    for _ in range(w.layers):
        if hasattr(k.layers, "Bidirectional"):
            x = k.layers.Bidirectional(recurrent(k, w.units, sequences=True))(x)
        else:
            ahead = recurrent(k, w.units, sequences=True)(x)
            back = recurrent(k, w.units, sequences=True, backwards=True)(x)
            x = k.layers.Concatenate()([ahead, back])
    return k.Model(inputs, k.layers.Dense(w.classes)(x))


def bert_like(k: Any, w: workloads.BertLike) -> Any:
    inputs = k.Input((w.length,), dtype="int32")
    x = embed(k, w, inputs)
    x = normalize(k, x)
    for _ in range(w.layers):
        x = normalize(k, k.layers.Add()([x, attend(k, w, x, causal=False)]))
        x = normalize(k, k.layers.Add()([x, feed_forward(k, w, x)]))
    first = k.layers.Flatten()(k.layers.Cropping1D((0, w.length - 1))(x))
    return k.Model(inputs, k.layers.Dense(w.classes)(first))


def gpt(k: Any, w: workloads.Gpt) -> Any:
    inputs = k.Input((w.length,), dtype="int32")
    x = embed(k, w, inputs)
    for _ in range(w.layers):
        x = k.layers.Add()([x, attend(k, w, normalize(k, x), causal=True)])
        x = k.layers.Add()([x, feed_forward(k, w, normalize(k, x))])
    return k.Model(inputs, k.layers.Dense(w.vocabulary, use_bias=False)(normalize(k, x)))


def vit(k: Any, w: workloads.VitS16) -> Any:
    inputs = k.Input((w.size, w.size, 3))
    x = k.layers.Conv2D(w.width, w.patch, strides=w.patch)(inputs)
    x = tokens(k, w, k.layers.Reshape((w.length - 1, w.width))(x))
    for _ in range(w.layers):
        x = k.layers.Add()([x, attend(k, w, normalize(k, x), causal=False)])
        x = k.layers.Add()([x, feed_forward(k, w, normalize(k, x))])
    first = k.layers.Flatten()(k.layers.Cropping1D((0, w.length - 1))(normalize(k, x)))
    return k.Model(inputs, k.layers.Dense(w.classes)(first))


def tokens(k: Any, w: workloads.VitS16, patches: Any) -> Any:
    """A token for the class before those of the patches, and places: (B, T - 1, d) -> (B, T, d)"""

    class Tokens(k.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.own = self.add_weight((1, w.width), initializer="uniform", name="class")
            self.table = self.add_weight((w.length, w.width), initializer="uniform", name="table")

        def call(self, x: Any) -> Any:
            own = k.ops.broadcast_to(self.own, (k.ops.shape(x)[0], 1, w.width))
            return k.ops.concatenate([own, x], axis=1) + self.table

    return Tokens()(patches)


def embed(k: Any, w: workloads.Transformer, tokens: Any) -> Any:
    """Vectors of the tokens and of their places: (B, T) -> (B, T, d)"""

    class Positions(k.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.table = self.add_weight(input_shape[1:], initializer="uniform", name="table")

        def call(self, x: Any) -> Any:
            return x + self.table

    return Positions()(k.layers.Embedding(w.vocabulary, w.width)(tokens))


def normalize(k: Any, x: Any) -> Any:
    return k.layers.LayerNormalization(epsilon=EPSILON)(x)


def feed_forward(k: Any, w: workloads.Transformer, x: Any) -> Any:
    """(B, T, d) -> (B, T, d)"""
    return k.layers.Dense(w.width)(k.layers.Dense(4 * w.width, activation="gelu")(x))


def attend(k: Any, w: workloads.Transformer, x: Any, causal: bool) -> Any:
    """Self-attention: (B, T, d) -> (B, T, d)"""
    if hasattr(k.layers, "MultiHeadAttention"):
        return k.layers.MultiHeadAttention(w.heads, w.width // w.heads)(x, x, use_causal_mask=causal)
    return composed_attention(k, w, causal)(x)


def recurrent(k: Any, units: int, sequences: bool = False, backwards: bool = False) -> Any:
    """An LSTM layer: (B, T, C) -> (B, T, units), or (B, units) of the last step."""
    if hasattr(k.layers, "LSTM"):
        return k.layers.LSTM(units, return_sequences=sequences, go_backwards=backwards)
    return composed_lstm(k, units, sequences, backwards)


def composed_attention(k: Any, w: workloads.Transformer, causal: bool) -> Any:
    """Self-attention from ops, with the weights of the layer MultiHeadAttention."""

    class SelfAttention(k.layers.Layer):
        def build(self, input_shape: Any) -> None:
            for name in ("query", "key", "value", "attention_output"):
                setattr(self, name, k.layers.Dense(w.width))
                getattr(self, name).build(input_shape)

        def call(self, x: Any) -> Any:
            shape = (-1, w.length, w.heads, w.width // w.heads)
            q, k_, v = (k.ops.reshape(dense(x), shape) for dense in (self.query, self.key, self.value))
            mixed = k.ops.dot_product_attention(q, k_, v, is_causal=causal)
            return self.attention_output(k.ops.reshape(mixed, (-1, w.length, w.width)))

    return SelfAttention()


def composed_lstm(k: Any, units: int, sequences: bool, backwards: bool) -> Any:
    """An LSTM as a loop over the steps, with the weights of the layer LSTM."""

    class Lstm(k.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.kernel = self.add_weight((input_shape[-1], 4 * units), name="kernel")
            self.recurrent_kernel = self.add_weight((units, 4 * units), name="recurrent_kernel")
            self.bias = self.add_weight((4 * units,), initializer="zeros", name="bias")

        def call(self, inputs: Any) -> Any:
            gates = k.ops.matmul(inputs, self.kernel) + self.bias  # (B, T, 4 units)
            h = c = k.ops.zeros((inputs.shape[0] or 1, units))
            outputs = []
            steps = range(inputs.shape[1])
            for t in reversed(steps) if backwards else steps:
                i, f, g, o = k.ops.split(gates[:, t] + k.ops.matmul(h, self.recurrent_kernel), 4, axis=-1)
                c = k.ops.sigmoid(f) * c + k.ops.sigmoid(i) * k.ops.tanh(g)
                h = k.ops.sigmoid(o) * k.ops.tanh(c)
                outputs.append(h)
            if backwards:
                outputs.reverse()
            return k.ops.stack(outputs, axis=1) if sequences else h

    return Lstm()


BUILDERS: dict[str, Callable[[Any, Any], Any]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet20": resnet20,
    "lstm": lstm,
    "bert-like": bert_like,
    "gpt": gpt,
    "gpt-mid": gpt,
    "bilstm": bilstm,
    "mobilenet_v2": mobilenet_v2,
    "resnet50-inference": resnet50,
    "resnet50": resnet50,
    "resnet50-inference-32": resnet50,
    "mobilenet_v2-inference": mobilenet_v2,
    "mobilenet_v2-inference-32": mobilenet_v2,
    "vit-s16": vit,
    "vit-s16-inference": vit,
    "vit-s16-inference-32": vit,
    "call": mlp,
    "small-step": mlp,
    "small-step-8": mlp,
}


def build(k: Any, workload: workloads.Workload) -> Any:
    """The model of a workload in library ``k``."""
    return BUILDERS[workload.name](k, workload)


def loss(k: Any, workload: workloads.Workload) -> Any:
    """The loss object of a workload in library ``k``."""
    if workload.loss == "binary":
        return k.losses.BinaryCrossentropy(from_logits=True)
    return k.losses.SparseCategoricalCrossentropy(from_logits=True)
