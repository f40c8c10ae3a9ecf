"""How the requests of an organisation are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import Final

from farthing_gateway.domain.model import Task, Tier
from farthing_kit.money import HitPrice, Millionths, NanoUsd

DEFAULT_QUALITY_FLOOR: Final = 0.7
DEFAULT_MIN_QUALITY_FLOOR: Final = 0.5


class OutageMode(IntEnum):
    """What to do while accounting cannot be reached."""

    DENY = 1
    GRACE = 2
    ALLOW = 3


class CacheScope(IntEnum):
    """Who shares cached answers within the organisation."""

    UNSPECIFIED = 0
    ORG = 1
    TEAM = 2
    USER = 3


@dataclass(frozen=True, slots=True)
class QualityFloor:
    """The cheapest tier whose calibrated probability of an acceptable answer is at least `floor`."""

    floor: float = DEFAULT_QUALITY_FLOOR


@dataclass(frozen=True, slots=True)
class SpendingTarget:
    """The best quality for at most `target` on average, over the requests that a model answers."""

    target: NanoUsd


@dataclass(frozen=True, slots=True)
class FixedTier:
    """Always this tier."""

    tier: Tier


Objective = QualityFloor | SpendingTarget | FixedTier
DEFAULT_OBJECTIVE: Final = QualityFloor()


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """How tier and model are chosen for a request that names neither, as in farthing.accounting.v1.RoutingPolicy."""

    objective: Objective = DEFAULT_OBJECTIVE
    min_quality_floor: float = DEFAULT_MIN_QUALITY_FLOOR
    task_models: Mapping[Task, str] = field(default_factory=dict)
    cascade: bool = False
    session_time_to_live: timedelta = timedelta(0)
    shadow_share: float = 0.0


@dataclass(frozen=True, slots=True)
class SemanticCachePolicy:
    """What the semantic cache may do, as in farthing.accounting.v1.SemanticCachePolicy. By default: nothing."""

    max_error_share: float = 0.0
    scope: CacheScope = CacheScope.ORG
    hit_price_share: Millionths = Millionths(0)


DEFAULT_ROUTING: Final = RoutingPolicy()
DEFAULT_SEMANTIC_CACHE: Final = SemanticCachePolicy()


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
    routing: RoutingPolicy = DEFAULT_ROUTING
    semantic_cache: SemanticCachePolicy = DEFAULT_SEMANTIC_CACHE

    @property
    def hit_price(self) -> HitPrice:
        """What an answer from a cache costs, of whatever level."""
        return HitPrice(self.version, self.semantic_cache.hit_price_share)
