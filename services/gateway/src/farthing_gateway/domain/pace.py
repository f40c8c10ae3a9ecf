"""How fast budgets go, and what that does to what is aimed at."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from farthing_kit.money import NanoUsd

# Up to this pace the budget lasts, and nothing changes.
LASTS: Final = 1.0
# From this pace on, the budget would be gone at half time: the floor is as low as it gets.
GONE_AT_HALF_TIME: Final = 2.0
# A pace that was seen longer ago says nothing about now.
KEPT_S: Final = 600.0
MAX_KEYS: Final = 10_000


def paced_floor(floor: float, least: float, pace: float) -> float:
    """The quality floor under a pace: as set while the budget lasts, then falling in a straight line to `least` at the
    pace at which the budget would be gone at half time."""
    if pace <= LASTS or floor <= least:
        return floor
    haste = min((pace - LASTS) / (GONE_AT_HALF_TIME - LASTS), 1.0)
    return max(floor - haste * (floor - least), least)


def paced_target(target: NanoUsd, pace: float) -> NanoUsd:
    """The spending target under a pace: what the budget lasts for, but at least half."""
    return NanoUsd(round(target / min(max(pace, LASTS), GONE_AT_HALF_TIME)))


class Paces:
    """The pace of each API key's budgets, as the last Reserve told it. Those of a key, not of its organisation: the
    budgets of its team and user are among them. Times are seconds of one monotonic clock."""

    def __init__(self, *, limit: int = MAX_KEYS, kept_s: float = KEPT_S) -> None:
        self._limit = limit
        self._kept_s = kept_s
        self._paces: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paces)

    def remember(self, key_id: str, pace: float, now_s: float) -> None:
        """What accounting said last."""
        self._paces[key_id] = (pace, now_s)
        self._paces.move_to_end(key_id)
        if len(self._paces) > self._limit:
            self._paces.popitem(last=False)

    def of(self, key_id: str, now_s: float) -> float:
        """The pace; 0 when it is not known, or no money budget applies."""
        pace, seen_s = self._paces.get(key_id, (0.0, now_s))
        return pace if now_s - seen_s < self._kept_s else 0.0
