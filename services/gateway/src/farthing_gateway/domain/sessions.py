"""Which tier each session is on."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from farthing_gateway.domain.model import Tier

MAX_SESSIONS: Final = 100_000


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A session is its user's: another user of the organisation who sends the same id has another session."""

    org: str
    user: str
    session_id: str


@dataclass(slots=True)
class _Entry:
    tier: Tier
    until_s: float


class Sessions:
    """Sessions of this gateway, the one not heard of for longest forgotten first beyond `limit`. Times are seconds of
    one monotonic clock. A restart, or another replica, begins them anew: that costs a prefix cache, not an answer."""

    def __init__(self, *, limit: int = MAX_SESSIONS) -> None:
        self._limit = limit
        self._entries: OrderedDict[SessionKey, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def tier(self, key: SessionKey, now_s: float) -> Tier:
        """The tier that a session is on; UNSPECIFIED when it is new or over."""
        entry = self._entries.get(key)
        if entry is None:
            return Tier.UNSPECIFIED
        if entry.until_s <= now_s:
            del self._entries[key]
            return Tier.UNSPECIFIED
        return entry.tier

    def stay(self, key: SessionKey, tier: Tier, now_s: float, life_s: float) -> None:
        """A request of the session was given to a tier. A lesser one, which stood in, does not take the session down
        with it."""
        tier = max(tier, self.tier(key, now_s))
        self._entries[key] = _Entry(tier, now_s + life_s)
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
