"""Double entry: what is booked for one usage event, and what moves it between its tenant and waste."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NewType

from farthing_accounting.domain.charging import Call
from farthing_accounting.domain.pricing import Quote
from farthing_accounting.domain.usage import NO_TIME, UsageEvent
from farthing_accounting.domain.vocabulary import CacheLevel, FinishReason
from farthing_kit.money import NanoUsd, cost
from farthing_kit.usage import TokenUsage

Account = NewType("Account", str)

CACHE_ACCOUNT: Final = Account("cache")
# Owes what was used and is charged to nobody: all but one attempt at a caller's request.
WASTE_ACCOUNT: Final = Account("platform:waste")
UNKNOWN_POOL: Final = "unknown"
MAX_AMOUNT: Final = 9_000_000_000_000_000_000


class Unbookable(Exception):
    """The event cannot be put into the books; the text is safe to show and says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. Debits are positive, credits negative."""

    account: Account
    amount: NanoUsd


@dataclass(frozen=True, slots=True)
class Booking:
    """One event with what it cost, and what it would have cost, less what was booked so for what it supersedes."""

    event: UsageEvent
    cost: NanoUsd
    counterfactual_usage: TokenUsage
    counterfactual_cost: NanoUsd

    @property
    def call(self) -> Call:
        """What decides whether it is charged."""
        event = self.event
        return Call(
            id=event.id,
            begin_time=event.attempt.begin_time if event.attempt else NO_TIME,
            end_time=event.end_time,
            ended_well=event.finish_reason is not FinishReason.CANCELLED,
            cost=self.cost,
            superseded=event.superseded.request_id if event.superseded else "",
        )

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Its transaction where it is charged: the tenant owes the cost to whoever did the work, be it a cache."""
        return self._owed_by(tenant_account(self.event.principal.org))

    @property
    def wasted(self) -> tuple[Entry, ...]:
        """Its transaction where it is not: the platform owes it."""
        return self._owed_by(WASTE_ACCOUNT)

    @property
    def counts(self) -> bool:
        """Whether budgets change: money or tokens were used, or something is held."""
        return self.cost > 0 or self.event.usage.total > 0 or self.event.reservation_id != ""

    def _owed_by(self, debtor: Account) -> tuple[Entry, ...]:
        creditor = provider_account(self.event.cache_level, self.event.pool)
        return Entry(debtor, self.cost), Entry(creditor, NanoUsd(-self.cost))


@dataclass(frozen=True, slots=True)
class Transaction:
    """What was booked for one event, or moved an earlier one."""

    transaction_id: int
    request_id: str
    create_time: datetime
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """What computing everything again gave."""

    transactions: int
    usage_events: int
    ledger_total: int
    usage_total: int
    waste_total: int
    violations: tuple[str, ...]


def tenant_account(org: str) -> Account:
    """Whom the request is charged to."""
    return Account(f"tenant:{org}")


def provider_account(level: CacheLevel, pool: str) -> Account:
    """Who did the work: a cache, or a pool. An event that names no pool is charged all the same, to an unknown one."""
    return CACHE_ACCOUNT if level.is_hit else Account(f"pool:{pool or UNKNOWN_POOL}")


def moving(org: str, cost: NanoUsd, *, charged: bool) -> tuple[Entry, ...]:
    """The transaction that moves what was booked from the platform's waste to the tenant, or back."""
    gained, lost = (tenant_account(org), WASTE_ACCOUNT) if charged else (WASTE_ACCOUNT, tenant_account(org))
    return Entry(gained, cost), Entry(lost, NanoUsd(-cost))


def book(event: UsageEvent) -> Booking:
    """The price of an event."""
    compared = _compared(event)
    if event.quote is None:
        if event.usage.total > 0:
            raise Unbookable("tokens were used, but the event has no prices")
        return Booking(event, NanoUsd(0), compared, NanoUsd(0))
    avoidable = cost(compared, event.quote.counterfactual_prices)
    charged = NanoUsd(cost(event.usage, event.quote.prices) + _of_hit(event, cost(compared, event.quote.prices)))
    if max(charged, avoidable) > MAX_AMOUNT:
        raise Unbookable("the cost does not fit into the ledger")
    return Booking(event, charged, compared, NanoUsd(avoidable - _counted_before(event, event.quote)))


def _counted_before(event: UsageEvent, quote: Quote) -> NanoUsd:
    """The counterfactual of the call that this one supersedes. Without the mesh there would have been one answer, so
    that call's counterfactual is taken back; this one's is negative where its answer is shorter."""
    if event.superseded is None:
        return NanoUsd(0)
    if event.superseded.request_id == event.request_id:
        raise Unbookable("the event supersedes itself")
    before = cost(event.superseded.counterfactual_usage, quote.counterfactual_prices)
    if before > MAX_AMOUNT:
        raise Unbookable("the cost does not fit into the ledger")
    return before


def _of_hit(event: UsageEvent, spared: NanoUsd) -> NanoUsd:
    """What an answer from a cache costs: a share of what its tokens cost on the model that wrote it, whose prices the
    event has. The share is the event's, as prices are: Verify knows the policy's."""
    if event.hit_price is None:
        return NanoUsd(0)
    if not event.cache_level.is_hit:
        raise Unbookable("the event has the price of a hit, but no cache answered")
    return event.hit_price.of(spared)


def _compared(event: UsageEvent) -> TokenUsage:
    """The tokens of the counterfactual. A publisher that leaves them out means: the same as were used."""
    return event.counterfactual_usage if event.counterfactual_usage.total > 0 else event.usage
