"""Integers and strings from a vocabulary, and their encodings: inside a model, or on the host before it.

Tensors hold no strings. The layers that take them are called on arrays or lists of Python strings, eagerly: in
``dataset.map(...)`` or before ``fit``. What they return are tensors of integers or floats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..core import Tensor, ops, tensor
from ..core.dtypes import is_floating
from .fingerprint import fingerprint, joined, siphash
from .layer import Layer

_MODES = ("int", "one_hot", "multi_hot", "count")


def _check_mode(layer: Layer, mode: str, modes: tuple = _MODES) -> None:
    if mode not in modes:
        raise ValueError(f"{type(layer).__name__}: output_mode is one of {modes}; received {mode!r}.")


def _hashed(text: str, salt: tuple[int, int] | None) -> int:
    """64 bits of FarmHash, or of SipHash if there is a salt."""
    data = text.encode()
    return fingerprint(data) if salt is None else siphash(data, salt)


def _check_salt(layer: Layer, salt: Any) -> tuple[int, int] | None:
    pair = (salt, salt) if isinstance(salt, int) else salt
    if pair is None or (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(n, int) for n in pair)):
        return pair if pair is None else tuple(pair)
    raise ValueError(f"{type(layer).__name__}: salt is an integer or two of them; received {salt!r}.")


def _encode(indices: Tensor, mode: str, depth: int, dtype: Any, weights: Any = None) -> Tensor:
    """Integers (…, n) as themselves, one-hot (…, n, depth), or counted or marked along n: (…, depth)."""
    if mode == "int":
        return indices
    if mode == "one_hot":
        if indices.ndim > 1 and indices.shape[-1] == 1:
            indices = ops.squeeze(indices, -1)
        return ops.one_hot(indices, depth, dtype=dtype)
    spread = ops.one_hot(indices if indices.ndim else ops.expand_dims(indices, 0), depth, dtype=dtype)
    if mode == "multi_hot":
        return ops.max(spread, -2)
    return ops.sum(spread if weights is None else spread * ops.expand_dims(weights, -1), -2)


class CategoryEncoding(Layer):
    """Integers below ``num_tokens`` as vectors: (…, n) -> (…, num_tokens)

    Args:
        num_tokens: how many integers there are.
        output_mode: "multi_hot" marks those that occur, "count" counts them, "one_hot" is (…, n, num_tokens), or
            (…, num_tokens) for n = 1.

    >>> CategoryEncoding(4, output_mode="count")(np.array([[0, 1, 1]])).tolist()
    [[1.0, 2.0, 0.0, 0.0]]
    """

    def __init__(self, num_tokens: int | None = None, output_mode: str = "multi_hot", **kwargs: Any):
        super().__init__(**kwargs)
        _check_mode(self, output_mode, _MODES[1:])
        if num_tokens is None or num_tokens < 1:
            raise ValueError(f"CategoryEncoding: num_tokens is a positive integer; received {num_tokens}.")
        self.num_tokens, self.output_mode = num_tokens, output_mode

    def call(self, inputs: Tensor, count_weights: Any = None) -> Tensor:
        indices = ops.cast(inputs, "int32")
        return _encode(indices, self.output_mode, self.num_tokens, self.dtype, count_weights)


class Discretization(Layer):
    """Numbers as the number of the bin that they fall into.

    Args:
        bin_boundaries: ascending; n of them bound n + 1 bins.
        num_bins: how many bins of equal content :meth:`adapt` shall find.
        epsilon: accepted for Keras: the quantiles found here are exact.
        output_mode: "int", "one_hot", "multi_hot" or "count", as in CategoryEncoding.

    >>> Discretization([0.0, 1.0])(np.array([-0.5, 0.0, 3.0])).tolist()
    [0, 1, 2]
    """

    def __init__(
        self,
        bin_boundaries: Any = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _check_mode(self, output_mode)
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError("Discretization: give either bin_boundaries, or num_bins and call adapt().")
        self.bin_boundaries, self.num_bins, self.output_mode = bin_boundaries, num_bins, output_mode

    def adapt(self, data: Any) -> None:
        """Take the boundaries from an array, or an iterable of batches."""
        if self.num_bins is None:
            raise ValueError("Discretization.adapt: the boundaries were given.")
        values = np.concatenate([np.ravel(batch) for batch in _batches(data)])
        shares = np.arange(1, self.num_bins) / self.num_bins
        self.bin_boundaries = np.quantile(values, shares).tolist()
        self._arguments.update(bin_boundaries=self.bin_boundaries, num_bins=None)  # what the config holds

    def call(self, inputs: Tensor) -> Tensor:
        if self.bin_boundaries is None:
            raise ValueError("Discretization: call adapt() first, or give bin_boundaries.")
        values = ops.cast(inputs, self.compute_dtype)
        bounds = ops.cast(np.asarray(self.bin_boundaries), self.compute_dtype)
        bins = ops.sum(ops.cast(ops.expand_dims(values, -1) >= bounds, "int32"), -1)
        return _encode(bins, self.output_mode, len(self.bin_boundaries) + 1, self.compute_dtype)


def _batches(data: Any) -> Iterable[np.ndarray]:
    """Arrays, one after the other, of an array, a list or an iterable of batches."""
    plain = isinstance(data, (str, list, tuple)) and not (len(data) and hasattr(data[0], "shape"))
    if hasattr(data, "shape") or plain:
        data = [data]
    for batch in data:
        yield np.asarray(batch)


class Lookup(Layer):
    """Tokens to integers by a vocabulary, or back. Special ones come first: the mask, then those for the unknown."""

    kind: type  # of a token in Python
    encoding = "utf-8"  # of vocabulary files

    def _configure(self, special: dict[str, Any], vocabulary: Any, mode: str, invert: bool, limits: dict) -> None:
        _check_mode(self, mode, (*_MODES, "tf_idf"))
        self.output_mode, self.invert = mode, invert
        self.max_tokens, self.pad_to_max_tokens = limits["max_tokens"], limits["pad_to_max_tokens"]
        self.num_oov_indices = special["count"]
        self.mask_token, self.oov_token = special["mask"], special["oov"]
        self._tokens: Any = None
        self._idf: Any = None
        if invert and mode != "int":
            raise ValueError(f"{type(self).__name__}: with invert=True output_mode is 'int'; received {mode!r}.")
        if vocabulary is not None:
            if isinstance(vocabulary, str):
                with open(vocabulary, encoding=self.encoding) as file:
                    vocabulary = [self.kind(line) for line in file.read().splitlines()]
            self.set_vocabulary(vocabulary, limits["idf_weights"])

    @property
    def _special(self) -> list:
        masks = [self.mask_token] if self.mask_token is not None and self.output_mode == "int" else []
        return [*masks, *[self.oov_token] * self.num_oov_indices]

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Take a list of tokens, most frequent first; special tokens at its head are recognised."""
        tokens = [self.kind(token) for token in np.asarray(vocabulary, object).ravel()]
        special = self._special
        if special and tokens[: len(special)] == special:
            tokens = tokens[len(special) :]
        if len(set(tokens)) < len(tokens):
            twice = [token for token, count in Counter(tokens).items() if count > 1]
            raise ValueError(f"{type(self).__name__}: the vocabulary holds {twice[:5]} several times.")
        if self.max_tokens is not None and len(tokens) + len(special) > self.max_tokens:
            raise ValueError(
                f"{type(self).__name__}: {len(tokens)} tokens and {len(special)} special ones are more than "
                f"max_tokens={self.max_tokens}."
            )
        self._tokens = tokens
        self._table = {token: index for index, token in enumerate(tokens, len(special))}
        self._arguments["vocabulary"] = tokens  # what the config holds
        if self.output_mode == "tf_idf":
            if idf_weights is None:
                raise ValueError(f"{type(self).__name__}: with output_mode='tf_idf' give idf_weights as well.")
            weights = np.asarray(idf_weights, "float32")
            if len(weights) != len(tokens) + len(special):  # of the tokens alone: the unknown get their mean
                weights = np.concatenate([np.full(len(special), weights.mean()), weights])
            self._idf = weights.astype("float32")
            self._arguments["idf_weights"] = self._idf.tolist()

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Make the vocabulary of the tokens in an array, a list, or an iterable of batches; most frequent first."""
        counts: Counter = Counter()
        documents: Counter = Counter()
        total = 0
        for number, batch in enumerate(_batches(data)):
            if steps is not None and number >= steps:
                break
            for document in self._documents(batch):
                counts.update(document)
                documents.update(set(document))
                total += 1
        counts.pop(self.mask_token, None)
        ordered = sorted(sorted(counts, reverse=True), key=counts.__getitem__, reverse=True)
        if self.max_tokens is not None:
            ordered = ordered[: self.max_tokens - len(self._special)]
        idf = [np.log(1 + total / (1 + documents[token])) for token in ordered]
        self.set_vocabulary(ordered, idf if self.output_mode == "tf_idf" else None)

    def _documents(self, batch: Any) -> list[list]:
        """The tokens of each example of a batch."""
        batch = np.asarray(batch)
        rows = batch.reshape(len(batch), -1) if batch.ndim else batch.reshape(1, 1)
        return [[self.kind(token) for token in row] for row in rows]

    def get_vocabulary(self, include_special_tokens: bool = True) -> list:
        """The tokens by index."""
        tokens = self._tokens or []
        return [*self._special, *tokens] if include_special_tokens else list(tokens)

    def vocabulary_size(self) -> int:
        """Number of tokens, special ones included."""
        return len(self.get_vocabulary())

    def _index(self, token: Any) -> int:
        if token == self.mask_token and self.mask_token is not None:
            return 0 if self.output_mode == "int" else -1  # -1 is not counted
        found = self._table.get(token)
        if found is not None:
            return found
        if self.num_oov_indices == 0:
            raise ValueError(f"{type(self).__name__}: {token!r} is not in the vocabulary, and no index is for such.")
        start = len(self._special) - self.num_oov_indices
        return start + (self._spread(token) % self.num_oov_indices if self.num_oov_indices > 1 else 0)

    def _spread(self, token: Any) -> int:
        """A number by which unknown tokens are distributed."""
        raise NotImplementedError

    def _look_up(self, tokens: np.ndarray) -> Tensor:
        """The encoding of an array of tokens."""
        if self._tokens is None:
            raise ValueError(f"{type(self).__name__}: call adapt() first, or give a vocabulary.")
        different, inverse = np.unique(tokens, return_inverse=True)
        indices = np.array([self._index(self.kind(token)) for token in different], np.int64)[inverse]
        indices = tensor(indices.reshape(tokens.shape))
        depth = self.max_tokens if self.pad_to_max_tokens else self.vocabulary_size()
        mode = "count" if self.output_mode == "tf_idf" else self.output_mode
        encoded = _encode(indices, mode, depth, self.compute_dtype)
        if self._idf is None:
            return encoded
        return encoded * ops.cast(np.pad(self._idf, (0, depth - len(self._idf))), self.compute_dtype)

    def __call__(self, inputs: Any) -> Any:
        tokens = np.asarray(inputs)
        if not self.invert:
            return self._look_up(tokens)
        vocabulary = np.array(self.get_vocabulary())
        inside = (tokens >= 0) & (tokens < len(vocabulary))
        return np.where(inside, vocabulary[np.where(inside, tokens, 0)], self.oov_token)


class StringLookup(Lookup):
    """Strings to integers by a vocabulary, or back; on arrays or lists of strings, outside of compiled functions.

    Args:
        max_tokens: largest size of the vocabulary that adapt makes, special tokens included.
        num_oov_indices: how many indices stand for strings that are not in the vocabulary.
        mask_token: the string whose index is 0.
        oov_token: what an unknown index becomes with ``invert``.
        vocabulary: a list of strings, or the path of a file with one in a line; else call :meth:`adapt`.
        idf_weights: one for each token, for "tf_idf".
        invert: whether to turn integers into strings; the result is a numpy array.
        output_mode: "int", "one_hot", "multi_hot", "count" or "tf_idf".
        pad_to_max_tokens: whether vectors have max_tokens entries, however many tokens there are.
        encoding: of a vocabulary file.
        salt: one integer or two that seed the hash by which unknown strings are distributed.

    >>> lookup = StringLookup(vocabulary=["cat", "dog"])
    >>> lookup([["dog", "cow"]]).tolist()
    [[2, 0]]
    >>> StringLookup(vocabulary=["cat", "dog"], invert=True)([1, 2, 0]).tolist()
    ['cat', 'dog', '[UNK]']
    """

    kind = str

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: str | None = None,
        oov_token: str = "[UNK]",
        vocabulary: Any = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
        encoding: str = "utf-8",
        salt: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.encoding, self.salt = encoding, _check_salt(self, salt)
        special = {"count": num_oov_indices, "mask": mask_token, "oov": oov_token}
        limits = {"max_tokens": max_tokens, "pad_to_max_tokens": pad_to_max_tokens, "idf_weights": idf_weights}
        self._configure(special, vocabulary, output_mode, invert, limits)

    def _spread(self, token: str) -> int:
        return _hashed(token, self.salt)


class IntegerLookup(Lookup):
    """Integers to the indices of a vocabulary, or back; outside of compiled functions.

    The arguments are those of :class:`StringLookup`; ``oov_token`` is an integer.

    Args:
        oov_method: how unknown integers are distributed: "floormod", or "farmhash" by a hash.
        salt: one integer or two that seed the hash; with "farmhash".

    >>> IntegerLookup(vocabulary=[12, 1000])([[1000, 7]]).tolist()
    [[2, 0]]
    """

    kind = int

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: int | None = None,
        oov_token: int = -1,
        vocabulary: Any = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
        oov_method: str = "floormod",
        salt: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if oov_method not in ("floormod", "farmhash") or (salt is not None and oov_method == "floormod"):
            raise ValueError(
                "IntegerLookup: oov_method is 'floormod' or 'farmhash', and a salt goes with 'farmhash'; received "
                f"{oov_method!r}, salt={salt!r}."
            )
        self.oov_method, self.salt = oov_method, _check_salt(self, salt)
        special = {"count": num_oov_indices, "mask": mask_token, "oov": oov_token}
        limits = {"max_tokens": max_tokens, "pad_to_max_tokens": pad_to_max_tokens, "idf_weights": idf_weights}
        self._configure(special, vocabulary, output_mode, invert, limits)

    def _spread(self, token: int) -> int:
        return token if self.oov_method == "floormod" else _hashed(str(token), self.salt)


class Hashing(Layer):
    """Strings or integers to one of ``num_bins`` numbers, by a hash; outside of compiled functions.

    The hash is FarmHash's 64-bit fingerprint of the text, or SipHash with a salt, so the numbers are Keras's.

    Args:
        num_bins: how many numbers there are.
        mask_value: what becomes 0, which then nothing else becomes.
        salt: one integer or two, for other numbers.
        output_mode: "int", "one_hot", "multi_hot" or "count".

    >>> Hashing(num_bins=3)([["A"], ["B"], ["C"], ["D"], ["E"]]).tolist()
    [[1], [0], [1], [1], [2]]
    """

    def __init__(
        self, num_bins: int, mask_value: Any = None, salt: Any = None, output_mode: str = "int", **kwargs: Any
    ):
        super().__init__(**kwargs)
        _check_mode(self, output_mode)
        if num_bins < 1:
            raise ValueError(f"Hashing: num_bins is positive; received {num_bins}.")
        self.num_bins, self.mask_value, self.output_mode = num_bins, mask_value, output_mode
        self.salt = _check_salt(self, salt)

    def __call__(self, inputs: Any) -> Tensor:
        values = np.asarray(inputs)
        if is_floating(values.dtype):
            values = values.astype(np.int64)
        different, inverse = np.unique(values, return_inverse=True)
        bins = np.array([self._bin(value) for value in different], np.int64)[inverse].reshape(values.shape)
        return _encode(tensor(bins), self.output_mode, self.num_bins, self.compute_dtype)

    def _bin(self, value: Any) -> int:
        if self.mask_value is None or self.num_bins == 1:
            return _hashed(str(value), self.salt) % self.num_bins
        return 0 if value == self.mask_value else 1 + _hashed(str(value), self.salt) % (self.num_bins - 1)


class HashedCrossing(Layer):
    """Combinations of several features as one of ``num_bins`` numbers, by a hash; outside of compiled functions.

    Takes a list of features, integers or strings of one shape, () or (batch,) or (batch, 1). The numbers are those
    of TensorFlow, and so Keras's.

    Args:
        num_bins: how many numbers there are.
        output_mode: "int" or "one_hot".

    >>> HashedCrossing(num_bins=5)((["A", "B", "A", "B", "A"], [101, 101, 101, 102, 102])).tolist()
    [1, 4, 1, 1, 3]
    """

    def __init__(self, num_bins: int, output_mode: str = "int", **kwargs: Any):
        super().__init__(**kwargs)
        _check_mode(self, output_mode, ("int", "one_hot"))
        if num_bins < 1:
            raise ValueError(f"HashedCrossing: num_bins is positive; received {num_bins}.")
        self.num_bins, self.output_mode = num_bins, output_mode

    def __call__(self, inputs: Any) -> Tensor:
        if not isinstance(inputs, (tuple, list)) or len(inputs) < 2:
            raise ValueError(f"HashedCrossing: expected a list of at least two features; received {inputs!r:.100}.")
        features = [np.asarray(feature) for feature in inputs]
        shape = features[0].shape
        if any(feature.shape != shape for feature in features) or len(shape) > 2 or shape[1:] not in ((), (1,)):
            shapes = ", ".join(str(feature.shape) for feature in features)
            raise ValueError(f"HashedCrossing: features have one shape, (), (batch,) or (batch, 1); received {shapes}.")
        if any(feature.dtype.kind not in "iuUOS" for feature in features):
            kinds = ", ".join(feature.dtype.name for feature in features)
            raise ValueError(f"HashedCrossing: features are integers or strings; received {kinds}.")
        rows = zip(*(feature.ravel().tolist() for feature in features), strict=True)
        bins = np.array([self._bin(row) for row in rows], np.int64).reshape(shape)
        return _encode(tensor(bins), self.output_mode, self.num_bins, self.compute_dtype)

    def _bin(self, row: tuple) -> int:
        crossed = 0xDECAFCAFFE
        for value in row:
            text = value.encode() if isinstance(value, str) else value
            crossed = joined(crossed, fingerprint(text) if isinstance(text, bytes) else text)
        return crossed % self.num_bins
