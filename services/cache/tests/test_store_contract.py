"""What every AnswerStore promises: the one in memory and the one in a real Redis pass the same tests."""

from collections.abc import AsyncIterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis.answers import RedisAnswers
from farthing_cache.adapters.redis.client import RedisClient, connect
from farthing_cache.domain.admission import Verdict
from farthing_cache.domain.answer import Answer, CacheKey, Entry, Epoch, Extent, Mark, Offer, Org, Wanted
from farthing_cache.domain.errors import IdempotencyMismatch
from farthing_cache.domain.refresh import EarlyRefresh
from farthing_cache.ports import AnswerStore, Claiming
from farthing_kit.breaker import Breaker
from farthing_kit.clock import SystemClock
from farthing_kit.testing.waiting import until
from farthing_kit.usage import TokenUsage
from services.cache.tests.fakes import MemoryStore

ACME, BETA = Org("acme"), Org("beta")
KEY = CacheKey(b"c" * 32, b"p" * 32)
MINUTE = timedelta(minutes=1)
ANY = Wanted()
EXTENTS = [Extent(tags=("docs", "other")), Extent(model="medium"), Extent("medium", ("docs",))]
ANSWER = Answer(
    "forty-two: ☃", TokenUsage(7, 1, 2, 3, 4), 2, "medium", "INT4", datetime(2026, 1, 1, 12, 0, 0, 123000, tzinfo=UTC)
)


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[AnswerStore]:
    if request.param == "memory":
        yield MemoryStore(SystemClock())
        return
    redis = connect(redis_url, timeout_s=2.0, max_connections=4)
    async with RedisClient(redis, clock=SystemClock(), breaker=Breaker(3, 1.0), timeout_s=2.0) as client:
        yield RedisAnswers(
            client,
            KeyNames(b"a secret"),
            longest_life=timedelta(days=1),
            lease_time_to_live=timedelta(seconds=3),
            max_leaders=3,
            refresh=EarlyRefresh(2, 1.0),
        )


async def find(store: AnswerStore, org: Org, key: CacheKey, wanted: Wanted = ANY) -> tuple[Epoch, Entry | None]:
    found = await store.find(org, key, wanted)
    return found.epoch, found.entry


async def keep(
    store: AnswerStore, org: Org, key: CacheKey, answer: Answer, epoch: Epoch, life: timedelta, **more: Any
) -> bool:
    return (await store.keep(org, key, Offer(answer, life, **more), epoch))[0] is Verdict.KEPT


async def test_an_empty_partition_has_an_epoch_and_no_entry(store: AnswerStore) -> None:
    epoch, entry = await find(store, ACME, KEY)
    assert epoch > 0
    assert entry is None
    assert (await find(store, ACME, KEY))[0] == epoch


async def test_what_was_kept_comes_back_whole_with_the_life_it_has_left(store: AnswerStore) -> None:
    epoch, _ = await find(store, ACME, KEY)
    assert await keep(store, ACME, KEY, ANSWER, epoch, MINUTE)
    _, entry = await find(store, ACME, KEY)
    assert entry is not None
    assert entry.answer == ANSWER
    assert timedelta(seconds=50) < entry.time_to_live <= MINUTE


@pytest.mark.parametrize("other", [CacheKey(b"C" * 32, b"p" * 32), CacheKey(b"c" * 32, b"P" * 32)])
async def test_each_half_of_the_key_counts(store: AnswerStore, other: CacheKey) -> None:
    epoch, _ = await find(store, ACME, KEY)
    await keep(store, ACME, KEY, ANSWER, epoch, MINUTE)
    assert (await find(store, ACME, other))[1] is None


async def test_no_organisation_reaches_into_another_partition(store: AnswerStore) -> None:
    epoch, _ = await find(store, ACME, KEY)
    await find(store, BETA, KEY)
    await keep(store, ACME, KEY, ANSWER, epoch, MINUTE)
    assert (await find(store, BETA, KEY))[1] is None


async def test_forgetting_a_partition_leaves_the_others_alone(store: AnswerStore) -> None:
    for org in (ACME, BETA):
        epoch, _ = await find(store, org, KEY)
        await keep(store, org, KEY, ANSWER, epoch, MINUTE)
    before, _ = await find(store, ACME, KEY)
    after = await store.forget(ACME, Extent(), "i1")
    assert after > before
    assert await find(store, ACME, KEY) == (after, None)
    assert (await find(store, BETA, KEY))[1] is not None


async def test_forgetting_twice_with_one_key_is_forgetting_once(store: AnswerStore) -> None:
    first = await store.forget(ACME, Extent(), "i1")
    assert await store.forget(ACME, Extent(), "i1") == first
    assert await store.forget(ACME, Extent(), "i2") > first
    assert await store.forget(BETA, Extent(), "i1") > 0


@pytest.mark.parametrize("extent", [*EXTENTS, Extent()])
@pytest.mark.parametrize("other", [Extent(), Extent("small"), Extent(tags=("b",)), Extent("small", ("a", "c"))])
async def test_a_key_that_was_used_to_forget_something_else_forgets_nothing(
    store: AnswerStore, extent: Extent, other: Extent
) -> None:
    if extent == other:
        return
    first = await store.forget(ACME, extent, "i1")
    found = await store.find(ACME, KEY, ANY)
    await keep(store, ACME, KEY, replace(ANSWER, model="small"), found.epoch, MINUTE, tags=("a", "b"))
    with pytest.raises(IdempotencyMismatch):
        await store.forget(ACME, other, "i1")
    assert (await find(store, ACME, KEY))[1] is not None
    assert await store.forget(ACME, extent, "i1") == first


def test_whatever_an_extent_says_tells_it_from_others() -> None:
    names, plain = KeyNames(b"a secret"), Extent()
    for one in fields(Extent):
        changed = replace(plain, **{one.name: ("x",) if one.name == "tags" else "x"})  # type: ignore[arg-type]
        assert names.extent(ACME, changed) != names.extent(ACME, plain)
    assert names.extent(ACME, Extent("x")) != names.extent(ACME, Extent(tags=("x",)))
    assert names.extent(ACME, Extent(tags=("a", "b"))) != names.extent(ACME, Extent(tags=("a b",)))


@pytest.mark.parametrize("extent", EXTENTS)
async def test_who_claims_after_an_invalidation_does_not_follow_who_claimed_before(
    store: AnswerStore, extent: Extent
) -> None:
    await store.find(ACME, KEY, ANY, Claiming(b"one", 0.0))
    await store.forget(ACME, extent, "i1")
    later = await store.find(ACME, KEY, ANY, Claiming(b"two", 0.0))
    assert later.claim is not None
    assert later.claim.lease is not None


async def test_an_answer_of_an_older_epoch_is_not_kept(store: AnswerStore) -> None:
    epoch, _ = await find(store, ACME, KEY)
    await store.forget(ACME, Extent(), "i1")
    assert not await keep(store, ACME, KEY, ANSWER, epoch, MINUTE)
    assert (await find(store, ACME, KEY))[1] is None


@pytest.mark.parametrize("epoch", [0, 1, 2**62])
async def test_an_answer_of_an_invented_epoch_is_not_kept(store: AnswerStore, epoch: int) -> None:
    await find(store, ACME, KEY)
    assert not await keep(store, ACME, KEY, ANSWER, Epoch(epoch), MINUTE)


async def test_an_answer_is_gone_when_its_life_is_over(store: AnswerStore) -> None:
    epoch, _ = await find(store, ACME, KEY)
    await keep(store, ACME, KEY, ANSWER, epoch, timedelta(milliseconds=1))

    async def gone() -> bool:
        return (await find(store, ACME, KEY))[1] is None

    await until(gone)


async def test_keeping_again_renews(store: AnswerStore) -> None:
    epoch, _ = await find(store, ACME, KEY)
    await keep(store, ACME, KEY, ANSWER, epoch, timedelta(seconds=5))
    await keep(store, ACME, KEY, ANSWER, epoch, MINUTE)
    _, entry = await find(store, ACME, KEY)
    assert entry is not None
    assert entry.time_to_live > timedelta(seconds=50)


async def test_an_answer_of_too_small_a_tier_is_a_miss(store: AnswerStore) -> None:
    epoch, _ = await find(store, ACME, KEY)
    await keep(store, ACME, KEY, ANSWER, epoch, MINUTE)
    assert (await find(store, ACME, KEY, Wanted(min_tier=2)))[1] is not None
    assert (await find(store, ACME, KEY, Wanted(min_tier=3)))[1] is None


async def test_a_lesser_tier_never_replaces_a_larger(store: AnswerStore) -> None:
    epoch, _ = await find(store, ACME, KEY)
    await keep(store, ACME, KEY, ANSWER, epoch, MINUTE)
    small = replace(ANSWER, text="worse", tier=1)
    assert (await store.keep(ACME, KEY, Offer(small, MINUTE), epoch))[0] is Verdict.LESSER_TIER
    assert await keep(store, ACME, KEY, replace(ANSWER, text="better", tier=3), epoch, MINUTE)
    _, entry = await find(store, ACME, KEY)
    assert entry is not None
    assert entry.answer.text == "better"


async def test_age_counts_from_when_an_answer_was_written(store: AnswerStore) -> None:
    epoch, _ = await find(store, ACME, KEY)
    await keep(store, ACME, KEY, ANSWER, epoch, MINUTE, age=timedelta(seconds=60))
    assert (await find(store, ACME, KEY, Wanted(timedelta(seconds=59))))[1] is None
    assert (await find(store, ACME, KEY, Wanted(timedelta(seconds=90))))[1] is not None


@pytest.mark.parametrize("extent", EXTENTS)
async def test_a_model_or_a_tag_is_forgotten_alone(store: AnswerStore, extent: Extent) -> None:
    other = CacheKey(b"c" * 32, b"q" * 32)
    epoch, _ = await find(store, ACME, KEY)
    await keep(store, ACME, KEY, ANSWER, epoch, MINUTE, tags=("docs",))
    await keep(store, ACME, other, replace(ANSWER, model="large"), epoch, MINUTE, tags=("news",))
    assert await store.forget(ACME, extent, "i1") == epoch
    assert (await find(store, ACME, KEY))[1] is None
    assert (await find(store, ACME, other))[1] is not None


async def test_an_answer_under_way_when_its_tag_was_forgotten_is_not_kept(store: AnswerStore) -> None:
    found = await store.find(ACME, KEY, ANY)
    await store.forget(ACME, Extent(tags=("docs",)), "i1")
    assert not await keep(store, ACME, KEY, ANSWER, found.epoch, MINUTE, tags=("docs",), mark=found.mark)
    later = await store.find(ACME, KEY, ANY)
    assert later.mark > found.mark
    assert await keep(store, ACME, KEY, ANSWER, found.epoch, MINUTE, tags=("docs",), mark=later.mark)
    assert await keep(store, ACME, KEY, ANSWER, found.epoch, MINUTE, tags=("docs",), mark=Mark(0))


async def test_hits_cost_and_making_time_come_back(store: AnswerStore) -> None:
    epoch, _ = await find(store, ACME, KEY)
    took = timedelta(milliseconds=1500)
    await keep(store, ACME, KEY, ANSWER, epoch, MINUTE, took=took, cost_nano_usd=77)
    await find(store, ACME, KEY)
    _, entry = await find(store, ACME, KEY)
    assert entry is not None
    assert (entry.hits, entry.took, entry.cost_nano_usd) == (2, took, 77)


async def test_of_many_who_claim_one_leads_and_a_hit_needs_no_claim(store: AnswerStore) -> None:
    first = await store.find(ACME, KEY, ANY, Claiming(b"one", 0.0))
    assert first.claim is not None
    assert first.claim.lease is not None
    assert first.claim.lease.token == b"one"
    second = await store.find(ACME, KEY, ANY, Claiming(b"two", 0.0))
    assert second.claim is not None
    assert second.claim.follow
    assert second.claim.lease is None
    await keep(store, ACME, KEY, ANSWER, first.epoch, MINUTE)
    assert (await store.find(ACME, KEY, ANY, Claiming(b"two", 0.0))).claim is None


async def test_members_of_a_circle_share_among_themselves_only(store: AnswerStore) -> None:
    circles = [replace(KEY, sharers=sharers) for sharers in ("", "team\0a", "team\0b", "user\0a")]
    epoch, _ = await find(store, ACME, KEY)
    for key in circles:
        assert (await find(store, ACME, key))[1] is None
        await keep(store, ACME, key, replace(ANSWER, text=key.sharers or "all"), epoch, MINUTE)
    for key in circles:
        _, entry = await find(store, ACME, key)
        assert entry is not None
        assert entry.answer.text == (key.sharers or "all")
