"""PostgreSQL goes away for longer than any queue and any timeout, under more callers than may wait, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farthing.accounting.v1 import admission_service_pb2 as admission_pb
from farthing.accounting.v1 import key_service_pb2 as key_pb
from farthing_accounting.adapters.postgres.database import Database, Limits
from farthing_accounting.config import AccountingSettings
from farthing_accounting.main import build
from farthing_kit import deadline
from farthing_kit.config import Secret
from farthing_kit.errors import StoreUnavailable
from farthing_kit.local.postgres import Postgres
from farthing_kit.testing.server import running
from farthing_kit.testing.waiting import until
from services.accounting.tests.client import Accounting, eventually, once, reserve_request

CROWD = 300
SOON = Limits(connections=4, waiting=64, connect_s=0.3, acquire_s=0.2, statement_s=0.3, transaction_s=0.4, ping_s=0.3)
HELD = 100_000


class Frail(Postgres):
    """A server that can be killed, and stopped in the middle of what it does."""

    async def die(self) -> None:
        self.process.kill()

    async def hang(self) -> None:
        self._signal(signal.SIGSTOP)

    async def heal(self) -> None:
        if self.process.running:
            self._signal(signal.SIGCONT)
        else:
            await self.start()

    def _signal(self, number: signal.Signals) -> None:
        """Each of its processes is the leader of a group of its own."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            with suppress(ProcessLookupError):  # a child that ended meanwhile
                os.kill(pid, number)


@pytest.fixture
async def frail(servers_dir: Path) -> AsyncIterator[Frail]:
    folder = servers_dir / f"frail-{os.urandom(4).hex()}"
    server = Frail(folder, log=folder.with_suffix(".log"), durable=False)
    await server.start()
    yield server
    if server.process.running:
        await server.heal()
    await server.stop()


WAYS = pytest.mark.parametrize("way", ["die", "hang"])


async def asks(database: Database) -> str:
    """What becomes of one caller."""
    try:
        async with database.transaction() as connection:
            await connection.execute("SELECT 1")
    except StoreUnavailable as error:
        return error.metadata["cause"]
    return "answered"


async def crowd(database: Database, count: int = CROWD) -> set[str]:
    return set(await asyncio.gather(*(asks(database) for _ in range(count))))


async def answers(database: Database, count: int = 1) -> bool:
    return await crowd(database, count) == {"answered"}


async def outage(server: Frail, way: str, watch: Callable[[], Awaitable[object]]) -> None:
    """Rounds of callers, until every limit of SOON has passed several times."""
    await getattr(server, way)()
    for _ in range(4):
        await watch()


@WAYS
async def test_after_an_outage_everybody_is_answered_again(frail: Frail, way: str) -> None:
    async with Database(frail.dsn(), limits=SOON) as database:
        await until(lambda: answers(database))
        found: set[str] = set()

        async def watch() -> None:
            found.update(await crowd(database))
            assert not await database.ping()

        await outage(frail, way, watch)
        assert database.left_alone
        assert "answered" not in found
        assert {"BreakerOpen", *({"TooManyWaiting"} if way == "hang" else ())} <= found
        await frail.heal()
        await until(database.ping)
        await until(lambda: answers(database, SOON.waiting))


async def test_a_server_that_hangs_in_the_middle_of_a_statement_is_cut_off_in_time(frail: Frail) -> None:
    async with Database(frail.dsn(), limits=SOON) as database, asyncio.timeout(5):
        with pytest.raises(StoreUnavailable):
            await hangs_amid(database, frail)
        await frail.heal()
        await until(lambda: answers(database))


async def hangs_amid(database: Database, server: Frail) -> None:
    async with database.transaction() as connection:
        await server.hang()
        await connection.execute("SELECT 1")


async def test_a_caller_in_a_hurry_hears_before_its_deadline_and_is_no_proof(frail: Frail) -> None:
    async with Database(frail.dsn(), limits=replace(SOON, transaction_s=30)) as database:
        await until(lambda: answers(database))
        await frail.hang()
        deadline.set_remaining(0.2)
        assert {await asks(database) for _ in range(5)} <= {"OperationalError", "TimeoutError", "AllConnectionsTaken"}
        assert not database.left_alone
        deadline.set_remaining(None)
        await frail.heal()
        await until(lambda: answers(database))


async def test_connections_that_the_server_closed_are_not_used_again(frail: Frail) -> None:
    async with Database(frail.dsn(), limits=replace(SOON, connect_s=5, acquire_s=5, transaction_s=5)) as database:
        assert await crowd(database, SOON.connections) == {"answered"}
        await frail.stop()
        await frail.heal()
        assert await crowd(database, SOON.connections) == {"answered"}


@WAYS
async def test_a_service_serves_whom_it_knows_says_what_is_away_and_recovers(
    accounting_settings: AccountingSettings, frail: Frail, way: str
) -> None:
    """The values are older than those which are served without a question: each request asks, and nobody waits."""
    settings = replace(
        accounting_settings, postgres_dsn=Secret(frail.dsn().encode()), limits_fresh_ms=0, watch_interval_ms=100
    )
    async with running("accounting", settings, build) as process, Accounting(process) as accounting:
        await accounting.set_budget(money=1_000 * HELD)
        await accounting.reserve("r0")
        await getattr(frail, way)()
        for n in range(1, 4):
            # As gateways ask: within a second.
            names = [f"r{n}-{i}" for i in range(50)]
            deadline.set_remaining(1.0)
            await asyncio.gather(*(accounting.reserve(name) for name in names))
        deadline.set_remaining(None)
        await eventually(lambda: says(accounting, up=False))
        await frail.heal()
        await eventually(lambda: says(accounting, up=True))
        assert (await accounting.reserve("later")).reservation.remaining.nano_units == (1_000 - 152) * HELD
        await accounting.verified()


async def test_a_gateway_hears_why_there_is_no_answer_before_it_gives_up(
    accounting_settings: AccountingSettings, frail: Frail
) -> None:
    settings = replace(accounting_settings, postgres_dsn=Secret(frail.dsn().encode()))
    async with running("accounting", settings, build) as process, Accounting(process) as accounting:
        request = key_pb.CreateKeyRequest(idempotency_key=once(), org="acme", team="search", user="ada")
        api_key = (await accounting.operator.keys.CreateKey(request)).api_key
        await frail.hang()
        asks: tuple[Callable[[], Any], ...] = (
            lambda: accounting.service.admission.Authorize(admission_pb.AuthorizeRequest(api_key=api_key), timeout=1.0),
            lambda: accounting.tenant.admission.Reserve(reserve_request("cold"), timeout=1.0),
        )
        for ask in asks:
            with pytest.raises(StoreUnavailable) as caught:
                await ask()
            assert caught.value.metadata["store"] == "postgresql"
        await frail.heal()
        await eventually(lambda: says(accounting, up=True))


async def says(accounting: Accounting, *, up: bool) -> bool:
    return accounting.metric("farthing_dependency_up", dependency="postgresql") == float(up)
