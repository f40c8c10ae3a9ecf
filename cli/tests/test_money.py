"""Money for people to read."""

import pytest

from farthing_cli.money import dollars, share


@pytest.mark.parametrize(
    ("nano_units", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (12_345, "$0.000012345"),
        (1_000_000_000, "$1.00"),
        (1_230_000_000, "$1.23"),
        (-1_500_000_001, "-$1.500000001"),
        (1_234_567_000_000_000, "$1,234,567.00"),
    ],
)
def test_no_digit_is_lost(nano_units: int, shown: str) -> None:
    assert dollars(nano_units) == shown


def test_a_share_of_nothing_is_a_dash() -> None:
    assert share(1, 0) == "–"
    assert share(973, 1000) == "97.3 %"
