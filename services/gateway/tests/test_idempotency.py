"""The same request twice is one request."""

import asyncio
from typing import Any

import pytest

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.domain.errors import EmptyPrompt, IdempotencyMismatch, InProgress
from farthing_gateway.domain.model import CacheLevel
from farthing_gateway.domain.prompt import CacheControl
from farthing_gateway.ports import Chunk, Started
from farthing_kit.errors import FarthingError
from services.gateway.tests.fakes import Mesh
from services.gateway.tests.values import ask, sampled

HOT: dict[str, Any] = {"idempotency_key": "k1", "sampling": sampled(temperature=0.9)}


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


async def test_a_repetition_hears_the_same_answer_under_the_same_id_and_is_booked_once(mesh: Mesh) -> None:
    first = await mesh.ask(ask(**HOT))
    again = await mesh.ask(ask(**HOT))
    assert again.text == first.text
    assert again.decision.request_id == first.decision.request_id
    assert again.level is CacheLevel.NEAR
    assert again.final.costs.cost == 0
    assert len(mesh.scheduler.jobs) == 1
    assert mesh.usage.booked == []


async def test_twins_on_two_gateways_share_id_and_reservation(mesh: Mesh) -> None:
    other = Mesh()
    one, two = await mesh.ask(ask(**HOT)), await other.ask(ask(**HOT))
    assert one.decision.request_id == two.decision.request_id
    assert one.decision.reservation_id == two.decision.reservation_id


async def test_a_twin_that_ended_on_another_gateway_is_run_again_under_the_same_id(mesh: Mesh) -> None:
    first = await mesh.ask(ask(**HOT))
    other = Mesh()
    other.admission.closed.add(first.decision.reservation_id)
    again = await other.ask(ask(**HOT))
    assert again.decision.request_id == first.decision.request_id
    assert again.decision.reservation_id.startswith(first.decision.reservation_id + "-")


async def test_another_body_is_refused(mesh: Mesh) -> None:
    await mesh.ask(ask(**HOT))
    with pytest.raises(IdempotencyMismatch):
        await mesh.ask(ask("Another question", **HOT))


async def test_a_key_belongs_to_its_organisation(mesh: Mesh) -> None:
    first = await mesh.ask(ask(**HOT), "fk_acme")
    other = await mesh.ask(ask("Another question", **HOT), "fk_beta")
    assert other.decision.request_id != first.decision.request_id


async def test_a_twin_waits_while_the_first_runs(mesh: Mesh) -> None:
    mesh.scheduler.pause_after = 2
    running = asyncio.ensure_future(mesh.ask(ask(**HOT)))
    await mesh.scheduler.paused.wait()
    with pytest.raises(InProgress) as refused:
        await mesh.ask(ask(**HOT))
    assert refused.value.retry_after_s is not None
    running.cancel()
    await asyncio.wait({running})


async def test_a_request_that_was_never_accepted_leaves_its_key_free(mesh: Mesh) -> None:
    with pytest.raises(EmptyPrompt):
        await mesh.ask(ask("", idempotency_key="k1"))
    assert (await mesh.ask(ask(**HOT))).text == "Paris."


async def test_after_a_failure_that_cost_nothing_a_retry_runs_under_a_new_id(mesh: Mesh) -> None:
    mesh.scheduler.error = FarthingError("full", reason=ErrorReason.ERROR_REASON_QUEUE_UNAVAILABLE)
    with pytest.raises(FarthingError):
        await mesh.ask(ask(**HOT))
    mesh.scheduler.error = None
    told = await mesh.ask(ask(**HOT))
    assert told.text == "Paris."
    assert told.decision.request_id.endswith("-2")
    assert (await mesh.ask(ask(**HOT))).decision.request_id == told.decision.request_id


async def test_after_a_lost_worker_too(mesh: Mesh) -> None:
    steps, mesh.scheduler.steps = mesh.scheduler.steps, [Started("p", "INT4"), Chunk("Par")]
    with pytest.raises(FarthingError):
        await mesh.ask(ask(**HOT))
    mesh.scheduler.steps = steps
    assert (await mesh.ask(ask(**HOT))).decision.request_id.endswith("-2")


async def test_after_breaking_off_in_the_middle_a_retry_keeps_the_id_and_is_charged_once(mesh: Mesh) -> None:
    mesh.scheduler.pause_after = 2
    running = asyncio.ensure_future(mesh.ask(ask(**HOT)))
    await mesh.scheduler.paused.wait()
    running.cancel()
    await asyncio.wait({running})
    mesh.scheduler.pause_after = None
    told = await mesh.ask(ask(**HOT))
    assert told.decision.request_id == mesh.scheduler.jobs[0][0]
    assert told.decision.reservation_id != told.decision.request_id


async def test_an_answer_that_must_not_be_stored_is_made_again_and_charged_once(mesh: Mesh) -> None:
    private = ask(**HOT, cache_control=CacheControl(no_store=True))
    first = await mesh.ask(private)
    again = await mesh.ask(private)
    assert again.level is CacheLevel.NONE
    assert again.decision.request_id == first.decision.request_id
    assert len(mesh.scheduler.jobs) == 2
