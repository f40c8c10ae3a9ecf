"""The memory of the gateway: recent answers, bounded in bytes, bound to their organisation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from farthing_gateway.domain.answer import Answer

# What an entry takes beside its text: objects, keys and links, measured with CPython 3.11 and rounded up.
ENTRY_OVERHEAD_BYTES: Final = 1024
# Organisations whose invalidations are told apart; beyond, the oldest are forgotten together with their entries.
MAX_ORGS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Ticket:
    """The state of an organisation's partition at one moment. What was asked for before an invalidation must not be
    kept after it: a put needs a ticket that was taken before the answer was looked for."""

    org: str
    era: int
    generation: int


@dataclass(slots=True)
class _Entry:
    answer: Answer
    size_bytes: int
    expires_s: float


class NearCache:
    """Answers by (organisation, key), least recently used first out. Times are seconds of one monotonic clock.

    An organisation can only reach entries under its own name. Lives are absolute: a hit does not prolong them.
    """

    def __init__(self, *, max_bytes: int, max_entry_bytes: int, time_to_live_s: float) -> None:
        self._max_bytes = max_bytes
        self._max_entry_bytes = max_entry_bytes
        self._time_to_live_s = time_to_live_s
        self._entries: OrderedDict[tuple[str, Hashable], _Entry] = OrderedDict()
        self._keys_of: dict[str, set[Hashable]] = {}
        self._generations: dict[str, int] = {}
        self._era = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def ticket(self, org: str) -> Ticket:
        """Proof of the moment: give it back to `put`."""
        return Ticket(org, self._era, self._generations.get(org, 0))

    def get(self, org: str, key: Hashable, now_s: float) -> Answer | None:
        """The answer if it is there and has not expired."""
        entry = self._entries.get((org, key))
        if entry is None:
            return None
        if entry.expires_s <= now_s:
            self._drop(org, key)
            return None
        self._entries.move_to_end((org, key))
        return entry.answer

    def put(self, ticket: Ticket, key: Hashable, answer: Answer, now_s: float, life_s: float) -> bool:
        """Keep an answer for `life_s`, and never longer than the limit of this cache; whether it was kept."""
        org = ticket.org
        size = len(answer.text.encode()) + ENTRY_OVERHEAD_BYTES
        if ticket != self.ticket(org) or size > min(self._max_entry_bytes, self._max_bytes) or life_s <= 0:
            return False
        if (org, key) in self._entries:
            self._drop(org, key)
        self._entries[org, key] = _Entry(answer, size, now_s + min(life_s, self._time_to_live_s))
        self._keys_of.setdefault(org, set()).add(key)
        self.bytes += size
        self._shrink()
        return True

    def discard(self, org: str, key: Hashable) -> None:
        """Drop one entry, if it is there."""
        if (org, key) in self._entries:
            self._drop(org, key)

    def forget(self, org: str) -> None:
        """Drop every entry of an organisation, and refuse what was under way."""
        self._generations[org] = self._generations.get(org, 0) + 1
        for key in list(self._keys_of.get(org, ())):
            self._drop(org, key)
        if len(self._generations) > MAX_ORGS:
            self.clear()

    def clear(self) -> None:
        """Drop everything, and refuse what was under way: invalidations may have been missed."""
        self._era += 1
        self._entries.clear()
        self._keys_of.clear()
        self._generations.clear()
        self.bytes = 0

    def _shrink(self) -> None:
        while self.bytes > self._max_bytes:
            org, key = next(iter(self._entries))
            self._drop(org, key)

    def _drop(self, org: str, key: Hashable) -> None:
        self.bytes -= self._entries.pop((org, key)).size_bytes
        keys = self._keys_of[org]
        keys.discard(key)
        if not keys:
            del self._keys_of[org]
