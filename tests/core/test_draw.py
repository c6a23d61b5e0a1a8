"""Pictures of graphs."""

import os
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tenzoo import core
from tenzoo.core import Variable, ops, tensor
from tenzoo.core.op import state

SVG = "{http://www.w3.org/2000/svg}"


class Dense:
    """A layer by hand: it names its scope as layers do."""

    def __init__(self, name, size):
        self.name = name
        self.kernel = Variable(np.ones((size, size), "float32"), name="kernel")
        self.kernel.path = f"{name}/kernel"

    def __call__(self, x):
        state.scopes.append(self.name)
        try:
            return ops.tanh(ops.matmul(x, self.kernel) * 2 + 1)
        finally:
            state.scopes.pop()


def chain(depth, size=4):
    blocks = [Dense(f"net/block_{i // 2}/dense_{i % 2}", size) for i in range(depth)]

    def model(x):
        for block in blocks:
            x = block(x)
        return x

    return model


def titles(drawing):
    return [box.title for box in drawing.picture.boxes]


def rectangles(svg):
    """Left, top, right, bottom of each box."""
    groups = [g for g in ElementTree.fromstring(svg).iter(SVG + "g") if g.find(SVG + "rect") is not None]
    found = [g.find(SVG + "rect").attrib for g in groups]
    corners = [[float(a[k]) for k in ("x", "y", "width", "height")] for a in found]
    return [(x, y, x + w, y + h) for x, y, w, h in corners]


def test_boxes_of_a_small_graph():
    v = Variable(np.ones(3, "float32"), name="scale")

    def function(x):
        v.assign_add(x)
        return ops.exp(x * v) + np.arange(3, dtype="float32")

    drawing = core.draw(function, tensor([1.0, 2.0, 3.0]))
    kinds = {(box.title, box.kind) for box in drawing.picture.boxes}
    assert kinds == {
        ("input", "input"),
        ("scale", "variable"),
        ("scale =", "variable"),
        ("constant", "constant"),
        ("add", "op"),
        ("multiply", "op"),
        ("exp", "op"),
        ("result", "output"),
    }
    assert {box.detail for box in drawing.picture.boxes} == {"float32[3]"}
    assert v.tolist() == [1, 1, 1]


def test_dot_and_svg_are_well_formed():
    drawing = core.draw(chain(3), ops.ones((2, 4)))
    root = ElementTree.fromstring(drawing.svg)
    texts = [element.text for element in root.iter(SVG + "text")]
    assert "contract" in texts and "float32[2, 4]" in texts and "net/block_0" in texts
    assert drawing._repr_svg_() == drawing.svg
    assert drawing.dot.startswith("digraph {") and drawing.dot.count("{") == drawing.dot.count("}")
    assert 'label="net/block_0/dense_1"' in drawing.dot
    assert drawing.dot.count(" -> n") == len(drawing.picture.edges)
    assert "block_1/kernel" not in drawing.dot and "dense_1/kernel" in drawing.dot


def test_names_are_escaped():
    v = Variable(1.0, name='a<b> & "c"')
    drawing = core.draw(lambda x: x * v, tensor(2.0))
    assert 'a<b> & "c"' in [e.text for e in ElementTree.fromstring(drawing.svg).iter(SVG + "text")]
    assert '\\"c\\"' in drawing.dot


@pytest.mark.parametrize("limit", [1000, 30, 8])
def test_boxes_do_not_overlap_and_lie_inside(limit):
    drawing = core.draw(chain(12), ops.ones((2, 4)), limit=limit)
    corners = rectangles(drawing.svg)
    assert len(corners) == len(drawing.picture.boxes)
    for i, (left, top, right, bottom) in enumerate(corners):
        for other in corners[i + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    root = ElementTree.fromstring(drawing.svg)
    assert min(left for left, *_ in corners) >= 0
    assert max(right for _, _, right, _ in corners) + 32 <= float(root.attrib["width"]) + 1
    assert max(bottom for *_, bottom in corners) <= float(root.attrib["height"])


def test_arrows_point_down():
    drawing = core.draw(chain(4), ops.ones((2, 4)))
    corners = rectangles(drawing.svg)
    for begin, end in drawing.picture.edges:
        assert corners[begin][3] <= corners[end][1]


def test_large_graphs_collapse_by_layer():
    function, x = chain(12), ops.ones((2, 4))
    assert len(titles(core.draw(function, x, limit=1000))) == 2 + 12 * 5
    by_dense = core.draw(function, x, limit=20)
    assert titles(by_dense)[:3] == ["input", "block_0/dense_0", "block_0/dense_1"] and len(titles(by_dense)) == 14
    by_block = core.draw(function, x, limit=10)
    assert titles(by_block) == ["input", *(f"net/block_{i}" for i in range(6)), "result"]
    assert by_block.picture.boxes[1].detail.startswith("8 ops") and by_block.picture.boxes[1].count == 8
    whole = core.draw(function, x, limit=3)
    assert titles(whole) == ["input", "net", "result"] and len(whole.picture.edges) == 2


def test_large_graphs_without_layers_collapse_too():
    def function(x):
        y = x
        for _ in range(300):
            y = ops.sin(y) * y + x
        return y

    assert len(titles(core.draw(function, tensor([1.0]), limit=60))) <= 60
    assert core.draw(lambda x: [x] * 3, tensor(1.0)).svg


def test_training_step_draws():
    model = chain(6)

    def step(x):
        return core.value_and_grad(lambda x: ops.sum(model(x)))(x)

    drawing = core.draw(step, ops.ones((2, 4)), limit=40)
    assert len(titles(drawing)) <= 60 and titles(drawing).count("result") == 2


def test_graphs_and_unbuilt_models():
    graph = core.trace(lambda x: x + 1, tensor(1.0))
    assert titles(core.draw(graph)) == ["input", "add", "result"]
    made = []

    def lazy(x):
        if not made:
            made.append(Variable(x.numpy()))
        return x * made[0]

    assert titles(core.draw(lazy, tensor(2.0))) == ["input", "variable", "multiply", "result"]


def test_files(tmp_path):
    graph = core.trace(lambda x: x + 1, tensor(1.0))
    for name in ("a.svg", "b.dot", "c.GV"):
        drawing = core.draw(graph, path=tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") in (drawing.svg, drawing.dot)
    core.draw(graph, path=str(tmp_path / "a.svg"))
    assert sorted(os.listdir(tmp_path)) == ["a.svg", "b.dot", "c.GV"]


def test_errors(tmp_path):
    graph = core.trace(lambda x: x + 1, tensor(1.0))
    with pytest.raises(ValueError, match=r"ends in \.svg or \.dot"):
        core.draw(graph, path=tmp_path / "a.png")
    with pytest.raises(ValueError, match="inputs go with"):
        core.draw(graph, tensor(1.0))
    with pytest.raises(TypeError, match="received int"):
        core.draw(3)
    with pytest.raises(FileNotFoundError):
        core.draw(graph, path=tmp_path / "nowhere" / "a.svg")
    assert os.listdir(tmp_path) == []


def test_kernels_are_drawn_with_their_memory():
    weight = core.Variable(np.ones((4, 5), "float32"))
    drawing = core.draw(lambda x: ops.softmax(ops.relu(x @ weight + 1)), np.ones((2, 4), "float32"), kernels=True)
    titles = [box.title for box in drawing.picture.boxes]
    assert titles[:2] == ["input", "variable"]
    assert titles[2] == "contract add relu"
    assert len(titles) == 5  # then the softmax, and the result
    assert "float32 2×5, 40 B" in drawing.svg
