"""How numbers read in a sentence."""

import pytest

from causal.words import estimand_in_words, p_in_words, unit_in_words


@pytest.mark.parametrize(
    ("estimand", "words"),
    [("ate", "ATE"), ("relative att", "Relative ATT"), ("policy value", "Policy value"), ("", "")],
)
def test_estimand_in_words_keeps_abbreviations_in_capitals(estimand, words):
    assert estimand_in_words(estimand) == words


def test_p_in_words_never_shows_a_zero():
    assert p_in_words(5e-324) == p_in_words(0.000999) == "p < 0.001"
    assert p_in_words(0.001) == "p = 0.001"
    assert p_in_words(1.0) == "p = 1.000"


def test_unit_in_words_has_a_leading_space():
    assert unit_in_words({"unit": "s"}) == " s"
    assert unit_in_words({}) == unit_in_words({"unit": ""}) == ""
