"""How the requests of an organisation are served."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from farthing_gateway.domain.model import Tier
from farthing_kit.money import NanoUsd


class OutageMode(IntEnum):
    """What to do while accounting cannot be reached."""

    DENY = 1
    GRACE = 2
    ALLOW = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """Accounting's answer to "how is this key served?", as in farthing.accounting.v1.Policy."""

    version: int
    default_tier: Tier
    max_tier: Tier
    max_output_tokens: int
    cache_enabled: bool
    cache_time_to_live: timedelta
    outage_mode: OutageMode
    outage_grace: NanoUsd
