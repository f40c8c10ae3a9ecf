"""Looks after Redis in the background: whether it is there, and how full it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from farthing_cache.adapters.redis.client import RedisClient
from farthing_kit.clock import Clock


async def watch(
    store: RedisClient, report: Callable[[str, bool], Awaitable[None]], clock: Clock, pause_s: float
) -> None:
    """Measure and report until cancelled."""
    while True:
        await report("redis", await store.measure())
        await clock.sleep(pause_s)
