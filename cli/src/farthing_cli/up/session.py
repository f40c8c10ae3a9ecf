"""One mesh from start to stop, and what is done with it in between."""

import asyncio
import contextlib
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from farthing_cli import keys, replay, report, tenants
from farthing_cli.console import Console, say_lines
from farthing_cli.errors import CliError
from farthing_cli.mesh import Mesh, find
from farthing_cli.replay import Load
from farthing_cli.state import RunningMesh, StateFolder
from farthing_cli.up.children import LocalMesh
from farthing_cli.up.options import UpOptions
from farthing_cli.up.parts import Status
from farthing_cli.up.supervisor import Supervisor
from farthing_cli.up.table import LiveTable, write
from farthing_kit.local.process import LocalError
from farthing_kit.local.wheels import config_dir

BOOKED_WITHIN_S = 60.0
POLL_S = 0.25

Body = Callable[["Session"], Awaitable[None]]


async def serve(options: UpOptions, console: Console, body: Body) -> None:
    """Start a mesh, run `body` with it, stop it; nothing is left afterwards, whatever happens in between."""
    with _stop_on_signals():
        try:
            async with _mesh(options, console) as session:
                await body(session)
        except LocalError as error:
            raise CliError(str(error)) from None
        except asyncio.CancelledError:
            console.print("stopped")


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP stop the mesh as Ctrl-C does: by cancelling this task."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    yield


@asynccontextmanager
async def _mesh(options: UpOptions, console: Console) -> "AsyncIterator[Session]":
    folder = StateFolder(options.state)
    folder.prepare()
    with folder.lock():
        watch = Watch(folder, console)
        supervisor = Supervisor(LocalMesh(options, folder).parts(), watch.changed)
        watch.statuses = supervisor.statuses
        try:
            await _bring_up(supervisor, watch, folder)
            yield Session(folder, console, supervisor)
        finally:
            folder.clear_running()
            await supervisor.stop()


class Watch:
    """Shows each change of a part, and keeps it where `farthing status` finds it."""

    def __init__(self, folder: StateFolder, console: Console) -> None:
        self._folder = folder
        self.live = LiveTable(console)
        self.statuses: dict[str, Status] = {}

    def changed(self, status: Status) -> None:
        """A part is in a new state."""
        self.live.changed(status, self.statuses)
        write(self._folder.status_file, self.statuses.values())


async def _bring_up(supervisor: Supervisor, watch: Watch, folder: StateFolder) -> None:
    """Start every part, wait until all are ready, and make the demonstration tenants."""
    with watch.live:
        supervisor.start()
        await supervisor.wait_ready()
    addresses = {name: status.address for name, status in supervisor.statuses.items()}
    mesh = Mesh(addresses["gateway"], addresses["accounting"], folder.mesh_secret_file, folder)
    await _make_tenants(mesh, folder)
    folder.write_running(RunningMesh(os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"), addresses))


async def _make_tenants(mesh: Mesh, folder: StateFolder) -> None:
    """The demonstration tenants, unless the ledger has them as the file says: what was changed by hand since stays."""
    file = config_dir() / "accounting" / "tenants.toml"
    applied, wanted = folder.path / "tenants.sha256", hashlib.sha256(file.read_bytes()).hexdigest()
    if applied.exists() and applied.read_text() == wanted:
        return
    kept = folder.keys()

    def keep(key: keys.NewKey) -> None:
        kept[tenants.name_of(key, kept)] = key.api_key
        folder.write_keys(kept)

    await tenants.apply(mesh, file, show=keep)
    applied.write_text(wanted)


class Session:
    """A mesh that is ready."""

    def __init__(self, folder: StateFolder, console: Console, supervisor: Supervisor) -> None:
        self._folder = folder
        self._console = console
        self._supervisor = supervisor

    @property
    def _mesh(self) -> Mesh:
        return find(self._folder.path)

    def say_how_to_ask(self) -> None:
        """What to type next, in another terminal."""
        state = "" if self._folder.path == Path(".farthing").absolute() else f" --state {self._folder.path}"
        command = f"farthing{state}"
        for line in (
            "",
            f"The mesh is ready at {self._mesh.gateway}. In another terminal (with .venv/bin on the PATH):",
            f'  {command} ask "Which is the largest planet?"',
            f"  {command} report --by tier",
            f"  {command} status",
            "Ctrl-C stops everything.",
        ):
            self._console.print(line, soft_wrap=True)

    async def wait(self) -> None:
        """Wait for Ctrl-C."""
        await asyncio.Event().wait()

    async def replay_and_report(self, load: Load) -> int:
        """Replay the bundled sample, wait until it is booked, show the reports; how many requests failed."""
        requests = replay.read_requests(replay.bundled_sample(), replay.Reading())
        before = (await report.fetch(self._mesh, "tenant", None)).total.requests
        outcome = await replay.replay(self._mesh, requests, load, quiet=False)
        say_lines(replay.sentences(outcome))
        await self._booked(before + len(outcome.answers))
        for by in ("tenant", "tier", "cache"):
            report.show(await report.fetch(self._mesh, by, None), by, self._console)
        say_lines(report.verdict(await report.verify(self._mesh)))
        return outcome.failures.total()

    async def _booked(self, requests: int) -> None:
        """Wait until the ledger has them all: events are folded in batches, a moment after the answer."""
        give_up = time.monotonic() + BOOKED_WITHIN_S
        while (await report.fetch(self._mesh, "tenant", None)).total.requests < requests:
            if time.monotonic() > give_up:
                raise CliError("the ledger did not take all requests in time; see `farthing logs accounting`")
            await asyncio.sleep(POLL_S)
