"""Fixtures: both kinds of reservations, a migrated database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.adapters.postgres.migrate import migrate
from farthing_accounting.adapters.redis.reservations import RedisReservations
from farthing_accounting.ports import Reservations
from farthing_kit.testing.clock import VirtualClock
from services.accounting.tests.model import ModelReservations


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=["model", "redis"])
def reservations(request: pytest.FixtureRequest, clock: VirtualClock) -> Reservations:
    """What the contract suite runs on: the fake, and the real one."""
    if request.param == "model":
        return ModelReservations(clock)
    return RedisReservations(request.getfixturevalue("redis"), clock=clock)


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    """A migrated database of the test's own."""
    async with Database(postgres_dsn) as made:
        await migrate(made)
        yield made
