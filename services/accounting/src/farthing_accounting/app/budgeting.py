"""Setting limits and policies, and seeing where budgets stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farthing_accounting.app.fresh import Fresh
from farthing_accounting.app.loading import CounterLoading
from farthing_accounting.domain.budgets import Budget, Budgets, Counter
from farthing_accounting.domain.policy import Policy
from farthing_accounting.domain.reservations import Standing
from farthing_accounting.domain.windows import period_of
from farthing_accounting.ports import Announcer, BudgetStore, Policies, Reservations, WriteOnce
from farthing_kit.clock import Clock


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """A budget, and what is spent and held in its current window."""

    budget: Budget
    standing: Standing


class Budgeting:
    """Limits hold from the next reservation on: Redis refuses questions that come with older ones."""

    def __init__(
        self,
        store: BudgetStore,
        policies: Policies,
        reservations: Reservations,
        loading: CounterLoading,
        budgets: Fresh[str, Budgets],
        announcer: Announcer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._policies = policies
        self._reservations = reservations
        self._loading = loading
        self._budgets = budgets
        self._announcer = announcer
        self._clock = clock

    async def set_budget(self, budget: Budget, once: WriteOnce) -> Budget:
        """Announced again when it is repeated, should the first announcement have failed."""
        now, version = await self._store.put(budget, once)
        org = budget.scope.org
        self._budgets.forget(org)
        await self._reservations.announce_limits(org, version)
        return now

    async def of_org(self, org: str) -> Sequence[BudgetStanding]:
        """Widest scope first; budgets that were lifted are left out."""
        known = await self._store.of_org(org)
        budgets = [budget for budget in known.budgets if not budget.limits_nothing]
        now = self._clock.now()
        counters = [Counter(budget.scope, period_of(budget.window, now)) for budget in budgets]
        standings = await self._loading.until_loaded(org, lambda: self._reservations.standing(org, counters))
        return [BudgetStanding(budget, standing) for budget, standing in zip(budgets, standings, strict=True)]

    async def set_policy(self, org: str, policy: Policy, once: WriteOnce) -> Policy:
        """Gateways follow at once."""
        now = await self._policies.put(org, policy, once)
        await self._announcer.announce(f"org:{org}")
        return now
