"""The way of one request through the mesh: the steps of "One request" in ARCHITECTURE.md, in their order."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from farthing_gateway.app.caches import Caches, Hit
from farthing_gateway.app.cascade import CascadedGeneration, Cascades
from farthing_gateway.app.generation import Calls, Generation
from farthing_gateway.app.judgement import Judgement
from farthing_gateway.app.learning import Learning
from farthing_gateway.app.models import Models
from farthing_gateway.app.request import Request
from farthing_gateway.app.routing import Router
from farthing_gateway.domain import costs
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.catalogue import Catalogue, Quote
from farthing_gateway.domain.events import Decision, Delta, Event, Final, Part
from farthing_gateway.domain.model import CacheLevel
from farthing_gateway.domain.routing import Choice
from farthing_gateway.ports import CachedUse, Found, Observer, UsageBook
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError
from farthing_kit.money import NanoUsd
from farthing_kit.usage import TokenUsage

NO_TOKENS = TokenUsage()
_WHERE = {CacheLevel.NEAR: "the gateway's memory", CacheLevel.EXACT: "the cache"}


@dataclass(frozen=True)
class OneRequest:
    """What a request passes on its way. Step 1, whose key it is, is behind it: `Gateway.answer`."""

    caches: Caches
    judgement: Judgement
    models: Models
    router: Router
    calls: Calls
    cascades: Cascades
    usage: UsageBook
    learning: Learning
    observer: Observer
    clock: Clock

    async def answer(self, request: Request) -> AsyncGenerator[Event]:
        """One Decision, Deltas, one Final; or the error that says why not."""
        hit = self.caches.near(request)  # 2 near cache
        found, analysis = None, None
        if hit is None:
            found, analysis = await self.judgement.beside(self.caches, request)  # 3 exact cache, 4 Analyze
            hit = _exact_hit(request, found)
        # 5 semantic look-up: comes with the semantic cache
        if hit is not None:
            for event in await self._from_cache(request, hit):
                yield event
            return
        async with aclosing(self._from_model(request, found, analysis)) as events:
            async for event in events:
                yield event

    async def _from_model(
        self, request: Request, found: Found | None, analysis: Analysis | None
    ) -> AsyncGenerator[Event]:
        catalogue = await self.models.catalogue()
        choice = self.router.choose(request, analysis, catalogue)  # 6 tier and model
        generation = self._generation(request, choice, analysis, catalogue)
        told: Decision | None = None
        try:
            async with aclosing(generation.events()) as events:  # 7 Reserve, 8 Generate, 9 tokens stream back
                async for event in events:
                    if isinstance(event, Decision):
                        told = event
                        self.observer.decided(event)
                    elif isinstance(event, Final) and told is not None and generation.answer is not None:
                        # 10 The usage event is the worker's, which saw the tokens; it settles the reservation.
                        self.router.ended(request, choice, event.costs.cost)
                        self.observer.ended(told, event)
                        # 11 Store: begun before the caller hears the end, which does not wait for it.
                        self.caches.keep(request, generation.answer, found)
                        # 12 Learn, later, from what becomes of the answer.
                        cascade = isinstance(generation, CascadedGeneration)
                        self.learning.answered(request, analysis, generation.answer, cascade=cascade)
                    yield event
        finally:
            if generation.nothing_to_charge:
                self.router.ended(request, choice, NanoUsd(0))

    def _generation(
        self, request: Request, choice: Choice, analysis: Analysis | None, catalogue: Catalogue
    ) -> Generation | CascadedGeneration:
        cascade = self.cascades.plan(request, choice)
        if cascade is not None:
            return self.cascades.run(request, cascade, analysis, catalogue)
        return Generation(request, choice, analysis, catalogue, self.calls)

    async def _from_cache(self, request: Request, hit: Hit) -> tuple[Event, ...]:
        quote = self.models.at_hand.quote(hit.answer.model)
        await self._book(request, hit, quote)  # 10 usage event: no worker saw this request
        decision = _decision(request, hit)
        elapsed_s = self.clock.monotonic() - request.arrived_s
        cost = costs.of_hit(hit.answer.usage, quote)
        final = Final(hit.answer.finish_reason, NO_TOKENS, cost, elapsed_s, elapsed_s)
        self.observer.decided(decision)
        self.observer.ended(decision, final)
        return decision, Delta(hit.answer.text), final

    async def _book(self, request: Request, hit: Hit, quote: Quote | None) -> None:
        """A hit costs nothing, so that nothing but the count of what was saved is lost when it cannot be written
        down."""
        if quote is None:
            request.degrade(Part.ACCOUNTING, "the prices are not known, so the saving of this answer is not counted")
        use = CachedUse(request.context, hit.level, hit.answer, quote, request.question.tags, self.clock.now())
        try:
            await self.usage.record(use)
        except FarthingError:
            request.degrade(Part.ACCOUNTING, "the saving of this answer could not be written down")


def _exact_hit(request: Request, found: Found | None) -> Hit | None:
    if found is None or found.answer is None or not request.cache_use.read:
        return None
    return Hit(found.answer, CacheLevel.EXACT)


def _decision(request: Request, hit: Hit) -> Decision:
    answer = hit.answer
    return Decision(
        request_id=request.context.request_id,
        cache_level=hit.level,
        tier=answer.tier,
        model=answer.model,
        quantization=answer.quantization,
        explanation=f"The same request was answered before: {_WHERE[hit.level]} had it.",
        similarity=1.0,
        degradations=tuple(request.degradations),
    )
