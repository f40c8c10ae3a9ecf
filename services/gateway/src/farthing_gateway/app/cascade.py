"""Cascades: a smaller model answers first, a judge reads it, and a larger model answers where that was not enough.

Every call is made under an id of its own, has a reservation of its own, and is booked; the caller hears of one request.
Nothing is told before it is known which model's answer it is: the first answer comes in one piece, the second one's
tokens stream. A first answer that was not accepted is not thrown away before the second model speaks: where that one
cannot be paid for, cannot be reached, or has no time left, the first answer is delivered, and the decision says so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final as Constant

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.app.generation import Call, Calls, Work, decision_of, final_of
from farthing_gateway.app.request import Request
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.cascade import USUAL_BAND, Band, Cascade, Ending, plan
from farthing_gateway.domain.catalogue import Catalogue
from farthing_gateway.domain.costs import SupersededCall
from farthing_gateway.domain.events import Delta, Event, Part
from farthing_gateway.domain.judge import Judged, Verdict
from farthing_gateway.domain.routing import Choice
from farthing_gateway.ports import Chunk, Judge, Observer, Started
from farthing_kit import deadline
from farthing_kit.charging import Charged, charged_after
from farthing_kit.errors import FarthingError

SECOND_SUFFIX: Constant = "-2"
_R = ErrorReason
# The request itself is over, or its twin runs: another model changes nothing.
_OVER: Constant = frozenset(
    {
        _R.ERROR_REASON_DEADLINE_TOO_SHORT,
        _R.ERROR_REASON_DEADLINE_EXCEEDED,
        _R.ERROR_REASON_CANCELLED,
        _R.ERROR_REASON_IN_PROGRESS,
    }
)


@dataclass(frozen=True)
class Cascades:
    """Decides on cascades, and runs them."""

    calls: Calls
    judge: Judge
    observer: Observer
    band: Band = USUAL_BAND

    def plan(self, request: Request, choice: Choice) -> Cascade | None:
        """The cascade in front of a choice, if one is worth it."""
        return plan(choice, request.question, request.policy, deadline.remaining_s(), self.band)

    def run(
        self, request: Request, cascade: Cascade, analysis: Analysis | None, catalogue: Catalogue
    ) -> CascadedGeneration:
        """The answer that comes of a cascade."""
        return CascadedGeneration(request, cascade, analysis, catalogue, self)


class CascadedGeneration:
    """An answer that a cascade makes. `answer` is there when it ended well."""

    def __init__(
        self, request: Request, cascade: Cascade, analysis: Analysis | None, catalogue: Catalogue, parts: Cascades
    ) -> None:
        self._request = request
        self._cascade = cascade
        self._analysis = analysis
        self._catalogue = catalogue
        self._parts = parts
        self.answer: Answer | None = None
        self.is_free = True

    async def events(self) -> AsyncGenerator[Event]:
        """What the caller hears. Closing it stops the model that runs."""
        first = await self._first()
        if first is not None and not await self._must_escalate(first):
            for event in self._delivered(first, Ending.ACCEPTED, _accepted(first.verdict)):
                yield event
            return
        async with aclosing(self._from_second(first)) as events:
            async for event in events:
                yield event

    async def _first(self) -> Call | None:
        """The first model's whole answer; None when it made none. Where it may yet be booked, the second model's call
        takes its place in the books: it supersedes nothing."""
        work = Work(self._request, self._cascade.first, self._analysis, wants_logprob=True)
        async with self._parts.calls.begin(work, self._catalogue) as call:
            try:
                await call.to_the_end()
            except FarthingError as error:
                if error.reason in _OVER:
                    raise
                return None
            finally:
                self.is_free = call.is_free
        return call

    async def _must_escalate(self, first: Call) -> bool:
        """Ask the judge. Without its word the answer counts as not good enough: that costs money, not answers."""
        cascade = self._cascade
        try:
            opinion = await self._parts.judge.judge(_judged(first, cascade))
        except FarthingError:
            tier = cascade.second.model.tier.name.lower()
            self._request.degrade(Part.JUDGE, f"the {tier} tier answered, as if the first answer had not been enough")
            return True
        first.verdict = Verdict(opinion, cascade.threshold, cascade.accepts(opinion))
        return not first.verdict.accepted

    async def _from_second(self, first: Call | None) -> AsyncGenerator[Event]:
        """The second model's answer, as it comes; or the first one after all."""
        if first is not None and self._is_too_late():
            self._request.degrade(Part.ESCALATION, "too little time was left for a larger model: the first answer")
            for event in self._delivered(first, Ending.TOO_LATE, _rejected(first.verdict)):
                yield event
            return
        told = False
        try:
            async with aclosing(self._second(first)) as events:
                async for event in events:
                    told = True
                    yield event
        except FarthingError as error:
            # Where the second call may yet be booked, the first answer would be told for less than both are charged.
            if told or first is None or charged_after(error) is not Charged.NO:
                raise
            self._request.degrade(Part.ESCALATION, _why(error))
            for event in self._delivered(first, Ending.NOT_ESCALATED, _rejected(first.verdict)):
                yield event

    async def _second(self, first: Call | None) -> AsyncGenerator[Event]:
        """Nothing is told before the first piece of text, so that the first answer is there until then."""
        request, choice = self._request, self._cascade.second_choice(_outcome(first))
        ending = Ending.of(answered=first is not None, judged=first is not None and first.verdict is not None)
        async with self._parts.calls.begin(self._second_work(first), self._catalogue) as call:
            told = False
            try:
                async with aclosing(call.steps()) as steps:
                    async for step in steps:
                        if isinstance(step, Started):
                            continue
                        if not told:
                            told = True
                            self._parts.observer.cascaded(ending)
                            yield decision_of(call, choice, request.context.request_id)
                        if isinstance(step, Chunk):
                            yield Delta(step.text)
                            continue
                        self.answer = call.answer()
                        yield final_of([call] if first is None else [first, call], self._parts.calls.clock)
            finally:
                self.is_free = self.is_free and call.is_free

    def _second_work(self, first: Call | None) -> Work:
        """Under an id of its own, which queue, books and reservations go by."""
        request, superseded = self._request, None
        if first is not None and first.finished is not None:
            superseded = SupersededCall(request.context.request_id, first.finished.usage)
        return Work(request.second_call(SECOND_SUFFIX), self._cascade.second.model, self._analysis, superseded)

    def _delivered(self, first: Call, ending: Ending, outcome: str) -> tuple[Event, ...]:
        """The first answer, in one piece."""
        self._parts.observer.cascaded(ending)
        self.answer = first.answer()
        text = (Delta(first.text),) if first.text else ()
        decision = decision_of(first, self._cascade.first_choice(outcome), buffered=True)
        return decision, *text, final_of([first], self._parts.calls.clock, held_back=True)

    def _is_too_late(self) -> bool:
        left_s = deadline.remaining_s()
        return left_s is not None and left_s < self._parts.band.escalate_s


def _judged(first: Call, cascade: Cascade) -> Judged:
    assert first.finished is not None
    work = first.work
    return Judged(
        messages=work.request.question.messages,
        answer=first.text,
        finish_reason=first.finished.finish_reason,
        tier=work.model.tier,
        task=work.task,
        prior_success=cascade.first_success,
        mean_token_logprob=first.finished.mean_token_logprob,
    )


def _accepted(verdict: Verdict | None) -> str:
    assert verdict is not None
    return f"and the judge gave its answer {verdict.opinion.acceptable:.2f} of the {verdict.threshold:.2f} it needs"


def _rejected(verdict: Verdict | None) -> str:
    if verdict is None:
        return "the judge could not be asked"
    return f"the judge gave its answer {verdict.opinion.acceptable:.2f} of the {verdict.threshold:.2f} it needs"


def _outcome(first: Call | None) -> str:
    return "but could not" if first is None else _rejected(first.verdict)


def _why(error: FarthingError) -> str:
    reason = error.reason_name.removeprefix("ERROR_REASON_").lower().replace("_", " ")
    return f"the larger model could not answer ({reason}): the first answer"
