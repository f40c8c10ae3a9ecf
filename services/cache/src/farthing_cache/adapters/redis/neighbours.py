"""Vectors in Redis: a log for each partition, which replicas read along, beside the entries themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis import scripts
from farthing_cache.adapters.redis.client import RedisClient
from farthing_cache.domain.answer import Epoch, Org
from farthing_cache.domain.neighbours import Candidate, News, Place, Row


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
        said = await self._client.ask(lambda: self._news(keys=[names.state(org)], args=args))
        rows = [(one[0].decode(), _row(one[1])) for one in said[3]] if len(said) > 3 else []
        return News(
            epoch=Epoch(int(said[0])),
            now_ms=int(said[1]),
            last=said[2].decode(),
            read_to=rows[-1][0] if rows else after,
            rows=[row for _, row in rows if row is not None],
        )

    async def candidates(self, org: Org, place: Place, epoch: Epoch, ids: Sequence[bytes]) -> list[Candidate | None]:
        names = self._names
        args = [names.partition(org), names.compatibility(org, place.key), epoch, *(one.hex() for one in ids)]
        said = await self._client.ask(lambda: self._candidates(keys=[names.state(org)], args=args))
        return [_candidate(one_id, one) for one_id, one in zip(ids, said, strict=True)]


def _row(fields: Sequence[bytes]) -> Row | None:
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        return Row(named[b"i"], named[b"v"], int(named[b"x"]), float(named[b"w"]), int(named[b"t"]))
    except (KeyError, ValueError):
        return None


def _candidate(one_id: bytes, said: Any) -> Candidate | None:
    if not said or said[0] is None:
        return None
    vector, profile, tier, age, left = said
    return Candidate(one_id, vector, profile, int(tier), timedelta(milliseconds=age), timedelta(milliseconds=left))
