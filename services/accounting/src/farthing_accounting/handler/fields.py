"""Reading fields of requests: each is right, or named in the error."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from farthing_accounting.domain.budgets import MAX_NANO_USD
from farthing_accounting.domain.errors import InvalidArgument
from farthing_accounting.domain.principal import MAX_USER_CHARS, Principal, is_name
from farthing_accounting.domain.vocabulary import Tier
from farthing_accounting.ports import WriteOnce
from farthing_kit import labels
from farthing_kit.wire import money_from_message

MAX_KEY_CHARS: Final = 128
# Years 1970 to 9999, in seconds: what both a Timestamp and PostgreSQL hold.
_LAST_SECOND: Final = 253_402_300_799
_IDEMPOTENCY_KEY: Final = "idempotency_key"

M = TypeVar("M", bound=Message)


def text(field: str, value: str, *, most: int = MAX_KEY_CHARS, least: int = 1) -> str:
    """A text of `least` to `most` characters, by the mesh's rule for labels."""
    fault = labels.fault(value, most=most, least=least)
    if fault is not None:
        raise InvalidArgument.field(field, fault)
    return value


def org(field: str, value: str) -> str:
    """The name of an organisation."""
    if not is_name(value):
        raise InvalidArgument.field(field, "must be 1 to 64 characters of [a-z0-9-]")
    return value


def principal(org_name: str, team: str, user: str) -> Principal:
    """Whom a key is for."""
    if team and not is_name(team):
        raise InvalidArgument.field("team", "must be 1 to 64 characters of [a-z0-9-], or empty")
    return Principal(org("org", org_name), team, text("user", user, most=MAX_USER_CHARS, least=0))


def once(request: Message) -> WriteOnce:
    """The idempotency key of a write, with a fingerprint of all the rest of it."""
    key = text(_IDEMPOTENCY_KEY, getattr(request, _IDEMPOTENCY_KEY))
    body = type(request)()
    body.CopyFrom(request)
    body.ClearField(_IDEMPOTENCY_KEY)
    return WriteOnce(key, hashlib.sha256(body.SerializeToString(deterministic=True)).digest())


def duration(field: str, message: Duration, *, least: timedelta, most: timedelta) -> timedelta:
    """A span of time inside bounds."""
    span = timedelta(microseconds=message.ToNanoseconds() // 1_000) if abs(message.seconds) <= _LAST_SECOND else None
    if span is None or not least <= span <= most:
        raise InvalidArgument.field(field, f"must be {least.total_seconds():g} s to {most.total_seconds():g} s")
    return span


def moment(field: str, message: Timestamp) -> datetime:
    """A moment between 1970 and 9999."""
    if not 0 <= message.seconds <= _LAST_SECOND or not 0 <= message.nanos < 1_000_000_000:
        raise InvalidArgument.field(field, "must be a moment between the years 1970 and 9999")
    return datetime.fromtimestamp(message.seconds, UTC) + timedelta(microseconds=message.nanos // 1_000)


def optional_moment(request: Message, field: str) -> datetime | None:
    """A moment; None when it is not set."""
    return moment(field, getattr(request, field)) if request.HasField(field) else None


def count(field: str, value: int, *, most: int, least: int = 0) -> int:
    """A number inside bounds."""
    if not least <= value <= most:
        raise InvalidArgument.field(field, f"is {value}, must be {least} to {most}")
    return value


def probability(field: str, value: float) -> float:
    """Above 0 and below 1. Written so that NaN fails too."""
    if not 0.0 < value < 1.0:
        raise InvalidArgument.field(field, f"is {value:g}, must be above 0 and below 1")
    return value


def share(field: str, value: float, *, most: float) -> float:
    """A part of a whole, up to `most`."""
    if not 0.0 <= value <= most:
        raise InvalidArgument.field(field, f"is {value:g}, must be 0 to {most:g}")
    return value


def tier(field: str, value: int) -> Tier:
    """The class of a model."""
    if value not in (Tier.SMALL, Tier.MEDIUM, Tier.LARGE):
        raise InvalidArgument.field(field, "must be SMALL, MEDIUM or LARGE")
    return Tier(value)


def money(field: str, message: Message, *, most: int = MAX_NANO_USD) -> int:
    """An amount of US dollars inside bounds."""
    amount = money_from_message(message, field)  # type: ignore[arg-type]
    return count(f"{field}.nano_units", amount, most=most)


def timestamp(value: datetime) -> Timestamp:
    """A moment as a message."""
    found = Timestamp()
    found.FromDatetime(value)
    return found


def span(value: timedelta) -> Duration:
    """A span of time as a message."""
    found = Duration()
    found.FromTimedelta(value)
    return found
