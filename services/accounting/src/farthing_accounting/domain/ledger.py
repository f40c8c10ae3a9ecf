"""Double entry: what is booked for one usage event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NewType

from farthing_accounting.domain.pricing import Quote
from farthing_accounting.domain.usage import UsageEvent
from farthing_accounting.domain.vocabulary import CacheLevel
from farthing_kit.money import NanoUsd, cost
from farthing_kit.usage import TokenUsage

Account = NewType("Account", str)

CACHE_ACCOUNT: Final = Account("cache")
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
    """One event with what it cost, what it would have cost (less what was booked so for a call that it supersedes), and
    its entries, which sum to zero."""

    event: UsageEvent
    cost: NanoUsd
    counterfactual_usage: TokenUsage
    counterfactual_cost: NanoUsd
    entries: tuple[Entry, ...]

    @property
    def counts(self) -> bool:
        """Whether budgets change: money or tokens were used, or something is held."""
        return self.cost > 0 or self.event.usage.total > 0 or self.event.reservation_id != ""


@dataclass(frozen=True, slots=True)
class Transaction:
    """What was booked for one request."""

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
    violations: tuple[str, ...]


def tenant_account(org: str) -> Account:
    """Whom the request is charged to."""
    return Account(f"tenant:{org}")


def provider_account(level: CacheLevel, pool: str) -> Account:
    """Who did the work: a cache, or a pool. An event that names no pool is charged all the same, to an unknown one."""
    return CACHE_ACCOUNT if level.is_hit else Account(f"pool:{pool or UNKNOWN_POOL}")


def book(event: UsageEvent) -> Booking:
    """The transaction of an event: the tenant owes the cost to whoever did the work, be it a cache."""
    compared = _compared(event)
    if event.quote is None:
        if event.usage.total > 0:
            raise Unbookable("tokens were used, but the event has no prices")
        return _booking(event, NanoUsd(0), compared, NanoUsd(0))
    avoidable = cost(compared, event.quote.counterfactual_prices)
    charged = NanoUsd(cost(event.usage, event.quote.prices) + _of_hit(event, cost(compared, event.quote.prices)))
    if max(charged, avoidable) > MAX_AMOUNT:
        raise Unbookable("the cost does not fit into the ledger")
    return _booking(event, charged, compared, NanoUsd(avoidable - _counted_before(event, event.quote)))


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


def _booking(event: UsageEvent, charged: NanoUsd, compared: TokenUsage, avoidable: NanoUsd) -> Booking:
    entries = (
        Entry(tenant_account(event.principal.org), charged),
        Entry(provider_account(event.cache_level, event.pool), NanoUsd(-charged)),
    )
    return Booking(event, charged, compared, avoidable, entries)
