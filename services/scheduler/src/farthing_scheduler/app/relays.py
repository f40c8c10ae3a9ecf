"""The streams that this replica holds open, and the replies on their way to them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError
from farthing_scheduler.domain import errors
from farthing_scheduler.domain.job import Job, Reply
from farthing_scheduler.domain.order import ReplyOrder, Verdict


class Relay:
    """The replies of one job: bounded, in order, ended once. One reader awaits `next` until the last or an error."""

    def __init__(self, job: Job, limit: int, now_s: float) -> None:
        self.job_id = job.id
        self.request_id = job.request_id
        self.heard_s = now_s
        self.life = 0
        self._limit = limit
        self._order = ReplyOrder()
        self._is_started = False
        self._is_settled = False
        self._waiting: deque[Reply] = deque()
        self._error: FarthingError | None = None
        self._wake: asyncio.Future[None] | None = None

    @property
    def was_taken(self) -> bool:
        """Whether a worker has said anything."""
        return self._order.attempt > 0

    @property
    def has_text(self) -> bool:
        """Whether the caller has, or is about to have, a part of the answer."""
        return self._order.has_text

    def put(self, reply: Reply, now_s: float) -> None:
        """Take in what a worker said."""
        if self._error is not None:
            return
        verdict = self._order.accept(reply)
        if verdict is Verdict.LOST:
            self.fail(errors.worker_lost(self.request_id))
            return
        if reply.attempt == self._order.attempt:
            self.heard_s = now_s
        if verdict is Verdict.FORWARD:
            self._forward(reply)

    def permit(self, attempt: int, now_s: float) -> bool:
        """Whether a later attempt may run; if not, because the caller has text, this ends the stream. An earlier one
        that wakes up hears that it is overtaken, and the later one goes on."""
        if self._error is not None or attempt < self._order.attempt:
            return False
        if not self._order.begin(attempt):
            self.fail(errors.worker_lost(self.request_id))
            return False
        self.heard_s = now_s
        return True

    def refuse(self, error: FarthingError, *, is_certain: bool) -> None:
        """The queue did not take the job, or, unless `is_certain`, did not say: then a worker's word counts more."""
        if is_certain or not self.was_taken:
            self._is_settled = self._is_settled or is_certain
            self.fail(error)

    def fail(self, error: FarthingError) -> None:
        """End the stream with an error, once what came before has been read."""
        if self._error is None:
            self._error = error
            self._notify()

    @property
    def has_failed(self) -> bool:
        """Whether nothing more is taken in."""
        return self._error is not None

    def claim_cancel(self) -> bool:
        """Whether a worker must be told to stop; True once, and only while the job may still be queued or running."""
        is_due = not self._is_settled
        self._is_settled = True
        return is_due

    @property
    def was_told_failure(self) -> bool:
        """Whether the caller was told that the answer failed: a worker that still has the job charges nothing."""
        return self._error is not None and self._error.reason in errors.FAILED

    async def next(self) -> Reply:
        """The next reply; raises the error that ended the stream."""
        while not self._waiting:
            if self._error is not None:
                raise self._error
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._waiting.popleft()

    def _forward(self, reply: Reply) -> None:
        self._is_settled = self._is_settled or reply.is_last
        if len(self._waiting) >= self._limit:
            self._waiting.clear()
            self.fail(errors.slow_reader(self._limit))
            return
        if reply.started is not None and self._is_started:
            reply = replace(reply, started=None)  # a second attempt's: the caller was told once
        self._is_started = self._is_started or reply.started is not None
        if reply.error is None or reply.chunk is not None:
            self._waiting.append(reply if reply.error is None else replace(reply, error=None))
            self._notify()
        if reply.error is not None:
            self.fail(reply.error)

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class Relays:
    """All open streams of this replica, by job id."""

    def __init__(self, clock: Clock, *, reply_limit: int, silence_s: float, outage_s: float) -> None:
        self._clock = clock
        self._reply_limit = reply_limit
        self._silence_s = silence_s
        self._outage_s = outage_s
        self._open: dict[str, Relay] = {}
        self._down_since: float | None = None

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def open(self, job: Job) -> Iterator[Relay]:
        """A relay that hears replies inside the block."""
        relay = Relay(job, self._reply_limit, self._clock.monotonic())
        self._open[job.id] = relay
        try:
            yield relay
        finally:
            del self._open[job.id]

    def put(self, job_id: str, reply: Reply) -> None:
        """Take in what a worker said; of a stream that is gone, nothing is."""
        relay = self._open.get(job_id)
        if relay is not None:
            relay.put(reply, self._clock.monotonic())

    def permit(self, job_id: str, attempt: int) -> bool:
        """Whether a later attempt of a job may run: somebody waits for it, and has no text yet."""
        relay = self._open.get(job_id)
        return relay is not None and relay.permit(attempt, self._clock.monotonic())

    def connection_lost(self) -> None:
        """NATS cannot be reached from now on."""
        if self._down_since is None:
            self._down_since = self._clock.monotonic()

    def connection_back(self, life: int, *, queue_is_empty: bool) -> None:
        """NATS is back; with `queue_is_empty`, its memory is not: the jobs of earlier lives that no worker took are
        gone."""
        self._down_since = None
        now_s = self._clock.monotonic()
        for relay in self._open.values():
            relay.heard_s = now_s
            if queue_is_empty and relay.life < life and not relay.was_taken:
                relay.fail(errors.queue_silent("was lost when its server restarted"))

    def check(self) -> list[Relay]:
        """End the streams whose worker fell silent, sooner when NATS stays away, and then also those that no worker has
        taken. Returns those whose job is to be cancelled: also such as failed while their reader was busy elsewhere."""
        now_s = self._clock.monotonic()
        for relay in self._open.values():
            silent_s = now_s - relay.heard_s
            if relay.was_taken and (
                silent_s >= self._silence_s or (self._is_down(now_s) and silent_s >= self._outage_s)
            ):
                relay.fail(errors.worker_lost(relay.request_id))
            elif not relay.was_taken and self._is_down(now_s):
                relay.fail(errors.queue_silent("cannot be reached"))
        return [relay for relay in self._open.values() if relay.has_failed and relay.claim_cancel()]

    def _is_down(self, now_s: float) -> bool:
        return self._down_since is not None and now_s - self._down_since >= self._outage_s
