"""An answer that can be served again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from farthing_gateway.domain.model import FinishReason, Tier
from farthing_kit.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer with its provenance. `usage` is what making it took: what a hit avoids."""

    text: str
    usage: TokenUsage
    tier: Tier
    model: str
    quantization: str
    created_at: datetime
    finish_reason: FinishReason = FinishReason.STOP

    def is_younger_than(self, age: timedelta | None, now: datetime) -> bool:
        """Whether the answer was written less than `age` ago; None: any age will do."""
        return age is None or now - self.created_at < age
