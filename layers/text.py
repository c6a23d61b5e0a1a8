"""Texts as sequences of integers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import Tensor
from .categories import Lookup

_PUNCTUATION = re.compile(r"[!\"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']")
_STANDARDS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "strip_punctuation": lambda text: _PUNCTUATION.sub("", text),
    "lower_and_strip_punctuation": lambda text: _PUNCTUATION.sub("", text.lower()),
}
_SPLITS: dict[str, Callable[[str], list[str]]] = {"whitespace": str.split, "character": list}


class TextVectorization(Lookup):
    """Texts to sequences of integers: n strings -> (n, T); on arrays or lists, outside of compiled functions.

    0 is padding and 1 stands for words that are not in the vocabulary, which :meth:`adapt` makes.

    Args:
        max_tokens: largest size of the vocabulary, the two special tokens included.
        standardize: "lower_and_strip_punctuation", "lower", "strip_punctuation", None, or a function of a string.
        split: "whitespace", "character", None, or a function from a string to a list of strings.
        ngrams: longest run of words to make tokens of, or a tuple of lengths.
        output_mode: "int", or "multi_hot", "count" or "tf_idf" for vectors (n, size of the vocabulary).
        output_sequence_length: length to cut and pad to; that of the longest text by default.
        pad_to_max_tokens: whether vectors have max_tokens entries, however many tokens there are.
        vocabulary: a list of strings, or the path of a file with one in a line.
        idf_weights: one for each token, for "tf_idf".
        encoding: of a vocabulary file, and of bytes among the texts.

    >>> layer = TextVectorization(output_sequence_length=4)
    >>> layer.adapt(["The cat sat.", "The dog!"])
    >>> layer.get_vocabulary()
    ['', '[UNK]', 'the', 'sat', 'dog', 'cat']
    >>> layer(["the cat barks"]).tolist()
    [[2, 5, 1, 0]]
    """

    kind = str

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: Any = "lower_and_strip_punctuation",
        split: Any = "whitespace",
        ngrams: Any = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Any = None,
        idf_weights: Any = None,
        encoding: str = "utf-8",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.encoding = encoding
        self.standardize = _choose("standardize", standardize, _STANDARDS, lambda text: text)
        self.split = _choose("split", split, _SPLITS, lambda text: [text])
        self.ngrams = tuple(range(1, ngrams + 1)) if isinstance(ngrams, int) else tuple(ngrams or (1,))
        self.output_sequence_length = output_sequence_length
        if output_sequence_length is not None and output_mode != "int":
            raise ValueError("TextVectorization: output_sequence_length goes with output_mode='int'.")
        special = {"count": 1, "mask": "", "oov": "[UNK]"}
        limits = {"max_tokens": max_tokens, "pad_to_max_tokens": pad_to_max_tokens, "idf_weights": idf_weights}
        self._configure(special, vocabulary, output_mode, False, limits)

    def _documents(self, batch: Any) -> list[list[str]]:
        texts = [t.decode(self.encoding) if isinstance(t, bytes) else str(t) for t in np.asarray(batch).ravel()]
        words = [self.split(self.standardize(text)) for text in texts]
        if self.ngrams == (1,):
            return words
        return [[" ".join(row[i : i + n]) for n in self.ngrams for i in range(len(row) - n + 1)] for row in words]

    def __call__(self, inputs: Any) -> Tensor:
        texts = np.asarray(inputs)
        rows = self._documents(texts)
        length = self.output_sequence_length or max(map(len, rows), default=0)
        padded = np.array([[*row[:length], *[""] * (length - len(row))] for row in rows], object)
        encoded = self._look_up(padded.reshape(len(rows), length))
        return encoded if texts.ndim else encoded[0]


def _choose(name: str, given: Any, known: dict[str, Callable], default: Callable) -> Callable:
    """The function that an argument names, or is."""
    if given is None:
        return default
    if isinstance(given, str) and given not in known:
        raise ValueError(f"TextVectorization: {name} is one of {list(known)}, None or a function; received {given!r}.")
    return known[given] if isinstance(given, str) else given
