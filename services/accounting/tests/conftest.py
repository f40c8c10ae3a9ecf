"""Fixtures: both kinds of reservations, a migrated database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.adapters.postgres.migrate import migrate
from farthing_accounting.adapters.redis.reservations import RedisReservations
from farthing_accounting.config import AccountingSettings
from farthing_accounting.domain.reservations import NEVER
from farthing_accounting.main import build
from farthing_accounting.ports import Reservations
from farthing_kit.config import Secret
from farthing_kit.local.nats import Nats
from farthing_kit.local.postgres import Postgres
from farthing_kit.local.redis import Redis as LocalRedis
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.testing.proxy import FaultProxy
from farthing_kit.testing.server import running
from farthing_kit.testing.settings import settings
from services.accounting.tests.client import Accounting, Frail
from services.accounting.tests.model import ModelReservations


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


class Books:
    """How far they are: what expired before `lapse` and is not booked, will not be."""

    lapse = NEVER


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture(params=["model", "redis"])
def reservations(request: pytest.FixtureRequest, clock: VirtualClock, books: Books) -> Reservations:
    """What the contract suite runs on: the fake, and the real one."""
    if request.param == "model":
        return ModelReservations(clock, lambda: books.lapse)
    return RedisReservations(request.getfixturevalue("redis"), clock=clock, lapse=lambda: books.lapse)


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    """A migrated database of the test's own."""
    async with Database(postgres_dsn) as made:
        await migrate(made)
        yield made


@pytest.fixture
def accounting_settings(
    redis_url: str, nats_url: str, nats_server: Nats, postgres_dsn: str, tmp_path: Path
) -> AccountingSettings:
    """Settings of a whole service on the real servers."""
    prices = tmp_path / "prices.toml"
    prices.write_text("".join(_PRICE.format(**price) for price in _PRICES))
    return settings(
        AccountingSettings,
        redis_url=redis_url,
        nats_url=nats_url,
        nats_monitor_url=nats_server.monitor_url,
        postgres_dsn=Secret(postgres_dsn.encode()),
        key_pepper=Secret(b"a pepper for tests, 32 bytes or more"),
        prices_file=prices,
        usage_max_bytes=16 * 1024 * 1024,
        start_wait_ms=5_000,
    )


_PRICES = ({"name": "small", "price": "0.10"}, {"name": "medium", "price": "0.20"}, {"name": "large", "price": "0.90"})
_PRICE = """
[[model]]
name = "{name}"
tier = "{name}"
fresh_input = {price}
cache_read = {price}
cache_write = {price}
output = {price}
reasoning = {price}
"""


@pytest.fixture
async def accounting(accounting_settings: AccountingSettings) -> AsyncIterator[Accounting]:
    """The whole service, running, with a stub for each of its services."""
    async with running("accounting", accounting_settings, build) as process, Accounting(process) as clients:
        yield clients


@pytest.fixture
async def frail(
    accounting_settings: AccountingSettings, redis_server: LocalRedis, postgres_server: Postgres, nats_server: Nats
) -> AsyncIterator[Frail]:
    async with (
        FaultProxy(redis_server.port) as redis,
        FaultProxy(postgres_server.port) as postgres,
        FaultProxy(nats_server.port) as nats,
    ):
        dsn = accounting_settings.postgres_dsn.reveal().decode()
        settings = replace(
            accounting_settings,
            redis_url=f"redis://{redis.address}/0",
            postgres_dsn=Secret(dsn.replace(str(postgres_server.port), str(postgres.port)).encode()),
            nats_url=f"nats://{nats.address}",
            redis_timeout_ms=200,
            statement_timeout_ms=500,
        )
        async with running("accounting", settings, build) as process, Accounting(process) as accounting:
            yield Frail(accounting, redis, postgres, nats)
