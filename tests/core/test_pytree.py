"""Pytrees: round trips, structure, messages."""

from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tenzoo.core import pytree


class Point(NamedTuple):
    x: int
    y: int


trees = st.recursive(
    st.integers() | st.none(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), children, max_size=3)
        | st.tuples(children, children).map(lambda pair: Point(*pair))
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(trees)
def test_unflatten_inverts_flatten(tree):
    leaves = pytree.flatten(tree)
    again = pytree.unflatten(tree, leaves)
    assert again == tree and pytree.structure(again) == pytree.structure(tree)
    assert pytree.flatten(pytree.map(lambda leaf: leaf + 1, tree)) == [leaf + 1 for leaf in leaves]


def test_named_tuples_keep_their_type():
    made = pytree.map(lambda leaf: leaf * 2, {"p": Point(1, 2)})
    assert isinstance(made["p"], Point) and made["p"] == (2, 4)
    assert pytree.structure(made) == "{'p': Point(x=*, y=*)}"


def test_order_is_that_of_insertion():
    assert pytree.flatten({"b": 1, "a": 2}) == [1, 2]


def test_none_is_an_empty_container():
    assert pytree.map(str, (None, [1])) == (None, ["1"])


@pytest.mark.parametrize(("leaves", "message"), [([1], "Too few"), ([1, 2, 3], "Too many")])
def test_wrong_number_of_leaves(leaves, message):
    with pytest.raises(ValueError, match=message):
        pytree.unflatten((0, [0]), leaves)


def test_map_over_different_structures():
    with pytest.raises(ValueError, match="differ in structure"):
        pytree.map(lambda a, b: a, (1, 2), [1, 2])
