"""The zoo against transformers and timm: the same weights give the same outputs and the same gradients."""

import json
from pathlib import Path

import numpy as np
import pytest

from tenzoo import core, zoo
from tenzoo.core import ops
from tenzoo.zoo import conversion, registry
from tenzoo.zoo.vision.preprocess import Preprocess

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")
pytestmark = pytest.mark.slow

SMALL_TRANSFORMER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
SMALL_SWIN = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
SMALL_REGNET = {"embedding_size": 8, "hidden_sizes": [16, 24, 40], "depths": [2, 1, 2], "groups_width": 8}
SMALL_CONVNEXT = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
# name: class of the model, class of its configuration, its settings, side of the images
MODELS = {
    "resnet-basic": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2], "layer_type": "basic"},
        65,
    ),
    "resnet-bottleneck": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [16, 32, 64], "depths": [2, 1, 1], "layer_type": "bottleneck"},
        64,
    ),
    "resnet-original": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {
            "embedding_size": 8,
            "hidden_sizes": [16, 32],
            "depths": [1, 2],
            "layer_type": "bottleneck",
            "downsample_in_bottleneck": True,
        },
        64,
    ),
    "mobilenet_v2": ("MobileNetV2ForImageClassification", "MobileNetV2Config", {"depth_multiplier": 0.35}, 64),
    "mobilenet_v2-even": (
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        {"depth_multiplier": 0.5, "tf_padding": False, "finegrained_output": False},
        64,
    ),
    "mobilenet_v1": ("MobileNetV1ForImageClassification", "MobileNetV1Config", {"depth_multiplier": 0.25}, 64),
    "mobilenet_v1-even": (
        "MobileNetV1ForImageClassification",
        "MobileNetV1Config",
        {"depth_multiplier": 0.25, "tf_padding": False},
        65,
    ),
    "efficientnet": (
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        {"width_coefficient": 0.5, "depth_coefficient": 0.6, "hidden_dim": 640},
        64,
    ),
    "regnet-x": ("RegNetForImageClassification", "RegNetConfig", SMALL_REGNET | {"layer_type": "x"}, 64),
    "regnet-y": ("RegNetForImageClassification", "RegNetConfig", SMALL_REGNET | {"layer_type": "y"}, 65),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", SMALL_CONVNEXT, 64),
    "convnextv2": ("ConvNextV2ForImageClassification", "ConvNextV2Config", SMALL_CONVNEXT, 64),
    "vit": ("ViTForImageClassification", "ViTConfig", SMALL_TRANSFORMER, 32),
    "deit": ("DeiTForImageClassification", "DeiTConfig", SMALL_TRANSFORMER, 32),
    "deit-distilled": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", SMALL_TRANSFORMER, 32),
    "swin": ("SwinForImageClassification", "SwinConfig", SMALL_SWIN | {"image_size": 32}, 32),
    "swin-uneven": ("SwinForImageClassification", "SwinConfig", SMALL_SWIN | {"image_size": 42}, 42),
}
TIMM = {
    "convnext_tiny": 64,
    "convnextv2_atto": 64,
    "densenet121": 64,
    "efficientnet_b0": 65,
    "inception_v3": 80,
    "legacy_xception": 72,
    "mixer_s32_224": 224,
    "mobilenetv1_100": 64,
    "mobilenetv3_large_100": 64,
    "mobilenetv3_small_100": 64,
    "resnext50_32x4d": 64,
    "regnetx_002": 64,
    "regnety_002": 65,
    "seresnet50": 64,
    "tf_efficientnet_b0": 64,
    "vgg11_bn": 224,
    "resnet18": 64,
    "resnet50": 64,
    "resnetv2_50": 64,
    "mobilenetv2_050": 64,
    "vit_tiny_patch16_224": 224,
    "deit_tiny_distilled_patch16_224": 224,
}
SMALL_STAGES = (
    (1, 8, 1, 1, True),
    (4, 16, 1, 2, True),
    (4, 16, 1, 2, True),
    (4, 32, 1, 2, False),
    (6, 40, 2, 1, False),
    (6, 64, 2, 2, False),
)
SMALL_EFFICIENTNETV2 = (
    65,
    {"channel_multiplier": 0.25, "depth_multiplier": 0.12},
    {"stages": SMALL_STAGES, "stem": 8, "top": 320},
)
# The same, made small: name: side of the images, options in timm, options here
SMALL_TIMM = {
    "efficientnetv2_s": SMALL_EFFICIENTNETV2,
    "tf_efficientnetv2_s": SMALL_EFFICIENTNETV2,
    "swin_tiny_patch4_window7_224": (
        36,
        {"img_size": 36, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4},
        {"image_size": 36, "width": 8, "depths": (2, 2), "heads": (2, 4), "window": 4},
    ),
}


def shaken(model):
    """The model with random weights everywhere, so that no zero or one hides a mistake, ready for inference."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                noise = torch.rand(value.shape, generator=generator)
                value.copy_(0.5 + noise if name.endswith("running_var") else value + 0.1 * (noise - 0.5))
    return model.eval()


def images(side):
    return np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("float32")


def as_torch(pixels):
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


def assert_close(actual, expected, tolerance, floor=0.0):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max() + floor)


def gradients_of(theirs, logits_of, pixels, direction):
    """Gradients of sum(logits · direction) by the names of the parameters."""
    theirs.zero_grad()
    parameter = next(theirs.parameters())
    (logits_of(theirs(as_torch(pixels).to(parameter))) * torch.from_numpy(direction).to(parameter)).sum().backward()
    return {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.grad is not None}


def assert_same(ours, theirs, logits_of, pixels, converter):
    """Outputs within 1e-4; gradients within 1e-3, or as near to double precision as theirs are. Returns how many.

    Where a ReLU or the choice of a maximum hangs on the last bit, gradients in single precision scatter. Those that
    are 0 but for rounding (of a bias before a normalisation) are compared with the largest of all.
    """
    with torch.no_grad():
        expected = logits_of(theirs(as_torch(pixels))).numpy()
    assert_close(ours.predict(pixels, verbose=0), expected, 1e-4)
    assert_close(ours(pixels), expected, 1e-4)

    direction = np.random.default_rng(1).normal(size=expected.shape).astype("float32")
    with core.GradientTape() as tape:
        total = ops.sum(ours(pixels) * direction)
    weights = ours.trainable_variables
    gradients = dict(zip((weight.path for weight in weights), tape.gradient(total, weights), strict=True))
    single = gradients_of(theirs, logits_of, pixels, direction)
    double = gradients_of(theirs.double(), logits_of, pixels, direction)
    compared, converter = 0, converter.for_model(ours)
    floor = 1e-6 * max(np.abs(gradient).max() for gradient in double.values())
    for path, layer, variable in conversion.named_weights(ours):
        names = conversion.their_names(path, converter)
        if variable.trainable and set(names) <= set(double):
            exact = np.concatenate([double[name] for name in names])
            scatter = np.abs(np.concatenate([single[name] for name in names]) - exact).max() / np.abs(exact).max()
            exact = conversion.to_our_layout(exact, layer, variable)
            assert_close(gradients[variable.path], exact, max(1e-3, min(2 * scatter, 1)), floor)
            compared += 1
    return compared


def test_weights_that_were_trained_in_tensorflow_get_its_padding(tmp_path):
    config = transformers.MobileNetV1Config(num_labels=5, depth_multiplier=0.25)
    theirs = shaken(transformers.MobileNetV1ForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = theirs(as_torch(images(64))).logits.numpy()
    for weights in (tmp_path, tmp_path / "model.safetensors"):
        assert_close(zoo.create("mobilenet_v1_025", weights=weights)(images(64)), expected, 1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_transformers(name, tmp_path):
    model_class, config_class, settings, side = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(num_labels=5, **settings)
    theirs = shaken(getattr(transformers, model_class)(config))
    theirs.save_pretrained(tmp_path)
    ours = zoo.load(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    converter = registry.find_converter("transformers", written["architectures"][0])
    converter = converter or registry.find_converter("transformers", written["model_type"])
    assert_same(ours, theirs, lambda output: output.logits, images(side), converter)

    # the same from a pickle of tensors
    (tmp_path / "model.safetensors").rename(tmp_path / "weights")
    state = safetensors_torch.load_file(tmp_path / "weights")
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert_close(zoo.load(tmp_path)(images(side)), ours(images(side)), 1e-6)


@pytest.mark.parametrize("side", [24, 56])
def test_images_of_another_size_than_the_positions_were_learnt_for(side, tmp_path):
    theirs = shaken(transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=5, **SMALL_TRANSFORMER)))
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = theirs(as_torch(images(side)), interpolate_pos_encoding=True).logits.numpy()
    assert_close(zoo.load(tmp_path, image_size=side)(images(side)), expected, 1e-4)


@pytest.mark.parametrize("side", [160, 288])
def test_timm_for_images_of_another_size(timm, side, tmp_path):
    settings = {"depth": 1, "num_classes": 5}
    theirs = shaken(timm.create_model("vit_tiny_patch16_224", **settings))
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    theirs.set_input_size((side, side))
    with torch.no_grad():
        expected = theirs(as_torch(images(side))).numpy()
    options = {"patch_size": 16, "width": 192, "heads": 3, "depth": 1, "classes": 5, "image_size": side}
    ours = zoo.create("vit_b16", weights=tmp_path / "model.safetensors", **options)
    assert_close(ours(images(side)), expected, 1e-4)


@pytest.mark.parametrize("name", [*TIMM, *SMALL_TIMM])
def test_timm(timm, name, tmp_path):
    torch.manual_seed(0)
    side, settings, options = SMALL_TIMM[name] if name in SMALL_TIMM else (TIMM[name], {}, {})
    theirs = shaken(timm.create_model(name, num_classes=5, **settings))
    config = {"architecture": name, "num_classes": 5, "pretrained_cfg": dict(theirs.pretrained_cfg)}
    (tmp_path / "config.json").write_text(json.dumps(config, default=str))
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    ours = zoo.load(tmp_path, **options)
    compared = assert_same(ours, theirs, lambda output: output, images(side), registry.find_converter("timm", name))
    assert compared == len(ours.trainable_variables)


def test_torchvision(torchvision, tmp_path):
    torch.manual_seed(0)
    theirs = shaken(torchvision.models.shufflenet_v2_x0_5(num_classes=5))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = zoo.create("shufflenet_v2_x0_5", weights=tmp_path / "weights.pth", classes=5)
    converter = registry.find_converter("torchvision", "shufflenet_v2_x0_5")
    assert assert_same(ours, theirs, lambda output: output, images(64), converter) == len(ours.trainable_variables)


# Sizes

PUBLISHED = json.loads((Path(__file__).parents[1] / "zoo" / "published.json").read_text("utf-8"))


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_published_sizes(library, request):
    makers = request.getfixturevalue(library)
    make = makers.create_model if library == "timm" else makers.models.get_model
    wrong = {}
    for name, (size, source) in PUBLISHED.items():
        if source.startswith(f"{library}:"):
            with torch.device("meta"):
                theirs = make(source.partition(":")[2])
            counted = sum(parameter.numel() for parameter in theirs.parameters())
            if counted != size:
                wrong[name] = size, counted
    assert not wrong


# Images

PROCESSORS = {
    "ViTImageProcessor": {},
    "MobileNetV2ImageProcessor": {},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 224}, "crop_pct": 0.875},
    "DeiTImageProcessor": {},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files: smooth and noisy, of odd sizes, wide and high, as JPEG and as PNG."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for width, height in ((300, 257), (259, 333), (640, 401), (120, 97)):
        waves = np.sin(np.arange(height)[:, None] / 9) * np.cos(np.arange(width) / 7)
        noise = generator.integers(0, 90, (height, width, 3))
        picture = Image.fromarray((80 * waves[..., None] + 85 + noise).clip(0, 255).astype(np.uint8))
        picture.save(folder / f"{width}.jpg", quality=90)
        picture.save(folder / f"{width}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_the_image_processor(name, pictures):
    from PIL import Image

    reference = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
    processor = reference(**PROCESSORS[name])
    preprocess = Preprocess.from_transformers(json.loads(processor.to_json_string()))
    for file in pictures:
        expected = np.asarray(processor(Image.open(file), return_tensors="np")["pixel_values"])[0]
        np.testing.assert_allclose(preprocess(file), expected.transpose(1, 2, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_timm(timm, crop_pct, interpolation, pictures):
    from PIL import Image

    config = {"input_size": (3, 224, 224), "crop_pct": crop_pct, "interpolation": interpolation}
    config |= {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    transform, preprocess = timm.data.create_transform(**config), Preprocess.from_timm(config)
    for file in pictures:
        expected = transform(Image.open(file)).numpy().transpose(1, 2, 0)
        np.testing.assert_allclose(preprocess(file), expected, rtol=1e-5, atol=1e-5)
