"""Numbers that people write are finite and inside bounds, or refused in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_kit.numbers import number, quoted, whole


@pytest.mark.parametrize(("raw", "value"), [("0.25", 0.25), (" 1e2 ", 100.0), (0.5, 0.5), (7, 7.0), ("0", 0.0)])
def test_a_number_is_read_from_text_and_from_values_of_files(raw: object, value: float) -> None:
    assert number(raw, 0, 1000) == value


@pytest.mark.parametrize(
    "raw", ["nan", "inf", "-Infinity", "1e999", float("nan"), float("inf"), 10**400, "", "many", None, True, [1], "0x1"]
)
def test_what_is_no_finite_number_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"^is .*, must be a number from 0 to 1,000$"):
        number(raw, 0, 1000)


@pytest.mark.parametrize("raw", ["-0.1", "1e300", 1000.1, -1])
def test_numbers_out_of_bounds_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"must be from 0 to 1,000$"):
        number(raw, 0, 1000)


@pytest.mark.parametrize("raw", ["0", "1000"])
def test_bounds_may_be_left_out(raw: str) -> None:
    assert number("999.5", 0, 1000, inside=True) == 999.5
    with pytest.raises(ValueError, match=rf"is '{raw}', must be above 0 and below 1,000$"):
        number(raw, 0, 1000, inside=True)


@pytest.mark.parametrize(("raw", "value"), [("12", 12), (" -3 ", -3), ("1_000", 1000), (5, 5)])
def test_a_whole_number_is_read(raw: object, value: int) -> None:
    assert whole(raw, -10, 1000) == value


@pytest.mark.parametrize("raw", ["²", "١٢", "1.0", 1.0, True, None, "1__0", "_1", "9" * 5000, "", "nan", float("nan")])
def test_what_is_no_whole_number_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"must be a whole number from 0 to 10$"):
        whole(raw, 0, 10)


@pytest.mark.parametrize("raw", ["11", -1, "99999999999999999999", pytest.param(10**5000, id="huge")])
def test_whole_numbers_out_of_bounds_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"must be from 0 to 10$"):
        whole(raw, 0, 10)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.lists(st.floats())))
def test_whatever_is_written_the_result_is_inside_the_bounds_or_one_short_line(raw: object) -> None:
    said = ""
    try:
        assert 0 <= number(raw, 0, 10) <= 10
    except ValueError as error:
        said = str(error)
    assert len(said) < 120
    assert said.isprintable()


def test_a_long_value_is_cut_in_an_error() -> None:
    assert len(quoted("x" * 10_000)) == 40
