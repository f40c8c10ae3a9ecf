"""Usage events from the bytes of the stream: right, mended where no money hangs on it, or refused with the reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from farthing.accounting.v1.policy_pb2 import HitPrice as HitPriceMessage
from farthing.accounting.v1.usage_event_pb2 import UsageEvent as EventMessage
from farthing.type.v1.principal_pb2 import Principal as PrincipalMessage
from farthing.type.v1.usage_pb2 import Quote as QuoteMessage
from farthing.type.v1.usage_pb2 import TokenUsage as UsageMessage
from farthing.type.v1.usage_pb2 import UnitPrices as PricesMessage
from farthing_accounting.adapters.nats.mending import Mending, Unreadable, text
from farthing_accounting.domain.pricing import MAX_MODEL_CHARS, Quote
from farthing_accounting.domain.principal import MAX_USER_CHARS, Principal, is_name
from farthing_accounting.domain.usage import (
    MAX_EVENT_TOKENS,
    MAX_ID_CHARS,
    NO_TIME,
    Attempt,
    SupersededCall,
    UsageEvent,
    Void,
)
from farthing_accounting.domain.vocabulary import CacheLevel, FinishReason, Task, Tier
from farthing_kit.errors import InvalidArgument
from farthing_kit.money import HitPrice, Millionths, UnitPrices
from farthing_kit.usage import TokenUsage
from farthing_kit.wire import prices_from_message, usage_from_message

_LAST_SECOND: Final = 253_402_300_799
E = TypeVar("E", bound=IntEnum)


def event_from(data: bytes, mending: Mending | None = None) -> UsageEvent | Void:
    """The event of a message's bytes; `mending` tells afterwards whether something of it was mended."""
    try:
        message = EventMessage.FromString(data)
    except DecodeError:
        raise Unreadable("the bytes are not a UsageEvent") from None
    mend = mending or Mending()
    if message.voided:
        return Void(_org(message.principal), text("reservation_id", message.reservation_id))
    usage = _usage("usage", message.usage)
    return UsageEvent(
        request_id=text("request_id", message.request_id, least=1),
        principal=_principal(message.principal, mend),
        end_time=_end_time(message.end_time, mend),
        cache_level=_enum("cache_level", CacheLevel, message.cache_level),
        usage=usage,
        counterfactual_usage=mend.otherwise(
            lambda: _usage("counterfactual_usage", message.counterfactual_usage), TokenUsage()
        ),
        quote=_quote(message.quote, mend) if message.HasField("quote") else None,
        reservation_id=mend.otherwise(lambda: text("reservation_id", message.reservation_id), ""),
        tier=_enum("tier", Tier, message.tier),
        task=_enum("task", Task, message.task),
        pool=mend.label(message.pool, MAX_ID_CHARS),
        quantization=mend.label(message.quantization, MAX_ID_CHARS),
        finish_reason=_enum("finish_reason", FinishReason, message.finish_reason),
        tags=mend.tags(message.tags),
        superseded=mend.otherwise(lambda: _superseded(message), None) if message.HasField("superseded") else None,
        hit_price=_hit_price(message.hit_price, mend) if message.HasField("hit_price") else None,
        attempt=_attempt(message, mend) if message.HasField("attempt") else None,
    )


def _superseded(message: EventMessage) -> SupersededCall:
    earlier = message.superseded
    if earlier.request_id == message.request_id:
        raise Unreadable("the event supersedes itself")
    return SupersededCall(
        text("superseded.request_id", earlier.request_id, least=1),
        _usage("superseded.counterfactual_usage", earlier.counterfactual_usage),
    )


def _attempt(event: EventMessage, mend: Mending) -> Attempt:
    """An attempt without a name or a beginning is one all the same: the first that another takes the place of."""
    message = event.attempt
    return Attempt(
        mend.otherwise(lambda: text("attempt.request_id", message.request_id, least=1), event.request_id),
        mend.otherwise(lambda: text("attempt.attempt_id", message.attempt_id, least=1), ""),
        mend.otherwise(lambda: _moment("attempt.begin_time", message.begin_time), NO_TIME),
        mend.number(message.run),
    )


def _hit_price(message: HitPriceMessage, mend: Mending) -> HitPrice:
    try:
        return HitPrice(mend.number(message.policy_version), Millionths(message.share_millionths))
    except ValueError as error:
        raise Unreadable(f"hit_price is wrong: {error}") from None


def _org(message: PrincipalMessage) -> str:
    if not is_name(message.org):
        raise Unreadable("principal.org is not the name of an organisation")
    return message.org


def _principal(message: PrincipalMessage, mend: Mending) -> Principal:
    """The organisation pays; teams, users and keys are labels on what it pays."""
    return Principal(
        _org(message),
        mend.label(message.team, MAX_ID_CHARS),
        mend.label(message.user, MAX_USER_CHARS),
        mend.label(message.key_id, MAX_ID_CHARS),
    )


def _end_time(message: Timestamp, mend: Mending) -> datetime:
    """When the request ended; where it does not say, when the stream heard of it."""
    if mend.received is None:
        return _moment("end_time", message)
    return mend.otherwise(lambda: _moment("end_time", message), mend.received)


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


def _quote(message: QuoteMessage, mend: Mending) -> Quote:
    """The prices count; the names of the models are labels. Without prices to compare with, nothing is saved."""
    prices = _prices("quote.prices", message.prices)
    model = mend.model(message.model, MAX_MODEL_CHARS)
    compared = mend.label(message.counterfactual_model, MAX_MODEL_CHARS)
    others = mend.otherwise(lambda: _prices("quote.counterfactual_prices", message.counterfactual_prices), None)
    if others is None:
        compared, others = model, prices
    return Quote(mend.number(message.price_version), model, prices, compared, others)


def _prices(field: str, message: PricesMessage) -> UnitPrices:
    try:
        return prices_from_message(message, field)
    except InvalidArgument as error:
        raise Unreadable(error.message) from None
