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
    ("answer", "number"),
    [
        ("It is \u22125.", -5),
        ("It is \u20135 degrees", -5),
        ("x=-5", -5),
        ("You lose -$25", -25),
        ("between 20-25", 25),
        ("20\u221225", 25),
        ("Room B-25", 25),
        ("(5)-25", 25),
        ("The answer is 25 (see step 3)", 25),
        ("It comes to 25 (see step 3)", 25),
        ("The answer is 25. I checked it in 3 ways.", 25),
        ("The answer is 7 + 18 = 25. There are 2 steps.", 25),
        ("The answer is not known. It may be 25", 25),
        ("Answer: 3\nNo, wait. Answer: 25", 25),
        ("Answer: 3, no, answer: 25", 25),
        ("So \\boxed{25} after 3 steps", 25),
        ("#### 25\n(3 steps)", 25),
        ("The total is (25)", 25),
        ("(only 25)", 25),
        ("2.5e3", 2_500),
        ("1.5E-3 m", 0.0015),
        ("2e", 2),
        ("1,00,000", 100_000),
        ("12\u202f345", 12_345),
        ("(2, 3,4)", 4),
        ("it costs .5", 0.5),
        ("\uff11\uff12", 12),
        ("10\u00b2", 10),
    ],
)
def test_a_number_is_read_as_a_reader_reads_it(answer: str, number: float) -> None:
    assert is_right(answer, Expected(number=number))
    assert not is_right(answer, Expected(number=-number))


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("東京です", "東京"),
        ("はParisです", "Paris"),
        ("กรุงเทพมหานคร", "กรุงเทพ"),
        ("Jose\u0301 Marti\u0301", "José Martí"),
        ("José", "Jose\u0301"),
        ("I don’t know", "don't"),
        ("I don't know", "don’t"),
        ("HAUPTSTRASSE", "Hauptstraße"),
        ("Ｐａｒｉｓ", "Paris"),
        ("It is +5 C++.", "C++"),
        ("John's", "John"),
    ],
)
def test_a_word_is_found_however_it_is_written(answer: str, word: str) -> None:
    assert is_right(answer, Expected(words=(word,)))
    assert not is_right(answer, Expected(words=(word,), no_words=(word,)))


@pytest.mark.parametrize(
    ("answer", "word"), [("Marseille", "Mars"), ("JoséX", "José"), ("naïveté", "naïve"), ("大阪です", "東京")]
)
def test_a_part_of_a_word_is_none(answer: str, word: str) -> None:
    assert not is_right(answer, Expected(words=(word,)))


@pytest.mark.parametrize("number", ["x", [25], float("nan"), float("inf"), 10**400, "1e999"])
def test_what_is_no_number_cannot_be_expected(number: object) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        expected({"number": number})


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
