"""The shared messages of farthing.type.v1 as kit values, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from farthing.type.v1.money_pb2 import Money
from farthing.type.v1.usage_pb2 import TokenUsage as TokenUsageMessage
from farthing.type.v1.usage_pb2 import UnitPrices as UnitPricesMessage
from farthing_kit.errors import InvalidArgument
from farthing_kit.money import CURRENCY, NanoUsd, UnitPrices
from farthing_kit.usage import TokenUsage

# What a Duration and a Timestamp may hold: 10,000 years, and the years 1 to 9999.
_MAX_SPAN_S: Final = 315_576_000_000
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def money_to_message(amount: int) -> Money:
    """Nano-dollars as a Money message."""
    return Money(currency_code=CURRENCY, nano_units=amount)


def money_from_message(message: Money, field: str = "money") -> NanoUsd:
    """Nano-dollars of a Money message; another currency is refused, an unset message is zero."""
    if message.currency_code not in ("", CURRENCY):
        raise InvalidArgument.field(f"{field}.currency_code", f"must be {CURRENCY}")
    return NanoUsd(message.nano_units)


def usage_to_message(usage: TokenUsage) -> TokenUsageMessage:
    """Token counts as a message."""
    return TokenUsageMessage(
        fresh_input_tokens=usage.fresh_input,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
        output_tokens=usage.output,
        reasoning_tokens=usage.reasoning,
    )


def usage_from_message(message: TokenUsageMessage, field: str = "usage") -> TokenUsage:
    """Token counts of a message; a negative count is refused."""
    try:
        return TokenUsage(
            fresh_input=message.fresh_input_tokens,
            cache_read=message.cache_read_tokens,
            cache_write=message.cache_write_tokens,
            output=message.output_tokens,
            reasoning=message.reasoning_tokens,
        )
    except ValueError as error:
        raise InvalidArgument.field(field, f"{error}; every count must be 0 or more") from None


def prices_to_message(prices: UnitPrices) -> UnitPricesMessage:
    """Unit prices as a message."""
    return UnitPricesMessage(
        fresh_input=money_to_message(prices.fresh_input),
        cache_read=money_to_message(prices.cache_read),
        cache_write=money_to_message(prices.cache_write),
        output=money_to_message(prices.output),
        reasoning=money_to_message(prices.reasoning),
    )


def prices_from_message(message: UnitPricesMessage, field: str = "prices") -> UnitPrices:
    """Unit prices of a message; a negative price or another currency is refused."""
    try:
        return UnitPrices(
            fresh_input=money_from_message(message.fresh_input, f"{field}.fresh_input"),
            cache_read=money_from_message(message.cache_read, f"{field}.cache_read"),
            cache_write=money_from_message(message.cache_write, f"{field}.cache_write"),
            output=money_from_message(message.output, f"{field}.output"),
            reasoning=money_from_message(message.reasoning, f"{field}.reasoning"),
        )
    except ValueError as error:
        raise InvalidArgument.field(field, f"{error}; every price must be 0 or more") from None


def span_from_message(message: Duration, field: str) -> timedelta:
    """A span of time, to the microsecond; what is no Duration, such as one of more than 10,000 years, is refused."""
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _MAX_SPAN_S or abs(nanos) > 999_999_999 or seconds * nanos < 0:
        raise InvalidArgument.field(field, f"must be within {_MAX_SPAN_S} s, with nanos of the same sign below 10^9")
    return timedelta(seconds=seconds, microseconds=int(nanos / 1_000))


def moment_from_message(message: Timestamp, field: str) -> datetime:
    """A moment in UTC, to the microsecond; one outside the years 1 to 9999 is refused."""
    if not _FIRST_SECOND <= message.seconds <= _LAST_SECOND or not 0 <= message.nanos <= 999_999_999:
        raise InvalidArgument.field(field, "must be a moment of the years 1 to 9999")
    return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1_000)
