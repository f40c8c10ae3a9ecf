"""The fold on real stores: one attempt is charged and counted, voids give back, dead letters stop nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from farthing.accounting.v1.usage_event_pb2 import Attempt, UsageEvent
from farthing.type.v1.model_pb2 import FINISH_REASON_CANCELLED
from farthing.type.v1.principal_pb2 import Principal
from farthing.type.v1.usage_pb2 import Quote, TokenUsage
from farthing_accounting.adapters.nats.dead import DEAD_STREAM
from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.app import folding
from farthing_accounting.config import AccountingSettings
from farthing_accounting.main import build
from farthing_kit.testing.server import running
from farthing_kit.testing.waiting import until
from services.accounting.tests.client import Accounting, Frail, usage_event
from services.accounting.tests.test_faults import COST, HELD, folded, quote_of, redeliver_at_once

DEARER = COST + 30_000  # with 300 tokens more


def tried(quote: Quote, attempt: str, begin: int, **changes: Any) -> UsageEvent:
    """One attempt at the request "q"."""
    made = Attempt(request_id="q", attempt_id=attempt, run=1)
    made.begin_time.seconds = 1_000 + begin
    return usage_event("q", quote, attempt=made, **changes)


def dearer(event: UsageEvent) -> UsageEvent:
    event.usage.output_tokens += 300
    return event


async def standing(accounting: Accounting) -> tuple[int, int]:
    """What the budget of the organisation says: money that is spent, and requests in flight."""
    (state,) = await accounting.state()
    return state.spent.nano_units, state.in_flight


async def test_counters_follow_what_moves_to_waste_and_back(accounting: Accounting) -> None:
    await accounting.set_budget(money=10 * HELD)
    quotes = [(await accounting.reserve(name)).quote for name in ("r1", "r2", "r3")]
    cut = dearer(tried(quotes[0], "a1", 1, reservation_id="r1", finish_reason=FINISH_REASON_CANCELLED))
    answered = tried(quotes[1], "a2", 2, reservation_id="r2")
    later = dearer(tried(quotes[2], "a3", 3, reservation_id="r3"))
    for event, spent, open_ in ((cut, DEARER, 2), (answered, COST, 1), (later, DEARER, 0), (cut, DEARER, 0)):
        await accounting.publish(event)
        await accounting.until_settled()
        assert await standing(accounting) == (spent, open_)
    books = await accounting.verified()
    assert list(books.violations) == []
    assert (books.ledger_total.nano_units, books.waste_total.nano_units) == (DEARER, DEARER + COST)


async def test_dying_before_a_move_is_counted_counts_it_once(
    accounting_settings: AccountingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> None:
        await asyncio.Event().wait()

    async with running("accounting", accounting_settings, build) as process, Accounting(process) as first:
        await first.set_budget(money=10 * HELD)
        quote = (await first.reserve("r1")).quote
        await first.publish(dearer(tried(quote, "a1", 1, reservation_id="r1")))
        await first.until_settled()
        assert await standing(first) == (DEARER, 0)
        with monkeypatch.context() as patch:
            # Commits, and never gets to settle or to acknowledge.
            patch.setattr(folding.Folding, "_settle", dies)
            await first.publish(tried(quote, "a2", 2))
            await first.until_booked(2)
            assert await standing(first) == (DEARER, 0)
            for task in list(process.process._tasks):
                task.cancel()
    await redeliver_at_once(accounting_settings)
    async with running("accounting", accounting_settings, build) as process, Accounting(process) as second:
        await until(folded(second, "repeated"))
        await second.until_settled()
        assert await standing(second) == (COST, 0)
        assert list((await second.verified()).violations) == []


async def test_a_move_while_redis_is_away_is_counted_once_it_is_back(frail: Frail) -> None:
    accounting = frail.accounting
    await accounting.set_budget(money=10 * HELD)
    quote = (await accounting.reserve("r1")).quote
    await accounting.publish(dearer(tried(quote, "a1", 1, reservation_id="r1")))
    await accounting.until_settled()
    assert await standing(accounting) == (DEARER, 0)
    frail.redis.down()
    await accounting.publish(tried(quote, "a2", 2))
    await accounting.until_settled()
    frail.redis.heal()
    await until(folded(accounting, "settled_late"))
    assert await standing(accounting) == (COST, 0)


# --- voids


def void(reservation_id: str, **changes: Any) -> UsageEvent:
    event = UsageEvent(request_id="q", reservation_id=reservation_id, voided=True, **changes)
    event.principal.org = "acme"
    return event


async def test_a_void_gives_its_reservation_back_and_is_in_no_book(accounting: Accounting) -> None:
    await accounting.set_budget(money=10 * HELD)
    quote = (await accounting.reserve("r1")).quote
    await accounting.reserve("r2")
    await accounting.publish(void("r1"), void("r1"), void("never heard of"))
    await accounting.until_settled()
    assert await standing(accounting) == (0, 1)
    # What was settled stays settled.
    await accounting.publish(usage_event("q", quote, reservation_id="r2"))
    await accounting.publish(void("r2"))
    await accounting.until_settled()
    assert await standing(accounting) == (COST, 0)
    assert (await accounting.verified()).usage_events == 1
    assert accounting.metric("farthing_usage_events_total", result="voided") == 4


@pytest.mark.parametrize("way", ["down", "blackhole"])
async def test_a_void_while_redis_is_away_is_done_once_it_is_back(frail: Frail, way: str) -> None:
    accounting = frail.accounting
    await accounting.set_budget(money=10 * HELD)
    for name in ("r1", "r2"):
        await accounting.reserve(name)
    getattr(frail.redis, way)()
    await accounting.publish(void("r1"), void("r2"))
    await accounting.until_settled()
    frail.redis.heal()
    await until(folded(accounting, "released_late"))
    assert await standing(accounting) == (0, 0)


# --- labels, and dead letters


async def test_a_tag_of_a_line_break_is_booked_and_counted(accounting: Accounting) -> None:
    quote = await quote_of(accounting)
    odd = usage_event("q1", quote, tags={"feature": "a\nb", "\u2028": "c"})
    odd.principal.user = "ada\r\n"
    await accounting.publish(odd, usage_event("q2", quote))
    verified = await accounting.until_booked(2)
    await accounting.until_settled()
    assert (verified.ledger_total.nano_units, list(verified.violations)) == (2 * COST, [])
    assert accounting.metric("farthing_usage_events_total", result="mended") == 1
    assert accounting.metric("farthing_usage_events_total", result="buried") == 0


def poison(org: str, number: int, size: int = 0) -> UsageEvent:
    """Tokens without prices: nobody knows what they cost."""
    event = UsageEvent(
        request_id=f"{org}-{number}", principal=Principal(org=org), usage=TokenUsage(output_tokens=1), pool="p" * size
    )
    event.end_time.GetCurrentTime()
    return event


@pytest.fixture
async def small(accounting_settings: AccountingSettings) -> AsyncIterator[Accounting]:
    """Room for 64 KiB of dead letters, 5 of each organisation."""
    settings = replace(accounting_settings, dead_max_bytes=64 * 1024, dead_per_org=5)
    async with running("accounting", settings, build) as process, Accounting(process) as clients:
        yield clients


async def test_dead_letters_of_one_tenant_leave_room_for_those_of_others(small: Accounting) -> None:
    await small.publish(*(poison("acme", number) for number in range(20)))
    await small.publish(poison("globex", 1), subject="usage.globex")
    await small.until_settled()
    assert small.metric("farthing_usage_events_total", result="buried") == 6
    assert small.metric("farthing_usage_events_total", result="dropped") == 15
    subjects = (await small.nats.jetstream().stream_info(DEAD_STREAM, subjects_filter="dlq.>")).state.subjects
    assert subjects == {"dlq.usage.acme": 5, "dlq.usage.globex": 1}


async def test_a_full_dead_letter_stream_stalls_nobody(small: Accounting) -> None:
    """Forty tenants fill it; then more of theirs come than may wait for an acknowledgement, and what others used."""
    quote = await quote_of(small)
    for number in range(40):
        org = f"org-{number}"
        await small.publish(*(poison(org, n, 2_000) for n in range(2)), subject=f"usage.{org}")
    await small.until_settled()
    assert small.metric("farthing_usage_events_total", result="dropped") > 0
    await small.publish(*(poison("org-1", n, 2_000) for n in range(100, 200)), subject="usage.org-1")
    await small.publish(*(usage_event(f"q{n}", quote) for n in range(10)))
    verified = await small.until_booked(10)
    await small.until_settled()
    assert verified.ledger_total.nano_units == 10 * COST
    assert small.metric("farthing_usage_events_total", result="unburied") == 0


async def test_a_dead_letter_stream_of_an_older_release_takes_the_new_bounds(
    small: Accounting, accounting_settings: AccountingSettings
) -> None:
    """More letters than are allowed now, under the subject of that release: they stay."""
    js = small.nats.jetstream()
    await js.delete_stream(DEAD_STREAM)
    await js.add_stream(name=DEAD_STREAM, subjects=["dlq.>"], max_bytes=64 * 1024 * 1024)
    for number in range(9):
        await js.publish("dlq.usage", str(number).encode())
    async with running("accounting", replace(accounting_settings, dead_per_org=5), build):
        await small.publish(poison("acme", 1))
        await small.until_settled()
        subjects = (await js.stream_info(DEAD_STREAM, subjects_filter="dlq.>")).state.subjects
        assert subjects == {"dlq.usage": 9, "dlq.usage.acme": 1}


# --- a ledger from a backup


async def test_a_ledger_that_was_restored_is_counted_anew(accounting: Accounting, database: Database) -> None:
    """Redis is younger than the ledger: the numbers of lost transactions are given again, and are not counted yet."""
    await accounting.set_budget(money=10 * HELD)
    quote = await quote_of(accounting)
    for name in ("q1", "q2", "q3"):
        await accounting.publish(usage_event(name, quote))
        await accounting.until_settled()
    assert (await standing(accounting))[0] == 3 * COST
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        for table in ("entries", "usage_events", "transactions"):
            await connection.execute(f"DELETE FROM {table} WHERE transaction_id > 1".encode())
        await connection.execute("ALTER TABLE transactions ALTER transaction_id RESTART WITH 2")
        # As a table that was read back from a dump: made anew.
        await connection.execute("CLUSTER transactions USING transactions_pkey")
    await accounting.publish(usage_event("q4", quote))
    await accounting.until_settled()
    assert (await standing(accounting))[0] == 2 * COST
    await accounting.publish(usage_event("q5", quote))
    await accounting.until_settled()
    assert (await standing(accounting))[0] == 3 * COST
