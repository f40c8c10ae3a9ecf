"""The use cases of the cache, over ports in memory."""

from datetime import timedelta

import pytest

from farthing_cache.app.answers import AnswerCache
from farthing_cache.app.recorder import Recorder
from farthing_cache.domain.admission import Verdict
from farthing_cache.domain.answer import Answer, CacheKey, Extent, Offer, Org, Wanted
from farthing_cache.domain.errors import AnswerTooLarge
from farthing_cache.domain.lifetime import Lifetime
from farthing_cache.domain.refresh import EarlyRefresh
from farthing_kit.errors import StoreUnavailable
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.usage import TokenUsage
from services.cache.tests.fakes import CountingMeter, MemoryAnnouncer, MemoryLog, MemoryStore, PlainSecrets

ACME = Org("acme")
KEY = CacheKey(b"c" * 32, b"p" * 32)
HOUR = timedelta(hours=1)
ANY = Wanted()


class World:
    """A cache over memory."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.announcer = MemoryAnnouncer()
        self.meter = CountingMeter()
        self.cache = AnswerCache(
            store=self.store,
            announcer=self.announcer,
            meter=self.meter,
            lifetime=Lifetime(HOUR, 0.0),
            refresh=EarlyRefresh(0, 1.0),
            recorder=Recorder(MemoryLog(), PlainSecrets(), self.clock, pace_s=1.0),
            entry_limit_bytes=100,
            fraction=lambda: 0.0,
        )

    def answer(self, text: str = "42") -> Answer:
        return Answer(text, TokenUsage(fresh_input=7, output=2), 1, "small", "INT4", self.clock.now())

    async def keep(self, answer: Answer | None = None, age: timedelta = timedelta(0)) -> bool:
        found = await self.cache.look_up(ACME, KEY, ANY)
        offer = Offer(answer or self.answer(), age=age)
        return await self.cache.keep(ACME, KEY, offer, found.epoch) is Verdict.KEPT


@pytest.fixture
def world() -> World:
    return World()


async def test_what_was_kept_is_found_with_the_life_it_has_left(world: World) -> None:
    assert await world.keep()
    await world.clock.advance(600)
    entry = (await world.cache.look_up(ACME, KEY, ANY)).entry
    assert entry is not None
    assert entry.answer.text == "42"
    assert entry.time_to_live == timedelta(minutes=50)


async def test_hits_do_not_prolong_the_life_of_an_answer(world: World) -> None:
    await world.keep()
    found = []
    for _ in range(7):
        await world.clock.advance(600)
        found.append((await world.cache.look_up(ACME, KEY, ANY)).entry is not None)
    assert found == [True] * 5 + [False] * 2


async def test_an_answer_older_than_the_caller_accepts_is_a_miss(world: World) -> None:
    await world.keep()
    await world.clock.advance(60)
    assert (await world.cache.look_up(ACME, KEY, Wanted(timedelta(seconds=61)))).entry is not None
    assert (await world.cache.look_up(ACME, KEY, Wanted(timedelta(seconds=60)))).entry is None


async def test_an_answer_from_the_future_is_dated_now(world: World) -> None:
    await world.keep(age=timedelta(days=-1))
    await world.clock.advance(60)
    assert (await world.cache.look_up(ACME, KEY, Wanted(timedelta(seconds=30)))).entry is None


async def test_an_answer_that_was_under_way_when_the_partition_was_forgotten_is_not_kept(world: World) -> None:
    epoch = (await world.cache.look_up(ACME, KEY, ANY)).epoch
    await world.cache.forget(ACME, Extent(), "i1")
    assert await world.cache.keep(ACME, KEY, Offer(world.answer()), epoch) is Verdict.INVALIDATED
    assert world.meter.seen[-1] == "late"


async def test_the_gateways_are_told_also_when_the_call_is_a_repetition(world: World) -> None:
    first = await world.cache.forget(ACME, Extent(), "i1")
    assert await world.cache.forget(ACME, Extent(), "i1") == first
    assert world.announcer.said == [ACME, ACME]


async def test_an_answer_over_the_limit_of_an_entry_is_refused_in_bytes_not_characters(world: World) -> None:
    assert await world.keep(world.answer("x" * 100))
    with pytest.raises(AnswerTooLarge) as refused:
        await world.keep(world.answer("é" * 51))
    assert refused.value.metadata == {"limit_bytes": "100", "actual_bytes": "102"}


async def test_a_store_that_is_down_is_counted_and_said(world: World) -> None:
    world.store.down = True
    with pytest.raises(StoreUnavailable) as error:
        await world.cache.look_up(ACME, KEY, ANY)
    assert error.value.retry_after_s is not None
    assert world.cache.counts.store_errors == 1
    assert world.meter.seen == ["failed"]


async def test_hits_and_misses_are_counted(world: World) -> None:
    await world.keep()
    await world.cache.look_up(ACME, KEY, ANY)
    assert (world.cache.counts.hits, world.cache.counts.misses, world.cache.counts.stores) == (1, 1, 1)
