"""Channels: balanced, retried within a budget, and clear about what went wrong."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from farthing_kit import client
from farthing_kit.context import ContextSigner, current_context, service_context, use_context
from farthing_kit.errors import ContextInvalid, FarthingError, MalformedMessage, Unavailable
from farthing_kit.local.process import free_port
from farthing_kit.settings import ServiceSettings
from farthing_kit.telemetry import Telemetry
from farthing_kit.telemetry.names import MetricName
from farthing_kit.testing.echo import NAME, EchoStub, echo_service
from farthing_kit.testing.proxy import FaultProxy
from farthing_kit.testing.server import RunningServer, serving, tenant_context
from farthing_kit.testing.settings import TEST_SECRET, settings
from farthing_kit.testing.waiting import until


def text(value: str) -> StringValue:
    return StringValue(value=value)


def failing(times: int, calls: Counter[str]) -> Any:
    async def say(request: StringValue, context: Any) -> StringValue:
        calls[request.value] += 1
        if calls[request.value] <= times:
            raise Unavailable("not now")
        return request

    return say


async def test_idempotent_methods_are_retried_when_unavailable() -> None:
    calls: Counter[str] = Counter()
    async with serving(echo_service(failing(2, calls))) as server:
        assert (await EchoStub(server.channel(retry=[NAME])).Say(text("x"))).value == "x"
        with pytest.raises(Unavailable):
            await EchoStub(server.channel()).Say(text("y"))
    assert calls == {"x": 3, "y": 1}


async def test_other_errors_are_not_retried() -> None:
    calls: Counter[str] = Counter()

    async def say(request: StringValue, context: Any) -> StringValue:
        calls[request.value] += 1
        raise MalformedMessage("no")

    async with serving(echo_service(say)) as server:
        with pytest.raises(MalformedMessage):
            await EchoStub(server.channel(retry=[f"{NAME}/Say"])).Say(text("x"))
    assert calls == {"x": 1}


async def test_retries_do_not_multiply_an_outage() -> None:
    calls: Counter[str] = Counter()
    async with serving(echo_service(failing(10**6, calls))) as server:
        stub = EchoStub(server.channel(retry=[NAME]))
        for _ in range(200):
            with pytest.raises(Unavailable):
                await stub.Say(text("x"))
    assert calls["x"] <= 200 * 1.1


async def named(stack: AsyncExitStack, name: str) -> RunningServer:
    async def say(request: StringValue, context: Any) -> StringValue:
        return text(name)

    return await stack.enter_async_context(serving(echo_service(say), settings=settings(ServiceSettings, grace_ms=100)))


async def test_calls_are_spread_over_all_addresses_and_a_dead_one_is_left_out() -> None:
    async with AsyncExitStack() as stack:
        one, two = await named(stack, "one"), await named(stack, "two")
        target = f"{one.target},localhost:{two.server.port}"
        channel = client.channel(
            target, signer=ContextSigner(TEST_SECRET), identity=tenant_context(), retry=[NAME], timeout_s=5
        )
        stack.push_async_callback(channel.close)
        stub = EchoStub(channel)

        async def both() -> bool:
            return {(await stub.Say(text("x"))).value for _ in range(4)} == {"one", "two"}

        await until(both)
        served = Counter([(await stub.Say(text("x"))).value for _ in range(20)])
        assert served == {"one": 10, "two": 10}
        await one.server.stop()
        assert Counter([(await stub.Say(text("x"))).value for _ in range(20)]) == {"two": 20}


async def test_nothing_there_is_said_in_the_services_name() -> None:
    async with client.channel(f"127.0.0.1:{free_port()}") as channel:
        with pytest.raises(Unavailable) as error:
            await EchoStub(channel).Say(text("x"))
    assert error.value.message == f"{NAME}: cannot be reached; try again shortly"


async def test_a_service_that_starts_late_is_found_soon() -> None:
    port = free_port()
    async with client.channel(f"127.0.0.1:{port}", signer=ContextSigner(TEST_SECRET), identity=tenant_context()) as c:
        stub = EchoStub(c)
        with pytest.raises(Unavailable):
            await stub.Say(text("x"))
        async with serving(echo_service(), settings=settings(ServiceSettings, bind=f"127.0.0.1:{port}")):
            assert (await stub.Say(text("x"), wait_for_ready=True, timeout=5)).value == "x"


async def test_a_connection_that_breaks_in_mid_stream_is_unavailable() -> None:
    gate = asyncio.Event()

    async def repeat(request: StringValue, context: Any) -> Any:
        yield request
        await gate.wait()

    async with serving(echo_service(None, repeat)) as server, FaultProxy(server.server.port) as proxy:
        channel = client.channel(proxy.address, signer=server.signer, identity=tenant_context())
        async with channel, EchoStub(channel).Repeat(text("x")) as call:
            assert (await anext(call)).value == "x"
            proxy.cut()
            with pytest.raises(Unavailable):
                await anext(call)
        gate.set()


async def test_the_context_of_the_request_at_hand_goes_before_the_channels_own() -> None:
    seen = []

    async def say(request: StringValue, context: Any) -> StringValue:
        found = current_context()
        assert found is not None
        seen.append(found.principal.org)
        return request

    async with serving(echo_service(say)) as server:
        stub = EchoStub(server.channel(service_context("planner")))
        await stub.Say(text("x"))
        with use_context(tenant_context("acme")):
            await stub.Say(text("x"))
        assert seen == ["farthing", "acme"]
        async with client.channel(server.target, signer=server.signer) as nameless:
            with pytest.raises(ContextInvalid):
                await EchoStub(nameless).Say(text("x"))


async def test_calls_of_a_client_are_measured() -> None:
    telemetry = Telemetry("client")
    async with serving(echo_service()) as server:
        await EchoStub(server.channel(telemetry=telemetry)).Say(text("x"))
    assert telemetry.metrics.value(f"{MetricName.CLIENT_SECONDS}_count", service=NAME, method="Say", code="OK") == 1


async def test_a_call_can_be_gathered_waited_for_and_asked() -> None:
    async with serving(echo_service()) as server:
        stub = EchoStub(server.channel())
        answers = await asyncio.gather(*(asyncio.wait_for(stub.Say(text(str(n))), 5) for n in range(5)))
        assert [a.value for a in answers] == list("01234")
        call = stub.Say(text("x"))
        await call
        assert call.done()
        assert not call.cancelled()
        assert (await call.code()).name == "OK"
        assert call.time_remaining() is None or call.time_remaining() > 0


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("127.0.0.1:1, localhost:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("dns:///cache:8080", "dns:///cache:8080"),
        ("cache:8080", "cache:8080"),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", "ipv4:10.0.0.1:1,10.0.0.2:1"),
    ],
)
def test_targets(given: str, target: str) -> None:
    assert client.target_of(given) == target


def test_several_names_are_refused() -> None:
    with pytest.raises(ValueError, match="dns:///"):
        client.target_of("a:1,b:2")


def test_the_service_config_has_a_retry_budget() -> None:
    config = json.loads(client.service_config(["farthing.cache.v1.CacheService/Lookup", "farthing.x.v1.X"]))
    assert config["retryThrottling"] == {"maxTokens": 10, "tokenRatio": 0.1}
    assert config["methodConfig"][0]["name"] == [
        {"service": "farthing.cache.v1.CacheService", "method": "Lookup"},
        {"service": "farthing.x.v1.X"},
    ]
    assert "methodConfig" not in json.loads(client.service_config([]))


async def test_errors_of_the_kit_are_what_callers_catch() -> None:
    async with serving(echo_service(failing(1, Counter()))) as server:
        with pytest.raises(FarthingError) as error:
            await EchoStub(server.channel()).Say(text("x"))
    assert error.value.reason_name == "ERROR_REASON_SERVICE_UNAVAILABLE"
