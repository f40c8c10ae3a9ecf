"""One model call for all who ask the same at once: leaders publish, followers read along from the beginning."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Self

from farthing_cache.domain.answer import CacheKey, Moment, Org
from farthing_cache.domain.counts import Counts
from farthing_cache.domain.errors import lease_lost, nobody_to_follow, too_many_followers
from farthing_cache.domain.flight import Lease, Progress, Stage, continuation
from farthing_cache.ports import WHOLE, FlightStore, Meter
from farthing_kit import tasks
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError

TOKEN_BYTES: Final = 16
Flight = tuple[Org, CacheKey, Moment]


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of an answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end: a serialised answer without its text."""

    provenance: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The end: the leader could not make it."""

    reason: str


Event = Piece | Finished | Failed | Lease


@dataclass
class _Shared:
    """What the followers of one flight in this replica see: the text of the present attempt, and how far it is."""

    flight: Flight
    attempt: int = 0
    text: bytes = b""
    end: Progress | None = None
    lease: Lease | None = None
    error: FarthingError | None = None
    followers: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def learn(self, progress: Progress) -> None:
        """Take in what the store said, and wake everybody if it was new."""
        before = (self.attempt, len(self.text))
        if progress.attempt != self.attempt:
            self.attempt, self.text = progress.attempt, b""
        self.text += progress.text
        if progress.lease is not None:
            self.lease = progress.lease
        if progress.stage is not Stage.OPEN:
            self.end = progress
        if self.end or self.lease or before != (self.attempt, len(self.text)):
            self.wake()

    def fail(self, error: FarthingError) -> None:
        """The store cannot be reached: everybody is told."""
        self.error = error
        self.wake()

    def wake(self) -> None:
        """Everybody looks again."""
        self.news.set()
        self.news = asyncio.Event()


class Flights:
    """Leaders and followers of this replica. Each flight that is followed here is read by one task, at a fixed pace:
    waiting costs no connection, and a hundred followers cost as much as one. At most `followers` calls follow at once,
    and at most half of those for one organisation: they wait, others must not."""

    def __init__(
        self,
        store: FlightStore,
        meter: Meter,
        counts: Counts,
        clock: Clock,
        *,
        pace_s: float,
        lease_time_to_live: timedelta,
        followers: int,
    ) -> None:
        self._store = store
        self._meter = meter
        self._counts = counts
        self._clock = clock
        self._pace_s = pace_s
        self._lease_time_to_live = lease_time_to_live
        self._most = followers
        self._following: Counter[Org] = Counter()
        self._followed: dict[Flight, _Shared] = {}
        self._readers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for reader in self._readers:
            reader.cancel()
        if self._readers:
            await asyncio.wait(self._readers)

    async def publish(
        self, org: Org, key: CacheKey, at: Moment, token: bytes, offset: int, text: str, provenance: bytes | None
    ) -> timedelta:
        """Add text under a lease and prolong it; with `provenance`, end it. How long the lease lives now."""
        if not await self._store.publish(org, key, at, token, offset, text.encode(), provenance):
            raise lease_lost()
        return self._lease_time_to_live

    async def finish(self, org: Org, key: CacheKey, at: Moment, token: bytes, text: str, provenance: bytes) -> None:
        """End a flight with its whole text, whatever was published of it; nothing if it has ended or is another's."""
        await self._store.publish(org, key, at, token, WHOLE, text.encode(), provenance)

    async def release(self, org: Org, key: CacheKey, at: Moment, token: bytes, reason: str) -> bool:
        """Give a lease up; whether it was still held."""
        return await self._store.release(org, key, at, token, reason)

    async def follow(self, org: Org, key: CacheKey, at: Moment) -> AsyncIterator[Event]:
        """An answer that somebody else makes, from its beginning; the last event is its end, or a lease. Overloaded
        where too many follow already."""
        with self._joined((org, key, at)) as shared:
            sent = b""
            while True:
                news = shared.news
                more = continuation(len(sent), sent, shared.text) if shared.attempt else b""
                if more is None:
                    raise nobody_to_follow()
                if more:
                    sent += more
                    yield Piece(more.decode())
                    continue
                if (last := self._last(shared, sent)) is not None:
                    yield last
                    return
                await news.wait()

    @contextmanager
    def _joined(self, flight: Flight) -> Iterator[_Shared]:
        org = flight[0]
        if self._following[org] >= max(1, self._most // 2) or self._following.total() >= self._most:
            raise too_many_followers()
        self._following[org] += 1
        shared = self._join(flight)
        try:
            yield shared
        finally:
            self._leave(shared)
            self._following[org] -= 1
            if not self._following[org]:
                del self._following[org]

    def _last(self, shared: _Shared, sent: bytes) -> Event | None:
        if shared.error is not None:
            raise shared.error
        if shared.lease is not None:
            lease, shared.lease = shared.lease, None
            self._counts.takeovers += 1
            self._meter.claimed("takeover")
            return lease
        if shared.end is None:
            return None
        if shared.end.stage is Stage.DONE and len(shared.text) >= len(sent):
            return Finished(shared.end.provenance)
        if shared.end.stage is Stage.FAILED and not sent:
            return Failed(shared.end.reason)
        raise nobody_to_follow()

    def _join(self, flight: Flight) -> _Shared:
        shared = self._followed.get(flight)
        if shared is None or shared.end is not None or shared.error is not None:
            shared = self._followed[flight] = _Shared(flight)
            reader = tasks.spawn("flight", self._read(shared))
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        shared.followers += 1
        return shared

    def _leave(self, shared: _Shared) -> None:
        shared.followers -= 1
        if shared.followers == 0 and self._followed.get(shared.flight) is shared:
            del self._followed[shared.flight]

    async def _read(self, shared: _Shared) -> None:
        try:
            while shared.end is None and self._followed.get(shared.flight) is shared:
                token = secrets.token_bytes(TOKEN_BYTES)
                shared.learn(await self._store.progress(*shared.flight, shared.attempt, len(shared.text), token))
                await self._clock.sleep(self._pace_s)
        except FarthingError as error:
            shared.fail(error)
