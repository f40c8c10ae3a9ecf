"""Values kept in memory for a bounded time, loaded once however many ask."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from farthing_kit import deadline, tasks
from farthing_kit.clock import Clock
from farthing_kit.errors import StoreUnavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


# A load is for all who wait for it, and its time is its own, not that of who came first; it is less than gateways wait
# for accounting, so that they hear why there is no answer.
LOAD_S: Final = 0.7
# How long a caller waits for a newer value where an older one will do: many times what a load takes, and nothing beside
# what gateways wait.
PATIENCE_S: Final = 0.05


class SingleFlight(Generic[K, V]):
    """Whoever asks for what is being loaded already, waits for that load."""

    def __init__(self, load: Callable[[K], Coroutine[Any, Any, V]], *, limit_s: float = LOAD_S) -> None:
        self._load = load
        self._limit_s = limit_s
        self._flights: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """Join the load of a key, or start it. A caller that goes away does not end it for the others."""
        return await asyncio.shield(self.begin(key))

    def begin(self, key: K) -> asyncio.Task[V]:
        """The load of a key, under way."""
        task = self._flights.get(key)
        if task is None:
            task = tasks.awaited("load", self._timed(key))
            self._flights[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return task

    async def _timed(self, key: K) -> V:
        deadline.set_remaining(self._limit_s)
        return await self._load(key)

    def _landed(self, key: K, task: asyncio.Task[V]) -> None:
        if self._flights.get(key) is task:
            del self._flights[key]
        if not task.cancelled():
            task.exception()  # nobody may be waiting any more: the error has been seen


@dataclass(slots=True)
class _Kept(Generic[V]):
    value: V
    loaded_at: float


class Fresh(Generic[K, V]):
    """A value is at most `fresh_for_s` old; while the store is slow or away, at most `stale_for_s`.

    An older one is loaded anew behind its callers, who wait for that no longer than PATIENCE_S. What several need at
    once is loaded once. Beyond `max_entries`, the one that was asked for longest ago goes."""

    def __init__(
        self,
        load: Callable[[K], Coroutine[Any, Any, V]],
        clock: Clock,
        *,
        fresh_for_s: float,
        stale_for_s: float,
        max_entries: int,
    ) -> None:
        self._load = load
        self._clock = clock
        self._fresh_for_s = fresh_for_s
        self._stale_for_s = stale_for_s
        self._max_entries = max_entries
        self._kept: OrderedDict[K, _Kept[V]] = OrderedDict()
        self._loading = SingleFlight(self._refresh)

    async def get(self, key: K) -> V:
        """The value, from memory if it is fresh."""
        kept = self._kept.get(key)
        if kept is None:
            return await self._loading.get(key)
        self._kept.move_to_end(key)
        age_s = self._clock.monotonic() - kept.loaded_at
        if age_s < self._fresh_for_s:
            return kept.value
        if age_s >= self._stale_for_s:
            return await self._loading.get(key)
        load = self._loading.begin(key)
        await asyncio.wait({load}, timeout=PATIENCE_S)
        try:
            return load.result() if load.done() else kept.value
        except StoreUnavailable:
            return kept.value

    async def reload(self, key: K) -> V:
        """The value as the store has it now: what is being loaded may be older than what the caller knows of."""
        return await self._refresh(key)

    def forget(self, key: K) -> None:
        """Load it anew when it is asked for next."""
        self._kept.pop(key, None)

    async def _refresh(self, key: K) -> V:
        asked_at = self._clock.monotonic()
        value = await self._load(key)
        kept = self._kept.get(key)
        if kept is not None and kept.loaded_at > asked_at:
            return value  # a later load was faster: what it kept is newer
        self._kept[key] = _Kept(value, asked_at)
        self._kept.move_to_end(key)
        while len(self._kept) > self._max_entries:
            self._kept.popitem(last=False)
        return value
