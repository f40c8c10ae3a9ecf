"""Money in whole billionths of a US dollar, and the formulas of what is charged, for tokens and for cached answers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, NewType

from farthing_kit.usage import TokenUsage

NanoUsd = NewType("NanoUsd", int)
Millionths = NewType("Millionths", int)

CURRENCY: Final = "USD"
NANOS_PER_USD: Final = 1_000_000_000
TOKENS_PER_PRICE: Final = 1_000_000
WHOLE: Final = Millionths(1_000_000)


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


def millionths(share: float) -> Millionths:
    """A share of a whole, such as 0.1, in whole millionths. ValueError for what is not 0 to 1, or finer: nobody is
    charged by a share that was rounded on the way."""
    if not 0.0 <= share <= 1.0:  # NaN is not
        raise ValueError("must be 0 to 1")
    whole = round(share * WHOLE)
    if whole / WHOLE != share:
        raise ValueError("must have at most 6 digits after the point")
    return Millionths(whole)


@dataclass(frozen=True, slots=True)
class HitPrice:
    """What an answer from a cache costs: a share of the call that it spares, on the model that wrote it, as a version
    of a policy has it."""

    policy_version: int = 0
    share: Millionths = Millionths(0)

    def __post_init__(self) -> None:
        if self.policy_version < 0 or not 0 <= self.share <= WHOLE:
            raise ValueError("the version is negative, or the share is not 0 to 1")

    def of(self, spared: NanoUsd) -> NanoUsd:
        """The share, rounded half up, once. Integers only; never more than the whole."""
        return NanoUsd((2 * spared * self.share + WHOLE) // (2 * WHOLE))


def format_usd(amount: int) -> str:
    """An amount for people, every digit of it: "$0.000012345"."""
    sign, nanos = ("-", -amount) if amount < 0 else ("", amount)
    return f"{sign}${nanos // NANOS_PER_USD:,}.{nanos % NANOS_PER_USD:09d}"
