"""Recorded look-ups in Redis: a stream for each organisation, bounded in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis import scripts
from farthing_cache.adapters.redis.answers import millis
from farthing_cache.adapters.redis.client import RedisClient
from farthing_cache.domain.answer import Org
from farthing_cache.domain.hitlog import Record, pack, unpack

LIFE: Final = timedelta(days=14)
# Records of one entry of a stream, and entries that are read in one step.
CHUNK: Final = 512
PAGE: Final = 100


class RedisLog:
    """The LogStore port. One stream entry holds many records; the oldest go where there are more than `limit_bytes`."""

    def __init__(self, client: RedisClient, names: KeyNames, *, limit_bytes: int) -> None:
        self._client = client
        self._names = names
        self._limit_bytes = limit_bytes
        self._append = client.script(scripts.APPEND)

    async def append(self, org: Org, records: Sequence[Record], dropped: int) -> None:
        if self._client.full:
            return
        for start in range(0, max(1, len(records)), CHUNK):
            packed = b"".join(map(pack, records[start : start + CHUNK]))
            await self._written(org, packed, dropped if start == 0 else 0)

    async def _written(self, org: Org, packed: bytes, dropped: int) -> None:
        keys, args = [self._names.log(org)], [packed, dropped, self._limit_bytes, millis(LIFE)]
        await self._client.ask(lambda: self._append(keys=keys, args=args))

    async def read(self, org: Org, since_ms: int) -> tuple[list[Record], int]:
        records: list[Record] = []
        dropped, after = 0, str(max(0, since_ms))
        while True:
            page = await self._client.command("XRANGE", self._names.log(org), after, "+", "COUNT", PAGE)
            for _, fields in page:
                named = dict(zip(fields[::2], fields[1::2], strict=True)) if isinstance(fields, list) else fields
                records += unpack(named.get(b"r", b""))
                dropped += int(named.get(b"d", 0))
            if len(page) < PAGE:
                return records, dropped
            after = f"({page[-1][0].decode()}"
