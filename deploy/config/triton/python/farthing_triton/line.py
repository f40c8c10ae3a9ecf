"""The requests of one model: some run, a bounded number waits, and all end when the server stops."""

import threading
from collections import deque
from typing import Protocol

FULL = "Exceeds maximum queue size"  # Triton's own words for it
STOPPING = "the server is shutting down"


class Job(Protocol):
    """One request with its caller."""

    @property
    def cancelled(self) -> bool:
        """Whether the caller went away."""

    def run(self) -> None:
        """Answer it. Raises nothing."""

    def abandon(self) -> None:
        """End it without a word: nobody listens."""

    def refuse(self, why: str) -> None:
        """End it with the news that this server cannot take it now."""


class Line:
    """Runs at most `slots` jobs at a time, on threads of its own; at most `queue` more wait."""

    def __init__(self, name: str, slots: int, queue: int) -> None:
        self._queue = queue
        self._idle = slots
        self._waiting: deque[Job] = deque()
        self._stopping = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(slots)]
        for thread in self._threads:
            thread.start()

    def add(self, job: Job) -> None:
        """Take a job, or refuse it."""
        with self._changed:
            why = self._refusal()
            if not why:
                self._waiting.append(job)
                self._changed.notify()
        if why:
            job.refuse(why)

    def drop(self, job: Job) -> None:
        """Its caller went away: if it waits, it is over."""
        with self._changed:
            waits = job in self._waiting
            if waits:
                self._waiting.remove(job)
        if waits:
            job.abandon()

    def stop(self) -> None:
        """Refuse what waits and what comes; what runs goes on."""
        with self._changed:
            self._stopping = True
            left = [*self._waiting]
            self._waiting.clear()
            self._changed.notify_all()
        for job in left:
            job.refuse(STOPPING)

    def join(self, timeout_s: float) -> bool:
        """After `stop`: wait for what runs; whether all of it has ended."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle == len(self._threads), timeout_s)

    def _refusal(self) -> str:
        if self._stopping:
            return STOPPING
        if len(self._waiting) >= self._queue + self._idle:
            self._forget_cancelled()
        return FULL if len(self._waiting) >= self._queue + self._idle else ""

    def _forget_cancelled(self) -> None:
        """Callers who went away must not keep others out."""
        gone = [job for job in self._waiting if job.cancelled]
        self._waiting = deque(job for job in self._waiting if job not in gone)
        for job in gone:
            job.abandon()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if job.cancelled:
                job.abandon()
            else:
                job.run()
            with self._changed:
                self._idle += 1
                self._changed.notify_all()

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if not self._waiting:
                return None
            self._idle -= 1
            return self._waiting.popleft()
