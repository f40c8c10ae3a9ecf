"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

_START = datetime(2026, 1, 1, tzinfo=UTC)
# How often the loop is let run after a sleeper woke, so that what it does next (another sleep, say) has happened.
_SETTLE_TURNS = 10


class VirtualClock:
    """Deterministic time: `advance` wakes sleepers in the order of their moments, ties in the order they came."""

    def __init__(self, start: datetime = _START) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        return self._elapsed_s

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep on this clock."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move time on, stopping at each sleeper's moment; those it wakes may sleep again within the span."""
        await _settle()
        end = self._elapsed_s + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            moment, _, future = heapq.heappop(self._sleepers)
            self._elapsed_s = max(self._elapsed_s, moment)
            if not future.done():
                future.set_result(None)
                await _settle()
        self._elapsed_s = end
        await _settle()


async def _settle() -> None:
    for _ in range(_SETTLE_TURNS):
        await asyncio.sleep(0)
