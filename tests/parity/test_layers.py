"""Layers against Keras in chosen cases: the same weights give the same outputs, gradients and training steps."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("jax")

from driver import Case, Inner, Random, compare  # noqa: E402

from tenzoo import core, layers  # noqa: E402

pytestmark = pytest.mark.slow

INTEGERS = np.array([[1, 0, 3], [4, 2, 0]], "int32")
MASK = np.array([[True, True, False], [True, False, False]])
RGB, PIXELS = (2, 4, 5, 3), np.random.default_rng(2).uniform(size=(2, 4, 5, 3)).astype("float32")
BYTES = np.random.default_rng(2).integers(0, 255, (2, 4, 5, 3)).astype("uint8")
QUERY, VALUE = (2, 3, 5), np.random.default_rng(1).normal(size=(2, 4, 5)).astype("float32")
SEEN = np.random.default_rng(1).uniform(size=(2, 3, 4)) < 0.7
STATE = np.array([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]], "float32")
IMAGE, VOLUME, SERIES = (2, 7, 6, 4), (2, 5, 4, 3, 2), (2, 7, 4)
FEATURES = np.array([[1.0, 5.0], [3.0, 2.0], [0.0, 2.5]], "float32")

# layer, constructor's arguments, input shape or data, arguments of the call
CASES = [
    ("Dense", {"units": 4, "activation": "gelu"}, (2, 5, 3), {}),
    ("Embedding", {"input_dim": 5, "output_dim": 4}, INTEGERS, {}),
    ("Masking", {"mask_value": 0.0}, SERIES, {}),
    ("Activation", {"activation": "mish"}, (2, 3), {}),
    ("ReLU", {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2}, (4, 3), {}),
    ("LeakyReLU", {}, (2, 3), {}),
    ("ELU", {"alpha": 0.5}, (2, 3), {}),
    ("PReLU", {"alpha_initializer": "ones", "shared_axes": [1]}, (2, 3, 4), {}),
    ("Softmax", {"axis": 1}, (2, 3, 4), {}),
    ("Softmax", {}, (2, 3), {"mask": MASK}),
    ("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}, SERIES, {}),
    ("Conv1D", {"filters": 4, "kernel_size": 2, "strides": 2, "groups": 2}, SERIES, {}),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 2), "activation": "tanh"}, IMAGE, {}),
    ("Conv2D", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}, IMAGE, {}),
    ("Conv2D", {"filters": 3, "kernel_size": 2, "dilation_rate": 2, "padding": "same"}, IMAGE, {}),
    ("Conv3D", {"filters": 2, "kernel_size": 2, "padding": "same"}, VOLUME, {}),
    ("DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2}, SERIES, {}),
    ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same", "strides": 2}, IMAGE, {}),
    ("SeparableConv1D", {"filters": 3, "kernel_size": 3, "padding": "same"}, SERIES, {}),
    ("SeparableConv2D", {"filters": 3, "kernel_size": 3, "depth_multiplier": 2}, IMAGE, {}),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}, SERIES, {}),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 4, "strides": 2, "padding": "same"}, SERIES, {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}, IMAGE, {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 2, "strides": 3}, IMAGE, {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "output_padding": 1}, IMAGE, {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "dilation_rate": 2}, IMAGE, {}),
    ("Conv3DTranspose", {"filters": 2, "kernel_size": 2, "strides": 2}, VOLUME, {}),
    ("MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}, SERIES, {}),
    ("MaxPooling2D", {}, IMAGE, {}),
    ("MaxPooling3D", {"pool_size": (2, 2, 1), "padding": "same"}, VOLUME, {}),
    ("AveragePooling1D", {"pool_size": 2, "padding": "same"}, SERIES, {}),
    ("AveragePooling2D", {"pool_size": (3, 2), "strides": 1, "padding": "same"}, IMAGE, {}),
    ("AveragePooling3D", {"pool_size": 2}, VOLUME, {}),
    ("GlobalMaxPooling1D", {}, SERIES, {}),
    ("GlobalMaxPooling2D", {"keepdims": True}, IMAGE, {}),
    ("GlobalMaxPooling3D", {}, VOLUME, {}),
    ("GlobalAveragePooling1D", {}, (2, 3, 4), {"mask": MASK}),
    ("GlobalAveragePooling2D", {}, IMAGE, {}),
    ("GlobalAveragePooling3D", {"keepdims": True}, VOLUME, {}),
    ("BatchNormalization", {}, IMAGE, {}),
    ("BatchNormalization", {"momentum": 0.9}, IMAGE, {"training": True}),
    ("BatchNormalization", {"axis": 1, "scale": False}, IMAGE, {"training": True}),
    ("BatchNormalization", {}, (2, 3, 4), {"training": True, "mask": MASK}),
    ("LayerNormalization", {}, (2, 3, 4), {}),
    ("LayerNormalization", {"axis": [1, 2], "epsilon": 1e-5}, (2, 3, 4), {}),
    ("Flatten", {}, IMAGE, {}),
    ("Reshape", {"target_shape": (-1, 2)}, IMAGE, {}),
    ("Permute", {"dims": (2, 3, 1)}, IMAGE, {}),
    ("RepeatVector", {"n": 3}, (2, 4), {}),
    ("ZeroPadding1D", {"padding": (1, 2)}, SERIES, {}),
    ("ZeroPadding2D", {"padding": ((1, 0), (2, 1))}, IMAGE, {}),
    ("ZeroPadding3D", {"padding": (1, 2, 0)}, VOLUME, {}),
    ("Cropping1D", {"cropping": (1, 2)}, SERIES, {}),
    ("Cropping2D", {"cropping": ((1, 0), (2, 1))}, IMAGE, {}),
    ("Cropping3D", {"cropping": 1}, VOLUME, {}),
    ("UpSampling1D", {"size": 3}, SERIES, {}),
    ("UpSampling2D", {"size": (2, 3)}, IMAGE, {}),
    ("UpSampling2D", {"size": (2, 3), "interpolation": "bilinear"}, IMAGE, {}),
    ("UpSampling3D", {}, VOLUME, {}),
    ("Add", {}, [(2, 3), (2, 3), (2, 1)], {}),
    ("Subtract", {}, [(2, 3), (2, 3)], {}),
    ("Multiply", {}, [(2, 4, 3), (2, 3)], {}),
    ("Average", {}, [(2, 3), (2, 3)], {}),
    ("Maximum", {}, [(2, 3), (2, 3)], {}),
    ("Minimum", {}, [(2, 3), (2, 3)], {}),
    ("Concatenate", {"axis": 1}, [(2, 3, 4), (2, 1, 4)], {}),
    ("Dot", {"axes": 2}, [(2, 3, 4), (2, 5, 4)], {}),
    ("Dot", {"axes": (1, 2)}, [(2, 3, 4), (2, 5, 3)], {}),
    ("Dot", {"axes": -1, "normalize": True}, [(2, 3), (2, 3)], {}),
    ("Rescaling", {"scale": 2.0, "offset": 1.0}, (2, 3), {}),
    ("Normalization", {"mean": [1.0, 2.0], "variance": [4.0, 1.0]}, FEATURES, {}),
    ("SimpleRNN", {"units": 3}, SERIES, {}),
    ("SimpleRNN", {"units": 3, "use_bias": False, "activation": "relu"}, (2, 3, 4), {"mask": MASK}),
    ("LSTM", {"units": 3, "return_sequences": True, "return_state": True}, SERIES, {}),
    ("LSTM", {"units": 3, "go_backwards": True, "return_sequences": True}, (2, 3, 4), {"mask": MASK}),
    ("LSTM", {"units": 3, "recurrent_activation": "hard_sigmoid"}, SERIES, {"initial_state": [STATE, STATE]}),
    ("GRU", {"units": 3, "return_sequences": True}, SERIES, {}),
    ("GRU", {"units": 3, "reset_after": False, "go_backwards": True}, (2, 3, 4), {"mask": MASK}),
    ("GRU", {"units": 3, "use_bias": False, "return_state": True}, SERIES, {"initial_state": [STATE]}),
    (
        "LSTM",
        {"units": 3, "return_sequences": True, "zero_output_for_mask": True},
        (2, 3, 4),
        {"mask": MASK},
    ),
    (
        "RNN",
        {"cell": [Inner("LSTMCell", {"units": 4}), Inner("GRUCell", {"units": 3})], "return_state": True},
        (2, 3, 4),
        {"mask": MASK},
    ),
    ("RNN", {"cell": Inner("SimpleRNNCell", {"units": 3}), "return_sequences": True}, SERIES, {}),
    ("Bidirectional", {"layer": Inner("LSTM", {"units": 3, "return_sequences": True})}, (2, 3, 4), {"mask": MASK}),
    ("Bidirectional", {"layer": Inner("GRU", {"units": 3, "return_state": True}), "merge_mode": None}, SERIES, {}),
    ("Bidirectional", {"layer": Inner("SimpleRNN", {"units": 3}), "merge_mode": "ave"}, (2, 3, 4), {"mask": MASK}),
    ("ConvLSTM1D", {"filters": 2, "kernel_size": 3, "padding": "same", "strides": 2}, (2, 3, 6, 2), {}),
    ("ConvLSTM2D", {"filters": 2, "kernel_size": 2, "return_sequences": True}, (2, 3, 5, 4, 1), {}),
    ("ConvLSTM3D", {"filters": 2, "kernel_size": 2, "return_state": True}, (1, 2, 3, 3, 3, 1), {}),
    ("TimeDistributed", {"layer": Inner("Conv1D", {"filters": 3, "kernel_size": 2})}, (2, 3, 5, 4), {}),
    ("EinsumDense", {"equation": "abc,cde->abde", "output_shape": (None, 2, 4), "bias_axes": "e"}, (2, 3, 5), {}),
    ("EinsumDense", {"equation": "ab...,bc->ac...", "output_shape": 4, "bias_axes": "c"}, (2, 3, 5), {}),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, QUERY, {"value": VALUE, "use_causal_mask": True}),
    (
        "MultiHeadAttention",
        {"num_heads": 2, "key_dim": 3, "value_dim": 4, "output_shape": 6, "use_bias": False},
        QUERY,
        {"value": VALUE, "key": VALUE[..., :4], "value_mask": SEEN[:, 0], "return_attention_scores": True},
    ),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, QUERY, {"value": VALUE, "attention_mask": SEEN}),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, IMAGE, {"value": VALUE[:, None]}),
    ("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}, QUERY, {"value": VALUE}),
    ("Attention", {"use_scale": True}, [(2, 3, 5), (2, 4, 5)], {"mask": [MASK, None], "use_causal_mask": True}),
    ("Attention", {"score_mode": "concat"}, [(2, 3, 5), (2, 4, 6), (2, 4, 5)], {"return_attention_scores": True}),
    ("AdditiveAttention", {}, [(2, 3, 5), (2, 3, 5)], {"mask": [None, MASK]}),
    ("GroupNormalization", {"groups": 2}, IMAGE, {}),
    ("GroupNormalization", {"groups": -1, "axis": 1, "center": False}, (2, 3, 4), {}),
    ("RMSNormalization", {}, (2, 3, 4), {}),
    ("UnitNormalization", {"axis": [1, 2]}, (2, 3, 4), {}),
    ("AdaptiveAveragePooling2D", {"output_size": (2, 3)}, IMAGE, {}),
    ("AdaptiveMaxPooling1D", {"output_size": 3}, SERIES, {}),
    ("ActivityRegularization", {"l1": 0.1}, (2, 3), {}),
    ("CategoryEncoding", {"num_tokens": 5, "output_mode": "count"}, INTEGERS, {}),
    ("Discretization", {"bin_boundaries": [-0.5, 0.0, 0.5]}, (2, 3), {}),
    ("Resizing", {"height": 3, "width": 4}, IMAGE, {}),
    ("Resizing", {"height": 5, "width": 5, "interpolation": "bicubic", "crop_to_aspect_ratio": True}, IMAGE, {}),
    ("CenterCrop", {"height": 3, "width": 2}, IMAGE, {}),
    ("CenterCrop", {"height": 8, "width": 4}, IMAGE, {}),
    ("RandomBrightness", {"factor": (0.1, 0.1), "value_range": (0, 1)}, IMAGE, {"training": True}),
    ("RandomTranslation", {"height_factor": (0.3, 0.3), "width_factor": (-0.2, -0.2)}, IMAGE, {"training": True}),
    ("RandomRotation", {"factor": (0.1, 0.1), "fill_mode": "constant"}, IMAGE, {"training": True}),
    ("RandomZoom", {"height_factor": (0.3, 0.3), "width_factor": (-0.2, -0.2)}, IMAGE, {"training": True}),
    ("STFTSpectrogram", {"frame_length": 8, "frame_step": 3, "mode": "angle"}, (2, 30, 2), {}),
    ("STFTSpectrogram", {"frame_length": 6, "mode": "psd", "padding": "same"}, (2, 30, 1), {}),
    ("MelSpectrogram", {"fft_length": 16, "sequence_stride": 8, "num_mel_bins": 3}, (2, 64), {}),
    ("RandomColorDegeneration", {"factor": (0.4, 0.4), "value_range": (-9, 9)}, RGB, {"training": True}),
    ("RandomSharpness", {"factor": (0.9, 0.9), "value_range": (-99, 99)}, IMAGE, {"training": True}),
    ("RandomPosterization", {"factor": (3, 3)}, BYTES, {"training": True}),
    ("Solarization", {}, BYTES, {"training": True}),
    ("AutoContrast", {}, BYTES, {"training": True}),
    ("RandomInvert", {"factor": (1.0, 1.0)}, BYTES, {"training": True}),
    ("RandomSaturation", {"factor": (0.4, 0.4), "value_range": (0, 1)}, PIXELS, {"training": True}),
    ("ReversibleEmbedding", {"input_dim": 5, "output_dim": 4, "logit_soft_cap": 2.0}, (2, 3, 4), {"reverse": True}),
    ("ReversibleEmbedding", {"input_dim": 5, "output_dim": 4}, INTEGERS, {}),
]


def _described(inputs):
    """Shapes stand for random numbers."""
    if isinstance(inputs, list):
        return [_described(part) for part in inputs]
    return Random(inputs) if isinstance(inputs, tuple) else inputs


@pytest.mark.parametrize(("name", "arguments", "inputs", "options"), CASES)
def test_layer(name, arguments, inputs, options):
    compare(name, Case(_described(inputs), arguments, options), compiled=False, steps=2)


def test_spectral_normalization():
    data = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    theirs, ours = (m.SpectralNormalization(m.Dense(4), power_iterations=2) for m in (keras.layers, layers))
    theirs(data)
    ours(data)
    ours.layer.set_weights(theirs.layer.get_weights())
    ours.vector_u.assign(theirs.vector_u.numpy())
    for _ in range(2):
        np.testing.assert_allclose(ours(data, training=True), theirs(data, training=True), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.layer.kernel, theirs.layer.kernel.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.vector_u, theirs.vector_u.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), None])
def test_normalization_adapts_as_keras_does(axis):
    data = np.random.default_rng(0).normal(2.0, 3.0, (6, 4, 3)).astype("float32")
    theirs, ours = keras.layers.Normalization(axis=axis), layers.Normalization(axis=axis)
    theirs.adapt(data)
    ours.adapt([data[:2], data[2:]])
    np.testing.assert_allclose(ours(data).numpy(), theirs(data), rtol=1e-5, atol=1e-5)


# threshold needs arguments; the rows of Keras's sparsemax do not sum to 1.
LEFT_OUT = {"deserialize", "get", "serialize", "threshold", "sparsemax"}
ACTIVATIONS = sorted(set(layers.activations.__all__) - LEFT_OUT)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    x = np.linspace(-4, 4, 24).reshape(4, 6).astype("float32")
    ours, theirs = getattr(layers.activations, name)(x), getattr(keras.activations, name)(x)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5, atol=1e-6)


def test_every_activation_is_here():
    assert {name for name in dir(keras.activations) if name[0] != "_"} <= set(layers.activations.__all__)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("L1", {"l1": 0.1}),
        ("L2", {"l2": 0.1}),
        ("L1L2", {"l1": 0.1, "l2": 0.2}),
        ("OrthogonalRegularizer", {"factor": 0.1, "mode": "rows"}),
    ],
)
def test_regularizer(name, arguments):
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    ours = getattr(layers.regularizers, name)(**arguments)(core.tensor(x))
    np.testing.assert_allclose(float(ours), getattr(keras.regularizers, name)(**arguments)(x), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("MaxNorm", {"max_value": 1.0}),
        ("NonNeg", {}),
        ("UnitNorm", {"axis": 1}),
        ("MinMaxNorm", {"rate": 0.5}),
    ],
)
def test_constraint(name, arguments):
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    ours = getattr(layers.constraints, name)(**arguments)(core.tensor(x))
    np.testing.assert_allclose(ours.numpy(), getattr(keras.constraints, name)(**arguments)(x), rtol=1e-5)


@pytest.mark.parametrize("shape", [(200, 300), (3, 3, 40, 50)])
@pytest.mark.parametrize(
    "name", ["GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal"]
)
def test_initializers_have_the_spread_of_keras(name, shape):
    ours = np.asarray(getattr(layers.initializers, name)(seed=1)(shape))
    theirs = np.asarray(getattr(keras.initializers, name)(seed=1)(shape))
    np.testing.assert_allclose([ours.std(), ours.max()], [theirs.std(), theirs.max()], rtol=0.03)
