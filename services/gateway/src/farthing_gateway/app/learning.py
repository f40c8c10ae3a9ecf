"""What is left of an answer to learn from: what had been foretold, and for a few a second answer to compare."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from farthing_gateway.app.comparison import Comparisons
from farthing_gateway.app.request import Request
from farthing_gateway.app.shadow import Shadows
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.model import Task
from farthing_gateway.domain.outcomes import foretold, of_similar
from farthing_gateway.domain.routing import needs_analysis
from farthing_gateway.domain.similar import Similar
from farthing_gateway.ports import OutcomeBook


@dataclass(frozen=True)
class Learning:
    """Told of every answer that a model made, and of every semantic hit. Waits for nothing: no caller is kept by what
    may be learnt."""

    book: OutcomeBook
    shadows: Shadows
    comparisons: Comparisons

    def answered(
        self, request: Request, analysis: Analysis | None, answer: Answer, similar: Similar, *, cascade: bool
    ) -> None:
        """An answer is complete. `cascade`: two models could have made it, and a judge chose. `similar` is what the
        semantic cache had said."""
        self.comparisons.consider(request, similar, analysis, answer)
        if not needs_analysis(request.question, request.policy):
            return  # the caller or the policy chose: there was nothing to foretell
        told = foretold(request.context.request_id, request.org, analysis, answer, cascade=cascade)
        if told is None:
            return
        self.book.foretell(told)
        self.shadows.consider(request, told, analysis, answer)

    def served(self, request: Request, similar: Similar, task: Task, now: datetime) -> None:
        """A semantic hit was served: its caller may say how good it was."""
        told = of_similar(request.context.request_id, request.org, similar, task, now)
        if told is not None:
            self.book.foretell(told)
