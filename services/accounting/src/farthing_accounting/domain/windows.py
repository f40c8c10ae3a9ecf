"""The stretches of time after which budgets start anew, in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final


class Window(IntEnum):
    """Numbers as in the contract."""

    MINUTE = 1
    DAY = 2
    MONTH = 3


_ID_CHARS: Final = {Window.MINUTE: 16, Window.DAY: 10, Window.MONTH: 7}


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One run of a window: from `start`, up to and without `end`."""

    window: Window
    start: datetime
    end: datetime

    @property
    def id(self) -> str:
        """Such as "2026-11", "2026-11-23" or "2026-11-23T14:05"."""
        return self.start.isoformat()[: _ID_CHARS[self.window]]


def period_of(window: Window, moment: datetime) -> Period:
    """The run of a window that a moment falls into. The moment must have a zone; the period is in UTC."""
    utc = moment.astimezone(UTC)
    match window:
        case Window.MINUTE:
            start = utc.replace(second=0, microsecond=0)
            return Period(window, start, start + timedelta(minutes=1))
        case Window.DAY:
            start = utc.replace(hour=0, minute=0, second=0, microsecond=0)
            return Period(window, start, start + timedelta(days=1))
        case Window.MONTH:
            start = utc.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            return Period(window, start, _next_month(start))


def _next_month(first: datetime) -> datetime:
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
