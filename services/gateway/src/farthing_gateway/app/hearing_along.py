"""One stream of the cache for all who follow the same answer at this gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from farthing_gateway.app.request import Request
from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.ports import FlightLine, FlightNews, Found, Lead
from farthing_kit import tasks
from farthing_kit.errors import FarthingError

Flight = tuple[str, CacheKey, int, int]


class LedByAnother(Exception):
    """Another follower of this gateway makes the answer now: it is to be followed anew."""


@dataclass
class _Stream:
    """What was heard of one answer."""

    news: list[FlightNews] = field(default_factory=list)
    lead: Lead | None = None
    led: bool = False
    error: FarthingError | None = None
    over: bool = False
    listeners: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Everybody looks again."""
        self.changed.set()
        self.changed = asyncio.Event()


class HearingAlong:
    """A hundred followers at this gateway cost the cache as much as one. The stream belongs to whoever listens: it ends
    with the last of them."""

    def __init__(self, line: FlightLine) -> None:
        self._line = line
        self._streams: dict[Flight, _Stream] = {}

    async def follow(self, request: Request, found: Found) -> AsyncGenerator[FlightNews]:
        """The answer from its beginning, as `FlightLine.follow` tells it; LedByAnother where the next leader is among
        those who listen here too."""
        flight = (request.org, request.key, found.epoch, found.mark)
        stream = self._joined(flight, request, found)
        try:
            heard = 0
            while True:
                changed = stream.changed
                if heard < len(stream.news):
                    heard += 1
                    yield stream.news[heard - 1]
                elif stream.lead is not None:
                    lead, stream.lead = stream.lead, None
                    yield lead
                    return
                elif stream.over:
                    self._ended(stream)
                    return
                else:
                    await changed.wait()
        finally:
            self._leave(flight, stream)

    def _ended(self, stream: _Stream) -> None:
        if stream.error is not None:
            raise stream.error
        if stream.led:
            raise LedByAnother

    def _joined(self, flight: Flight, request: Request, found: Found) -> _Stream:
        stream = self._streams.get(flight)
        if stream is None or stream.over:
            stream = self._streams[flight] = _Stream()
            # Under the deadline and in the name of who came first: who comes later follows anew if that is over.
            stream.task = tasks.spawn("follow", self._read(stream, request.key, found))
        stream.listeners += 1
        return stream

    def _leave(self, flight: Flight, stream: _Stream) -> None:
        stream.listeners -= 1
        if stream.listeners == 0:
            assert stream.task is not None
            stream.task.cancel()
            if self._streams.get(flight) is stream:
                del self._streams[flight]

    async def _read(self, stream: _Stream, key: CacheKey, found: Found) -> None:
        try:
            async with aclosing(self._line.follow(key, found)) as news:
                async for said in news:
                    if isinstance(said, Lead):
                        stream.lead, stream.led = said, True
                    else:
                        stream.news.append(said)
                    stream.tell()
        except FarthingError as error:
            stream.error = error
        finally:
            stream.over = True
            stream.tell()
