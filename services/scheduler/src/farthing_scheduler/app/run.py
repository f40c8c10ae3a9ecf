"""One attempt at a job, while it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from farthing_kit.errors import DeadlineExceeded, DeadlineTooShort, FarthingError, InternalError
from farthing_scheduler.app.outgoing import Outgoing
from farthing_scheduler.domain.job import Chunk, Finished, Started
from farthing_scheduler.domain.tally import Tally
from farthing_scheduler.ports import Delivery, Engine

# Signs of life in a row that nobody heard, before the caller counts as gone: one may fall into a reconnection.
UNHEARD_LIMIT: Final = 2


class Stop(Enum):
    """Why a run was stopped before its end."""

    CANCELLED = "cancelled"
    """The caller is gone: what was generated is booked."""
    FAILED = "failed"
    """The caller was told that it failed: nothing is booked."""
    DEADLINE = "deadline"
    """The caller's time is up: booked likewise."""
    OVERTAKEN = "overtaken"
    """A later attempt has the job: nothing is booked or settled here."""
    DRAIN = "drain"
    """This worker stops: another one takes the job, unless the caller has text already."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: one of the three is set."""

    finished: Finished | None = None
    stop: Stop | None = None
    error: FarthingError | None = None


class Run:
    """Runs the model for one delivery and passes on what it says. `stop` ends it from outside."""

    def __init__(
        self, delivery: Delivery, outgoing: Outgoing, *, left_s: float, waited_s: float, now_s: float, lease_s: float
    ) -> None:
        self.delivery = delivery
        self.job = delivery.job
        self.outgoing = outgoing
        self.started: Started | None = None
        self.tally = Tally()
        self.waited_s = waited_s
        self._left_s = left_s
        self._stop: Stop | None = None
        self._scope: asyncio.Timeout | None = None
        self._strikes = 0
        self._was_unheard = False
        self._worked_s = now_s
        self._lease_s = lease_s
        self._was_frozen = False

    def was_frozen(self, now_s: float) -> bool:
        """Whether the queue has not heard of this run for so long that it may have given the job to another worker."""
        self._was_frozen = self._was_frozen or now_s - self._worked_s > self._lease_s
        return self._was_frozen

    def stop(self, why: Stop) -> None:
        """End it at the next chance; the first reason counts."""
        if self._stop is None:
            self._stop = why
            if self._scope is not None:
                self._scope.reschedule(asyncio.get_running_loop().time())

    async def beat(self, now_s: float) -> None:
        """Tell the queue and the caller's replica that it goes on."""
        self.was_frozen(now_s)
        self._worked_s = now_s
        if not self._was_unheard:
            self._strikes = 0
        self._was_unheard = False
        await self.delivery.working()
        await self.outgoing.sign_of_life()

    def unheard(self) -> None:
        """Nobody listened to the last sign of life."""
        self._strikes += 1
        self._was_unheard = True
        if self._strikes >= UNHEARD_LIMIT:
            self.stop(Stop.CANCELLED)

    async def through(self, engine: Engine) -> Ended:
        """Run to the end, whichever it is. Only cancellation of the task and defects pass through."""
        if self._stop is not None:
            return Ended(stop=self._stop)
        scope = asyncio.timeout(self._left_s)
        try:
            async with scope:
                self._scope = scope
                try:
                    return await self._generate(engine)
                finally:
                    self._scope = None
        except TimeoutError:
            if not scope.expired():
                raise
            return Ended(stop=self._stop or Stop.DEADLINE)
        except FarthingError as error:
            if self.started is not None and isinstance(error, (DeadlineExceeded, DeadlineTooShort)):
                return Ended(stop=Stop.DEADLINE)
            return Ended(error=error)

    async def _generate(self, engine: Engine) -> Ended:
        async with engine.generate(self.job) as events:
            async for event in events:
                match event:
                    case Chunk():
                        self.tally.add(event)
                        if event.text:  # without text it only says how much of the prompt was read
                            await self.outgoing.chunk(event)
                    case Started():
                        self.started = replace(event, queue_s=self.waited_s)
                        await self.outgoing.started(self.started)
                    case Finished():
                        return Ended(finished=event)
        raise InternalError("internal")
