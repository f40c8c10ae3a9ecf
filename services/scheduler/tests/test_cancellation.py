"""Callers that leave, and deadlines that pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.model_pb2 import FinishReason
from farthing_kit.errors import FarthingError
from farthing_kit.local.nats import Nats
from farthing_kit.testing.server import tenant_context
from services.scheduler.tests.mesh import Answer, Mesh, mesh, until

CANCELLED = FinishReason.FINISH_REASON_CANCELLED


@pytest.fixture(params=["together", "apart"])
async def made(request: pytest.FixtureRequest, nats_url: str, nats_server: Nats, tmp_path: Path) -> AsyncIterator[Mesh]:
    """One job at a time."""
    async with mesh(nats_server, tmp_path, apart=request.param == "apart", slots_per_model=1) as running_mesh:
        yield running_mesh


async def test_a_caller_that_leaves_stops_the_model_and_pays_for_what_was_written(made: Mesh) -> None:
    answer, context = Answer(), tenant_context()
    call = asyncio.ensure_future(made.collect(answer, "one two |gate three", context=context))
    await until(lambda: answer.text == "one two ")

    call.cancel()

    await made.inference.was_cancelled(context.request_id)
    [event] = await made.usage(1)
    assert (event.request_id, event.finish_reason) == (context.request_id, CANCELLED)
    assert (event.usage.fresh_input_tokens, event.usage.output_tokens) == (7, 2)
    assert await made.queues() == {}


async def test_a_job_that_was_cancelled_before_its_turn_is_not_run(made: Mesh) -> None:
    first = asyncio.ensure_future(made.ask("|gate first"))
    await made.inference.reached("gate")
    second = asyncio.ensure_future(made.ask("second"))
    await until(lambda: _counts(made, waiting=1))

    second.cancel()
    await asyncio.wait({second})
    made.inference.open("gate")

    assert (await first).text == "first "
    await until(lambda: _counts(made))
    assert made.inference.calls == 1
    assert len(await made.usage(1)) == 1


async def test_a_deadline_that_passes_stops_the_model_and_books_what_was_written(made: Mesh) -> None:
    context = tenant_context()

    with pytest.raises(FarthingError) as caught:
        await made.ask("one |gate two", context=context, timeout=0.4)

    assert caught.value.reason == ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED
    await made.inference.was_cancelled(context.request_id)
    [event] = await made.usage(1)
    assert (event.finish_reason, event.usage.output_tokens) == (CANCELLED, 1)
    await until(lambda: _counts(made))


async def test_a_deadline_that_inference_sees_first_is_booked_like_one_that_the_worker_sees(made: Mesh) -> None:
    with pytest.raises(FarthingError) as caught:
        await made.ask("one two !late")

    assert caught.value.reason == ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED
    [event] = await made.usage(1)
    assert (event.finish_reason, event.usage.output_tokens) == (CANCELLED, 2)
    await until(lambda: _counts(made))


async def test_a_job_whose_deadline_passed_in_the_queue_is_not_run(made: Mesh) -> None:
    first = asyncio.ensure_future(made.ask("|gate first"))
    await made.inference.reached("gate")

    with pytest.raises(FarthingError):
        await made.ask("second", timeout=0.3)
    made.inference.open("gate")

    assert (await first).text == "first "
    await until(lambda: _counts(made))
    assert made.inference.calls == 1


async def test_the_model_is_given_what_is_left_of_the_deadline(made: Mesh) -> None:
    await made.ask("hello", timeout=3.0)

    [left_s] = made.inference.deadlines
    assert 2.0 < left_s < 3.0


async def test_a_slow_reader_loses_its_own_stream_only(nats_url: str, nats_server: Nats, tmp_path: Path) -> None:
    async with mesh(nats_server, tmp_path, apart=True, reply_limit=16) as slow_mesh:
        context = tenant_context()
        reader = _SlowReader()
        slow = asyncio.ensure_future(reader.read(slow_mesh, "#20000", context.request_id))
        await reader.has_begun.wait()

        others = await asyncio.gather(*(slow_mesh.ask(f"{number} end") for number in range(5)))
        await slow_mesh.inference.was_cancelled(context.request_id)
        reader.goes_on.set()
        error = await slow

        assert [other.text for other in others] == [f"{number} end " for number in range(5)]
        assert error.reason == ErrorReason.ERROR_REASON_OVERLOADED
        assert error.metadata["cause"] == "slow_reader"
        assert len({event.request_id for event in await slow_mesh.usage(6)}) == 6


class _SlowReader:
    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def read(self, made: Mesh, script: str, request_id: str) -> FarthingError:
        try:
            async for _ in made.stream(script, context=tenant_context(request_id=request_id), timeout=30.0):
                self.has_begun.set()
                await self.goes_on.wait()
        except FarthingError as error:
            return error
        raise AssertionError("the stream ended well")


async def _counts(made: Mesh, *, waiting: int = 0) -> bool:
    queue = (await made.queues()).get("small")
    return (queue.waiting if queue else 0) == waiting and (waiting > 0 or queue is None)
