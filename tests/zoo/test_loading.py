"""Trained weights from folders and files: what fits is loaded whole, what does not is refused by name."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from zoo_folders import CONFIG, TINY, tensors_of, write_folder

from tenzoo import zoo
from tenzoo.training import SavedFileError
from tenzoo.zoo import conversion, registry

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")


def test_a_folder_of_transformers(folder, model):
    loaded = zoo.load(folder)
    np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), rtol=1e-5)
    assert loaded.labels == ["cat", "dog", "fox"] and loaded.source == str(folder)
    assert loaded.preprocess.size == (32, 32) and loaded.preprocess.resize == 36
    assert loaded.preprocess.interpolation == "bicubic"
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert loaded.classify(picture)[0][0][0] in loaded.labels


def test_shards(folder, model, tensors):
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in files.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in files.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_allclose(zoo.load(folder)(IMAGES), model(IMAGES), rtol=1e-5)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SavedFileError, match="00002-of-00002"):
        zoo.load(folder)


@pytest.mark.parametrize("format", ["transformers", "timm"])
def test_create_with_a_file_of_other_names(format, model, tmp_path):
    key = {"transformers": "resnet", "timm": "resnet18"}[format]
    save_file(tensors_of(model, registry.find_converter(format, key)), tmp_path / "weights.safetensors")
    created = zoo.create("resnet18", weights=tmp_path / "weights.safetensors", classes=3, **TINY)
    np.testing.assert_allclose(created(IMAGES), model(IMAGES), rtol=1e-5)


def test_create_with_a_file_of_ours(model, tmp_path):
    model.save_weights(tmp_path / "weights.safetensors")
    created = zoo.create("resnet18", weights=tmp_path / "weights.safetensors", classes=3, **TINY)
    np.testing.assert_array_equal(created(IMAGES), model(IMAGES))


def test_other_classes_keep_the_features_and_start_a_new_head(folder, model, tmp_path):
    loaded = zoo.load(folder, classes=7)
    assert loaded(IMAGES).shape == (2, 7) and loaded.labels is None
    for ours, theirs in zip(loaded.features(IMAGES), model.features(IMAGES)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert np.ptp(np.asarray(loaded.classifier.kernel)) > 0
    created = zoo.create("resnet18", weights=folder / "model.safetensors", classes=4, **TINY)
    assert created(IMAGES).shape == (2, 4) and np.ptp(np.asarray(created.classifier.kernel)) > 0


def test_options_reach_the_model(folder, model):
    maps = zoo.load(folder, features_only=True)(IMAGES)
    np.testing.assert_allclose(maps[-1], model.features(IMAGES)[-1], rtol=1e-5)


def test_wrong_tensors_are_named_and_nothing_is_loaded(model, tensors):
    converter = registry.find_converter("transformers", "resnet")
    before = np.asarray(model.classifier.bias).copy()
    broken = {name: np.zeros_like(value) for name, value in tensors.items()}
    broken["resnet.embedder.embedder.convolution.wieght"] = broken.pop("resnet.embedder.embedder.convolution.weight")
    broken["classifier.1.weight"] = np.zeros((3, 5), np.float32)
    with pytest.raises(conversion.CheckpointError) as caught:
        conversion.fill(model, broken, converter, "the file")
    message = str(caught.value)
    assert "missing: resnet.embedder.embedder.convolution.weight" in message and "Did you mean" in message
    assert "surplus: resnet.embedder.embedder.convolution.wieght" in message
    assert "misshapen: classifier.1.weight [3, 5]" in message
    np.testing.assert_array_equal(model.classifier.bias, before)


def test_a_checkpoint_of_another_model(folder):
    with pytest.raises(SavedFileError, match="does not fit"):
        zoo.create("resnet50", weights=folder / "model.safetensors", classes=3, **TINY)
    with pytest.raises(SavedFileError, match="does not fit"):
        zoo.create("mobilenet_v2", weights=folder / "model.safetensors", classes=3)


def test_an_unknown_kind_of_model(tensors, tmp_path):
    write_folder(tmp_path, tensors, {**CONFIG, "model_type": "resnett", "architectures": ["ResNettModel"]})
    with pytest.raises(SavedFileError, match="Did you mean 'resnet'"):
        zoo.load(tmp_path)


def test_a_config_that_asks_for_what_is_not_implemented(tensors, tmp_path):
    write_folder(tmp_path, tensors, {**CONFIG, "downsample_in_first_stage": True})
    with pytest.raises(SavedFileError, match="not implemented"):
        zoo.load(tmp_path)
    write_folder(tmp_path, tensors, {k: v for k, v in CONFIG.items() if k != "depths"})
    with pytest.raises(SavedFileError, match="lacks 'depths'"):
        zoo.load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_damaged_and_missing_files(folder, name):
    content = (folder / name).read_bytes()
    for length in (0, 5, len(content) // 2):
        (folder / name).write_bytes(content[:length])
        with pytest.raises(SavedFileError, match=name):
            zoo.load(folder)
    (folder / name).unlink()
    with pytest.raises(SavedFileError, match=name):
        zoo.load(folder)


def test_what_is_neither_file_nor_folder(tmp_path):
    with pytest.raises(SavedFileError, match="hf://"):
        zoo.load(tmp_path / "nothing")
    with pytest.raises(SavedFileError, match="hf://owner/name"):
        zoo.load("hf://no-owner")
