"""The classes of models that a prompt may go to, and what each is worth for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final


class Tier(Enum):
    """A class of models; the words of farthing.type.v1.Tier."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


# The order of every sequence of scores, probabilities and outlooks.
TIERS: Final = (Tier.SMALL, Tier.MEDIUM, Tier.LARGE)

# Below this success of the large tier, the share that the small one misses of it says nothing.
NOBODY_ANSWERS: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one tier is worth: the calibrated probability of an acceptable answer, what the next tier adds to it (0 for
    the last), and the log-odds before calibration."""

    tier: Tier
    success: float
    gain: float
    score: float


def outlooks(scores: Sequence[float], successes: Sequence[float]) -> tuple[Outlook, ...]:
    """One outlook for each of TIERS."""
    gains = [after - before for before, after in pairwise(successes)] + [0.0]
    rows = zip(TIERS, successes, gains, scores, strict=True)
    return tuple(Outlook(tier, success, gain, score) for tier, success, gain, score in rows)


def complexity(tiers: Sequence[Outlook]) -> float:
    """Of prompts like this one that the large tier answers acceptably, the share that the small tier does not."""
    small, large = tiers[0].success, tiers[-1].success
    if large < NOBODY_ANSWERS:
        return 0.0
    return min(1.0, max(0.0, (large - small) / large))
