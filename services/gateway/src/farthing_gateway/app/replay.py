"""Answers that no model call of this request made: served from a cache, or read along with another request's."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from farthing_gateway.app.admissions import FOLLOWED, Admissions, Admitted
from farthing_gateway.app.caches import Hit
from farthing_gateway.app.flights import Following
from farthing_gateway.app.models import Models
from farthing_gateway.app.request import Request
from farthing_gateway.domain import costs
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.catalogue import Quote
from farthing_gateway.domain.costs import Costs
from farthing_gateway.domain.estimate import estimate
from farthing_gateway.domain.events import Decision, Delta, Event, Final, Part
from farthing_gateway.domain.model import CacheLevel, FinishReason, Tier
from farthing_gateway.ports import CachedUse, Observer, UsageBook
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError
from farthing_kit.money import NanoUsd
from farthing_kit.usage import TokenUsage

NO_TOKENS = TokenUsage()
_FOLLOWED = "The same request was already being answered: this is that answer, from its beginning."


@dataclass(frozen=True)
class Replay:
    """Serves and books them. They cost what the policy says, mostly nothing, against the cost of making them anew. What
    costs something is held before a word of it is told."""

    models: Models
    admissions: Admissions
    usage: UsageBook
    observer: Observer
    clock: Clock

    async def served(self, request: Request, hit: Hit, analysis: Analysis | None = None) -> AsyncGenerator[Event]:
        """A whole answer."""
        answer = hit.answer
        admitted = await self.admissions.admit_hit(request, answer.model, answer.usage, self.models.at_hand)
        final = await self._final(request, hit, admitted)
        decision = _decision(request, hit, admitted, analysis)
        self.observer.decided(decision)
        self.observer.ended(decision, final)
        yield decision
        yield Delta(answer.text)
        yield final

    async def followed(self, request: Request, following: Following) -> AsyncGenerator[Event]:
        """An answer as it comes. Where it does not come to its end, neither does this: there is no Final then."""
        admitted: Admitted | None = None
        if request.policy.hit_price.share > 0:
            admitted = await self._admitted_to_follow(request)
            if admitted is None:
                return  # nobody here knows what it would cost: the request goes on alone, at its reservation's prices
        decision: Decision | None = None
        try:
            async with aclosing(following.pieces()) as pieces:
                async for piece in pieces:
                    if decision is None:
                        yield (decision := self._begun(request, admitted))
                    yield Delta(piece)
        finally:
            if following.whole is None and admitted is not None:
                self.admissions.nothing_generated(admitted)
        if following.whole is None:
            return
        hit = Hit(following.whole, CacheLevel.EXACT, _FOLLOWED)
        final = await self._final(request, hit, admitted)
        whole = _decision(request, hit, admitted)
        self.observer.ended(whole, final)
        if decision is None:  # an answer without text
            self.observer.decided(whole)
            yield whole
        yield final

    async def _admitted_to_follow(self, request: Request) -> Admitted | None:
        """Nobody knows yet how long the answer will be, nor, mostly, who writes it: the most that it may be is held, as
        for a model, on the dearest one that may answer. None where no price is known."""
        question, catalogue = request.question, self.models.at_hand
        most = estimate(question.messages, question.sampling.max_output_tokens)
        dearest = catalogue.dearest(most, question.model, question.tier, request.policy.max_tier)
        if dearest is None:
            return None
        return await self.admissions.admit_hit(request, dearest, most, catalogue, FOLLOWED)

    def _begun(self, request: Request, admitted: Admitted | None) -> Decision:
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
        decision = _decision(request, Hit(answer, CacheLevel.EXACT, _FOLLOWED), admitted)
        self.observer.decided(decision)
        return decision

    async def _final(self, request: Request, hit: Hit, admitted: Admitted | None) -> Final:
        quote = self._quote(hit.answer, admitted)
        if quote is None:
            request.degrade(Part.ACCOUNTING, "its prices are not known: this answer is free, its saving not counted")
        cost = costs.of_hit(hit.answer.usage, quote, request.policy.hit_price)
        if not await self._booked(request, hit, quote, admitted, cost.cost):
            cost = Costs(NanoUsd(0), cost.counterfactual)
        elapsed_s = self.clock.monotonic() - request.arrived_s
        return Final(hit.answer.finish_reason, NO_TOKENS, cost, elapsed_s, elapsed_s)

    def _quote(self, answer: Answer, admitted: Admitted | None) -> Quote | None:
        """The prices of the model that wrote it: those that it is admitted under, or, of one that was followed and that
        another model wrote than was held for, those at hand. No other model's prices stand in."""
        if admitted is not None and admitted.quote.model == answer.model:
            return admitted.quote
        return self.models.at_hand.quote(answer.model)

    async def _booked(
        self, request: Request, hit: Hit, quote: Quote | None, admitted: Admitted | None, price: NanoUsd
    ) -> bool:
        """10 usage event: no worker saw this request. What cannot be written down is not charged: the answer is served,
        and nothing but a count of what was saved is lost."""
        context, tags, now = request.context, request.question.tags, self.clock.now()
        reservation_id = admitted.reservation_id if admitted is not None else ""
        use = CachedUse(
            context, request.attempt, hit.level, hit.answer, quote, tags, now, request.policy.hit_price, reservation_id
        )
        booked = False
        try:
            await self.usage.record(use)
            booked = True
        except FarthingError:
            request.degrade(
                Part.ACCOUNTING, "this answer could not be written down: it is free, its saving not counted"
            )
        finally:
            if admitted is not None:
                self._settle(admitted, price if booked else None)
        return booked

    def _settle(self, admitted: Admitted, price: NanoUsd | None) -> None:
        if price is None:
            self.admissions.nothing_generated(admitted)
        else:
            self.admissions.finished(admitted, price)


def _decision(request: Request, hit: Hit, admitted: Admitted | None, analysis: Analysis | None = None) -> Decision:
    answer = hit.answer
    held = admitted if admitted is not None and admitted.reservation_id else None
    return Decision(
        request_id=request.context.request_id,
        cache_level=hit.level,
        tier=answer.tier,
        model=answer.model,
        quantization=answer.quantization,
        explanation=hit.explanation,
        similarity=hit.similarity,
        analysis=analysis,
        reservation_id=held.reservation_id if held is not None else "",
        reserved=held.amount if held is not None else None,
        degradations=tuple(request.degradations),
    )
