"""What callers do wrong, and the clear answer each of them gets."""

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_cli.generation import Gateway
from farthing_kit.client import channel
from farthing_kit.errors import FarthingError
from tests.support.mesh import MeshUnderTest, prompt

MIB = 1024 * 1024
COMPLETE = "/farthing.gateway.v1.GatewayService/Complete"


async def refused(gateway: Gateway, asked: pb.Prompt) -> FarthingError:
    with pytest.raises(FarthingError) as caught:
        await gateway.ask(asked)
    return caught.value


@pytest.mark.parametrize("text", ["", "   \n\t "])
async def test_an_empty_prompt(mesh: MeshUnderTest, text: str) -> None:
    error = await refused(await mesh.gateway(), prompt(text))
    assert error.reason == ErrorReason.ERROR_REASON_EMPTY_PROMPT


async def test_a_conversation_without_messages(mesh: MeshUnderTest) -> None:
    error = await refused(await mesh.gateway(), pb.Prompt())
    assert error.reason == ErrorReason.ERROR_REASON_EMPTY_PROMPT


async def test_a_prompt_over_the_limit_of_the_mesh(mesh: MeshUnderTest) -> None:
    error = await refused(await mesh.gateway(), prompt("x" * (2 * MIB)))
    assert error.reason == ErrorReason.ERROR_REASON_PROMPT_TOO_LARGE
    assert error.metadata["limit_bytes"] == str(MIB)


async def test_a_message_of_ten_megabytes(mesh: MeshUnderTest) -> None:
    key = (("authorization", f"Bearer {mesh.client.api_key('lantern')}"),)
    call: Any = (await mesh.bare_channel()).unary_unary(COMPLETE)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(pb.CompleteRequest(prompt=prompt("x" * (10 * MIB))).SerializeToString(), metadata=key, timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_bytes_that_are_no_message(mesh: MeshUnderTest) -> None:
    key = (("authorization", f"Bearer {mesh.client.api_key('lantern')}"),)
    call: Any = (await mesh.bare_channel()).unary_unary(COMPLETE)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff\xff", metadata=key, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_in(caught.value) == "ERROR_REASON_MALFORMED_MESSAGE"


def reason_in(error: grpc.aio.AioRpcError) -> str:
    metadata = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "farthing.dev"
    return info.reason


@pytest.mark.parametrize("key", ["fk_0000_nothing", "sk-other-vendor", "x" * 5000, ""])
async def test_a_key_that_nobody_has(mesh: MeshUnderTest, key: str) -> None:
    async with channel(mesh.address["gateway"]) as opened:
        error = await refused(Gateway(opened, key, 10), prompt("hello"))
    assert error.reason == ErrorReason.ERROR_REASON_KEY_INVALID


async def test_no_key_at_all(mesh: MeshUnderTest) -> None:
    call: Any = (await mesh.bare_channel()).unary_unary(COMPLETE)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(pb.CompleteRequest(prompt=prompt("hello")).SerializeToString(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_model_that_no_pool_has(mesh: MeshUnderTest) -> None:
    error = await refused(await mesh.gateway(), prompt("hello", model="gpt-9"))
    assert error.reason == ErrorReason.ERROR_REASON_UNKNOWN_MODEL


@pytest.mark.parametrize("max_tokens", [-1, 0, 1_000_000])
async def test_an_impossible_number_of_tokens(mesh: MeshUnderTest, max_tokens: int) -> None:
    error = await refused(await mesh.gateway(), prompt("hello", max_tokens=max_tokens))
    assert error.reason == ErrorReason.ERROR_REASON_INVALID_FIELD
    assert any("max_output_tokens" in violation.field for violation in error.fields)


async def test_several_wrong_fields_are_named_at_once(mesh: MeshUnderTest) -> None:
    asked = prompt("hello", max_tokens=-1)
    asked.sampling.temperature = 9
    asked.sampling.top_p = 0
    asked.tags["k" * 65] = "v"
    error = await refused(await mesh.gateway(), asked)
    assert len(error.fields) == 4


async def test_a_deadline_that_has_passed(mesh: MeshUnderTest) -> None:
    async with channel(mesh.address["gateway"]) as opened:
        error = await refused(Gateway(opened, mesh.client.api_key("lantern"), 0.001), prompt("hello"))
    # The server's word, or the client's own timer: whichever is first.
    too_late = (ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT, ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED)
    assert error.reason in too_late


async def test_a_deadline_that_passes_while_the_model_works(mesh: MeshUnderTest) -> None:
    gateway = await mesh.gateway(timeout_s=0.3)
    error = await refused(gateway, slow_prompt("some words that come slowly one by one"))
    assert error.reason == ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED


async def test_a_cancelled_call_is_charged_for_what_came_and_frees_the_model(mesh: MeshUnderTest) -> None:
    gateway = await mesh.gateway()
    seen = asyncio.Event()
    words = " ".join(f"word{number}" for number in range(200))
    asking = asyncio.create_task(gateway.ask(slow_prompt(words), show=lambda _: seen.set()))
    await asyncio.wait_for(seen.wait(), 10)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await mesh.idle("cpu-local")


def slow_prompt(text: str) -> pb.Prompt:
    """For the model that takes its time before each word."""
    return prompt(text, model="echo-slow", max_tokens=200, no_cache=True)


@pytest.mark.parametrize("text", ["a\nb", "prod\n", "\x00", "\ufeff", "a\u2028b", "\ue000"])
async def test_a_label_that_the_books_would_stumble_over_is_refused_at_the_door(mesh: MeshUnderTest, text: str) -> None:
    asked = prompt("hello")
    asked.tags["feature"] = text
    error = await refused(await mesh.gateway(), asked)
    assert error.reason == ErrorReason.ERROR_REASON_INVALID_FIELD
    assert error.metadata == {"fields": "prompt.tags"}


@pytest.mark.parametrize("text", ["می\u200cخواهم", "👩\u200d💻", "prix\u00a0net", "検索\u3000窓"])
async def test_a_label_in_any_language_is_taken(mesh: MeshUnderTest, text: str) -> None:
    asked = prompt("hello")
    asked.tags["feature"] = text
    answer = await (await mesh.gateway()).ask(asked)
    assert answer.text


async def test_a_message_a_little_over_the_limit_hears_the_limit(mesh: MeshUnderTest) -> None:
    key = (("authorization", f"Bearer {mesh.client.api_key('lantern')}"),)
    call: Any = (await mesh.bare_channel()).unary_unary(COMPLETE)
    raw = pb.CompleteRequest(prompt=prompt("x" * 4_300_000)).SerializeToString()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(raw, metadata=key, timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == f"the message has {len(raw)} bytes, must have at most {4 * MIB}; send less"
    assert reason_in(caught.value) == "ERROR_REASON_MESSAGE_TOO_LARGE"
