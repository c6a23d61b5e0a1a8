"""Files of other libraries: tensors of torch and safetensors are read, and everything else is refused.

The files are written by hand here; tests/parity reads those that the libraries themselves write.
"""

import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

import tenzoo as tz
from tenzoo import layers
from tenzoo.training import SavedFileError
from tenzoo.training.interop import read_safetensors, read_torch

STORAGES = {"<f4": "FloatStorage", "<f2": "HalfStorage", "<i8": "LongStorage", "|b1": "BoolStorage"}


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(key, storage, count, shape, strides, offset=0):
    """The instructions with which torch pickles a tensor."""
    place = b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + integer(count)
    tail = b"\x89ccollections\nOrderedDict\n)RtR"
    view = integer(offset) + integers(shape) + integers(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + place + b"tQ" + view + tail


def program(entries):
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in entries.items()) + b"u."


def write(path, entries, storages=(), extra=()):
    code = entries if isinstance(entries, bytes) else program(entries)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", code)
        archive.writestr("weights/byteorder", "little")
        for number, data in enumerate(storages):
            archive.writestr(f"weights/data/{number}", data)
        for name, data in extra:
            archive.writestr(name, data)
    return path


def save_torch(path, arrays):
    """Write arrays as ``torch.save`` does."""
    entries = {}
    for number, (name, array) in enumerate(arrays.items()):
        strides = [stride // array.itemsize for stride in np.ascontiguousarray(array).strides]
        entries[name] = tensor(str(number), STORAGES[array.dtype.str], array.size, array.shape, strides)
    return write(path, entries, [array.tobytes() for array in arrays.values()])


def test_torch_tensors(tmp_path):
    values = np.arange(6, dtype="float32")
    bfloat = np.array([0x3F80, 0xC000], "<u2")  # 1, -2
    entries = {
        "whole": tensor("0", "FloatStorage", 6, (2, 3), (3, 1)),
        "transposed": tensor("0", "FloatStorage", 6, (3, 2), (1, 3)),
        "part": tensor("0", "FloatStorage", 6, (2,), (1,), offset=4),
        "scalar": tensor("0", "FloatStorage", 6, (), (), offset=5),
        "empty": tensor("0", "FloatStorage", 6, (0, 3), (3, 1)),
        "bfloat16": tensor("1", "BFloat16Storage", 2, (2,), (1,)),
        "parameter": b"ctorch._utils\n_rebuild_parameter\n(" + tensor("2", "LongStorage", 1, (1,), (1,)) + b"\x88}tR",
    }
    storages = [values.tobytes(), bfloat.tobytes(), np.int64(7).tobytes()]
    read = read_torch(write(tmp_path / "w.pt", entries, storages))
    expected = {
        "whole": values.reshape(2, 3),
        "transposed": values.reshape(2, 3).T,
        "part": values[4:],
        "scalar": values[5],
        "empty": np.zeros((0, 3), "float32"),
        "bfloat16": np.array([1.0, -2.0], "float32"),
        "parameter": np.array([7]),
    }
    assert list(read) == list(expected)
    for name, array in expected.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_torch_checkpoint_with_the_weights_inside(tmp_path):
    inner = b"}(" + text("a") + tensor("0", "FloatStorage", 1, (1,), (1,)) + b"u"
    path = write(tmp_path / "c.pth", {"state_dict": inner, "epoch": integer(3)}, [np.float32(2).tobytes()])
    assert read_torch(path)["a"].tolist() == [2.0]


MARKED = []


def mark():
    MARKED.append(1)


class Reduce:
    def __init__(self, function, *arguments):
        self.pair = function, arguments

    def __reduce__(self):
        return self.pair


HOSTILE = {
    "os.system": pickle.dumps({"a": Reduce(os.system, "true")}, protocol=2),
    "eval": pickle.dumps({"a": Reduce(eval, "1")}, protocol=2),
    "own function": pickle.dumps({"a": Reduce(mark)}, protocol=2),
    "newer protocol": pickle.dumps({"a": Reduce(mark)}, protocol=4),
    "getattr": b"\x80\x02}(" + text("a") + b"c__builtin__\ngetattr\n(" + text("a") + text("b") + b"tRu.",
    "new object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "far memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "instance": b"(S'true'\nios\nsystem\n.",
    "called dtype": b"\x80\x02ctorch\nFloatStorage\n(tR.",
    "cut": program({"a": tensor("0", "FloatStorage", 1, (1,), (1,))})[:-9],
    "no dictionary": b"\x80\x02K\x01.",
    "outside": program({"a": tensor("0", "FloatStorage", 1, (2,), (1,))}),
    "negative offset": program({"a": tensor("0", "FloatStorage", 1, (1,), (1,), -1)}),
    "negative stride": program({"a": tensor("0", "FloatStorage", 1, (1,), (-1,))}),
    "negative shape": program({"a": tensor("0", "FloatStorage", 1, (-1,), (1,))}),
    "huge shape": program({"a": tensor("0", "FloatStorage", 1, (1 << 30, 1 << 30), (0, 0))}),
    "nan shape": program({"a": tensor("0", "FloatStorage", 1, (1,), (1,))}).replace(
        integers((1,)), b"(G\x7f\xf8\0\0\0\0\0\0t", 1
    ),
    "wrong count": program({"a": tensor("0", "FloatStorage", 9, (1,), (1,))}),
    "no such storage": program({"a": tensor("7", "FloatStorage", 1, (1,), (1,))}),
    "path as storage": program({"a": tensor("../x", "FloatStorage", 1, (1,), (1,))}),
    "unknown dtype": program({"a": tensor("0", "QInt8Storage", 1, (1,), (1,))}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_torch_files(name, tmp_path):
    path = write(tmp_path / "evil.pt", HOSTILE[name], [b"\0" * 4])
    with pytest.raises(SavedFileError, match=r"evil\.pt"):
        read_torch(path)
    with pytest.raises(SavedFileError, match=r"evil\.pt"):
        dense().load_weights(path)
    assert not MARKED


def test_hostile_archives(tmp_path):
    good = {"a": tensor("0", "FloatStorage", 1, (1,), (1,))}
    for member in ("../../evil", "/etc/evil", "a\\..\\..\\evil"):
        path = write(tmp_path / "evil.pt", good, [b"\0" * 4], [(member, b"x")])
        with pytest.raises(SavedFileError, match="leads out"):
            read_torch(path)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", program(good))
        archive.writestr("w/data/0", b"\0" * 4)
    with pytest.raises(SavedFileError, match="compressed"):
        read_torch(tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(HOSTILE["os.system"])
    with pytest.raises(SavedFileError, match="plain pickle"):
        dense().load_weights(tmp_path / "plain.pt")


def pack(header, body):
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + body


def save_safetensors(path, arrays):
    header, body = {}, b""
    for name, array in arrays.items():
        span = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": span}
        body += array.tobytes()
    path.write_bytes(pack(header, body))


def test_safetensors_bfloat16(tmp_path):
    header = {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    path = tmp_path / "w.safetensors"
    path.write_bytes(pack(header, np.array([0x3F80, 0xC000], "<u2").tobytes()))
    read = read_safetensors(path)["a"]
    assert read.dtype == np.float32 and read.tolist() == [1.0, -2.0]
    header["a"].update(dtype="F8_E4M3", data_offsets=[0, 2])
    path.write_bytes(pack(header, b"\0\0"))
    with pytest.raises(SavedFileError, match="F8_E4M3"):
        read_safetensors(path)


def dense():
    return tz.Sequential([tz.Input((3,)), layers.Dense(2, name="out")])


KERNEL = np.arange(6, dtype="float32").reshape(3, 2)
BIAS = np.array([7.0, 8.0], "float32")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards(kind, tmp_path):
    save = save_safetensors if kind == "safetensors" else save_torch
    save(tmp_path / f"model-1.{kind}", {"out.weight": np.ascontiguousarray(KERNEL.T)})
    save(tmp_path / f"model-2.{kind}", {"out.bias": BIAS})
    index = tmp_path / f"model.{kind}.index.json"
    places = {"out.weight": f"model-1.{kind}", "out.bias": f"model-2.{kind}"}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    model = dense()
    model.load_weights(index)
    np.testing.assert_array_equal(model.get_weights()[0], KERNEL)
    np.testing.assert_array_equal(model.get_weights()[1], BIAS)
    assert read_safetensors(index).keys() == places.keys()


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"out.weight": "../secret.safetensors"}},
        {"weight_map": {"out.weight": "/etc/passwd"}},
        {"weight_map": {"out.weight": 3}},
        {"weight_map": 5},
        {},
        [],
    ],
)
def test_hostile_indices(index, tmp_path):
    path = tmp_path / "model.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(SavedFileError, match=r"index\.json"):
        dense().load_weights(path)


def test_index_that_lists_what_is_not_there(tmp_path):
    save_safetensors(tmp_path / "a.safetensors", {"x": BIAS})
    path = tmp_path / "model.index.json"
    path.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}))
    with pytest.raises(SavedFileError, match="do not hold: y"):
        read_safetensors(path)


def test_names_and_layouts_of_torch(tmp_path):
    inputs = tz.Input((6, 6, 4))
    x = layers.Conv2D(3, 3, name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depth")(x)
    model = tz.Model(inputs, layers.Dense(5, name="head")(x))
    rng = np.random.default_rng(0)
    arrays = {
        "conv.weight": rng.normal(size=(3, 4, 3, 3)),
        "conv.bias": rng.normal(size=3),
        "norm.weight": rng.normal(size=3),
        "norm.bias": rng.normal(size=3),
        "norm.running_mean": rng.normal(size=3),
        "norm.running_var": rng.normal(size=3),
        "depth.weight": rng.normal(size=(6, 1, 3, 3)),
        "depth.bias": rng.normal(size=6),
        "head.weight": rng.normal(size=(5, 6)),
        "head.bias": rng.normal(size=5),
    }
    arrays = {name: array.astype("float16") for name, array in arrays.items()}
    arrays["norm.num_batches_tracked"] = np.array([1])
    model.load_weights(save_torch(tmp_path / "w.pt", arrays))
    loaded = {weight.path: weight.numpy() for weight in model.weights}
    np.testing.assert_array_equal(loaded["conv/kernel"], arrays["conv.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(loaded["norm/moving_variance"], arrays["norm.running_var"])
    np.testing.assert_array_equal(loaded["head/kernel"], arrays["head.weight"].T)
    depthwise = arrays["depth.weight"].reshape(3, 2, 3, 3).transpose(2, 3, 0, 1)
    np.testing.assert_array_equal(loaded["depth/kernel"], depthwise)
    del arrays["conv.bias"]
    with pytest.raises(SavedFileError, match="missing: conv/bias"):
        model.load_weights(save_torch(tmp_path / "w.pt", arrays))
