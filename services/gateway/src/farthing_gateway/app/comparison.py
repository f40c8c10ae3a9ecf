"""Evidence for the semantic cache: now and then a fresh answer is compared with the one that could have been served."""

from __future__ import annotations

from dataclasses import dataclass, replace

from farthing_gateway.app.background import Background
from farthing_gateway.app.request import Request
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.judge import Judged
from farthing_gateway.domain.model import FinishReason
from farthing_gateway.domain.outcomes import Outcome, agreement
from farthing_gateway.domain.similar import Similar
from farthing_gateway.ports import AnswerCache, Judge


@dataclass(frozen=True)
class Comparisons:
    """Compares in the background, off the way of every caller."""

    cache: AnswerCache
    judge: Judge
    background: Background

    def consider(self, request: Request, similar: Similar, analysis: Analysis | None, fresh: Answer) -> None:
        """A fresh answer is complete: compare it, if the cache wants to know."""
        kept = similar.answer
        if similar.compare and kept is not None and fresh.finish_reason is FinishReason.STOP:
            self.background.start("compare", self._compare(request, similar.lookup_id, analysis, kept, fresh))

    async def _compare(
        self, request: Request, lookup_id: bytes, analysis: Analysis | None, kept: Answer, fresh: Answer
    ) -> None:
        outcome: Outcome | None = Outcome.ACCEPTABLE
        if kept.text.split() != fresh.text.split():
            outcome = agreement(await self.judge.judge(_judged(request, analysis, kept, fresh)))
        if outcome is not None:  # without a word of the judge's there is no evidence
            await self.cache.report(lookup_id, right=outcome is Outcome.ACCEPTABLE)


def _judged(request: Request, analysis: Analysis | None, kept: Answer, fresh: Answer) -> Judged:
    outlook = analysis.outlook(kept.tier) if analysis is not None else None
    judged = Judged(
        messages=request.question.messages,
        answer=kept.text,
        finish_reason=kept.finish_reason,
        tier=kept.tier,
        reference_answer=fresh.text,
    )
    if analysis is None or outlook is None:
        return judged
    return replace(judged, task=analysis.task, prior_success=outlook.success)
