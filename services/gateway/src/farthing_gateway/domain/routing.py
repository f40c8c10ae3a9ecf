"""Which model answers: the cheapest tier that the prompt's complexity allows, within what caller and policy say."""

from __future__ import annotations

from dataclasses import dataclass

from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.catalogue import Catalogue, ServedModel
from farthing_gateway.domain.errors import invalid_fields, unknown_model
from farthing_gateway.domain.model import Tier
from farthing_gateway.domain.policy import Policy
from farthing_gateway.domain.prompt import Question
from farthing_kit.errors import FieldViolation


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Complexity below `small` goes to the small tier, below `medium` to the medium one, the rest to the large one.
    Above `unsure` of uncertainty the complexity is a guess, and the policy's default tier decides."""

    small: float = 0.35
    medium: float = 0.70
    unsure: float = 0.95


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that answers, and why, in one sentence."""

    model: ServedModel
    explanation: str


def needs_analysis(question: Question, policy: Policy) -> bool:
    """Whether the classifier has a say: not when the caller named a tier or model, nor when the policy allows but
    one."""
    return question.tier is Tier.UNSPECIFIED and not question.model and policy.max_tier > Tier.SMALL


def choose(
    question: Question, policy: Policy, analysis: Analysis | None, catalogue: Catalogue, thresholds: Thresholds
) -> Choice:
    """The model. UnknownModel when nothing serves what was asked for, InvalidArgument when the policy forbids it."""
    if question.model:
        return _named(question, policy, catalogue)
    if question.tier is not Tier.UNSPECIFIED:
        return _of_requested_tier(question.tier, catalogue)
    tier, why = _suitable_tier(policy, analysis, thresholds)
    if tier > policy.max_tier:
        tier, why = policy.max_tier, f"{why}, but the policy allows at most the {_word(policy.max_tier)} tier"
    return _nearest_available(tier, why, policy, catalogue)


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


def _suitable_tier(policy: Policy, analysis: Analysis | None, thresholds: Thresholds) -> tuple[Tier, str]:
    if analysis is None:
        if policy.max_tier is Tier.SMALL:
            return Tier.SMALL, "The policy allows the small tier only"
        return (
            policy.default_tier,
            f"The classifier could not be asked: the policy's default is the {_word(policy.default_tier)} tier",
        )
    if analysis.uncertainty > thresholds.unsure:
        return policy.default_tier, (
            f"The classifier is unsure ({analysis.uncertainty:.2f}): the policy's default is the "
            f"{_word(policy.default_tier)} tier"
        )
    complexity = analysis.complexity
    if complexity < thresholds.small:
        return Tier.SMALL, f"Complexity {complexity:.2f} is below {thresholds.small:.2f}: the small tier does"
    if complexity < thresholds.medium:
        return Tier.MEDIUM, f"Complexity {complexity:.2f} is below {thresholds.medium:.2f}: the medium tier does"
    return Tier.LARGE, f"Complexity {complexity:.2f} calls for the large tier"


def _nearest_available(tier: Tier, why: str, policy: Policy, catalogue: Catalogue) -> Choice:
    """The tier's own model, else a better one that the policy allows, else a lesser one. If no server is healthy as far
    as is known, the tier's own is tried all the same: what is known is some seconds old."""
    better = [other for other in Tier if tier < other <= policy.max_tier]
    lesser = [other for other in reversed(Tier) if Tier.UNSPECIFIED < other < tier]
    found = [model for each in (tier, *better, *lesser) if (model := catalogue.of_tier(each)) is not None]
    if not found:
        raise unknown_model(_word(tier))
    model = next((model for model in found if model.available), found[0])
    if model.tier is not tier:
        why = f"{why}, but no server of it is healthy: the {_word(model.tier)} tier stands in"
    return Choice(model, f"{why}.")


def _word(tier: Tier) -> str:
    return tier.name.lower()
