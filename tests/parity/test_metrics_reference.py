"""Metrics that Keras lacks, against sacrebleu and scikit-learn."""

import random

import numpy as np
import pytest

import tenzoo as tz

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)
WORDS = (
    'the a cat dog sat, on mat. under it\'s (not) 1,000 3.5 10-fold "quoted" &amp; x/y He said: no! '
    "Straße déjà vu e.g. U.S. don't well-known - ... ? ; 50% $5 #tag @home [one] {two} über 日本 naïve"
)


def corpus(size, references, seed):
    source = random.Random(seed)
    texts = [source.choices(WORDS.split(), k=source.randint(1, 14)) for _ in range(size)]
    wanted = []
    for text in texts:
        variants = []
        for _ in range(references):
            words = [source.choice(WORDS.split()) if source.random() < 0.25 else word for word in text]
            variants.append(" ".join(word for word in words if source.random() > 0.1) or "nothing")
        wanted.append(variants)
    return [" ".join(text) for text in texts], wanted


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", [{}, {"lowercase": True}])
def test_sacrebleu(seed, references, options):
    sacrebleu = pytest.importorskip("sacrebleu")
    texts, wanted = corpus(1 + 7 * seed, references, seed)
    streams = [list(stream) for stream in zip(*wanted)]
    pairs = [
        (tz.metrics.BLEU(**options), sacrebleu.BLEU(**options)),
        (tz.metrics.BLEU(tokenize="none", max_ngram_order=2), sacrebleu.BLEU(tokenize="none", max_ngram_order=2)),
        (tz.metrics.ChrF(**options), sacrebleu.CHRF(**options)),
        (tz.metrics.ChrF(word_order=2, beta=3.0), sacrebleu.CHRF(word_order=2, beta=3)),
    ]
    for ours, theirs in pairs:
        ours.update_state(wanted, texts)
        assert ours.result().item() == pytest.approx(theirs.corpus_score(texts, streams).score, rel=1e-5)


@pytest.mark.parametrize("text", ["", "no", "a b c", "x y z w v", "a b c d"])
def test_sacrebleu_on_short_texts(text):
    sacrebleu = pytest.importorskip("sacrebleu")
    for ours, theirs in ((tz.metrics.BLEU(), sacrebleu.BLEU()), (tz.metrics.ChrF(), sacrebleu.CHRF())):
        score = theirs.corpus_score([text], [["a b c d e"]]).score
        assert ours(["a b c d e"], [text]).item() == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize("k", [None, 3])
def test_rankings(k):
    reference = pytest.importorskip("sklearn.metrics")
    relevance, scores = RNG.integers(0, 4, (20, 8)), RNG.normal(size=(20, 8))
    ndcg = tz.metrics.NDCG(k=k)(relevance, scores)
    assert ndcg.item() == pytest.approx(reference.ndcg_score(relevance, scores, k=k), rel=1e-5)
    binary = (relevance > 1).astype(int)
    binary[:, 0] = 1
    expected = np.mean([reference.average_precision_score(*row) for row in zip(binary, scores)])
    assert tz.metrics.MeanAveragePrecision()(binary, scores).item() == pytest.approx(expected, rel=1e-5)
