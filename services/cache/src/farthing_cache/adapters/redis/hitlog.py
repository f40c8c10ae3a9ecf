"""Recorded look-ups in Redis: a capped stream for each organisation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis.answers import millis
from farthing_cache.adapters.redis.client import RedisClient
from farthing_cache.domain.answer import Org
from farthing_cache.domain.hitlog import Record, pack, unpack

LIFE: Final = timedelta(days=14)
# Records read in one step.
PAGE: Final = 500


class RedisLog:
    """The LogStore port. One stream entry holds many records."""

    def __init__(self, client: RedisClient, names: KeyNames, *, limit_entries: int) -> None:
        self._client = client
        self._names = names
        self._limit = limit_entries

    async def append(self, org: Org, records: Sequence[Record], dropped: int) -> None:
        if self._client.full:
            return
        name = self._names.log(org)
        fields = ("r", b"".join(map(pack, records)), "d", dropped)
        await self._client.command("XADD", name, "MAXLEN", "~", self._limit, "*", *fields)
        await self._client.command("PEXPIRE", name, millis(LIFE))

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
