"""Every job ends with one event: what was used is charged, or the reservation is given back. What the caller is told of
it is what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from farthing.accounting.v1.usage_event_pb2 import UsageEvent
from farthing_kit.charging import Charged, charged_after
from farthing_kit.context import RequestContext
from farthing_kit.errors import FarthingError
from farthing_kit.local.nats import Nats
from farthing_kit.testing.server import tenant_context
from services.scheduler.tests.mesh import QUICK, Answer, Mesh, mesh, until


@pytest.fixture
async def made(nats_url: str, nats_server: Nats, tmp_path: Path) -> AsyncIterator[Mesh]:
    """One job at a time, and a worker of its own."""
    async with mesh(nats_server, tmp_path, times=QUICK, slots_per_model=1) as running_mesh:
        yield running_mesh


@pytest.fixture
def context() -> RequestContext:
    return tenant_context()


async def end_of(made: Mesh, context: RequestContext) -> UsageEvent:
    """The one event of a request, when nothing of it is left in the queue."""
    await until(lambda: _is_empty(made))
    found: list[UsageEvent] = []

    async def is_there() -> bool:
        found[:] = [event for event in await made.published() if event.request_id == context.request_id]
        return found != []

    await until(is_there)
    [event] = found
    return event


async def _is_empty(made: Mesh) -> bool:
    return await made.queues() == {}


async def error_of(call: asyncio.Future[None]) -> FarthingError:
    with pytest.raises(FarthingError) as caught:
        await call
    return caught.value


async def test_a_whole_answer_is_charged(made: Mesh, context: RequestContext) -> None:
    await made.ask("one two", context=context)

    event = await end_of(made, context)
    assert (event.voided, event.usage.output_tokens, event.attempt.run) == (False, 2, 1)


async def test_a_caller_that_leaves_before_the_model_begins_pays_nothing(made: Mesh, context: RequestContext) -> None:
    first = asyncio.ensure_future(made.ask("|gate first"))
    await made.inference.reached("gate")
    second = asyncio.ensure_future(made.ask("second", context=context))
    await until(lambda: _waits(made))
    second.cancel()
    await asyncio.wait({second})
    made.inference.open("gate")
    await first

    event = await end_of(made, context)
    assert (event.voided, event.reservation_id, event.usage.output_tokens) == (True, "r_1", 0)


async def _waits(made: Mesh) -> bool:
    queues = await made.queues()
    return "small" in queues and queues["small"].waiting == 1


async def test_a_caller_that_leaves_while_the_prompt_is_read_pays_for_the_prompt(
    made: Mesh, context: RequestContext
) -> None:
    answer = Answer()
    call = asyncio.ensure_future(made.collect(answer, "~ |gate one", context=context))
    await made.inference.reached("gate")
    await until(lambda: answer.kinds == ["started"])
    call.cancel()

    event = await end_of(made, context)
    assert (event.voided, event.usage.fresh_input_tokens, event.usage.output_tokens) == (False, 7, 0)


async def test_what_has_no_text_reaches_no_caller(made: Mesh, context: RequestContext) -> None:
    answer = await made.ask("~ ~ one ~ two", context=context)

    assert [event.chunk.text for event in answer.events if event.HasField("chunk")] == ["one ", "two "]


async def test_a_deadline_that_passes_after_text_is_charged(made: Mesh, context: RequestContext) -> None:
    answer = Answer()
    call = asyncio.ensure_future(made.collect(answer, "one two |gate three", context=context, timeout=0.5))
    await error_of(call)

    event = await end_of(made, context)
    assert (event.voided, event.usage.output_tokens) == (False, 2)


async def test_a_deadline_that_the_engine_notices_first_is_charged_too(made: Mesh, context: RequestContext) -> None:
    error = await error_of(asyncio.ensure_future(_asked(made, "one two !late", context)))

    event = await end_of(made, context)
    assert charged_after(error) is Charged.YES
    assert (event.voided, event.usage.output_tokens) == (False, 2)


async def test_a_deadline_that_passes_in_the_queue_costs_nothing(made: Mesh, context: RequestContext) -> None:
    first = asyncio.ensure_future(made.ask("|gate first"))
    await made.inference.reached("gate")
    await error_of(asyncio.ensure_future(_asked(made, "second", context, timeout=0.3)))
    made.inference.open("gate")
    await first

    assert (await end_of(made, context)).voided


async def test_an_engine_that_fails_after_text_costs_nothing_and_says_so(made: Mesh, context: RequestContext) -> None:
    error = await error_of(asyncio.ensure_future(_asked(made, "some text !", context)))

    assert charged_after(error) is Charged.NO
    assert (await end_of(made, context)).voided


async def _asked(made: Mesh, script: str, context: RequestContext, timeout: float = 10.0) -> None:
    await made.ask(script, context=context, timeout=timeout)
