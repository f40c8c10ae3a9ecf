"""What one request used, as the worker or the gateway reported it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

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


@dataclass(frozen=True, slots=True)
class SupersededCall:
    """A call of a cascade whose answer was not good enough: under which id it is booked, and the counterfactual tokens
    that were booked for it, which count no more."""

    request_id: str
    counterfactual_usage: TokenUsage


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One call of a model, booked under its id. A cached answer used no tokens; what it spared is
    `counterfactual_usage`, and what it costs, if anything, a share of that. The request of the caller is this call's,
    or the one that it supersedes."""

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

    def digest(self) -> bytes:
        """The same for the same event however it was serialised: tells two bodies under one request id apart."""
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
        return hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).digest()


def _buckets(of: TokenUsage | UnitPrices) -> tuple[int, ...]:
    return of.fresh_input, of.cache_read, of.cache_write, of.output, of.reasoning


def _quoted(quote: Quote | None) -> tuple[object, ...] | None:
    if quote is None:
        return None
    priced, compared = _buckets(quote.prices), _buckets(quote.counterfactual_prices)
    return quote.price_version, quote.model, priced, quote.counterfactual_model, compared
