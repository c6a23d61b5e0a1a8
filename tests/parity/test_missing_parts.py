"""Layers, arguments and initializers that came late give the numbers that Keras gives."""

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

import tenzoo as tz  # noqa: E402

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 255, (1, 13, 11, 3)).astype("float32")  # one: Keras counts a batch as one image
IMAGE[..., 2] = 7
PIXELS = RNG.uniform(0, 255, (3, 12, 14, 3)).astype("float32")
CLAHE = "ContrastLimitedAdaptiveHistogramEqualization"


def close(ours, theirs, rtol=1e-5, atol=1e-5):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("name", "options", "images"),
    [
        ("Equalization", {"bins": 50}, IMAGE),
        (CLAHE, {"tile_grid_size": (3, 2), "value_range": (0, 300)}, IMAGE),
        (CLAHE, {"clip_limit": 0, "tile_grid_size": (2, 2)}, PIXELS),
        ("RandomErasing", {"factor": (1, 1), "scale": (1, 1), "fill_value": 3.0}, PIXELS),
        ("RandomGaussianBlur", {"factor": (1, 1), "sigma": (0.7, 0.7), "kernel_size": 5}, PIXELS),
        ("RandomPerspective", {"factor": (1, 1), "scale": 0.0}, PIXELS),
        ("RandomElasticTransform", {"factor": (0, 0)}, PIXELS),
        ("AugMix", {"num_chains": 2, "chain_depth": 0}, PIXELS),
    ],
)
def test_image_layer(name, options, images):
    theirs = getattr(keras.layers, name)(**options)(images, training=True)
    close(getattr(tz.layers, name)(**options)(images, training=True), theirs, atol=1e-3)


def test_equalization_of_another_range():
    theirs = keras.layers.Equalization((0, 1), bins=30)(IMAGE / 255)
    close(tz.layers.Equalization((0, 1), bins=30)(IMAGE / 255), theirs)


def test_max_num_bounding_boxes():
    boxes = {"boxes": RNG.uniform(size=(2, 3, 4)).astype("float32"), "labels": np.array([[1, 2, 3], [4, 5, 6]])}
    data = {"images": PIXELS[:2], "bounding_boxes": boxes}
    for number in (2, 5):
        theirs = keras.layers.MaxNumBoundingBoxes(number, bounding_box_format="xyxy")(data)["bounding_boxes"]
        ours = tz.layers.MaxNumBoundingBoxes(number)(data)["bounding_boxes"]
        close(ours["boxes"], theirs["boxes"])
        close(ours["labels"], theirs["labels"])


@pytest.mark.parametrize("clipping", [None, {"rmin": 0.5, "rmax": 2.0, "dmax": 1.0}, {"rmax": 1.1}])
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False, "axis": 1}])
def test_batch_renormalization(clipping, options):
    options = {"renorm": True, "renorm_clipping": clipping, "momentum": 0.8, "renorm_momentum": 0.7, **options}
    ours, theirs = tz.layers.BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    for number in range(4):
        x = RNG.normal(number, 1 + number, (6, 4)).astype("float32")
        close(ours(x, training=True), theirs(x, training=True))
    close(ours(x), theirs(x))
    for weight, other in zip(ours.weights, theirs.weights, strict=True):
        assert weight.name == other.name
        close(weight, other)


@pytest.mark.parametrize(
    ("name", "options", "inputs"),
    [
        ("Dense", {"units": 4}, (5, 3)),
        ("EinsumDense", {"equation": "abc,cde->abde", "output_shape": (None, 2, 4), "bias_axes": "e"}, (2, 3, 5)),
        ("Conv1D", {"filters": 4, "kernel_size": 3}, (2, 5, 3)),
        ("Conv2D", {"filters": 4, "kernel_size": 3}, (2, 5, 5, 3)),
        ("Embedding", {"input_dim": 5, "output_dim": 4}, RNG.integers(0, 5, (2, 3))),
    ],
)
def test_low_rank_adaptation(name, options, inputs):
    inputs = inputs if isinstance(inputs, np.ndarray) else RNG.normal(size=inputs).astype("float32")
    ours, theirs = getattr(tz.layers, name)(**options), getattr(keras.layers, name)(**options)
    for layer in (ours, theirs):
        layer(inputs)
        layer.enable_lora(2, lora_alpha=3)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    assert [w.name for w in ours.trainable_weights] == [w.name for w in theirs.trainable_weights]
    values = [RNG.normal(size=weight.shape).astype("float32") for weight in ours.weights]
    ours.set_weights(values)
    for weight, value in zip(theirs.weights, values, strict=True):
        weight.assign(value)
    close(ours(inputs), theirs(inputs))
    ours = getattr(tz.layers, name)(lora_rank=2, **options)
    theirs = getattr(keras.layers, name)(lora_rank=2, **options)
    ours(inputs), theirs(inputs)
    ours.set_weights(values)
    for weight, value in zip(theirs.weights, values, strict=True):
        weight.assign(value)
    close(ours(inputs), theirs(inputs))


@pytest.mark.parametrize(("inputs", "outputs"), [((0,), (1, 2)), ([0, 1], [-1]), (None, None)])
def test_fans_along_axes(inputs, outputs):
    options = {"input_axes": inputs, "output_axes": outputs}
    for name in ("GlorotUniform", "HeNormal", "LecunUniform"):
        shape = (40, 50, 60)
        ours = np.std(np.asarray(getattr(tz.initializers, name)(seed=1, **options)(shape)))
        theirs = np.std(np.asarray(getattr(keras.initializers, name)(seed=1, **options)(shape)))
        assert ours == pytest.approx(theirs, rel=0.02)


def test_initializers_under_their_other_names():
    for name in dir(keras.initializers):
        theirs = getattr(keras.initializers, name)
        if isinstance(theirs, type):
            assert getattr(tz.initializers, name).__name__.startswith(theirs.__name__[:4]), name


def test_multi_optimizer():
    def run(library, variable):
        a, b, c = (variable(np.ones(3, "float32"), name=name) for name in "abc")
        table = library.OptimizerMap(library.SGD(0.1), {"a": library.Adam(0.5)})
        table["b.*"] = library.RMSprop(0.2)
        optimizer = library.MultiOptimizer(table)
        gradients = [np.array([1.0, -2.0, 0.5], "float32") * k for k in (1, 2, 3)]
        for _ in range(3):
            optimizer.apply(gradients, [a, b, c])
        return [np.asarray(v) for v in (a, b, c)]

    for ours, theirs in zip(run(tz.optimizers, tz.Variable), run(keras.optimizers, keras.Variable), strict=True):
        close(ours, theirs)
