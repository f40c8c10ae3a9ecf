"""What every server of the mesh does around its methods, seen through a real client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from farthing.type.v1 import request_context_pb2
from farthing_kit import status
from farthing_kit.context import (
    CLOCK_SLACK_S,
    MAX_CALL_LIFE_S,
    METADATA_KEY,
    ContextSigner,
    Priority,
    Role,
    current_context,
    service_context,
)
from farthing_kit.errors import (
    ContextInvalid,
    FarthingError,
    InternalError,
    InvalidArgument,
    MalformedMessage,
    MessageTooLarge,
    Overloaded,
    PermissionDenied,
)
from farthing_kit.server import ANYONE, MESH_ONLY, Server, ServerError, Service
from farthing_kit.settings import ServiceSettings
from farthing_kit.telemetry import Telemetry
from farthing_kit.telemetry.names import MetricName
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.testing.echo import NAME, EchoServicer, EchoStub, add_EchoServicer_to_server, echo_service
from farthing_kit.testing.server import RunningServer, serving, tenant_context
from farthing_kit.testing.settings import TEST_SECRET
from farthing_kit.testing.settings import settings as settings_of
from farthing_kit.testing.waiting import until

SECRET_TEXT = "a secret prompt"
SAY = f"/{NAME}/Say"


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def raw_call(server: RunningServer, method: str, raw: bytes, metadata: Any = ()) -> grpc.aio.AioRpcError | bytes:
    """A call without the kit on the client's side."""
    async with grpc.aio.insecure_channel(server.target) as channel:
        call: Any = channel.unary_unary(f"/{NAME}/{method}")
        try:
            answer: bytes = await call(raw, metadata=metadata, timeout=5)
            return answer
        except grpc.aio.AioRpcError as error:
            return error


async def test_an_unhandled_exception_tells_the_caller_nothing_but_an_id(caplog: pytest.LogCaptureFixture) -> None:
    async def say(request: StringValue, context: Any) -> StringValue:
        raise ValueError(f"cannot read {SECRET_TEXT}")

    async def repeat(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        raise KeyError(SECRET_TEXT)

    async with serving(echo_service(say, repeat)) as server:
        stub = EchoStub(server.channel())
        with pytest.raises(InternalError) as unary:
            await stub.Say(text("x"))
        with pytest.raises(InternalError) as stream:
            async for _ in stub.Repeat(text("x")):
                pass
        raw = await raw_call(server, "Say", b"", [(METADATA_KEY, server.signer.sign(tenant_context(), SAY))])
    for error in (unary.value, stream.value):
        assert error.message == "internal"
        assert error.metadata["error_id"] in caplog.text or any(
            error.metadata["error_id"] in str(getattr(r, "fields", "")) for r in caplog.records
        )
    assert isinstance(raw, grpc.aio.AioRpcError)
    assert raw.code() is grpc.StatusCode.INTERNAL
    assert SECRET_TEXT not in f"{raw.details()} {raw.trailing_metadata()} {raw.debug_error_string()}"


async def test_malformed_bytes_are_the_callers_mistake() -> None:
    """Random bytes either are a StringValue or are refused as malformed: never UNKNOWN, never Python's words."""
    chance = random.Random(7)
    refused = 0
    async with serving(echo_service(roles=ANYONE)) as server, grpc.aio.insecure_channel(server.target) as channel:
        say: Any = channel.unary_unary(f"/{NAME}/Say")
        repeat: Any = channel.unary_stream(f"/{NAME}/Repeat")
        for _ in range(300):
            blob = chance.randbytes(chance.randrange(1, 64))
            for failure in (
                await failed(say(blob, timeout=5)),
                await failed(anext(aiter(repeat(blob, timeout=5)), None)),
            ):
                if failure is not None:
                    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
                    assert isinstance(status.from_rpc_error(failure, NAME), MalformedMessage)
                    refused += 1
    assert refused > 400


async def failed(call: Any) -> grpc.aio.AioRpcError | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def test_malformed_bytes_name_the_method() -> None:
    async with serving(echo_service(roles=ANYONE)) as server:
        answer = await raw_call(server, "Say", b"\xff\xff\xff")
    assert isinstance(answer, grpc.aio.AioRpcError)
    assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert status.from_rpc_error(answer, NAME).metadata == {"method": f"/{NAME}/Say"}


async def test_a_farthing_error_reaches_the_caller_whole() -> None:
    async def say(request: StringValue, context: Any) -> StringValue:
        raise InvalidArgument.field("value", "is too short, must have 3 letters")

    async with serving(echo_service(say)) as server:
        with pytest.raises(InvalidArgument) as error:
            await EchoStub(server.channel()).Say(text("x"))
    assert error.value.fields[0].field == "value"
    assert error.value.metadata == {"fields": "value"}


async def test_an_error_of_another_service_passes_through_with_its_reason() -> None:
    async def inner(request: StringValue, context: Any) -> StringValue:
        raise Overloaded("later", retry_after_s=0.25)

    async with serving(echo_service(inner)) as back:
        behind = EchoStub(back.channel())

        async def outer(request: StringValue, context: Any) -> StringValue:
            return await behind.Say(request)  # type: ignore[no-any-return]

        async with serving(echo_service(outer)) as front:
            with pytest.raises(Overloaded) as error:
                await EchoStub(front.channel()).Say(text("x"))
    assert error.value.retry_after_s == 0.25


async def test_a_call_without_a_context_is_refused_and_health_and_reflection_are_not() -> None:
    async with serving(echo_service()) as server:
        with pytest.raises(ContextInvalid) as missing:
            await EchoStub(server.channel(signer=None)).Say(text("x"))
        assert missing.value.metadata == {"cause": "missing"}
        assert await health(server, NAME) == await health(server, "") == health_pb2.HealthCheckResponse.SERVING
        assert NAME in await services(server)


async def test_forged_and_expired_contexts_are_refused() -> None:
    clock = VirtualClock()
    verifier = ContextSigner(TEST_SECRET, clock=clock)
    async with serving(echo_service(), verifier=verifier) as server:
        with pytest.raises(ContextInvalid) as forged:
            await EchoStub(server.channel(signer=ContextSigner(b"x" * 32))).Say(text("x"))
        assert forged.value.metadata == {"cause": "forged"}
        old = [(METADATA_KEY, verifier.sign(tenant_context(), SAY, lifetime_s=1))]
        await clock.advance(2 + CLOCK_SLACK_S)
        with pytest.raises(ContextInvalid) as expired:
            await EchoStub(server.channel(signer=None)).Say(text("x"), metadata=old)
        assert expired.value.metadata == {"cause": "expired"}


async def test_a_context_that_was_overheard_is_good_for_no_other_method() -> None:
    overheard: list[bytes] = []

    async def say(request: StringValue, context: Any) -> StringValue:
        overheard.append(dict(context.invocation_metadata())[METADATA_KEY])
        return request

    async with serving(echo_service(say)) as server:
        await EchoStub(server.channel()).Say(text("x"))
        replayed = EchoStub(server.channel(signer=None))
        with pytest.raises(ContextInvalid) as misused:
            async for _ in replayed.Repeat(text("x"), metadata=[(METADATA_KEY, overheard[0])]):
                pass
        assert misused.value.metadata == {"cause": "made for another call"}
        carried = request_context_pb2.SignedContext.FromString(overheard[0])
        context = request_context_pb2.RequestContext.FromString(carried.context)
        life = context.expire_time.ToDatetime(UTC) - datetime.now(UTC)
        assert life < timedelta(seconds=MAX_CALL_LIFE_S + CLOCK_SLACK_S + 1)


async def test_roles_are_held_for_each_method() -> None:
    service = echo_service(roles=MESH_ONLY, methods={"Repeat": frozenset({Role.TENANT})})
    async with serving(service) as server:
        tenant, operator = EchoStub(server.channel()), EchoStub(server.channel(service_context("planner")))
        with pytest.raises(PermissionDenied) as denied:
            await tenant.Say(text("x"))
        assert denied.value.metadata == {"role": "TENANT", "method": "Say"}
        assert (await operator.Say(text("x"))).value == "x"
        assert [m.value async for m in tenant.Repeat(text("ab"))] == ["a", "b"]
        with pytest.raises(PermissionDenied):
            await anext(operator.Repeat(text("ab")))


async def test_the_handler_sees_the_callers_context_and_a_public_method_sees_none() -> None:
    seen = []

    async def say(request: StringValue, context: Any) -> StringValue:
        seen.append(current_context())
        return request

    caller = tenant_context("globex", priority=Priority.HIGH)
    async with serving(echo_service(say)) as server:
        await EchoStub(server.channel(caller)).Say(text("x"))
    async with serving(echo_service(say, roles=ANYONE)) as server:
        await EchoStub(server.channel(caller)).Say(text("x"))
    assert seen == [caller, None]


async def test_messages_over_the_limit_are_refused_and_the_server_lives_on() -> None:
    async with serving(echo_service(), settings=settings_of(ServiceSettings, max_message_bytes=10_000)) as server:
        stub = EchoStub(server.channel())
        with pytest.raises(MessageTooLarge):
            await stub.Say(text("x" * 20_000))
        small_client = EchoStub(server.channel(max_message_bytes=1_000))
        with pytest.raises(MessageTooLarge):
            await small_client.Say(text("x" * 2_000))
        assert (await stub.Say(text("x"))).value == "x"


async def test_metadata_over_the_limit_is_refused() -> None:
    async with serving(echo_service()) as server:
        with pytest.raises(FarthingError):
            await EchoStub(server.channel()).Say(text("x"), metadata=[("filler", "x" * 100_000)])


async def test_over_the_bound_low_priority_is_shed_first_with_a_time_to_come_back() -> None:
    release = asyncio.Event()

    async def say(request: StringValue, context: Any) -> StringValue:
        await release.wait()
        return request

    telemetry = Telemetry("test")
    config = settings_of(ServiceSettings, max_concurrent=10)
    async with serving(echo_service(say), settings=config, telemetry=telemetry) as server:
        high = EchoStub(server.channel(tenant_context(priority=Priority.HIGH)))
        low = EchoStub(server.channel(tenant_context(priority=Priority.LOW)))
        normal = EchoStub(server.channel())
        running = [asyncio.ensure_future(high.Say(text("x"))) for _ in range(8)]
        await until(lambda: server.server.pipeline.running == 8)
        with pytest.raises(Overloaded) as shed:
            await low.Say(text("x"))
        assert shed.value.retry_after_s
        assert shed.value.metadata["priority"] == "LOW"
        running.append(asyncio.ensure_future(normal.Say(text("x"))))
        await until(lambda: server.server.pipeline.running == 9)
        with pytest.raises(Overloaded):
            await normal.Say(text("x"))
        running.append(asyncio.ensure_future(high.Say(text("x"))))
        await until(lambda: server.server.pipeline.running == 10)
        with pytest.raises(Overloaded):
            await high.Say(text("x"))
        release.set()
        assert len(await asyncio.gather(*running)) == 10
        assert (await low.Say(text("x"))).value == "x"
    assert telemetry.metrics.value(MetricName.RPC_SHED, service=NAME, priority="LOW") == 1


async def test_long_lived_streams_do_not_count_as_load() -> None:
    async def repeat(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        await asyncio.Event().wait()

    config = settings_of(ServiceSettings, max_concurrent=1, grace_ms=100)
    service = echo_service(None, repeat, long_lived=frozenset({"Repeat"}))
    async with serving(service, settings=config) as server:
        stub = EchoStub(server.channel())
        async with stub.Repeat(text("x")) as first, stub.Repeat(text("x")) as second:
            await anext(first)
            await anext(second)
            assert (await stub.Say(text("x"))).value == "x"


async def test_calls_are_counted_by_method_and_code() -> None:
    async def say(request: StringValue, context: Any) -> StringValue:
        if not request.value:
            raise InvalidArgument("empty")
        return request

    telemetry = Telemetry("test")
    async with serving(echo_service(say), telemetry=telemetry) as server:
        stub = EchoStub(server.channel(telemetry=Telemetry("client")))
        for value in ("x", "", "y"):
            await asyncio.gather(stub.Say(text(value)), return_exceptions=True)
    count = f"{MetricName.RPC_SECONDS}_count"
    assert telemetry.metrics.value(count, service=NAME, method="Say", code="OK") == 2
    assert telemetry.metrics.value(count, service=NAME, method="Say", code="INVALID_ARGUMENT") == 1
    assert telemetry.metrics.value(MetricName.RPC_IN_FLIGHT, service=NAME) == 0


async def test_calls_in_progress_are_shown() -> None:
    release = asyncio.Event()

    async def say(request: StringValue, context: Any) -> StringValue:
        await release.wait()
        return request

    telemetry = Telemetry("test")
    async with serving(echo_service(say), telemetry=telemetry) as server:
        calls = [asyncio.ensure_future(EchoStub(server.channel()).Say(text("x"))) for _ in range(3)]
        await until(lambda: telemetry.metrics.value(MetricName.RPC_IN_FLIGHT, service=NAME) == 3)
        release.set()
        await asyncio.gather(*calls)


async def test_two_servers_cannot_share_a_port() -> None:
    async with serving(echo_service()) as server:
        config = settings_of(ServiceSettings, bind=server.target)
        with pytest.raises(ServerError, match="the address is taken"):
            await Server([echo_service()], settings=config, telemetry=Telemetry("test")).start()


def build(*services: Service) -> Server:
    return Server(services, settings=settings_of(ServiceSettings), telemetry=Telemetry("test"))


async def test_a_server_refuses_to_be_built_other_than_declared() -> None:
    with pytest.raises(ServerError, match=r"declared farthing\.test\.v1\.Other, but farthing\.test\.v1\.EchoService"):
        build(Service("farthing.test.v1.Other", add_EchoServicer_to_server, EchoServicer()))
    with pytest.raises(ServerError, match="has no method Shout"):
        build(echo_service(methods={"Shout": MESH_ONLY}))
    with pytest.raises(ServerError, match="has no method Watch"):
        build(echo_service(long_lived=frozenset({"Watch"})))


async def test_streams_of_requests_are_refused_when_the_server_is_built() -> None:
    def register(servicer: Any, server: Any) -> None:
        handlers: dict[str, Any] = {"Chat": grpc.stream_stream_rpc_method_handler(servicer.Say)}
        server.add_registered_method_handlers("farthing.test.v1.Chat", handlers)

    with pytest.raises(ServerError, match="stream of requests"):
        build(Service("farthing.test.v1.Chat", register, EchoServicer()))


async def test_health_follows_the_dependencies_it_requires() -> None:
    telemetry = Telemetry("test")
    async with serving(echo_service(), telemetry=telemetry) as server:
        report = server.server.health.report
        await report("redis", False)
        assert await health(server, NAME) == await health(server, "redis") == _NOT
        assert telemetry.metrics.value(MetricName.DEPENDENCY_UP, dependency="redis") == 0
        await report("classifier", False, required=False)
        await report("redis", True)
        assert await health(server, NAME) == _YES
        assert await health(server, "classifier") == _NOT


_YES = health_pb2.HealthCheckResponse.SERVING
_NOT = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(server: RunningServer, name: str) -> int:
    async with grpc.aio.insecure_channel(server.target) as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer: health_pb2.HealthCheckResponse = await stub.Check(request, timeout=5)
        return answer.status


async def services(server: RunningServer) -> set[str]:
    async with grpc.aio.insecure_channel(server.target) as channel:
        reflect: Any = reflection_pb2_grpc.ServerReflectionStub  # typed for the synchronous channel only
        stub = reflect(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for response in stub.ServerReflectionInfo(iter([request])):
            return {service.name for service in response.list_services_response.service}
    return set()


def test_a_secret_is_not_in_the_settings_text() -> None:
    assert TEST_SECRET.decode() not in repr(settings_of(ServiceSettings))
