"""The zoo: ready-made models by name, one folder per domain, one file per family.

>>> list("vision", "resnet2*")
['resnet20']
>>> model = create("resnet20", classes=10)
"""

from __future__ import annotations

import os
from typing import Any

from .registry import ModelInfo, Weights, create, info
from .registry import names as list

__all__ = ["ModelInfo", "Weights", "create", "info", "list", "load"]


def load(source: str | os.PathLike, **options: Any) -> Any:
    """Load a trained model: ``hf://owner/name``, a folder with its files, or a file that ``model.save`` wrote.

    The file may be a ``.keras`` or ``.h5`` of a model of keras.applications, which is computed as Keras does.

    The folder holds ``config.json`` as transformers or timm write it, and the weights as safetensors, in one file or
    in shards, or as a PyTorch file, of which tensors alone are read. Downloads are those of huggingface_hub: its
    cache, ``HF_TOKEN``, ``HF_HUB_OFFLINE``, ``HF_ENDPOINT`` and so on apply; ``hf://owner/name@revision`` pins one.

    Args:
        options: for the model, such as ``features_only=True`` or ``drop_path=0.1``; with another number of
            ``classes`` than the weights have, or for weights without a classifier, that starts anew.

    Raises:
        CheckpointError: what is missing, damaged, of an unknown kind, or does not fit; nothing is half loaded.
    """
    from . import loading

    return loading.load(source, options)
