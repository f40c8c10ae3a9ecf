"""Finds a server for a generation; where none can be used, waits within bounds for one to come back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from farthing_inference.domain.errors import ModelFull, ModelUnavailable
from farthing_inference.domain.fleet import Fleet
from farthing_inference.domain.pools import Placement
from farthing_kit import deadline, tasks
from farthing_kit.clock import Clock
from farthing_kit.telemetry import Log


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long a model that has lost its last server is waited for, and by how many requests at most."""

    restart_s: float = 10.0
    requests: int = 256


class Places:
    """A server that restarts is gone for a second or some: its requests wait for it instead of failing.

    They begin to wait only within `restart_s` of the loss, and each waits that long at most: while a model stays away
    its requests fail at once, and so hold no places that those of other models need.
    """

    def __init__(self, fleet: Fleet, waiting: Waiting, *, clock: Clock, log: Log) -> None:
        self._fleet = fleet
        self._limits = waiting
        self._clock = clock
        self._log = log
        self._lost_s: dict[str, float] = {}
        self._waiting: list[asyncio.Future[None]] = []
        fleet.on_change(self._changed)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    async def find(self, model: str) -> Placement:
        """Where the next generation of the model goes. Raises UnknownModel, ModelFull, or ModelUnavailable when no
        server came back in time or too many wait already."""
        try:
            return self._fleet.choose(model)
        except ModelUnavailable:
            if not self._may_wait(model):
                raise
        return await self._wait(model)

    def _may_wait(self, model: str) -> bool:
        if not self._fleet.may_come_back(model):
            return False
        now = self._clock.monotonic()
        if model not in self._lost_s:
            self._lost_s[model] = now
            self._log.warning("a model has no server; its requests wait for one to come back", model=model)
        return now - self._lost_s[model] < self._limits.restart_s and len(self._waiting) < self._limits.requests

    async def _wait(self, model: str) -> Placement:
        """A server that is back may be full with those who waited: who waits goes on waiting, as long as it may."""
        end = self._clock.monotonic() + self._longest_s()
        while True:
            await self._news(end - self._clock.monotonic())
            try:
                return self._fleet.choose(model)
            except (ModelUnavailable, ModelFull):
                if self._clock.monotonic() >= end:
                    raise

    def _longest_s(self) -> float:
        left = deadline.remaining_s()
        return self._limits.restart_s if left is None else min(self._limits.restart_s, left - deadline.MARGIN_S)

    async def _news(self, limit_s: float) -> None:
        """Until the fleet has changed, or the time is up."""
        change = asyncio.get_running_loop().create_future()
        sleep = tasks.awaited("pause", self._clock.sleep(limit_s))
        self._waiting.append(change)
        try:
            await asyncio.wait({change, sleep}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            self._waiting.remove(change)

    def _changed(self) -> None:
        self._lost_s = {model: since for model, since in self._lost_s.items() if not self._fleet.can_run(model)}
        for change in self._waiting:
            if not change.done():
                change.set_result(None)
