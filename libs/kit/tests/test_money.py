"""Money: exact, and rounded once."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.type.v1.money_pb2 import Money
from farthing.type.v1.usage_pb2 import TokenUsage as TokenUsageMessage
from farthing_kit import wire
from farthing_kit.errors import InvalidArgument
from farthing_kit.money import WHOLE, HitPrice, Millionths, NanoUsd, UnitPrices, cost, format_usd, millionths
from farthing_kit.usage import TokenUsage

usages = st.builds(TokenUsage, *[st.integers(0, 10**9)] * 5)
prices = st.builds(UnitPrices, *[st.integers(0, 10**13)] * 5)


def exact(usage: TokenUsage, price: UnitPrices) -> Fraction:
    pairs = zip(
        (usage.fresh_input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning),
        (price.fresh_input, price.cache_read, price.cache_write, price.output, price.reasoning),
        strict=True,
    )
    return sum((Fraction(tokens * nanos, 1_000_000) for tokens, nanos in pairs), Fraction(0))


@given(usages, prices)
def test_the_cost_is_the_exact_sum_rounded_half_up(usage: TokenUsage, price: UnitPrices) -> None:
    difference = cost(usage, price) - exact(usage, price)
    assert Fraction(-1, 2) < difference <= Fraction(1, 2)


@given(usages, usages, prices)
def test_a_request_is_never_dearer_than_its_parts_by_more_than_a_nano(
    first: TokenUsage, second: TokenUsage, price: UnitPrices
) -> None:
    assert abs(cost(first + second, price) - cost(first, price) - cost(second, price)) <= 1


def test_half_a_nano_is_a_nano() -> None:
    assert cost(TokenUsage(fresh_input=1), UnitPrices(fresh_input=500_000)) == 1
    assert cost(TokenUsage(fresh_input=1), UnitPrices(fresh_input=499_999)) == 0


def test_rounding_happens_once_for_the_request_not_once_for_each_bucket() -> None:
    usage = TokenUsage(fresh_input=1, output=1)
    assert cost(usage, UnitPrices(fresh_input=400_000, output=400_000)) == 1


@given(usages, prices)
def test_usage_and_prices_survive_the_wire(usage: TokenUsage, price: UnitPrices) -> None:
    assert wire.usage_from_message(wire.usage_to_message(usage)) == usage
    assert wire.prices_from_message(wire.prices_to_message(price)) == price


def test_totals_hold_every_token_once() -> None:
    usage = TokenUsage(1, 2, 4, 8, 16)
    assert (usage.input_total, usage.output_total, usage.total) == (7, 24, 31)


def test_negative_counts_and_foreign_money_are_refused() -> None:
    with pytest.raises(ValueError, match="output is negative"):
        TokenUsage(output=-1)
    with pytest.raises(InvalidArgument):
        wire.usage_from_message(TokenUsageMessage(output_tokens=-1))
    with pytest.raises(InvalidArgument):
        wire.money_from_message(Money(currency_code="EUR", nano_units=1))


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "$0.000000000"), (1_234_500_000_007, "$1,234.500000007"), (-5, "-$0.000000005")]
)
def test_people_see_every_digit(amount: int, text: str) -> None:
    assert format_usd(amount) == text


@given(st.integers(0, 10**19), st.integers(0, WHOLE))
def test_the_price_of_a_hit_is_its_exact_share_rounded_half_up(spared: int, share: int) -> None:
    price = HitPrice(1, Millionths(share)).of(NanoUsd(spared))
    assert Fraction(-1, 2) < price - Fraction(spared * share, WHOLE) <= Fraction(1, 2)
    assert 0 <= price <= spared


@given(st.integers(0, WHOLE))
def test_a_share_of_six_digits_is_itself_in_millionths(share: int) -> None:
    assert millionths(share / WHOLE) == millionths(float(f"{share / WHOLE:.6f}")) == share


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (-0.000001, "0 to 1"),
        (1.000001, "0 to 1"),
        (float("nan"), "0 to 1"),
        (float("inf"), "0 to 1"),
        (0.1234567, "6 digits"),
        (0.1 + 0.2, "6 digits"),
        (1e-9, "6 digits"),
    ],
)
def test_what_is_no_share_of_millionths_is_refused(share: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        millionths(share)
