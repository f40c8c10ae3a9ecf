"""Ports of the cache that truly work, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from farthing_cache.domain.answer import Answer, CacheKey, Entry, Epoch, Org
from farthing_cache.domain.errors import redis_unavailable
from farthing_kit.clock import Clock


class MemoryStore:
    """The AnswerStore port in dictionaries. Passes the contract suite that the Redis store passes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epochs: dict[Org, int] = {}
        self._entries: dict[tuple[Org, int, CacheKey], tuple[Answer, datetime]] = {}
        self._done: dict[tuple[Org, str], Epoch] = {}
        self.down = False

    async def find(self, org: Org, key: CacheKey) -> tuple[Epoch, Entry | None]:
        self._check()
        epoch = self._epoch(org)
        found = self._entries.get((org, epoch, key))
        if found is None or found[1] <= self._clock.now():
            return Epoch(epoch), None
        return Epoch(epoch), Entry(found[0], found[1] - self._clock.now())

    async def keep(self, org: Org, key: CacheKey, answer: Answer, epoch: Epoch, time_to_live: timedelta) -> bool:
        self._check()
        if self._epochs.get(org) != epoch:
            return False
        self._entries[org, epoch, key] = (answer, self._clock.now() + time_to_live)
        return True

    async def forget(self, org: Org, idempotency_key: str) -> Epoch:
        self._check()
        if (org, idempotency_key) not in self._done:
            self._epochs[org] = self._epoch(org) + 1
            self._done[org, idempotency_key] = Epoch(self._epochs[org])
        return self._done[org, idempotency_key]

    def lose_epoch(self, org: Org) -> None:
        """As if Redis had evicted it."""
        self._epochs.pop(org, None)

    def _epoch(self, org: Org) -> int:
        return self._epochs.setdefault(org, round(self._clock.now().timestamp() * 1000))

    def _check(self) -> None:
        if self.down:
            raise redis_unavailable(retry_after_s=1.0)


@dataclass
class MemoryAnnouncer:
    """Remembers what was announced."""

    said: list[Org] = field(default_factory=list)
    error: Exception | None = None

    async def forgotten(self, org: Org) -> None:
        if self.error is not None:
            raise self.error
        self.said.append(org)


@dataclass
class CountingMeter:
    """Remembers what was counted."""

    seen: list[str] = field(default_factory=list)

    def looked_up(self, *, hit: bool) -> None:
        self.seen.append("hit" if hit else "miss")

    def stored(self, *, kept: bool) -> None:
        self.seen.append("kept" if kept else "late")

    def failed(self) -> None:
        self.seen.append("failed")
