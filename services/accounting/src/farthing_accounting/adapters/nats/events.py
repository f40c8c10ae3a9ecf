"""Usage events from the bytes of the stream: right in every field, or refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from farthing.accounting.v1.policy_pb2 import HitPrice as HitPriceMessage
from farthing.accounting.v1.usage_event_pb2 import SupersededCall as SupersededMessage
from farthing.accounting.v1.usage_event_pb2 import UsageEvent as EventMessage
from farthing.type.v1.principal_pb2 import Principal as PrincipalMessage
from farthing.type.v1.usage_pb2 import Quote as QuoteMessage
from farthing.type.v1.usage_pb2 import TokenUsage as UsageMessage
from farthing_accounting.domain.pricing import MAX_MODEL_CHARS, Quote
from farthing_accounting.domain.principal import MAX_USER_CHARS, Principal, is_name
from farthing_accounting.domain.usage import (
    MAX_EVENT_TOKENS,
    MAX_ID_CHARS,
    MAX_TAG_KEY_CHARS,
    MAX_TAG_VALUE_CHARS,
    MAX_TAGS,
    SupersededCall,
    UsageEvent,
)
from farthing_accounting.domain.vocabulary import CacheLevel, FinishReason, Task, Tier
from farthing_kit.errors import InvalidArgument
from farthing_kit.money import HitPrice, Millionths
from farthing_kit.usage import TokenUsage
from farthing_kit.wire import prices_from_message, usage_from_message

_LAST_SECOND: Final = 253_402_300_799
E = TypeVar("E", bound=IntEnum)


class Unreadable(Exception):
    """The bytes are no usage event; the text names the field and holds nothing of its content."""


def event_from(data: bytes) -> UsageEvent:
    """The event of a message's bytes."""
    try:
        message = EventMessage.FromString(data)
    except DecodeError:
        raise Unreadable("the bytes are not a UsageEvent") from None
    return UsageEvent(
        request_id=_text("request_id", message.request_id, MAX_ID_CHARS, least=1),
        principal=_principal(message.principal),
        end_time=_moment("end_time", message.end_time),
        cache_level=_enum("cache_level", CacheLevel, message.cache_level),
        usage=_usage("usage", message.usage),
        counterfactual_usage=_usage("counterfactual_usage", message.counterfactual_usage),
        quote=_quote(message.quote) if message.HasField("quote") else None,
        reservation_id=_text("reservation_id", message.reservation_id, MAX_ID_CHARS),
        tier=_enum("tier", Tier, message.tier),
        task=_enum("task", Task, message.task),
        pool=_text("pool", message.pool, MAX_ID_CHARS),
        quantization=_text("quantization", message.quantization, MAX_ID_CHARS),
        finish_reason=_enum("finish_reason", FinishReason, message.finish_reason),
        tags=_tags(message.tags),
        superseded=_superseded(message.superseded) if message.HasField("superseded") else None,
        hit_price=_hit_price(message.hit_price) if message.HasField("hit_price") else None,
    )


def _superseded(message: SupersededMessage) -> SupersededCall:
    return SupersededCall(
        _text("superseded.request_id", message.request_id, MAX_ID_CHARS, least=1),
        _usage("superseded.counterfactual_usage", message.counterfactual_usage),
    )


def _hit_price(message: HitPriceMessage) -> HitPrice:
    try:
        return HitPrice(message.policy_version, Millionths(message.share_millionths))
    except ValueError as error:
        raise Unreadable(f"hit_price is wrong: {error}") from None


def _text(field: str, value: str, most: int, *, least: int = 0) -> str:
    if not least <= len(value) <= most or not value.isprintable():
        raise Unreadable(f"{field} is not a text of {least} to {most} characters")
    return value


def _principal(message: PrincipalMessage) -> Principal:
    if not is_name(message.org):
        raise Unreadable("principal.org is not the name of an organisation")
    return Principal(
        message.org,
        _text("principal.team", message.team, MAX_ID_CHARS),
        _text("principal.user", message.user, MAX_USER_CHARS),
        _text("principal.key_id", message.key_id, MAX_ID_CHARS),
    )


def _moment(field: str, message: Timestamp) -> datetime:
    if not 0 < message.seconds <= _LAST_SECOND or not 0 <= message.nanos < 1_000_000_000:
        raise Unreadable(f"{field} is not a moment")
    return datetime.fromtimestamp(message.seconds, UTC) + timedelta(microseconds=message.nanos // 1_000)


def _enum(field: str, kind: type[E], value: int) -> E:
    """A value that this release does not know yet is booked without it: money comes first."""
    try:
        return kind(value)
    except ValueError:
        return kind(0)


def _usage(field: str, message: UsageMessage) -> TokenUsage:
    try:
        usage = usage_from_message(message, field)
    except InvalidArgument:
        raise Unreadable(f"{field} has a negative count") from None
    if usage.total > MAX_EVENT_TOKENS:
        raise Unreadable(f"{field} has more than {MAX_EVENT_TOKENS} tokens")
    return usage


def _quote(message: QuoteMessage) -> Quote:
    try:
        prices = prices_from_message(message.prices, "quote.prices")
        others = prices_from_message(message.counterfactual_prices, "quote.counterfactual_prices")
    except InvalidArgument as error:
        raise Unreadable(error.message) from None
    if message.price_version < 0:
        raise Unreadable("quote.price_version is negative")
    return Quote(
        message.price_version,
        _text("quote.model", message.model, MAX_MODEL_CHARS, least=1),
        prices,
        _text("quote.counterfactual_model", message.counterfactual_model, MAX_MODEL_CHARS),
        others,
    )


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    if len(tags) > MAX_TAGS:
        raise Unreadable(f"there are more than {MAX_TAGS} tags")
    return {
        _text("tags", key, MAX_TAG_KEY_CHARS, least=1): _text("tags", value, MAX_TAG_VALUE_CHARS)
        for key, value in tags.items()
    }
