"""plot_model: a picture of a model's layers and what flows between them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from ..core.draw import Box, Drawing, Picture
from .functional import Node, symbolic_leaves
from .layer import Layer
from .model import InputLayer, Model

__all__ = ["plot_model"]


def plot_model(
    model: Model,
    to_file: Any = "model.svg",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    expand_nested: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> Drawing:
    """Draw the layers of a functional model or a Sequential; :func:`tenzoo.draw` draws the ops inside of any model.

    Args:
        model: built, or made from ``Input``.
        to_file: ``.svg`` or ``.dot``; other endings, such as ``.png``, take Graphviz's program ``dot``. None for no
            file.
        show_shapes: of the outputs.
        show_dtype: of the outputs.
        show_layer_names: beside the classes.
        expand_nested: draw the layers of models inside the model.
        show_layer_activations: names of the activation functions.
        show_trainable: whether layers are trained.

    Returns:
        The drawing, which notebooks show.

    >>> x = Input((4,))
    >>> plot_model(Model(x, Dense(2)(x)), None, show_shapes=True).picture.boxes[1].detail
    '(None, 2)'
    """
    if not model.nodes:
        raise ValueError(
            f"plot_model: '{model.name}' ({type(model).__name__}) is not made from Input(), so nothing is known of the "
            "order of its layers. tz.draw(model, inputs) draws the ops that a call computes."
        )
    shown = {"shape": show_shapes, "dtype": show_dtype, "name": show_layer_names}
    shown |= {"activation": show_layer_activations, "trainable": show_trainable}
    picture = Picture()
    _add(picture, model, {}, "", [what for what, asked in shown.items() if asked], expand_nested)
    drawing = Drawing(picture)
    if to_file is not None:
        _save(drawing, Path(to_file))
    return drawing


def _add(picture: Picture, model: Any, sources: dict[int, int], cluster: str, shown: list[str], expand: bool) -> None:
    """Boxes for the calls of a model; ``sources`` has the box that each symbolic tensor comes from."""
    for node in model.nodes:
        target = node.target
        if isinstance(target, InputLayer) and id(node.outputs) in sources:
            continue  # where a model inside another one begins
        if expand and getattr(target, "nodes", None):
            entries = [sources[id(leaf)] for leaf in node.inputs]
            inner = dict(zip(map(id, target.inputs), entries, strict=True))
            _add(picture, target, inner, f"{cluster}/{target.name}".strip("/"), shown, expand)
            ends = [inner[id(leaf)] for leaf in target.outputs]
            sources.update(zip(map(id, symbolic_leaves(node.outputs)), ends, strict=True))
            continue
        number = picture.add(_box(node, cluster, shown, len(picture.boxes)))
        for leaf in node.inputs:
            picture.edges[sources[id(leaf)], number] = ""
        sources.update((id(leaf), number) for leaf in symbolic_leaves(node.outputs))


def _box(node: Node, cluster: str, shown: list[str], order: int) -> Box:
    layer = node.target if isinstance(node.target, Layer) else None
    title = type(layer).__name__ if layer else node.target.__name__
    if layer and "name" in shown:
        title = f"{layer.name} ({title})"
    details = []
    for leaf in symbolic_leaves(node.outputs):
        parts = [str(leaf.shape)] * ("shape" in shown) + [leaf.dtype.name] * ("dtype" in shown)
        details += [" ".join(parts)] * bool(parts)
    activation = getattr(layer, "activation", None)
    if "activation" in shown and activation is not None:
        details.append(getattr(activation, "__name__", type(activation).__name__))
    if "trainable" in shown and layer is not None and layer.weights:
        details.append("trainable" if layer.trainable else "frozen")
    kind = "input" if isinstance(layer, InputLayer) else "op"
    return Box(title, ", ".join(details), kind, cluster or (layer.name if layer else ""), order=order)


def _save(drawing: Drawing, path: Path) -> None:
    if path.suffix.lower() in (".svg", ".dot", ".gv"):
        drawing.save(path)
        return
    program = shutil.which("dot")
    if program is None or not path.suffix:
        raise ValueError(
            f"plot_model: expected a file name that ends in .svg or .dot; received '{path}'. For other kinds of "
            "pictures install Graphviz, whose program dot makes them."
        )
    subprocess.run([program, f"-T{path.suffix[1:]}", "-o", str(path)], input=drawing.dot.encode(), check=True)
