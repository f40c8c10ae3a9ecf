"""Answers in Redis."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from farthing.cache.v1.cache_service_pb2 import CachedAnswer
from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis import scripts
from farthing_cache.adapters.redis.client import RedisClient
from farthing_cache.adapters.redis.unheard import Unheard
from farthing_cache.adapters.redis.vector_sets import VectorSets
from farthing_cache.domain.admission import Verdict
from farthing_cache.domain.answer import CacheKey, Entry, Epoch, Extent, Kept, Mark, Offer, Org, Wanted, labels_of
from farthing_cache.domain.errors import IdempotencyMismatch
from farthing_cache.domain.flight import Claim, Lease
from farthing_cache.domain.neighbours import Place, narrow
from farthing_cache.domain.refresh import EarlyRefresh
from farthing_cache.domain.worth import cost_nano_usd, value_per_byte
from farthing_cache.ports import Claiming, Found
from farthing_cache.wire import answer_from_message, answer_to_message

IDEMPOTENCY_WINDOW: Final = timedelta(days=1)
# Labels of one organisation that may be invalidated within an epoch; beyond, everything is forgotten instead.
MAX_LABELS: Final = 10_000


class RedisAnswers:
    """The AnswerStore port, one round trip a method. Vectors go into the logs that replicas read along, or, with
    `sets`, there: two more round trips of `keep`."""

    def __init__(
        self,
        client: RedisClient,
        names: KeyNames,
        *,
        longest_life: timedelta,
        lease_time_to_live: timedelta,
        max_leaders: int,
        refresh: EarlyRefresh,
        sets: VectorSets | None = None,
    ) -> None:
        self._client = client
        self._names = names
        self._longest_life = longest_life
        self._lease = lease_time_to_live
        self._max_leaders = max_leaders
        self._refresh = refresh
        self._sets = sets
        self.unheard = Unheard(client, names)
        self._find = client.script(scripts.FIND)
        self._keep = client.script(scripts.KEEP)
        self._forget = client.script(scripts.FORGET)

    async def find(self, org: Org, key: CacheKey, wanted: Wanted, claiming: Claiming | None = None) -> Found:
        return await self._found(org, self._names.entry_suffix(org, key), wanted, claiming)

    async def take(self, org: Org, place: Place, entry_id: bytes, wanted: Wanted) -> Entry | None:
        suffix = f"{self._names.compatibility(org, place.key)}:{entry_id.hex()}"
        return (await self._found(org, suffix, wanted, None)).entry

    async def _found(self, org: Org, suffix: str, wanted: Wanted, claiming: Claiming | None) -> Found:
        args = [
            self._names.partition(org),
            suffix,
            millis(wanted.max_age) if wanted.max_age is not None else 0,
            wanted.min_tier,
            claiming.refresh_lead if claiming else -1,
            self._refresh.hot_hits,
            claiming.token if claiming else b"",
            millis(self._lease),
            self._max_leaders,
            self._names.void(org, claiming.token) if claiming else "",
        ]

        def step() -> Awaitable[Any]:
            return self._find(keys=[self._names.state(org)], args=args)

        heard = self.unheard.heard(org, suffix, claiming.token, step) if claiming else self._client.ask(step)
        found = await heard
        claim = self._claim(found[2], claiming)
        return Found(Epoch(int(found[0])), Mark(int(found[1])), _entry(found[3:]) if len(found) > 3 else None, claim)

    async def keep(self, org: Org, key: CacheKey, offer: Offer, epoch: Epoch) -> tuple[Verdict, int]:
        names = self._names
        prefix, suffix = f"{names.partition(org)}:{epoch}", names.entry_suffix(org, key)
        value = answer_to_message(offer.answer).SerializeToString()
        size = len(value) + (len(offer.meaning.profile) + len(offer.meaning.embedding) if offer.meaning else 0)
        cost = cost_nano_usd(offer.cost_nano_usd, offer.answer.usage.total)
        labels = b" ".join(names.label(org, label).encode() for label in labels_of(offer))
        args = [
            *(
                epoch,
                offer.mark,
                value,
                offer.answer.tier,
                labels,
                millis(offer.time_to_live or self._longest_life),
                max(0, millis(offer.age)),
            ),
            *(millis(offer.took), cost, value_per_byte(cost, size), suffix, int(self._client.full), size),
            millis(self._longest_life),
            *(self._meaning(org, key, prefix, offer.meaning) if offer.meaning else ()),
        ]
        keys = [names.state(org), f"{prefix}:{suffix}", f"{prefix}:worth"]
        verdict, evicted = await self._client.ask(lambda: self._keep(keys=keys, args=args))
        if self._sets is not None and offer.meaning is not None and int(verdict) == Verdict.KEPT:
            await self._sets.add(org, key, epoch, offer.meaning)
        return Verdict(int(verdict)), int(evicted)

    async def forget(self, org: Org, extent: Extent, idempotency_key: str) -> Epoch:
        keys = [self._names.state(org), self._names.done(org, idempotency_key)]
        labels = [self._names.label(org, label) for label in extent.labels]
        args = [millis(IDEMPOTENCY_WINDOW), MAX_LABELS, self._names.extent(org, extent), *labels]
        epoch = await self._client.ask(lambda: self._forget(keys=keys, args=args))
        if epoch is None:
            raise IdempotencyMismatch(idempotency_key)
        return Epoch(int(epoch))

    def _meaning(self, org: Org, key: CacheKey, prefix: str, kept: Kept) -> tuple[Any, ...]:
        log = f"{prefix}:{self._names.vectors_suffix(org, key, kept.encoder)}" if self._sets is None else ""
        vector = np.frombuffer(kept.embedding, "<f4")
        exact = vector.astype("<f2").tobytes()
        return log, narrow(vector).tobytes(), exact, kept.profile, self._names.entry_id(org, key)

    def _claim(self, said: bytes, claiming: Claiming | None) -> Claim | None:
        if claiming is None or not said:
            return None
        if said == b"follow":
            return Claim(follow=True)
        return Claim(Lease(claiming.token, self._lease), takeover=said == b"takeover")


def millis(span: timedelta) -> int:
    """Whole milliseconds, at least one of anything that is not nothing."""
    found = round(span.total_seconds() * 1000)
    return found if found or not span else 1


def _entry(fields: list[Any]) -> Entry | None:
    value, left, age, hits, took, cost = fields
    try:
        message = CachedAnswer.FromString(value)
    except DecodeError:
        return None  # written by something else: as good as not there
    return Entry(
        answer_from_message(message),
        timedelta(milliseconds=left),
        age=timedelta(milliseconds=age),
        hits=int(hits),
        took=timedelta(milliseconds=int(took)),
        cost_nano_usd=int(cost),
    )
