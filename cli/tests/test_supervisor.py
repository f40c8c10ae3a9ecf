"""The supervisor, with real child processes."""

import asyncio
import os
import signal
from dataclasses import dataclass, field

import pytest

from farthing_cli.errors import CliError
from farthing_cli.state import is_alive
from farthing_cli.up.parts import RestartLimit, State, Status
from farthing_cli.up.supervisor import Part, Supervisor


class Sleeper:
    """A child that does nothing until it is stopped."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        return await self._process.wait()

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


async def start_sleeper() -> Sleeper:
    return Sleeper(await asyncio.create_subprocess_exec("sleep", "600"))


async def never_ready() -> Sleeper:
    raise RuntimeError("port 1 is taken")


@dataclass
class Changes:
    """Every state that was reported; waits for one."""

    seen: list[Status] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __call__(self, status: Status) -> None:
        self.seen.append(status)
        self._wake = asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self.arrived:
            self.arrived.notify_all()

    async def until(self, name: str, state: State, restarts: int = 0) -> Status:
        def found() -> list[Status]:
            return [each for each in self.seen if (each.name, each.state, each.restarts) == (name, state, restarts)]

        async with self.arrived:
            await asyncio.wait_for(self.arrived.wait_for(lambda: bool(found())), 20)
        return found()[-1]


def part(name: str, *needs: str) -> Part:
    return Part(name, "", needs, start_sleeper)


async def test_parts_become_ready_after_what_they_need_and_nothing_is_left_after_the_stop() -> None:
    changes = Changes()
    supervisor = Supervisor([part("gateway", "redis"), part("redis")], changes)
    supervisor.start()
    await supervisor.wait_ready()
    ready = [each.name for each in changes.seen if each.state is State.READY]
    pids = [each.pid for each in supervisor.statuses.values()]
    await supervisor.stop()
    assert ready == ["redis", "gateway"]
    assert not any(is_alive(pid) for pid in pids)


async def test_what_dies_is_started_again() -> None:
    changes = Changes()
    supervisor = Supervisor([part("redis")], changes, RestartLimit(first_wait_s=0.01))
    supervisor.start()
    await supervisor.wait_ready()
    first = supervisor.statuses["redis"].pid
    os.kill(first, signal.SIGKILL)
    again = await changes.until("redis", State.READY, restarts=1)
    await supervisor.stop()
    assert again.pid != first
    assert any("signal 9" in each.note for each in changes.seen)


async def test_what_dies_too_often_is_given_up_and_the_rest_goes_on() -> None:
    changes = Changes()
    supervisor = Supervisor([part("redis"), part("nats")], changes, RestartLimit(deaths=1, first_wait_s=0.01))
    supervisor.start()
    await supervisor.wait_ready()
    os.kill(supervisor.statuses["redis"].pid, signal.SIGKILL)
    os.kill((await changes.until("redis", State.READY, restarts=1)).pid, signal.SIGKILL)
    await changes.until("redis", State.FAILED, restarts=1)
    assert supervisor.statuses["nats"].state is State.READY
    assert "redis does not run" in supervisor.complaint()
    await supervisor.stop()


async def test_a_part_that_never_becomes_ready_ends_the_wait_with_its_reason() -> None:
    supervisor = Supervisor([Part("redis", "", (), never_ready), part("cache", "redis")], lambda _: None)
    supervisor.start()
    with pytest.raises(CliError, match="port 1 is taken"):
        await supervisor.wait_ready()
    await supervisor.stop()
    assert supervisor.statuses["cache"].state is State.STOPPED
