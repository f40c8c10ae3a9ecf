"""Ports of the cache that truly work, in memory."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from farthing_cache.domain.admission import Verdict
from farthing_cache.domain.answer import CacheKey, Entry, Epoch, Extent, Mark, Offer, Org, Wanted, labels_of
from farthing_cache.domain.errors import IdempotencyMismatch
from farthing_cache.domain.flight import Claim, Lease
from farthing_cache.domain.hitlog import Record
from farthing_cache.domain.neighbours import Place
from farthing_cache.ports import Claiming, Found
from farthing_kit.clock import Clock
from farthing_kit.errors import StoreUnavailable

LEASE = timedelta(seconds=3)


@dataclass
class _Kept:
    offer: Offer
    mark: int
    kept_at: datetime
    hits: int = 0


class MemoryStore:
    """The AnswerStore port in dictionaries. Passes the contract suite that the Redis store passes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epochs: dict[Org, int] = {}
        self._marks: dict[tuple[Org, int], int] = {}
        self._labels: dict[tuple[Org, int, str], int] = {}
        self._entries: dict[tuple[Org, int, CacheKey], _Kept] = {}
        self._leases: dict[tuple[Org, int, int, CacheKey], datetime] = {}
        self._done: dict[tuple[Org, str], tuple[Extent, Epoch]] = {}
        self.down = False

    async def find(self, org: Org, key: CacheKey, wanted: Wanted, claiming: Claiming | None = None) -> Found:
        self._check()
        epoch = self._epoch(org)
        mark = self._marks.setdefault((org, epoch), 1)
        kept = self._entries.get((org, epoch, key))
        if kept is None or not self._wanted(org, epoch, kept, wanted):
            claim = self._claim((org, epoch, mark, key), claiming) if claiming else None
            return Found(Epoch(epoch), Mark(mark), None, claim)
        kept.hits += 1
        return Found(Epoch(epoch), Mark(mark), self._entry(kept))

    async def take(self, org: Org, place: Place, entry_id: bytes, wanted: Wanted) -> Entry | None:
        return (await self.find(org, replace(place.key, prompt=entry_id), wanted)).entry

    async def keep(self, org: Org, key: CacheKey, offer: Offer, epoch: Epoch) -> tuple[Verdict, int]:
        self._check()
        if self._epochs.get(org) != epoch:
            return Verdict.INVALIDATED, 0
        mark = offer.mark or self._marks[org, epoch]
        if self._forgotten(org, epoch, offer, mark):
            return Verdict.INVALIDATED, 0
        old = self._entries.get((org, epoch, key))
        if old is not None and old.offer.answer.tier > offer.answer.tier and self._alive(org, epoch, old):
            return Verdict.LESSER_TIER, 0
        self._entries[org, epoch, key] = _Kept(offer, mark, self._clock.now(), old.hits if old else 0)
        return Verdict.KEPT, 0

    async def forget(self, org: Org, extent: Extent, idempotency_key: str) -> Epoch:
        self._check()
        done = self._done.get((org, idempotency_key))
        if done is not None and done[0] != extent:
            raise IdempotencyMismatch(idempotency_key)
        if done is None:
            epoch = self._epoch(org)
            if extent.whole:
                self._epochs[org] = epoch = epoch + 1
            else:
                mark = self._marks[org, epoch] = self._marks.get((org, epoch), 1) + 1
                self._labels.update({(org, epoch, label): mark for label in extent.labels})
            self._done[org, idempotency_key] = (extent, Epoch(epoch))
        return self._done[org, idempotency_key][1]

    def lose_epoch(self, org: Org) -> None:
        """As if Redis had evicted it."""
        self._epochs.pop(org, None)

    def _claim(self, flight: tuple[Org, int, int, CacheKey], claiming: Claiming) -> Claim:
        until = self._leases.get(flight)
        if until is not None and until > self._clock.now():
            return Claim(follow=True)
        self._leases[flight] = self._clock.now() + LEASE
        return Claim(Lease(claiming.token, LEASE), takeover=until is not None)

    def _wanted(self, org: Org, epoch: int, kept: _Kept, wanted: Wanted) -> bool:
        young = wanted.max_age is None or self._entry(kept).age < wanted.max_age
        return self._alive(org, epoch, kept) and young and kept.offer.answer.tier >= wanted.min_tier

    def _alive(self, org: Org, epoch: int, kept: _Kept) -> bool:
        return self._entry(kept).time_to_live > timedelta(0) and not self._forgotten(org, epoch, kept.offer, kept.mark)

    def _forgotten(self, org: Org, epoch: int, offer: Offer, mark: int) -> bool:
        return any(self._labels.get((org, epoch, label), 0) > mark for label in labels_of(offer))

    def _entry(self, kept: _Kept) -> Entry:
        since, offer = self._clock.now() - kept.kept_at, kept.offer
        left = (offer.time_to_live or timedelta(days=1)) - since
        return Entry(offer.answer, left, since + offer.age, kept.hits, offer.took, offer.cost_nano_usd)

    def _epoch(self, org: Org) -> int:
        return self._epochs.setdefault(org, round(self._clock.now().timestamp() * 1000))

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("redis is away", retry_after_s=1.0)


class MemoryEvidence:
    """The EvidenceStore port."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Org, int], tuple[int, bytes]] = {}
        self._reports: set[tuple[Org, str]] = set()

    async def load(self, org: Org, category: int) -> tuple[int, bytes]:
        return self.kept.get((org, category), (0, b""))

    async def replace(self, org: Org, category: int, version: int, value: bytes) -> bool:
        if (await self.load(org, category))[0] != version:
            return False
        self.kept[org, category] = (version + 1, value)
        return True

    async def first_report(self, org: Org, report: str) -> bool:
        first = (org, report) not in self._reports
        self._reports.add((org, report))
        return first


class MemoryLog:
    """The LogStore port."""

    def __init__(self) -> None:
        self.records: dict[Org, list[Record]] = {}

    async def append(self, org: Org, records: Sequence[Record], dropped: int) -> None:
        self.records.setdefault(org, []).extend(records)

    async def read(self, org: Org, since_ms: int) -> tuple[list[Record], int]:
        return [record for record in self.records.get(org, []) if record.at_ms >= since_ms], 0


class PlainSecrets:
    """The Secrets port."""

    def secret(self, org: Org, sharers: str, purpose: bytes) -> bytes:
        return hmac.digest(b"a secret", f"{org}\0{sharers}".encode() + purpose, "sha256")

    def entry_id(self, org: Org, key: CacheKey) -> bytes:
        return hmac.digest(self.secret(org, key.sharers, b"entry"), key.prompt, "sha256")[:16]


@dataclass
class MemoryAnnouncer:
    """Remembers what was announced."""

    said: list[Org] = field(default_factory=list)
    error: Exception | None = None

    async def forgotten(self, org: Org) -> None:
        if self.error is not None:
            raise self.error
        self.said.append(org)

    async def erased(self, org: Org) -> None:
        await self.forgotten(org)


@dataclass
class CountingMeter:
    """Remembers what was counted."""

    seen: list[str] = field(default_factory=list)

    def looked_up(self, *, hit: bool) -> None:
        self.seen.append("hit" if hit else "miss")

    def compared(self, outcome: str) -> None:
        self.seen.append(f"compared {outcome}")

    def claimed(self, outcome: str) -> None:
        self.seen.append(f"claimed {outcome}")

    def stored(self, *, kept: bool) -> None:
        self.seen.append("kept" if kept else "late")

    def failed(self) -> None:
        self.seen.append("failed")
