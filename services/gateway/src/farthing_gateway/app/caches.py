"""Steps 2, 3 and 11: the near cache, the exact cache, and keeping what was answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from farthing_gateway.app.background import Background
from farthing_gateway.app.request import Request
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.events import Part
from farthing_gateway.domain.model import CacheLevel, FinishReason
from farthing_gateway.domain.nearcache import NearCache, Ticket
from farthing_gateway.ports import AnswerCache, Found, InvalidationLine, Observer
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer that was there already."""

    answer: Answer
    level: CacheLevel


class Memory:
    """The near cache, used only while invalidations can be heard: what was missed cannot be known afterwards."""

    def __init__(self, near: NearCache, line: InvalidationLine) -> None:
        self.near = near
        self._line = line
        self._era = line.era()

    def usable(self) -> bool:
        """Whether entries may be served; forgets them all when invalidations may have been missed."""
        era = self._line.era()
        if era != self._era:
            self._era = era
            self.near.clear()
        return era is not None

    def ticket(self, org: str) -> Ticket:
        """Proof of this moment, for an answer that is going to be looked for."""
        self.usable()
        return self.near.ticket(org)


@dataclass(frozen=True)
class Caches:
    """Answers that were paid for before."""

    memory: Memory
    exact: AnswerCache
    background: Background
    clock: Clock
    observer: Observer

    def near(self, request: Request) -> Hit | None:
        """Step 2: the memory of this gateway. No await: this is the shortest way through the mesh."""
        use = request.cache_use
        if not use.read or not self.memory.usable():
            return None
        answer = self.memory.near.get(request.org, request.key, self.clock.monotonic())
        if answer is None or not answer.is_younger_than(use.max_age, self.clock.now()):
            return None
        return Hit(answer, CacheLevel.NEAR)

    async def look_up(self, request: Request) -> Found | None:
        """Step 3: what the cache service says; None when it could not be asked, which is a miss.

        Asked also when the answer may not be used but may be stored: storing needs the epoch.
        """
        try:
            found = await self.exact.look_up(request.key, request.cache_use.max_age)
        except FarthingError:
            # Whatever it is that the cache cannot do, the request can do without.
            request.degrade(Part.CACHE, "treated as a miss; the answer is not kept")
            return None
        if found.answer is not None and request.cache_use.read and request.cache_use.write:
            self._remember(request, found.answer, found.time_to_live)
        return found

    def keep(self, request: Request, answer: Answer, found: Found | None) -> None:
        """Step 11: keep a complete answer, in memory now and in Redis in the background."""
        if not request.cache_use.write or found is None or answer.finish_reason is not FinishReason.STOP:
            return
        life = request.policy.cache_time_to_live
        self._remember(request, answer, life)
        self.background.start("store", self.exact.store(request.key, answer, found.epoch, life))

    def _remember(self, request: Request, answer: Answer, life: timedelta) -> None:
        near = self.memory.near
        if self.memory.usable():
            near.put(request.near_ticket, request.key, answer, self.clock.monotonic(), life.total_seconds())
            self.observer.near_size(len(near), near.bytes)
