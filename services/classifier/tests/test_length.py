import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_classifier.domain import length


def test_the_prediction_of_the_heads_is_taken() -> None:
    logs = (math.log(20), math.log(40), math.log(90))
    assert length.predict(logs, "What is rain?") == length.OutputLength(20, 40, 90)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Write an essay of 500 words about tea.", 675),
        ("Summarise this in two sentences: …", 56),
        ("Explain it in a single paragraph", 110),
        ("Answer with one word.", 1),
        ("Write a 300-word story", 405),
        ("use at most 30 words", 40),
    ],
)
def test_a_stated_length_counts_more_than_the_prediction(text: str, tokens: int) -> None:
    assert length.predict((0.0, math.log(1), math.log(2)), text).p50_tokens == tokens


@pytest.mark.parametrize(
    "text", ["He wrote 500 books in ten years.", "The sentence was two years.", "In other words, no."]
)
def test_other_numbers_are_not_lengths(text: str) -> None:
    assert length.stated_tokens(text) is None


any_number = st.floats(allow_nan=False)


@given(any_number, any_number, any_number, st.text(max_size=80))
def test_quantiles_are_ordered_and_bounded_whatever_the_heads_say(
    low: float, middle: float, high: float, text: str
) -> None:
    predicted = length.predict((low, middle, high), text)
    assert 1 <= predicted.p10_tokens <= predicted.p50_tokens <= predicted.p90_tokens <= length.MAX_TOKENS
