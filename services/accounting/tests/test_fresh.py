"""Values in memory are as old as promised, and loaded once."""

from __future__ import annotations

import asyncio

import pytest

from farthing_accounting.app.fresh import Fresh, SingleFlight
from farthing_kit import deadline
from farthing_kit.errors import StoreUnavailable
from farthing_kit.testing.clock import VirtualClock


class Store:
    """Counts how often it is asked, and can be away."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, key: str) -> str:
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        if self.away:
            raise StoreUnavailable("away")
        return f"{key}{number}"


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def fresh(store: Store, clock: VirtualClock) -> Fresh[str, str]:
    return Fresh(store.load, clock, fresh_for_s=5, stale_for_s=60, max_entries=2)


async def test_a_value_is_loaded_again_when_it_is_no_longer_fresh(fresh: Fresh[str, str], clock: VirtualClock) -> None:
    assert await fresh.get("a") == "a1"
    await clock.advance(4.9)
    assert await fresh.get("a") == "a1"
    await clock.advance(0.1)
    assert await fresh.get("a") == "a2"


async def test_while_the_store_is_away_an_older_value_will_do(
    fresh: Fresh[str, str], store: Store, clock: VirtualClock
) -> None:
    await fresh.get("a")
    store.away = True
    await clock.advance(59)
    assert await fresh.get("a") == "a1"
    await clock.advance(1)
    with pytest.raises(StoreUnavailable):
        await fresh.get("a")
    with pytest.raises(StoreUnavailable):
        await fresh.get("b")


async def test_while_the_store_hangs_what_is_known_is_served_and_comes_anew_behind_it(
    fresh: Fresh[str, str], store: Store, clock: VirtualClock
) -> None:
    await fresh.get("a")
    store.gate.clear()
    await clock.advance(59)
    assert await asyncio.gather(*(fresh.get("a") for _ in range(5))) == ["a1"] * 5
    assert store.asked == 2
    store.gate.set()
    await asyncio.sleep(0)
    assert await fresh.get("a") == "a2"
    assert store.asked == 2


async def test_a_load_has_a_time_of_its_own_not_that_of_who_came_first(store: Store) -> None:
    seen: list[float | None] = []

    async def load(key: str) -> str:
        seen.append(deadline.remaining_s())
        return await store.load(key)

    flights = SingleFlight(load, limit_s=5)
    deadline.set_remaining(0.001)
    await flights.get("a")
    assert seen[0] is not None and seen[0] > 1  # noqa: PT018


async def test_what_many_need_is_loaded_once(fresh: Fresh[str, str], store: Store) -> None:
    store.gate.clear()
    waiting = [asyncio.ensure_future(fresh.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    store.gate.set()
    assert await asyncio.gather(*waiting[1:]) == ["a1"] * 4
    assert store.asked == 1


async def test_a_reload_does_not_join_an_older_load(fresh: Fresh[str, str], store: Store) -> None:
    store.gate.clear()
    older = asyncio.ensure_future(fresh.get("a"))
    await asyncio.sleep(0)
    newer = asyncio.ensure_future(fresh.reload("a"))
    await asyncio.sleep(0)
    store.gate.set()
    assert (await older, await newer) == ("a1", "a2")


async def test_what_is_forgotten_is_loaded_and_memory_is_bounded(fresh: Fresh[str, str], store: Store) -> None:
    for key in ("a", "b", "a", "c"):
        await fresh.get(key)
    assert store.asked == 3
    assert await fresh.get("a") == "a1"
    assert await fresh.get("b") == "b4"
    fresh.forget("a")
    assert await fresh.get("a") == "a5"


async def test_a_flight_that_fails_is_not_kept(store: Store) -> None:
    flights = SingleFlight(store.load)
    store.away = True
    with pytest.raises(StoreUnavailable):
        await flights.get("a")
    store.away = False
    assert await flights.get("a") == "a2"
