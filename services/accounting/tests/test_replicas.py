"""Several replicas, and what leaves the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from farthing.accounting.v1 import admission_service_pb2 as admission_pb
from farthing.accounting.v1 import key_service_pb2 as key_pb
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_accounting.adapters.nats.usage import JetStreamUsage, StreamLimits
from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.adapters.postgres.ledger import PostgresLedger
from farthing_accounting.config import AccountingSettings
from farthing_accounting.domain.ledger import Booking
from farthing_accounting.main import build
from farthing_accounting.ports import Posted
from farthing_kit.clock import SystemClock
from farthing_kit.context import Principal
from farthing_kit.errors import FarthingError, StoreUnavailable
from farthing_kit.telemetry import Telemetry
from farthing_kit.testing.server import running
from farthing_kit.testing.waiting import until
from services.accounting.tests.client import Accounting, once, tenant, usage_event

R = ErrorReason
HELD, COST = 100_000, 70_000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def twins(accounting_settings: AccountingSettings) -> AsyncIterator[tuple[Accounting, Accounting]]:
    slow = replace(accounting_settings, limits_fresh_ms=60_000)
    async with (
        running("accounting", slow, build) as one,
        running("accounting", slow, build) as other,
        Accounting(one) as first,
        Accounting(other) as second,
    ):
        yield first, second


async def test_a_budget_that_one_replica_sets_holds_at_the_other_at_once(twins: tuple[Accounting, Accounting]) -> None:
    first, second = twins
    await second.reserve("r1")
    await first.set_budget(money=HELD)
    with pytest.raises(FarthingError) as caught:
        await second.reserve("r2")
    assert caught.value.reason == R.ERROR_REASON_BUDGET_EXCEEDED
    await first.set_budget(money=2 * HELD)
    await second.reserve("r2")


async def test_replicas_share_the_stream_and_book_everything_once(twins: tuple[Accounting, Accounting]) -> None:
    first, second = twins
    await first.set_budget(money=1_000 * HELD)
    quotes = await asyncio.gather(*((first if n % 2 else second).reserve(f"r{n}") for n in range(60)))
    events = [usage_event(f"q{n}", quotes[n].quote, reservation_id=f"r{n}") for n in range(60)]
    await first.publish(*events, *events[::2])
    verified = await first.until_booked(60)
    await first.until_settled()
    assert (verified.usage_events, verified.ledger_total.nano_units) == (60, 60 * COST)
    assert list(verified.violations) == []
    (state,) = await second.state()
    assert (state.spent.nano_units, state.reserved.nano_units, state.in_flight) == (60 * COST, 0, 0)


async def test_the_span_of_an_event_joins_the_trace_of_its_publisher(accounting: Accounting) -> None:
    quote = (await accounting.reserve()).quote
    js = accounting.nats.jetstream()
    await js.publish("usage.acme", usage_event("q1", quote).SerializeToString(), headers={"traceparent": TRACE})
    await js.publish("usage.acme", usage_event("q2", quote).SerializeToString())
    await accounting.until_booked(2)
    await accounting.until_settled()
    spans = accounting.process.spans.named("usage.fold")
    assert [f"{span.context.trace_id:x}" for span in spans if span.context] == [TRACE.split("-")[1].lstrip("0")]


async def test_no_secret_of_a_key_and_no_name_of_a_person_is_kept_in_redis_or_told_in_errors(
    accounting: Accounting, redis: Redis
) -> None:
    person = "zoe.quill"
    request = key_pb.CreateKeyRequest(idempotency_key=once(), org="acme", user=person)
    made = await accounting.operator.keys.CreateKey(request)
    await accounting.service.admission.Authorize(admission_pb.AuthorizeRequest(api_key=made.api_key))
    await accounting.set_budget("USER", person, money=HELD)
    zoe = accounting.as_caller(tenant(Principal("acme", user=person)))
    await accounting.reserve("r1", zoe)
    with pytest.raises(FarthingError) as caught:
        await accounting.reserve("r2", zoe)
    told = f"{caught.value.message} {caught.value.metadata} {caught.value.quotas}".encode()
    kept = b"".join([part async for part in everything_in(redis)])
    for secret in (person, made.api_key, made.api_key.rpartition("_")[2]):
        assert secret.encode() not in kept + told


async def everything_in(redis: Any) -> AsyncIterator[bytes]:
    for key in await redis.keys("*"):
        yield key
        if await redis.type(key) == b"hash":
            for name, value in (await redis.hgetall(key)).items():
                yield name + value


async def test_a_stream_that_is_half_full_gives_up_what_is_booked(accounting: Accounting, monkeypatch: Any) -> None:
    usage = JetStreamUsage(
        accounting.nats,
        accounting.process.process.settings.nats_monitor_url,
        Telemetry("test"),
        SystemClock(),
        StreamLimits(purge_above=0.0, max_bytes=16 * 1024 * 1024),
    )
    quote = (await accounting.reserve()).quote
    await accounting.publish(usage_event("q1", quote), usage_event("q2", quote))
    await accounting.until_booked(2)
    await accounting.until_settled()
    gate = asyncio.Event()
    post = PostgresLedger.post

    async def waits(ledger: PostgresLedger, bookings: Sequence[Booking]) -> Sequence[Posted]:
        await gate.wait()
        return await post(ledger, bookings)

    monkeypatch.setattr(PostgresLedger, "post", waits)
    await accounting.publish(usage_event("q3", quote))
    js = accounting.nats.jetstream()
    assert await usage.make_room() > 0
    assert (await js.stream_info("USAGE")).state.messages == 1
    gate.set()
    await accounting.until_booked(3)


async def test_a_stop_ends_waiting_for_a_store_and_the_events_come_again(
    accounting_settings: AccountingSettings, database: Database, monkeypatch: Any
) -> None:
    asked = 0

    async def away(ledger: PostgresLedger, bookings: Sequence[Booking]) -> Sequence[Posted]:
        nonlocal asked
        asked += 1
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(PostgresLedger, "post", away)
        async with running("accounting", accounting_settings, build) as process, Accounting(process) as first:
            await first.publish(usage_event("q1", (await first.reserve()).quote))
            await until(lambda: asked > 2)
    assert (await PostgresLedger(database).verify()).usage_events == 0
