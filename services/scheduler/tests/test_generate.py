"""Generate through a real queue: the ways in which it goes well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from farthing.accounting.v1.usage_event_pb2 import SupersededCall
from farthing.type.v1.model_pb2 import CacheLevel, FinishReason, Task, Tier
from farthing.type.v1.usage_pb2 import TokenUsage
from farthing_kit.local.nats import Nats
from farthing_kit.telemetry.names import MetricName
from farthing_kit.testing.server import tenant_context
from services.scheduler.tests.fake_inference import LOGPROB
from services.scheduler.tests.mesh import Answer, Mesh, mesh, until


@pytest.fixture(params=["together", "apart"])
async def running_mesh(
    request: pytest.FixtureRequest, nats_url: str, nats_server: Nats, tmp_path: Path
) -> AsyncIterator[Mesh]:
    """Both roles in one process, where replies take the short way, and apart."""
    async with mesh(nats_server, tmp_path, apart=request.param == "apart") as made:
        yield made


async def test_an_answer_is_started_then_chunks_then_finished(running_mesh: Mesh) -> None:
    answer = await running_mesh.ask("one two three")

    assert answer.kinds == ["started", "chunk", "finished"]
    assert answer.text == "one two three "
    assert answer.events[0].started.pool == "fake"
    finished = answer.events[-1].finished
    assert finished.finish_reason == FinishReason.FINISH_REASON_STOP
    assert (finished.usage.fresh_input_tokens, finished.usage.output_tokens) == (7, 3)


async def test_one_usage_event_says_who_pays_for_what(running_mesh: Mesh) -> None:
    context = tenant_context("acme")
    await running_mesh.ask("one two", context=context)

    [event] = await running_mesh.usage(1)

    assert event.request_id == context.request_id
    assert (event.principal.org, event.principal.team) == ("acme", "search")
    assert (event.reservation_id, event.pool, event.quantization) == ("r_1", "fake", "NONE")
    assert (event.tier, event.task) == (Tier.TIER_SMALL, Task.TASK_CHAT)
    assert event.cache_level == CacheLevel.CACHE_LEVEL_NONE
    assert event.usage.output_tokens == 2
    assert event.counterfactual_usage == event.usage
    assert event.quote.price_version == 1
    assert event.tags == {"feature": "tests"}


async def test_the_second_call_of_a_cascade_books_what_it_supersedes(running_mesh: Mesh) -> None:
    superseded = SupersededCall(request_id="q_1", counterfactual_usage=TokenUsage(output_tokens=3))
    answer = await running_mesh.ask("one two", cascade=superseded)

    [event] = await running_mesh.usage(1)

    assert event.superseded == superseded
    assert answer.events[-1].finished.mean_token_logprob == LOGPROB


async def test_a_call_of_its_own_supersedes_nothing_and_tells_no_probability(running_mesh: Mesh) -> None:
    answer = await running_mesh.ask("one two")

    [event] = await running_mesh.usage(1)

    assert not event.HasField("superseded")
    assert not answer.events[-1].finished.HasField("mean_token_logprob")


async def test_a_long_answer_arrives_whole(running_mesh: Mesh) -> None:
    answer = await running_mesh.ask("*2000")

    assert answer.text.split() == [str(number) for number in range(2000)]
    assert answer.events[-1].finished.usage.output_tokens == 2000


async def test_text_arrives_while_the_model_still_writes(running_mesh: Mesh) -> None:
    answer = Answer()
    call = asyncio.ensure_future(running_mesh.collect(answer, "first |gate last"))

    await until(lambda: answer.text == "first ")
    running_mesh.inference.open("gate")
    await call

    assert answer.text == "first last "


async def test_queues_are_counted_by_model(running_mesh: Mesh) -> None:
    calls = [asyncio.ensure_future(running_mesh.ask("|gate")) for _ in range(3)]
    await running_mesh.inference.reached("gate", 3)

    assert (await running_mesh.queues())["small"].running == 3
    running_mesh.inference.open("gate")
    await asyncio.gather(*calls)

    await until(lambda: _is_empty(running_mesh))


async def _is_empty(made: Mesh) -> bool:
    return await made.queues() == {}


async def test_two_hundred_calls_make_two_hundred_answers_and_events(running_mesh: Mesh) -> None:
    turn = asyncio.Semaphore(32)

    async def call(number: int) -> None:
        async with turn:
            answer = await running_mesh.ask(f"{number} *5 end")
        assert answer.text == f"{number} 0 1 2 3 4 end "

    await asyncio.gather(*(call(number) for number in range(200)))
    events = await running_mesh.usage(200)

    assert len(events) == len({event.request_id for event in events}) == 200
    assert sum(event.usage.output_tokens for event in events) == 200 * 7


async def test_health_tells_whether_usage_can_be_written_down(running_mesh: Mesh) -> None:
    async with running_mesh.worker("another") as worker:
        value = worker.process.telemetry.metrics.value
        await until(lambda: value(MetricName.DEPENDENCY_UP, dependency="outbox") == 1)
        await until(lambda: value(MetricName.DEPENDENCY_UP, dependency="outbox-records") == 1)
