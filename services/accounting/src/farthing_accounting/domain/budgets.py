"""Budgets, and which of them a request has to fit into."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from farthing_accounting.domain.principal import Principal
from farthing_accounting.domain.scopes import Scope, scopes_of
from farthing_accounting.domain.windows import Period, Window, period_of
from farthing_kit.money import NANOS_PER_USD, NanoUsd

# The admission scripts compare in doubles, which are exact up to 2^53: a limit stays below, so that no comparison is
# ever wrong by one. What is spent without a limit may be greater.
MAX_USD: Final = 9_000_000
MAX_NANO_USD: Final = MAX_USD * NANOS_PER_USD
MAX_TOKENS: Final = 9_000_000_000_000_000
MAX_CONCURRENCY: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of one scope in one window; None means no limit."""

    scope: Scope
    window: Window
    money: NanoUsd | None = None
    tokens: int | None = None
    concurrency: int | None = None

    @property
    def limits_nothing(self) -> bool:
        """Whether it was lifted: no limit is left."""
        return self.money is None and self.tokens is None and self.concurrency is None


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budgets of an organisation. `version` grows with every change."""

    version: int
    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True)
class Counter:
    """What one scope spent in one period: the number that a budget is compared with."""

    scope: Scope
    period: Period

    @property
    def label(self) -> str:
        """Unique inside the organisation, without a person's name."""
        return f"{self.scope.label}|{self.period.id}"


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget in the period at hand."""

    counter: Counter
    money: NanoUsd | None
    tokens: int | None
    concurrency: int | None


def limits_of(principal: Principal, budgets: Iterable[Budget], now: datetime) -> tuple[Limit, ...]:
    """Every limit that a request of the principal has to fit into now: widest scope first, then shortest window."""
    scopes = scopes_of(principal)
    apply = [budget for budget in budgets if budget.scope in scopes and not budget.limits_nothing]
    apply.sort(key=lambda budget: (budget.scope.kind, budget.window))
    return tuple(Limit(Counter(b.scope, period_of(b.window, now)), b.money, b.tokens, b.concurrency) for b in apply)


def counters_of(principal: Principal, moment: datetime) -> tuple[Counter, ...]:
    """Every counter that a request which ended at `moment` adds to."""
    periods = [period_of(window, moment) for window in Window]
    return tuple(Counter(scope, period) for scope in scopes_of(principal) for period in periods)
