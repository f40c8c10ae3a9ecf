"""What every AnswerStore promises: the one in memory and the one in a real Redis pass the same tests."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis_store import RedisStore, connect
from farthing_cache.domain.answer import Answer, CacheKey, Epoch, Org
from farthing_cache.domain.breaker import Breaker
from farthing_cache.ports import AnswerStore
from farthing_kit.clock import SystemClock
from farthing_kit.usage import TokenUsage
from services.cache.tests.fakes import MemoryStore

ACME, BETA = Org("acme"), Org("beta")
KEY = CacheKey(b"c" * 32, b"p" * 32)
MINUTE = timedelta(minutes=1)
ANSWER = Answer(
    "forty-two: ☃", TokenUsage(7, 1, 2, 3, 4), 2, "medium", "INT4", datetime(2026, 1, 1, 12, 0, 0, 123000, tzinfo=UTC)
)


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[AnswerStore]:
    if request.param == "memory":
        yield MemoryStore(SystemClock())
        return
    redis = connect(request.getfixturevalue("redis_url"), timeout_s=2.0, max_connections=4)
    names = KeyNames(b"a secret")
    async with RedisStore(redis, names, clock=SystemClock(), breaker=Breaker(3, 1.0), timeout_s=2.0) as made:
        yield made


async def test_an_empty_partition_has_an_epoch_and_no_entry(store: AnswerStore) -> None:
    epoch, entry = await store.find(ACME, KEY)
    assert epoch > 0
    assert entry is None
    assert (await store.find(ACME, KEY))[0] == epoch


async def test_what_was_kept_comes_back_whole_with_the_life_it_has_left(store: AnswerStore) -> None:
    epoch, _ = await store.find(ACME, KEY)
    assert await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
    _, entry = await store.find(ACME, KEY)
    assert entry is not None
    assert entry.answer == ANSWER
    assert timedelta(seconds=50) < entry.time_to_live <= MINUTE


@pytest.mark.parametrize("other", [CacheKey(b"C" * 32, b"p" * 32), CacheKey(b"c" * 32, b"P" * 32)])
async def test_each_half_of_the_key_counts(store: AnswerStore, other: CacheKey) -> None:
    epoch, _ = await store.find(ACME, KEY)
    await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
    assert (await store.find(ACME, other))[1] is None


async def test_no_organisation_reaches_into_another_partition(store: AnswerStore) -> None:
    epoch, _ = await store.find(ACME, KEY)
    await store.find(BETA, KEY)
    await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
    assert (await store.find(BETA, KEY))[1] is None


async def test_forgetting_a_partition_leaves_the_others_alone(store: AnswerStore) -> None:
    for org in (ACME, BETA):
        epoch, _ = await store.find(org, KEY)
        await store.keep(org, KEY, ANSWER, epoch, MINUTE)
    before, _ = await store.find(ACME, KEY)
    after = await store.forget(ACME, "i1")
    assert after > before
    assert await store.find(ACME, KEY) == (after, None)
    assert (await store.find(BETA, KEY))[1] is not None


async def test_forgetting_twice_with_one_key_is_forgetting_once(store: AnswerStore) -> None:
    first = await store.forget(ACME, "i1")
    assert await store.forget(ACME, "i1") == first
    assert await store.forget(ACME, "i2") > first
    assert await store.forget(BETA, "i1") > 0


async def test_an_answer_of_an_older_epoch_is_not_kept(store: AnswerStore) -> None:
    epoch, _ = await store.find(ACME, KEY)
    await store.forget(ACME, "i1")
    assert not await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
    assert (await store.find(ACME, KEY))[1] is None


@pytest.mark.parametrize("epoch", [0, 1, 2**62])
async def test_an_answer_of_an_invented_epoch_is_not_kept(store: AnswerStore, epoch: int) -> None:
    await store.find(ACME, KEY)
    assert not await store.keep(ACME, KEY, ANSWER, Epoch(epoch), MINUTE)


async def test_an_answer_is_gone_when_its_life_is_over(store: AnswerStore) -> None:
    epoch, _ = await store.find(ACME, KEY)
    await store.keep(ACME, KEY, ANSWER, epoch, timedelta(milliseconds=1))
    while (await store.find(ACME, KEY))[1] is not None:
        pass


async def test_keeping_again_renews(store: AnswerStore) -> None:
    epoch, _ = await store.find(ACME, KEY)
    await store.keep(ACME, KEY, ANSWER, epoch, timedelta(seconds=5))
    await store.keep(ACME, KEY, ANSWER, epoch, MINUTE)
    _, entry = await store.find(ACME, KEY)
    assert entry is not None
    assert entry.time_to_live > timedelta(seconds=50)
