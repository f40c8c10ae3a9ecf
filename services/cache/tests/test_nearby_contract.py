"""What finding entries by meaning promises: vectors in a replica's memory and vector sets of a real Redis pass the same
tests. What is found is where to look; whether it is there is said by the entries."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis import vector_sets
from farthing_cache.adapters.redis.answers import RedisAnswers
from farthing_cache.adapters.redis.client import RedisClient, connect
from farthing_cache.adapters.redis.neighbours import RedisNeighbours
from farthing_cache.adapters.redis.vector_sets import VectorSets
from farthing_cache.app.neighbourhood import Neighbourhood
from farthing_cache.config import CacheSettings
from farthing_cache.domain.admission import Verdict
from farthing_cache.domain.answer import Answer, CacheKey, Extent, Kept, Offer, Org, Wanted
from farthing_cache.domain.neighbours import Place, narrow, ranked
from farthing_cache.domain.refresh import EarlyRefresh
from farthing_cache.main import build
from farthing_cache.ports import Nearby
from farthing_kit.breaker import Breaker
from farthing_kit.clock import SystemClock
from farthing_kit.errors import StoreUnavailable
from farthing_kit.server import ServerError
from farthing_kit.testing.server import running
from farthing_kit.testing.settings import settings
from farthing_kit.testing.waiting import until
from farthing_kit.usage import TokenUsage
from services.cache.tests.vectors import Vector, at_cosine, unit

ACME, BETA = Org("acme"), Org("beta")
NAMES = KeyNames(b"a secret")
ENCODER = b"e" * 32
HOUR = timedelta(hours=1)
ANSWER = Answer("yes", TokenUsage(7, output=3), 1, "small", "INT4", datetime(2026, 1, 1, tzinfo=UTC))


def key(number: int, compatibility: bytes = b"c") -> CacheKey:
    return CacheKey(compatibility * 32, number.to_bytes(32, "big"))


@dataclass
class World:
    """Two replicas' ways of finding over one Redis, and what keeps and reads entries."""

    answers: RedisAnswers
    entries: RedisNeighbours
    replicas: list[Nearby]
    raw: Redis

    async def keep(self, number: int, vector: Vector | None = None, org: Org = ACME, **more: object) -> None:
        where = more.pop("key", key(number))
        assert isinstance(where, CacheKey)
        life = more.pop("life", HOUR)
        assert isinstance(life, timedelta)
        meaning = Kept(ENCODER, (unit(number) if vector is None else vector).astype("<f4").tobytes(), b"profile")
        epoch = (await self.answers.find(org, where, Wanted())).epoch
        offer = Offer(ANSWER, life, meaning=meaning, tags=("docs",))
        assert (await self.answers.keep(org, where, offer, epoch))[0] is Verdict.KEPT

    async def found(
        self, vector: Vector, replica: int = 0, org: Org = ACME, where: CacheKey | None = None, count: int = 2
    ) -> list[int]:
        """The numbers of the entries that are truly there, the nearest first, as the semantic cache asks for them."""
        place, nearby = Place.of(where or key(0), ENCODER), self.replicas[replica]
        near = await nearby.near(org, place, narrow(vector), count, 0.5, 0)
        said = await self.entries.candidates(org, place, near.epoch, near.ids)
        gone = [one_id for one_id, one in zip(near.ids, said, strict=True) if one is None]
        if gone:
            nearby.gone(org, place, gone)
        numbers = {NAMES.entry_id(org, key(number)): number for number in range(50)}
        there = ranked(vector, [one for one in said if one is not None])
        return [numbers[one.id] for cosine, one in there if cosine >= 0.5]

    async def ids(self, vector: Vector) -> int:
        """How many are found, there or not."""
        return len((await self.replicas[0].near(ACME, Place.of(key(0), ENCODER), narrow(vector), 50, 0.5, 0)).ids)


@pytest.fixture(params=["memory", "vector sets"])
async def world(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[World]:
    redis = connect(redis_url, timeout_s=5.0, max_connections=8)
    client = RedisClient(redis, clock=SystemClock(), breaker=Breaker(3, 1.0), timeout_s=5.0)
    async with client, Redis.from_url(redis_url) as raw, asyncio.TaskGroup() as group:
        entries = RedisNeighbours(client, NAMES)
        sets = VectorSets(client, NAMES, longest_life=HOUR) if request.param == "vector sets" else None
        answers = RedisAnswers(
            client,
            NAMES,
            longest_life=HOUR,
            lease_time_to_live=HOUR,
            max_leaders=3,
            refresh=EarlyRefresh(0, 1.0),
            sets=sets,
        )
        replicas: list[Nearby] = [sets, VectorSets(client, NAMES, longest_life=HOUR)] if sets else []
        replicas = replicas or [Neighbourhood(entries, budget_bytes=10**9) for _ in range(2)]
        behind = [group.create_task(replica.catch_up()) for replica in replicas]
        yield World(answers, entries, replicas, raw)
        for task in behind:
            task.cancel()


async def test_what_was_kept_is_found_by_the_next_look_up_of_every_replica_the_nearest_first(world: World) -> None:
    assert await world.found(unit(1)) == []
    for number in range(5):
        await world.keep(number)
    await world.keep(9, at_cosine(unit(1), 0.9, 7))
    assert await world.found(unit(1), replica=0) == [1, 9]
    await world.keep(8, at_cosine(unit(1), 0.95, 8))
    assert (await world.found(unit(1), replica=1))[:2] == [1, 8]


async def test_no_partition_finds_anothers(world: World) -> None:
    await world.keep(1)
    circle = replace(key(1), sharers="team\0red")
    assert await world.found(unit(1), org=BETA) == []
    assert await world.found(unit(1), where=key(0, b"d")) == []
    assert await world.found(unit(1), where=circle) == []
    assert await world.found(unit(1)) == [1]


async def test_what_was_forgotten_is_not_found_and_what_is_kept_after_it_is(world: World) -> None:
    await world.keep(1)
    await world.answers.forget(ACME, Extent(), "i1")
    assert await world.found(unit(1)) == []
    await world.keep(2)
    assert await world.found(unit(2)) == [2]
    await world.answers.forget(ACME, Extent(tags=("docs",)), "i2")
    assert await world.found(unit(2)) == []
    await until(lambda: nothing_at(world, unit(2)))


async def nothing_at(world: World, vector: Vector) -> bool:
    return await world.ids(vector) == 0


async def test_an_entry_that_was_kept_again_is_found_once_where_it_is_now(world: World) -> None:
    await world.keep(1)
    await world.keep(1, unit(2))
    assert await world.found(unit(2)) == [1]
    assert await world.found(unit(1)) == []


async def test_what_ended_is_not_found_and_dropped_when_it_is_met(world: World) -> None:
    await world.keep(1, life=timedelta(milliseconds=1))
    await world.keep(2, at_cosine(unit(1), 0.9, 3))
    await until(lambda: ended(world, 1))
    assert await world.found(unit(1), count=1) in ([], [2])  # in place of a dead one, a live one may be missed once
    await until(lambda: finds(world, unit(1), [2]))
    assert await world.ids(unit(1)) == 1


async def ended(world: World, number: int) -> bool:
    return (await world.answers.find(ACME, key(number), Wanted())).entry is None


async def finds(world: World, vector: Vector, numbers: list[int]) -> bool:
    return await world.found(vector, count=1) == numbers


async def test_a_redis_that_came_back_empty_begins_anew(world: World) -> None:
    await world.keep(1)
    assert await world.found(unit(1)) == [1]
    await world.raw.flushall()
    assert await world.found(unit(1)) == []
    await world.keep(1)
    assert await world.found(unit(1)) == [1]


async def test_a_vector_of_another_length_finds_nothing(world: World) -> None:
    await world.keep(1)
    with contextlib.suppress(StoreUnavailable):  # as good as nothing: a miss
        assert await world.found(unit(1)[:100]) == []
    assert await world.found(unit(1)) == [1]


async def test_a_redis_without_vector_sets_is_said_at_the_start(
    redis_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_sets, "SEARCH", "VSIM_OF_A_LATER_REDIS")
    made = settings(CacheSettings, redis_url=redis_url, nats_url=nats_url, vector_sets=True)
    with pytest.raises(ServerError, match="use Redis 8, or switch it off"):
        async with running("cache", made, build):
            pass


@pytest.mark.parametrize("world", ["vector sets"], indirect=True)
async def test_sets_end_with_their_entries_and_do_not_fill_with_what_nobody_meets(world: World) -> None:
    for number in range(10):
        await world.keep(number, life=timedelta(milliseconds=1))
    await until(lambda: ended(world, 9))
    for number in range(10, 40):
        await world.keep(number)
    [name] = [one async for one in world.raw.scan_iter("*:s")]
    assert 0 < await world.raw.pttl(name) <= HOUR.total_seconds() * 1000
    left = await world.raw.execute_command("VCARD", name)  # type: ignore[no-untyped-call]
    assert left < 35  # each of thirty looked at three


@pytest.mark.parametrize("world", ["vector sets"], indirect=True)
async def test_an_entry_that_is_there_again_is_not_dropped(world: World) -> None:
    await world.keep(1)
    await world.keep(2)
    epoch = (await world.answers.find(ACME, key(2), Wanted())).epoch
    await world.raw.delete(f"{NAMES.partition(ACME)}:{epoch}:{NAMES.entry_suffix(ACME, key(2))}")
    said = [NAMES.entry_id(ACME, key(number)) for number in (1, 2)]
    world.replicas[0].gone(ACME, Place.of(key(0), ENCODER), said)
    await until(lambda: one_left(world))
    assert await world.found(unit(1)) == [1]


async def one_left(world: World) -> bool:
    return await world.ids(unit(1)) == 1
