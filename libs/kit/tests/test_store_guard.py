"""A store that hangs costs a few callers their time; one that says no is there; one that answers is asked on."""

from __future__ import annotations

import asyncio

import pytest

from farthing_kit.breaker import Breaker
from farthing_kit.errors import StoreUnavailable
from farthing_kit.store_guard import StoreGuard
from farthing_kit.testing.clock import VirtualClock

FAILURES, PAUSE_S = 2, 0.5


class NoError(Exception):
    """What the store says when it refuses."""


@pytest.fixture
def guard(clock: VirtualClock) -> StoreGuard:
    return StoreGuard(
        "shelf",
        "wait for the shelf",
        breaker=Breaker(FAILURES, PAUSE_S),
        clock=clock,
        timeout_s=0.01,
        said_no=(NoError,),
        away=(KeyError,),
    )


async def step(guard: StoreGuard, error: BaseException | None = None) -> None:
    """One that raises, or else hangs."""
    async with guard.step():
        if error is not None:
            raise error
        await asyncio.Event().wait()


async def failure(guard: StoreGuard, error: BaseException | None = None) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        await step(guard, error)
    return caught.value


async def test_a_store_that_hangs_is_left_alone_and_tried_again(guard: StoreGuard, clock: VirtualClock) -> None:
    for _ in range(FAILURES):
        assert (await failure(guard)).metadata == {"store": "shelf", "cause": "TimeoutError", "outcome": "unknown"}
    assert guard.open
    assert (await failure(guard, AssertionError("nothing runs"))).metadata == {"store": "shelf", "cause": "BreakerOpen"}
    await clock.advance(PAUSE_S)
    async with guard.step():
        pass
    assert not guard.open


async def test_what_must_be_asked_is_asked_while_the_store_is_left_alone(guard: StoreGuard) -> None:
    for _ in range(FAILURES):
        await failure(guard, ConnectionError("secret address"))
    async with guard.step(always=True):
        pass
    assert not guard.open


async def test_a_store_that_says_no_is_there(guard: StoreGuard) -> None:
    await failure(guard, KeyError("secret key"))
    refused = await failure(guard, NoError("secret key"))
    await failure(guard, KeyError("secret key"))
    assert not guard.open
    assert refused.metadata == {"store": "shelf", "cause": "NoError"}
    assert "secret" not in f"{refused!r} {refused.__cause__!r}"


async def test_a_caller_who_leaves_counts_neither_way(guard: StoreGuard) -> None:
    await failure(guard)
    async with asyncio.TaskGroup() as group:
        hanging = group.create_task(failure(guard))
        await asyncio.sleep(0)
        hanging.cancel()
    await failure(guard)
    assert guard.open


async def test_what_is_no_failure_of_the_store_passes(guard: StoreGuard) -> None:
    with pytest.raises(ZeroDivisionError):
        await step(guard, ZeroDivisionError())
    assert not guard.open
