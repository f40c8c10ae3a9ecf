"""Answers that no model call of this request made: served from a cache, or read along with another request's."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from farthing_gateway.app.caches import Hit
from farthing_gateway.app.flights import Following
from farthing_gateway.app.models import Models
from farthing_gateway.app.request import Request
from farthing_gateway.domain import costs
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.events import Decision, Delta, Event, Final, Part
from farthing_gateway.domain.model import CacheLevel, FinishReason, Tier
from farthing_gateway.ports import CachedUse, Observer, UsageBook
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError
from farthing_kit.usage import TokenUsage

NO_TOKENS = TokenUsage()
FOLLOWED = "The same request was already being answered: this is that answer, from its beginning."


@dataclass(frozen=True)
class Replay:
    """Serves and books them. They cost nothing, against the cost of making them anew."""

    models: Models
    usage: UsageBook
    observer: Observer
    clock: Clock

    async def served(self, request: Request, hit: Hit, analysis: Analysis | None = None) -> AsyncGenerator[Event]:
        """A whole answer."""
        final = await self._final(request, hit)
        decision = _decision(request, hit, analysis)
        self.observer.decided(decision)
        self.observer.ended(decision, final)
        yield decision
        yield Delta(hit.answer.text)
        yield final

    async def followed(self, request: Request, following: Following) -> AsyncGenerator[Event]:
        """An answer as it comes. Where it does not come to its end, neither does this: there is no Final then."""
        decision: Decision | None = None
        async with aclosing(following.pieces()) as pieces:
            async for piece in pieces:
                if decision is None:
                    yield (decision := self._begun(request))
                yield Delta(piece)
        if following.whole is None:
            return
        hit = Hit(following.whole, CacheLevel.EXACT, FOLLOWED)
        final = await self._final(request, hit)
        whole = _decision(request, hit, None)
        self.observer.ended(whole, final)
        if decision is None:  # an answer without text
            self.observer.decided(whole)
            yield whole
        yield final

    def _begun(self, request: Request) -> Decision:
        """Which model writes is known at the end only, unless the caller named it."""
        model = self.models.at_hand.model(request.question.model)
        answer = Answer(
            text="",
            usage=NO_TOKENS,
            tier=model.tier if model is not None else request.question.tier or Tier.UNSPECIFIED,
            model=request.question.model,
            quantization=model.quantization if model is not None else "",
            created_at=self.clock.now(),
            finish_reason=FinishReason.UNSPECIFIED,
        )
        decision = _decision(request, Hit(answer, CacheLevel.EXACT, FOLLOWED), None)
        self.observer.decided(decision)
        return decision

    async def _final(self, request: Request, hit: Hit) -> Final:
        quote = self.models.at_hand.quote(hit.answer.model)
        if quote is None:
            request.degrade(Part.ACCOUNTING, "the prices are not known, so the saving of this answer is not counted")
        use = CachedUse(request.context, hit.level, hit.answer, quote, request.question.tags, self.clock.now())
        try:
            # 10 usage event: no worker saw this request. It costs nothing, so that nothing but the count of what was
            # saved is lost when it cannot be written down.
            await self.usage.record(use)
        except FarthingError:
            request.degrade(Part.ACCOUNTING, "the saving of this answer could not be written down")
        elapsed_s = self.clock.monotonic() - request.arrived_s
        cost = costs.of_hit(hit.answer.usage, quote)
        return Final(hit.answer.finish_reason, NO_TOKENS, cost, elapsed_s, elapsed_s)


def _decision(request: Request, hit: Hit, analysis: Analysis | None) -> Decision:
    answer = hit.answer
    return Decision(
        request_id=request.context.request_id,
        cache_level=hit.level,
        tier=answer.tier,
        model=answer.model,
        quantization=answer.quantization,
        explanation=hit.explanation,
        similarity=hit.similarity,
        analysis=analysis,
        degradations=tuple(request.degradations),
    )
