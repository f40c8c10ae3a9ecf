"""Stores and streams that go away, and a process that dies: nothing is lost, nothing is booked twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from farthing.accounting.v1.usage_event_pb2 import UsageEvent
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.principal_pb2 import Principal as PrincipalMessage
from farthing.type.v1.usage_pb2 import Quote
from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.adapters.postgres.ledger import PostgresLedger
from farthing_accounting.app import folding
from farthing_accounting.config import AccountingSettings
from farthing_accounting.domain.ledger import Booking
from farthing_accounting.main import build
from farthing_accounting.ports import Posted
from farthing_kit.config import Secret
from farthing_kit.errors import FarthingError, QueueUnavailable, StoreUnavailable
from farthing_kit.local.process import ChildProcess, Spec
from farthing_kit.server import ServerError
from farthing_kit.testing.server import running
from farthing_kit.testing.waiting import until
from services.accounting.tests.client import Accounting, Frail, eventually, usage_event

R = ErrorReason
HELD, COST = 100_000, 70_000


async def quote_of(accounting: Accounting, name: str = "quote") -> Quote:
    return (await accounting.reserve(name)).quote


async def error_of(call: Any) -> FarthingError:
    with pytest.raises(FarthingError) as caught:
        await call
    return caught.value


def folded(accounting: Accounting, result: str) -> Callable[[], bool]:
    return lambda: accounting.metric("farthing_usage_events_total", result=result) > 0


@pytest.mark.parametrize("way", ["down", "blackhole"])
async def test_redis_away_is_said_and_the_books_go_on(frail: Frail, way: str) -> None:
    accounting = frail.accounting
    await accounting.set_budget(money=10 * HELD)
    quote = (await accounting.reserve("r1")).quote
    getattr(frail.redis, way)()
    for name in ("r2", "r3", "r4", "r5"):  # enough for Redis to be left alone
        error = await error_of(accounting.reserve(name))
        assert (error.reason, error.metadata["store"]) == (R.ERROR_REASON_STORE_UNAVAILABLE, "redis")
    await accounting.publish(usage_event("q1", quote, reservation_id="r1"))
    assert (await accounting.until_booked(1)).ledger_total.nano_units == COST
    await accounting.until_settled()
    frail.redis.heal()
    await until(folded(accounting, "settled_late"))
    (state,) = await accounting.state()
    assert (state.spent.nano_units, state.reserved.nano_units, state.in_flight) == (COST, 0, 0)
    assert (await accounting.reserve("r6")).reservation.remaining.nano_units == 10 * HELD - COST - HELD


async def test_a_redis_that_lost_everything_is_rebuilt_before_the_first_decision(
    accounting: Accounting, redis_url: str
) -> None:
    await accounting.set_budget(money=2 * HELD)
    quote = (await accounting.reserve("r1")).quote
    await accounting.publish(usage_event("q1", quote, reservation_id="r1"))
    await accounting.until_booked(1)
    await accounting.until_settled()
    from redis.asyncio import Redis as Client

    async with Client.from_url(redis_url) as client:
        await client.flushall()
    left = (await eventually(lambda: reserved_after_recovery(accounting, "r2"))).reservation.remaining
    assert left.nano_units == 2 * HELD - COST - HELD
    assert (await error_of(accounting.reserve("r3"))).reason == R.ERROR_REASON_BUDGET_EXCEEDED


async def reserved_after_recovery(accounting: Accounting, name: str) -> Any:
    """None while what was in flight is being brought back."""
    try:
        return await accounting.reserve(name)
    except StoreUnavailable:
        return None


async def test_postgresql_away_still_admits_whom_it_knows(frail: Frail) -> None:
    accounting = frail.accounting
    await accounting.set_budget(money=10 * HELD)
    quote = (await accounting.reserve("r1")).quote
    frail.postgres.down()
    assert (await accounting.reserve("r2")).reservation.remaining.nano_units == 8 * HELD
    error = await error_of(accounting.verified())
    assert (error.reason, error.metadata["store"]) == (R.ERROR_REASON_STORE_UNAVAILABLE, "postgresql")
    assert "127.0.0.1" not in error.message
    await accounting.publish(usage_event("q1", quote, reservation_id="r1"))
    frail.postgres.heal()
    assert (await accounting.until_booked(1)).ledger_total.nano_units == COST


async def test_a_commit_whose_answer_is_lost_is_booked_once(
    accounting: Accounting, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = 0
    post = PostgresLedger.post

    async def loses_its_first_answer(ledger: PostgresLedger, bookings: Sequence[Booking]) -> Sequence[Posted]:
        nonlocal lost
        posted = await post(ledger, bookings)
        if not lost:
            lost += 1
            raise StoreUnavailable("the commit was done, the connection was not there to say so")
        return posted

    monkeypatch.setattr(PostgresLedger, "post", loses_its_first_answer)
    await accounting.set_budget(money=10 * HELD)
    quote = (await accounting.reserve("r1")).quote
    await accounting.publish(usage_event("q1", quote, reservation_id="r1"))
    await until(folded(accounting, "repeated"))
    await accounting.until_settled()
    (state,) = await accounting.state()
    assert (state.spent.nano_units, state.in_flight, lost) == (COST, 0, 1)
    assert (await accounting.verified()).usage_events == 1


async def test_nats_away_is_waited_for(frail: Frail) -> None:
    accounting = frail.accounting
    quote = await quote_of(accounting)
    frail.nats.down()
    await accounting.reserve("r2")
    frail.nats.heal()
    await until(lambda: accounting.nats.is_connected)
    await accounting.publish(usage_event("q1", quote))
    await accounting.until_booked(1)


async def test_a_stream_that_was_lost_is_made_again(accounting: Accounting) -> None:
    quote = await quote_of(accounting)
    js = accounting.nats.jetstream()
    await js.delete_stream("USAGE")

    async def there() -> bool:
        with contextlib.suppress(Exception):
            await js.consumer_info("USAGE", "accounting-ledger")
            return True
        return False

    await until(there)
    await accounting.publish(usage_event("q1", quote))
    await accounting.until_booked(1)


# --- events that cannot be booked


async def test_what_cannot_be_booked_is_kept_with_its_reason_and_stops_nobody(accounting: Accounting) -> None:
    quote = await quote_of(accounting)
    without_org = usage_event("q2", quote)
    without_org.principal.CopyFrom(PrincipalMessage())
    other = usage_event("q1", quote)
    other.usage.output_tokens += 1
    without_prices = usage_event("q3", quote)
    without_prices.ClearField("quote")
    poison: list[UsageEvent | bytes] = [b"\xff\xff", without_org, other, without_prices, usage_event("", quote)]
    await accounting.publish(usage_event("q1", quote), *poison, usage_event("q4", quote))
    verified = await accounting.until_booked(2)
    await accounting.until_settled()
    assert (verified.usage_events, verified.usage_total.nano_units) == (2, 2 * COST)
    assert accounting.metric("farthing_usage_events_total", result="buried") == len(poison)
    js = accounting.nats.jetstream()
    dead = await (await js.pull_subscribe("dlq.usage.*", stream="DLQ")).fetch(len(poison), timeout=5)
    reasons = [message.headers["Farthing-Reason"] for message in dead if message.headers]
    assert sorted(reasons) == [
        "another event was booked under this request id",
        "principal.org is not the name of an organisation",
        "request_id is not a text of 1 to 128 characters",
        "the bytes are not a UsageEvent",
        "tokens were used, but the event has no prices",
    ]
    assert {bytes(message.data) for message in dead} == {
        item if isinstance(item, bytes) else item.SerializeToString() for item in poison
    }


async def test_only_the_culprit_of_a_batch_is_left_out(accounting: Accounting, database: Database) -> None:
    """Something that only PostgreSQL refuses: found by halving."""
    quote = await quote_of(accounting)
    async with database.transaction() as connection:
        await connection.execute(b"ALTER TABLE usage_events ADD CONSTRAINT no_seven CHECK (request_id <> 'q7')")
    await accounting.publish(*(usage_event(f"q{n}", quote) for n in range(12)))
    verified = await accounting.until_booked(11)
    await accounting.until_settled()
    assert verified.usage_events == 11
    assert accounting.metric("farthing_usage_events_total", result="buried") == 1


# --- a process that dies


async def test_dying_between_commit_and_acknowledgement_books_and_settles_once(
    accounting_settings: AccountingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> None:
        await asyncio.Event().wait()

    async with running("accounting", accounting_settings, build) as process, Accounting(process) as first:
        await first.set_budget(money=10 * HELD)
        quote = (await first.reserve("r1")).quote
        with monkeypatch.context() as patch:
            # Commits, and never gets to settle or to acknowledge.
            patch.setattr(folding.Folding, "_settle", dies)
            await first.publish(usage_event("q1", quote, reservation_id="r1"))
            await first.until_booked(1)
            (before,) = await first.state()
            assert before.in_flight == 1
            for task in list(process.process._tasks):
                task.cancel()
    await redeliver_at_once(accounting_settings)
    async with running("accounting", accounting_settings, build) as process, Accounting(process) as second:
        await until(folded(second, "repeated"))
        await second.until_settled()
        (after,) = await second.state()
        assert (after.spent.nano_units, after.in_flight) == (COST, 0)
        assert (await second.verified()).usage_events == 1


async def redeliver_at_once(settings: AccountingSettings) -> None:
    """What was not acknowledged comes again after a while: not after half a minute, in this test."""
    import nats

    client = await nats.connect(settings.nats_url)
    js = client.jetstream()
    config = (await js.consumer_info("USAGE", "accounting-ledger")).config
    await js.delete_consumer("USAGE", "accounting-ledger")
    await js.add_consumer("USAGE", config)
    await client.close()


async def test_the_program_runs_folds_and_stops_when_it_is_asked_to(
    accounting_settings: AccountingSettings, tmp_path: Path, database: Database
) -> None:
    log = tmp_path / "accounting.log"
    child = ChildProcess(
        Spec(
            "accounting",
            [sys.executable, "-m", "farthing_accounting"],
            log,
            env=environment(accounting_settings, tmp_path),
        )
    )

    def ready() -> dict[str, Any]:
        lines = [line for line in log.read_text().splitlines() if line.startswith('{"ready"')] if log.exists() else []
        found: dict[str, Any] = json.loads(lines[0]) if lines else {}
        return found

    child.spawn()
    try:
        await until(lambda: bool(ready()), 30)
        import nats

        client = await nats.connect(accounting_settings.nats_url)
        quote = Quote(price_version=3, model="small", counterfactual_model="large")
        events = [usage_event(f"q{n}", quote) for n in range(500)]
        js = client.jetstream()
        for event in events:
            _ = await js.publish_async("usage.acme", event.SerializeToString())
        await js.publish_async_completed()
        await client.close()
        ledger = PostgresLedger(database)

        async def some() -> bool:
            return (await ledger.verify()).usage_events > 0

        await until(some)
        child.signal(signal.SIGTERM)
        await until(lambda: not child.running)
        assert child.exit_code == 0
    finally:
        child.kill()
    assert "crashed" not in log.read_text()


def environment(settings: AccountingSettings, folder: Path) -> dict[str, str]:
    secrets = {
        "POSTGRES_DSN": settings.postgres_dsn,
        "KEY_PEPPER": settings.key_pepper,
        "MESH_SECRET": settings.mesh_secret,
    }
    for name, secret in secrets.items():
        (folder / name).write_bytes(secret.reveal())
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")},
        **{f"FARTHING_{name}_FILE": str(folder / name) for name in secrets},
        "FARTHING_ACCOUNTING_BIND": "127.0.0.1:0",
        "FARTHING_REDIS_URL": settings.redis_url,
        "FARTHING_NATS_URL": settings.nats_url,
        "FARTHING_NATS_MONITOR_URL": settings.nats_monitor_url,
        "FARTHING_ACCOUNTING_PRICES_FILE": str(settings.prices_file),
    }


# --- what it refuses to start on


@contextlib.contextmanager
def monitor(varz: dict[str, Any]) -> Any:
    class Varz(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(varz).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Varz)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def refuses(settings: AccountingSettings, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        async with running("accounting", settings, build):
            pass


async def test_it_refuses_a_nats_that_may_forget_what_it_acknowledged(accounting_settings: AccountingSettings) -> None:
    with monitor({"jetstream": {"config": {"sync_always": False}}}) as url:
        await refuses(replace(accounting_settings, nats_monitor_url=url), QueueUnavailable, "sync_interval")


async def test_it_refuses_a_redis_that_would_evict_reservations(
    accounting_settings: AccountingSettings, redis_url: str
) -> None:
    from redis.asyncio import Redis as Client

    async with Client.from_url(redis_url) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            await refuses(accounting_settings, ServerError, "noeviction")
        finally:
            await client.config_set("maxmemory-policy", "noeviction")


async def test_it_refuses_a_short_pepper(accounting_settings: AccountingSettings) -> None:
    await refuses(replace(accounting_settings, key_pepper=Secret(b"short")), ServerError, "pepper")
