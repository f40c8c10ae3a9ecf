"""Cascades: when one is worth it, what the caller hears, and that every call is made and charged once."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.domain.acceptance import Limits, accept
from farthing_gateway.domain.cascade import Band, Cascade, Ending, plan
from farthing_gateway.domain.costs import SupersededCall, of_generation
from farthing_gateway.domain.events import Decision, Delta, Final
from farthing_gateway.domain.judge import Opinion
from farthing_gateway.domain.model import CacheLevel, FinishReason, Tier
from farthing_gateway.domain.objectives import RoutingReason
from farthing_gateway.domain.options import TierOption
from farthing_gateway.domain.policy import FixedTier, OutageMode, Policy, QualityFloor, RoutingPolicy, SpendingTarget
from farthing_gateway.domain.prompt import Question
from farthing_gateway.domain.routing import ON_EVIDENCE, Choice, Routing
from farthing_gateway.ports import Chunk, Finished, Progress, Started
from farthing_kit import deadline
from farthing_kit.charging import Charged, saying
from farthing_kit.context import RequestContext, current_context
from farthing_kit.errors import FarthingError
from farthing_kit.money import NanoUsd, UnitPrices, cost
from farthing_kit.usage import TokenUsage
from services.gateway.tests.fakes import AWAY, Mesh, Told, quote_of
from services.gateway.tests.values import MODELS, USAGE, analysis, ask, policy

_R = ErrorReason
CASCADING = RoutingPolicy(cascade=True)
SECOND_USAGE = TokenUsage(fresh_input=13, output=3)
SECOND: list[Progress | FarthingError] = [
    Started("cpu-local", "FP16"),
    Chunk("Paris, "),
    Chunk("France."),
    Finished(FinishReason.STOP, SECOND_USAGE),
]
GOOD, BAD = Opinion(0.75, ("ARITHMETIC_HOLDS",), "j1"), Opinion(0.2, ("HEDGING",), "j1")
SMALL_COST = 12 * 20 + 5 * 60
MEDIUM_COST = 13 * 150 + 3 * 600
# 12 and 13 tokens in, 5 and 3 out, at the large tier's prices.
SMALL_LARGE, MEDIUM_LARGE = 12_000 + 20_000, 13_000 + 12_000


def option(tier: Tier, success: float, price: int | None, *, is_open: bool = True) -> TierOption:
    return TierOption(tier, MODELS[tier - 1], success, None if price is None else NanoUsd(price), is_open)


def choice(*options: TierOption, floor: float = 0.7, reason: RoutingReason = RoutingReason.QUALITY_FLOOR) -> Choice:
    """Routing chose the last of the options."""
    model = options[-1].model
    assert model is not None
    return Choice(model, "Because.", Routing(reason, options, floor))


def question(**changes: Any) -> Question:
    return accept(ask(**changes), policy(), Limits())


def planned(
    chosen: Choice, left_s: float | None = None, asked: Question | None = None, **changes: Any
) -> Cascade | None:
    rules: Policy = policy(routing=replace(CASCADING, **changes))
    return plan(chosen, asked or question(), rules, left_s)


USUAL = (option(Tier.SMALL, 0.5, 10), option(Tier.MEDIUM, 0.8, 100))


class TestPlan:
    def test_the_middle_band_is_tried_on_the_lesser_tier_first(self) -> None:
        cascade = planned(choice(*USUAL))
        assert cascade is not None
        assert (cascade.first.name, cascade.second.model.name, cascade.threshold) == ("small", "medium", 0.7)

    @pytest.mark.parametrize("success", [0.0, 0.3, 0.9, 1.0])
    def test_what_will_clearly_fail_or_clearly_do_is_not(self, success: float) -> None:
        assert planned(choice(option(Tier.SMALL, success, 1), USUAL[1])) is None

    def test_the_band_is_a_setting(self) -> None:
        narrow = Band(low=0.6)
        assert plan(choice(*USUAL), question(), policy(routing=CASCADING), None, narrow) is None

    def test_a_first_call_that_costs_more_than_it_saves_is_not_made(self) -> None:
        assert planned(choice(option(Tier.SMALL, 0.5, 51), USUAL[1])) is None
        assert planned(choice(option(Tier.SMALL, 0.5, 49), USUAL[1])) is not None

    def test_only_where_the_policy_wants_it(self) -> None:
        assert planned(choice(*USUAL), cascade=False) is None

    @pytest.mark.parametrize("reason", [each for each in RoutingReason if each not in ON_EVIDENCE])
    def test_only_where_the_prompt_decided(self, reason: RoutingReason) -> None:
        assert planned(choice(*USUAL, reason=reason)) is None

    def test_never_in_front_of_what_the_caller_named(self) -> None:
        assert planned(Choice(MODELS[1], "The caller named this model.")) is None
        assert planned(choice(*USUAL), asked=question(tier=Tier.MEDIUM)) is None

    def test_never_in_a_session_that_is_kept(self) -> None:
        in_session = question(session_id="s1")
        assert planned(choice(*USUAL), asked=in_session) is not None
        assert planned(choice(*USUAL), asked=in_session, session_time_to_live=timedelta(hours=1)) is None

    def test_not_with_too_little_time_for_two_calls(self) -> None:
        assert planned(choice(*USUAL), left_s=7.9) is None
        assert planned(choice(*USUAL), left_s=8.1) is not None

    def test_a_tier_that_cannot_answer_is_not_tried(self) -> None:
        assert planned(choice(option(Tier.SMALL, 0.5, 10, is_open=False), USUAL[1])) is None
        down = replace(USUAL[0], model=replace(MODELS[0], available=False))
        assert planned(choice(down, USUAL[1])) is None
        assert planned(choice(replace(USUAL[0], model=None), USUAL[1])) is None

    def test_without_prices_nothing_is_known_to_be_cheaper(self) -> None:
        assert planned(choice(option(Tier.SMALL, 0.5, None), USUAL[1])) is None
        assert planned(choice(USUAL[0], option(Tier.MEDIUM, 0.8, None))) is None

    def test_of_two_lesser_tiers_the_one_that_makes_it_cheapest_goes_first(self) -> None:
        large = option(Tier.LARGE, 0.95, 1000)
        weak, strong = option(Tier.SMALL, 0.35, 10), option(Tier.MEDIUM, 0.8, 100)
        cascade = planned(choice(weak, strong, large))
        assert cascade is not None
        assert cascade.first.name == "medium"

    def test_no_answer_has_to_be_surer_than_the_one_that_would_replace_it(self) -> None:
        hopeless = choice(option(Tier.SMALL, 0.4, 10), option(Tier.LARGE, 0.5, 1000), reason=RoutingReason.BEST_EFFORT)
        cascade = planned(hopeless)
        assert cascade is not None
        assert cascade.threshold == 0.5

    def test_under_a_spending_target_the_larger_model_is_the_measure(self) -> None:
        cascade = planned(choice(*USUAL, floor=0.0, reason=RoutingReason.SPENDING_TARGET))
        assert cascade is not None
        assert cascade.threshold == 0.8

    @given(
        st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10**6), st.booleans()), min_size=3, max_size=3),
        st.sampled_from([Tier.SMALL, Tier.MEDIUM, Tier.LARGE]),
        st.floats(0, 1),
    )
    def test_a_cascade_is_expected_to_cost_less_and_its_answers_to_meet_the_floor(
        self, tiers: list[tuple[float, int, bool]], chosen: Tier, floor: float
    ) -> None:
        options = tuple(
            option(tier, success, price, is_open=is_open)
            for tier, (success, price, is_open) in zip((Tier.SMALL, Tier.MEDIUM, Tier.LARGE), tiers, strict=True)
        )
        routing = Routing(RoutingReason.QUALITY_FLOOR, options, floor)
        cascade = planned(Choice(MODELS[chosen - 1], "Because.", routing))
        if cascade is None:
            return
        first, second = options[cascade.first.tier - 1], options[chosen - 1]
        assert first.tier < second.tier
        assert first.open
        assert 0.3 < first.success < 0.9
        assert first.expected_cost is not None
        assert second.expected_cost is not None
        assert first.expected_cost + (1 - first.success) * second.expected_cost < second.expected_cost
        assert cascade.threshold <= second.success
        assert not cascade.accepts(Opinion(cascade.threshold - 1e-9))
        assert cascade.accepts(Opinion(cascade.threshold))
        assert cascade.threshold == min(floor or 1.0, second.success)

    @given(
        *(st.builds(TokenUsage, *[st.integers(0, 10**6)] * 5) for _ in range(2)),
        st.builds(UnitPrices, *[st.integers(0, 10**10)] * 5),
    )
    def test_the_counterfactual_of_both_calls_is_that_of_the_answer(
        self, first: TokenUsage, second: TokenUsage, prices: UnitPrices
    ) -> None:
        quote = replace(quote_of("small"), counterfactual_prices=prices)
        both = of_generation(first, quote) + of_generation(second, quote, SupersededCall("q", first))
        assert both.counterfactual == cost(second, prices)
        assert both.cost == cost(first, quote.prices) + cost(second, quote.prices)


@pytest.fixture
def mesh() -> Mesh:
    """Prompts of the middle band: the small tier answers half of them, the medium one reaches the floor."""
    made = Mesh()
    made.set_policy(routing=CASCADING)
    made.classifier.analysis = analysis(0.5, 0.8, 0.85)
    made.judge.opinion = GOOD
    made.scheduler.others["medium"] = SECOND
    return made


def ids(mesh: Mesh) -> list[tuple[str, str]]:
    return [(request_id, job.model) for request_id, job in mesh.scheduler.jobs]


def failing(name: str) -> FarthingError:
    return FarthingError("no", reason=_R.Value(f"ERROR_REASON_{name}"))


class TestAccepted:
    async def test_the_first_answer_comes_in_one_piece_and_the_decision_says_so(self, mesh: Mesh) -> None:
        told = await mesh.ask(ask())
        assert [type(event) for event in told.events] == [Decision, Delta, Final]
        assert told.text == "Paris."
        decision = told.decision
        assert (decision.tier, decision.model, decision.buffered) == (Tier.SMALL, "small", True)
        assert decision.routing is not None
        assert decision.routing.reason is RoutingReason.CASCADE
        assert "0.75 of the 0.70" in decision.explanation
        assert decision.degradations == ()
        assert mesh.watcher.endings == [Ending.ACCEPTED]

    async def test_one_call_is_made_and_charged(self, mesh: Mesh) -> None:
        told = await mesh.ask(ask())
        assert ids(mesh) == [(told.decision.request_id, "small")]
        [call] = told.final.calls
        assert (call.request_id, call.cost, call.usage) == (told.decision.request_id, SMALL_COST, USAGE)
        assert call.verdict is not None
        assert (call.verdict.accepted, call.verdict.threshold, call.verdict.opinion) == (True, 0.7, GOOD)
        assert told.final.costs.cost == SMALL_COST
        assert told.final.costs.counterfactual == SMALL_LARGE
        assert list(mesh.admission.held) == [told.decision.reservation_id]

    async def test_the_judge_is_told_all_that_is_known(self, mesh: Mesh) -> None:
        mesh.scheduler.steps[-1] = Finished(FinishReason.LENGTH, USAGE, -0.7)
        await mesh.ask(ask())
        [judged] = mesh.judge.asked
        assert (judged.answer, judged.finish_reason, judged.tier) == ("Paris.", FinishReason.LENGTH, Tier.SMALL)
        assert (judged.task, judged.prior_success) == (mesh.classifier.analysis.task, 0.5)
        assert judged.mean_token_logprob == -0.7
        assert judged.messages == ask().messages

    async def test_probabilities_are_asked_for_only_where_a_judge_wants_them(self, mesh: Mesh) -> None:
        mesh.judge.opinion = BAD
        await mesh.ask(ask())
        await mesh.ask(ask(tier=Tier.MEDIUM))
        assert [job.wants_logprob for _, job in mesh.scheduler.jobs] == [True, False, False]

    async def test_the_answer_is_kept_with_the_tier_that_wrote_it(self, mesh: Mesh) -> None:
        await mesh.ask(ask())
        again = await mesh.ask(ask())
        assert (again.level, again.decision.tier, again.text) == (CacheLevel.NEAR, Tier.SMALL, "Paris.")
        assert again.final.calls == ()

    async def test_the_first_token_is_heard_at_the_end(self, mesh: Mesh) -> None:
        mesh.judge.gate.clear()
        asking = asyncio.ensure_future(mesh.ask(ask()))
        while not mesh.judge.asked:  # noqa: ASYNC110 - until the judge reads
            await asyncio.sleep(0)
        await mesh.clock.advance(2.0)
        mesh.judge.gate.set()
        final = (await asking).final
        assert (final.time_to_first_token_s, final.duration_s) == (2.0, 2.0)

    async def test_an_empty_answer_that_is_accepted_has_no_delta(self, mesh: Mesh) -> None:
        mesh.scheduler.steps = [Started("cpu-local", "INT4"), Finished(FinishReason.STOP, TokenUsage(fresh_input=12))]
        assert [type(event) for event in (await mesh.ask(ask())).events] == [Decision, Final]


class TestEscalated:
    @pytest.fixture(autouse=True)
    def bad(self, mesh: Mesh) -> None:
        mesh.judge.opinion = BAD

    async def test_the_larger_models_tokens_stream(self, mesh: Mesh) -> None:
        told = await mesh.ask(ask())
        assert [type(event) for event in told.events] == [Decision, Delta, Delta, Final]
        assert told.text == "Paris, France."
        decision = told.decision
        assert (decision.tier, decision.model, decision.buffered) == (Tier.MEDIUM, "medium", False)
        assert decision.quantization == "FP16"
        assert "0.20 of the 0.70" in decision.explanation
        assert mesh.watcher.endings == [Ending.ESCALATED]

    async def test_both_calls_are_charged_each_under_an_id_and_a_reservation_of_its_own(self, mesh: Mesh) -> None:
        told = await mesh.ask(ask())
        request_id = told.decision.request_id
        assert ids(mesh) == [(request_id, "small"), (f"{request_id}-2", "medium")]
        held = [job.reservation_id for _, job in mesh.scheduler.jobs]
        assert held == list(mesh.admission.held) == [held[0], f"{held[0]}-2"]
        assert told.decision.reservation_id == held[1]
        assert len({job.attempt for _, job in mesh.scheduler.jobs}) == 1
        first, second = told.final.calls
        assert (first.request_id, second.request_id) == (request_id, f"{request_id}-2")
        assert (first.cost, second.cost) == (SMALL_COST, MEDIUM_COST)
        assert first.verdict is not None
        assert not first.verdict.accepted
        assert second.verdict is None
        assert told.final.usage == USAGE + SECOND_USAGE
        assert told.final.costs.cost == SMALL_COST + MEDIUM_COST

    async def test_the_counterfactual_is_one_answer_and_the_second_job_says_what_it_replaces(self, mesh: Mesh) -> None:
        told = await mesh.ask(ask())
        assert told.final.costs.counterfactual == MEDIUM_LARGE
        assert told.final.costs.saved == MEDIUM_LARGE - SMALL_COST - MEDIUM_COST
        (_, first), (_, second) = mesh.scheduler.jobs
        assert first.superseded is None
        assert second.superseded == SupersededCall(told.decision.request_id, USAGE)

    async def test_the_larger_models_answer_is_kept_with_what_it_alone_took(self, mesh: Mesh) -> None:
        await mesh.ask(ask())
        again = await mesh.ask(ask())
        assert (again.decision.tier, again.text) == (Tier.MEDIUM, "Paris, France.")
        assert again.final.costs.saved == MEDIUM_LARGE

    async def test_the_callers_context_stays_its_own(self, mesh: Mesh) -> None:
        told = await mesh.ask(ask())
        context: RequestContext | None = current_context()
        assert context is not None
        assert context.request_id == told.decision.request_id

    async def test_the_first_answer_is_gone_once_the_second_speaks(self, mesh: Mesh) -> None:
        mesh.scheduler.others["medium"] = [*SECOND[:2], failing("WORKER_LOST")]
        with pytest.raises(FarthingError) as caught:
            await mesh.ask(ask())
        await mesh.background.drain()
        assert caught.value.reason == _R.ERROR_REASON_WORKER_LOST
        assert mesh.admission.released == []

    async def test_a_repetition_under_the_same_key_is_one_request(self, mesh: Mesh) -> None:
        first = await mesh.ask(ask(idempotency_key="k1"))
        again = await mesh.ask(ask(idempotency_key="k1"))
        assert (again.text, again.decision.request_id) == (first.text, first.decision.request_id)
        assert again.final.costs.cost == 0
        assert len(mesh.scheduler.jobs) == 2


class TestWhatIsMissing:
    async def test_without_a_judge_the_larger_model_answers(self, mesh: Mesh) -> None:
        mesh.judge.error = AWAY
        told = await mesh.ask(ask())
        assert (told.text, told.degraded) == ("Paris, France.", {"JUDGE"})
        assert told.final.calls[0].verdict is None
        assert told.final.costs.cost == SMALL_COST + MEDIUM_COST
        assert mesh.watcher.endings == [Ending.NOT_JUDGED]

    @pytest.mark.parametrize("name", ["MODEL_UNAVAILABLE", "PROMPT_TOO_LARGE", "WORKER_LOST", "OVERLOADED"])
    async def test_where_the_first_model_makes_no_answer_the_second_does(self, mesh: Mesh, name: str) -> None:
        mesh.scheduler.others["small"] = [Started("cpu-local", "INT4"), saying(failing(name), Charged.NO)]
        told = await mesh.ask(ask())
        request_id = told.decision.request_id
        assert told.text == "Paris, France."
        assert mesh.admission.released == [mesh.scheduler.jobs[0][1].reservation_id]
        assert [call.request_id for call in told.final.calls] == [f"{request_id}-2"]
        assert told.final.costs.cost == MEDIUM_COST
        assert told.final.costs.counterfactual == MEDIUM_LARGE
        assert mesh.scheduler.jobs[1][1].superseded is None
        assert mesh.watcher.endings == [Ending.NOT_ANSWERED]

    @pytest.mark.parametrize("name", ["DEADLINE_TOO_SHORT", "DEADLINE_EXCEEDED", "IN_PROGRESS", "CANCELLED"])
    async def test_a_request_that_is_over_is_over(self, mesh: Mesh, name: str) -> None:
        mesh.scheduler.others["small"] = [failing(name)]
        with pytest.raises(FarthingError) as caught:
            await mesh.ask(ask())
        assert caught.value.reason_name == f"ERROR_REASON_{name}"
        assert len(mesh.scheduler.jobs) == 1

    async def test_where_the_first_call_may_yet_be_booked_the_second_takes_its_place(self, mesh: Mesh) -> None:
        mesh.scheduler.others["small"] = [Started("cpu-local", "INT4"), Chunk("Par"), failing("SERVICE_UNAVAILABLE")]
        told = await mesh.ask(ask())
        await mesh.background.drain()
        [_, (second_id, second)] = mesh.scheduler.jobs
        assert [call.request_id for call in told.final.calls] == [second_id]
        assert second.superseded is None
        assert mesh.admission.released == []

    @pytest.mark.parametrize("name", ["BUDGET_EXCEEDED", "QUOTA_EXCEEDED"])
    async def test_a_second_call_that_cannot_be_paid_for_leaves_the_first_answer(self, mesh: Mesh, name: str) -> None:
        mesh.judge.opinion = BAD
        mesh.admission.refusals["medium"] = failing(name)
        told = await mesh.ask(ask())
        _first_after_all(told)
        [note] = told.decision.degradations
        assert name.lower().replace("_", " ") in note.consequence
        assert mesh.watcher.endings == [Ending.NOT_ESCALATED]

    async def test_a_larger_model_that_cannot_be_reached_leaves_the_first_answer(self, mesh: Mesh) -> None:
        mesh.judge.opinion = BAD
        unavailable = saying(failing("MODEL_UNAVAILABLE"), Charged.NO)
        mesh.scheduler.others["medium"] = [Started("cpu-local", "FP16"), unavailable]
        told = await mesh.ask(ask())
        _first_after_all(told)
        assert mesh.admission.released == [f"{told.decision.reservation_id}-2"]

    @pytest.mark.parametrize("name", ["WORKER_LOST", "SERVICE_UNAVAILABLE"])
    async def test_a_larger_model_whose_call_may_yet_be_booked_leaves_no_answer(self, mesh: Mesh, name: str) -> None:
        mesh.judge.opinion = BAD
        mesh.scheduler.others["medium"] = [Started("cpu-local", "FP16"), failing(name)]
        with pytest.raises(FarthingError) as caught:
            await mesh.ask(ask())
        await mesh.background.drain()
        assert caught.value.reason_name == f"ERROR_REASON_{name}"
        assert mesh.admission.released == []

    async def test_with_neither_judge_nor_larger_model_the_first_answer_is_told(self, mesh: Mesh) -> None:
        mesh.judge.error = AWAY
        mesh.scheduler.others["medium"] = [saying(failing("MODEL_UNAVAILABLE"), Charged.NO)]
        told = await mesh.ask(ask())
        assert (told.text, told.degraded) == ("Paris.", {"JUDGE", "ESCALATION"})

    async def test_where_both_models_fail_the_request_fails(self, mesh: Mesh) -> None:
        gone = saying(failing("MODEL_UNAVAILABLE"), Charged.NO)
        mesh.scheduler.others["small"] = mesh.scheduler.others["medium"] = [gone]
        with pytest.raises(FarthingError):
            await mesh.ask(ask())
        await mesh.background.drain()
        assert mesh.admission.held == {}

    async def test_too_little_time_for_a_second_call_leaves_the_first_answer(self, mesh: Mesh) -> None:
        mesh.judge.opinion = BAD

        mesh.gateway.way.cascades.__dict__["band"] = Band(escalate_s=31.0)  # as if the judge had read for long
        told = await _within(30.0, mesh.ask(ask()))
        _first_after_all(told)
        assert len(mesh.scheduler.jobs) == 1
        assert mesh.watcher.endings == [Ending.TOO_LATE]

    async def test_a_request_in_a_hurry_goes_to_the_chosen_model_at_once(self, mesh: Mesh) -> None:
        told = await _within(7.0, mesh.ask(ask()))
        assert told.text == "Paris, France."
        assert len(mesh.scheduler.jobs) == 1

    async def test_a_budget_that_refuses_the_first_call_refuses_the_request(self, mesh: Mesh) -> None:
        mesh.admission.refusals["small"] = failing("BUDGET_EXCEEDED")
        with pytest.raises(FarthingError):
            await mesh.ask(ask())
        assert mesh.scheduler.jobs == []

    async def test_under_grace_both_calls_are_lent_and_corrected(self, mesh: Mesh) -> None:
        mesh.set_policy(routing=CASCADING, outage_mode=OutageMode.GRACE, outage_grace=NanoUsd(10**9))
        mesh.judge.opinion = BAD
        mesh.admission.error = AWAY
        told = await mesh.ask(ask())
        assert told.text == "Paris, France."
        left = NanoUsd(10**9 - told.final.costs.cost)
        assert mesh.grace.spend("acme", left, NanoUsd(10**9))
        assert not mesh.grace.spend("acme", NanoUsd(1), NanoUsd(10**9))


class TestTheCallerLeaves:
    @pytest.mark.parametrize(("model", "made"), [("small", 1), ("medium", 2)])
    async def test_the_model_that_runs_is_stopped_and_what_was_made_is_charged(
        self, mesh: Mesh, model: str, made: int
    ) -> None:
        mesh.judge.opinion = BAD
        mesh.scheduler.pausing, mesh.scheduler.pause_after = {model}, 2
        asking = asyncio.ensure_future(mesh.ask(ask()))
        await mesh.scheduler.paused.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await mesh.background.drain()
        assert mesh.scheduler.stopped == 1
        assert len(mesh.scheduler.jobs) == made
        assert mesh.admission.released == []

    async def test_while_the_judge_reads_nothing_more_is_begun(self, mesh: Mesh) -> None:
        mesh.judge.gate.clear()
        asking = asyncio.ensure_future(mesh.ask(ask()))
        while not mesh.judge.asked:  # noqa: ASYNC110 - until the judge reads
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(mesh.scheduler.jobs) == 1

    async def test_a_reader_who_stops_reading_stops_the_larger_model(self, mesh: Mesh) -> None:
        mesh.judge.opinion = BAD
        async with aclosing(mesh.gateway.answer("fk_acme", ask())) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        await mesh.background.drain()
        assert mesh.scheduler.stopped == 1


async def test_a_retry_after_a_first_call_was_charged_is_booked_under_the_same_id(mesh: Mesh) -> None:
    mesh.judge.gate.clear()
    asking = asyncio.ensure_future(mesh.ask(ask(idempotency_key="k1")))
    while not mesh.judge.asked:  # noqa: ASYNC110 - until the judge reads
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    mesh.judge.gate.set()
    again = await mesh.ask(ask(idempotency_key="k1"))
    assert ids(mesh) == [(again.decision.request_id, "small")] * 2


@pytest.mark.parametrize(
    "routing",
    [
        RoutingPolicy(FixedTier(Tier.MEDIUM), cascade=True),
        RoutingPolicy(QualityFloor(0.4), cascade=True),
        RoutingPolicy(cascade=False),
    ],
)
async def test_without_a_cascade_one_model_is_called(mesh: Mesh, routing: RoutingPolicy) -> None:
    mesh.set_policy(routing=routing)
    told = await mesh.ask(ask())
    assert len(mesh.scheduler.jobs) == len(told.final.calls) == 1
    assert mesh.judge.calls == 0
    assert not told.decision.buffered


async def test_a_spending_target_is_charged_with_both_calls(mesh: Mesh) -> None:
    target = NanoUsd(20_000)
    mesh.set_policy(routing=RoutingPolicy(SpendingTarget(target), cascade=True))
    mesh.judge.opinion = BAD
    await mesh.ask(ask("first"))
    before = mesh.gateway.way.router.accounts.of("acme", target).purse(target).credit
    told = await mesh.ask(ask("second"))
    after = mesh.gateway.way.router.accounts.of("acme", target).purse(target).credit
    assert len(told.final.calls) == 2
    assert after == pytest.approx(before + target - told.final.costs.cost)


def _first_after_all(told: Told) -> None:
    assert (told.text, told.degraded) == ("Paris.", {"ESCALATION"})
    assert (told.decision.model, told.decision.buffered) == ("small", True)
    assert told.final.costs.cost == SMALL_COST
    [call] = told.final.calls
    assert call.verdict is not None
    assert not call.verdict.accepted


async def _within(seconds: float, asking: Any) -> Told:
    deadline.set_remaining(seconds)
    try:
        told: Told = await asking
        return told
    finally:
        deadline.set_remaining(None)
