"""A TCP proxy that misbehaves on demand: the faults a network makes, without touching the kernel.

The toxics are toxiproxy's: latency, bandwidth, reset, blackhole (timeout), cut (limit_data), slicer. They act on what
passes from now on, in both directions unless told otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Self

_CHUNK: Final = 64 * 1024
# close() then sends RST instead of FIN.
_LINGER_RESET: Final = struct.pack("ii", 1, 0)


class Direction(Enum):
    """Which way bytes flow."""

    UP = "to the server"
    DOWN = "to the client"


@dataclass(frozen=True, slots=True)
class Toxics:
    """What happens to the bytes of one direction.

    latency_ms ± jitter_ms on each piece; bandwidth in bytes a second; blackhole: bytes vanish, connections stay open;
    cut_after: bytes until the connection is closed; slice_bytes: pieces no larger than this.
    """

    latency_ms: float = 0
    jitter_ms: float = 0
    bandwidth: int | None = None
    blackhole: bool = False
    cut_after: int | None = None
    slice_bytes: int | None = None


class FaultProxy:
    """Listens on a free port of loopback and forwards to `host:port`."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", seed: int = 0) -> None:
        self._upstream = (host, port)
        self._toxics = {Direction.UP: Toxics(), Direction.DOWN: Toxics()}
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._refusing = False
        self.port = 0
        self.accepted = 0

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    def poison(self, toxics: Toxics, *directions: Direction) -> None:
        """Set the toxics of the directions given, or of both."""
        for direction in directions or tuple(Direction):
            self._toxics[direction] = toxics

    def heal(self) -> None:
        """Forward faithfully again, and accept again."""
        self.poison(Toxics())
        self._refusing = False

    def blackhole(self) -> None:
        """Swallow every byte of both directions and keep connections open: a partition."""
        for direction in Direction:
            self._toxics[direction] = replace(self._toxics[direction], blackhole=True)

    def cut(self, *, reset: bool = True) -> None:
        """Close every open connection: with RST, or politely."""
        for link in list(self._links):
            link.close(reset=reset)

    def down(self) -> None:
        """Cut, and close every new connection at once, until `heal`."""
        self._refusing = True
        self.cut()

    def toxics(self, direction: Direction) -> Toxics:
        """What is set for a direction."""
        return self._toxics[direction]

    def delay_s(self, toxics: Toxics) -> float:
        """The latency of the next piece."""
        return max(0.0, toxics.latency_ms + self._random.uniform(-1, 1) * toxics.jitter_ms) / 1000

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        links = list(self._links)
        self.cut()
        for link in links:
            await link.ended()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refusing:
            _close(writer, reset=True)
            return
        try:
            upstream = await asyncio.open_connection(*self._upstream)
        except OSError:
            _close(writer, reset=True)
            return
        link = _Link(self, (reader, writer), upstream)
        self._links.add(link)
        await link.run()
        self._links.discard(link)


class _Link:
    """One client's connection and the one behind it."""

    def __init__(
        self,
        proxy: FaultProxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._writers = (client[1], server[1])
        self._pumps = (
            asyncio.ensure_future(self._pump(client[0], server[1], Direction.UP)),
            asyncio.ensure_future(self._pump(server[0], client[1], Direction.DOWN)),
        )

    async def run(self) -> None:
        """Forward until both directions have ended."""
        await asyncio.wait(self._pumps)
        self.close(reset=False)

    async def ended(self) -> None:
        """Wait until nothing is forwarded any more."""
        await asyncio.wait(self._pumps)

    def close(self, *, reset: bool) -> None:
        """End both connections now."""
        for pump in self._pumps:
            pump.cancel()
        for writer in self._writers:
            _close(writer, reset=reset)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                toxics = self._proxy.toxics(direction)
                if toxics.blackhole:
                    continue
                if toxics.cut_after is not None:
                    data = data[: max(0, toxics.cut_after - passed)]
                await self._forward(data, writer, toxics)
                passed += len(data)
                if toxics.cut_after is not None and passed >= toxics.cut_after:
                    asyncio.get_running_loop().call_soon(lambda: self.close(reset=False))
                    return
            if writer.can_write_eof():
                writer.write_eof()

    async def _forward(self, data: bytes, writer: asyncio.StreamWriter, toxics: Toxics) -> None:
        size = toxics.slice_bytes or len(data) or 1
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            delay_s = self._proxy.delay_s(toxics)
            if toxics.bandwidth:
                delay_s += len(piece) / toxics.bandwidth
            if delay_s:
                await asyncio.sleep(delay_s)
            writer.write(piece)
            await writer.drain()


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset and not writer.is_closing():
        raw = writer.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        writer.transport.abort()
        return
    writer.close()
