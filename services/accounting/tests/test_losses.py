"""Redis loses what it held: what is in flight is held again before anybody is admitted against a limit."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from farthing_accounting.adapters.redis.connection import connect
from farthing_accounting.adapters.redis.losses import Mine
from farthing_accounting.adapters.redis.reservations import RedisReservations
from farthing_accounting.domain.budgets import Limit
from farthing_accounting.domain.reservations import (
    NEVER,
    Answer,
    Closed,
    CountersMissing,
    Held,
    LedgerPosition,
    Obstacle,
    Quantity,
    Refused,
    Spent,
)
from farthing_kit.errors import StoreUnavailable
from farthing_kit.local import redis as local_redis
from farthing_kit.money import NanoUsd
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.usage import Tokens
from services.accounting.tests.builders import START, budget, extension, hold, limits, settlement

WINDOW_S = 3
LIMITS = limits(budget(money=NanoUsd(1_000), tokens=1_000, concurrency=3))
(LIMIT,) = LIMITS


@pytest.fixture
async def stores(redis: Redis, clock: VirtualClock) -> tuple[RedisReservations, RedisReservations]:
    """Two replicas, at work."""
    window = timedelta(seconds=WINDOW_S)
    one, other = (RedisReservations(redis, clock=clock, window=window) for _ in range(2))
    for store in (one, other):
        await store.look()
    await load(one)
    return one, other


async def load(store: RedisReservations, *wanted: Limit) -> None:
    """As app/loading does, with nothing spent in the ledger."""
    counters = [limit.counter for limit in wanted or LIMITS]
    missing = await store.standing("acme", counters)
    if isinstance(missing, CountersMissing):
        spent = tuple(Spent(counter, NanoUsd(0), Tokens(0)) for counter in missing.counters)
        assert await store.install("acme", missing.incarnation, LedgerPosition(0, spent))


async def reserve(store: RedisReservations, name: str, amount: int) -> Answer | Obstacle:
    answer = await store.reserve(hold(name, amount), LIMITS, 0)
    if isinstance(answer, CountersMissing):
        await load(store)
        answer = await store.reserve(hold(name, amount), LIMITS, 0)
    return answer


async def standing(store: RedisReservations) -> tuple[int, int, int]:
    await load(store)
    answer = await store.standing("acme", [LIMIT.counter])
    assert not isinstance(answer, CountersMissing)
    return answer[0].held, answer[0].held_tokens, answer[0].in_flight


async def recovering(call: Awaitable[object]) -> bool:
    with pytest.raises(StoreUnavailable) as caught:
        await call
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= WINDOW_S
    return caught.value.metadata == {"store": "redis", "cause": "Recovering"}


Stores = tuple[RedisReservations, RedisReservations]


async def test_what_every_replica_holds_is_back_before_a_limit_is_compared_with(
    stores: Stores, redis: Redis, clock: VirtualClock
) -> None:
    one, other = stores
    assert isinstance(await reserve(one, "r1", 400), Held)
    assert isinstance(await reserve(other, "r2", 500), Held)
    await redis.flushall()
    assert await recovering(reserve(one, "r3", 200))
    assert isinstance(await one.reserve(hold("free"), (), 0), Held)  # who has no limits needs none
    assert await recovering(reserve(other, "r3", 200))
    assert await other.look()
    await clock.advance(WINDOW_S)
    for store in stores:
        assert await reserve(store, "r3", 200) == Refused(LIMIT.counter, Quantity.MONEY, 0)
    assert await standing(one) == (1_000, 30, 3)


async def test_what_ended_does_not_come_back(stores: Stores, redis: Redis, clock: VirtualClock) -> None:
    one, _ = stores
    for name in ("r1", "r2", "r3"):
        await reserve(one, name, 100)
    await one.release("acme", "r1")
    await one.settle([settlement(1, "r2")])
    await redis.flushall()
    assert await one.look()
    assert not await one.look()
    assert await standing(one) == (100, 10, 1)


async def test_what_was_extended_and_what_awaits_its_booking_comes_back_as_it_was(
    stores: Stores, redis: Redis, clock: VirtualClock
) -> None:
    one, _ = stores
    await reserve(one, "expired", 100)
    await clock.advance(30)
    await reserve(one, "longer", 200)
    await one.extend(extension("longer", amount=50, tokens=5, time_to_live=timedelta(seconds=90)), LIMITS, 0)
    await clock.advance(31)
    await redis.flushall()
    await one.look()
    assert await standing(one) == (350, 25, 1)
    assert isinstance(await one.reserve(hold("expired", 100), LIMITS, 0), Closed)
    await one.settle([settlement(1, "longer"), settlement(2, "expired")])
    assert (await standing(one)) == (0, 0, 0)


async def test_a_loss_in_the_middle_of_the_way_back_is_mended_by_the_next_look(stores: Stores, redis: Redis) -> None:
    one, _ = stores
    await reserve(one, "r1", 100)
    for _ in range(3):
        await redis.flushall()
        assert await one.look()
        assert await standing(one) == (100, 10, 1)


async def test_a_restart_that_kept_the_data_refuses_nobody(tmp_path: Path, clock: VirtualClock) -> None:
    server = await local_redis.Redis(tmp_path / "state", log=tmp_path / "redis.log").start()
    try:
        async with connect(server.url, password=None, connections=4, timeout_s=5) as redis:
            store = RedisReservations(redis, clock=clock)
            await store.look()
            await load(store)
            await reserve(store, "r1", 100)
            await server.stop()
            await server.start()
            assert await store.look()
            assert isinstance(await reserve(store, "r2", 100), Held)
            assert await standing(store) == (200, 20, 2)
    finally:
        await server.stop()


async def test_a_replica_that_starts_at_an_empty_redis_refuses_nobody(redis: Redis, clock: VirtualClock) -> None:
    store = RedisReservations(redis, clock=clock)
    assert isinstance(await reserve(store, "r1", 100), Held)


def test_what_is_not_awaited_any_more_is_forgotten() -> None:
    mine = Mine()
    for number in range(10):
        mine.keep("acme", f"r{number}", START + timedelta(seconds=number), {"number": number}, NEVER)
    lapse = START + timedelta(seconds=8)
    assert [record["number"] for _, record in mine.awaited(lapse)] == [9]
    mine.keep("acme", "r9", START + timedelta(seconds=20), {"more": True}, lapse)
    assert list(mine.awaited(NEVER)) == [("acme", {"number": 9, "more": True})]
