"""Vectors in memory and evidence of several replicas, over stores in memory."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from farthing_cache.app.evidence import Evidence
from farthing_cache.app.neighbourhood import STEP_ROWS, Neighbourhood
from farthing_cache.domain.answer import CacheKey, Epoch, Org
from farthing_cache.domain.bound import Promise
from farthing_cache.domain.neighbours import Candidate, News, Place, narrow
from farthing_kit.errors import StoreUnavailable
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.testing.waiting import until
from services.cache.tests.fakes import MemoryEvidence
from services.cache.tests.vectors import rows, unit

ACME = Org("acme")
PLACES = [Place(CacheKey(bytes([number]) * 32, b""), b"e" * 32) for number in range(4)]


class Logs:
    """The NeighbourStore port: a log of rows for each place."""

    def __init__(self) -> None:
        self.epoch = Epoch(1)
        self.counts: dict[Place, int] = {}
        self.started_ms = 1_000
        self.away = False

    def add(self, place: Place, count: int) -> None:
        self.counts[place] = self.counts.get(place, 0) + count

    def lose(self, place: Place) -> None:
        """As if Redis had come back empty, with a clock that is behind."""
        self.counts.pop(place)
        self.started_ms -= 500

    async def news(self, org: Org, place: Place, after: str, limit: int) -> News:
        if self.away:
            raise StoreUnavailable("redis is away")
        count = self.counts.get(place, 0)
        done = int(after.split("-")[1]) + 1 if "-" in after and int(after.split("-")[0]) <= self.started_ms else 0
        end = min(count, done + limit)
        last = f"{self.started_ms}-{count - 1}" if count else ""
        read_to = f"{self.started_ms}-{end - 1}" if end > done else after
        await asyncio.sleep(0)
        return News(self.epoch, 0, last, read_to, rows(range(done, end)) if end > done else None)

    async def candidates(self, org: Org, place: Place, epoch: Epoch, ids: Sequence[bytes]) -> list[Candidate | None]:
        return [None for _ in ids]


def neighbourhood(logs: Logs, budget_bytes: int = 10**9) -> Neighbourhood:
    return Neighbourhood(logs, budget_bytes=budget_bytes)


async def ids(near: Neighbourhood, number: int, place: Place = PLACES[0]) -> list[int]:
    found = await near.near(ACME, place, narrow(unit(number)), 1, 0.9, 0)
    return [int.from_bytes(one, "big") for one in found.ids]


async def test_what_was_added_elsewhere_is_seen_by_the_next_look_up() -> None:
    logs = Logs()
    near = neighbourhood(logs)
    assert await ids(near, 0) == []
    logs.add(PLACES[0], 3)
    assert await ids(near, 2) == [2]
    logs.add(PLACES[0], 3)
    assert await ids(near, 5) == [5]
    assert near.vectors == 6


async def test_what_is_too_much_for_a_look_up_is_read_in_the_background() -> None:
    logs = Logs()
    near = neighbourhood(logs)
    logs.add(PLACES[0], STEP_ROWS + 500)
    assert await ids(near, STEP_ROWS + 400) == []
    background = asyncio.create_task(near.catch_up())
    await until(lambda: near.vectors == STEP_ROWS + 500)
    assert await ids(near, STEP_ROWS + 400) == [STEP_ROWS + 400]
    background.cancel()


async def test_while_a_partition_is_read_what_has_been_read_is_found() -> None:
    logs = Logs()
    near = neighbourhood(logs)
    logs.add(PLACES[0], 20 * STEP_ROWS)
    logs.add(PLACES[1], 3)
    assert await ids(near, 7) == [7]
    background = asyncio.create_task(near.catch_up())
    seen = []
    while near.vectors < 20 * STEP_ROWS:
        assert await ids(near, 7) == [7]
        assert await ids(near, 2, PLACES[1]) == [2]
        seen.append(near.vectors)
    assert len(seen) > 5
    assert await ids(near, 20 * STEP_ROWS - 1) == [20 * STEP_ROWS - 1]
    background.cancel()


async def test_what_is_read_in_the_background_ends_with_the_store_and_goes_on_with_the_next_look_up() -> None:
    logs = Logs()
    near = neighbourhood(logs)
    logs.add(PLACES[0], 20 * STEP_ROWS)
    await ids(near, 0)
    background = asyncio.create_task(near.catch_up())
    await until(lambda: near.vectors > 3 * STEP_ROWS)
    logs.away = True
    with pytest.raises(StoreUnavailable):
        await ids(near, 0)
    read = near.vectors
    logs.away = False
    assert await ids(near, 0) == [0]
    await until(lambda: near.vectors == 20 * STEP_ROWS)
    assert read < near.vectors
    background.cancel()


async def test_two_partitions_that_do_not_fit_together_are_not_read_in_turn_for_ever() -> None:
    logs = Logs()
    for place in PLACES[:2]:
        logs.add(place, 4 * STEP_ROWS)
    near = neighbourhood(logs, budget_bytes=6 * STEP_ROWS * 500)
    for place in PLACES[:2]:
        await ids(near, 0, place)
    background = asyncio.create_task(near.catch_up())
    await until(lambda: near.vectors == 4 * STEP_ROWS and near.partitions == 1)
    assert near.size_bytes <= 6 * STEP_ROWS * 500
    background.cancel()


async def test_another_epoch_begins_with_nothing() -> None:
    logs = Logs()
    near = neighbourhood(logs)
    logs.add(PLACES[0], 3)
    assert await ids(near, 1) == [1]
    logs.epoch = Epoch(2)
    logs.counts.clear()
    assert await ids(near, 1) == []
    assert near.vectors == 0


async def test_a_log_that_was_lost_is_read_anew_though_the_clock_is_behind() -> None:
    logs = Logs()
    near = neighbourhood(logs)
    logs.add(PLACES[0], 5)
    assert await ids(near, 4) == [4]
    logs.lose(PLACES[0])
    assert await ids(near, 4) == []
    logs.add(PLACES[0], 2)
    assert await ids(near, 1) == [1]
    assert near.vectors == 2


async def test_beyond_the_budget_the_partition_that_earned_least_goes_and_comes_back() -> None:
    logs = Logs()
    for place in PLACES:
        logs.add(place, 100)
    near = neighbourhood(logs, budget_bytes=3 * 100 * 600)
    for place in PLACES[:3]:
        assert await ids(near, 7, place) == [7]
        near.earned(ACME, place, 0 if place is PLACES[1] else 1_000)
    assert await ids(near, 7, PLACES[3]) == [7]
    assert near.partitions == 3
    assert near.vectors == 300
    assert await ids(near, 7, PLACES[1]) == [7]
    assert near.size_bytes <= 3 * 100 * 600


async def test_forgetting_an_organisation_gives_its_memory_back() -> None:
    logs = Logs()
    near = neighbourhood(logs)
    logs.add(PLACES[0], 3)
    await ids(near, 1)
    near.forget(Org("beta"))
    assert near.partitions == 1
    near.forget(ACME)
    assert (near.partitions, near.size_bytes) == (0, 0)


class Away(MemoryEvidence):
    """A store that can be away."""

    away = False

    async def load(self, org: Org, category: int) -> tuple[int, bytes]:
        if self.away:
            raise StoreUnavailable("redis is away")
        return await super().load(org, category)


def evidence(store: MemoryEvidence) -> Evidence:
    return Evidence(store, Promise(), VirtualClock(), pace_s=1.0, fraction=lambda: 0.5)


async def standing(of: Evidence) -> tuple[int, int]:
    [(_, known)] = await of.standings(ACME, [3])
    return known.standing.requests, known.standing.labels


async def test_replicas_add_up_what_they_saw() -> None:
    store = MemoryEvidence()
    one, other = evidence(store), evidence(store)
    for each, count in ((one, 5), (other, 7)):
        for _ in range(count):
            await each.decide(ACME, 3, 0.01, 0.9)
            await each.label(ACME, 3, 0.9, explored=False, right=True, propensity=1.0, period=0)
    await one.write()
    await other.write()
    assert await standing(other) == (12, 12)
    assert await standing(evidence(store)) == (12, 12)
    await one.observe(ACME, 3, 0.01)
    await one.write()
    assert await standing(one) == (13, 12)


async def test_what_was_seen_while_the_store_was_away_is_written_later_once() -> None:
    store = Away()
    one = evidence(store)
    await one.observe(ACME, 3, 0.01)
    store.away = True
    await one.write()
    await one.observe(ACME, 3, 0.01)
    store.away = False
    for _ in range(3):
        await one.write()
    assert await standing(evidence(store)) == (2, 0)


async def test_evidence_of_another_version_begins_anew() -> None:
    store = MemoryEvidence()
    await store.replace(ACME, 3, 0, b'{"version": 0}')
    one = evidence(store)
    await one.observe(ACME, 3, 0.01)
    await one.write()
    assert await standing(evidence(store)) == (1, 0)


async def test_what_is_shown_is_held_against_the_share_that_the_policy_allows() -> None:
    store = MemoryEvidence()
    of = evidence(store)
    await of.decide(ACME, 3, 0.037, 0.9)
    await of.write()
    [(_, known)] = await of.standings(ACME, [3])
    assert known.delta == 0.037


async def test_more_guards_than_memory_holds_are_written_before_they_go() -> None:
    store = MemoryEvidence()
    held = Evidence(store, Promise(), VirtualClock(), pace_s=1.0, fraction=lambda: 0.5, limit=3)
    orgs = [Org(f"org-{number}") for number in range(8)]
    for _ in range(2):
        await asyncio.gather(*(held.decide(org, 1, 0.01, 0.9) for org in orgs))
    await held.write()
    for org in orgs:
        [(_, known)] = await held.standings(org, [1])
        assert known.standing.requests == 2
    for org in orgs:
        assert json.loads(store.kept[org, 1][1])["requests"] == 2


async def test_a_store_that_is_away_loses_no_guard_and_lets_no_more_in() -> None:
    store = Away()
    held = Evidence(store, Promise(), VirtualClock(), pace_s=1.0, fraction=lambda: 0.5, limit=2)
    for org in ("a", "b"):
        await held.observe(Org(org), 1, 0.01)
    store.away = True
    with pytest.raises(StoreUnavailable):
        await held.observe(Org("c"), 1, 0.01)
    await held.observe(Org("a"), 1, 0.01)
    store.away = False
    await held.observe(Org("c"), 1, 0.01)
    await held.write()
    assert [json.loads(store.kept[Org(org), 1][1])["requests"] for org in ("a", "b", "c")] == [2, 1, 1]
