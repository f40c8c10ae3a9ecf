"""Reservations in memory: the model that the property test holds the Lua against, and the fake of the other tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from farthing_accounting.domain.budgets import Counter, Limit, counters_of
from farthing_accounting.domain.reservations import (
    MAX_EXTENSIONS,
    Answer,
    Closed,
    CountersMissing,
    Extension,
    Held,
    Hold,
    LedgerPosition,
    LimitsOutdated,
    Mismatch,
    Obstacle,
    Quantity,
    Refused,
    ReservationState,
    Settlement,
    Standing,
)
from farthing_accounting.domain.scopes import Scope, scopes_of
from farthing_kit.clock import Clock
from farthing_kit.money import NanoUsd
from farthing_kit.usage import Tokens


@dataclass
class Record:
    """A reservation that was heard of."""

    state: ReservationState
    hold: Hold | None = None
    expires: datetime = datetime.max.replace(tzinfo=UTC)
    amount: int = 0
    tokens: int = 0
    extensions: dict[str, str] = field(default_factory=dict)


@dataclass
class Sum:
    """A counter that is loaded."""

    position: int
    amount: int
    tokens: int


@dataclass
class Org:
    """All that is known of an organisation."""

    records: dict[str, Record] = field(default_factory=dict)
    counters: dict[Counter, Sum] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    position: int = 0
    limits_version: int = 0


START_OF_TIME = datetime.fromtimestamp(0, UTC)


class ModelReservations:
    """One dictionary for each organisation; every sum is computed when it is asked for."""

    def __init__(self, clock: Clock, lapse: Callable[[], datetime] = lambda: START_OF_TIME) -> None:
        self._clock = clock
        self._lapse = lapse
        self._orgs: dict[str, Org] = {}
        self.incarnation = "first"

    def lose_everything(self) -> None:
        """What a restart without persistence does."""
        self._orgs.clear()
        self.incarnation += "+"

    async def reserve(self, hold: Hold, limits: Sequence[Limit], version: int) -> Answer | Obstacle:
        org = self._org(hold.principal.org)
        record = org.records.get(hold.reservation_id)
        if record is not None and record.state is not ReservationState.OPEN:
            return Closed(record.state)
        if record is not None and (record.hold is None or record.hold.digest != hold.digest):
            return Mismatch()
        if (obstacle := self._obstacle(org, limits, version)) is not None:
            return obstacle
        if record is None:
            if (refused := _refusal(org, limits, hold.estimate.amount, hold.estimate.tokens, hold.places)) is not None:
                return refused
            expires = self._now() + hold.time_to_live
            record = Record(ReservationState.OPEN, hold, expires, hold.estimate.amount, hold.estimate.tokens)
            org.records[hold.reservation_id] = record
        return _held(org, hold.reservation_id, record, limits)

    async def extend(self, extension: Extension, limits: Sequence[Limit], version: int) -> Answer | Obstacle:
        org = self._org(extension.principal.org)
        record = org.records.get(extension.reservation_id, Record(ReservationState.UNKNOWN))
        if record.state is not ReservationState.OPEN:
            return Closed(record.state)
        if record.hold is None or scopes_of(record.hold.principal) != scopes_of(extension.principal):
            return Closed(ReservationState.UNKNOWN)
        done = record.extensions.get(extension.idempotency_key)
        if done is not None and done != extension.digest:
            return Mismatch()
        if (obstacle := self._obstacle(org, limits, version)) is not None:
            return obstacle
        if done is None:
            if len(record.extensions) >= MAX_EXTENSIONS:
                return Refused(None, Quantity.EXTENSIONS, 0)
            amount, tokens = extension.estimate.amount, extension.estimate.tokens
            if (refused := _refusal(org, limits, amount, tokens, 0)) is not None:
                return refused
            record.amount += amount
            record.tokens += tokens
            record.expires = self._now() + extension.time_to_live
            record.extensions[extension.idempotency_key] = extension.digest
        return _held(org, extension.reservation_id, record, limits)

    async def find(self, org: str, reservation_id: str) -> tuple[str, int] | None:
        record = self._org(org).records.get(reservation_id)
        return None if record is None or record.hold is None else (record.hold.model, record.hold.price_version)

    async def release(self, org: str, reservation_id: str) -> bool:
        record = self._org(org).records.setdefault(reservation_id, Record(ReservationState.RELEASED))
        if record.state in COUNTED:
            record.state = ReservationState.RELEASED
        return record.state is not ReservationState.SETTLED

    async def settle(self, settlements: Sequence[Settlement], *, recount: bool = False) -> None:
        for settlement in settlements:
            self._settle(settlement, recount)

    def _settle(self, settlement: Settlement, recount: bool) -> None:
        org = self._org(settlement.principal.org)
        if settlement.transaction_id in org.settled and not recount:
            return
        org.settled.add(settlement.transaction_id)
        if settlement.reservation_id:
            record = org.records.setdefault(settlement.reservation_id, Record(ReservationState.SETTLED))
            record.state = ReservationState.SETTLED
        org.position = max(org.position, settlement.transaction_id)
        for counter in counters_of(settlement.principal, settlement.end_time):
            loaded = org.counters.get(counter)
            if loaded is not None and recount:
                del org.counters[counter]
            elif loaded is not None and settlement.transaction_id > loaded.position:
                loaded.amount += settlement.amount
                loaded.tokens += settlement.tokens

    async def install(self, org: str, incarnation: str, position: LedgerPosition) -> bool:
        known = self._org(org)
        if incarnation != self.incarnation or known.position > position.transaction_id:
            return False
        for spent in position.spent:
            known.counters.setdefault(spent.counter, Sum(position.transaction_id, spent.amount, spent.tokens))
        return True

    async def standing(self, org: str, counters: Sequence[Counter]) -> Sequence[Standing] | CountersMissing:
        known = self._org(org)
        if missing := tuple(counter for counter in counters if counter not in known.counters):
            return CountersMissing(missing, self.incarnation)
        return [_standing(known, counter) for counter in counters]

    async def announce_limits(self, org: str, version: int) -> None:
        known = self._org(org)
        known.limits_version = max(known.limits_version, version)

    def _org(self, name: str) -> Org:
        org = self._orgs.setdefault(name, Org())
        for reservation_id, record in list(org.records.items()):
            if record.state is ReservationState.OPEN and record.expires <= self._now():
                record.state = ReservationState.EXPIRED
            if record.state is ReservationState.EXPIRED and record.expires <= self._lapse():
                del org.records[reservation_id]
        return org

    def _now(self) -> datetime:
        now = self._clock.now()
        return now - timedelta(microseconds=now.microsecond % 1000)

    def _obstacle(self, org: Org, limits: Sequence[Limit], version: int) -> Obstacle | None:
        if org.limits_version > version:
            return LimitsOutdated()
        missing = tuple(limit.counter for limit in limits if limit.counter not in org.counters)
        return CountersMissing(missing, self.incarnation) if missing else None


# An expired one awaits the booking of what it was used for: its place is free, its money and tokens count.
COUNTED = (ReservationState.OPEN, ReservationState.EXPIRED)


def _counted(org: Org, scope: Scope) -> list[Record]:
    return [
        record
        for record in org.records.values()
        if record.state in COUNTED and record.hold and scope in scopes_of(record.hold.principal)
    ]


def _standing(org: Org, counter: Counter) -> Standing:
    loaded, holds = org.counters[counter], _counted(org, counter.scope)
    money, tokens = sum(record.amount for record in holds), sum(record.tokens for record in holds)
    return Standing(
        counter,
        NanoUsd(loaded.amount),
        Tokens(loaded.tokens),
        NanoUsd(money),
        Tokens(tokens),
        in_flight=sum(r.hold.places for r in holds if r.hold and r.state is ReservationState.OPEN),
    )


def _refusal(org: Org, limits: Sequence[Limit], amount: int, tokens: int, places: int) -> Refused | None:
    for limit in limits:
        now = _standing(org, limit.counter)
        left = (
            (Quantity.MONEY, limit.money, now.spent + now.held, amount),
            (Quantity.TOKENS, limit.tokens if tokens else None, now.spent_tokens + now.held_tokens, tokens),
            (Quantity.CONCURRENCY, limit.concurrency if places else None, now.in_flight, places),
        )
        for quantity, most, used, wanted in left:
            if most is not None and used + wanted > most:
                return Refused(limit.counter, quantity, most - used)
    return None


def _held(org: Org, reservation_id: str, record: Record, limits: Sequence[Limit]) -> Held:
    assert record.hold is not None
    standings = [(limit.money, _standing(org, limit.counter)) for limit in limits]
    return Held(
        reservation_id=reservation_id,
        amount=NanoUsd(record.amount),
        tokens=Tokens(record.tokens),
        expire_time=record.expires,
        left=tuple(None if most is None else NanoUsd(most - now.spent - now.held) for most, now in standings),
        model=record.hold.model,
        price_version=record.hold.price_version,
    )


__all__ = ["ModelReservations", "replace"]
