"""Keeps an eye on every server: checks them in the background, sooner when a request has failed on one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from farthing_inference.domain.errors import ServerFailure
from farthing_inference.domain.fleet import Fleet
from farthing_inference.domain.pools import PoolSpec, ServerAddress
from farthing_inference.ports import Probe
from farthing_kit import tasks
from farthing_kit.clock import Clock
from farthing_kit.telemetry import Log


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often servers are checked: while they answer, and while they do not."""

    up_s: float = 2.0
    down_s: float = 0.5


class Watch:
    """Checks servers for as long as `run` runs. `report` hears when a pool's first server comes or last one goes."""

    def __init__(
        self,
        pools: tuple[PoolSpec, ...],
        fleet: Fleet,
        probe: Probe,
        *,
        clock: Clock,
        log: Log,
        intervals: Intervals = Intervals(),
        report: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        self._pools = pools
        self._fleet = fleet
        self._probe = probe
        self._clock = clock
        self._log = log
        self._intervals = intervals
        self._report = report
        self._reported: dict[str, bool] = {}
        self._suspected = {server: asyncio.Event() for pool in pools for server in pool.servers}

    async def check_all(self) -> None:
        """Check every server once, all at the same time: before the first request is taken."""
        async with asyncio.TaskGroup() as group:
            for pool in self._pools:
                for server in pool.servers:
                    group.create_task(self.check(pool, server))
        await self._tell()

    async def run(self) -> None:
        """Check for ever."""
        async with asyncio.TaskGroup() as group:
            for pool in self._pools:
                for server in pool.servers:
                    group.create_task(self._watch(pool, server))

    def suspect(self, server: ServerAddress) -> None:
        """Have a server checked now: a request has failed there."""
        self._suspected[server].set()

    async def check(self, pool: PoolSpec, server: ServerAddress) -> None:
        """Check one server once. A model that comes, or comes back, is not used before its control tokens are known."""
        before = self._fleet.health(server)
        try:
            ready = await self._probe.ready_models(server, [model.triton_model for model in pool.models])
            known = before.ready_models if before.up else frozenset()
            fresh = [model for model in pool.models if model.triton_model in ready - known]
            tokens = {model.name: await self._probe.control_tokens(server, model) for model in fresh}
        except ServerFailure:
            self._fleet.failed(server)
        else:
            self._fleet.answered(server, ready, tokens)
        after = self._fleet.health(server)
        if (before.up, before.ready_models) != (after.up, after.ready_models):
            state = "up" if after.up else "down"
            self._log.info(
                "a server changed", server=server, pool=pool.name, state=state, count=len(after.ready_models)
            )

    async def _watch(self, pool: PoolSpec, server: ServerAddress) -> None:
        while True:
            await self._pause(server)
            await self.check(pool, server)
            await self._tell()

    async def _pause(self, server: ServerAddress) -> None:
        """Until the next check is due, or the server is suspected."""
        suspected = self._suspected[server]
        health = self._fleet.health(server)
        doubtful = not health.up or health.failures > 0
        sleep = tasks.awaited("pause", self._clock.sleep(self._intervals.down_s if doubtful else self._intervals.up_s))
        alarm = tasks.awaited("alarm", suspected.wait())
        try:
            await asyncio.wait({sleep, alarm}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            alarm.cancel()
            suspected.clear()

    async def _tell(self) -> None:
        for status in self._fleet.pools():
            name, up = status.spec.name, status.servers_up > 0
            if self._reported.get(name) is not up:
                self._reported[name] = up
                await self._report(name, up)
