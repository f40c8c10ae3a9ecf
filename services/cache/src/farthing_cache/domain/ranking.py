"""What the guard's threshold is set on: how near a candidate is, unless the verifier objects."""

from __future__ import annotations

import math
from typing import Final

# Below it the verifier's word is enough. Above it, written pairs say little about one category's real questions: there
# the guard learns from labels how near is near enough.
OBJECTION: Final = 0.3
_OBJECTED: Final = 0.1

_HALF: Final = 0.85  # the cosine that ranks as 0.5
_STEEP: Final = 20.0


def ranked(probability: float, cosine: float) -> float:
    """A score within 0 and 1; not a calibrated probability: thresholds on it are learned for each category."""
    near = 1 / (1 + math.exp(-_STEEP * (cosine - _HALF)))
    return near if probability >= OBJECTION else _OBJECTED * probability * near
