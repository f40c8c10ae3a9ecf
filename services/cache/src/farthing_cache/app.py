"""The use cases of the cache: look up, keep, forget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from farthing_cache.domain.answer import Answer, CacheKey, Entry, Epoch, Org
from farthing_cache.domain.counts import Counts
from farthing_cache.domain.errors import AnswerTooLarge
from farthing_cache.domain.lifetime import Lifetime
from farthing_cache.ports import Announcer, AnswerStore, Meter
from farthing_kit.clock import Clock
from farthing_kit.errors import StoreUnavailable


@dataclass(frozen=True)
class AnswerCache:
    """Answers that were given before, by organisation."""

    store: AnswerStore
    announcer: Announcer
    meter: Meter
    clock: Clock
    lifetime: Lifetime
    entry_limit_bytes: int
    fraction: Callable[[], float]
    counts: Counts = field(default_factory=Counts)

    async def look_up(self, org: Org, key: CacheKey, max_age: timedelta | None) -> tuple[Epoch, Entry | None]:
        """The epoch of the partition, and an answer to exactly this request if there is one young enough."""
        with self._counting_failures():
            epoch, entry = await self.store.find(org, key)
        if entry is not None and max_age is not None and not entry.answer.is_younger_than(max_age, self.clock.now()):
            entry = None
        self._count_look_up(hit=entry is not None)
        return epoch, entry

    async def keep(self, org: Org, key: CacheKey, answer: Answer, epoch: Epoch, time_to_live: timedelta | None) -> bool:
        """Keep a complete answer, unless the partition was forgotten since `epoch`."""
        if answer.size_bytes > self.entry_limit_bytes:
            raise AnswerTooLarge.of(answer.size_bytes, self.entry_limit_bytes)
        # An answer from the future (the caller's clock is ahead) would never be too old for anybody's max_age.
        answer = replace(answer, created_at=min(answer.created_at, self.clock.now()))
        life = self.lifetime.of(time_to_live, self.fraction())
        with self._counting_failures():
            kept = await self.store.keep(org, key, answer, epoch, life)
        self._count_store(kept=kept)
        return kept

    async def forget(self, org: Org, idempotency_key: str) -> Epoch:
        """Forget a partition, and tell the gateways. A repetition tells them again: the first word may have been
        lost."""
        with self._counting_failures():
            epoch = await self.store.forget(org, idempotency_key)
        self.counts.invalidations += 1
        await self.announcer.forgotten(org)
        return epoch

    @contextmanager
    def _counting_failures(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailable:
            self.counts.store_errors += 1
            self.meter.failed()
            raise

    def _count_look_up(self, *, hit: bool) -> None:
        self.counts.hits += hit
        self.counts.misses += not hit
        self.meter.looked_up(hit=hit)

    def _count_store(self, *, kept: bool) -> None:
        self.counts.stores += kept
        self.meter.stored(kept=kept)
