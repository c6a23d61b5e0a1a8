"""The recipes for any model and any folder: where the pictures come from, what is held out, what goes wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from tenzoo import datasets
from tenzoo.recipes import registry, report
from tenzoo.recipes.run_folder import RunFolder
from tenzoo.recipes.vision import _own_pictures, _shapes
from tenzoo.recipes.vision.classify import Config

TINY = ["--model", "lenet5", "--image-size", 16, "--epochs", 1, "--batch-size", 64]
CLASSES = ("crescent", "flower", "heart")


def write_pictures(root, per_class, seed=0, size=24, classes=CLASSES):
    """A folder of PNG and JPEG files for each of some shapes."""
    shapes = {name: shape for name, shape in (_shapes.SOURCE | _shapes.TARGET).items() if name in classes}
    images, labels = _shapes.draw(shapes, per_class * len(shapes), size, seed)
    for number, (image, label) in enumerate(zip(images, labels)):
        folder = root / list(shapes)[label]
        folder.mkdir(parents=True, exist_ok=True)
        image, suffix = Image.fromarray(image[: size - number % 5]), "png" if number % 2 else "jpg"
        image.save(folder / f"{number:04}.{suffix}")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"), 20)


@pytest.fixture(scope="module")
def classified(pictures, tmp_path_factory, tenzoo):
    """A finished run of vision/classify on the folder."""
    out = tmp_path_factory.mktemp("classified") / "run"
    outcome = tenzoo("run", "vision/classify", "--data", pictures, *TINY, "--ema", 0.9, "--out", out, "--json")
    assert outcome.status == 0, outcome.errors
    return out


def test_generated_pictures():
    images, labels = _shapes.draw(_shapes.SOURCE, 20, 16, seed=3)
    assert images.shape == (20, 16, 16, 3) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [2] * 10
    again, _ = _shapes.draw(_shapes.SOURCE, 20, 16, seed=3)
    np.testing.assert_array_equal(images, again)
    assert len({image.tobytes() for image in images}) == 20
    assert not set(_shapes.SOURCE) & set(_shapes.TARGET)


def test_each_class_is_divided_alike_and_nothing_is_shared(pictures):
    splits = _own_pictures.load(Config(data=str(pictures)), 16)
    assert splits.classes == CLASSES
    parts = [set(part.images) for part in splits[:3]]
    assert [len(part) for part in parts] == [42, 6, 12] and len(set.union(*parts)) == 60
    for part in splits[:3]:
        assert len(set(np.bincount(part.labels))) == 1
        assert all(CLASSES[label] in path for path, label in zip(part.images, part.labels))
    assert [len(part.labels) for part in _own_pictures.load(Config(data=str(pictures), limit=10), 16)[:3]][2] == 10
    other = _own_pictures.load(Config(data=str(pictures), seed=1), 16)
    assert set(other.test.images) != parts[2]


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_folder_that_is_divided_already(tmp_path, test):
    write_pictures(tmp_path / "train", 10)
    write_pictures(tmp_path / test, 4, seed=1)
    splits = _own_pictures.load(Config(data=str(tmp_path)), 16)
    assert len(splits.test.labels) == 12 and all(f"/{test}/" in path for path in splits.test.images)
    assert len(splits.train.labels) == 27 and len(splits.validation.labels) == 3
    (tmp_path / test / "zebra").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / test / "zebra" / "0.png")
    with pytest.raises(datasets.DataError, match="the same classes; they differ in zebra"):
        _own_pictures.load(Config(data=str(tmp_path)), 16)


def test_batches_are_what_the_model_reads_from_files(pictures):
    splits = _own_pictures.load(Config(data=str(pictures)), 16)
    model = _own_pictures.make_model("resnet20", splits, 16, depths=(1,), widths=(4,))
    images, labels = next(iter(splits.test.batches(model.preprocess, 5)))
    np.testing.assert_array_equal(images, model.preprocess(list(splits.test.images[:5])))
    np.testing.assert_array_equal(labels, splits.test.labels[:5])
    config = Config(batch_size=7)
    augmented = splits.train.augmented_batches(model.preprocess, config)
    first, second = next(iter(augmented)), next(iter(augmented))
    assert first[0].shape == (7, 16, 16, 3) and first[0].dtype == np.float32
    assert not np.array_equal(first[0], second[0]), "each epoch is drawn anew"
    np.testing.assert_array_equal(first[0], next(iter(augmented.iterate(0)))[0])


def test_classify_a_folder(classified, pictures, tenzoo):
    metrics = RunFolder(classified).read("metrics.json")
    assert set(metrics["test"]) == {"accuracy", "loss"}
    assert {"gradcam.png", "samples.png", "confusion.png", "curves.png"} <= {f.name for f in classified.iterdir()}
    photo = next((pictures / "heart").iterdir())
    (record,) = json.loads(tenzoo("predict", classified, photo, "--json").output)
    assert {entry["label"] for entry in record["predictions"]} == set(CLASSES)
    assert sum(entry["probability"] for entry in record["predictions"]) == pytest.approx(1, abs=1e-4)


def test_transfer_from_a_run_and_on_a_folder(classified, pictures, tenzoo, tmp_path):
    options = ["--source", classified, "--data", pictures, "--head-epochs", 1, "--epochs", 1, "--batch-size", 64]
    status, output, errors = tenzoo("run", "vision/transfer", *options, "--out", tmp_path / "run", "--json")
    assert status == 0, errors
    metrics = json.loads(output)
    assert metrics["margin"] == pytest.approx(metrics["test"]["accuracy"] - metrics["scratch"]["accuracy"])
    assert [line["epoch"] for line in RunFolder(tmp_path / "run").history] == [1, 2]
    assert not (tmp_path / "run" / "source.jsonl").exists()


def test_an_interrupted_transfer_goes_on_to_the_same_end(tenzoo, smoke_run, tmp_path, monkeypatch):
    from tenzoo import training

    fit, calls = training.Model.fit, []

    def interrupted(self, *arguments, **options):
        calls.append(self)
        if len(calls) == 3:  # after the source and the head
            raise KeyboardInterrupt
        return fit(self, *arguments, **options)

    monkeypatch.setattr(training.Model, "fit", interrupted)
    assert tenzoo("run", "vision/transfer", "--smoke", "--out", tmp_path / "run").status == 130
    monkeypatch.undo()
    assert tenzoo("resume", tmp_path / "run", "--json").status == 0
    run, whole = RunFolder(tmp_path / "run"), RunFolder(smoke_run("vision/transfer"))
    for log in ("source", "metrics", "scratch"):
        first, second = (
            [{k: v for k, v in line.items() if k != "seconds"} for line in of.history_of(log)] for of in (run, whole)
        )
        assert first == second and first
    first, second = ({**of.read("metrics.json"), "seconds": 0} for of in (run, whole))
    assert first == second


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("classify", ["--data", "{empty}"], "has no subfolder"),
        ("classify", ["--data", "{empty}/nothing"], "there is no folder"),
        ("classify", ["--data", "{hollow}"], "there are none in sheep"),
        ("classify", ["--data", "{lonely}"], "needs 3 images at least; cow has fewer"),
        ("classify", ["--data", "{pictures}", "--model", "resnet21"], "Unknown model 'resnet21'. Did you mean"),
        ("classify", ["--smallest-crop", "0"], "smallest_crop must lie in (0, 1]"),
        ("classify", ["--ema", "1"], "ema must lie in [0, 1)"),
        ("classify", ["--label-smoothing", "1"], "label_smoothing must lie in [0, 1)"),
        ("transfer", ["--source", "imagenett", "--model", "resnet50"], "Did you mean 'imagenet'"),
        ("transfer", ["--source", "{digits}"], "holds a Sequential; expected an image classifier of the zoo"),
        ("distill", ["--teacher", "{classified}", "--data", "{two}"], "was trained for the classes ['crescent',"),
        ("cifar10-resnet20", ["--depth", "21"], "depth must be 6n + 2"),
        ("airbench", ["--data", "synthetic", "--limit", "9"], "batch_size is 1024, more than the 9 training images"),
    ],
)
def test_errors(tenzoo, tmp_path, pictures, classified, smoke_run, recipe, options, message):
    places = {"empty": tmp_path / "empty", "hollow": tmp_path / "hollow", "two": tmp_path / "two"}
    places["lonely"] = tmp_path / "lonely"
    for place in (places["empty"], places["hollow"] / "sheep", places["lonely"] / "cow"):
        place.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(places["lonely"] / "cow" / "0.png")
    for name in ("crescent", "heart"):
        (places["two"] / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (9, 9)).save(places["two"] / name / f"{number}.png")
    if "{digits}" in options:
        places["digits"] = smoke_run("vision/digits")
    argv = [option.format(pictures=pictures, classified=classified, **places) for option in options]
    status, output, errors = tenzoo("run", f"vision/{recipe}", *argv, "--out", tmp_path / "run")
    assert status and not output and message in errors and "Traceback" not in errors
    assert not (tmp_path / "run").exists(), "what was not begun leaves no folder behind"


def test_a_damaged_picture_is_named(tenzoo, tmp_path):
    root = write_pictures(tmp_path / "pictures", 4)
    bad = root / "heart" / "bad.jpg"
    bad.write_bytes(next((root / "heart").glob("*.jpg")).read_bytes()[:200])
    status, _, errors = tenzoo("run", "vision/classify", "--data", root, *TINY, "--out", tmp_path / "run")
    assert status == 1 and str(bad) in errors


@pytest.mark.slow
def test_transfer_beats_scratch_on_a_small_folder(tenzoo, tmp_path):
    # Of ten shapes there are many pictures, of three others a dozen each to learn from.
    many = write_pictures(tmp_path / "many", 150, size=32, classes=_shapes.SOURCE)
    few = write_pictures(tmp_path / "few", 20, seed=1, size=32)
    source = tmp_path / "source"
    status, _, errors = tenzoo("run", "vision/classify", "--data", many, "--epochs", 15, "--out", source, "--json")
    assert status == 0, errors
    options = ["--source", source, "--data", few, "--out", tmp_path / "run", "--json"]
    status, output, errors = tenzoo("run", "vision/transfer", *options)
    assert status == 0, errors
    metrics = json.loads(output)
    assert metrics["margin"] >= 0.2 and metrics["test"]["accuracy"] >= 0.75, metrics


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vision/classify", "vision/transfer"])
def test_reaches_what_it_promises(tenzoo, tmp_path, name):
    status, output, errors = tenzoo("run", name, "--out", tmp_path / "run", "--json")
    assert status == 0, errors
    verdicts = report.verdicts(registry.find(name), RunFolder(tmp_path / "run").settings, json.loads(output))
    assert verdicts and all(reached for _, reached in verdicts), verdicts
