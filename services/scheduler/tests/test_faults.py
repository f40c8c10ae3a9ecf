"""Workers that die or freeze, replicas that die, a NATS that restarts: nothing is lost in silence or charged twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from farthing.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.model_pb2 import FinishReason
from farthing_kit import client
from farthing_kit.errors import FarthingError
from farthing_kit.local.nats import Nats
from farthing_kit.local.process import ChildProcess
from farthing_kit.testing.server import tenant_context
from farthing_scheduler.config import Role
from services.scheduler.tests.mesh import QUICK, Answer, Mesh, freeze, mesh, request, start, until

R = ErrorReason


@pytest.fixture
async def made(nats_url: str, nats_server: Nats, tmp_path: Path) -> AsyncIterator[Mesh]:
    """Callers' streams only: the test brings the workers."""
    async with mesh(nats_server, tmp_path, times=QUICK, role=Role.API) as running_mesh:
        yield running_mesh


@pytest.fixture
async def own_nats(tmp_path: Path) -> AsyncIterator[Nats]:
    """A NATS that the test may stop."""
    server = await Nats(tmp_path / "nats", log=tmp_path / "nats.log").start()
    yield server
    server.process.kill()


@asynccontextmanager
async def child(made: Mesh, name: str, role: Role = Role.WORKER) -> AsyncIterator[tuple[ChildProcess, int]]:
    """A scheduler as a process of its own, and its port."""
    process = made.child(role, name)
    try:
        yield process, await start(process)
    finally:
        process.kill()


async def error_of(call: asyncio.Future[None] | asyncio.Future[Answer]) -> FarthingError:
    """How a call failed."""
    with pytest.raises(FarthingError) as caught:
        await call
    return caught.value


async def is_empty(made: Mesh) -> bool:
    return await made.queues() == {}


async def test_a_worker_that_dies_after_text_is_an_error_and_its_reservation_is_voided(made: Mesh) -> None:
    answer, context = Answer(), tenant_context()
    async with child(made, "first") as (first, _):
        call = asyncio.ensure_future(made.collect(answer, "one |gate two", context=context))
        await until(lambda: answer.text == "one ")
        first.kill()
        async with made.worker("second"):
            error = await error_of(call)
            after = await made.ask("hello")

            assert error.reason == R.ERROR_REASON_WORKER_LOST
            assert error.metadata == {"request_id": context.request_id, "charged": "unknown"}
            assert after.text == "hello "
            await until(lambda: is_empty(made))
            assert len(await made.usage(1)) == 1
            [void] = await made.voids(1)
            assert (void.request_id, void.attempt.run, void.reservation_id) == (context.request_id, 2, "r_1")
            assert made.inference.calls == 2


async def test_without_another_worker_the_silence_is_noticed(made: Mesh) -> None:
    answer = Answer()
    async with child(made, "only") as (only, _):
        call = asyncio.ensure_future(made.collect(answer, "one |gate two"))
        await until(lambda: answer.text == "one ")
        only.kill()

        assert (await error_of(call)).reason == R.ERROR_REASON_WORKER_LOST


async def test_a_worker_that_dies_before_text_is_replaced(made: Mesh) -> None:
    async with child(made, "first") as (first, _):
        call = asyncio.ensure_future(made.ask("|gate one"))
        await made.inference.reached("gate")
        first.kill()
        async with made.worker("second"):
            await made.inference.reached("gate", 2)
            made.inference.open("gate")
            answer = await call

            assert answer.text == "one "
            assert [event.WhichOneof("event") for event in answer.events].count("started") == 1
            assert len(await made.usage(1)) == 1
            await until(lambda: is_empty(made))


async def test_a_job_that_two_workers_died_on_ends_with_an_error(made: Mesh) -> None:
    call = asyncio.ensure_future(made.ask("|gate one"))
    for number in (1, 2):
        async with child(made, f"worker-{number}") as (worker, _):
            await made.inference.reached("gate", number)
            worker.kill()
    async with made.worker("third"):
        error = await error_of(call)

        assert error.reason == R.ERROR_REASON_WORKER_LOST
        assert made.inference.calls == 2
        await until(lambda: is_empty(made))


async def test_a_worker_that_only_slept_does_not_charge_again(made: Mesh) -> None:
    context = tenant_context()
    async with child(made, "sleeper") as (sleeper, _):
        call = asyncio.ensure_future(made.ask("|gate one", context=context))
        await made.inference.reached("gate")
        await freeze(sleeper)
        async with made.worker("second"):
            await made.inference.reached("gate", 2)
            sleeper.signal(signal.SIGCONT)
            await made.inference.was_cancelled(context.request_id)  # the sleeper's: it was told that it is overtaken
            made.inference.open("gate")

            assert (await call).text == "one "
            await until(lambda: is_empty(made))
            [event] = await made.usage(1)
            assert event.finish_reason == FinishReason.FINISH_REASON_STOP


async def test_a_worker_that_slept_while_its_caller_left_books_nothing_of_what_was_given_back(made: Mesh) -> None:
    answer, context = Answer(), tenant_context()
    async with child(made, "sleeper") as (sleeper, _):
        call = asyncio.ensure_future(made.collect(answer, "one |gate two", context=context))
        await until(lambda: answer.text == "one ")
        await freeze(sleeper)
        call.cancel()
        await asyncio.wait({call})
        async with made.worker("second"):
            [void] = await made.voids(1)
        sleeper.signal(signal.SIGCONT)
        await made.inference.was_cancelled(context.request_id)
        await made.ask("after")  # by the sleeper, whose events come in their order

        [usage] = await made.usage(1)
        assert void.request_id == context.request_id != usage.request_id


async def test_a_job_whose_caller_s_replica_died_is_stopped(made: Mesh) -> None:
    context = tenant_context()
    async with made.worker("worker"), child(made, "api", Role.API) as (api, port):
        signer = made.scheduler.process.signer
        async with client.channel(f"127.0.0.1:{port}", signer=signer, identity=context) as channel:
            stream = SchedulerServiceStub(channel).Generate(request("one |gate two"), timeout=20.0)
            async for event in stream:
                if event.WhichOneof("event") == "chunk":
                    break
            api.kill()

            await made.inference.was_cancelled(context.request_id)
            [usage] = await made.usage(1)
            assert usage.finish_reason == FinishReason.FINISH_REASON_CANCELLED
            assert usage.usage.output_tokens == 1


async def test_a_stopping_worker_finishes_what_it_began(made: Mesh) -> None:
    async with made.worker("worker") as worker:
        call = asyncio.ensure_future(made.ask("one |gate two"))
        await made.inference.reached("gate")
        closing = asyncio.ensure_future(worker.process.close())
        await until(lambda: worker.process.draining)
        made.inference.open("gate")

        assert (await call).text == "one two "
        await closing
        assert len(await made.usage(1)) == 1


async def test_a_stopping_scheduler_finishes_what_was_asked(nats_url: str, nats_server: Nats, tmp_path: Path) -> None:
    async with mesh(nats_server, tmp_path, slots_per_model=1) as both:
        running_call = asyncio.ensure_future(both.ask("one |gate two"))
        await both.inference.reached("gate")
        waiting = asyncio.ensure_future(both.ask("three"))
        await until(lambda: _has_waiting(both))

        closing = asyncio.ensure_future(both.scheduler.process.close())
        await until(lambda: both.scheduler.process.draining)
        both.inference.open("gate")

        assert ((await running_call).text, (await waiting).text) == ("one two ", "three ")
        await closing
        assert len(await both.usage(2)) == 2


async def test_a_stopping_worker_hands_over_what_has_no_text_yet(made: Mesh) -> None:
    async with made.worker("first", drain_ms=0) as first:
        call = asyncio.ensure_future(made.ask("|gate one"))
        await made.inference.reached("gate")
        async with made.worker("second"):
            await first.process.close()
            await made.inference.reached("gate", 2)
            made.inference.open("gate")

            assert (await call).text == "one "
            assert len(await made.usage(1)) == 1


async def test_a_stopping_worker_says_what_it_cannot_finish(made: Mesh) -> None:
    answer = Answer()
    async with made.worker("worker", drain_ms=0) as worker:
        call = asyncio.ensure_future(made.collect(answer, "one |gate two"))
        await until(lambda: answer.text == "one ")
        await worker.process.close()

        error = await error_of(call)
        assert (error.reason, error.metadata["charged"]) == (R.ERROR_REASON_WORKER_LOST, "no")
        await until(lambda: is_empty(made))
        assert len(await made.voids(1)) == 1


@pytest.mark.parametrize("payload", [b"\xff\xff garbage", b""])
async def test_a_message_that_is_no_job_is_dropped(made: Mesh, payload: bytes) -> None:
    async with made.worker("worker"):
        await made.js.publish("jobs.interactive.small", payload)

        assert (await made.ask("hello")).text == "hello "
        await until(lambda: is_empty(made))


async def test_an_inference_that_is_gone_is_said_so(made: Mesh) -> None:
    async with made.worker("worker"):
        await made.ask("hello")
        await made.inference_server.server.stop()

        error = await error_of(asyncio.ensure_future(made.ask("hello")))

        assert error.reason == R.ERROR_REASON_MODEL_UNAVAILABLE
        assert error.metadata == {"model": "small", "charged": "no"}
        await until(lambda: is_empty(made))


async def test_a_nats_that_restarts_loses_no_usage_and_no_caller_waits_for_ever(own_nats: Nats, tmp_path: Path) -> None:
    async with mesh(own_nats, tmp_path / "mesh", times=QUICK, apart=True, slots_per_model=1) as made:
        before = [await made.ask(f"{number} done") for number in range(3)]
        writing = asyncio.ensure_future(made.ask("|gate one"))
        await made.inference.reached("gate")
        waiting = asyncio.ensure_future(made.ask("two"))
        await until(lambda: _has_waiting(made))

        own_nats.process.kill()
        errors = [await error_of(call) for call in (writing, waiting)]
        made.inference.open("gate")
        await own_nats.start()
        await until(lambda: _answers(made), timeout_s=15.0)
        after = [await made.ask(f"{number} done") for number in range(3)]

        assert [answer.text for answer in before] == [answer.text for answer in after]
        assert [error.reason for error in errors] == [
            R.ERROR_REASON_WORKER_LOST,
            R.ERROR_REASON_QUEUE_UNAVAILABLE,
        ]
        ids = [event.request_id for event in await made.usage(7)]
        assert len(ids) == len(set(ids))
        await until(lambda: is_empty(made))


async def _has_waiting(made: Mesh) -> bool:
    queue = (await made.queues()).get("small")
    return queue is not None and queue.waiting == 1


async def _answers(made: Mesh) -> bool:
    try:
        return (await made.ask("hello")).text == "hello "
    except FarthingError:
        return False


async def test_a_short_restart_of_nats_ends_the_jobs_that_it_lost(own_nats: Nats, tmp_path: Path) -> None:
    async with mesh(own_nats, tmp_path / "mesh", times=QUICK, role=Role.API, outage_ms=60_000) as made:
        waiting = asyncio.ensure_future(made.ask("one"))
        await until(lambda: _is_stored(made))

        own_nats.process.kill()
        await own_nats.start()

        error = await error_of(waiting)
        assert error.reason == R.ERROR_REASON_QUEUE_UNAVAILABLE
        assert "restarted" in error.message


async def _is_stored(made: Mesh) -> bool:
    return bool((await made.js.stream_info("JOBS_INTERACTIVE")).state.messages == 1)


async def test_in_one_process_a_stream_outlives_a_restart_of_nats(own_nats: Nats, tmp_path: Path) -> None:
    async with mesh(own_nats, tmp_path / "mesh") as made:
        answer = Answer()
        call = asyncio.ensure_future(made.collect(answer, "one |gate two"))
        await until(lambda: answer.text == "one ")

        own_nats.process.kill()
        await own_nats.start()
        made.inference.open("gate")
        await call

        assert answer.text == "one two "
        assert len(await made.usage(1)) == 1
