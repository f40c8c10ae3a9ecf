"""Remembers look-ups for analysis, off the path of calls: gathered in memory, written at a pace."""

from __future__ import annotations

import hmac
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from farthing_cache.domain.answer import CacheKey, Entry, Org
from farthing_cache.domain.hitlog import DIGEST_BYTES, NOBODY, VETOES, Event, Outcome, Record
from farthing_cache.ports import LogStore, Secrets
from farthing_kit.clock import Clock
from farthing_kit.errors import StoreUnavailable

PURPOSE: Final = b"analysis"
# Records in memory, over all organisations; beyond, they are only counted.
LIMIT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of a look-up by meaning."""

    outcome: Outcome
    veto: str
    near: bytes
    similarity: float
    score: float
    cost_nano_usd: int


class Recorder:
    """What happened in this replica and is not written yet."""

    def __init__(self, store: LogStore, secrets: Secrets, clock: Clock, *, pace_s: float) -> None:
        self._store = store
        self._secrets = secrets
        self._clock = clock
        self._pace_s = pace_s
        self._records: defaultdict[Org, list[Record]] = defaultdict(list)
        self._dropped: defaultdict[Org, int] = defaultdict(int)
        self._count = 0

    def looked_up(self, org: Org, key: CacheKey, entry: Entry | None, prefix: bytes) -> None:
        """An exact look-up found an entry, or none."""
        event, cost = (Event.EXACT, entry.cost_nano_usd) if entry is not None else (Event.MISS, 0)
        before = self._digest(org, prefix) if prefix else NOBODY
        self._add(org, key, event, prefix=before, cost_nano_usd=cost)

    def compared(self, org: Org, key: CacheKey, what: Compared) -> None:
        """A look-up by meaning."""
        self._add(
            org,
            key,
            Event.SEMANTIC,
            outcome=what.outcome,
            veto=VETOES[what.veto],
            near=what.near[:DIGEST_BYTES] or NOBODY,
            similarity=what.similarity,
            score=what.score,
            cost_nano_usd=what.cost_nano_usd,
        )

    def stored(self, org: Org, key: CacheKey, cost_nano_usd: int) -> None:
        """An answer was kept."""
        self._add(org, key, Event.STORE, cost_nano_usd=cost_nano_usd)

    def erase(self, org: Org) -> None:
        """Forget what was gathered of an organisation."""
        self._count -= len(self._records.pop(org, ()))
        self._dropped.pop(org, None)

    async def keep_writing(self) -> None:
        """Write what was gathered, at a pace; runs until cancelled."""
        while True:
            await self._clock.sleep(self._pace_s)
            await self.write()

    async def write(self) -> None:
        """Write what was gathered. What a store that is away does not take is counted as dropped."""
        records, self._records, self._count = self._records, defaultdict(list), 0
        dropped, self._dropped = self._dropped, defaultdict(int)
        for org in {*records, *dropped}:
            try:
                await self._store.append(org, records[org], dropped[org])
            except StoreUnavailable:
                self._dropped[org] += dropped[org] + len(records[org])

    def _add(self, org: Org, key: CacheKey, event: Event, **more: object) -> None:
        if self._count >= LIMIT:
            self._dropped[org] += 1
            return
        self._count += 1
        place = self._digest(org, key.compatibility + key.sharers.encode())
        at_ms = int(self._clock.now().timestamp() * 1000)
        prompt = self._secrets.entry_id(org, key)[:DIGEST_BYTES]
        record = Record(event, at_ms, prompt, place, **more)  # type: ignore[arg-type]
        self._records[org].append(record)

    def _digest(self, org: Org, value: bytes) -> bytes:
        return hmac.digest(self._secrets.secret(org, "", PURPOSE), value, "sha256")[:DIGEST_BYTES]
