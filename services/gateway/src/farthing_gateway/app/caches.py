"""Steps 2, 3, 5 and 11: the near cache, the cache by words and by meaning, and keeping what was answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from farthing_gateway.app.background import Background
from farthing_gateway.app.request import Request
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.cachekey import prefix_digest
from farthing_gateway.domain.events import Part
from farthing_gateway.domain.model import CacheLevel, FinishReason, Task
from farthing_gateway.domain.nearcache import NearCache, Ticket
from farthing_gateway.domain.routing import Choice
from farthing_gateway.domain.similar import NOT_ASKED, Meaning, Similar, Terms, least_tier, meaning_of
from farthing_gateway.ports import AnswerCache, FlightLine, Found, InvalidationLine, Kept, Observer, Wanted
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError
from farthing_kit.money import NanoUsd


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer that was there already, how alike its request was, and why it is served."""

    answer: Answer
    level: CacheLevel
    explanation: str
    similarity: float = 1.0


@dataclass(frozen=True, slots=True)
class Made:
    """An answer that a model made just now, and what that took."""

    answer: Answer
    cost: NanoUsd = NanoUsd(0)
    took_s: float = 0.0


class Memory:
    """The near cache, used only while invalidations are heard in time: who says one waits until each gateway has heard
    it, or may not use its memory."""

    def __init__(self, near: NearCache, line: InvalidationLine) -> None:
        self.near = near
        self._line = line
        self._era = line.era()

    def usable(self) -> bool:
        """Whether entries may be served."""
        return self.listening() and self._line.current()

    def ticket(self, org: str) -> Ticket:
        """Proof of this moment, for an answer that is going to be looked for."""
        self.listening()
        return self.near.ticket(org)

    def listening(self) -> bool:
        """Whether invalidations are listened to, so that entries may be put in; forgets everything when some may have
        been missed."""
        era = self._line.era()
        if era != self._era:
            self._era = era
            self.near.clear()
        return era is not None


@dataclass(frozen=True)
class Caches:
    """Answers that were paid for before."""

    memory: Memory
    cache: AnswerCache
    line: FlightLine
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
        return Hit(answer, CacheLevel.NEAR, "The same request was answered before: the gateway's memory had it.")

    async def look_up(self, request: Request) -> Found | None:
        """Step 3: what the cache service says; None when it could not be asked, which is a miss.

        Asked also when the answer may not be used but may be stored: storing needs the moment.
        """
        use = request.cache_use
        wanted = Wanted(use.max_age, not use.read, claim=use.shared, prefix=prefix_digest(request.question))
        try:
            found = await self.cache.look_up(request.key, wanted)
        except FarthingError:
            # Whatever it is that the cache cannot do, the request can do without.
            request.degrade(Part.CACHE, "treated as a miss; the answer is not kept")
            return None
        if found.answer is not None and use.shared:
            self._remember(request, found.answer, found.time_to_live)
        return found

    async def search(self, request: Request, found: Found | None, analysis: Analysis | None, choice: Choice) -> Similar:
        """Step 5: an answer to a request that means the same. Any failure is a miss, and no more: the exact look-up
        has said already whether the cache is there."""
        share = request.policy.semantic_cache.max_error_share
        if share <= 0.0 or not request.cache_use.read or found is None:
            return NOT_ASKED
        meaning = meaning_of(request.question, analysis)
        if meaning is None:
            self.observer.searched("no_embedding")
            return NOT_ASKED
        terms = Terms(
            task=analysis.task if analysis is not None else Task.UNSPECIFIED,
            min_tier=least_tier(choice),
            max_error_share=share,
            max_age=request.cache_use.max_age,
            min_score=request.question.cache_control.min_score,
        )
        try:
            similar = await self.cache.search(request.key, meaning, terms)
        except FarthingError:
            self.observer.searched("error")
            return NOT_ASKED
        self.observer.searched("hit" if similar.served else similar.missed)
        return similar

    def keep(self, request: Request, made: Made, found: Found | None, analysis: Analysis | None) -> bool:
        """Step 11: keep a complete answer, in memory now and in Redis in the background; whether that was begun."""
        answer = made.answer
        whole = answer.finish_reason is FinishReason.STOP and bool(answer.text)
        if not request.cache_use.write or found is None or not whole:
            return False
        life = request.policy.cache_time_to_live
        self._remember(request, answer, life)
        kept = Kept(
            answer,
            found,
            life,
            meaning=_kept_meaning(request, analysis),
            tags=request.question.cache_control.tags,
            cost=made.cost,
            took_s=made.took_s,
        )
        self.background.start("store", self._store(request, kept))
        return True

    def _remember(self, request: Request, answer: Answer, life: timedelta) -> None:
        near = self.memory.near
        if self.memory.listening():
            near.put(request.near_ticket, request.key, answer, self.clock.monotonic(), life.total_seconds())
            self.observer.near_size(len(near), near.bytes)

    async def _store(self, request: Request, kept: Kept) -> None:
        """What the cache finds not worth keeping is not kept here either; an answer that cannot be stored must not
        keep others waiting for it."""
        try:
            worth = await self.cache.store(request.key, kept)
        except FarthingError:
            if kept.found.lease:
                await self.line.release(request.key, kept.found)
            raise
        if not worth:
            self.memory.near.discard(request.org, request.key)


def _kept_meaning(request: Request, analysis: Analysis | None) -> Meaning | None:
    wanted = request.policy.semantic_cache.max_error_share > 0.0
    return meaning_of(request.question, analysis) if wanted else None
