"""Load shedding: a bound on calls in progress, with the unimportant refused first."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from farthing_kit.context import Priority
from farthing_kit.errors import Overloaded

# The share of the limit that calls of a priority may fill.
SHARES: Final[Mapping[Priority, float]] = {Priority.LOW: 0.8, Priority.NORMAL: 0.95, Priority.HIGH: 1.0}
RETRY_AFTER_S: Final = (0.1, 0.3)


class Shedder:
    """Counts calls in progress and refuses those over their priority's bound with UNAVAILABLE and RetryInfo.

    Not RESOURCE_EXHAUSTED, which clients may not retry (AIP-194): another replica may have room.
    """

    def __init__(self, limit: int, shares: Mapping[Priority, float] = SHARES) -> None:
        self.limit = limit
        self.in_progress = 0
        self._bounds = {priority: max(1, int(limit * share)) for priority, share in shares.items()}

    def enter(self, priority: Priority) -> None:
        """Count a call in, or raise Overloaded. Each call that got in must `leave`."""
        if self.in_progress >= self._bounds[priority]:
            raise self._refusal(priority)
        self.in_progress += 1

    def leave(self) -> None:
        """Count a call out."""
        self.in_progress -= 1

    def _refusal(self, priority: Priority) -> Overloaded:
        return Overloaded(
            "this replica has more calls than it can answer in time; try again shortly",
            metadata={
                "in_flight": str(self.in_progress),
                "limit": str(self._bounds[priority]),
                "priority": priority.name,
            },
            retry_after_s=round(random.uniform(*RETRY_AFTER_S), 3),
        )
