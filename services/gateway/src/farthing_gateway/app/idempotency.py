"""The same request twice is one request: what is remembered of requests that came with an idempotency key."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from farthing_gateway.app.request import Request
from farthing_gateway.domain import costs
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.claims import WINDOW_S, Claim, Claims, State
from farthing_gateway.domain.errors import answer_gone
from farthing_gateway.domain.events import Decision, Delta, Event, Final
from farthing_gateway.domain.model import CacheLevel
from farthing_gateway.domain.nearcache import NearCache
from farthing_gateway.domain.prompt import Prompt
from farthing_kit.clock import Clock
from farthing_kit.usage import TokenUsage


@dataclass(frozen=True)
class Idempotency:
    """Claims keys, and keeps the answers of claimed requests for their repetition.

    Its limits: keys and answers live in the memory of this gateway, bounded. What another gateway did under a key, or
    this one before a restart, is not known here: the request may be answered again, under the same id, and is charged
    once, because the books know attempts at one request apart from requests. While a twin runs, the queue says so.
    Across gateways, or after a restart, two calls on both sides of midnight (UTC) count as two requests.
    """

    claims: Claims
    answers: NearCache
    clock: Clock

    def claim(self, org: str, prompt: Prompt) -> Claim | None:
        """The claim of a request that came with a key."""
        return self.claims.claim(org, prompt, self.clock.now().timestamp()) if prompt.idempotency_key else None

    def repetition(self, org: str, claim: Claim, arrived_s: float) -> tuple[Decision, Delta, Final] | None:
        """What a repetition of a request that was answered hears; None when the request has to run. AnswerGone where
        the answer was not kept: made again, it would be a second answer for one price."""
        if claim.state is not State.ANSWERED:
            return None
        answer = self.answers.get(org, claim.request_id, self.clock.monotonic())
        if answer is None:
            raise answer_gone(claim.request_id)
        return _repeated(claim.request_id, answer, self.clock.monotonic() - arrived_s)

    async def following(self, claim: Claim, request: Request, events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
        """The events of a claimed request, remembered on their way."""
        ticket = self.answers.ticket(request.org)
        told: list[Event] = []
        state = State.UNANSWERED
        try:
            async with aclosing(events):
                async for event in events:
                    told.append(event)
                    if isinstance(event, Final):
                        state = State.ANSWERED
                        if not request.question.cache_control.no_store:
                            answer = _answer(told, self.clock.now())
                            self.answers.put(ticket, claim.request_id, answer, self.clock.monotonic(), WINDOW_S)
                    yield event
        finally:
            claim.state = state


def _answer(told: list[Event], now: datetime) -> Answer:
    decision, final = told[0], told[-1]
    assert isinstance(decision, Decision)
    assert isinstance(final, Final)
    text = "".join(event.text for event in told if isinstance(event, Delta))
    return Answer(text, final.usage, decision.tier, decision.model, decision.quantization, now, final.finish_reason)


def _repeated(request_id: str, answer: Answer, elapsed_s: float) -> tuple[Decision, Delta, Final]:
    """The answer again, at no further cost, under the id that was booked."""
    decision = Decision(
        request_id=request_id,
        cache_level=CacheLevel.NEAR,
        tier=answer.tier,
        model=answer.model,
        quantization=answer.quantization,
        explanation="This request was answered before, under the same idempotency key.",
        similarity=1.0,
    )
    final = Final(answer.finish_reason, TokenUsage(), costs.NOTHING, elapsed_s, elapsed_s)
    return decision, Delta(answer.text), final
