"""Step 7: money is held before a model runs, or the policy says what happens while nobody can hold it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Final

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.app.background import Background
from farthing_gateway.app.outage import is_away
from farthing_gateway.app.request import Request
from farthing_gateway.domain.catalogue import Catalogue, Quote
from farthing_gateway.domain.errors import accounting_unavailable
from farthing_gateway.domain.events import Part
from farthing_gateway.domain.grace import Grace
from farthing_gateway.domain.pace import Paces
from farthing_gateway.domain.policy import OutageMode
from farthing_gateway.ports import Admission, Reservation
from farthing_kit import deadline
from farthing_kit.clock import Clock
from farthing_kit.context import new_request_id
from farthing_kit.errors import FarthingError
from farthing_kit.money import NanoUsd, cost
from farthing_kit.usage import TokenUsage

_R = ErrorReason

# A reservation outlives its request by this much: the usage event needs time to arrive and settle it.
SETTLING_S: Final = 60.0
MAX_RESERVATION_S: Final = 3600.0
DEFAULT_RESERVATION_S: Final = 300.0


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
        try:
            held = await self._reserve(request, model, estimate)
        except asyncio.CancelledError:
            self._release(request.reservation_id)  # it may have been held, and nobody is left to use it
            raise
        except FarthingError as error:
            if error.reason == _R.ERROR_REASON_DEADLINE_TOO_SHORT:
                self._release(request.reservation_id)  # it may yet be held
            if not is_away(error):
                raise
            self.grace.accounting_failed()
            return self._without_accounting(request, estimate, catalogue.quote(model))
        now_s = self.clock.monotonic()
        self.grace.accounting_answered(now_s)
        self.paces.remember(request.context.principal.key_id, held.budget_pace, now_s)
        return Admitted(request.org, held.quote, held.reservation_id, held.amount)

    def nothing_generated(self, admitted: Admitted) -> None:
        """Give back what was held or lent: no model ran."""
        if admitted.lent:
            self.grace.give_back(admitted.org, admitted.amount)
        elif admitted.reservation_id:
            self._release(admitted.reservation_id)

    def finished(self, admitted: Admitted, spent: NanoUsd) -> None:
        """The real cost is known. A reservation is settled by the usage event; what was lent and not spent goes
        back."""
        if admitted.lent:
            self.grace.give_back(admitted.org, NanoUsd(admitted.amount - spent))

    async def _reserve(self, request: Request, model: str, estimate: TokenUsage) -> Reservation:
        life_s = _life_s()
        try:
            return await self.accounting.reserve(request.reservation_id, model, estimate, life_s)
        except FarthingError as error:
            if error.reason != _R.ERROR_REASON_RESERVATION_CLOSED:
                raise
        # Its twin has ended on another gateway. Run again under another reservation, it is still booked once: the
        # ledger goes by the request's id.
        return await self.accounting.reserve(f"{request.reservation_id}-{new_request_id()}", model, estimate, life_s)

    def _release(self, reservation_id: str) -> None:
        self.background.start("release", self.accounting.release(reservation_id))

    def _without_accounting(self, request: Request, estimate: TokenUsage, quote: Quote | None) -> Admitted:
        policy = request.policy
        if policy.outage_mode is OutageMode.DENY:
            raise accounting_unavailable("deny")
        if quote is None:
            raise accounting_unavailable("prices_unknown")
        worst = cost(estimate, quote.prices)
        lent = policy.outage_mode is OutageMode.GRACE
        if lent and not self.grace.spend(request.org, worst, policy.outage_grace):
            raise accounting_unavailable("grace_spent")
        request.degrade(Part.ACCOUNTING, "served without a reservation; the usage is booked when accounting is back")
        return Admitted(request.org, quote, reservation_id="", amount=worst, lent=lent)


def _life_s() -> float:
    """In whole minutes: twins on two gateways ask for the same, whoever of them has some milliseconds less left."""
    left_s = deadline.remaining_s()
    if left_s is None:
        return DEFAULT_RESERVATION_S
    return min(math.ceil((left_s + SETTLING_S) / 60) * 60.0, MAX_RESERVATION_S)
