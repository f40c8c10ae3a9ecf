"""Whether a smaller model answers first, and what its answer has to be worth.

Always two models, never a chain: the one that routing chose, and at most one lesser one in front of it. The lesser one
goes first where both ends are open, that is for the middle band of its success: below, its call would be made only to
be thrown away; above, no judge is needed. And only where trying is expected to be cheaper than not trying:

    cost of the first + (1 - P(accepted)) * cost of the second  <  cost of the second

P(accepted) is taken to be the calibrated success of the first: that is how often a judge accepts which tells right from
wrong without a fault. One that accepts less makes cascades dearer, never the answers worse.

The first answer is kept if the judge gives it at least the probability that the second model was expected to reach, or
the quality floor where that is less: what meets the floor is enough, and no answer has to be surer than the one that
would replace it. So answers that are kept meet the floor as well as the model in their place would have. Under a
spending target there is no floor, and the first rule stands alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from farthing_gateway.domain.catalogue import ServedModel
from farthing_gateway.domain.judge import Opinion
from farthing_gateway.domain.model import Tier
from farthing_gateway.domain.objectives import RoutingReason
from farthing_gateway.domain.options import TierOption
from farthing_gateway.domain.policy import Policy
from farthing_gateway.domain.prompt import Question
from farthing_gateway.domain.routing import ON_EVIDENCE, Choice, Routing


@dataclass(frozen=True, slots=True)
class Band:
    """The middle band: a lesser tier goes first if its success is above `low` and below `high`. With less than
    `begin_s` of the deadline left, no cascade begins; with less than `escalate_s`, the first answer is delivered."""

    low: float = 0.3
    high: float = 0.9
    begin_s: float = 8.0
    escalate_s: float = 3.0


class Ending(StrEnum):
    """How a cascade ended."""

    ACCEPTED = "accepted"
    """The judge kept the first answer."""
    ESCALATED = "escalated"
    """It did not: the second model answered."""
    NOT_JUDGED = "not_judged"
    """The judge could not be asked: the second model answered."""
    NOT_ANSWERED = "not_answered"
    """The first model made no answer: the second one did."""
    NOT_ESCALATED = "not_escalated"
    """The second model could not be paid for or reached: the first answer was delivered."""
    TOO_LATE = "too_late"
    """No time was left for the second model: the first answer was delivered."""

    @classmethod
    def of(cls, *, answered: bool, judged: bool) -> Ending:
        """The ending where the second model answers."""
        if not answered:
            return cls.NOT_ANSWERED
        return cls.ESCALATED if judged else cls.NOT_JUDGED


USUAL_BAND: Final = Band()


@dataclass(frozen=True, slots=True)
class Cascade:
    """Two models, one after the other. `first` answers; below `threshold`, `second` does."""

    first: ServedModel
    first_success: float
    second: Choice
    threshold: float

    def accepts(self, opinion: Opinion) -> bool:
        """Whether the first answer is kept."""
        return opinion.acceptable >= self.threshold

    def first_choice(self, outcome: str) -> Choice:
        """The decision for the first model; `outcome` is a clause that says how it came to that."""
        return Choice(self.first, self._explained(outcome), self._routing)

    def second_choice(self, outcome: str) -> Choice:
        """The decision for the second model."""
        return Choice(self.second.model, self._explained(outcome), self._routing)

    @property
    def _routing(self) -> Routing | None:
        routing = self.second.routing
        return None if routing is None else replace(routing, reason=RoutingReason.CASCADE)

    def _explained(self, outcome: str) -> str:
        tier = self.first.tier.name.lower()
        why = self.second.explanation.removesuffix(".")
        return f"{why}; the {tier} tier answered first ({self.first_success:.2f} expected), {outcome}."


def plan(
    choice: Choice, question: Question, policy: Policy, left_s: float | None, band: Band = USUAL_BAND
) -> Cascade | None:
    """The cascade in front of a choice; None: the chosen model answers at once. `left_s` is what is left of the
    deadline."""
    routing = choice.routing
    if routing is None or not _may_cascade(routing, question, policy):
        return None
    second = routing.option(choice.model.tier)
    if second is None or second.model != choice.model or not second.expected_cost:
        return None
    if left_s is not None and left_s < band.begin_s:
        return None
    worth_trying = [option for option in routing.options if _is_worth_trying(option, second, band)]
    if not worth_trying:
        return None
    first = min(worth_trying, key=lambda option: (_expected_cost(option, second), option.tier))
    assert first.model is not None
    return Cascade(first.model, first.success, choice, _threshold(routing, second))


def _may_cascade(routing: Routing, question: Question, policy: Policy) -> bool:
    """Not where something but the prompt decided, and not within a session, whose answers come from one tier."""
    if not policy.routing.cascade or routing.reason not in ON_EVIDENCE:
        return False
    if question.tier is not Tier.UNSPECIFIED or question.model:
        return False
    return not (question.session_id and policy.routing.session_time_to_live.total_seconds() > 0)


def _is_worth_trying(first: TierOption, second: TierOption, band: Band) -> bool:
    if first.tier >= second.tier or not first.open or first.model is None or not first.model.available:
        return False
    if not band.low < first.success < band.high or first.expected_cost is None or not second.expected_cost:
        return False
    return _expected_cost(first, second) < second.expected_cost


def _expected_cost(first: TierOption, second: TierOption) -> float:
    return (first.expected_cost or 0) + (1.0 - first.success) * (second.expected_cost or 0)


def _threshold(routing: Routing, second: TierOption) -> float:
    return min(routing.quality_floor, second.success) if routing.quality_floor else second.success
