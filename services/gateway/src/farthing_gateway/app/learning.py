"""What is left of an answer to learn from: what had been foretold, and for a few a second answer to compare."""

from __future__ import annotations

from dataclasses import dataclass

from farthing_gateway.app.request import Request
from farthing_gateway.app.shadow import Shadows
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.outcomes import foretold
from farthing_gateway.ports import OutcomeBook


@dataclass(frozen=True)
class Learning:
    """Told of every answer that a model made. Waits for nothing: no caller is kept by what may be learnt."""

    book: OutcomeBook
    shadows: Shadows

    def answered(self, request: Request, analysis: Analysis | None, answer: Answer, *, cascade: bool) -> None:
        """An answer is complete. `cascade`: two models could have made it, and a judge chose."""
        told = foretold(request.context.request_id, request.org, analysis, answer, cascade=cascade)
        if told is None:
            return
        self.book.foretell(told)
        self.shadows.consider(request, told, analysis, answer)
