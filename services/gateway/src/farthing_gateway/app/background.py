"""Work that nobody waits for: bounded, owned, and finished before the gateway stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from farthing_kit import deadline, tasks
from farthing_kit.errors import ContextInvalid, FarthingError, InvalidArgument, PermissionDenied
from farthing_kit.telemetry import Log


class Tasks:
    """Tasks that have an owner: begun while there is room, and ended before the gateway stops."""

    def __init__(self, *, limit: int, drain_s: float) -> None:
        self._limit = limit
        self._drain_s = drain_s
        self._running: set[asyncio.Task[None]] = set()

    @property
    def are_enough(self) -> bool:
        """Whether no more may begin now."""
        return len(self._running) >= self._limit

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which handles its own failures."""
        task = tasks.spawn(name, work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def drain(self) -> None:
        """Give those under way a moment; what takes longer is stopped, and ends as it does when it is cancelled."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=self._drain_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)


class Background:
    """Runs what a request leaves behind (storing an answer, giving a reservation back) after the request has ended.

    More than `limit` pieces at once are dropped and logged: they save money or free it early, no answer depends on
    them.
    """

    def __init__(self, *, limit: int, timeout_s: float, log: Log) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` within the time limit, under the current request context. Its failures are logged."""
        if len(self._tasks) >= self._limit:
            work.close()
            self._log.warning("too much work in the background; dropped", task=name, limit=self._limit)
            return
        task = tasks.spawn(name, self._run(name, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait for what is under way; each piece has its time limit."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        deadline.set_remaining(self._timeout_s)  # its own, not what is left of the request's
        try:
            async with asyncio.timeout(self._timeout_s):
                await work
        except (FarthingError, TimeoutError) as error:
            self._missed(name, error)
        except Exception as error:
            self._log.error("background work failed", exception=error, task=name)

    def _missed(self, name: str, error: FarthingError | TimeoutError) -> None:
        """An outage would write a line for each request, and is seen elsewhere; a refusal is a defect of ours."""
        reason = error.reason_name if isinstance(error, FarthingError) else "timeout"
        refused = isinstance(error, InvalidArgument | PermissionDenied | ContextInvalid)
        write = self._log.warning if refused else self._log.debug
        write("background work failed", task=name, reason=reason)
