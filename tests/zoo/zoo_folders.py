"""Folders as transformers writes them, made from models of ours: weights under its names and in its layout."""

import json

import numpy as np
from safetensors.numpy import save_file

from tenzoo import layers
from tenzoo.zoo import conversion

TINY = {"depths": (1, 1), "widths": (8, 16), "stem": 8, "image_size": 32}
CONFIG = {
    "model_type": "resnet",
    "architectures": ["ResNetForImageClassification"],
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "num_channels": 3,
    "id2label": {"0": "cat", "1": "dog", "2": "fox"},
}
PROCESSOR = {
    "size": {"shortest_edge": 32},
    "crop_pct": 0.875,
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}


def as_torch_has_it(value, layer, variable):
    """The inverse of conversion.to_our_layout."""
    if variable is getattr(layer, "kernel", None):
        if isinstance(layer, layers.DepthwiseConv2D):
            return value.reshape(*value.shape[:2], -1, 1).transpose(2, 3, 0, 1)
        return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    return value


def tensors_of(model, converter):
    """Our weights under the names of ``converter``."""
    tensors = {}
    for path, layer, variable in conversion.named_weights(model):
        theirs = conversion.their_names(path, converter)
        value = as_torch_has_it(np.asarray(variable), layer, variable)
        parts = np.split(value, len(theirs))
        tensors.update((name, np.ascontiguousarray(part)) for name, part in zip(theirs, parts))
    return tensors


def write_folder(path, tensors, config=CONFIG):
    """config.json, preprocessor_config.json and model.safetensors."""
    (path / "config.json").write_text(json.dumps(config))
    (path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    save_file(tensors, path / "model.safetensors")
