"""What the door does before it knows a caller, and before it builds anything of what a caller sends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.gateway.v1.outcome_service_pb2 import ListOutcomesRequest
from farthing.gateway.v1.outcome_service_pb2_grpc import OutcomeServiceStub
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.model_pb2 import ChatMessage, ChatRole
from farthing_gateway.app.authentication import Authentication, Caller
from farthing_gateway.domain.acceptance import Limits
from farthing_gateway.domain.grants import Grants
from farthing_gateway.wire import prompt_from_message
from farthing_kit.errors import FarthingError, InvalidArgument, Unavailable
from farthing_kit.interceptors.incoming import Incoming
from farthing_kit.testing.clock import VirtualClock
from services.gateway.tests.fakes import FakeKeys, FakeLine
from services.gateway.tests.peers import World, world

R = ErrorReason
KEY = (("authorization", "Bearer fk_acme"),)
STRANGER = (("authorization", "Bearer fk_nobody"),)
# The 3.8 MiB of the report: a prompt of two million empty messages.
MANY_PARTS = b"\x0a\x80\x92\xf4\x01" + b"\x0a\x00" * 2_000_000
STARTED = {"Lookup", "Analyze", "Reserve", "Generate"}
METHODS = ("/farthing.gateway.v1.GatewayService/Complete", "/farthing.gateway.v1.GatewayService/Generate")


@pytest.fixture
async def mesh(nats_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nats_url, tmp_path) as made:
        yield made


async def refusal(mesh: World, method: str, raw: bytes, metadata: Any) -> FarthingError:
    call: Any = mesh.channel.unary_unary(method)
    with pytest.raises(FarthingError) as caught:
        await call(raw, metadata=metadata)
    return caught.value


def aged(seconds: int, nanos: int = 0) -> pb.Prompt:
    asked = pb.Prompt(messages=[ChatMessage(role=ChatRole.CHAT_ROLE_USER, content="hello")])
    asked.cache_control.max_age.CopyFrom(Duration(seconds=seconds, nanos=nanos))
    return asked


@pytest.mark.parametrize("method", METHODS)
async def test_nothing_of_a_strangers_message_is_looked_at(
    mesh: World, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[bytes] = []
    seen = Incoming.message

    def message(self: Incoming, raw: bytes, *args: Any) -> Any:
        if args[1].startswith("/farthing.gateway."):
            looked_at.append(raw)
        return seen(self, raw, *args)

    monkeypatch.setattr(Incoming, "message", message)
    for metadata in ((), STRANGER):
        assert (await refusal(mesh, method, MANY_PARTS, metadata)).reason == R.ERROR_REASON_KEY_INVALID
    assert looked_at == []
    assert (await refusal(mesh, method, b"\xff" * 99, KEY)).reason == R.ERROR_REASON_MALFORMED_MESSAGE
    assert looked_at == [b"\xff" * 99]


async def test_an_outcome_too_is_read_only_of_who_shows_a_key(mesh: World) -> None:
    method = "/farthing.gateway.v1.OutcomeService/ReportOutcome"
    assert (await refusal(mesh, method, b"\xff" * 99, ())).reason == R.ERROR_REASON_KEY_INVALID
    assert (await refusal(mesh, method, b"\xff" * 99, KEY)).reason == R.ERROR_REASON_MALFORMED_MESSAGE
    listed = OutcomeServiceStub(mesh.channel).ListOutcomes(ListOutcomesRequest(), metadata=KEY)
    with pytest.raises(FarthingError) as caught:
        await anext(aiter(listed))
    assert caught.value.reason == R.ERROR_REASON_CONTEXT_INVALID


@pytest.mark.parametrize("method", METHODS)
async def test_a_message_of_millions_of_parts_is_refused_and_holds_nothing(mesh: World, method: str) -> None:
    error = await refusal(mesh, method, MANY_PARTS, KEY)
    assert (error.reason, error.metadata) == (R.ERROR_REASON_MESSAGE_TOO_LARGE, {"limit_fields": "2048"})
    assert STARTED.isdisjoint(mesh.script.calls)


@pytest.mark.parametrize("seconds", [2**62, -(2**63), 10**14, 10**15, 315_576_000_001])
async def test_an_age_that_is_no_age_is_refused_and_holds_nothing(mesh: World, seconds: int) -> None:
    raw = pb.CompleteRequest(prompt=aged(seconds)).SerializeToString()
    error = await refusal(mesh, METHODS[0], raw, KEY)
    assert [violation.field for violation in error.fields] == ["prompt.cache_control.max_age"]
    assert STARTED.isdisjoint(mesh.script.calls)
    assert (await refusal(mesh, METHODS[0], raw, ())).reason == R.ERROR_REASON_KEY_INVALID


async def test_a_call_waits_once_for_accounting_and_a_key_revoked_meanwhile_is_revoked() -> None:
    keys, clock = FakeKeys(), VirtualClock()
    grants = Grants(limit=10, stale_s=600.0, refusal_s=1.0)
    authentication = Authentication(keys, grants, FakeLine(), clock, salt=b"salt")

    async def call(api_key: str) -> Caller:
        await authentication.admit(api_key)
        if revoking:
            grants.forget_key("k_acme")
        return await authentication.caller(api_key)

    async def in_a_task_of_its_own(api_key: str) -> Caller:  # as gRPC runs calls
        return await asyncio.create_task(call(api_key))

    revoking = False
    assert not (await in_a_task_of_its_own("fk_acme")).from_memory
    assert keys.calls == 1
    await clock.advance(300)
    keys.error = Unavailable("away")
    asked = keys.calls
    assert (await in_a_task_of_its_own("fk_acme")).from_memory
    assert keys.calls == asked + 1
    assert (await in_a_task_of_its_own("fk_acme")).from_memory
    assert keys.calls == asked + 2  # another call is another question
    revoking = True  # while the message comes
    with pytest.raises(FarthingError) as caught:
        await in_a_task_of_its_own("fk_acme")
    assert caught.value.reason == R.ERROR_REASON_ACCOUNTING_UNAVAILABLE
    keys.error = None
    assert not (await in_a_task_of_its_own("fk_acme")).from_memory
    assert keys.calls == asked + 5  # once before it was revoked, and once after


def message(**changes: Any) -> pb.Prompt:
    return pb.Prompt(messages=[ChatMessage(role=ChatRole.CHAT_ROLE_USER, content="hello")], **changes)


def test_every_list_that_is_too_long_is_named_and_nothing_of_it_is_built() -> None:
    asked = message(tags={str(number): "v" for number in range(9)})
    asked.messages.extend([ChatMessage(role=ChatRole.CHAT_ROLE_USER, content="\ud7ff")] * 256)
    asked.sampling.stop.extend(["x"] * 5)
    asked.cache_control.tags.extend(["x"] * 9)
    with pytest.raises(InvalidArgument) as refused:
        prompt_from_message(asked, Limits())
    assert [violation.field for violation in refused.value.fields] == [
        "prompt.messages",
        "prompt.sampling.stop",
        "prompt.tags",
        "prompt.cache_control.tags",
    ]
    assert refused.value.fields[0].description == "are 257, must be at most 256"


def test_every_repeated_field_of_a_prompt_has_a_bound_on_the_wire() -> None:
    """Fails when a list is new, and nobody has thought of how long it may be."""
    lists: set[str] = set()
    waiting: list[tuple[str, Any]] = [("prompt", pb.Prompt.DESCRIPTOR)]
    while waiting:
        path, kind = waiting.pop()
        for field in kind.fields:
            if field.is_repeated:
                lists.add(f"{path}.{field.name}")
            elif field.message_type is not None:
                waiting.append((f"{path}.{field.name}", field.message_type))
    assert lists == {"prompt.messages", "prompt.sampling.stop", "prompt.tags", "prompt.cache_control.tags"}
