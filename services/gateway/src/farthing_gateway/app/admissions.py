"""Step 7: money is held before a model runs, or a hit that has a price is told; or the policy says what happens while
nobody can hold it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.app.background import Background
from farthing_gateway.app.outage import is_away
from farthing_gateway.app.request import Request
from farthing_gateway.domain.catalogue import Catalogue, Quote
from farthing_gateway.domain.errors import accounting_unavailable, may_be_done
from farthing_gateway.domain.events import Part
from farthing_gateway.domain.grace import Grace
from farthing_gateway.domain.pace import Paces
from farthing_gateway.domain.policy import OutageMode
from farthing_gateway.ports import Admission
from farthing_kit import deadline
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError
from farthing_kit.money import HitPrice, NanoUsd, cost
from farthing_kit.usage import TokenUsage

_R = ErrorReason

# A reservation outlives its request by this much: the usage event needs time to arrive and settle it.
SETTLING_S: Final = 60.0
MAX_RESERVATION_S: Final = 3600.0
DEFAULT_RESERVATION_S: Final = 300.0
# A worker that was stopped before it was heard has its usage booked within this. Less than the budget of a release.
UNHEARD_S: Final = 1.0
# What a request holds for a hit is held beside what it holds for a model, if it comes to that.
HIT: Final = "-hit"
FOLLOWED: Final = "-follow"


@dataclass(frozen=True, slots=True)
class Need:
    """What is to be held: the cost of these tokens on a model, or, for a hit, the share of it that `hit_price` is."""

    reservation_id: str
    model: str
    tokens: TokenUsage
    hit_price: HitPrice | None = None

    def worst(self, quote: Quote) -> NanoUsd:
        """What it comes to at these prices, as accounting computes it."""
        whole = cost(self.tokens, quote.prices)
        return whole if self.hit_price is None else self.hit_price.of(whole)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may run, and under which prices. Under grace, `reservation_id` is empty and `amount` is lent."""

    org: str
    quote: Quote
    reservation_id: str
    amount: NanoUsd
    lent: bool = False


@dataclass(frozen=True)
class Admissions:
    """Reserves with accounting; without it, follows the outage mode of the policy."""

    accounting: Admission
    grace: Grace
    background: Background
    clock: Clock
    paces: Paces = field(default_factory=Paces)

    async def admit(self, request: Request, model: str, estimate: TokenUsage, catalogue: Catalogue) -> Admitted:
        """Hold the worst case. What accounting refuses is raised as it is; AccountingUnavailable as the policy says."""
        return await self._admit(request, Need(request.reservation_id, model, estimate), catalogue)

    async def admit_hit(
        self, request: Request, model: str, tokens: TokenUsage, catalogue: Catalogue, suffix: str = HIT
    ) -> Admitted | None:
        """Hold what a hit of at most so many tokens of a model costs, or raise as `admit` does. None where it costs
        nothing: nobody is asked where hits are free, and what a model without a price once wrote is."""
        price = request.policy.hit_price
        if price.share == 0 or tokens.total == 0:
            return None
        try:
            return await self._admit(request, Need(request.reservation_id + suffix, model, tokens, price), catalogue)
        except FarthingError as error:
            if error.reason == _R.ERROR_REASON_PRICE_MISSING:
                return None
            raise

    def nothing_generated(self, admitted: Admitted, *, is_certain: bool = True) -> None:
        """Give back what was held or lent: no model ran. Unless that `is_certain`, a usage event of a worker that began
        all the same comes first and settles: money that is going to be booked is not free for others meanwhile."""
        if admitted.lent:
            self.grace.give_back(admitted.org, admitted.amount)
        elif admitted.reservation_id:
            self._release(admitted.reservation_id, 0.0 if is_certain else UNHEARD_S)

    def finished(self, admitted: Admitted, spent: NanoUsd) -> None:
        """The real cost is known. A reservation is settled by the usage event; what was lent and not spent goes
        back."""
        if admitted.lent:
            self.grace.give_back(admitted.org, NanoUsd(admitted.amount - spent))

    async def _admit(self, request: Request, need: Need, catalogue: Catalogue) -> Admitted:
        try:
            held = await self.accounting.reserve(
                need.reservation_id, need.model, need.tokens, _life_s(), need.hit_price
            )
        except asyncio.CancelledError:
            self._release(need.reservation_id)  # it may have been held, and nobody is left to use it
            raise
        except FarthingError as error:
            if may_be_done(error):
                self._release(need.reservation_id)  # it may yet be held
            if not is_away(error):
                raise
            self.grace.accounting_failed()
            return self._without_accounting(request, need, catalogue.quote(need.model))
        now_s = self.clock.monotonic()
        self.grace.accounting_answered(now_s)
        self.paces.remember(request.context.principal.key_id, held.budget_pace, now_s)
        return Admitted(request.org, held.quote, held.reservation_id, held.amount)

    def _release(self, reservation_id: str, after_s: float = 0.0) -> None:
        self.background.start("release", self._released(reservation_id, after_s))

    async def _released(self, reservation_id: str, after_s: float) -> None:
        if after_s:
            await self.clock.sleep(after_s)
        await self.accounting.release(reservation_id)

    def _without_accounting(self, request: Request, need: Need, quote: Quote | None) -> Admitted:
        policy = request.policy
        if policy.outage_mode is OutageMode.DENY:
            raise accounting_unavailable("deny")
        if quote is None:
            raise accounting_unavailable("prices_unknown")
        worst = need.worst(quote)
        lent = policy.outage_mode is OutageMode.GRACE
        if lent and not self.grace.spend(request.org, worst, policy.outage_grace):
            raise accounting_unavailable("grace_spent")
        request.degrade(Part.ACCOUNTING, "served without a reservation; the usage is booked when accounting is back")
        return Admitted(request.org, quote, reservation_id="", amount=worst, lent=lent)


def _life_s() -> float:
    left_s = deadline.remaining_s()
    return DEFAULT_RESERVATION_S if left_s is None else min(left_s + SETTLING_S, MAX_RESERVATION_S)
