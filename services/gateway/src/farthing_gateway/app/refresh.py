"""Refreshing ahead: an answer that is often asked for is made anew before it ends, so that nobody waits for it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from farthing_gateway.app.background import Tasks
from farthing_gateway.app.caches import Caches, Made
from farthing_gateway.app.flights import Flights, Leading
from farthing_gateway.app.generation import Call, Calls, Work
from farthing_gateway.app.judgement import Judgement
from farthing_gateway.app.models import Models
from farthing_gateway.app.request import Request
from farthing_gateway.ports import Chunk, Found
from farthing_kit import deadline
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError
from farthing_kit.telemetry import Log

SUFFIX: Final = "-refresh"
TAGS: Final = {"farthing-purpose": "refresh"}
DRAIN_S: Final = 3.0


@dataclass(frozen=True)
class Refreshes:
    """Makes answers anew under the lease that came with a hit: at low priority, under an id and a reservation of its
    own, charged to the organisation and tagged. At most `at_once`; beyond, the lease is given up for somebody else."""

    calls: Calls
    models: Models
    judgement: Judgement
    caches: Caches
    flights: Flights
    clock: Clock
    log: Log
    at_once: int = 2
    timeout_s: float = 120.0
    _tasks: Tasks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tasks", Tasks(limit=self.at_once, drain_s=DRAIN_S))

    def consider(self, request: Request, found: Found) -> None:
        """Begin, if the look-up that found an answer gave a lease with it."""
        if found.answer is None or not found.lease:
            return
        own = request.aside(SUFFIX, TAGS, self.clock.monotonic(), self.clock.now())
        leading = self.flights.leading(own, found)
        if self._tasks.are_enough:
            leading.close()
            return
        self._tasks.begin("refresh", self._run(own, found, found.answer.model, leading))

    async def drain(self) -> None:
        """Give those under way a moment; what takes longer is stopped, and what it reserved is given back."""
        await self._tasks.drain()

    async def _run(self, own: Request, found: Found, model: str, leading: Leading) -> None:
        deadline.set_remaining(self.timeout_s)  # its own, not what is left of the request's
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._refreshed(own, found, model, leading)
        except (FarthingError, TimeoutError) as error:
            self.log.debug("an answer was not refreshed", kind=type(error).__name__)
        except Exception as error:
            self.log.error("a refresh failed", exception=error)
        finally:
            leading.close()

    async def _refreshed(self, own: Request, found: Found, name: str, leading: Leading) -> None:
        catalogue = await self.models.catalogue()
        model = catalogue.model(name)
        if model is None or not model.available:
            return
        analysis = await self.judgement.analyze(own)  # what is kept anew is to be found by its meaning too
        async with self.calls.begin(Work(own, model, analysis), catalogue) as call:
            await _spoken(call, leading)
            took_s = self.clock.monotonic() - own.arrived_s
            if self.caches.keep(own, Made(call.answer(), call.costs.cost, took_s), found, analysis):
                leading.stored()
            else:
                leading.finish(call.answer())


async def _spoken(call: Call, leading: Leading) -> None:
    async with aclosing(call.steps()) as steps:
        async for step in steps:
            if isinstance(step, Chunk):
                leading.say(step.text)
