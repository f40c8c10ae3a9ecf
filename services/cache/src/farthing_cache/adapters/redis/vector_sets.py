"""Partitions as vector sets of Redis 8: for replicas that are not to hold vectors in their own memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis import scripts
from farthing_cache.adapters.redis.client import RedisClient
from farthing_cache.domain.answer import CacheKey, Epoch, Kept, Org
from farthing_cache.domain.neighbours import Int8s, Near, Place
from farthing_kit.errors import StoreUnavailable

SEARCH: Final = "VSIM"
# Elements of a set that are looked at for each one that is added. In a set where as many entries end as begin, one in
# `SAMPLE` elements is then of an entry that has ended; with one alone there would be no limit.
SAMPLE: Final = 3
# More are asked for than are verified: the set's vectors are 8 bits a component, and some of its entries have ended.
MORE: Final = 2
# How widely the graph is searched: among 10,000 random vectors, wider finds little more and takes as much longer.
EXPANSION: Final = 100
# Entries that were met and not there, waiting to be dropped; beyond, they are met again.
LIMIT: Final = 1_000

_Gone = tuple[Org, Place, Sequence[bytes]]


class NoVectorSets(Exception):
    """This Redis has none; the text says what to do."""


class VectorSets:
    """The Nearby port. A set for each partition and epoch, whose elements are named as the entries are; it ends with
    the partition's last entry. Redis says which elements are near, and no more: how near, and whether they are valid,
    is computed from the entries, since scores of one pair move as a set grows, and elements have no life of their own.
    Elements without an entry are dropped when they are met, and by samples."""

    partitions = 0
    vectors = 0
    size_bytes = 0

    def __init__(self, client: RedisClient, names: KeyNames, *, longest_life: timedelta) -> None:
        self._client = client
        self._names = names
        self._life_ms = round(longest_life.total_seconds() * 1000)
        self._tidy = client.script(scripts.TIDY)
        self._gone: asyncio.Queue[_Gone] = asyncio.Queue(LIMIT)

    async def require(self) -> None:
        """Raises NoVectorSets if there are none, StoreUnavailable if that cannot be known now."""
        known = await self._client.command("COMMAND INFO", SEARCH)  # in one: redis-py cannot read that there is none
        if not any(known):
            raise NoVectorSets(
                "FARTHING_CACHE_VECTOR_SETS is on, and this Redis has no vector sets: use Redis 8, or switch it off, "
                "and each replica searches in its own memory"
            )

    async def add(self, org: Org, key: CacheKey, epoch: Epoch, kept: Kept) -> None:
        """Let an entry that was kept be found. Without Redis it is not, and serves equal requests only."""
        place = Place.of(key, kept.encoder)
        element = self._names.prompt(org, key)
        try:
            await self._client.command(*("VADD", self._set(org, place, epoch), "FP32", kept.embedding, element, "CAS"))
            await self._tidied(org, place, self._life_ms, SAMPLE, ())
        except StoreUnavailable:
            return

    async def near(self, org: Org, place: Place, vector: Int8s, count: int, floor: float, min_tier: int) -> Near:
        """The nearest elements. Floor and tier are left to who reads their entries."""
        said = await self._client.command("HGET", self._names.state(org), "e")
        if said is None:
            return Near(Epoch(0), [])
        epoch = Epoch(int(said))
        asked = vector.astype("<f4").tobytes()
        found = await self._client.command(
            *(SEARCH, self._set(org, place, epoch), "FP32", asked, "COUNT", MORE * count, "EF", EXPANSION)
        )
        return Near(epoch, [bytes.fromhex(element.decode()) for element in found])

    def earned(self, org: Org, place: Place, nano_usd: int) -> None:
        """Nothing is held that would have to earn its place."""

    def gone(self, org: Org, place: Place, ids: Sequence[bytes]) -> None:
        """Elements whose entries are not there any more: to be dropped."""
        if not self._gone.full():
            self._gone.put_nowait((org, place, ids))

    def forget(self, org: Org) -> None:
        """A forgotten epoch's sets end by themselves."""

    async def catch_up(self) -> None:
        """Drop what was met and is gone; runs until cancelled."""
        while True:
            org, place, ids = await self._gone.get()
            try:
                await self._tidied(org, place, 0, 0, ids)
            except StoreUnavailable:
                continue  # they are met again

    async def _tidied(self, org: Org, place: Place, life_ms: int, sample: int, ids: Sequence[bytes]) -> None:
        args = [
            self._names.partition(org),
            self._suffix(org, place),
            self._names.compatibility(org, place.key),
            life_ms,
            sample,
            *(one.hex() for one in ids),
        ]
        await self._client.ask(lambda: self._tidy(keys=[self._names.state(org)], args=args))

    def _set(self, org: Org, place: Place, epoch: Epoch) -> str:
        return f"{self._names.partition(org)}:{epoch}:{self._suffix(org, place)}"

    def _suffix(self, org: Org, place: Place) -> str:
        return f"{self._names.vectors_suffix(org, place.key, place.encoder)}:s"
