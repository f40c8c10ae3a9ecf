"""What the scheduler needs from the world, named for the need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from farthing_kit.errors import FarthingError
from farthing_scheduler.domain.job import Event, Finished, Job, QueueState, Reply, Started


class Refused(Protocol):
    """Hears that the queue did not take a job; without `is_certain`, that it did not say in time whether it did."""

    def __call__(self, error: FarthingError, *, is_certain: bool) -> None: ...


class JobQueue(Protocol):
    """Where jobs wait for a worker."""

    async def submit(self, job: Job, refused: Refused) -> int:
        """Hand over a job without waiting for the queue's word: replies may come before it does. `refused` hears, in
        bounded time, if the queue did not take the job. Returns in which life of the connection that was; lives count
        up. Never raises."""
        ...

    async def states(self) -> Sequence[QueueState]:
        """The work for each model that has any, by name. Raises QueueUnavailable."""
        ...


class Cancels(Protocol):
    """The word to all workers that a job shall end."""

    async def cancel(self, job_id: str, *, below_attempt: int = 0, discard_usage: bool = False) -> None:
        """End a job; with `below_attempt` only earlier attempts, because that one takes over; with `discard_usage`
        without a charge, because its caller was told that it failed. Never raises."""
        ...


class Replies(Protocol):
    """The way from a worker to the replica that holds the caller's stream."""

    async def send(self, subject: str, reply: Reply, *, is_watched: bool = False) -> None:
        """Send one reply. It may be lost, which its receiver finds out by its number. With `is_watched` the worker is
        told if nobody listens to the subject (Worker.unheard). Never raises."""
        ...

    async def ask(self, subject: str, reply: Reply) -> bool | None:
        """Whether a later attempt may run; False where nobody listens any more, None where no answer came in time."""
        ...


class Delivery(Protocol):
    """A job in the hands of a worker: to be settled once, by `done` or `hand_over`, or else it is delivered again."""

    @property
    def job(self) -> Job:
        """The job."""
        ...

    @property
    def attempt(self) -> int:
        """Which delivery of the job this is, from 1."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """What came with it: the trace."""
        ...

    async def working(self) -> None:
        """Say that the worker lives: the time until redelivery begins anew."""
        ...

    async def done(self) -> None:
        """Take the job out of the queue."""
        ...

    async def hand_over(self) -> None:
        """Give the job to another worker at once."""
        ...


class JobSource(Protocol):
    """Where a worker gets jobs."""

    async def serve(self, models: Sequence[str]) -> None:
        """Take jobs for these models from now on, in addition to those before, as many at once as there are slots."""
        ...

    async def maintain(self) -> None:
        """Ask again where an error ended the asking."""
        ...

    async def release(self, delivery: Delivery) -> None:
        """The slot of a delivery is free again, however the job ended."""
        ...

    async def stop(self) -> None:
        """Take no more jobs; what is delivered all the same goes to another worker."""
        ...


class Engine(Protocol):
    """Where models run."""

    def generate(self, job: Job) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Run a job: Started, Chunks, one Finished. Leaving the block stops the model. Raises FarthingErrors."""
        ...


class ModelCatalog(Protocol):
    """Which models there are."""

    async def require(self, model: str) -> None:
        """Raises UnknownModel when no pool serves it, ModelUnavailable while that is not known."""
        ...


class UsageLog(Protocol):
    """Where each job's end is written down: what was used, to be booked, or that nothing is charged. `run` is the
    delivery that ended."""

    async def record(self, job: Job, run: int, started: Started, finished: Finished, ended: datetime) -> None:
        """Returns once it cannot be lost. A second record of a run changes nothing. Raises QueueUnavailable."""
        ...

    async def void(self, job: Job, run: int, ended: datetime) -> None:
        """Have the job's reservation given back. Returns once that cannot be lost. Raises QueueUnavailable."""
        ...
