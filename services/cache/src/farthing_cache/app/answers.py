"""Answers to equal requests: look up, keep, forget."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, TypeVar

from farthing_cache.app.recorder import Recorder
from farthing_cache.domain.admission import Verdict, admit
from farthing_cache.domain.answer import CacheKey, Entry, Epoch, Extent, Offer, Org, Wanted
from farthing_cache.domain.counts import Counts
from farthing_cache.domain.errors import AnswerTooLarge
from farthing_cache.domain.lifetime import Lifetime
from farthing_cache.domain.neighbours import Place
from farthing_cache.domain.refresh import EarlyRefresh
from farthing_cache.domain.worth import cost_nano_usd
from farthing_cache.ports import Announcer, AnswerStore, Claiming, Found, Meter
from farthing_kit.errors import StoreUnavailable

T = TypeVar("T")
TOKEN_BYTES: Final = 16
# No entry has so high a tier.
NOTHING: Final = Wanted(min_tier=1 << 16)


@dataclass(frozen=True)
class AnswerCache:
    """Answers that were given before, by organisation."""

    store: AnswerStore
    announcer: Announcer
    meter: Meter
    lifetime: Lifetime
    refresh: EarlyRefresh
    entry_limit_bytes: int
    recorder: Recorder
    fraction: Callable[[], float]
    counts: Counts = field(default_factory=Counts)

    async def look_up(
        self, org: Org, key: CacheKey, wanted: Wanted, *, claim: bool = False, prefix: bytes = b""
    ) -> Found:
        """Where the organisation stands, and an answer to exactly this request if a wanted one is kept; else, with
        `claim`, who makes it."""
        claiming = (
            Claiming(secrets.token_bytes(TOKEN_BYTES), self.refresh.lead_per_second(self.fraction())) if claim else None
        )
        found = await self._counted(self.store.find(org, key, wanted, claiming))
        self._count_look_up(found)
        self.recorder.looked_up(org, key, found.entry, prefix)
        return found

    async def stands(self, org: Org, key: CacheKey) -> Found:
        """Where the organisation stands, for a request that wants no kept answer."""
        found = await self._counted(self.store.find(org, key, NOTHING))
        self._count_look_up(found)
        return replace(found, entry=None)

    async def take(self, org: Org, place: Place, entry_id: bytes, wanted: Wanted) -> Entry | None:
        """The entry of a request that means the same as another."""
        return await self._counted(self.store.take(org, place, entry_id, wanted))

    async def keep(self, org: Org, key: CacheKey, offer: Offer, epoch: Epoch) -> Verdict:
        """Keep a complete answer, unless what it belongs to was forgotten since its look-up."""
        if offer.answer.size_bytes > self.entry_limit_bytes:
            raise AnswerTooLarge.of(offer.answer.size_bytes, self.entry_limit_bytes)
        verdict = admit(offer.answer.text)
        if verdict is Verdict.KEPT:
            life = self.lifetime.of(offer.time_to_live, self.fraction())
            # An answer from the future (the caller's clock is ahead) would never be too old for anybody's max_age.
            offer = replace(offer, time_to_live=life, age=max(offer.age, timedelta(0)))
            verdict, evicted = await self._counted(self.store.keep(org, key, offer, epoch))
            self.counts.evictions += evicted
        if verdict is Verdict.KEPT:
            self.recorder.stored(org, key, cost_nano_usd(offer.cost_nano_usd, offer.answer.usage.total))
        self.counts.stores += verdict is Verdict.KEPT
        self.meter.stored(kept=verdict is Verdict.KEPT)
        return verdict

    async def forget(self, org: Org, extent: Extent, idempotency_key: str) -> Epoch:
        """Forget, and tell the gateways. A repetition tells them again: the first word may have been lost."""
        epoch = await self._counted(self.store.forget(org, extent, idempotency_key))
        self.counts.invalidations += 1
        await self.announcer.forgotten(org)
        return epoch

    async def _counted(self, step: Awaitable[T]) -> T:
        try:
            return await step
        except StoreUnavailable:
            self.counts.store_errors += 1
            self.meter.failed()
            raise

    def _count_look_up(self, found: Found) -> None:
        hit = found.entry is not None
        self.counts.hits += hit
        self.counts.misses += not hit
        self.meter.looked_up(hit=hit)
        if found.claim is not None:
            self.counts.led += found.claim.lease is not None
            self.counts.followed += found.claim.follow
            self.counts.takeovers += found.claim.takeover
            self.meter.claimed("takeover" if found.claim.takeover else "follow" if found.claim.follow else "lead")
