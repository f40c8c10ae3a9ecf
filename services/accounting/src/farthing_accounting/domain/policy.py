"""How the requests of an organisation are served."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from farthing_accounting.domain.vocabulary import OutageMode, Tier
from farthing_kit.money import NanoUsd

MAX_OUTPUT_TOKENS: Final = 8192
MAX_CACHE_TIME_TO_LIVE: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Policy:
    """Counts up in `version` with every change; 0 is the policy of an organisation that never had one set."""

    version: int
    default_tier: Tier
    max_tier: Tier
    max_output_tokens: int
    cache_enabled: bool
    cache_time_to_live: timedelta
    outage_mode: OutageMode
    outage_grace: NanoUsd

    def same_rules(self, other: Policy) -> bool:
        """Whether both serve alike, whatever their versions."""
        return replace(self, version=0) == replace(other, version=0)


# Refusing during an outage is the only default that cannot spend what nobody granted.
DEFAULT_POLICY: Final = Policy(
    version=0,
    default_tier=Tier.MEDIUM,
    max_tier=Tier.LARGE,
    max_output_tokens=1024,
    cache_enabled=True,
    cache_time_to_live=timedelta(hours=1),
    outage_mode=OutageMode.DENY,
    outage_grace=NanoUsd(0),
)
