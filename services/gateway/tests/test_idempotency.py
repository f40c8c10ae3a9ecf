"""The same request twice is one request."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_gateway.domain.claims import body_digest
from farthing_gateway.domain.errors import AnswerGone, EmptyPrompt, IdempotencyMismatch, InProgress
from farthing_gateway.domain.model import CacheLevel
from farthing_gateway.domain.prompt import AskedSampling, CacheControl, Message, Prompt
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


async def test_twins_on_two_gateways_are_one_request_and_hold_each_for_itself(mesh: Mesh) -> None:
    other = Mesh()
    one, two = await mesh.ask(ask(**HOT)), await other.ask(ask(**HOT))
    assert one.decision.request_id == two.decision.request_id
    assert one.decision.reservation_id != two.decision.reservation_id


async def test_a_twin_that_the_queue_refuses_gives_back_its_own_hold_only(mesh: Mesh) -> None:
    other = Mesh()
    other.admission.held = mesh.admission.held  # one accounting for both
    mesh.scheduler.pause_after = 1
    running = asyncio.ensure_future(mesh.ask(ask(**HOT)))
    await mesh.scheduler.paused.wait()
    first = dict(mesh.admission.held)
    other.scheduler.error = FarthingError("twin", reason=ErrorReason.ERROR_REASON_IN_PROGRESS)

    with pytest.raises(FarthingError):
        await other.ask(ask(**HOT))
    await other.background.drain()

    assert len(first) == 1
    assert mesh.admission.held == first
    running.cancel()
    await asyncio.wait({running})


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


@pytest.mark.parametrize(
    "steps",
    [
        [FarthingError("full", reason=ErrorReason.ERROR_REASON_QUEUE_UNAVAILABLE)],
        [Started("p", "INT4"), Chunk("Par")],
        [Started("p", "INT4"), Chunk("Par"), FarthingError("down", reason=ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE)],
    ],
    ids=["the queue took nothing", "the worker was lost", "the engine failed"],
)
async def test_a_retry_is_another_attempt_at_the_same_request(mesh: Mesh, steps: list[Any]) -> None:
    good, mesh.scheduler.steps = mesh.scheduler.steps, steps
    for _ in range(3):
        with pytest.raises(FarthingError):
            await mesh.ask(ask(**HOT))
    mesh.scheduler.steps = good
    told = await mesh.ask(ask(**HOT))
    assert {request_id for request_id, _ in mesh.scheduler.jobs} == {told.decision.request_id}
    assert {job.attempt.request_id for _, job in mesh.scheduler.jobs} == {told.decision.request_id}
    assert len({job.attempt.id for _, job in mesh.scheduler.jobs}) == 4
    assert (await mesh.ask(ask(**HOT))).decision.request_id == told.decision.request_id


async def test_after_breaking_off_in_the_middle_a_retry_keeps_the_id(mesh: Mesh) -> None:
    mesh.scheduler.pause_after = 2
    running = asyncio.ensure_future(mesh.ask(ask(**HOT)))
    await mesh.scheduler.paused.wait()
    running.cancel()
    await asyncio.wait({running})
    mesh.scheduler.pause_after = None
    told = await mesh.ask(ask(**HOT))
    assert told.decision.request_id == mesh.scheduler.jobs[0][0]


async def test_an_answer_that_was_told_and_not_kept_is_not_made_again_under_its_key(mesh: Mesh) -> None:
    private = ask(**HOT, cache_control=CacheControl(no_store=True))
    first = await mesh.ask(private)
    for _ in range(3):
        with pytest.raises(AnswerGone) as refused:
            await mesh.ask(private)
        assert refused.value.metadata == {"request_id": first.decision.request_id}
    assert len(mesh.scheduler.jobs) == 1
    assert len(mesh.admission.lives_s) == 1


@pytest.mark.parametrize(
    "other",
    [
        CacheControl(tags=("other",)),
        CacheControl(tags=("docs", "more")),
        CacheControl(tags=("docs",), min_score=0.99),
        CacheControl(),
    ],
)
async def test_another_cache_control_is_another_body(mesh: Mesh, other: CacheControl) -> None:
    await mesh.ask(ask(**HOT, cache_control=CacheControl(tags=("docs",))))
    with pytest.raises(IdempotencyMismatch):
        await mesh.ask(ask(**HOT, cache_control=other))


def test_every_field_of_a_prompt_is_in_its_digest() -> None:
    prompt = Prompt((Message(1, "one"), Message(2, "two")), AskedSampling(stop=("x",)), tags={"a": "b"})
    digests = {body_digest(changed) for changed in _changed(prompt) if isinstance(changed, Prompt)}
    assert len(digests) == sum(1 for _ in _changed(prompt))
    assert body_digest(prompt) not in digests
    assert body_digest(replace(prompt, idempotency_key="k")) == body_digest(prompt)


SIMPLE: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    bool: lambda value: (not value,),
    int: lambda value: (value + 1,),
    float: lambda value: (value + 1,),
    str: lambda value: (value + "!",),
    timedelta: lambda value: (value + timedelta(seconds=1),),
    type(None): lambda _: (0, 0.5, timedelta(0)),
}


def _changed(value: Any) -> Iterator[Any]:
    """The value with each of its fields changed in turn, however deep. A kind of field that is not known here fails, so
    that whoever adds one thinks of the digest."""
    match value:
        case tuple():
            yield (*value, "more")
            for number, item in enumerate(value):
                yield from ((*value[:number], other, *value[number + 1 :]) for other in _changed(item))
        case dict():
            yield value | {"more": ""}
            yield from (value | {key: other} for key, item in value.items() for other in _changed(item))
        case _ if is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                if field.name != "idempotency_key":
                    yield from (replace(value, **{field.name: other}) for other in _changed(getattr(value, field.name)))
        case _:
            yield from SIMPLE[type(value)](value)
