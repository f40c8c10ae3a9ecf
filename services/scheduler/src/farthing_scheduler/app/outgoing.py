"""The replies of one attempt on their way out: numbered, and tokens that arrive close together as one."""

from __future__ import annotations

import asyncio
from typing import Final

from farthing_kit import tasks
from farthing_kit.errors import FarthingError
from farthing_scheduler.domain.job import Chunk, Finished, Reply, Started
from farthing_scheduler.ports import Replies

# Characters that wait at most for what comes next.
MAX_TEXT: Final = 16 * 1024


class Outgoing:
    """Sends each piece at once, unless one was sent less than `interval_s` ago: then it waits for what else comes until
    then. What is last takes along what waits."""

    def __init__(self, replies: Replies, subject: str, attempt: int, interval_s: float) -> None:
        self._replies = replies
        self._subject = subject
        self._attempt = attempt
        self._interval_s = interval_s
        self._sequence = 0
        self._sent_s = 0.0
        self._pending: Chunk | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.Task[None] | None = None
        self.has_text = False

    async def started(self, started: Started) -> None:
        """Send where it runs."""
        await self._send(Reply(self._attempt, self._next(), started=started), is_watched=True)

    async def chunk(self, chunk: Chunk) -> None:
        """Send a piece, now or shortly."""
        self.has_text = self.has_text or chunk.text != ""
        self._pending = chunk if self._pending is None else self._pending.then(chunk)
        loop = asyncio.get_running_loop()
        wait_s = self._sent_s + self._interval_s - loop.time()
        if wait_s <= 0 or len(self._pending.text) >= MAX_TEXT:
            await self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(wait_s, self._flush_later)

    async def end(self, *, finished: Finished | None = None, error: FarthingError | None = None) -> None:
        """Send how it ended."""
        self._stop_timer()
        chunk, self._pending = self._pending, None
        await self._send(Reply(self._attempt, self._next(), chunk=chunk, finished=finished, error=error))
        if self._late is not None:
            await self._late

    async def sign_of_life(self) -> None:
        """Say that the attempt goes on, once it has begun to say anything."""
        if self._sequence > 0:
            await self._send(Reply(self._attempt, self._sequence), is_watched=True)

    async def may_run(self) -> bool | None:
        """Ask whether this attempt may run."""
        return await self._replies.ask(self._subject, Reply(self._attempt, 0))

    def drop(self) -> None:
        """Send nothing more: another attempt goes on."""
        self._stop_timer()
        self._pending = None

    async def _flush(self) -> None:
        self._stop_timer()
        chunk, self._pending = self._pending, None
        if chunk is not None:
            self._sent_s = asyncio.get_running_loop().time()
            await self._send(Reply(self._attempt, self._next(), chunk=chunk))

    def _flush_later(self) -> None:
        self._timer = None
        self._late = tasks.spawn("reply", self._flush())

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    async def _send(self, reply: Reply, *, is_watched: bool = False) -> None:
        await self._replies.send(self._subject, reply, is_watched=is_watched)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
