"""The table of parts and states, live while the mesh starts, and for `farthing status`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from rich.live import Live

from farthing_cli.console import Console, Table, Text
from farthing_cli.errors import CliError
from farthing_cli.state import write_private
from farthing_cli.up.parts import State, Status

STYLES = {
    State.WAITING: "dim",
    State.STARTING: "yellow",
    State.READY: "green",
    State.RESTARTING: "yellow",
    State.FAILED: "bold red",
    State.STOPPED: "dim",
}


def table(statuses: Iterable[Status]) -> Table:
    """One row for each part."""
    drawn = Table(box=None, pad_edge=False)
    for column in ("part", "state", "address", "pid", "restarts", "ready after", ""):
        drawn.add_column(column)
    for each in statuses:
        state = Text(each.state, style=STYLES[each.state])
        after = f"{each.seconds_to_ready:.1f} s" if each.seconds_to_ready else ""
        drawn.add_row(each.name, state, each.address, str(each.pid or ""), str(each.restarts or ""), after, each.note)
    return drawn


class LiveTable:
    """Shows each change at once: redrawn on a terminal, one line a change elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "LiveTable":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def changed(self, status: Status, statuses: Mapping[str, Status]) -> None:
        """A part is in a new state."""
        if self._live:
            self._live.update(table(statuses.values()), refresh=True)
        elif status.state not in (State.WAITING, State.STOPPED):
            self._console.print(
                f"{status.name}: {status.state} {status.address} {status.note}".rstrip(), soft_wrap=True
            )


def write(path: Path, statuses: Iterable[Status]) -> None:
    """Keep the states where `farthing status` finds them."""
    write_private(path, json.dumps([asdict(each) for each in statuses], indent=2))


def read(path: Path) -> list[Status]:
    """The states as they were last written."""
    try:
        rows = json.loads(path.read_text())
        return [Status(**{**row, "state": State(row["state"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CliError(f"cannot read the states of the mesh in {path}: {error}") from None
