"""Which model answers, within what caller and policy say, and why.

In this order: a model or tier that the caller names; the policy's model for this kind of work; the tier that the
session is on, unless the prompt needs a better one; what the policy aims at. The caller's own quality floor takes the
place of what the policy aims at, whatever that is. The last step is the same for all: where the tier cannot answer
(nobody serves it, prompt and answer do not fit its context, or its servers are down), the next better one that the
policy allows stands in, then a lesser one; what the caller named is never swapped.

A cascade begins where this ends: `cascade.plan(choice, ...)` takes a Choice and its options, and may put a smaller
model in front of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from farthing_gateway.domain.analysis import Analysis, AnalysisFlag
from farthing_gateway.domain.catalogue import Catalogue, ServedModel
from farthing_gateway.domain.eligibility import CacheUse
from farthing_gateway.domain.errors import invalid_fields, unknown_model
from farthing_gateway.domain.model import Task, Tier
from farthing_gateway.domain.objectives import PRACTICALLY_EQUAL, RoutingReason, best_for_money, cheapest_above
from farthing_gateway.domain.options import Room, TierOption, options_for, room_for, tokens_needed
from farthing_gateway.domain.pace import LASTS, paced_floor
from farthing_gateway.domain.policy import FixedTier, Objective, Policy, QualityFloor, SpendingTarget
from farthing_gateway.domain.prompt import Question
from farthing_gateway.domain.spending import Purse
from farthing_kit.errors import FieldViolation
from farthing_kit.money import NanoUsd

ON_EVIDENCE: Final = frozenset({RoutingReason.QUALITY_FLOOR, RoutingReason.BEST_EFFORT, RoutingReason.SPENDING_TARGET})


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Above `unsure` of uncertainty the classifier's outlooks are a guess, and the policy's default tier decides. Tiers
    whose success is within `practically_equal` of each other are as good as each other."""

    unsure: float = 0.95
    practically_equal: float = PRACTICALLY_EQUAL


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known beside prompt and policy: how fast the budget goes (0: not known), which tier the session is on,
    and, under a spending target, what may be spent."""

    budget_pace: float = 0.0
    session_tier: Tier = Tier.UNSPECIFIED
    purse: Purse | None = None


NOTHING_KNOWN: Final = Standing()
USUAL: Final = Thresholds()


@dataclass(frozen=True, slots=True)
class Routing:
    """How a tier was chosen: enough to do the sum again. `quality_floor` is the one that was applied, 0 when something
    else was aimed at."""

    reason: RoutingReason
    options: tuple[TierOption, ...] = ()
    quality_floor: float = 0.0
    budget_pace: float = 0.0

    def option(self, tier: Tier) -> TierOption | None:
        """What was thought of a tier."""
        return next((option for option in self.options if option.tier is tier), None)


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that answers, and why, in one sentence. `routing` is None when the caller named model or tier."""

    model: ServedModel
    explanation: str
    routing: Routing | None = None

    @property
    def expected_cost(self) -> NanoUsd | None:
        """What the answer will probably cost; None when that is not known."""
        option = self.routing.option(self.model.tier) if self.routing is not None else None
        return option.expected_cost if option is not None and option.model == self.model else None

    @property
    def dearest_cost(self) -> NanoUsd:
        """What the dearest tier would have cost that could have been chosen; 0 when that is not known."""
        options = () if self.routing is None else self.routing.options
        return max((each.expected_cost for each in options if each.open and each.expected_cost), default=NanoUsd(0))


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything that a choice depends on. `options` is empty where the classifier gave no outlook."""

    question: Question
    policy: Policy
    analysis: Analysis | None
    catalogue: Catalogue
    standing: Standing
    thresholds: Thresholds
    room: Room
    options: tuple[TierOption, ...]


@dataclass(frozen=True, slots=True)
class _Pick:
    """A tier, and why: clauses without a full stop. `model` where it is not the one that stands for the tier."""

    tier: Tier
    reason: RoutingReason
    why: str
    quality_floor: float = 0.0
    model: ServedModel | None = None


def wants_embedding(policy: Policy, cache_use: CacheUse) -> bool:
    """Whether the semantic cache needs the prompt's embedding."""
    return policy.semantic_cache.max_error_share > 0.0 and cache_use.any


def needs_analysis(question: Question, policy: Policy) -> bool:
    """Whether routing asks the classifier: not when the caller named a tier or model; not when the policy leaves but
    one tier, unless a kind of work has a model of its own or the caller wants a floor."""
    if question.tier is not Tier.UNSPECIFIED or question.model:
        return False
    if policy.routing.task_models:
        return True
    if policy.max_tier is Tier.SMALL:
        return False
    return question.quality_floor is not None or not isinstance(policy.routing.objective, FixedTier)


def choose(
    question: Question,
    policy: Policy,
    analysis: Analysis | None,
    catalogue: Catalogue,
    standing: Standing = NOTHING_KNOWN,
    thresholds: Thresholds = USUAL,
) -> Choice:
    """The model. UnknownModel when nothing serves what was asked for, InvalidArgument when the policy forbids it."""
    if question.model:
        return _named(question, policy, catalogue)
    if question.tier is not Tier.UNSPECIFIED:
        return _of_requested_tier(question.tier, catalogue)
    room = room_for(question, policy, analysis, catalogue)
    if not room:
        raise unknown_model(_word(policy.max_tier))
    options = () if analysis is None else options_for(question, analysis, catalogue, room, standing.session_tier)
    case = _Case(question, policy, analysis, catalogue, standing, thresholds, room, options)
    pick = _for_task(case, _in_session(case, _aimed(case)))
    return _settled(case, pick)


def _named(question: Question, policy: Policy, catalogue: Catalogue) -> Choice:
    model = catalogue.model(question.model)
    if model is None:
        raise unknown_model(question.model)
    if question.tier not in (Tier.UNSPECIFIED, model.tier):
        description = f"must not be set, or {model.tier.name}, the tier of the model that was named"
        raise invalid_fields([FieldViolation("prompt.tier", description)])
    if model.tier > policy.max_tier:
        description = f"is of the tier {model.tier.name}; your policy allows at most {policy.max_tier.name}"
        raise invalid_fields([FieldViolation("prompt.model", description)])
    return Choice(model, "The caller named this model.")


def _of_requested_tier(tier: Tier, catalogue: Catalogue) -> Choice:
    model = catalogue.of_tier(tier)
    if model is None:
        raise unknown_model(_word(tier))
    return Choice(model, f"The caller asked for the {_word(tier)} tier.")


def _aimed(case: _Case) -> _Pick:
    """What caller and policy aim at, for this prompt."""
    objective = _objective(case)
    if isinstance(objective, FixedTier):
        tier = min(objective.tier, case.policy.max_tier)
        return _Pick(tier, RoutingReason.FIXED_TIER, f"The policy always takes the {_word(tier)} tier")
    if case.policy.max_tier is Tier.SMALL:
        return _Pick(Tier.SMALL, RoutingReason.FIXED_TIER, "The policy allows the small tier only")
    blind = _without_outlook(case)
    if blind is not None:
        return blind
    if isinstance(objective, SpendingTarget):
        return _for_money(case)
    return _above_floor(case, objective.floor)


def _objective(case: _Case) -> Objective:
    wish = case.question.quality_floor
    return case.policy.routing.objective if wish is None else QualityFloor(wish)


def _without_outlook(case: _Case) -> _Pick | None:
    """The policy's default tier, where the classifier knows no better."""
    default = case.policy.default_tier
    otherwise = f"the policy's default is the {_word(default)} tier"
    if case.analysis is None or not any(option.open for option in case.options):
        return _Pick(default, RoutingReason.NO_ANALYSIS, f"The classifier could not be asked: {otherwise}")
    if AnalysisFlag.NO_SIGNAL in case.analysis.flags:
        why = f"The classifier saw nothing that speaks for a tier: {otherwise}"
        return _Pick(default, RoutingReason.NO_SIGNAL, why)
    if case.analysis.uncertainty > case.thresholds.unsure:
        why = f"The classifier is unsure ({case.analysis.uncertainty:.2f}): {otherwise}"
        return _Pick(default, RoutingReason.NO_SIGNAL, why)
    return None


def _above_floor(case: _Case, asked: float) -> _Pick:
    pace = case.standing.budget_pace
    floor = paced_floor(asked, case.policy.routing.min_quality_floor, pace)
    aim = cheapest_above(case.options, floor, case.thresholds.practically_equal)
    why = aim.why
    if floor < asked:
        why = f"{why}; the budget goes {pace:.1f} times as fast as it lasts: floor {asked:.2f} → {floor:.2f}"
    elif case.question.quality_floor is not None:
        why = f"{why}; the caller set the floor"
    return _Pick(aim.option.tier, aim.reason, why, quality_floor=floor)


def _for_money(case: _Case) -> _Pick:
    purse, pace, default = case.standing.purse, case.standing.budget_pace, case.policy.default_tier
    aim = None if purse is None else best_for_money(case.options, purse)
    if aim is None:
        why = "The prices are not known, so the spending target says nothing"
        why = f"{why}: the policy's default is the {_word(default)} tier"
        return _Pick(default, RoutingReason.SPENDING_TARGET, why)
    why = aim.why
    if pace > LASTS:
        why = f"{why}; the budget goes {pace:.1f} times as fast as it lasts, which lowers the target"
    return _Pick(aim.option.tier, aim.reason, why)


def _in_session(case: _Case, aimed: _Pick) -> _Pick:
    """The session's tier, unless there is evidence that the prompt needs a better one; never a lesser one."""
    tier = case.standing.session_tier
    if tier not in case.room or aimed.reason is RoutingReason.FIXED_TIER or aimed.tier is tier:
        return aimed
    if aimed.tier > tier and aimed.reason in ON_EVIDENCE:
        return _and(aimed, f"the session was on the {_word(tier)} tier, which is not enough for this")
    why = f"The session stays on the {_word(tier)} tier"
    return _Pick(tier, RoutingReason.SESSION, why, aimed.quality_floor)


def _for_task(case: _Case, otherwise: _Pick) -> _Pick:
    """The model that the policy has for this kind of work, where it can answer."""
    task = Task.UNSPECIFIED if case.analysis is None else case.analysis.task
    name = case.policy.routing.task_models.get(task)
    if name is None or task is Task.UNSPECIFIED:
        return otherwise
    kind = task.name.lower().replace("_", " ")
    model = case.catalogue.model(name)
    hindrance = _hindrance(case, model)
    if model is None or hindrance:
        return _and(otherwise, f"the policy's model for {kind} {hindrance}")
    return _Pick(model.tier, RoutingReason.TASK_MODEL, f"The policy has this model for {kind}", model=model)


def _hindrance(case: _Case, model: ServedModel | None) -> str:
    if model is None:
        return "is not served"
    if model.tier > case.policy.max_tier:
        return "is above the best tier that it allows"
    if not model.available:
        return "has no healthy server"
    if model.context_tokens < tokens_needed(case.question, case.analysis):
        return "is too narrow for prompt and answer"
    if model.tier < case.standing.session_tier:
        return "is of a lesser tier than the session"
    return ""


def _settled(case: _Case, pick: _Pick) -> Choice:
    """The tier's own model, else a better one that the policy allows, else a lesser one. If no server is healthy as far
    as is known, the tier's own is tried all the same: what is known is some seconds old."""
    routing = Routing(pick.reason, case.options, pick.quality_floor, case.standing.budget_pace)
    if pick.model is not None:
        return Choice(pick.model, f"{pick.why}.", routing)
    room = case.room
    better = [tier for tier in room if tier > pick.tier]
    lesser = [tier for tier in reversed(list(room)) if tier < pick.tier]
    order = [tier for tier in (pick.tier, *better, *lesser) if tier in room]
    tier = next((tier for tier in order if room[tier].available), order[0])
    if tier is not pick.tier:
        pick = _and(pick, f"{_absence(case, pick.tier)}: the {_word(tier)} tier stands in")
    return Choice(room[tier], f"{pick.why}.", routing)


def _absence(case: _Case, tier: Tier) -> str:
    if tier in case.room:
        return "no server of it is healthy"
    served = case.catalogue.of_tier(tier) is not None
    return "prompt and answer do not fit into its context" if served else "it is not served"


def _and(pick: _Pick, clause: str) -> _Pick:
    return _Pick(pick.tier, pick.reason, f"{pick.why}; {clause}", pick.quality_floor, pick.model)


def _word(tier: Tier) -> str:
    return tier.name.lower()
