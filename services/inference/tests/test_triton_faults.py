"""The Triton adapter on what servers may say and do: odd answers, errors, silence, the end of a connection."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from farthing_inference.adapters.triton import failures
from farthing_inference.adapters.triton.channels import Channels
from farthing_inference.adapters.triton.engine import TritonEngine
from farthing_inference.adapters.triton.probe import TritonProbe
from farthing_inference.adapters.triton.stream import Patience
from farthing_inference.domain.errors import (
    EmptyPrompt,
    EngineFailed,
    ModelNotLoaded,
    PromptTooLarge,
    ServerFailure,
    ServerFull,
    ServerStalled,
    ServerUnreachable,
)
from farthing_inference.domain.generation import FinishReason, Progress, Sampling
from farthing_inference.domain.pools import ServerAddress
from farthing_kit.clock import SystemClock
from farthing_kit.context import use_context
from farthing_kit.errors import DeadlineExceeded, FarthingError
from farthing_kit.telemetry import Attr, Telemetry
from farthing_kit.testing.proxy import FaultProxy
from farthing_kit.testing.server import Spans, tenant_context
from farthing_kit.testing.waiting import until
from services.inference.tests import scripted_triton as triton
from services.inference.tests.builders import model, placement
from services.inference.tests.scripted_triton import Script, ScriptedTriton, error, final, piece, says

PATIENCE = Patience(first_s=5.0, next_s=5.0)


@asynccontextmanager
async def engine_on(
    script: Script, *, patience: Patience = PATIENCE, telemetry: Telemetry | None = None
) -> AsyncIterator[tuple[TritonEngine, ScriptedTriton]]:
    channels = Channels()
    async with triton.scripted(script) as server:
        yield TritonEngine(channels, telemetry or Telemetry("test"), clock=SystemClock(), patience=patience), server
        await channels.close()


async def run(script: Script, *, patience: Patience = PATIENCE, timeout_s: float = 5.0) -> list[Progress]:
    async with engine_on(script, patience=patience) as (engine, server):
        return [item async for item in engine.generate(placement(server.address), "prompt", Sampling(64), timeout_s)]


async def failure(script: Script, **options: Any) -> Exception:
    with pytest.raises((ServerFailure, FarthingError)) as caught:
        await run(script, **options)
    return caught.value


async def test_a_character_is_never_split() -> None:
    euro = "€".encode()
    progress = await run(says(piece(euro[:1]), piece(euro[1:2]), piece(euro[2:] + b"!", finish=b"stop")))
    assert [item.text for item in progress] == ["", "", "€!"]


async def test_a_character_that_never_ends_shows_as_the_replacement_character() -> None:
    progress = await run(says(piece(b"a\xe2\x82"), piece(b"", finish=b"length")))
    assert "".join(item.text for item in progress) == "a\ufffd"


async def test_new_tokens_are_added_up_and_the_reason_is_kept() -> None:
    progress = await run(says(piece(b"a", new=2), piece(b"b", new=3), piece(b"", new=0, finish=b"length"), final()))
    assert [item.output_tokens for item in progress] == [2, 5, 5]
    assert [item.finish for item in progress] == [None, None, FinishReason.LENGTH]
    assert {item.input_tokens for item in progress} == {5}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Request for unknown model: 'x' is not found", ModelNotLoaded),
        ("Request for unknown model: 'x' has no available versions", ModelNotLoaded),
        ("[request id: 1] Exceeds maximum queue size", ServerFull),
        ("[request id: 1] Request timeout expired", ServerFull),
        ("Model is unavailable due to unhealthy vLLM engine", ServerUnreachable),
        ("Server is stopping, scheduler for model has stopped", ServerUnreachable),
        ("Failed to initialize shared memory /dev/shm/secret_region", EngineFailed),
    ],
)
async def test_errors_in_the_stream_mean_what_they_say_and_are_not_quoted(text: str, kind: type[ServerFailure]) -> None:
    found = await failure(says(error(text)))
    assert type(found) is kind
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("text", "actual"),
    [
        ("Error generating stream: The decoder prompt (length 17772) is longer than the maximum model length of 16384. "
         "Make sure that `max_model_len` is no smaller", "17772"),
        ("Encountered an error: Prompt length (200) exceeds maximum input length (1)", "200"),
        ("the request exceeds the available context size, try increasing it", None),
    ],
)  # fmt: skip
async def test_a_prompt_over_the_context_is_the_callers_mistake(text: str, actual: str | None) -> None:
    found = await failure(says(error(text)))
    assert isinstance(found, PromptTooLarge)
    assert found.metadata.get("limit_tokens") == "4096"
    assert found.metadata.get("actual_tokens") == actual


@pytest.mark.parametrize("text", ["the prompt is empty", "Error generating stream: The decoder prompt cannot be empty"])
async def test_a_prompt_of_which_nothing_is_left_is_the_callers_mistake(text: str) -> None:
    assert isinstance(await failure(says(error(text))), EmptyPrompt)


async def test_an_error_after_tokens_ends_the_stream_there() -> None:
    async with engine_on(says(piece(b"a"), error("boom"))) as (engine, server):
        stream = engine.generate(placement(server.address), "p", Sampling(8), 5.0)
        assert (await anext(stream)).text == "a"
        with pytest.raises(EngineFailed):
            await anext(stream)


@pytest.mark.parametrize(
    "script",
    [
        says(piece(b"a", prompt=None, finish=b"stop")),
        says(piece(b"a", finish=b"abort")),
        says(triton.bare()),
    ],
    ids=["uncounted", "aborted", "without contents"],
)
async def test_an_answer_that_breaks_the_contract_is_the_engines_failure(script: Script) -> None:
    assert isinstance(await failure(script), EngineFailed)


async def test_a_stream_that_ends_early_just_ends() -> None:
    assert [item.finish for item in await run(says(piece(b"a"), final()))] == [None]


async def test_silence_before_the_first_token_is_a_stall() -> None:
    async def hang(context: Any) -> None:
        await asyncio.Event().wait()

    assert isinstance(await failure(says(then=hang), patience=Patience(0.05, 5.0)), ServerStalled)
    assert isinstance(await failure(says(piece(b"a"), then=hang), patience=Patience(5.0, 0.05)), ServerStalled)


async def test_the_deadline_is_the_callers_not_the_servers_failure() -> None:
    async def hang(context: Any) -> None:
        await asyncio.Event().wait()

    assert isinstance(await failure(says(then=hang), timeout_s=0.05), DeadlineExceeded)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, ServerUnreachable),
        (grpc.StatusCode.CANCELLED, ServerUnreachable),
        (grpc.StatusCode.INTERNAL, EngineFailed),
        (grpc.StatusCode.UNIMPLEMENTED, EngineFailed),
    ],
)
async def test_broken_calls_mean_what_their_status_says(code: grpc.StatusCode, kind: type[ServerFailure]) -> None:
    async def abort(context: Any) -> None:
        await context.abort(code, "secret detail")

    found = await failure(says(then=abort))
    assert type(found) is kind
    assert "secret" not in str(found)


def test_a_connection_that_breaks_while_the_request_is_written_is_no_failure_of_the_model() -> None:
    broken = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), details="Internal error from Core"
    )
    assert isinstance(failures.of_rpc(broken), ServerUnreachable)


async def test_a_port_where_nobody_listens_is_unreachable() -> None:
    channels = Channels()
    engine = TritonEngine(channels, Telemetry("test"), clock=SystemClock(), patience=PATIENCE)
    async with triton.scripted(says()) as server:
        address = server.address
    with pytest.raises(ServerUnreachable):
        await anext(engine.generate(placement(address), "p", Sampling(8), 5.0))
    await channels.close()


async def test_a_peer_that_is_dead_without_a_word_is_noticed() -> None:
    async def hang(context: Any) -> None:
        await asyncio.Event().wait()

    channels = Channels(keepalive_ms=200, ping_timeout_ms=300)
    engine = TritonEngine(channels, Telemetry("test"), clock=SystemClock(), patience=Patience(60.0, 60.0))
    async with triton.scripted(says(piece(b"a"), then=hang)) as server:
        async with FaultProxy(int(server.address.rpartition(":")[2])) as proxy:
            stream = engine.generate(placement(ServerAddress(proxy.address)), "p", Sampling(8), 60.0)
            await anext(stream)
            proxy.blackhole()
            with pytest.raises(ServerUnreachable):
                await anext(stream)
        await channels.close()


async def test_closing_the_generator_cancels_the_call_at_once() -> None:
    cancelled = asyncio.Event()

    async def hang(context: Any) -> None:
        context.add_done_callback(lambda _: cancelled.set())
        await asyncio.Event().wait()

    async with engine_on(says(piece(b"a"), then=hang)) as (engine, server):
        stream = engine.generate(placement(server.address), "p", Sampling(8), 5.0)
        await anext(stream)
        await stream.aclose()
        async with asyncio.timeout(1.0):
            await cancelled.wait()


async def test_a_complete_answer_is_left_to_triton_to_close() -> None:
    """A server that is a little slow to close sees no cancellation."""
    cancelled = asyncio.Event()
    seen: list[bool] = []

    async def dawdle(context: Any) -> None:
        context.add_done_callback(lambda _: cancelled.set())
        await asyncio.wait([asyncio.ensure_future(cancelled.wait())], timeout=0.1)
        seen.append(cancelled.is_set())

    async with engine_on(says(piece(b"a", finish=b"stop"), then=dawdle)) as (engine, server):
        async for _ in engine.generate(placement(server.address), "p", Sampling(8), 5.0):
            pass
    assert seen == [False]


def until_stopped(cancelled: list[bool]) -> Any:
    """Says one piece, and ends when it is told to; notes whether the call was cancelled."""

    async def script(server: ScriptedTriton, request: Any, context: Any) -> AsyncIterator[Any]:
        if triton.command_of(request) == "stop":
            yield final()
        else:
            context.add_done_callback(lambda call: cancelled.append(call.cancelled()))
            yield piece(b"a")

    return script


async def test_who_leaves_a_model_that_takes_commands_has_it_stopped_and_nothing_cancelled() -> None:
    """Also where the task that reads is cancelled, as it is when a caller goes away."""
    cancelled: list[bool] = []
    async with engine_on(until_stopped(cancelled)) as (engine, server):
        stream = engine.generate(placement(server.address, model(adapter="farthing")), "p", Sampling(8), 5.0)
        await anext(stream)
        reader = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])
        assert reader.cancelled()
        await until(lambda: bool(cancelled))
    assert cancelled == [False]
    first, second = server.requests
    assert first.id == second.id != ""


async def test_a_deadline_stops_a_model_that_takes_commands_and_cancels_nothing() -> None:
    cancelled: list[bool] = []
    async with engine_on(until_stopped(cancelled)) as (engine, server):
        stream = engine.generate(placement(server.address, model(adapter="farthing")), "p", Sampling(8), 0.2)
        await anext(stream)
        with pytest.raises(DeadlineExceeded):
            await anext(stream)
        await until(lambda: bool(cancelled))
    assert cancelled == [False]


async def test_a_second_attempt_is_stopped_by_a_name_of_its_own() -> None:
    async with engine_on(says(piece(b"a", finish=b"stop"))) as (engine, server):
        with use_context(tenant_context()):
            for _ in range(2):
                where = placement(server.address, model(adapter="farthing"))
                assert [item async for item in engine.generate(where, "p", Sampling(8), 5.0)]
    assert len({request.id for request in server.requests}) == 2


async def test_a_model_that_does_not_stop_is_cut_off() -> None:
    cancelled = asyncio.Event()

    async def deaf(server: ScriptedTriton, request: Any, context: Any) -> AsyncIterator[Any]:
        context.add_done_callback(lambda _: cancelled.set())
        yield piece(b"a")
        await asyncio.Event().wait()

    async with engine_on(deaf) as (engine, server):
        stream = engine.generate(placement(server.address, model(adapter="farthing")), "p", Sampling(8), 60.0)
        await anext(stream)
        await stream.aclose()
        await engine.close()
        async with asyncio.timeout(5.0):
            await cancelled.wait()


async def test_the_request_says_what_was_asked_for() -> None:
    sampling = Sampling(9, 0.5, 0.9, 7, ("END",))
    async with engine_on(says(piece(b"a", finish=b"stop"))) as (engine, server):
        with use_context(tenant_context()) as context:
            where = placement(server.address, model("chat", triton_model="chat_v2"))
            async for _ in engine.generate(where, "prömpt", sampling, 5.0):
                pass
    (request,) = server.requests
    tensors = {t.name: raw for t, raw in zip(request.inputs, request.raw_input_contents, strict=True)}
    assert (request.model_name, request.id) == ("chat_v2", context.request_id)
    assert request.parameters["triton_enable_empty_final_response"].bool_param
    assert tensors["text_input"][4:].decode() == "prömpt"
    assert json.loads(tensors["sampling_parameters"][4:]) == {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["END"],
    }
    flags = ("stream", "exclude_input_in_output", "return_num_input_tokens", "return_num_output_tokens")
    assert all(tensors[name] == b"\x01" for name in flags)


async def test_the_log_probability_is_asked_for_only_where_it_is_wanted() -> None:
    for wanted in (False, True):
        async with engine_on(says(piece(b"a", finish=b"stop"))) as (engine, server):
            async for _ in engine.generate(placement(server.address), "p", Sampling(9, logprob=wanted), 5.0):
                pass
        (request,) = server.requests
        tensors = {t.name: raw for t, raw in zip(request.inputs, request.raw_input_contents, strict=True)}
        assert ("return_cumulative_logprob" in tensors) is wanted
        assert ("logprobs" in json.loads(tensors["sampling_parameters"][4:])) is wanted


async def test_the_mean_log_probability_is_over_all_tokens() -> None:
    progress = await run(says(piece(b"a", logprob=-1.0), piece(b"b", new=3, finish=b"stop", logprob=-6.0)))
    assert [item.mean_token_logprob for item in progress] == [-1.0, -1.5]


@pytest.mark.parametrize("told", [None, math.nan, -math.inf, 0.5])
async def test_what_is_no_log_probability_is_not_known(told: float | None) -> None:
    (progress,) = await run(says(piece(b"a", finish=b"stop", logprob=told)))
    assert progress.mean_token_logprob is None


async def test_the_span_counts_tokens_and_its_trace_goes_to_triton() -> None:
    spans = Spans()
    async with engine_on(says(piece(b"canary", finish=b"stop")), telemetry=spans.telemetry("inference")) as (
        engine,
        server,
    ):
        async for _ in engine.generate(placement(server.address), "canary", Sampling(9), 5.0):
            pass
    (span,) = spans.named("chat echo")
    assert span.attributes is not None
    assert span.attributes[Attr.GENAI_INPUT_TOKENS] == 5
    assert span.attributes[Attr.GENAI_OUTPUT_TOKENS] == 1
    assert span.attributes[Attr.GENAI_FINISH_REASONS] in (["stop"], ("stop",))
    assert span.attributes[Attr.GENAI_REQUEST_MAX_TOKENS] == 9
    assert format(span.context.trace_id, "032x") in server.metadata[0]["traceparent"]
    assert format(span.context.span_id, "016x") in server.metadata[0]["traceparent"]
    assert "canary" not in span.to_json()


async def test_the_span_of_a_failure_names_its_kind_only() -> None:
    spans = Spans()
    async with engine_on(says(error("secret")), telemetry=spans.telemetry("inference")) as (engine, server):
        with pytest.raises(EngineFailed):
            await anext(engine.generate(placement(server.address), "p", Sampling(9), 5.0))
    (span,) = spans.named("chat echo")
    assert span.attributes is not None
    assert span.attributes[Attr.ERROR_TYPE] == "EngineFailed"
    assert "secret" not in span.to_json()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (says(triton.told(b'["<eos>", "<bos>"]')), None),
        (says(triton.told(b"{}")), EngineFailed),
        (says(triton.told(b"[3]")), EngineFailed),
        (says(triton.told(b"no json")), EngineFailed),
        (says(final()), EngineFailed),
        (says(error("command: unexpected input")), EngineFailed),
    ],
)
async def test_control_tokens_are_asked_of_models_that_take_commands(
    script: Script, kind: type[ServerFailure] | None
) -> None:
    channels = Channels()
    probe = TritonProbe(channels, timeout_s=1.0)
    async with triton.scripted(script) as server:
        assert await probe.control_tokens(server.address, model(adapter="vllm")) == ()
        assert server.requests == []
        if kind is None:
            assert await probe.control_tokens(server.address, model(adapter="farthing")) == ["<eos>", "<bos>"]
            assert triton.command_of(server.requests[0]) == "control_tokens"
        else:
            with pytest.raises(kind):
                await probe.control_tokens(server.address, model(adapter="farthing"))
    with pytest.raises(ServerUnreachable):
        await probe.control_tokens(server.address, model(adapter="farthing"))
    await channels.close()


async def test_a_check_tells_which_models_are_ready() -> None:
    channels = Channels()
    probe = TritonProbe(channels, timeout_s=1.0)
    async with triton.scripted(says()) as server:
        assert await probe.ready_models(server.address, ["echo", "loading", "unknown"]) == {"echo"}
        with pytest.raises(ServerUnreachable):
            await probe.ready_models(server.address, ["echo", "broken"])
    with pytest.raises(ServerUnreachable):
        await probe.ready_models(server.address, ["echo"])
    await channels.close()
