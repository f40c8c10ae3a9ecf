"""Which model answers, and what is said about it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_gateway.domain.acceptance import Limits, accept
from farthing_gateway.domain.analysis import Analysis, AnalysisFlag, Outlook
from farthing_gateway.domain.catalogue import Catalogue, ServedModel, catalogue
from farthing_gateway.domain.eligibility import NONE, CacheUse
from farthing_gateway.domain.errors import UnknownModel
from farthing_gateway.domain.model import Role, Task, Tier
from farthing_gateway.domain.objectives import PRACTICALLY_EQUAL, RoutingReason
from farthing_gateway.domain.policy import (
    FixedTier,
    Policy,
    QualityFloor,
    RoutingPolicy,
    SemanticCachePolicy,
    SpendingTarget,
)
from farthing_gateway.domain.prompt import Message
from farthing_gateway.domain.routing import (
    NOTHING_KNOWN,
    Choice,
    Standing,
    Thresholds,
    choose,
    needs_analysis,
    wants_embedding,
)
from farthing_gateway.domain.spending import Purse
from farthing_kit.errors import InvalidArgument
from farthing_kit.money import NanoUsd, UnitPrices
from services.gateway.tests.values import MODELS, POLICY, PRICES, analysis, ask, policy, sampled

ALL = catalogue(MODELS, PRICES)
EASY, MIDDLING, HARD = analysis(0.9, 0.95, 0.98), analysis(0.4, 0.75, 0.9), analysis(0.1, 0.3, 0.8)
HOPELESS = analysis(0.10, 0.11, 0.115)
MADE_FOR_CODE = ServedModel("coder", Tier.MEDIUM, "w", "INT4", 2048, available=True)


def route(
    judged: Analysis | None,
    *earlier: Message,
    policy: Policy = POLICY,
    models: Catalogue = ALL,
    standing: Standing = NOTHING_KNOWN,
    **prompt: Any,
) -> Choice:
    question = accept(ask("What is the capital of France?", *earlier, **prompt), policy, Limits())
    return choose(question, policy, judged, models, standing, Thresholds(unsure=0.9))


def under(**routing: Any) -> Policy:
    return policy(routing=RoutingPolicy(**routing))


def reason(choice: Choice) -> RoutingReason:
    assert choice.routing is not None
    return choice.routing.reason


def without(*down: str) -> Catalogue:
    return catalogue([replace(model, available=model.name not in down) for model in MODELS], PRICES)


class TestQualityFloor:
    @pytest.mark.parametrize(("judged", "tier"), [(EASY, "small"), (MIDDLING, "medium"), (HARD, "large")])
    def test_the_cheapest_tier_that_reaches_the_floor_answers(self, judged: Analysis, tier: str) -> None:
        choice = route(judged)
        assert choice.model.name == tier
        assert reason(choice) is RoutingReason.QUALITY_FLOOR
        assert "cheapest to reach 0.70" in choice.explanation

    def test_a_dear_tier_that_adds_nothing_is_never_bought(self) -> None:
        choice = route(HOPELESS)
        assert choice.model.name == "small"
        assert reason(choice) is RoutingReason.BEST_EFFORT

    def test_where_no_tier_reaches_the_floor_what_is_clearly_best_answers(self) -> None:
        assert route(analysis(0.1, 0.3, 0.5)).model.name == "large"

    def test_cheaper_is_a_matter_of_prices_and_not_of_names(self) -> None:
        dear = [replace(PRICES[0], prices=UnitPrices(fresh_input=10**10, output=10**10)), *PRICES[1:]]
        assert route(EASY, models=catalogue(MODELS, dear)).model.name == "medium"

    def test_without_prices_a_lesser_tier_is_taken_to_be_cheaper(self) -> None:
        choice = route(MIDDLING, models=catalogue(MODELS, ()))
        assert choice.model.name == "medium"
        assert choice.expected_cost is None

    def test_the_expected_cost_is_that_of_the_prompt_and_the_median_answer(self) -> None:
        choice = route(EASY)
        prompt_tokens = 9 + 32 + 8  # counted, and the chat template
        assert choice.expected_cost == prompt_tokens * 20 + 20 * 60
        shortened = route(EASY, sampling=sampled(max_output_tokens=5))
        assert shortened.expected_cost == prompt_tokens * 20 + 5 * 60

    def test_the_policy_bounds_what_the_floor_asks_for(self) -> None:
        choice = route(HARD, policy=policy(max_tier=Tier.MEDIUM))
        assert choice.model.tier is Tier.MEDIUM
        assert choice.routing is not None
        assert [option.open for option in choice.routing.options] == [True, True, False]

    def test_the_sum_can_be_done_again(self) -> None:
        routing = route(MIDDLING).routing
        assert routing is not None
        assert [(each.tier, each.success) for each in routing.options] == [
            (Tier.SMALL, 0.4),
            (Tier.MEDIUM, 0.75),
            (Tier.LARGE, 0.9),
        ]
        assert routing.quality_floor == 0.7


class TestBudgetPace:
    @pytest.mark.parametrize(
        ("pace", "floor"), [(0.0, 0.7), (1.0, 0.7), (1.5, 0.6), (1.6, 0.58), (2.0, 0.5), (40.0, 0.5)]
    )
    def test_the_floor_falls_to_the_least_as_the_budget_runs_out(self, pace: float, floor: float) -> None:
        routing = route(EASY, standing=Standing(budget_pace=pace)).routing
        assert routing is not None
        assert routing.quality_floor == pytest.approx(floor)
        assert routing.budget_pace == pace

    def test_the_decision_says_so(self) -> None:
        choice = route(analysis(0.6, 0.75, 0.9), standing=Standing(budget_pace=1.6))
        assert choice.model.name == "small"
        assert "the budget goes 1.6 times as fast as it lasts: floor 0.70 → 0.58" in choice.explanation

    def test_a_floor_below_the_least_stays_as_it_is(self) -> None:
        low = under(objective=QualityFloor(0.3), min_quality_floor=0.5)
        routing = route(EASY, policy=low, standing=Standing(budget_pace=3.0)).routing
        assert routing is not None
        assert routing.quality_floor == 0.3


class TestWithoutAnOutlook:
    def test_without_the_classifier_the_policys_default_tier_answers(self) -> None:
        choice = route(None)
        assert choice.model.tier is Tier.MEDIUM
        assert reason(choice) is RoutingReason.NO_ANALYSIS
        assert "classifier" in choice.explanation

    def test_no_signal_is_the_policys_default_tier_and_never_silently_the_small_one(self) -> None:
        choice = route(replace(EASY, flags=frozenset({AnalysisFlag.NO_SIGNAL})))
        assert choice.model.tier is Tier.MEDIUM
        assert reason(choice) is RoutingReason.NO_SIGNAL

    def test_a_guess_of_the_classifier_is_no_reason(self) -> None:
        choice = route(replace(EASY, uncertainty=0.95))
        assert choice.model.tier is Tier.MEDIUM
        assert "unsure" in choice.explanation

    def test_a_classifier_without_outlooks_is_one_that_was_not_asked(self) -> None:
        assert reason(route(replace(EASY, outlooks=()))) is RoutingReason.NO_ANALYSIS


class TestFixedTier:
    def test_a_fixed_tier_is_always_taken(self) -> None:
        for judged in (None, EASY, HARD):
            choice = route(judged, policy=under(objective=FixedTier(Tier.LARGE)))
            assert choice.model.name == "large"
            assert reason(choice) is RoutingReason.FIXED_TIER

    def test_the_caller_may_still_name_a_tier_that_the_policy_allows(self) -> None:
        assert route(None, policy=under(objective=FixedTier(Tier.LARGE)), tier=1).model.name == "small"


class TestSpendingTarget:
    def test_the_best_that_the_purse_pays_for_answers(self) -> None:
        target = under(objective=SpendingTarget(NanoUsd(100_000)))
        rich = Standing(purse=Purse(NanoUsd(100_000), worth=1e9, credit=1e9))
        choice = route(MIDDLING, policy=target, standing=rich)
        assert (choice.model.name, reason(choice)) == ("large", RoutingReason.SPENDING_TARGET)
        thrifty = Standing(purse=Purse(NanoUsd(100_000), worth=1e3, credit=1e9))
        assert route(MIDDLING, policy=target, standing=thrifty).model.name == "small"

    def test_what_the_credit_does_not_cover_is_not_bought(self) -> None:
        target = under(objective=SpendingTarget(NanoUsd(100)))
        poor = Standing(purse=Purse(NanoUsd(100), worth=1e9, credit=0.0))
        choice = route(HARD, policy=target, standing=poor)
        assert choice.model.name == "small"
        assert "used up for now" in choice.explanation

    def test_without_prices_the_target_says_nothing(self) -> None:
        target = under(objective=SpendingTarget(NanoUsd(100)))
        purse = Standing(purse=Purse(NanoUsd(100), worth=1e9, credit=1e9))
        assert route(EASY, policy=target, standing=purse, models=catalogue(MODELS, ())).model.name == "medium"

    def test_the_callers_own_floor_takes_the_targets_place(self) -> None:
        target = under(objective=SpendingTarget(NanoUsd(100)))
        choice = route(HARD, policy=target, quality_floor=0.6)
        assert (choice.model.name, reason(choice)) == ("large", RoutingReason.QUALITY_FLOOR)


class TestTaskModels:
    MODELS = catalogue((*MODELS, MADE_FOR_CODE), PRICES)
    CODE = replace(EASY, task=Task.CODE)

    def test_work_of_a_kind_goes_to_the_model_made_for_it(self) -> None:
        choice = route(self.CODE, policy=under(task_models={Task.CODE: "coder"}), models=self.MODELS)
        assert (choice.model.name, reason(choice)) == ("coder", RoutingReason.TASK_MODEL)

    def test_other_work_does_not(self) -> None:
        for task in (Task.MATHS, Task.UNSPECIFIED):
            judged = replace(EASY, task=task)
            choice = route(judged, policy=under(task_models={Task.CODE: "coder"}), models=self.MODELS)
            assert choice.model.name == "small"

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"name": "another"}, "is not served"),
            ({"tier": Tier.LARGE}, "is above the best tier"),
            ({"available": False}, "has no healthy server"),
            ({"context_tokens": 100}, "is too narrow"),
        ],
    )
    def test_where_that_model_cannot_answer_the_usual_one_does_and_it_is_said(
        self, change: dict[str, Any], said: str
    ) -> None:
        rules = replace(under(task_models={Task.CODE: "coder"}), max_tier=Tier.MEDIUM)
        models = catalogue((*MODELS, replace(MADE_FOR_CODE, **change)), PRICES)
        choice = route(self.CODE, policy=rules, models=models)
        assert choice.model.name == "small"
        assert said in choice.explanation


class TestSessions:
    def test_a_session_stays_on_its_tier_when_a_lesser_one_would_do(self) -> None:
        choice = route(EASY, standing=Standing(session_tier=Tier.MEDIUM))
        assert (choice.model.name, reason(choice)) == ("medium", RoutingReason.SESSION)

    def test_a_session_gets_a_better_tier_when_its_own_is_not_enough(self) -> None:
        choice = route(HARD, standing=Standing(session_tier=Tier.SMALL))
        assert choice.model.name == "large"
        assert "session was on the small tier" in choice.explanation

    def test_a_prompt_that_says_nothing_does_not_move_a_session(self) -> None:
        judged = replace(EASY, flags=frozenset({AnalysisFlag.NO_SIGNAL}))
        assert route(judged, standing=Standing(session_tier=Tier.SMALL)).model.name == "small"
        assert route(None, standing=Standing(session_tier=Tier.LARGE)).model.name == "large"

    def test_a_model_for_a_kind_of_work_does_not_take_a_session_down(self) -> None:
        rules = under(task_models={Task.CODE: "coder"})
        models = TestTaskModels.MODELS
        at_large = Standing(session_tier=Tier.LARGE)
        assert route(TestTaskModels.CODE, policy=rules, models=models, standing=at_large).model.name == "large"

    def test_a_switch_has_to_be_worth_the_lost_prefix(self) -> None:
        prices = [replace(each, prices=replace(each.prices, cache_read=0)) for each in PRICES]
        earlier = Message(Role.USER, "x" * 4_000), Message(Role.ASSISTANT, "yes")
        target = under(objective=SpendingTarget(NanoUsd(1_000_000)))
        purse = Purse(NanoUsd(1_000_000), worth=8e5, credit=1e9)
        judged = replace(analysis(0.5, 0.7, 0.75), prompt_tokens=1_000)
        models = catalogue(MODELS, prices)

        def at(tier: Tier) -> str:
            standing = Standing(session_tier=tier, purse=purse)
            return route(judged, *earlier, policy=target, models=models, standing=standing).model.name

        assert (at(Tier.UNSPECIFIED), at(Tier.SMALL)) == ("medium", "small")


class TestContext:
    LONG = replace(EASY, prompt_tokens=1_800)

    def test_a_prompt_that_does_not_fit_goes_to_the_next_tier_that_is_wide_enough(self) -> None:
        wide = [MODELS[0], replace(MODELS[1], context_tokens=8_192), MODELS[2]]
        choice = route(self.LONG, models=catalogue(wide, PRICES))
        assert choice.model.name == "medium"

    def test_a_fixed_tier_that_is_too_narrow_is_stood_in_for_and_it_is_said(self) -> None:
        wide = [*MODELS[:2], replace(MODELS[2], context_tokens=8_192)]
        choice = route(self.LONG, models=catalogue(wide, PRICES), policy=under(objective=FixedTier(Tier.SMALL)))
        assert choice.model.name == "large"
        assert "do not fit" in choice.explanation

    def test_where_no_model_is_wide_enough_the_one_that_counts_exactly_decides(self) -> None:
        assert route(self.LONG).model.name == "small"

    def test_of_two_models_of_a_tier_the_one_that_is_wide_enough_answers(self) -> None:
        wide = replace(MODELS[0], name="small-wide", context_tokens=8_192)
        assert route(self.LONG, models=catalogue((*MODELS, wide), PRICES)).model.name == "small-wide"

    def test_a_prompt_that_nobody_counted_is_measured_by_its_letters(self) -> None:
        wide = [*MODELS[:2], replace(MODELS[2], context_tokens=8_192)]
        choice = route(None, Message(Role.USER, "x" * 8_000), models=catalogue(wide, PRICES))
        assert choice.model.name == "large"


class TestTheCallersWish:
    def test_the_caller_may_name_a_tier_or_a_model(self) -> None:
        assert route(None, tier=3).model.name == "large"
        assert route(None, model="medium").model.name == "medium"
        assert route(None, model="medium", tier=2).model.name == "medium"
        assert "caller" in route(None, tier=3).explanation
        assert route(None, tier=3).routing is None

    def test_a_floor_of_the_caller_is_applied_and_said(self) -> None:
        choice = route(MIDDLING, quality_floor=0.85)
        assert choice.model.name == "large"
        assert "the caller set the floor" in choice.explanation

    @pytest.mark.parametrize("floor", [0.49, 0.0, -1.0, 1.0, 2.0, float("nan")])
    def test_a_floor_that_the_policy_does_not_allow_is_refused_with_what_it_allows(self, floor: float) -> None:
        with pytest.raises(InvalidArgument) as refused:
            route(EASY, quality_floor=floor)
        assert refused.value.fields[0].field == "prompt.quality_floor"
        assert "0.5 or more" in refused.value.fields[0].description

    def test_a_model_nobody_serves_is_unknown(self) -> None:
        with pytest.raises(UnknownModel) as refused:
            route(None, model="large-v9")
        assert refused.value.metadata == {"model": "large-v9"}
        with pytest.raises(UnknownModel):
            route(None, tier=3, models=catalogue(MODELS[:2], PRICES))

    def test_a_named_model_must_agree_with_tier_and_policy(self) -> None:
        with pytest.raises(InvalidArgument) as refused:
            route(None, model="medium", tier=1)
        assert refused.value.fields[0].field == "prompt.tier"
        with pytest.raises(InvalidArgument) as refused:
            route(None, model="large", policy=policy(max_tier=Tier.MEDIUM))
        assert refused.value.fields[0].field == "prompt.model"


class TestWhoAsksTheClassifier:
    def test_it_is_not_asked_where_it_has_no_say(self) -> None:
        for changes, its_turn in (({}, True), ({"tier": 1}, False), ({"model": "small"}, False)):
            assert needs_analysis(accept(ask(**changes), POLICY, Limits()), POLICY) is its_turn
        small_only = policy(max_tier=Tier.SMALL, default_tier=Tier.SMALL)
        assert not needs_analysis(accept(ask(), small_only, Limits()), small_only)
        assert "small tier only" in route(None, policy=small_only).explanation

    def test_a_fixed_tier_needs_it_for_task_models_and_callers_floors_only(self) -> None:
        fixed = under(objective=FixedTier(Tier.MEDIUM))
        assert not needs_analysis(accept(ask(), fixed, Limits()), fixed)
        assert needs_analysis(accept(ask(quality_floor=0.6), fixed, Limits()), fixed)
        with_tasks = under(objective=FixedTier(Tier.MEDIUM), task_models={Task.CODE: "coder"})
        assert needs_analysis(accept(ask(), with_tasks, Limits()), with_tasks)

    def test_the_embedding_is_for_the_semantic_cache_only(self) -> None:
        semantic = policy(semantic_cache=SemanticCachePolicy(max_error_share=0.01))
        assert wants_embedding(semantic, CacheUse(read=True, write=False))
        assert not wants_embedding(semantic, NONE)
        assert not wants_embedding(POLICY, CacheUse(read=True, write=True))


class TestStandIns:
    def test_a_better_tier_stands_in_for_one_without_servers(self) -> None:
        choice = route(EASY, models=without("small"))
        assert choice.model.name == "medium"
        assert "stands in" in choice.explanation

    def test_a_lesser_tier_stands_in_when_the_policy_allows_no_better_one(self) -> None:
        choice = route(MIDDLING, models=without("medium"), policy=policy(max_tier=Tier.MEDIUM))
        assert choice.model.name == "small"

    def test_with_every_server_down_the_right_tier_is_tried_all_the_same(self) -> None:
        assert route(MIDDLING, models=without("small", "medium", "large")).model.name == "medium"

    def test_a_tier_that_the_caller_asked_for_is_never_swapped(self) -> None:
        assert route(None, tier=1, models=without("small")).model.name == "small"

    def test_a_tier_that_nobody_serves_is_no_option(self) -> None:
        choice = route(EASY, models=catalogue(MODELS[1:], PRICES))
        assert choice.model.name == "medium"
        assert choice.routing is not None
        assert choice.routing.options[0].model is None

    def test_no_model_at_all_is_said_so(self) -> None:
        with pytest.raises(UnknownModel):
            route(MIDDLING, models=Catalogue())

    def test_of_two_models_of_a_tier_the_cheaper_available_one_answers(self) -> None:
        twin = ServedModel("tiny", Tier.SMALL, "w", "INT8", 2048, available=True)
        cheap = replace(PRICES[0], model="tiny", prices=UnitPrices(1, 1, 1, 1, 1))
        assert route(EASY, models=catalogue((*MODELS, twin), (*PRICES, cheap))).model.name == "tiny"
        away = replace(twin, available=False)
        assert route(EASY, models=catalogue((*MODELS, away), (*PRICES, cheap))).model.name == "small"

    def test_a_model_of_two_pools_is_listed_once_and_available_if_one_is(self) -> None:
        down = replace(MODELS[0], available=False)
        for order in ((down, MODELS[0]), (MODELS[0], down)):
            assert catalogue(order, PRICES).models == (MODELS[0],)


probabilities = st.floats(0.0, 1.0)
judgements = st.builds(
    lambda steps, uncertainty, task, signal: analysis(
        *sorted(steps), uncertainty=uncertainty, task=task, flags=frozenset() if signal else {AnalysisFlag.NO_SIGNAL}
    ),
    st.tuples(probabilities, probabilities, probabilities),
    probabilities,
    st.sampled_from(Task),
    st.booleans(),
)
standings = st.builds(
    Standing,
    budget_pace=st.floats(0.0, 5.0),
    session_tier=st.sampled_from(Tier),
    purse=st.none() | st.builds(Purse, st.just(NanoUsd(10_000)), st.floats(1.0, 1e9), st.floats(-1e6, 1e9)),
)
objectives = st.one_of(
    st.builds(QualityFloor, st.floats(0.01, 0.99)),
    st.just(SpendingTarget(NanoUsd(10_000))),
    st.builds(FixedTier, st.sampled_from([Tier.SMALL, Tier.MEDIUM, Tier.LARGE])),
)
tiers = st.sampled_from([Tier.SMALL, Tier.MEDIUM, Tier.LARGE])
rules = st.builds(
    lambda objective, best, default: replace(
        under(objective=objective, task_models={Task.CODE: "large"}), max_tier=best, default_tier=min(default, best)
    ),
    objectives,
    tiers,
    tiers,
)


class TestWhateverComes:
    @given(st.none() | judgements, rules, standings)
    def test_nothing_is_ever_above_the_policys_best_tier_and_all_of_it_is_explained(
        self, judged: Analysis | None, policy: Policy, standing: Standing
    ) -> None:
        choice = route(judged, policy=policy, standing=standing)
        assert choice.model.tier <= policy.max_tier
        assert choice.explanation.endswith(".")
        assert choice.explanation.count(". ") == 0
        assert choice.routing is not None
        assert choice.routing.reason is not RoutingReason.UNSPECIFIED

    @given(st.none() | judgements, rules, standings)
    def test_the_same_case_gets_the_same_choice(
        self, judged: Analysis | None, policy: Policy, standing: Standing
    ) -> None:
        first, second = (route(judged, policy=policy, standing=standing) for _ in range(2))
        assert first == second

    @given(judgements, st.floats(0.5, 0.98), st.floats(0.5, 0.98), st.floats(0.0, 3.0))
    def test_a_higher_floor_never_gets_a_lesser_success(
        self, judged: Analysis, one: float, other: float, pace: float
    ) -> None:
        low, high = sorted((one, other))
        standing = Standing(budget_pace=pace)
        got = [_success(route(judged, quality_floor=floor, standing=standing), judged) for floor in (low, high)]
        # Best effort may give up what is practically nothing.
        assert got[1] >= got[0] - PRACTICALLY_EQUAL

    @given(judgements, st.floats(0.01, 0.99))
    def test_no_cheaper_tier_would_have_done_as_well(self, judged: Analysis, floor: float) -> None:
        choice = route(judged, policy=under(objective=QualityFloor(floor)))
        assert choice.routing is not None
        cheaper = [each for each in choice.routing.options if each.tier < choice.model.tier]
        if choice.routing.reason is RoutingReason.QUALITY_FLOOR:
            assert all(each.success < floor for each in cheaper)
        if choice.routing.reason is RoutingReason.BEST_EFFORT:
            assert all(each.success < floor for each in choice.routing.options)
            best = max(each.success for each in choice.routing.options)
            assert all(each.success < best - PRACTICALLY_EQUAL for each in cheaper)

    @given(judgements, tiers, rules)
    def test_a_session_never_gets_a_lesser_tier(self, judged: Analysis, at: Tier, policy: Policy) -> None:
        if isinstance(policy.routing.objective, FixedTier) or at > policy.max_tier or policy.max_tier is Tier.SMALL:
            return
        purse = Purse(NanoUsd(10_000), 1e5, 1e9)
        assert route(judged, policy=policy, standing=Standing(session_tier=at, purse=purse)).model.tier >= at


def _success(choice: Choice, judged: Analysis) -> float:
    outlook = judged.outlook(choice.model.tier)
    assert isinstance(outlook, Outlook)
    return outlook.success


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
