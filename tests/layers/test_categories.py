"""Vocabularies, hashes and texts: layers that work on strings, on the host."""

import json

import numpy as np
import pytest

from tenzoo import layers
from tenzoo.layers import serialization
from tenzoo.layers.fingerprint import fingerprint, siphash


def again(layer):
    return serialization.deserialize(json.loads(json.dumps(serialization.serialize(layer))))


def test_fingerprints_are_those_of_farmhash():
    # computed with FarmHash itself
    assert fingerprint(b"hello") == 13009744463427800296
    assert fingerprint(b"a longer text of more than thirty-two bytes") == 426161225935641915
    assert fingerprint(b"x" * 100) == 6590480085648050719


def test_hashing():
    data = [["A"], ["B"], [""], ["C"], ["D"]]
    assert layers.Hashing(3, mask_value="")(data).tolist() == [[1], [1], [0], [2], [2]]  # from Keras's documentation
    assert layers.Hashing(5)(np.array([1, 2])).tolist() == layers.Hashing(5)(["1", "2"]).tolist()
    assert again(layers.Hashing(4, output_mode="one_hot"))(data).shape == (5, 4)


def test_string_lookup():
    layer = layers.StringLookup(vocabulary=["a", "b", "c"], mask_token="", num_oov_indices=2)
    found = layer([["a", "c", ""], ["d", "zebra", "b"]]).numpy()
    assert found[0].tolist() == [3, 5, 0] and found[1, 2] == 4 and set(found[1, :2]) <= {1, 2}
    assert layer.get_vocabulary() == ["", "[UNK]", "[UNK]", "a", "b", "c"]
    assert layer.vocabulary_size() == 6
    back = layers.StringLookup(vocabulary=["a", "b"], invert=True)
    assert back(layers.StringLookup(vocabulary=["a", "b"])(["b", "a", "x"])).tolist() == ["b", "a", "[UNK]"]
    with pytest.raises(ValueError, match="'x' is not in the vocabulary"):
        layers.StringLookup(vocabulary=["a"], num_oov_indices=0)(["x"])
    with pytest.raises(ValueError, match="adapt"):
        layers.StringLookup()(["x"])
    with pytest.raises(ValueError, match="several times"):
        layers.StringLookup(vocabulary=["a", "a"])


def test_vocabularies_are_adapted_and_kept_in_the_config():
    layer = layers.StringLookup(max_tokens=3, output_mode="count")
    layer.adapt(iter([["a", "b", "b"], ["c", "b", "a"]]))
    assert layer.get_vocabulary() == ["[UNK]", "b", "a"]
    assert again(layer)([["a", "c", "a"]]).tolist() == [[1, 0, 2]]
    integers = layers.IntegerLookup(output_mode="multi_hot", pad_to_max_tokens=True, max_tokens=5)
    integers.adapt(np.array([[7, 7, 9]]))
    assert again(integers)([[7, 9], [1, 9]]).tolist() == [[0, 1, 1, 0, 0], [1, 0, 1, 0, 0]]


def test_tf_idf():
    layer = layers.TextVectorization(output_mode="tf_idf")
    layer.adapt(["a b", "a c"])
    frequent, rare = np.log(1 + 2 / 3), np.log(1 + 2 / 2)
    assert layer.get_vocabulary() == ["[UNK]", "a", "c", "b"]
    expected = [[(frequent + 2 * rare) / 3, 2 * frequent, 0, rare]]
    np.testing.assert_allclose(again(layer)(["a a b x"]), expected, rtol=1e-5)


def test_text_vectorization():
    layer = layers.TextVectorization(max_tokens=6, ngrams=2)
    layer.adapt([["Big cat,"], ["big dog; big cat"]])
    assert layer.get_vocabulary() == ["", "[UNK]", "big", "cat", "big cat", "dog big"]
    assert again(layer)(["big cat", "dog"]).tolist() == [[2, 3, 4], [1, 0, 0]]
    characters = layers.TextVectorization(split="character", standardize=None, vocabulary=["a", "B"])
    assert characters("aBb").tolist() == [2, 3, 1]
    own = layers.TextVectorization(standardize=str.upper, split=lambda text: text.split("-"), vocabulary=["A"])
    assert own(["a-b", "a"]).tolist() == [[2, 1], [2, 0]]
    with pytest.raises(ValueError, match="standardize"):
        layers.TextVectorization(standardize="upper")


def test_discretization_adapts():
    layer = layers.Discretization(num_bins=4)
    layer.adapt([np.arange(50), np.arange(50, 101)])
    assert layer.bin_boundaries == [25.0, 50.0, 75.0]
    assert again(layer)(np.array([[3.0, 25.0], [60.0, 99.0]])).tolist() == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="either"):
        layers.Discretization()
    with pytest.raises(ValueError, match="adapt"):
        layers.Discretization(num_bins=2)(np.ones(3))


def test_siphash_known_answer():
    # Appendix A of the paper: key and message 00 01 02 …
    key = tuple(int.from_bytes(bytes(range(start, start + 8)), "little") for start in (0, 8))
    assert siphash(bytes(range(15)), key) == 0xA129CA6149BE45E5


def test_salted_hashes_are_those_of_keras():
    # The examples of Keras's documentation and tests.
    letters = [["A"], ["B"], ["C"], ["D"], ["E"]]
    assert layers.Hashing(3, salt=[133, 137])(letters).numpy().ravel().tolist() == [1, 2, 1, 0, 2]
    assert layers.Hashing(3, salt=133)(letters).numpy().ravel().tolist() == [0, 0, 2, 1, 0]
    assert layers.Hashing(3, salt=(133, 137))(np.arange(5)).tolist() == [1, 1, 2, 0, 1]
    lookup = layers.IntegerLookup(vocabulary=[10, 20, 30], num_oov_indices=4, oov_method="farmhash")
    assert lookup([100, 300, 700, 1100, 1700, 2000, 20]).tolist() == [3, 3, 2, 2, 0, 1, 5]
    strings = layers.StringLookup(vocabulary=["a"], num_oov_indices=2, salt=[133, 137])
    words = ["omar", "stringer", "marlo", "wire", "skywalker", "a"]
    assert strings(words).tolist() == [0, 1, 0, 1, 0, 2]
    for wrong in (
        lambda: layers.Hashing(3, salt="salt"),
        lambda: layers.IntegerLookup(salt=1),
        lambda: layers.IntegerLookup(oov_method="md5"),
    ):
        with pytest.raises(ValueError, match=r"salt|oov_method"):
            wrong()


def test_hashed_crossing():
    features = (np.array(["A", "B", "A", "B", "A"]), np.array([101, 101, 101, 102, 102]))
    assert layers.HashedCrossing(5)(features).tolist() == [1, 4, 1, 1, 3]  # the example of Keras's documentation
    assert layers.HashedCrossing(10)((np.array("A"), np.array(101))).tolist() == 1
    column = layers.HashedCrossing(5, "one_hot")([feature[:, None] for feature in features])
    np.testing.assert_array_equal(column, np.eye(5)[[1, 4, 1, 1, 3]])
    layer = layers.HashedCrossing(5, name="crossing")
    assert again(layer).get_config() == layer.get_config()
    for wrong in ([features[0]], features[0], (features[0], features[1][:3]), (features[1] / 2, features[0])):
        with pytest.raises(ValueError, match="HashedCrossing"):
            layer(wrong)
