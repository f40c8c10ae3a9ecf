"""What expired counts until nothing about it can still be booked: never while the books stand still, never for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import nats
import pytest

from farthing_accounting.adapters.nats.progress import JetStreamProgress
from farthing_accounting.adapters.nats.usage import JetStreamUsage, StreamLimits
from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.app.awaiting import LAG, Awaiting
from farthing_accounting.config import AccountingSettings
from farthing_accounting.domain.reservations import NEVER
from farthing_accounting.main import build
from farthing_kit.clock import SystemClock
from farthing_kit.errors import FarthingError, StoreUnavailable
from farthing_kit.local.nats import Nats
from farthing_kit.telemetry import Telemetry
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.testing.server import running
from services.accounting.tests.client import Accounting, eventually, seconds, usage_event

GRACE = timedelta(minutes=2)
HELD = 100_000


class Fold:
    """Where the books are: current, or standing still since a moment, or out of reach."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.stands_since: datetime | None = None
        self.unsettled = False
        self.away = False

    async def booked_until(self) -> datetime:
        if self.away:
            raise StoreUnavailable("away")
        return self.stands_since or self.clock.now()

    async def waiting(self) -> bool:
        return self.unsettled


@pytest.fixture
def fold(clock: VirtualClock) -> Fold:
    return Fold(clock)


@pytest.fixture
def awaiting(fold: Fold, clock: VirtualClock) -> Awaiting:
    return Awaiting(fold, fold, clock, grace=GRACE)  # type: ignore[arg-type]


async def minutes(awaiting: Awaiting, clock: VirtualClock, count: int) -> None:
    for _ in range(6 * count):
        await awaiting.look()
        await clock.advance(10)
    await awaiting.look()


async def test_while_the_books_are_current_nothing_is_awaited_for_long(awaiting: Awaiting, clock: VirtualClock) -> None:
    expired = clock.now()
    await minutes(awaiting, clock, 1)
    assert awaiting.current
    assert awaiting.lapse() < expired
    await minutes(awaiting, clock, 1)
    assert awaiting.lapse() >= expired


@pytest.mark.parametrize("trouble", ["stands", "unsettled", "away"])
async def test_while_the_books_stand_still_everything_is_awaited_and_a_while_beyond(
    awaiting: Awaiting, fold: Fold, clock: VirtualClock, trouble: str
) -> None:
    await minutes(awaiting, clock, 10)
    fold.stands_since = clock.now() if trouble == "stands" else None
    fold.unsettled, fold.away = trouble == "unsettled", trouble == "away"
    await clock.advance(LAG.total_seconds() + 1)
    expired = clock.now()
    await minutes(awaiting, clock, 600)
    assert not awaiting.current
    assert awaiting.lapse() < expired
    fold.stands_since, fold.unsettled, fold.away = None, False, False
    await minutes(awaiting, clock, 1)
    assert awaiting.lapse() < expired  # what waited in an outbox is on its way
    await minutes(awaiting, clock, 2)
    assert awaiting.lapse() >= expired


async def test_who_just_started_knows_nothing(awaiting: Awaiting, clock: VirtualClock) -> None:
    assert (awaiting.current, awaiting.lapse()) == (False, NEVER)
    await awaiting.look()
    assert (awaiting.current, awaiting.lapse()) == (True, NEVER)


async def test_the_stream_is_booked_until_its_oldest_event_that_is_not_acknowledged(
    nats_url: str, nats_server: Nats
) -> None:
    client = await nats.connect(nats_url)
    clock = SystemClock()
    usage = JetStreamUsage(client, nats_server.monitor_url, Telemetry("test"), clock, StreamLimits(batch=1))
    progress = JetStreamProgress(client, clock)
    with pytest.raises(FarthingError):
        await progress.booked_until()
    await usage.open()
    begin = clock.now()
    assert await progress.booked_until() >= begin
    for _ in range(3):
        await client.jetstream().publish("usage.acme", b"an event")
    published = clock.now()
    (first,), (second,) = await usage.take(), await usage.take()
    await second.done()
    assert begin <= await progress.booked_until() <= published
    await first.done()
    (third,) = await usage.take()
    assert begin <= await progress.booked_until() <= published
    await third.done()

    async def current() -> bool:
        return await progress.booked_until() > published

    await eventually(current)
    await usage.close()
    await client.close()


async def test_the_money_of_a_gateway_that_died_comes_back(accounting_settings: AccountingSettings) -> None:
    settings = replace(accounting_settings, awaiting_ms=1_000, watch_interval_ms=100)
    async with running("accounting", settings, build) as process, Accounting(process) as accounting:
        await accounting.set_budget(money=HELD)
        await accounting.reserve("r1", time_to_live=seconds(1))

        async def reserved() -> bool:
            try:
                await accounting.reserve("r2")
            except FarthingError:
                return False
            return True

        await eventually(reserved)


async def test_a_database_that_takes_no_writes_fills_up_no_budget(
    accounting_settings: AccountingSettings, database: Database
) -> None:
    """The usage waits in the stream. Every hold that expires meanwhile goes on counting, and is booked in the end."""
    settings = replace(accounting_settings, awaiting_ms=1_000, watch_interval_ms=100)
    async with running("accounting", settings, build) as process, Accounting(process) as accounting:
        await accounting.set_budget(money=3 * HELD)
        await takes_writes(database, False)
        await eventually(lambda: says(accounting, "postgresql", 0.0))
        await eventually(lambda: in_flight(accounting, 0))
        for number in range(3):
            quote = (await accounting.reserve(f"r{number}", time_to_live=seconds(1))).quote
            await accounting.publish(usage_event(f"q{number}", quote, reservation_id=f"r{number}"))
            await eventually(lambda: in_flight(accounting, 0))
            (state,) = await accounting.state()
            assert (state.spent.nano_units, state.reserved.nano_units) == (0, (number + 1) * HELD)
        with pytest.raises(FarthingError, match="too small for this request"):
            await accounting.reserve("more")
        await takes_writes(database, True)
        await eventually(lambda: says(accounting, "postgresql", 1.0))
        await accounting.until_booked(3)
        await accounting.until_settled()
        (state,) = await accounting.state()
        assert (state.spent.nano_units, state.reserved.nano_units) == (3 * 70_000, 0)


async def takes_writes(database: Database, yes: bool) -> None:
    async with database.transaction() as connection:
        await connection.execute("SET TRANSACTION READ WRITE")
        row = await (await connection.execute("SELECT current_database()")).fetchone()
        assert row is not None
        await connection.execute(
            f'ALTER DATABASE "{row[0]}" SET default_transaction_read_only = {"off" if yes else "on"}'.encode()
        )
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", row
        )


async def in_flight(accounting: Accounting, count: int) -> bool:
    try:
        (state,) = await accounting.state()
    except FarthingError:
        return False
    return state.in_flight == count


async def says(accounting: Accounting, dependency: str, value: float) -> bool:
    return accounting.metric("farthing_dependency_up", dependency=dependency) == value


async def test_what_expired_before_it_is_booked_counts_once(accounting: Accounting) -> None:
    """Held, then neither held nor spent, would be a budget that fills up by itself."""
    await accounting.set_budget(money=HELD)
    quote = (await accounting.reserve("r1", time_to_live=seconds(1))).quote

    async def expired() -> bool:
        (state,) = await accounting.state()
        assert state.reserved.nano_units == HELD
        return state.in_flight == 0

    await eventually(expired)
    with pytest.raises(FarthingError):
        await accounting.reserve("r2")
    await accounting.publish(usage_event("q1", quote, reservation_id="r1"))
    await accounting.until_booked(1)
    await accounting.until_settled()
    (state,) = await accounting.state()
    assert (state.spent.nano_units, state.reserved.nano_units) == (70_000, 0)
