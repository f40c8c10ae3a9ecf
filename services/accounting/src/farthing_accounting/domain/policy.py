"""How the requests of an organisation are served."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from farthing_accounting.domain.vocabulary import CacheScope, OutageMode, Task, Tier
from farthing_kit.money import Millionths, NanoUsd

DEFAULT_QUALITY_FLOOR: Final = 0.7
DEFAULT_MIN_QUALITY_FLOOR: Final = 0.5
MAX_SESSION_TIME_TO_LIVE: Final = timedelta(days=1)
MAX_TASK_MODELS: Final = 16
MAX_SHADOW_SHARE: Final = 0.1
MAX_ERROR_SHARE: Final = 0.1
MAX_OUTPUT_TOKENS: Final = 8192
MAX_CACHE_TIME_TO_LIVE: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class QualityFloor:
    """The cheapest tier whose probability of an acceptable answer is at least this."""

    floor: float = DEFAULT_QUALITY_FLOOR


@dataclass(frozen=True, slots=True)
class SpendingTarget:
    """What a request may cost on average."""

    target: NanoUsd


@dataclass(frozen=True, slots=True)
class FixedTier:
    """Always this tier."""

    tier: Tier


Objective = QualityFloor | SpendingTarget | FixedTier


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """How tier and model are chosen. `task_models` is in the order of the tasks, each at most once."""

    objective: Objective = QualityFloor()
    min_quality_floor: float = DEFAULT_MIN_QUALITY_FLOOR
    task_models: tuple[tuple[Task, str], ...] = ()
    cascade: bool = False
    session_time_to_live: timedelta = timedelta(0)
    shadow_share: float = 0.0


@dataclass(frozen=True, slots=True)
class SemanticCachePolicy:
    """What the semantic cache may do; by default: nothing."""

    max_error_share: float = 0.0
    scope: CacheScope = CacheScope.ORG
    hit_price_share: Millionths = Millionths(0)


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
    routing: RoutingPolicy = RoutingPolicy()
    semantic_cache: SemanticCachePolicy = SemanticCachePolicy()

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
