"""No work outlives its deadline, and none is started that cannot end in time."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from farthing_kit import deadline
from farthing_kit.client import UNBOUNDED
from farthing_kit.errors import DeadlineExceeded, DeadlineTooShort, FarthingError
from farthing_kit.settings import ServiceSettings
from farthing_kit.telemetry import Telemetry
from farthing_kit.telemetry.names import MetricName
from farthing_kit.testing.echo import NAME, EchoStub, echo_service
from farthing_kit.testing.server import serving
from farthing_kit.testing.settings import settings

# gRPC writes a deadline of a second with two digits, rounded up.
WIRE_ROUNDING_S = 0.01
# One below a second is rounded up to a millisecond twice: when it is written, and when it is read.
HOP_ROUNDING_S = 0.002


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def chain(stack: AsyncExitStack, hops: int, seen: list[float]) -> EchoStub:
    """`hops` servers, each calling the next; each notes how much time it had."""
    stub: EchoStub | None = None
    for _ in range(hops):
        behind = stub

        async def say(request: StringValue, context: Any, behind: EchoStub | None = behind) -> StringValue:
            left = deadline.remaining_s()
            assert left is not None
            seen.append(left)
            return request if behind is None else await behind.Say(request)

        server = await stack.enter_async_context(serving(echo_service(say)))
        channel = server.channel()
        stack.push_async_callback(channel.close)
        stub = EchoStub(channel)
    assert stub is not None
    return stub


async def test_each_hop_has_less_time_than_the_one_before() -> None:
    async with AsyncExitStack() as stack:
        seen: list[float] = []
        stub = await chain(stack, 3, seen)
        await stub.Say(text("x"), timeout=1.0)
    assert len(seen) == 3
    assert seen[0] <= 1.0 + WIRE_ROUNDING_S
    for outer, inner in itertools.pairwise(seen):
        assert inner <= outer - deadline.MARGIN_S + HOP_ROUNDING_S


async def test_a_hop_without_time_left_is_not_called() -> None:
    calls = []

    async def inner(request: StringValue, context: Any) -> StringValue:
        calls.append(request.value)
        return request

    async with serving(echo_service(inner)) as back:
        behind = EchoStub(back.channel())

        async def outer(request: StringValue, context: Any) -> StringValue:
            with deadline.within(0.015):
                return await behind.Say(request)  # type: ignore[no-any-return]

        async with serving(echo_service(outer)) as front:
            with pytest.raises(DeadlineTooShort) as error:
                await EchoStub(front.channel()).Say(text("x"), timeout=2.0)
    assert calls == []
    assert error.value.metadata["needed_ms"] == "20"


async def test_a_server_refuses_what_it_cannot_finish() -> None:
    calls = []

    async def say(request: StringValue, context: Any) -> StringValue:
        calls.append(request.value)
        return request

    async with serving(echo_service(say), settings=settings(ServiceSettings, min_deadline_ms=10_000)) as server:
        with pytest.raises(DeadlineTooShort) as error:
            await EchoStub(server.channel()).Say(text("x"), timeout=2.0)
    assert calls == []
    assert error.value.metadata["needed_ms"] == "10000"


async def test_work_ends_with_its_deadline_and_says_so() -> None:
    ended = asyncio.Event()

    async def say(request: StringValue, context: Any) -> StringValue:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        return request

    telemetry = Telemetry("test")
    async with serving(echo_service(say), telemetry=telemetry) as server:
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await EchoStub(server.channel(telemetry=Telemetry("client"))).Say(text("x"), timeout=0.15)
        assert time.monotonic() - start < 2.0
        async with asyncio.timeout(5):
            await ended.wait()
    sample = f"{MetricName.RPC_SECONDS}_count"
    assert telemetry.metrics.value(sample, service=NAME, method="Say", code="DEADLINE_EXCEEDED") == 1


@pytest.mark.parametrize("method", ["Say", "Repeat"])
async def test_a_call_without_a_deadline_gets_the_servers(method: str) -> None:
    async def say(request: StringValue, context: Any) -> StringValue:
        await asyncio.sleep(30)
        return request

    async def repeat(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        await asyncio.sleep(30)

    config = settings(ServiceSettings, default_deadline_ms=100)
    async with serving(echo_service(say, repeat), settings=config) as server:
        stub = EchoStub(server.channel())
        with pytest.raises(FarthingError) as error:
            await drain(getattr(stub, method)(text("x"), timeout=UNBOUNDED))
    assert error.value.reason_name == "ERROR_REASON_DEADLINE_EXCEEDED"


async def drain(call: Any) -> None:
    if hasattr(call, "__await__"):
        await call
    else:
        _ = [message async for message in call]


async def test_a_timeout_of_the_handlers_own_is_not_the_callers_deadline() -> None:
    async def say(request: StringValue, context: Any) -> StringValue:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(30)
        return request

    async with serving(echo_service(say)) as server:
        with pytest.raises(FarthingError) as error:
            await EchoStub(server.channel()).Say(text("x"))
    assert error.value.message == "internal"


async def test_cancelling_the_call_cancels_the_handler_two_hops_away() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def inner(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        started.set()
        try:
            yield request
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(echo_service(None, inner)) as back:
        behind = EchoStub(back.channel())

        async def outer(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
            async for message in behind.Repeat(request):
                yield message

        async with serving(echo_service(None, outer)) as front:
            call = EchoStub(front.channel()).Repeat(text("x"))
            assert (await anext(call)).value == "x"
            await started.wait()
            call.cancel()
            async with asyncio.timeout(5):
                await cancelled.wait()


async def test_within_never_gives_more_than_is_left() -> None:
    assert deadline.remaining_s() is None
    with deadline.within(1.0), deadline.within(60.0):
        left = deadline.remaining_s()
        assert left is not None
        assert left <= 1.0
    assert deadline.remaining_s() is None
