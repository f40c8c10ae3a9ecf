"""What anonymous callers can do to a server: nothing is read of their messages, and no place is theirs for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from farthing.gateway.v1 import gateway_service_pb2 as gateway_pb
from farthing_kit import status
from farthing_kit.errors import FarthingError, MalformedMessage, MessageTooLarge, Unauthenticated
from farthing_kit.interceptors import incoming
from farthing_kit.interceptors.incoming import Incoming
from farthing_kit.interceptors.standard import MAX_OF_PEER, Places
from farthing_kit.server import ANYONE, REFLECTION_V1, WALL_FACTOR, WALL_ROOM
from farthing_kit.settings import ServiceSettings
from farthing_kit.testing.echo import NAME, EchoStub, echo_service
from farthing_kit.testing.server import RunningServer, serving
from farthing_kit.testing.settings import settings as settings_of
from farthing_kit.testing.waiting import until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
MANY_PARTS = b"\x0a\x80\x89\x7a" + b"\x0a\x00" * 1_000_000  # a prompt of a million empty messages, two million bytes


def text(value: str) -> StringValue:
    return StringValue(value=value)


def plain(server: RunningServer) -> grpc.aio.Channel:
    """A channel without the kit, of its own connection."""
    return grpc.aio.insecure_channel(server.target, options=[("grpc.use_local_subchannel_pool", 1)])


async def refusal(call: Any) -> FarthingError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return status.from_rpc_error(caught.value, NAME)


async def only_with_a_key(context: Any) -> None:
    if ("key", "good") not in context.invocation_metadata():
        raise Unauthenticated("show a key")


class TestMessages:
    async def test_nothing_of_a_message_is_read_before_the_caller_is_known(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked_at: list[int] = []
        seen = Incoming.message

        def message(self: Incoming, raw: bytes, *args: Any) -> Any:
            looked_at.append(len(raw))
            return seen(self, raw, *args)

        monkeypatch.setattr(Incoming, "message", message)

        doors = echo_service(roles=ANYONE, admit=only_with_a_key)
        async with serving(doors) as server, plain(server) as channel:
            say: Any = channel.unary_unary(f"/{NAME}/Say")
            assert isinstance(await refusal(say(b"\xff" * 99, timeout=5)), Unauthenticated)
            assert looked_at == []
            bad = await refusal(say(b"\xff" * 99, timeout=5, metadata=[("key", "good")]))
            assert isinstance(bad, MalformedMessage)
            assert looked_at == [99]
        async with serving(echo_service()) as server, plain(server) as channel:
            say = channel.unary_unary(f"/{NAME}/Say")
            error = await refusal(say(b"\xff" * 99, timeout=5))
            assert error.reason_name == "ERROR_REASON_CONTEXT_INVALID"
            assert looked_at == [99]

    async def test_an_anonymous_caller_is_refused_although_its_message_never_comes(self) -> None:
        async with serving(echo_service(roles=ANYONE, admit=only_with_a_key)) as server, plain(server) as channel:
            call: Any = channel.stream_unary(f"/{NAME}/Say")()  # on the wire the same, but the client holds it open
            assert isinstance(await refusal(call), Unauthenticated)
            await until(lambda: server.server.pipeline.running == 0)

    async def test_a_caller_whose_message_never_comes_is_let_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(incoming, "WAIT_S", 0.05)
        async with serving(echo_service(roles=ANYONE)) as server, plain(server) as channel:
            for method in ("Say", "Repeat"):
                call: Any = channel.stream_unary(f"/{NAME}/{method}")()
                error = await refusal(call)
                assert isinstance(error, MalformedMessage)
                assert "no message came" in error.message

    async def test_a_call_that_is_closed_without_a_message_is_told_so(self) -> None:
        async with serving(echo_service(roles=ANYONE)) as server, plain(server) as channel:
            call: Any = channel.stream_unary(f"/{NAME}/Say")(timeout=5)
            await call.done_writing()
            assert (await refusal(call)).message.endswith("the call ended without a message; send one")

    async def test_a_message_of_a_million_parts_is_refused_before_anything_is_built(self) -> None:
        parsed = []

        def parse(raw: bytes) -> Any:
            parsed.append(raw)

        # As generated code has it: a method of the message's class.
        reader = Incoming(max_bytes=4 * 1024 * 1024, max_fields=2048)
        with pytest.raises(MessageTooLarge, match="more than 2048 fields"):
            reader.message(MANY_PARTS, gateway_pb.GenerateRequest.FromString, "/x/Y")
        assert reader.message(b"\x0a\x00", parse, "/x/Y") is None
        assert parsed == [b"\x0a\x00"]

    async def test_a_message_over_the_limit_hears_the_limit(self) -> None:
        limits = settings_of(ServiceSettings, max_message_bytes=10_000)
        async with serving(echo_service(), settings=limits) as server:
            with pytest.raises(MessageTooLarge) as caught:
                await EchoStub(server.channel()).Say(text("x" * 12_000))
            assert caught.value.metadata == {"limit_bytes": "10000", "actual_bytes": "12003"}
            with pytest.raises(MessageTooLarge) as caught:
                await EchoStub(server.channel()).Say(text("x" * 40_000))  # gRPC's own refusal
            assert caught.value.metadata["limit_bytes"] == "20000"


async def watch(channel: grpc.aio.Channel, service: str = "") -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=service))


async def check(channel: grpc.aio.Channel) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer: health_pb2.HealthCheckResponse = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    return answer.status


class TestStandardServices:
    async def test_a_flood_of_watches_takes_no_place_from_callers_nor_from_checks(self) -> None:
        small = settings_of(ServiceSettings, max_concurrent=4)
        flood = 4 * WALL_FACTOR + WALL_ROOM + 10  # more than gRPC itself lets in at once
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(echo_service(), settings=small))
            channel = await stack.enter_async_context(plain(server))
            watches: list[Any] = []
            first: list[Any] = []
            while len(watches) < flood:
                more = [await watch(channel) for _ in range(50)]
                first += await asyncio.gather(*(each.read() for each in more), return_exceptions=True)
                watches += more
            told = [one for one in first if isinstance(one, health_pb2.HealthCheckResponse)]
            refused = [one for one in first if isinstance(one, grpc.aio.AioRpcError)]
            assert (len(told), len(refused)) == (MAX_OF_PEER, len(watches) - MAX_OF_PEER)
            assert {one.code() for one in refused} == {grpc.StatusCode.UNAVAILABLE}
            assert await check(channel) == SERVING
            assert (await EchoStub(server.channel()).Say(text("x"))).value == "x"

    @pytest.mark.parametrize("method", ["Watch", "Check"])
    async def test_half_open_calls_are_bounded_too(self, method: str) -> None:
        async with serving(echo_service()) as server, plain(server) as channel:
            opened: Any = channel.stream_unary(f"/grpc.health.v1.Health/{method}")
            calls = [opened() for _ in range(MAX_OF_PEER + 9)]
            await until(lambda: sum(call.done() for call in calls) == 9)
            for call in calls:
                call.cancel()

    async def test_peers_are_counted_apart_and_streams_in_all(self) -> None:
        places = Places(of_peer=2, in_all=3)
        async with AsyncExitStack() as stack:
            stack.enter_context(places.place("ipv4:10.0.0.1:1"))
            stack.enter_context(places.place("ipv4:10.0.0.1:2"))
            with pytest.raises(FarthingError, match="too many"), places.place("ipv4:10.0.0.1:3"):
                pass
            stack.enter_context(places.place("ipv4:10.0.0.2:1"))
            with pytest.raises(FarthingError, match="too many"), places.place("ipv4:10.0.0.3:1"):
                pass
        with places.place("ipv4:10.0.0.1:3"):
            pass

    async def test_a_watcher_that_leaves_takes_nothing_from_the_others(self) -> None:
        async with serving(echo_service()) as server, plain(server) as channel, plain(server) as other:
            leaving, staying = await watch(channel), await watch(other)
            assert (await leaving.read()).status == (await staying.read()).status == SERVING
            leaving.cancel()
            await until(lambda: server.server.standard.streams == 1)
            await server.server.health.report("redis", False)
            assert (await staying.read()).status == NOT_SERVING
            await server.server.health.report("redis", True)
            assert (await staying.read()).status == SERVING

    async def test_streams_that_never_end_hold_no_stop(self) -> None:
        patient = settings_of(ServiceSettings, grace_ms=600_000)
        async with serving(echo_service(), settings=patient) as server, plain(server) as channel:
            watched = await watch(channel)
            assert (await watched.read()).status == SERVING
            reflected: Any = channel.stream_stream(f"/{V1ALPHA}/ServerReflectionInfo")()
            await reflected.write(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
            await reflected.read()
            silent: Any = channel.stream_stream(f"/{V1ALPHA}/ServerReflectionInfo")()
            await until(lambda: server.server.standard.streams == 3)
            async with asyncio.timeout(30):
                assert await server.server.stop()
            assert (await watched.read()).status == NOT_SERVING
            for call in (watched, reflected, silent):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call.read()
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert caught.value.details() == "this replica is stopping; ask another"

    @pytest.mark.parametrize("name", [V1ALPHA, REFLECTION_V1])
    async def test_reflection_answers_under_both_of_its_names(self, name: str) -> None:
        async def asked() -> AsyncIterator[Any]:
            yield reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
            yield reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="grpc.health.v1.Health"
            ).SerializeToString()

        async with serving(echo_service()) as server, plain(server) as channel:
            call: Any = channel.stream_stream(f"/{name}/ServerReflectionInfo")(asked(), timeout=10)
            listed, found = [reflection_pb2.ServerReflectionResponse.FromString(raw) async for raw in call]
        assert NAME in {service.name for service in listed.list_services_response.service}
        assert len(found.file_descriptor_response.file_descriptor_proto) == 1

    async def test_requests_of_the_standard_services_are_short(self) -> None:
        async with serving(echo_service()) as server, plain(server) as channel:
            check_raw: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert isinstance(await refusal(check_raw(b"\x0a\x88\x27" + b"x" * 5000, timeout=5)), MessageTooLarge)
            assert isinstance(await refusal(check_raw(b"\x78\x01" * 500, timeout=5)), MessageTooLarge)
            assert isinstance(await refusal(check_raw(b"\xff", timeout=5)), MalformedMessage)
            stub: Any = health_pb2_grpc.HealthStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=5)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
