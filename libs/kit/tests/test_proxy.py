"""The fault proxy breaks what it is told to, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from farthing_kit.testing.proxy import Direction, FaultProxy, Toxics
from farthing_kit.testing.waiting import until

DATA = bytes(range(256)) * 40


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """In front of a server that says back what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with FaultProxy(server.sockets[0].getsockname()[1]) as made:
        yield made
    server.close()


async def ask(proxy: FaultProxy, data: bytes = DATA) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            return await reader.readexactly(len(data))
    finally:
        writer.close()


async def test_a_healthy_proxy_changes_nothing(proxy: FaultProxy) -> None:
    assert await ask(proxy) == DATA
    await until(lambda: proxy.connections == 0)
    assert proxy.accepted == 1


async def test_latency_delays(proxy: FaultProxy) -> None:
    proxy.poison(Toxics(latency_ms=60), Direction.UP)
    start = time.monotonic()
    assert await ask(proxy, b"x") == b"x"
    assert time.monotonic() - start >= 0.06


async def test_bandwidth_is_a_ceiling(proxy: FaultProxy) -> None:
    proxy.poison(Toxics(bandwidth=100_000), Direction.DOWN)
    start = time.monotonic()
    assert await ask(proxy) == DATA
    assert time.monotonic() - start >= len(DATA) / 100_000


async def test_the_slicer_keeps_every_byte(proxy: FaultProxy) -> None:
    proxy.poison(Toxics(slice_bytes=7))
    assert await ask(proxy) == DATA


async def test_cut_after_closes_in_the_middle(proxy: FaultProxy) -> None:
    proxy.poison(Toxics(cut_after=100), Direction.DOWN)
    with pytest.raises(asyncio.IncompleteReadError) as error:
        await ask(proxy)
    assert error.value.partial == DATA[:100]


async def test_a_blackhole_swallows_and_keeps_the_connection(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.blackhole()
    writer.write(b"lost")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await reader.read(1)
    assert proxy.connections == 1
    proxy.heal()
    writer.write(b"kept")
    assert await reader.readexactly(4) == b"kept"
    writer.close()


async def test_cut_resets_open_connections(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()


async def test_a_proxy_that_is_down_takes_nobody_until_healed(proxy: FaultProxy) -> None:
    proxy.down()
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await ask(proxy, b"x")
    proxy.heal()
    assert await ask(proxy, b"x") == b"x"


async def test_a_partition_hangs_who_knocks_and_delivers_late_what_was_sent(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await until(lambda: proxy.connections == 1)
    proxy.partition()
    writer.write(b"late")
    for hanging in (asyncio.open_connection("127.0.0.1", proxy.port), reader.read(1)):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hanging, 0.05)
    proxy.heal()
    assert await reader.readexactly(4) == b"late"
    writer.close()
    assert await ask(proxy) == DATA
    await until(lambda: proxy.connections == 0)
    assert proxy.accepted == 2


async def test_a_partition_of_one_direction_loses_the_replies(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await until(lambda: proxy.connections == 1)
    proxy.partition(Direction.DOWN)
    writer.write(b"heard")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.05)
    proxy.heal()
    assert await reader.readexactly(5) == b"heard"
    writer.close()
