"""What accounting needs from the outside: stores, a stream, an announcement, and someone who counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from farthing_accounting.domain.budgets import Budget, Budgets, Counter, Limit
from farthing_accounting.domain.keys import KeyHash, KeyId, KeyRecord
from farthing_accounting.domain.ledger import Booking, Transaction, Verification
from farthing_accounting.domain.policy import Policy
from farthing_accounting.domain.posting import Posted, PostedState
from farthing_accounting.domain.pricing import ModelPrice, PriceBook
from farthing_accounting.domain.reports import CostRow, ReportQuery
from farthing_accounting.domain.reservations import (
    Answer,
    CountersMissing,
    Extension,
    Held,
    Hold,
    LedgerPosition,
    Obstacle,
    Settlement,
    Standing,
)
from farthing_accounting.domain.usage import UsageEvent, Void


@dataclass(frozen=True, slots=True)
class WriteOnce:
    """A write's idempotency key, with a fingerprint of its body. The same key with another body is refused
    (IdempotencyMismatch); with the same body, nothing is written again."""

    key: str
    digest: bytes


class Keys(Protocol):
    """API keys, hashed."""

    async def add(self, record: KeyRecord, kept: KeyHash, once: WriteOnce) -> tuple[KeyRecord, bool]:
        """The key, and whether it is new; a repeated write gives the first one."""
        ...

    async def find(self, key_id: KeyId) -> tuple[KeyRecord, KeyHash, Policy] | None:
        """A key with its hash and the policy of its organisation; None when there is none."""
        ...

    async def of_org(self, org: str) -> Sequence[KeyRecord]:
        """The keys of an organisation, oldest first."""
        ...

    async def revoke(self, key_id: KeyId) -> KeyRecord | None:
        """End a key now, if it has not ended; None when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Erased:
    """How many keys were removed, and from how many usage events names and tags."""

    keys: int
    usage_events: int


class Tenants(Protocol):
    """What is known of the persons of an organisation."""

    async def end_keys(self, org: str) -> int:
        """Remove its keys; how many there were."""
        ...

    async def erase(self, org: str, keys: int) -> Erased:
        """Take users and tags out of usage events and limits off budgets, and note that it was done. Amounts stay."""
        ...


class Forgetting(Protocol):
    """The streams of usage."""

    async def forget(self, org: str) -> None:
        """Remove what was booked, and what could not be."""
        ...


class Policies(Protocol):
    """The policy of each organisation."""

    async def put(self, org: str, policy: Policy, once: WriteOnce) -> Policy:
        """Put a policy in force and number it; the same rules again change nothing."""
        ...


class BudgetStore(Protocol):
    """The budgets of each organisation."""

    async def put(self, budget: Budget, once: WriteOnce) -> tuple[Budget, int]:
        """Replace the limits of a scope and window; returns those in force, and the version of the organisation's."""
        ...

    async def of_org(self, org: str) -> Budgets:
        """Every budget of an organisation, widest scope first."""
        ...


class Prices(Protocol):
    """The price list."""

    async def book(self) -> PriceBook:
        """The whole list."""
        ...

    async def put(self, price: ModelPrice, once: WriteOnce) -> ModelPrice:
        """Put a price in force; version and moment are the store's."""
        ...

    async def seed(self, prices: Sequence[ModelPrice]) -> Sequence[str]:
        """Put prices in force for models that have none; returns those models."""
        ...


class Ledger(Protocol):
    """The books."""

    async def post(self, bookings: Sequence[Booking]) -> Sequence[Posted]:
        """Book every event once, and move earlier ones of the same callers' requests to where they belong now, in one
        transaction: one answer for each event. All are kept, or none.

        Raises Unpostable when the books cannot take one of them, whichever it is."""
        ...

    async def spent(self, counters: Sequence[Counter]) -> LedgerPosition:
        """What was spent on each counter, as of one position."""
        ...

    async def transactions(self, org: str, request_id: str, before: int | None, limit: int) -> Sequence[Transaction]:
        """Newest first; only those of an organisation, of a request, and before an id, where given."""
        ...

    async def verify(self) -> Verification:
        """Everything computed again."""
        ...

    async def costs(self, query: ReportQuery) -> Sequence[CostRow]:
        """Exact sums over booked events, one row for each group, in no order."""
        ...


class Unpostable(Exception):
    """The books refuse something about a batch; trying again will not help. The text holds no data of a tenant."""


class Unsettled(Protocol):
    """What could not be done because Redis was away: settlements, whose transactions are booked, and voids."""

    async def remember(self, settlements: Sequence[Settlement]) -> None:
        """Keep them until they are done."""
        ...

    async def waiting(self) -> bool:
        """Whether there are any."""
        ...

    async def settle_some(self, settle: Settle, limit: int) -> int:
        """Pass the oldest to `settle` and forget them once it returns; how many there were."""
        ...

    async def remember_voids(self, voids: Sequence[Void]) -> None:
        """Keep them until their reservations are given back."""
        ...

    async def release_some(self, release: Release, limit: int) -> int:
        """Pass some to `release` and forget them once it returns; how many there were."""
        ...


class Progress(Protocol):
    """How far usage is booked."""

    async def booked_until(self) -> datetime:
        """Every event that was published before is booked. Raises when that cannot be known."""
        ...


class Settle(Protocol):
    """Does settlements, or raises StoreUnavailable."""

    async def __call__(self, settlements: Sequence[Settlement]) -> None: ...


class Release(Protocol):
    """Gives a reservation back, or raises StoreUnavailable."""

    async def __call__(self, org: str, reservation_id: str) -> bool: ...


class Reservations(Protocol):
    """Holds and counters. Every method is one atomic step for each organisation."""

    async def reserve(self, hold: Hold, limits: Sequence[Limit], version: int) -> Answer | Obstacle:
        """Hold an estimate in every scope of its principal, or nothing. `version` is that of the limits."""
        ...

    async def extend(self, extension: Extension, limits: Sequence[Limit], version: int) -> Answer | Obstacle:
        """Hold more, and renew the expiry; refused, all stays as it was."""
        ...

    async def find(self, org: str, reservation_id: str) -> tuple[str, int] | None:
        """The model and the price version that a reservation was made under; None when it is not known."""
        ...

    async def release(self, org: str, reservation_id: str) -> bool:
        """Give a reservation back; False when it was settled. Nothing can be reserved under its id afterwards."""
        ...

    async def settle(self, settlements: Sequence[Settlement], *, recount: bool = False) -> None:
        """Add what was spent and close reservations, each once. With `recount`, for what may have been settled before:
        its counters are forgotten, so that the next question loads them from the ledger."""
        ...

    async def install(self, org: str, incarnation: str, position: LedgerPosition) -> bool:
        """Bring counters up to the ledger; False when the ledger has moved on meanwhile: read it again."""
        ...

    async def standing(self, org: str, counters: Sequence[Counter]) -> Sequence[Standing] | CountersMissing:
        """Where counters stand."""
        ...

    async def announce_limits(self, org: str, version: int) -> None:
        """From now on, questions with an older version of the organisation's limits are LimitsOutdated."""
        ...


class Announcer(Protocol):
    """Tells every gateway what to forget."""

    async def announce(self, what: str) -> None:
        """`what` is a key id, or "org:" and an organisation. Raises when it cannot be sent."""
        ...


class Delivery(Protocol):
    """One message of the usage stream."""

    @property
    def event(self) -> UsageEvent | Void | None:
        """The event; None when the message is not one."""
        ...

    @property
    def mended(self) -> bool:
        """Whether a label of the event had to be mended."""
        ...

    @property
    def fault(self) -> str:
        """Why it is not one."""
        ...

    async def done(self) -> None:
        """It need not be delivered again."""
        ...

    async def renew(self) -> None:
        """It is still being worked on."""
        ...

    async def bury(self, reason: str) -> bool:
        """Keep it in the dead-letter stream, with the reason; then it is done. False: there was no room for it."""
        ...


class UsageStream(Protocol):
    """Where usage events come from, at least once each."""

    async def take(self) -> Sequence[Delivery]:
        """The next batch; empty when none came for a while."""
        ...


class Observer(Protocol):
    """Counts what happens."""

    def reserved(self, outcome: str, seconds: float) -> None:
        """A reservation was answered."""
        ...

    def folded(self, result: str, count: int) -> None:
        """Events were booked, repeated, voided, mended, buried, dropped, or settled late."""
        ...

    def booked(self, seconds: float) -> None:
        """A batch was committed."""
        ...


__all__ = [
    "Announcer",
    "Answer",
    "BudgetStore",
    "Delivery",
    "Erased",
    "Forgetting",
    "Held",
    "Keys",
    "Ledger",
    "Observer",
    "Obstacle",
    "Policies",
    "Posted",
    "PostedState",
    "Prices",
    "Progress",
    "Release",
    "Reservations",
    "Settle",
    "Tenants",
    "Unpostable",
    "Unsettled",
    "UsageStream",
    "WriteOnce",
]
