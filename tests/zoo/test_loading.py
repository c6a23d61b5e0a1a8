"""Trained weights from folders and files: what fits is loaded whole, what does not is refused by name."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from zoo_folders import CONFIG, PROCESSOR, TINY, tensors_of, write_folder

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


def test_classes_are_those_of_the_weights_if_nothing_else_is_asked_for(folder, model, tmp_path):
    model.save_weights(tmp_path / "ours.safetensors")
    model.save(tmp_path / "ours.tenzoo")
    for file in (folder / "model.safetensors", tmp_path / "ours.safetensors", tmp_path / "ours.tenzoo"):
        np.testing.assert_allclose(zoo.create("resnet18", weights=file, **TINY)(IMAGES), model(IMAGES), rtol=1e-5)
        other = zoo.create("resnet18", weights=file, classes=7, **TINY)
        assert other(IMAGES).shape == (2, 7) and np.ptp(np.asarray(other.classifier.kernel)) > 0
        np.testing.assert_allclose(other.features(IMAGES)[-1], model.features(IMAGES)[-1], rtol=1e-5)


def test_a_whole_model_takes_a_new_head(model, tmp_path):
    model.save(tmp_path / "ours.tenzoo")
    assert zoo.load(tmp_path / "ours.tenzoo", classes=7)(IMAGES).shape == (2, 7)
    maps = zoo.load(tmp_path / "ours.tenzoo", features_only=True)(IMAGES)
    np.testing.assert_allclose(maps[-1], model.features(IMAGES)[-1], rtol=1e-5)
    with pytest.raises(TypeError, match="classes and features_only; received drop_path"):
        zoo.load(tmp_path / "ours.tenzoo", drop_path=0.1)


@pytest.mark.parametrize("prefix", ["resnet.", ""])
def test_weights_without_a_head(prefix, model, tensors, tmp_path, caplog):
    body = {name.replace("resnet.", prefix): value for name, value in tensors.items() if "classifier" not in name}
    write_folder(tmp_path, body)
    with pytest.raises(SavedFileError, match=r"no weights for the head .*classes=10"):
        zoo.load(tmp_path)
    loaded = zoo.load(tmp_path, classes=4)
    assert loaded(IMAGES).shape == (2, 4) and loaded.labels is None
    assert np.ptp(np.asarray(loaded.classifier.kernel)) > 0 and "classifier" in caplog.text
    maps = zoo.load(tmp_path, features_only=True)(IMAGES)
    for ours in (loaded.features(IMAGES)[-1], maps[-1]):
        np.testing.assert_allclose(ours, model.features(IMAGES)[-1], rtol=1e-5)
    created = zoo.create("resnet18", weights=tmp_path, classes=4, **TINY)
    np.testing.assert_allclose(created.features(IMAGES)[-1], maps[-1], rtol=1e-5)
    body.pop(f"{prefix}embedder.embedder.convolution.weight")
    write_folder(tmp_path, body)
    with pytest.raises(SavedFileError, match=r"missing: resnet\.embedder\.embedder\.convolution\.weight"):
        zoo.load(tmp_path, classes=4)


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
    with pytest.raises(SavedFileError, match="seems to be of another model, as 0 of its weights are there") as caught:
        zoo.create("mobilenet_v2", weights=folder / "model.safetensors", classes=3)
    lines = str(caught.value).splitlines()
    assert len(lines) < 10 and any("surplus: resnet.embedder" in line for line in lines)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": None}, None),
        ({"image_size": "x"}, "config.json"),
        ({"num_channels": None}, "config.json"),
        ({"id2label": None, "num_labels": "many"}, "config.json"),
        ({"hidden_sizes": [8]}, "config.json"),
        ({"depths": [1, 1, 1], "hidden_sizes": [8, 16, 16]}, "missing: resnet.encoder.stages.2.layers.0"),
    ],
)
def test_configs_with_strange_contents(change, message, folder):
    (folder / "config.json").write_text(json.dumps({**CONFIG, **change}))
    if message is None:
        zoo.load(folder)
        return
    with pytest.raises(SavedFileError, match=message):
        zoo.load(folder)


@pytest.mark.parametrize("change", [{"size": "x"}, {"resample": 9}, {"image_std": None}, {"image_mean": [0.5]}])
def test_processors_with_strange_contents(change, folder):
    processor = {**PROCESSOR, **change}
    (folder / "preprocessor_config.json").write_text(json.dumps({k: v for k, v in processor.items() if v is not None}))
    with pytest.raises(SavedFileError, match="model"):
        zoo.load(folder)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "header"),
    ],
)
def test_what_is_no_file_of_weights(start, message, folder):
    (folder / "model.safetensors").write_bytes(start)
    with pytest.raises(SavedFileError, match=message):
        zoo.load(folder)
    with pytest.raises(SavedFileError, match=message):
        zoo.create("resnet18", weights=folder / "model.safetensors", **TINY)


def test_pickles_are_not_run(folder, tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": Hostile()}, protocol=2))
    with pytest.raises(SavedFileError, match="only tensors are read"):
        zoo.load(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Hostile()}))
    with pytest.raises(SavedFileError, match="plain pickle"):
        zoo.load(folder)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "places", [[1], {"a": 1}, {"a": {"b": "c"}}, {"a": "../model.safetensors"}, {"a": "/etc/hosts"}]
)
def test_an_index_that_is_none(places, folder):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(SavedFileError, match=r"index\.json .*(weight_map|expected files beside it)"):
        zoo.load(folder)


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
    for meant in ("microsoft/resnet-50", "https://huggingface.co/microsoft/resnet-50"):
        with pytest.raises(SavedFileError, match="is hf://microsoft/resnet-50"):
            zoo.load(meant)
    with pytest.raises(SavedFileError, match=r"tz\.zoo\.create\('resnet50'"):
        zoo.load("resnet50")


def test_weights_alone_need_a_name(folder):
    with pytest.raises(SavedFileError, match=r"tz\.zoo\.create\(name, weights="):
        zoo.load(folder / "model.safetensors")
