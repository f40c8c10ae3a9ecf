"""What one request used, as the worker or the gateway reported it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Final

from farthing_accounting.domain.pricing import Quote
from farthing_accounting.domain.principal import Principal
from farthing_accounting.domain.vocabulary import CacheLevel, FinishReason, Task, Tier
from farthing_kit.usage import TokenUsage

MAX_ID_CHARS: Final = 128
MAX_EVENT_TOKENS: Final = 1_000_000_000
MAX_TAGS: Final = 32
MAX_TAG_KEY_CHARS: Final = 64
MAX_TAG_VALUE_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One request, booked under its id. A cached answer used no tokens; what it spared is `counterfactual_usage`."""

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

    def digest(self) -> bytes:
        """The same for the same event however it was serialised: tells two bodies under one request id apart."""
        text = json.dumps(asdict(self), sort_keys=True, default=_moment, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()


def _moment(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
