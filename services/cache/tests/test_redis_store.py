"""What only a real Redis can show: lost epochs, full memory, outages, and what a reader of the store sees."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis.answers import RedisAnswers
from farthing_cache.adapters.redis.client import RedisClient, connect
from farthing_cache.adapters.redis.hitlog import RedisLog
from farthing_cache.domain.admission import Verdict
from farthing_cache.domain.answer import Answer, CacheKey, Entry, Epoch, Extent, Offer, Org, Wanted
from farthing_cache.domain.hitlog import Event, Record
from farthing_cache.domain.refresh import EarlyRefresh
from farthing_cache.ports import Claiming
from farthing_kit.breaker import Breaker
from farthing_kit.clock import SystemClock
from farthing_kit.errors import StoreUnavailable
from farthing_kit.local.redis import CACHE
from farthing_kit.local.redis import Redis as RedisServer
from farthing_kit.testing.proxy import Direction, FaultProxy, Toxics
from farthing_kit.testing.waiting import until
from farthing_kit.usage import TokenUsage

ACME = Org("acme")
KEY = CacheKey(b"c" * 32, b"p" * 32)
MINUTE = timedelta(minutes=1)
ANSWER = Answer("a canary text", TokenUsage(7, output=3), 1, "small", "INT4", datetime(2026, 1, 1, tzinfo=UTC))
NAMES = KeyNames(b"a secret")


class Store:
    """The store of answers over a client of its own."""

    def __init__(self, client: RedisClient, refresh: EarlyRefresh) -> None:
        self.client = client
        self.answers = RedisAnswers(
            client,
            NAMES,
            longest_life=timedelta(days=1),
            lease_time_to_live=timedelta(seconds=3),
            max_leaders=3,
            refresh=refresh,
        )

    async def __aenter__(self) -> "Store":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.client.__aexit__()

    async def find(self, org: Org, key: CacheKey) -> tuple[Epoch, Entry | None]:
        found = await self.answers.find(org, key, Wanted())
        return found.epoch, found.entry

    async def keep(
        self, org: Org, key: CacheKey, answer: Answer, epoch: Epoch, life: timedelta, **more: Any
    ) -> Verdict:
        return (await self.answers.keep(org, key, Offer(answer, life, **more), epoch))[0]

    async def measure(self) -> bool:
        return await self.client.measure()


def make(url: str, timeout_s: float = 1.0, *, hot_hits: int = 0, **options: Any) -> Store:
    redis = connect(url, timeout_s=timeout_s, max_connections=4)
    options.setdefault("breaker", Breaker(3, 60.0))
    return Store(RedisClient(redis, clock=SystemClock(), timeout_s=timeout_s, **options), EarlyRefresh(hot_hits, 1.0))


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


async def test_a_lost_epoch_never_brings_old_answers_back(redis_url: str, raw: Redis) -> None:
    async with make(redis_url) as store:
        epoch, _ = await store.find(ACME, KEY)
        await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
        await raw.delete(NAMES.state(ACME))
        later, entry = await store.find(ACME, KEY)
        assert entry is None
        assert later > epoch


async def test_a_value_that_is_no_answer_is_a_miss(redis_url: str, raw: Redis) -> None:
    async with make(redis_url) as store:
        epoch, _ = await store.find(ACME, KEY)
        await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
        await raw.hset(f"{NAMES.partition(ACME)}:{epoch}:{NAMES.entry_suffix(ACME, KEY)}", "a", b"\xff\xff\xff")
        assert (await store.find(ACME, KEY))[1] is None


async def test_a_value_of_another_type_is_a_miss_and_written_over(redis_url: str, raw: Redis) -> None:
    async with make(redis_url) as store:
        epoch, _ = await store.find(ACME, KEY)
        await raw.set(f"{NAMES.partition(ACME)}:{epoch}:{NAMES.entry_suffix(ACME, KEY)}", b"text", px=60_000)
        assert (await store.find(ACME, KEY))[1] is None
        assert await store.keep(ACME, KEY, ANSWER, epoch, MINUTE) is Verdict.KEPT


async def test_nothing_in_redis_names_the_tenant_and_every_entry_expires(redis_url: str, raw: Redis) -> None:
    async with make(redis_url) as store:
        epoch, _ = await store.find(ACME, KEY)
        await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
        await store.answers.forget(ACME, Extent(tags=("canary",)), "canary-key")
        names = [name async for name in raw.scan_iter()]
        assert len(names) == 4
        for name in names:
            assert b"acme" not in name
            assert b"canary" not in name
            assert name.endswith(b":state") or 0 < await raw.pttl(name) <= 24 * 3600 * 1000


async def test_a_full_redis_stores_nothing_and_still_answers(redis_url: str, raw: Redis) -> None:
    async with make(redis_url, memory_share=0.0) as store:
        epoch, _ = await store.find(ACME, KEY)
        assert await store.measure()
        assert await store.keep(ACME, KEY, ANSWER, epoch, MINUTE) is Verdict.NO_ROOM
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
        assert await store.keep(ACME, KEY, ANSWER, epoch, MINUTE) is Verdict.KEPT


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


@asynccontextmanager
async def claimed_unheard(redis_url: str, spoil: Callable[[FaultProxy], None]) -> AsyncIterator[FaultProxy]:
    """A look-up claims through a proxy that is spoilt, and its time is up; what it claimed is being given back."""
    port = int(redis_url.rsplit(":", 1)[1].split("/")[0])
    async with FaultProxy(port) as proxy, make(f"redis://{proxy.address}/0", 0.1, breaker=Breaker(100, 0.0)) as store:
        await store.answers.find(ACME, KEY, Wanted())
        spoil(proxy)
        with pytest.raises(StoreUnavailable):
            await store.answers.find(ACME, KEY, Wanted(), Claiming(b"lost", 0.0))
        giving = asyncio.create_task(store.answers.unheard.give_back(SystemClock()))
        yield proxy
        giving.cancel()


async def leads(store: Store) -> bool:
    claim = (await store.answers.find(ACME, KEY, Wanted(), Claiming(b"next", 0.0))).claim
    return claim is not None and claim.lease is not None


@pytest.mark.parametrize("lost", [Direction.UP, Direction.DOWN])
async def test_a_claim_that_nobody_heard_of_keeps_nobody_waiting(redis_url: str, lost: Direction) -> None:
    async with make(redis_url) as direct, claimed_unheard(redis_url, lambda proxy: proxy.partition(lost)) as proxy:
        proxy.heal()
        await until(lambda: leads(direct), timeout_s=2.0)  # less than a lease


async def test_a_claim_that_comes_after_it_was_given_back_claims_nothing(redis_url: str, raw: Redis) -> None:
    def delay(proxy: FaultProxy) -> None:
        proxy.poison(Toxics(latency_ms=500), Direction.UP)

    async def given_back() -> bool:
        return bool(await raw.exists(NAMES.void(ACME, b"lost")))

    async with make(redis_url) as direct, claimed_unheard(redis_url, delay) as proxy:
        proxy.heal()
        await until(given_back)
        await until(lambda: proxy.connections == 1)  # the late one has delivered what it held, and ended
        assert await leads(direct)


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
        client = RedisClient(redis, clock=SystemClock(), breaker=Breaker(3, 60.0), timeout_s=1.0)
        async with Store(client, EarlyRefresh(0, 1.0)) as store:
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


async def test_a_full_cache_makes_room_by_what_avoids_least_per_byte(redis_url: str) -> None:
    keys = [CacheKey(b"c" * 32, bytes([number]) * 32) for number in range(4)]
    async with make(redis_url, memory_share=0.0) as store:
        epoch, _ = await store.find(ACME, KEY)
        for number, key in enumerate(keys[:3]):
            await store.keep(ACME, key, ANSWER, epoch, MINUTE, cost_nano_usd=1000 * (number + 1))
        for _ in range(5):
            assert (await store.find(ACME, keys[0]))[1] is not None
        assert await store.measure()
        assert await store.keep(ACME, keys[3], ANSWER, epoch, MINUTE, cost_nano_usd=10) is Verdict.NO_ROOM
        assert await store.keep(ACME, keys[3], ANSWER, epoch, MINUTE, cost_nano_usd=2500) is Verdict.KEPT
        kept = [(await store.find(ACME, key))[1] is not None for key in keys]
        assert kept == [True, False, True, True]


async def test_a_full_redis_serves_hits_though_it_counts_none(redis_url: str, raw: Redis) -> None:
    async with make(redis_url) as store:
        epoch, _ = await store.find(ACME, KEY)
        await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
        limit = (await raw.config_get("maxmemory"))["maxmemory"] or "0"
        await raw.config_set("maxmemory", 1)
        try:
            assert (await store.find(ACME, KEY))[1] is not None
            missed = await store.answers.find(ACME, CacheKey(b"c" * 32, b"x" * 32), Wanted(), Claiming(b"t", 0.0))
            assert (missed.entry, missed.claim) == (None, None)
        finally:
            await raw.config_set("maxmemory", limit)


async def test_a_hot_answer_is_renewed_by_one_caller_before_it_ends(redis_url: str) -> None:
    async with make(redis_url, hot_hits=2) as store:
        epoch, _ = await store.find(ACME, KEY)
        await store.keep(ACME, KEY, ANSWER, epoch, MINUTE, took=timedelta(seconds=30))
        early = Claiming(b"one", 3.0)
        assert (await store.answers.find(ACME, KEY, Wanted(), early)).claim is None  # not hot yet
        assert (await store.answers.find(ACME, KEY, Wanted(), Claiming(b"one", 0.5))).claim is None  # not near its end
        first = await store.answers.find(ACME, KEY, Wanted(), early)
        second = await store.answers.find(ACME, KEY, Wanted(), Claiming(b"two", 3.0))
        assert first.entry is not None
        assert first.claim is not None
        assert first.claim.lease is not None
        assert second.entry is not None
        assert second.claim is not None
        assert second.claim.lease is None


async def test_clock_skew_of_a_replica_changes_no_life_and_no_age(redis_url: str) -> None:
    """Lives and ages are of Redis's clock: what a replica's clock says plays no part after storing."""
    async with make(redis_url) as store:
        epoch, _ = await store.find(ACME, KEY)
        ahead = replace(ANSWER, created_at=datetime(2099, 1, 1, tzinfo=UTC))
        await store.keep(ACME, KEY, ahead, epoch, MINUTE)
        _, entry = await store.find(ACME, KEY)
        assert entry is not None
        assert entry.age < timedelta(seconds=30)
        assert entry.time_to_live <= MINUTE


def recorded(number: int) -> Record:
    return Record(Event.MISS, number, number.to_bytes(8, "big"), b"place   ")


@pytest.mark.parametrize("each", [1, 50, 3000])
async def test_the_log_of_an_organisation_is_bounded_in_bytes_and_keeps_the_newest(
    redis_url: str, raw: Redis, each: int
) -> None:
    limit, writes = 128 * 1024, 1_500 if each == 1 else 6_000 // each
    async with make(redis_url, timeout_s=5.0) as store:
        log = RedisLog(store.client, NAMES, limit_bytes=limit)
        for start in range(0, writes * each, each):
            await log.append(ACME, [recorded(start + number) for number in range(each)], dropped=int(start == 0))
        records, _ = await log.read(ACME, 0)
        last = writes * each - 1
        assert [record.at_ms for record in records] == list(range(last - len(records) + 1, last + 1))
        assert (await raw.memory_usage(NAMES.log(ACME), samples=0) or 0) <= 1.25 * limit
        kept = len(records) * 63
        assert kept >= (0.4 if each == 1 else 0.7) * limit


async def test_what_was_dropped_is_told_also_where_nothing_was_recorded(redis_url: str) -> None:
    async with make(redis_url, timeout_s=5.0) as store:
        log = RedisLog(store.client, NAMES, limit_bytes=128 * 1024)
        await log.append(ACME, [], dropped=7)
        await log.append(ACME, [recorded(1)] * 1000, dropped=2)
        records, dropped = await log.read(ACME, 0)
        assert (len(records), dropped) == (1000, 9)


async def test_a_redis_that_is_full_of_answers_forgets_all_the_same(tmp_path: Path) -> None:
    server = await RedisServer(tmp_path / "redis", log=tmp_path / "redis.log", durable=False, config=CACHE).start()
    try:
        async with make(server.url, timeout_s=5.0) as store, Redis.from_url(server.url) as raw:
            memory = await raw.info("memory")
            await raw.config_set("maxmemory", memory["used_memory"] + 4 * 1024 * 1024)
            epoch, _ = await store.find(ACME, KEY)
            large = replace(ANSWER, text=random.Random(1).randbytes(25_000).hex())
            keys = [replace(KEY, prompt=number.to_bytes(32, "big")) for number in range(200)]
            for key in keys:
                assert await store.keep(ACME, key, large, epoch, MINUTE, tags=("docs",)) is Verdict.KEPT
            assert (await raw.info("stats"))["evicted_keys"] > 0
            assert (await store.find(ACME, keys[-1]))[1] is not None
            assert await store.answers.forget(ACME, Extent(tags=("docs",)), "i1") == epoch  # the state is still there
            assert (await store.find(ACME, keys[-1]))[1] is None
    finally:
        await server.stop()
