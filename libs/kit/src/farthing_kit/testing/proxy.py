"""A TCP proxy that misbehaves on demand: the faults a network makes, without touching the kernel.

The toxics are toxiproxy's: latency, bandwidth, reset, blackhole (timeout), cut (limit_data), slicer. They act on what
passes from now on, in both directions unless told otherwise. A partition is what a cable does that is pulled out, and
put back later.
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

from farthing_kit import tasks

_CHUNK: Final = 64 * 1024
_BACKLOG: Final = 100
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
        self._listener: socket.socket | None = None
        self._accepting: set[asyncio.Task[None]] = set()
        self._links: set[_Link] = set()
        self._refusing = False
        self._passing = {direction: asyncio.Event() for direction in Direction}
        self._filler: socket.socket | None = None
        self._filled_from: tuple[str, int] | None = None
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
        """Forward faithfully again, and accept again. What a partition held back arrives now, late: TCP sends again
        what was not acknowledged, also for connections that were closed meanwhile."""
        self.poison(Toxics())
        self._refusing = False
        self._listen()
        for passing in self._passing.values():
            passing.set()

    def partition(self, *directions: Direction) -> None:
        """Until `heal`, nothing arrives in the directions given, or in both, not even the end of a connection; and new
        connections hang, since a handshake needs both."""
        for direction in directions or tuple(Direction):
            self._passing[direction].clear()
        self._hang()

    async def passed(self, direction: Direction) -> None:
        """Wait until there is no partition in a direction."""
        await self._passing[direction].wait()

    def blackhole(self) -> None:
        """Swallow every byte of both directions and keep connections open. New ones are accepted."""
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
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.heal()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._listener is not None
        self.heal()
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self.cut()
        for taken in self._accepting:
            taken.cancel()
        if self._accepting:
            await asyncio.wait(self._accepting)

    def _listen(self) -> None:
        """Take connections."""
        assert self._listener is not None
        if self._filler is not None:
            self._filler.close()
        self._listener.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._listener, self._take)

    def _hang(self) -> None:
        """Take none, and fill the only place of the queue: the kernel then ignores who knocks."""
        assert self._listener is not None
        if not asyncio.get_running_loop().remove_reader(self._listener):
            return
        self._listener.listen(0)
        self._filler = socket.socket()
        self._filler.setblocking(False)
        self._filler.connect_ex(("127.0.0.1", self.port))
        self._filled_from = self._filler.getsockname()

    def _take(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            client, address = self._listener.accept()
            if address == self._filled_from:
                client.close()
                return
            taken = tasks.spawn("accept", self._accept(client))
            self._accepting.add(taken)
            taken.add_done_callback(self._accepting.discard)

    async def _accept(self, client: socket.socket) -> None:
        self.accepted += 1
        reader, writer = await asyncio.open_connection(sock=client)
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
            tasks.awaited("up", self._pump(client[0], server[1], Direction.UP)),
            tasks.awaited("down", self._pump(server[0], client[1], Direction.DOWN)),
        )

    async def run(self) -> None:
        """Forward until both directions have ended."""
        try:
            await asyncio.wait(self._pumps)
        finally:
            self.close(reset=False)

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
                await self._proxy.passed(direction)
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
            await self._proxy.passed(direction)
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
