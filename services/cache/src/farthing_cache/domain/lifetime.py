"""How long an answer is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

MIN_TIME_TO_LIVE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The limit of the service, and the share of it by which entries of one moment are spread.

    The life of an entry is absolute: no hit ever prolongs it, or a popular stale answer would live for ever. Jitter
    only shortens, so that no answer outlives what its policy allows.
    """

    limit: timedelta
    jitter: float

    def of(self, requested: timedelta | None, fraction: float) -> timedelta:
        """The life of one entry. `fraction` in [0, 1) is random; None asks for the limit."""
        wanted = self.limit if requested is None else min(requested, self.limit)
        return max(wanted * (1 - self.jitter * fraction), MIN_TIME_TO_LIVE)
