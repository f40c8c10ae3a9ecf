"""Virtual time: deterministic, and woken in order."""

import asyncio

from farthing_kit.clock import SystemClock
from farthing_kit.testing.clock import VirtualClock


async def test_sleepers_wake_in_the_order_of_their_moments() -> None:
    clock, woken = VirtualClock(), []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 3.0), ("early", 1.0), ("tie a", 2.0), ("tie b", 2.0)):
            group.create_task(sleeper(name, seconds))
        await clock.advance(2.5)
        assert woken == [("early", 1.0), ("tie a", 2.0), ("tie b", 2.0)]
        assert clock.sleepers == 1
        await clock.advance(0.5)
    assert woken[-1] == ("late", 3.0)


async def test_one_advance_carries_a_loop_through_all_its_turns() -> None:
    clock, turns = VirtualClock(), []

    async def loop() -> None:
        while True:
            await clock.sleep(1.0)
            turns.append(clock.monotonic())

    task = asyncio.create_task(loop())
    await clock.advance(5.5)
    assert turns == [1.0, 2.0, 3.0, 4.0, 5.0]
    task.cancel()
    await asyncio.wait({task})
    assert clock.sleepers == 0


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = VirtualClock()
    start = clock.now()
    task = asyncio.create_task(clock.sleep(1.0))
    await asyncio.sleep(0)
    task.cancel()
    await clock.advance(10.0)
    assert (clock.now() - start).total_seconds() == 10.0
    await clock.sleep(0)


def test_the_systems_clock_says_its_zone() -> None:
    assert SystemClock().now().utcoffset() is not None
