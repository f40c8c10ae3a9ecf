"""Which model answers, and what is said about it."""

from dataclasses import replace
from typing import Any

import pytest

from farthing_gateway.domain.acceptance import Limits, accept
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.catalogue import Catalogue, ServedModel, catalogue
from farthing_gateway.domain.errors import UnknownModel
from farthing_gateway.domain.model import Task, Tier
from farthing_gateway.domain.policy import Policy
from farthing_gateway.domain.routing import Choice, Thresholds, choose, needs_analysis
from farthing_kit.errors import InvalidArgument
from farthing_kit.money import UnitPrices
from services.gateway.tests.values import MODELS, POLICY, PRICES, ask, policy

ALL = catalogue(MODELS, PRICES)


def route(
    complexity: float | None,
    *,
    policy: Policy = POLICY,
    models: Catalogue = ALL,
    uncertainty: float = 0.1,
    **prompt: Any,
) -> Choice:
    analysis = None if complexity is None else Analysis(complexity, Task.CHAT, 50, uncertainty, 10)
    return choose(accept(ask(**prompt), policy, Limits()), policy, analysis, models, Thresholds(0.3, 0.7, 0.9))


@pytest.mark.parametrize(
    ("complexity", "tier"),
    [(0.0, "small"), (0.299, "small"), (0.3, "medium"), (0.699, "medium"), (0.7, "large"), (1.0, "large")],
)
def test_complexity_chooses_the_cheapest_tier_that_does(complexity: float, tier: str) -> None:
    choice = route(complexity)
    assert choice.model.name == tier
    assert f"{complexity:.2f}" in choice.explanation


def test_without_the_classifier_the_policys_default_tier_answers() -> None:
    choice = route(None)
    assert choice.model.tier is Tier.MEDIUM
    assert "classifier" in choice.explanation


def test_a_guess_of_the_classifier_is_no_reason() -> None:
    choice = route(0.01, uncertainty=0.95)
    assert choice.model.tier is Tier.MEDIUM
    assert "unsure" in choice.explanation


def test_the_policy_bounds_what_complexity_asks_for() -> None:
    choice = route(0.9, policy=policy(max_tier=Tier.MEDIUM))
    assert choice.model.tier is Tier.MEDIUM
    assert "allows at most the medium" in choice.explanation


def test_the_caller_may_name_a_tier_or_a_model() -> None:
    assert route(None, tier=3).model.name == "large"
    assert route(None, model="medium").model.name == "medium"
    assert route(None, model="medium", tier=2).model.name == "medium"
    assert "caller" in route(None, tier=3).explanation


def test_the_classifier_is_not_asked_where_it_has_no_say() -> None:
    for changes, its_turn in (({}, True), ({"tier": 1}, False), ({"model": "small"}, False)):
        assert needs_analysis(accept(ask(**changes), POLICY, Limits()), POLICY) is its_turn
    small_only = policy(max_tier=Tier.SMALL, default_tier=Tier.SMALL)
    assert not needs_analysis(accept(ask(), small_only, Limits()), small_only)
    assert "small tier only" in route(None, policy=small_only).explanation


def test_a_model_nobody_serves_is_unknown() -> None:
    with pytest.raises(UnknownModel) as refused:
        route(None, model="large-v9")
    assert refused.value.metadata == {"model": "large-v9"}
    with pytest.raises(UnknownModel):
        route(None, tier=3, models=catalogue(MODELS[:2], PRICES))


def test_a_named_model_must_agree_with_tier_and_policy() -> None:
    with pytest.raises(InvalidArgument) as refused:
        route(None, model="medium", tier=1)
    assert refused.value.fields[0].field == "prompt.tier"
    with pytest.raises(InvalidArgument) as refused:
        route(None, model="large", policy=policy(max_tier=Tier.MEDIUM))
    assert refused.value.fields[0].field == "prompt.model"


def without(*down: str) -> Catalogue:
    return catalogue([replace(model, available=model.name not in down) for model in MODELS], PRICES)


def test_a_better_tier_stands_in_for_one_without_servers() -> None:
    choice = route(0.1, models=without("small"))
    assert choice.model.name == "medium"
    assert "stands in" in choice.explanation


def test_a_lesser_tier_stands_in_when_the_policy_allows_no_better_one() -> None:
    assert route(0.5, models=without("medium"), policy=policy(max_tier=Tier.MEDIUM)).model.name == "small"


def test_with_every_server_down_the_right_tier_is_tried_all_the_same() -> None:
    assert route(0.5, models=without("small", "medium", "large")).model.name == "medium"


def test_a_tier_that_the_caller_asked_for_is_never_swapped() -> None:
    assert route(None, tier=1, models=without("small")).model.name == "small"


def test_no_model_at_all_is_said_so() -> None:
    with pytest.raises(UnknownModel):
        route(0.5, models=Catalogue())


def test_of_two_models_of_a_tier_the_cheaper_available_one_answers() -> None:
    twin = ServedModel("tiny", Tier.SMALL, "w", "INT8", 2048, available=True)
    cheap = replace(PRICES[0], model="tiny", prices=UnitPrices(1, 1, 1, 1, 1))
    assert route(0.1, models=catalogue((*MODELS, twin), (*PRICES, cheap))).model.name == "tiny"
    away = replace(twin, available=False)
    assert route(0.1, models=catalogue((*MODELS, away), (*PRICES, cheap))).model.name == "small"


def test_a_model_of_two_pools_is_listed_once_and_available_if_one_is() -> None:
    down = replace(MODELS[0], available=False)
    assert catalogue((down, MODELS[0]), PRICES).models == (MODELS[0],)
    assert catalogue((MODELS[0], down), PRICES).models == (MODELS[0],)


def test_models_are_listed_cheapest_first_and_those_without_a_price_last() -> None:
    unpriced = ServedModel("new", Tier.SMALL, "w", "INT4", 2048, available=True)
    names = [model.name for model in catalogue((unpriced, *reversed(MODELS)), PRICES).models]
    assert names == ["small", "medium", "large", "new"]


def test_a_quote_prices_the_counterfactual_at_the_newest_price_of_the_large_tier() -> None:
    newer = replace(PRICES[2], model="large-2", version=9)
    quote = catalogue(MODELS, (*PRICES, newer)).quote("small")
    assert quote is not None
    assert (quote.model, quote.counterfactual_model, quote.price_version) == ("small", "large-2", 9)
    assert ALL.quote("nobody") is None
    assert catalogue(MODELS, PRICES[:2]).quote("small") is None
