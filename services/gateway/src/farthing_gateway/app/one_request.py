"""The way of one request through the mesh: the steps of "One request" in ARCHITECTURE.md, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from farthing_gateway.app.caches import Caches, Hit, Made
from farthing_gateway.app.cascade import CascadedGeneration, Cascades
from farthing_gateway.app.flights import Flights, Leading, continued
from farthing_gateway.app.generation import Calls, Generation
from farthing_gateway.app.judgement import Judgement
from farthing_gateway.app.learning import Learning
from farthing_gateway.app.models import Models
from farthing_gateway.app.refresh import Refreshes
from farthing_gateway.app.replay import Replay
from farthing_gateway.app.request import Request
from farthing_gateway.app.routing import Router
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.catalogue import Catalogue
from farthing_gateway.domain.events import Decision, Delta, Event
from farthing_gateway.domain.model import CacheLevel, Task
from farthing_gateway.domain.routing import Choice
from farthing_gateway.domain.similar import Similar
from farthing_gateway.ports import Found, Observer
from farthing_kit.clock import Clock
from farthing_kit.money import NanoUsd

_EXACT = "The same request was answered before: the cache had it."


@dataclass(frozen=True, slots=True)
class _Case:
    """A request that this gateway answers, with what the steps before have found."""

    request: Request
    found: Found | None
    analysis: Analysis | None
    catalogue: Catalogue
    choice: Choice
    similar: Similar
    leading: Leading


@dataclass(frozen=True)
class OneRequest:
    """What a request passes on its way. Step 1, whose key it is, is behind it: `Gateway.answer`."""

    caches: Caches
    flights: Flights
    refreshes: Refreshes
    judgement: Judgement
    models: Models
    router: Router
    calls: Calls
    cascades: Cascades
    replay: Replay
    learning: Learning
    observer: Observer
    clock: Clock

    def answer(self, request: Request) -> AsyncGenerator[Event]:
        """One Decision, Deltas, one Final; or the error that says why not."""
        hit = self.caches.near(request)  # 2 near cache
        return self._beyond(request) if hit is None else self.replay.served(request, hit)

    async def _beyond(self, request: Request) -> AsyncGenerator[Event]:
        found, analysis = await self.judgement.beside(self.caches, request)  # 3 exact cache, 4 Analyze
        if found is not None and found.follow:
            events = self._with_others(request, found)
        elif found is not None and found.answer is not None and request.cache_use.read:
            self.refreshes.consider(request, found)
            events = self.replay.served(request, Hit(found.answer, CacheLevel.EXACT, _EXACT))
        else:
            events = self._led(request, found, analysis)
        async with aclosing(events):
            async for event in events:
                yield event

    async def _with_others(self, request: Request, found: Found) -> AsyncGenerator[Event]:
        """The answer that another request is getting; made here if that one is lost."""
        following = self.flights.following(request, found)
        async with aclosing(self.replay.followed(request, following)) as events:
            async for event in events:
                yield event
        if following.whole is not None:
            return
        analysis = await self.judgement.analyze(request)
        own = self._led(request, following.found, analysis)
        async with aclosing(continued(own, following.sent) if following.sent else own) as events:
            async for event in events:
                yield event

    async def _led(self, request: Request, found: Found | None, analysis: Analysis | None) -> AsyncGenerator[Event]:
        """The answer as this request gets it, handed on to those who follow it."""
        leading = self.flights.leading(request, found)
        try:
            catalogue = await self.models.catalogue()
            choice = self.router.choose(request, analysis, catalogue)  # 6 tier and model: the next step asks which tier
            try:
                similar = await self.caches.search(request, found, analysis, choice)  # 5 semantic look-up
            except asyncio.CancelledError:
                self.router.ended(request, choice, NanoUsd(0))
                raise
            case = _Case(request, found, analysis, catalogue, choice, similar, leading)
            async with aclosing(self._from_similar(case) if similar.served else self._from_model(case)) as events:
                async for event in events:
                    yield event
        finally:
            leading.close()

    async def _from_similar(self, case: _Case) -> AsyncGenerator[Event]:
        answer = case.similar.answer
        assert answer is not None
        self.router.ended(case.request, case.choice, NanoUsd(0))
        case.leading.say(answer.text)
        case.leading.finish(answer)
        task = Task.UNSPECIFIED if case.analysis is None else case.analysis.task
        self.learning.served(case.request, case.similar, task, self.clock.now())  # 12 Learn, from what its caller says
        hit = Hit(answer, CacheLevel.SEMANTIC, case.similar.explanation, case.similar.similarity)
        async with aclosing(self.replay.served(case.request, hit, case.analysis)) as events:
            async for event in events:
                yield event

    async def _from_model(self, case: _Case) -> AsyncGenerator[Event]:
        request, generation = case.request, self._generation(case)
        told: Decision | None = None
        try:
            async with aclosing(generation.events()) as events:  # 7 Reserve, 8 Generate, 9 tokens stream back
                async for event in events:
                    if isinstance(event, Decision):
                        told = event
                        self.observer.decided(event)
                    elif isinstance(event, Delta):
                        case.leading.say(event.text)
                    elif told is not None and generation.answer is not None:
                        # 10 The usage event is the worker's, which saw the tokens; it settles the reservation.
                        self.router.ended(request, case.choice, event.costs.cost)
                        self.observer.ended(told, event)
                        self._keep(case, Made(generation.answer, event.costs.cost, event.duration_s))
                        # 12 Learn, later, from what becomes of the answer.
                        cascade = isinstance(generation, CascadedGeneration)
                        self.learning.answered(request, case.analysis, generation.answer, case.similar, cascade=cascade)
                    yield event
        finally:
            if generation.is_free:
                self.router.ended(request, case.choice, NanoUsd(0))

    def _keep(self, case: _Case, made: Made) -> None:
        """11 Store: begun before the caller hears the end, which does not wait for it."""
        if self.caches.keep(case.request, made, case.found, case.analysis):
            case.leading.stored()
        else:
            case.leading.finish(made.answer)

    def _generation(self, case: _Case) -> Generation | CascadedGeneration:
        cascade = self.cascades.plan(case.request, case.choice)
        if cascade is not None:
            return self.cascades.run(case.request, cascade, case.analysis, case.catalogue)
        return Generation(case.request, case.choice, case.analysis, case.catalogue, self.calls)
