"""Vectors in Redis: a log for each partition, which replicas read along, beside the entries themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis import scripts
from farthing_cache.adapters.redis.client import RedisClient
from farthing_cache.domain.answer import Epoch, Org
from farthing_cache.domain.neighbours import Candidate, News, Place, Rows


class RedisNeighbours:
    """The NeighbourStore port, one round trip a method. Plain hashes and streams: Redis 7 suffices."""

    def __init__(self, client: RedisClient, names: KeyNames) -> None:
        self._client = client
        self._names = names
        self._news = client.script(scripts.NEWS)
        self._candidates = client.script(scripts.CANDIDATES)

    async def news(self, org: Org, place: Place, after: str, limit: int) -> News:
        names = self._names
        args = [names.partition(org), names.vectors_suffix(org, place.key, place.encoder), after, limit]
        epoch, now, *told = await self._client.ask(lambda: self._news(keys=[names.state(org)], args=args))
        last, read_to, packed = told or (b"", b"", b"")
        return News(Epoch(int(epoch)), int(now), last.decode(), read_to.decode() or after, _rows(packed))

    async def candidates(self, org: Org, place: Place, epoch: Epoch, ids: Sequence[bytes]) -> list[Candidate | None]:
        names = self._names
        args = [names.partition(org), names.compatibility(org, place.key), epoch, *(one.hex() for one in ids)]
        said = await self._client.ask(lambda: self._candidates(keys=[names.state(org)], args=args))
        return [_candidate(one_id, one) for one_id, one in zip(ids, said, strict=True)]


def _rows(packed: bytes) -> Rows | None:
    """What the script packed: the dimension, then row after row."""
    if not packed:
        return None
    dimension = int.from_bytes(packed[:4], "little")
    parts = [("id", "u8", 2), ("ends", "<f8"), ("worth", "<f4"), ("tier", "i1"), ("vector", "i1", dimension)]
    rows = np.frombuffer(packed, np.dtype(parts), offset=4)
    return Rows(rows["id"], rows["vector"], rows["ends"], rows["worth"], rows["tier"])


def _candidate(one_id: bytes, said: Any) -> Candidate | None:
    if not said or said[0] is None:
        return None
    vector, profile, tier, age, left = said
    return Candidate(one_id, vector, profile, int(tier), timedelta(milliseconds=age), timedelta(milliseconds=left))
