"""What one request used, as the worker or the gateway reported it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from farthing_accounting.domain.pricing import Quote
from farthing_accounting.domain.principal import Principal
from farthing_accounting.domain.vocabulary import CacheLevel, FinishReason, Task, Tier
from farthing_kit.money import HitPrice, UnitPrices
from farthing_kit.usage import TokenUsage

MAX_ID_CHARS: Final = 128
MAX_EVENT_TOKENS: Final = 1_000_000_000
MAX_TAGS: Final = 32
MAX_TAG_KEY_CHARS: Final = 64
MAX_TAG_VALUE_CHARS: Final = 256


# An event of an older release: the only attempt, which any later one may replace.
NO_TIME: Final = datetime.min.replace(tzinfo=UTC)


class EventId(NamedTuple):
    """What tells events apart: the call, the attempt that it was a part of, and which run of it this was."""

    request_id: str
    attempt_id: str
    run: int

    @property
    def is_hit(self) -> bool:
        """Whether a cache answered. Events of older releases, which name no attempt, do not say so here."""
        return self.run == 0 and self.attempt_id != ""


class CallerRequest(NamedTuple):
    """What a caller asked for, and pays for once, however many attempts were made at it."""

    org: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at answering a caller's request, and which run of the call this was (0: an answer from a cache)."""

    request_id: str
    attempt_id: str
    begin_time: datetime
    run: int


@dataclass(frozen=True, slots=True)
class Void:
    """A call that ended, of which nothing is charged: only what was held for it is given back."""

    org: str
    reservation_id: str


@dataclass(frozen=True, slots=True)
class SupersededCall:
    """A call of a cascade whose answer was not good enough: under which id it is booked, and the counterfactual tokens
    that were booked for it, which count no more."""

    request_id: str
    counterfactual_usage: TokenUsage


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One call of a model, booked under its id. A cached answer used no tokens; what it spared is
    `counterfactual_usage`, and what it costs, if anything, a share of that. Without an `attempt`, the caller's request
    is this call's, or the one that it supersedes."""

    request_id: str
    principal: Principal
    end_time: datetime
    cache_level: CacheLevel
    usage: TokenUsage
    counterfactual_usage: TokenUsage
    quote: Quote | None
    reservation_id: str = ""
    tier: Tier = Tier.UNSPECIFIED
    task: Task = Task.UNSPECIFIED
    pool: str = ""
    quantization: str = ""
    finish_reason: FinishReason = FinishReason.UNSPECIFIED
    tags: dict[str, str] = field(default_factory=dict)
    superseded: SupersededCall | None = None
    hit_price: HitPrice | None = None
    attempt: Attempt | None = None

    @property
    def id(self) -> EventId:
        """What it is booked under, once."""
        if self.attempt is None:
            return EventId(self.request_id, "", 0)
        return EventId(self.request_id, self.attempt.attempt_id, self.attempt.run)

    @property
    def caller_request(self) -> CallerRequest:
        """What the caller pays for once."""
        if self.attempt is not None:
            return CallerRequest(self.principal.org, self.attempt.request_id)
        return CallerRequest(self.principal.org, self.superseded.request_id if self.superseded else self.request_id)

    def digest(self) -> bytes:
        """The same for the same event however it was serialised: tells two bodies under one id apart."""
        principal = self.principal
        body: tuple[object, ...] = (
            (self.request_id, self.reservation_id, self.end_time.isoformat()),
            (principal.org, principal.team, principal.user, principal.key_id),
            (int(self.cache_level), int(self.tier), int(self.task), int(self.finish_reason)),
            (self.pool, self.quantization),
            _buckets(self.usage),
            _buckets(self.counterfactual_usage),
            _quoted(self.quote),
            sorted(self.tags.items()),
        )
        # Last, and only where they are set: events of older releases keep their digest.
        if self.superseded is not None:
            body += ((self.superseded.request_id, _buckets(self.superseded.counterfactual_usage)),)
        if self.hit_price is not None:
            body += (("hit", self.hit_price.policy_version, self.hit_price.share),)
        if self.attempt is not None:
            attempt = self.attempt
            body += (("attempt", attempt.request_id, attempt.attempt_id, attempt.begin_time.isoformat(), attempt.run),)
        return hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).digest()


def _buckets(of: TokenUsage | UnitPrices) -> tuple[int, ...]:
    return of.fresh_input, of.cache_read, of.cache_write, of.output, of.reasoning


def _quoted(quote: Quote | None) -> tuple[object, ...] | None:
    if quote is None:
        return None
    priced, compared = _buckets(quote.prices), _buckets(quote.counterfactual_prices)
    return quote.price_version, quote.model, priced, quote.counterfactual_model, compared
