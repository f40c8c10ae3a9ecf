"""What only the real Redis can show: atomicity, restarts, and that nothing stays for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from farthing_accounting.adapters.redis.connection import answers, takes_writes
from farthing_accounting.adapters.redis.guard import guarded
from farthing_accounting.adapters.redis.losses import MARK
from farthing_accounting.adapters.redis.reservations import Keep, RedisReservations
from farthing_accounting.domain.budgets import Limit
from farthing_accounting.domain.reservations import CountersMissing, Held, LedgerPosition, Refused, Spent, Standing
from farthing_accounting.domain.windows import Window
from farthing_kit.breaker import Breaker
from farthing_kit.errors import StoreUnavailable
from farthing_kit.local import redis as local_redis
from farthing_kit.money import NanoUsd
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.usage import Tokens
from services.accounting.tests.builders import (
    budget,
    extension,
    hold,
    key_scope,
    limits,
    org_scope,
    settlement,
    team_scope,
)

ADMITTED = 137
EVERYWHERE = limits(
    budget(org_scope(), Window.MONTH, money=NanoUsd(100 * 10_000)),
    budget(org_scope(), Window.DAY, money=NanoUsd(100 * ADMITTED + 99)),
    budget(team_scope(), Window.DAY, tokens=10 * 500),
    budget(key_scope(), Window.MINUTE, concurrency=800),
)


async def load(store: RedisReservations, wanted: tuple[Limit, ...]) -> None:
    missing = await store.standing("acme", [limit.counter for limit in wanted])
    assert isinstance(missing, CountersMissing)
    nothing = tuple(Spent(limit.counter, NanoUsd(0), Tokens(0)) for limit in wanted)
    assert await store.install("acme", missing.incarnation, LedgerPosition(0, nothing))


async def standing(store: RedisReservations) -> Standing:
    answer = await store.standing("acme", [EVERYWHERE[0].counter])
    assert not isinstance(answer, CountersMissing)
    return answer[0]


async def admitted_of(attempts: int, at_once: int, attempt: Callable[[int], Awaitable[bool]]) -> int:
    """How many of many attempts were admitted, so many at a time."""
    numbers = iter(range(attempts))

    async def worker() -> int:
        return sum([await attempt(number) for number in numbers])

    return sum(await asyncio.gather(*(worker() for _ in range(at_once))))


async def test_exactly_as_many_are_admitted_as_fit(redis_url: str, clock: VirtualClock) -> None:
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=200)
    async with Redis.from_pool(pool) as redis:
        store = RedisReservations(redis, clock=clock)
        await load(store, EVERYWHERE)

        async def reserve(number: int) -> bool:
            return isinstance(await store.reserve(hold(f"r{number}"), EVERYWHERE, 0), Held)

        assert await admitted_of(1_000, 200, reserve) == ADMITTED
        day = await standing(store)
        assert (day.held, day.in_flight) == (100 * ADMITTED, ADMITTED)


async def test_checking_and_then_counting_would_admit_more(redis_url: str) -> None:
    """Why it is one script: the same load against the obvious way to do it."""
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=200)
    async with Redis.from_pool(pool) as redis:

        async def naive(_: int) -> bool:
            held = int(await redis.get("naive") or 0)
            if held + 100 > 100 * ADMITTED:
                return False
            await redis.incrby("naive", 100)
            return True

        assert await admitted_of(1_000, 200, naive) > ADMITTED


async def test_the_time_of_the_server_ends_a_reservation(redis: Redis) -> None:
    expired: list[int] = []
    store = RedisReservations(redis, on_expired=expired.append)
    one = limits(budget(concurrency=1))
    await load(store, one)
    await store.reserve(hold("r1", time_to_live=timedelta(milliseconds=50)), one, 0)
    assert isinstance(await store.reserve(hold("r2"), one, 0), Refused)
    async with asyncio.timeout(5):
        while isinstance(await store.reserve(hold("r3"), one, 0), Refused):
            pass
    assert expired == [1]


async def test_every_key_ends_by_itself(redis: Redis) -> None:
    store = RedisReservations(redis)
    await load(store, EVERYWHERE)
    await store.reserve(hold("r1"), EVERYWHERE, 0)
    await store.reserve(hold("r2"), EVERYWHERE, 0)
    await store.settle([settlement(1), settlement(2, "")])
    await store.release("acme", "r2")
    await store.release("acme", "r3")
    await store.announce_limits("acme", 1)
    keys = await redis.keys("*")
    assert len(keys) > len(EVERYWHERE)
    for key in keys:
        assert await redis.pttl(key) > 0, key
        assert b"{acme}" in key or key == MARK.encode()
        assert b"ada" not in key


async def test_what_is_closed_is_remembered_for_a_while_only(redis: Redis) -> None:
    store = RedisReservations(redis, keep=Keep(closed=timedelta(milliseconds=20)))
    await store.reserve(hold("r1"), (), 0)
    await store.settle([settlement(1)])
    async with asyncio.timeout(5):
        while await redis.exists("acct:{acme}:x:r1", "acct:{acme}:s:1"):
            pass
    assert await redis.keys("acct:{acme}:h*") == []


async def test_after_a_restart_nothing_that_redis_kept_is_trusted(tmp_path: Path) -> None:
    """The append-only file may miss its last second: counters of another life of the server are loaded anew."""
    server = await local_redis.Redis(tmp_path / "state", log=tmp_path / "redis.log").start()
    try:
        async with Redis.from_url(server.url) as redis:
            store = RedisReservations(redis)
            await load(store, EVERYWHERE)
            await store.reserve(hold("r1"), EVERYWHERE, 0)
        await server.stop()
        await server.start()
        async with Redis.from_url(server.url) as redis:
            store = RedisReservations(redis)
            assert await redis.exists("acct:{acme}:r:r1")
            missing = await store.reserve(hold("r2"), EVERYWHERE, 0)
            assert isinstance(missing, CountersMissing)
            assert len(missing.counters) == len(EVERYWHERE)
            old = LedgerPosition(0, (Spent(missing.counters[0], NanoUsd(0), Tokens(0)),))
            assert not await store.install("acme", "another life", old)
            await load(store, EVERYWHERE)
            assert isinstance(await store.reserve(hold("r2"), EVERYWHERE, 0), Held)
            assert (await standing(store)).in_flight == 2
    finally:
        await server.stop()


async def test_without_redis_the_store_is_unavailable(redis_server: local_redis.Redis) -> None:
    from farthing_kit.local.process import free_port

    async with Redis.from_url(f"redis://127.0.0.1:{free_port()}/0") as nowhere:
        with pytest.raises(StoreUnavailable):
            await RedisReservations(nowhere).reserve(hold(), (), 0)


# --- memory

CLOSED = 10_000
# A trace and the mark of a settlement, by ids of 36 characters: see the README, which says what follows from it.
BYTES_OF_CLOSED = 450


async def test_what_is_closed_takes_little_memory(redis: Redis) -> None:
    store = RedisReservations(redis)
    await load(store, EVERYWHERE)
    before = await used(redis)
    for start in range(0, CLOSED, 100):
        names = [f"{number:036d}" for number in range(start, start + 100)]
        await asyncio.gather(*(store.reserve(hold(name, 0), (), 0) for name in names))
        await store.settle([settlement(start + i + 1, name) for i, name in enumerate(names)])
    assert await redis.dbsize() >= 2 * CLOSED
    assert (await used(redis) - before) / CLOSED < BYTES_OF_CLOSED


async def used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


@pytest.fixture
async def full(redis: Redis) -> AsyncIterator[Callable[[bool], Awaitable[None]]]:
    """Makes Redis full, and not full again."""
    limit = (await redis.config_get("maxmemory"))["maxmemory"] or "0"

    async def set_full(yes: bool) -> None:
        await redis.config_set("maxmemory", 1 if yes else limit)

    yield set_full
    await set_full(False)


async def test_a_full_redis_refuses_reservations_and_still_ends_them(
    redis: Redis, clock: VirtualClock, full: Callable[[bool], Awaitable[None]]
) -> None:
    store = RedisReservations(redis, clock=clock)
    await load(store, EVERYWHERE)
    for name in ("r1", "r2", "r3"):
        await store.reserve(hold(name), EVERYWHERE, 0)
    await full(True)
    for refused in (store.reserve(hold("r4"), EVERYWHERE, 0), store.extend(extension("r1"), EVERYWHERE, 0)):
        with pytest.raises(StoreUnavailable) as caught:
            await refused
        assert caught.value.metadata["cause"] == "OutOfMemoryError"
    assert (await standing(store)).held == 300
    assert await store.release("acme", "r1")
    await store.settle([settlement(1, "r2")])
    assert await store.find("acme", "r3") is not None
    await store.announce_limits("acme", 1)
    await clock.advance(61)
    day = await standing(store)
    assert (day.spent, day.held, day.in_flight) == (70, 100, 0)
    await full(False)
    assert isinstance(await store.reserve(hold("r4"), EVERYWHERE, 1), Held)


async def test_what_is_refused_for_want_of_memory_leaves_every_sum_as_it_was(
    redis: Redis, clock: VirtualClock, full: Callable[[bool], Awaitable[None]]
) -> None:
    """A script that stops halfway is not undone: it must not begin. Here r1 is due to expire when r2 is asked for."""
    store = RedisReservations(redis, clock=clock)
    await load(store, EVERYWHERE)
    await store.reserve(hold("r1"), EVERYWHERE, 0)
    await clock.advance(61)
    await full(True)
    with pytest.raises(StoreUnavailable):
        await store.reserve(hold("r2"), EVERYWHERE, 0)
    await full(False)
    await store.release("acme", "r1")
    day = await standing(store)
    assert (day.held, day.in_flight) == (0, 0)


async def test_health_tells_that_redis_is_full(
    redis: Redis, full: Callable[[bool], Awaitable[None]], clock: VirtualClock
) -> None:
    guard = guarded(Breaker(3, 0.5), clock, timeout_s=2.0)
    assert await takes_writes(redis, guard)
    await full(True)
    assert not await takes_writes(redis, guard)
    assert await answers(redis, guard)
