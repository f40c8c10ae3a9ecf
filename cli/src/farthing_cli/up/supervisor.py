"""Starts the parts of a mesh in the order of their needs, starts again what dies, and stops all of them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from farthing_cli.errors import CliError
from farthing_cli.up.parts import RestartLimit, State, Status, start_order
from farthing_kit import tasks


class Child(Protocol):
    """A process that was started and is ready."""

    @property
    def pid(self) -> int:
        """Its number."""

    async def wait(self) -> int:
        """Wait until it ends; its exit code."""

    async def stop(self) -> None:
        """End it, by force when it does not end by itself in time."""


class Start(Protocol):
    """Starts a part and waits until it is ready."""

    async def __call__(self) -> Child:
        """The running child. Raises when it does not become ready; then nothing of it is left."""


@dataclass(frozen=True)
class Part:
    """One process of the mesh."""

    name: str
    address: str
    needs: tuple[str, ...]
    start: Start


Listener = Callable[[Status], None]


class Supervisor:
    """Owns every part from start to stop. `changed` is called with each new state of a part."""

    def __init__(self, parts: Sequence[Part], changed: Listener, limit: RestartLimit | None = None) -> None:
        order = start_order({part.name: part.needs for part in parts})
        self._parts = {name: next(part for part in parts if part.name == name) for name in order}
        self._changed = changed
        self._limit = limit or RestartLimit()
        self._ready = {name: asyncio.Event() for name in order}
        self._children: dict[str, Child] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed = asyncio.Event()
        self.statuses = {name: Status(name, address=part.address) for name, part in self._parts.items()}

    def start(self) -> None:
        """Begin; returns at once."""
        for part in self._parts.values():
            self._tasks[part.name] = tasks.spawn(f"keep {part.name}", self._keep(part), died=partial(self._lost, part))

    async def wait_ready(self) -> None:
        """Wait until every part was ready once. Raises CliError as soon as one is given up."""
        async with asyncio.TaskGroup() as waits:
            failed = waits.create_task(self._failed.wait())
            ready = waits.create_task(self._all_ready())
            await asyncio.wait((failed, ready), return_when=asyncio.FIRST_COMPLETED)
            given_up = not ready.done()
            failed.cancel()
            ready.cancel()
        if given_up:
            raise CliError(self.complaint())

    async def _all_ready(self) -> bool:
        for event in self._ready.values():
            await event.wait()
        return True

    def complaint(self) -> str:
        """Which parts were given up, and why."""
        given_up = [status for status in self.statuses.values() if status.state is State.FAILED]
        return "; ".join(
            f"{status.name} does not run: {status.note}; see `farthing logs {status.name}`" for status in given_up
        )

    async def stop(self) -> None:
        """Stop every part, those that need others first. Nothing is left afterwards."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for rank in self._stop_ranks():
            await asyncio.gather(*(self._stop_child(name) for name in rank))

    def _stop_ranks(self) -> list[list[str]]:
        """Parts that may be stopped together, dependants before what they need."""
        ranks: list[list[str]] = []
        left = set(self._parts)
        while left:
            needed = {need for name in left for need in self._parts[name].needs}
            ranks.append(sorted(left - needed))
            left -= set(ranks[-1])
        return ranks

    async def _stop_child(self, name: str) -> None:
        child = self._children.pop(name, None)
        if child is not None:
            await child.stop()
        self._set(self.statuses[name].now(State.STOPPED, pid=0))

    async def _keep(self, part: Part) -> None:
        """Keep one part running until cancelled, or until it died too often."""
        await asyncio.gather(*(self._ready[need].wait() for need in part.needs))
        deaths_s: list[float] = []
        while True:
            cause = await self._live(part, first=not deaths_s)
            deaths_s.append(time.monotonic())
            wait_s = self._limit.wait_s(deaths_s, deaths_s[-1])
            never_ready = not self._ready[part.name].is_set()
            if wait_s is None or never_ready:
                self._set(self.statuses[part.name].now(State.FAILED, pid=0, note=cause))
                self._failed.set()
                return
            self._set(self.statuses[part.name].now(State.RESTARTING, pid=0, restarts=len(deaths_s), note=cause))
            await asyncio.sleep(wait_s)

    def _lost(self, part: Part, error: BaseException) -> None:
        """Nobody keeps a part any more: a fault of ours."""
        self._set(self.statuses[part.name].now(State.FAILED, pid=0, note=type(error).__name__))
        self._failed.set()

    async def _live(self, part: Part, *, first: bool) -> str:
        """One life of a part, from start to death; why it ended."""
        begun = time.monotonic()
        if first:
            self._set(self.statuses[part.name].now(State.STARTING))
        try:
            child = await part.start()
        except Exception as error:  # whatever keeps it from starting is shown to the user, and tried again
            return str(error) or type(error).__name__
        self._children[part.name] = child
        took_s = time.monotonic() - begun
        self._set(self.statuses[part.name].now(State.READY, pid=child.pid, seconds_to_ready=took_s))
        self._ready[part.name].set()
        code = await child.wait()
        self._children.pop(part.name, None)
        return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def _set(self, status: Status) -> None:
        self.statuses[status.name] = status
        self._changed(status)
