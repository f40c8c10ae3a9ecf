"""Step 6: tier and model, and what is remembered for the next decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from farthing_gateway.app.request import Request
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.catalogue import Catalogue
from farthing_gateway.domain.model import Tier
from farthing_gateway.domain.pace import Paces, paced_target
from farthing_gateway.domain.policy import FixedTier, SpendingTarget
from farthing_gateway.domain.routing import Choice, Standing, Thresholds, choose
from farthing_gateway.domain.sessions import SessionKey, Sessions
from farthing_gateway.domain.spending import SpendingAccount, SpendingAccounts
from farthing_kit.clock import Clock
from farthing_kit.money import NanoUsd


@dataclass(frozen=True)
class Router:
    """Chooses, and keeps what the next choice depends on: sessions, the pace of budgets, what targets have been spent.

    All of it is this gateway's own and bounded. `paces` is written where money is reserved.
    """

    clock: Clock
    thresholds: Thresholds = field(default_factory=Thresholds)
    sessions: Sessions = field(default_factory=Sessions)
    paces: Paces = field(default_factory=Paces)
    accounts: SpendingAccounts = field(default_factory=SpendingAccounts)

    def choose(self, request: Request, analysis: Analysis | None, catalogue: Catalogue) -> Choice:
        """The model for a request; errors as for `domain.routing.choose`."""
        now_s = self.clock.monotonic()
        session, account = _session(request), self._account(request)
        pace = self.paces.of(request.context.principal.key_id, now_s)
        target = _target(request, pace)
        standing = Standing(
            budget_pace=pace,
            session_tier=Tier.UNSPECIFIED if session is None else self.sessions.tier(session, now_s),
            purse=None if account is None else account.purse(target),
        )
        choice = choose(request.question, request.policy, analysis, catalogue, standing, self.thresholds)
        if account is not None:
            account.spend(target, choice.expected_cost or NanoUsd(0), choice.dearest_cost)
        if session is not None:
            life_s = request.policy.routing.session_time_to_live.total_seconds()
            self.sessions.stay(session, choice.model.tier, now_s, life_s)
        return choice

    def ended(self, request: Request, choice: Choice, spent: NanoUsd) -> None:
        """What a request cost in truth: all its calls together, 0 where nothing was generated."""
        account = self._account(request)
        if account is not None:
            account.correct(NanoUsd(spent - (choice.expected_cost or 0)))

    def _account(self, request: Request) -> SpendingAccount | None:
        """Requests whose model the caller named count too: the others make up for them."""
        objective = request.policy.routing.objective
        return self.accounts.of(request.org, objective.target) if isinstance(objective, SpendingTarget) else None


def _target(request: Request, pace: float) -> NanoUsd:
    objective = request.policy.routing.objective
    return paced_target(objective.target, pace) if isinstance(objective, SpendingTarget) else NanoUsd(0)


def _session(request: Request) -> SessionKey | None:
    """The session that decides, if the policy keeps sessions. A named model, or a tier that is always the same, has
    none."""
    question, routing = request.question, request.policy.routing
    if not question.session_id or routing.session_time_to_live <= timedelta(0):
        return None
    if question.model or question.tier is not Tier.UNSPECIFIED or isinstance(routing.objective, FixedTier):
        return None
    principal = request.context.principal
    return SessionKey(principal.org, principal.user, question.session_id)
