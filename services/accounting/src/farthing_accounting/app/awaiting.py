"""How long a reservation that expired goes on counting: until no usage of that time can still be on its way."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from farthing_accounting.domain.reservations import NEVER
from farthing_accounting.ports import Progress, Unsettled
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError

# Events of this age that are not booked yet are no sign of trouble.
LAG: Final = timedelta(seconds=30)


class Awaiting:
    """Knows from when on nothing is awaited any more.

    Whoever holds a reservation may be dead, and then nothing will ever be booked for it; or its usage may be in an
    outbox or in the stream, while the books stand still. The books tell the two apart: once they have been current for
    `grace`, whatever was used by somebody whose reservation expired that long ago is in them. While they are not
    current, or it cannot be known, nothing lapses, however long it takes."""

    def __init__(self, progress: Progress, unsettled: Unsettled, clock: Clock, *, grace: timedelta) -> None:
        self._progress = progress
        self._unsettled = unsettled
        self._clock = clock
        self._grace = grace
        self._current_since: datetime | None = None
        self._lapse = NEVER

    @property
    def current(self) -> bool:
        """Whether all usage is booked and settled but that of the last moments."""
        return self._current_since is not None

    def lapse(self) -> datetime:
        """What expired until then is not awaited."""
        return self._lapse

    async def look(self) -> bool:
        """Find out how far the books are; whether they are current."""
        now, until = self._clock.now(), await self._booked_until()
        if until is None or now - until > LAG:
            self._current_since = None
            return False
        self._current_since = self._current_since or now
        if now - self._current_since >= self._grace:
            self._lapse = max(self._lapse, until - self._grace)
        return True

    async def _booked_until(self) -> datetime | None:
        """All that was published before is in the books and, as nothing waits for Redis, in the counters."""
        try:
            until = await self._progress.booked_until()
            return None if await self._unsettled.waiting() else until
        except FarthingError:
            return None
