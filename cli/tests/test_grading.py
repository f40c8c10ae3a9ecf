"""Grading: what counts as a right answer."""

import pytest

from farthing_cli.grading import Expected, expected, is_right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("7 + 5 = 12", True),
        ("The answer is 12.", True),
        ("12.0", True),
        ("It is 12, because 7 + 6 = 13", False),
        ("twelve", False),
        ("", False),
        ("120", False),
    ],
)
def test_the_last_number_counts(answer: str, right: bool) -> None:
    assert is_right(answer, Expected(number=12)) is right


def test_thousands_may_be_separated() -> None:
    assert is_right("That makes 1,204 in all.", Expected(number=1204))


@pytest.mark.parametrize(
    ("answer", "right"),
    [("Positive.", True), ("positive, not negative", False), ("positively", False), ("negative", False)],
)
def test_a_word_must_stand_alone_and_no_other_label_beside_it(answer: str, right: bool) -> None:
    assert is_right(answer, Expected(words=("positive",), no_words=("negative",))) is right


@pytest.mark.parametrize("row", [{}, {"word": ["x"]}, {"number": 1, "words": ["x"]}, {"words": "x"}, {"not": ["x"]}])
def test_what_cannot_be_graded_is_refused(row: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        expected(row)
