"""The whole service as its callers see it, over a real Triton."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from farthing.inference.v1 import inference_service_pb2 as pb
from farthing.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from farthing.type.v1 import model_pb2
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_inference.config import InferenceSettings
from farthing_inference.main import build
from farthing_kit.errors import FarthingError
from farthing_kit.local.process import free_port
from farthing_kit.local.triton import Triton
from farthing_kit.telemetry import Attr, MetricName
from farthing_kit.testing.proxy import FaultProxy
from farthing_kit.testing.server import RunningProcess, operator_context, running
from farthing_kit.testing.settings import settings

R = ErrorReason
USER = model_pb2.CHAT_ROLE_USER
WAIT_S = 20.0
ECHO_SLOTS = 8  # of echo-slow
LONG = " ".join(["word"] * 400)
CHATML = Path(__file__).parents[3] / "deploy/config/triton/chat_templates/smollm2.jinja"


def pools_file(folder: Path, *pools: tuple[str, str], max_in_flight: int = 64) -> Path:
    """A pools file of pools given as (name, servers), each with the models of the tests."""
    models = [("echo", "none", 4096, ""), ("echo-slow", "none", 4096, ""), ("small", "small", 2048, str(CHATML))]
    lines = []
    for name, servers in pools:
        lines += ["[[pools]]", f'name = "{name}"', 'accelerator = "CPU"', 'market = "owned"', 'price_per_hour = "0.08"']
        lines += [f'triton = ["{servers}"]', f"max_in_flight = {max_in_flight}"]
        for model, tier, context_tokens, template in models:
            lines += ["[[pools.models]]", f'name = "{model}"', f'tier = "{tier}"', 'weights = "test"']
            lines += ['quantization = "INT4"', 'adapter = "farthing"', f"context_tokens = {context_tokens}"]
            lines += [f'chat_template = "{template}"'] if template else []
    path = folder / "pools.toml"
    path.write_text("\n".join(lines))
    return path


class World:
    """The service with a client."""

    def __init__(self, process: RunningProcess[InferenceSettings]) -> None:
        self.process = process
        self.channel = process.channel()
        self.stub = InferenceServiceStub(self.channel)
        self.operator_channel = process.channel(operator_context())
        self.operator = InferenceServiceStub(self.operator_channel)

    async def close(self) -> None:
        await self.channel.close()
        await self.operator_channel.close()

    def call(self, text: str = "to be or not", model: str = "echo", limit: int = 512, **options: Any) -> Any:
        messages = [model_pb2.ChatMessage(role=USER, content=text)]
        sampling = model_pb2.Sampling(max_output_tokens=limit)
        wanted = bool(options.pop("logprob", False))
        request = pb.GenerateRequest(
            model=model, messages=messages, sampling=sampling, return_mean_token_logprob=wanted
        )
        return self.stub.Generate(request, **{"timeout": 20.0, **options})

    async def ask(self, text: str = "to be or not", **options: Any) -> list[pb.GenerateResponse]:
        return [response async for response in self.call(text, **options)]

    async def fails(self, *args: Any, **options: Any) -> FarthingError:
        with pytest.raises(FarthingError) as caught:
            await self.ask(*args, **options)
        return caught.value

    async def pools(self) -> dict[str, pb.Pool]:
        listed = await self.stub.ListPools(pb.ListPoolsRequest(), timeout=5.0)
        return {pool.name: pool for pool in listed.pools}

    async def until_state(self, pool: str, state: pb.PoolState.ValueType) -> None:
        """Wait until a pool is in a state."""
        await self._until(lambda pools: pools[pool].state == state)

    async def until_in_flight(self, pool: str, count: int) -> None:
        """Wait until so many generations are counted."""
        await self._until(lambda pools: pools[pool].in_flight == count)

    async def until_idle(self) -> None:
        """Wait until no generation is counted."""
        await self._until(lambda pools: not any(pool.in_flight for pool in pools.values()))

    async def _until(self, holds: Callable[[dict[str, pb.Pool]], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds(await self.pools()):  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.02)


@asynccontextmanager
async def world(path: Path, **changes: Any) -> AsyncIterator[World]:
    """The service on a pools file, with checks that are quick enough for tests."""
    quick = {
        "health_interval_ms": 200,
        "health_retry_ms": 50,
        "health_timeout_ms": 500,
        "restart_wait_ms": 100,
        **changes,
    }
    async with running("inference", settings(InferenceSettings, pools_file=path, **quick), build) as process:
        made = World(process)
        try:
            yield made
        finally:
            await made.close()


@pytest.fixture
async def inference(triton: Triton, tmp_path: Path) -> AsyncIterator[World]:
    async with world(pools_file(tmp_path, ("local", triton.address))) as made:
        yield made


def text_of(responses: list[pb.GenerateResponse]) -> str:
    return "".join(response.chunk.text for response in responses)


async def test_an_answer_starts_streams_and_finishes_with_exact_counts(inference: World) -> None:
    started, *chunks, finished = await inference.ask("to be or not")
    assert (started.started.pool, started.started.quantization) == ("local", "INT4")
    assert text_of(chunks) == "to be or not"
    assert {chunk.chunk.input_tokens for chunk in chunks} == {4}
    assert [chunk.chunk.output_tokens for chunk in chunks] == [1, 2, 3, 4]
    assert finished.finished.finish_reason == model_pb2.FINISH_REASON_STOP
    usage = finished.finished.usage
    assert (usage.fresh_input_tokens, usage.output_tokens, usage.cache_read_tokens) == (4, 4, 0)


async def test_the_output_limit_is_told_apart_from_a_stop(inference: World) -> None:
    finished = (await inference.ask("a b c", limit=2))[-1].finished
    assert finished.finish_reason == model_pb2.FINISH_REASON_LENGTH


async def test_a_real_model_answers_through_its_own_template_the_same_each_time(inference: World) -> None:
    first, second = [await inference.ask("Name a colour.", model="small", limit=4) for _ in range(2)]
    usage = first[-1].finished.usage
    assert usage.fresh_input_tokens > 15  # the template's own words count too
    assert 1 <= usage.output_tokens <= 4
    assert text_of(first).strip()
    assert text_of(first) == text_of(second)


async def test_a_real_model_says_how_probable_its_tokens_were_where_that_is_asked_for(inference: World) -> None:
    asked, unasked = [
        (await inference.ask("Name a colour.", model="small", limit=8, logprob=wanted))[-1].finished
        for wanted in (True, False)
    ]
    assert -3.0 < asked.mean_token_logprob < 0
    assert not unasked.HasField("mean_token_logprob")
    echoed = (await inference.ask("to be", logprob=True))[-1].finished
    assert not echoed.HasField("mean_token_logprob")


async def test_a_prompt_over_the_models_context_is_refused_with_its_tokens(inference: World) -> None:
    error = await inference.fails("word " * 3000, model="small", limit=8)
    assert error.reason == R.ERROR_REASON_PROMPT_TOO_LARGE
    assert error.metadata["limit_tokens"] == "2048"
    assert int(error.metadata["actual_tokens"]) >= 3000


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("x", {"model": "large-v9"}, R.ERROR_REASON_UNKNOWN_MODEL),
        ("", {}, R.ERROR_REASON_EMPTY_PROMPT),
        ("x", {"limit": -1}, R.ERROR_REASON_INVALID_FIELD),
        ("x" * 2_000_000, {}, R.ERROR_REASON_PROMPT_TOO_LARGE),
        ("x" * 10_000_000, {}, R.ERROR_REASON_MESSAGE_TOO_LARGE),
    ],
)
async def test_a_wrong_request_is_refused_with_its_reason(
    inference: World, text: str, options: dict[str, Any], reason: ErrorReason.ValueType
) -> None:
    assert (await inference.fails(text, **options)).reason == reason


async def test_a_deadline_without_time_is_refused(inference: World) -> None:
    reason = (await inference.fails("x", timeout=0.005)).reason
    # The server's word, or the client's own timer: whichever is first.
    assert reason in (R.ERROR_REASON_DEADLINE_TOO_SHORT, R.ERROR_REASON_DEADLINE_EXCEEDED)


async def test_a_message_of_no_role_is_refused_by_its_place(inference: World) -> None:
    request = pb.GenerateRequest(
        model="echo",
        messages=[model_pb2.ChatMessage(role=USER, content="x"), model_pb2.ChatMessage(content="y")],
        sampling=model_pb2.Sampling(max_output_tokens=1),
    )
    with pytest.raises(FarthingError) as caught:
        await anext(aiter(inference.stub.Generate(request, timeout=5.0)))
    assert caught.value.metadata == {"fields": "messages[1].role"}


async def test_the_deadline_ends_a_long_answer_and_frees_its_place(inference: World) -> None:
    error = await inference.fails(LONG, model="echo-slow", timeout=0.4)
    assert error.reason == R.ERROR_REASON_DEADLINE_EXCEEDED
    await inference.until_idle()


async def test_cancelling_the_call_frees_the_models_places(inference: World) -> None:
    """The slow model runs 8 at once, for 20 s each: only if cancelled calls leave it can 8 more start at once."""

    async def begin() -> Any:
        call = inference.call(LONG, model="echo-slow")
        async for response in call:
            if response.HasField("chunk"):
                return call
        raise AssertionError("no chunk")

    for _ in range(2):
        async with asyncio.timeout(5.0):
            calls = await asyncio.gather(*(begin() for _ in range(8)))
        assert (await inference.pools())["local"].in_flight == 8
        for call in calls:
            call.cancel()
        await inference.until_idle()


async def test_pools_are_listed_as_the_file_says(inference: World) -> None:
    pool = (await inference.pools())["local"]
    assert (pool.accelerator, pool.market, pool.state) == ("CPU", pb.MARKET_OWNED, pb.POOL_STATE_ACTIVE)
    assert (pool.price_per_hour.currency_code, pool.price_per_hour.nano_units) == ("USD", 80_000_000)
    assert [(model.name, model.tier) for model in pool.models] == [
        ("echo", model_pb2.TIER_UNSPECIFIED),
        ("echo-slow", model_pb2.TIER_UNSPECIFIED),
        ("small", model_pb2.TIER_SMALL),
    ]


async def test_an_operator_drains_a_pool_and_puts_it_back(inference: World) -> None:
    request = pb.SetPoolStateRequest(pool="local", state=pb.POOL_STATE_DRAINING)
    for _ in range(2):
        drained = await inference.operator.SetPoolState(request, timeout=5.0)
        assert drained.pool.state == pb.POOL_STATE_DRAINING
    assert (await inference.fails()).reason == R.ERROR_REASON_MODEL_UNAVAILABLE
    request.state = pb.POOL_STATE_ACTIVE
    await inference.operator.SetPoolState(request, timeout=5.0)
    assert text_of(await inference.ask("back")) == "back"


@pytest.mark.parametrize(
    ("pool", "state", "reason"),
    [
        ("nowhere", pb.POOL_STATE_DRAINING, R.ERROR_REASON_NOT_FOUND),
        ("local", pb.POOL_STATE_UNREACHABLE, R.ERROR_REASON_INVALID_FIELD),
    ],
)
async def test_a_state_that_cannot_be_set_is_refused(
    inference: World, pool: str, state: pb.PoolState.ValueType, reason: ErrorReason.ValueType
) -> None:
    with pytest.raises(FarthingError) as caught:
        await inference.operator.SetPoolState(pb.SetPoolStateRequest(pool=pool, state=state), timeout=5.0)
    assert caught.value.reason == reason


async def test_only_operators_set_the_state_of_a_pool(inference: World) -> None:
    request = pb.SetPoolStateRequest(pool="local", state=pb.POOL_STATE_DRAINING)
    with pytest.raises(FarthingError) as caught:
        await inference.stub.SetPoolState(request, timeout=5.0)
    assert caught.value.reason == R.ERROR_REASON_PERMISSION_DENIED


async def test_a_call_without_a_context_is_refused(inference: World) -> None:
    async with grpc.aio.insecure_channel(inference.process.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await InferenceServiceStub(channel).ListPools(pb.ListPoolsRequest(), timeout=5.0)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_full_pools_refuse_with_a_time_to_come_back(triton: Triton, tmp_path: Path) -> None:
    async with world(pools_file(tmp_path, ("local", triton.address), max_in_flight=1)) as made:
        call = made.call(LONG, model="echo-slow")
        await anext(aiter(call))
        error = await made.fails()
        assert error.reason == R.ERROR_REASON_OVERLOADED
        assert error.retry_after_s is not None
        call.cancel()
        await made.until_idle()


async def test_a_pool_that_is_down_is_stepped_over_and_comes_back(triton: Triton, tmp_path: Path) -> None:
    async with FaultProxy(triton.grpc_port) as proxy:
        path = pools_file(tmp_path, ("first", proxy.address), ("second", triton.address))
        async with world(path) as made:
            proxy.down()
            for _ in range(3):
                assert (await made.ask())[0].started.pool == "second"
            await made.until_state("first", pb.POOL_STATE_UNREACHABLE)
            proxy.heal()
            await made.until_state("first", pb.POOL_STATE_ACTIVE)
            assert (await made.ask())[0].started.pool == "first"


async def test_a_server_that_breaks_off_in_the_middle_ends_the_answer_there(triton: Triton, tmp_path: Path) -> None:
    async with FaultProxy(triton.grpc_port) as proxy:
        path = pools_file(tmp_path, ("first", proxy.address), ("second", triton.address))
        async with world(path) as made:
            seen = []
            with pytest.raises(FarthingError) as caught:  # noqa: PT012 - the stream is what is tested
                async for response in made.call(LONG, model="echo-slow"):
                    seen.append(response)
                    if len(seen) == 3:
                        proxy.cut()
            assert caught.value.reason == R.ERROR_REASON_MODEL_UNAVAILABLE
            assert caught.value.retry_after_s is not None
            await made.until_idle()


async def test_a_server_that_swallows_everything_is_given_up_and_left_out(triton: Triton, tmp_path: Path) -> None:
    async with FaultProxy(triton.grpc_port) as proxy:
        path = pools_file(tmp_path, ("first", proxy.address), ("second", triton.address))
        async with world(path, first_token_timeout_ms=300) as made:
            proxy.blackhole()
            assert (await made.ask())[0].started.pool == "second"
            await made.until_state("first", pb.POOL_STATE_UNREACHABLE)


async def test_the_service_starts_without_triton_and_follows_it_down_and_up(tmp_path: Path) -> None:
    port = free_port()
    async with world(pools_file(tmp_path, ("local", f"127.0.0.1:{port}"))) as made:
        error = await made.fails()
        assert error.reason == R.ERROR_REASON_MODEL_UNAVAILABLE
        assert error.retry_after_s is not None
        for _ in range(2):
            server = Triton(["echo", "echo-slow"], log=tmp_path / "triton.log", grpc_port=port)
            await server.start()
            await made.until_state("local", pb.POOL_STATE_ACTIVE)
            assert text_of(await made.ask("hello")) == "hello"
            server.process.kill()
            assert (await made.fails()).reason == R.ERROR_REASON_MODEL_UNAVAILABLE


async def test_requests_that_meet_a_restart_of_the_only_server_are_answered(tmp_path: Path) -> None:
    """What it was answering is lost; what waited in its queue, and what comes while it is gone, is not."""
    server = await Triton(["echo", "echo-slow"], log=tmp_path / "triton.log").start()
    async with world(pools_file(tmp_path, ("local", server.address)), restart_wait_ms=15_000) as made:
        running = [made.call(LONG, model="echo-slow") for _ in range(ECHO_SLOTS)]
        readers = [aiter(call) for call in running]
        for reader in readers:
            await anext(reader)
        queued = asyncio.create_task(made.ask("in the queue", model="echo-slow"))
        await made.until_in_flight("local", ECHO_SLOTS + 1)
        server.process.kill()
        for reader in readers:
            with pytest.raises(FarthingError) as caught:
                async for _ in reader:
                    pass
            assert caught.value.reason == R.ERROR_REASON_MODEL_UNAVAILABLE
        late = [asyncio.create_task(made.ask(f"number {number}")) for number in range(16)]
        await server.start()
        assert text_of(await queued) == "in the queue"
        assert [text_of(await task) for task in late] == [f"number {number}" for number in range(16)]
        await server.stop()


async def test_the_prompt_that_is_read_is_told_before_the_first_token(inference: World) -> None:
    """So that who leaves meanwhile is charged for it."""
    responses = await inference.ask("word " * 600, model="small", limit=1)
    early = [item.chunk for item in responses if item.HasField("chunk") and item.chunk.output_tokens == 0]
    assert early[0].input_tokens == 256
    assert [chunk.input_tokens for chunk in early] == sorted({chunk.input_tokens for chunk in early})
    assert early[-1].input_tokens == responses[-1].finished.usage.fresh_input_tokens
    assert responses[0].HasField("started")


async def test_a_short_prompt_is_told_as_soon_as_a_slot_takes_it(inference: World) -> None:
    started, first, *_, finished = await inference.ask("Name a colour.", model="small", limit=1)
    assert started.HasField("started")
    assert (first.chunk.text, first.chunk.output_tokens) == ("", 0)
    assert first.chunk.input_tokens == finished.finished.usage.fresh_input_tokens


async def test_a_stopping_service_lets_answers_end(triton: Triton, tmp_path: Path) -> None:
    async with world(pools_file(tmp_path, ("local", triton.address)), grace_ms=20_000) as made:
        call = made.call(" ".join(["word"] * 12), model="echo-slow")
        first = await anext(aiter(call))
        closing = asyncio.create_task(made.process.process.close())
        rest = [response async for response in call]
        assert first.HasField("started")
        assert rest[-1].finished.finish_reason == model_pb2.FINISH_REASON_STOP
        await closing


async def test_one_trace_from_the_call_to_triton_without_a_word_of_the_prompt(
    inference: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await inference.ask("canary-1 canary-2")
        await inference.fails("canary-3 " * 3000, model="small")
    spans = inference.process.spans
    served = spans.named("farthing.inference.v1.InferenceService/Generate")[0]
    called = spans.named("chat echo")[0]
    assert called.parent is not None
    assert called.parent.span_id == served.context.span_id
    assert called.attributes is not None
    assert called.attributes[Attr.GENAI_OUTPUT_TOKENS] == 2
    assert called.attributes[Attr.POOL] == "local"
    assert "canary" not in caplog.text
    assert "canary" not in "".join(span.to_json() for span in spans.all())


async def test_tokens_and_times_are_measured_by_model_and_pool(inference: World) -> None:
    await inference.ask("a b c")
    metrics = inference.process.process.telemetry.metrics
    labels = {"pool": "local", "model": "echo"}
    assert metrics.value(MetricName.TOKENS, **labels, kind="input") == 3
    assert metrics.value(MetricName.TOKENS, **labels, kind="output") == 3
    assert metrics.value(f"{MetricName.TIME_TO_FIRST_TOKEN}_count", **labels) == 1
    assert metrics.value(f"{MetricName.TIME_PER_OUTPUT_TOKEN}_count", **labels) == 1
    assert metrics.value(f"{MetricName.INFERENCE_SECONDS}_count", **labels, outcome="stop") == 1
    assert metrics.value(MetricName.POOL_REPLICAS_UP, pool="local") == 1
    assert metrics.value(MetricName.POOL_IN_FLIGHT, pool="local") == 0
