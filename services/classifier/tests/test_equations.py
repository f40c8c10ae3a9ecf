"""Which equations are found in an answer, and whether they hold."""

import pytest

from farthing_classifier.domain.judging import equations
from farthing_classifier.domain.judging.equations import Truth

HOLDS, ROUNDED, WRONG = Truth.HOLDS, Truth.ROUNDED, Truth.WRONG


def truths(text: str) -> list[Truth]:
    return [equation.truth for equation in equations.find(text).all]


@pytest.mark.parametrize(
    "text",
    [
        "3 boxes * $4 = $12",
        "80,000 + 50,000 = 130,000",
        "$1,000.50 + $2 = $1,002.50",
        "6 paintings * 7 minutes/painting = 42 minutes",
        "a total of 2 apples + 3 apples = 5 apples",
        "5 x 8 = 40",
        "3x60 = 180",
        "3 times 60 = 180",
        "12 divided by 4 = 3",
        "24 / (2 + 4) = 4",
        "2(3+4) = 14",
        "(so 3 + 4 = 7)",
        "1. 3 + 4 = 7",
        "- 3 + 4 = 7",
        "**3 + 4 = 7**",
        "5 * -3 = -15",
        "60-144=-84",
        "5^2 = 25",
        "10**2 = 100",
        "16 - 3 - 4 = 9 (eggs)",
        r"$\frac{1}{2} \times 40 = 20$",
        "1 1/2 * 2 = 3",
        "¾ of 12 = 9",
        "2/3 of 9 = 6",
        "40 = 8 * 5",
        "Number of pieces = 4 feet / 0.5 feet\n= 8",
        "7 x 1,000 = 7,000",
        "100-20-30 = 50",
        "(3 + 4) * (2 - 1) = 7",
        "the change is -3 + 5 = 2",
    ],
)
def test_right_arithmetic_holds(text: str) -> None:
    assert truths(text) == [HOLDS]


@pytest.mark.parametrize(
    "text",
    ["20% of 50 = 10", "20% * 50 = 10", "20/100 = 20%", "(12 / 20) x 100 = 60%", "80 + 25% = 100", "20% + 30% = 50%"],
)
def test_percentages_are_taken_as_they_are_meant(text: str) -> None:
    assert truths(text) == [HOLDS]


@pytest.mark.parametrize(
    "text",
    [
        "3 + 4 = 8",
        "$15 - $9 = $5",
        "(12 / 20) x 100 = 55%",
        "8 hours + 6 hours = 15 hours",
        "12 * 12 = 1,440",
        "7/2 = 35",
    ],
)
def test_wrong_arithmetic_is_found(text: str) -> None:
    assert truths(text) == [WRONG]


@pytest.mark.parametrize("text", ["10/3 = 3.33", "10/3 = 3", "7/2 = 3", "2/3 = 0.67", "22 / 7 = 3.14"])
def test_rounding_is_no_error(text: str) -> None:
    assert truths(text) == [ROUNDED]


def test_units_that_are_counted_in_one_another_are_no_error() -> None:
    assert truths("2 hours - 30 minutes = 90 minutes") == [ROUNDED]


def test_each_link_of_a_chain_is_computed() -> None:
    assert truths("2 + 3 + 4 = 2 + 7 = 9") == [HOLDS, HOLDS]
    assert truths("2 + 3 + 4 = 2 + 8 = 10") == [WRONG, HOLDS]


def test_two_equations_in_a_sentence_are_two() -> None:
    assert truths("8 x 5 = 40 and 40 - 3 = 36") == [HOLDS, WRONG]


@pytest.mark.parametrize(
    "text",
    [
        "on 2023-11-05 = the day",
        "2023-11-05 = 4",
        "11/05/2023 = 4",
        "v1.2.3 = 5",
        "It is 12:30 = noon",
        "Day 2 = 10",
        "x = 5",
        "60 minutes = 1 hour",
        "3.5D = 105",
        "D + 2D + 3 = 105",
        "2 * y = 10",
        "if (a == 3 + 4) b >= 5",
        "half of 40 = 20",
        "5 / 0 = 0",
        "a != 3 + 4",
        "(x-2)(x-3) = 0, so x = 2 or x = 3.",
        "x -3 = 5",
        "n(n + 1) = 12",
        "= = = =",
        "",
    ],
)
def test_what_is_no_arithmetic_is_left_alone(text: str) -> None:
    assert truths(text) == []


def test_annotations_are_equations_of_their_own() -> None:
    found = equations.find("They cost 3 * 4 = $<<3*4=12>>12.")
    assert [e.truth for e in found.written] == [HOLDS]
    assert [e.truth for e in found.annotated] == [HOLDS]
    assert not found.odd_annotations


def test_a_text_that_goes_on_with_another_number_than_its_annotation_is_odd() -> None:
    assert equations.find("80,000 + 50,000 = $<<80000+50000=130000>>130,00").odd_annotations == 1


def test_an_answer_that_ends_within_an_annotation_is_cut() -> None:
    assert equations.find("a total of 15 + 25 = <<15+2").cut_annotation
    assert not equations.find("a total of 15 + 25 = <<15+25=40>>40").cut_annotation


def test_numbers_with_more_digits_than_any_quantity_are_not_computed() -> None:
    assert truths(f"{'9' * 400} + 1 = 2") == []
    assert truths("9^999999999 = 2") == []
