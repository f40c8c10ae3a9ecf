"""Money in whole billionths of a US dollar, and the one formula that turns tokens into it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, NewType

from farthing_kit.usage import TokenUsage

NanoUsd = NewType("NanoUsd", int)

CURRENCY: Final = "USD"
NANOS_PER_USD: Final = 1_000_000_000
TOKENS_PER_PRICE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class UnitPrices:
    """Nano-dollars for a million tokens of each bucket. One dollar for a million tokens is 1,000,000,000."""

    fresh_input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    def __post_init__(self) -> None:
        for bucket in fields(self):
            if getattr(self, bucket.name) < 0:
                raise ValueError(f"the price of {bucket.name} is negative")


def cost(usage: TokenUsage, prices: UnitPrices) -> NanoUsd:
    """What a request costs: the exact sum over the buckets, rounded half up, once. Integers only."""
    exact = (
        usage.fresh_input * prices.fresh_input
        + usage.cache_read * prices.cache_read
        + usage.cache_write * prices.cache_write
        + usage.output * prices.output
        + usage.reasoning * prices.reasoning
    )
    return NanoUsd((2 * exact + TOKENS_PER_PRICE) // (2 * TOKENS_PER_PRICE))


def format_usd(amount: int) -> str:
    """An amount for people, every digit of it: "$0.000012345"."""
    sign, nanos = ("-", -amount) if amount < 0 else ("", amount)
    return f"{sign}${nanos // NANOS_PER_USD:,}.{nanos % NANOS_PER_USD:09d}"
