"""Metrics of texts: translations and transcripts against references, summed up over a whole corpus.

Texts are Python strings, so these metrics are updated outside of compiled steps.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Tensor, ops
from .metric import Metric

_ENTITIES = (("<skipped>", ""), ("-\n", ""), ("\n", " "), ("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def tokenize_13a(text: str) -> list[str]:
    """Words and punctuation marks, as the script mteval-v13a splits them.

    >>> tokenize_13a("Hello, it costs 1,000.50!")
    ['Hello', ',', 'it', 'costs', '1,000.50', '!']
    """
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} "
    for pattern, replacement in _SPLITS:
        text = pattern.sub(replacement, text)
    return text.split()


def _ngrams(items: Sequence, order: int) -> Counter:
    return Counter(tuple(items[i : i + order]) for i in range(len(items) - order + 1))


class TextMetric(Metric):
    """Base: takes strings, or lists of them, with one reference each or a list of several."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add texts.

        Args:
            y_true: references: strings, or lists of strings of which any will do.
            y_pred: texts, as many.
            sample_weight: texts of weight 0 do not count; others count fully.
        """
        y_true, y_pred = ([part] if isinstance(part, str) else list(part) for part in (y_true, y_pred))
        if len(y_true) != len(y_pred):
            raise ValueError(f"{self.name}: received {len(y_true)} references for {len(y_pred)} texts.")
        weights = np.ones(len(y_pred)) if sample_weight is None else np.asarray(sample_weight)
        for references, text, weight in zip(y_true, y_pred, weights, strict=True):
            references = [references] if isinstance(references, str) else list(references)
            if not isinstance(text, str) or not references or not all(isinstance(r, str) for r in references):
                raise TypeError(f"{self.name}: expected strings; received {references!r:.80} and {text!r:.80}.")
            if weight:
                self.add(references, text)

    def add(self, references: list[str], text: str) -> None:
        """Add one text."""
        raise NotImplementedError(f"{type(self).__name__} has to define add.")


class BLEU(TextMetric):
    """How many sequences of up to 4 words are those of a reference, times a penalty if too short; 0 to 100.

    Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation" (2002); over the corpus,
    with the tokens and the smoothing of sacrebleu (Post, 2018).

    Args:
        max_ngram_order: longest sequence.
        lowercase: do not tell upper from lower case.
        tokenize: "13a", or "none" for words between spaces.

    >>> round(float(BLEU()(["the cat sat on the mat"], ["the cat sat on a mat"])), 2)
    53.73
    """

    _direction = "up"

    def __init__(
        self,
        max_ngram_order: int = 4,
        lowercase: bool = False,
        tokenize: str = "13a",
        name: str = "bleu",
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        if tokenize not in ("13a", "none"):
            raise ValueError(f'tokenize must be "13a" or "none"; received {tokenize!r}.')
        self.max_ngram_order = max_ngram_order
        self.lowercase = lowercase
        self.tokenize = tokenize
        self.matches = self.add_sum("matches", (max_ngram_order,))
        self.possible = self.add_sum("possible", (max_ngram_order,))
        self.lengths = self.add_sum("lengths", (2,))  # of the texts, and of the references nearest in length

    def _tokens(self, text: str) -> list[str]:
        text = text.lower() if self.lowercase else text
        return text.split() if self.tokenize == "none" else tokenize_13a(text)

    def add(self, references: list[str], text: str) -> None:
        words, wanted = self._tokens(text), [self._tokens(reference) for reference in references]
        nearest = min((abs(len(tokens) - len(words)), len(tokens)) for tokens in wanted)[1]
        self.lengths.assign_add(np.array([len(words), nearest], "float64"))
        counts = np.zeros((2, self.max_ngram_order))
        for order in range(1, self.max_ngram_order + 1):
            found, known = _ngrams(words, order), Counter()
            for tokens in wanted:
                known |= _ngrams(tokens, order)
            counts[:, order - 1] = (found & known).total(), found.total()
        self.matches.assign_add(counts[0])
        self.possible.assign_add(counts[1])

    def result(self) -> Tensor:
        orders = float(self.max_ngram_order)
        none = ops.cast(ops.equal(self.matches, 0), "float64")
        # An order without a match counts as 1/2 of one, the next such as 1/4, and so on.
        smoothed = ops.where(none > 0, ops.power(0.5, ops.cumsum(none)), self.matches)
        logs = ops.log(smoothed / ops.maximum(self.possible, 1.0))
        own, wanted = self.lengths[0], self.lengths[1]
        penalty = ops.minimum(1.0 - wanted / ops.maximum(own, 1.0), 0.0)
        score = 100.0 * ops.exp(penalty + ops.sum(logs) / orders)
        scored = ops.any(self.matches > 0) & ops.all(self.possible > 0)
        return ops.cast(ops.where(scored, score, 0.0), self.dtype)


class ChrF(TextMetric):
    """F-score of sequences of characters, up to 6; 0 to 100. With ``word_order=2`` it is chrF++.

    Popović, "chrF: character n-gram F-score for automatic MT evaluation" (2015); over the corpus, as sacrebleu
    computes it.

    Args:
        char_order: longest sequence of characters, spaces not counted.
        word_order: longest sequence of words that counts as well.
        beta: how many times as important recall is.
        lowercase: do not tell upper from lower case.

    >>> round(float(ChrF()(["the cat sat on the mat"], ["the cat sat on a mat"])), 2)
    65.98
    """

    _direction = "up"

    def __init__(
        self,
        char_order: int = 6,
        word_order: int = 0,
        beta: float = 2.0,
        lowercase: bool = False,
        name: str = "chrf",
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        self.char_order = char_order
        self.word_order = word_order
        self.beta = beta
        self.lowercase = lowercase
        # Sequences by order: of the texts, of the references, in both.
        self.counts = self.add_sum("counts", (3, char_order + word_order))

    def _sequences(self, text: str) -> list[Counter]:
        text = text.lower() if self.lowercase else text
        characters, words = "".join(text.split()), _words(text)
        return [
            *(_ngrams(characters, order) for order in range(1, self.char_order + 1)),
            *(_ngrams(words, order) for order in range(1, self.word_order + 1)),
        ]

    def add(self, references: list[str], text: str) -> None:
        found = self._sequences(text)
        choices = []
        for reference in references:
            wanted = self._sequences(reference)
            pairs = list(zip(found, wanted, strict=True))
            own = [a.total() if b else 0 for a, b in pairs]
            counts = [own, [b.total() for b in wanted], [(a & b).total() for a, b in pairs]]
            choices.append(np.array(counts, "float64"))
        self.counts.assign_add(max(choices, key=lambda counts: float(self._score(ops.convert_to_tensor(counts)))))

    def _score(self, counts: Tensor) -> Tensor:
        own, wanted, both = counts[0], counts[1], counts[2]
        complete = ops.cast((own > 0) & (wanted > 0), "float64")
        precision, recall = (
            ops.divide_no_nan(ops.sum(ops.divide_no_nan(both, total) * complete), ops.sum(complete))
            for total in (own, wanted)
        )
        factor = self.beta**2
        return 100.0 * ops.divide_no_nan((1 + factor) * precision * recall, factor * precision + recall)

    def result(self) -> Tensor:
        return ops.cast(self._score(self.counts.value), self.dtype)


def _words(text: str) -> list[str]:
    """Words, of which a punctuation mark at the end, or else at the start, is one of its own."""
    words: list[str] = []
    for word in text.split():
        if len(word) > 1 and word[-1] in string.punctuation:
            words += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in string.punctuation:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words


def edit_distance(first: Sequence, second: Sequence) -> int:
    """The least number of insertions, deletions and replacements that turn one sequence into the other.

    Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals" (1966).

    >>> edit_distance("kitten", "sitting")
    3
    """
    numbers: dict[Any, int] = {}
    target = np.array([numbers.setdefault(item, len(numbers)) for item in second], np.int64)
    steps = np.arange(len(target) + 1)
    row = steps
    for item in first:
        replaced = row[:-1] + (target != numbers.get(item, -1))
        row = np.concatenate([row[:1] + 1, np.minimum(row[1:] + 1, replaced)])
        row = np.minimum.accumulate(row - steps) + steps  # insertions, along the row
    return int(row[-1])


class WordErrorRate(TextMetric):
    """Insertions, deletions and replacements of words, as a share of the words in the references.

    Of several references the nearest counts.

    >>> float(WordErrorRate()(["the cat sat down"], ["the hat sat"]))
    0.5
    """

    _direction = "down"

    def __init__(self, name: str = "wer", dtype: Any = None):
        super().__init__(dtype, name)
        self.errors = self.add_sum("errors")
        self.count = self.add_sum("count")

    def units(self, text: str) -> Sequence:
        """What is counted: words."""
        return text.split()

    def add(self, references: list[str], text: str) -> None:
        found = self.units(text)
        choices = [(edit_distance(units, found), len(units)) for units in map(self.units, references)]
        errors, count = min(choices, key=lambda pair: pair[0] / max(pair[1], 1))
        self.errors.assign_add(float(errors))
        self.count.assign_add(float(count))

    def result(self) -> Tensor:
        return ops.cast(ops.divide_no_nan(self.errors, self.count), self.dtype)


class CharacterErrorRate(WordErrorRate):
    """Insertions, deletions and replacements of characters, as a share of those in the references."""

    def __init__(self, name: str = "cer", dtype: Any = None):
        super().__init__(name, dtype)

    def units(self, text: str) -> Sequence:
        """What is counted: characters, spaces among them."""
        return text
