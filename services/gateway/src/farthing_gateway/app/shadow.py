"""Shadows: of a small share of answers, what the large tier would have said, to learn how good lesser tiers are.

A shadow begins when its request has ended, at low priority, under an id and a reservation of its own. It is charged to
the organisation and tagged, and it is no request of the caller's: it supersedes the call that it is compared with, so
that reports count its cost, and its counterfactual in place of that call's. Its text goes to the judge and nowhere
else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.app.background import Tasks
from farthing_gateway.app.generation import Calls, Work
from farthing_gateway.app.models import Models
from farthing_gateway.app.request import Request
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.costs import SupersededCall
from farthing_gateway.domain.judge import Judged
from farthing_gateway.domain.model import FinishReason, Tier
from farthing_gateway.domain.outcomes import (
    SHADOW_SUFFIX,
    Foretold,
    Observed,
    Outcome,
    OutcomeSource,
    agreement,
    deserves_shadow,
)
from farthing_gateway.ports import Judge, OutcomeBook
from farthing_kit import deadline
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError
from farthing_kit.telemetry import Log

TAGS: Final = {"farthing-purpose": "shadow"}
DRAIN_S: Final = 3.0
_REFUSALS: Final = frozenset({ErrorReason.ERROR_REASON_BUDGET_EXCEEDED, ErrorReason.ERROR_REASON_QUOTA_EXCEEDED})


class Ending(StrEnum):
    """What became of a shadow."""

    ACCEPTABLE = "acceptable"
    NOT_ACCEPTABLE = "not_acceptable"
    UNDECIDED = "undecided"
    """The judge could not say whether the answers agree."""
    ALREADY_TOLD = "already_told"
    """The caller had said it by then."""
    BUSY = "busy"
    """As many shadows as may were under way."""
    REFUSED = "refused"
    """The budget has no room for it."""
    FAILED = "failed"
    """A part of the mesh could not do its share."""


@dataclass(frozen=True)
class Shadows:
    """Runs shadows, at most `at_once`; each has its own deadline of `timeout_s`. More are left out, and counted."""

    calls: Calls
    models: Models
    judge: Judge
    book: OutcomeBook
    clock: Clock
    log: Log
    tally: Callable[[str], None]
    at_once: int = 2
    timeout_s: float = 120.0
    _tasks: Tasks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tasks", Tasks(limit=self.at_once, drain_s=DRAIN_S))

    def consider(self, request: Request, told: Foretold, analysis: Analysis | None, answer: Answer) -> None:
        """Begin a shadow of an answer that has just ended, if it is one of the share."""
        policy = request.policy
        if policy.max_tier < Tier.LARGE:
            return
        if not deserves_shadow(told, answer, request.question, policy.routing.shadow_share):
            return
        if self._tasks.are_enough:
            self.tally(Ending.BUSY)
            return
        self._tasks.begin("shadow", self._run(request, told, analysis, answer))

    async def drain(self) -> None:
        """Give those under way a moment; what takes longer is stopped, and what it reserved is given back."""
        await self._tasks.drain()

    async def _run(self, request: Request, told: Foretold, analysis: Analysis | None, answer: Answer) -> None:
        deadline.set_remaining(self.timeout_s)  # its own, not what is left of the request's
        try:
            async with asyncio.timeout(self.timeout_s):
                ending = await self._compared(request, told, analysis, answer)
        except FarthingError as error:
            ending = Ending.REFUSED if error.reason in _REFUSALS else Ending.FAILED
        except TimeoutError:
            ending = Ending.FAILED
        except Exception as error:
            self.log.error("a shadow failed", exception=error)
            ending = Ending.FAILED
        self.tally(ending)

    async def _compared(self, request: Request, told: Foretold, analysis: Analysis | None, answer: Answer) -> Ending:
        catalogue = await self.models.catalogue()
        large = catalogue.of_tier(Tier.LARGE)
        if large is None or not large.available:
            return Ending.FAILED
        own = request.aside(SHADOW_SUFFIX, TAGS, self.clock.monotonic(), self.clock.now())
        work = Work(own, large, analysis, SupersededCall(told.request_id, answer.usage))
        async with self.calls.begin(work, catalogue) as call:
            await call.to_the_end()
        if call.finished is None or call.finished.finish_reason is not FinishReason.STOP:
            return Ending.UNDECIDED
        opinion = await self.judge.judge(_judged(request, told, answer, call.text))
        outcome = agreement(opinion)
        if outcome is None:
            return Ending.UNDECIDED
        if not await self.book.write(Observed(told, outcome, OutcomeSource.SHADOW)):
            return Ending.ALREADY_TOLD
        return Ending.ACCEPTABLE if outcome is Outcome.ACCEPTABLE else Ending.NOT_ACCEPTABLE


def _judged(request: Request, told: Foretold, answer: Answer, reference: str) -> Judged:
    return Judged(
        messages=request.question.messages,
        answer=answer.text,
        finish_reason=answer.finish_reason,
        tier=told.tier,
        task=told.task,
        prior_success=told.success,
        reference_answer=reference,
    )
