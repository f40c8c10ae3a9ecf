"""The way of one request through the mesh: the steps of "One request" in ARCHITECTURE.md, in their order."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from farthing_gateway.app.admissions import Admissions
from farthing_gateway.app.caches import Caches, Hit
from farthing_gateway.app.generation import Generation
from farthing_gateway.app.judgement import Judgement
from farthing_gateway.app.models import Models
from farthing_gateway.app.request import Request
from farthing_gateway.app.routing import Router
from farthing_gateway.domain import costs
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.catalogue import Quote
from farthing_gateway.domain.estimate import estimate
from farthing_gateway.domain.events import Decision, Delta, Event, Final, Part
from farthing_gateway.domain.model import CacheLevel
from farthing_gateway.ports import CachedUse, Found, Observer, Scheduler, UsageBook
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
    admissions: Admissions
    scheduler: Scheduler
    usage: UsageBook
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
        bound = _upper_bound(request, analysis)
        admitted = await self.admissions.admit(request, choice.model.name, bound, catalogue)  # 7 Reserve
        generation = Generation(request, choice, analysis, admitted, self.clock)
        told: Decision | None = None
        try:
            async with aclosing(generation.events(self.scheduler)) as events:  # 8 Generate, 9 tokens stream back
                async for event in events:
                    if isinstance(event, Decision):
                        told = event
                        self.observer.decided(event)
                    elif isinstance(event, Final) and told is not None and generation.answer is not None:
                        # 10 The usage event is the worker's, which saw the tokens; it settles the reservation.
                        self.admissions.finished(admitted, event.costs.cost)
                        self.router.ended(request, choice, event.costs.cost)
                        self.observer.ended(told, event)
                        # 11 Store: begun before the caller hears the end, which does not wait for it.
                        self.caches.keep(request, generation.answer, found)
                    yield event
        finally:
            if generation.nothing_to_charge:
                self.admissions.nothing_generated(admitted)
                self.router.ended(request, choice, NanoUsd(0))

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


def _upper_bound(request: Request, analysis: Analysis | None) -> TokenUsage:
    question = request.question
    counted = analysis.prompt_tokens if analysis is not None else None
    return estimate(question.messages, question.sampling.max_output_tokens, counted)


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
