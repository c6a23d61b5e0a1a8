"""The zoo against keras.applications: files that Keras saved give the same outputs and the same gradients."""

import re

import numpy as np
import pytest

from tenzoo import core, layers, training, zoo
from tenzoo.core import ops
from tenzoo.zoo import conversion, registry

keras = pytest.importorskip("keras")
jax = pytest.importorskip("jax")
pytest.importorskip("h5py")
modules = pytest.importorskip("keras.src.applications")  # the functions that make small ones are not public
pytestmark = pytest.mark.slow

apps = keras.applications
COMMON = {"weights": None, "classes": 5, "classifier_activation": None}


def efficientnet(module, **options):
    """EfficientNet-B0 or EfficientNetV2-B0 with a block in each stage."""
    make = getattr(module, "EfficientNet", None) or module.EfficientNetV2
    return make(width_coefficient=1.0, depth_coefficient=0.1, default_size=224, dropout_rate=0, **options)


def resnet(stack, v2, name, **options):
    """A ResNet of 2, 2 and 2 blocks, as ``options_for`` makes ours."""
    stack = getattr(modules.resnet, stack)

    def stages(x):
        x = stack(x, 24, 2, **({} if v2 else {"stride1": 1}), name="conv2")
        x = stack(x, 32, 2, name="conv3")
        return stack(x, 40, 2, **({"stride1": 1} if v2 else {}), name="conv4")

    return modules.resnet.ResNet(stages, v2, True, name=name, weights_name=name, **options)


def one_each(stages):
    return tuple((expansion, channels, 1, *rest) for expansion, channels, _, *rest in stages)


def options_for(name):
    """Options that make ours as small as theirs."""
    if name == "efficientnetb0":
        from tenzoo.zoo.vision.efficientnet import STAGES

        return {"stages": one_each(STAGES)}
    if name == "efficientnetv2-b0":
        from tenzoo.zoo.vision.efficientnet_v2 import B0

        return {"stages": one_each(B0)}
    if name.startswith("resnet"):
        return {"depths": (2, 2, 2), "widths": (96, 128, 160)}
    if name == "convnext_tiny":
        return dict(zip(("depths", "widths"), SMALL_CONVNEXT))
    return {"depths": (1, 2, 1, 1)} if name == "densenet121" else {}


SMALL_CONVNEXT = (1, 2, 1, 1), (8, 16, 24, 32)
# Keras's name: ours, how Keras makes it, side of the images
MODELS = {
    "mobilenet_0.25": ("mobilenet_v1_025", lambda **o: apps.MobileNet(alpha=0.25, dropout=0, **o), 64),
    "mobilenetv2_0.50": ("mobilenet_v2_050", lambda **o: apps.MobileNetV2(alpha=0.5, **o), 64),
    "MobileNetV3Small": (
        "mobilenet_v3_small",
        lambda **o: apps.MobileNetV3Small(include_preprocessing=False, dropout_rate=0, **o),
        64,
    ),
    "inception_v3": ("inception_v3", apps.InceptionV3, 75),
    "xception": ("xception", apps.Xception, 72),
    "efficientnetb0": (
        "efficientnet_b0",
        lambda **o: efficientnet(modules.efficientnet, name="efficientnetb0", **o),
        64,
    ),
    "efficientnetv2-b0": (
        "efficientnetv2_b0",
        lambda **o: efficientnet(modules.efficientnet_v2, name="efficientnetv2-b0", include_preprocessing=False, **o),
        64,
    ),
    "densenet121": ("densenet121", lambda **o: modules.densenet.DenseNet([1, 2, 1, 1], name="densenet121", **o), 64),
    "resnet50": ("resnet50", lambda **o: resnet("stack_residual_blocks_v1", False, name="resnet50", **o), 64),
    "resnet50v2": ("resnet50_v2", lambda **o: resnet("stack_residual_blocks_v2", True, name="resnet50v2", **o), 64),
    "vgg16": ("vgg16", apps.VGG16, 32),
    "convnext_tiny": (
        "convnext_tiny",
        lambda **o: modules.convnext.ConvNeXt(*SMALL_CONVNEXT, name="convnext_tiny", include_preprocessing=False, **o),
        64,
    ),
}


# Where in single precision a ReLU hangs on the last bit somewhere, and gradients scatter.
DOUBLE = ("inception_v3",)


@pytest.fixture
def floatx(request):
    """Double precision in all libraries for the networks of ``DOUBLE``."""
    precision = "float64" if request.node.callspec.params["name"] in DOUBLE else "float32"
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", before or precision == "float64")
    keras.config.set_floatx(precision)
    core.config.set_floatx(precision)
    yield precision
    core.config.set_floatx("float32")
    keras.config.set_floatx("float32")
    jax.config.update("jax_enable_x64", before)


def made(name, **options):
    """A model of Keras with random weights everywhere, and the numbers of its layers without names not from 0 on."""
    keras.utils.set_random_seed(0)
    keras.utils.clear_session()
    keras.Sequential([keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()])
    _, make, side = MODELS[name]
    model = make(input_shape=(side, side, 3), **(options or COMMON))
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if not weight.path.startswith("normalization"):
            noise = generator.random(weight.shape)
            shaken = 0.5 + noise if weight.name == "moving_variance" else np.asarray(weight) + 0.1 * (noise - 0.5)
            weight.assign(shaken)
    return model


def gradients_of(model, images, direction):
    """Gradients of sum(logits · direction) by layer and role, as the zoo names them."""
    fixed = [weight.value for weight in model.non_trainable_variables]

    def total(trained):
        return (model.stateless_call(trained, fixed, images)[0] * direction).sum()

    trained = [weight.value for weight in model.trainable_variables]
    values = jax.jit(jax.grad(total))(trained)
    ranks = {}
    for kind in ("conv2d", "batch_normalization"):
        names = {layer.name for layer in model.layers if re.fullmatch(rf"{kind}(_\d+)?", layer.name)}
        ordered = sorted(names, key=lambda name: int(name[len(kind) + 1 :] or 0))
        ranks |= {name: f"{kind}_{rank}" for rank, name in enumerate(ordered)}
    split = ((*weight.path.split("/")[-2:], value) for weight, value in zip(model.trainable_variables, values))
    return {f"{ranks.get(layer, layer)}/{role}": np.asarray(value) for layer, role, value in split}


def assert_close(actual, expected, tolerance):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", MODELS)
def test_keras_applications(name, floatx, tmp_path):
    ours_name, _, side = MODELS[name]
    theirs, options = made(name), options_for(name)
    pixels = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(floatx)
    inputs = pixels * 255 if name == "efficientnetb0" else pixels  # theirs divides by it
    expected = np.asarray(theirs(inputs))

    theirs.save(tmp_path / "model.keras")
    ours = zoo.load(tmp_path / "model.keras", **options)
    assert ours.image_size == side and ours.preprocess.size == (side, side)
    assert_close(ours.predict(pixels, verbose=0), expected, 1e-4)

    direction = np.random.default_rng(1).normal(size=expected.shape).astype(floatx)
    with core.GradientTape() as tape:
        total = ops.sum(ours(pixels) * direction)
    weights = ours.trainable_variables
    gradients = dict(zip((weight.path for weight in weights), tape.gradient(total, weights), strict=True))
    converter = registry.find_converter("keras", name).for_model(ours)
    reference = conversion.usual_names(ours, gradients_of(theirs, inputs, direction), converter)
    for path, _, variable in conversion.named_weights(ours):
        if variable.trainable:
            (their_name,) = conversion.their_names(path, converter)
            assert_close(gradients[variable.path], reference[their_name].reshape(variable.shape), 1e-3)

    # weights alone, and Keras's older format
    theirs.save_weights(tmp_path / "model.weights.h5")
    theirs.save(tmp_path / "model.h5")
    wanted = {"classes": 5, "image_size": side, **options}
    for file in ("model.weights.h5", "model.h5"):
        created = zoo.create(ours_name, weights=tmp_path / file, **wanted)
        for mine, loaded in zip(ours.weights, created.weights, strict=True):
            np.testing.assert_array_equal(mine, loaded)
    assert zoo.load(tmp_path / "model.h5", classes=7, **options).classes == 7
    with pytest.raises(training.SavedFileError, match="weights alone"):
        zoo.load(tmp_path / "model.weights.h5")


@pytest.mark.parametrize("name", MODELS)
def test_files_without_the_last_layers(name, tmp_path, caplog):
    ours_name, _, side = MODELS[name]
    theirs, options = made(name, weights=None, include_top=False), options_for(name)
    pixels = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("float32")
    expected = np.asarray(theirs(pixels * 255 if name == "efficientnetb0" else pixels))
    theirs.save(tmp_path / "model.keras")
    theirs.save(tmp_path / "model.h5")
    theirs.save_weights(tmp_path / "model.weights.h5")

    with pytest.raises(training.SavedFileError, match=r"model\.keras has no weights for the head .*classes=10"):
        zoo.load(tmp_path / "model.keras", **options)
    ours = zoo.load(tmp_path / "model.keras", classes=4, **options)
    assert "has no weights for" in caplog.text and "classifier" in caplog.text
    maps = ours.features(pixels)[-1]
    if isinstance(getattr(ours, "top", None), layers.Layer):
        maps = ours.top(maps)
    if name == "convnext_tiny":
        maps = ours.norm(ops.reshape(maps, (-1, maps.shape[-1]))).numpy().reshape(maps.shape)
    assert_close(maps, expected, 1e-4)
    assert all(np.ptp(np.asarray(ours(pixels)), axis=1) > 0), "the new head is not zero"

    wanted = {"image_size": side, **options}
    trunk = zoo.load(tmp_path / "model.keras", features_only=True, **options)
    for file in ("model.weights.h5", "model.h5"):
        created = zoo.create(ours_name, weights=tmp_path / file, features_only=True, **wanted)
        for mine, loaded in zip(created.weights, trunk.weights, strict=True):
            np.testing.assert_array_equal(mine, loaded)


def test_a_file_of_another_model_is_refused(tmp_path):
    theirs = made("mobilenet_0.25")
    theirs.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(training.SavedFileError, match="does not fit"):
        zoo.create("mobilenet_v1_050", weights=tmp_path / "model.weights.h5")
    with pytest.raises(training.SavedFileError, match="Keras"):
        zoo.create("lenet5", weights=tmp_path / "model.weights.h5")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="mine").save(tmp_path / "mine.keras")
    with pytest.raises(training.SavedFileError, match="mine"):
        zoo.load(tmp_path / "mine.keras")


@pytest.mark.parametrize("module", ["mobilenet", "densenet", "vgg16"])
def test_pixels_are_those_of_preprocess_input(module):
    pytest.importorskip("PIL")
    from tenzoo.zoo.vision.preprocess import Preprocess

    mode = {"mobilenet": "tf", "densenet": "torch", "vgg16": "caffe"}[module]
    picture = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    expected = getattr(apps, module).preprocess_input(picture.astype("float32"))
    np.testing.assert_allclose(Preprocess.from_keras(mode, 9)(picture), expected, rtol=1e-5, atol=1e-4)
