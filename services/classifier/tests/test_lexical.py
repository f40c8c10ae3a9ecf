import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_classifier.domain import lexical
from services.classifier.tests.strange_texts import STRANGE


def feature(text: str, name: str) -> float:
    return dict(zip(lexical.NAMES, lexical.features(text), strict=True))[name]


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("Add 3 and 4,500.25 to 7", "numbers", 3),
        ("def f(x):\n    return x;", "code", 4),
        ("A. one\nB. two\n(C) three", "options", 3),
        ("It isn't, it can't, and it will not", "negations", 3),
        ("It isn’t", "negations", 1),
        ("Who, what and where?", "who_what", 3),
        ("\\frac{1}{2} is $x^2$", "latex", 2),
        ("Fill the ____ in", "blanks", 1),
        ("Hello there", "greeting", 1),
        ("1 + 2 = 3", "operators", 2),
    ],
)
def test_counts(text: str, name: str, count: int) -> None:
    assert feature(text, name) == pytest.approx(math.log1p(count))


def test_shares() -> None:
    assert feature("AB12", "digit_share") == 0.5
    assert feature("AB12", "upper_share") == 0.5
    assert feature("äb", "non_ascii_share") == 0.5


def test_the_length_counts_the_whole_text_though_only_its_ends_are_read() -> None:
    assert feature("x" * 50_000, "chars") == pytest.approx(math.log1p(50_000))


@given(st.text(max_size=600))
def test_any_text_gives_a_finite_number_for_each_name(text: str) -> None:
    values = lexical.features(text)
    assert len(values) == len(lexical.NAMES)
    assert all(math.isfinite(value) and value >= 0.0 for value in values)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", STRANGE)
def test_strange_texts_take_no_longer_than_others(name: str) -> None:
    assert len(lexical.features(STRANGE[name])) == len(lexical.NAMES)
