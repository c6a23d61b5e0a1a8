"""Weights that Keras and torch saved themselves, and HDF5 files that nobody should trust."""

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")

import tenzoo as tz
from tenzoo.training import SavedFileError
from tenzoo.training.interop import read_keras_h5, read_torch

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)


def image_net(library):
    """Two branches of one class of layer, so that only the right order gives the right outputs."""
    layers = library.layers
    inputs = library.Input((8, 8, 3))
    left = layers.Conv2D(4, 3, padding="same")(inputs)
    right = layers.Conv2D(4, 3, padding="same")(layers.BatchNormalization()(inputs))
    x = layers.Add()([right, left])
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = layers.Dense(4)(layers.Dropout(0.1)(layers.Flatten()(x)))
    return library.Model(inputs, layers.Dense(4, name="scores")(x))


def nested(library):
    layers = library.layers

    class Block(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.last = layers.Dense(3)
            self.parts = [layers.Dense(3), layers.Dense(3), [layers.Dense(3)]]
            self.by_name = {"b": layers.Dense(3), "a": layers.LayerNormalization()}

        def build(self, input_shape):
            self.scale = self.add_weight(shape=(3,), initializer="ones", name="scale")

        def call(self, x):
            x = self.parts[2][0](self.parts[1](self.parts[0](x)))
            return self.last(self.by_name["a"](self.by_name["b"](x))) * self.scale

    inner = library.Sequential([library.Input((3,)), layers.Dense(3), layers.Dense(3)])
    return library.Sequential([library.Input((3,)), Block(), inner, layers.Dense(3)])


def recurrent(library):
    layers = library.layers
    return library.Sequential(
        [
            library.Input((6,), dtype="int32"),
            layers.Embedding(9, 4),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.GRU(3),
            layers.Dense(2),
        ]
    )


def attending(library):
    layers = library.layers
    inputs = library.Input((5, 4))
    x = layers.MultiHeadAttention(2, 3)(inputs, inputs)
    return library.Model(inputs, layers.EinsumDense("btd,de->bte", (None, 3))(layers.LayerNormalization()(x)))


MODELS = {
    "image_net": (image_net, (2, 8, 8, 3), ()),
    "nested": (nested, (2, 3), ()),
    "recurrent": (recurrent, (2, 6), ("LSTM", "GRU", "Bidirectional")),
    "attending": (attending, (2, 5, 4), ("MultiHeadAttention", "EinsumDense")),
}


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
@pytest.mark.parametrize("name", MODELS)
def test_weights_of_keras(name, suffix, tmp_path):
    keras = pytest.importorskip("keras")
    pytest.importorskip("h5py")
    make, shape, needed = MODELS[name]
    if not all(hasattr(tz.layers, layer) for layer in needed):
        pytest.skip(f"needs {needed}")
    if suffix == ".h5" and name in ("nested", "recurrent", "attending"):
        pytest.skip("the older format is read for plain layers")
    theirs, ours = make(keras), make(tz)
    theirs.set_weights([RNG.uniform(0.1, 1, w.shape).astype("float32") for w in theirs.get_weights()])
    theirs.compile("adam", "mse")  # so that the file has the state of an optimizer, too
    path = tmp_path / f"w{suffix}"
    if suffix == ".weights.h5":
        theirs.save_weights(path)
    else:
        theirs.save(path)
    if suffix == ".h5":  # this format knows layers by name
        tz.layers.clear_session()
        keras.backend.clear_session()
        theirs, ours = make(keras), make(tz)
        theirs.compile("adam", "mse")
        theirs.save(path)
    ours.load_weights(path)
    x = RNG.integers(0, 9, shape) if name == "recurrent" else RNG.normal(size=shape).astype("float32")
    np.testing.assert_allclose(ours(x).numpy(), np.asarray(theirs(x)), rtol=1e-4, atol=1e-4)


def test_keras_file_that_does_not_fit(tmp_path):
    keras = pytest.importorskip("keras")
    pytest.importorskip("h5py")
    path = tmp_path / "w.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)
    for units, layers in ((3, 1), (2, 2)):
        stack = [tz.layers.Dense(units) for _ in range(layers)]
        with pytest.raises(SavedFileError, match="does not fit"):
            tz.Sequential([tz.Input((3,)), *stack]).load_weights(path)


def test_hostile_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    secret, path = tmp_path / "secret.h5", tmp_path / "evil.weights.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.ones(3)
    (tmp_path / "raw").write_bytes(bytes(80))

    def refuse(fill, match=r"evil\.weights\.h5"):
        with h5py.File(path, "w") as file:
            fill(file)
        with pytest.raises(SavedFileError, match=match):
            read_keras_h5(path)

    def virtual(file):
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(secret, "x", (3,))
        file.create_virtual_dataset("layers/dense/vars/0", layout)

    def cycle(file):
        group = file.create_group("layers/a")
        group["again"] = file["layers"]

    refuse(lambda f: f.__setitem__("layers", h5py.ExternalLink(str(secret), "/")), "link")
    refuse(lambda f: f.__setitem__("layers", h5py.SoftLink("/elsewhere")), "link")
    refuse(virtual, "no numbers of its own")
    refuse(cycle, "contains itself")
    raw = [(str(tmp_path / "raw"), 0, 80)]
    refuse(lambda f: f.create_dataset("layers/d/vars/0", (10,), "f8", external=raw), "no numbers of its own")
    refuse(lambda f: f.create_dataset("layers/d/vars/0", (1 << 40,), "f8", chunks=(1024,)), "no numbers")
    refuse(lambda f: f.__setitem__("layers/d/vars/0", "import os"), "no numbers of its own")
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(SavedFileError, match=r"evil\.weights\.h5"):
        read_keras_h5(path)


def test_weights_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential()
    net.add_module("conv", torch.nn.Conv2d(3, 4, 3))
    net.add_module("norm", torch.nn.BatchNorm2d(4))
    net.add_module("up", torch.nn.ConvTranspose2d(4, 5, 2, stride=2))
    net.add_module("head", torch.nn.Linear(12, 2))
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 0.1)
    net.eval()
    path = tmp_path / "net.pth"
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, path)
    inputs = tz.Input((8, 8, 3))
    x = tz.layers.Conv2D(4, 3, name="conv")(inputs)
    x = tz.layers.BatchNormalization(epsilon=1e-5, name="norm")(x)
    x = tz.layers.Conv2DTranspose(5, 2, strides=2, name="up")(x)
    x = tz.layers.Permute((3, 1, 2))(x)
    model = tz.Model(inputs, tz.layers.Dense(2, name="head")(x))
    model.load_weights(path)
    x = RNG.normal(size=(2, 8, 8, 3)).astype("float32")
    with torch.no_grad():
        expected = net(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_tensors_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    whole = torch.randn(4, 6)
    tensors = {
        "whole": whole,
        "view": whole[1:3, ::2],
        "transposed": whole.t(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 4),
    }
    for dtype in (torch.bfloat16, torch.half, torch.double, torch.int8, torch.uint8, torch.int16, torch.bool):
        tensors[str(dtype)] = (torch.rand(3, 2) * 2).to(dtype)
    torch.save(tensors, tmp_path / "t.pt")
    read = read_torch(tmp_path / "t.pt")
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        expected = tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
        assert read[name].dtype == expected.dtype
        np.testing.assert_array_equal(read[name], expected)


def test_other_files_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    model = tz.Sequential([tz.Input((3,)), tz.layers.Dense(2)])
    path = tmp_path / "x.pt"
    torch.save(torch.nn.Linear(3, 2), path)
    with pytest.raises(SavedFileError, match="only tensors are read"):
        model.load_weights(path)
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(SavedFileError, match="plain pickle"):
        model.load_weights(path)
