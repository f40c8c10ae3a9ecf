"""What a mesh consists of while it runs: its parts, what each needs, and the state each is in. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"  # for what it needs
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"  # it died; a new one comes
    FAILED = "failed"  # it died too often; given up
    STOPPED = "stopped"


@dataclass(frozen=True)
class Status:
    """A part as `farthing status` shows it."""

    name: str
    state: State = State.WAITING
    address: str = ""
    pid: int = 0
    restarts: int = 0
    seconds_to_ready: float = 0.0
    note: str = ""

    def now(self, state: State, **changes: Any) -> "Status":
        """The same part in another state."""
        return replace(self, state=state, **changes)


@dataclass(frozen=True)
class RestartLimit:
    """How often a part may die before it is given up, and how long to wait before each new start."""

    deaths: int = 5
    within_s: float = 60.0
    first_wait_s: float = 0.25
    longest_wait_s: float = 5.0

    def wait_s(self, deaths_s: Iterable[float], now_s: float) -> float | None:
        """Seconds to wait before the next start; None when the part died too often lately."""
        recent = sum(now_s - death <= self.within_s for death in deaths_s)
        if recent > self.deaths:
            return None
        return float(min(self.longest_wait_s, self.first_wait_s * 2 ** max(0, recent - 1)))


def start_order(needs: Mapping[str, Collection[str]]) -> list[str]:
    """Every part after those that it needs; the order of the mapping otherwise. Raises ValueError on a circle."""
    ordered: list[str] = []
    while len(ordered) < len(needs):
        free = [name for name in needs if name not in ordered and set(needs[name]) <= set(ordered)]
        if not free:
            raise ValueError(f"these need one another: {', '.join(sorted(set(needs) - set(ordered)))}")
        ordered.append(free[0])
    return ordered
