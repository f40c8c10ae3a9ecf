"""A Redis that hangs costs a few calls their time, and then nobody's; a Redis that answers is never left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from farthing_accounting.adapters.redis.connection import answers, connect
from farthing_accounting.adapters.redis.guard import guarded
from farthing_accounting.adapters.redis.reservations import RedisReservations
from farthing_accounting.domain.reservations import Held
from farthing_kit.breaker import Breaker
from farthing_kit.errors import StoreUnavailable
from farthing_kit.local import redis as local_redis
from farthing_kit.store_guard import StoreGuard
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.testing.proxy import Direction, FaultProxy, Toxics
from farthing_kit.testing.waiting import until
from services.accounting.tests.builders import hold, settlement

FAILURES, PAUSE_S = 3, 0.5
SHORT_S, LONG_S = 0.05, 10.0


@dataclass
class Far:
    """Reservations in a Redis behind a proxy. The breaker goes by a clock that stands still."""

    redis: Redis
    proxy: FaultProxy
    clock: VirtualClock
    breaker: Breaker

    def guard(self, timeout_s: float) -> StoreGuard:
        return guarded(self.breaker, self.clock, timeout_s=timeout_s)

    def store(self, timeout_s: float) -> RedisReservations:
        return RedisReservations(self.redis, guard=self.guard(timeout_s))

    async def hang(self) -> None:
        """Redis hangs, and enough callers have noticed."""
        self.proxy.blackhole()
        causes = [await cause_of(self.store(SHORT_S)) for _ in range(FAILURES)]
        assert causes == ["TimeoutError"] * FAILURES


@pytest.fixture
async def far(redis_url: str, redis_server: local_redis.Redis, clock: VirtualClock) -> AsyncIterator[Far]:
    async with FaultProxy(redis_server.port) as proxy:
        url = redis_url.replace(str(redis_server.port), str(proxy.port))
        async with connect(url, password=None, connections=4, timeout_s=LONG_S) as redis:
            yield Far(redis, proxy, clock, Breaker(FAILURES, PAUSE_S))


async def reserved(store: RedisReservations, name: str = "r1") -> bool:
    return isinstance(await store.reserve(hold(name), (), 0), Held)


async def refusal(store: RedisReservations, name: str = "r1") -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        await store.reserve(hold(name), (), 0)
    return caught.value


async def cause_of(store: RedisReservations) -> str:
    return (await refusal(store)).metadata["cause"]


async def test_a_redis_that_hangs_is_left_alone_after_a_few_failures_and_tried_again(far: Far) -> None:
    store = far.store(LONG_S)
    assert await reserved(store)
    await far.hang()
    await far.clock.advance(PAUSE_S / 5)
    known = far.proxy.accepted
    for _ in range(10):
        error = await refusal(store)
        assert error.metadata == {"store": "redis", "cause": "BreakerOpen"}
        assert error.retry_after_s == pytest.approx(PAUSE_S * 4 / 5)
    assert far.proxy.accepted == known
    await far.clock.advance(PAUSE_S)
    assert await cause_of(far.store(SHORT_S)) == "TimeoutError"  # the one that looks whether it is over
    assert await cause_of(store) == "BreakerOpen"
    far.proxy.heal()
    await far.clock.advance(PAUSE_S)
    assert await reserved(store, "r2")
    assert await reserved(store, "r3")


async def test_new_connections_that_hang_are_no_reason_to_wait_longer(far: Far) -> None:
    store = far.store(SHORT_S)
    far.proxy.partition()
    assert [await cause_of(store) for _ in range(FAILURES + 1)] == ["TimeoutError"] * FAILURES + ["BreakerOpen"]
    far.proxy.heal()
    await far.clock.advance(PAUSE_S)
    assert await reserved(far.store(LONG_S))


async def test_a_refused_settlement_is_said_and_not_lost(far: Far) -> None:
    """Who settles keeps what was refused, and comes again."""
    store = far.store(LONG_S)
    await reserved(store)
    await far.hang()
    with pytest.raises(StoreUnavailable):
        await store.settle([settlement(1)])
    far.proxy.heal()
    await far.clock.advance(PAUSE_S)
    await store.settle([settlement(1)], recount=True)
    assert not await store.release("acme", "r1")


async def test_what_a_reserve_may_have_left_is_given_back_by_a_release_behind_it(far: Far, redis: Redis) -> None:
    """Redis stalls for longer than a step may take, and goes on before the release has given up."""
    await reserved(far.store(LONG_S))
    far.breaker.threshold = 1
    far.proxy.partition(Direction.UP)
    error = await refusal(far.store(SHORT_S), "late")
    assert error.metadata == {"store": "redis", "cause": "TimeoutError", "outcome": "unknown"}
    release = asyncio.ensure_future(far.store(LONG_S).release("acme", "late"))
    await far.clock.advance(0)  # it is under way
    assert not release.done()
    far.proxy.heal()
    assert await release
    await until(lambda: far.proxy.connections == 1)  # what came late has passed
    assert await is_released(redis, "late")


async def is_released(redis: Redis, name: str) -> bool:
    return bool(await redis.get(f"acct:{{acme}}:x:{name}") == b"1")


async def test_what_redis_refuses_does_not_open_the_breaker(far: Far, redis: Redis) -> None:
    store = far.store(LONG_S)
    limit = (await redis.config_get("maxmemory"))["maxmemory"] or "0"
    await redis.config_set("maxmemory", 1)
    try:
        assert [await cause_of(store) for _ in range(2 * FAILURES)] == ["OutOfMemoryError"] * 2 * FAILURES
    finally:
        await redis.config_set("maxmemory", limit)
    assert await reserved(store)


async def test_an_answer_of_any_kind_ends_the_failures_in_a_row(far: Far, redis: Redis) -> None:
    far.breaker.threshold = 2
    far.proxy.blackhole()
    assert await cause_of(far.store(SHORT_S)) == "TimeoutError"
    far.proxy.heal()
    await redis.set("acct:{acme}:meta", "no hash")
    assert await cause_of(far.store(LONG_S)) != "BreakerOpen"
    await redis.delete("acct:{acme}:meta")
    far.proxy.blackhole()
    assert await cause_of(far.store(SHORT_S)) == "TimeoutError"
    far.proxy.heal()
    assert await reserved(far.store(LONG_S))


async def test_callers_with_little_time_do_not_open_the_breaker(far: Far) -> None:
    store = far.store(LONG_S)
    far.proxy.poison(Toxics(latency_ms=10 * SHORT_S * 1000))
    for _ in range(2 * FAILURES):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT_S):
                await store.reserve(hold(), (), 0)
    far.proxy.heal()
    assert await reserved(store)


async def test_a_try_that_its_caller_gave_up_on_closes_nothing(far: Far) -> None:
    store = far.store(LONG_S)
    await far.hang()
    await far.clock.advance(PAUSE_S)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT_S):
            await store.reserve(hold(), (), 0)
    assert await cause_of(store) == "BreakerOpen"


async def test_a_guard_knows_whether_redis_is_left_alone(far: Far) -> None:
    guard = far.guard(LONG_S)
    assert not guard.open
    await far.hang()
    assert guard.open
    far.proxy.heal()
    assert await answers(far.redis, guard)
    assert not guard.open


async def test_health_asks_redis_also_while_it_is_left_alone(far: Far) -> None:
    store = far.store(LONG_S)
    await far.hang()
    assert not await answers(far.redis, far.guard(SHORT_S))
    assert await cause_of(store) == "BreakerOpen"
    far.proxy.heal()
    assert await answers(far.redis, far.guard(LONG_S))
    assert await reserved(store)
