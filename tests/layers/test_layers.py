"""Every exported layer, through the harness."""

import inspect

import numpy as np
import pytest
from harness import run_layer_test

from tenzoo import layers

INTEGERS = np.array([[1, 0, 3], [4, 2, 0]], "int32")
BYTES = np.array([[1, 2]], "uint8")
IMAGE, VOLUME, SERIES = (2, 6, 5, 4), (2, 4, 5, 3, 2), (2, 7, 4)
MASK = np.array([[True, True, False], [True, False, False]])

# class, constructor's arguments, input shape (or data), output shape, further arguments of the harness
CASES = [
    ("Dense", {"units": 4}, (2, 3), (2, 4), {"expected_weights": 2}),
    ("Dense", {"units": 4, "activation": "gelu", "use_bias": False}, (2, 5, 3), (2, 5, 4), {}),
    ("Dense", {"units": 2, "kernel_regularizer": "l2", "bias_initializer": "ones"}, (2, 3), (2, 2), {}),
    ("Embedding", {"input_dim": 5, "output_dim": 4}, INTEGERS, (2, 3, 4), {}),
    ("Embedding", {"input_dim": 5, "output_dim": 4, "mask_zero": True}, INTEGERS, (2, 3, 4), {}),
    ("Masking", {"mask_value": 0.5}, (2, 3, 4), (2, 3, 4), {}),
    ("Identity", {}, (2, 3), (2, 3), {}),
    ("Activation", {"activation": "softplus"}, (2, 3), (2, 3), {}),
    ("ReLU", {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2}, (2, 3), (2, 3), {}),
    ("LeakyReLU", {"negative_slope": 0.1}, (2, 3), (2, 3), {}),
    ("ELU", {"alpha": 0.5}, (2, 3), (2, 3), {}),
    ("PReLU", {"alpha_initializer": "ones", "shared_axes": [1]}, (2, 3, 4), (2, 3, 4), {}),
    ("Softmax", {"axis": 1}, (2, 3, 4), (2, 3, 4), {}),
    ("Softmax", {}, (2, 3), (2, 3), {"call_kwargs": {"mask": MASK}}),
    ("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal"}, SERIES, (2, 7, 3), {}),
    ("Conv1D", {"filters": 4, "kernel_size": 2, "strides": 2, "groups": 2}, SERIES, (2, 3, 4), {}),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 2), "activation": "relu"}, IMAGE, (2, 4, 4, 3), {}),
    ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}, IMAGE, (2, 3, 3, 4), {}),
    ("Conv2D", {"filters": 4, "kernel_size": 2, "dilation_rate": 2}, IMAGE, (2, 4, 3, 4), {}),
    ("Conv3D", {"filters": 2, "kernel_size": 2, "padding": "same"}, VOLUME, (2, 4, 5, 3, 2), {}),
    ("DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2}, SERIES, (2, 5, 8), {}),
    ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same", "strides": 2}, IMAGE, (2, 3, 3, 4), {}),
    ("SeparableConv1D", {"filters": 3, "kernel_size": 3}, SERIES, (2, 5, 3), {}),
    ("SeparableConv2D", {"filters": 3, "kernel_size": 3, "depth_multiplier": 2}, IMAGE, (2, 4, 3, 3), {}),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}, SERIES, (2, 15, 3), {}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}, IMAGE, (2, 13, 11, 3), {}),
    ("Conv3DTranspose", {"filters": 2, "kernel_size": 2}, VOLUME, (2, 5, 6, 4, 2), {}),
    ("MaxPooling1D", {"pool_size": 3, "strides": 2}, SERIES, (2, 3, 4), {}),
    ("MaxPooling2D", {"padding": "same"}, IMAGE, (2, 3, 3, 4), {}),
    ("MaxPooling3D", {"pool_size": (2, 2, 1)}, VOLUME, (2, 2, 2, 3, 2), {}),
    ("AveragePooling1D", {"padding": "same"}, SERIES, (2, 4, 4), {}),
    ("AveragePooling2D", {"pool_size": (3, 2), "strides": 1}, IMAGE, (2, 4, 4, 4), {}),
    ("AveragePooling3D", {}, VOLUME, (2, 2, 2, 1, 2), {}),
    ("GlobalMaxPooling1D", {}, SERIES, (2, 4), {}),
    ("GlobalMaxPooling2D", {"keepdims": True}, IMAGE, (2, 1, 1, 4), {}),
    ("GlobalMaxPooling3D", {}, VOLUME, (2, 2), {}),
    ("GlobalAveragePooling1D", {}, SERIES, (2, 4), {}),
    ("GlobalAveragePooling1D", {"keepdims": True}, (2, 3, 4), (2, 1, 4), {"call_kwargs": {"mask": MASK}}),
    ("GlobalAveragePooling2D", {}, IMAGE, (2, 4), {}),
    ("GlobalAveragePooling3D", {"keepdims": True}, VOLUME, (2, 1, 1, 1, 2), {}),
    ("BatchNormalization", {}, (5, 3), (5, 3), {"expected_weights": 4}),
    ("BatchNormalization", {"axis": 1, "scale": False}, (3, 2, 4), (3, 2, 4), {"expected_weights": 3}),
    ("BatchNormalization", {}, (2, 3, 4), (2, 3, 4), {"call_kwargs": {"mask": MASK}}),
    ("LayerNormalization", {}, (2, 3, 4), (2, 3, 4), {"expected_weights": 2}),
    ("LayerNormalization", {"axis": [1, 3], "center": False}, (2, 3, 4, 5), (2, 3, 4, 5), {}),
    ("Dropout", {"rate": 0.5}, (4, 6), (4, 6), {}),
    ("Dropout", {"rate": 0.3, "noise_shape": (None, 1), "seed": 3}, (4, 6), (4, 6), {}),
    ("Flatten", {}, (2, 3, 4), (2, 12), {}),
    ("Reshape", {"target_shape": (2, -1)}, (2, 3, 4), (2, 2, 6), {}),
    ("Permute", {"dims": (2, 1)}, (2, 3, 4), (2, 4, 3), {}),
    ("RepeatVector", {"n": 3}, (2, 4), (2, 3, 4), {}),
    ("ZeroPadding1D", {"padding": (1, 2)}, SERIES, (2, 10, 4), {}),
    ("ZeroPadding2D", {"padding": ((1, 0), (2, 1))}, IMAGE, (2, 7, 8, 4), {}),
    ("ZeroPadding3D", {"padding": 1}, VOLUME, (2, 6, 7, 5, 2), {}),
    ("Cropping1D", {"cropping": (1, 2)}, SERIES, (2, 4, 4), {}),
    ("Cropping2D", {"cropping": ((1, 0), (2, 1))}, IMAGE, (2, 5, 2, 4), {}),
    ("Cropping3D", {"cropping": 1}, VOLUME, (2, 2, 3, 1, 2), {}),
    ("UpSampling1D", {"size": 3}, SERIES, (2, 21, 4), {}),
    ("UpSampling2D", {"size": (2, 3)}, IMAGE, (2, 12, 15, 4), {}),
    ("UpSampling2D", {"interpolation": "bilinear"}, IMAGE, (2, 12, 10, 4), {}),
    ("UpSampling3D", {}, VOLUME, (2, 8, 10, 6, 2), {}),
    ("Add", {}, [(2, 3), (2, 3), (2, 1)], (2, 3), {}),
    ("Subtract", {}, [(2, 3), (2, 3)], (2, 3), {}),
    ("Multiply", {}, [(2, 4, 3), (2, 3)], (2, 4, 3), {}),
    ("Average", {}, [(2, 3), (2, 3)], (2, 3), {}),
    ("Maximum", {}, [(2, 3), (2, 3)], (2, 3), {}),
    ("Minimum", {}, [(2, 3), (2, 3)], (2, 3), {}),
    ("Concatenate", {"axis": 1}, [(2, 3, 4), (2, 1, 4)], (2, 4, 4), {}),
    ("Dot", {"axes": 2}, [(2, 3, 4), (2, 5, 4)], (2, 3, 5), {}),
    ("Dot", {"axes": -1, "normalize": True}, [(2, 3), (2, 3)], (2, 1), {}),
    ("Rescaling", {"scale": 2.0, "offset": 1.0}, (2, 3), (2, 3), {}),
    ("Rescaling", {"scale": [1.0, 2.0]}, BYTES, (1, 2), {"expected_output": np.array([[1.0, 4.0]])}),
    ("Normalization", {"mean": [1.0, 2.0], "variance": [4.0, 1.0]}, (3, 2), (3, 2), {}),
    ("Normalization", {"axis": None, "mean": 1.0, "variance": 4.0, "invert": True}, (3, 2), (3, 2), {}),
]  # fmt: skip
NOT_LAYERS_OF_DATA = {"Layer", "InputLayer", "Model", "Sequential"}


@pytest.mark.parametrize(("name", "arguments", "inputs", "shape", "further"), CASES)
def test_layer(name, arguments, inputs, shape, further):
    given = {"input_data": inputs} if isinstance(inputs, np.ndarray) else {"input_shape": inputs}
    run_layer_test(getattr(layers, name), arguments, **given, expected_output_shape=shape, **further)


def test_every_exported_layer_has_a_case():
    exported = {
        name
        for name, value in vars(layers).items()
        if inspect.isclass(value) and issubclass(value, layers.Layer) and not name.startswith("_")
    }
    assert exported - NOT_LAYERS_OF_DATA == {case[0] for case in CASES}
