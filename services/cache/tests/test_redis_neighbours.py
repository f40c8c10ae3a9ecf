"""A partition's log in a real Redis: what replicas read along."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from redis.asyncio import Redis

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis.answers import RedisAnswers
from farthing_cache.adapters.redis.client import RedisClient, connect
from farthing_cache.adapters.redis.neighbours import RedisNeighbours
from farthing_cache.domain.admission import Verdict
from farthing_cache.domain.answer import Answer, CacheKey, Epoch, Kept, Offer, Org
from farthing_cache.domain.neighbours import Place, narrow
from farthing_cache.domain.refresh import EarlyRefresh
from farthing_kit.breaker import Breaker
from farthing_kit.clock import SystemClock
from farthing_kit.usage import TokenUsage
from services.cache.tests.vectors import unit

ACME = Org("acme")
NAMES = KeyNames(b"a secret")
ENCODER = b"e" * 32
PLACE = Place.of(CacheKey(b"c" * 32, b""), ENCODER)
HOUR = timedelta(hours=1)
ANSWER = Answer("yes", TokenUsage(7, 1, 2, 3, 4), 2, "medium", "INT4", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[RedisClient]:
    redis = connect(redis_url, timeout_s=2.0, max_connections=4)
    async with RedisClient(redis, clock=SystemClock(), breaker=Breaker(3, 1.0), timeout_s=2.0) as client:
        yield client


async def keep(client: RedisClient, numbers: range, life: timedelta = HOUR, tier: int = 2) -> Epoch:
    answers = RedisAnswers(
        client, NAMES, longest_life=HOUR, lease_time_to_live=HOUR, max_leaders=3, refresh=EarlyRefresh(0, 1.0)
    )
    epoch = (await RedisNeighbours(client, NAMES).news(ACME, PLACE, "0", 0)).epoch
    for number in numbers:
        kept = Kept(ENCODER, unit(number).astype("<f4").tobytes(), b"profile")
        offer = Offer(replace(ANSWER, tier=tier), life, meaning=kept)
        verdict, _ = await answers.keep(ACME, key(number), offer, epoch)
        assert verdict is Verdict.KEPT
    return epoch


def key(number: int) -> CacheKey:
    return CacheKey(b"c" * 32, number.to_bytes(32, "big"))


async def test_what_was_kept_is_read_step_by_step_as_it_was_written(client: RedisClient) -> None:
    store = RedisNeighbours(client, NAMES)
    await keep(client, range(5))
    first = await store.news(ACME, PLACE, "0", 3)
    assert first.rows is not None
    assert not first.complete
    assert [first.rows.id(at) for at in range(3)] == [NAMES.entry_id(ACME, key(number)) for number in range(3)]
    assert np.array_equal(first.rows.vectors, np.stack([narrow(unit(number)) for number in range(3)]))
    assert np.all(np.abs(first.rows.ends_ms - (time.time() + HOUR.total_seconds()) * 1000) < 60_000)
    assert first.rows.tiers.tolist() == [2, 2, 2]
    assert np.all(first.rows.worth > 0)
    rest = await store.news(ACME, PLACE, first.read_to, 3)
    assert rest.rows is not None
    assert rest.complete
    assert rest.rows.id(1) == NAMES.entry_id(ACME, key(4))
    assert (await store.news(ACME, PLACE, rest.read_to, 3)).rows is None


async def test_an_entry_that_is_kept_again_and_again_has_few_rows(client: RedisClient) -> None:
    store = RedisNeighbours(client, NAMES)

    async def rows() -> int:
        news = await store.news(ACME, PLACE, "0", 1000)
        return len(news.rows) if news.rows is not None else 0

    for _ in range(30):
        await keep(client, range(1), HOUR / 2)
    assert await rows() == 1
    await keep(client, range(1), HOUR)  # it ends much later now
    assert await rows() == 2
    await keep(client, range(1), HOUR, tier=3)  # who needs a larger tier finds it too
    assert await rows() == 3
    await keep(client, range(1, 2))
    assert await rows() == 4


async def test_a_place_without_a_log_has_no_news(client: RedisClient) -> None:
    news = await RedisNeighbours(client, NAMES).news(ACME, PLACE, "0", 3)
    assert (news.last, news.read_to, news.rows, news.complete) == ("", "0", None, True)


async def test_who_asks_for_no_rows_hears_the_epoch_and_whether_there_are_any(client: RedisClient) -> None:
    epoch = await keep(client, range(2))
    news = await RedisNeighbours(client, NAMES).news(ACME, PLACE, "0", 0)
    assert (news.epoch, news.read_to, news.rows, news.complete) == (epoch, "0", None, False)


async def test_rows_that_something_else_wrote_are_left_out(client: RedisClient, redis_url: str) -> None:
    epoch = await keep(client, range(1))
    log = f"{NAMES.partition(ACME)}:{epoch}:{NAMES.vectors_suffix(ACME, PLACE.key, ENCODER)}"
    good: dict[str, str | bytes] = {"i": b"i" * 16, "v": narrow(unit(1)).tobytes(), "x": "1", "w": "0.5", "t": "1"}
    async with Redis.from_url(redis_url) as raw:
        for spoilt in ({"i": b"short"}, {"v": b"another dimension"}, {"v": b""}, {"x": "soon"}, {"w": ""}, {"t": "?"}):
            await raw.xadd(log, {**good, **spoilt})  # type: ignore[dict-item]
        await raw.xadd(log, {"something": "else"})
        await raw.xadd(log, good)  # type: ignore[arg-type]
    store = RedisNeighbours(client, NAMES)
    news = await store.news(ACME, PLACE, "0", 100)
    assert news.rows is not None
    assert len(news.rows) == 2
    assert news.rows.id(1) == b"i" * 16
    assert news.read_to == news.last
    assert news.complete
