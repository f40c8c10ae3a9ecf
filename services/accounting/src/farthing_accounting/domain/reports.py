"""Cost reports: rows that sum to their total, to the nano-dollar."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from farthing_accounting.domain.vocabulary import CacheLevel, Task, Tier
from farthing_kit.money import NanoUsd
from farthing_kit.usage import TokenUsage


class GroupBy(IntEnum):
    """What the requests of a row share; numbers as in the contract."""

    NOTHING = 0
    TENANT = 1
    TEAM = 2
    USER = 3
    KEY = 4
    TIER = 5
    MODEL = 6
    POOL = 7
    TASK = 8
    CACHE_LEVEL = 9
    DAY = 10
    TAG = 11


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """Which requests count, and how they are grouped. None and "" mean: all."""

    group_by: GroupBy
    tag_key: str = ""
    start: datetime | None = None
    end: datetime | None = None
    org: str = ""


@dataclass(frozen=True, slots=True)
class CostRow:
    """The cost of one group of requests."""

    group: str
    requests: int
    cache_hits: int
    usage: TokenUsage
    cost: NanoUsd
    counterfactual_cost: NanoUsd

    @property
    def cost_per_request(self) -> NanoUsd:
        """Rounded down; zero without requests."""
        return NanoUsd(self.cost // self.requests if self.requests else 0)

    @property
    def cost_per_thousand_tokens(self) -> NanoUsd:
        """Rounded down; zero without tokens."""
        return NanoUsd(1_000 * self.cost // self.usage.total if self.usage.total else 0)

    @property
    def saved(self) -> NanoUsd:
        """What was not spent. Negative when the mesh cost more than the large tier would have."""
        return NanoUsd(self.counterfactual_cost - self.cost)


def total(rows: Iterable[CostRow]) -> CostRow:
    """All rows together."""
    found = CostRow("", 0, 0, TokenUsage(), NanoUsd(0), NanoUsd(0))
    for row in rows:
        found = CostRow(
            "",
            found.requests + row.requests,
            found.cache_hits + row.cache_hits,
            found.usage + row.usage,
            NanoUsd(found.cost + row.cost),
            NanoUsd(found.counterfactual_cost + row.counterfactual_cost),
        )
    return found


def dearest_first(rows: Iterable[CostRow]) -> tuple[CostRow, ...]:
    """The order of a report; equals by name."""
    return tuple(sorted(rows, key=lambda row: (-row.cost, row.group)))


def group_name(group_by: GroupBy, value: str) -> str:
    """What a row is called: enums by the name that the contract gives them, without its prefix."""
    match group_by:
        case GroupBy.TIER:
            return Tier(int(value)).name
        case GroupBy.TASK:
            return Task(int(value)).name
        case GroupBy.CACHE_LEVEL:
            return CacheLevel(int(value)).name
        case _:
            return value
