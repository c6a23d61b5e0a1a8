"""Saving and loading: round trips, strictness, crashes in the middle, hostile files."""

import json
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import textwrap
import time
import zipfile

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import layers
from tenzoo.training import SavedFileError


def functional():
    tz.random.seed(0)
    inputs = layers.Input((4,))
    hidden = layers.Dense(5, activation="relu")(inputs)
    return tz.Model(inputs, layers.Dense(2)(hidden))


def sequential():
    return tz.Sequential([layers.Dense(5, activation="relu"), layers.BatchNormalization(), layers.Dense(2)])


class Doubled(tz.Model):
    def __init__(self, units=2, **options):
        super().__init__(**options)
        self.dense = layers.Dense(units)

    def call(self, inputs):
        return 2 * self.dense(inputs)


X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.ones((6, 2), "float32")


def fitted(model):
    model.compile(tz.optimizers.Adam(0.01), "mse", metrics=["mae"])
    model.fit(X, Y, epochs=2, verbose=0)
    return model


@pytest.mark.parametrize("make", [functional, sequential, Doubled])
def test_round_trip_and_training_goes_on_alike(make, tmp_path):
    path = tmp_path / "m.tenzoo"
    model = fitted(make())
    model.save(path)
    loaded = tz.load_model(path, custom_objects={"Doubled": Doubled})
    assert type(loaded) is type(model)
    assert np.array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    histories = [m.fit(X, Y, epochs=2, shuffle=False, verbose=0).history for m in (model, loaded)]
    assert histories[0] == histories[1]
    assert tz.load_model(path, {"Doubled": Doubled}, compile=False).compiled is False


def test_several_inputs_and_outputs_round_trip(tmp_path):
    a, b = layers.Input((4,), name="a"), layers.Input((4,), name="b")
    shared = layers.Dense(3)
    model = tz.Model({"a": a, "b": b}, {"sum": layers.Add()([shared(a), shared(b)]), "b": shared(b)})
    model.compile("sgd", {"sum": "mse"}, loss_weights={"sum": 2.0})
    model.save(tmp_path / "m.tenzoo")
    loaded = tz.load_model(tmp_path / "m.tenzoo")
    assert np.array_equal(
        loaded.predict({"a": X, "b": X}, verbose=0)["sum"], model.predict({"a": X, "b": X}, verbose=0)["sum"]
    )


def test_same_model_same_bytes_and_overwrite(tmp_path):
    model = fitted(functional())
    model.save(tmp_path / "a.tenzoo")
    model.save(tmp_path / "b.tenzoo")
    assert (tmp_path / "a.tenzoo").read_bytes() == (tmp_path / "b.tenzoo").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(tmp_path / "a.tenzoo", overwrite=False)


def test_a_lambda_loss_cannot_be_saved_but_the_model_can(tmp_path):
    model = functional()
    model.compile("sgd", lambda y, p: tz.ops.mean((y - p) ** 2, axis=-1))
    model.fit(X, Y, verbose=0)
    with pytest.warns(UserWarning, match="compile it again"):
        model.save(tmp_path / "m.tenzoo")
    assert not tz.load_model(tmp_path / "m.tenzoo").compiled


def test_a_compile_of_its_own_is_left_to_the_user(tmp_path):
    class Own(Doubled):
        def compile(self, own):
            super().compile("sgd", "mse")

    model = Own()
    model.compile(own=3)
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.tenzoo")
    with pytest.warns(UserWarning, match="compile the model after loading"):
        loaded = tz.load_model(tmp_path / "m.tenzoo", {"Own": Own})
    assert not loaded.compiled and np.array_equal(loaded.get_weights()[0], model.get_weights()[0])


# Weights


@pytest.mark.parametrize("name", ["w.safetensors", "w.weights.h5", "w.weights.tenzoo"])
def test_weights_into_another_model_of_the_same_layers(name, tmp_path):
    model, other = fitted(functional()), functional()
    assert model.weights[0].path != other.weights[0].path  # names are counted on through the process
    model.save_weights(tmp_path / name)
    other.load_weights(tmp_path / name)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights()))
    model.save(tmp_path / "m.tenzoo")
    third = functional()
    third.load_weights(tmp_path / "m.tenzoo")
    assert np.array_equal(third.get_weights()[2], model.get_weights()[2])


def named(*units):
    parts = [layers.Dense(n, name=f"layer{chr(97 + i)}") for i, n in enumerate(units)]
    return tz.Sequential([layers.Input((4,)), *parts])


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "w.safetensors"
    named(3, 2).save_weights(path)
    for model, message in [
        (named(3, 2, 1), r"missing: layerc/kernel, float32\[2, 1\]"),
        (named(3), r"unknown: layerb/bias, float32\[2\]"),
        (named(3, 5), r"layerb/kernel: the model has float32\[3, 5\], the file float32\[3, 2\]"),
    ]:
        before = model.get_weights()
        with pytest.raises(SavedFileError, match=message) as caught:
            model.load_weights(path)
        assert str(path) in str(caught.value)
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    model = named(3, 5)
    with pytest.warns(UserWarning, match="layerb/kernel"):
        model.load_weights(path, skip_mismatch=True)
    saved = named(3, 2)
    saved.load_weights(path)
    assert np.array_equal(model.get_weights()[0], saved.get_weights()[0])


def test_unbuilt_models_say_so(tmp_path):
    with pytest.raises(ValueError, match="call it"):
        sequential().save(tmp_path / "m.tenzoo")
    with pytest.raises(ValueError, match="call it"):
        sequential().save_weights(tmp_path / "m.safetensors")


# Crashes


def test_sigkill_while_saving_leaves_a_whole_file(tmp_path):
    script = textwrap.dedent(
        """
        import sys, numpy as np, tenzoo as tz
        model = tz.Sequential([tz.layers.Input((400,)), tz.layers.Dense(400, use_bias=False)])
        print("ready", flush=True)
        for value in range(1, 100000):
            model.set_weights([np.full((400, 400), value, "float32")])
            model.save(sys.argv[1])
        """
    )
    path = tmp_path / "m.tenzoo"
    rng = random.Random(0)
    seen = set()
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
        try:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.02 + 0.1 * rng.random())
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        if path.exists():
            (kernel,) = tz.load_model(path).get_weights()
            assert np.all(kernel == kernel[0, 0]) and kernel[0, 0] >= 1
            seen.add(float(kernel[0, 0]))
    assert seen


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        functional().save(tmp_path / "nowhere" / "m.tenzoo")


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.tenzoo"
    model = fitted(functional())
    model.save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        model.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["m.tenzoo"]


# Hostile and damaged files


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refuse(path, members, match, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    with pytest.raises(SavedFileError, match=match) as caught:
        tz.load_model(path)
    assert str(path) in str(caught.value)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "m.tenzoo"
    fitted(functional()).save(path)
    return path, members_of(path)


def with_config(members, change):
    config = json.loads(members["tenzoo.json"])
    change(config)
    return list({**members, "tenzoo.json": json.dumps(config)}.items())


def test_truncated_and_corrupt_files(saved):
    path, _ = saved
    data = path.read_bytes()
    for damaged in (
        b"",
        data[:10],
        data[: len(data) // 2],
        data[:-30],
        b"<html>not found</html>",
        pickle.dumps(1),
    ):
        path.write_bytes(damaged)
        with pytest.raises(SavedFileError, match=r"m\.tenzoo"):
            tz.load_model(path)
    path.write_bytes(data[:2000] + b"\xff" * 50 + data[2050:])
    with pytest.raises(SavedFileError, match=r"m\.tenzoo"):
        tz.load_model(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_archives(saved):
    path, members = saved
    items = list(members.items())
    refuse(path, [*items, ("../../evil", b"x")], "leads out")
    refuse(path, [*items, ("/etc/evil", b"x")], "leads out")
    refuse(path, [*items, ("evil", b"x")], "expected")
    refuse(path, [*items, items[0]], "twice")
    refuse(path, items, "compressed", zipfile.ZIP_DEFLATED)
    refuse(path, items[:1], "expected")
    assert not (path.parent.parent / "evil").exists()


def test_hostile_configs(saved):
    path, members = saved

    def rename(config):
        config["model"]["config"]["layers"][1]["class_name"] = "os>system"

    refuse(path, with_config(members, rename), "os>system")

    def call(config):
        config["model"] = {"class_name": "__function__", "name": "os.system"}

    refuse(path, with_config(members, call), "os.system")
    for units in (-3, float("nan"), 10**15, "5; import os"):
        refuse(
            path,
            with_config(members, lambda c, u=units: c["model"]["config"]["layers"][1]["config"].update(units=u)),
            "m.tenzoo",
        )
    mixer = {"patch_size": 2, "width": 4, "depth": 10**6, "image_size": 4, "channels": 1, "classes": 2}
    for config in (mixer, {**mixer, "depth": 1, "width": 10**5}):  # refused before all of it is made
        model = {"class_name": "zoo.vision.mixer>MLPMixer", "config": config}
        refuse(path, with_config(members, lambda c, m=model: c.update(model=m, input="float32:1,4,4,1")), "far more")
    refuse(path, with_config(members, lambda c: c.update(model=3)), "no model")
    refuse(path, with_config(members, lambda c: c.update(format=99)), "format")
    deep = b'{"format": 1, "model": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    refuse(path, list({**members, "tenzoo.json": deep}.items()), "deep")


def test_hostile_safetensors(saved, tmp_path):
    path, members = saved
    good = members["weights.safetensors"]
    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}

    def pack(header, body=b"\0" * 8):
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + body

    bad = {
        "absurd header": struct.pack("<Q", 10 << 30) + good[8:],
        "short": b"\x01",
        "cut": good[:-4],
        "negative": pack({"a": {**header["a"], "shape": [-2]}}),
        "nan": pack({"a": {**header["a"], "shape": [float("nan")]}}),
        "overlap": pack({"a": header["a"], "b": header["a"]}),
        "beyond": pack({"a": {**header["a"], "data_offsets": [0, 1 << 40]}}),
        "no object": pack([1, 2]),
        "pickle": pickle.dumps([1, 2, 3]),
    }
    for data in bad.values():
        refuse(path, list({**members, "weights.safetensors": data}.items()), "m.tenzoo")
        file = tmp_path / "w.safetensors"
        file.write_bytes(data)
        with pytest.raises(SavedFileError, match=r"w\.safetensors"):
            functional().load_weights(file)
