"""Metrics of texts: corpus figures by hand, batches, merging, several references, errors."""

import numpy as np
import pytest

from tenzoo.training import metrics
from tenzoo.training.text_metrics import edit_distance

REFERENCES = ["the cat sat on the mat", "a dog, they say, barked", "it costs 1,000.50 (net)", "yes"]
TEXTS = ["the cat sat on a mat", "the dogs they say barked", "it costs 1000.50", "yes"]
METRICS = [metrics.BLEU, metrics.ChrF, metrics.WordErrorRate, metrics.CharacterErrorRate]


def final(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return metric.result().item()


@pytest.mark.parametrize("cls", METRICS)
def test_batches_merging_and_padding(cls):
    whole = final(cls(), (REFERENCES, TEXTS))
    parts = final(cls(), (REFERENCES[:1], TEXTS[:1]), (REFERENCES[1:], TEXTS[1:]))
    assert parts == whole
    first, second = cls(), cls()
    first.update_state(REFERENCES[:3], TEXTS[:3])
    second.update_state(REFERENCES[3:], TEXTS[3:])
    first.merge_state([second])
    assert first.result().item() == whole
    padded = final(cls(), ([*REFERENCES, "x"], [*TEXTS, "y"], np.array([1, 1, 1, 1, 0])))
    assert padded == whole
    first.reset_state()
    assert final(first, (REFERENCES, TEXTS)) == whole
    assert metrics.get({"class_name": f"metrics>{cls.__name__}", "config": cls().get_config()})


@pytest.mark.parametrize("cls", METRICS)
def test_the_same_text_is_perfect(cls):
    expected = 100.0 if cls._direction == "up" else 0.0
    assert final(cls(), (REFERENCES[:3], REFERENCES[:3])) == pytest.approx(expected)
    several = [["nothing like it at all", text] for text in REFERENCES[:3]]
    assert final(cls(), (several, REFERENCES[:3])) == pytest.approx(expected)


@pytest.mark.parametrize("cls", METRICS)
def test_empty_texts(cls):
    worst = 0.0 if cls._direction == "up" else 1.0
    assert final(cls(), (["some words here"], [""])) == worst
    assert cls().result().item() == 0.0


def test_bleu_by_hand():
    metric = metrics.BLEU(max_ngram_order=2, tokenize="none")
    # 4 of 5 words, 2 of 4 pairs; 1 word too short
    value = final(metric, (["a b c d e f"], ["a b x d e"]))
    assert value == pytest.approx(100 * np.exp(1 - 6 / 5) * np.sqrt(4 / 5 * 2 / 4))


def test_error_rates_by_hand():
    assert final(metrics.WordErrorRate(), (["a b c", "d"], ["a x c d", "d"])) == 0.5
    assert final(metrics.CharacterErrorRate(), ("kitten", "sitting")) == 0.5
    for first, second, distance in (("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("ab", "ba", 2)):
        assert edit_distance(first, second) == distance


def test_errors():
    with pytest.raises(ValueError, match="1 references for 2 texts"):
        metrics.BLEU().update_state(["a"], ["a", "b"])
    with pytest.raises(TypeError, match="expected strings"):
        metrics.ChrF().update_state([["a"]], [3])
    with pytest.raises(ValueError, match="13a"):
        metrics.BLEU(tokenize="zh")
