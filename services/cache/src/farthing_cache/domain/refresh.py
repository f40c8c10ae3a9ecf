"""When a popular answer is made anew before it ends, so that its end is no stampede (XFetch: Vattani and others,
2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

# A random number of exactly 0 would mean: infinitely early.
_SMALLEST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class EarlyRefresh:
    """An answer that was served at least `hot_hits` times is renewed ahead of its end by its making time, times `beta`,
    times an exponential random number: the more callers, the earlier one of them draws a large one. `hot_hits` 0:
    never."""

    hot_hits: int
    beta: float

    def lead_per_second(self, fraction: float) -> float:
        """How far ahead one caller would renew, for each second that making the answer took. `fraction` in [0, 1) is
        random."""
        return self.beta * -math.log(max(1.0 - fraction, _SMALLEST))

    def due(self, *, hits: int, took: timedelta, left: timedelta, lead: float) -> bool:
        """Whether this caller renews."""
        return 0 < self.hot_hits <= hits and left <= took * lead
