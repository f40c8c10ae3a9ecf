"""The way of a request, over parts in memory: what is asked of whom, in which order, and what the caller hears."""

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.app.admissions import UNHEARD_S
from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.domain.errors import EmptyPrompt, UnknownModel
from farthing_gateway.domain.events import Decision, Delta, Final
from farthing_gateway.domain.model import CacheLevel, FinishReason, Task, Tier
from farthing_gateway.domain.prompt import CacheControl
from farthing_gateway.ports import Chunk, Finished, Started
from farthing_kit import deadline
from farthing_kit.charging import Charged, charged_after, saying
from farthing_kit.context import Priority, current_context
from farthing_kit.errors import DeadlineExceeded, FarthingError, Unauthenticated
from services.gateway.tests.fakes import Mesh
from services.gateway.tests.values import USAGE, ask, sampled


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


async def test_a_miss_goes_all_the_way_and_tells_what_was_decided(mesh: Mesh) -> None:
    told = await mesh.ask(ask(tags={"feature": "search"}))
    assert told.text == "Paris."
    assert [type(event) for event in told.events] == [Decision, Delta, Delta, Final]
    decision = told.decision
    assert decision.cache_level is CacheLevel.NONE
    assert (decision.tier, decision.model, decision.pool) == (Tier.SMALL, "small", "cpu-local")
    assert decision.reservation_id == mesh.scheduler.jobs[0][1].attempt.id
    assert decision.analysis is not None
    assert decision.degradations == ()
    assert told.final.usage == USAGE
    assert told.final.costs.cost == 12 * 20 + 5 * 60
    assert told.final.costs.saved == 32_000 - told.final.costs.cost


async def test_the_job_carries_what_accounting_needs_under_the_id_of_the_request(mesh: Mesh) -> None:
    told = await mesh.ask(ask(tags={"feature": "search"}))
    [(request_id, job)] = mesh.scheduler.jobs
    assert request_id == told.decision.request_id
    assert job.reservation_id == told.decision.reservation_id
    assert (job.model, job.tier, job.task) == ("small", Tier.SMALL, Task.QUESTION_ANSWERING)
    assert job.quote.counterfactual_model == "large"
    assert job.tags == {"feature": "search"}
    assert job.sampling.max_output_tokens == 512


async def test_the_second_time_memory_answers_at_no_cost(mesh: Mesh) -> None:
    first = await mesh.ask(ask())
    second = await mesh.ask(ask(tags={"feature": "again"}))
    assert second.level is CacheLevel.NEAR
    assert second.text == first.text
    assert second.decision.similarity == 1.0
    assert (second.decision.tier, second.decision.model) == (Tier.SMALL, "small")
    assert second.final.usage.total == 0
    assert (second.final.costs.cost, second.final.costs.saved) == (0, 32_000)
    assert second.decision.request_id != first.decision.request_id
    assert len(mesh.scheduler.jobs) == 1
    [use] = mesh.usage.booked
    assert use.context.request_id == second.decision.request_id
    assert (use.level, use.answer.usage, use.tags) == (CacheLevel.NEAR, USAGE, {"feature": "again"})
    assert use.quote is not None


async def test_another_gateways_answer_comes_from_the_cache_and_stays_in_memory(mesh: Mesh) -> None:
    await mesh.ask(ask())
    mesh.forget_near()
    assert (await mesh.ask(ask())).level is CacheLevel.EXACT
    assert (await mesh.ask(ask())).level is CacheLevel.NEAR
    assert mesh.cache.calls == 3  # two look-ups and a store
    assert mesh.classifier.calls == 1


async def test_no_tenant_gets_anothers_answer(mesh: Mesh) -> None:
    await mesh.ask(ask(), "fk_acme")
    assert (await mesh.ask(ask(), "fk_beta")).level is CacheLevel.NONE


async def test_a_forgotten_organisation_is_forgotten_in_memory_too(mesh: Mesh) -> None:
    await mesh.ask(ask())
    mesh.near.forget("acme")
    mesh.cache.epochs["acme"] += 1
    assert (await mesh.ask(ask())).level is CacheLevel.NONE


async def test_an_answer_under_way_during_an_invalidation_is_kept_nowhere(mesh: Mesh) -> None:
    async with aclosing(mesh.gateway.answer("fk_acme", ask())) as events:
        async for event in events:
            if isinstance(event, Decision):
                mesh.near.forget("acme")
                mesh.cache.epochs["acme"] += 1
    await mesh.background.drain()
    assert (await mesh.ask(ask())).level is CacheLevel.NONE


async def test_memory_is_not_trusted_while_invalidations_cannot_be_heard(mesh: Mesh) -> None:
    await mesh.ask(ask())
    mesh.line.now = None
    assert (await mesh.ask(ask())).level is CacheLevel.EXACT
    mesh.line.now = 1
    assert (await mesh.ask(ask())).level is CacheLevel.EXACT  # something may have been missed meanwhile
    assert (await mesh.ask(ask())).level is CacheLevel.NEAR


async def test_memory_is_not_used_while_an_invalidation_may_not_have_been_heard_yet(mesh: Mesh) -> None:
    await mesh.ask(ask())
    mesh.line.in_time = False
    assert (await mesh.ask(ask())).level is CacheLevel.EXACT
    mesh.line.in_time = True
    assert (await mesh.ask(ask())).level is CacheLevel.NEAR  # nothing was missed: it only came late


async def test_cache_control_is_obeyed(mesh: Mesh) -> None:
    await mesh.ask(ask(cache_control=CacheControl(no_store=True)))
    assert (await mesh.ask(ask())).level is CacheLevel.NONE
    assert (await mesh.ask(ask(cache_control=CacheControl(no_cache=True)))).level is CacheLevel.NONE
    assert (await mesh.ask(ask())).level is CacheLevel.NEAR
    await mesh.clock.advance(10)
    young = CacheControl(max_age=timedelta(seconds=5))
    assert (await mesh.ask(ask(cache_control=young))).level is CacheLevel.NONE
    assert (await mesh.ask(ask(cache_control=young))).level is CacheLevel.NEAR


async def test_sampled_requests_pass_the_caches_by(mesh: Mesh) -> None:
    hot = ask(sampling=sampled(temperature=0.7))
    assert (await mesh.ask(hot)).level is CacheLevel.NONE
    assert (await mesh.ask(hot)).level is CacheLevel.NONE
    assert mesh.cache.calls == 0


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.CANCELLED, FinishReason.BUDGET])
async def test_only_complete_answers_are_kept(mesh: Mesh, reason: FinishReason) -> None:
    mesh.scheduler.steps[-1] = Finished(reason, USAGE)
    assert (await mesh.ask(ask())).final.finish_reason is reason
    assert (await mesh.ask(ask())).level is CacheLevel.NONE


async def test_a_named_tier_needs_no_classifier(mesh: Mesh) -> None:
    told = await mesh.ask(ask(tier=3))
    assert told.decision.model == "large"
    assert told.decision.analysis is None
    assert mesh.classifier.calls == 0


async def test_a_hit_never_costs_the_classifier_a_pass(mesh: Mesh) -> None:
    await mesh.ask(ask())
    mesh.forget_near()
    await mesh.ask(ask())
    assert mesh.classifier.calls == 1


async def test_a_slow_cache_does_not_hold_the_classifier_up() -> None:
    mesh = Mesh(hedge_s=0.001)
    mesh.cache.gate.clear()
    mesh.classifier.gate.clear()
    asking = asyncio.ensure_future(mesh.ask(ask()))
    while not mesh.classifier.calls:  # noqa: ASYNC110 - until both are under way
        await asyncio.sleep(0)
    assert not asking.done()
    mesh.cache.gate.set()
    mesh.classifier.gate.set()
    assert (await asking).level is CacheLevel.NONE


async def test_a_hit_that_comes_late_still_counts_and_stops_the_classifier() -> None:
    mesh = Mesh(hedge_s=0.001)
    await mesh.ask(ask())
    mesh.forget_near()
    mesh.cache.gate.clear()
    mesh.classifier.gate.clear()
    asking = asyncio.ensure_future(mesh.ask(ask()))
    while mesh.classifier.calls < 2:  # noqa: ASYNC110 - until both are under way
        await asyncio.sleep(0)
    mesh.cache.gate.set()
    assert (await asking).level is CacheLevel.EXACT


async def test_the_end_is_told_without_waiting_for_the_store(mesh: Mesh) -> None:
    held = asyncio.Event()
    stored = mesh.cache.store

    async def slow_store(key: CacheKey, *rest: object) -> None:
        await held.wait()
        await stored(key, *rest)  # type: ignore[arg-type]

    mesh.cache.store = slow_store  # type: ignore[method-assign, assignment]
    events = [event async for event in mesh.gateway.answer("fk_acme", ask())]
    assert isinstance(events[-1], Final)
    assert len(mesh.background) == 1
    held.set()
    await mesh.background.drain()
    assert mesh.cache.entries


async def test_the_reservation_covers_the_bound_and_outlives_the_deadline(mesh: Mesh) -> None:
    deadline.set_remaining(90.0)
    await mesh.ask(ask())
    deadline.set_remaining(None)
    [(model, held)] = mesh.admission.held.values()
    assert (model, held.output) == ("small", 512)
    assert held.fresh_input > USAGE.input_total
    [life_s] = mesh.admission.lives_s
    assert 90.0 < life_s <= 150.0


async def test_each_hop_is_made_in_the_callers_name(mesh: Mesh) -> None:
    await mesh.ask(ask(priority=Priority.HIGH))
    context = current_context()
    assert context is not None
    assert (context.principal.org, context.priority) == ("acme", Priority.HIGH)
    assert mesh.watcher.accepts == [context]


async def test_times_are_counted_from_the_arrival(mesh: Mesh) -> None:
    finals = []
    async for event in mesh.gateway.answer("fk_acme", ask()):
        await mesh.clock.advance(1.0)
        finals.append(event)
    final = finals[-1]
    assert isinstance(final, Final)
    assert final.time_to_first_token_s == 1.0
    assert final.duration_s == 3.0


class TestWhatGoesWrong:
    async def test_a_model_is_not_unknown_while_its_price_is_not_known_yet(self, mesh: Mesh) -> None:
        mesh.prices.gate.clear()
        starting = asyncio.ensure_future(mesh.models.refresh())
        while not mesh.pools.calls:  # noqa: ASYNC110 - until the gateway has heard half of what there is
            await asyncio.sleep(0)
        asking = asyncio.ensure_future(mesh.ask(ask(model="small")))
        while mesh.prices.calls < 2:  # noqa: ASYNC110 - until the request asks for itself
            await asyncio.sleep(0)
        mesh.prices.gate.set()
        assert (await asking).text == "Paris."
        await starting

    async def test_bad_prompts_and_models_reach_nobody(self, mesh: Mesh) -> None:
        with pytest.raises(EmptyPrompt):
            await mesh.ask(ask("  "))
        with pytest.raises(UnknownModel):
            await mesh.ask(ask(model="gpt-9"))
        assert mesh.admission.held == {}
        assert mesh.scheduler.jobs == []

    @pytest.mark.parametrize("key", [None, "", "fk_" + "x" * 200, "sk_other", "fk_é"])
    async def test_implausible_keys_are_refused_without_asking(self, mesh: Mesh, key: str | None) -> None:
        with pytest.raises(Unauthenticated):
            await mesh.ask(ask(), key)
        assert mesh.keys.calls == 0

    async def test_an_unknown_key_is_asked_about_once_in_a_while(self, mesh: Mesh) -> None:
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                await mesh.ask(ask(), "fk_nobody")
        assert mesh.keys.calls == 1
        await mesh.clock.advance(2.0)
        with pytest.raises(Unauthenticated):
            await mesh.ask(ask(), "fk_nobody")
        assert mesh.keys.calls == 2

    async def test_a_queue_that_takes_nothing_frees_the_reservation(self, mesh: Mesh) -> None:
        down = FarthingError("no queue", reason=ErrorReason.ERROR_REASON_QUEUE_UNAVAILABLE)
        mesh.scheduler.error = down
        with pytest.raises(FarthingError) as error:
            await mesh.ask(ask())
        await mesh.clock.advance(UNHEARD_S)
        await mesh.background.drain()
        assert error.value is down
        assert mesh.admission.held == {}

    async def test_a_caller_who_leaves_before_a_worker_is_heard_leaves_it_time_to_book(self, mesh: Mesh) -> None:
        mesh.scheduler.steps, mesh.scheduler.pause_after = [Started("cpu-local", "INT4")], 0
        asking = asyncio.ensure_future(mesh.ask(ask()))
        await mesh.scheduler.paused.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await mesh.clock.advance(UNHEARD_S / 2)
        assert mesh.admission.released == []
        await mesh.clock.advance(UNHEARD_S / 2)
        await mesh.background.drain()
        assert mesh.admission.held == {}

    async def test_a_model_that_fails_before_its_first_token_frees_the_reservation(self, mesh: Mesh) -> None:
        gone = saying(FarthingError("no model", reason=ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE), Charged.NO)
        mesh.scheduler.steps = [Started("cpu-local", "INT4"), gone]
        with pytest.raises(FarthingError):
            await mesh.ask(ask())
        await mesh.background.drain()
        assert len(mesh.admission.released) == 1

    async def test_what_was_generated_before_a_failure_is_left_to_the_usage_event(self, mesh: Mesh) -> None:
        broken = FarthingError("gone", reason=ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE)
        mesh.scheduler.steps[2:] = [broken]
        with pytest.raises(FarthingError):
            await mesh.ask(ask())
        await mesh.background.drain()
        assert mesh.admission.released == []
        assert mesh.cache.entries == {}

    async def test_what_failed_after_text_and_is_not_charged_is_given_back(self, mesh: Mesh) -> None:
        broken = FarthingError("no model", reason=ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE)
        mesh.scheduler.steps[2:] = [saying(broken, Charged.NO)]
        with pytest.raises(FarthingError):
            await mesh.ask(ask())
        await mesh.background.drain()
        assert mesh.admission.held == {}

    async def test_a_lost_worker_is_left_to_the_usage_event(self, mesh: Mesh) -> None:
        mesh.scheduler.steps = [Started("cpu-local", "INT4"), Chunk("Par")]
        with pytest.raises(FarthingError) as error:
            await mesh.ask(ask())
        await mesh.background.drain()
        assert error.value.reason == ErrorReason.ERROR_REASON_WORKER_LOST
        assert charged_after(error.value) is Charged.UNKNOWN
        assert mesh.admission.released == []

    @pytest.mark.parametrize("after", [1, 2])
    async def test_a_caller_who_leaves_stops_the_model_and_leaves_the_money_to_the_worker(
        self, mesh: Mesh, after: int
    ) -> None:
        mesh.scheduler.pause_after = after
        asking = asyncio.ensure_future(mesh.ask(ask()))
        await mesh.scheduler.paused.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await mesh.background.drain()
        assert mesh.scheduler.stopped == 1
        assert mesh.admission.released == []

    async def test_a_reader_who_stops_reading_stops_the_model(self, mesh: Mesh) -> None:
        async with aclosing(mesh.gateway.answer("fk_acme", ask())) as events:
            async for _ in events:
                break
        await mesh.background.drain()
        assert mesh.scheduler.stopped == 1
        assert mesh.admission.released == []

    async def test_a_caller_who_leaves_while_money_is_held_leaves_nothing_held(self, mesh: Mesh) -> None:
        mesh.admission.gate.clear()
        asking = asyncio.ensure_future(mesh.ask(ask()))
        while not mesh.admission.held:  # noqa: ASYNC110 - until it is held, and the answer under way
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        await mesh.background.drain()
        assert mesh.admission.held == {}

    async def test_a_caller_without_time_is_told_so_and_not_that_accounting_is_down(self, mesh: Mesh) -> None:
        mesh.admission.error = DeadlineExceeded("late")
        deadline.set_remaining(0.02)
        with pytest.raises(DeadlineExceeded):
            await mesh.ask(ask())
        mesh.grants.forget_org("acme")
        mesh.keys.error = DeadlineExceeded("late")
        with pytest.raises(DeadlineExceeded):
            await mesh.ask(ask())
        deadline.set_remaining(None)
        mesh.admission.error = mesh.keys.error = None
        assert (await mesh.ask(ask())).text == "Paris."

    async def test_what_accounting_refuses_is_refused(self, mesh: Mesh) -> None:
        for name in ("BUDGET_EXCEEDED", "QUOTA_EXCEEDED", "PRICE_MISSING"):
            mesh.admission.error = FarthingError("no", reason=ErrorReason.Value(f"ERROR_REASON_{name}"))
            with pytest.raises(FarthingError) as error:
                await mesh.ask(ask())
            assert error.value is mesh.admission.error
        assert mesh.scheduler.jobs == []
