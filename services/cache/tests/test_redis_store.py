"""What only a real Redis can show: lost epochs, full memory, outages, and what a reader of the store sees."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis_store import RedisStore, connect
from farthing_cache.domain.answer import Answer, CacheKey, Org
from farthing_cache.domain.breaker import Breaker
from farthing_kit.clock import SystemClock
from farthing_kit.errors import StoreUnavailable
from farthing_kit.testing.proxy import FaultProxy, Toxics
from farthing_kit.usage import TokenUsage

ACME = Org("acme")
KEY = CacheKey(b"c" * 32, b"p" * 32)
MINUTE = timedelta(minutes=1)
ANSWER = Answer("a canary text", TokenUsage(7, output=3), 1, "small", "INT4", datetime(2026, 1, 1, tzinfo=UTC))
NAMES = KeyNames(b"a secret")


def make(url: str, timeout_s: float = 1.0, **options: Any) -> RedisStore:
    redis = connect(url, timeout_s=timeout_s, max_connections=4)
    options.setdefault("breaker", Breaker(3, 60.0))
    return RedisStore(redis, NAMES, clock=SystemClock(), timeout_s=timeout_s, **options)


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


async def test_a_lost_epoch_never_brings_old_answers_back(redis_url: str, raw: Redis) -> None:
    async with make(redis_url) as store:
        epoch, _ = await store.find(ACME, KEY)
        await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
        await raw.delete(NAMES.epoch(ACME))
        later, entry = await store.find(ACME, KEY)
        assert entry is None
        assert later > epoch


async def test_a_value_that_is_no_answer_is_a_miss(redis_url: str, raw: Redis) -> None:
    async with make(redis_url) as store:
        epoch, _ = await store.find(ACME, KEY)
        await raw.set(f"{NAMES.partition(ACME)}:{epoch}:{NAMES.entry_suffix(ACME, KEY)}", b"\xff\xff\xff", px=60_000)
        assert (await store.find(ACME, KEY))[1] is None


async def test_nothing_in_redis_names_the_tenant_and_every_entry_expires(redis_url: str, raw: Redis) -> None:
    async with make(redis_url) as store:
        epoch, _ = await store.find(ACME, KEY)
        await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
        await store.forget(ACME, "canary-key")
        names = [name async for name in raw.scan_iter()]
        assert len(names) == 3
        for name in names:
            assert b"acme" not in name
            assert b"canary" not in name
            assert name.endswith(b":epoch") or 0 < await raw.pttl(name) <= 24 * 3600 * 1000


async def test_a_full_redis_stores_nothing_and_still_answers(redis_url: str, raw: Redis) -> None:
    async with make(redis_url, memory_share=0.0) as store:
        epoch, _ = await store.find(ACME, KEY)
        assert await store.measure()
        assert not await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
        assert (await store.find(ACME, KEY))[0] == epoch


async def test_a_redis_that_refuses_writes_does_not_open_the_breaker(redis_url: str, raw: Redis) -> None:
    async with make(redis_url, breaker=Breaker(1, 60.0)) as store:
        epoch, _ = await store.find(ACME, KEY)
        limit = (await raw.config_get("maxmemory"))["maxmemory"] or "0"
        await raw.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreUnavailable):
                await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
        finally:
            await raw.config_set("maxmemory", limit)
        assert await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)


async def test_a_redis_that_hangs_costs_one_timeout_and_then_nothing(redis_url: str) -> None:
    port = int(redis_url.rsplit(":", 1)[1].split("/")[0])
    async with FaultProxy(port) as proxy, make(f"redis://{proxy.address}/0", 0.05, breaker=Breaker(1, 60.0)) as store:
        await store.find(ACME, KEY)
        proxy.blackhole()
        with pytest.raises(StoreUnavailable):
            await store.find(ACME, KEY)
        started = time.perf_counter()
        with pytest.raises(StoreUnavailable) as refused:
            await store.find(ACME, KEY)
        assert time.perf_counter() - started < 0.01
        assert refused.value.retry_after_s is not None
        assert refused.value.retry_after_s > 50


async def test_an_answer_that_comes_too_late_is_never_taken_for_anothers(redis_url: str) -> None:
    port = int(redis_url.rsplit(":", 1)[1].split("/")[0])
    other = CacheKey(b"d" * 32, b"q" * 32)
    async with make(redis_url) as direct:
        epoch, _ = await direct.find(ACME, KEY)
        await direct.keep(ACME, KEY, ANSWER, epoch, MINUTE)
    async with FaultProxy(port) as proxy, make(f"redis://{proxy.address}/0", 0.2, breaker=Breaker(100, 0.0)) as store:
        await store.find(ACME, other)
        proxy.poison(Toxics(latency_ms=400))
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.find(ACME, KEY)
        proxy.heal()
        async with asyncio.timeout(10):
            while (found := await asyncio.gather(store.find(ACME, other), return_exceptions=True))[0] != (epoch, None):
                assert isinstance(found[0], StoreUnavailable)


async def test_a_redis_that_came_back_is_used_again(redis_url: str) -> None:
    port = int(redis_url.rsplit(":", 1)[1].split("/")[0])
    async with FaultProxy(port) as proxy, make(f"redis://{proxy.address}/0", breaker=Breaker(1, 0.0)) as store:
        epoch, _ = await store.find(ACME, KEY)
        proxy.down()
        with pytest.raises(StoreUnavailable):
            await store.find(ACME, KEY)
        assert not await store.measure()
        proxy.heal()
        assert (await store.find(ACME, KEY))[0] == epoch


async def test_a_password_is_shown_to_redis(redis_url: str, raw: Redis) -> None:
    await raw.config_set("requirepass", "a-password")
    try:
        redis = connect(redis_url, timeout_s=1.0, max_connections=1, password="a-password")
        async with RedisStore(redis, NAMES, clock=SystemClock(), breaker=Breaker(3, 60.0), timeout_s=1.0) as store:
            assert (await store.find(ACME, KEY))[1] is None
        async with make(redis_url) as stranger:
            with pytest.raises(StoreUnavailable):
                await stranger.find(ACME, KEY)
    finally:
        await raw.config_set("requirepass", "")


async def test_an_error_of_the_store_quotes_nothing(redis_url: str) -> None:
    async with make("redis://127.0.0.1:1/0") as store:
        with pytest.raises(StoreUnavailable) as error:
            await store.find(ACME, KEY)
        assert "127.0.0.1" not in error.value.message
        assert error.value.__cause__ is None
