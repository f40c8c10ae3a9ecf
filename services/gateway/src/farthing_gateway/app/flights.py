"""One model call for all who ask the same at once: who leads hands its answer on, who follows reads along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final as Constant

from farthing_gateway.app.background import Background
from farthing_gateway.app.hearing_along import HearingAlong, LedByAnother
from farthing_gateway.app.request import Request
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.errors import told_otherwise
from farthing_gateway.domain.events import Decision, Delta, Event, Final
from farthing_gateway.ports import FlightLine, Found, Lead, Observer, Piece, Whole
from farthing_kit import deadline, tasks
from farthing_kit.errors import FarthingError, NotFound

# A follower that hears nothing for this share of what is left of its deadline answers by itself.
PATIENCE: Constant = 1 / 3
DRAIN_S: Constant = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long pieces are gathered before they are handed on together; how often a lease is kept while there is nothing
    to hand on; after which silence a follower goes on alone; and how often it tries, with which pause, where the cache
    fails."""

    gather_s: float = 0.05
    beat_s: float = 0.8
    silence_s: float = 10.0
    again_s: float = 0.3
    tries: int = 5


@dataclass(frozen=True)
class Flights:
    """Leads and follows, by what the look-up said. Whatever goes wrong with it, each caller gets an answer."""

    line: FlightLine
    background: Background
    observer: Observer
    pace: Pace = Pace()
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    along: HearingAlong = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "along", HearingAlong(self.line))

    def leading(self, request: Request, found: Found | None) -> Leading:
        """To be closed. Without a lease it does nothing."""
        return Leading(self, request, found)

    def following(self, request: Request, found: Found) -> Following:
        """Reads an answer that somebody else makes."""
        return Following(self, request, found)

    async def drain(self) -> None:
        """Let what was finished be told; what is not over then is stopped."""
        if self.tasks:
            _, late = await asyncio.wait(self.tasks, timeout=DRAIN_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)


class Leading:
    """Hands an answer on while it is made, without ever keeping its own caller waiting, and keeps the lease meanwhile.

    It ends in one of three ways: the answer is stored, which ends the flight; `finish`, for an answer that is not; or
    neither, and `close` gives the lease up, so that a follower takes over.
    """

    def __init__(self, flights: Flights, request: Request, found: Found | None) -> None:
        self._flights = flights
        self._request = request
        self._found = found
        self._texts: list[str] = []
        self._offset = 0
        self._last: Answer | None = None
        self._stored = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if found is not None and found.lease:
            self._task = tasks.spawn("publish", self._publish_all(found))
            flights.tasks.add(self._task)
            self._task.add_done_callback(flights.tasks.discard)

    def say(self, text: str) -> None:
        """The next piece of the answer."""
        if self._task is not None:
            self._texts.append(text)
            self._news.set()

    def finish(self, answer: Answer) -> None:
        """The answer is complete, and is not going to be stored under the lease. What was said of it stands."""
        self._last = answer
        self._news.set()

    def stored(self) -> None:
        """The answer is being stored, which hands on all of it."""
        self._stored = True

    def close(self) -> None:
        """The caller has its answer, or never will."""
        if self._task is None or self._last is not None:
            return
        self._task.cancel()
        if not self._stored and self._found is not None:
            release = self._flights.line.release(self._request.key, self._found)
            self._flights.background.start("release lease", release)

    async def _publish_all(self, found: Found) -> None:
        pace = self._flights.pace
        while True:
            try:
                async with asyncio.timeout(pace.beat_s):
                    await self._news.wait()
                if self._last is None:
                    await asyncio.sleep(pace.gather_s)
            except TimeoutError:
                pass
            self._news.clear()
            last = self._last
            try:
                await self._publish(found, last)
            except NotFound:
                return  # the lease is lost, and somebody else leads: this answer goes on for its own caller only
            except FarthingError:
                pass  # with the next beat again
            if last is not None:
                return

    async def _publish(self, found: Found, last: Answer | None) -> None:
        text, count = "".join(self._texts), len(self._texts)
        await self._flights.line.publish(self._request.key, found, self._offset, text, last)
        self._offset += len(text.encode())
        del self._texts[:count]


class Following:
    """An answer that somebody else makes. Afterwards there is `whole`, its end without the text; or there is none, and
    the follower makes the answer by itself, under `found`, without telling again what was `sent`."""

    def __init__(self, flights: Flights, request: Request, found: Found) -> None:
        self._flights = flights
        self._request = request
        self.found = replace(found, follow=False)
        self.sent = ""
        self.whole: Answer | None = None

    async def pieces(self) -> AsyncGenerator[str]:
        """The text, as it comes. Failures end it: nobody depends on those who lead. Where the cache fails for a moment,
        it is asked again: all who follow going on alone at once would be what following is there to prevent."""
        tries = 0
        while tries < self._flights.pace.tries:
            tries += 1
            try:
                async with aclosing(self._once()) as pieces:
                    async for piece in pieces:
                        tries = 0
                        yield piece
                break
            except LedByAnother:
                continue
            except (NotFound, TimeoutError):
                break
            except FarthingError:
                await asyncio.sleep(self._flights.pace.again_s)
        role = "followed" if self.whole is not None else "took_over" if self.found.lease else "went_on_alone"
        self._flights.observer.flew(role)

    async def _once(self) -> AsyncGenerator[str]:
        """What is beyond that which was sent. Nothing more where it does not begin the same way."""
        heard = ""
        async with aclosing(self._flights.along.follow(self._request, self.found)) as news:
            while (piece := await self._next(news)) is not None:
                heard += piece
                if not heard.startswith(self.sent[: len(heard)]):
                    return
                if more := heard[len(self.sent) :]:
                    self.sent = heard
                    yield more
        if heard != self.sent:
            self.whole = None  # it ended before it got there

    async def _next(self, news: AsyncGenerator[object]) -> str | None:
        async with asyncio.timeout(self._silence_s()):
            said = await anext(news, None)
        match said:
            case Piece(text):
                return text
            case Whole(answer):
                self.whole = replace(answer, text=self.sent)
            case Lead(lease):
                self.found = replace(self.found, lease=lease)
        return None

    def _silence_s(self) -> float:
        left_s = deadline.remaining_s()
        silence_s = self._flights.pace.silence_s
        return silence_s if left_s is None else min(silence_s, max(0.0, left_s * PATIENCE))


async def continued(events: AsyncGenerator[Event], sent: str) -> AsyncGenerator[Event]:
    """The events of an answer whose decision and beginning the caller has: what is told already is not told again."""
    async with aclosing(events):
        async for event in events:
            match event:
                case Decision():
                    continue
                case Delta(text):
                    shared = min(len(text), len(sent))
                    if text[:shared] != sent[:shared]:
                        raise told_otherwise()
                    sent = sent[shared:]
                    if text[shared:]:
                        yield Delta(text[shared:])
                case Final():
                    if sent:
                        raise told_otherwise()
                    yield event
