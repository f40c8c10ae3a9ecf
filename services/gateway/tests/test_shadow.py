"""Shadows: a few answers of lesser tiers are compared with the large tier's, and nobody waits for it."""

from __future__ import annotations

import pytest

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.domain.judge import Opinion
from farthing_gateway.domain.model import FinishReason, Task, Tier
from farthing_gateway.domain.outcomes import Observed, Outcome, OutcomeSource
from farthing_gateway.domain.policy import OutageMode, RoutingPolicy
from farthing_gateway.domain.prompt import CacheControl
from farthing_gateway.ports import Chunk, Finished, Started
from farthing_kit.context import Priority
from farthing_kit.errors import FarthingError, Unavailable
from farthing_kit.testing.waiting import until
from services.gateway.tests.fakes import AWAY, Mesh
from services.gateway.tests.values import USAGE, analysis, ask

ALWAYS = RoutingPolicy(shadow_share=1.0)
AGREES = Opinion(0.97, ("AGREES",), "j1")
DISAGREES = Opinion(0.02, ("NO_FINAL_ANSWER", "DISAGREES"), "j1")


@pytest.fixture
def mesh() -> Mesh:
    made = Mesh()
    made.set_policy(routing=ALWAYS)
    made.judge.opinion = AGREES
    return made


async def test_every_answer_of_a_model_is_remembered_with_what_was_foretold(mesh: Mesh) -> None:
    told = await mesh.ask(ask())
    remembered = mesh.outcomes.told[told.decision.request_id]
    assert (remembered.org, remembered.tier, remembered.model) == ("acme", Tier.SMALL, "small")
    assert (remembered.success, remembered.task, remembered.cascade) == (0.9, Task.QUESTION_ANSWERING, False)


async def test_answers_from_a_cache_or_without_an_analysis_are_not_remembered(mesh: Mesh) -> None:
    await mesh.ask(ask())
    mesh.outcomes.told.clear()
    await mesh.ask(ask())  # the near cache has it
    await mesh.ask(ask("another", model="small"))
    mesh.classifier.error = AWAY
    await mesh.ask(ask("a third"))
    assert mesh.outcomes.told == {}


async def test_the_large_tier_answers_too_and_the_answers_are_compared(mesh: Mesh) -> None:
    told = await mesh.ask(ask(tags={"feature": "search"}))
    (first, job), (second, shadow) = mesh.scheduler.jobs
    assert second == f"{first}-shadow"
    assert (job.model, shadow.model) == ("small", "large")
    assert shadow.messages == job.messages
    assert shadow.tags == {"farthing-purpose": "shadow"}
    assert shadow.reservation_id != job.reservation_id
    (judged,) = mesh.judge.asked
    assert (judged.answer, judged.reference_answer, judged.tier) == (told.text, "Paris.", Tier.SMALL)
    (observed,) = mesh.outcomes.written.values()
    assert observed.foretold.request_id == told.decision.request_id
    assert (observed.outcome, observed.source) == (Outcome.ACCEPTABLE, OutcomeSource.SHADOW)
    assert mesh.shadowed == ["acceptable"]


async def test_a_shadow_is_charged_and_is_no_request_of_the_caller(mesh: Mesh) -> None:
    told = await mesh.ask(ask())
    _, shadow = mesh.scheduler.jobs[1]
    assert shadow.superseded is not None
    assert shadow.superseded.request_id == told.decision.request_id
    assert shadow.superseded.counterfactual_usage == USAGE
    assert shadow.tier is Tier.LARGE
    assert len(mesh.watcher.ends) == len(mesh.watcher.decisions) == len(mesh.watcher.accepts) == 1
    assert len(told.final.calls) == 1


async def test_a_shadow_runs_at_low_priority_in_the_name_of_the_caller(mesh: Mesh) -> None:
    await mesh.ask(ask(priority=Priority.HIGH))
    contexts = mesh.scheduler.contexts
    assert [context.priority for context in contexts] == [Priority.HIGH, Priority.LOW]
    assert contexts[0].principal == contexts[1].principal


async def test_answers_that_differ_are_not_acceptable(mesh: Mesh) -> None:
    mesh.judge.opinion = DISAGREES
    await mesh.ask(ask())
    assert [each.outcome for each in mesh.outcomes.written.values()] == [Outcome.NOT_ACCEPTABLE]
    assert mesh.shadowed == ["not_acceptable"]


async def test_what_the_judge_cannot_compare_says_nothing(mesh: Mesh) -> None:
    mesh.judge.opinion = Opinion(0.9, ("CODE_PARSES",), "j1")
    await mesh.ask(ask())
    mesh.judge.opinion = AGREES
    mesh.scheduler.others["large"] = [Started("p", "q"), Chunk("Par"), Finished(FinishReason.LENGTH, USAGE)]
    await mesh.ask(ask("what the large tier does not finish"))
    assert mesh.outcomes.written == {}
    assert mesh.shadowed == ["undecided", "undecided"]


async def test_a_caller_who_was_first_keeps_the_word(mesh: Mesh) -> None:
    mesh.judge.gate.clear()
    events = [event async for event in mesh.gateway.answer("fk_acme", ask())]
    (request_id,) = mesh.outcomes.told
    said = Observed(mesh.outcomes.told[request_id], Outcome.NOT_ACCEPTABLE, OutcomeSource.CALLER)
    await mesh.outcomes.write(said)
    mesh.judge.gate.set()
    await mesh.shading.drain()
    assert events
    assert [each.source for each in mesh.outcomes.written.values()] == [OutcomeSource.CALLER]
    assert mesh.shadowed == ["already_told"]


async def test_an_answer_that_a_judge_chose_is_marked_and_has_no_shadow(mesh: Mesh) -> None:
    mesh.set_policy(routing=RoutingPolicy(cascade=True, shadow_share=1.0))
    mesh.classifier.analysis = analysis(0.6, 0.9, 0.95)
    told = await mesh.ask(ask())
    assert told.decision.buffered
    assert mesh.outcomes.told[told.decision.request_id].cascade
    assert mesh.shadowed == []


async def test_nothing_is_shadowed_without_a_share_or_above_it(mesh: Mesh) -> None:
    mesh.set_policy(routing=RoutingPolicy(shadow_share=0.0))
    await mesh.ask(ask())
    mesh.set_policy(routing=ALWAYS)
    await mesh.ask(ask("the best", tier=Tier.LARGE))
    mesh.set_policy(routing=ALWAYS, max_tier=Tier.MEDIUM)
    await mesh.ask(ask("no large tier is allowed"))
    mesh.set_policy(routing=ALWAYS)
    await mesh.ask(ask("keep it nowhere", cache_control=CacheControl(no_store=True)))
    assert len(mesh.scheduler.jobs) == 4
    assert mesh.shadowed == []


@pytest.mark.parametrize(
    ("reason", "ending"),
    [("BUDGET_EXCEEDED", "refused"), ("QUOTA_EXCEEDED", "refused"), ("SERVICE_UNAVAILABLE", "failed")],
)
async def test_a_shadow_that_cannot_be_paid_for_is_left_out(mesh: Mesh, reason: str, ending: str) -> None:
    mesh.set_policy(routing=ALWAYS, outage_mode=OutageMode.ALLOW)
    error = FarthingError("no", reason=ErrorReason.Value(f"ERROR_REASON_{reason}"))
    mesh.admission.refusals["large"] = error
    told = await mesh.ask(ask())
    assert told.text == "Paris."
    assert len(mesh.scheduler.jobs) == 1
    assert mesh.shadowed == [ending]


async def test_a_judge_or_a_book_that_is_away_costs_a_shadow_and_nothing_else(mesh: Mesh) -> None:
    mesh.judge.error = AWAY
    assert (await mesh.ask(ask())).text == "Paris."
    mesh.judge.error, mesh.outcomes.error = None, Unavailable("away")
    assert (await mesh.ask(ask("another"))).text == "Paris."
    assert mesh.shadowed == ["failed", "failed"]


async def test_more_shadows_than_may_are_left_out_and_counted(mesh: Mesh) -> None:
    mesh.judge.gate.clear()
    for number in range(4):
        assert [event async for event in mesh.gateway.answer("fk_acme", ask(f"question {number}"))]
        judged = min(number + 1, 2)
        await until(lambda: len(mesh.judge.asked) == judged)  # noqa: B023 - it is awaited here
    assert mesh.shadowed == ["busy", "busy"]
    mesh.judge.gate.set()
    await mesh.shading.drain()
    assert mesh.shadowed == ["busy", "busy", "acceptable", "acceptable"]


async def test_what_a_stopped_shadow_had_reserved_is_left_to_the_worker_that_had_begun(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farthing_gateway.app.shadow.DRAIN_S", 0.0)
    mesh.scheduler.pausing, mesh.scheduler.pause_after = {"large"}, 1
    events = [event async for event in mesh.gateway.answer("fk_acme", ask())]
    await mesh.scheduler.paused.wait()
    [(request_id, _), (shadow_id, job)] = mesh.scheduler.jobs
    assert shadow_id == job.attempt.request_id == f"{request_id}-shadow"
    shadow = job.reservation_id
    await mesh.shading.drain()
    await mesh.background.drain()
    assert events
    assert mesh.scheduler.stopped == 1
    assert shadow in mesh.admission.held
    assert mesh.shadowed == []
