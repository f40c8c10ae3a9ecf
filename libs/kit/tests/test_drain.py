"""Stopping drops no call that was let in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from farthing_kit.errors import FarthingError, Unavailable
from farthing_kit.local.process import port_taken
from farthing_kit.settings import ServiceSettings
from farthing_kit.testing.echo import EchoStub, echo_service
from farthing_kit.testing.server import serving
from farthing_kit.testing.settings import settings
from farthing_kit.testing.waiting import until


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def test_calls_in_progress_finish_and_new_ones_are_refused() -> None:
    entered, release = asyncio.Semaphore(0), asyncio.Event()

    async def say(request: StringValue, context: Any) -> StringValue:
        entered.release()
        await release.wait()
        return request

    async with serving(echo_service(say)) as server:
        stub = EchoStub(server.channel())
        running = [asyncio.ensure_future(stub.Say(text(str(n)))) for n in range(50)]
        for _ in running:
            await entered.acquire()
        stopping = asyncio.create_task(server.server.stop())
        await until(lambda: port_free(server.server.port))
        with pytest.raises(Unavailable):
            await EchoStub(server.channel()).Say(text("late"), timeout=1)
        release.set()
        assert [r.value for r in await asyncio.gather(*running)] == [str(n) for n in range(50)]
        assert await stopping
        assert not server.server.health.serving


async def test_stopping_waits_for_handlers_that_aborted() -> None:
    """grpc#37239: `Server.stop` returns while a handler that aborted is still in its `finally`."""
    entered, release, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def say(request: StringValue, context: Any) -> StringValue:
        try:
            await context.abort(grpc.StatusCode.ABORTED, "no")
        finally:
            entered.set()
            await release.wait()
            cleaned.set()
        return request

    async with serving(echo_service(say)) as server:
        call = asyncio.ensure_future(EchoStub(server.channel()).Say(text("x")))
        await entered.wait()
        stopping = asyncio.create_task(server.server.stop())
        await asyncio.wait({stopping}, timeout=0.2)
        assert not stopping.done()
        release.set()
        assert await stopping
        assert cleaned.is_set()
        assert server.server.pipeline.running == 0
        with pytest.raises(FarthingError):
            await call


async def test_watches_end_at_once_and_their_callers_may_watch_another() -> None:
    async def repeat(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        await asyncio.Event().wait()

    watched = echo_service(None, repeat, long_lived=frozenset({"Repeat"}))
    async with serving(watched, settings=settings(ServiceSettings, grace_ms=30_000)) as server:
        call = EchoStub(server.channel()).Repeat(text("x"))
        await anext(call)
        assert await server.server.stop()
        with pytest.raises(Unavailable, match="this replica is stopping"):
            await anext(call)


async def test_after_the_grace_period_handlers_are_cancelled() -> None:
    cancelled = asyncio.Event()
    entered = asyncio.Event()

    async def say(request: StringValue, context: Any) -> StringValue:
        entered.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return request

    async with serving(echo_service(say), settings=settings(ServiceSettings, grace_ms=50)) as server:
        call = asyncio.ensure_future(EchoStub(server.channel()).Say(text("x")))
        await entered.wait()
        assert await server.server.stop()
        assert cancelled.is_set()
        assert server.server.pipeline.running == 0
        with pytest.raises(Unavailable):
            await call


def port_free(port: int) -> bool:
    return not port_taken(port)
